"""EDI X12 interchanges, as opaque as they may stay: what they are, their number, and the interchange acknowledgement that ISA14 asks for.

ASC X12.5: the ISA segment has fixed widths, so its separators stand at known places; TA1 answers for the envelope alone.
"""

import re
from typing import Final, NamedTuple

CONTENT_TYPE: Final = "application/edi-x12"
ISA_BYTES: Final = 106
_WIDTHS: Final = (2, 10, 2, 10, 2, 15, 2, 15, 6, 4, 1, 5, 9, 1, 1, 1)  # of ISA01 to ISA16
_TOKEN: Final = re.compile(rb"[A-Z0-9]{1,12}")
_BEGINNING_BYTES_MAX: Final = 4096  # ISA, GS and the first ST take 250
_END_BYTES_MAX: Final = 256  # IEA, and line ends behind it

ACCEPTED, WITH_ERRORS, REFUSED = "A", "E", "R"
NO_ERROR, NUMBERS_DIFFER, NO_END = "000", "001", "023"  # X12 element I18


class Isa(NamedTuple):
    """The interchange control header's elements, the separators (element, component, segment), the first transaction set, the trailer's verdict."""

    fields: tuple[bytes, ...]
    element: bytes
    component: bytes
    segment: bytes
    transaction_set: bytes
    note: str

    @property
    def control_number(self) -> str:
        """ISA13."""
        return self.fields[12].decode("ascii", "backslashreplace").strip()

    @property
    def wants_ta1(self) -> bool:
        """ISA14: 1 asks for an interchange acknowledgement."""
        return self.fields[13] == b"1"

    @property
    def is_test(self) -> bool:
        """ISA15: T for test data, I for information."""
        return self.fields[14] == b"T"

    @property
    def message_type(self) -> str:
        """Transaction set and version: "837^005010X222A1"."""
        return self.transaction_set.decode("ascii")


def is_x12(raw: bytes) -> bool:
    """Tell by the first four bytes."""
    return raw.startswith(b"ISA") and len(raw) > 3 and not raw[3:4].isalnum() and raw[3:4] not in b"\r\n\t "


def begin(raw: bytes) -> Isa | None:
    """Read the envelope; None where ISA is not as the standard has it."""
    if len(raw) < ISA_BYTES:
        return None
    element, component, segment = raw[3:4], raw[104:105], raw[105:106]
    fields = tuple(raw[4 : ISA_BYTES - 1].split(element))
    if tuple(map(len, fields)) != _WIDTHS or len({element, component, segment}) < 3 or segment.isalnum():
        return None
    return Isa(
        fields,
        element,
        component,
        segment,
        _transaction_set(raw, element, segment),
        _end(raw, fields, element, segment),
    )


def _transaction_set(raw: bytes, element: bytes, segment: bytes) -> bytes:
    """ST01 of the first transaction set, and its version: ST03, or GS08 of its group."""
    version = b""
    for each in raw[ISA_BYTES : ISA_BYTES + _BEGINNING_BYTES_MAX].split(segment):
        parts = each.lstrip(b"\r\n").split(element)
        if parts[0] == b"GS" and len(parts) > 8:
            version = parts[8].strip()
        elif parts[0] == b"ST" and len(parts) > 1:
            if len(parts) > 3:
                version = parts[3].strip()
            found = [part for part in (parts[1], version) if _TOKEN.fullmatch(part)]
            return b"^".join(found) if _TOKEN.fullmatch(parts[1]) else b""
    return b""


def _end(raw: bytes, fields: tuple[bytes, ...], element: bytes, segment: bytes) -> str:
    """What is to be said of the trailer: IEA is there and repeats the number."""
    last = raw[ISA_BYTES:][-_END_BYTES_MAX:].rstrip(b"\r\n ").removesuffix(segment).rpartition(segment)[2]
    parts = last.lstrip(b"\r\n").split(element)
    if parts[0] != b"IEA" or len(parts) != 3:
        return NO_END
    return NO_ERROR if parts[2] == fields[12] else NUMBERS_DIFFER


def acknowledge(heard: Isa, code: str, note: str, *, number: int, now: bytes) -> bytes:
    """Write an interchange that holds TA1 alone, in the sender's separators. `now`: an HL7 time stamp, YYYYMMDDHHMM…"""
    own, day, hour = b"%09d" % (number % 1_000_000_000), now[2:8], now[8:12]
    theirs = heard.fields
    isa = (
        b"ISA", *theirs[:4], theirs[6], theirs[7], theirs[4], theirs[5], day, hour, theirs[10], theirs[11], own, b"0", theirs[14],
        heard.component,
    )  # fmt: skip
    ta1 = (b"TA1", theirs[12], theirs[8], theirs[9], code.encode(), note.encode())
    segments = (isa, ta1, (b"IEA", b"0", own))
    return b"".join(heard.element.join(each) + heard.segment for each in segments)
