"""What the recorded lives of outbox and ledger have in common: what was done, on tape, and what a start may find after each call."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

import sync.store
from tests.power_states import Files
from tests.sim_disk import Disk, Op

TILE_LEAVES = 16  # a life is too short for tiles of 1024
QUOTA_PAGES = 40  # twice the empty schema
WAL_PAGES_MAX = 14  # some groups, so that a life has dozens of checkpoints
Rows = list[tuple[Any, ...]]

TABLES = {
    "outbox.db": ("log", "tile", "cursor", "boot", "fact", "arrival", "destination", "parked", "frame", "segment"),
    "ledger.sqlite": ("node", "boot", "log", "hold", "tile", "certificate", "fact", "alarm"),
}
RECORDS = """SELECT log, seq, header.id, state, header, leaf, salt, particulars, body
FROM header {index} LEFT JOIN body USING (id) ORDER BY log, seq"""
INDEX = {
    "outbox.db": "",
    "ledger.sqlite": "INDEXED BY header_position",
}  # through it, so that a lost entry is noticed too


def everything(connection: apsw.Connection, name: str) -> Rows:
    """All that a database of this name holds: equal for two databases only if nobody who reads them can tell them apart."""
    rows: Rows = [row for table in TABLES[name] for row in connection.execute(f"SELECT '{table}', * FROM {table}")]
    return rows + list(connection.execute(RECORDS.format(index=INDEX[name])))


def look(path: Path) -> Rows:
    """The same, from beside a process that has it open."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return everything(connection, path.name)
    finally:
        abandon(connection)
        connection.close()


@dataclass
class Told:
    """What a start may find: all calls that were answered, or the one under way as well. A call that was refused leaves nothing.

    `promised` is what those who were answered may come back with.
    """

    answered: Rows
    under_way: Rows
    promised: Any = None


@dataclass
class Life:
    """One recorded life over the files it began with. `counts` says what happened in it."""

    name: str
    files: Files
    tape: list[Op] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, n: int = 1) -> None:
        """One more of these."""
        self.counts[what] = self.counts.get(what, 0) + n


def files_in(folder: Path) -> Files:
    """What lies there; the shared memory is lost with the power."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


def lay(files: Files, folder: Path) -> None:
    """Make the folder hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


@contextmanager
def short_lives() -> Iterator[None]:
    """Measures small enough that a short life meets all it can meet: tiles, checkpoints of the WAL, its truncation, a cache that overflows."""
    with ExitStack() as patches:
        for module in ("sync.log", "sync.outbox", "sync.outbox_heads"):
            patches.enter_context(patch(f"{module}.TILE_LEAVES", TILE_LEAVES))
        patches.enter_context(patch("sync.transaction.WAL_PAGES_MAX", WAL_PAGES_MAX))
        patches.enter_context(patch("sync.transaction.PAGES_MIN", QUOTA_PAGES))
        patches.enter_context(patch("sync.store.WAL_BYTES_MAX", 20 * 4096))
        patches.enter_context(patch("sync.store.PAGE_CACHE_KIB", 48))
        patches.enter_context(patch("gateway.ledger_sqlite.create", _with_short_wal))
        yield


def _with_short_wal(*arguments: Any, **options: Any) -> sync.store.SafeDatabase:
    database = sync.store.create(*arguments, **options)
    database.raw().wal_autocheckpoint(WAL_PAGES_MAX)  # the ledger leaves this to SQLite
    return database


@contextmanager
def watched(disk: Disk) -> Iterator[None]:
    """Let the disk's tape know of the files and folders that are synced without SQLite."""
    sync_file = sync.store.sync_file

    def noted(path: Path) -> None:
        sync_file(path)
        disk.synced(path)

    with patch("sync.store.sync_file", noted):
        yield


def abandon(connection: apsw.Connection) -> None:
    """Close as a killed process does: the WAL stays as it is."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
