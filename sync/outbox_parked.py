"""Messages that a destination did not take, kept with their reason until a person replays or forgets them.

Each row has a digest, in a table of its own: with one flipped bit a row would name another message, or nobody would find it any more. What is not as
it was written, or is gone, is shown as that and never sent; a person forgets it. There is no index: one that disagrees with its table ends each
transaction that touches the row, and ten thousand rows are read in a few milliseconds.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import Any

from native import cbor_map

PARKED_MAX = (
    10_000  # rows of one destination, a megabyte; beyond it the destination waits, as nothing of it may be forgotten
)
DETAIL_CHARACTERS_MAX = 64  # a status or an error code; never what a peer wrote
TRIMMED = "DST-03"
"""The reason of records whose bodies went for want of room."""
CHANGED = "DST-22"
"""The reason of a row that is not as it was written, or is gone."""

TABLE = "CREATE TABLE parked_digest (id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL) STRICT"

# texts as their bytes: one flipped bit, and they are no UTF-8, of which SQLite's binding makes no value
_COLUMNS = "parked.id, run, place, last, part, CAST(reason AS BLOB), CAST(detail AS BLOB), at_us, tries, replay, done"
_ROWS = f"SELECT {_COLUMNS}, digest FROM parked LEFT JOIN parked_digest ON parked_digest.id = parked.id WHERE parked.name = ?1"  # noqa: S608  # constants
_ROW = f"{_ROWS} AND parked.id = ?2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """Records place..last of a run, whole where `part` is None, that a destination did not take. `reason`: the first one, a code.

    Of a row that was changed, or is gone, the places that stand there now, or none, under the reason CHANGED.
    """

    id: int = 0
    name: str
    run: int
    place: int
    last: int
    part: int | None = None
    reason: str
    detail: str = ""
    at_us: int
    tries: int = 1
    replay: bool = False
    done: int = 0

    @property
    def records(self) -> int:
        """How many records it stands for."""
        return self.last - self.place + 1

    @property
    def is_changed(self) -> bool:
        """Whether the disk gave back something else than was written."""
        return self.reason == CHANGED

    @property
    def digest(self) -> bytes:
        """Of all its columns."""
        part = "" if self.part is None else self.part
        values: tuple[int | str, ...] = (
            self.id, self.name, self.run, self.place, self.last, part, self.reason, self.detail, self.at_us, self.tries, int(self.replay), self.done,
        )  # fmt: skip
        return sha256(cbor_map(list(enumerate(values)))).digest()


def read_parked(connection: Any, name: str, *, replay: bool = False, most: int = PARKED_MAX) -> list[Parked]:
    """What a destination did not take, in the order of the streams, and what was changed; `replay`: only what a person wants sent again, and can be."""
    if replay:
        ids = "SELECT id FROM parked WHERE name = ? AND replay = 1 ORDER BY run, place, part"
        # closed when there are enough: an unfinished SELECT would pin the WAL
        with closing(connection.execute(ids, (name,))) as rows:
            return list(islice((each for (row,) in rows for each in _chosen(connection, name, [row])), most))
    found = [_parked(name, row) for row in list(connection.execute(f"{_ROWS} ORDER BY run, place, part", (name,)))]
    there = {row.id for row in found}
    digests = list(connection.execute("SELECT id FROM parked_digest WHERE name = ? ORDER BY id", (name,)))
    return [*found, *(_gone(row, name) for (row,) in digests if row not in there)][:most]


def count_parked(connection: Any, name: str) -> tuple[int, int]:
    """How many messages and records stand parked, and how many of these lost their bodies; as the rows say it."""
    rows = list(
        connection.execute(
            "SELECT coalesce(sum(last - place + 1), 0), coalesce(sum(CASE reason WHEN ? THEN last - place + 1 ELSE 0 END), 0)"
            " FROM parked WHERE name = ?",
            (TRIMMED, name),
        )
    )
    return int(rows[0][0]), int(rows[0][1])


def count_rows(connection: Any, name: str) -> int:
    """How many rows there are."""
    return int(connection.execute("SELECT count(*) FROM parked WHERE name = ?", (name,)).get)


# -- the writer's side, within the caller's transaction ------------------------------------------------------------------


def park(connection: Any, parked: Parked) -> None:
    """Keep it; a run of trimmed or skipped records is one row."""
    if parked.part is None and (before := _before(connection, parked)) is not None:
        _write(connection, replace(before, last=parked.last))
        return
    connection.execute(
        "INSERT INTO parked (name, run, place, last, part, reason, detail, at_us, tries, replay, done)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0)",
        (
            parked.name, parked.run, parked.place, parked.last, parked.part, parked.reason, parked.detail[:DETAIL_CHARACTERS_MAX],
            parked.at_us,
        ),
    )  # fmt: skip
    _keep_digest(
        connection,
        replace(parked, id=connection.last_insert_rowid(), detail=parked.detail[:DETAIL_CHARACTERS_MAX], tries=1, replay=False, done=0),
    )  # fmt: skip


def ask_replay(connection: Any, name: str, rows: Sequence[int] | None) -> int:
    """Mark these rows, or all, of those that still can be sent; how many."""
    wanted = [row for row in _chosen(connection, name, rows) if row.reason not in {TRIMMED, CHANGED}]
    for row in wanted:
        _write(connection, replace(row, replay=True, done=0))
    return len(wanted)


def forget(connection: Any, name: str, rows: Sequence[int] | None) -> int:
    """Delete these rows, or all, and what is left of those that are gone; how many."""
    if rows is None:
        rows = [row.id for row in read_parked(connection, name)]
        connection.execute("DELETE FROM parked WHERE name = ?", (name,))
        connection.execute("DELETE FROM parked_digest WHERE name = ?", (name,))
        return len(rows)
    total = 0
    for row in rows:
        deleted = 0
        for table in ("parked", "parked_digest"):
            connection.execute(f"DELETE FROM {table} WHERE name = ? AND id = ?", (name, row))  # noqa: S608  # constants
            deleted += connection.changes()
        total += bool(deleted)
    return total


def refused_again(connection: Any, name: str, row: int) -> None:
    """A replayed row stays, under its first reason."""
    for found in _chosen(connection, name, [row]):
        _write(connection, replace(found, replay=False, done=0, tries=found.tries + 1))


def go_on(connection: Any, row: Parked, *, place: int, done: int) -> None:
    """A replay of a row has come so far: beyond its end it is forgotten."""
    if place > row.last:
        forget(connection, row.name, [row.id])
        return
    for found in _chosen(connection, row.name, [row.id]):
        _write(connection, replace(found, place=place, done=done))


def digest_all(connection: Any) -> None:
    """Give every row a digest: those of before digests."""
    for (name,) in list(connection.execute("SELECT DISTINCT name FROM parked")):
        for row in list(connection.execute(f"{_ROWS}", (name,))):
            if not (found := _parked(name, row)).is_changed:
                _keep_digest(connection, found)


# -- inside --------------------------------------------------------------------------------------------------------------


def _parked(name: str, row: tuple[Any, ...]) -> Parked:
    """A row as it was written; of one that was changed only what can be shown. One without a digest was stored by a release of before."""
    number, run, place, last, part, reason, detail, at_us, tries, again, done, digest = row
    try:
        found = Parked(
            id=number, name=name, run=run, place=place, last=last, part=part, reason=reason.decode(), detail=detail.decode(), at_us=at_us,
            tries=tries, replay=bool(again), done=done,
        )  # fmt: skip
        if digest in {None, found.digest}:
            return found
    except (AttributeError, TypeError, ValueError, OverflowError):
        pass
    run, place, last = (each if type(each) is int else 0 for each in (run, place, last))
    return Parked(id=number, name=name, run=run, place=place, last=last, reason=CHANGED, at_us=0)


def _gone(row: int, name: str) -> Parked:
    return Parked(id=row, name=name, run=0, place=0, last=0, reason=CHANGED, at_us=0)


def _chosen(connection: Any, name: str, rows: Sequence[int] | None) -> Iterator[Parked]:
    """These rows, or all, as far as they are as they were written."""
    each = (_parked(name, found) for row in rows or () for found in list(connection.execute(_ROW, (name, row))))
    return (row for row in (read_parked(connection, name) if rows is None else each) if not row.is_changed)


def _before(connection: Any, parked: Parked) -> Parked | None:
    """The row that these records go on from, for the same reason."""
    rows = connection.execute(
        f"{_ROWS} AND run = ?2 AND last = ?3 AND part IS NULL AND reason = ?4 AND replay = 0",
        (parked.name, parked.run, parked.place - 1, parked.reason),
    )
    return next((each for row in list(rows) if not (each := _parked(parked.name, row)).is_changed), None)


def _write(connection: Any, row: Parked) -> None:
    connection.execute(
        "UPDATE parked SET place = ?, last = ?, tries = ?, replay = ?, done = ? WHERE id = ?",
        (row.place, row.last, row.tries, int(row.replay), row.done, row.id),
    )
    _keep_digest(connection, row)


def _keep_digest(connection: Any, row: Parked) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO parked_digest (id, name, digest) VALUES (?, ?, ?)", (row.id, row.name, row.digest)
    )
