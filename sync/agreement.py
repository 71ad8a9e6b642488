"""Up to where a gateway holds what a node has: found by asking for roots, in about as many questions as the size has bits.

Equal roots at a size mean equal records up to there (RFC 9162). The node's own logs are compared one after the other; then the epochs that
only the gateway knows, whose first records may be ours too: carried there by a start of this node that a restored backup has forgotten.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

EPOCHS_MAX = 64  # foreign epochs looked into: each came of a restored or copied node


@dataclass(frozen=True, slots=True)
class Window:
    """The gateway's log of `epoch` (and `tag`; any where that is empty) against the rows start..end-1 of our run."""

    epoch: int
    tag: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Question:
    """What root has the gateway's log of this epoch at this size, which is above 0?"""

    epoch: int
    size: int


@dataclass(frozen=True, slots=True)
class Told:
    """The log's tag and size (empty and 0 where there is none), and its root at the size that was asked (empty where it is shorter).

    `opening`: the statement that opened it; empty for a stream's first log, and from a gateway of before 2026-11-23.
    """

    tag: str
    size: int
    root: bytes
    opening: bytes = b""


class Agreed(NamedTuple):
    """From row `place` on the gateway does not hold ours; up to row `own` it holds them in logs that we have too, the rest in forgotten ones.

    `opening`: the statement of its newest log, where that was asked for.
    """

    place: int
    own: int
    opening: bytes = b""


Search = Generator[Question, Told, Agreed]


def find_common(
    root_of: Callable[[int, int], bytes], windows: Sequence[Window], *, end: int, theirs: int, far: bool = False
) -> Search:
    """Ask until it is known from which row on, at most `end`, the gateway does not hold ours; that is the generator's value.

    `root_of(start, size)`: the root over rows of our run; `windows`: our logs, oldest first; `theirs`: the gateway's newest epoch;
    `far`: it lies so far ahead that its statement is asked for as well.
    """
    place, oldest = windows[0].start, windows[0].epoch
    for window in windows:
        if window.start == window.end:
            continue
        place = window.start + (yield from _held(root_of, window))
        if place < window.end:
            break
    own = place
    # those of a number that we have too: ours may have been opened here and never taken there
    for epoch in range(max(oldest + 1, theirs - EPOCHS_MAX + 1), theirs + 1):
        if place < end:
            place += yield from _held(root_of, Window(epoch, "", place, end))
    opening = (yield Question(theirs, 1)).opening if far else b""
    return Agreed(place, own, opening)


def _held(root_of: Callable[[int, int], bytes], window: Window) -> Generator[Question, Told, int]:
    """How many of the window's first rows the gateway holds."""
    wanted = window.end - window.start
    told = yield Question(window.epoch, wanted)
    if window.tag not in {"", told.tag} or told.size == 0:
        return 0
    low, high = 0, min(wanted, told.size)
    if told.size < wanted:  # it is shorter; then all of it is probably ours
        told = yield Question(window.epoch, high)
    asked = high
    while True:
        if told.root and root_of(window.start, asked) == told.root:
            low = asked
        else:
            high = asked - 1
        if low >= high:
            return low
        asked = (low + high + 1) // 2
        told = yield Question(window.epoch, asked)
