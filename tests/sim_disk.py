"""A disk that fails when told to: an apsw VFS over the machine's own, counting every write and sync."""

from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class Disk(apsw.VFS):
    """Files of SQLite on the real disk. From the call number `fails_at` on (1 = the next), each write and sync fails; 0 never.

    `calls` names what was done since `arm`: "write" or "sync", and the kind of file. `ioerror` is the SQLite error code that a failing call gives.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, str]] = []
        self.fails_at = 0
        self.only: str | None = None
        self.once = False
        self.full = False
        super().__init__(name, "")

    def arm(self, fails_at: int, *, once: bool = False, full: bool = False, only: str | None = None) -> None:
        """Count anew, and fail at that call: for ever, or `once`; with a full disk instead of a broken one; `only` for one kind of file."""
        self.calls, self.fails_at, self.once, self.full, self.only = [], fails_at, once, full, only

    def xOpen(self, name, flags):
        return DiskFile(self, name, flags)

    def step(self, what: str, file: str) -> None:
        """Count a call; raise where it is to fail."""
        if self.only not in {None, file}:
            return
        self.calls.append((what, file))
        at = len(self.calls)
        if self.fails_at and (at == self.fails_at if self.once else at >= self.fails_at):
            if self.full and what == "write":
                raise apsw.FullError
            raise apsw.IOError


class DiskFile(apsw.VFSFile):
    """One open file of a Disk."""

    def __init__(self, disk: Disk, name, flags) -> None:
        self.disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self.kind = "wal" if path.endswith("-wal") else "journal" if path.endswith("-journal") else "main"
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        self.disk.step("write", self.kind)
        super().xWrite(data, offset)

    def xSync(self, flags):
        self.disk.step("sync", self.kind)
        super().xSync(flags)


@contextmanager
def disk(name: str = "sim-disk") -> Iterator[Disk]:
    """A Disk under this VFS name, unregistered afterwards."""
    made = Disk(name)
    try:
        yield made
    finally:
        made.unregister()
