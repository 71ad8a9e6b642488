"""The one doorway: a clinical message and its verdict become a draft, and the draft a record. All feeds enter here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import structlog

from node.alarms import Alarms
from node.clock import Clock
from node.errors import FeedPaused, QueueFull
from node.writer import Outcome, Writer
from sync.errors import NoRoom
from sync.header import (
    CONDITIONS,
    CONTROL_ID,
    COUNT,
    FRAME_BYTES,
    FRAME_SHA256,
    METHOD,
    PATH,
    PEER,
    REFUSAL,
    SIGNATURES,
    common_start,
    encode_particulars,
)
from sync.outbox import Stored
from sync.outbox_arrivals import repeat_key
from sync.record import Draft, Kind, Verdict

REFUSALS_TYPE = "application/vnd.wasl.refusals"
HOUR_S = 3600.0
# as numbers: looking a member up costs more than all that is done with it
ACCEPTED, REJECTED = int(Verdict.ACCEPTED), int(Verdict.REJECTED)
CONTROL_ID_CHARACTERS_MAX = 512  # HL7 2.9 allows 199; what is longer stands whole in the body

log = structlog.get_logger()


class Counted(NamedTuple):
    """A refusal beyond the feed's quota: not recorded by itself, but counted in the next summary record."""


Answer = Callable[[Outcome | QueueFull | Counted], None]


@dataclass(slots=True)
class FeedCounts:
    """One feed's story since the start, for page and metrics. Written by the event loop alone."""

    accepted: int = 0
    warned: int = 0
    rejected: int = 0
    refused: int = 0
    repeated: int = 0
    octets: int = 0
    last_seen_us: int = 0
    last_error: tuple[str, int] | None = None


@dataclass(slots=True)
class Door:
    """One feed's way in: what all its drafts share, its counts, and its quota of recorded refusals."""

    feed: str
    stream: str
    rejected_per_hour_max: int
    message: bytes
    test: bytes
    incomplete: bytes
    summary: bytes
    counts: FeedCounts = field(default_factory=FeedCounts)
    hour_began: float = float("-inf")
    rejected_this_hour: int = 0
    uncounted: int = 0
    facility: str = ""
    can_wait: bool = False  # it is closed while the disk fills
    others: dict[tuple[Kind, str], bytes] = field(default_factory=dict)

    def common(self, kind: Kind, content_type: str) -> bytes:
        """The header's beginning for another content type than the feed's own; there are a few."""
        key = kind, content_type
        if key not in self.others:
            self.others[key] = common_start(
                kind=kind, facility=self.facility, feed=self.feed, content_type=content_type
            )
        return self.others[key]


