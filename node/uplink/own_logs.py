"""What one lane reads of the outbox: its logs, and their roots and frontiers. What cannot be read has no root, and is alarmed."""

from collections.abc import Callable, Iterable, Sequence

import structlog

from node.alarms import Alarms
from sync.context import before, share
from sync.dictionary import RAW_BYTES_MAX, Context
from sync.errors import NotANote
from sync.key_ring import OwnKeys, last_id
from sync.log import Frontier
from sync.names import Origin
from sync.outbox_view import OutboxView, StreamView
from sync.record import Record
from sync.sender_events import OwnLog, Put
from sync.store import LogTable

log = structlog.get_logger()


class OwnLogs:
    """The logs of one lane. One thread only."""

    def __init__(
        self, view: OutboxView, ours: Callable[[Iterable[StreamView]], list[StreamView]], alarms: Alarms
    ) -> None:
        self.view = view
        self._ours, self._alarms = ours, alarms
        self._streams: dict[Origin, StreamView] = {}
        self._frontiers: dict[Origin, Frontier] = {}

    def read(self) -> list[OwnLog]:
        """All logs, those of a stream oldest first; to be read anew after an epoch was opened."""
        self._streams = {stream.origin: stream for stream in self._ours(self.view.streams())}
        self._frontiers = {}
        newest = {origin.stream: log.keys.last for origin, log in self._streams.items()}
        return [
            OwnLog(s.origin, s.size, s.receipted, s.start, s.opening, outdated=_is_outdated(s, newest[s.origin.stream]))
            for s in self._streams.values()
        ]

    def names(self) -> set[str]:
        """The streams."""
        return {origin.stream for origin in self._streams}

    def lane(self, origin: Origin) -> str:
        """The lane a log travels in."""
        return self._streams[origin].lane

    def keys(self, origin: Origin) -> OwnKeys:
        """The keys that sign a log."""
        return self._streams[origin].keys

    def table(self, origin: Origin) -> LogTable:
        """A log's leaves, tiles and records."""
        return self.view.table(self._streams[origin].log)

    def head(self, origin: Origin) -> Frontier:
        """The frontier that a log's head row states now."""
        return self.view.head(self._streams[origin].log)

    def frontier(self, origin: Origin, size: int) -> Frontier:
        """A log's frontier at a size; the one that was kept costs nothing. Raises what a damaged store raises."""
        kept = self._frontiers.get(origin)
        return kept if kept is not None and kept.size == size else self.table(origin).frontier(size)

    def keep(self, origin: Origin, frontier: Frontier) -> None:
        """Remember the frontier that the next batch begins at."""
        self._frontiers[origin] = frontier

    def context(self, put: Put, records: Sequence[Record]) -> Context | None:
        """What a batch of these records may be compressed with, of those that the gateway holds already; None where there is nothing of use."""
        octets = sum(len(record.body) for record in records)
        if not put.context or octets > RAW_BYTES_MAX:
            return None
        try:
            most = share(octets, put.context)
            return before(self.table(put.origin), put.origin, put.first, since=put.since, octets_max=most)
        except Exception as error:  # noqa: BLE001  # in whatever way: these records were sent, and those to be sent may be whole
            log.warning("context.unreadable", stream=put.origin.stream, error=type(error).__name__)
            return None

    def root_at(self, origin: Origin, size: int) -> bytes:
        """A log's root at a size; empty where its leaves cannot be read: no root is equal to that."""
        try:
            return self.frontier(origin, size).root
        except Exception as error:  # noqa: BLE001  # in whatever way
            self.unreadable(origin.stream, error)
            return b""

    def key_at(self, origin: Origin, size: int) -> bytes:
        """The id of the key in force at this size of a log; empty where it is not known."""
        return self.keys(origin).at(size)

    def root_of(self, stream: str, start: int, size: int) -> bytes:
        """The root over rows start..start+size-1 of a stream's run, as a tree of their own; empty where they cannot be read."""
        logs = [each for each in self._streams.values() if each.origin.stream == stream]
        whole = next((each for each in logs if each.start == start and each.size >= size), None)
        if whole is not None:
            return self.root_at(whole.origin, size)
        try:
            return self.view.run_root(logs[-1].run, start, size)
        except Exception as error:  # noqa: BLE001  # as above
            self.unreadable(stream, error)
            return b""

    def unreadable(self, stream: str, error: Exception) -> None:
        """Say that something of a stream cannot be read."""
        log.error("store.unreadable", code="SYN-30", stream=stream, error=type(error).__name__)
        self._alarms.raised("SYN-30", stream)


def _is_outdated(log: StreamView, key: bytes) -> bool:
    """Whether another key than this one signs the log from its statement on."""
    try:
        return bool(log.opening) and last_id(log.opening, log.origin.node) != key
    except NotANote:  # a damaged row: the gateway refuses it, and says so
        return False
