"""A disk that fails when told to, and forgets what was not synced when the power goes: an apsw VFS over the machine's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import apsw


class Disk(apsw.VFS):
    """SQLite's files, on the real disk too. Each write and sync since `arm` is counted, and may be made to fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, str]] = []
        self.fails_at = 0
        self.once = self.full = False
        self.platters: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[int, bytes | None]]] = {}
        super().__init__(name, "")

    def arm(self, fails_at: int = 0, *, once: bool = False, full: bool = False) -> None:
        """Count anew. Call number `fails_at` and all after it fail (`once`: it alone; `full`: for want of room); 0: none."""
        self.calls, self.fails_at, self.once, self.full = [], fails_at, once, full

    def spin(self, folder: Path) -> None:
        """From now on keep what a power cut would leave: what lies in the folder counts as synced."""
        self.platters = {str(file): bytearray(file.read_bytes()) for file in folder.iterdir()}
        self.pending = {}

    def cut_power(self, dice: Random, folder: Path) -> None:
        """Write into another folder what is on the platters, with any of the unsynced writes as the dice fall: whole, torn or not at all."""
        for path, platter in self.platters.items():
            left = bytearray(platter)
            for at, data in self.pending.get(path, []):
                if dice.random() < 0.5:
                    torn = data if data is None or dice.random() < 0.7 else data[: dice.randrange(len(data) + 1)]
                    _apply(left, at, torn)
            if not path.endswith("-shm"):
                (folder / Path(path).name).write_bytes(left)

    def step(self, what: str, path: str) -> None:
        """Count a call; raise where it is to fail."""
        self.calls.append((what, _kind(path)))
        at = len(self.calls)
        if self.fails_at and (at == self.fails_at if self.once else at >= self.fails_at):
            if self.full and what == "write":
                raise apsw.FullError
            raise apsw.IOError

    def xOpen(self, name, flags):
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    """One open file of a Disk."""

    def __init__(self, disk: Disk, name, flags) -> None:
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        self.disk.step("write", self.path)
        self.disk.pending.setdefault(self.path, []).append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size):
        self.disk.pending.setdefault(self.path, []).append((size, None))
        super().xTruncate(size)

    def xSync(self, flags):
        self.disk.step("sync", self.path)
        super().xSync(flags)
        platter = self.disk.platters.setdefault(self.path, bytearray())
        for at, data in self.disk.pending.pop(self.path, []):
            _apply(platter, at, data)


def _apply(platter: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del platter[at:]
        return
    platter.extend(bytes(max(0, at - len(platter))))
    platter[at : at + len(data)] = data


def _kind(path: str) -> str:
    return "wal" if path.endswith("-wal") else "journal" if path.endswith("-journal") else "main"


@contextmanager
def disk(name: str = "sim-disk") -> Iterator[Disk]:
    """A Disk under this VFS name, unregistered afterwards."""
    made = Disk(name)
    try:
        yield made
    finally:
        made.unregister()
