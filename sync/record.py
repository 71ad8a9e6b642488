"""The data types of this room: a draft before it has a position, a record after."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

HEADER_VERSION = 1
SALT_BYTES = 16  # docs/wire.md: enough that a guessed body cannot be confirmed from its commitment


class Kind(IntEnum):
    """What a record is (header key 2)."""

    MESSAGE = 0
    INCOMPLETE = 1
    GAP = 2
    TEST = 3
    CONTROL = 4

    @property
    def word(self) -> str:
        """The name the outside interface uses."""
        return self.name.lower()


class Verdict(IntEnum):
    """What the node said of a message (header key 10)."""

    ACCEPTED = 0
    ACCEPTED_WITH_WARNING = 1
    REJECTED = 2

    @property
    def word(self) -> str:
        """The name the outside interface uses."""
        return self.name.lower().replace("_", "-")


class BodyState(IntEnum):
    """How a record travels and lies in the ledger (docs/wire.md, batch)."""

    PRESENT = 0
    TRIMMED = 1
    ERASED = 2
    DAMAGED = 3
    LEAF_ONLY = 4

    @property
    def word(self) -> str:
        """The name the outside interface uses."""
        return self.name.lower().replace("_", "-")


class Draft(NamedTuple):
    """One accepted or refused message before it has a position. A NamedTuple: a frozen dataclass costs four times as much to make.

    `common` is the header's beginning, an encoded map of its pairs 1 to 5, shared by all drafts of a feed;
    `received_us` is UTC microseconds; `clock_state` and `clock_error_us` say how far to trust it; `particulars` is deterministic CBOR;
    `repeat_key` names what would make a second arrival the same message (empty: never a repeat). `fact`: a name and value that the
    outbox keeps in the same transaction, of a repeat too: where its source stands. `follows`: the main stream of its feed, where it
    goes to another; the outbox then writes into `after` where that stream ends.
    """

    stream: str
    common: bytes
    message_type: str
    received_us: int
    clock_state: int
    clock_error_us: int
    verdict: int
    particulars: bytes
    body: bytes
    repeat_key: bytes = b""
    after: tuple[str, int, int] | None = None
    fact: tuple[str, bytes] | None = None
    follows: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a log as it is stored, sent and shown: the header's exact bytes and what may be erased.

    `header` is empty only for LEAF_ONLY; `salt`, `particulars` and `body` are empty unless the state is PRESENT.
    """

    seq: int
    header: bytes
    leaf: bytes
    state: BodyState
    salt: bytes
    particulars: bytes
    body: bytes

    def without_body(self, state: BodyState) -> "Record":
        """The same record as it stands where its body, or for LEAF_ONLY its header too, is not there."""
        header = b"" if state is BodyState.LEAF_ONLY else self.header
        return replace(self, state=state, header=header, salt=b"", particulars=b"", body=b"")
