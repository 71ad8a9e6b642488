"""Which character set a message's bytes are in, and where that is known from: the feed's setting, MSH-18, or the feed's default.

Bytes are kept; what is decoded here is a view. Where a character's later bytes can look like a separator, the text is decoded before it is divided.
"""

import codecs
import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.iso2022 import BAD, decode, read_line
from hl7.separators import codec

_PUNCTUATION: Final = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_LINE_ENDS: Final = re.compile(rb"([\r\n])")


class Source(Enum):
    """Where the character set in force is known from."""

    FEED = "feed"  # the feed's setting, whatever MSH-18 says
    MESSAGE = "MSH-18"
    DEFAULT = "default"  # MSH-18 is empty or null: the feed's default
    UNKNOWN = "unknown"  # MSH-18 names nothing that is known: read as UTF-8


class Charset(NamedTuple):
    """Python's codec of the text, where that is known from, all that MSH-18 names, and what is tried where it says ASCII and is not."""

    codec: str
    source: Source
    names: tuple[bytes, ...] = ()
    instead: str = ""


def can_be_framed(name: str) -> bool:
    """Tell whether a codec exists and leaves ASCII as it is; UTF-16 and UTF-32 do not."""
    try:
        return "MSH|\r".encode(name) == b"MSH|\r"
    except (LookupError, UnicodeError):
        return False


@lru_cache(maxsize=256)  # MSH-18 of a site's senders, with the settings of its feeds
def charset_of(declared: bytes, repetition: int | None, charset: str = "", charset_default: str = "utf-8") -> Charset:
    """Choose: the feed's `charset`, else the first repetition of MSH-18, else the feed's `charset_default`.

    HL7 2.14.9.18: the first is the message's own, later ones are reached by escapes. ValueError on a setting that cannot be framed.
    """
    for name in (charset or charset_default, charset_default):
        if not can_be_framed(name):
            msg = f"not a character set that MLLP can carry and Python knows: {name!r}"
            raise ValueError(msg)
    named = [declared] if repetition is None or codec(declared) else declared.split(bytes([repetition]))
    names = tuple(name.strip(b" ").upper() for name in named)
    if charset:
        return Charset(charset, Source.FEED, names)
    if not names[0].strip(b"\"'"):
        return Charset(charset_default, Source.DEFAULT, names)
    known = codec(names[0])
    if known is None:
        return Charset("utf-8", Source.UNKNOWN, names)
    # half the world declares ASCII and sends something else under it
    return Charset(known, Source.MESSAGE, names, charset_default if known == "ascii" else "")


@lru_cache(maxsize=64)  # a site's codecs; each is tried once, 4 ms
def hides_separators(name: str) -> bool:
    """Tell whether a character of this codec can hold a byte that looks like a separator, by trying every pair."""
    if codecs.lookup(name).name.startswith(("iso2022", "hz", "utf_7", "utf-7")):
        return True
    pairs = (bytes((lead, mark)) for lead in range(0x80, 0x100) for mark in _PUNCTUATION)
    return any(chr(pair[1]) not in decode(pair, name) for pair in pairs)


def twin(raw: bytes, charset: Charset) -> bytes:
    """Give a message that can be divided by its bytes: itself, or its text in UTF-8 where characters can hold separators.

    A byte that is no text is FF there, which is none in UTF-8 either.
    """
    name = charset.codec
    is_japanese = codecs.lookup(name).name.startswith("iso2022_jp")
    if b"\x1b" in raw and (is_japanese or (len(charset.names) > 1 and not hides_separators(name))):
        own = "ascii" if is_japanese else name
        return _rewritten(raw, lambda line: read_line(line, own))
    if not hides_separators(name) or (raw.isascii() and name in _HIGH_ONLY):
        return raw
    return _rewritten(raw, lambda line: decode(line, name))


_HIGH_ONLY: Final = frozenset(("gb18030", "big5", "shift_jis"))  # of table 0211: what is ASCII in them is ASCII


def _rewritten(raw: bytes, read: Callable[[bytes], str]) -> bytes:
    """Rewrite line by line: CR and LF are part of no character, and one broken at a line's end costs no other line."""
    lines = _LINE_ENDS.split(raw)
    return b"".join(_utf8(read(line)) if line not in {b"\r", b"\n", b""} else line for line in lines)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # BAD becomes FF, which is in no UTF-8


class FileText(NamedTuple):
    """A file's text in UTF-8, and the codec that it was in."""

    raw: bytes
    codec: str


_MARKS: Final = (  # byte order marks, the longer before those that begin like them
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_BARE: Final = re.compile(rb"(?:[MFB]\0[SH]\0[HS]\0)|(?:\0[MFB]\0[SH]\0[HS])")
_UTF_16: Final = frozenset(("utf16", "u16", "unicodeutf16"))


def of_file(data: bytes, declared: str = "") -> FileText | None:
    """Read a file of UTF-16 or UTF-32, which no frame can carry: by its mark, else as `declared`, else as its first letters stand.

    None for any other file, whose bytes are those of a frame. `declared`: a codec, or UNICODE UTF-16 as MSH-18 writes it. Never raises.
    """
    for mark, name in _MARKS:
        if data.startswith(mark) and name != "utf-8":
            return FileText(_utf8(_wide(data[len(mark) :], name)), name)
    is_declared = re.sub(r"[ _-]", "", declared.lower()) in _UTF_16
    if is_declared or _BARE.match(data):
        # RFC 2781 4.3: without a mark it is big-endian; a header shows which it is
        name = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        return FileText(_utf8(_wide(data, name)), name)
    return None


def _wide(data: bytes, name: str) -> str:
    """Decode units of two or four bytes; units that are no text, and the mark that an earlier program left for such, are bad text here."""
    return data.decode(name, "replace").replace("\ufffd", BAD)
