"""A whole commit group into header and body in two statements.

`executemany` gives up and takes back Python's lock for each row; beside a busy event loop each of these waits for a turn,
and the group with them. Here SQLite cuts the rows out of joined bytes by itself, so intake goes on meanwhile.
"""

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from native import pack_rows
from sync.log import HASH_BYTES
from sync.record import SALT_BYTES, BodyState

# bits for the lengths of a row's particulars and body; 24 are left for where it begins: a group holds 4 MiB, and only a
# single large message is beyond 16
PARTICULARS_BITS, BODY_BITS = 15, 24

_HEADERS = f"""INSERT INTO header (id, log, seq, state, header, leaf)
SELECT ?1 + rowid, ?2, ?3 + rowid, {BodyState.PRESENT:d}, value, substr(?4, rowid * {HASH_BYTES} - {HASH_BYTES - 1}, {HASH_BYTES})
FROM carray(?5)"""  # noqa: S608  # constants
_PARTICULARS = f"((value >> {BODY_BITS}) & {(1 << PARTICULARS_BITS) - 1})"
_OFFSET = f"(value >> {BODY_BITS + PARTICULARS_BITS})"
_BODIES = f"""INSERT INTO body (id, salt, particulars, body)
SELECT ?1 + rowid, substr(?2, rowid * {SALT_BYTES} - {SALT_BYTES - 1}, {SALT_BYTES}), substr(?3, {_OFFSET} + 1, {_PARTICULARS}),
substr(?3, {_OFFSET} + {_PARTICULARS} + 1, value & {(1 << BODY_BITS) - 1}) FROM carray(?4)"""  # noqa: S608  # constants


class Group(NamedTuple):
    """Records from position `first` of a log on, ready to be stored; leaves and salts are joined."""

    log: int
    first: int
    headers: Sequence[bytes]
    leaves: bytes
    salts: bytes
    particulars: Sequence[bytes]
    bodies: Sequence[bytes]


def insert(connection: apsw.Connection, row: int, group: Group) -> None:
    """Insert records from row id `row` on. Within the caller's transaction."""
    packed = pack_rows((group.particulars, group.bodies), (PARTICULARS_BITS, BODY_BITS))
    if packed is None:
        _insert_each(connection, row, group)
        return
    joined, places = packed
    headers = apsw.carray(tuple(group.headers))
    connection.execute(_HEADERS, (row - 1, group.log, group.first - 1, group.leaves, headers))
    # of an empty whole SQLite's substr() gives NULL, not an empty part
    rows = apsw.carray(places, flags=apsw.SQLITE_CARRAY_INT64)
    connection.execute(_BODIES, (row - 1, group.salts, joined or b"\0", rows))


def _insert_each(connection: apsw.Connection, row: int, group: Group) -> None:
    leaves, salts = group.leaves, group.salts
    connection.executemany(
        "INSERT INTO header (id, log, seq, state, header, leaf) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (row + n, group.log, group.first + n, int(BodyState.PRESENT), header, leaves[HASH_BYTES * n : HASH_BYTES * (n + 1)])
            for n, header in enumerate(group.headers)
        ],
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO body (id, salt, particulars, body) VALUES (?, ?, ?, ?)",
        [
            (row + n, salts[SALT_BYTES * n : SALT_BYTES * (n + 1)], *parts)
            for n, parts in enumerate(zip(group.particulars, group.bodies, strict=True))
        ],
    )
