"""Memory for frames that are still coming, over all connections: each may be long, and there may be thousands."""

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
    """

    def __init__(self, octets_max: int = OPEN_BYTES_MAX) -> None:
        self.holders: dict[Holder, int] = {}  # oldest first
        self._waiting: dict[Holder, None] = {}
        self._octets = 0
        self._octets_max = octets_max

    def hold(self, holder: Holder, octets: int) -> bool:
        """A holder's frame has grown to this. False: it has to wait, and is called when it may go on."""
        self._octets += octets - self.holders.get(holder, 0)
        self.holders[holder] = octets
        if self._octets <= self._octets_max or next(iter(self.holders)) is holder:
            return True
        self._waiting[holder] = None
        return False

    def give_up_oldest(self) -> None:
        """Close the one that goes on, because another has waited too long: a frame that drips must not hold up all others."""
        if self.holders:
            next(iter(self.holders)).give_up_turn()

    def release(self, holder: Holder) -> None:
        """Its frame has ended, or its connection; does nothing for one that holds nothing."""
        held = self.holders.pop(holder, None)
        if held is None:
            return
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
