"""The node's half of the protocol, pure: events in, effects out. The driver calls, waits and stores; it may die between any two effects.

A start and a lost link are one path: ask for a session, learn the gateway's size, go on from there.

    CLOSED --AskSession--> ASKING --SessionOpened--> OPEN --Put--> OPEN …
       ^----------------------+---------any failure----+
    FENCED: a newer start of this node was admitted. Left only by a restart or a person.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from sync.batch import RECORDS_MAX
from sync.checkpoint import Checkpoint
from sync.errors import SyncError
from sync.keys import Verifier
from sync.names import Origin
from sync.pace import WAIT_S_MAX, Backoff
from sync.receipt import open_receipt
from sync.session import SessionAnswer, TheirStream

QUANTUM_BYTES_MAX = 256 * 1024  # body bytes of a batch before compression: about a second of a 256 kbit/s link
BUSY_S_MIN = 0.1  # a gateway that says "busy, come back in 0 s" is not asked in a tight loop
REVOKED_WAIT_S = 300.0  # a revoked certificate is replaced by people; asking more often only fills logs


class Phase(Enum):
    """Where the conversation stands."""

    CLOSED = "closed"
    ASKING = "asking"
    OPEN = "open"
    FENCED = "fenced"


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The process is up; these are its logs and their sizes. `receipted`: the newest receipts of `ledger` that we hold, by stream."""

    streams: tuple[tuple[Origin, int], ...]
    ledger: str = ""
    receipted: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Grew:
    """A log now has this size, durably."""

    stream: str
    size: int


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The gateway answered a session request; `cosigner` is its verified cosigning key."""

    answer: SessionAnswer
    cosigner: Verifier


@dataclass(frozen=True, slots=True)
class Receipted:
    """200 to a PUT, with the cosigned checkpoint, not yet verified."""

    stream: str
    note: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Problem+json with a code to a PUT (`stream`) or a session (empty). `theirs` with `rewind`; `wait_s`, `window_bytes` with `busy`."""

    stream: str
    code: str
    theirs: TheirStream | None = None
    wait_s: float = 0.0
    window_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PathFailed:
    """No answer, or one that is no verdict: a failure of the path."""

    code: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Somebody who mended the path says that it is worth trying now: the wait after failures is over."""


Event = Started | Grew | SessionOpened | Receipted | Refused | PathFailed | Tick | Retry


# -- effects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskSession:
    """POST /v1/session."""


@dataclass(frozen=True, slots=True)
class Put:
    """PUT the records from `first` on: at most so many, at most so many body bytes (but one record always). `bare`: without the body."""

    origin: Origin
    first: int
    records_max: int
    octets_max: int
    bare: bool = False


@dataclass(frozen=True, slots=True)
class KeepReceipt:
    """Store a verified receipt."""

    origin: Origin
    size: int
    note: bytes
    at: int


@dataclass(frozen=True, slots=True)
class KeepFence:
    """Store the fence of this start."""

    fence: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must know, under its catalogue code; `stream` may be empty."""

    code: str
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this many seconds passed, or an event."""

    seconds: float


Effect = AskSession | Put | KeepReceipt | KeepFence | Alarm | Wait


@dataclass(frozen=True, slots=True)
class Flow:
    """One log on its way: our size, the gateway's (None: not yet known), the newest receipt's that we hold, and what the next batch may hold.

    `first`: where the call under way, or the last one, began; `rewound`: the last answer was a rewind.
    """

    origin: Origin
    size: int
    theirs: int | None = None
    receipted: int = 0
    first: int = 0
    rewound: bool = False
    halted: str = ""
    records_max: int = RECORDS_MAX
    octets_max: int = QUANTUM_BYTES_MAX
    bare: bool = False
    ready_at: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether the gateway lacks records that may be sent, or has some whose receipt was lost on the way."""
        return not self.halted and self.theirs is not None and (self.theirs < self.size or self.receipted < self.theirs)

    def put(self) -> "Put":
        """The next call. Where only a receipt is missing, the last record is sent again: the same range gives the same receipt."""
        if self.theirs is not None and self.theirs < self.size:
            return Put(self.origin, self.theirs, self.records_max, self.octets_max, self.bare)
        return Put(self.origin, self.size - 1, 1, self.octets_max, self.bare)


