"""A thread of the node as a greenlet: it gives way to virtual time where the thread would wait. And what threads wait on."""

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from sync.errors import CommitUnknown
from tests.sim.agenda import Died
from tests.sim.machine import broken

LONG_S = 3600.0  # a wait without an end of its own: whoever holds what is waited for ends it


class Thread(greenlet):
    """A greenlet that knows its strand."""

    strand: "Strand"


class Strand:
    """One thread of a box. `ticket` names the wait that is under way; an answer to an earlier one is nobody's."""

    def __init__(self, box: Any, run: Callable[[], None]) -> None:
        self.box, self.ticket = box, 0
        self.thread = Thread(run)
        self.thread.strand = self

    def go(self, value: Any = None) -> None:
        """Let it run until it waits."""
        try:
            if self.thread:
                self.thread.switch(value)
            else:
                self.thread.switch()
        except CommitUnknown:
            raise Died from None
        if self.thread.dead:
            broken("a thread of the node ended")

    def pause(self, seconds: float) -> Any:
        """From within: wait for an answer, a wake-up or this long."""
        self.ticket += 1
        self.box.after(seconds, self.resume, self.ticket, None)
        return getcurrent().parent.switch()

    def resume(self, ticket: int, value: Any) -> None:
        if ticket == self.ticket:
            self.ticket += 1
            self.go(value)

    def wake(self) -> None:
        """End its wait, soon."""
        self.box.after(0.0, self.resume, self.ticket, None)

    def die(self) -> None:
        """The process is gone."""
        if not self.thread.dead and self.thread is not getcurrent():
            try:
                self.thread.throw(Died)
            except Died:
                pass


def current() -> Strand:
    """The strand that runs now."""
    return getcurrent().strand  # type: ignore[attr-defined]  # only threads of a box wait


class Event:
    """Stands where the uplink has a threading.Event. `strand` is set once it exists."""

    def __init__(self) -> None:
        self.strand: Any = None
        self._set = self._waits = False

    def set(self) -> None:
        self._set = True
        if self._waits:
            self._waits = False
            self.strand.wake()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float) -> bool:
        if not self._set:
            self._waits = True
            self.strand.pause(timeout)
            self._waits = False
        return self._set


class Lock:
    """Stands where threads share a threading.Lock that they hold while they wait for something else."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[Strand] = []

    def __enter__(self) -> None:
        while self._held:
            self._waiting.append(current())
            current().pause(LONG_S)
        self._held = True

    def __exit__(self, *_error: object) -> None:
        self._held = False
        if self._waiting:
            self._waiting.pop(0).wake()


class Condition:
    """Stands where threads share a threading.Condition. Nothing waits while it holds this but by `wait`."""

    def __init__(self) -> None:
        self._waiting: list[Strand] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        pass

    def wait(self, timeout: float) -> None:
        strand = current()
        self._waiting.append(strand)
        strand.pause(timeout)
        if strand in self._waiting:
            self._waiting.remove(strand)

    def notify(self) -> None:
        """Nobody waits: the writer's turns come from the agenda."""

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for strand in waiting:
            strand.wake()
