"""One device's connection: documents in their order, each stored before it is acknowledged."""

import asyncio
import hashlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from hl7.devices.poct1a import CONTENT_TYPE, Message, read_message
from hl7.devices.poct1a_conversation import Conversation
from hl7.devices.poct1a_errors import CutOffInside, DocumentTooLong, DocumentType, NoControlId, NotAPoctDocument, NotXml
from hl7.devices.xml_documents import Broken, Divider, Document, Flaw
from node.clock import iso
from node.errors import QueueFull
from node.feeds.open_frames import FRAME_BYTES_FREE
from node.intake import Counted, Refusal
from node.writer import Outcome
from sync.outbox import Stored
from sync.record import Kind, Verdict

if TYPE_CHECKING:
    from hl7.devices.errors import DeviceError
    from node.feeds.poct1a import Poct1aFeed

WAITING_MAX = 8  # documents that came before the answer to the first: devices send one at a time
WAITING_BYTES_MAX = 64 * 1024  # and so many bytes of them, beside the one that is coming: results have some kB
UNREAD_BYTES_MAX = 64 * 1024  # of our answers: a device that reads none is gone
DOCUMENT_S_MAX = (
    60.0  # silence inside a document: it grows no further, as in MLLP. Between documents a device may rest for days
)
HEAD_BYTES = 4096  # of what is no document: enough to see what it is
CODES: Final = {
    Flaw.TOO_LONG: DocumentTooLong.code, Flaw.DECLARATION: DocumentType.code, Flaw.UNBALANCED: NotXml.code, Flaw.CUT_OFF: CutOffInside.code,
}  # fmt: skip

Answered = Outcome | QueueFull | Counted

log = structlog.get_logger()


