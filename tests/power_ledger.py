"""A life of the real ledger, as the dice fall: its writer's loop is run here, and is handed each group when the last one is answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import apsw

from gateway.errors import GatewayFull
from gateway.ledger import PutCall, SessionCall, SessionOpened
from gateway.ledger_sqlite import FREE_BYTES_MIN, Dice, SqliteLedger
from sync.batch import Batch
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import FileSigner, Verifier
from sync.log import Frontier
from sync.names import Origin
from sync.receipt import open_receipt
from sync.receiver import Receipt, Refuse
from sync.record import BodyState, Record
from sync.session import OwnStream, SessionRequest
from tests.power_lives import Life, Rows, Told, abandon, files_in, look
from tests.sim_disk import Disk
from tests.sim_realm import (
    AUTHORITY,
    COSIGN_CERTIFICATE,
    COSIGNER,
    GATEWAY,
    NOW_S,
    TAG,
    certificate,
    der,
    draft,
    ed25519,
    records,
    without_body,
)

L = TypeVar("L", bound=SqliteLedger)
WAIT_S = 30
COSIGNED = Verifier(GATEWAY, COSIGNER.public)
STREAMS = ("his", "lab")


class Quiet:
    """A meter that nobody reads."""

    def committed(self, *, calls: int, records: int, seconds: float) -> None: ...

    def alarm(self, code: str, node: str, stream: str) -> None: ...


class Killed(BaseException):
    """The process is gone: no call of it comes back."""


class Handed(SqliteLedger):
    """The ledger, except that its groups are handed to it: so a life is the same whenever it is lived again."""

    connection: apsw.Connection | None = None
    hand: Callable[[], list[Any]]

    def _take(self) -> list[Any]:
        return self.hand()

    def _commit(self, connection: apsw.Connection, rows: Any, group: list[Any]) -> None:
        self.connection = connection
        super()._commit(connection, rows, group)


@dataclass
class Sent:
    """One log as its node knows it: all it has, and how much of it is receipted."""

    origin: Origin
    has: list[Record] = field(default_factory=list)
    receipted: int = 0
    note: bytes = b""
    last: PutCall | None = None

    def root(self, end: int) -> bytes:
        return Frontier().append(b"".join(record.leaf for record in self.has[:end])).root


class Sender:
    """A node of which only the calls are seen."""

    def __init__(self, name: str, dice: Random) -> None:
        self.name, self.dice = name, dice
        key = ed25519(f"log {name}")
        self.signer = FileSigner(name, key)
        self.certificate = der(certificate(AUTHORITY, f"urn:wasl:node:{name}:log", key=key))
        self.boots, self.fence = [dice.randbytes(16).hex()], ""
        self.admitted: SessionCall | None = None
        self.logs = {stream: Sent(Origin(name, stream, 1, TAG)) for stream in STREAMS}

    def session(self) -> SessionCall:
        """A start, or the same one again."""
        streams = tuple(OwnStream(stream=name, epoch=1, tag=TAG, lane="routine") for name in self.logs)
        request = SessionRequest(
            boot=self.boots[-1], boots=tuple(self.boots[-4:-1]), fence=self.fence, log_certificate="", streams=streams
        )
        return SessionCall(node=self.name, request=request, log_certificate=self.certificate, connected_at=0.0)

    def put(self, stream: str, first: int, count: int, *, fence: str | None = None) -> PutCall:
        """These records, made where there are none yet."""
        log = self.logs[stream]
        while len(log.has) < first + count:
            body = self.dice.randbytes(self.dice.choice((80, 80, 300, 300, 900, 900, 900, 9000)))
            (record,) = records([draft(len(log.has), body=body, stream=stream)], len(log.has))
            gone = self.dice.random() < 0.1
            log.has.append(
                without_body(record, self.dice.choice((BodyState.TRIMMED, BodyState.LEAF_ONLY))) if gone else record
            )
        return self._call(stream, first, log.has[first : first + count], log.root(first + count), fence)

    def fork(self, stream: str) -> PutCall:
        """Other records at the first position."""
        other = records([draft(0, body=b"another history", stream=stream)])
        return self._call(stream, 0, other, Frontier().append(other[0].leaf).root, None)

    def _call(self, stream: str, first: int, has: Sequence[Record], root: bytes, fence: str | None) -> PutCall:
        origin = self.logs[stream].origin
        note = sign_checkpoint(Checkpoint(origin, first + len(has), root), self.signer)
        batch = Batch(
            node=self.name,
            stream=stream,
            epoch=1,
            tag=TAG,
            first=first,
            lane="routine",
            checkpoint=note,
            records=tuple(has),
        )
        used = self.fence if fence is None else fence
        return PutCall(node=self.name, stream=stream, epoch=1, first=first, fence=used, batch=batch)


class LedgerLife:
    """Groups of calls of two nodes. Each answer is held against what is stored at once."""

    def __init__(self, disk: Disk, folder: Path, seed: str) -> None:
        self.disk, self.path = disk, folder / "ledger.sqlite"
        self.dice = Random(f"ledger {seed}")
        self.nodes = [Sender(f"clinic-{self.dice.getrandbits(32):08x}", self.dice) for _ in range(2)]
        rows = look(self.path)
        self.life = Life("ledger.sqlite", files_in(folder))
        self.asked: list[tuple[Any, Any]] = []  # calls and their futures
        self.told = self._told(rows)
        disk.tape = self.life.tape
        disk.note("mark", "", value=self.told)
        self.groups = 0
        self.answers = [rows]  # what was stored when each group was answered
        self.death: BaseException | None = None
        self._start()

    def run(self, groups: int) -> Life:
        """Live so many groups, with a kill or an orderly end between some."""
        left = groups
        while left > 0:
            self.groups = min(left, self.dice.randrange(4, 30))
            left -= self.groups
            self.ledger._run()
            if self.death is not None and not isinstance(self.death, Killed):
                raise self.death
            if left > 0:
                self._start()
        self.disk.tape = None
        return self.life

    def _start(self) -> None:
        self.ledger = made(Handed, self.path, self.dice, vfs=self.disk.name, on_death=self._bury)
        self.ledger.hand = self._take
        self.first: list[SessionCall] | None = [node.session() for node in self.nodes]

    def _bury(self, death: BaseException) -> None:
        self.death = death
        if self.ledger.connection is not None:
            abandon(self.ledger.connection)
            self.ledger.connection.close()

    # -- the writer asks for its next group ------------------------------------------------------------------------

    def _take(self) -> list[Any]:
        self._settle()
        if self.groups == 0:
            if self.dice.random() < 0.5:
                return []
            raise Killed
        self.groups -= 1
        calls = self.first or self._group()
        self.first = None
        self.told = self._told(self.answers[-1])
        self.disk.note("mark", "", value=self.told)
        for call in calls:
            future = self.ledger.session(call) if isinstance(call, SessionCall) else self.ledger.put(call)
            self.asked.append((call, future))
        return self.ledger._queue.take()

    def _settle(self) -> None:
        """What the last group was answered, from here on holds."""
        if not self.asked:
            return
        rows = look(self.path)
        if any(isinstance(future.exception(0), GatewayFull) for _, future in self.asked):
            assert rows == self.told.answered, "a refused group left something"
            self.life.count("refused")
            raise Killed
        self.told.under_way = rows
        self.answers.append(rows)
        for call, future in self.asked:
            answer = future.result(0)  # answered, or this is an error
            node = next(node for node in self.nodes if node.name == call.node)
            match answer:
                case SessionOpened():
                    node.fence, node.admitted = answer.fence, call
                case Receipt(note):
                    self._receipted(node.logs[call.stream], call, note)
                case Refuse():
                    self.life.count(answer.code)
        self.asked.clear()
        self.disk.note("mark", "", value=self._told(rows))

    def _receipted(self, log: Sent, call: PutCall, note: bytes) -> None:
        said = open_receipt(note, COSIGNED).checkpoint
        assert (said.origin, said.root) == (log.origin, log.root(said.size)), "a receipt for something else"
        assert said.size >= max(log.receipted, call.first + len(call.batch.records))
        self.life.count("receipted", said.size - log.receipted)
        log.receipted, log.note, log.last = said.size, note, call

    def _told(self, rows: Rows) -> Told:
        promised = [(node.admitted, node.fence) for node in self.nodes if node.admitted]
        receipts = [(log.last, log.note) for node in self.nodes for log in node.logs.values() if log.last]
        bodies = {
            (log.origin, record.seq): record
            for node in self.nodes
            for log in node.logs.values()
            for record in log.has[: log.receipted]
        }
        assert holds(rows, bodies), "receipted, and not there"
        return Told(rows, rows, (promised, receipts))

    def _group(self) -> list[PutCall | SessionCall]:
        calls: list[PutCall | SessionCall] = []
        ends = {(node.name, stream): log.receipted for node in self.nodes for stream, log in node.logs.items()}
        for _ in range(self.dice.randrange(1, 4)):
            node, stream = self.dice.choice(self.nodes), self.dice.choice(STREAMS)
            size, kind = ends[node.name, stream], self.dice.random()
            if kind < 0.7:
                count = self.dice.randrange(1, 7)
                calls.append(node.put(stream, size, count))
                ends[node.name, stream] += count
            elif kind < 0.8:  # again, and a little more
                first = self.dice.randrange(size + 1)
                calls.append(node.put(stream, first, size - first + 1))
                ends[node.name, stream] = size + 1
            elif kind < 0.85:
                calls.append(node.put(stream, size + 2, 1))
            elif kind < 0.9:
                calls.append(node.put(stream, size, 1, fence="0" * 32))
            elif kind < 0.95 and size:
                calls.append(node.fork(stream))
            else:
                node.boots.append(self.dice.randbytes(16).hex())
                return [*calls, node.session()]  # later calls of this node need its new fence
        return calls


def holds(rows: Rows, bodies: dict[tuple[Origin, int], Record]) -> bool:
    """Whether these records lie in the ledger, under their log and place, every byte the same."""
    logs = {row[1]: Origin(row[2], row[3], row[4], row[5]) for row in rows if row[0] == "log"}
    stored = {
        (logs[row[0]], row[1]): (row[4] or b"", row[5], row[6] or b"", row[7] or b"", row[8] or b"")
        for row in rows
        if isinstance(row[0], int)
    }
    return all(
        stored.get(place) == (record.header, record.leaf, record.salt, record.particulars, record.body)
        for place, record in bodies.items()
    )


def made(kind: type[L], path: Path, dice: Random, *, vfs: str | None = None, on_death: Any = None) -> L:
    """The ledger in this file."""
    return kind(
        path, cosigner=COSIGNER, cosign_certificate=der(COSIGN_CERTIFICATE), meter=Quiet(), on_death=on_death or print, vfs=vfs,
        dice=Dice(now_us=lambda: NOW_S * 1_000_000, monotonic=lambda: 0.0, random=dice.randbytes, free_bytes=lambda: 2 * FREE_BYTES_MIN),
    )  # fmt: skip


def first_start(folder: Path, vfs: str | None = None) -> None:
    """Make a ledger as a gateway does that starts for the first time."""
    made(SqliteLedger, folder / "ledger.sqlite", Random(1), vfs=vfs)


def start(folder: Path, told: Told) -> None:
    """A start after the power came back: all there, nodes that call again get the answers they got, and it goes on."""
    path = folder / "ledger.sqlite"
    ledger = made(SqliteLedger, path, Random(2))
    rows = look(path)
    assert rows in (told.answered, told.under_way), "not what was answered"
    sessions, receipts = told.promised if told.promised is not None else ((), ())
    ledger.start()
    try:
        fences = {}
        for call, fence in sessions:
            answer = ledger.session(call).result(WAIT_S)
            if isinstance(answer, SessionOpened):  # else the start under way had been admitted: a later one
                assert answer.fence == fence, "another fence for the same start"
                fences[call.node] = fence
        for call, note in receipts:
            if call.node in fences:
                _again(ledger.put(replace(call, fence=fences[call.node])).result(WAIT_S), note)
    finally:
        ledger.stop()
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


def _again(answer: Receipt | Refuse, note: bytes) -> None:
    """The receipt given before, or one that goes on from there."""
    assert isinstance(answer, Receipt), "what was receipted is refused"
    had, has = (open_receipt(each, COSIGNED).checkpoint for each in (note, answer.note))
    assert answer.note == note or has.size > had.size, "another receipt"
