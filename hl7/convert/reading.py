"""A message as text that remembers what was read of it, so that what nobody read can be listed with its path.

Decoding happens here and nowhere else: the whole message first, then the division, as character sets need whose second
bytes look like separators.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.check import Rules
from hl7.message import header
from hl7.separators import Separators, codec, read_separators, start_of

NULL: Final = '""'  # HL7 2.5.3: "delete this value"
_SEGMENT_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


class Decoded(NamedTuple):
    """The text of a message, by which codec, and whether bytes that are none were replaced by U+FFFD."""

    text: str
    codec: str
    is_whole: bool


def decode(raw: bytes, charset: str, charset_default: str) -> Decoded:
    """Decode by the feed's codec, else by MSH-18, else by the feed's default; NotEr7 where there is no header."""
    _check(charset, charset_default)
    body = raw[start_of(raw) :]
    if body.isascii() and b"\\X" not in body:  # then no codec says anything else of it
        return Decoded(body.decode("ascii"), charset or charset_default, True)
    name = charset or _declared(raw) or charset_default
    try:
        return Decoded(body.decode(name), name, True)
    except UnicodeError:
        return Decoded(body.decode(name, "replace"), name, False)


@lru_cache(maxsize=64)  # one for each feed's setting
def _check(charset: str, charset_default: str) -> None:
    """Raise ValueError where a setting is no codec that leaves ASCII as it is."""
    Rules(charset=charset, charset_default=charset_default)


def _declared(raw: bytes) -> str | None:
    """Return the codec of MSH-18's first repetition (HL7 2.14.9.18); None where it names none."""
    head = header(raw)
    separators = read_separators(head)
    fields = head.rstrip(b"\r").split(bytes([separators.field]))
    declared = fields[17] if len(fields) > 17 else b""
    if separators.repetition is not None:
        declared = declared.split(bytes([separators.repetition]), 1)[0]
    known = codec(declared)
    # ASCII is what half the world declares and sends UTF-8 under it; as ASCII is a part of UTF-8, nothing is lost.
    return None if known == "ascii" else known


class Unescaper:
    """Escape sequences of one dialect into text; others than those of the separators, X and .br stay as they are."""

    __slots__ = ("_letters", "_pattern", "codec", "mark")

    def __init__(self, separators: Separators, codec: str) -> None:
        self.codec = codec
        self.mark = chr(separators.escape) if separators.escape is not None else "\x00"
        named = {
            "F": separators.field,
            "S": separators.component,
            "R": separators.repetition,
            "E": separators.escape,
            "T": separators.subcomponent,
            "P": separators.truncation,
        }
        self._letters = {name: chr(byte) for name, byte in named.items() if byte is not None}
        # Highlighting has no counterpart in FHIR's strings; the words it stands around are what is meant.
        self._letters |= {".br": "\n", ".sp": "\n", "H": "", "N": ""}
        mark = re.escape(self.mark)
        self._pattern = re.compile(mark + r"([FSTREPHN]|X(?:[0-9A-Fa-f]{2})+|\.br|\.sp)" + mark)

    def __call__(self, text: str) -> str:
        """Return the text without its escape sequences."""
        return self._pattern.sub(self._plain, text)

    def _plain(self, match: re.Match[str]) -> str:
        body = match[1]
        if body[0] == "X":
            return bytes.fromhex(body[1:]).decode(self.codec, "replace")
        return self._letters.get(body, match[0])


@lru_cache(maxsize=64)  # a site speaks a handful of dialects
def unescaper(separators: Separators, codec: str) -> Unescaper:
    """Return the unescaper of a dialect."""
    return Unescaper(separators, codec)


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


def segments(decoded: Decoded, separators: Separators) -> list[Segment]:
    """Divide a message's text; lines that begin with no segment's name go to the segment before them, as its text."""
    field = chr(separators.field)
    component, repetition, subcomponent = (
        chr(byte) if byte is not None else "\x00"
        for byte in (separators.component, separators.repetition, separators.subcomponent)
    )
    unescape = unescaper(separators, decoded.codec)
    dialect = Dialect(component, repetition, subcomponent, component + repetition + subcomponent, unescape)
    counted: dict[str, int] = {}
    found: list[Segment] = []
    for line in _lines(decoded.text, field):
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
