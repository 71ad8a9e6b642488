"""Replies: message and verdict to MSH, MSA and ERR, in original mode. Never fails, whatever the message's bytes.

Nothing of the message reaches the reply without losing VT, FS, CR and LF and what is beyond a limit, so no sender can
add a segment to a reply or end its frame. MSA-2 is MSH-10 as it stands.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.check import Outcome, Verdict
from hl7.errors import NotEr7
from hl7.message import Facts, facts, header
from hl7.separators import STANDARD, Separators, escape, read_separators

COPIED_BYTES_MAX: Final = (
    1024  # of a field; HL7 2.7 ends at 227 (HD), senders go beyond; keeps a reply to a few packets
)
CONTROL_ID_BYTES_MAX: Final = 4096  # of MSH-10; HL7 2.7 ends at 199. Senders match it, so it is cut last
TEXT_BYTES_MAX: Final = 250  # ERR-8, HL7 2.15.5.8

_STRIPPED: Final = b"\x0b\x1c\r\n"  # what ends a frame or a segment
_SANE: Final = frozenset(b"!\"#$%&'()*,/:;<=>?@[\\]^_`{|}~")  # printable, and not in our time stamps: + - .
_VERSION: Final = re.compile(rb"\s*(\d{1,4})(?:\.(\d{1,4}))?")
_CODED_ERRORS_SINCE: Final = (2, 5)  # ERR-2, 3, 4 and 8; before it, ERR-1 and MSA-3
_ERROR_TEXTS: Final = {  # HL7 table 0357
    "100": b"Segment sequence error",
    "101": b"Required field missing",
    "102": b"Data type error",
    "103": b"Table value not found",
    "104": b"Value too long",
    "200": b"Unsupported message type",
    "201": b"Unsupported event code",
    "202": b"Unsupported processing id",
    "203": b"Unsupported version id",
    "204": b"Unknown key identifier",
    "205": b"Duplicate key identifier",
    "206": b"Application record locked",
    "207": b"Application internal error",
}
_NOTHING: Final = Facts(processing_id=b"P", version=b"2.5")  # a reply to bytes without MSH still has to parse


class _Complaint(NamedTuple):
    """What ERR says."""

    error_code: str
    is_warning: bool
    location: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """The writing of a reply. `is_foreign`: its field separator is not the sender's, so it may stand in their data."""

    separators: Separators
    is_foreign: bool
    opening: bytes
    field: bytes
    component: bytes


_DECLARATION_BYTES: Final = 10  # MSH, MSH-1, five characters of MSH-2, and the byte that ends it


@lru_cache(maxsize=64)  # a site speaks a handful
def _dialect(declaration: bytes) -> _Dialect:
    """Choose the sender's own separators where they are sane, else the standard ones. NotEr7 where none are usable."""
    theirs = read_separators(declaration)
    levels = [byte for byte in theirs.declared if byte is not None]
    is_printable = bool(levels) and _SANE.issuperset([theirs.field, *levels])
    is_copied = is_printable and declaration[4:].startswith((bytes([*levels, theirs.field]), bytes([*levels, *b"\r"])))
    separators = theirs if is_copied else STANDARD
    field = bytes([separators.field])
    return _Dialect(
        separators=separators,
        is_foreign=separators.field != theirs.field,
        opening=b"MSH" + field + bytes(byte for byte in separators.declared if byte is not None),
        field=field,
        component=bytes([separators.component or ord("^")]),
    )


_STANDARD: Final = _dialect(b"MSH|^~\\&|")


