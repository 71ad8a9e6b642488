"""JSON in idiomatic Python: the specification of `_json.pxi`."""

from json.encoder import encode_basestring
from typing import Any

DEPTH_MAX = 200  # FHIR's resources go 15 deep; keeps a nest of lists from exhausting the stack


def json_text(value: Any, number: type) -> bytes:
    """Write a value as JSON without blanks, in UTF-8: dicts with keys of text, lists, text, integers, True, False, None.

    What is of the type `number` is written as the ASCII of its attribute `digits`. TypeError for anything else, UnicodeEncodeError for
    a lone surrogate, ValueError for what is deeper than DEPTH_MAX.
    """
    out: list[str] = []
    _write(value, number, out, 0)
    return "".join(out).encode()


def _write(value: Any, number: type, out: list[str], depth: int) -> None:
    if depth > DEPTH_MAX:
        msg = f"more than {DEPTH_MAX} levels"
        raise ValueError(msg)
    if type(value) is dict:
        mark = "{"
        for name, each in value.items():
            out.append(f"{mark}{_name(name)}:")
            _write(each, number, out, depth + 1)
            mark = ","
        out.append("{}" if mark == "{" else "}")
    elif type(value) is list:
        mark = "["
        for each in value:
            out.append(mark)
            _write(each, number, out, depth + 1)
            mark = ","
        out.append("[]" if mark == "[" else "]")
    else:
        out.append(_simple(value, number))


def _name(name: Any) -> str:
    if type(name) is not str:
        msg = f"not a name: {type(name).__name__}"
        raise TypeError(msg)
    return encode_basestring(name)


def _simple(value: Any, number: type) -> str:
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is number:
        return _digits(value.digits)
    if value is None or kind is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if kind is int:
        return str(value)
    msg = f"not a JSON value: {kind.__name__}"
    raise TypeError(msg)


def _digits(text: Any) -> str:
    if type(text) is not str or not text.isascii():
        msg = "digits are ASCII"
        raise TypeError(msg)
    return text
