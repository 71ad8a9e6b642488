"""A clinic and a centre in memory: the real sender, receiver and batch bytes; what would be disks, clock and network are lists and dice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random

from sync import batch
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import BadBatch
from sync.keys import FileSigner, Verifier
from sync.log import Frontier, root_at
from sync.names import Origin
from sync.receiver import (
    Admit,
    Admitted,
    Append,
    HeldLog,
    Opened,
    OpenLog,
    PutAsked,
    Raise,
    Receipt,
    Receiver,
    Refuse,
    SessionAsked,
)
from sync.record import BodyState, Record
from sync.sender import (
    Alarm,
    AskSession,
    Event,
    Grew,
    KeepFence,
    KeepReceipt,
    PathFailed,
    Phase,
    Put,
    Receipted,
    Refused,
    Sender,
    SessionOpened,
    Started,
    Tick,
    Wait,
)
from sync.session import OwnStream, SessionAnswer, SessionRequest, TheirStream, read_answer, read_request
from tests.sim_realm import (
    COSIGN_CERTIFICATE,
    COSIGNER,
    LOG_CERTIFICATE,
    LOG_SIGNER,
    NODE,
    NOW_S,
    MemoryLog,
    draft,
    pem,
    records,
    without_body,
)


@dataclass
class CentreLog:
    """One log as a ledger holds it."""

    head: HeldLog
    log: MemoryLog = field(default_factory=MemoryLog)
    records: list[Record] = field(default_factory=list)


class Centre:
    """The gateway's driver over a ledger in memory: reads rows, asks the receiver, performs its effects all at once, answers."""

    def __init__(self, dice: Random, *, ledger: str = "ledger-1") -> None:
        self.dice = dice
        self.ledger = ledger
        self.receiver = Receiver(COSIGNER)
        self.known: Admitted | None = None
        self.logs: dict[str, CentreLog] = {}
        self.alarms: list[str] = []
        self.now = NOW_S
        self.poison: Callable[[Record], bool] = lambda _: False

    def session(self, data: bytes, *, stale: bool = False) -> SessionAnswer | Refuse:
        request = read_request(data)
        heads = tuple(each.head for each in self.logs.values())
        event = SessionAsked(
            node=NODE, request=request, known=self.known, logs=heads, fresh=f"{self.dice.getrandbits(128):032x}", stale=stale
        )  # fmt: skip
        for effect in self.receiver.handle(event, self.now):
            match effect:
                case Admit(boot, fence, hold, superseded):
                    earlier = frozenset(superseded)
                    if self.known:
                        earlier |= self.known.earlier | {self.known.boot}
                    self.known = Admitted(boot=boot, fence=fence, earlier=earlier, held=hold)
                case OpenLog(origin):
                    assert origin.stream not in self.logs, "a head row is made once"
                    self.logs[origin.stream] = CentreLog(HeldLog(origin=origin, frontier=Frontier(), note=b""))
                case Raise(code):
                    self.alarms.append(code)
                case Refuse():
                    return effect
                case Opened(fence, held):
                    return self._answer(fence, held)
        raise AssertionError("the receiver gave no answer")

    def _answer(self, fence: str, held: bool) -> SessionAnswer:
        streams = tuple(
            TheirStream(
                stream=name, epoch=each.head.origin.epoch, tag=each.head.origin.tag, size=each.head.frontier.size, root=each.head.frontier.root
            )
            for name, each in self.logs.items()
        )  # fmt: skip
        pem_text = pem(COSIGN_CERTIFICATE).decode()
        answer = SessionAnswer(fence=fence, ledger=self.ledger, cosign_certificate=pem_text, held=held, streams=streams)
        return read_answer(answer.encode())

    def put(self, stream: str, epoch: int, first: int, fence: str, data: bytes) -> bytes | Refuse:
        try:
            found = batch.decode(data)
        except BadBatch as error:
            return Refuse(422, "bad-batch", str(error))
        if any(self.poison(record) for record in found.records):
            return Refuse(422, "bad-batch", "poison")
        mine = self.logs.get(stream)
        event = PutAsked(
            node=NODE, origin_stream=stream, epoch=epoch, first=first, fence=fence, known=self.known, held=mine.head if mine else None,
            leaves=mine.log if mine else MemoryLog(), verifier=Verifier(NODE, LOG_SIGNER.public), batch=found,
        )  # fmt: skip
        answer: bytes | Refuse | None = None
        for effect in self.receiver.handle(event, self.now):
            match effect:
                case Append(origin, before, after, note, fresh):
                    assert mine is not None
                    assert (mine.head.origin, mine.head.frontier) == (origin, before), "compare"
                    mine.log.hashes += [record.leaf for record in fresh]
                    mine.records += fresh
                    mine.head = HeldLog(origin=origin, frontier=after, note=note)  # and swap
                    assert root_at(mine.log, after.size) == after.root
                case Raise(code):
                    self.alarms.append(code)
                case Receipt(note):
                    answer = note
                case Refuse():
                    answer = effect
        assert answer is not None, "the receiver gave no answer"
        return answer

    def restored(self, sizes: dict[str, int]) -> None:
        """The ledger is set back to these sizes, as from a backup."""
        for name, size in sizes.items():
            each = self.logs[name]
            del each.records[size:], each.log.hashes[size:]
            frontier = Frontier().append(b"".join(each.log.hashes))
            each.head = replace(each.head, frontier=frontier, note=each.head.note if size else b"")


