"""JSON of a device, digit by digit: numbers keep the digits they came with, NaN and infinities are texts, depth and size are bounded."""

import json
from typing import Any, Final

from hl7.convert.json_text import Number
from hl7.devices.readings import NoReadings

BYTES_MAX: Final = 16 * 1024 * 1024  # what the feeds take at most
DEPTH_MAX: Final = 40  # payloads of telemetry go 6 deep; keeps a nest of brackets from exhausting the stack
VALUES_MAX: Final = 500_000  # a gateway's hour of 100 monitors at 1 Hz


def load(body: bytes) -> Any:
    """Read JSON in UTF-8. Raises NoReadings."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > VALUES_MAX:
        raise NoReadings(f"more than {VALUES_MAX} values")
    try:
        value = json.loads(
            body.removeprefix(b"\xef\xbb\xbf").decode(), parse_float=Number, parse_int=Number, parse_constant=str
        )
    except UnicodeDecodeError as error:
        raise NoReadings(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NoReadings(f"not JSON at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NoReadings(f"deeper than {DEPTH_MAX}") from None
    if not _is_within(value):
        raise NoReadings(f"deeper than {DEPTH_MAX}")
    return _as_text(value) if b"\\u" in body else value


def _as_text(value: Any) -> Any:
    """Put U+FFFD for the half of a surrogate pair: an escape can write it, and no charset has it."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_as_text(name): _as_text(child) for name, child in value.items()}
    return [_as_text(child) for child in value] if isinstance(value, list) else value


def _is_within(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False


def text_of(value: Any) -> str:
    """Return a simple value as the text it was sent with; "" for null, objects and lists."""
    if isinstance(value, Number):
        return value.digits
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""


def whole_number(value: Any) -> int | None:
    """Return a whole number of at most 18 digits, else None."""
    digits = value.digits if isinstance(value, Number) else ""
    return int(digits) if digits.removeprefix("-").isdecimal() and len(digits) <= 18 else None
