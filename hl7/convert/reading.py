"""A message as text that remembers what was read of it, so that what nobody read can be listed with its path.

The character set is chosen, and escapes are read, by the view's own pieces (`hl7.charsets`, `hl7.escapes`): there is one decoder.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.charsets import Charset
from hl7.escapes import NO_LOCAL, Writing, decoded, plain
from hl7.separators import Separators, start_of
from hl7.text import opened

NULL: Final = '""'  # HL7 2.5.3: "delete this value"
_SEGMENT_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


class Decoded(NamedTuple):
    """A message's text, how its values are written, the codec that it was read by, and whether all of its bytes are text."""

    text: str
    writing: Writing
    codec: str
    is_whole: bool


def decode(raw: bytes, charset: str, charset_default: str, local: Mapping[str, str] = NO_LOCAL) -> Decoded:
    """Decode as the view does (`hl7.text`), but all at once where that gives the same; NotEr7 where there is no header."""
    body, writing = opened(raw, charset, charset_default, local)
    body = body[start_of(body) :]
    for codec in (writing.codec, writing.charset.instead):
        if codec:
            with suppress(UnicodeError):
                return Decoded(body.decode(codec), writing, codec, True)
    return Decoded(_patched(body, writing), writing, writing.codec, False)


def _patched(body: bytes, writing: Writing) -> str:
    """Decode value by value, as some hold bytes that are no text. Those with escapes keep them as surrogates: an escape may say what they are."""
    marks = (writing.separators.field, *writing.separators.declared[:2], writing.separators.subcomponent)
    pattern = b"([" + b"".join(re.escape(bytes([mark])) for mark in marks if mark is not None) + b"\r\n]+)"
    # an escape character beyond ASCII may be no text by itself: such a message has none
    mark = writing.mark if writing.mark.decode(writing.codec, "replace") == writing.mark.decode("latin-1") else b""
    return "".join(
        piece.decode(writing.codec, "surrogateescape") if mark and mark in piece else decoded(piece, writing)[0]
        for piece in re.split(pattern, body)
    )


class Unescaper:
    """Values of one message that hold escape sequences, read by the view's own reader."""

    __slots__ = ("_codec", "_utf8", "_writing", "mark")

    def __init__(self, text: Decoded) -> None:
        self._writing, self._codec = text.writing, text.codec
        self._utf8 = Writing(text.writing.separators, text.writing.charset, "utf-8", text.writing.local)
        self.mark = text.writing.mark.decode("latin-1") or "\x00"

    def __call__(self, text: str) -> str:
        """Return the text of a value: escapes followed, formatting commands as lines, U+FFFD for what is no text."""
        try:
            return plain(text.encode(self._codec, "surrogateescape"), self._writing, is_formatted=True)[0]
        except UnicodeEncodeError:  # what was replaced, or was in another character set than the message says
            return plain(text.encode("utf-8", "surrogateescape"), self._utf8, is_formatted=True)[0]


@lru_cache(maxsize=64)  # a site speaks a handful of dialects
def _unescaper(
    separators: Separators, charset: Charset, codecs: tuple[str, str], local: tuple[tuple[str, str], ...]
) -> Unescaper:
    """Make the reader of a dialect once: what was remembered of it is found by it."""
    return Unescaper(Decoded("", Writing(separators, charset, codecs[0], dict(local)), codecs[1], True))


class Dialect(NamedTuple):
    """The separators as text; an undeclared one is a character that no message holds."""

    component: str
    repetition: str
    subcomponent: str
    marks: str
    unescape: Unescaper


class Part:
    """One repetition, or one component in it: its parts count from 1, and reading one is remembered."""

    __slots__ = ("above", "at", "children", "mark", "parts", "read", "rep", "segment", "text")

    def __init__(
        self, text: str, parts: list[str], segment: "Segment", at: int, rep: int = 1, above: "Part | None" = None
    ) -> None:
        self.text = text  # as it stands
        self.parts = parts
        self.segment = segment
        self.mark = segment.mark
        self.at = at  # the field's number, or the component's
        self.rep = rep
        self.above = above
        self.read = 0  # bit n: part n was read
        self.children: dict[int, Part] | None = None

    @property
    def where(self) -> str:
        """Its path."""
        if self.above is not None:
            return f"{self.above.where}.{self.at}"
        return f"{self.segment.where}-{self.at}" + (f"[{self.rep}]" if self.rep > 1 else "")

    def get(self, at: int) -> str:
        """Return a part as text and remember that it was read; "" where it is absent, empty or null."""
        parts = self.parts
        if at > len(parts):
            return ""
        text = parts[at - 1]
        if not text or text == NULL:
            return ""
        self.read |= 1 << at
        mark = self.mark
        return self.segment.dialect.unescape(text).strip() if mark and mark in text else text.strip()

    def peek(self, at: int) -> str:
        """Return a part as text, which stays unread."""
        read = self.read
        text = self.get(at)
        self.read = read
        return text

    def has(self, at: int) -> bool:
        """Tell whether a part holds a value."""
        parts = self.parts
        if at > len(parts):
            return False
        text = parts[at - 1]
        return bool(text) and text != NULL

    def sub(self, at: int) -> "Part":
        """Return a part as something with parts of its own."""
        if self.children is None:
            self.children = {}
        child = self.children.get(at)
        if child is None:
            text = self.parts[at - 1] if at <= len(self.parts) else ""
            child = Part(text, text.split(self.segment.dialect.subcomponent), self.segment, at, 1, self)
            self.children[at] = child
        return child

    @property
    def is_empty(self) -> bool:
        """Nothing in it holds a value."""
        return not any(part and part != NULL for part in self.parts)

    def whole(self) -> str:
        """Return everything in it as it stands, read."""
        self.read |= (2 << len(self.parts)) - 2
        dialect = self.segment.dialect
        text = dialect.component.join(self.parts)
        return dialect.unescape(text) if self.mark and self.mark in text else text

    def unread(self) -> Iterator[tuple[str, str]]:
        """Yield (path, text) of every value in it that nobody read."""
        for at, text in enumerate(self.parts, start=1):
            if not text or self.read >> at & 1:
                continue
            child = self.children.get(at) if self.children else None
            if child is not None and child.read:
                yield from child.unread()
            elif child is None or text.strip(self.segment.dialect.subcomponent):
                yield f"{self.where}.{at}", text


