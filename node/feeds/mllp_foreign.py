"""Messages of other languages on an MLLP feed: HL7 v3, CDA, X12. Stored with their own content type, answered in their own way."""

import asyncio
import uuid
from typing import TYPE_CHECKING

from hl7.check import verdict_of
from hl7.errors import SignatureNotGood
from hl7.foreign import Foreign, reply_no_room, reply_to
from hl7.mllp import encode
from node.errors import QueueFull
from node.feeds.mllp_pending import Pending
from node.intake import Counted, Refusal
from node.signatures.check import Checker, is_good, reason, told
from node.writer import Outcome
from sync.outbox import Stored
from sync.record import Kind

if TYPE_CHECKING:
    from node.feeds.mllp_connection import Connection


def take_foreign(connection: "Connection", raw: bytes, found: Foreign, *, is_trial: bool) -> None:
    """See to record and reply of a frame that holds no HL7 v2."""
    pending = PendingForeign(connection, raw, found, is_test=is_trial or found.is_test)
    if pending.is_demanding or pending.is_silent_without_room:
        connection.block(pending)
    connection.answer_at_once(pending)
    pending.submit()


class PendingForeign(Pending):
    """A frame in another language, in the order of replies."""

    __slots__ = ("_found", "_is_test", "_reason", "_signatures", "_task")

    def __init__(self, connection: "Connection", raw: bytes, found: Foreign, *, is_test: bool) -> None:
        super().__init__(connection, raw, found.verdict)
        self._found = found
        self._is_test = is_test
        self._signatures = told(found.signatures, None)
        self._reason = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_demanding(self) -> bool:
        """Whether its signature decides about it."""
        return self.connection.feed.demands_signatures

    @property
    def is_silent_without_room(self) -> bool:
        """Whether its sender wants to hear nothing where there is no room: then it waits here, and what follows it with it."""
        return reply_no_room(self._found, own_id="", now=b"", text="") == b""

    def submit(self) -> None:
        """Hand it to the doorway, its signature being good where the feed demands that."""
        checker = self.connection.feed.checker
        if self.is_demanding and checker is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._demand(checker))
        else:
            self._submit()

    async def _demand(self, checker: Checker) -> None:
        findings = await checker.check(self.raw, self._found.content_type)
        self._signatures = told(self._found.signatures, findings)
        if not is_good(findings):
            if findings is None and checker.is_stopping:  # nothing is known, and nobody is answered: the sender repeats
                return
            error, self._reason = verdict_of(SignatureNotGood, "", None), reason(findings)
            self.verdict = error._replace(text=f"{error.text}: {self._reason}")
        self._submit()

    def _submit(self) -> None:
        if self.verdict.code:
            self.connection.tell(self)
        connection, found, code = self.connection, self._found, self.verdict.code
        feed = connection.feed
        kind = Kind.TEST if self._is_test else Kind.MESSAGE
        feed.intake.store_typed(
            feed.door,
            common=feed.door.common(kind, found.content_type),
            body=self.raw,
            message_type=found.message_type,
            control_id=found.control_id,
            peer=connection.peer,
            verdict=int(self.verdict.outcome),
            refusal=Refusal(code=code, location=self._reason or self.verdict.location) if code else None,
            answer=self.answer,
            signatures=self._signatures,
            stream=feed.feed.test_stream if self._is_test else "",
            source=feed.source,
        )

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """The record is durable, or not: write the reply, and look at what it brought."""
        feed = self.connection.feed
        is_new = isinstance(outcome, Stored) and not outcome.repeated
        if is_new and feed.feed.signatures == "verified" and feed.checker is not None and self._signatures:
            feed.checker.check_later(self.raw, self._found.content_type, feed.signed, feed.feed.name)
        super().answer(outcome)

    def _good(self) -> bytes:
        feed = self.connection.feed
        reply = reply_to(
            self._found, self.verdict.outcome, number=feed.reply_number(), own_id=str(uuid.uuid4()), now=feed.now(), text=self.verdict.text
        )  # fmt: skip
        return super()._good() if reply is None else _framed(reply)

    def _no_room(self, text: str) -> bytes | None:
        reply = reply_no_room(self._found, own_id=str(uuid.uuid4()), now=self.connection.feed.now(), text=text)
        if reply is None:
            return super()._no_room(text)
        return encode(reply) if reply else None


def _framed(reply: bytes) -> bytes:
    return encode(reply) if reply else b""
