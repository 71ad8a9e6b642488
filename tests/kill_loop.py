"""What the kill loops have in common: a gateway and a node under sources, kill after kill, and the reckoning at the end."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.kill_rig import LoopError
from tests.node_rig import Centre, Node, Realm, wait_until

STARTING = 0.2  # of the kills, those that come while the victim starts
COME_S_MAX = 900.0  # for what must come, on a machine that does other things


@dataclass
class Loop(ABC):
    """One run over a folder. `report` is told what happens; `come_s_max`: how long what must come may take."""

    folder: Path
    kills: int
    seed: int
    report: Callable[[str], None] = print
    come_s_max: float = COME_S_MAX

    start_s_max: ClassVar[float]  # about what a warm start takes: some kills come before the victim is up
    rest_s_max: ClassVar[float]  # after what was waited for, so that a kill comes anywhere in what follows

    def run(self) -> str:
        """Kill, restart, compare, finish; a summary. Raises LoopError."""
        self.report(f"seed {self.seed}")
        self._dice = random.Random(self.seed)
        self._realm = Realm.make(self.folder / "realm")
        self._centre = Centre(self._realm, self.folder / "centre")
        self._node = self.make()
        try:
            return self.work()
        finally:
            self.abandon()
            self._node.kill()
            self._centre.kill()

    # -- what a loop is made of ------------------------------------------------------------------------------------------

    @abstractmethod
    def make(self) -> Node:
        """The sources, and the node with their feeds."""

    @abstractmethod
    def work(self) -> str:
        """Start, kill, finish; a summary. Raises LoopError."""

    @abstractmethod
    def faults(self) -> list[str]:
        """What the sources were told that they must not be told."""

    @abstractmethod
    def abandon(self) -> None:
        """End the sources, whatever is under way."""

    # -- what all do -----------------------------------------------------------------------------------------------------

    def wait(self, what: str, found: Callable[[], Any]) -> None:
        """Until it has come. RuntimeError where it never does."""
        wait_until(what, found, s_max=self.come_s_max)

    def let_work(
        self, up: Sequence[Callable[[], bool]], acknowledged: Callable[[], int], work_max: int, of: str
    ) -> None:
        """Let the victim just start, or be up and something `of` somebody be acknowledged: somewhere behind that the kill comes. Raises LoopError."""
        if self._dice.random() < STARTING:
            time.sleep(self._dice.random() * self.start_s_max)
        else:
            for is_up in up:
                self.wait("node and gateway that are up", is_up)
            goal = acknowledged() + self._dice.randint(1, work_max)
            self.wait(f"acknowledgements of {of}", lambda: acknowledged() >= goal or self.faults())
            time.sleep(self._dice.random() * self.rest_s_max)
        self.check_faults()

    def check_faults(self) -> None:
        """Raises LoopError where a source has one."""
        if faults := self.faults():
            raise LoopError(f"seed {self.seed}: {faults}")
