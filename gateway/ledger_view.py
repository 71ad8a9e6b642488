"""The ledger's reading side: query-only, any number of threads, one connection each. It sees what is committed, and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync.context import recall
from sync.errors import UnknownDictionary
from sync.log import Frontier, inclusion_proof
from sync.names import Origin
from sync.record import Record
from sync.store import LogTable, SafeDatabase

PAGE_ROWS_MAX = 512  # looked at in one query: bounds how long a reader pins the WAL
PAGE_BYTES_MAX = 1024 * 1024  # of bodies in memory for one consumer; a single larger body still fits a page


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node as the ledger knows it. `admitted_us`: its last start, UTC microseconds."""

    name: str
    held: bool
    admitted_us: int
    logs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """One log. `receipt_at`: of its newest receipt, POSIX seconds, 0 where there is none; `held`: how many records wait for a release.

    `announced`: the end that the node signed last, told at `announced_us` (UTC microseconds; both 0 where it told of none): what is beyond
    the frontier still lies at the node.
    """

    log: int
    origin: Origin
    lane: str
    frontier: Frontier
    octets: int
    note: bytes
    receipt_at: int
    held: int
    announced: int
    announced_us: int

    @property
    def at_node(self) -> int:
        """How many records the node had, when it last told, that have not come yet."""
        return max(0, self.announced - self.frontier.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A record as the page shows it: its place and header, never its body. `row` grows with each arrival."""

    row: int
    origin: Origin
    seq: int
    header: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A run of records, and where to go on. `held` holds the positions among them that wait for a release."""

    records: tuple[Record, ...]
    held: frozenset[int]
    next: int


class LedgerView:
    """Reads of one ledger."""

    def __init__(self, path: Path) -> None:
        self._database = SafeDatabase(path, readonly=True)

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def nodes(self) -> list[NodeView]:
        """All nodes by name."""
        rows = self._all(
            "SELECT name, held, admitted_us, (SELECT count(*) FROM log WHERE node = name) FROM node ORDER BY name", ()
        )
        return [NodeView(name=row[0], held=bool(row[1]), admitted_us=row[2], logs=row[3]) for row in rows]

    def logs(self, node: str, stream: str | None = None) -> list[LogView]:
        """The node's logs (of one stream), by stream and epoch."""
        rows = self._all(
            "SELECT id, node, stream, epoch, tag, lane, log.size, peaks, octets, log.note, receipt_at,"
            " (SELECT coalesce(sum(end - first), 0) FROM hold WHERE log = log.id), coalesce(announced.size, 0), coalesce(at_us, 0)"
            " FROM log LEFT JOIN announced USING (node, stream, epoch, tag) WHERE node = ? AND (? IS NULL OR stream = ?) ORDER BY stream, epoch",
            (node, stream, stream),
        )
        return [
            LogView(
                log=row[0], origin=Origin(*row[1:5]), lane=row[5], frontier=Frontier(row[6], row[7]), octets=row[8], note=row[9],
                receipt_at=row[10], held=row[11], announced=row[12], announced_us=row[13],
            )
            for row in rows
        ]  # fmt: skip

    def page(self, log: int, first: int, end: int) -> Page:
        """Records from `first` on, before `end`: as many as a page may hold, but one at least where there is one."""
        with self._snapshot():
            sizes = self._all(
                "SELECT seq, coalesce(length(body), 0) FROM header LEFT JOIN body USING (id) WHERE log = ? AND seq >= ? AND seq < ? ORDER BY seq",
                (log, first, min(end, first + PAGE_ROWS_MAX)),
            )
            upto, octets = first, 0
            for seq, length in sizes:
                octets += length
                if octets > PAGE_BYTES_MAX and upto > first:
                    break
                upto = seq + 1
            records = tuple(self._table(log).records(first, upto - first)) if upto > first else ()
            held = self._held(log, first, upto)
        return Page(records=records, held=held, next=upto)

    def record(self, log: int, seq: int, size: int) -> tuple[Record, bool, list[bytes]] | None:
        """One record, whether it is held, and its path in the tree of `size` leaves; None where there is none."""
        with self._snapshot():
            table = self._table(log)
            found = next(table.records(seq, 1), None)
            if found is None or seq >= size:
                return None
            return found, seq in self._held(log, seq, seq + 1), inclusion_proof(table, seq, size)

    def context(self, node: str, stream: str, epoch: int, first: int, count: int) -> bytes:
        """The context of the last `count` records before `first` of this log. Raises UnknownDictionary."""
        with self._snapshot():
            rows = self._all(
                "SELECT id, tag FROM log WHERE node = ? AND stream = ? AND epoch = ? AND size >= ?",
                (node, stream, epoch, first),
            )
            if not rows:
                raise UnknownDictionary(f"{stream}/{epoch} has no {first} records here")
            log, tag = rows[0]
            return recall(self._table(log), Origin(node, stream, epoch, tag), first, count)

    def certificates(self, owner: str, role: str, key: bytes) -> list[bytes]:
        """Kept certificates (DER) of this key, newest first."""
        rows = self._all(
            "SELECT der FROM certificate WHERE owner = ? AND role = ? AND key_id = ? ORDER BY id DESC",
            (owner, role, key),
        )
        return [row[0] for row in rows]

    def arrivals(self, most: int) -> list[Arrival]:
        """The records that came last, newest first."""
        rows = self._all(
            "SELECT header.id, node, stream, epoch, tag, seq, coalesce(header, x'') FROM header JOIN log ON log.id = header.log"
            " ORDER BY header.id DESC LIMIT ?",
            (most,),
        )
        return [Arrival(row=row[0], origin=Origin(*row[1:5]), seq=row[5], header=row[6]) for row in rows]

    def alarms(self, most: int) -> list[tuple[str, str, str, int, int]]:
        """Remembered alarms: code, node, stream, last time (UTC microseconds), how often; newest first."""
        rows = self._all("SELECT code, node, stream, last_us, count FROM alarm ORDER BY last_us DESC LIMIT ?", (most,))
        return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    # -- inside ---------------------------------------------------------------------------------------------------

    def _held(self, log: int, first: int, end: int) -> frozenset[int]:
        ranges = self._all("SELECT first, end FROM hold WHERE log = ? AND first < ? AND end > ?", (log, end, first))
        return frozenset(seq for begin, stop in ranges for seq in range(max(first, begin), min(end, stop)))

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        connection = self._database.raw()
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")

    def _table(self, log: int) -> LogTable:
        return LogTable(self._database.raw(), log)

    def _all(self, statement: str, bindings: Sequence[Any]) -> list[Any]:
        # everything is fetched at once: an unfinished SELECT would pin the WAL
        return list(self._database.raw().execute(statement, bindings))
