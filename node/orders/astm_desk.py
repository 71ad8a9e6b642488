"""Where a feed's instruments get their orders: a query is answered from the cache, and where the feed says so orders go out as they come."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from hl7.devices.astm_orders import EVERYTHING, Asked, Order, asked_for, order_records
from hl7.devices.profile import Profile
from node.clock import Clock, hl7_time
from node.config.astm import Astm
from node.orders.cache import ANSWERS_MAX, OrderCache

AGAIN_S = 30.0  # an instrument that took no order is busy measuring

log = structlog.get_logger()


class Line(Protocol):
    """What a desk needs of an instrument's line (`node/feeds/astm_line.py`)."""

    def send(self, token: int, records: tuple[bytes, ...]) -> None:
        """Send one message; `sent` or `not_sent` is called with this token."""


class Desk:
    """One feed's orders. Used from the event loop only."""

    def __init__(self, cache: OrderCache, feed: Astm, clock: Clock, profile: Profile | None) -> None:
        self._cache, self._feed, self._clock = cache, feed, clock
        self._charset = profile.charset if profile else "utf-8"
        self._local = _local_codes(profile)
        self._lines: dict[Line, None] = {}  # the one that did not take its orders stands last
        self._under_way: dict[int, Sequence[int]] = {}
        self._tokens = 0
        self._is_busy = self._have_come = False  # something is under way; and more came since it was looked for
        self._tasks: set[asyncio.Task[None]] = set()
        self.answered = self.unknown = self.refused = self.handed_out = 0

    def document(self) -> dict[str, int]:
        """For the status."""
        return {
            "known": self._cache.known,
            "answered": self.answered,
            "unknown": self.unknown,
            "refused": self.refused,
            "handed_out": self.handed_out,
        }

    def opened(self, line: Line) -> None:
        """An instrument is there."""
        self._lines[line] = None
        self.came()

    def closed(self, line: Line) -> None:
        """It is gone."""
        self._lines.pop(line, None)

    def asked(self, line: Line, body: bytes) -> None:
        """A query came and is stored; its answer follows at once: instruments wait 10 to 30 s."""
        wanted = asked_for(body, sample_component=self._feed.sample_component)
        if wanted is not None:
            self._begin(self._answer(line, wanted))

    async def _answer(self, line: Line, wanted: list[Asked]) -> None:
        if wanted == [EVERYTHING]:
            waiting = await asyncio.to_thread(self._cache.waiting, self._feed.name)
            rows, orders = [row for row, _ in waiting], [order for _, order in waiting]
        else:
            rows, orders = [], await asyncio.to_thread(self._found, wanted)
        self.answered += bool(orders)
        self.unknown += not orders
        self._send(line, orders, rows, is_answer=True)

    def _found(self, wanted: list[Asked]) -> list[Order]:
        """The orders of each, every sample once."""
        found: dict[str, Order] = {}
        for each in wanted:
            samples = [number.decode(self._charset, "replace") for number in each.samples]
            for order in self._cache.find(samples, each.patient.decode(self._charset, "replace")):
                found.setdefault(order.sample, order)
        return list(found.values())[:ANSWERS_MAX]

    def came(self) -> None:
        """New orders are kept: hand them out, where the feed does so unasked."""
        self._have_come = True
        if self._feed.orders == "download" and self._lines and not self._is_busy:
            self._is_busy = True
            self._begin(self._hand_out())

    async def _hand_out(self) -> None:
        self._have_come = False
        waiting = await asyncio.to_thread(self._cache.waiting, self._feed.name)
        line = next(iter(self._lines), None)
        if not waiting or line is None:
            self._is_busy = False
            if self._have_come:  # while the cache was read: nobody would look for it until the next one
                self.came()
            return
        self._send(line, [order for _, order in waiting], [row for row, _ in waiting], is_answer=False)

    def _send(self, line: Line, orders: Sequence[Order], rows: Sequence[int], *, is_answer: bool) -> None:
        self._tokens += 1
        self._under_way[self._tokens] = rows
        now = hl7_time(self._clock.now_us())[:14].encode()
        line.send(
            self._tokens, order_records(orders, now=now, charset=self._charset, local=self._local, is_answer=is_answer)
        )

    def sent(self, line: Line, token: int) -> None:
        """The instrument has it."""
        del line
        self._begin(self._given(self._under_way.pop(token, ())))

    async def _given(self, rows: Sequence[int]) -> None:
        # a crash before this is stored hands the same orders out again: the instrument knows the sample's number
        if rows:
            self.handed_out += len(rows)
            await asyncio.to_thread(self._cache.given, self._feed.name, rows)
            self._is_busy = False
            self.came()

    def not_sent(self, line: Line, token: int, why: str) -> None:
        """It did not take it. One that asked asks again."""
        if line in self._lines:
            del self._lines[line]
            self._lines[line] = None
        self.refused += 1
        log.info("astm.orders_not_taken", feed=self._feed.name, why=why)
        if self._under_way.pop(token, ()):
            asyncio.get_running_loop().call_later(AGAIN_S, self._again)

    def _again(self) -> None:
        self._is_busy = False
        self.came()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # a full disk: the cache is a copy
            log.warning("astm.orders_failed", feed=self._feed.name, error=type(error).__name__)
            asyncio.get_running_loop().call_later(AGAIN_S, self._again)


def _local_codes(profile: Profile | None) -> Callable[[str], str]:
    """The instrument's code of a LOINC code, where its profile knows one; any other goes as it is."""
    codes = {code: native for native, target in (profile.codes.items() if profile else ()) for code in target.codes}
    return lambda code: codes.get(code, code)
