"""A clinic and a centre in memory: the real sender, receiver and batch bytes; what would be disks, clock and network are lists and dice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random

from sync import batch
from sync.agreement import Question, Told
from sync.announced import read_heads
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.context import CONTEXT_BYTES_MAX, before, recall
from sync.errors import BadBatch, UnknownDictionary
from sync.held import HeldLog
from sync.keys import FileSigner, Verifier
from sync.log import Frontier, root_at
from sync.log_keys import LogKeys
from sync.names import Origin
from sync.opening import End, Opening, sign_opening
from sync.receiver import (
    Admit,
    Admitted,
    Announce,
    Append,
    EpochAsked,
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
from sync.record import BodyState, Record
from sync.sender import Sender
from sync.sender_events import (
    Alarm,
    AskRoot,
    AskSession,
    EpochOpened,
    EpochTaken,
    Event,
    Grew,
    KeepFence,
    KeepReceipt,
    OpenEpoch,
    OwnLog,
    PathFailed,
    Phase,
    PostEpoch,
    Put,
    Receipted,
    Refused,
    RootTold,
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
    MemoryRecords,
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
        self.logs: dict[str, CentreLog] = {}  # the newest of each stream
        self.older: list[CentreLog] = []
        self.openings: dict[Origin, bytes] = {}
        self.announced: dict = {}
        self.alarms: list[str] = []
        self.now = NOW_S
        self.recalled = 0  # contexts that were found here
        self.poison: Callable[[Record], bool] = lambda _: False

    def session(self, data: bytes, *, stale: bool = False) -> SessionAnswer | Refuse:
        request = read_request(data)
        heads = tuple(each.head for each in self.logs.values())
        event = SessionAsked(
            node=NODE, request=request, known=self.known, logs=heads, fresh=f"{self.dice.getrandbits(128):032x}", stale=stale,
            heads=read_heads(request.heads, (Verifier(NODE, LOG_SIGNER.public),), NODE), announced=tuple(self.announced.values()),
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
                case Announce(head):
                    self.announced[head.origin.stream] = head
                case Refuse():
                    return effect
                case Opened(fence, held):
                    return self._answer(fence, held)
        raise AssertionError("the receiver gave no answer")

    def all_logs(self, stream: str) -> list[CentreLog]:
        """Those of a stream, oldest first."""
        return [each for each in [*self.older, self.logs[stream]] if each.head.origin.stream == stream]

    def told(self, stream: str, question: Question) -> Told:
        for each in self.all_logs(stream) if stream in self.logs else []:
            held = each.head.frontier.size
            if each.head.origin.epoch == question.epoch:
                return Told(
                    each.head.origin.tag, held, root_at(each.log, question.size) if question.size <= held else b""
                )
        return Told("", 0, b"")

    def epoch(self, stream: str, fence: str, statement: bytes) -> TheirStream | Refuse:
        mine = self.logs.get(stream)

        def find(origin: Origin) -> tuple[int, MemoryLog] | None:
            found = next((each for each in self.all_logs(stream) if each.head.origin == origin), None)
            return (found.head.frontier.size, found.log) if found else None

        event = EpochAsked(
            node=NODE, stream=stream, fence=fence, known=self.known, held=mine.head if mine else None,
            stored=self.openings.get(mine.head.origin, b"") if mine else b"", statement=statement,
            keys=LogKeys(in_force=Verifier(NODE, LOG_SIGNER.public)), find=find,
        )  # fmt: skip
        for effect in self.receiver.handle(event, self.now):
            match effect:
                case OpenLog(origin, _, opening):
                    assert mine is not None
                    assert self.known is not None
                    self.older.append(mine)
                    self.openings[origin] = opening
                    self.logs[stream] = CentreLog(HeldLog(origin=origin, frontier=Frontier(), note=b""))
                    self.known = replace(self.known, held=True)
                case Raise(code):
                    self.alarms.append(code)
                case Taken(held):
                    return _theirs(held)
                case Refuse():
                    return effect
        raise AssertionError("the receiver gave no answer")

    def _answer(self, fence: str, held: bool) -> SessionAnswer:
        streams = tuple(
            TheirStream(
                stream=name, epoch=each.head.origin.epoch, tag=each.head.origin.tag, size=each.head.frontier.size, root=each.head.frontier.root
            )
            for name, each in self.logs.items()
        )  # fmt: skip
        pem_text = pem(COSIGN_CERTIFICATE).decode()
        answer = SessionAnswer(
            fence=fence,
            ledger=self.ledger,
            cosign_certificate=pem_text,
            held=held,
            streams=streams,
            context=CONTEXT_BYTES_MAX,
        )
        return read_answer(answer.encode())

    def put(self, stream: str, epoch: int, first: int, fence: str, data: bytes) -> bytes | Refuse:
        try:
            found = batch.decode(data, recall=lambda count: self._recall(stream, epoch, first, count))
        except UnknownDictionary as error:
            return Refuse(422, "unknown-dictionary", str(error))
        except BadBatch as error:
            return Refuse(422, "bad-batch", str(error))
        if any(self.poison(record) for record in found.records):
            return Refuse(422, "bad-batch", "poison")
        mine = self.logs.get(stream)
        event = PutAsked(
            node=NODE, origin_stream=stream, epoch=epoch, first=first, fence=fence, known=self.known, held=mine.head if mine else None,
            leaves=mine.log if mine else MemoryLog(), keys=LogKeys(in_force=Verifier(NODE, LOG_SIGNER.public)), batch=found,
            announced=self.announced.get(stream),
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

    def _recall(self, stream: str, epoch: int, first: int, count: int) -> bytes:
        mine = next((each for each in self.all_logs(stream) if each.head.origin.epoch == epoch), None)
        if mine is None or first > len(mine.records):
            raise UnknownDictionary("there are not so many")
        made = recall(MemoryRecords(mine.records), mine.head.origin, first, count)
        self.recalled += 1
        return made

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
        self.logs = {name: [OwnLog(Origin(NODE, name, 1, self.tag), 0)] for name in streams}
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
        return self.logs[stream][-1].origin

    def restart(self) -> None:
        """A new start: a boot id, stored; a new sender; nothing known of the gateway."""
        self.boot = f"{self.dice.getrandbits(128):032x}"
        self.boots.append(self.boot)
        self.sender = Sender(root_at=self._root_at, root_of=self._root_of, key_at=lambda *_: b"", dice=self.dice.random)
        self.waiting: list = []
        logs = tuple(log for name in self.kept for log in self.own_logs(name))
        self._take(Started(logs, self.ledger))

    def own_logs(self, stream: str) -> tuple[OwnLog, ...]:
        *older, newest = self.logs[stream]
        return (
            *older,
            replace(newest, size=len(self.kept[stream]) - newest.start, receipted=self._receipted(newest.origin)),
        )

    def _receipted(self, origin: Origin) -> int:
        return self.receipts.get(origin.stream, (0, b""))[0] if self.origin(origin.stream) == origin else 0

    def restored(self, sizes: dict[str, int]) -> None:
        """The disk is set back to these numbers of records, as from a backup of before any further epoch; then it starts."""
        for name, size in sizes.items():
            del self.kept[name][size:]
            self.logs[name] = self.logs[name][:1]
        self.receipts = {}
        self.restart()

    def accept(self, stream: str, count: int = 1, **changes) -> None:
        """So many messages arrive, are numbered and kept."""
        made = self.kept[stream]
        made += records([draft(len(made) + n, stream=stream, **changes) for n in range(count)], len(made))
        self._take(Grew(self.origin(stream), len(made) - self.logs[stream][-1].start))

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
            case AskRoot(stream, question):
                found = self.network.call(lambda: self.centre.told(stream, question))
                self._take(RootTold(stream, found) if isinstance(found, Told) else PathFailed("LNK-03"))
            case PostEpoch(origin, opening):
                self._take(self._post(origin, opening))
            case OpenEpoch():
                self._open(effect)
            case KeepReceipt(origin) if origin != self.origin(origin.stream):
                pass
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
        start = next(log.start for log in self.logs[origin.stream] if log.origin == origin)
        return self._root_of(origin.stream, start, size)

    def _root_of(self, stream: str, start: int, size: int) -> bytes:
        return root_at(MemoryLog([record.leaf for record in self.kept[stream][start : start + size]]), size)

    def _post(self, origin: Origin, opening: bytes) -> Event:
        self.calls.append(f"epoch {origin.epoch}")
        fence = self.fence
        found = self.network.call(lambda: self.centre.epoch(origin.stream, fence, opening))
        match found:
            case TheirStream():
                return EpochTaken(origin.stream, found)
            case Refuse(_, code, _, head):
                return Refused(origin.stream, code, _theirs(head) if head else None)
        return PathFailed("LNK-04")

    def _open(self, order: OpenEpoch) -> None:
        """As sync.outbox_epochs does it, on lists."""
        name, found = order.stream, order.theirs
        logs = self.own_logs(name)
        holder = next(log for log in logs if log.start <= order.place <= log.start + log.size)
        common = order.place - holder.start
        opened = Origin(NODE, name, order.epoch, self.boot[:8])
        opening = Opening(
            opened=opened, theirs=End(Origin(NODE, name, found.epoch, found.tag), found.size, found.root),
            own=End(logs[-1].origin, logs[-1].size, self._root_at(logs[-1].origin, logs[-1].size)),
            common=End(holder.origin, common, self._root_at(holder.origin, common)), carried=len(self.kept[name]) - order.place,
        )  # fmt: skip
        cut = [replace(log, size=max(0, min(log.size, order.place - log.start))) for log in logs]
        self.logs[name] = [*cut, OwnLog(opened, 0, start=order.place, opening=sign_opening(opening, self.signer))]
        self.receipts.pop(name, None)
        self._take(EpochOpened(name, self.own_logs(name)))

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
        start = next(log.start for log in self.logs[stream] if log.origin == put.origin)
        end = start + next(log.size for log in self.own_logs(stream) if log.origin == put.origin)
        made = [replace(record, seq=n) for n, record in enumerate(self.kept[stream][start:end])]
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
            node=NODE, stream=stream, epoch=put.origin.epoch, tag=put.origin.tag, first=put.first, lane="routine", checkpoint=note, records=taken
        )  # fmt: skip
        context = None
        if put.context:
            context = before(MemoryRecords(made), put.origin, put.first, since=put.since, octets_max=put.context)
        data, fence = batch.encode(sent, context=context), self.fence
        found = self.network.call(lambda: self.centre.put(stream, put.origin.epoch, put.first, fence, data))
        match found:
            case bytes():
                return Receipted(stream, found)
            case Refuse(_, code, _, head):
                return Refused(stream, code, _theirs(head) if head else None)
        return PathFailed("LNK-02")


def _theirs(head: HeldLog) -> TheirStream:
    return TheirStream(
        stream=head.origin.stream, epoch=head.origin.epoch, tag=head.origin.tag, size=head.frontier.size, root=head.frontier.root
    )  # fmt: skip


def digest(made: Sequence[Record]) -> str:
    """A short name for a list of records, for messages of failing tests."""
    return sha256(b"".join(record.leaf for record in made)).hexdigest()[:12]
