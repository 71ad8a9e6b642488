"""A message as text: what stands at a path, in which character set, and what is wrong with it. A view: the bytes stay as they are.

The character set is chosen first; where its characters can hold bytes that look like separators (GB 18030, Big5, Shift JIS, ISO 2022), the text is
decoded before it is divided. Escapes are read after the division. Nothing here raises on any bytes but NotEr7, for what has no header.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

from hl7.charsets import Charset, charset_of, hides_separators, twin
from hl7.errors import NotEr7
from hl7.escapes import NO_LOCAL, Flag, Writing, plain
from hl7.message import Message, Path, facts, header
from hl7.separators import HEADERS, Separators, read_separators

_NULL: Final = b'""'


class State(Enum):
    """Whether something stands at a path. HL7 2.5.3 tells three kinds of nothing apart."""

    ABSENT = "absent"  # the segment, field or component is not there
    EMPTY = "empty"  # there, and nothing in it: leave what is known as it is
    NULL = "null"  # "": delete what is known
    VALUED = "valued"


class Value(NamedTuple):
    """What stands at a path: its text ("" unless VALUED), its state, what is to be known of it, and the character set it was read in."""

    text: str
    state: State
    flags: Flag
    charset: Charset


class Text:
    r"""A decoded view over one message or batch. NotEr7 where it does not begin with MSH, FHS or BHS; ValueError on a codec that cannot be.

    `charset`, `charset_default`: the feed's, as in `Rules`. `local`: the feed's table of \Z..\ sequences, without the escape characters.
    """

    __slots__ = ("_by_name", "_fields", "_segments", "_writing", "charset", "raw", "separators")

    def __init__(
        self, raw: bytes, *, charset: str = "", charset_default: str = "utf-8", local: Mapping[str, str] = NO_LOCAL
    ) -> None:
        self.raw = raw
        body, self._writing = opened(raw, charset, charset_default, local)
        self.charset = self._writing.charset
        message = Message(body)
        self.separators: Separators = message.separators
        self._segments: list[tuple[bytes, bytes]] = []
        self._by_name: dict[bytes, list[int]] = {}
        for number, (name, (start, end)) in enumerate(message.segments()):
            self._segments.append((name, body[start:end]))
            self._by_name.setdefault(name, []).append(number)
        self._fields: dict[int, list[bytes]] = {}

    def get(self, path: str | Path, *, is_formatted: bool = False) -> Value:
        """Read what stands at a path. `is_formatted`: formatting commands become lines and blanks, as FT and TX want it."""
        path = Path.parse(path) if isinstance(path, str) else path
        data = self.bytes_at(path)
        if data is None:
            return Value("", State.ABSENT, Flag.NONE, self.charset)
        if path.is_undivided or not data:
            return Value(_ascii(data), State.VALUED if data else State.EMPTY, Flag.NONE, self.charset)
        level = 3 if path.subcomponent else 2 if path.component else 1 if path.repetition else 0
        return self._value(data, level, is_formatted=is_formatted)

    def bytes_at(self, path: Path) -> bytes | None:
        """Give the bytes at a path, as `Message.get`, of the text in UTF-8 where it had to be decoded before it was divided."""
        numbers = self._by_name.get(path.segment, ())
        if path.occurrence > len(numbers):
            return None
        number = numbers[path.occurrence - 1]
        if path.is_field_separator:
            return bytes([self.separators.field]) if len(self._divided(number)) > 1 else None
        at = path.kernel[2]
        fields = self._divided(number)
        if at >= len(fields):
            return None
        if path.is_undivided or not (path.repetition or path.component or path.subcomponent):
            return fields[at]
        marks = self.separators
        found = _piece(fields[at], marks.repetition, path.repetition or 1)
        if found is not None and (path.component or path.subcomponent):
            found = _piece(found, marks.component, path.component or 1)
        if found is not None and path.subcomponent:
            found = _piece(found, marks.subcomponent, path.subcomponent)
        return found

    def values(self, *, is_formatted: bool = False) -> Iterator[tuple[str, Value]]:
        """Yield every value that holds something, null included, with the path that leads to it and to nothing else."""
        counted: dict[bytes, int] = {}
        for number, (name, _) in enumerate(self._segments):
            occurrence = counted[name] = counted.get(name, 0) + 1
            shown = _ascii(name) + (f"[{occurrence}]" if occurrence > 1 else "")
            shift = 1 if name in HEADERS else 0
            for at, field in enumerate(self._divided(number)):
                if not field or not at or (shift and at == 1):
                    continue
                for steps, data in self._leaves(field):
                    yield f"{shown}-{at + shift}{steps}", self._value(data, 3, is_formatted=is_formatted)

    def flagged(self) -> Iterator[tuple[str, Flag]]:
        """Yield the path of every value of which something is to be known, and what."""
        if self.raw.isascii() and not any(mark and mark in self.raw for mark in self._odd_marks()):
            return
        yield from ((path, value.flags) for path, value in self.values() if value.flags)

    def _odd_marks(self) -> tuple[bytes, bytes, bytes]:
        cut = self.separators.truncation
        return self._writing.mark, b"" if cut is None else bytes([cut]), b"\x1b"

    def _divided(self, number: int) -> list[bytes]:
        """Give a segment's fields, its name first."""
        fields = self._fields.get(number)
        if fields is None:
            fields = self._fields[number] = self._segments[number][1].split(bytes([self.separators.field]))
        return fields

    def _leaves(self, field: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield each part of a field that is not divided further, with the rest of its path."""
        marks = self.separators
        repetitions = _pieces(field, marks.repetition)
        for at, repetition in enumerate(repetitions, 1):
            components = _pieces(repetition, marks.component)
            first = f"[{at}]" if at > 1 or (len(repetitions) > 1 and len(components) == 1) else ""
            for number, component in enumerate(components, 1):
                parts = _pieces(component, marks.subcomponent)
                second = f".{number}" if len(components) > 1 or len(parts) > 1 else ""
                for below, part in enumerate(parts, 1):
                    if part:
                        yield first + second + (f".{below}" if len(parts) > 1 else ""), part

    def _value(self, data: bytes, level: int, *, is_formatted: bool) -> Value:
        if data == _NULL:
            return Value("", State.NULL, Flag.NONE, self.charset)
        text, flags = plain(data, self._writing, is_formatted=is_formatted)
        marks = (self.separators.repetition, self.separators.component, self.separators.subcomponent)
        if level < 3 and any(mark is not None and mark in data for mark in marks[level:]):
            flags |= Flag.DIVIDED
        return Value(text, State.VALUED, flags, self.charset)


def opened(
    raw: bytes, charset: str = "", charset_default: str = "utf-8", local: Mapping[str, str] = NO_LOCAL
) -> tuple[bytes, Writing]:
    """Give the bytes that can be divided, and how what is divided from them is read. NotEr7, ValueError as for `Text`."""
    chosen = _charset(raw, charset, charset_default)
    body = twin(raw, chosen)
    codec = chosen.codec if body is raw and not hides_separators(chosen.codec) else "utf-8"
    return body, Writing(read_separators(body), chosen, codec, local)


def _charset(raw: bytes, charset: str, charset_default: str) -> Charset:
    """Choose the character set; of a batch, its first MSH names it."""
    try:
        declared = facts(raw).route.character_set
        repetition = read_separators(header(raw)).repetition
    except NotEr7:  # a batch without a message; or nothing of HL7, which the view will say
        declared, repetition = b"", None
    return charset_of(declared, repetition, charset, charset_default)


def _ascii(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace")


def _pieces(value: bytes, mark: int | None) -> list[bytes]:
    return [value] if mark is None else value.split(bytes([mark]))


def _piece(value: bytes, mark: int | None, number: int) -> bytes | None:
    """Give part `number` of a value, counted from 1; None where there are fewer."""
    if mark is None:
        return value if number == 1 else None
    parts = value.split(bytes([mark]), number)
    return parts[number - 1] if number <= len(parts) else None
