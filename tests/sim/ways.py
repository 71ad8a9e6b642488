"""Several ways out of a box: what a schedule gives it, and by which rules the one in use may change (docs/reliability-lanes.md)."""

from sync.lanes import CRITICAL
from sync.paths import Path
from tests.sim.machine import broken

FAILURES = 3  # in a row give a way up
HELD_S = 120.0  # so long it is left alone
PROBES = 3  # in a row bring it back
PROBE_EACH_S = 20.0

LINES = {
    1: (Path(name="direct"),),
    2: (Path(name="mpls"), Path(name="vsat")),
    3: (Path(name="mpls"), Path(name="lte", metered=True)),
    4: (Path(name="mpls"), Path(name="lte", metered=True), Path(name="vsat")),
}
"""Ways by the number in a schedule. Of 2 the first may be gone for good; beyond a metered one only critical records would get through."""


class Ways:
    """The way that must be in use, by what happened to the calls of one start. `now` is the box's monotonic time."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths, self.at = paths, 0
        self.failures, self.failed_at = 0, -1.0
        self.free_at = [0.0] * len(paths)
        self.probes = [0] * len(paths)
        self.probed_at = [0.0] * len(paths)  # long before the world began
        self.changes = 0

    def call(self, at: int, lane: str) -> None:
        """A lane calls."""
        if at != self.at:
            broken(f"a call on {self.paths[at].name}, but {self.paths[self.at].name} is the way")
        if self.paths[at].metered and lane != CRITICAL:
            broken(f"lane {lane} calls on a metered way")

    def ended(self, at: int, began: float, now: float, *, answered: bool) -> None:
        """A lane's call was answered, or failed."""
        if at != self.at:
            return
        if answered:
            self.failures = 0
        elif began >= self.failed_at:  # lanes that fail together are one failure
            self.failed_at, self.failures = now, self.failures + 1
            if self.failures >= FAILURES and len(self.paths) > 1:
                self.free_at[at] = now + HELD_S
                others = [each for each in range(len(self.paths)) if each != at]
                self._use(min(others, key=lambda each: (max(now, self.free_at[each]), each)))

    def probe(self, at: int, now: float) -> None:
        """A better way is looked at: one that is held is left alone, and the others are not looked at without pause."""
        if at >= self.at or now < self.free_at[at] or now < self.probed_at[at] + PROBE_EACH_S:
            broken(f"{self.paths[at].name} is probed at the wrong time")

    def probed(self, at: int, now: float, *, good: bool) -> None:
        """And was answered, or not."""
        self.probed_at[at] = now
        self.probes[at] = self.probes[at] + 1 if good else 0
        if at < self.at and self.probes[at] >= PROBES:
            self._use(at)

    def _use(self, at: int) -> None:
        self.at, self.failures, self.changes = at, 0, self.changes + 1
        self.probes = [0] * len(self.paths)
