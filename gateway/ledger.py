"""The ledger's contract: what the front end asks of the durable store, and what it is answered after the commit, never before."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from gateway.ledger_keys import Brought
from sync.agreement import Told
from sync.batch import Batch
from sync.held import HeldLog
from sync.names import Origin
from sync.receiver import Receipt, Refuse, Taken
from sync.session import SessionRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCall:
    """A start that asks to be admitted. `log_certificate` is DER and already checked; `connected_at` monotonic seconds.

    `earlier`: certificates of the log keys before, of those the good ones.
    """

    node: str
    request: SessionRequest
    log_certificate: bytes
    connected_at: float
    earlier: tuple[Brought, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutCall:
    """A decoded batch for a log; `stream`, `epoch` and `first` are the address it was sent to.

    `log_certificate` (DER, already checked), with those of the keys before, stands for session and fence where the batch was carried by
    hand. `vouched`: certificates (DER) that change records of this batch bring, of those the good ones.
    """

    node: str
    stream: str
    epoch: int
    first: int
    fence: str
    batch: Batch
    log_certificate: bytes = b""
    earlier: tuple[Brought, ...] = ()
    vouched: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochCall:
    """A statement that a stream goes on under a further epoch. `log_certificate`, `earlier`: as of a PutCall; `revoked`: serials of the validity list."""

    node: str
    stream: str
    fence: str
    statement: bytes
    log_certificate: bytes = b""
    earlier: tuple[Brought, ...] = ()
    revoked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RootCall:
    """A question: which root has the node's log of this epoch at this size?"""

    node: str
    stream: str
    epoch: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCall:
    """A person releases what is held of a node. `statement` is verified already; `operator` is who signed it, and `logs` what they had seen."""

    node: str
    operator: str
    statement: bytes
    logs: tuple[Origin, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    """This start is admitted: its fence, whether its records are held, and the node's logs as they are in the ledger."""

    fence: str
    held: bool
    logs: tuple[HeldLog, ...]


class Ledger(Protocol):
    """A durable store of records, checkpoints and receipts. An answer in a Future is true on stable storage.

    Both calls raise Busy at once where too many wait. A Future may raise Busy, GatewayFull, SwapLost (nothing was stored), or anything
    else for a fault of ours (nothing was stored either). Where the outcome of a commit is unknown, no Future is ever answered.
    """

    @property
    def id(self) -> str:
        """Which ledger this is: random, made once."""

    @property
    def waiting(self) -> int:
        """How many calls wait for the writer."""

    def session(self, call: SessionCall) -> Future[SessionOpened | Refuse]:
        """Judge and admit a start. Some milliseconds of work are done before this returns."""

    def put(self, call: PutCall) -> Future[Receipt | Refuse]:
        """Judge and append a batch."""

    def epoch(self, call: EpochCall) -> Future[Taken | Refuse]:
        """Judge an opening statement and make its log."""

    def root(self, call: RootCall) -> Future[Told]:
        """Tell a root."""

    def release(self, call: ReleaseCall) -> Future[int | Refuse]:
        """Release what is held of a node; how many records."""
