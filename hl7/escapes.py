r"""Escape sequences of a value (HL7 2.9, 2.7) into text, and text into a value.

\F\ \S\ \T\ \R\ \E\ \P\ and \Xhh..\ are what they stand for; \H\ and \N\ are a display's matter and are left out; \C..\ and \M..\ switch the
character set to the value's end; \Z..\ is looked up in the feed's table; formatting commands become lines on request. What is none of these stays.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from hl7.charsets import Charset
from hl7.iso2022 import BAD, Shift, decode, is_declared, set_of
from hl7.separators import Separators

LINES_MAX: Final = (
    100  # that one .sp skips, and columns that .in, .ti or .sk move: a page; a number of nine digits is an attack
)

_BODY: Final = rb"(?:([FSTREPHN])|\.([A-Za-z]{2})([+-]?[0-9]{0,9})|([CM])((?:[0-9A-Fa-f]{2}){1,3})|(Z[^\r\n]{0,64}?)|(X(?:[0-9A-Fa-f]{2})+))"
_COMMANDS: Final = frozenset((b"sp", b"br", b"fi", b"nf", b"in", b"ti", b"sk", b"ce"))
NO_LOCAL: Final[Mapping[str, str]] = MappingProxyType({})


class Flag(IntFlag):
    """What is to be known of a value's text."""

    NONE = 0
    UNDECODABLE = 1  # bytes that are no text of the character set: U+FFFD stands for each
    OUTSIDE = 2  # MSH-18 says ASCII, which it is not; read by the feed's default
    UNDECLARED = 4  # a switch to a character set that MSH-18 does not name; followed all the same
    LOCAL = 8  # a \Z..\ that the feed's table does not hold; kept
    UNKNOWN = 16  # the escape character where it begins nothing that is known; kept
    TRUNCATED = 32  # the truncation character ends it (2.7 and later): the sender had more
    DIVIDED = 64  # separators of a lower level stand in it: paths lead further


class Writing:
    """How the values of one message are written: its separators, its character set, its feed's local sequences."""

    __slots__ = ("charset", "codec", "letters", "local", "mark", "pattern", "separators")

    def __init__(
        self, separators: Separators, charset: Charset, codec: str, local: Mapping[str, str] = NO_LOCAL
    ) -> None:
        """`codec` is that of the bytes which are divided; `charset` what the sender wrote in, also as hexadecimal."""
        self.separators = separators
        self.charset = charset
        self.codec = codec
        self.local = local
        self.mark, self.letters, self.pattern = _read_with(separators)


@lru_cache(maxsize=64)  # a site speaks a handful of dialects
def _read_with(separators: Separators) -> tuple[bytes, dict[bytes, str], re.Pattern[bytes]]:
    """Give the escape character, what the one-letter sequences stand for, and the pattern of a sequence."""
    mark = b"" if separators.escape is None else bytes([separators.escape])
    named = {
        b"F": separators.field,
        b"S": separators.component,
        b"R": separators.repetition,
        b"E": separators.escape,
        b"T": separators.subcomponent,
        b"P": separators.truncation,
    }
    letters = {name: chr(byte) for name, byte in named.items() if byte is not None}
    return mark, letters | {b"H": "", b"N": ""}, re.compile(re.escape(mark) + _BODY + re.escape(mark))


def plain(data: bytes, writing: Writing, *, is_formatted: bool = False) -> tuple[str, Flag]:
    """Read one value as text. Never raises, whatever the bytes."""
    if not writing.mark or writing.mark not in data:
        return decoded(data, writing)
    shift, at, flags = Shift(writing.codec), 0, Flag.NONE
    page, hexadecimal = _Page(is_formatted), b""
    for match in writing.pattern.finditer(data):
        between, at = data[at : match.start()], match.end()
        if match[7] and not between:  # one character may be spread over several \X..\
            hexadecimal += bytes.fromhex(match[7][1:].decode("ascii"))
            continue
        if hexadecimal:
            flags |= page.add(decode(hexadecimal, writing.charset.codec))
        hexadecimal = bytes.fromhex(match[7][1:].decode("ascii")) if match[7] else b""
        flags |= _between(between, shift, writing, page)
        if not match[7]:
            flags |= _follow(match, shift, writing, page)
    if hexadecimal:
        flags |= page.add(decode(hexadecimal, writing.charset.codec))
    flags |= _between(data[at:], shift, writing, page)
    return page.text(), flags | _cut(data, writing)


def local_sequences(data: bytes, separators: Separators) -> Iterator[tuple[int, str]]:
    r"""Yield where each \Z..\ begins and its name, without the escape characters. `data` may be a whole message."""
    mark, _, pattern = _read_with(separators)
    if mark and mark + b"Z" in data:
        yield from (
            (match.start(), match[6].decode("ascii", "replace")) for match in pattern.finditer(data) if match[6]
        )


def decoded(data: bytes, writing: Writing) -> tuple[str, Flag]:
    """Decode a value without escapes."""
    flags = _cut(data, writing)
    try:
        return data.decode(writing.codec), flags
    except UnicodeError:
        pass
    if writing.charset.instead:
        try:
            return data.decode(writing.charset.instead), flags | Flag.OUTSIDE
        except UnicodeError:
            pass
    return decode(data, writing.codec).replace(BAD, "\ufffd"), flags | Flag.UNDECODABLE


def _cut(data: bytes, writing: Writing) -> Flag:
    mark = writing.separators.truncation
    return Flag.TRUNCATED if mark is not None and data[-1:] == bytes([mark]) else Flag.NONE