def acknowledge(raw: bytes, verdict: Verdict, *, control_id: str, now: str) -> bytes:
    """Write the reply to a message. `control_id`: the reply's own MSH-10. `now`: its MSH-7, an HL7 time stamp.

    AA, AE or AR as the verdict says; a warning is an AA that names it from HL7 2.5 on, where ERR has a severity.
    """
    complaint, found = None, verdict.facts
    if verdict.outcome == Outcome.ACCEPTED and found is not None and raw.startswith(b"MSH|^~\\&|"):
        quick = _accepted(found, control_id, now)
        if quick is not None:
            return quick
    if verdict.outcome != Outcome.ACCEPTED:
        is_warning = verdict.outcome == Outcome.ACCEPTED_WITH_WARNING
        complaint = _Complaint(verdict.error_code, is_warning, verdict.location, verdict.text)
    return _reply(raw, verdict.facts, verdict.ack_code, complaint, control_id, now)


def _accepted(found: Facts, control_id: str, now: str) -> bytes | None:
    """Write the plain AA, nearly all that a node ever writes, from parts that are the same for each route; None where a value needs cleaning."""
    asked = found.control_id
    if len(asked) > COPIED_BYTES_MAX or len(asked.translate(None, _STRIPPED)) != len(asked):
        return None
    route = _route(*found[:4], found.trigger_event, found.processing_id, found.version, found.character_set)
    own = f"{now}\0{control_id}"
    if route is None or not own.isascii() or not own.replace("\0", "", 1).isprintable():
        return None
    return b"".join((route[0], now.encode("ascii"), route[1], control_id.encode("ascii"), route[2], asked, b"\r"))


@lru_cache(maxsize=256)  # applications and their message types: a hospital has some tens
def _route(
    sender: bytes, sender_place: bytes, receiver: bytes, receiver_place: bytes, event: bytes, processing: bytes, version: bytes, charset: bytes
) -> tuple[bytes, bytes, bytes] | None:  # fmt: skip
    """Give what stands before the time, before the reply's id and before the sender's id; None where a value is long or holds an end of a segment."""
    found = Facts(
        sending_application=sender, sending_facility=sender_place, receiving_application=receiver, receiving_facility=receiver_place,
        trigger_event=event, processing_id=processing, version=version, character_set=charset,
    )  # fmt: skip
    if sum(map(len, found)) > COPIED_BYTES_MAX or any(
        len(each.translate(None, _STRIPPED)) != len(each) for each in found
    ):
        return None
    # neither mark can stand in a value: these bytes were just refused
    msh, msa, _ = _segments(found, _STANDARD, b"\x1c", b"\x0b", b"AA", None)
    before, _, rest = msh.partition(b"\x0b")
    middle, _, after = rest.partition(b"\x1c")
    return before, middle, after + b"\r" + msa


def refuse(raw: bytes, *, ack_code: str, error_code: str, text: str, control_id: str, now: str) -> bytes:
    """Write a reply for a reason outside the message: no room, or a frame of which only the first bytes are left."""
    return _reply(raw, None, ack_code, _Complaint(error_code, False, "", text), control_id, now)


def _reply(
    raw: bytes, found: Facts | None, ack_code: str, complaint: _Complaint | None, control_id: str, now: str
) -> bytes:
    """Write the reply as it stands, and again from clean values where the message's own do not belong into one."""
    dialect = _STANDARD
    try:
        if found is None or not raw.startswith(b"MSH|^~\\&|"):
            dialect = _dialect(header(raw)[:_DECLARATION_BYTES])
            found = found or facts(raw)
    except NotEr7:
        found = _NOTHING
    if dialect.is_foreign:
        found = Facts._make([value.replace(b"|", b"\\F\\") for value in found])
    own_id, time, code = control_id.encode("ascii", "replace"), now.encode("ascii", "replace"), ack_code.encode("ascii")
    if dialect is not _STANDARD:
        own_id = escape(_clean(own_id, COPIED_BYTES_MAX), dialect.separators)
    segments = _segments(found, dialect, own_id, time, code, complaint)
    reply = b"\r".join(segments)
    # Whatever is short and holds no byte of _STRIPPED but the CRs just written needs no second look at each value.
    if len(reply) > COPIED_BYTES_MAX or len(reply.translate(None, _STRIPPED)) != len(reply) - len(segments) + 1:
        found = Facts._make([_clean(value, COPIED_BYTES_MAX) for value in found])._replace(
            control_id=_clean(found.control_id, CONTROL_ID_BYTES_MAX)
        )
        own_id, time = _clean(own_id, COPIED_BYTES_MAX), _clean(time, COPIED_BYTES_MAX)
        reply = b"\r".join(_segments(found, dialect, own_id, time, code, complaint))
    return reply


