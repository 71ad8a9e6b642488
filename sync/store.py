"""Logs in SQLite: how a database is opened so that COMMIT means on disk, and the tables that outbox and ledger have in common."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import apsw
from peewee import DatabaseError
from playhouse.apsw_ext import APSWDatabase
from playhouse.migrations import Runner

from native import body_commitment, leaf_hashes
from sync.errors import LogBroken, UnsafeStore
from sync.header import COMMITMENT, decode_fields
from sync.log import HASH_BYTES, Frontier, full_tiles, range_frontier
from sync.outbox_segments import AT_PLACES, IN_ORDER, ROWS
from sync.record import BodyState, Record

FULL = 2  # PRAGMA synchronous: only with FULL does COMMIT wait for the disk in WAL mode
BUSY_MS_MAX = 5000  # a checkpoint of a slow card holds the lock for a second or two
WAL_BYTES_MAX = 64 * 1024 * 1024  # the WAL is cut back to this after a checkpoint; more would eat the quota
PAGE_CACHE_KIB = 2 * 1024  # the kernel caches pages too; this bounds ours, for each of a few connections
SAFE_SINCE = (3, 51, 3)  # the WAL-reset bug lives in 3.7.0 to 3.51.2
# how a file shows that it is not what was written: SQLite says so, a name in its schema changed, a value has another type
BROKEN = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, ValueError, TypeError)
UNREADABLE = (*BROKEN, apsw.IOError)  # or the disk itself says that it cannot read
READ_ROWS_MAX = 4096  # rows fetched in one query: bounds memory, and how long a reader pins the WAL


def bytes_of(what: str, value: object) -> bytes:
    """A value that was written as bytes. Raises LogBroken for what a flipped bit has made of it."""
    if type(value) is not bytes:
        raise LogBroken(f"{what} has something else where bytes were written")
    return value


def all_bytes(found: Iterable[tuple[object, object]]) -> dict[str, bytes]:
    """Names and values that were written as text and bytes, without those that are no longer."""
    return {name: value for name, value in found if type(name) is str and type(value) is bytes}


_STATES = {int(state): state for state in BodyState}
_NAMED = frozenset(map(int, (BodyState.ERASED, BodyState.DAMAGED, BodyState.LEAF_ONLY)))  # by a control record


def check_library(version: str) -> None:
    """Raise UnsafeStore for a SQLite with the WAL-reset bug."""
    if tuple(int(part) for part in version.split(".")) < SAFE_SINCE:
        raise UnsafeStore(f"SQLite {version} has the WAL-reset bug")


@contextmanager
def _apsw_errors() -> Iterator[None]:
    """Give apsw's own errors back. Peewee puts its own in their place, and then nobody can tell a missing file from a broken one."""
    try:
        yield
    except DatabaseError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, apsw.Error):
            cause = cause.__context__
        raise cause or error from None


class SafeDatabase(APSWDatabase):
    """A SQLite database whose every connection is asserted to sync at COMMIT. One connection per thread."""

    def __init__(self, path: Path, *, readonly: bool = False, vfs: str | None = None) -> None:
        check_library(apsw.sqlite_lib_version())
        pragmas = [
            ("journal_mode", "wal"), ("synchronous", FULL), ("foreign_keys", 1), ("trusted_schema", 0), ("cell_size_check", 1),
            ("mmap_size", 0), ("journal_size_limit", WAL_BYTES_MAX), ("cache_size", -PAGE_CACHE_KIB), ("query_only", int(readonly)),
        ]  # fmt: skip
        options: dict[str, Any] = {} if vfs is None else {"vfs": vfs}
        if readonly:
            options["flags"] = (
                apsw.SQLITE_OPEN_READWRITE
            )  # and not CREATE: a reader that comes first must not leave an empty file
        super().__init__(str(path), pragmas=pragmas, timeout=BUSY_MS_MAX / 1000, **options)  # type: ignore[no-untyped-call]  # peewee

    def raw(self) -> apsw.Connection:
        """This thread's connection. Raises apsw's own errors."""
        with _apsw_errors():
            return self.connection()  # type: ignore[no-any-return, no-untyped-call]  # peewee

    def _connect(self) -> apsw.Connection:
        connection: apsw.Connection = super()._connect()  # type: ignore[no-untyped-call]  # peewee
        connection.convert_binding = _binding
        # else, with STAT4 compiled in, a statement with ORDER BY or a join is planned anew for each value bound to it: 5 µs became 16
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        # synchronous is a property of the connection, not of the file: trust nobody, ask
        found = (connection.pragma("synchronous"), connection.pragma("journal_mode"))
        if found != (FULL, "wal"):
            connection.close()
            raise UnsafeStore(f"connection has synchronous={found[0]}, journal_mode={found[1]}")
        return connection


