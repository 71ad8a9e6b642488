"""Takes orders out of the outbox after they are committed, for the instruments that ask: a thread of its own, off the way of messages."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw
import structlog

from hl7.devices.astm_orders import TYPES, Order, read_orders
from hl7.errors import Hl7Error
from node.clock import Clock
from node.orders.cache import DAY_US, DAYS_MAX, OrderCache
from sync.errors import SyncError
from sync.header import decode
from sync.outbox_destinations_view import DestinationView
from sync.record import BodyState, Kind, Verdict
from sync.store import damage

ER7 = "application/hl7-v2+er7"
ROWS_MAX = 256  # headers read together
WAIT_S_MAX = 60.0  # a lost wake-up costs a minute at most

log = structlog.get_logger()


class OrderReader(threading.Thread):
    """Reads these streams on, whatever was accepted on these feeds. `told` is called after new orders are kept."""

    def __init__(
        self, cache: OrderCache, *, store: Path, streams: Mapping[str, str], feeds: frozenset[str], clock: Clock, told: Callable[[], None]
    ) -> None:  # fmt: skip
        """`streams`: the text in which orders of each stream are written where they do not say."""
        super().__init__(name="orders", daemon=True)
        self._cache, self._store, self._streams, self._feeds = cache, store, streams, feeds
        self._clock, self._told = clock, told
        self._wake = threading.Event()
        self._stopping = False

    def grown(self) -> None:
        """A stream may have more."""
        self._wake.set()

    def stop(self) -> None:
        """End, soon."""
        self._stopping = True
        self._wake.set()
        if self.ident is not None:
            self.join(WAIT_S_MAX)

    def run(self) -> None:
        """Read until stopped."""
        view = DestinationView(self._store)
        try:
            while not self._stopping:
                self._wake.clear()
                if not self._read(view):
                    self._wake.wait(WAIT_S_MAX)
        finally:
            view.close()

    def _read(self, view: DestinationView) -> bool:
        """Read a stretch of each stream; whether there may be more. The cache is told whether it knows all there is."""
        life = self._cache.lives
        try:
            steps = [self._step(view, stream) for stream in self._streams]
        except (apsw.Error, SyncError) as error:  # no room for a copy, a damaged page: the messages are in the outbox
            log.warning("orders.postponed", error=type(error).__name__)
            self._cache.heed(life, is_behind=True)
            return False
        if not any(steps):
            self._cache.heed(life, is_behind=False)
        return any(steps)

    def _step(self, view: DestinationView, stream: str) -> bool:
        """Read a stretch of a stream; whether there may be more."""
        run, place = view.run(stream), self._cache.next_place(stream)
        if run is not None and place > run.end:  # the outbox was set back: other records will stand where it was read
            place = 0
        if run is None or place >= run.end:
            return False
        rows = view.headers(run.id, place, min(ROWS_MAX, run.end - place))
        found: list[tuple[int, Order]] = []
        for at, raw in rows:
            found += self._orders(view, run.id, at, raw, self._streams[stream])
        after = rows[-1][0] + 1 if rows else run.end
        self._cache.keep(stream, after, found, now_us=self._clock.now_us())
        if found:
            self._told()
        return after < run.end

    def _orders(self, view: DestinationView, run: int, at: int, raw: bytes, charset: str) -> list[tuple[int, Order]]:
        try:
            header = decode(raw)
        except SyncError:
            return []  # a lost header is named by the proofreader
        if (
            header.kind is not Kind.MESSAGE or header.verdict is Verdict.REJECTED or header.content_type != ER7
            or not header.message_type.startswith(TYPES) or header.feed not in self._feeds
            or header.received_us < self._clock.now_us() - DAYS_MAX * DAY_US
        ):  # fmt: skip
            return []
        record = view.record(run, at)
        if record is None or record.state is not BodyState.PRESENT or damage(record) is not None:
            return []
        try:
            return [(header.received_us, order) for order in read_orders(record.body, charset_default=charset)]
        except (Hl7Error, ValueError):
            log.info("orders.not_read", seq=at)
            return []
