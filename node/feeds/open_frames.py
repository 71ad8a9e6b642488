"""Memory for frames that are still coming, over all connections: each may be long, and there may be thousands."""

from collections.abc import Callable
from typing import Protocol

OPEN_BYTES_MAX = 64 * 1024 * 1024  # four of the largest frames, in a box of 1 GiB

TURN_S_MAX = 300.0  # a long frame may keep others waiting so long, where memory is short: the longest at half a Mbit/s

FRAME_BYTES_FREE = 64 * 1024  # an open frame below this is not counted: nearly all messages are


class Holder(Protocol):
    """A connection with a long open frame."""

    def go_on(self) -> None:
        """Read again."""

    def give_up_turn(self) -> None:
        """Close: others have waited too long."""


class OpenFrames:
    """What the long open frames hold together. Beyond the limit only the oldest of them goes on, so that it ends; the others wait, unread.

    So all of them hold at most the limit, one frame, and what each connection had read at once when it met the limit.
    From when others wait for it the oldest has TURN_S_MAX (`monotonic`: seconds) to end, however many they are: one that drips holds up nobody
    for ever, nor takes the next one's turn along.
    """

    def __init__(self, octets_max: int = OPEN_BYTES_MAX, *, monotonic: Callable[[], float]) -> None:
        self.holders: dict[Holder, int] = {}  # oldest first
        self._waiting: dict[Holder, None] = {}
        self._octets = 0
        self._octets_max = octets_max
        self._monotonic = monotonic
        self._turn_began = 0.0  # since when another waits for the oldest one

    def hold(self, holder: Holder, octets: int) -> bool:
        """A holder's frame has grown to this. False: it has to wait, and is called when it may go on."""
        self._octets += octets - self.holders.get(holder, 0)
        self.holders[holder] = octets
        if self._octets <= self._octets_max or next(iter(self.holders)) is holder:
            return True
        if not self._waiting:
            self._turn_began = self._monotonic()
        self._waiting[holder] = None
        self.end_turn()  # whoever waits by asking again looks no other time
        return False

    def end_turn(self) -> None:
        """Give up the one that goes on, if its turn is over: asked by whoever waits."""
        now = self._monotonic()
        if self._waiting and now - self._turn_began > TURN_S_MAX:
            self._turn_began = now  # it is told once, and may need a moment to go
            next(iter(self.holders)).give_up_turn()

    def release(self, holder: Holder) -> None:
        """Its frame has ended, or its connection; does nothing for one that holds nothing."""
        was_oldest = next(iter(self.holders), None) is holder
        held = self.holders.pop(holder, None)
        if held is None:
            return
        if was_oldest:  # the next one has a turn of its own
            self._turn_began = self._monotonic()
        self._octets -= held
        self._waiting.pop(holder, None)
        if not self._waiting:
            return
        # each goes on for one read at least, and waits again where that is too much: the oldest first
        freed = list(self._waiting) if self._octets <= self._octets_max else [next(iter(self.holders))]
        for each in freed:
            if each in self._waiting:
                del self._waiting[each]
                each.go_on()
