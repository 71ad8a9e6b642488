"""The outbox's reading side: what waits, what is receipted, and the records to send. Query-only; any number of them, one to a thread."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sync.errors import LogBroken
from sync.header import decode
from sync.key_ring import OwnKeys
from sync.log import Frontier
from sync.names import Origin
from sync.outbox_keys import own_keys, read_changes
from sync.record import Record
from sync.store import READ_ROWS_MAX, LogTable, OutboxTable, SafeDatabase, bytes_of, damage
from sync.transaction import Pages, pages_of

# of a log's row, by what was written there: one flipped bit makes an integer a blob, and a blob a text, in whatever kind of table
NUMBERS, NAMES, BLOBS = (0, 2, 5, 6, 7, 8, 10, 12, 13), (1, 3, 4), (9, 11, 14)
UNKNOWN = b"\ngateway unknown\n"  # in a statement that was signed without a link


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """One log and how far one ledger has receipted it. `receipt_at` is POSIX seconds; octets count body bytes; `run`, `start`: see
    LogTable; `keys` sign it. `passed`: a later log of the stream went on where the gateway was known to hold all of this one.
    """

    log: int
    run: int
    start: int
    opening: bytes
    origin: Origin
    lane: str
    size: int
    octets: int
    receipted: int
    receipted_octets: int
    receipt: bytes
    receipt_at: int
    checkpoint: bytes
    keys: OwnKeys
    passed: bool = False

    @property
    def waiting(self) -> int:
        """How many records the gateway is not known to hold."""
        return 0 if self.passed else max(0, self.size - self.receipted)


class OutboxView:
    """The store of one node, opened query-only. A closed or absent file raises apsw's own errors."""

    def __init__(self, path: Path, node: str) -> None:
        self._database = SafeDatabase(path, readonly=True)
        self._node = node
        self._windows: dict[int, tuple[int, int]] = {}  # a log's run and start never change

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def streams(self) -> list[StreamView]:
        """All logs, with the cursor of the ledger that last admitted this node. Raises LogBroken."""
        changes = read_changes(self._database.raw())
        rows = self._all(
            "SELECT log.id, stream, epoch, tag, lane, log.size, log.octets, coalesce(cursor.size, 0), coalesce(cursor.octets, 0),"
            " coalesce(receipt, x''), coalesce(at, 0), checkpoint,"
            " CASE run WHEN 0 THEN log.id ELSE run END, start, opening FROM log LEFT JOIN cursor ON cursor.log = log.id AND ledger = ? ORDER BY stream, epoch",
            ((self.fact("ledger") or b"").decode(),),
        )
        for kind, places in ((int, NUMBERS), (str, NAMES), (bytes, BLOBS)):
            if any(type(row[place]) is not kind for row in rows for place in places):
                raise LogBroken(f"a head row has something else where {kind.__name__} was written")
        found = [
            StreamView(
                log=row[0], origin=Origin(self._node, row[1], row[2], row[3]), lane=row[4], size=row[5], octets=row[6],
                receipted=row[7], receipted_octets=row[8], receipt=row[9], receipt_at=row[10], checkpoint=row[11], run=row[12], start=row[13],
                opening=row[14], keys=own_keys(self._node, row[11], changes.get(row[0], ())),
            )
            for row in rows
        ]  # fmt: skip
        went_on = {
            (each.origin.stream, each.origin.epoch)
            for each in found
            if each.receipted or (each.opening and UNKNOWN not in each.opening)
        }
        return [
            replace(
                each, passed=any(name == each.origin.stream and epoch > each.origin.epoch for name, epoch in went_on)
            )
            for each in found
        ]

    def fact(self, name: str) -> bytes | None:
        """A small value kept under a name, or None. Raises LogBroken."""
        rows = self._all("SELECT value FROM fact WHERE name = ?", (name,))
        return bytes_of(f"the fact {name}", rows[0][0]) if rows else None

    def boots(self) -> list[bytes]:
        """Ids of the starts since the last admitted one, oldest first. Raises LogBroken."""
        return [bytes_of("a start", row[0]) for row in self._all("SELECT id FROM boot ORDER BY started_us, rowid", ())]

    def table(self, log: int) -> LogTable:
        """The log's leaves, tiles and records."""
        if log not in self._windows:
            rows = self._all("SELECT CASE run WHEN 0 THEN id ELSE run END, start FROM log WHERE id = ?", (log,))
            if not rows:
                return OutboxTable(self._database.raw(), log)
            self._windows[log] = rows[0]
        return OutboxTable(self._database.raw(), log, *self._windows[log])

    def run_root(self, run: int, start: int, size: int) -> bytes:
        """The root over rows start..start+size-1 of a run, as a tree of their own. Raises IndexError where they are missing."""
        frontier, table = Frontier(), OutboxTable(self._database.raw(), run, run, start)
        while frontier.size < size:
            leaves = table.leaves(frontier.size, min(READ_ROWS_MAX, size - frontier.size))
            if not leaves:
                raise IndexError("rows of the run are missing")
            frontier = frontier.append(leaves)
        return frontier.root

    def head(self, log: int) -> Frontier:
        """The end of a log at this moment, as its row says it; where that was changed, no leaves lead to it."""
        rows = self._all("SELECT size, peaks FROM log WHERE id = ?", (log,))
        return Frontier(*rows[0]) if rows else Frontier()

    def received_at_us(self, log: int, seq: int) -> int | None:
        """When that record was received, UTC microseconds; None where there is none or its header is lost."""
        for record in self.table(log).records(seq, 1):
            return decode(record.header).received_us if record.header else None
        return None

    def damaged(self, log: int, first: int, count: int) -> Iterator[tuple[Record, str]]:
        """The records among these that no longer verify, with what is wrong."""
        for record in self.table(log).records(first, count):
            found = damage(record)
            if found is not None:
                yield record, found.word

    def pages(self) -> Pages:
        """How many pages the database has, and how many are free for new records."""
        return pages_of(self._database.raw())

    def _all(self, statement: str, bindings: tuple[Any, ...]) -> list[Any]:
        # everything is fetched at once: an unfinished SELECT would pin the WAL
        return list(self._database.raw().execute(statement, bindings))
