"""One MLLP sender's connection: frames in, replies out in the order of arrival, and how long it may be silent."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import structlog

from hl7.batch import check_batch, divide, is_single
from hl7.check import Outcome, Verdict, check, verdict_of
from hl7.errors import SignatureNotGood
from hl7.foreign import recognise
from hl7.message import safe_type
from hl7.mllp import Broken, Decoder, Frame
from node.config.feeds import Mllp
from node.feeds.mllp_foreign import take_foreign
from node.feeds.mllp_pending import Pending, PendingBatch, PendingBroken, PendingUsual, control_id
from node.feeds.mllp_query import pending_of
from node.feeds.mllp_replies import is_silent_on_error
from node.feeds.mllp_rules import way_of
from node.feeds.open_frames import FRAME_BYTES_FREE
from node.intake import Refusal

if TYPE_CHECKING:
    from node.feeds.mllp import MllpFeed

IDLE_S = 0.25  # after this pause a FS at the end of what came is the end: some senders leave out the CR
FRAME_S_MAX = (
    60.0  # a frame that grows no further is a dead sender; 16 MiB in a minute is 2 Mbit/s, progress starts it anew
)
PENDING_MAX = 64  # frames of one connection without a reply; senders that follow the standard have one
PENDING_BYTES_MAX = (
    4 * 1024 * 1024
)  # and their bytes: a commit group's worth, so that a fast sender of scans fills no memory
UNREAD_BYTES_MAX = 64 * 1024  # replies a source has not read: reading from it stops until it does
HELD_BYTES_MAX = 32 * 1024 * 1024  # of one feed: as much as may wait for the disk over all of them
HOLD_S = 1.0  # a full disk has room again in seconds at best

ACCEPTED = int(Outcome.ACCEPTED)

log = structlog.get_logger()


class Connection(asyncio.Protocol):
    """One sender's connection. Replies leave in the order in which frames came, none before its record is durable."""

    __slots__ = (
        "_alone",
        "_decoder",
        "_going",
        "_heard_at",
        "_idle",
        "_is_trial",
        "_is_usual",
        "_later",
        "_loop",
        "_octets",
        "_paused_at",
        "_peer",
        "_pending",
        "_reading",
        "_transport",
        "_waits",
        "feed",
    )  # fmt: skip

    def __init__(self, feed: "MllpFeed", loop: asyncio.AbstractEventLoop, *, is_trial: bool = False) -> None:
        self.feed = feed
        self._loop = loop
        self._is_trial = is_trial
        self._is_usual = not (
            is_trial or feed.numbers or feed.rules.routes or feed.always_enhanced or feed.sample or feed.orders
        )
        self._decoder = Decoder(feed.feed.frame_bytes_max)
        self._pending: deque[Pending | PendingBroken] = deque()
        self._octets = 0
        self._later: deque[Frame | Broken] = (
            deque()
        )  # frames behind one that must be settled first: those of one read, as reading stops
        self._alone: Pending | None = None
        self._going = False
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._peer = ""
        self._reading = True
        self._waits = False  # for room for its open frame
        self._paused_at: float | None = None
        self._heard_at = feed.clock.monotonic()

    # -- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection of a peer whom the doorstep let in."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        name = transport.get_extra_info("peername")
        if not name:  # it is gone again
            transport.abort()
            return
        self._peer = str(name[0])
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        self._transport = transport
        self.feed.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Record what the peer left unfinished."""
        del error
        self._cancel_idle()
        if self._transport is None:
            return
        self._transport = None
        self.feed.connections.discard(self)
        self.feed.frames.release(self)
        for event in self._decoder.finish():
            self._take(event)
        self.feed.noise_bytes += self._decoder.noise_bytes
        self.feed.bare_ends += self._decoder.bare_ends

    def data_received(self, data: bytes) -> None:
        """Decode what came; every whole frame goes to the doorway."""
        if self._transport is None:
            return
        self._heard_at = self.feed.clock.monotonic()
        if self._idle is not None:
            self._cancel_idle()
        decoder = self._decoder
        events = decoder.receive(data)
        for event in events:
            self._take(event)
        is_long = False
        if decoder.is_open:
            self._idle = self._loop.call_later(IDLE_S, self._on_idle)
            is_long = decoder.held >= FRAME_BYTES_FREE
        if is_long or self.feed.frames.holders:
            if events:
                self.feed.frames.release(self)  # the next frame has no right to the turn of the one that ended
            self._account()
        if len(self._pending) >= PENDING_MAX or self._octets >= PENDING_BYTES_MAX:
            self._set_reading()

    def _account(self) -> None:
        """Say how much the open frame holds; where all of them hold too much, this one waits for its turn."""
        frames, held = self.feed.frames, self._decoder.held
        if held < FRAME_BYTES_FREE:
            frames.release(self)
            if self._waits:
                self.go_on()
        elif not frames.hold(self, held):
            self._waits = True
            self._set_reading()

    def go_on(self) -> None:
        """There is room for the open frame again."""
        self._waits = False
        self._heard_at = self.feed.clock.monotonic()
        self._set_reading()

    def pause_writing(self) -> None:
        """The source does not read its replies: stop reading from it."""
        self._paused_at = self.feed.clock.monotonic()
        self._set_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_at = None
        self._set_reading()

    # -- silence ----------------------------------------------------------------------------------------------------

    def look_at_silence(self, now: float, feed: Mllp) -> None:
        """Close a connection that reads no replies, stays silent inside a frame, or longer than the feed allows."""
        if self._paused_at is not None:
            if now - self._paused_at > feed.answer_s_max:
                self._give_up("NOD-14")
            return
        if self._waits:  # it is we who do not read
            self.feed.frames.end_turn()
            return
        limit = FRAME_S_MAX if self._decoder.is_open else feed.idle_s_max
        if limit and not self._pending and now - self._heard_at > limit:
            self._give_up("NOD-15")

    def close(self) -> None:
        """Close after what is written has left."""
        if self._transport is not None:
            self._transport.close()

    def give_up_turn(self) -> None:
        """Others have waited for the end of this frame as long as they may."""
        self._give_up("NOD-15")

    def _give_up(self, code: str) -> None:
        log.warning("mllp.closed", code=code, feed=self.feed.feed.name, peer=self._peer)
        self.feed.door.counts.last_error = (code, self.feed.clock.now_us())
        if self._transport is not None:
            self._transport.abort()

    def _on_idle(self) -> None:
        self._idle = None
        for event in self._decoder.idle():
            self._take(event)
        self._account()

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    # -- messages ---------------------------------------------------------------------------------------------------

    def _take(self, event: Frame | Broken) -> None:
        if self._later or self._alone is not None or self.feed.numbers is not None:
            self._later.append(event)
            self.go_on_later()
        elif isinstance(event, Frame):  # most
            self._take_message(event.payload)
        else:
            self._take_broken(event)

    def _is_blocked(self) -> bool:
        """Whether the next frame has to wait for the one before: it may have to be stored again, or gives the next number its meaning."""
        numbers = self.feed.numbers
        return self._alone is not None or (numbers is not None and not numbers.is_free_for(self))

    def go_on_later(self) -> None:
        """What blocked is settled: begin with what came meanwhile, as far as it goes."""
        if self._going:  # an answer that comes at once calls here from within
            return
        self._going = True
        while self._later and not self._is_blocked():
            self._begin(self._later.popleft())
        self._going = False
        self._set_reading()

    def _begin(self, event: Frame | Broken) -> None:
        if isinstance(event, Frame):
            self._take_message(event.payload)
        else:
            self._take_broken(event)

    def _take_message(self, raw: bytes) -> None:
        verdict, feed = check(raw, self.feed.rules), self.feed
        found = verdict.facts
        if found is None or verdict.code or not (found.is_usual and self._is_usual and is_single(raw)):
            self._take_unusual(raw, verdict)
            return
        # nearly all: one message, nothing wrong, nothing asked for, one stream. Each call on this way is paid by all of them
        pending = PendingUsual(self, raw, verdict)
        self._pending.append(pending)
        self._octets += len(raw)
        feed.intake.store(
            feed.door, body=raw, message_type=safe_type(found.route.message_type),
            control_id=found.control_id.decode("utf-8", "backslashreplace"), peer=self._peer, verdict=ACCEPTED, refusal=None, answer=pending.answer,
            source=feed.source,
        )  # fmt: skip
        feed.quality.offer(found, raw)

    def _take_unusual(self, raw: bytes, verdict: Verdict) -> None:
        """A batch, a number, another language, a reply that is asked for, a warning, a refusal, a test, a route."""
        feed = self.feed
        batch = None if is_single(raw) else divide(raw)
        if batch is not None:
            verdict, verdicts = check_batch(raw, batch, feed.rules)
            pending: Pending = PendingBatch(self, raw, verdict, batch, verdicts)
        else:
            if feed.numbers is not None and feed.numbers.take(self, raw, verdict):
                return
            if verdict.facts is None:  # never an ER7 message
                if (foreign := recognise(raw)) is not None:
                    take_foreign(self, raw, foreign, is_trial=self._is_trial)
                    return
                verdict = verdict_of(SignatureNotGood, "", None) if feed.demands_signatures else verdict
            pending = pending_of(self, raw, verdict)
        if is_silent_on_error(verdict, feed):
            self._alone = pending
        self.store(pending)
        if batch is None and verdict.facts is not None and verdict.outcome is not Outcome.REJECTED:
            feed.quality.offer(verdict.facts, raw)

    def store(self, pending: Pending) -> None:
        """Queue a frame for its reply, and hand it to the doorway."""
        self._pending.append(pending)
        self._octets += pending.octets
        self.submit(pending)
        if pending.verdict.code:
            self.tell(pending)

    def tell(self, pending: Pending) -> None:
        """Count and log what a message was warned or refused for."""
        feed, code = self.feed, pending.verdict.code
        feed.door.counts.last_error = (code, feed.clock.now_us())
        outcome = pending.verdict.outcome.name
        log.info("mllp.judged", code=code, feed=feed.feed.name, peer=self._peer, outcome=outcome)

    def submit(self, pending: Pending) -> None:
        """Hand a message of HL7 v2 to the doorway."""
        verdict = pending.verdict
        found, code = verdict.facts, verdict.code
        stream, is_test = way_of(pending.raw, verdict, self.feed.feed, self.feed.rules, is_trial=self._is_trial)
        self.feed.intake.store(
            self.feed.door,
            body=pending.raw,
            message_type=safe_type(found.route.message_type) if found else "",
            control_id=found.control_id.decode("utf-8", "backslashreplace") if found else "",
            peer=self._peer,
            verdict=int(verdict.outcome),
            refusal=Refusal(code=code, location=verdict.location) if code else None,
            answer=pending.answer,
            fact=pending.fact,
            stream=stream,
            is_test=is_test,
            source=self.feed.source,
        )

    def block(self, pending: Pending) -> None:
        """Begin with no further frame until this one is settled."""
        self._alone = pending

    @property
    def is_trial(self) -> bool:
        """Whether all that comes here is a test."""
        return self._is_trial

    @property
    def peer(self) -> str:
        """The sender's address."""
        return self._peer

    def answer_at_once(self, pending: Pending) -> None:
        """Queue a frame whose reply is there already, or comes by itself."""
        self._pending.append(pending)
        self._octets += pending.octets

    def _take_broken(self, event: Broken) -> None:
        feed, code = self.feed, event.error.code
        pending = PendingBroken(self, event)
        self._pending.append(pending)
        self._octets += pending.octets
        feed.door.counts.last_error = (code, feed.clock.now_us())
        log.warning("mllp.broken", code=code, feed=feed.feed.name, peer=self._peer, length=event.length)
        feed.intake.store_broken(
            feed.door, head=event.head, length=event.length, sha256=event.sha256, control_id=control_id(event.head), peer=self._peer,
            code=code, answer=pending.answer, source=feed.source,
        )  # fmt: skip

    def hold(self, pending: Pending) -> None:
        """There is no room, and the sender is not to be told so: keep the message, read no further, try again."""
        feed = self.feed
        is_gone = self._transport is None  # and never asked whether its message was taken
        if is_gone or feed.held + pending.octets > HELD_BYTES_MAX:
            # a break of the connection is all that a sender who wants no reply can be told
            log.warning("mllp.unstored", feed=feed.feed.name, peer=self._peer)
            if self._transport is not None:
                self._transport.abort()
            pending.reply = b""
            self.settle(pending)
            return
        feed.held += pending.octets
        self._loop.call_later(HOLD_S, self._try_again, pending)

    def _try_again(self, pending: Pending) -> None:
        self.feed.held -= pending.octets
        pending.submit()

    def settle(self, pending: Pending | PendingBroken) -> None:
        """A reply is known: write those that are ready, in the order in which their frames came."""
        waiting, transport = self._pending, self._transport
        while waiting and (reply := waiting[0].reply) is not None:
            self._octets -= waiting.popleft().octets
            if reply and transport is not None:
                transport.write(reply)
        if pending is self._alone:
            self._alone = None
        if self._later:
            self.go_on_later()
        if not self._reading:
            self._set_reading()

    def _set_reading(self) -> None:
        """Read while the source reads its replies and has not too many frames under way."""
        wanted = len(self._pending) < PENDING_MAX and self._octets < PENDING_BYTES_MAX and not self._later
        wanted = wanted and self._paused_at is None and not self._waits
        if self._transport is not None and wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
