"""What a damaged header still says of its sender, for the reply only: so that who waits for an answer can match it. The verdict stays HL7-01.

Damage that is known: bytes before MSH, MSH behind other segments, small letters, no separator or a letter in its place. The message type is the
anchor: as a header has them, the id follows it and the sender stands six and five fields before. Where there is none, nothing is guessed.
"""

import re
from itertools import islice
from typing import Final

from hl7.message import Facts, Route

LOOKED_AT_BYTES_MAX: Final = 4096  # as much as is kept of a broken frame (mllp.HEAD_BYTES); holds any real MSH
HEADERS_MAX: Final = 8  # places where the letters MSH stand, each looked at: a damaged header is among the first
FIELDS_MAX: Final = 32  # MSH has 29 at most

_HEADER: Final = re.compile(rb"MSH", re.IGNORECASE)
_SEPARATORS: Final = (
    b"|^$%!#*;@~&\t"  # seen as field separators, the usual one first; a letter is tried only after them
)
_PLACES: Final = (
    8,
    7,
    6,
    5,
    9,
)  # of MSH-9 behind the letters MSH: as it should be, up to three fields lost, one too many
_TYPE: Final = re.compile(
    rb"(?:ACK|ADT|DFT|MDM|OML|ORL|ORM|ORR|ORU|OUL|QBP|QRY|RSP|SIU|VXU"  # which stand there without an event, too
    rb"|[A-Z][A-Z0-9]{2}(?=[^A-Za-z0-9][A-Z]))(?:[^A-Za-z0-9]([A-Z][A-Z0-9]{2})(?:[^A-Za-z0-9][A-Z0-9_]{0,20})?)?",
    re.IGNORECASE,
)


def salvage(raw: bytes) -> Facts:
    """Give MSH-3, 4, 9 and 10 as far as they stand in the first bytes; all empty where no message type does. Never raises."""
    head = raw[:LOOKED_AT_BYTES_MAX]
    for found in islice(_HEADER.finditer(head), HEADERS_MAX):
        line = re.split(rb"[\r\n\x0b\x1c]", head[found.end() :], maxsplit=1)[0]
        for mark in _marks(line):
            fields = line.split(mark, FIELDS_MAX)
            for at in _PLACES:
                if at + 1 < len(fields) and _TYPE.fullmatch(fields[at].strip(b" ")):
                    return _facts(fields, at)
    return Facts(Route(processing_id=b"P", version=b"2.5"), b"")  # a reply still has to parse


def _marks(line: bytes) -> list[bytes]:
    """Give what may separate the fields: the usual ones that stand in it, then whatever stands where MSH-1 should."""
    marks = [bytes([mark]) for mark in _SEPARATORS if mark in line]
    return marks + ([line[:1]] if line[:1] not in marks and line[:1].strip() else [])


def _facts(fields: list[bytes], at: int) -> Facts:
    """Read the fields around MSH-9. What follows the id is not looked at: where one field was lost, another may be."""
    application, facility = (fields[number] if number >= 0 else b"" for number in (at - 6, at - 5))
    message_type = fields[at].strip(b" ")
    event = _TYPE.fullmatch(message_type)
    route = Route(
        sending_application=application,
        sending_facility=facility,
        message_type=message_type,
        message_code=message_type[:3],
        trigger_event=(event[1] or b"") if event else b"",
        processing_id=b"P",
        version=b"2.5",
    )
    return Facts(route, fields[at + 1])
