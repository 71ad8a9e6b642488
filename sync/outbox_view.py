"""The outbox's reading side: what waits, what is receipted, and the records to send. Query-only; any number of them, one to a thread."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync.header import decode
from sync.names import Origin
from sync.record import Record
from sync.store import LogTable, OutboxTable, SafeDatabase, damage


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """One log and how far one ledger has receipted it. `receipt_at` is POSIX seconds; octets count body bytes."""

    log: int
    origin: Origin
    lane: str
    size: int
    octets: int
    receipted: int
    receipted_octets: int
    receipt: bytes
    receipt_at: int


class OutboxView:
    """The store of one node, opened query-only. A closed or absent file raises apsw's own errors."""

    def __init__(self, path: Path, node: str) -> None:
        self._database = SafeDatabase(path, readonly=True)
        self._node = node

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def streams(self) -> list[StreamView]:
        """All logs, with the cursor of the ledger that last admitted this node."""
        rows = self._all(
            "SELECT log.id, stream, epoch, tag, lane, log.size, log.octets, coalesce(cursor.size, 0), coalesce(cursor.octets, 0),"
            " coalesce(receipt, x''), coalesce(at, 0) FROM log LEFT JOIN cursor ON cursor.log = log.id AND ledger = ? ORDER BY stream, epoch",
            ((self.fact("ledger") or b"").decode(),),
        )
        return [
            StreamView(
                log=row[0], origin=Origin(self._node, row[1], row[2], row[3]), lane=row[4], size=row[5], octets=row[6],
                receipted=row[7], receipted_octets=row[8], receipt=row[9], receipt_at=row[10],
            )
            for row in rows
        ]  # fmt: skip

    def fact(self, name: str) -> bytes | None:
        """A small value kept under a name, or None."""
        rows = self._all("SELECT value FROM fact WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def boots(self) -> list[bytes]:
        """Ids of the starts since the last admitted one, oldest first."""
        return [row[0] for row in self._all("SELECT id FROM boot ORDER BY started_us, rowid", ())]

    def table(self, log: int) -> LogTable:
        """The log's leaves, tiles and records."""
        return OutboxTable(self._database.raw(), log)

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

    def used_bytes(self) -> int:
        """Bytes of the database file that hold something; freed pages are room."""
        pages, free, size = (
            int(self._all(f"PRAGMA {name}", ())[0][0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _all(self, statement: str, bindings: tuple[Any, ...]) -> list[Any]:
        # everything is fetched at once: an unfinished SELECT would pin the WAL
        return list(self._database.raw().execute(statement, bindings))
