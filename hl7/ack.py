"""Replies: message and verdict to MSH, MSA and ERR, in original mode. Never fails, whatever the message's bytes.

Nothing of the message reaches the reply without losing VT, FS, CR and LF and what is beyond a limit, so no sender can
add a segment to a reply or end its frame. MSA-2 is MSH-10 as it stands.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.check import Outcome, Verdict
from hl7.errors import NotEr7
from hl7.message import Facts, Route, facts, header
from hl7.salvage import salvage
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
_ACCEPTED: Final = Outcome.ACCEPTED
_NEVER, _ALWAYS = b"NE", b"AL"  # HL7 table 0155


class _Complaint(NamedTuple):
    """What ERR says."""

    error_code: str
    is_warning: bool
    location: str
    text: str


class _Form(NamedTuple):
    """MSA-1, the reply's own MSH-10 and MSH-7, MSA-4, and of an application reply of enhanced mode its MSH-15."""

    code: bytes
    own_id: bytes
    time: bytes
    expected: bytes = b""
    asks: bytes = b""


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


def acknowledge(
    raw: bytes, verdict: Verdict, *, control_id: bytes, now: bytes, ack_code: str = "", expected: bytes = b"", is_application: bool = False,
    is_apart: bool = False,
) -> bytes:  # fmt: skip
    """Write the reply to a message. `control_id`: the reply's own MSH-10. `now`: its MSH-7, an HL7 time stamp. Both printable ASCII.

    MSA-1 is `ack_code`, or else AA, AE or AR as the verdict says; a warning is an AA (CA) that names it from HL7 2.5 on, where ERR has a
    severity. `expected` is MSA-4 (2.9.1). An application reply of enhanced mode asks for no application reply itself (2.8.3.2); for an accept
    reply only where it `is_apart`: a message of its own on another connection, which is kept until somebody says that he has it.
    """
    complaint, found = None, verdict.facts
    if verdict.outcome is not _ACCEPTED:
        is_warning = verdict.outcome == Outcome.ACCEPTED_WITH_WARNING
        complaint = _Complaint(verdict.error_code, is_warning, verdict.location, verdict.text)
    elif (
        found is not None and found.is_plain and not (expected or is_application)
    ):  # nearly all that a node ever writes
        before, middle, after = _accepting(found.route, ack_code or "AA")
        return b"".join((before, now, middle, control_id, after, found.control_id, b"\r"))
    asks = (_ALWAYS if is_apart else _NEVER) if is_application else b""
    form = _Form((ack_code or verdict.ack_code).encode("ascii"), control_id, now, expected, asks)
    return _reply(raw, verdict.facts, complaint, form)


@lru_cache(maxsize=256)  # one for each sender and type: a hospital has some tens
def _accepting(route: Route, ack_code: str) -> tuple[bytes, bytes, bytes]:
    """Give what stands in a plain AA or CA before the time, before the reply's id and before the sender's id."""
    # neither mark can stand in a plain header
    form = _Form(ack_code.encode("ascii"), b"\x1c", b"\x0b")
    msh, msa, _ = _segments(Facts(route, b""), _STANDARD, form, None)
    before, _, rest = msh.partition(b"\x0b")
    middle, _, after = rest.partition(b"\x1c")
    return before, middle, after + b"\r" + msa


def refuse(
    raw: bytes, *, ack_code: str, error_code: str, text: str, control_id: bytes, now: bytes, expected: bytes = b""
) -> bytes:  # fmt: skip
    """Write a reply for a reason outside the message: no room, or a frame of which only the first bytes are left."""
    form = _Form(ack_code.encode("ascii"), control_id, now, expected)
    return _reply(raw, None, _Complaint(error_code, False, "", text), form)


