"""One Modbus line's thread: asks each request in its turn, and goes on when a device is dead.

A turn is a whole multiple of the request's interval after the start, by a clock that only goes forward: nothing drifts, and a wall clock that
jumps moves no poll. A turn that comes too late is left out and told as missed, never made up for.
"""

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hl7.devices.modbus_poll import Request
from node.clock import Clock
from node.feeds.modbus_client import BrokenReply, LineAway, NoAnswer, PollError

HANDED_MAX = 1000  # polls that wait for the disk; beyond it the line waits too, and its turns are told as missed
REST_AFTER = 3  # failures in a row: fewer are a disturbed line
REST_S_MIN, REST_S_MAX = 1.0, 60.0  # a dead device costs its time-out once a minute, and is back within one
AWAY_S_MIN, AWAY_S_MAX = 0.5, 30.0  # between two tries to open the line
WAIT_S_MAX = 1.0  # the thread turns at least so often, for the watchdog
STEP_US_MIN = 500_000  # NTP slews by 0.5 ms/s; half a second between two polls of a minute is a jump
MISSED = "MOD-05"


class Polled(NamedTuple):
    """A turn that was taken. `registers` None: it failed with `code`."""

    place: int
    sequence: int
    registers: tuple[int, ...] | None
    code: str
    wall_us: int
    monotonic_us: int
    took_us: int
    late_us: int
    stepped_us: int


class Missed(NamedTuple):
    """Turns that went by, both ends included."""

    place: int
    first: int
    last: int
    wall_us: int


class Asker(Protocol):
    """What asks on the line."""

    def ask(self, request: Request) -> tuple[int, ...]:
        """The registers. Raises PollError."""

    def close(self) -> None:
        """Close the line."""


@dataclass(slots=True)
class Unit:
    """How one device answers."""

    failures: int = 0
    rest_until: float = 0.0


class ModbusLine(threading.Thread):
    """Polls until stopped. `hear` is called from this thread, in order, and must not block; `heard` says that one was dealt with."""

    def __init__(
        self,
        name: str,
        client: Asker,
        requests: Sequence[Request],
        *,
        clock: Clock,
        hear: Callable[[Polled | Missed], None],
    ) -> None:
        super().__init__(name=f"modbus-{name}", daemon=True)
        self._client, self._requests, self._clock, self._hear = client, requests, clock, hear
        self._room = threading.Semaphore(HANDED_MAX)
        self._stopping = threading.Event()
        self._units: dict[int, Unit] = {}
        self._line = Unit()
        self._offsets: dict[int, int] = {}
        self.turned_at = clock.monotonic()

    def heard(self) -> None:
        """One event was dealt with."""
        self._room.release()

    def stop(self) -> None:
        """End after the question under way."""
        self._stopping.set()

    def run(self) -> None:
        """Take turn after turn."""
        start = self._clock.monotonic()
        turns = [(start, index, 0) for index in range(len(self._requests))]
        while not self._stopping.is_set():
            self.turned_at = now = self._clock.monotonic()
            due, index, sequence = turns[0]
            if now < due:
                self._stopping.wait(min(due - now, WAIT_S_MAX))
                continue
            every = self._requests[index].every_s
            turn = max(sequence, int((now - start) / every))
            if turn > sequence:
                self._tell(Missed(index, sequence, turn - 1, self._clock.now_us()))
            self._tell(self._poll(index, turn, start + turn * every))
            heapq.heapreplace(turns, (start + (turn + 1) * every, index, turn + 1))
        self._client.close()

    def _tell(self, event: Polled | Missed) -> None:
        while not self._room.acquire(timeout=WAIT_S_MAX):
            self.turned_at = self._clock.monotonic()
            if self._stopping.is_set():
                return
        self._hear(event)

    def _poll(self, index: int, sequence: int, due: float) -> Polled:
        request, began = self._requests[index], self._clock.monotonic()
        registers, code = None, ""
        try:
            registers = self._ask(request, began)
        except PollError as error:
            code = error.cause
        ended, wall_us = self._clock.monotonic(), self._clock.now_us()
        offset = wall_us - int(ended * 1_000_000)
        stepped = offset - self._offsets.get(index, offset)
        self._offsets[index] = offset
        return Polled(
            place=index, sequence=sequence, registers=registers, code=code, wall_us=wall_us, monotonic_us=int(ended * 1_000_000),
            took_us=int((ended - began) * 1_000_000), late_us=max(0, int((began - due) * 1_000_000)),
            stepped_us=stepped if abs(stepped) >= STEP_US_MIN else 0,
        )  # fmt: skip

    def _ask(self, request: Request, now: float) -> tuple[int, ...]:
        """Ask, unless the device or the whole line is left alone just now: then it fails as it last did. Raises PollError."""
        unit = self._units.setdefault(request.unit, Unit())
        if now < self._line.rest_until:
            raise LineAway("left alone")
        if now < unit.rest_until:
            raise NoAnswer("left alone")
        try:
            registers = self._client.ask(request)
        except LineAway:
            self._line.failures += 1
            wait = AWAY_S_MIN * 2.0 ** min(self._line.failures - 1, 16)
            self._line.rest_until = self._clock.monotonic() + min(AWAY_S_MAX, wait)
            raise
        except (NoAnswer, BrokenReply):
            self._line.failures = 0
            unit.failures += 1
            if unit.failures >= REST_AFTER:
                wait = REST_S_MIN * 2.0 ** min(unit.failures - REST_AFTER, 16)
                unit.rest_until = self._clock.monotonic() + min(REST_S_MAX, wait)
            raise
        except PollError:  # it answers, if only to say no
            self._line.failures = unit.failures = 0
            raise
        self._line.failures = unit.failures = 0
        return registers
