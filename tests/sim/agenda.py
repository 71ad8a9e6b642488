"""Virtual time: what is to happen, in order, and the two ways in which a run is interrupted."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Died(BaseException):
    """A machine lost its process here. No `except Exception` of the product may take it for an error."""


class Broken(BaseException):
    """An invariant does not hold. Not an Exception for the same reason."""


class Agenda:
    """A heap of (time, order of asking, act); equal runs have equal heaps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, seconds: float, act: Callable[..., Any], *args: Any) -> None:
        """Have `act` called so many virtual seconds from now."""
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, act, args))

    def run(self, until: float, done: Callable[[], bool]) -> bool:
        """Let time pass until then, or until `done` (asked once a virtual second); whether it was."""
        asked = self.now
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act, args = heappop(self._heap)
            act(*args)
            if self.now - asked >= 1.0:
                asked = self.now
                if done():
                    return True
        self.now = until
        return done()
