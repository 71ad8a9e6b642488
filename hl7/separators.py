"""What a message says about its own writing: separators in MSH-1 and MSH-2, escape sequences, character sets.

Everything here works on bytes. A view never rewrites a message; `escape` and `unescape` serve replies and converters.
"""

import re
from dataclasses import dataclass
from dataclasses import field as _field
from functools import lru_cache
from typing import Final

from hl7.errors import NotEr7

HEADERS: Final = (b"MSH", b"FHS", b"BHS")  # HL7 2.14: the segments that declare separators

# Letters and digits are data wherever they stand, CR and LF end segments, VT and FS are MLLP's. A blank is refused
# because "MSH is missing" is prose.
_AMPERSAND: Final = ord("&")
_UNUSABLE: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz \r\n\x0b\x1c")
_LEADING: Final = b"\xef\xbb\xbf\r\n\t "  # a UTF-8 byte order mark, blank lines and indentation before the message
_DECLARATION_BYTES: Final = 9  # "MSH", the field separator, and at most five characters of MSH-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Separators:
    """The bytes that divide a message; None where it declares none. A byte declared twice has its first meaning.

    `kernel`: field, component, repetition, subcomponent for `native.er7_index`; an undeclared one repeats the field's.
    """

    field: int
    component: int | None = None
    repetition: int | None = None
    escape: int | None = None
    subcomponent: int | None = None
    truncation: int | None = None  # HL7 2.7 added it: MSH-2 is then five characters
    kernel: bytes = _field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        divided = (self.component, self.repetition, self.subcomponent)
        kernel = bytes([self.field, *(self.field if byte is None else byte for byte in divided)])
        object.__setattr__(self, "kernel", kernel)

    @property
    def declared(self) -> tuple[int | None, ...]:
        """Return the five of MSH-2, in its order."""
        return self.component, self.repetition, self.escape, self.subcomponent, self.truncation


STANDARD: Final = Separators(
    field=ord("|"), component=ord("^"), repetition=ord("~"), escape=ord("\\"), subcomponent=ord("&")
)
"""The separators that HL7 recommends, 2.5.4."""


@lru_cache(maxsize=64)  # a site speaks a handful of dialects
def _declared(declaration: bytes) -> Separators:
    """Read the first bytes of a header segment; NotEr7 where they declare no field separator."""
    if declaration[:3] not in HEADERS or len(declaration) < 4 or declaration[3] in _UNUSABLE:
        raise NotEr7("no usable MSH segment")
    used = [declaration[3]]
    levels: list[int | None] = []
    for byte in declaration[4:_DECLARATION_BYTES]:
        if byte in {declaration[3], *b"\r\n"}:
            break
        usable = byte not in _UNUSABLE and byte not in used
        levels.append(byte if usable else None)
        used.append(byte)
    component, repetition, escape, subcomponent, truncation = (*levels, *[None] * 5)[:5]
    if (
        len(levels) == 3 and escape == _AMPERSAND
    ):  # "^~&": the escape character was lost, in a program's text; decision 0028
        escape, subcomponent = None, escape
    return Separators(
        field=declaration[3],
        component=component,
        repetition=repetition,
        escape=escape,
        subcomponent=subcomponent,
        truncation=truncation,
    )


def start_of(message: bytes) -> int:
    """Offset of the message's first segment behind a byte order mark, blank lines and indentation."""
    if message.startswith(HEADERS):
        return 0
    return len(message) - len(message.lstrip(_LEADING))


def read_separators(message: bytes) -> Separators:
    """Separators of the message's first segment (MSH, FHS or BHS); NotEr7 where that is none of them."""
    if message.startswith(b"MSH|^~\\&|"):
        return STANDARD
    start = start_of(message)
    return _declared(message[start : start + _DECLARATION_BYTES])


# HL7 2.7.1: an escape sequence's body. Those that are not F S T R E P X stay as they are: highlighting (H, N),
# formatting (.br and others), other character sets (C, M), local ones (Z).
_BODY: Final = rb"([FSTREP]|X(?:[0-9A-Fa-f]{2})+|[HN]|\.[A-Za-z]{2}[+-]?[0-9]*|[CM][0-9A-Fa-f]+|Z[0-9A-Za-z]*)"


@lru_cache(maxsize=64)
def _unescaping(separators: Separators) -> tuple[re.Pattern[bytes], dict[bytes, bytes]]:
    """Pattern of an escape sequence, and what the one-letter ones stand for."""
    letters = {
        b"F": separators.field,
        b"S": separators.component,
        b"R": separators.repetition,
        b"E": separators.escape,
        b"T": separators.subcomponent,
        b"P": separators.truncation,
    }
    mark = re.escape(bytes([separators.escape or 0]))
    return re.compile(mark + _BODY + mark), {name: bytes([byte]) for name, byte in letters.items() if byte is not None}


def unescape(data: bytes, separators: Separators) -> bytes:
    r"""Replace \F\ \S\ \T\ \R\ \E\ \P\ and \Xhh..\; every other sequence, known or not, stays as it is."""
    if separators.escape is None or separators.escape not in data:
        return data
    pattern, letters = _unescaping(separators)

    def plain(match: re.Match[bytes]) -> bytes:
        body = match[1]
        if body[:1] == b"X":
            return bytes.fromhex(body[1:].decode("ascii"))
        return letters.get(body, match[0])

    return pattern.sub(plain, data)


@lru_cache(maxsize=64)
def _escaping(separators: Separators) -> tuple[re.Pattern[bytes], dict[bytes, bytes]]:
    """Pattern of the bytes that cannot stand in a value, and what to write instead."""
    mark = b"" if separators.escape is None else bytes([separators.escape])
    letters = {
        separators.field: b"F",
        separators.component: b"S",
        separators.repetition: b"R",
        separators.escape: b"E",
        separators.subcomponent: b"T",
        separators.truncation: b"P",
    }
    instead = {bytes([byte]): mark + letter + mark for byte, letter in letters.items() if byte is not None}
    instead |= {bytes([byte]): b"%cX%02X%c" % (mark, byte, mark) for byte in b"\r\n\x0b\x1c" if mark}
    instead = instead if mark else dict.fromkeys([*instead, b"\r", b"\n", b"\x0b", b"\x1c"], b" ")
    return re.compile(b"[" + b"".join(re.escape(byte) for byte in instead) + b"]"), instead


def escape(data: bytes, separators: Separators) -> bytes:
    """Write data so that it is one value: separators, CR, LF, VT, FS escaped, or blanks where there is no escape."""
    pattern, instead = _escaping(separators)
    return pattern.sub(lambda match: instead[match[0]], data)


# HL7 table 0211, as far as Python can decode it. Not here: CNS 11643-1992, which Python does not have, and
# UNICODE UTF-16 and UTF-32, which MLLP cannot frame. ISO IR14 is the single-byte half of Shift JIS. HAPI and others
# write UNICODE for UTF-8.
_CODECS: Final = {
    b"ASCII": "ascii",
    **{b"8859/%d" % part: f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    b"ISO IR6": "ascii",
    b"ISO IR14": "shift_jis",
    b"ISO IR87": "iso2022_jp",
    b"ISO IR159": "iso2022_jp_1",
    b"GB 18030-2000": "gb18030",
    b"KS X 1001": "euc_kr",
    b"BIG-5": "big5",
    b"UNICODE": "utf-8",
    b"UNICODE UTF-8": "utf-8",
}


def codec(character_set: bytes) -> str | None:
    """Python's codec for one name of table 0211; None where the name is not in it or Python has none."""
    return _CODECS.get(character_set.strip(b" ").upper())
