"""Frames of a connection that wait for their reply, in the order in which they came."""

from typing import TYPE_CHECKING

from hl7.ack import acknowledge, refuse
from hl7.check import Verdict
from hl7.errors import NotEr7
from hl7.message import facts
from hl7.mllp import Broken
from node.errors import QueueFull
from node.intake import Counted
from node.writer import Outcome
from sync.errors import NoRoom

if TYPE_CHECKING:
    from node.feeds.mllp import MllpFeed
    from node.feeds.mllp_connection import Connection

NOT_STORED = (NoRoom, QueueFull)


class Pending:
    """A frame in the order of replies: who sent it, what was said of it, and the reply once it is known (b"" where none is due)."""

    __slots__ = ("connection", "raw", "reply", "verdict")

    def __init__(self, connection: "Connection", raw: bytes, verdict: Verdict) -> None:
        self.connection = connection
        self.raw = raw
        self.verdict = verdict
        self.reply: bytes | None = None

    @property
    def octets(self) -> int:
        """How much memory it holds."""
        return len(self.raw)

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """The record is durable, or not: write the reply. A crash before the write leaves a repeat, which is known by its id and bytes."""
        feed = self.connection.feed
        if isinstance(outcome, NOT_STORED):
            self.reply = _no_room(self.raw, outcome, feed)
        else:
            self.reply = acknowledge(self.raw, self.verdict, control_id=feed.reply_id(), now=feed.now())
        self.connection.flush()


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
        if error.reply == "none" or not _has_header(head):
            self.reply = b""
        elif isinstance(outcome, NOT_STORED):
            self.reply = _no_room(head, outcome, feed)
        else:
            self.reply = refuse(
                head, ack_code=error.reply, error_code=error.error_code, text=error.text, control_id=feed.reply_id(), now=feed.now()
            )  # fmt: skip
        self.connection.flush()


def _no_room(raw: bytes, error: NoRoom | QueueFull, feed: "MllpFeed") -> bytes:
    return refuse(
        raw, ack_code="AR", error_code="207", text=f"{error.code} no room, not stored; send again", control_id=feed.reply_id(), now=feed.now()
    )  # fmt: skip


def _has_header(head: bytes) -> bool:
    try:
        facts(head)
    except NotEr7:
        return False
    return True


def control_id(head: bytes) -> str:
    """What a broken frame's first bytes say of its control id; empty where they say nothing."""
    try:
        return facts(head).control_id.decode("utf-8", "backslashreplace")
    except NotEr7:
        return ""
