"""One stream on its way to the gateway: which of its logs is being sent, how far it is, and what comes next."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sync.agreement import Question, Search
from sync.batch import RECORDS_MAX
from sync.checkpoint import Checkpoint
from sync.errors import BadOpening, SyncError
from sync.names import EPOCH_OPENED_MAX, EPOCHS_AHEAD_MAX, Origin
from sync.opening import read_opening
from sync.sender_events import AskRoot, Call, OwnLog, PostEpoch, Put
from sync.session import TheirStream

FORKS_MAX = 3  # in a row, with a session before each: then it is no copy but a fault, and a person decides
# Epochs opened in a row without a receipt: a disk and a ledger that were both put back, and a copy, take one or two. Beyond that somebody answers
# falsely, and each would cost a row here and the leaves hashed anew.
OPENED_MAX = 16
CONTEXTS_MISSED_MAX = 3  # in a session: each costs a batch that was sent in vain. One comes of an erased body; more, of a gateway that is not what it said
# so many waiting records are a call without waiting for more: what a call costs by itself is then less than a twentieth of what its records cost
RECORDS_WORTH = 128
QUANTUM_BYTES_MAX = 256 * 1024  # body bytes of a batch before compression: about a second of a 256 kbit/s link


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream's logs, oldest first, of which the one at `at` is being sent; the gateway's size of it (None: not yet known).

    `first`: where the call under way, or the last one, began; `rewound`: the last answer was a rewind; `forks`: how often in a row the gateway
    has said so. `posting`: the log's statement has not been taken yet. `search`, `question`: what is being compared; `newest`: with what.
    `opening`: a further epoch is being stored. `since`: records before it are no context, the gateway has not the same.
    `ordered`: a person wants a further epoch; `opened`: how many were opened in a row without a receipt. `next_at`: see `due_at`;
    `goal`: the log's size when the last call began.
    """

    logs: tuple[OwnLog, ...]
    at: int = 0
    theirs: int | None = None
    first: int = 0
    rewound: bool = False
    forks: int = 0
    halted: str = ""
    records_max: int = RECORDS_MAX
    octets_max: int = QUANTUM_BYTES_MAX
    bare: bool = False
    ready_at: float = 0.0
    posting: bool = False
    opening: bool = False
    search: Search | None = None
    question: Question | None = None
    newest: TheirStream | None = None
    since: int = 0
    ordered: bool = False
    opened: int = 0
    next_at: float = 0.0
    goal: int = 0

    def place_of(self, theirs: TheirStream) -> int | None:
        """Which of the logs this one of the gateway's is; None: none."""
        named = (theirs.epoch, theirs.tag)
        return next((n for n, log in enumerate(self.logs) if (log.origin.epoch, log.origin.tag) == named), None)

    def judged_anew(self) -> "Flow":
        """As a session finds it: a stream that the centre had not allowed may be allowed now."""
        return replace(self, halted="") if self.halted == "SYN-24" else self

    def at_another(self) -> "Flow":
        """Nothing of it is known of another ledger: what the first one confirmed says nothing of it."""
        return replace(self, theirs=None, logs=tuple(replace(log, receipted=0) for log in self.logs))

    def to_part(self) -> "Flow":
        """A person wants a further epoch: whoever gives that order has looked at it, and it neither stands still nor waits any longer."""
        return replace(self, ordered=True, halted="", forks=0, opened=0, ready_at=0.0)

    def is_far(self, theirs: TheirStream) -> bool:
        """Whether the gateway's newest epoch lies so far ahead that its word alone is not believed."""
        return theirs.epoch >= self.logs[-1].origin.epoch + EPOCHS_AHEAD_MAX

    def next_epoch(self, theirs: TheirStream, opened: Origin | None) -> int | None:
        """The number of the epoch that follows ours and theirs; None where theirs is far ahead and not `opened`, which one of our keys has signed."""
        newest, ours = max(theirs.epoch, self.logs[-1].origin.epoch), self.logs[-1].origin
        is_true = not self.is_far(theirs) or opened == Origin(ours.node, ours.stream, theirs.epoch, theirs.tag)
        return newest + 1 if is_true and newest < EPOCH_OPENED_MAX else None

    def may_part(self, code: str) -> bool:
        """Whether a further epoch may be opened for this reason: a person's order always, else so many in a row."""
        return code == "NOD-36" or self.opened < (FORKS_MAX if code == "SYN-33" else OPENED_MAX)

    def halved(self) -> "Flow | None":
        """With half as many records to a batch; of a single one only its header; None where that was refused as well."""
        if self.records_max > 1:
            most = min(self.records_max, max(1, self.size - (self.theirs or 0)))
            return replace(self, records_max=max(1, most // 2))
        return None if self.bare else replace(self, bare=True)

    def carried_on(self, logs: tuple[OwnLog, ...]) -> "Flow":
        """A further epoch was opened: these are all logs now."""
        return replace(self, logs=logs, ordered=False, opened=self.opened + 1)

    @property
    def origin(self) -> Origin:
        """The log that is being sent."""
        return self.logs[self.at].origin

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.origin.stream

    @property
    def size(self) -> int:
        """Its size."""
        return self.logs[self.at].size

    @property
    def receipted(self) -> int:
        """The newest receipt's size of it that we hold."""
        return self.logs[self.at].receipted

    @property
    def end(self) -> int:
        """Where the stream's run of rows ends."""
        return self.logs[-1].start + self.logs[-1].size

    @property
    def is_carried_on(self) -> bool:
        """Whether nothing of this log is left that a later epoch does not carry."""
        return self.size == 0 and self.at < len(self.logs) - 1

    @property
    def is_sent(self) -> bool:
        """Whether the gateway holds all of this log, and we have its word where it can give one."""
        return (
            self.theirs is not None
            and self.theirs >= self.size
            and (self.receipted >= self.size or self.theirs > self.size)
        )

    @property
    def waits(self) -> bool:
        """Whether there is something to call for: records to send, a receipt that was lost on the way, a question, a statement."""
        if self.halted or self.opening:
            return False
        if self.question is not None or self.posting:
            return True
        return self.theirs is not None and (self.theirs < self.size or self.receipted < self.theirs <= self.size)

    @property
    def due_at(self) -> float:
        """When it may call: so soon after a call that brought all there was, a few records wait for others to go with them."""
        theirs = self.theirs or 0
        few = self.goal <= theirs < self.size < theirs + min(self.records_max, RECORDS_WORTH)
        return max(self.ready_at, self.next_at) if few and not self.posting and self.question is None else self.ready_at

    @property
    def lacks_common(self) -> bool:
        """Whether the answer to its statement, with the receipt of what is common, may have been lost, and nothing else would bring one.

        Asked once a session: a gateway of before such receipts gives none. Of rows that it holds in a log that we have forgotten none can come.
        """
        log, older = self.logs[self.at], self.logs[: self.at]
        is_idle = not self.halted and self.search is None and self.theirs == log.size == 0
        if not is_idle or not log.opening or log.outdated:
            return False
        try:
            common = read_opening(log.opening).common
        except BadOpening:  # a damaged row: the gateway refused it, and said so
            return False
        return any(o.origin == common.origin and o.receipted < common.size for o in older)

    def with_receipt(self, at: int, size: int) -> "Flow":
        """The stream with a receipt of so much of the log at `at`; never of less than before."""
        log = replace(self.logs[at], receipted=max(size, self.logs[at].receipted))
        return replace(self, logs=(*self.logs[:at], log, *self.logs[at + 1 :]))

    def confirmed(self, said: Checkpoint, root_at: Callable[[Origin, int], bytes]) -> "Flow":
        """The stream with this receipt of one of its logs; itself where that is no news. Raises SyncError where we hold something else."""
        at = next((n for n, log in enumerate(self.logs) if log.origin == said.origin), None)
        common = read_opening(self.logs[self.at].opening).common
        if (said.origin, said.size, said.root) != (common.origin, common.size, common.root):
            raise SyncError("a receipt of something else than what the statement calls common")
        if at is None or said.size > self.logs[at].size or said.root != root_at(said.origin, said.size):
            raise SyncError("a receipt of what is not here")
        return self if said.size <= self.logs[at].receipted else self.with_receipt(at, said.size)

    def call(self) -> Call:
        """The next call. Where only a receipt is missing, the last record is sent again: the same range gives the same receipt."""
        if self.question is not None:
            return AskRoot(self.stream, self.question)
        if self.posting:
            return PostEpoch(self.origin, self.logs[self.at].opening)
        if self.theirs is not None and self.theirs < self.size:
            # not beyond its end: there lie the records of the next epoch, or some that came since, of which no receipt would be taken
            return Put(
                self.origin, self.theirs, min(self.records_max, self.size - self.theirs), self.octets_max, self.bare
            )
        return Put(self.origin, self.size - 1, 1, self.octets_max, self.bare)


def patient(flows: Iterable[Flow], now: float) -> dict[str, float]:
    """The streams that called just now, and when few records of theirs have waited long enough: nobody need hear of each before."""
    return {flow.stream: flow.next_at for flow in flows if flow.next_at > now}
