"""A whole commit group into header and body in two statements.

`executemany` gives up and takes back Python's lock for each row; beside a busy event loop each of these waits for a turn,
and the group with them. Here SQLite cuts the rows out of joined bytes by itself, so intake goes on meanwhile.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from operator import add
from typing import NamedTuple

import apsw

from sync.log import HASH_BYTES
from sync.record import SALT_BYTES, BodyState

# where a row's parts lie in the joined bytes, packed into SQLite's 63 bits: offset, first part, second part
OFFSET_BITS, FIRST_BITS, SECOND_BITS = 24, 15, 24
JOINED_BYTES_MAX = 1 << OFFSET_BITS  # a group holds 4 MiB; only a single large message is beyond this

_HEADERS = f"""INSERT INTO header (id, log, seq, state, header, leaf)
SELECT ?1 + rowid, ?2, ?3 + rowid, {BodyState.PRESENT:d}, substr(?4, (value >> {SECOND_BITS}) + 1, value & {(1 << SECOND_BITS) - 1}),
substr(?5, rowid * {HASH_BYTES} - {HASH_BYTES - 1}, {HASH_BYTES}) FROM carray(?6)"""  # noqa: S608  # constants
_FIRST = f"((value >> {SECOND_BITS}) & {(1 << FIRST_BITS) - 1})"
_OFFSET = f"(value >> {SECOND_BITS + FIRST_BITS})"
_BODIES = f"""INSERT INTO body (id, salt, particulars, body)
SELECT ?1 + rowid, substr(?2, rowid * {SALT_BYTES} - {SALT_BYTES - 1}, {SALT_BYTES}), substr(?3, {_OFFSET} + 1, {_FIRST}),
substr(?3, {_OFFSET} + {_FIRST} + 1, value & {(1 << SECOND_BITS) - 1}) FROM carray(?4)"""  # noqa: S608  # constants


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
    log, first, headers, leaves, salts, particulars, bodies = group
    parts = _spans(particulars, bodies)
    if parts is None:
        _insert_each(connection, row, group)
        return
    # one byte more: of an empty whole SQLite's substr() gives NULL, not an empty part
    joined = b"".join(chain(chain.from_iterable(zip(particulars, bodies, strict=True)), (b"\0",)))
    lengths = list(map(len, headers))
    offsets = accumulate(lengths, initial=0)
    spans = array("q", [at << SECOND_BITS | length for at, length in zip(offsets, lengths, strict=False)])
    connection.execute(_HEADERS, (row - 1, log, first - 1, b"".join((*headers, b"\0")), leaves, apsw.carray(spans)))
    connection.execute(_BODIES, (row - 1, salts, joined, apsw.carray(parts)))


def _spans(particulars: Sequence[bytes], bodies: Sequence[bytes]) -> "array[int] | None":
    """Where each row's parts lie; None where they are too long to be packed."""
    firsts, seconds = list(map(len, particulars)), list(map(len, bodies))
    if sum(firsts) + sum(seconds) >= JOINED_BYTES_MAX or max(firsts) >> FIRST_BITS:
        return None
    offsets = accumulate(map(add, firsts, seconds), initial=0)
    shift = FIRST_BITS + SECOND_BITS
    return array(
        "q",
        [at << shift | one << SECOND_BITS | two for at, one, two in zip(offsets, firsts, seconds, strict=False)],
    )


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
