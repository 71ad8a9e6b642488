"""A line's bytes as a technician reads them: control characters by name, values hidden, frames told apart. Keeps no byte of what it has shown."""

from typing import Final, NamedTuple

NAMES: Final = (
    *("NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI"),
    *("DLE", "XON", "DC2", "XOFF", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"),
)  # ISO 646, with the two that terminals gave another meaning
DEL: Final = 0x7F
STX, ETX, ETB, CR, LF = 0x02, 0x03, 0x17, 0x0D, 0x0A
WORDS: Final = {0x04: "EOT", 0x05: "ENQ", 0x06: "ACK", 0x15: "NAK"}  # of the handshake, each a message of its own
HIDDEN: Final = "•"
HEX_DIGITS: Final = frozenset(b"0123456789ABCDEFabcdef")


def text(data: bytes | bytearray, *, is_shown: bool, is_opaque: bool = False) -> str:
    """Bytes as text; where values are not shown, what may be one is a dot: letters, digits, and all beyond ASCII.

    `is_opaque`: the bytes are numbers themselves, as of Modbus, so that a control character may be a value too.
    """
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


class Seen(NamedTuple):
    """A frame that ended: its name, its bytes, and "good", "wrong" or "" for its check value."""

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

    def receive(self, data: bytes) -> list[Seen]:
        """The frames that end within these bytes."""
        return [seen for byte in data if (seen := self._take(byte)) is not None]

    def _take(self, byte: int) -> Seen | None:
        if self._within == "check":
            return self._judge(byte)
        if byte == STX:
            self._within, self._label, self._length, self._sum = "frame", "", 1, 0
            return None
        self._length += 1
        if self._within == "frame":
            self._sum += byte
            if self._length == 2 and chr(byte).isdigit():
                self._label = f" {byte - 0x30}"
            if byte in {ETX, ETB}:
                self._within, self._check = "check", ""
                self._label = f"STX{self._label} … {NAMES[byte]}"
            return None
        return self._outside(byte)

    def _outside(self, byte: int) -> Seen | None:
        if byte in WORDS:
            self._length = 0
            return Seen(WORDS[byte], 1)
        if byte in {CR, LF}:
            length, self._length = self._length, 0
            return Seen(NAMES[byte], length) if length > 1 else None
        return None

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
            self._within, self._label, self._length, self._sum = "frame", "", 1, 0
        return seen
