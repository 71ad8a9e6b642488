"""A machine's disk as SQLite sees it: in memory, where COMMIT is durable and costs nothing, or real files. Both can be copied."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import apsw

from sync import store

MOUNTS: dict[str, "MemoryDisk | FileDisk"] = {}  # the disks of the present world, by the path that the product opens
WAL_MARK = slice(18, 20)  # SQLite file format: the bytes that ask for a WAL, which memory has not
REAL = (store.create, store.SafeDatabase)  # in a tuple: the bench replaces what stands under a name of its own


@cache
def template(schema: Path) -> apsw.Connection:
    """An empty database of this schema, as the product makes it, in memory."""
    with tempfile.TemporaryDirectory() as folder:
        made = REAL[0](Path(folder) / "made.db", schema)
        image = bytearray(made.raw().serialize("main"))
        made.close()
    image[WAL_MARK] = b"\1\1"
    return loaded(bytes(image))


def loaded(image: bytes) -> apsw.Connection:
    """A database of these bytes."""
    made = apsw.Connection(":memory:")
    made.deserialize("main", image)
    return made


def copied(durable: apsw.Connection) -> apsw.Connection:
    """A new connection, which knows nothing but what is durable. Pages are handed on as they are: no bytes are made of them."""
    made = apsw.Connection(":memory:")
    made.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # as the product's connections
    with made.backup("main", durable, "main") as backup:
        backup.step()
    return made


@contextmanager
def unseen(connection: apsw.Connection) -> Iterator[None]:
    """What the oracle or a person reads is no point at which a machine dies."""
    watched, connection.exec_trace = connection.exec_trace, None
    try:
        yield
    finally:
        connection.exec_trace = watched


def asked(connection: apsw.Connection, question: str) -> list[Any]:
    """The rows of such a question."""
    with unseen(connection):
        return list(connection.execute(question))


def roll_back(connection: apsw.Connection) -> None:
    """What a dead process leaves: nothing of a transaction that it did not commit."""
    connection.exec_trace = None
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")


class MemoryDisk:
    """One database in memory. `durable` is what is left of it while nothing is open; None: nothing was ever stored."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.durable: apsw.Connection | None = None
        self.connection: apsw.Connection | None = None
        MOUNTS[path] = self

    def create(self, schema: Path) -> "MemoryDisk":
        if self.connection is None:
            self.connection = copied(self.durable or template(schema))
        return self

    def raw(self) -> apsw.Connection:
        if self.connection is None:
            raise apsw.CantOpenError
        return self.connection

    def close(self) -> None:
        """The product's close: what is committed stays."""

    def fall(self) -> None:
        """The process is gone: what was not committed is too."""
        made = self.connection
        if made is not None:
            roll_back(made)
            self._keep(made)
            self.connection = None

    def look(self, question: str) -> list[Any]:
        """What the oracle reads, whether a process runs or not."""
        found = self.connection or self.durable
        return asked(found, question) if found is not None else []

    def copy(self) -> Any:
        found = self.connection or self.durable
        return found.serialize("main") if found is not None else None

    def restore(self, image: Any) -> None:
        self.fall()
        self._keep(loaded(image) if image else None)

    def _keep(self, durable: apsw.Connection | None) -> None:
        if self.durable is not None:
            self.durable.close(True)
        self.durable = durable

    def discard(self) -> None:
        self.fall()
        self._keep(None)


class FileDisk:
    """One database in files, opened as the product opens it: WAL, synchronous=FULL."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = Path(tempfile.mkdtemp(prefix="wasl-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.file = self.folder / "store.db"
        self.connection: apsw.Connection | None = None
        self.opened: list[Any] = []
        MOUNTS[path] = self

    def create(self, schema: Path) -> Any:
        made = REAL[0](self.file, schema)
        self.opened.append(made)
        self.connection = made.raw()
        return made

    def reader(self) -> Any:
        made = REAL[1](self.file, readonly=True)
        self.opened.append(made)
        return made

    def fall(self) -> None:
        for made in self.opened:
            roll_back(made.raw())
            made.close()
        self.opened, self.connection = [], None

    def look(self, question: str) -> list[Any]:
        """As a disk in memory."""
        return asked(self.connection or apsw.Connection(str(self.file)), question)

    def copy(self) -> Any:
        return {
            file.name: file.read_bytes() for file in sorted(self.folder.iterdir()) if not file.name.endswith("-shm")
        }

    def restore(self, copied: Any) -> None:
        self.fall()
        for file in self.folder.iterdir():
            file.unlink()
        for name, data in copied.items():
            (self.folder / name).write_bytes(data)

    def discard(self) -> None:
        self.fall()
        shutil.rmtree(self.folder, ignore_errors=True)


def create(path: Path, schema: Path, *, vfs: str | None = None) -> Any:
    """Stands where the product calls `sync.store.create`."""
    return MOUNTS[str(path)].create(schema)


def safe_database(path: Path, *, readonly: bool = False, vfs: str | None = None) -> Any:
    """Stands where the product's readers call `sync.store.SafeDatabase`."""
    mounted = MOUNTS.get(str(path))
    if mounted is None:  # a real file, which the real `create` opens
        return REAL[1](path, readonly=readonly, vfs=vfs)
    return mounted if isinstance(mounted, MemoryDisk) else mounted.reader()


def unmount_all() -> None:
    """Forget the disks of a world."""
    for mounted in MOUNTS.values():
        mounted.discard()
    MOUNTS.clear()
