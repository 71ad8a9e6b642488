"""IHE LAW: an analyzer's query for its work (LAB-27, QBP^Q11), what it is told at once (RSP^K11), and the orders that follow (LAB-28, OML^O33).

IHE PaLM TF-2b, 3.27 and 3.28. A query names a sample, or asks for all that is not given yet.
"""

from itertools import takewhile
from typing import Final, NamedTuple

from hl7.ack import acknowledge
from hl7.answer import Answer, read_answer
from hl7.check import Outcome, Verdict, verdict_of
from hl7.devices.astm_orders import TESTS_MAX, Order
from hl7.devices.law_errors import QueryIncomplete, QueryUnknown
from hl7.errors import Hl7Error, NotEr7
from hl7.message import Facts, Message, Route
from hl7.separators import STANDARD, escape
from hl7.text import Text

EVENTS: Final = frozenset({b"Q11", b"WOS"})  # the standard's, and some vendors'
BY_SAMPLE: Final = "WOS"
ALL: Final = "WOS_ALL"
SAMPLE_CHARACTERS_MAX: Final = 80  # LAW's SAC-3 has 20, HL7 80 (2.8): what is longer is no barcode
QUERY_SEGMENT_BYTES_MAX: Final = 4096  # of QPD, which goes back as it came

_PRIORITIES: Final = {"S": b"S", "STAT": b"S", "A": b"A", "ASAP": b"A", "T": b"S"}  # HL7 table 0485
_UNABLE: Final = b"UA"  # ORC-1 of ORL^O34: this work is not accepted


class Query(NamedTuple):
    """What is asked. `sample` is empty where it is all; `problem` and `location`: why it is not answered."""

    sample: str = ""
    problem: type[Hl7Error] | None = None
    location: str = ""


def is_query(route: Route) -> bool:
    """Whether a message is a LAB-27 by its type."""
    return route.message_code == b"QBP" and route.trigger_event in EVENTS


def read_query(raw: bytes, *, charset: str = "", charset_default: str = "utf-8") -> Query:
    """What a query asks for. Never raises for what stands in it."""
    try:
        text = Text(raw, charset=charset, charset_default=charset_default)
        name, tag, sample = (text.get(path).text.strip() for path in ("QPD-1.1", "QPD-2", "QPD-3.1"))
    except (NotEr7, ValueError):
        return Query(problem=QueryIncomplete, location="QPD")
    if not name and not tag:
        return Query(problem=QueryIncomplete, location="QPD^1")
    if name not in {BY_SAMPLE, ALL}:
        return Query(problem=QueryUnknown, location="QPD^1^1")
    if not tag:
        return Query(problem=QueryIncomplete, location="QPD^1^2")
    if name == ALL:
        return Query()
    if not sample or len(sample) > SAMPLE_CHARACTERS_MAX:
        return Query(problem=QueryIncomplete, location="QPD^1^3")
    return Query(sample)


# ---- LAB-27: what it is told at once -----------------------------------------------------------------------------------
def respond(raw: bytes, found: Facts, query: Query, *, is_known: bool, control_id: bytes, now: bytes) -> bytes:
    """The RSP^K11: MSH, MSA, ERR where the query is not answered, QAK, and QPD as it came (HL7 2.9, 5.3.1.2)."""
    verdict = Verdict(Outcome.ACCEPTED, "", "AA", "", "", "", found)
    if query.problem is not None:
        verdict = verdict_of(query.problem, query.location, found)
    head, *rest = acknowledge(raw, verdict, control_id=control_id, now=now, is_application=True).split(b"\r")
    mark, component = head[3:4], head[4:5]
    fields = head.split(mark)
    fields[8] = component.join((b"RSP", b"K11", b"RSP_K11"))
    if found.is_plain and (profile := Message(raw).get("MSH-21")):
        fields += [*[b""] * (20 - len(fields)), profile]
    asked = _query_segment(raw)
    parts = [*asked.split(mark), b"", b""]
    status = verdict.ack_code if query.problem is not None else "OK" if is_known else "NF"  # HL7 table 0208
    told = mark.join((b"QAK", parts[2], status.encode(), parts[1]))
    return b"\r".join([mark.join(fields), *filter(None, rest), told, *filter(None, [asked]), b""])


