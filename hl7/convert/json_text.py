"""JSON with numbers as they were sent: 72.50 stays 72.50, which neither float nor the usual encoder keeps."""

import json
import re
from json.encoder import encode_basestring
from typing import Any, Final

_DECIMAL: Final = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*))?([eE][+-]?\d{1,3})?")
_DIGITS_MAX: Final = 40  # FHIR asks for 18; longer ones are identifiers in a number's clothes


class Number(str):
    """A JSON number as text."""

    __slots__ = ()


def number(text: str) -> Number | None:
    """Return the number with the digits it was sent with, written as JSON wants it; None where it is none."""
    match = _DECIMAL.fullmatch(text) if len(text) <= _DIGITS_MAX else None
    if match is None or not (match[2] or match[3] or text.strip("+-.")):
        return None
    sign, whole, fraction, exponent = match.groups()
    return Number(("-" if sign == "-" else "") + (whole or "0") + (f".{fraction}" if fraction else "") + (exponent or ""))


def dumps(value: Any) -> str:
    """Write a value: no blanks, text as it is, numbers digit by digit."""
    out: list[str] = []
    _write(value, out)
    return "".join(out)


def _write(value: Any, out: list[str]) -> None:
    kind = type(value)
    if kind is str:
        out.append(encode_basestring(value))
    elif kind is dict:
        mark = "{"
        for name, each in value.items():
            out.append(f'{mark}"{name}":')
            _write(each, out)
            mark = ","
        out.append("}" if mark == "," else "{}")
    elif kind is list:
        mark = "["
        for each in value:
            out.append(mark)
            _write(each, out)
            mark = ","
        out.append("]" if mark == "," else "[]")
    elif kind is Number:
        out.append(value)
    else:
        out.append(json.dumps(value))


def loads(text: str | bytes) -> Any:
    """Read JSON and keep the digits of its numbers; ValueError on NaN, infinities and what is no JSON."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"not a JSON number: {name}")