class Segment:
    """One segment; `where` is its path ("OBX[5]"), its fields count from 1 as HL7 counts them."""

    __slots__ = ("_reps", "dialect", "fields", "mark", "name", "reasons", "where")

    def __init__(self, name: str, fields: list[str], where: str, dialect: Dialect, *, has_escapes: bool = True) -> None:
        self.name = name
        self.fields = fields
        self.where = where
        self.dialect = dialect
        self.mark = dialect.unescape.mark if has_escapes else ""  # nothing to look for
        self.reasons: dict[str, str] = {}  # of values that could not be used, by path
        self._reps: list[list[Part] | None] = [None] * len(fields)

    def has(self, field: int) -> bool:
        """Tell whether a field holds anything but null."""
        fields = self.fields
        return field < len(fields) and bool(fields[field]) and fields[field] != NULL

    @property
    def shape(self) -> tuple[bool, ...]:
        """Which fields hold anything but null."""
        fields = self.fields
        return tuple(self.has(at) for at in range(len(fields))) if NULL in fields else tuple(map(bool, fields))

    def reps(self, field: int) -> list[Part]:
        """Return a field's repetitions; an absent field has one, which is empty."""
        if field >= len(self.fields):
            return [Part("", [""], self, field)]
        reps = self._reps[field]
        if reps is None:
            text = self.fields[field]
            dialect = self.dialect
            if field < 3 and self.name == "MSH":
                reps = [Part(text, [text], self, field)]
            elif dialect.repetition not in text:
                reps = [Part(text, text.split(dialect.component), self, field)]
            else:
                reps = [
                    Part(each, each.split(dialect.component), self, field, at)
                    for at, each in enumerate(text.split(dialect.repetition), start=1)
                ]
            self._reps[field] = reps
        return reps

    def get(self, field: int, component: int = 1) -> str:
        """Return a component of the field's first repetition, read; "" where there is none."""
        return self.reps(field)[0].get(component) if self.has(field) else ""

    def peek(self, field: int, component: int = 1) -> str:
        """Return a component of the field's first repetition, which stays unread."""
        return self.reps(field)[0].peek(component) if self.has(field) else ""

    def note(self, where: str, reason: str) -> None:
        """Remember why the value at a path could not be used."""
        self.reasons[where] = reason

    def unread(self) -> list[tuple[str, str]]:
        """List (path, text) of every value in it that nobody read."""
        found: list[tuple[str, str]] = []
        first = 3 if self.name == "MSH" else 1
        for field, text in enumerate(self.fields[first:], start=first):
            if not text:
                continue
            reps = self._reps[field]
            if reps is None:
                if text.strip(self.dialect.marks):
                    found.append((f"{self.where}-{field}", text))
                continue
            for rep in reps:
                if rep.read & 2 and len(rep.parts) == 1:
                    continue  # nearly all fields are one value
                if rep.read or rep.children:
                    found += rep.unread()
                elif whole := self.dialect.component.join(rep.parts).strip(self.dialect.marks):
                    found.append((rep.where, whole))
        return found

    def close(self) -> None:
        """Let go of the parts, which point back here: memory is then free at once, and not when the collector comes."""
        self._reps.clear()


def segments(read: Decoded, separators: Separators) -> list[Segment]:
    """Divide a message's text; lines that begin with no segment's name go to the segment before them, as its text."""
    field = chr(separators.field)
    component, repetition, subcomponent = (
        chr(byte) if byte is not None else "\x00"
        for byte in (separators.component, separators.repetition, separators.subcomponent)
    )
    writing = read.writing
    unescape = _unescaper(separators, writing.charset, (writing.codec, read.codec), tuple(writing.local.items()))
    dialect = Dialect(component, repetition, subcomponent, component + repetition + subcomponent, unescape)
    counted: dict[str, int] = {}
    found: list[Segment] = []
    for line in _lines(read.text, field):
        fields = line.split(field)
        name = fields[0].strip()
        counted[name] = number = counted.get(name, 0) + 1
        if name == "MSH":
            fields.insert(1, field)
        where = f"{name}[{number}]" if number > 1 else name
        found.append(Segment(name, fields, where, dialect, has_escapes=unescape.mark in line))
    return found


def _lines(text: str, field: str) -> list[str]:
    """Return the segments' text: ended by CR, or by LF where there is no CR or a segment's name follows."""
    if "\n" in text:
        text = (
            re.sub(r"\r?\n(?=[A-Z][A-Z0-9]{2}" + re.escape(field) + ")", "\r", text)
            if "\r" in text
            else text.replace("\n", "\r")
        )
    lines: list[str] = []
    for line in text.split("\r"):
        bare = line.strip("\n\x0b\x1c\x00 \t\ufeff")
        if not bare:
            continue
        if lines and not _SEGMENT_NAME.match(bare):
            lines[-1] += "\n" + bare  # a line break that should have been escaped
        else:
            lines.append(line.lstrip("\n \t\ufeff").rstrip("\n\x1c"))
    return lines
