"""The link of ASTM E1381-95 and LIS01-A2: both roles of one line as a machine without sockets or clocks.

`handle(event, now) -> effects`; `deadline` says when it wants a Tick. What a receiver answers is a promise: a frame is given out as
`Arrived` and answered only when the caller says `Kept`. EOT gets no answer (6.5.1), so nothing can be refused after the last ACK.

What a damaged byte can do decides the rest. A stray NAK costs a repetition; a stray ACK would be taken for a frame that nobody holds. So ENQ
is answered at once only where the sender cannot be waiting for the answer to a frame; elsewhere the line must be quiet behind it.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from hl7.devices.astm_events import (
    AGAIN_S,
    ANSWER_S,
    BIDS_MAX,
    FRAME_S,
    HEARD_S,
    HOST_YIELDS_S,
    INSTRUMENT_YIELDS_S,
    LINES_S,
    OUTGOING_MAX,
    PART_S,
    QUIET_S,
    REPLY_S,
    SENDS_MAX,
    Arrived,
    Begun,
    Closed,
    Counts,
    Effect,
    End,
    Ended,
    Event,
    Incoming,
    Kept,
    NotSent,
    Outgoing,
    Received,
    Send,
    Sent,
    State,
    Switches,
    Tick,
    Write,
)
from hl7.devices.astm_frames import ACK, CR, ENQ, EOT, FILL, LF, NAK, NUMBERS, STX, Frame, FrameReader, encode_all

_FILL: Final = frozenset(FILL)


class Link:
    """One line. Not for several threads."""

    def __init__(self, switches: Switches, now: float) -> None:
        self.switches = switches
        self.counts = Counts()
        self.state = State.IDLE
        self._in = bytearray()
        self._reader = FrameReader(switches.frame_text_bytes_max, frame_end=switches.frame_end)
        self._heard = now
        self._coming = Incoming()
        self._outgoing: deque[Outgoing] = deque()
        self._bid_at = now
        self._sent_at = now
        self._is_behind_loss = self._is_midline = (
            False  # of plain records: what follows a lost one is no message of its own
        )
        self._is_astray = False  # frames came outside of a transfer: their sender waits for an answer
        self._was_quiet = False
        self._effects: list[Effect] = []

    # -- outside ------------------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the caller should stop reading until `Kept`: a sender that waits for answers never comes here."""
        return self._waits and len(self._in) > self.switches.frame_text_bytes_max

    @property
    def _waits(self) -> bool:
        return self._coming.pending is not None

    @property
    def deadline(self) -> float | None:
        """When a Tick is wanted; None where nothing is waited for."""
        if self._waits:
            return None
        match self.state:
            case State.RECEIVING:
                if not self._in:
                    return self._heard + FRAME_S
                return self._heard + (PART_S if self._was_quiet else QUIET_S)
            case State.LINES:
                return self._heard + LINES_S
            case State.BIDDING | State.SENDING:
                return self._sent_at + REPLY_S
            case State.IDLE:
                return max(self._bid_at, self._heard + REPLY_S if self._is_astray else 0) if self._outgoing else None

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What is to be done about it, in this order."""
        match event:
            case Received(data):
                self._hear(data, now)
            case Kept(is_stored):
                self._kept(now, is_stored=is_stored)
            case Send(token, records):
                self._enqueue(token, records)
            case Tick():
                self._tick(now)
            case Closed():
                self._close()
        self._run(now)
        effects, self._effects = self._effects, []
        return effects

    # -- both roles ---------------------------------------------------------------------------------------------------

    def _run(self, now: float) -> None:
        while self._in and not self._waits and self._step(now):
            pass
        is_free = self.state is State.IDLE and not self._waits and not self._is_astray
        if is_free and self._outgoing and now >= self._bid_at:
            self._bid(now)

    def _step(self, now: float) -> bool:
        """Take one thing from the buffer; False where more bytes or time are needed."""
        match self.state:
            case State.IDLE:
                return self._step_idle(now)
            case State.RECEIVING:
                return self._step_receiving(now)
            case State.LINES:
                return self._step_lines()
            case State.BIDDING:
                return self._step_bidding(now)
            case State.SENDING:
                return self._step_sending(now)

    def _hear(self, data: bytes, now: float) -> None:
        if self._is_astray and now - self._heard >= REPLY_S:
            self._is_astray = False  # whoever waited for an answer has given up by now
        self._in += data
        self._heard, self._was_quiet = now, False

    def _tick(self, now: float) -> None:
        if self._waits:
            return
        silent = now - self._heard
        if self._is_astray and silent >= REPLY_S:
            self._is_astray = False
        if self.state is State.RECEIVING and silent >= QUIET_S and self._in:
            self._quiet(now)
        elif (self.state is State.RECEIVING and silent >= FRAME_S) or (self.state is State.LINES and silent >= LINES_S):
            self._drop(len(self._in))
            self._end(End.SILENT, is_heard=False)
        elif self.state in {State.BIDDING, State.SENDING} and now - self._sent_at >= REPLY_S:
            self._unanswered(now)

    def _close(self) -> None:
        if self._waits:
            self._coming.pending = None  # what becomes of it is the caller's: it is kept, and never acknowledged
        if self.state in {State.RECEIVING, State.LINES}:
            self._end(End.LOST, is_heard=False)
        self.state = State.IDLE
        self._in.clear()
        while self._outgoing:
            self._effects.append(NotSent(self._outgoing.popleft().token, "lost"))

    def _say(self, *octets: int) -> None:
        self._effects.append(Write(bytes(octets)))

    def _drop(self, count: int) -> None:
        """Take noise from the buffer's beginning, and what was passed over of a frame there."""
        self.counts.noise_bytes += len(self._in[:count].translate(None, FILL)) + self._reader.passed
        self._reader.reset()
        del self._in[:count]

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _step_idle(self, now: float) -> bool:
        first = self._in[0]
        if first == EOT:
            del self._in[0]
            self._is_astray = self._is_behind_loss = self._is_midline = False
        elif first == ENQ and not self._is_astray:
            del self._in[0]
            self._begin(now)
        elif self.switches.without_enq and first in b"Hh" and not self._is_astray and not self._is_midline:
            self.state = State.LINES
            self._coming, self._is_behind_loss = Incoming(), False
            self._effects.append(Begun())
        else:
            self._is_midline = self._is_behind_loss and first not in {CR, LF}
            self._is_astray = self._is_astray or first == STX
            self._drop(1)
        return True

    def _begin(self, now: float) -> None:
        self.state = State.RECEIVING
        self._is_behind_loss = self._is_midline = False
        self._coming = Incoming(answered=now)
        self._reader.reset()
        self._effects.append(Begun())
        self._say(ACK)

    def _step_receiving(self, now: float) -> bool:
        first = self._in[0]
        if first == STX:
            return self._frame(now, is_quiet=False)
        if first == EOT:
            del self._in[0]
            coming = self._coming
            self.counts.keep_alives += coming.last is None
            is_heard = coming.last is not None and not coming.is_repeated and now - coming.answered < HEARD_S
            self._end(End.EOT, is_heard=is_heard)
        elif first == ENQ and len(self._in) == 1:
            return False  # believed when the line stays quiet: a sender that begins anew waits 15 s for the answer
        else:
            self._drop(1)
        return True

    def _quiet(self, now: float) -> None:
        """Nothing followed for a while: what is left in the buffer is all there is."""
        if self._in[0] == ENQ:
            del self._in[0]
            self._end(End.RESTARTED, is_heard=False)
            self._begin(now)
        elif self._frame(now, is_quiet=True):
            return
        elif self._in[-1] == ENQ:  # a frame was cut off, and its sender begins anew
            self._drop(len(self._in) - 1)
            self._quiet(now)
        elif self._in[-1] == EOT:
            self._drop(len(self._in) - 1)
        elif now - self._heard >= PART_S:  # its sender waits for an answer, and repeats the frame when it is refused
            self._drop(len(self._in))
            self._refuse(now)
        else:
            self._was_quiet = True

    def _frame(self, now: float, *, is_quiet: bool) -> bool:
        taken = self._reader.take(self._in, is_quiet=is_quiet)
        if taken is None:
            return False
        del self._in[: taken.size]
        coming, frame = self._coming, taken.frame
        if frame is None:
            self.counts.too_long += taken.is_long
            self._refuse(now)
        elif frame.number == coming.expected:
            coming.pending, coming.waits = frame, now
            self._effects.append(Arrived(frame.text, frame.is_end))
        elif frame == coming.last:  # our ACK was lost: the same bytes again, of which one copy is enough
            coming.is_repeated = True
            coming.answered = now
            self.counts.repeats += 1
            self._say(ACK)
        else:
            self._refuse(now)
        return True

    def _refuse(self, now: float) -> None:
        self.counts.damaged += 1
        self._coming.answered = now
        self._say(NAK)

    def _kept(self, now: float, *, is_stored: bool) -> None:
        coming, frame = self._coming, self._coming.pending
        if frame is None:
            return  # the line went meanwhile
        coming.pending = None
        self._heard = now  # the silence of a sender that waited for us is not his
        if is_stored:
            self.counts.frames += 1
            coming.last, coming.is_repeated = frame, False
            coming.expected = (frame.number + 1) % NUMBERS
        if self.state is State.LINES:
            if not is_stored:  # it cannot be told; what follows is not whole
                self._is_behind_loss = True
                self._end(End.LOST, is_heard=True)
            elif frame.text[:1] in b"Ll" and not frame.text[1:2].isalnum():
                self._end(End.EOT, is_heard=True)
            return
        if now - coming.waits >= ANSWER_S:
            coming.is_repeated = True  # it will not have heard
            return
        coming.answered = now
        self._say(ACK if is_stored else NAK)

    def _step_lines(self) -> bool:
        """Plain records without handshake: each line as it ends."""
        if self._in[0] in _FILL:
            self._drop(1)
            return True
        if self._in[0] in {ENQ, EOT}:
            self._end(End.RESTARTED, is_heard=False)
            return True
        at = self._in.find(CR, 0, self.switches.frame_text_bytes_max)
        if at < 0:
            if len(self._in) < self.switches.frame_text_bytes_max:
                return False
            self.counts.too_long += 1
            self._drop(self.switches.frame_text_bytes_max)
            self._is_behind_loss = self._is_midline = True
            self._end(End.LOST, is_heard=False)
            return True
        text = bytes(self._in[: at + 1])
        del self._in[: at + 1]
        self._coming.pending = Frame(0, text, True)
        self._effects.append(Arrived(text, True))
        return True

    def _end(self, why: End, *, is_heard: bool) -> None:
        self.state = State.IDLE
        self._effects.append(Ended(why, is_heard))

    # -- sending ------------------------------------------------------------------------------------------------------

    def _enqueue(self, token: int, records: Iterable[bytes]) -> None:
        frames = encode_all(
            records, text_bytes_max=self.switches.send_text_bytes_max, frame_end=self.switches.frame_end
        )
        self._outgoing.append(Outgoing(token, frames))
        if len(self._outgoing) > OUTGOING_MAX:
            late = 1 if self.state in {State.BIDDING, State.SENDING} else 0
            self._effects.append(NotSent(self._outgoing[late].token, "late"))
            del self._outgoing[late]

    def _bid(self, now: float) -> None:
        self.state = State.BIDDING
        self._outgoing[0].bids += 1
        self._sent_at = now
        self._say(ENQ)

    def _step_bidding(self, now: float) -> bool:
        first = self._in[0]
        del self._in[0]
        if first == ACK:
            self.state = State.SENDING
            self._outgoing[0].at = self._outgoing[0].sends = 0
            self._send_frame(now)
        elif first == NAK:
            self._later(now, AGAIN_S, "busy")
        elif first == ENQ:
            self.counts.contentions += 1
            self._in.clear()
            self._later(now, INSTRUMENT_YIELDS_S if self.switches.is_instrument else HOST_YIELDS_S, "busy")
        else:
            self.counts.noise_bytes += first not in _FILL
        return True

    def _step_sending(self, now: float) -> bool:
        first = self._in[0]
        del self._in[0]
        if first in _FILL:
            return True
        going = self._outgoing[0]
        self._in.clear()  # one answer to a frame: what else came cannot be the answer to the next one
        if first in {ACK, EOT}:  # 6.3.5.4: EOT says that this frame is accepted, and asks to stop, which may be ignored
            self.counts.interrupts += first == EOT
            going.at, going.sends = going.at + 1, 0
            if going.at == len(going.frames):
                self._say(EOT)
                self._outgoing.popleft()
                self.state, self._bid_at = State.IDLE, now
                self._effects.append(Sent(going.token))
                return True
        elif going.sends >= SENDS_MAX:
            self._give_up(now, "refused")
            return True
        self._send_frame(now)
        return True

    def _send_frame(self, now: float) -> None:
        going = self._outgoing[0]
        going.sends += 1
        self._sent_at = now
        self._effects.append(Write(going.frames[going.at]))

    def _unanswered(self, now: float) -> None:
        if self.state is State.SENDING:
            self._give_up(now, "silent")
            return
        self._say(EOT)
        self._later(now, AGAIN_S, "silent")

    def _later(self, now: float, wait: float, why: str) -> None:
        """Bid again after a while, unless it was tried often enough."""
        self.state, self._bid_at = State.IDLE, now + wait
        if self._outgoing[0].bids >= BIDS_MAX:
            self._effects.append(NotSent(self._outgoing.popleft().token, why))

    def _give_up(self, now: float, why: str) -> None:
        self._say(EOT)
        self.state, self._bid_at = State.IDLE, now + AGAIN_S
        self._effects.append(NotSent(self._outgoing.popleft().token, why))
