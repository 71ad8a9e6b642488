"""Many schedules one after the other, and what came of them in one line."""

import gc
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.sim.bench import bench
from tests.sim.schedule import schedule_of, with_thief
from tests.sim.world import EFFECTS_MIN, Outcome, World

COLLECT_EVERY = (
    10  # schedules: a world is one large knot of cycles, and looking for them within a run takes a tenth of it
)


def outcome(seed: int, drop: Collection[int] = (), *, wild: bool = False, thief: bool = False) -> Outcome:
    """Run one seed, without some of its operations."""
    schedule = schedule_of(seed, wild=wild)
    if thief:
        schedule = with_thief(schedule)
    with bench(real_keys=schedule.real_keys, packed=schedule.parts):
        return World(schedule, drop).run()


def a_minute(effects: int, seconds: float) -> int:
    """Effects a minute."""
    return round(effects / max(seconds, 1e-9) * 60)


@dataclass(slots=True)
class Campaign:
    """Sums over the schedules that ran. `seconds` of this process's CPU."""

    schedules: int = 0
    effects: int = 0
    seconds: float = 0.0
    signed_effects: int = 0  # of the schedules with real keys, one in ten; the others have a stub signer
    signed_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)

    def run(self, first: int, seeds: int, *, wild: bool = False, keys: bool = False, thief: bool = False) -> None:
        """Run these seeds; `keys`: those of them whose log key changes, `thief`: these with a thief on the way."""
        began, was_on = time.process_time(), gc.isenabled()
        gc.disable()
        gc.freeze()  # what is there already is no garbage: looking it through each time takes longer than what is new
        try:
            for seed in range(first, first + seeds):
                schedule = schedule_of(seed, wild=wild)
                if (keys or thief) and not schedule.keys:
                    continue
                at = time.process_time()
                found = outcome(seed, wild=wild, thief=thief)
                self._take(found)
                if schedule.real_keys:
                    self.signed_effects += found.effects
                    self.signed_seconds += time.process_time() - at
                if seed % COLLECT_EVERY == 0:
                    gc.collect()
        finally:
            gc.unfreeze()
            if was_on:
                gc.enable()
        self.seconds += time.process_time() - began

    def _take(self, found: Outcome) -> None:
        self.schedules += 1
        self.effects += found.effects
        self.counts.update(found.counts)
        self.sizes.append(found.effects)
        self.faults.append(found.faults)
        if found.why:
            self.failures.append(found)

    def summary(self) -> str:
        """One line."""
        faults = ", ".join(f"{kind[3:]} {n}" for kind, n in sorted(self.counts.items()) if kind.startswith("op "))
        sizes = sorted(self.sizes)
        spread = f"{sizes[0]}/{sizes[len(sizes) // 2]}/{sizes[-1]}" if sizes else "-"
        return (
            f"{self.schedules} schedules, {self.effects} effects (least/median/most {spread}), "
            f"{a_minute(self.effects, self.seconds)} effects a minute of one core "
            f"({a_minute(self.effects - self.signed_effects, self.seconds - self.signed_seconds)} with a stub signer), "
            f"faults: {faults} (least {min(self.faults, default=0)} a schedule), failures: {len(self.failures)}"
        )

    @property
    def is_sound(self) -> bool:
        """Whether every schedule was large enough and none failed."""
        return not self.failures and min(self.sizes) >= EFFECTS_MIN and min(self.faults) >= 2
