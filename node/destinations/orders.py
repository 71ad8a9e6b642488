"""The orders that follow an analyzer's query (IHE LAW, LAB-28), as messages to its own listener: which records are queries, and what its reply means."""

from collections.abc import Callable
from typing import Final

from hl7.answer import Answer
from hl7.convert.result import Origin
from hl7.devices.law import read_reply
from hl7.devices.law_errors import OrdersUnread
from node.config.replies import OrdersOut
from node.destinations.errors import LATER, REFUSED
from node.destinations.mllp import MllpSink, outcome_of
from node.destinations.plug import ER7, TAKEN, End, Outcome, Outgoing
from node.destinations.selection import Part, Selection
from node.orders.law_desk import LawDesk, Work
from sync.header import Header, decode
from sync.record import Kind, Record, Verdict

LawDesks = Callable[[str], LawDesk | None]
"""The desk of a feed, by its name."""

OML: Final = "OML^O33^OML_O33"
UNABLE: Final = "UA"  # ORC-1: the analyzer cannot do some of this work


class Queries(Selection):
    """The queries that came on one feed; each part of a record is one order, numbered by its row in the cache: a later one is greater."""

    def __init__(self, orders: OrdersOut, desk: LawDesk | None) -> None:
        super().__init__(())
        self._orders, self._feed, self._desk = orders, orders.feed, desk

    def again(self, part: int | None) -> Selection:
        """A person's word counts for a query of any age; what was called off or changed is given to nobody all the same."""
        return _Again(self._orders, self._desk, part)

    def header(self, header: bytes) -> Header | None:
        """As Selection, but of this feed's queries alone. A test is given no patient's orders. Raises NotARecord."""
        found = decode(header)
        # a header keeps only types that are written as the standard has it: of any other the body says what it is
        may_be = found.message_type.startswith("QBP") or not found.message_type
        is_ours = found.feed == self._feed and found.content_type == ER7 and may_be
        return found if is_ours and found.kind is Kind.MESSAGE and found.verdict is not Verdict.REJECTED else None

    def might_want(self, header: Header) -> bool:
        """A query that cannot be read any more is asked again by whoever waits for it."""
        del header
        return False

    def parts(self, header: Header, record: Record, origin: Origin) -> list[Part]:
        """The orders that it asks for, or the message that there is none; nothing where no core runs. Raises OrdersUnread."""
        del origin
        return [] if self._desk is None else _parts(self._desk.work_for(header, record))


class _Again(Queries):
    """One order, or all those of a query, that a person wants sent again."""

    def __init__(self, orders: OrdersOut, desk: LawDesk | None, part: int | None) -> None:
        super().__init__(orders, desk)
        self._part = part

    def parts(self, header: Header, record: Record, origin: Origin) -> list[Part]:
        """As Queries, whenever it was asked. Raises OrdersUnread."""
        del origin
        return [] if self._desk is None else _parts(self._desk.work_again(header, record, self._part))


def _parts(works: list[Work]) -> list[Part]:
    return [Part(each.row, each.body, each.control_id, OML) for each in works]


class OrdersSink(MllpSink):
    """The analyzer's listener. An order is given when the analyzer's application reply says so, never by an accept reply."""

    def __init__(self, orders: OrdersOut, desk: LawDesk) -> None:
        super().__init__(orders)
        self._desk = desk

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Send one order, unless it was changed or called off since it was asked for: the analyzer then asks again."""
        try:
            if not self._desk.is_current(outgoing.part):
                return TAKEN
        except OrdersUnread as error:  # it may have been called off
            return Outcome(End.LATER, error.code, str(error))
        outcome = super().deliver(outgoing)
        if outcome.end is End.TAKEN:
            self._desk.given(outgoing.part)
        elif outcome.end is End.REFUSED:  # it is parked: a person's, or asked for by its sample
            self._desk.told(outgoing.part)
        return outcome

    def read(self, payload: bytes) -> Answer | None:
        """The reply that counts."""
        answer = read_reply(payload)
        return None if answer is None or answer.code == "CA" else answer

    def judge(self, answer: Answer) -> Outcome:
        """AR too is the end of it: the analyzer wants no such work (LAW: what it did not expect), now or later."""
        if answer.is_unable:
            return Outcome(End.REFUSED, REFUSED, UNABLE)
        outcome = outcome_of(answer)
        is_refused = outcome.end is End.LATER and outcome.code == LATER
        return Outcome(End.REFUSED, REFUSED, outcome.detail) if is_refused else outcome