class Network:
    """Loses, repeats and delays calls as the dice fall. `quiet` does nothing of that."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.quiet = False
        self.cut = False
        self.late: list[Callable[[], object]] = []

    def call(self, request: Callable[[], object]) -> object | None:
        """The answer, or None where the call failed: before it arrived, or after."""
        if self.cut:
            return None
        if self.quiet:
            return request()
        if self.late and self.dice.random() < 0.2:
            self.late[self.dice.randrange(len(self.late))]()  # an old call arrives, again or at last
        lot = self.dice.random()
        self.late = [*self.late[-20:], request]
        if lot < 0.15:
            return None  # lost on the way there
        answer = request()
        if lot < 0.3:
            return None  # lost on the way back
        if lot < 0.4:
            return request()  # a balancer tried twice
        return answer


class Clinic:
    """The node's driver over an outbox in memory. `kept` are what its disk holds: it survives `restart`, all else does not."""

    def __init__(
        self,
        dice: Random,
        network: Network,
        centre: Centre,
        streams: Sequence[str] = ("his",),
        *,
        signer: FileSigner = LOG_SIGNER,
    ) -> None:
        self.dice, self.network, self.centre, self.signer = dice, network, centre, signer
        self.tag = f"{dice.getrandbits(32):08x}"
        self.kept: dict[str, list[Record]] = {name: [] for name in streams}
        self.receipts: dict[str, tuple[int, bytes]] = {}
        self.boots: list[str] = []
        self.fence = ""
        self.ledger = ""
        self.alarms: list[str] = []
        self.calls: list[str] = []
        self.now = 0.0
        self.damaged: set[int] = set()
        self.restart()

    def origin(self, stream: str) -> Origin:
        return Origin(NODE, stream, 1, self.tag)

    def restart(self) -> None:
        """A new start: a boot id, stored; a new sender; nothing known of the gateway."""
        self.boot = f"{self.dice.getrandbits(128):032x}"
        self.boots.append(self.boot)
        self.sender = Sender(root_at=self._root_at, dice=self.dice.random)
        streams = tuple((self.origin(name), len(made)) for name, made in self.kept.items())
        receipted = tuple((name, size) for name, (size, _) in self.receipts.items())
        self.waiting: list = []
        self._take(Started(streams, self.ledger, receipted))

    def accept(self, stream: str, count: int = 1, **changes) -> None:
        """So many messages arrive, are numbered and kept."""
        made = self.kept[stream]
        made += records([draft(len(made) + n, stream=stream, **changes) for n in range(count)], len(made))
        self._take(Grew(stream, len(made)))

    def step(self) -> None:
        """Perform one effect; a crash may come between any two."""
        if not self.waiting:
            self._take(Tick())
        effect = self.waiting.pop(0)
        match effect:
            case AskSession():
                self._take(self._session())
            case Put():
                self._take(self._put(effect))
            case KeepReceipt(origin, size, note):
                assert size >= self.receipts.get(origin.stream, (0, b""))[0] or not self.network.quiet
                if size > self.receipts.get(origin.stream, (0, b""))[0]:
                    self.receipts[origin.stream] = (size, note)
            case KeepFence(fence, ledger):
                if ledger != self.ledger:
                    self.receipts = {}
                self.fence, self.ledger, self.boots = fence, ledger, [self.boot]
            case Alarm(code):
                self.alarms.append(code)
            case Wait(seconds):
                assert seconds > 0, "a wait without an end would spin"
                self.now += seconds

    def settle(self, steps: int = 3000) -> None:
        """Go on until nothing is left to do but wait. Fails where that does not happen."""
        for _ in range(steps):
            if self.settled:
                return
            self.step()
        raise AssertionError(f"still busy: {self.sender.flows}")

    @property
    def settled(self) -> bool:
        """Whether the sender is open, or fenced, and no stream waits."""
        if self.waiting and not all(isinstance(each, Wait) for each in self.waiting):
            return False
        idle = not any(flow.waits for flow in self.sender.flows.values())
        return self.sender.phase is Phase.FENCED or (self.sender.phase is Phase.OPEN and idle)

    def _take(self, event: Event) -> None:
        # what waited for time is no longer wanted once something happened
        self.waiting = [each for each in self.waiting if not isinstance(each, Wait)] + self.sender.handle(
            event, self.now
        )

    def _root_at(self, origin: Origin, size: int) -> bytes:
        return root_at(MemoryLog([record.leaf for record in self.kept[origin.stream]]), size)

    def _session(self) -> Event:
        self.calls.append("session")
        request = SessionRequest(
            boot=self.boot, boots=tuple(self.boots), fence=self.fence, log_certificate=pem(LOG_CERTIFICATE).decode(),
            streams=tuple(OwnStream(stream=name, epoch=1, tag=self.tag, lane="routine") for name in self.kept),
        )  # fmt: skip
        found = self.network.call(lambda: self.centre.session(request.encode()))
        match found:
            case SessionAnswer():
                return SessionOpened(found, Verifier(COSIGNER.name, COSIGNER.public))
            case Refuse(_, code):
                return Refused("", code)
        return PathFailed("LNK-01")

    def _put(self, put: Put) -> Event:
        stream = put.origin.stream
        made = self.kept[stream]
        taken: list[Record] = []
        octets = 0
        for record in made[put.first : put.first + put.records_max]:
            octets += len(record.body)
            if taken and octets > put.octets_max:
                break
            taken.append(without_body(record, BodyState.DAMAGED) if put.bare else record)
        assert taken, "a PUT without records"
        self.calls.append(f"put {put.first}+{len(taken)}{' bare' if put.bare else ''}")
        end = put.first + len(taken)
        note = sign_checkpoint(Checkpoint(put.origin, end, self._root_at(put.origin, end)), self.signer)
        sent = batch.Batch(
            node=NODE, stream=stream, epoch=1, tag=self.tag, first=put.first, lane="routine", checkpoint=note, records=taken
        )  # fmt: skip
        data, fence = batch.encode(sent), self.fence
        found = self.network.call(lambda: self.centre.put(stream, 1, put.first, fence, data))
        match found:
            case bytes():
                return Receipted(stream, found)
            case Refuse(_, code, _, head):
                return Refused(stream, code, _theirs(head))
        return PathFailed("LNK-02")


def _theirs(head: HeldLog | None) -> TheirStream | None:
    if head is None:
        return None
    return TheirStream(
        stream=head.origin.stream, epoch=head.origin.epoch, tag=head.origin.tag, size=head.frontier.size, root=head.frontier.root
    )  # fmt: skip


def digest(made: Sequence[Record]) -> str:
    """A short name for a list of records, for messages of failing tests."""
    return sha256(b"".join(record.leaf for record in made)).hexdigest()[:12]
