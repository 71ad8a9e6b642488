"""A line's bytes as a technician reads them: control characters by name, values hidden, frames told apart. Keeps no byte of what it has shown."""

import re
from typing import Final, NamedTuple

NAMES: Final = (
    *("NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI"),
    *("DLE", "XON", "DC2", "XOFF", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"),
)  # ISO 646, with the two that terminals gave another meaning
DEL: Final = 0x7F
STX, ETX, ETB, CR, LF = 0x02, 0x03, 0x17, 0x0D, 0x0A
WORDS: Final = {0x04: "EOT", 0x05: "ENQ", 0x06: "ACK", 0x15: "NAK"}  # of the handshake, each a message of its own
HIDDEN: Final = "•"
_FRAME_ENDS: Final = re.compile(b"[%c%c%c]" % (STX, ETX, ETB))
_WORTH_A_LOOK: Final = re.compile(b"[%c%c%c%b]" % (STX, CR, LF, bytes(WORDS)))
HEX_DIGITS: Final = frozenset(b"0123456789ABCDEFabcdef")


def text(data: bytes | bytearray, *, is_shown: bool, is_opaque: bool = False, charset: str = "") -> str:
    """Bytes as text; where values are not shown, what may be one is a dot: letters, digits, and all beyond ASCII.

    `is_opaque`: the bytes are numbers themselves, as of Modbus, so that a control character may be a value too.
    `charset`: what shown bytes beyond ASCII are read in, one that keeps ASCII as it is; "": none is known.
    """
    if is_shown and charset:
        return "".join(_named_sign(sign) for sign in bytes(data).decode(charset, "surrogateescape"))
    return "".join(HIDDEN if not is_shown and (is_opaque or is_value(byte)) else _named(byte) for byte in data)


def hexadecimal(data: bytes | bytearray, *, is_shown: bool, is_opaque: bool = False) -> str:
    """Bytes as pairs of digits, hidden as in `text`."""
    return " ".join("··" if not is_shown and (is_opaque or is_value(byte)) else f"{byte:02X}" for byte in data)


def is_value(byte: int) -> bool:
    """Whether a byte may be part of a name or a result: delimiters and control characters are not."""
    return byte >= 0x80 or (byte < DEL and chr(byte).isalnum())


def _named(byte: int) -> str:
    if byte < len(NAMES):
        return f"<{NAMES[byte]}>"
    return chr(byte) if byte < DEL else f"<{byte:02X}>"


def _named_sign(sign: str) -> str:
    """As it is; by its number where it has no look of its own, or would turn the row around it."""
    if "\udc80" <= sign <= "\udcff":  # no text in this character set
        return f"<{ord(sign) - 0xDC00:02X}>"
    if sign < "\x80":
        return _named(ord(sign))
    return sign if sign.isprintable() else f"<U+{ord(sign):04X}>"


class Seen(NamedTuple):
    """A frame that ended: its name, its bytes, and for its check value "good", "wrong", "unchecked", or "" where it needs none.

    Of a feed's own reports also "broken": not whole.
    """

    name: str
    length: int
    check: str = ""


class Eye:
    """Tells frames apart in one direction of a line, in whatever pieces the bytes come: handshakes, STX frames of ASTM, lines."""

    def __init__(self) -> None:
        self._within = ""  # "", "frame", "check"
        self._label = ""
        self._length = self._sum = 0
        self._check = ""

    @property
    def is_amid(self) -> bool:
        """Whether something has begun and not ended."""
        return bool(self._within or self._length)

    def tick(self, _at: float, /) -> list[Seen]:
        """No pause ends a frame."""
        return []

    def cut(self) -> list[Seen]:
        """A frame whose line went away is none."""
        return []

    def see(self, data: bytes, _at: float, /) -> list[tuple[int, Seen]]:
        """The frames that end within these bytes, each with how many of them it takes."""
        found: list[tuple[int, Seen]] = []
        at = 0
        while at < len(data):
            if self._within == "frame":
                at = self._frame(data, at)
                continue
            if self._within == "check":
                seen, at = self._judge(data[at]), at + 1
            else:
                seen, at = self._outside(data, at)
            if seen is not None:
                found.append((at, seen))
        return found

    def receive(self, data: bytes) -> list[Seen]:
        """The frames that end within these bytes."""
        return [seen for _, seen in self.see(data, 0.0)]

    def _begin(self) -> None:
        self._within, self._label, self._length, self._sum = "frame", "", 1, 0

    def _frame(self, data: bytes, at: int) -> int:
        """Take up to the frame's end; every byte of every line comes by here, so they are not taken one by one."""
        match = _FRAME_ENDS.search(data, at)
        end = match.start() if match else len(data)
        if self._length == 1 and end > at and 0x30 <= data[at] <= 0x39:
            self._label = f" {data[at] - 0x30}"
        self._sum += sum(data[at:end])
        self._length += end - at
        if match is None:
            return end
        byte = data[end]
        if byte == STX:
            self._begin()
        else:
            self._sum += byte
            self._length += 1
            self._within, self._check = "check", ""
            self._label = f"STX{self._label} … {NAMES[byte]}"
        return end + 1

    def _outside(self, data: bytes, at: int) -> tuple[Seen | None, int]:
        match = _WORTH_A_LOOK.search(data, at)
        end = match.start() if match else len(data)
        self._length += end - at
        if match is None:
            return None, end
        byte = data[end]
        if byte == STX:
            self._begin()
            return None, end + 1
        length, self._length = self._length + 1, 0
        if byte in WORDS:
            return Seen(WORDS[byte], 1), end + 1
        return (Seen(NAMES[byte], length) if length > 1 else None), end + 1

    def _judge(self, byte: int) -> Seen | None:
        """The two digits behind ETX or ETB, where a device sends any: the sum of E1381, from the frame's number to its end."""
        if byte in HEX_DIGITS:
            self._check += chr(byte)
            self._length += 1
            if len(self._check) < 2:
                return None
        is_stated = len(self._check) == 2
        verdict = ("good" if int(self._check, 16) == self._sum % 256 else "wrong") if is_stated else ""
        seen = Seen(self._label, self._length, verdict)
        self._within, self._length = "", 0
        if byte == STX:
            self._begin()
        return seen
