"""ASTM E1381-95 / LIS01-A2 frames: bytes and values. A frame is STX FN text ETB|ETX C1 C2 CR LF; the sum runs from FN to ETB or ETX."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

STX, ETX, EOT, ENQ, ACK, LF, CR, NAK, ETB = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0D, 0x15, 0x17
TEXT_E1381: Final = 240  # E1381-95 6.3.1.2
FrameEnd = Literal["crlf", "cr", "none"]
"""What follows a frame's sum: the standard's CR LF, CR alone, nothing."""
FRAME_ENDS: Final[dict[FrameEnd, bytes]] = {"crlf": b"\r\n", "cr": b"\r", "none": b""}
TEXT_LIS01: Final = 63_993  # LIS01-A2 6.3.1.2: 64,000 with its seven characters of overhead
NUMBERS: Final = 8  # 1 to 7, then 0
FILL: Final = b"\0\r\n"  # between frames they say nothing

_END: Final = re.compile(rb"[\x03\x17]")
_SUM: Final = re.compile(rb"[0-9A-Fa-f]{2}")


class Frame(NamedTuple):
    """A frame whose sum was right. `is_end`: ETX, so a record ends with it."""

    number: int
    text: bytes
    is_end: bool


class Taken(NamedTuple):
    """What stood at the buffer's beginning: a frame, or None where it was damaged, and how many bytes it took."""

    frame: Frame | None
    size: int
    is_long: bool = False


def checksum(data: bytes | bytearray) -> int:
    """The sum of what stands between STX and C1, modulo 256."""
    return sum(data) & 0xFF


def encode(number: int, text: bytes, *, is_end: bool, frame_end: FrameEnd = "crlf") -> bytes:
    """One frame."""
    body = b"%d%b%c" % (number % NUMBERS, text, ETX if is_end else ETB)
    return b"%c%b%02X%b" % (STX, body, checksum(body), FRAME_ENDS[frame_end])


def encode_all(records: Iterable[bytes], *, text_bytes_max: int, frame_end: FrameEnd = "crlf") -> list[bytes]:
    """The frames of one transfer: each record, with its CR, begins a frame of its own."""
    frames: list[bytes] = []
    for record in records:
        parts = list(_parts(record, text_bytes_max))
        for part in parts:
            frames.append(encode(len(frames) + 1, part, is_end=part is parts[-1], frame_end=frame_end))
    return frames


def _parts(record: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, max(1, len(record)), size):
        yield record[at : at + size]


class FrameReader:
    """Takes frames from a buffer that begins with STX. It remembers what it has looked at, so a slow drip stays linear."""

    def __init__(self, text_bytes_max: int, *, frame_end: FrameEnd) -> None:
        self._most = text_bytes_max
        self._has_cr, self._has_lf = frame_end != "none", frame_end == "crlf"
        self._looked = 1
        self._is_long = False
        self.passed = 0  # bytes of a frame that is too long, thrown away while it comes: fillers apart

    def reset(self) -> None:
        """Begin anew: the buffer has changed at its beginning."""
        self._looked, self._is_long, self.passed = 1, False, 0

    def take(self, buffer: bytearray, *, is_quiet: bool = False) -> Taken | None:
        """What stands there; None while it is not whole. `is_quiet`: nothing more comes, so neither CR nor LF is waited for."""
        found = _END.search(buffer, self._looked)
        if found is None:
            self._looked = len(buffer)
            if len(buffer) > self._most + 2:  # STX, FN, text
                self._is_long = True
                self.passed += len(buffer[1:-1].translate(None, FILL))
                del buffer[1:-1]  # the last byte may be what its sender says next: EOT, ENQ
                self._looked = len(buffer)
            return None
        end = found.start()
        self._looked = end  # it stands, whatever follows
        size = end + 3
        has_cr = self._has_cr and not (is_quiet and len(buffer) == size)
        if len(buffer) < size + has_cr:
            return self._settle(Taken(None, len(buffer))) if is_quiet else None
        if not _SUM.match(buffer, end + 1) or (has_cr and buffer[size] != CR):
            return self._settle(Taken(None, end + 1))
        if not has_cr:
            return self._settle(Taken(self._frame(buffer, end), size, self._is_long or end - 2 > self._most))
        size += 1
        if self._has_lf and len(buffer) == size and not is_quiet:
            return None
        # whatever stands in the place of LF is not believed: a damaged LF that looks like ENQ would be answered with a stray ACK
        if self._has_lf and len(buffer) > size and buffer[size] != STX:
            size += 1
        return self._settle(Taken(self._frame(buffer, end), size, self._is_long or end - 2 > self._most))

    def _frame(self, buffer: bytearray, end: int) -> Frame | None:
        body = bytes(buffer[1 : end + 1])
        if self._is_long or len(body) < 2 or not 0x30 <= body[0] <= 0x37 or end - 2 > self._most:
            return None
        if checksum(body) != int(buffer[end + 1 : end + 3], 16):
            return None
        return Frame(body[0] - 0x30, body[1:-1], body[-1] == ETX)

    def _settle(self, taken: Taken) -> Taken:
        self.reset()
        return taken
