"""A peer that counts: MSH-13 and MSA-4 (HL7 2.9, 2.9.1), whose durable number is the destination's cursor.

The answer to number 0 says whether a message whose reply was lost is there: it is then not sent again.
"""

from collections.abc import Callable
from typing import Final

from hl7.answer import Answer, Judgement, link_message, with_number
from hl7.errors import NotEr7
from hl7.message import Facts
from hl7.sequence import START, Link, Mood, hear, start
from node.config.destinations import MllpOut
from node.destinations.errors import FROZEN, NO_ANSWER, NOT_SENDABLE
from node.destinations.mllp import MllpSink, outcome_of
from node.destinations.plug import TAKEN, End, Outcome, Outgoing

ROUNDS_MAX: Final = 2  # a peer that answers below our number is asked with 0 once (2.9.1); more is a quarrel
WAITS: Final = Outcome(End.LATER, FROZEN)


class NumberedSink(MllpSink):
    """One connection to a peer that counts. `prefix` makes MSH-10 of the link's own messages; `now` is their MSH-7."""

    def __init__(self, destination: MllpOut, *, prefix: str, now: Callable[[], str]) -> None:
        super().__init__(destination)
        self._prefix, self._now = prefix, now
        self._links = 0
        self._link: Link | None = None  # what is agreed on this connection

    def close(self) -> None:
        """Close the connection; the count has to be agreed anew."""
        super().close()
        self._link = None

    def exchange(self, outgoing: Outgoing, found: Facts) -> Outcome:
        """Agree on the number, send the message with it, hear what becomes of both. Raises OSError."""
        try:
            numbered = with_number(outgoing.body, outgoing.number)
            for _ in range(ROUNDS_MAX):
                if (outcome := self._agree(outgoing)) is not None:
                    return outcome
                self.write(numbered, found.control_id)
                answer = self.hear(found.control_id)
                if answer is None:
                    return Outcome(End.LATER, NO_ANSWER)
                if (outcome := self._judge(answer)) is not None:
                    return outcome
        except NotEr7:
            return Outcome(End.REFUSED, NOT_SENDABLE)
        self.close()
        return WAITS

    def _agree(self, outgoing: Outgoing) -> Outcome | None:
        """Start the link where it does not stand at this number; the outcome where that says all."""
        link = self._link
        if link == Link(Mood.WAITING, outgoing.number) and outgoing.numbered == "new":
            return None
        if link is None or link.mood is not Mood.STARTING:
            link = start(outgoing.number)
        self._links += 1
        control_id = f"{self._prefix}{self._links}".encode()
        self.write(link_message(outgoing.body, START, control_id=control_id, now=self._now().encode()), control_id)
        answer = self.hear(control_id)
        if answer is None:
            return Outcome(End.LATER, NO_ANSWER)
        move = hear(link, answer.expected, 0 if outgoing.numbered == "new" else 1)
        self._link = move.link
        if move.link.mood is Mood.FROZEN:
            self.close()
            return WAITS
        if outgoing.numbered == "other":
            return Outcome(End.SPENT if move.stored else End.FREE)
        return TAKEN._replace(used=True) if move.stored else None

    def _judge(self, answer: Answer) -> Outcome | None:
        """What a reply to a numbered message means; None where the link has to start anew."""
        outcome = outcome_of(answer)
        assert self._link is not None  # noqa: S101  # agreed on before
        if answer.judgement is Judgement.LATER:
            self._link = None  # 0 says the next time where they stand
            return outcome
        move = hear(self._link, answer.expected, 1, is_positive=answer.judgement is Judgement.TAKEN)
        self._link = move.link
        if move.link.mood is Mood.FROZEN:
            self.close()
            return WAITS
        return outcome._replace(used=True) if move.stored else None
