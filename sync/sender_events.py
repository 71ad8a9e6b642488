"""What the sender is told (events), what it has its driver do (effects), and where it stands meanwhile."""

from dataclasses import dataclass
from enum import Enum

from sync.agreement import Question, Told
from sync.keys import Verifier
from sync.names import Origin
from sync.session import SessionAnswer, TheirStream


class Phase(Enum):
    """Where the conversation stands."""

    CLOSED = "closed"
    ASKING = "asking"
    OPEN = "open"
    FENCED = "fenced"


# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnLog:
    """One of our logs: its size, and the newest receipt's size that we hold. `start`: where it lies in the stream's run of rows; `opening`: its
    statement, empty for a stream's first; `outdated`: that does not bear the key which signs the stream now.
    """

    origin: Origin
    size: int
    receipted: int = 0
    start: int = 0
    opening: bytes = b""
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The process is up; these are its logs, those of a stream oldest first. Their receipts are of `ledger`."""

    logs: tuple[OwnLog, ...]
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class Grew:
    """A stream's newest log now has this size, durably."""

    origin: Origin
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
class PartSent:
    """Not the whole call, but a part of its body went ahead: others have their turn before the next."""

    stream: str


@dataclass(frozen=True, slots=True)
class RootTold:
    """The answer to AskRoot."""

    stream: str
    told: Told


@dataclass(frozen=True, slots=True)
class EpochOpened:
    """A further epoch is durable; these are all logs of the stream, oldest first."""

    stream: str
    logs: tuple[OwnLog, ...]


@dataclass(frozen=True, slots=True)
class EpochTaken:
    """200 to an opening statement: where that log ends at the gateway, and the receipt of what is common, not yet verified (empty: none was given)."""

    stream: str
    theirs: TheirStream
    note: bytes = b""


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


@dataclass(frozen=True, slots=True)
class PartOrdered:
    """A person orders a further epoch of a stream."""

    stream: str


Event = (
    Started
    | Grew
    | PartOrdered
    | SessionOpened
    | Receipted
    | PartSent
    | RootTold
    | EpochOpened
    | EpochTaken
    | Refused
    | PathFailed
    | Tick
    | Retry
)


# -- effects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskSession:
    """POST /v1/session."""


@dataclass(frozen=True, slots=True)
class Put:
    """PUT the records from `first` on: at most so many, at most so many body bytes (but one record always).

    `bare`: without the body; `plain`: without a dictionary. `context`: at most so many bytes of records from `since` on may be its context.
    """

    origin: Origin
    first: int
    records_max: int
    octets_max: int
    bare: bool = False
    plain: bool = False
    context: int = 0
    since: int = 0


@dataclass(frozen=True, slots=True)
class AskRoot:
    """GET the root of the gateway's log of this epoch at this size."""

    stream: str
    question: Question


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """Open, durably, a further epoch of which the first records are those from row `place` of the stream's run on; `theirs`: the gateway's newest log.

    `own`: up to which row both hold the same in a log that both know.
    """

    stream: str
    epoch: int
    place: int
    theirs: TheirStream
    own: int


@dataclass(frozen=True, slots=True)
class PostEpoch:
    """POST the statement that opened this log."""

    origin: Origin
    opening: bytes


@dataclass(frozen=True, slots=True)
class KeepReceipt:
    """Store a verified receipt."""

    origin: Origin
    size: int
    note: bytes
    at: int


@dataclass(frozen=True, slots=True)
class KeepFence:
    """Store the fence of this start. `held`: the centre holds this node's records back."""

    fence: str
    ledger: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must know, under its catalogue code; `stream` may be empty."""

    code: str
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this many seconds passed, or an event."""

    seconds: float


Effect = AskSession | Put | AskRoot | OpenEpoch | PostEpoch | KeepReceipt | KeepFence | Alarm | Wait
Call = Put | AskRoot | PostEpoch