def _between(data: bytes, shift: Shift, writing: Writing, page: "_Page") -> Flag:
    """Read what stands between two sequences."""
    if not data:
        return Flag.NONE
    flags = Flag.UNKNOWN if writing.mark in data else Flag.NONE
    if shift.left is None and shift.right is None:
        text, more = decoded(data, writing)
        page.add(text)
        return flags | (more & ~Flag.TRUNCATED)
    return flags | page.add(shift.read(data))


def _follow(match: re.Match[bytes], shift: Shift, writing: Writing, page: "_Page") -> Flag:
    """Do what one sequence says; keep it as it stands where that is nothing known."""
    letter, command, number, switch, digits, local, _ = match.groups()
    if letter in writing.letters:
        return page.add(writing.letters[letter])
    if command and command.lower() in _COMMANDS:
        page.command(match[0].decode("ascii", "replace"), command.lower(), number)
        return Flag.NONE
    if switch and (chosen := set_of(digits)) is not None:
        shift.to(chosen)
        return Flag.NONE if is_declared(chosen, writing.charset.names) else Flag.UNDECLARED
    kept = decode(match[0], writing.codec)
    if not local:
        return page.add(kept) | Flag.UNKNOWN
    known = writing.local.get(decode(local, writing.codec))
    return page.add(kept if known is None else known) | (Flag.LOCAL if known is None else Flag.NONE)


@dataclass(slots=True)
class _Margin:
    """Where the next line of formatted text begins, in columns."""

    left: int = 0
    once: int = 0


class _Page:
    """Text as it is put together; formatting commands act where they are wanted and stand as they are otherwise (HL7 2.9, 2.7.6)."""

    __slots__ = ("_is_begun", "_is_formatted", "_margin", "_parts")

    def __init__(self, is_formatted: bool) -> None:
        self._is_formatted = is_formatted
        self._parts: list[str] = []
        self._margin = _Margin()
        self._is_begun = True  # the first line has no margin until a command gives it one

    def add(self, text: str) -> Flag:
        """Add text; tell whether a byte of it was none."""
        flags = Flag.NONE
        if BAD in text:
            text, flags = text.replace(BAD, "\ufffd"), Flag.UNDECODABLE
        if text and not self._is_begun:
            self._parts.append(" " * max(0, self._margin.left + self._margin.once))
            self._margin.once, self._is_begun = 0, True
        self._parts.append(text)
        return flags

    def command(self, written: str, name: bytes, number: bytes) -> None:
        """Follow one formatting command; .fi and .nf say how a display wraps, and text here is not wrapped."""
        if not self._is_formatted:
            self.add(written)
            return
        many = max(-LINES_MAX, min(LINES_MAX, int(number))) if number.strip(b"+-") else 0
        if name in {b"br", b"ce", b"sp"}:
            self._parts.append("\n" * max(1, many if name == b"sp" else 1))
            self._is_begun = False
        elif name == b"sk":
            self.add(" " * max(0, many))
        elif name == b"in":
            self._margin.left = max(0, min(LINES_MAX, self._margin.left + many))
            self._is_begun = self._is_begun and any(self._parts)
        elif name == b"ti":
            self._margin.once = many
            self._is_begun = self._is_begun and any(self._parts)

    def text(self) -> str:
        """Give all of it."""
        return "".join(self._parts)


def escape_text(
    text: str, separators: Separators, codec: str, *, is_formatted: bool = False, is_seven_bit: bool = False
) -> bytes:
    r"""Write text as one value in a character set. UnicodeEncodeError, with its place, where the set lacks a character: nothing is replaced in silence.

    \X..\ stands for control characters, for characters whose bytes hold a separator, and, where the way is `is_seven_bit`, for all beyond ASCII.
    `is_formatted`: a line's end is \.br\. Without a declared escape character, a control or a separator becomes a blank.
    """
    written = text.encode(codec)
    if is_formatted:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    elif written.isalnum():
        return written
    letters, controls = _write_with(separators, is_formatted=is_formatted)
    pieces = []
    for each in _PIECES.findall(text):
        data = each.encode(codec)
        if each.isascii():
            pieces.append(b"".join(letters.get(byte) or controls.get(byte) or bytes([byte]) for byte in data))
        elif is_seven_bit or not letters.keys().isdisjoint(data):
            pieces.append(_hexadecimal(data, separators))
        else:
            pieces.append(data)
    return b"".join(pieces)


_PIECES: Final = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")


def _hexadecimal(data: bytes, separators: Separators) -> bytes:
    if separators.escape is None:
        raise ValueError("without an escape character, such text cannot be written")
    mark = bytes([separators.escape])
    return mark + b"X" + data.hex().upper().encode("ascii") + mark


@lru_cache(maxsize=64)
def _write_with(separators: Separators, *, is_formatted: bool) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Give what stands for each separator, and for each control character."""
    mark = b"" if separators.escape is None else bytes([separators.escape])
    named = zip(b"FSRETP", (separators.field, *separators.declared), strict=True)
    letters = {byte: mark + bytes([letter]) + mark if mark else b" " for letter, byte in named if byte is not None}
    controls = {byte: b"%cX%02X%c" % (mark, byte, mark) if mark else b" " for byte in (*range(0x20), 0x7F)}
    if is_formatted and mark:
        controls[0x0A] = mark + b".br" + mark
    return letters, controls
