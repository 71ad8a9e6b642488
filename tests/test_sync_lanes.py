"""Turns on a thin link, on virtual time: what a critical record waits for, and that nobody starves."""

import heapq
import math
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.lanes import (
    BULK,
    BUSY_WEIGHT_S,
    CRITICAL,
    ENVELOPE_BYTES,
    GOODPUT_START,
    PACE_GAIN,
    QUANTUM_S,
    QUANTUM_WIRE_MAX,
    QUANTUM_WIRE_MIN,
    ROUTINE,
    Turns,
)

THIN = 8_000.0  # bytes a second of 64 kbit/s


@dataclass
class Link:
    """One link with one queue, as a router without classes has it: bytes go in order, an answer comes a round trip after the last one."""

    rate: float
    round_trip: float
    free_at: float = 0.0

    def send(self, octets: int, now: float) -> tuple[float, float]:
        """When the last byte is through, and when its answer is here."""
        self.free_at = max(now, self.free_at) + (octets + ENVELOPE_BYTES) / self.rate
        return self.free_at, self.free_at + self.round_trip


@dataclass
class Run:
    """Lanes over one link for a while; `busy` always have more to send, critical records come at the times given."""

    link: Link
    busy: tuple[str, ...]
    arrivals: list[float]
    until: float
    turns: Turns = field(default_factory=Turns)
    waits: list[float] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, float] = field(default_factory=dict)
    largest: int = 0

    def go(self) -> "Run":
        events = [(at, 0, CRITICAL) for at in self.arrivals] + [(0.0, 1, lane) for lane in self.busy]
        heapq.heapify(events)
        began = dict.fromkeys(self.busy, 0.0)
        under_way: set[str] = set()
        waiting: list[float] = []
        now = 0.0
        while events and now < self.until:
            now, what, lane = heapq.heappop(events)
            if what == 2:
                self.turns.end(lane, now, answered=True, round_trip_s=self.link.round_trip)
                under_way.discard(lane)
                if lane == CRITICAL and not waiting:
                    self.turns.rests(CRITICAL)
            elif what == 0:
                waiting.append(now)
                self.turns.wants(CRITICAL, now)
            if waiting and CRITICAL not in under_way:
                self._critical(now, waiting, under_way, events)
            for each in self.busy:
                if each in under_way:
                    continue
                self.turns.wants(each, now)
            for each in self.busy:
                if each in under_way:
                    continue
                wait = self.turns.wait_s(each, now)
                if wait == 0.0:
                    octets = self.turns.quantum(each)
                    self.gaps[each] = max(self.gaps.get(each, 0.0), now - began[each])
                    began[each] = now
                    self._begin(each, octets, now, under_way, events)
                elif wait < math.inf:
                    heapq.heappush(events, (now + wait + 1e-6, 1, each))
        return self

    def _critical(self, now, waiting, under_way, events):
        octets = 1_200
        through = self._begin(CRITICAL, octets, now, under_way, events)
        self.waits += [through - (octets + ENVELOPE_BYTES) / self.link.rate - at for at in waiting]
        waiting.clear()

    def _begin(self, lane, octets, now, under_way, events):
        self.turns.begin(lane, octets, now)
        under_way.add(lane)
        self.sent[lane] = self.sent.get(lane, 0) + octets
        self.largest = max(self.largest, octets)
        through, answered = self.link.send(octets, now)
        heapq.heappush(events, (answered, 2, lane))
        return through


def arrivals(seed: int, until: float, each_s: float) -> list[float]:
    dice, at, found = Random(seed), 0.0, []
    while (at := at + each_s * (0.2 + dice.random() * 1.6)) < until:
        found.append(at)
    return found


links = st.tuples(st.sampled_from([4_000.0, THIN, 16_000.0, 64_000.0]), st.sampled_from([0.02, 0.1, 0.6]))


