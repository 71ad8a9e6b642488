"""The machine's clocks, and how far the one on the wall can be trusted."""

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

UNSURE, SYNCHRONISED = 0, 1  # header key 8
ERROR_US_MAX = 16_000_000  # what the kernel says when it knows nothing (NTP_PHASE_LIMIT)
TIME_ERROR = 5  # adjtimex(2): clock not synchronised
TIMEX_BYTES = 208  # struct timex on 64-bit Linux
READ_AGAIN_S = 1.0  # NTP moves in seconds; a system call a message would be waste


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether a time source steers the clock, and the kernel's bound of its error in microseconds."""

    state: int
    error_us: int


class Clock(Protocol):
    """What the node asks of time; passed in, so that tests can jump."""

    def now_us(self) -> int:
        """UTC microseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    def trust(self) -> Trust:
        """How far now_us() can be trusted."""


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ("_asked", "_trust")

    def __init__(self) -> None:
        self._asked = float("-inf")
        self._trust = Trust(UNSURE, ERROR_US_MAX)

    def now_us(self) -> int:
        """UTC microseconds since 1970."""
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)  # asked for every message: no frame of Python around it

    def trust(self) -> Trust:
        """How far now_us() can be trusted; the kernel is asked once a second."""
        if (now := time.monotonic()) - self._asked >= READ_AGAIN_S:
            self._asked, self._trust = now, _ask_kernel()
        return self._trust


def _ask_kernel() -> Trust:
    timex = ctypes.create_string_buffer(TIMEX_BYTES)  # modes = 0: read only
    try:
        state = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return Trust(UNSURE, ERROR_US_MAX)
    # struct timex: int modes, pad, long offset, freq, maxerror
    error_us = int.from_bytes(timex.raw[24:32], "little", signed=True)
    if state < 0 or state == TIME_ERROR:
        return Trust(UNSURE, ERROR_US_MAX)
    return Trust(SYNCHRONISED, max(0, min(error_us, ERROR_US_MAX)))


def iso(time_us: int) -> str:
    """UTC microseconds as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hl7_time(time_us: int) -> str:
    """UTC microseconds as an HL7 time stamp to the second (HL7 2.9 section 2.A.22)."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y%m%d%H%M%S+0000")
