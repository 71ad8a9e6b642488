"""The ledger in SQLite: one thread owns the writing connection and takes all waiting calls into one transaction.

BEGIN IMMEDIATE; each call is judged and performed in a savepoint of its own; one COMMIT; only then the answers. A crash before COMMIT
returns leaves nothing of the group, a crash after it leaves all of it, and the nodes ask again: the same range gives the same receipt.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Protocol

import apsw
import structlog

from gateway.errors import Busy, GatewayFull, LedgerLost, SwapLost
from gateway.ledger import EpochCall, PutCall, ReleaseCall, RootCall, SessionCall, SessionOpened
from gateway.ledger_carried import NEVER, brought_by, hold_if_late, introduce, judged_as, opened_by, settle
from gateway.ledger_keys import COSIGN, LOG, Brought
from gateway.ledger_queue import CallQueue, Waiting
from gateway.ledger_rows import Rows
from sync.agreement import Told
from sync.announced import read_heads
from sync.certificates import read, verifier_of
from sync.keys import Signer
from sync.receiver import (
    Admit,
    Announce,
    Append,
    Effect,
    EpochAsked,
    Fill,
    Opened,
    OpenLog,
    PutAsked,
    Raise,
    Receipt,
    Receiver,
    Refuse,
    SessionAsked,
    Taken,
)
from sync.store import create

SCHEMA = Path(__file__).parent / "ledger_schema"
FREE_BYTES_MIN = 256 * 1024 * 1024  # below, batches are refused: the largest group in WAL and file, and the logs
FENCE_BYTES = 16  # 128 bits: no one guesses the latest fence
LEDGER_ID_BYTES = 16
NOTHING: frozenset[int] = frozenset()
DISK_ERRORS = (apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.NotADBError)

log = structlog.get_logger()


class Meter(Protocol):
    """What the ledger tells the health page."""

    def committed(self, *, calls: int, records: int, seconds: float) -> None:
        """A group is on stable storage."""

    def alarm(self, code: str, node: str, stream: str) -> None:
        """Something the centre must know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dice:
    """Clocks, randomness and the disk's free space, passed in: UTC microseconds, monotonic seconds, random bytes, bytes."""

    now_us: Callable[[], int]
    monotonic: Callable[[], float]
    random: Callable[[int], bytes]
    free_bytes: Callable[[], int]