@settings(max_examples=60, deadline=None)
@given(links, st.integers(0, 2**32))
def test_a_critical_record_finds_at_most_two_quanta_ahead_and_its_own_lanes_call(found, seed):
    rate, round_trip = found
    run = Run(Link(rate, round_trip), (ROUTINE, BULK), arrivals(seed, 600, 9.0), 600).go()
    quantum_s = max(QUANTUM_S, QUANTUM_WIRE_MIN / rate)
    own = (
        round_trip + (1_200 + ENVELOPE_BYTES) / rate
    )  # one call of a stream is in flight at a time: the record before it is awaited
    settled = run.waits[len(run.waits) // 4 :]
    assert settled
    envelope = 2 * ENVELOPE_BYTES / rate
    assert max(settled) <= 2 * quantum_s + envelope + own


@settings(max_examples=60, deadline=None)
@given(links, st.integers(0, 2**32))
def test_behind_one_lane_a_critical_record_waits_one_quantum_at_most(found, seed):
    rate, round_trip = found
    run = Run(Link(rate, round_trip), (BULK,), arrivals(seed, 600, 9.0), 600).go()
    settled = run.waits[len(run.waits) // 4 :]
    assert max(settled) <= max(QUANTUM_S, QUANTUM_WIRE_MIN / rate) * 1.3 + round_trip + (1_200 + ENVELOPE_BYTES) / rate


@settings(max_examples=40, deadline=None)
@given(links, st.integers(0, 2**32))
def test_bulk_goes_on_beside_a_routine_lane_that_never_rests_and_gets_its_share(found, seed):
    rate, round_trip = found
    run = Run(Link(rate, round_trip), (ROUTINE, BULK), arrivals(seed, 900, 20.0), 900).go()
    # its own call and answer, the other lane's, and those of two critical records
    critical = 3 * ENVELOPE_BYTES / rate + 2 * ((1_200 + ENVELOPE_BYTES) / rate + round_trip)
    assert run.gaps[BULK] <= 3 * max(QUANTUM_S, QUANTUM_WIRE_MIN / rate) + 3 * round_trip + critical
    fair = max(0.25, min(1.0, QUANTUM_WIRE_MIN / (QUANTUM_S * rate)))  # of a routine call's size
    assert 0.8 * fair <= run.sent[BULK] / run.sent[ROUTINE] <= 1.2 * fair + round_trip


@pytest.mark.parametrize("round_trip", [0.02, 0.6])
def test_two_busy_lanes_leave_less_than_a_fifth_of_the_link_idle(round_trip):
    run = Run(Link(THIN, round_trip), (ROUTINE, BULK), [], 600).go()
    assert sum(run.sent.values()) >= 0.8 * THIN * 600  # the envelopes take their part


@pytest.mark.parametrize("rate", [4_000.0, THIN, 16_000.0, 64_000.0, 400_000.0])
@pytest.mark.parametrize("round_trip", [0.02, 0.6])
def test_the_quantum_comes_to_its_seconds_of_the_link(rate, round_trip):
    run = Run(Link(rate, round_trip), (BULK,), [], 60).go()
    assert 0.9 * rate <= run.turns.goodput.octets_per_s <= 1.1 * rate
    assert run.turns.quantum(BULK) == pytest.approx(
        min(QUANTUM_WIRE_MAX, max(QUANTUM_WIRE_MIN, QUANTUM_S * rate)), rel=0.1
    )


def test_the_quantum_has_a_floor_and_a_ceiling():
    assert Run(Link(100.0, 0.02), (BULK,), [], 2000).go().turns.quantum(BULK) == QUANTUM_WIRE_MIN
    assert Run(Link(1e9, 0.0001), (BULK,), [], 5).go().turns.quantum(BULK) == QUANTUM_WIRE_MAX


@pytest.mark.parametrize("held_up_s", [0.6, 1.2, 2.0])
def test_a_packet_that_was_repeated_in_every_third_call_makes_the_quantum_no_smaller(held_up_s):
    turns, link, now = Turns(), Link(THIN, 0.6), 0.0
    for n in range(60):
        octets = turns.quantum(BULK)
        turns.begin(BULK, octets, now)
        _, answered = link.send(octets, now)
        now = answered + held_up_s * (n % 3 == 0)
        turns.end(BULK, now, answered=True, round_trip_s=0.6)
        if n > 20:
            assert turns.quantum(BULK) >= 0.97 * QUANTUM_S * THIN


@pytest.mark.parametrize(("round_trip", "share"), [(0.02, 0.25), (0.3, 0.4), (0.6, 0.8), (2.0, 1.0)])
def test_bulk_beside_routine_may_fill_the_gap_that_a_call_leaves_or_has_its_weight(round_trip, share):
    turns, link, now = Turns(), Link(THIN, round_trip), 0.0
    for _ in range(30):
        turns.begin(ROUTINE, turns.quantum(ROUTINE), now)
        _, now = link.send(turns.quantum(ROUTINE), now)
        turns.end(ROUTINE, now, answered=True, round_trip_s=round_trip)
    alone = turns.quantum(BULK)
    turns.wants(ROUTINE, now)
    assert turns.quantum(BULK) == pytest.approx(max(QUANTUM_WIRE_MIN, alone * share), rel=0.01)


def test_after_a_change_to_a_link_a_hundred_times_thinner_a_few_calls_are_enough():
    turns, link = Turns(), Link(400_000.0, 0.05)
    now = 0.0
    for n in range(16):
        if n == 8:
            link.rate = 4_000.0
        turns.begin(BULK, turns.quantum(BULK), now)
        _, now = link.send(turns.quantum(BULK), now)
        turns.end(BULK, now, answered=True, round_trip_s=0.05)
    assert turns.quantum(BULK) <= 2 * QUANTUM_WIRE_MIN


# -- how fast a call leaves ---------------------------------------------------------------------------------------------
def paced_calls(turns: Turns, link: Link, calls: int) -> None:
    """One lane's calls, each leaving no faster than it may: the link has it when it has left, and when it is through."""
    now = 0.0
    for _ in range(calls):
        octets = turns.quantum(BULK)
        left = now + octets / turns.pace(octets)
        turns.begin(BULK, octets, now)
        through, _ = link.send(octets, now)
        now = max(left, through) + link.round_trip
        turns.end(BULK, now, answered=True, round_trip_s=link.round_trip)


@pytest.mark.parametrize("rate", [4_000.0, THIN, 16_000.0, 64_000.0])
@pytest.mark.parametrize("round_trip", [0.02, 0.6])
def test_on_a_thin_link_no_call_leaves_more_than_twice_as_fast_as_the_link_carries(rate, round_trip):
    turns = Turns()
    paced_calls(turns, Link(rate, round_trip), 30)
    assert rate < turns.pace(turns.quantum(BULK)) <= 1.2 * PACE_GAIN * rate
    # so that of a whole quantum no more than so much stands in the router's queue at once
    assert turns.quantum(BULK) * (1 - rate / turns.pace(turns.quantum(BULK))) <= 0.6 * QUANTUM_S * rate


@pytest.mark.parametrize("round_trip", [0.02, 0.6])
def test_a_link_that_became_a_hundred_times_wider_is_found_out_though_calls_are_held_back(round_trip):
    turns, link = Turns(), Link(4_000.0, round_trip)
    paced_calls(turns, link, 10)
    wider = Link(400_000.0, round_trip)
    paced_calls(turns, wider, 20)
    assert turns.quantum(BULK) == QUANTUM_WIRE_MAX
    assert turns.pace(QUANTUM_WIRE_MAX) == math.inf


def test_a_call_of_a_few_packets_is_not_held_back():
    turns = Turns()
    paced_calls(turns, Link(THIN, 0.02), 5)
    assert turns.pace(QUANTUM_WIRE_MIN) == math.inf
    assert turns.pace(QUANTUM_WIRE_MIN + 1) < math.inf


def test_before_anything_was_measured_no_call_is_held_back():
    assert Turns().pace(QUANTUM_WIRE_MAX) == math.inf


def test_a_single_fast_answer_lets_the_next_call_go_faster_though_the_estimate_does_not_believe_it():
    turns = Turns()
    paced_calls(turns, Link(THIN, 0.02), 10)
    turns.begin(BULK, 12_000, 100.0)
    turns.end(BULK, 100.001, answered=True)
    assert turns.goodput.octets_per_s < 2 * THIN
    assert turns.pace(12_000) == math.inf


def test_after_however_many_failures_the_smallest_quantum_still_leaves_in_the_time_of_a_turn():
    turns = Turns()
    paced_calls(turns, Link(64_000.0, 0.02), 5)
    for n in range(30):
        turns.begin(BULK, 1, 200.0 + n)
        turns.end(BULK, 201.0 + n, answered=False)
    assert QUANTUM_WIRE_MIN / turns.pace(QUANTUM_WIRE_MIN + 1) <= QUANTUM_S


def test_on_another_path_nothing_is_held_back_by_what_was_measured_before():
    turns = Turns()
    paced_calls(turns, Link(4_000.0, 0.02), 5)
    turns.goodput.forget()
    assert turns.pace(100_000) == math.inf


# -- turns ---------------------------------------------------------------------------------------------------------------
def test_nothing_lower_begins_while_a_critical_record_waits_or_is_on_the_way():
    turns = Turns()
    turns.wants(CRITICAL, 0.0)
    turns.wants(BULK, 0.0)
    assert turns.wait_s(BULK, 0.0) == math.inf
    assert turns.wait_s(CRITICAL, 0.0) == 0.0
    turns.begin(CRITICAL, 900, 0.0)
    assert turns.wait_s(BULK, 0.1) == math.inf
    turns.end(CRITICAL, 0.2, answered=True)
    assert turns.wait_s(BULK, 0.2) == 0.0


def test_a_critical_lane_that_cannot_send_holds_up_nobody():
    turns = Turns()
    turns.wants(CRITICAL, 0.0)
    turns.rests(CRITICAL)
    assert turns.wait_s(BULK, 0.0) == 0.0


def test_another_lane_begins_when_the_bytes_before_it_must_be_through_not_only_at_their_answer():
    turns = Turns()
    turns.begin(ROUTINE, 4096, 0.0)
    turns.wants(BULK, 0.0)
    through = 4096 / GOODPUT_START
    assert turns.wait_s(BULK, 0.1) == pytest.approx(through - 0.1)
    assert turns.wait_s(BULK, through) == 0.0


def test_a_call_that_hangs_keeps_the_other_lane_waiting_for_a_bounded_time_only():
    turns = Turns()
    turns.begin(ROUTINE, QUANTUM_WIRE_MAX, 0.0)
    assert turns.wait_s(BULK, BUSY_WEIGHT_S - 1) > 0
    assert turns.wait_s(BULK, BUSY_WEIGHT_S) == 0.0


def test_calls_that_fail_shrink_the_quantum_so_that_no_link_is_too_thin_for_it():
    turns = Turns()
    turns.begin(BULK, 400_000, 0.0)
    turns.end(BULK, 1.0, answered=True)
    was = turns.quantum(BULK)
    turns.begin(BULK, was, 1.0)
    turns.end(BULK, 61.0, answered=False)
    assert turns.quantum(BULK) < was
    for n in range(12):
        turns.begin(BULK, 1, 61.0 + n)
        turns.end(BULK, 62.0 + n, answered=False)
    assert turns.quantum(BULK) == QUANTUM_WIRE_MIN


def test_a_call_that_failed_before_any_was_answered_says_nothing():
    turns = Turns()
    turns.begin(BULK, 8192, 0.0)
    turns.end(BULK, 60.0, answered=False)
    assert not turns.goodput.is_measured


def test_a_small_call_says_nothing_about_the_width_of_the_link():
    turns = Turns()
    turns.begin(CRITICAL, 700, 0.0)
    turns.end(CRITICAL, 1.0, answered=True)
    assert not turns.goodput.is_measured


def test_a_second_call_of_one_lane_is_our_own_mistake():
    turns = Turns()
    turns.begin(BULK, 1, 0.0)
    with pytest.raises(RuntimeError):
        turns.begin(BULK, 1, 0.0)
