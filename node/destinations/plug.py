"""What a kind of destination is to the thread that drives it: one message in, one outcome out. One file, one kind."""

from enum import Enum
from typing import Literal, NamedTuple, Protocol

from hl7.convert.result import Origin

ER7 = "application/hl7-v2+er7"
FHIR_JSON = "application/fhir+json"

Numbered = Literal["new", "own", "other"]
"""Whom a sequence number may have been sent with: nobody, this very message, or another one that was then passed over."""


class Outgoing(NamedTuple):
    """One message on its way: where it stands, and its bytes as they came. `is_last` of those in its record that are for this destination.

    `number`: where the peer counts, and `numbered` says whose it may be. `feed`, `origin`: where the record comes from. `unconverted`: why it is not
    in the form that the destination takes. `is_replay`: later records of its stream may have been taken before it.
    """

    node: str
    stream: str
    place: int
    part: int
    epoch: int
    seq: int
    content_type: str
    message_type: str
    control_id: str
    body: bytes
    method: str = ""
    path: str = ""
    conditions: str = ""
    is_last: bool = True
    number: int = 0
    numbered: Numbered = "new"
    feed: str = ""
    origin: Origin | None = None
    unconverted: str = ""
    is_replay: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        """What a resend has in common with the first sending, and with nothing else."""
        return self.stream, self.place, self.part


class End(Enum):
    """How a delivery ended."""

    TAKEN = "taken"  # the destination has it
    REFUSED = "refused"  # it will never take these bytes: they are parked
    LATER = "later"  # it does not take this one now: the same again after a pause; other streams go on
    BROKEN = "broken"  # it takes nothing now: all streams wait
    SPENT = "spent"  # the number was another message's: the next number, the same message
    FREE = "free"  # the number was nobody's after all: it is this message's


class Outcome(NamedTuple):
    """The end of one delivery, its code of the catalogue, a status or error code for a person, and how long the peer wants us to wait.

    `used`: the sequence number was taken with it, be it refused.
    """

    end: End
    code: str = ""
    detail: str = ""
    wait_s: float = 0.0
    used: bool = False


TAKEN = Outcome(End.TAKEN)


class Sink(Protocol):
    """One destination's own protocol. One thread only."""

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Hand over one message and wait for what becomes of it. Never raises for anything that the peer does."""

    def rest(self) -> None:
        """Nothing is to be sent for a while."""

    def close(self) -> None:
        """Let go of whatever is open."""