class Poct1aConnection(asyncio.Protocol):
    """A conversation with one device."""

    def __init__(self, feed: "Poct1aFeed") -> None:
        self._feed = feed
        self._divider = Divider(feed.feed.message_bytes_max)
        self._conversation = Conversation(feed.feed.manners)
        self._waiting: deque[Document | Broken] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._peer, self._number = "", 0
        self._is_ending = self._waits_for_memory = False
        self._heard_at = feed.clock.monotonic()

    @property
    def device(self) -> str:
        """By what it named itself; "" before it did."""
        return self._conversation.device

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = transport  # type: ignore[assignment]  # of TCP or TLS: both can be written to
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        self._feed.connections.add(self)
        self._number = self._feed.trace.opened(self._peer)

    def data_received(self, data: bytes) -> None:
        """Divide what comes; a device that sends on without answers is not read for a while."""
        self._heard_at = self._feed.clock.monotonic()
        self._feed.trace.came(data, self._peer, self._number)
        noise = self._divider.noise_bytes
        events = self._divider.feed(data)
        self._waiting.extend(events)
        self._feed.noise_bytes += self._divider.noise_bytes - noise
        if events:
            self._feed.frames.release(self)  # the next document has no right to the turn of the one that ended
        self._account()
        if self._is_full() and self._transport is not None:
            self._transport.pause_reading()
        self._work()

    def eof_received(self) -> bool:
        """The device sends no more; what came is answered before we close."""
        self._end_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """It ended: what came whole is stored all the same."""
        self._transport = None
        self._feed.trace.noted("away", self._peer, self._number)
        self._feed.frames.release(self)
        self._end_input()
        if self._worker is None:
            self._feed.connections.discard(self)

    def finish(self) -> "asyncio.Future[None]":
        """Read nothing more, answer what is under way, close."""
        if self._transport is not None:
            self._transport.pause_reading()
        self._is_ending = True
        self._work()
        return self._worker or asyncio.get_running_loop().create_task(asyncio.sleep(0))

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _account(self) -> None:
        """Say how much the document that is coming holds; where all of them hold too much, this one waits for its turn."""
        frames, held = self._feed.frames, self._divider.held
        if held < FRAME_BYTES_FREE:
            frames.release(self)
            if self._waits_for_memory:
                self.go_on()
        elif not frames.hold(self, held) and not self._waits_for_memory:
            self._waits_for_memory = True

    def look_at_silence(self, now: float, idle_s_max: float) -> None:
        """End a connection that grows silent inside a document, or rests longer than the feed allows (0: never); one that waits for memory gets it."""
        if self._waits_for_memory:  # it is we who do not read
            self._feed.frames.end_turn()
            return
        if self._worker is not None:  # what came is being stored
            return
        is_open = self._divider.held > 0
        limit = DOCUMENT_S_MAX if is_open else idle_s_max
        if limit and now - self._heard_at > limit:
            if is_open:
                self._feed.tell("NOD-15", self._peer)
            self.abort()

    def _is_full(self) -> bool:
        """Whether the device sends faster than it is answered, or others' long documents have the memory."""
        return (
            self._waits_for_memory
            or len(self._waiting) > WAITING_MAX
            or sum(len(each.raw) for each in self._waiting) > WAITING_BYTES_MAX
        )

    def go_on(self) -> None:
        """There is room for the document that is coming again."""
        self._waits_for_memory, self._heard_at = False, self._feed.clock.monotonic()
        if not self._is_full() and self._transport is not None and not self._is_ending:
            self._transport.resume_reading()

    def give_up_turn(self) -> None:
        """Others have waited for the end of this document as long as they may."""
        self._feed.tell("NOD-15", self._peer)
        self.abort()

    def _end_input(self) -> None:
        if (cut := self._divider.end()) is not None:
            self._waiting.append(cut)
        self._is_ending = True
        self._work()

    # -- documents ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._worker is None and (self._waiting or (self._is_ending and self._transport is not None)):
            self._worker = asyncio.get_running_loop().create_task(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                event = self._waiting.popleft()
                goes_on = await (self._broken(event) if isinstance(event, Broken) else self._document(event))
                if not goes_on:
                    self._is_ending = True
                    self._waiting.clear()  # not acknowledged: the device sends it again
                if not self._is_full() and self._transport is not None and not self._is_ending:
                    self._transport.resume_reading()
        except Exception as error:  # noqa: BLE001  # whatever one device's document does, the others are served on
            log.critical("poct1a.died", feed=self._feed.feed.name, error=type(error).__name__)
            self._is_ending = True
        finally:
            self._worker = None
            if self._transport is None:
                self._feed.connections.discard(self)
            elif self._is_ending:
                self._transport.close()

    async def _document(self, document: Document) -> bool:
        """Store and answer one; whether the conversation goes on."""
        message = read_message(document.raw)
        turn = self._conversation.hear(message)
        answered = await self._store(message, document.raw) if turn.is_record or not message.is_xml else None
        # a crash here: stored, not acknowledged; the device sends it again, and the same bytes are known as a repeat
        is_taken = answered is None or isinstance(answered, Stored | Counted)
        now = iso(self._feed.clock.now_us())
        self._write(self._conversation.replies(message, is_taken=is_taken, now=now))
        return is_taken and not turn.is_over

    async def _store(self, message: Message, raw: bytes) -> Answered:
        """Hand it to the doorway; the device's name stands before its control id, which it begins again at every start."""
        door = self._feed.door
        error: type[DeviceError] | None = None
        if not message.is_xml:
            error = NotAPoctDocument
        elif not message.control_id:
            error = NoControlId
        if error is not None:
            self._feed.tell(error.code, self._peer)
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._feed.intake.store_typed(
            door, common=door.common(Kind.MESSAGE, CONTENT_TYPE), body=raw, message_type=message.type, peer=self._peer,
            control_id=f"{self.device}/{message.control_id}" if message.control_id else "",
            verdict=int(Verdict.ACCEPTED if error is None else Verdict.ACCEPTED_WITH_WARNING),
            refusal=None if error is None else Refusal(code=error.code), answer=partial(_settle, answered), source=self._feed.source,
        )  # fmt: skip
        return await answered

    async def _broken(self, broken: Broken) -> bool:
        """Record what came of it, and end: nothing says where the next document begins."""
        code = CODES[broken.flaw]
        self._feed.tell(code, self._peer)
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._feed.intake.store_broken(
            self._feed.door, head=broken.raw[:HEAD_BYTES], length=len(broken.raw), sha256=hashlib.sha256(broken.raw).digest(), control_id="",
            peer=self._peer, code=code, answer=partial(_settle, answered), source=self._feed.source,
        )  # fmt: skip
        await answered
        return False

    def _write(self, said: list[bytes]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for each in said:
            self._feed.trace.went(each, self._peer, self._number)
        self._transport.write(b"".join(said))
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._transport.abort()


def _settle(answered: "asyncio.Future[Answered]", outcome: Answered) -> None:
    if not answered.done():
        answered.set_result(outcome)
