"""One open line of a line feed: bytes into reports, reports into records, and the answer byte where a device waits for one."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hl7.devices.line_doctor import Heard
from hl7.devices.lines import LineReader, Report
from node.errors import QueueFull
from node.intake import ACCEPTED, Counted
from node.lines.serial_errors import NO_ROOM
from node.writer import Outcome
from sync.outbox import Stored

if TYPE_CHECKING:
    from node.feeds.line import LineFeed

# Reports that wait for the disk, of a device that cannot be asked again: an hour of prints, and little beside the node's own 100 MB.
WAITING_BYTES_MAX: Final = 1024 * 1024
HELD_BYTES_MAX: Final = 256 * 1024  # a sender that can be made to wait does so at this
UNDER_WAY_MAX: Final = 256  # submitted and not yet settled: a few group commits at 115200 baud
AGAIN_S: Final = 1.0  # between two attempts where there was no room for any


@dataclass(slots=True, eq=False)
class _Heard:
    """A report, and when its first bytes came."""

    report: Report
    since_us: int


class Session:
    """A line from its opening to its end. `hold`: makes the sender wait (TCP); None where nothing can (a serial port)."""

    def __init__(
        self, feed: "LineFeed", peer: str, *, write: Callable[[bytes], object], hold: Callable[[bool], None] | None
    ) -> None:  # fmt: skip
        self.peer, self.connection, self.heard = peer, 0, Heard()  # the feed numbers its connections
        self._feed, self._write, self._hold = feed, write, hold
        self._reader = LineReader(feed.feed.framing)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.Handle | None = None
        self._waiting: deque[_Heard] = deque()
        self._waiting_bytes = 0
        self._under_way: list[_Heard] = []
        self._failed: list[_Heard] = []  # of those under way, those that found no room
        self._amid_since_us = 0  # when the report that is coming began; 0: none is
        self._is_some_stored = self._is_held = False
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Reports that wait in memory for room."""
        return len(self._waiting) + len(self._failed)

    @property
    def since_us(self) -> int:
        """When the oldest began of what is in memory alone: reports that are coming, wait, or are being stored; 0: nothing is."""
        held = [each.since_us for each in (*self._under_way, *self._failed, *itertools.islice(self._waiting, 1))]
        return min((each for each in (*held, self._amid_since_us) if each), default=0)

    def received(self, data: bytes, at: float, marks: int) -> None:
        """Bytes came, of which `marks` were wrong on the line."""
        self._amid_since_us = self._amid_since_us or self._feed.clock.now_us()
        self._feed.trace.came(data, self.peer, self.connection)
        self.heard.take(data, marks)
        self._feed.heard(self)
        noise, blank = self._reader.noise_bytes, self._reader.blank_bytes
        self._store(self._reader.receive(data, at))
        self._feed.noise_bytes += self._reader.noise_bytes - noise
        self._feed.blank_bytes += self._reader.blank_bytes - blank
        self._set_timer()

    def close(self) -> None:
        """The line is gone; what had come of a report is kept as cut off."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._store(self._reader.cut())
        self._feed.ended(self)

    def _set_timer(self) -> None:
        """Look again when the silence will have lasted long enough."""
        if self._timer is None and self._reader.is_amid and not self._is_closed:
            wait = self._reader.quiet_at - self._feed.clock.monotonic()
            # behind what has been read already: a loop that was busy for long is no pause of the device
            self._timer = self._loop.call_later(max(0.001, wait), lambda: self._loop.call_soon(self._tick))

    def _tick(self) -> None:
        self._timer = None
        self._store(self._reader.tick(self._feed.clock.monotonic()))
        self._set_timer()

    # -- storing ----------------------------------------------------------------------------------------------------

    def _store(self, reports: list[Report]) -> None:
        """Have them stored in their order. Beyond the bound a report is lost, and that is told."""
        began_us = self._amid_since_us
        self._amid_since_us = 0 if not self._reader.is_amid else self._feed.clock.now_us() if reports else began_us
        for report in reports:
            if self._waiting_bytes + len(report.head) > WAITING_BYTES_MAX:
                self._feed.lost += 1
                self._feed.alarms.raised(NO_ROOM, self._feed.feed.name)
                self._feed.away.lost()
            else:
                self._waiting.append(_Heard(report, began_us))
                self._waiting_bytes += len(report.head)
        self._submit()

    def _submit(self) -> None:
        while self._waiting and not self._failed and self._again is None and len(self._under_way) < UNDER_WAY_MAX:
            heard = self._waiting.popleft()
            self._waiting_bytes -= len(heard.report.head)
            self._under_way.append(heard)
            self._hand_in(heard)
        self._hold_sender(self._waiting_bytes > HELD_BYTES_MAX)

    def _hand_in(self, heard: "_Heard") -> None:
        def answer(outcome: Outcome | QueueFull | Counted) -> None:
            self._settled(heard, outcome)

        intake, door, report = self._feed.intake, self._feed.door, heard.report
        if report.fault is None:
            intake.store(
                door, body=report.head, message_type="", control_id="", peer=self.peer, verdict=ACCEPTED, refusal=None, answer=answer,
                source=self._feed.source,
            )  # fmt: skip
        else:
            door.counts.last_error = (report.fault.code, self._feed.clock.now_us())
            intake.store_broken(
                door, head=report.head, length=report.length, sha256=report.sha256, control_id="", peer=self.peer, code=report.fault.code,
                answer=answer, source=self._feed.source,
            )  # fmt: skip

    def _settled(self, heard: "_Heard", outcome: Outcome | QueueFull | Counted) -> None:
        # a crash before this: a device that waits for an answer sends again, and the report is there twice; it has no number of its own
        feed, report = self._feed.feed, heard.report
        self._under_way.remove(heard)
        if isinstance(outcome, Stored):
            self._is_some_stored = True
            self._feed.alarms.cleared(NO_ROOM, feed.name)
            self._reply(feed.answer if report.fault is None else feed.answer_bad)
        elif isinstance(outcome, Counted) or feed.answer is not None:
            self._reply(feed.answer_bad)
        else:
            self._failed.append(heard)
        if not self._under_way and self._again is None:
            self._again = (
                self._loop.call_soon(self._go_on)
                if self._is_some_stored or not self._failed
                else self._loop.call_later(AGAIN_S, self._go_on)
            )

    def _go_on(self) -> None:
        """All that was under way is settled: what found no room comes first again. Only where room came in between has a later one overtaken."""
        self._again, self._is_some_stored = None, False
        self._waiting.extendleft(reversed(self._failed))
        self._waiting_bytes += sum(len(each.report.head) for each in self._failed)
        self._failed.clear()
        self._submit()

    def _reply(self, byte: int | None) -> None:
        if byte is not None and not self._is_closed:
            self._feed.trace.went(bytes([byte]), self.peer, self.connection)
            self._write(bytes([byte]))

    def _hold_sender(self, is_held: bool) -> None:
        if self._hold is not None and is_held is not self._is_held and not self._is_closed:
            self._is_held = is_held
            self._hold(is_held)
