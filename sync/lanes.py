"""Turns on a thin link, pure: how much a lane may send at once, and who may begin. The driver says what began, what ended and when.

A call of `critical` begins at once, on its own connection. A call of another lane begins only while nothing critical waits, holds at most
one quantum, and follows another lane's call only when that one's bytes must be through and just its answer is awaited. So what a critical
record finds ahead of it is one quantum, two where the link became slower than it was measured. Of the other lanes the one that waits
longer is next, so they take turns, and a turn's size is by weight: neither starves.
"""

import math
from dataclasses import dataclass

CRITICAL, ROUTINE, BULK = "critical", "routine", "bulk"
# About a second of the link, what a critical record may find ahead of it: it is to be receipted within two. Less than this, and the
# turn of a call (heads, receipt, two commits: 0.15 s at 64 kbit/s) would leave more than a tenth of the link idle.
QUANTUM_S = 1.5
ENVELOPE_BYTES = 800  # heads, TLS and the receipt coming back: they take the link too, and are no payload
# Below, a fifth of the link would be envelope.
QUANTUM_WIRE_MIN = 4 * 1024
QUANTUM_WIRE_MAX = 512 * 1024  # a second of 4 Mbit/s: above, no lane delays another, and a part is held whole in memory
GOODPUT_START = 8 * 1024.0  # bytes/s, before anything is measured: the thinnest link with promised figures, 64 kbit/s
SAMPLE_BYTES_MIN = 2 * 1024  # a smaller call measures the way there and back, not the link's width
# Of so many of the last calls the fastest says how wide the link is. One in which TCP had to repeat a packet took longer than the link needs, and at 5 %
# loss that is every third call: their mean made the quantum of such a link a tenth too small. A link that became thinner is believed after so many calls.
SAMPLES = 3
FALL_MAX = 4.0  # what took so many times as long as the estimate says was held up by more than a repetition: the link became thinner
RISE_MAX = 2.0  # of one measurement: a single call that found an empty buffer is not believed entirely
# A call leaves at most so much faster than was measured. All at once it would overflow a small router's queue, the last packets would be
# missing, and they are those whose loss TCP learns of only by waiting: 1.8 s at 64 kbit/s. As much as one measurement may rise: a link that
# became wider is found out as fast as without.
PACE_GAIN = RISE_MAX
ANSWER_SHARE_MAX = 0.75  # of a call's time that may be put down to the round trip: the clock of a shaken link lies
WEIGHTS = {ROUTINE: 4, BULK: 1}  # of a call's size while both are at work: today's results against old images
# What the lighter lane may send while the other awaits its answer, in round trips: one for the answer, one more since a packet that was lost takes
# as long again. On a clean short line that is nothing, and the weights alone say. At 600 ms and 5 % loss two busy lanes had 0.83 to 0.86 of raw TCP
# with one, 0.86 to 0.88 with two
GAP_ROUND_TRIPS = 2.0
BUSY_WEIGHT_S = 30.0  # a call without an answer for so long is no longer counted on the link: its path hangs


@dataclass(frozen=True, slots=True)
class Call:
    """One call under way: its bytes on the wire, and since when, monotonic seconds."""

    octets: int
    began: float


class Goodput:
    """Bytes a second that the calls of all lanes together bring through."""

    __slots__ = ("_ended", "_last", "_measured", "_newest")

    def __init__(self) -> None:
        self._measured: float | None = None
        self._newest = 0.0
        self._last: list[float] = []  # what the last calls said by themselves
        self._ended: list[tuple[float, float, int]] = []  # (began, ended, octets) of the last calls, whichever lane's

    @property
    def octets_per_s(self) -> float:
        """The newest estimate."""
        return GOODPUT_START if self._measured is None else self._measured

    @property
    def octets_per_s_max(self) -> float:
        """The estimate, or what the last call alone says where that is more: the link may be that wide."""
        return max(self.octets_per_s, self._newest)

    @property
    def is_measured(self) -> bool:
        """Whether any call was long enough to tell."""
        return self._measured is not None

    def ended(self, call: Call, now: float, round_trip_s: float) -> None:
        """Take a call that was answered now; what other lanes brought through meanwhile is part of the link's width."""
        self._ended = [each for each in self._ended if each[1] > call.began]
        beside = sum(
            octets * (ended - max(began, call.began)) / (ended - began)
            for began, ended, octets in self._ended
            if ended > began
        )
        took = now - call.began
        self._ended.append((call.began, now, call.octets + ENVELOPE_BYTES))
        if call.octets < SAMPLE_BYTES_MIN or took <= 0:
            return
        sending = took - min(max(0.0, round_trip_s), took * ANSWER_SHARE_MAX)
        found = (call.octets + ENVELOPE_BYTES + beside) / sending
        known, self._newest = self.octets_per_s, found
        before = self._last[1 - SAMPLES :] if found * FALL_MAX > known else []
        self._last = [*before, min(found, known * RISE_MAX)]
        self._measured = (known + max(self._last)) / 2

    def failed(self) -> None:
        """A call was not answered. It was perhaps too much for its time limit, or for the time between two cuts: the next is half as large."""
        self._newest, self._last = 0.0, []
        if self._measured is not None:
            self._measured /= 2

    def forget(self) -> None:
        """Another path: nothing is known of it."""
        self._measured, self._newest, self._last, self._ended = None, 0.0, [], []


