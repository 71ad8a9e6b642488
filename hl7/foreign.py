"""What comes through an HL7 v2 port and is something else: told by its first byte, typed, and answered in its own way. The bytes stay as they came."""

from typing import Final, NamedTuple

from hl7 import v3, x12
from hl7.check import Outcome, Verdict, verdict_of
from hl7.errors import EnvelopeUnreadable, Hl7Error, XmlUnread
from hl7.signatures import Mark, in_xml
from hl7.xml_reader import XmlTrouble

XML: Final = "application/xml"
_LEADING: Final = b" \t\r\n\xef\xbb\xbf"
_FIRST: Final = frozenset(b"<I" + _LEADING)
_BOM: Final = b"\xef\xbb\xbf"
_ACCEPTED: Final = Verdict(Outcome.ACCEPTED, "", "AA", "", "", "", None)


class Foreign(NamedTuple):
    """What it is, its verdict, what names it, and the part of its envelope that a reply needs."""

    content_type: str
    message_type: str
    control_id: str
    is_test: bool
    verdict: Verdict
    envelope: v3.Beginning | x12.Isa | None = None
    signatures: tuple[Mark, ...] = ()


def recognise(raw: bytes) -> Foreign | None:
    """Tell what a message is that is no ER7; None where nobody knows. Never raises. Looks at the first 64 KiB, and for signatures at all of it."""
    if not raw or raw[0] not in _FIRST:
        return None
    start = raw.lstrip(_LEADING)
    if start.startswith(b"<"):
        return _xml(raw[len(raw) - len(start) :])
    return _interchange(start) if x12.is_x12(start) else None


def _xml(raw: bytes) -> Foreign | None:
    try:
        found = v3.begin(raw)
    except XmlTrouble:
        return Foreign(XML, "", "", False, verdict_of(XmlUnread, "", None), None, in_xml(raw))
    if found is None:
        return None
    marks = in_xml(raw)
    return Foreign(found.content_type, found.message_type, str(found.id), found.is_test, _ACCEPTED, found, marks)


def _interchange(raw: bytes) -> Foreign:
    found = x12.begin(raw)
    if found is None:
        return _unreadable_interchange(EnvelopeUnreadable)
    verdict = _ACCEPTED if found.note == x12.NO_ERROR else verdict_of(EnvelopeUnreadable, "IEA", None)
    return Foreign(x12.CONTENT_TYPE, found.message_type, found.control_number, found.is_test, verdict, found)


def _unreadable_interchange(error: type[Hl7Error]) -> Foreign:
    return Foreign(x12.CONTENT_TYPE, "", "", False, verdict_of(error, "ISA", None))


# ---- replies ----------------------------------------------------------------------------------------------------------------------
def reply_to(found: Foreign, outcome: Outcome, *, number: int, own_id: str, now: bytes, text: str = "") -> bytes | None:
    """The reply in the sender's own language once it is stored or refused; b"" where it wants none, None where it has none: then ER7's AA or AE stands in."""
    envelope = found.envelope
    if isinstance(envelope, v3.Beginning) and not envelope.is_document and envelope.id.root:
        code = "CE" if outcome is Outcome.REJECTED else "CA"
        if not is_wanted(envelope.accept_ack, code):
            return b""
        return v3.acknowledge(envelope, code, own_id=own_id, now=now.decode("ascii"), text=text)
    if isinstance(envelope, x12.Isa) and envelope.wants_ta1 and outcome is not Outcome.REJECTED:
        code = x12.ACCEPTED if envelope.note == x12.NO_ERROR else x12.WITH_ERRORS
        return x12.acknowledge(envelope, code, envelope.note, number=number, now=now)
    return None


def reply_no_room(found: Foreign, *, own_id: str, now: bytes, text: str) -> bytes | None:
    """The reply where it is not stored: CE to a message; b"" where its sender wants to hear nothing; None where it has no word for it.

    TA1 has none: "rejected" would tell a sender to mend what is good. It gets no TA1, and sends again.
    """
    envelope = found.envelope
    if isinstance(envelope, v3.Beginning) and not envelope.is_document and envelope.id.root:
        if not is_wanted(envelope.accept_ack, "CE"):
            return b""
        return v3.acknowledge(envelope, "CE", own_id=own_id, now=now.decode("ascii"), text=text)
    return None


def is_wanted(condition: str, code: str) -> bool:
    """Whether acceptAckCode (AL, NE, ER, SU; absent: AL) asks for this accept reply."""
    if condition == "NE":
        return False
    return (code != "CA") if condition == "ER" else (code == "CA") if condition == "SU" else True
