"""When a feed could not hear its device, as gap records: the port was away, the node did not run, there was no room.

A loose plug comes and goes many times a second: the times between are one gap, recorded when the port has stayed, or bytes come again.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import structlog

from hl7.devices.gaps import Gap
from node.feeds.gap_store import GapStore
from node.feeds.kinds import Surroundings
from node.intake import Door, Intake
from node.lines.serial_errors import NO_ROOM, NOT_RUNNING

STAYED_S: Final = 2.0  # after so long a port is back, and not on its way out again
# How often a file says that we listen: so much earlier a gap may begin after a kill, than the kill was. No write lies in it, only a time.
ALIVE_S: Final = 30.0
UNREAD_US: Final = 1_000_000  # bytes of the last moment may lie in the kernel, or between the port's thread and us

log = structlog.get_logger()


class Away:
    """One feed's times without its device. Used on the event loop alone."""

    def __init__(
        self,
        feed: str,
        door: Door,
        intake: Intake,
        around: Surroundings,
        *,
        heard_since_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """`heard_since_us`: when the oldest was heard of what is in memory alone; 0: nothing is."""
        self._heard_since_us = heard_since_us
        self._feed, self._clock, self._boot = feed, around.clock, around.boot
        self._store = GapStore(door, intake, peer="")
        self._alive = around.folder / f"line-{feed}.alive"
        self._since_us = 0  # of the first time without the device that is not recorded yet; 0: there is none
        self._until_us = 0
        self._codes: Counter[str] = Counter()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_open = False
        self._lost_since_us = self._lost = 0

    def start(self) -> None:
        """The node runs: since it last did, nothing was heard."""
        try:
            self._since_us = self._alive.stat().st_mtime_ns // 1000
        except OSError:
            return  # this feed is new here
        self._codes[NOT_RUNNING] += 1

    def stop(self, *, is_open: bool) -> None:
        """The node stops: up to now it has listened, if the port was open."""
        for timer in self._timers.values():
            timer.cancel()
        self.settle()
        if is_open:
            self._touch()

    def went(self, code: str) -> None:
        """The port is away since now, or still."""
        self._is_open = False
        if timer := self._timers.pop("stayed", None):
            timer.cancel()
        self._since_us = self._since_us or self._clock.now_us()
        self._codes[code] += 1

    def returned(self) -> None:
        """The port is open."""
        self._is_open, self._until_us = True, self._clock.now_us()
        self._later("stayed", STAYED_S, self.settle)
        self._beat()

    def settle(self) -> None:
        """The port has stayed: record the time before."""
        if timer := self._timers.pop("stayed", None):
            timer.cancel()
        if self._since_us and self._is_open:
            gap = self._gap(self._since_us, max(self._since_us, self._until_us), dict(sorted(self._codes.items())))
            self._since_us, self._codes = 0, Counter()
            self._store.tell(gap)

    def lost(self) -> None:
        """A report was lost for want of room."""
        self._lost_since_us = self._lost_since_us or self._clock.now_us()
        self._lost += 1

    def document(self) -> dict[str, Any] | None:
        """For the status: the last gap that is recorded."""
        return self._store.document()

    def _gap(self, first_us: int, last_us: int, codes: dict[str, int]) -> Gap:
        return Gap(
            subject=self._feed, part="once", first_us=first_us, last_us=last_us, count=sum(codes.values()), codes=codes, boot=self._boot
        )  # fmt: skip

    def _beat(self) -> None:
        """While the port is open, a file says so; and what found no room before is told again."""
        if not self._is_open:
            return
        self._touch()
        self._store.again()
        if self._lost:
            self._store.tell(self._gap(self._lost_since_us, self._clock.now_us(), {NO_ROOM: self._lost}))
            self._lost = self._lost_since_us = 0
        self._later("beat", ALIVE_S, self._beat)

    def _touch(self) -> None:
        """Note up to when all is accounted for. As long as it is not, the next start tells of the time since."""
        if self._since_us or self._lost or not self._store.is_settled:
            return
        # of a report that is in memory alone a kill leaves nothing: the note stays before it
        until_us = (self._heard_since_us() or self._clock.now_us()) - UNREAD_US
        try:
            self._alive.touch()
            os.utime(self._alive, ns=(until_us * 1000, until_us * 1000))
        except OSError as error:  # a full disk: the next gap begins earlier than it did
            log.warning("line.not_noted", feed=self._feed, error=type(error).__name__)

    def _later(self, name: str, wait_s: float, what: Any) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(wait_s, what)