class Turns:
    """Who may begin a call on the one link that all lanes share."""

    def __init__(self) -> None:
        self.goodput = Goodput()
        self._round_trip_s = 0.0
        self._calls: dict[str, Call] = {}
        self._waiting: dict[str, float] = {}  # lane -> since when

    def quantum(self, lane: str) -> int:
        """Bytes on the wire that one call of this lane may hold."""
        share = 1.0
        if lane in WEIGHTS and any(self._is_at_work(each) for each in WEIGHTS if each != lane):
            # as much as fits while the other lane awaits its answer takes little from it, and less would leave the link idle
            gap = GAP_ROUND_TRIPS * self._round_trip_s / QUANTUM_S
            share = max(WEIGHTS[lane] / max(WEIGHTS.values()), min(1.0, gap))
        return int(min(QUANTUM_WIRE_MAX, max(QUANTUM_WIRE_MIN, self.goodput.octets_per_s * QUANTUM_S * share)))

    def pace(self, octets: int) -> float:
        """Bytes a second at which a call of so many may leave; infinite where holding it back gains nothing: a short one, a wide link."""
        rate = PACE_GAIN * self.goodput.octets_per_s_max
        if not self.goodput.is_measured or octets <= QUANTUM_WIRE_MIN or rate * QUANTUM_S >= QUANTUM_WIRE_MAX:
            return math.inf
        return max(rate, PACE_GAIN * QUANTUM_WIRE_MIN / QUANTUM_S)  # the smallest quantum still goes in its time

    def wants(self, lane: str, now: float) -> None:
        """This lane has something to send and could."""
        self._waiting.setdefault(lane, now)

    def rests(self, lane: str) -> None:
        """This lane has nothing to send, or cannot now."""
        self._waiting.pop(lane, None)

    def wait_s(self, lane: str, now: float) -> float:
        """0.0: this lane may begin. Else for how long it may not, as far as one can know; infinite: until a call ends or a lane rests."""
        if lane == CRITICAL:
            return 0.0
        if CRITICAL in self._waiting or CRITICAL in self._calls:
            return math.inf
        others = [each for each in WEIGHTS if each != lane]
        since = self._waiting.get(lane, now)
        if any(self._waiting.get(each, math.inf) < since for each in others):
            return math.inf
        return max((self._remaining_s(each, now) for each in others), default=0.0)

    def begin(self, lane: str, octets: int, now: float) -> None:
        """A call begins. RuntimeError where this lane has one already."""
        if lane in self._calls:
            raise RuntimeError(f"a second call of lane {lane}")
        self._calls[lane] = Call(octets, now)
        self._waiting.pop(lane, None)

    def end(self, lane: str, now: float, *, answered: bool, round_trip_s: float = 0.0) -> None:
        """The call of this lane ended."""
        call = self._calls.pop(lane)
        if answered:
            self._round_trip_s = round_trip_s
            self.goodput.ended(call, now, round_trip_s)
        else:
            self.goodput.failed()

    def _is_at_work(self, lane: str) -> bool:
        return lane in self._calls or lane in self._waiting

    def _remaining_s(self, lane: str, now: float) -> float:
        """How long this lane's call still needs the link, by what was measured."""
        call = self._calls.get(lane)
        if call is None or now - call.began >= BUSY_WEIGHT_S:
            return 0.0
        return max(0.0, call.began + call.octets / self.goodput.octets_per_s - now)
