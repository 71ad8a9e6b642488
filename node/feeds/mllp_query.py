"""An analyzer's query on an MLLP feed that answers them: stored first, then answered with RSP^K11 in its turn."""

from typing import TYPE_CHECKING

from hl7.ack import acknowledge
from hl7.answer import read_answer
from hl7.asked import is_wanted
from hl7.check import Outcome as Judged
from hl7.check import Verdict
from hl7.devices.law import is_query
from hl7.mllp import encode
from node.errors import QueueFull
from node.feeds.mllp_pending import NOT_STORED, Pending
from node.feeds.mllp_replies import wanted_by
from node.feeds.mllp_rules import way_of
from node.intake import Counted
from node.orders.law_desk import LawDesk
from node.writer import Outcome

if TYPE_CHECKING:
    from node.feeds.mllp_connection import Connection


def pending_of(connection: "Connection", raw: bytes, verdict: Verdict) -> Pending:
    """How one message waits for its reply: a query that this feed answers, or any other."""
    desk = connection.feed.orders
    if desk is None or verdict.facts is None or verdict.outcome is Judged.REJECTED or not is_query(verdict.facts.route):
        return Pending(connection, raw, verdict)
    return PendingQuery(connection, raw, verdict, desk)


class PendingQuery(Pending):
    """A query: its reply is made when its record is durable."""

    __slots__ = ("_desk",)

    def __init__(self, connection: "Connection", raw: bytes, verdict: Verdict, desk: LawDesk) -> None:
        super().__init__(connection, raw, verdict)
        self._desk = desk
        desk.came(raw)

    def answer(self, outcome: Outcome | QueueFull | Counted) -> None:
        """The record is durable, or not."""
        if isinstance(outcome, NOT_STORED):
            super().answer(outcome)
            if self.reply is not None:  # else it is tried again
                self._desk.replied(self.raw)
            return
        feed = self.connection.feed
        _, is_test = way_of(self.raw, self.verdict, feed.feed, feed.rules, is_trial=self.connection.is_trial)
        self._desk.begin(
            self.raw,
            self.verdict,
            is_test=is_test,
            ids=lambda: (feed.reply_id(), feed.now()),
            done=self._told,
            lost=self._lost,
        )

    def _told(self, response: bytes) -> None:
        """The accept reply and the response, as they are asked for; in original mode the response is the reply (HL7 2.9, 2.8.2.1)."""
        feed, wanted = self.connection.feed, wanted_by(self.verdict, self.connection.feed)
        said = read_answer(response)
        reply = b""
        if wanted.is_enhanced and is_wanted(wanted.accept, "CA"):
            reply = encode(
                acknowledge(self.raw, self.verdict, control_id=feed.reply_id(), now=feed.now(), ack_code="CA")
            )
        if not wanted.is_enhanced or (said is not None and is_wanted(wanted.application, said.code)):
            reply += encode(response)
        self.reply = reply
        self.connection.settle(self)

    def _lost(self) -> None:
        """There is no response, by a fault of ours: the frames behind are answered, and a source that is cut off asks again."""
        self.reply = b""
        self.connection.settle(self)
        self.connection.close()
