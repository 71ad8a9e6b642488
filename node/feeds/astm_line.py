"""One instrument's line, over whatever carries its bytes: the link's machine at work, each frame durable before its ACK."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hl7.devices.astm_errors import MessageTooLong
from hl7.devices.astm_events import (
    Arrived,
    Begun,
    Closed,
    Effect,
    End,
    Ended,
    Event,
    Kept,
    NotSent,
    Received,
    Send,
    Sent,
    State,
    Tick,
    Write,
)
from hl7.devices.astm_link import Link
from hl7.devices.astm_messages import Assembly, Part
from node.feeds.astm_sessions import HASHES_MAX, Transfer, fingerprint
from node.feeds.open_frames import FRAME_BYTES_FREE
from sync.outbox import Stored
from sync.outbox_frames import Frame

if TYPE_CHECKING:
    from node.errors import QueueFull
    from node.feeds.astm import AstmFeed
    from node.intake import Counted
    from node.writer import Outcome


class Line:
    """One line. `write` sends bytes; `flow` says whether to go on reading."""

    def __init__(
        self, feed: "AstmFeed", peer: str, *, write: Callable[[bytes], object], flow: Callable[[bool], None] = lambda _: None
    ) -> None:  # fmt: skip
        self.feed, self.peer, self.connection = feed, peer, 0  # the feed numbers its connections
        self._write, self._flow = write, flow
        self._now = feed.clock.monotonic
        self.link = Link(feed.switches, self._now())
        self.session = feed.session(peer)
        self._effects: deque[Effect] = deque()
        self._is_held = False  # an effect waits for the disk: those behind it wait too
        self._is_reading = True
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._deadline: float | None = None
        self._loop = asyncio.get_running_loop()
        self._name = ""
        self._transfer = Transfer()
        self._assembly = self._new_assembly()
        self._parts: deque[Part] = deque()
        self._questions: list[bytes] = []
        self._has_frames = False
        self._is_given_up = False

    def _new_assembly(self) -> Assembly:
        return Assembly(message_bytes_max=self.feed.feed.message_bytes_max, needs_terminator=self.feed.needs_terminator)

    # -- events -------------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came."""
        self.feed.trace.came(data, self.peer, self.connection)
        self._handle(Received(data))

    def send(self, token: int, records: tuple[bytes, ...]) -> None:
        """Send a transfer when the line is free; the feed hears of it."""
        if self._is_closed:
            self.feed.not_sent(self, token, "lost")
        else:
            self._handle(Send(token, records))

    def close(self) -> None:
        """The line is gone; what it left unfinished is recorded."""
        if not self._is_closed:
            self._is_closed = True
            self._handle(Closed())

    def _handle(self, event: Event) -> None:
        self._effects += self.link.handle(event, self._now())
        self._pump()

    def _pump(self) -> None:
        """Do what is to be done, up to what waits for the disk."""
        while self._effects and not self._is_held:
            self._do(self._effects.popleft())
        if self._is_closed and not self._is_held:
            self._disarm()
            self.feed.gone(self)
            return
        self._arm(None if self._is_held or self._is_closed else self.link.deadline)
        if self._is_reading is self.link.is_full and not self._is_closed:
            self._is_reading = not self.link.is_full
            self._flow(self._is_reading)

    def _arm(self, deadline: float | None) -> None:
        """See to it that a Tick comes at the deadline. One that comes earlier asks again: nearly every byte moves the deadline on."""
        self._deadline = deadline
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        self._disarm()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self._now()), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if self._deadline is not None and self._now() >= self._deadline:
            self._handle(Tick())
        else:
            self._arm(self._deadline)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Write(data):
                if not self._is_closed:
                    self.feed.trace.went(data, self.peer, self.connection)
                    self._write(data)
            case Begun():
                self._begin()
            case Arrived(text, is_end):
                self._arrived(text, is_end=is_end)
            case Ended(why, is_heard):
                self._ended(why, is_heard=is_heard)
            case Sent(token):
                self.feed.sent(self, token)
            case NotSent(token, why):
                self.feed.not_sent(self, token, why)

    def _hold(self) -> None:
        self._is_held = True

    def _go_on(self) -> None:
        self._is_held = False
        self._pump()

    # -- a transfer ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._name = self.feed.next_transfer()
        self._transfer = self.session.begin(self._name)
        self._assembly = self._new_assembly()
        self._is_given_up = False
        self.feed.around.frames.release(self)
        self._questions = []
        self._has_frames = False

    def _arrived(self, text: bytes, *, is_end: bool) -> None:
        at = self._assembly.end
        try:
            added, parts = self._assembly.take(text, is_end=is_end)
        except MessageTooLong as error:
            self.feed.note(error.code)
            self._kept(is_stored=False)
            return
        if not self._may_hold():  # the instrument sends it again, and by then another's message may have ended
            self._assembly.undo()
            self._may_hold()
            self._kept(is_stored=False)
            return
        self._hold()
        self._parts = deque(parts)
        if parts and self._assembly.is_blank:
            self.session.enter(self._next_part)
            return
        frame = Frame(self._name, at, self.feed.door.feed, self.peer, self.feed.clock.now_us(), added)
        self.feed.store.write(self.feed.door.stream, self._frame_kept, kept=(frame,))

    # -- memory, over all lines and feeds -----------------------------------------------------------------------------

    def _may_hold(self) -> bool:
        """Whether there is room for the message that is open. A short one always has it."""
        frames = self.feed.around.frames
        if self._assembly.held < FRAME_BYTES_FREE:
            frames.release(self)
            return True
        return frames.hold(self, self._assembly.held) and not self._is_given_up

    def go_on(self) -> None:
        """There is room again: the instrument's next attempt finds it."""

    def give_up_turn(self) -> None:
        """Others have waited for the end of this message as long as they may: its next frames are refused, and its sender ends it."""
        self.feed.note("NOD-15")
        self._is_given_up = True

    def _frame_kept(self, is_stored: bool) -> None:
        # a crash here: the frame is kept and not acknowledged. What is left of the transfer becomes an incomplete record at the start
        if is_stored and self._parts:
            self.session.enter(self._next_part)
        else:
            self._settle(is_stored=is_stored)

    def _next_part(self) -> None:
        """Store the next message that ended with this frame, or answer the frame."""
        while self._parts and self._parts[0].end <= self._transfer.end:
            self._parts.popleft()  # stored already, before the frame was refused for want of room for another
        if not self._parts:
            self.session.leave()
            self._settle(is_stored=True)
            return
        self._store(self._parts[0], self._part_stored, is_cut=not self._parts[0].is_whole)

    def _part_stored(self, is_stored: bool) -> None:
        # a crash here: the record is there, its frames with it settled; the transfer that is repeated is known by its bytes
        if is_stored:
            self.feed.heed(self, self._parts.popleft().body, self._questions)
            self._next_part()
            return
        self.session.leave()
        self._settle(is_stored=False)

    def _settle(self, *, is_stored: bool) -> None:
        if is_stored:
            self._has_frames = True
            self._assembly.keep()
        else:
            self._assembly.undo()
        self._may_hold()
        self._parts.clear()
        self._kept(is_stored=is_stored)
        self._go_on()

    def _kept(self, *, is_stored: bool) -> None:
        self._effects.extendleft(reversed(self.link.handle(Kept(is_stored), self._now())))

    def _store(self, part: Part, done: Callable[[bool], None], *, is_cut: bool) -> None:
        """One record, and in its transaction that its transfer is settled so far; nothing where it is a repetition."""
        mark, transfer, before = fingerprint(part.body), self._transfer, self._transfer.end
        transfer.end = part.end
        transfer.brought.append(mark)
        del transfer.brought[
            :-HASHES_MAX
        ]  # each commit writes them: a day that is sent again in one transfer has thousands

        def answer(outcome: "Outcome | QueueFull | Counted") -> None:
            stored(isinstance(outcome, Stored))

        def stored(is_stored: bool) -> None:
            if not is_stored:
                transfer.end = before
                transfer.brought.pop()
            done(is_stored)

        if not is_cut and transfer.expected[mark] > 0:
            transfer.expected[mark] -= 1
            self.feed.door.counts.repeated += 1
            self.feed.store.write(self.feed.door.stream, stored, facts=[(self.session.name, self.session.encode())])
            return
        self.feed.take(
            part.body,
            peer=self.peer,
            is_cut=is_cut,
            fact=(self.session.name, self.session.encode() or b""),
            answer=answer,
        )

    # -- its end ------------------------------------------------------------------------------------------------------

    def _ended(self, why: End, *, is_heard: bool) -> None:
        self.feed.count_end(why)
        self._hold()
        left = self._assembly.finish(is_over=why is End.EOT)
        self._assembly = self._new_assembly()
        self.feed.around.frames.release(self)

        def record() -> None:
            if left is None:
                self._close(is_heard=is_heard)
            else:
                self._store(left, closed, is_cut=not left.is_whole)

        def closed(is_stored: bool) -> None:
            if is_stored:
                self._close(is_heard=is_heard and left is not None and left.is_whole)
                return
            # no room even for this: its frames stay, and are recorded when there is
            self._name = ""
            self.session.leave()
            self.feed.leave_over()
            self._finish()

        self.session.enter(record)

    def _close(self, *, is_heard: bool) -> None:
        """Forget its frames, which the log has; what its sender may repeat stays in mind."""
        before = self.session.encode()
        self.session.close(self._name, is_heard=is_heard)
        after = self.session.encode()
        if not self._has_frames and after == before:  # ENQ and EOT, to see whether we live
            self._closed(True)
            return
        self.feed.store.write(
            self.feed.door.stream, self._closed, dropped=(self._name,), facts=[(self.session.name, after)]
        )

    def _closed(self, _: bool) -> None:
        # a crash here: nothing is open
        self.session.leave()
        self._finish()

    def _finish(self) -> None:
        questions, self._questions = self._questions, []
        for body in questions:
            self.feed.ask(self, body)
        self._go_on()

    # -- for the status -----------------------------------------------------------------------------------------------

    @property
    def transfer(self) -> str:
        """The transfer that it works on, or worked on last."""
        return self._name

    @property
    def is_idle(self) -> bool:
        """Nothing is under way."""
        return self.link.state is State.IDLE and not self._is_held
