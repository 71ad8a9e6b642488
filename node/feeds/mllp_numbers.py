"""The sequence number protocol at a feed: one message at a time, its number stored with its record (HL7 2.9, section 2.9.1)."""

import asyncio
import hashlib
from concurrent.futures import Future
from typing import TYPE_CHECKING

import structlog

from hl7.check import Outcome, Verdict, verdict_of
from hl7.errors import SequenceNumberMissing
from hl7.sequence import Deed, Last, Step, not_stored, number_of, receive
from node.errors import QueueFull
from node.feeds.mllp_pending import NOT_STORED, Pending
from node.feeds.mllp_replies import reply_no_room, reply_to
from node.intake import Counted
from node.writer import Outcome as Stored
from node.writer import Writer
from sync.errors import SyncError
from sync.outbox import Outbox

if TYPE_CHECKING:
    from node.feeds.mllp_connection import Connection

ALARM = "NOD-16"

log = structlog.get_logger()


class Numbers:
    """Where a feed's sender stands in its count. A number means nothing until the one before it is settled, so frames wait for one another.

    `load` reads what is stored; until then no connection may be taken.
    """

    def __init__(self, feed: str, writer: Writer, *, is_required: bool) -> None:
        self._feed = feed
        self._writer = writer
        self._is_required = is_required
        self._name = f"sequence:{feed}"
        self._last: Last | None = None
        self._busy: NumberedPending | None = None
        self._waiting: dict[Connection, None] = {}
        self._going = False

    async def load(self) -> None:
        """Read the last number that was stored. Raises SyncError."""
        stored = await asyncio.wrap_future(self._writer.order(lambda outbox: outbox.fact(self._name)))
        self._last = Last.read(stored or b"")

    def is_free_for(self, connection: "Connection") -> bool:
        """Whether a next frame may be judged; where not, the connection is told when."""
        if self._busy is None:
            return True
        self._waiting[connection] = None
        return False

    def take(self, connection: "Connection", raw: bytes, verdict: Verdict) -> bool:
        """Judge a message by its number, and see to its record and reply; False where it has none and needs none."""
        number = number_of(verdict.facts.route.sequence_number) if verdict.facts else None
        if number is None:
            if not self._is_required:
                return False
            missing = verdict_of(SequenceNumberMissing, "MSH^1^13", verdict.facts)
            connection.store(Pending(connection, raw, missing if verdict.outcome is not Outcome.REJECTED else verdict))
            return True
        step = receive(self._last, number, hashlib.sha256(raw).digest(), is_refused=verdict.outcome is Outcome.REJECTED)
        if step.error is not None:
            verdict = verdict_of(step.error, "MSH^1^13", verdict.facts)
            connection.feed.alarms.raised(ALARM, self._feed)
        elif step.deed is not Deed.STORE and not step.is_repeat:  # a start is no message: no rule is meant for it
            verdict = Verdict(Outcome.ACCEPTED, "", "AA", "", "", "", verdict.facts)
        pending = NumberedPending(connection, raw, verdict, step, self)
        self._busy = pending
        if step.deed is Deed.STORE and step.last is not None:
            pending.fact = (self._name, step.last.encode())
        if step.deed in {Deed.STORE, Deed.REFUSE}:
            connection.store(pending)
            return True
        connection.answer_at_once(pending)
        if step.deed is Deed.FORGET:
            self.keep(None, pending)
        else:
            connection.feed.door.counts.repeated += step.is_repeat
            pending.say(stored=True)
        return True

    def keep(self, last: Last | None, pending: "NumberedPending") -> None:
        """Store the count alone, then answer."""
        loop = asyncio.get_running_loop()

        def done(future: Future[None]) -> None:
            loop.call_soon_threadsafe(pending.say, future.exception() is None)

        self._writer.order(lambda outbox: _store(outbox, self._name, last)).add_done_callback(done)

    def settle(self, step: Step, *, stored: bool) -> None:
        """The reply is known. Lets the next frame be judged, of whatever connection."""
        if stored and step.deed is Deed.FORGET:
            self._last = None
        elif stored and step.last is not None:
            self._last = step.last
        self._busy = None

    def go_on(self) -> None:
        """Let those that waited try, until one of them is busy again."""
        # what is answered at once calls here from within: a chain of calls as long as the connections that wait
        if self._going:
            return
        self._going = True
        while self._waiting and self._busy is None:
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            connection.go_on_later()
        self._going = False

    @property
    def last(self) -> Last | None:
        """The last number that is stored."""
        return self._last


class NumberedPending(Pending):
    """A frame of a feed that follows the protocol: its reply says which number is expected."""

    __slots__ = ("_numbers", "_step")

    def __init__(self, connection: "Connection", raw: bytes, verdict: Verdict, step: Step, numbers: Numbers) -> None:
        super().__init__(connection, raw, verdict)
        self._step = step
        self._numbers = numbers

    def answer(self, outcome: Stored | QueueFull | Counted) -> None:
        """Say what became of it. A refusal that is only counted leaves no record, but its number was used."""
        if isinstance(outcome, Counted) and self._step.last is not None:
            self._numbers.keep(self._step.last, self)
            return
        self.say(stored=not isinstance(outcome, NOT_STORED))

    def say(self, stored: bool) -> None:
        """Write the reply, and let the next frame be judged."""
        feed, numbers = self.connection.feed, self._numbers
        expected = b"%d" % (self._step.expected if stored else not_stored(numbers.last))
        if stored:
            self.reply = reply_to(self.raw, self.verdict, feed, expected)
        else:
            self.reply = reply_no_room(self.raw, self.verdict, "no room, not stored; send again", feed, expected) or b""
        if stored and self._step.deed is not Deed.REFUSE:
            feed.alarms.cleared(ALARM, feed.feed.name)
        numbers.settle(self._step, stored=stored)
        self.connection.settle(self)
        numbers.go_on()


def _store(outbox: Outbox, name: str, last: Last | None) -> None:
    """Keep a count by itself. Raises SyncError."""
    try:
        with outbox.transaction():
            outbox.set_fact(name, last.encode() if last else b"")
    except SyncError:
        log.warning("mllp.number_not_stored", fact=name)
        raise