def _binding(_cursor: object, _index: int, value: object) -> str:
    # peewee's migration history dates its rows; apsw binds no datetimes
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot bind {type(value).__name__}")


def create(path: Path, schema: Path, *, vfs: str | None = None) -> SafeDatabase:
    """Open a database for writing, made and migrated forward where needed. `schema` is the folder of numbered steps.

    A new file is closed, opened again and synced with its folder before use: else a power cut could bring back the journal of its switch to WAL.
    """
    database = SafeDatabase(path, vfs=vfs)
    fresh = not path.exists()
    with _apsw_errors():
        Runner(database, str(schema)).up()  # type: ignore[no-untyped-call]  # peewee
    if fresh:
        database.close()
        database = SafeDatabase(path, vfs=vfs)
    # at every start: the one that made the file may have died before it came to this
    sync_file(path)
    sync_file(path.parent)
    return database


def sync_file(path: Path) -> None:
    """Bring a file or folder to stable storage."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Execute(Protocol):
    """The part of an apsw connection that is used here."""

    def execute(self, statements: str, bindings: Sequence[Any] = ...) -> Iterable[Any]:
        """Run a statement."""

    def executemany(self, statements: str, sequenceofbindings: Iterable[Sequence[Any]]) -> Iterable[Any]:
        """Run a statement for each of these."""


class LogTable:
    """One log in a database that has the tables header, body and tile, and an index of header by log and seq.

    Reads for `sync.log`; appends within the caller's transaction.

    `run`, `start`: the epochs of one stream are windows on one run of rows, so that opening an epoch moves none: this one's record
    0 lies at `start` of the rows of `run` (None: those of the log itself).
    """

    __slots__ = ("_connection", "_run", "_start", "log")

    # which rows of `header` are the places ?2 .. ?3 - 1 of run ?1
    _ROWS = "header"
    _AT_PLACES = "header.log = ?1 AND seq >= ?2 AND seq < ?3"
    _IN_ORDER = "seq"

    def __init__(self, connection: Execute, log: int, run: int | None = None, start: int = 0) -> None:
        self._connection = connection
        self.log = log
        self._run = log if run is None else run
        self._start = start

    def _select(self, columns: str, first: int, count: int, join: str = "") -> Iterable[Any]:
        """These columns of the rows of records first..first+count-1."""
        return self._connection.execute(
            f"SELECT {columns} FROM {self._ROWS} {join} WHERE {self._AT_PLACES} ORDER BY {self._IN_ORDER}",  # noqa: S608  # constants
            (self._run, self._start + first, self._start + first + count),
        )

    def leaves(self, first: int, count: int) -> bytes:
        """Leaf hashes first..first+count-1, joined."""
        if count <= 0:
            return b""
        return b"".join([row[0] for row in self._select("leaf", first, count)])

    def tiles(self, first: int, count: int) -> bytes:
        """Roots of full tiles first..first+count-1, joined."""
        if count <= 0:
            return b""
        rows = self._connection.execute(
            "SELECT root FROM tile WHERE log = ? AND tile >= ? AND tile < ? ORDER BY tile",
            (self.log, first, first + count),
        )
        return b"".join([row[0] for row in rows])

    def records(self, first: int, count: int) -> Iterator[Record]:
        """The records first..first+count-1 as they are stored; a body that is gone by retention is TRIMMED.

        Bodies are read one by one as they are asked for: 512 of the largest would be 8 GiB at once.
        """
        rows = list(self._select("id, seq, state, header, leaf", first, min(count, READ_ROWS_MAX)))
        for row, place, state, header, leaf in rows:
            seq = place - self._start
            held, parts = self._held(state), (b"", b"", b"")
            if held is BodyState.PRESENT:
                # fetched to its end: an unfinished SELECT would pin the WAL
                found = list(self._connection.execute("SELECT salt, particulars, body FROM body WHERE id = ?", (row,)))
                held, parts = (held, found[0]) if found else (self._without_body(seq), parts)
            salt, particulars, body = map(_octets, parts)
            yield Record(
                seq=seq, header=_octets(header), leaf=_octets(leaf), state=held, salt=salt, particulars=particulars, body=body
            )  # fmt: skip

    def _held(self, state: object) -> BodyState:
        """The state that is stored; where that is none, nothing of the body is believed."""
        return _STATES.get(state, BodyState.DAMAGED)  # type: ignore[call-overload, no-any-return]  # a flipped bit gives it any type

    def _without_body(self, _seq: int) -> BodyState:
        """What it means that a record was stored with its body, and it is not there."""
        return BodyState.TRIMMED

    def octets(self, first: int, count: int) -> list[tuple[int, int]]:
        """Position, and bytes of particulars and body, of those of the records first..first+count-1 that have a body. No body is read."""
        columns = "seq, coalesce(length(particulars) + length(body), 0)"
        rows = self._select(columns, first, count, "JOIN body USING (id)")
        return [(place - self._start, size) for place, size in rows]

    def kept(self, first: int, count: int) -> list[tuple[int, bytes, bytes, bytes]]:
        """Position, header, particulars and body of those of the records first..first+count-1 that have a body. To be asked for what is known to be short."""
        rows = self._select("seq, header, particulars, body", first, count, "JOIN body USING (id)")
        return [(place - self._start, *map(_octets, parts)) for place, *parts in rows]

    def headers(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Position and header of the records first..first+count-1; an empty header where only the leaf is left."""
        rows = self._select("seq, header", first, count)
        return [(place - self._start, _octets(header)) for place, header in rows]

    def append(self, first_id: int, before: Frontier, records: Sequence[Record]) -> None:
        """Insert records from row id `first_id` on, and the tiles that become full. `before`: the log's frontier."""
        first = before.size
        self._connection.executemany(
            "INSERT INTO header (id, log, seq, state, header, leaf) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    first_id + n,
                    self._run,
                    self._start + first + n,
                    int(record.state),
                    record.header or None,
                    record.leaf,
                )
                for n, record in enumerate(records)
            ],
        )
        present = [(first_id + n, record) for n, record in enumerate(records) if record.state is BodyState.PRESENT]
        self._connection.executemany(
            "INSERT INTO body (id, salt, particulars, body) VALUES (?, ?, ?, ?)",
            [(row, record.salt, record.particulars, record.body) for row, record in present],
        )
        self.fill_tiles(before, b"".join([record.leaf for record in records]))

    def fill_tiles(self, before: Frontier, leaves: bytes) -> None:
        """Store the roots of the tiles that these leaves make full. `before`: the log's frontier without them."""
        for tile, root in full_tiles(before, leaves):
            self._connection.execute("INSERT INTO tile (log, tile, root) VALUES (?, ?, ?)", (self.log, tile, root))

    def frontier(self, size: int) -> Frontier:
        """The frontier the log had at `size`. Raises IndexError where leaves are missing."""
        return range_frontier(self, 0, size)


