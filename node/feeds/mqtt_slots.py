"""What of one connection waits to be acknowledged: in the order received, after the commit, and the newest that is stored last of all.

MQTT 5.0 lets a broker use a packet identifier again as soon as it has our PUBACK, and after a lost connection nobody can tell from the wire
whether it had it. So the newest stored message is acknowledged only once a later one is stored: it is then surely among those that come again,
and all that comes again before it is ours, all after it is not (docs/decisions/0040-what-comes-again.md).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

# A broker that lets one message at a time be under way sends nothing while we hold that one: such a one is served five messages a second.
HOLD_S: Final = 0.2
ASK_AGAIN_S: Final = 5.0  # a release that could not be noted: the disk may have room by then
NO_SLOT: Final = -1  # of what is never acknowledged


class Fate(IntEnum):
    """What became of an arrival."""

    LOST = 0  # no room: the broker is to send it again
    PASSED = 1  # nothing is to be stored of it
    STORED = 2


@dataclass(slots=True)
class Slot:
    """One arrival that is acknowledged in its turn. `fate`: None while it waits for the disk."""

    mid: int
    fate: Fate | None = None


class Slots:
    """The arrivals of one connection that the broker still holds for us."""

    def __init__(self) -> None:
        self._waiting: deque[Slot] = deque()
        self._first = 0  # the number of the first that waits
        self._newest = self._released = -1
        self._stored_at = self._asked_at = float("-inf")
        self._may_hold = False
        self.must_end = False

    def arrived(self, mid: int, qos: int) -> int:
        """Give an arrival its number. With QoS 0 there is nothing to acknowledge."""
        if not qos:
            return NO_SLOT
        self._may_hold = self._may_hold or bool(self._waiting)  # two are under way: this broker does not wait for one
        self._waiting.append(Slot(mid))
        return self._first + len(self._waiting) - 1

    def settled(self, number: int, fate: Fate, now: float) -> None:
        """Note what became of one."""
        if number == NO_SLOT:
            return
        self._waiting[number - self._first].fate = fate
        if fate is Fate.STORED and number > self._newest:
            self._newest, self._stored_at = number, now

    def due(self) -> Iterator[int]:
        """Take those that are to be acknowledged now, in their order; `must_end` where one found no room, and all behind it come again with it."""
        while self._waiting and (slot := self._waiting[0]).fate is not None:
            if slot.fate is Fate.LOST:
                self.must_end = True
                return
            if slot.fate is Fate.STORED and self._first >= self._newest > self._released:
                self.must_end = any(slot.fate is Fate.LOST for slot in self._waiting)
                return  # held: nothing later is stored yet
            self._waiting.popleft()
            self._first += 1
            yield slot.mid

    def wanted(self, now: float) -> int | None:
        """Say which held one should be released, once that is noted: where nothing would come any more while it is held."""
        if not self._waiting or self._first != self._newest or self._newest <= self._released:
            return None
        if not self.is_stuck and (self._may_hold or now - self._stored_at < HOLD_S):
            return None
        if now - self._asked_at < ASK_AGAIN_S:
            return None
        self._asked_at = now
        return self._newest

    def release(self, number: int) -> None:
        """Let one that is held be acknowledged: it is noted that all may be."""
        self._released = max(self._released, number)
        self._asked_at = float("-inf")

    @property
    def is_stuck(self) -> bool:
        """Whether what waits behind the first is nothing that is stored, nor ever will be."""
        return len(self._waiting) > 1 and all(slot.fate is Fate.PASSED for slot in list(self._waiting)[1:])

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for the disk."""
        return all(slot.fate is not None for slot in self._waiting)

    @property
    def wait_s_max(self) -> float | None:
        """How long a thread may wait before it looks at `wanted`; None where nothing is held that may have to go."""
        return None if self._may_hold or self._first != self._newest or not self._waiting else HOLD_S
