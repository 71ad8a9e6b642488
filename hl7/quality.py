"""What is poor in a message though it is taken: a missing civil number, a date that is still to come, a code that no table has.

These are counted for the people of the site, never refused: a rule that refuses stands in `hl7.check`.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, Literal, NamedTuple

from hl7.civil_number import CivilNumber
from hl7.escapes import NO_LOCAL, local_sequences
from hl7.message import Message, Path
from hl7.routing import values_at
from hl7.separators import Separators

What = Literal["missing", "invalid", "future", "not-a-date", "unknown-code", "local-escape"]
VALUES_MAX: Final = 64  # of one place: what is wrong in a sender's first results is wrong in all of them

_NULL: Final = b'""'
_HEADERS: Final = frozenset(("MSH", "FHS", "BHS"))  # their first separator is a field itself
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_DATE: Final = re.compile(
    rb"\d{4}(?:(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12]\d|3[01])(?:[0-2]\d(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,4})?)?)?)?)?)?(?:[+-]\d{4})?"
)
_TABLES: Final[dict[str, frozenset[bytes]]] = {
    "PID-8": frozenset(b"A F M N O U X".split()),  # HL7 table 0001
    "PV1-2": frozenset(b"B C E I N O P R U".split()),  # 0004
    "OBX-11": frozenset(b"A B C D F I N O P R S U V W X".split()),  # 0085
}
_DATES: Final = ("MSH-7", "PID-7", "OBR-7", "OBX-14")
_NEEDED: Final = (  # of a message that has the segment at all
    ("MSH", ("MSH-7", "MSH-10")),
    ("PID", ("PID-5", "PID-7", "PID-8")),
    ("PV1", ("PV1-2",)),
    ("OBR", ("OBR-4",)),
    ("OBX", ("OBX-3", "OBX-11")),
)
_PATHS: Final = {
    path: Path.parse(path) for path in {*_TABLES, *_DATES, *(path for _, paths in _NEEDED for path in paths)}
}


class Finding(NamedTuple):
    """A place and what is wrong with what stands there; never the value itself."""

    place: str
    what: What


def look(
    raw: bytes, *, tomorrow: bytes, civil: CivilNumber | None = None, local: Mapping[str, str] = NO_LOCAL
) -> list[Finding]:
    """Give what is poor in a message, each finding once. `tomorrow`: the day, YYYYMMDD, from which on a date is in the future. Raises NotEr7.

    `local`: the feed's table of local escape sequences; one that it does not have is a sign that readers will not see.
    """
    message = Message(raw)
    names = {name for name, _ in message.segments()}
    found = [Finding(place, "missing") for place in _missing(message, names)]
    if civil is not None and b"PID" in names:
        number = civil.find(message)
        if number is None:
            found.append(Finding("PID-3", "missing"))
        elif not civil.is_valid(number):
            found.append(Finding("PID-3", "invalid"))
    for place in _DATES:
        found += {Finding(place, what) for what in _wrong_dates(_values(message, place), tomorrow)}
    for place, table in _TABLES.items():
        if any(value not in table for value in _values(message, place)):
            found.append(Finding(place, "unknown-code"))
    found += [Finding(place, "local-escape") for place in _unexplained(raw, message.separators, local)]
    return found


def _unexplained(raw: bytes, separators: Separators, local: Mapping[str, str]) -> list[str]:
    """Give the fields that hold a local escape sequence which the table does not have."""
    mark = bytes([separators.field])
    places: dict[str, None] = {}
    for at, name in islice(local_sequences(raw, separators), VALUES_MAX):
        start = max(raw.rfind(b"\r", 0, at), raw.rfind(b"\n", 0, at)) + 1
        segment = raw[start : start + 3].decode("ascii", "replace")
        number = raw.count(mark, start, at) + (segment in _HEADERS)
        if name not in local and _SEGMENT.fullmatch(segment):
            places[f"{segment}-{number}"] = None
    return list(places)


def _missing(message: Message, names: set[bytes]) -> Iterator[str]:
    for segment, places in _NEEDED:
        if segment.encode() in names:
            yield from (place for place in places if not any(True for _ in _values(message, place)))


def _values(message: Message, place: str) -> list[bytes]:
    """Give the first components at a place that hold something."""
    mark = message.separators.component
    values = (
        value if mark is None else value.split(bytes([mark]), 1)[0] for value in values_at(message, _PATHS[place])
    )
    return [value for value in islice(values, VALUES_MAX) if value and value != _NULL]


def _wrong_dates(values: list[bytes], tomorrow: bytes) -> Iterator[What]:
    for value in values:
        if not _DATE.fullmatch(value):
            yield "not-a-date"
        elif value[:8].ljust(8, b"0") >= tomorrow:
            yield "future"
