"""Transactions of which everybody knows how they ended: what is committed is on disk, and where that is not sure the process must end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import apsw

from sync.errors import CommitUnknown, LogBroken, NoRoom
from sync.store import BROKEN

PAGE_BYTES = 4096
PAGES_MIN = 64  # of a quota: the schema alone takes some twenty
RESERVE_PAGES = 256  # 1 MiB beyond the quota for receipts, boots, trimming: what drains the queue never waits for it
WAL_PAGES_MAX = 1000  # SQLite's own measure: the WAL goes back into the database every 4 MB
DISK_ERRORS = (apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError, apsw.CantOpenError)
# a statement of ours that is not understood: a bit of the schema flipped, which is text in the file as well
WRITE_ERRORS = (*DISK_ERRORS, apsw.BusyError, apsw.SQLError)


Beside = Callable[[], None]
"""What is written within a transaction of others, and is undone with it."""


class Pages(NamedTuple):
    """Of a database file: how many pages, how many of them hold nothing, and the bytes of each."""

    total: int
    free: int
    size: int


def pages_of(connection: Any) -> Pages:  # apsw's, or whatever has its `execute`
    """Count the pages, those in the WAL too."""
    (row,) = connection.execute(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
    return Pages(*row)


@contextmanager
def reading() -> Iterator[None]:
    """Read what the next transaction builds on. Raises CommitUnknown where the disk failed: the process ends as for a write.

    LogBroken where it gave back something else: nothing is written, and what can be done without goes on.
    """
    try:
        yield
    except DISK_ERRORS as error:
        raise CommitUnknown(str(error)) from error
    except BROKEN as error:
        raise LogBroken(f"the outbox cannot be read: {error}") from error


class Transactions:
    """The transactions of one connection, in a database of at most `quota_bytes` (0: no limit)."""

    def __init__(self, connection: apsw.Connection, quota_bytes: int) -> None:
        self._connection = connection
        self._pages_max = max(PAGES_MIN, quota_bytes // PAGE_BYTES) if quota_bytes else 0
        connection.wal_autocheckpoint(0)
        self._limit_pages(0)

    @contextmanager
    def begin(self, *, grows: bool = False) -> Iterator[None]:
        """BEGIN … COMMIT. A crash before COMMIT returns leaves either all of it or nothing.

        `grows`: it adds records, so it may not touch the reserve. Raises NoRoom when the store is full and nothing was committed;
        CommitUnknown when the disk failed, at whatever step.
        """
        if not grows:
            self._limit_pages(RESERVE_PAGES)
        try:
            # records come from the one writer there is, and the first statement is an INSERT: it takes the lock as IMMEDIATE
            # would, and BEGIN alone is so short that Python's lock has not gone to another thread meanwhile
            with self._committed("BEGIN" if grows else "BEGIN IMMEDIATE"):
                yield
        finally:
            if not grows:
                self._limit_pages(0)

    def _bring_back(self) -> None:
        # a reader or another checkpoint, or no room for it: next time. What was written is on disk either way
        with suppress(apsw.BusyError, apsw.LockedError, apsw.FullError):
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except DISK_ERRORS as error:
                raise CommitUnknown(f"WAL: {error}") from error

    def alone(self, statement: str, values: tuple[int | bytes | str, ...], *, grows: bool = True) -> None:
        """One statement that writes, a transaction by itself. `grows`, and what it raises: as for `begin`.

        NoRoom also where the WAL finds none while it commits: its last frame is then not whole, and no recovery takes the group for one.
        """
        if not grows:
            self._limit_pages(RESERVE_PAGES)
        try:
            self._connection.execute(statement, values)
        except apsw.FullError as error:
            raise NoRoom("the outbox is full") from error
        except WRITE_ERRORS as error:
            raise CommitUnknown(str(error)) from error
        finally:
            if not grows:
                self._limit_pages(0)
        self._checkpoint_wal()

    @contextmanager
    def _committed(self, begin: str) -> Iterator[None]:
        self._guarded(begin)
        try:
            yield
        except apsw.FullError as error:
            self._rollback()
            raise NoRoom("the outbox is full") from error
        except WRITE_ERRORS as error:
            self._rollback()
            raise CommitUnknown(str(error)) from error
        except BaseException:
            self._rollback()
            raise
        try:
            self._guarded("COMMIT")
        except NoRoom:
            self._rollback()
            raise
        self._checkpoint_wal()

    def _checkpoint_wal(self) -> None:
        """Bring the WAL back into the database when it is long. SQLite would do the same by itself, but keep to itself that the disk refused."""
        if self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0] < WAL_PAGES_MAX:
            return
        self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)
        self._bring_back()

    def _limit_pages(self, reserve: int) -> None:
        # INSERT fails first at the limit, while DELETE still works; SQLite never sets it below the present size
        if self._pages_max:
            self._connection.pragma("max_page_count", self._pages_max + reserve)

    def _guarded(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except apsw.FullError as error:
            # as in `alone`: a WAL without room ends before its commit frame is whole, so nothing was committed
            raise NoRoom(f"{statement}: no room") from error
        except apsw.Error as error:
            raise CommitUnknown(f"{statement}: {error}") from error

    def _rollback(self) -> None:
        # a failed write may already have rolled back by itself
        if not self._connection.get_autocommit():
            self._guarded("ROLLBACK")