def _reply(raw: bytes, found: Facts | None, complaint: _Complaint | None, form: _Form) -> bytes:
    """Write the reply as it stands, and again from clean values where the message's own do not belong into one."""
    dialect = _STANDARD
    try:
        if found is None or not raw.startswith(b"MSH|^~\\&|"):
            dialect = _dialect(header(raw)[:_DECLARATION_BYTES])
            found = found or facts(raw)
    except NotEr7:
        found = _rewritten(salvage(raw), _without_mark)
    if dialect.is_foreign:
        found = _rewritten(found, _without_mark)
    if dialect is not _STANDARD:
        form = form._replace(own_id=escape(_clean(form.own_id, COPIED_BYTES_MAX), dialect.separators))
    segments = _segments(found, dialect, form, complaint)
    reply = b"\r".join(segments)
    # Whatever is short and holds no byte of _STRIPPED but the CRs just written needs no second look at each value.
    if len(reply) > COPIED_BYTES_MAX or len(reply.translate(None, _STRIPPED)) != len(reply) - len(segments) + 1:
        route = _rewritten(found, lambda value: _clean(value, COPIED_BYTES_MAX)).route
        found = Facts(route, _clean(found.control_id, CONTROL_ID_BYTES_MAX))
        form = form._replace(
            own_id=_clean(form.own_id, COPIED_BYTES_MAX), time=_clean(form.time, COPIED_BYTES_MAX),
            expected=_clean(form.expected, COPIED_BYTES_MAX),
        )  # fmt: skip
        reply = b"\r".join(_segments(found, dialect, form, complaint))
    return reply


def _segments(found: Facts, dialect: _Dialect, form: _Form, complaint: _Complaint | None) -> tuple[bytes, ...]:
    """MSH, MSA, and ERR where there is a complaint that the version can express; an empty one, for the last CR."""
    msh = _msh(found.route, dialect, form)
    says_more = complaint is not None and not (complaint.is_warning or _has_coded_errors(found.route.version))
    msa = _msa(found.control_id, dialect, form, complaint.text if complaint and says_more else "")
    if complaint is None:
        return msh, msa, b""
    if _has_coded_errors(found.route.version):
        return msh, msa, _coded_err(complaint, dialect), b""
    if complaint.is_warning:  # an ERR without a severity would read as a refusal
        return msh, msa, b""
    return msh, msa, _old_err(complaint, dialect), b""


def _msa(control_id: bytes, dialect: _Dialect, form: _Form, text: str) -> bytes:
    """MSA: code, the sender's id, where it is asked for a text (before 2.5), and which number is expected."""
    parts = [b"MSA", form.code, control_id]
    if text or form.expected:
        parts.append(_written(text, dialect))
    if form.expected:
        parts.append(form.expected)
    return dialect.field.join(parts)


def _rewritten(found: Facts, write: Callable[[bytes], bytes]) -> Facts:
    return Facts(Route._make(map(write, found.route)), write(found.control_id))


def _without_mark(value: bytes) -> bytes:
    """Write a value of another dialect so that it is one in the usual one."""
    return value.replace(b"|", b"\\F\\")


def _clean(value: bytes, bytes_max: int) -> bytes:
    return value.translate(None, _STRIPPED)[:bytes_max]


def _msh(route: Route, dialect: _Dialect, form: _Form) -> bytes:
    """MSH of the reply: the way back, what was answered; no MSH-15 and 16 (HL7 2.8.3.1) but NE in an application reply (2.8.3.2)."""
    event = route.trigger_event
    parts: tuple[bytes, ...] = (
        dialect.opening,
        route.receiving_application,
        route.receiving_facility,
        route.sending_application,
        route.sending_facility,
        form.time,
        b"",
        dialect.component.join((b"ACK", event, b"ACK")) if event else b"ACK",
        form.own_id,
        route.processing_id,
        route.version,
    )
    if form.asks:
        parts += b"", b"", form.asks, _NEVER
    if route.character_set:
        parts += *[b""] * (16 - len(parts)), route.character_set
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
