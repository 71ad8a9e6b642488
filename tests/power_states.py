"""What a power cut can leave of files: after every prefix of a disk's tape, of what was not synced any part, in any order, torn.

A state is named by what came through of each unsynced change, in the tape's order: a hexadecimal mask of its sectors, 0 for nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from tests.sim_disk import Op

SECTOR_BYTES = 512  # the most of a write that every disk stores whole or not at all
SUBSETS_OF_MAX = 4  # up to so many unsynced changes every subset of them is a state; beyond, the dice choose
TORN_PART = 0.3  # of the changes that the dice let through
Files = dict[str, bytes]


class State(NamedTuple):
    """Files as a power cut after the tape's first `cut` entries may leave them, which of them this is, and the last mark before it.

    The files hold until the next state is asked for.
    """

    cut: int
    choice: str
    files: Files
    told: Any


@dataclass(eq=False)
class Inode:
    """A file's content on the platter, whatever its name is."""

    content: bytearray = field(default_factory=bytearray)


class Platter:
    """Files and their folder while a tape is played: what is durable, and the changes that may or may not be."""

    def __init__(self, files: Files) -> None:
        self._live = {name: Inode(bytearray(data)) for name, data in files.items()}
        self._listed: dict[str, Inode] = dict(self._live)
        self._pending: list[tuple[Op, Inode]] = []
        self._seen: set[tuple[int, ...]] = set()
        self.told: Any = None

    def play(self, op: Op) -> None:
        """One entry of the tape."""
        if op.what == "mark":
            self.told = op.value
            self._seen.clear()
            return
        if op.what == "folder":
            self._settle(lambda change, _: change.what in {"create", "delete"})
            return
        if op.what == "create":
            self._live[op.name] = Inode()
        inode = self._live[op.name]
        if op.what == "sync":
            self._settle(lambda change, its: its is inode and change.what in {"write", "truncate"})
            return
        if op.what == "delete":
            del self._live[op.name]
        self._pending.append((op, inode))

    def choices(self, dice: Random, count: int) -> Iterator[tuple[int, ...]]:
        """States of this moment that were not there before the last change: all subsets of a few changes, else none, all and `count` thrown."""
        whole = tuple(_sectors(op) for op, _ in self._pending)
        if len(whole) <= SUBSETS_OF_MAX:
            drawn = [tuple(mask * (bits >> n & 1) for n, mask in enumerate(whole)) for bits in range(1 << len(whole))]
        else:
            drawn = [(0,) * len(whole), whole, (*whole[:-1], 0), (*((0,) * (len(whole) - 1)), whole[-1])]
        drawn += [_thrown(whole, dice) for _ in range(count if whole else 0)]
        for choice in drawn:
            found = self._in_order(choice)
            if found not in self._seen:
                self._seen.add(found)
                yield found

    def files(self, choice: Sequence[int]) -> Files:
        """The files of a state: the pending changes by their masks, over what is durable."""
        names, changed = dict(self._listed), {}
        for (op, inode), mask in zip(self._pending, choice, strict=False):
            if mask and op.what == "create":
                names[op.name] = inode
            elif mask and op.what == "delete":
                names.pop(op.name, None)
            elif mask:
                if inode not in changed:
                    changed[inode] = bytearray(inode.content)
                _apply(changed[inode], op, mask)
        return {name: changed.get(inode, inode.content) for name, inode in names.items()}

    def _in_order(self, choice: tuple[int, ...]) -> tuple[int, ...]:
        """The same without the end of which nothing came, and with a folder's changes up to the first that did not: those are journalled."""
        lost, found = False, []
        for (op, _), mask in zip(self._pending, choice, strict=False):
            of_folder = op.what in {"create", "delete"}
            lost = lost or (of_folder and not mask)
            found.append(0 if of_folder and lost else mask)
        while found and not found[-1]:
            found.pop()
        return tuple(found)

    def _settle(self, durable: Any) -> None:
        """Bring to the platter the pending changes of which this is true."""
        rest = []
        for op, inode in self._pending:
            if not durable(op, inode):
                rest.append((op, inode))
            elif op.what == "create":
                self._listed[op.name] = inode
            elif op.what == "delete":
                self._listed.pop(op.name, None)
            else:
                _apply(inode.content, op, _sectors(op))
        self._pending = rest
        self._seen.clear()


def states(tape: Sequence[Op], files: Files, *, seed: str, count: int) -> Iterator[State]:
    """Every state that this enumeration knows, each once: `count` thrown ones for each change beside the regular ones."""
    platter = Platter(files)
    dice = Random(f"cuts {seed}")
    for cut, op in enumerate(tape, 1):
        platter.play(op)
        for choice in platter.choices(dice, count):
            yield State(cut, name_of(choice), platter.files(choice), platter.told)


def state(tape: Sequence[Op], files: Files, cut: int, choice: str) -> State:
    """One state, by its name."""
    platter = Platter(files)
    for op in tape[:cut]:
        platter.play(op)
    masks = [int(mask, 16) for mask in choice.split(".") if mask]
    return State(cut, choice, platter.files(masks), platter.told)


def name_of(choice: Sequence[int]) -> str:
    """How a report calls it."""
    return ".".join(f"{mask:x}" for mask in choice)


def _sectors(op: Op) -> int:
    """The mask with which all of a change comes through."""
    if op.what != "write":
        return 1
    first, last = op.at // SECTOR_BYTES, (op.at + len(op.value) - 1) // SECTOR_BYTES
    return (1 << last - first + 1) - 1


def _thrown(whole: Sequence[int], dice: Random) -> tuple[int, ...]:
    part = dice.choice((0.1, 0.5, 0.9))  # nearly nothing came through, or half of it, or nearly all
    return tuple(
        0
        if dice.random() >= part
        else mask & dice.getrandbits(mask.bit_length())
        if dice.random() < TORN_PART
        else mask
        for mask in whole
    )


def _apply(content: bytearray, op: Op, mask: int) -> None:
    """Change a file's content by the sectors of the mask."""
    if op.what == "truncate":
        del content[op.at :]
        return
    end = op.at + len(op.value)
    if mask == _sectors(op):
        _put(content, op.at, op.value)
        return
    first = op.at // SECTOR_BYTES
    for n in range(mask.bit_length()):
        if mask >> n & 1:
            begins = max(op.at, (first + n) * SECTOR_BYTES)
            ends = min(end, (first + n + 1) * SECTOR_BYTES)
            _put(content, begins, op.value[begins - op.at : ends - op.at])


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data
