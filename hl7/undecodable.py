"""Where a message stops being text of its character set: the field that a reply's ERR-2 and the record's detail name. Linear in the message."""

import re
from typing import Final

from hl7.charsets import Charset, hides_separators
from hl7.escapes import Flag, Writing, plain
from hl7.separators import HEADERS, Separators, start_of

SWITCHES_MAX: Final = 1000  # fields that are looked into because they switch to another set; a name has one or two. Beyond: a warning too many
LINES_MAX: Final = 100  # LFs within one field, passed over on the way to its segment's name

_SWITCH: Final = re.compile(rb"[CM][0-9A-Fa-f]{4}")
_NAME: Final = re.compile(rb"[A-Z][A-Z0-9]{2}")
_UNKNOWN_PLACE: Final = "MSH^1^18"  # the declaration, where no field can be named


def place_of_undecodable(raw: bytes, charset: Charset, separators: Separators) -> str | None:
    """Give ERR-2 of the first field with bytes that are no text; None where all is text, as far as switches to other sets make it so."""
    at, view, writing = 0, memoryview(raw), None
    for _ in range(SWITCHES_MAX):
        try:
            str(view[at:], charset.codec)
            return None
        except UnicodeDecodeError as error:
            bad = at + error.start
        except UnicodeError:  # idna and the like do not say where
            return _UNKNOWN_PLACE
        start, end = _field_around(raw, bad, separators)
        if _SWITCH.search(raw, start, end) is None or hides_separators(charset.codec):
            break
        writing = writing or Writing(separators, charset._replace(instead=""), charset.codec)
        if plain(raw[start:end], writing)[1] & Flag.UNDECODABLE:
            break
        at = end
    return place_of(raw, bad, charset.codec, separators)


def _field_around(raw: bytes, at: int, separators: Separators) -> tuple[int, int]:
    """Give (start, end) of the field in which a byte stands."""
    mark = bytes([separators.field])
    start = max(raw.rfind(each, 0, at) for each in (mark, b"\r", b"\n")) + 1
    ends = [found for each in (mark, b"\r", b"\n") if (found := raw.find(each, at)) >= 0]
    return start, min(ends, default=len(raw))


def place_of(raw: bytes, at: int, codec: str, separators: Separators) -> str:
    """Write where a byte stands, as ERR-2 does: segment^occurrence^field, and repetition^component^subcomponent behind the first ones."""
    mark = bytes([separators.field])
    start = _segment_around(raw, at, mark)
    if start is None:
        return _UNKNOWN_PLACE
    name = raw[start : start + 3]
    before = 1 + sum(raw.count(each + name + mark, 0, start) for each in (b"\r", b"\n"))
    before += raw.startswith(name + mark, start_of(raw)) and start > start_of(raw)
    text = raw[start:at].decode(codec, "replace") if hides_separators(codec) else raw[start:at].decode("latin-1")
    *fields, rest = text.split(chr(separators.field))
    numbers = [before, len(fields) + (name in HEADERS)]
    repetition, rest = _behind(rest, separators.repetition)
    component, rest = _behind(rest, separators.component)
    subcomponent, _ = _behind(rest, separators.subcomponent)
    if subcomponent > 1:
        numbers += repetition, component, subcomponent
    elif component > 1:
        numbers += repetition, component
    elif repetition > 1:
        numbers.append(repetition)
    return "^".join([name.decode("ascii"), *map(str, numbers)])


def _segment_around(raw: bytes, at: int, mark: bytes) -> int | None:
    """Give the start of the segment in which a byte stands; behind a LF among CRs, a line without a segment's name belongs to the one before."""
    end = at
    for _ in range(LINES_MAX):
        start = max(raw.rfind(b"\r", 0, end), raw.rfind(b"\n", 0, end)) + 1 or start_of(raw)
        if _NAME.match(raw, start) and raw[start + 3 : start + 4] == mark:
            return start
        if start <= start_of(raw) or raw[start - 1] != 0x0A or b"\r" not in raw:
            return None
        end = start - 1
    return None


def _behind(text: str, mark: int | None) -> tuple[int, str]:
    """Count the part in which a text ends, from 1, and give what of it is there."""
    if mark is None:
        return 1, text
    *parts, last = text.split(chr(mark))
    return len(parts) + 1, last
