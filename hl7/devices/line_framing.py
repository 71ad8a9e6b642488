"""A line's framing as `[link]` of a profile says it, and what a stored report says without its frame."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hl7.devices.line_view import NAMES
from hl7.devices.lines import CHECK_BYTES, ETX, STX, Framing, LineReader, line_mark

KIB: Final = 1024
REPORT_KB_MAX: Final = (
    128  # a urine analyzer prints 2 kB, a temperature logger's memory 100 kB: more is a line whose end was set wrong
)
PAUSE_MS: Final = 1000  # between two lines of a print at 9600 baud lie 100 ms; between two prints, a hand
GIVEN_UP_MS: Final = (
    10_000  # no device stops for so long inside a report, unless it has ended otherwise than we were told
)
BYTE_FORM: Final = 'a byte: a name such as "STX", one character such as "=", or a number such as 0x02'


class NotOneReport(Exception):
    """A body is not the one whole report that the framing wants. Its text says why, and holds nothing of the body."""


def byte_of(value: object) -> int:
    """Return the byte that a key names. Raises ValueError."""
    if type(value) is int and 0 <= value <= 255:
        return value
    if isinstance(value, str) and value in NAMES:
        return NAMES.index(value)
    if isinstance(value, str) and len(value) == 1 and value.isascii():
        return ord(value)
    raise ValueError(f"must be {BYTE_FORM}")


def framing_of(link: Mapping[str, Any]) -> Framing:
    """Return how a feed with these keys, and none of its own, cuts reports out of its line. The keys have been judged (link_keys)."""
    ends = link.get("ends", "lines")
    quiet_ms = link.get("quiet_ms") or (PAUSE_MS if ends == "pause" else GIVEN_UP_MS)
    return Framing(
        ends=ends, line_end=link.get("line_end", "any"), start=byte_of(link["start"]) if "start" in link else None,
        end=byte_of(link.get("end", ETX)), length=link.get("length", 0), quiet_s=quiet_ms / 1000, check=link.get("check", "none"),
        covers=link.get("covers", "text-and-end"), report_bytes_max=REPORT_KB_MAX * KIB,
    )  # fmt: skip


def differing(one: Framing, other: Framing) -> tuple[str, ...]:
    """Name the keys by which two framings cut or check reports otherwise. How long a pause is, is the line's: no stored report shows it."""
    mine, theirs = _used(one), _used(other)
    return tuple(key for key in dict.fromkeys((*mine, *theirs)) if mine.get(key) != theirs.get(key))


def _used(framing: Framing) -> dict[str, Any]:
    """The keys that mean anything beside the others."""
    ends, is_checked = framing.ends, framing.check != "none"
    by_end: dict[str, dict[str, Any]] = {
        "lines": {"line_end": framing.line_end},
        "block": {"end": framing.end, **({"covers": framing.covers} if is_checked else {})},
        "fixed": {"length": framing.length},
    }
    start = STX if framing.start is None and ends == "block" else framing.start
    return {"ends": ends, "start": start, "check": framing.check, **by_end.get(ends, {})}


def content(body: bytes, framing: Framing) -> bytes:
    """Return what a report says: without its check value, and without the control characters that it begins and ends with.

    Raises NotOneReport where the body is something else: results of two reports have two patients, and a digit under a check value
    that does not fit is not what was measured. A printable start or end is text too, and stays.
    """
    if framing.ends == "pause" or (framing.ends == "lines" and framing.check == "none"):
        return body
    reader = LineReader(replace(framing, report_bytes_max=max(1, len(body))))
    reports = [*reader.receive(body, 0.0), *reader.cut()]
    faults = [each.fault.code for each in reports if each.fault is not None]
    if len(reports) != 1 or faults or reader.noise_bytes:
        raise NotOneReport(
            f"by the profile's [link] it is not one whole report, but {len(reports)}"
            + (f", of them not whole: {', '.join(sorted(set(faults)))}" if faults else "")
            + (f", and {reader.noise_bytes} bytes outside of any" if reader.noise_bytes else "")
        )
    text = reports[0].head
    if framing.ends == "lines":
        text = text[: -len(line_mark(framing))]
    text = text[: len(text) - CHECK_BYTES[framing.check]]
    if framing.ends == "block" and _is_control(framing.end):
        text = text[:-1]
    begins = reader.start
    return text[1:] if begins is not None and _is_control(begins) else text


def _is_control(byte: int) -> bool:
    return byte < 0x20 or byte == 0x7F
