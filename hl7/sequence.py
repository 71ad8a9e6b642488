"""The sequence number protocol of HL7 v2 (2.9, section 2.9.1): MSH-13 and MSA-4, both roles, as two machines of values.

It serves one stream of messages between two applications: a number from 1 on, one more with each message. 0 starts the link, -1
synchronises it anew; both may be an MSH alone and are no messages. The standard defines no wrap.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from hl7.errors import Hl7Error, SequenceGap, SequenceRepeated

NUMBER_MAX: Final = 10**15 - 1  # NM holds 16 characters; at 1,000 messages a second it lasts 30,000 years
START, RESYNCHRONISE = 0, -1

_NUMBER: Final = re.compile(rb"\s*([+-]?\d{1,15})(?:\.0*)?\s*")  # NM, HL7 2.A.47: a sign and a point may stand there
_STATE: Final = re.compile(rb"(\d{1,15}) ([0-9a-f]{64}) (taken|refused)")


def number_of(field: bytes) -> int | None:
    """Read MSH-13; None where it holds no number of this protocol."""
    match = _NUMBER.fullmatch(field)
    number = int(match[1]) if match else -2
    return number if number >= RESYNCHRONISE else None


class Last(NamedTuple):
    """The last number that is safely stored, the SHA-256 of its message, and whether the message was refused by a rule."""

    number: int
    sha256: bytes
    is_refused: bool

    def encode(self) -> bytes:
        """Write it, as it is stored beside the record."""
        return b"%d %b %b" % (self.number, self.sha256.hex().encode(), b"refused" if self.is_refused else b"taken")

    @classmethod
    def read(cls, stored: bytes) -> "Last | None":
        """Read what `encode` wrote; None where it is nothing of the kind, which is as if nothing had come."""
        match = _STATE.fullmatch(stored)
        return cls(int(match[1]), bytes.fromhex(match[2].decode()), match[3] == b"refused") if match else None


class Deed(Enum):
    """What the receiver does with a message."""

    ANSWER = "answer"  # nothing is stored: a start, or a repeat
    FORGET = "forget"  # the number is forgotten, durably, before the reply
    STORE = "store"  # the record and the number, in one transaction, before the reply
    REFUSE = "refuse"  # stored as refused; the number stays as it was


class Step(NamedTuple):
    """The deed, MSA-4 of its reply, the error of a refusal, and the state that comes with STORE. `is_repeat`: its record is there."""

    deed: Deed
    expected: int
    error: type[Hl7Error] | None = None
    last: Last | None = None
    is_repeat: bool = False


def receive(last: Last | None, number: int, sha256: bytes, *, is_refused: bool) -> Step:
    """Judge a number against what is stored. `is_refused`: a rule of the feed refuses the message, which must not freeze the link."""
    if number == RESYNCHRONISE:
        return Step(Deed.FORGET, RESYNCHRONISE)
    if number == START:
        return Step(Deed.ANSWER, RESYNCHRONISE if last is None else last.number + 1)
    if last is None or number == last.number + 1:
        return Step(Deed.STORE, number, None, Last(number, sha256, is_refused))
    if number > last.number:
        return Step(Deed.REFUSE, last.number + 1, SequenceGap)
    if number == last.number and sha256 == last.sha256:
        if last.is_refused and not is_refused:  # the rules changed, and the sender tries again
            return Step(Deed.STORE, number, None, Last(number, sha256, is_refused=False))
        return Step(Deed.ANSWER, number + 1, is_repeat=True)
    return Step(Deed.REFUSE, last.number + 1, SequenceRepeated)


def not_stored(last: Last | None) -> int:
    """MSA-4 where there was no room: a number below the one sent, so that the sender asks with 0 and sends it again."""
    return last.number if last else START


class Mood(Enum):
    """The state of a sender's link."""

    STARTING = "starting"  # 0 was sent
    WAITING = "waiting"  # a number was sent
    RESYNCHRONISING = "resynchronising"  # -1 was sent
    FROZEN = "frozen"  # a person must look: the two sides do not agree on what was taken


class Link(NamedTuple):
    """A sender's side: its mood, the oldest number that is not known to be stored there, and whether 0 was asked for it already."""

    mood: Mood
    oldest: int
    has_asked: bool = False


class Move(NamedTuple):
    """What a sender does next: the link's new state, and how many of its oldest messages are stored over there."""

    link: Link
    stored: int = 0


def start(oldest: int) -> Link:
    """Begin, or begin again after a lost connection: 0 is sent, and the answer says where to go on."""
    return Link(Mood.STARTING, oldest)


def hear(link: Link, expected: int | None, queued: int, *, is_positive: bool = True) -> Move:
    """Take the MSA-4 of a reply (None: it has none), and whether its MSA-1 is positive. `queued`: how many messages wait, from `link.oldest` on.

    WAITING means: send `link.oldest`. A link that is FROZEN stays so until `start` or a resynchronisation that a person asks for.
    """
    if link.mood is Mood.STARTING and expected is not None:
        return _started(link, expected, queued)
    if link.mood is Mood.WAITING and expected is not None:
        return _answered(link, expected, is_positive=is_positive)
    if link.mood is Mood.RESYNCHRONISING and expected == RESYNCHRONISE:
        return Move(Link(Mood.WAITING, link.oldest))
    return Move(link._replace(mood=Mood.FROZEN))


def _started(link: Link, expected: int, queued: int) -> Move:
    if expected == RESYNCHRONISE:  # they have no number: they take ours
        return Move(Link(Mood.WAITING, link.oldest, link.has_asked))
    held = expected - link.oldest  # messages of the queue that they have already; the queue's end is the next number
    if 0 <= held <= queued:
        return Move(Link(Mood.WAITING, expected, link.has_asked and held == 0), held)
    return Move(link._replace(mood=Mood.FROZEN))


def _answered(link: Link, expected: int, *, is_positive: bool) -> Move:
    if expected == link.oldest or (expected == link.oldest + 1 and is_positive):
        return Move(Link(Mood.WAITING, link.oldest + 1), 1)  # taken; or it had been taken, and the reply was lost
    # a refusal that is not of the number (no room) may be met again and again; a good reply that is behind ours may be met once
    if START <= expected < link.oldest and not (is_positive and link.has_asked):
        return Move(Link(Mood.STARTING, link.oldest, has_asked=True))
    return Move(link._replace(mood=Mood.FROZEN))