class Sender:
    """One uplink's state. `root_at(origin, size)` gives our own root; `dice` a number from 0 to 1."""

    def __init__(self, *, root_at: Callable[[Origin, int], bytes], dice: Callable[[], float]) -> None:
        self.phase = Phase.CLOSED
        self.flows: dict[str, Flow] = {}
        self._root_at = root_at
        self._backoff = Backoff(dice)
        self._cosigner: Verifier | None = None
        self._ledger = ""
        self._retry_at = 0.0
        self._busy = False  # one call at a time on this lane
        self._turn: list[str] = []  # whose turn it is, so that a busy stream does not starve a quiet one

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at a monotonic time in seconds; give what to do, in order."""
        if self.phase is Phase.FENCED and not isinstance(event, Grew):
            return []  # a late answer or a failing link is no reason to compete with the newer start
        match event:
            case Started(streams, ledger, receipted):
                held = dict(receipted)
                self.flows = {
                    origin.stream: Flow(origin, size, receipted=held.get(origin.stream, 0)) for origin, size in streams
                }
                self._turn, self._ledger = list(self.flows), ledger
                done: list[Effect] = []
            case Grew(stream, size):
                self.flows[stream] = replace(self.flows[stream], size=size)
                done = []
            case SessionOpened(answer, cosigner):
                done = self._opened(answer, cosigner)
            case Receipted(stream, note):
                done = self._receipted(stream, note, now)
            case Refused():
                done = self._refused(event, now)
            case PathFailed():
                done = self._fail(now)
            case Tick():
                done = []
            case Retry():
                self._retry_at, done = min(self._retry_at, now), []
        return [*done, *self._next(now)]

    def _next(self, now: float) -> Iterable[Effect]:
        if self._busy or self.phase is Phase.FENCED:
            return []
        if self.phase is Phase.CLOSED:
            if now < self._retry_at:
                return [Wait(self._retry_at - now)]
            self.phase, self._busy = Phase.ASKING, True
            return [AskSession()]
        waiting = [name for name in self._turn if self.flows[name].waits]
        for name in waiting:
            flow = self.flows[name]
            if flow.ready_at <= now:
                self._turn.remove(name)
                self._turn.append(name)
                self._busy = True
                call = flow.put()
                self.flows[name] = replace(flow, first=call.first)
                return [call]
        return [Wait(min((self.flows[name].ready_at - now for name in waiting), default=WAIT_S_MAX))]

    # -- answers --------------------------------------------------------------------------------------------------

    def _opened(self, answer: SessionAnswer, cosigner: Verifier) -> list[Effect]:
        self.phase, self._busy, self._cosigner = Phase.OPEN, False, cosigner
        done: list[Effect] = [KeepFence(answer.fence, answer.ledger)]
        if answer.held:
            done.append(Alarm("SYN-23"))
        if answer.ledger != self._ledger:
            # a second site has receipted nothing yet: what the first one confirmed says nothing of it
            self._ledger = answer.ledger
            self.flows = {name: replace(flow, theirs=None, receipted=0) for name, flow in self.flows.items()}
        theirs = {stream.stream: stream for stream in answer.streams}
        for name in self.flows:
            flow, found = self._unlocked(name), theirs.get(name)
            if found is None:
                done += self._halt(flow, "SYN-24")
            else:
                done += self._compare(flow, found)
        return done

    def _unlocked(self, name: str) -> Flow:
        """The stream's flow; one that the centre had not allowed is judged anew in each session."""
        if self.flows[name].halted == "SYN-24":
            self.flows[name] = replace(self.flows[name], halted="")
        return self.flows[name]

    def _compare(self, flow: Flow, theirs: TheirStream) -> list[Effect]:
        """Decide from the gateway's size and root where to go on. Opening a further epoch is not part of this release: the stream halts."""
        origin, name = flow.origin, flow.origin.stream
        if flow.halted:
            return []
        if theirs.epoch != origin.epoch or theirs.tag != origin.tag:
            return self._halt(flow, "SYN-22")
        if theirs.size > flow.size:
            return self._halt(flow, "SYN-21")
        if self._root_at(origin, theirs.size) != theirs.root:
            return self._halt(flow, "SYN-20")
        behind = theirs.size < max(flow.receipted, flow.theirs or 0)
        self.flows[name] = replace(flow, theirs=theirs.size)
        return [Alarm("SYN-25", name)] if behind else []

    def _receipted(self, stream: str, note: bytes, now: float) -> list[Effect]:
        flow = self.flows[stream]
        try:
            if self._cosigner is None:
                raise SyncError("no session")
            receipt = open_receipt(note, self._cosigner)
        except SyncError:
            return [Alarm("SYN-26", stream), *self._fail(now)]
        size = receipt.checkpoint.size
        # what the gateway confirms must be what we hold: else nothing is trimmed on its word. And it must cover what we
        # just sent: an older receipt, answered again for ever, would be a queue that never drains and never complains
        if not flow.first < size <= flow.size or receipt.checkpoint != Checkpoint(
            flow.origin, size, self._root_at(flow.origin, size)
        ):
            return [Alarm("SYN-26", stream), *self._fail(now)]
        self._busy = False
        self._backoff.succeeded()
        self.flows[stream] = replace(
            flow, theirs=size, receipted=max(size, flow.receipted), rewound=False, records_max=RECORDS_MAX, octets_max=QUANTUM_BYTES_MAX, bare=False
        )  # fmt: skip
        return [KeepReceipt(flow.origin, size, note, receipt.time)]

    def _refused(self, event: Refused, now: float) -> list[Effect]:
        self._busy = False
        match event.code:
            case "fenced":
                self.phase = Phase.FENCED
                return [Alarm("SYN-27")]
            case "revoked":
                self.phase, self._retry_at = Phase.CLOSED, now + REVOKED_WAIT_S
                return [Alarm("SYN-28")]
        if not event.stream:
            if event.code == "busy":
                self.phase, self._retry_at = Phase.CLOSED, now + _pause(event)
                return []
            return self._fail(now)
        flow = self.flows[event.stream]
        match event.code:
            case "rewind" if event.theirs is not None and 0 <= event.theirs.size != flow.theirs and not flow.rewound:
                # twice in a row is no verdict but a broken answer: then a session decides, with its waits between
                return self._compare(replace(flow, rewound=True), event.theirs)
            case "fork":
                return self._halt(flow, "SYN-20")
            case "bad-batch" | "too-large":
                return self._halve(flow)
            case "busy":
                window = min(event.window_bytes or flow.octets_max, QUANTUM_BYTES_MAX)
                self.flows[event.stream] = replace(flow, ready_at=now + _pause(event), octets_max=max(1, window))
                return []
        return self._fail(now)

    def _halve(self, flow: Flow) -> list[Effect]:
        """Half as many; of a single record only the header. One message's content can never hold up another."""
        name = flow.origin.stream
        if flow.records_max > 1:
            most = min(flow.records_max, max(1, flow.size - (flow.theirs or 0)))
            self.flows[name] = replace(flow, records_max=max(1, most // 2))
            return []
        if flow.bare:
            return self._halt(flow, "SYN-29")
        self.flows[name] = replace(flow, bare=True)
        return [Alarm("SYN-29", name)]

    def _halt(self, flow: Flow, code: str) -> list[Effect]:
        self.flows[flow.origin.stream] = replace(flow, halted=code)
        return [Alarm(code, flow.origin.stream)]

    def _fail(self, now: float) -> list[Effect]:
        self.phase, self._busy = Phase.CLOSED, False
        self._retry_at = now + self._backoff.failed()
        return []


def _pause(busy: Refused) -> float:
    """How long a gateway that is busy is left alone, in seconds. This order of max() also turns a NaN into the shortest wait."""
    return min(max(BUSY_S_MIN, busy.wait_s), WAIT_S_MAX)
