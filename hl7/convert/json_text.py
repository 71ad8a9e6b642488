"""JSON with numbers as they were sent: 72.50 stays 72.50, which neither float nor the usual encoder keeps."""

import json
import re
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from native import json_text

_DECIMAL: Final = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*))?([eE][+-]?\d{1,3})?", re.ASCII)
_DIGITS_MAX: Final = 40  # FHIR asks for 18; longer ones are identifiers in a number's clothes


class Number:
    """A JSON number by its digits."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.digits == self.digits

    def __hash__(self) -> int:
        return hash(self.digits)

    def __repr__(self) -> str:
        return f"Number({self.digits!r})"


def number(text: str) -> Number | None:
    """Return the number with the digits it was sent with, written as JSON wants it; None where it is none."""
    match = _DECIMAL.fullmatch(text) if len(text) <= _DIGITS_MAX else None
    if match is None or not (match[2] or match[3] or text.strip("+-.")):
        return None
    sign, whole, fraction, exponent = match.groups()
    return Number(
        ("-" if sign == "-" else "") + (whole or "0") + (f".{fraction}" if fraction else "") + (exponent or "")
    )


def whole(text: str) -> int | None:
    """Return a count as a number; None for whatever is not written in at most nine digits: "²" is a digit to Python, and no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


# A lone surrogate: no codec's text holds one, so it can stand around digits until the quotes are taken off them. Where
# a text holds one all the same (JSON may, by an escape), the count differs and the slow writer is asked.
_MARK: Final = "\ud800"


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write a value: no blanks unless `indent` is set, text as it is, numbers digit by digit."""
    if indent is None:
        try:
            return json_text(value, Number).decode()
        except (TypeError, UnicodeEncodeError):
            pass  # a float, or a surrogate
    count = 0

    def marked(each: Any) -> str:
        nonlocal count
        count += 1
        if isinstance(each, Number):
            return f"{_MARK}{each.digits}{_MARK}"
        raise TypeError(f"not a JSON value: {type(each).__name__}")

    text = json.dumps(
        value,
        ensure_ascii=False,
        separators=(",", ":" if indent is None else ": "),
        default=marked,
        check_circular=False,
        indent=indent,
    )
    found = text.count(_MARK)
    if found != 2 * count:
        out: list[str] = []
        _write(value, out)
        return "".join(out)
    return text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "") if found else text


def _write(value: Any, out: list[str]) -> None:
    """Write piece by piece what holds the mark itself; such text is escaped, as UTF-8 has no lone surrogates."""
    if isinstance(value, dict):
        mark = "{"
        for name, each in value.items():
            out.append(f"{mark}{encode_basestring_ascii(name)}:")
            _write(each, out)
            mark = ","
        out.append("}" if mark == "," else "{}")
    elif isinstance(value, list):
        mark = "["
        for each in value:
            out.append(mark)
            _write(each, out)
            mark = ","
        out.append("]" if mark == "," else "[]")
    elif isinstance(value, Number):
        out.append(value.digits)
    else:
        out.append(json.dumps(value))


def loads(text: str | bytes) -> Any:
    """Read JSON and keep the digits of its numbers; ValueError on NaN, infinities and what is no JSON."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"not a JSON number: {name}")
