r"""Character sets that a text switches to: by ESC sequences of ISO 2022 (MSH-20), or by \Cxxyy\ and \Mxxyyzz\ (HL7 2.9, 2.7.2).

Both name a set by the same bytes of the ISO registry: ESC 2D 47 is \C2D47\, the Arabic of ISO 8859-6.
"""

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from hl7.separators import codec

BAD: Final = "\udcff"  # stands for a byte that is no text; can be in no decoded text


class CharacterSet(NamedTuple):
    """One set of the registry. `names`: in table 0211. `is_right`: it takes the place of bytes above 127, else of those below.

    `codec`: Python's, in which its characters are bytes above 127, `width` each, behind `lead`. Width 0 is ASCII, the way back to the default.
    """

    names: tuple[bytes, ...]
    codec: str
    is_right: bool
    width: int
    lead: bytes = b""


def _pairs(final: bytes, names: tuple[bytes, ...], codec: str, lead: bytes = b"") -> dict[bytes, CharacterSet]:
    """Give a set of two bytes a character under its sequences for the left and for the right half."""
    left, right = (CharacterSet(names, codec, is_right, 2, lead) for is_right in (False, True))
    return {b"$(" + final: left, b"$)" + final: right} | ({b"$" + final: left} if final in b"@AB" else {})


def _latin(part: int) -> CharacterSet:
    name = b"8859/%d" % part
    return CharacterSet((name,), codec(name) or "", True, 1)


SETS: Final[dict[bytes, CharacterSet]] = {
    b"(B": CharacterSet((b"ASCII", b"ISO IR6", b""), "ascii", False, 0),
    b"(J": CharacterSet((b"ISO IR14",), "roman", False, 1),
    b"(I": CharacterSet((b"ISO IR14", b"ISO IR13"), "shift_jis", False, 1),  # JIS X 0201: katakana, one byte each
    b")I": CharacterSet((b"ISO IR14", b"ISO IR13"), "shift_jis", True, 1),
    **{b"-" + final: _latin(part) for final, part in zip((b"A", b"B", b"C", b"D", b"L"), range(1, 6), strict=True)},
    **{b"-" + final: _latin(part) for final, part in zip((b"G", b"F", b"H", b"M"), range(6, 10), strict=True)},
    b"-b": _latin(15),
    **_pairs(
        b"@", (b"ISO IR87",), "euc_jp"
    ),  # JIS C 6226, the older of the two; what differs is some thirty characters
    **_pairs(b"B", (b"ISO IR87",), "euc_jp"),
    **_pairs(b"D", (b"ISO IR159",), "euc_jp", b"\x8f"),
    **_pairs(b"C", (b"KS X 1001",), "euc_kr"),
    **_pairs(b"A", (b"GB 18030-2000",), "gb2312"),
}
"""The sets that HL7 2.7.2 lists and those of table 0211 that have a place in the registry, by their sequence without ESC."""

_SEQUENCE: Final = re.compile(rb"\x1b([\x20-\x2f]+[\x30-\x7e])")
_HALVES: Final = re.compile(rb"[\x00-\x7f]+|[\x80-\xff]+")
_IN_LEFT: Final = re.compile(rb"[\x21-\x7e]+|[^\x21-\x7e]+")  # what a set of the left half replaces, and what stays
_ROMAN: Final = {0x5C: "¥", 0x7E: "‾"}


@dataclass(slots=True)
class Shift:
    """Which set stands for each half now; None is the message's own."""

    codec: str
    left: CharacterSet | None = None
    right: CharacterSet | None = None

    def to(self, chosen: CharacterSet) -> None:
        """Switch to a set. ASCII is the way back to the message's own, in both halves."""
        if not chosen.width:
            self.left = self.right = None
        elif chosen.is_right:
            self.right = chosen
        else:
            self.left = chosen

    def read(self, data: bytes) -> str:
        """Decode bytes by the sets that stand now; BAD stands for each byte that is none."""
        if self.left is None and self.right is None:
            return decode(data, self.codec)
        return "".join(
            self._left(half) if half.isascii() else self._of(half, self.right) for half in _HALVES.findall(data)
        )

    def _left(self, half: bytes) -> str:
        if self.left is None:
            return half.decode("ascii")
        return "".join(
            self._of(part, self.left) if 0x20 < part[0] < 0x7F else part.decode("ascii")
            for part in _IN_LEFT.findall(half)
        )

    def _of(self, part: bytes, chosen: CharacterSet | None) -> str:
        if chosen is None:
            return decode(part, self.codec)
        if chosen.codec == "roman":
            return part.decode("ascii").translate(_ROMAN)
        high = bytes(byte | 0x80 for byte in part)
        if chosen.width == 1:
            return decode(high, chosen.codec)
        whole = len(high) - len(high) % 2
        pairs = b"".join(chosen.lead + high[at : at + 2] for at in range(0, whole, 2))
        return decode(pairs, chosen.codec) + BAD * (len(high) % 2)


def _bad(error: UnicodeError) -> tuple[str, int]:
    """Mark one byte and go on with the next one: no broken character swallows a separator behind it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD, error.start + 1


codecs.register_error("hl7.bad", _bad)


def decode(data: bytes, codec: str) -> str:
    """Decode; BAD stands for each byte that is no text of this codec. Never raises where the codec exists."""
    try:
        return data.decode(codec, "hl7.bad")
    except UnicodeError:  # a codec that takes no handler, such as idna
        return data.decode("ascii", "hl7.bad")


def set_of(digits: bytes) -> CharacterSet | None:
    r"""Give the set that \C or \M names by hexadecimal digits; None where it is none of ours."""
    return SETS.get(bytes.fromhex(digits.decode("ascii"))) if len(digits) % 2 == 0 else None


@lru_cache(maxsize=64)  # MSH-18 of a site's senders
def is_declared(chosen: CharacterSet, names: tuple[bytes, ...]) -> bool:
    """Tell whether MSH-18 names a set; ASCII needs no naming."""
    return not chosen.width or any(name in chosen.names for name in names)


def read_line(line: bytes, codec: str) -> str:
    """Decode one segment that may hold ESC sequences. Each begins in the message's own set: no ESC forgotten before costs more than its line."""
    shift, parts, at = Shift(codec), [], 0
    for match in _SEQUENCE.finditer(line):
        chosen = SETS.get(match[1])
        if chosen is None:
            continue
        parts.append(shift.read(line[at : match.start()]))
        shift.to(chosen)
        at = match.end()
    parts.append(shift.read(line[at:]))
    return "".join(parts)
