"""The node's orders for instruments: one cache, one reader, a desk for each feed that hands them out. Nothing of it where no feed does."""

import asyncio
from pathlib import Path

from hl7.devices.profile import Profile
from node.clock import Clock
from node.config.astm import Astm
from node.config.config import Config
from node.config.feeds import Mllp
from node.orders.astm_desk import Desk
from node.orders.cache import OrderCache
from node.orders.law_desk import LawDesk
from node.orders.reader import OrderReader


class Orders:
    """What the core keeps of it."""

    def __init__(self, config: Config, store: Path, clock: Clock) -> None:
        self._store, self._clock = store, clock
        sources = [feed for feed in config.feeds if isinstance(feed, Mllp)]
        self._feeds = frozenset(feed.name for feed in sources)
        self._streams = {
            name: feed.check.charset or feed.check.charset_default
            for feed in sources
            for name in (feed.stream, *(rule.stream for rule in feed.routes if rule.stream))
        }
        self._cache: OrderCache | None = None
        self._reader: OrderReader | None = None
        self._desks: list[Desk] = []
        self._law: dict[str, LawDesk] = {}
        self._asked = {feed.name: feed for feed in sources if feed.orders == "query"}
        self._loop: asyncio.AbstractEventLoop | None = None

    def desk(self, feed: Astm, profile: Profile | None) -> Desk | None:
        """The feed's desk; None where it hands out nothing."""
        if feed.orders == "none":
            return None
        self._desks.append(Desk(self._opened(), feed, self._clock, profile))
        return self._desks[-1]

    def law(self, name: str) -> LawDesk | None:
        """The desk of an MLLP feed on which analyzers ask; None where they may not."""
        if name in self._asked and name not in self._law:
            self._law[name] = LawDesk(self._opened(), self._asked[name], self._clock)
        return self._law.get(name)

    def _opened(self) -> OrderCache:
        if self._cache is None:
            self._cache = OrderCache(self._store.parent, self._clock.now_us, self._clock.monotonic)
        return self._cache

    def start(self) -> None:
        """Begin to read."""
        if self._cache is not None:
            self._loop = asyncio.get_running_loop()
            self._reader = OrderReader(
                self._cache, store=self._store, streams=self._streams, feeds=self._feeds, clock=self._clock, told=self._told
            )  # fmt: skip
            self._reader.start()

    def grown(self) -> None:
        """A stream has more. From any thread."""
        if self._reader is not None:
            self._reader.grown()

    def _told(self) -> None:
        if self._loop is not None:
            for desk in self._desks:
                self._loop.call_soon_threadsafe(desk.came)

    def stop(self) -> None:
        """Read no further, within a bounded time. Not from the event loop's thread."""
        if self._reader is not None:
            self._reader.stop()

    def close(self) -> None:
        """Close the cache, after all that asks it has ended: queries of analyzers are carried until then."""
        if self._cache is not None:
            self._cache.close()
