"""Which way out is used, pure: an ordered list of paths, changed only after several failures, left alone afterwards, and taken back with care.

The cursor is the gateway's size of each stream, so it is the same on every path; nothing here knows what is sent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sync.lanes import CRITICAL

FAILURES_MAX = 3  # in a row, each of a call that began after the one before had failed: one lost call is no lost line
HOLD_DOWN_S = (
    120.0  # a path that was given up is left alone so long: a line that flaps would have every session opened twice
)
PROBE_EACH_S = 20.0  # of a better path while a worse one is in use: three good ones are a minute
PROBES_GOOD_MIN = 3  # in a row before a better path is taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way out, by name. `metered`: every byte of it costs, so only what is critical goes there."""

    name: str
    metered: bool = False


class Paths:
    """The choice between paths, best first. Times are monotonic seconds."""

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise ValueError("no path")
        self._paths = tuple(paths)
        self._at = 0
        self._failures = 0
        self._failed_at = -math.inf
        self._held_until: dict[str, float] = {}
        self._probes: dict[str, int] = {}
        self._probed_at: dict[str, float] = {}

    @property
    def current(self) -> Path:
        """The path in use."""
        return self._paths[self._at]

    def allows(self, lane: str) -> bool:
        """Whether this lane may use the current path."""
        return lane == CRITICAL or not self.current.metered

    def answered(self, name: str) -> None:
        """A call on this path was answered."""
        if name == self.current.name:
            self._failures = 0

    def failed(self, name: str, began: float, now: float) -> bool:
        """A call on this path, begun then, failed now. True: another path is in use from here on."""
        # the lanes fail together when a line goes: that is one failure, not three
        if name != self.current.name or began < self._failed_at:
            return False
        self._failed_at, self._failures = now, self._failures + 1
        if self._failures < FAILURES_MAX or len(self._paths) == 1:
            return False
        self._held_until[name] = now + HOLD_DOWN_S
        others = [at for at in range(len(self._paths)) if at != self._at]
        # the first that is not held; else the one that is free again first
        self._use(min(others, key=lambda at: max(now, self._held_until.get(self._paths[at].name, now))))
        return True

    def to_probe(self, now: float) -> list[str]:
        """The better paths that should be tried now, beside the one in use."""
        return [
            path.name
            for path in self._paths[: self._at]
            if self._held_until.get(path.name, -math.inf) <= now
            and now - self._probed_at.get(path.name, -math.inf) >= PROBE_EACH_S
        ]

    def probed(self, name: str, now: float, *, good: bool) -> bool:
        """A better path was tried. True: it is in use from here on."""
        self._probed_at[name] = now
        self._probes[name] = self._probes.get(name, 0) + 1 if good else 0
        at = next((at for at, path in enumerate(self._paths[: self._at]) if path.name == name), None)
        if at is None or self._probes[name] < PROBES_GOOD_MIN:
            return False
        self._use(at)
        return True

    def _use(self, at: int) -> None:
        self._at, self._failures, self._probes = at, 0, {}