class SqliteLedger:
    """The embedded ledger. `on_death` is called on the writer thread when it cannot go on; it should end the process."""

    def __init__(
        self, path: Path, *, cosigner: Signer, cosign_certificate: bytes, dice: Dice, meter: Meter, on_death: Callable[[BaseException], None],
        vfs: str | None = None,
    ) -> None:  # fmt: skip
        self._path, self._vfs, self._dice, self._meter, self._on_death = path, vfs, dice, meter, on_death
        self._receiver = Receiver(cosigner)
        self._queue = CallQueue()
        # monotonic; a node admitted before this process started counts as admitted before any connection
        self._admitted_at: dict[str, float] = {}
        self._thread = Thread(target=self._run, name="ledger", daemon=True)
        self.id = self._prepare(cosigner.name, cosign_certificate)

    @property
    def waiting(self) -> int:
        """How many calls wait for the writer."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the writer finish what waits, and end it."""
        self._queue.end()
        self._thread.join()

    def session(self, call: SessionCall) -> Future[SessionOpened | Refuse]:
        """Judge and admit a start. The heads that it brings are verified here, by the caller: 128 signatures would hold up all who wait."""
        certificates = (call.log_certificate, *(each.certificate for each in call.earlier))
        verifiers = [verifier_of(read(each), call.node) for each in certificates]
        return self._queue.put(call, read_heads(call.request.heads, verifiers, call.node))

    def put(self, call: PutCall) -> Future[Receipt | Refuse]:
        """Judge and append a batch."""
        return self._queue.put(call)

    def epoch(self, call: EpochCall) -> Future[Taken | Refuse]:
        """Judge an opening statement and make its log."""
        return self._queue.put(call)

    def root(self, call: RootCall) -> Future[Told]:
        """Tell a root."""
        return self._queue.put(call)

    def release(self, call: ReleaseCall) -> Future[int | Refuse]:
        """Release what is held of a node; how many records."""
        return self._queue.put(call)

    # -- the writer thread ----------------------------------------------------------------------------------------

    def _prepare(self, gateway: str, certificate: bytes) -> str:
        database = create(self._path, SCHEMA, vfs=self._vfs)
        try:
            connection = database.raw()
            rows = Rows(connection)
            connection.execute("BEGIN IMMEDIATE")
            found = rows.fact("ledger", self._dice.random(LEDGER_ID_BYTES))
            rows.keys.keep_certificate(gateway, COSIGN, certificate, self._dice.now_us())
            connection.execute("COMMIT")
        finally:
            database.close()
        return found.hex()

    def _run(self) -> None:
        try:
            database = create(self._path, SCHEMA, vfs=self._vfs)
            connection = database.raw()
            rows = Rows(connection)
            while group := self._take():
                if group := self._with_room(group):
                    self._commit(connection, rows, group)
            database.close()
        except BaseException as error:  # noqa: BLE001  # whatever it is, a gateway without its writer must not look alive
            self._on_death(error)

    def _take(self) -> list[Waiting]:
        """Wait for a call and take what queued meanwhile; empty: the end."""
        return self._queue.take()

    def _with_room(self, group: list[Waiting]) -> list[Waiting]:
        """The calls that may go on: where the disk is nearly full, batches are told so now. A commit that fails for it would end the process."""
        if self._dice.free_bytes() >= FREE_BYTES_MIN:
            return group
        self._meter.alarm("GWY-14", "", "")
        _fail(
            [waiting for waiting in group if isinstance(waiting.call, PutCall)],
            GatewayFull("the ledger's disk is nearly full"),
        )
        return [waiting for waiting in group if not isinstance(waiting.call, PutCall)]

    def _commit(self, connection: apsw.Connection, rows: Rows, group: list[Waiting]) -> None:
        """One transaction for the group, then its answers. Raises LedgerLost where the outcome is unknown."""
        started = self._dice.monotonic()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:  # somebody else writes, a backup perhaps: nothing was stored
            return _fail(group, Busy("the ledger is locked"))
        except DISK_ERRORS as error:
            raise LedgerLost(f"BEGIN: {error}") from error
        try:
            for waiting in group:
                self._judge_safely(connection, rows, waiting)
        except apsw.FullError:
            _rollback(connection)
            rows.keys.forget()
            self._meter.alarm("GWY-14", "", "")
            return _fail(group, GatewayFull("the ledger's disk is full"))
        except DISK_ERRORS as error:
            raise LedgerLost(str(error)) from error
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise LedgerLost(f"COMMIT: {error}") from error
        # on stable storage; a crash here: the nodes ask again and are answered the same
        self._tell(group, self._dice.monotonic() - started)
        return None

    def _judge_safely(self, connection: apsw.Connection, rows: Rows, waiting: Waiting) -> None:
        """One call in a savepoint: what goes wrong with it, goes wrong with it alone."""
        connection.execute("SAVEPOINT one")
        try:
            self._judge(rows, waiting)
        except (apsw.FullError, *DISK_ERRORS):
            raise
        except Exception as error:
            connection.execute("ROLLBACK TO one")
            rows.keys.forget()
            waiting.answer, waiting.records, waiting.admits, waiting.alarms = error, 0, False, ()
            if not isinstance(error, SwapLost):
                log.exception("ledger call failed", node=waiting.call.node, call=type(waiting.call).__name__)
                waiting.alarms = (Raise("GWY-16"),)
        connection.execute("RELEASE one")

    def _judge(self, rows: Rows, waiting: Waiting) -> None:
        match waiting.call:
            case SessionCall() as call:
                self._session(rows, waiting, call)
            case PutCall() as call:
                self._put(rows, waiting, call)
            case EpochCall() as call:
                self._epoch(rows, waiting, call)
            case RootCall(node=node, stream=stream, epoch=epoch, size=size):
                waiting.answer = rows.root(node, stream, epoch, size)
            case ReleaseCall() as call:
                waiting.answer = rows.release(call, self._dice.now_us())

    def _tell(self, group: list[Waiting], seconds: float) -> None:
        now = self._dice.monotonic()
        records = sum(waiting.records for waiting in group)
        if records:
            self._meter.committed(calls=len(group), records=records, seconds=seconds)
        for waiting in group:
            if waiting.admits:
                self._admitted_at[waiting.call.node] = now
            for effect in waiting.alarms:
                self._meter.alarm(effect.code, waiting.call.node, effect.stream)
            if isinstance(waiting.answer, Exception):
                waiting.future.set_exception(waiting.answer)
            else:
                waiting.future.set_result(waiting.answer)

    # -- one call, inside the transaction --------------------------------------------------------------------------

    def _session(self, rows: Rows, waiting: Waiting, call: SessionCall) -> None:
        now_us = self._dice.now_us()
        brought = (Brought(call.log_certificate, current=True), *call.earlier)
        effects = self._receiver.handle(
            SessionAsked(
                node=call.node, request=call.request, known=rows.admitted(call.node, call.request.boot), logs=rows.heads(call.node),
                fresh=self._dice.random(FENCE_BYTES).hex(), stale=call.connected_at > self._admitted_at.get(call.node, float("-inf")),
                heads=waiting.heads, announced=rows.announced(call.node),
            ),
            now_us // 1_000_000,
        )  # fmt: skip
        admitted = isinstance(effects[-1], Opened)
        certificate = rows.keys.keep_certificate(call.node, LOG, call.log_certificate, now_us) if admitted else 0
        too_many = False
        for effect in effects:
            match effect:
                case Admit():
                    rows.admit(call.node, effect, certificate, now_us)
                    waiting.admits = True
                case OpenLog():
                    if not too_many and not rows.open_log(effect):
                        too_many = True  # nor will there be room for the next; and one alarm says it
                        self._raise(rows, waiting, Raise("GWY-15"), now_us)
                case Announce(head):
                    rows.announce(head, now_us)
                case Opened(fence, held):
                    rows.keys.use(call.node, brought, now_us)
                    waiting.answer = SessionOpened(fence=fence, held=held, logs=rows.heads(call.node))
                case _:
                    self._other(rows, waiting, effect, now_us)

    def _put(self, rows: Rows, waiting: Waiting, call: PutCall) -> None:
        now_us = self._dice.now_us()
        known, found = rows.admitted(call.node, ""), rows.head(call.node, call.stream)
        if call.log_certificate:
            known, found = judged_as(rows, call, known, found)
        if known is None:
            waiting.answer = _never_admitted()
            return
        row, held = found or (0, None)
        keys = rows.keys.of_log(call.node, row, call.vouched, brought_by(call))
        judged = row
        effects = self._receiver.handle(
            PutAsked(
                node=call.node, origin_stream=call.stream, epoch=call.epoch, first=call.first, fence=call.fence, known=known, held=held,
                leaves=rows.table(row), keys=keys, batch=call.batch,
                # beyond the head nothing is stored, so nothing lacks
                lacking=rows.lacking(row, call.first, call.first + len(call.batch.records)) if held and call.first < held.frontier.size else NOTHING,
                carried=bool(call.log_certificate), announced=next(iter(rows.announced(call.node, call.stream)), None),
            ),
            now_us // 1_000_000,
        )  # fmt: skip
        for effect in effects:
            if isinstance(effect, Append):
                held_back = known.held
                if call.log_certificate:
                    row = settle(rows, call, effect.origin, now_us)
                    if hold_if_late(rows, effect.origin):
                        held_back = True
                        self._raise(rows, waiting, Raise("GWY-18", call.stream), now_us)
                if effect.changes:
                    rows.keys.keep_followers(call.node, call.vouched, now_us)
                    log.info("log key changed", node=call.node, stream=call.stream, seq=effect.changes[-1].seq)
                key = keys.in_force if row == judged else None
                rows.append(row, effect, fence=known.fence, held=held_back, receipt_at=now_us // 1_000_000, key=key)
                waiting.records = len(effect.records)
            elif isinstance(effect, Fill):
                rows.fill(row, effect)
            else:
                self._other(rows, waiting, effect, now_us)

    def _epoch(self, rows: Rows, waiting: Waiting, call: EpochCall) -> None:
        now_us, same = self._dice.now_us(), None
        known = rows.admitted(call.node, "")
        if call.log_certificate:
            known, same = known or NEVER, opened_by(rows, call.statement)
        if known is None:
            waiting.answer = _never_admitted()
            return
        row, held = rows.head(call.node, call.stream) or (0, None)
        keys = rows.keys.for_statement(call.node, call.stream, row, brought_by(call))
        effects = self._receiver.handle(
            EpochAsked(
                node=call.node, stream=call.stream, fence=call.fence, known=known, held=held, stored=rows.opening(row) if row else b"",
                statement=call.statement, keys=keys, find=rows.find, carried=bool(call.log_certificate), same=same,
            ),
            now_us // 1_000_000,
        )  # fmt: skip
        for effect in effects:
            if not isinstance(effect, OpenLog):
                self._other(rows, waiting, effect, now_us)
                continue
            if call.log_certificate:
                introduce(rows, call, now_us)
            if not rows.open_log(effect, call.revoked):
                waiting.answer = Refuse(
                    422,
                    "bad-opening",
                    "this key has opened as many epochs, or so far ahead, as is taken before a person looks",
                )
                return

    def _other(self, rows: Rows, waiting: Waiting, effect: Effect, now_us: int) -> None:
        match effect:
            case Raise():
                self._raise(rows, waiting, effect, now_us)
            case Taken() | Receipt() | Refuse():
                waiting.answer = effect
            case _:
                raise TypeError(f"the receiver gave {type(effect).__name__} for {type(waiting.call).__name__}")

    def _raise(self, rows: Rows, waiting: Waiting, effect: Raise, now_us: int) -> None:
        rows.alarm(effect.code, waiting.call.node, effect.stream, now_us)
        waiting.alarms = (*waiting.alarms, effect)


def _never_admitted() -> Refuse:
    return Refuse(403, "fenced", "no start of this node was ever admitted here")


def _fail(group: list[Waiting], error: Exception) -> None:
    for waiting in group:
        waiting.future.set_exception(error)


def _rollback(connection: apsw.Connection) -> None:
    # a full disk may already have rolled back by itself
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")