def _segments(
    found: Facts, dialect: _Dialect, own_id: bytes, time: bytes, code: bytes, complaint: _Complaint | None
) -> tuple[bytes, ...]:
    """MSH, MSA, and ERR where there is a complaint that the version can express; an empty one, for the last CR."""
    msh = _msh(found, dialect, own_id, time)
    msa = dialect.field.join((b"MSA", code, found.control_id))
    if complaint is None:
        return msh, msa, b""
    if _has_coded_errors(found.version):
        return msh, msa, _coded_err(complaint, dialect), b""
    if complaint.is_warning:  # an ERR without a severity would read as a refusal
        return msh, msa, b""
    return msh, msa + dialect.field + _written(complaint.text, dialect), _old_err(complaint, dialect), b""


def _clean(value: bytes, bytes_max: int) -> bytes:
    return value.translate(None, _STRIPPED)[:bytes_max]


def _msh(found: Facts, dialect: _Dialect, own_id: bytes, time: bytes) -> bytes:
    """MSH of the reply: the way back, what was answered, and no MSH-15 and 16 (HL7 2.8.3.1)."""
    event = found.trigger_event
    parts: tuple[bytes, ...] = (
        dialect.opening,
        found.receiving_application,
        found.receiving_facility,
        found.sending_application,
        found.sending_facility,
        time,
        b"",
        dialect.component.join((b"ACK", event, b"ACK")) if event else b"ACK",
        own_id,
        found.processing_id,
        found.version,
    )
    if found.character_set:
        parts += b"", b"", b"", b"", b"", found.character_set
    return dialect.field.join(parts)


def _coded_err(complaint: _Complaint, dialect: _Dialect) -> bytes:
    """ERR from HL7 2.5 on: location, code, severity, text for the user."""
    code = complaint.error_code.encode("ascii", "replace")
    named = dialect.component.join((code, _ERROR_TEXTS.get(complaint.error_code, b""), b"HL70357"))
    severity = b"W" if complaint.is_warning else b"E"
    text = _written(complaint.text, dialect)
    return dialect.field.join((b"ERR", b"", _place(complaint, dialect), named, severity, b"", b"", b"", text))


def _old_err(complaint: _Complaint, dialect: _Dialect) -> bytes:
    """ERR before HL7 2.5: ERR-1 is segment, sequence, field and code."""
    code = complaint.error_code.encode("ascii", "replace")
    if dialect.separators.subcomponent is not None:
        below = bytes([dialect.separators.subcomponent])
        code = below.join((code, _ERROR_TEXTS.get(complaint.error_code, b""), b"HL70357"))
    place = _place(complaint, dialect).split(dialect.component)[:3]
    return dialect.field.join((b"ERR", dialect.component.join([*place, *[b""] * (3 - len(place)), code])))


def _place(complaint: _Complaint, dialect: _Dialect) -> bytes:
    """Write a location with the reply's separators."""
    return dialect.component.join(_written(part, dialect) for part in complaint.location.split("^"))


def _written(text: str, dialect: _Dialect) -> bytes:
    """Write a text of ours as one value."""
    return escape(text.encode("ascii", "replace")[:TEXT_BYTES_MAX], dialect.separators)


def _has_coded_errors(version: bytes) -> bool:
    """Tell whether a version, junk included, begins with 2.5 or more."""
    match = _VERSION.match(version)
    return match is not None and (int(match[1]), int(match[2] or 0)) >= _CODED_ERRORS_SINCE