def _query_segment(raw: bytes) -> bytes:
    message = Message(raw)
    for name, (start, end) in message.segments():
        if name == b"QPD":
            return message.raw[start:end].translate(None, b"\x0b\x1c\r\n")[:QUERY_SEGMENT_BYTES_MAX]
    return b""


# ---- LAB-28: the work --------------------------------------------------------------------------------------------------
def work(order: Order, asked: Facts, *, control_id: bytes, now: bytes, number: str = "") -> bytes:
    """The OML^O33 of one sample: an ORC and OBR for each test, whose AWOS id is its placer's number (or the sample's) and the test's code.

    `number`: under which the analyzer asked, as it read it on the tube. It stands in SAC-3; else its first container's, else the sample's.
    """
    sample = _value(order.sample)
    lines = [_head(asked, control_id, now)]
    name = b"^".join((_value(order.family), _value(order.given))) + b"^^^^^L" if order.family or order.given else b""
    lines.append(b"|".join((b"PID|||" + _value(order.patient), b"", name, b"", _value(order.birth), _value(order.sex))))
    kind = _value(order.specimen) or b'""'  # LAW: what it is must be said, be it that nobody knows
    lines.append(b"SPM|1|%b||%b|||||||P^Patient^HL70369||||||%b" % (sample, kind, _value(order.collected)))
    lines.append(b"SAC|||%b" % _value(number or next(iter(order.containers), order.sample)))
    for test, placer in order.placed:
        code, placed = _value(test), _value(placer) or sample
        lines.append(b"ORC|NW||||||||%b" % now)
        lines.append(b"TQ1|||||||||%b^^HL70485" % _PRIORITIES.get(order.priority, b"R"))
        lines.append(b"OBR||%b-%b||%b" % (placed, code, code))
    return b"\r".join([*lines, b""])


def no_work(sample: str, asked: Facts, *, control_id: bytes, now: bytes) -> bytes:
    """LAW's negative query response: the OML^O33 that says that there is nothing to do for a sample (ORC-1 DC)."""
    said = _value(sample)
    lines = (
        _head(asked, control_id, now),
        b'SPM|1|%b||""|||||||U^Unknown^HL70369' % said,
        b"SAC|||%b" % said,
        b"ORC|DC||||||||%b" % now,
    )
    return b"\r".join([*lines, b""])


def _head(asked: Facts, control_id: bytes, now: bytes) -> bytes:
    """MSH: back to whom asked, ER and AL as LAW has it: the application reply is ORL^O34."""
    names: tuple[bytes, ...] = (b"WASL", b"", b"", b"")
    route = asked.route
    if asked.is_plain:  # else they may be written with separators of their own
        names = (
            route.receiving_application,
            route.receiving_facility,
            route.sending_application,
            route.sending_facility,
        )
    names = tuple(name if name.isascii() else b"" for name in names)
    return b"|".join(
        (b"MSH|^~\\&", *names, now, b"", b"OML^O33^OML_O33", control_id, b"P", b"2.5.1", b"", b"", b"ER", b"AL", b"", b"UNICODE UTF-8", b"", b"", b"LAB-28^IHE")
    )  # fmt: skip


def _value(text: str) -> bytes:
    return escape(text.encode(), STANDARD)


def read_reply(raw: bytes) -> Answer | None:
    """The analyzer's reply (ORL^O34); None where it is none. Never raises."""
    answer = read_answer(raw)
    if answer is None:
        return None
    message = Message(raw)
    controls = takewhile(
        lambda each: each is not None, (message.get(f"ORC[{place}]-1") for place in range(1, TESTS_MAX + 1))
    )
    return answer._replace(is_unable=any(each is not None and each.strip() == _UNABLE for each in controls))
