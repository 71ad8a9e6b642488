"""A disk that fails when told to, and remembers what it was told: an apsw VFS over the machine's own.

What a power cut may leave of it is worked out from the tape, in `tests.power_states`.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw

STORING = ("write", "sync")
ALL = (*STORING, "read", "open", "truncate", "delete", "size", "lock")


class Op(NamedTuple):
    """One entry of a tape: what was done to the file of this name. `value` is bytes, a size, whether the folder is synced too, or a mark's."""

    what: str
    name: str
    at: int = 0
    value: Any = None


class Disk(apsw.VFS):
    """SQLite's files, on the real disk too. Each call since `arm` is counted, and may be made to fail; while there is a tape, it is told of each change.

    `lies`: a sync does nothing, as with a card that only says it flushed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, str]] = []
        self.kinds: Collection[str] = STORING
        self.fails_at = 0
        self.once = self.full = self.lies = False
        self.tape: list[Op] | None = None
        super().__init__(name, "")

    def arm(
        self, fails_at: int = 0, *, once: bool = False, full: bool = False, kinds: Collection[str] = STORING
    ) -> None:
        """Count calls of these kinds anew. Number `fails_at` and all after it fail (`once`: it alone; `full`: for want of room); 0: none."""
        self.calls, self.fails_at, self.once, self.full, self.kinds = [], fails_at, once, full, kinds

    def step(self, what: str, path: str) -> None:
        """Count a call; raise where it is to fail."""
        if what not in self.kinds:
            return
        self.calls.append((what, _kind(path)))
        at = len(self.calls)
        if self.fails_at and (at == self.fails_at if self.once else at >= self.fails_at):
            if self.full and what == "write":
                raise apsw.FullError
            raise apsw.CantOpenError if what == "open" else apsw.IOError

    def note(self, what: str, path: str, at: int = 0, value: Any = None) -> None:
        """Put an entry on the tape; a "mark" is whatever the one who writes wants to find there again."""
        if self.tape is not None:
            self.tape.append(Op(what, path.rpartition("/")[2], at, value))

    def synced(self, path: Path) -> None:
        """Take note of a file or folder that was synced by somebody else than SQLite."""
        if not self.lies:
            self.note("folder" if path.is_dir() else "sync", str(path))

    def xOpen(self, name, flags):
        return DiskFile(self, name, flags)

    def xDelete(self, name, syncdir):
        self.step("delete", name)
        super().xDelete(name, syncdir)
        self.note("delete", name)
        if syncdir:
            self.note("folder", name)


class DiskFile(apsw.VFSFile):
    """One open file of a Disk."""

    def __init__(self, disk: Disk, name, flags) -> None:
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        # os_unix.c syncs the folder at the first sync of a journal or WAL that it opened to create
        self.unlisted = self.path.endswith(("-wal", "-journal")) and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        disk.step("open", self.path)
        fresh = not Path(self.path).exists()
        super().__init__("", name, flags)
        if fresh:
            disk.note("create", self.path)

    def xRead(self, amount, offset):
        self.disk.step("read", self.path)
        return super().xRead(amount, offset)

    def xWrite(self, data, offset):
        self.disk.step("write", self.path)
        super().xWrite(data, offset)
        self.disk.note("write", self.path, offset, bytes(data))

    def xTruncate(self, size):
        self.disk.step("truncate", self.path)
        super().xTruncate(size)
        self.disk.note("truncate", self.path, size)

    def xSync(self, flags):
        self.disk.step("sync", self.path)
        super().xSync(flags)
        if not self.disk.lies:
            self.disk.note("sync", self.path)
            if self.unlisted:
                self.disk.note("folder", self.path)
        self.unlisted = False

    def xFileSize(self):
        self.disk.step("size", self.path)
        return super().xFileSize()

    def xLock(self, level):
        self.disk.step("lock", self.path)
        super().xLock(level)


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
