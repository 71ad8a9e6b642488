"""Reports of devices that just print: cut out of a line's bytes by what the device's manual says of their end.

Whatever the pieces in which the bytes come, the reports are the same. A report keeps every byte that belongs to it, its end and check value too.
"""

import hashlib
from dataclasses import dataclass, field
from functools import reduce
from operator import xor
from typing import Any, Final, Literal

from hl7.devices.line_errors import CheckWrong, CutOff, LineError, NoEnd, ReportTooLong

STX, ETX, CR, LF = 0x02, 0x03, 0x0D, 0x0A
# Of a report without an end so much is counted and hashed before the next record: a line at a wrong rate must not become one record a day.
LONGEST_FACTOR: Final = 16
BLANK: Final = b"\0\t\n\v\f\r \xff"  # a line of these says nothing: paper feeds, and what an adapter hears when a device is switched on

Ends = Literal["lines", "block", "fixed", "pause"]
LineEnd = Literal["cr", "lf", "crlf", "any"]
Check = Literal["none", "xor-byte", "xor-hex", "sum-byte", "sum-hex"]
Covers = Literal["text", "text-and-end", "all"]
CHECK_BYTES: Final = {"none": 0, "xor-byte": 1, "xor-hex": 2, "sum-byte": 1, "sum-hex": 2}
LINE_ENDS: Final = {"cr": b"\r", "lf": b"\n", "crlf": b"\r\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Where a report begins and ends, and how it is checked. Seconds; `start` and `end` are byte values, `start` None where any byte begins one."""

    ends: Ends = "lines"
    line_end: LineEnd = "any"
    start: int | None = None
    end: int = ETX
    length: int = 0
    quiet_s: float = 10.0  # a pause of this ends a report, and where another end is expected, gives it up
    check: Check = "none"
    covers: Covers = "text-and-end"
    report_bytes_max: int = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one report was. With `fault` it is not whole: `head` is then its first bytes, `length` and `sha256` are of all that came."""

    head: bytes
    length: int
    sha256: bytes
    fault: type[LineError] | None = None
    ends_at: int = field(default=0, compare=False)  # bytes of the line up to its end, since the reader began


@dataclass(slots=True)
class _Long:
    """A report that is longer than it may be: its beginning is kept, the rest is counted."""

    head: bytes
    digest: Any
    length: int = 0


class LineReader:
    """The machine of one line. `at` and `now` are monotonic seconds of the caller."""

    def __init__(self, framing: Framing) -> None:
        self._is = framing
        self.start = framing.start if framing.start is not None or framing.ends != "block" else STX
        self._mark = LINE_ENDS.get(framing.line_end, b"")
        self._check_bytes = CHECK_BYTES[framing.check]
        self._buffer = bytearray()
        self._searched = 0
        self._long: _Long | None = None
        self._last_at = 0.0
        self._received = 0
        self.noise_bytes = 0  # outside of any report
        self.blank_bytes = 0  # line ends and blanks that belong to no report

    def receive(self, data: bytes, at: float) -> list[Report]:
        """Take bytes; give the reports that ended before or with them."""
        reports = self.tick(at)
        self._last_at = at
        self._received += len(data)
        self._buffer += data
        reports += self._take()
        return reports

    def tick(self, now: float) -> list[Report]:
        """Give the report that a pause has ended or given up."""
        if not self.is_amid or now - self._last_at < self._is.quiet_s:
            return []
        return self._close(None if self._is.ends == "pause" else NoEnd)

    def cut(self) -> list[Report]:
        """The line went away: give what had come of a report."""
        return self._close(CutOff) if self.is_amid else []

    @property
    def is_amid(self) -> bool:
        """Whether a report has begun and not ended."""
        return self._long is not None or bool(self._buffer)

    @property
    def quiet_at(self) -> float:
        """When the present silence will have lasted long enough to end a report."""
        return self._last_at + self._is.quiet_s

    # -- cutting ----------------------------------------------------------------------------------------------------

    def _take(self) -> list[Report]:
        reports: list[Report] = []
        while self._buffer and (self._long is not None or self._skip_noise()):
            end, fault = self._next_end()
            is_long = (
                self._long is not None or max(end, len(self._buffer) if end < 0 else 0) > self._is.report_bytes_max
            )
            if not is_long and end < 0:
                break
            if not is_long:
                reports += self._end(end, fault)
                continue
            if end < 0 and not self._searched:
                break
            is_whole = self._swallow(end if end >= 0 else self._searched) and end >= 0
            if is_whole or self._is_endless:
                reports += self._give_long()
        return reports

    def _skip_noise(self) -> bool:
        """Drop what stands before a report's first byte; whether there is a first byte."""
        if self.start is None:
            return True
        at = self._buffer.find(self.start)
        self._count(self._buffer[: at if at >= 0 else len(self._buffer)])
        del self._buffer[: at if at >= 0 else len(self._buffer)]
        return at >= 0

    def _next_end(self) -> tuple[int, type[LineError] | None]:
        """Where the report ends (-1: not yet), and whether it is cut off there by another one's beginning."""
        if self._is.ends == "block" and self.start is not None:
            end = self._buffer.find(
                self._is.end, self._searched
            )  # behind it stands the check value, which may be any byte
            begun = max(1 if self._long is None else 0, self._searched)
            again = self._buffer.find(self.start, begun, end if end >= 0 else len(self._buffer))
            if again >= 0:
                return again, CutOff
        end, self._searched = self._find()
        return end, None

    def _find(self) -> tuple[int, int]:
        """Where the report ends (-1: not yet), and how many bytes from the front hold no end."""
        buffer, searched = self._buffer, self._searched
        match self._is.ends:
            case "fixed":
                return (self._is.length, 0) if len(buffer) >= self._is.length else (-1, 0)
            case "block":
                at = buffer.find(self._is.end, searched)
                if at < 0:
                    return -1, len(buffer)
                end = at + 1 + self._check_bytes
                return (end, at) if len(buffer) >= end else (-1, at)
            case "lines" if self._mark:
                at = buffer.find(self._mark, searched)
                return (at + len(self._mark), at) if at >= 0 else (-1, max(0, len(buffer) - len(self._mark) + 1))
            case "lines":
                found = [at for at in (buffer.find(CR, searched), buffer.find(LF, searched)) if at >= 0]
                return (min(found) + 1, min(found)) if found else (-1, len(buffer))
        return -1, len(buffer)

    @property
    def _is_endless(self) -> bool:
        return self._long is not None and self._long.length >= LONGEST_FACTOR * self._is.report_bytes_max

    def _swallow(self, count: int) -> bool:
        """Count bytes of a report that is too long, no more than it may have; whether all of them were."""
        if self._long is None:
            self._long = _Long(bytes(self._buffer[: self._is.report_bytes_max]), hashlib.sha256())
        taken = min(count, LONGEST_FACTOR * self._is.report_bytes_max - self._long.length)
        self._long.digest.update(self._buffer[:taken])
        self._long.length += taken
        del self._buffer[:taken]
        self._searched = max(0, self._searched - taken)
        return taken == count

    def _end(self, end: int, fault: type[LineError] | None) -> list[Report]:
        body = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        if self._is.ends in {"lines", "pause"} and not body.strip(BLANK):
            self._count(body)
            return []
        return [_whole(body, fault or self._judge(body), self._passed)]

    def _close(self, fault: type[LineError] | None) -> list[Report]:
        """End what stands, at a pause or because the line is gone."""
        if self._long is None:
            return self._end(len(self._buffer), fault)
        self._long.digest.update(self._buffer)
        self._long.length += len(self._buffer)
        self._buffer.clear()
        return self._give_long()

    def _give_long(self) -> list[Report]:
        if (found := self._long) is None:
            return []
        self._long, self._searched = None, 0
        digest = found.digest.digest()
        return [Report(head=found.head, length=found.length, sha256=digest, fault=ReportTooLong, ends_at=self._passed)]

    @property
    def _passed(self) -> int:
        return self._received - len(self._buffer)

    def _count(self, data: bytes | bytearray) -> None:
        said = len(data.translate(None, BLANK))
        self.noise_bytes += said
        self.blank_bytes += len(data) - said

    def _judge(self, body: bytes) -> type[LineError] | None:
        if not self._check_bytes:
            return None
        given, wanted = check_values(self._is, body)
        return None if given == wanted else CheckWrong


def line_mark(framing: Framing) -> bytes:
    """Return the end of a line, or a byte as long where CR and LF both are."""
    return LINE_ENDS.get(framing.line_end, b"\n")


def check_values(framing: Framing, body: bytes) -> tuple[bytes, bytes]:
    """Return the check value that stands in a report of this framing, and the one that its bytes want. Hexadecimal ones are compared in capitals."""
    count = CHECK_BYTES[framing.check]
    if framing.ends == "lines":
        body = body[: -len(line_mark(framing))]
    covered, value = body[:-count], body[-count:]
    if framing.ends == "block":
        covered = covered[0 if framing.covers == "all" else 1 : -1 if framing.covers == "text" else None]
    wanted = reduce(xor, covered, 0) if framing.check.startswith("xor") else sum(covered) % 256
    return (value, bytes([wanted])) if count == 1 else (value.upper(), b"%02X" % wanted)


def _whole(body: bytes, fault: type[LineError] | None, ends_at: int) -> Report:
    sha256 = hashlib.sha256(body).digest() if fault else b""
    return Report(head=body, length=len(body), sha256=sha256, fault=fault, ends_at=ends_at)
