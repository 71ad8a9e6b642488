"""What a system says to a message that we sent it: MSA and ERR of its reply, and which reply a message asks for at all.

A reply is credited to a message only where its MSA-2 is that message's MSH-10 (HL7 2.9, 2.9.2): whoever asks compares.
"""

import re
from enum import Enum
from typing import Final, Literal, NamedTuple

from hl7.asked import asked
from hl7.errors import NotEr7
from hl7.message import Facts, Message, header
from hl7.sequence import number_of

Setting = Literal["always", "as-asked"]
"""`always`: the peer replies to every message, as most do, whatever MSH-15 says. `as-asked`: under the condition of MSH-15."""

_PLACES: Final = ("MSA-1", "MSA-2", "MSA-4", "ERR-3.1", "ERR-1.4.1")
_ERROR: Final = re.compile(rb"[0-9]{1,3}")  # HL7 table 0357; whatever else stands there may be about a patient
_NUMBER_FIELD: Final = 12  # MSH-13 in a segment that was divided at its separators: MSH-1 is the separator
_ID_FIELD: Final = 9
_TIME_FIELD: Final = 6


class Judgement(Enum):
    """What a reply means for the message that it answers (HL7 table 0008; 2.8.2.1 and 2.8.3.1)."""

    TAKEN = "taken"
    REFUSED = "refused"  # the same bytes will be refused again
    LATER = "later"  # no fault of the message: the same bytes may be taken another time


_CODES: Final = {
    "AA": Judgement.TAKEN,
    "CA": Judgement.TAKEN,
    "AE": Judgement.REFUSED,
    "CE": Judgement.REFUSED,
    "AR": Judgement.LATER,
    "CR": Judgement.LATER,
}


class Answer(NamedTuple):
    """MSA-1, MSA-2 as it stands, MSA-4 (None: no number), and the code of the first error; empty where it is no code.

    `is_unable`: a reply to orders (ORL) that says of some of them that they cannot be carried out (ORC-1 UA), whatever MSA-1 says.
    """

    code: str
    control_id: bytes
    expected: int | None
    error: str
    is_unable: bool = False

    @property
    def judgement(self) -> Judgement:
        """What it means."""
        return _CODES[self.code]


def read_answer(raw: bytes) -> Answer | None:
    """Read a reply; None where it is none. Never raises."""
    try:
        code, control_id, expected, error, old_error = Message(raw).read(_PLACES)
    except NotEr7:
        return None
    name = (code or b"").strip().decode("ascii", "replace").upper()
    if name not in _CODES:
        return None
    found = _ERROR.fullmatch(error or b"") or _ERROR.fullmatch(old_error or b"")
    return Answer(name, control_id or b"", number_of(expected or b""), found[0].decode() if found else "")


class Hope(Enum):
    """Which reply a message can hope for."""

    REPLY = "reply"
    NOTHING = "nothing"  # it asked for none
    ERROR = "error"  # only what is wrong is said: silence is consent


def hope(found: Facts, setting: Setting) -> Hope:
    """Tell which reply a peer will send. Silence where only success is told (SU) is none: it is waited for as any other."""
    if setting == "always":
        return Hope.REPLY
    condition = asked(found.route).accept
    return {b"NE": Hope.NOTHING, b"ER": Hope.ERROR}.get(condition, Hope.REPLY)


def with_number(raw: bytes, number: int) -> bytes:
    """Write a number into MSH-13; nothing else of the message changes. Raises NotEr7."""
    return _with_fields(raw, {_NUMBER_FIELD: b"%d" % number})


def link_message(raw: bytes, number: int, *, control_id: bytes, now: bytes) -> bytes:
    """An MSH alone that starts (0) or synchronises (-1) the link on which a message would go. Raises NotEr7."""
    fields = {_NUMBER_FIELD: b"%d" % number, _ID_FIELD: control_id, _TIME_FIELD: now}
    return _with_fields(header(raw).rstrip(b"\r") + b"\r", fields)


def _with_fields(raw: bytes, values: dict[int, bytes]) -> bytes:
    head = header(raw).rstrip(b"\r")
    at = raw.find(head)
    if at < 0:  # a stray LF was read as CR
        raise NotEr7("the header cannot be written in place")
    mark = head[3:4]
    fields = head.split(mark)
    fields += [b""] * (max(values) + 1 - len(fields))
    for place, value in values.items():
        fields[place] = value
    return b"".join((raw[:at], mark.join(fields), raw[at + len(head) :]))