def make_door(
    *, facility: str, feed: str, stream: str, content_type: str, rejected_per_hour_max: int, can_wait: bool = False
) -> Door:  # fmt: skip
    """A feed's doorway."""

    def common(kind: Kind, content: str) -> bytes:
        return common_start(kind=kind, facility=facility, feed=feed, content_type=content)

    return Door(
        feed=feed, stream=stream, rejected_per_hour_max=rejected_per_hour_max, message=common(Kind.MESSAGE, content_type),
        test=common(Kind.TEST, content_type), incomplete=common(Kind.INCOMPLETE, content_type), summary=common(Kind.MESSAGE, REFUSALS_TYPE),
        facility=facility, can_wait=can_wait,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a message was not taken as good: catalogue code, where in the message, whether it is only a warning."""

    code: str
    location: str = ""


class Request(NamedTuple):
    """How a message came over HTTP: what its bytes do not say. `path` is below the feed's address, with its parameters."""

    method: str
    path: str
    conditions: str


class Intake:
    """Turns messages into drafts and hands them to the writer. Used from the event loop only.

    `is_filling`: whether feeds that can wait have to.
    """

    def __init__(
        self, *, clock: Clock, writer: Writer, alarms: Alarms, is_filling: Callable[[], bool] = lambda: False
    ) -> None:  # fmt: skip
        self._clock = clock
        self._writer = writer
        self._alarms = alarms
        self._is_filling = is_filling

    def store(
        self, door: Door, *, body: bytes, message_type: str, control_id: str, peer: str, verdict: int, refusal: Refusal | None, answer: Answer,
        fact: tuple[str, bytes] | None = None, stream: str = "", is_test: bool = False, source: Sequence[tuple[int, object]] = (),
    ) -> None:  # fmt: skip
        """Take a complete message. `answer` is called once, after it is durable (or with why it is not). `fact`: see Draft.

        `stream`: where it goes, if not to the feed's main stream. `is_test`: no record of a patient may be made of it.
        `source`: further particulars, whose numbers are above all of ours.
        """
        if verdict == REJECTED and not self._may_record(door):
            answer(Counted())
            return
        if len(control_id) > CONTROL_ID_CHARACTERS_MAX:
            control_id = control_id[:CONTROL_ID_CHARACTERS_MAX]
        if refusal is None:
            particulars = encode_particulars(((CONTROL_ID, control_id), (PEER, peer), *source))
        else:
            reason = (refusal.code, refusal.location)
            particulars = encode_particulars(((CONTROL_ID, control_id), (PEER, peer), (REFUSAL, reason), *source))
        key = repeat_key(door.feed, control_id)
        common = door.test if is_test else door.message
        self._submit(door, common, message_type, verdict, particulars, body, key, answer, fact, stream)

    def store_typed(
        self, door: Door, *, common: bytes, body: bytes, message_type: str, control_id: str, peer: str, verdict: int, refusal: Refusal | None,
        answer: Answer, request: Request | None = None, signatures: Sequence[tuple[str, str, str]] = (), stream: str = "",
        source: Sequence[tuple[int, object]] = (), fact: tuple[str, bytes] | None = None, repeats: bool = True,
    ) -> None:  # fmt: skip
        """Take a complete message of another content type than the feed's own. `signatures`: kind, place, and what was found before the commit.

        `source`: further particulars by their number, such as a topic or a file name. `fact`: see Draft.
        `repeats`: the same control id and bytes are the same message; not so where the feed itself knows its repeats.
        """
        if verdict == REJECTED and not self._may_record(door):
            answer(Counted())
            return
        control_id = control_id[:CONTROL_ID_CHARACTERS_MAX]
        pairs: list[tuple[int, object]] = [(CONTROL_ID, control_id), (PEER, peer)]
        if request is not None:
            pairs += [(METHOD, request.method), (PATH, request.path)]
            if request.conditions:
                pairs.append((CONDITIONS, request.conditions))
        pairs += source
        if refusal is not None:
            pairs.append((REFUSAL, (refusal.code, refusal.location)))
        if signatures:
            pairs.append((SIGNATURES, tuple(signatures)))
        if source:
            pairs.sort(key=itemgetter(0))  # ascending keys, as deterministic CBOR wants them
        key = repeat_key(door.feed, control_id) if repeats else b""
        self._submit(door, common, message_type, verdict, encode_particulars(pairs), body, key, answer, fact, stream)

    def store_broken(
        self, door: Door, *, head: bytes, length: int, sha256: bytes, control_id: str, peer: str, code: str, answer: Answer,
        source: Sequence[tuple[int, object]] = (),
    ) -> None:  # fmt: skip
        """Record a frame that is not complete: its first bytes, whole length and hash. Counts against the quota of refusals."""
        if not self._may_record(door):
            answer(Counted())
            return
        pairs: list[tuple[int, object]] = [
            (CONTROL_ID, control_id[:CONTROL_ID_CHARACTERS_MAX]), (PEER, peer), (REFUSAL, (code, "")), (FRAME_BYTES, length), (FRAME_SHA256, sha256), *source
        ]  # fmt: skip
        particulars = encode_particulars(sorted(pairs, key=itemgetter(0)))
        self._submit(door, door.incomplete, "", Verdict.REJECTED, particulars, head, b"", answer)

    def store_gap(
        self, door: Door, *, body: bytes, content_type: str, code: str, peer: str, answer: Answer, fact: tuple[str, bytes] | None = None
    ) -> None:  # fmt: skip
        """Record a time in which the source gave nothing; `code`: why. It is no sign of life. `fact`: see Draft."""
        seen_us = door.counts.last_seen_us
        particulars = encode_particulars([(PEER, peer), (REFUSAL, (code, ""))])
        common = door.common(Kind.GAP, content_type)
        self._submit(door, common, "", Verdict.ACCEPTED_WITH_WARNING, particulars, body, b"", answer, fact)
        door.counts.last_seen_us = seen_us

    def summarise(self, door: Door) -> None:
        """Record how many refusals went uncounted since the last summary; called once a minute, so a crash loses a minute of counts."""
        self._begin_hour(door)
        if not door.uncounted:
            return
        count, door.uncounted = door.uncounted, 0
        particulars = encode_particulars([(REFUSAL, ("NOD-11", "")), (COUNT, count)])

        def answer(outcome: Outcome | QueueFull | Counted) -> None:
            if not isinstance(outcome, Stored):
                door.uncounted += count

        self._submit(door, door.summary, "", Verdict.REJECTED, particulars, b"", b"", answer)

    def _submit(
        self, door: Door, common: bytes, message_type: str, verdict: int, particulars: bytes, body: bytes, key: bytes, answer: Answer,
        fact: tuple[str, bytes] | None = None, stream: str = "",
    ) -> None:  # fmt: skip
        now_us, trust, counts = self._clock.now_us(), self._clock.trust(), door.counts
        draft = Draft(
            stream or door.stream, common, message_type, now_us, trust.state, trust.error_us, verdict, particulars, body, key, None, fact,
            door.stream if stream else "",
        )  # fmt: skip

        def done(outcome: Outcome | QueueFull) -> None:
            if isinstance(outcome, Stored) and not outcome.repeated:
                counts.octets += len(body)
                if verdict == ACCEPTED:
                    counts.accepted += 1
                elif verdict == REJECTED:
                    counts.rejected += 1
                else:
                    counts.warned += 1
            else:
                self._note(door, outcome, now_us)
            answer(outcome)

        if door.can_wait and self._is_filling():
            counts.last_seen_us = now_us
            done(FeedPaused("the disk is filling"))
        elif self._writer.submit(draft, done):
            counts.last_seen_us = now_us
        else:
            done(QueueFull("queue full"))

    def _note(self, door: Door, outcome: Outcome | QueueFull, now_us: int) -> None:
        """Count what did not become a new record: a repeat, or a message whose source was told to keep it."""
        if isinstance(outcome, Stored):
            door.counts.repeated += 1
            return
        door.counts.refused += 1
        door.counts.last_error = (outcome.code, now_us)
        if isinstance(outcome, NoRoom) and not isinstance(outcome, FeedPaused):
            self._alarms.raised("NOD-10")

    def _begin_hour(self, door: Door) -> None:
        """Where a feed's hour is over: its quota is whole again, and nothing is only counted, whether more refusals come or not."""
        now = self._clock.monotonic()
        if now - door.hour_began >= HOUR_S:
            door.hour_began, door.rejected_this_hour = now, 0
            self._alarms.cleared("NOD-11", door.feed)

    def _may_record(self, door: Door) -> bool:
        """Whether one more refusal fits this feed's quota of the hour; beyond it refusals are only counted."""
        self._begin_hour(door)
        door.rejected_this_hour += 1
        if door.rejected_this_hour <= door.rejected_per_hour_max:
            return True
        door.uncounted += 1
        door.counts.rejected += 1
        door.counts.last_seen_us = self._clock.now_us()
        self._alarms.raised("NOD-11", door.feed)
        return False
