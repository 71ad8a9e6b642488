"""Carries what a damaged outbox still holds into a new file: all that verifies, and a state for what does not. The damaged file is only read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from sync.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, parse_note, sign_checkpoint
from sync.errors import EpochNeeded, SyncError
from sync.header import BODY_BYTES, decode_fields
from sync.key_ring import KeyRing
from sync.keys import Signer
from sync.log import TILE_LEAVES, Frontier, root_at
from sync.outbox import SCHEMA
from sync.outbox_heads import Head, insert_head, write_head
from sync.outbox_salvage_heads import HEAD_COLUMNS, Wanted, check_present, octets_of, read_wanted
from sync.outbox_salvage_keys import carry_keys
from sync.outbox_segments import FILL
from sync.record import BodyState
from sync.repair import Loss, Reading, Salvaged, commitment_of, commitment_to, holes, readings, settle
from sync.store import UNREADABLE, create

LOGS_MAX = 4096  # row ids of heads that are tried: four times the streams that a session may declare
SLACK_ROWS = 256  # row ids tried beyond the number of records: a flipped bit moves a row, and a page has some twenty
STRAYS_MAX = 4096  # rows kept in mind whose place is not known: one bad page moves a few
CARRIED = {  # tables whose rows stand for themselves
    "boot": "id, started_us", "fact": "name, value", "arrival": "id, salt, particulars",
    "destination": "name, run, place, part, number, given_place, given_part, turn, digest",
    "parked": "id, name, run, place, last, part, reason, detail, at_us, tries, replay, done",
    "parked_digest": "id, name, digest",
    "frame": "transfer, place, feed, peer, at_us, text, digest",
}  # fmt: skip

Row = tuple[Any, ...]


def salvage(damaged: Path, fresh: Path, *, signer: Signer) -> tuple[Salvaged, ...]:
    """Make a new outbox of what verifies in a damaged one. Raises EpochNeeded where a log cannot go on under its tree; `fresh` is no outbox then.

    Its tables that name no log (boots, facts) come along as they can be read.
    """
    database = create(fresh, SCHEMA)
    source = apsw.Connection(str(damaged))
    try:
        return _Salvage(source, database.raw(), signer).run()
    finally:
        source.close()
        database.close()


class _Salvage:
    """One pass over a damaged outbox."""

    def __init__(self, source: apsw.Connection, fresh: apsw.Connection, signer: Signer) -> None:
        self._source: Any = source  # what a damaged file gives back has any type
        self._fresh: Any = fresh
        self._ring = KeyRing.of(signer)
        self._losses: dict[int, list[Loss]] = {}
        self._strays: list[Reading] = []
        self._changed: set[int] = set()  # rows whose body is there, but not what was committed to

    def run(self) -> tuple[Salvaged, ...]:
        """All of it, in one transaction of the new file."""
        rows = self._rows("log", HEAD_COLUMNS, LOGS_MAX)
        wanted = {want.row: want for want in (read_wanted(row, self._ring) for row in rows) if want}
        if not wanted:
            raise EpochNeeded("no stream of this outbox can be read")
        check_present(wanted.values())
        last = sum(want.size for want in wanted.values()) + SLACK_ROWS
        with self._transaction():
            heads = {row: self._carry_head(want) for row, want in wanted.items()}
            self._carry_headers(wanted, last)
            frontiers = {row: self._settle(want) for row, want in wanted.items()}
            self._carry_bodies(last)
            self._carry_cursors(wanted, frontiers)
            for table, columns in CARRIED.items():
                self._carry(table, columns)
            signers = carry_keys(self._source, self._fresh, wanted, self._ring)
            return tuple(self._finish(want, heads[row], frontiers[row], signers[row]) for row, want in wanted.items())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._fresh.execute("BEGIN IMMEDIATE")
        self._fresh.execute(
            "CREATE TABLE doubt (id INTEGER, log INTEGER, seq INTEGER, state INTEGER, header BLOB, leaf BLOB)"
        )
        self._fresh.execute("CREATE TABLE stray (id INTEGER, salt BLOB, particulars BLOB, body BLOB)")
        self._fresh.execute(
            "CREATE UNIQUE INDEX position ON header (log, seq)"
        )  # while rows come in any order, and twice
        yield
        self._fresh.execute(FILL)
        self._fresh.execute("DROP INDEX position")
        self._fresh.execute("DROP TABLE doubt")
        self._fresh.execute("DROP TABLE stray")
        self._fresh.execute("COMMIT")

    def _rows(self, table: str, columns: str, last: int) -> Iterator[Row]:
        """Every row that can be fetched: as the pages follow each other, then, by its id, each that this did not find."""
        seen, one = bytearray(last + 1), f"SELECT {columns} FROM {table} WHERE id = ?"  # noqa: S608  # constants
        with suppress(*UNREADABLE):
            for row in self._source.execute(f"SELECT {columns} FROM {table} NOT INDEXED"):  # noqa: S608  # constants
                if 0 < row[0] <= last:
                    seen[row[0]] = 1
                yield row
        for row_id in range(1, last + 1):
            if not seen[row_id]:
                with suppress(*UNREADABLE):
                    yield from self._source.execute(one, (row_id,)).fetchall()

    # -- heads ----------------------------------------------------------------------------------------------------

    def _carry_head(self, want: Wanted) -> Head:
        note = sign_checkpoint(Checkpoint(want.origin, 0, Frontier().root), self._ring)
        head = insert_head(
            self._fresh, origin=want.origin, lane=want.lane, checkpoint=note, run=0 if want.run == want.row else want.run, start=want.start,
            opening=want.opening,
        )  # fmt: skip
        # under its old row id, which the rows of its records name
        self._fresh.execute("UPDATE log SET id = ? WHERE id = ?", (-want.row, head.log))
        self._fresh.execute("UPDATE log SET id = -id WHERE id = ?", (-want.row,))
        return replace(head, log=want.row, run=want.run)

    # -- headers --------------------------------------------------------------------------------------------------

    def _carry_headers(self, wanted: Mapping[int, Wanted], last: int) -> None:
        """Insert each row whose header and leaf belong together; the others wait in `doubt` for the root to choose."""
        for row, log, seq, state, header, leaf in self._rows("header", "id, log, seq, state, header, leaf", last):
            ways = readings(octets_of(header), octets_of(leaf))
            want = next((each for each in wanted.values() if each.holds(log, seq)), None)
            if want is not None:
                good = len(ways) == 1 and bool(ways[0].header)
                if not (good and self._insert(row, log, seq, ways[0], state)):
                    self._fresh.execute(
                        "INSERT INTO doubt VALUES (?, ?, ?, ?, ?, ?)",
                        (row, want.row, seq - want.start, state, octets_of(header), octets_of(leaf)),
                    )
            elif len(ways) == 1 and len(self._strays) < STRAYS_MAX:
                self._strays.append(ways[0])

    def _insert(self, row: int, log: int, seq: int, reading: Reading, state: object) -> bool:
        known = BodyState.DAMAGED if state == BodyState.DAMAGED else BodyState.PRESENT
        try:
            self._fresh.execute(
                "INSERT INTO header (id, log, seq, state, header, leaf) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    row,
                    log,
                    seq,
                    int(known if reading.header else BodyState.LEAF_ONLY),
                    reading.header or None,
                    reading.leaf,
                ),
            )
        except apsw.ConstraintError:  # a flipped bit gave it the id or the place of another
            return False
        return True

    def _settle(self, want: Wanted) -> Frontier:
        """Find the leaf of every position of a log, prove them together, and give the log's frontier."""
        doubtful, named = self._doubtful(want)
        for seq in doubtful:
            self._fresh.execute("DELETE FROM header WHERE log = ? AND seq = ?", (want.run, want.start + seq))
            self._insert(self._free_row(), want.run, want.start + seq, Reading(bytes(32), b""), None)
        table = want.table(self._fresh)
        try:
            chosen = settle(table, want.size, doubtful, self._tiles(want.row), want.fits)
        except (EpochNeeded, IndexError) as error:
            raise EpochNeeded(f"{want.origin}: {error}") from error
        for seq, reading in chosen.items():
            state = BodyState.PRESENT if reading.header else BodyState.LEAF_ONLY
            self._fresh.execute(
                "UPDATE header SET state = ?, header = ?, leaf = ? WHERE log = ? AND seq = ?",
                (int(state), reading.header or None, reading.leaf, want.run, want.start + seq),
            )
            if not reading.header and seq not in named:
                self._losses.setdefault(want.row, []).append(Loss(seq, "header", "changed"))
        frontier = Frontier()
        for first in range(0, want.size, TILE_LEAVES):
            leaves = table.leaves(first, min(TILE_LEAVES, want.size - first))
            table.fill_tiles(frontier, leaves)
            frontier = frontier.append(leaves)
        return frontier

    def _doubtful(self, want: Wanted) -> tuple[dict[int, list[Reading]], set[int]]:
        """The positions whose leaf is not sure, with the ways to read it; and those that an earlier repair has named already."""
        doubtful: dict[int, list[Reading]] = {}
        named: set[int] = set()
        for row_id, seq, state, header, leaf in self._fresh.execute(
            "SELECT id, seq, state, header, leaf FROM doubt WHERE log = ?", (want.row,)
        ).fetchall():
            doubtful.setdefault(seq, []).extend(readings(header, leaf))
            if state == BodyState.LEAF_ONLY and not header:
                named.add(seq)
            for other in self._fresh.execute(
                "SELECT header, leaf FROM header WHERE log = ? AND seq = ? AND id <> ?",
                (want.run, want.start + seq, row_id),
            ).fetchall():
                doubtful[seq].append(Reading(other[1], other[0]))
        window = (want.run, want.start, want.start + want.size)
        found = self._fresh.execute(
            "SELECT seq - ? FROM header WHERE log = ? AND seq >= ? AND seq < ?", (want.start, *window)
        )
        there = {row[0] for row in found}
        if len(there) < want.size:
            for seq in set(range(want.size)) - there - doubtful.keys():
                doubtful[seq] = list(self._strays)
        return doubtful, named

    def _tiles(self, log: int) -> dict[int, bytes]:
        with suppress(*UNREADABLE):
            return dict(self._source.execute("SELECT tile, root FROM tile WHERE log = ?", (log,)).fetchall())
        return {}

    def _free_row(self) -> int:
        (largest,) = self._fresh.execute("SELECT coalesce(max(id), 0) FROM header").fetchone()
        return int(largest) + 1

    # -- bodies ---------------------------------------------------------------------------------------------------

    def _carry_bodies(self, last: int) -> None:
        """Insert each body that its header commits to; one that has lost its header's id may be found by its commitment."""
        strays = 0
        for row, *parts in self._rows("body", "id, salt, particulars, body", last):
            found = self._fresh.execute("SELECT header FROM header WHERE id = ?", (row,)).fetchone()
            committed = commitment_to(*map(octets_of, parts))
            if (
                found is not None
                and committed
                and committed == commitment_of(found[0])
                and self._insert_body(row, parts)
            ):
                continue
            self._changed.add(row)
            strays += 1
            if strays <= STRAYS_MAX:
                self._fresh.execute("INSERT INTO stray VALUES (?, ?, ?, ?)", (row, *map(octets_of, parts)))
        if strays:
            self._place_strays()

    def _place_strays(self) -> None:
        lacking = {
            commitment_of(header): row
            for row, header in self._fresh.execute(
                "SELECT header.id, header FROM header LEFT JOIN body USING (id) WHERE body.id IS NULL AND header IS NOT NULL"
            )
        }
        for _, *parts in self._fresh.execute("SELECT * FROM stray"):
            row = lacking.get(commitment_to(*map(octets_of, parts)))
            if row is not None:
                self._insert_body(row, parts)

    def _insert_body(self, row: int, parts: list[Any]) -> bool:
        try:
            self._fresh.execute("INSERT INTO body (id, salt, particulars, body) VALUES (?, ?, ?, ?)", (row, *parts))
        except apsw.ConstraintError:
            return False
        self._fresh.execute("UPDATE header SET state = ? WHERE id = ?", (int(BodyState.PRESENT), row))
        return True

    # -- the rest -------------------------------------------------------------------------------------------------

    def _carry_cursors(self, wanted: Mapping[int, Wanted], frontiers: Mapping[int, Frontier]) -> None:
        """Keep each receipt that speaks of this log as it is; one that is lost, the gateway gives again."""
        for ledger, log, size, octets, note, at in self._tolerant(
            "SELECT ledger, log, size, octets, receipt, at FROM cursor"
        ):
            with suppress(SyncError, TypeError, ValueError, KeyError, IndexError, AttributeError):
                said, table = self._signed(note, wanted[log]), wanted[log].table(self._fresh)
                if (
                    said.origin != wanted[log].origin
                    or said.size > frontiers[log].size
                    or root_at(table, said.size) != said.root
                ):
                    continue
                self._fresh.execute(
                    "INSERT OR REPLACE INTO cursor (ledger, log, size, octets, receipt, at) VALUES (?, ?, ?, ?, ?, ?)",
                    (ledger, log, said.size, octets if size == said.size else 0, note, at),
                )

    def _signed(self, note: bytes, want: Wanted) -> Checkpoint:
        """What a receipt speaks of. Where the node's key is gone the log's own root alone says whether it is true."""
        return (
            parse_checkpoint(parse_note(note).text) if want.absent else open_checkpoint(note, self._ring.verifier(note))
        )

    def _carry(self, table: str, columns: str) -> None:
        marks = ", ".join("?" for _ in columns.split(","))
        for row in self._tolerant(f"SELECT {columns} FROM {table}"):  # noqa: S608  # constants
            with suppress(apsw.ConstraintError):
                self._fresh.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608  # constants

    def _tolerant(self, statement: str) -> Iterator[Row]:
        with suppress(*UNREADABLE):
            yield from self._source.execute(statement)

    def _finish(self, want: Wanted, head: Head, frontier: Frontier, signer: Signer) -> Salvaged:
        """Write the head under a checkpoint of what is there, and name what is not."""
        trimmed = want.trimmed if want.whole else self._trimmed(want, frontier.size)
        lost = self._fresh.execute(
            "SELECT seq - ?, header.id FROM header LEFT JOIN body USING (id)"
            " WHERE log = ? AND seq >= ? AND seq < ? AND state = ? AND body.id IS NULL",
            (want.start, want.run, want.start + trimmed, want.start + want.size, int(BodyState.PRESENT)),
        ).fetchall()
        losses = self._losses.get(want.row, [])
        for seq, row in lost:
            self._fresh.execute("UPDATE header SET state = ? WHERE id = ?", (int(BodyState.DAMAGED), row))
            losses.append(Loss(seq, "body", "changed" if row in self._changed else "unreadable"))
        octets = want.octets if want.whole else self._octets(want)
        note = (
            want.note if want.absent else sign_checkpoint(Checkpoint(want.origin, frontier.size, frontier.root), signer)
        )
        write_head(
            self._fresh,
            replace(
                head, frontier=frontier, octets=octets, trimmed=trimmed, group_first=frontier.size, checkpoint=note
            ),
        )
        (bodies,) = self._fresh.execute(
            "SELECT count(*) FROM header JOIN body USING (id) WHERE log = ? AND seq >= ? AND seq < ?",
            (want.run, want.start, want.start + want.size),
        ).fetchone()
        return Salvaged(origin=want.origin, size=frontier.size, bodies=bodies, holes=tuple(holes(want.origin, losses)))

    def _trimmed(self, want: Wanted, size: int) -> int:
        """Where the head no longer says it: what is receipted and has no body from the first record on."""
        (first,) = self._fresh.execute(
            "SELECT coalesce(min(seq - ?), ?) FROM header JOIN body USING (id) WHERE log = ? AND seq >= ? AND seq < ?",
            (want.start, size, want.run, want.start, want.start + want.size),
        ).fetchone()
        (receipted,) = self._fresh.execute(
            "SELECT coalesce(max(size), 0) FROM cursor WHERE log = ?", (want.row,)
        ).fetchone()
        return int(min(first, receipted))

    def _octets(self, want: Wanted) -> int:
        total = 0
        for _, header in want.table(self._fresh).headers(0, want.size):
            with suppress(SyncError, TypeError, KeyError):
                total += decode_fields(header)[BODY_BYTES]
        return total
