"""Frames of a connection that wait for their reply, in the order in which they came."""

from typing import TYPE_CHECKING

from hl7.ack import acknowledge
from hl7.batch import Batch
from hl7.check import Outcome as Judged
from hl7.check import Verdict
from hl7.errors import NotEr7
from hl7.message import facts
from hl7.mllp import Broken, encode
from node.errors import QueueFull
from node.feeds.mllp_replies import reply_no_room, reply_no_room_to_all, reply_to, reply_to_all, reply_to_broken
from node.intake import Counted
from node.quality.profile_sample import Sample
from node.writer import Outcome
from sync.errors import NoRoom
from sync.outbox import Stored

if TYPE_CHECKING:
    from node.feeds.mllp_connection import Connection

NOT_STORED = (NoRoom, QueueFull)


class Pending:
    """A frame in the order of replies: what was said of it, and the bytes to write back once they are known (b"" where none are due)."""

    __slots__ = ("connection", "fact", "raw", "reply", "verdict")

    def __init__(self, connection: "Connection", raw: bytes, verdict: Verdict) -> None:
        self.connection = connection
        self.raw = raw
        self.verdict = verdict
        self.reply: bytes | None = None
        self.fact: tuple[str, bytes] | None = None

    @property
    def octets(self) -> int:
        """How much memory it holds."""
        return len(self.raw)

    def submit(self) -> None:
        """Hand it to the doorway; again where there was no room."""
        self.connection.submit(self)

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """The record is durable, or not: write the reply. A crash before the write leaves a repeat, which is known by its id and bytes."""
        if isinstance(outcome, NOT_STORED):
            reply = self._no_room(_no_room(outcome))
            if reply is None:
                self.connection.hold(self)
                return
            self.reply = reply
        else:
            self.reply = self._good()
            if (sample := self.connection.feed.sample) is not None and isinstance(outcome, Stored):
                self.offer_to(sample, outcome)
        self.connection.settle(self)

    def offer_to(self, sample: Sample, stored: Stored) -> None:
        """A message is kept: it may be one of those that are looked at closely."""
        if self.verdict.facts is not None and not stored.repeated and self.verdict.outcome is not Judged.REJECTED:
            sample.offer(self.verdict.facts, self.raw)

    def _good(self) -> bytes:
        return reply_to(self.raw, self.verdict, self.connection.feed)

    def _no_room(self, text: str) -> bytes | None:
        return reply_no_room(self.raw, self.verdict, text, self.connection.feed)


class PendingUsual(Pending):
    """One message of which nothing is unusual, as nearly all are: its reply is an AA."""

    __slots__ = ()

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """As Pending, in fewer steps."""
        if isinstance(outcome, NOT_STORED):
            super().answer(outcome)
            return
        feed = self.connection.feed
        self.reply = encode(acknowledge(self.raw, self.verdict, control_id=feed.reply_id(), now=feed.now()))
        self.connection.settle(self)


class PendingBatch(Pending):
    """Several messages in one frame: one record, and a reply to each of them."""

    __slots__ = ("_batch", "_verdicts")

    def __init__(
        self, connection: "Connection", raw: bytes, verdict: Verdict, batch: Batch, verdicts: list[Verdict]
    ) -> None:
        super().__init__(connection, raw, verdict)
        self._batch = batch
        self._verdicts = verdicts

    def offer_to(self, sample: Sample, stored: Stored) -> None:
        """A batch is not looked at: hl7apy knows messages."""

    def _good(self) -> bytes:
        if not self._verdicts:  # refused as a whole, or empty
            return reply_to(self.raw, self.verdict, self.connection.feed)
        return reply_to_all(self.raw, self._batch, self._verdicts, self.connection.feed)

    def _no_room(self, text: str) -> bytes | None:
        if not self._verdicts:
            return reply_no_room(self.raw, self.verdict, text, self.connection.feed)
        return reply_no_room_to_all(self.raw, self._batch, self._verdicts, text, self.connection.feed)


class PendingBroken:
    """The same for a frame that is not whole: it is answered where its MSH was seen and somebody waits."""

    __slots__ = ("connection", "event", "reply")

    def __init__(self, connection: "Connection", event: Broken) -> None:
        self.connection = connection
        self.event = event
        self.reply: bytes | None = None

    @property
    def octets(self) -> int:
        """How much memory it holds."""
        return len(self.event.head)

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """The record of what was refused is durable, or not: write the reply."""
        feed, error, head = self.connection.feed, self.event.error, self.event.head
        if error.reply == "none":
            self.reply = b""
        elif isinstance(outcome, NOT_STORED):
            self.reply = reply_to_broken(head, "AR", "207", _no_room(outcome), feed)
        else:
            self.reply = reply_to_broken(head, error.reply, error.error_code, error.text, feed)
        self.connection.settle(self)


def _no_room(error: NoRoom | QueueFull) -> str:
    return f"{error.code} no room, not stored; send again"


def control_id(head: bytes) -> str:
    """What a broken frame's first bytes say of its control id; empty where they say nothing."""
    try:
        return facts(head).control_id.decode("utf-8", "backslashreplace")
    except NotEr7:
        return ""
