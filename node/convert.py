"""`wasl convert`: files of messages or Bundles shown as the converter sees them."""

import re
from collections.abc import Iterator
from typing import Final

from hl7.convert.json_text import dumps
from hl7.convert.result import CannotConvert, Settings, Unmapped
from hl7.convert.to_fhir import convert
from hl7.convert.to_v2 import from_json
from node.zones import zone_of

NOT_HL7: Final = "what a device sent in another language is read with --profile (`wasl devices list`)"
Shown = tuple[list[str], list[str], bool]  # what is converted, what is said of the rest, and whether all was converted


class BadSetting(Exception):
    """An option is no zone or no character set."""


def settings_of(*, zone: str, charset: str, facility: str) -> Settings:
    """Return the settings that the options name; BadSetting where one names nothing."""
    try:
        b"MSH".decode(charset or "utf-8")
    except (LookupError, UnicodeError) as error:
        raise BadSetting(f"not a character set: {charset}") from error
    try:
        return Settings(zone=zone_of(zone), charset=charset, facility=facility)
    except ValueError as error:
        raise BadSetting(f"not a zone: {zone}; write +03:00 or Asia/Riyadh") from error


def messages_in(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a file, which may be framed, and whose lines may end in LF or CRLF."""
    bare = data.lstrip(b"\xef\xbb\xbf").replace(b"\x0b", b"").replace(b"\x1c\r", b"\r").replace(b"\x1c", b"")
    lines = bare.replace(b"\r\n", b"\r")
    if b"\r" not in lines:
        lines = lines.replace(b"\n", b"\r")
    for part in re.split(rb"[\r\n]+(?=MSH)", lines.lstrip(b"\r\n \t")):
        if part.strip():
            yield part


def to_fhir(data: bytes, settings: Settings) -> Shown:
    """Convert every message of a file."""
    shown: list[str] = []
    left: list[str] = []
    is_whole = True
    for number, raw in enumerate(messages_in(data), start=1):
        try:
            found = convert(raw, settings)
        except CannotConvert as error:
            left.append(f"message {number}: not converted ({error.code}): {error}")
            if error.code == "no-header":
                left.append(f"  {NOT_HL7}")
            is_whole = False
            continue
        shown.append(dumps(found.bundle, indent=2))
        count = len(found.bundle["entry"])
        left.append(f"message {number}: {count} resources; {len(found.unmapped)} values stand in none")
        left += [f"  {note}" for note in found.notes]
        left += _lines(found.unmapped)
    return shown, left, is_whole


def to_v2(data: bytes, settings: Settings) -> Shown:
    """Convert the orders and reports of a Bundle or resource."""
    try:
        made = from_json(data, settings)
    except CannotConvert as error:
        return [], [f"not converted ({error.code}): {error}"], False
    left = [f"{len(made.messages)} messages; {len(made.unmapped)} elements stand in none", *_lines(made.unmapped)]
    return [raw.decode(settings.charset or "utf-8").replace("\r", "\n") for raw in made.messages], left, True


def _lines(unmapped: tuple[Unmapped, ...]) -> list[str]:
    return [f"  {each.path}: {each.reason}: {each.text}" for each in unmapped]
