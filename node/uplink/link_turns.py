"""The link as its lanes share it: whose turn it is (by the pure rules of sync/lanes.py), and one session for all."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.errors import LinkError, NoAnswer
from sync.lanes import ROUTINE, Turns
from sync.sender_events import Event, SessionOpened

TURN_WAIT_S_MAX = (
    5.0  # even without a word from the others a lane looks again: a lost wake-up costs seconds, not the lane
)


class LinkTurns:
    """One link's turns for the threads of its lanes. `now` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._turns = now, Turns()
        self._changed = threading.Condition()
        self._stopping = False
        self._needed: dict[str, tuple[int, int]] = {}  # stream -> the newest position that a critical record follows

    def need(self, stream: str, epoch: int, seq: int) -> None:
        """A critical record that goes now follows this position of another stream."""
        with self._changed:
            self._needed[stream] = max(self._needed.get(stream, (0, 0)), (epoch, seq))

    def is_needed(self, stream: str, epoch: int, first: int, end: int) -> bool:
        """Whether the call of these positions, which fits a quantum, brings all that a critical record follows."""
        with self._changed:
            needed = self._needed.get(stream)
        return needed is not None and needed[0] == epoch and first <= needed[1] < end

    def quantum(self, lane: str) -> int:
        """Bytes on the wire that one call of this lane may hold."""
        with self._changed:
            return self._turns.quantum(lane)

    def pace(self, octets: int) -> float:
        """Bytes a second at which a call of so many may leave; infinite: as fast as it can."""
        with self._changed:
            return self._turns.pace(octets)

    @property
    def goodput(self) -> float | None:
        """Measured bytes a second; None before there is a measurement."""
        with self._changed:
            return self._turns.goodput.octets_per_s if self._turns.goodput.is_measured else None

    def wants(self, lane: str) -> None:
        """This lane has something to send: no lower one begins before it."""
        with self._changed:
            self._turns.wants(lane, self._now())

    def rests(self, lane: str) -> None:
        """This lane has nothing to send, or cannot."""
        with self._changed:
            self._turns.rests(lane)
            self._changed.notify_all()

    def forget(self) -> None:
        """The way changed: what was measured is of another one."""
        with self._changed:
            self._turns.goodput.forget()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    @contextmanager
    def turn(self, lane: str, octets: int, round_trip_s: Callable[[], float], *, above: bool = False) -> Iterator[None]:
        """Wait until a call of so many bytes may begin; it is on the link for the time of the block. Raises NoAnswer where the node stops.

        `above`: it counts as one class higher, because something waits for it at the centre: routine as critical, bulk before routine.
        """
        with self._changed:
            self._turns.wants(lane, float("-inf") if above else self._now())
            while (
                not (above and lane == ROUTINE)
                and not self._stopping
                and (wait_s := self._turns.wait_s(lane, self._now())) > 0
            ):
                self._changed.wait(min(wait_s, TURN_WAIT_S_MAX))
            if self._stopping:
                raise NoAnswer("the node stops")
            self._turns.begin(lane, octets, self._now())
        answered = False
        try:
            yield
            answered = True
        finally:
            with self._changed:
                self._turns.end(lane, self._now(), answered=answered, round_trip_s=round_trip_s() if answered else 0.0)
                self._changed.notify_all()


class SessionDesk:
    """One session for all lanes: what one of them was answered serves each other that has called nothing since."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._opened: SessionOpened | None = None
        self._began = float("-inf")
        self._failed: tuple[float, LinkError] | None = None

    @property
    def fence(self) -> str:
        """The newest fence that any lane was given; empty before the first."""
        opened = self._opened
        return "" if opened is None else opened.answer.fence

    def ask(self, since: float, call: Callable[[], Event], check: Callable[[], None]) -> tuple[float, Event]:
        """A session asked for after `since`, and when it was: another lane's, or by `call`. Raises LinkError as `call` does.

        `check` raises LinkError where this lane may not call now: that is its own affair, and no failure of the path.
        """
        came = self._now()
        with self._lock:
            if self._opened is not None and self._began > since:
                return self._began, self._opened
            if self._failed is not None and self._failed[0] >= came:
                # it failed while we stood in the queue: the same path would fail the same way, and each try takes seconds
                raise self._failed[1]
            check()
            began = self._now()
            try:
                event = call()
            except LinkError as error:
                self._failed = (self._now(), error)
                raise
            if isinstance(event, SessionOpened):
                self._opened, self._began = event, began
            return began, event