class OutboxTable(LogTable):
    """One log of an outbox: segments say where its records lie, and its row up to where bodies were trimmed; one that is missing beyond that was lost."""

    __slots__ = ()
    _ROWS, _AT_PLACES, _IN_ORDER = ROWS, AT_PLACES, IN_ORDER

    def _held(self, state: object) -> BodyState:
        # trimming is by position, so whatever else stands here is a flipped bit: the body, if it is there, speaks for itself
        return _STATES[state] if state in _NAMED else BodyState.PRESENT

    def _without_body(self, seq: int) -> BodyState:
        # asked after the body was missed, and trimming moves both in one transaction: so never too early
        trimmed = list(self._connection.execute("SELECT trimmed FROM log WHERE id = ?", (self.log,)))
        # else as it was stored, which nothing verifies: DAMAGED is what a repair has named, and no news
        return BodyState.TRIMMED if trimmed and seq < trimmed[0][0] else BodyState.PRESENT


def _octets(value: object) -> bytes:
    """A BLOB column's value; where a flipped bit made it something else, nothing, which no hash will match."""
    return value if isinstance(value, bytes) else b""


# how a header says its commitment: the key, then a byte string of 32 (RFC 8949, 3.1). A hash that follows it is no accident
COMMITMENT_MARK = bytes([COMMITMENT, 0x58, HASH_BYTES])


def damage(record: Record) -> BodyState | None:
    """What of a stored record no longer verifies: LEAF_ONLY (header), DAMAGED (body, or it is lost), or None where all that it still has does."""
    if record.state is BodyState.LEAF_ONLY:
        return None
    if leaf_hashes([record.header]) != record.leaf:
        return BodyState.LEAF_ONLY
    if record.state is BodyState.PRESENT:
        try:
            found = body_commitment(record.salt, record.particulars, record.body)
        except ValueError:
            return BodyState.DAMAGED
        # nearly always there: of a header that its leaf vouches for only what is not at once seen in it needs reading
        if COMMITMENT_MARK + found not in record.header and decode_fields(record.header)[COMMITMENT] != found:
            return BodyState.DAMAGED
    return None


def split_hashes(joined: bytes) -> list[bytes]:
    """Joined 32-byte hashes, one by one."""
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]
