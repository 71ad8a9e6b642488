"""What node and gateway have in common: a disk, clocks that jump, and a process that may die at any point."""

from collections.abc import Callable
from typing import Any

import apsw

from tests.sim.agenda import Agenda, Broken, Died

EPOCH_US = 1_780_000_000_000_000  # 2026-05-28: when every world begins
EFFECTS_MAX = 15_000  # of a schedule; the busiest that was seen had 11,500
BIG_BANG_S = 1_000.0  # monotonic clocks do not begin at zero
GROWS = ("INSERT", "UPDATE")


class Machine:
    """A process on a disk. `fuse`: how many points it still passes before it dies, or -1."""

    def __init__(self, agenda: Agenda, disk: Any, counts: dict[str, int]) -> None:
        self.agenda, self.disk, self.counts = agenda, disk, counts
        self.up = False
        self.life = 0
        self.fuse = -1
        self.full_until = 0.0
        self.full_after = 0
        self.shift_us = 0
        self.watched = False  # each statement is looked at before it runs

    # -- clocks ----------------------------------------------------------------------------------------------------

    def now_us(self) -> int:
        return EPOCH_US + int(self.agenda.now * 1e6) + self.shift_us

    def monotonic(self) -> float:
        return BIG_BANG_S + self.agenda.now

    # -- dying -----------------------------------------------------------------------------------------------------

    def point(self) -> None:
        """Between two effects. A blown fuse ends the process here."""
        if self.fuse >= 0:
            self.fuse -= 1
            if self.fuse < 0:
                raise Died

    def effect(self) -> None:
        """An effect is performed: counted, and a point."""
        self.counts["effects"] += 1
        if self.counts["effects"] > EFFECTS_MAX:
            broken("a storm of calls that lead to nothing")
        self.point()

    def guarded(self, life: int, act: Callable[..., Any], *args: Any) -> None:
        """Do this if the process that wanted it still lives."""
        if self.up and self.life == life:
            try:
                act(*args)
            except Died:
                self.fall()

    def after(self, seconds: float, act: Callable[..., Any], *args: Any) -> None:
        """Have this process do something later."""
        self.agenda.after(seconds, self.guarded, self.life, act, *args)

    def fall(self) -> None:
        """The process is gone, with all that was not committed."""
        raise NotImplementedError

    # -- the disk's moods ------------------------------------------------------------------------------------------

    def arm(self, points: int) -> None:
        """Die after so many more points, statements of SQLite included."""
        self.fuse = points
        self.watch()

    def fill(self, until: float, after: int) -> None:
        """No room on the disk until then, from the so-many-th writing statement on."""
        self.full_until, self.full_after = until, after
        self.watch()

    def watch(self) -> None:
        """Look at each statement, but only while something is to happen to one: looking costs."""
        connection = self.disk.connection
        self.watched = connection is not None and (self.fuse >= 0 or self.full_until > self.agenda.now)
        if self.watched:
            connection.exec_trace = self._statement

    def _statement(self, _cursor: Any, sql: str, _bindings: Any) -> bool:
        self.point()
        if self.full_until > self.agenda.now and sql.startswith(GROWS):
            self.full_after -= 1
            if self.full_after < 0:
                self.counts["full"] += 1
                raise apsw.FullError("simulated")
        elif self.fuse < 0 and self.full_until <= self.agenda.now and self.disk.connection is not None:
            self.disk.connection.exec_trace = None
            self.watched = False
        return True


def broken(what: str) -> None:
    """An invariant does not hold."""
    raise Broken(what)
