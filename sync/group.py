"""A whole commit group, its records and its log's head, in one statement.

Each statement, and with `executemany` each row, gives up Python's lock and waits to have it back; beside a busy event loop the
group waits with it. Here one row of joined bytes goes into a view of this connection, and SQLite cuts the rows out by itself.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import apsw

from native import pack_rows
from sync.log import HASH_BYTES
from sync.outbox_heads import Head, write_head
from sync.record import SALT_BYTES, BodyState

# bits for the lengths of a row's parts; what is left of 63 says where it begins. A header has 1 kB at most; for a body 24 are
# left, as a group holds 4 MiB and only a single large message is beyond 16
HEADER_BITS, PARTICULARS_BITS, BODY_BITS = 11, 15, 24

Values = tuple[int | bytes | str, ...]

_PARTICULARS = f"((value >> {BODY_BITS}) & {(1 << PARTICULARS_BITS) - 1})"
_OFFSET = f"(value >> {BODY_BITS + PARTICULARS_BITS})"
_HEAD = """UPDATE log SET size = NEW.size, peaks = NEW.peaks, octets = NEW.octets, group_first = NEW.first, checkpoint = NEW.checkpoint,
digest = NEW.digest WHERE id = NEW.log;
END"""
_VIEW = """CREATE TEMP VIEW sealed AS SELECT 0 AS row, 0 AS log, 0 AS run, 0 AS place, 0 AS first, x'' AS headers, '' AS header_places,
x'' AS leaves, x'' AS salts, x'' AS joined, '' AS places, 0 AS size, x'' AS peaks, 0 AS octets, x'' AS checkpoint, x'' AS digest"""
_TRIGGER = f"""CREATE TEMP TRIGGER store_sealed INSTEAD OF INSERT ON sealed BEGIN
INSERT INTO header (id, log, seq, state, header, leaf) SELECT NEW.row + key, NEW.run, NEW.place + key, {BodyState.PRESENT:d},
substr(NEW.headers, (value >> {HEADER_BITS}) + 1, value & {(1 << HEADER_BITS) - 1}), substr(NEW.leaves, key * {HASH_BYTES} + 1, {HASH_BYTES})
FROM json_each(NEW.header_places);
INSERT INTO body (id, salt, particulars, body) SELECT NEW.row + key, substr(NEW.salts, key * {SALT_BYTES} + 1, {SALT_BYTES}),
substr(NEW.joined, {_OFFSET} + 1, {_PARTICULARS}), substr(NEW.joined, {_OFFSET} + {_PARTICULARS} + 1, value & {(1 << BODY_BITS) - 1})
FROM json_each(NEW.places);
{_HEAD}"""  # noqa: S608  # constants
# of a group of one, the usual one where messages come now and then, nothing has to be cut: 28 µs instead of 39 of a VM's core, in memory
_VIEW_OF_ONE = """CREATE TEMP VIEW sealed_one AS SELECT 0 AS row, 0 AS log, 0 AS run, 0 AS place, 0 AS first, x'' AS header, x'' AS leaf,
x'' AS salt, x'' AS particulars, x'' AS body, 0 AS size, x'' AS peaks, 0 AS octets, x'' AS checkpoint, x'' AS digest"""
_TRIGGER_OF_ONE = f"""CREATE TEMP TRIGGER store_sealed_one INSTEAD OF INSERT ON sealed_one BEGIN
INSERT INTO header (id, log, seq, state, header, leaf) VALUES (NEW.row, NEW.run, NEW.place, {BodyState.PRESENT:d}, NEW.header, NEW.leaf);
INSERT INTO body (id, salt, particulars, body) VALUES (NEW.row, NEW.salt, NEW.particulars, NEW.body);
{_HEAD}"""  # noqa: S608  # constants
STORE: Final = "INSERT INTO sealed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
STORE_ONE: Final = "INSERT INTO sealed_one VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Group(NamedTuple):
    """Records ready to be stored, and the head that their log has with them; leaves and salts are joined."""

    head: Head
    headers: Sequence[bytes]
    leaves: bytes
    salts: bytes
    particulars: Sequence[bytes]
    bodies: Sequence[bytes]


def prepare(connection: apsw.Connection) -> None:
    """Make the views that STORE and STORE_ONE need, for as long as this connection is open. The file knows nothing of them."""
    connection.execute("PRAGMA temp_store = memory")
    for made in (_VIEW, _TRIGGER, _VIEW_OF_ONE, _TRIGGER_OF_ONE):
        connection.execute(made)


def pack(row: int, group: Group) -> tuple[str, Values] | None:
    """Give the statement that stores a group, and its values, for rows from id `row` on; None where a part is too long for it."""
    head = group.head
    if len(group.bodies) == 1:
        return STORE_ONE, (
            row, head.log, head.run, head.start + head.group_first, head.group_first, group.headers[0], group.leaves,
            group.salts, group.particulars[0], group.bodies[0],
            head.frontier.size, head.frontier.peaks, head.octets, head.checkpoint, head.digest,
        )  # fmt: skip
    packed, heads = (
        pack_rows((group.particulars, group.bodies), (PARTICULARS_BITS, BODY_BITS)),
        pack_rows((group.headers,), (HEADER_BITS,)),
    )
    if packed is None or heads is None:
        return None
    return STORE, (
        row, head.log, head.run, head.start + head.group_first, head.group_first, _filled(heads[0]), _listed(heads[1]),
        group.leaves, group.salts, _filled(packed[0]), _listed(packed[1]),
        head.frontier.size, head.frontier.peaks, head.octets, head.checkpoint, head.digest,
    )  # fmt: skip


def insert(connection: apsw.Connection, row: int, group: Group) -> None:
    """Store a group, its rows from id `row` on, within the caller's transaction."""
    values = pack(row, group)
    if values is not None:
        connection.execute(*values)
        return
    _insert_each(connection, row, group)
    write_head(connection, group.head)


def _listed(places: bytes) -> str:
    """Native int64s as a JSON array."""
    return str(memoryview(places).cast("q").tolist())


def _filled(joined: bytes) -> bytes:
    """Of an empty whole SQLite's substr() gives NULL, not an empty part."""
    return joined or b"\0"


def _insert_each(connection: apsw.Connection, row: int, group: Group) -> None:
    leaves, salts, head = group.leaves, group.salts, group.head
    connection.executemany(
        "INSERT INTO header (id, log, seq, state, header, leaf) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (row + n, head.run, head.start + head.group_first + n, int(BodyState.PRESENT), header, leaves[HASH_BYTES * n : HASH_BYTES * (n + 1)])
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
