"""The node's half of the protocol, pure: events in, effects out. The driver calls, waits and stores; it may die between any two effects.

A start and a lost link are one path: ask for a session, learn the gateway's size, go on from there.

    CLOSED --AskSession--> ASKING --SessionOpened--> OPEN --Put--> OPEN …
       ^----------------------+---------any failure----+
    FENCED: a newer start of this node was admitted. Left only by a restart or a person, or where another lane of this start was admitted anew.

A stream whose gateway holds something else than the node (restored, copied, forked) goes on under a further epoch:

    AskRoot … AskRoot --> OpenEpoch (stored) --> PostEpoch --> Put …
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf

from sync.agreement import Window, find_common
from sync.batch import RECORDS_MAX
from sync.checkpoint import Checkpoint
from sync.errors import LogBroken, SyncError
from sync.flow import CONTEXTS_MISSED_MAX, FORKS_MAX, QUANTUM_BYTES_MAX, Flow
from sync.keys import Verifier
from sync.names import Origin
from sync.pace import KEY_WAIT_S, REVOKED_WAIT_S, SESSION_S_MAX, WAIT_S_MAX, Backoff, pause_s
from sync.receipt import open_receipt
from sync.sender_events import (
    Alarm,
    AskSession,
    Call,
    Effect,
    EpochOpened,
    EpochTaken,
    Event,
    Grew,
    KeepFence,
    KeepReceipt,
    OpenEpoch,
    OwnLog,
    PartOrdered,
    PartSent,
    PathFailed,
    Phase,
    Put,
    Receipted,
    Refused,
    Retry,
    RootTold,
    SessionOpened,
    Started,
    Wait,
)  # fmt: skip
from sync.session import SessionAnswer, TheirStream


class Sender:
    """One uplink's state. `root_at(origin, size)` gives our own root (empty: it cannot be read), `root_of(stream, start, size)` that
    over rows of a stream's run, `key_at(origin, size)` the id of our key in force there (empty: not known), `opened_by_us(statement)`
    the log that it opens, if a key of ours signed it, `dice` a number from 0 to 1; `linger_s`: how long after a call few records wait for more.
    """

    def __init__(
        self, *, root_at: Callable[[Origin, int], bytes], root_of: Callable[[str, int, int], bytes], key_at: Callable[[Origin, int], bytes],
        dice: Callable[[], float], opened_by_us: Callable[[bytes], Origin | None] = lambda _: None, linger_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.phase = Phase.CLOSED
        self.flows: dict[str, Flow] = {}
        self._root_at, self._root_of, self._key_at_size, self._opened_by_us = root_at, root_of, key_at, opened_by_us
        self._backoff, self._linger_s = Backoff(dice), linger_s
        self._cosigner: Verifier | None = None
        self._ledger, self._fence, self._retry_at, self._session_at, self._key_at = "", "", 0.0, 0.0, inf
        self._plain = False  # the gateway lacks a dictionary: none is used until the next session
        self._context, self._missed = 0, 0  # bytes of context that it takes, and how often it could do nothing with one
        self._busy = False  # one call at a time on this lane
        self._turn: list[str] = []  # whose turn it is, so that a busy stream does not starve a quiet one

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at a monotonic time in seconds; give what to do, in order."""
        if self.phase is Phase.FENCED and not isinstance(event, Grew | PartOrdered) and not self._is_readmitted(event):
            return []  # a late answer or a failing link is no reason to compete with the newer start
        return [*self._take(event, now), *self._next(now)]

    def _is_readmitted(self, event: Event) -> bool:
        """Whether another lane of this start was given a newer fence: it was the gateway that forgot, and no newer start."""
        return isinstance(event, SessionOpened) and event.answer.fence != self._fence

    def _take(self, event: Event, now: float) -> list[Effect]:
        """An answer; what else there is to hear of asks for nothing by itself."""
        match event:
            case SessionOpened(answer, cosigner):
                self._session_at, self._key_at = now, inf
                return self._opened(answer, cosigner)
            case Receipted(stream, note):
                return self._receipted(stream, note, now)
            case RootTold(stream):
                self._busy = False
                return self._search_on(self.flows[stream], event)
            case EpochTaken():
                return self._epoch_taken(event)
            case Refused():
                return self._refused(event, now)
            case PathFailed():
                return self._fail(now)
            case PartSent():
                self._busy = False
                self._backoff.succeeded()
        self._hear(event, now)
        return []

    def _hear(self, event: Event, now: float) -> None:
        match event:
            case Started(logs, ledger):
                self._start(logs, ledger)
            case Grew(origin, size):
                self._grow(origin, size)
            case EpochOpened(stream, logs):
                self._go_to(self.flows[stream].carried_on(logs), len(logs) - 1, posting=True)
            case PartOrdered(stream):
                self.flows[stream] = self.flows[stream].to_part()
                self._key_at, self._retry_at = now, min(self._retry_at, now)
            case Retry():
                self._retry_at = min(self._retry_at, now)

    def _start(self, logs: Sequence[OwnLog], ledger: str) -> None:
        for log in logs:
            before = self.flows.get(log.origin.stream)
            self.flows[log.origin.stream] = Flow((*(before.logs if before else ()), log))
        self._turn, self._ledger = list(self.flows), ledger

    def _grow(self, origin: Origin, size: int) -> None:
        flow = self.flows[origin.stream]
        if flow.logs[-1].origin == origin:  # else it is late: the stream goes on under another epoch
            self.flows[origin.stream] = replace(flow, logs=(*flow.logs[:-1], replace(flow.logs[-1], size=size)))

    def _next(self, now: float) -> Iterable[Effect]:
        # an epoch that is being stored is an event in a moment: a wait would only hold it up
        if self._busy or self.phase is Phase.FENCED or any(flow.opening for flow in self.flows.values()):
            return []
        if self.phase is Phase.CLOSED:
            return self._ask() if now >= self._retry_at else [Wait(self._retry_at - now)]
        waiting = [name for name in self._turn if self.flows[name].waits]
        ready = next((name for name in waiting if self.flows[name].due_at <= now), None)
        due = self._session_at + SESSION_S_MAX
        # what was refused for its key is asked about before others send on: else a long queue of theirs would put it off
        if self._key_at <= now or (ready is None and due <= now):
            return self._ask()
        if ready is not None:
            return [self._call(ready, now)]
        if waiting:
            return [Wait(min(due, self._key_at, *(self.flows[name].due_at for name in waiting)) - now)]
        return [Wait(min(WAIT_S_MAX, due - now))]

    def _ask(self) -> list[Effect]:
        self.phase, self._busy = Phase.ASKING, True
        return [AskSession()]

    def _call(self, name: str, now: float) -> Call:
        """What this stream has to call for; the others have their turn after it."""
        flow = self.flows[name]
        self._turn.remove(name)
        self._turn.append(name)
        self._busy = True
        call = flow.call()
        if isinstance(call, Put):
            call = replace(call, plain=self._plain, context=self._context_of(flow, call.first), since=flow.since)
            self.flows[name] = replace(flow, first=call.first, next_at=now + self._linger_s, goal=flow.size)
        return call

    def _context_of(self, flow: Flow, first: int) -> int:
        """Bytes of context that a call from `first` on may use."""
        return self._context if flow.since < first and not self._plain and self._missed < CONTEXTS_MISSED_MAX else 0

    # -- answers --------------------------------------------------------------------------------------------------

    def _opened(self, answer: SessionAnswer, cosigner: Verifier) -> list[Effect]:
        self.phase, self._busy, self._cosigner, self._plain = Phase.OPEN, False, cosigner, False
        self._context, self._missed = answer.context, 0
        self._fence = answer.fence
        done: list[Effect] = [KeepFence(answer.fence, answer.ledger, answer.held)]
        if answer.held:
            done.append(Alarm("SYN-23"))
        if answer.ledger != self._ledger:
            self._ledger = answer.ledger
            self.flows = {name: flow.at_another() for name, flow in self.flows.items()}
        theirs = {stream.stream: stream for stream in answer.streams}
        for name in self.flows:
            flow, found = self.flows[name].judged_anew(), theirs.get(name)
            if found is None:
                done += self._halt(flow, "SYN-24")
            else:
                done += self._compare(flow, found)
                if self.flows[name].lacks_common:
                    self.flows[name] = replace(self.flows[name], posting=True)
        return done

    def _compare(self, flow: Flow, theirs: TheirStream, *, is_told: bool = True) -> list[Effect]:
        """Decide from the gateway's newest log where to go on; where it holds something else than we do, find out from where on.

        `is_told`: by a session; else by the answer to a statement, which is not sent once more for it.
        """
        if flow.halted:
            return []
        if flow.ordered:
            return self._search(flow, theirs, "NOD-36")
        at = flow.place_of(theirs)
        if at is None:
            return self._search(flow, theirs, "SYN-22")
        log = flow.logs[at]
        is_newest = at == len(flow.logs) - 1
        if theirs.size > log.size:
            # of an older epoch it may hold what a backup has made us forget: its successor's statement says so
            if is_newest:
                return self._search(flow, theirs, "SYN-21")
        elif not (root := self._root_at(log.origin, theirs.size)):
            return self._halt(flow, "SYN-31")
        elif root != theirs.root:
            return self._search(flow, theirs, "SYN-20")
        elif self._is_anothers(log.origin, theirs):
            if is_told and not is_newest and theirs.size == log.size:
                # that was seen before, and the epoch after it opened: its statement may have been lost on the way
                self._go_to(replace(flow, newest=theirs), at + 1, posting=True)
                return []
            # who has an earlier key signed there: our own batches would be refused for ever
            return self._search(flow, theirs, "SYN-33")
        flow = replace(flow, newest=theirs)
        known = (flow.theirs or 0) if at == flow.at else 0
        behind = at < flow.at or theirs.size < max(log.receipted, known)
        self._go_to(flow, at, theirs=theirs.size)
        return [Alarm("SYN-25", flow.stream)] if behind else []

    def _is_anothers(self, origin: Origin, theirs: TheirStream) -> bool:
        """Whether the gateway holds the records of this log, but under a key that is not in force where its log ends."""
        return bool(theirs.key) and self._key_at_size(origin, theirs.size) not in {b"", theirs.key}

    def _go_to(self, flow: Flow, at: int, *, theirs: int | None = None, posting: bool = False) -> None:
        """Send this log from the gateway's size on; one that it holds whole is followed by the next, whose statement comes first."""
        since = flow.since if at == flow.at else 0
        flow = replace(
            flow, at=at, theirs=theirs, posting=posting, search=None, question=None, opening=False, since=since
        )
        if flow.is_sent and at < len(flow.logs) - 1:
            flow = replace(flow, at=at + 1, theirs=None, posting=True, since=0)
        self.flows[flow.stream] = flow

    # -- a further epoch ------------------------------------------------------------------------------------------

    def _search(self, flow: Flow, theirs: TheirStream, code: str) -> list[Effect]:
        """Say that the gateway holds something else, and begin to ask up to where it is ours. A row of such is a fault, and a person decides."""
        if not flow.may_part(code):
            return self._halt(flow, "SYN-31")
        windows = [Window(log.origin.epoch, log.origin.tag, log.start, log.start + log.size) for log in flow.logs]
        name = flow.stream
        search = find_common(
            lambda start, size: self._read_root(name, start, size), windows, end=flow.end, theirs=theirs.epoch, far=flow.is_far(theirs)
        )  # fmt: skip
        flow = replace(flow, theirs=None, posting=False, opening=False, search=search, question=None, newest=theirs)
        return [Alarm(code, name), *self._search_on(flow, None)]

    def _read_root(self, stream: str, start: int, size: int) -> bytes:
        """Our root over these rows. Raises LogBroken where they cannot be read: that is no sign that the gateway has others."""
        root = self._root_of(stream, start, size)
        if not root:
            raise LogBroken("own leaves cannot be read")
        return root

    def _search_on(self, flow: Flow, answer: RootTold | None) -> list[Effect]:
        if flow.search is None or flow.newest is None or (answer is not None and flow.question is None):
            return []  # an answer to a question of before the last session
        try:
            question = next(flow.search) if answer is None else flow.search.send(answer.told)
        except LogBroken:
            return self._halt(replace(flow, search=None, question=None), "SYN-31")
        except StopIteration as end:
            if (epoch := flow.next_epoch(flow.newest, self._opened_by_us(end.value.opening))) is None:
                return self._halt(replace(flow, search=None, question=None), "SYN-31")
            self.flows[flow.stream] = replace(flow, search=None, question=None, opening=True)
            return [OpenEpoch(flow.stream, epoch, end.value.place, flow.newest, end.value.own)]
        self.flows[flow.stream] = replace(flow, question=question)
        return []

    def _epoch_taken(self, event: EpochTaken) -> list[Effect]:
        """What the statement calls common is receipted with it: where nothing is carried over and no room is left, no other receipt can come."""
        self._busy = False
        flow, done = replace(self.flows[event.stream], posting=False), list[Effect]()
        try:
            receipt = open_receipt(event.note, self._cosigner) if event.note and self._cosigner else None
            if receipt is not None and (after := flow.confirmed(said := receipt.checkpoint, self._root_at)) is not flow:
                flow, done = after, [KeepReceipt(said.origin, said.size, event.note, receipt.time)]
        except SyncError:
            done = [Alarm("SYN-26", flow.stream)]
        return [*done, *self._compare(flow, event.theirs, is_told=False)]

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
        flow = replace(
            flow.with_receipt(flow.at, size), rewound=False, forks=0, opened=0, records_max=RECORDS_MAX, octets_max=QUANTUM_BYTES_MAX, bare=False,
        )  # fmt: skip
        self._go_to(flow, flow.at, theirs=size)
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
                self.phase, self._retry_at = Phase.CLOSED, now + pause_s(event.wait_s)
                return []
            return self._fail(now)
        return self._refused_call(self.flows[event.stream], event, now)

    def _refused_call(self, flow: Flow, event: Refused, now: float) -> list[Effect]:
        """A verdict on what one stream sent."""
        match event.code:
            case "rewind" if event.theirs is not None and 0 <= event.theirs.size != flow.theirs and not flow.rewound:
                # twice in a row is no verdict but a broken answer: then a session decides, with its waits between
                return self._compare(replace(flow, rewound=True), event.theirs)
            case "fork":
                # never the same batch again: the next session compares, and a further epoch begins where the two went apart
                return self._forked(flow, now)
            case "bad-key" | "key-absent":
                return self._lacks_key(flow, event.code, now)
            case "bad-opening":
                return self._halt(flow, "SYN-31")
            case "unknown-dictionary" | "bad-batch" if self._context_of(flow, flow.first):
                # it has other bodies than we (erased, restored), or is older than it was: the same again, and these records are no context any more
                self._missed += 1 if event.code == "unknown-dictionary" else CONTEXTS_MISSED_MAX
                self.flows[flow.stream] = replace(flow, since=flow.first)
                return []
            case "bad-batch" | "too-large":
                return self._halve(flow)
            case "unknown-dictionary" if not self._plain:
                self._plain = True
                return []
            case "busy":
                window = min(event.window_bytes or flow.octets_max, QUANTUM_BYTES_MAX)
                ready_at = now + pause_s(event.wait_s)
                self.flows[event.stream] = replace(flow, ready_at=ready_at, octets_max=max(1, window))
                return []
        return self._fail(now)

    def _lacks_key(self, flow: Flow, code: str, now: float) -> list[Effect]:
        if code == "bad-key" and flow.posting and flow.newest is not None and flow.logs[flow.at].outdated:
            # a disk or copy of before a change of the key opened it: the present key opens another, or has done so
            if not flow.is_carried_on:
                return self._search(flow, flow.newest, "SYN-20")
            self._go_to(flow, flow.at + 1, posting=True)
            return []
        # a person brings the right key or certificate; the lane's other streams go on meanwhile
        self.flows[flow.stream] = replace(flow, ready_at=now + KEY_WAIT_S, opening=False)
        if code == "bad-key":  # a certificate that is good only since then counts from a session on
            self._key_at = min(self._key_at, now + KEY_WAIT_S)
        return [Alarm("SYN-32" if code == "bad-key" else "SYN-15", flow.stream)]

    def _forked(self, flow: Flow, now: float) -> list[Effect]:
        self.flows[flow.stream] = flow = replace(flow, forks=flow.forks + 1)
        if flow.forks >= FORKS_MAX:
            return [*self._halt(flow, "SYN-31"), *self._fail(now)]
        if flow.posting and flow.newest is not None:
            # an epoch that was opened without a link took for common what is not
            return self._search(flow, flow.newest, "SYN-20")
        return [Alarm("SYN-20", flow.stream), *self._fail(now)]

    def _halve(self, flow: Flow) -> list[Effect]:
        """Half as many; of a single record only the header. One message's content can never hold up another."""
        after = flow.halved()
        if after is None:
            return self._halt(flow, "SYN-29")
        self.flows[flow.stream] = after
        return [Alarm("SYN-29", flow.stream)] if after.bare else []

    def _halt(self, flow: Flow, code: str) -> list[Effect]:
        self.flows[flow.origin.stream] = replace(flow, halted=code)
        return [Alarm(code, flow.origin.stream)]

    def _fail(self, now: float) -> list[Effect]:
        self.phase, self._busy = Phase.CLOSED, False
        self.flows = {name: replace(flow, opening=False) if flow.opening else flow for name, flow in self.flows.items()}
        self._retry_at = now + self._backoff.failed()
        return []
