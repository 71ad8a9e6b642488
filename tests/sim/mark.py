"""The high-water mark of a box: the product's, over a small file that no backup of the disk brings back; and what it must say after one."""

import json
from io import BytesIO
from typing import Any

from node.uplink.highwater import HighWater
from sync.control import Hole
from tests.sim.machine import Machine, broken

Place = tuple[int, str, int]  # epoch, tag, size
Older = tuple[int, bool]  # the epoch that a further one must be above; whether there is something to name
PARTED = "NOD-31"
LOST = "lost/"  # what of a stream is to be named, and empty once it is (node/restored.py)


class MarkFile:
    """Stands where the product has the path of its file."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def open(self, _mode: str) -> BytesIO:
        if not self.data:
            raise FileNotFoundError
        return BytesIO(self.data)

    def __str__(self) -> str:
        return "mark"


class BoxMark(HighWater):
    """The product's; writing it is a point before and after which the process may die, and finds no room on a full disk."""

    def __init__(self, box: Machine, file: MarkFile) -> None:
        super().__init__(file, box.monotonic)  # type: ignore[arg-type]  # as much of a path as is asked for
        self._box, self._file = box, file

    def _write(self, data: bytes) -> None:
        self._box.point()
        if self._box.full_until > self._box.agenda.now:
            raise OSError("simulated")
        self._file.data = data
        self._box.point()


class NoMark(HighWater):
    """No file outside the database: what a restored node is told, it is told by the gateway."""

    def __init__(self, box: Machine) -> None:
        super().__init__(MarkFile(), box.monotonic)  # type: ignore[arg-type]  # never written

    def save(self, *, now: bool = False) -> None:
        del now


def places(disk: Any) -> dict[str, Place]:
    """Where the streams of a disk end. What a start has in memory may be less: it dies after its first commit, too."""
    rows = disk.look("SELECT stream, epoch, tag, size FROM log ORDER BY stream, epoch")
    return {name: (epoch, tag, size) for name, epoch, tag, size in rows}


def older(data: bytes, backup: dict[str, Place]) -> dict[str, Older]:
    """The streams of which a mark knows more than a backup holds."""
    found = {}
    for name, said in json.loads(data or b'{"streams":{}}')["streams"].items():
        epoch, tag, size = backup.get(name, (0, "", 0))
        if epoch and (said["epoch"], said["tag"]) != (epoch, tag):
            if said["epoch"] >= epoch:
                found[name] = said["epoch"], said["accepted"] > 0
        elif epoch and said["accepted"] > size:
            found[name] = epoch, True
    return found


def must_have_parted(outbox: Any, expected: dict[str, Older], ever: set[tuple[str, str]]) -> None:
    """A node on a disk that is older than its mark goes on under a further epoch, and says so, before there is a link."""
    for name, (epoch, loses) in expected.items():
        if outbox.heads[name].origin.epoch <= epoch:
            broken(f"{name}: the disk is older than the node had been, and goes on as if it were not")
        if (PARTED, name) not in ever:
            broken(f"{name}: a further epoch without an alarm")
        if loses and outbox.fact(f"{LOST}{name}") is None:
            broken(f"{name}: what the disk has lost is named nowhere")


def check_hole(world: Any, origin: str, hole: Hole, *, is_again: bool) -> None:
    """What a node says of its loss: once, of this stream, of a log before this one, and only after a disk of it was rolled back or copied."""
    _, stream, log = origin.split("/")
    if hole.stream != stream or hole.epoch >= int(log.partition("-")[0]) or hole.lost != "all":
        broken(f"{origin} names a hole that it cannot have: {hole}")
    if not world.copied:
        broken(f"{origin} names a hole, and no disk was rolled back or copied: {hole}")
    # of two copies each may say so, and a disk that is rolled back twice can forget that it has
    if is_again and len(world.boxes) == 1 and world.counts["op restore-node"] <= 1:
        broken(f"{origin} names a hole a second time: {hole}")
    world.counts["holes named"] += 1
