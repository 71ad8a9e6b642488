"""Repeats in MQTT: model brokers that use packet identifiers each in its own way, and kills at any moment. Nothing is lost, nothing is doubled unmarked."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.feeds.mqtt_slots import ASK_AGAIN_S, HOLD_S, Fate, Slots
from node.feeds.unsettled import OLD_ENTRY, Unsettled

MIDS = 65_535


class ModelBroker:
    """A session at a broker (MQTT 5.0: 2.2.1 identifiers, 3.3.1.1 mark, 4.4 what is sent again, 4.6 in which order)."""

    def __init__(self, policy: str, limit: int, dice: random.Random) -> None:
        self.policy, self.limit, self.dice = policy, limit, dice
        self.queue: deque[tuple[int, bytes]] = deque()  # what it took from the device: (which, bytes)
        self.under_way: dict[int, tuple[int, bytes]] = {}  # by identifier, in the order of sending
        self.wire: deque[tuple[int, bool, tuple[int, bytes]]] = deque()
        self.acks: deque[int] = deque()
        self._mid = 0

    def identifier(self) -> int:
        if self.policy == "at once":
            return next(mid for mid in range(1, MIDS) if mid not in self.under_way)
        if self.policy == "shuffles":
            return self.dice.choice([mid for mid in range(1, self.limit + 3) if mid not in self.under_way])
        self._mid = self._mid % MIDS + 1
        return self._mid

    def turn(self) -> None:
        """Read one acknowledgement, or send one message."""
        if self.acks and self.dice.random() < 0.5:
            self.under_way.pop(self.acks.popleft())
        elif self.queue and len(self.under_way) < self.limit:
            mid = self.identifier()
            self.under_way[mid] = self.queue.popleft()
            self.wire.append((mid, False, self.under_way[mid]))

    def lost(self) -> None:
        """The connection ends: what is on the wire is gone, but some acknowledgements are still read."""
        for _ in range(self.dice.randint(0, len(self.acks))):
            self.under_way.pop(self.acks.popleft())
        self.acks.clear()
        self.wire.clear()

    def joined(self) -> None:
        self.wire.extend((mid, True, message) for mid, message in self.under_way.items())


class ModelNode:
    """A feed without threads: names, slots, and an outbox whose commits come when they like, in order."""

    def __init__(self, dice: random.Random, *, in_order: bool) -> None:
        self.dice, self.now, self.boots, self.in_order = dice, 0.0, 0, in_order
        self.full: list[Slots] = []  # connections of which something found no room
        self.facts: dict[str, bytes] = {}
        self.stored: dict[str, int] = {}  # by name: which message it was when it was stored first
        self.records: list[tuple[int, bool]] = []  # which, and whether it is marked
        self.dropped: list[tuple[int, int]] = []  # taken for a repeat: which, and of which
        self.start()

    def start(self) -> None:
        self.boots += 1
        self.names = Unsettled("f", boot=f"{self.boots:032x}")
        self.names.load(self.facts)
        self.queue: deque = deque()
        self.joined()

    def joined(self) -> None:
        self.slots, self.newest, self.place = Slots(), None, 0
        self.names.resume()

    def take(self, mid: int, message: tuple[int, bytes], *, is_dup: bool) -> None:
        named = self.names.name(mid, message[1], is_dup=is_dup)
        self.queue.append((self.slots, self.slots.arrived(mid, 1), named, message[0]))

    def commit(self, *, has_room: bool) -> None:
        slots, number, named, which = self.queue.popleft()
        fate = Fate.STORED
        if not has_room or slots in self.full:
            fate = Fate.LOST
            if self.in_order:
                self.full.append(slots)
        elif named.text in self.stored:
            self.dropped.append((which, self.stored[named.text]))
        else:
            self.stored[named.text] = which
            self.records.append((which, named.is_doubtful))
            self.facts.update([named.fact])
        if slots is self.slots:
            slots.settled(number, fate, self.now)
            if fate is Fate.STORED:
                self.newest, self.place = number, named.place

    def acknowledge(self) -> list[int]:
        due = list(self.slots.due())
        if (held := self.slots.wanted(self.now)) is not None and not self.queue and held == self.newest:
            self.facts.update([self.names.release(0 if self.slots.is_stuck else self.place)])
            self.slots.release(held)
        return due


def run(policy: str, seed: int, *, limit: int, equal: bool, in_order: bool = True) -> tuple[ModelNode, int]:
    """Let a device publish, and lose connections and processes, until all has come to rest.

    `in_order`: what is behind one that found no room finds none either.
    """
    dice = random.Random(seed)
    broker, node, count = ModelBroker(policy, limit, dice), ModelNode(dice, in_order=in_order), dice.randint(1, 30)
    broker.queue.extend((which, b"97      " if equal else which.to_bytes(8)) for which in range(count))
    trouble, calm = dice.randint(0, 12), 0
    while calm < 12:
        node.now += dice.choice((0.0, HOLD_S / 3, HOLD_S))
        before = len(node.records), len(broker.under_way), len(broker.queue), len(node.dropped)
        event = dice.random()
        is_lost = node.slots.must_end
        if (event < 0.1 and trouble) or is_lost:
            trouble -= not is_lost
            broker.lost()
            if event < 0.05:
                node.start()  # a kill: what is not committed is gone
            else:
                node.joined()
            broker.joined()
        elif event < 0.4:
            broker.turn()
        elif event < 0.6 and broker.wire:
            mid, is_dup, message = broker.wire.popleft()
            node.take(mid, message, is_dup=is_dup)
        elif event < 0.8 and node.queue:
            node.commit(has_room=not trouble or dice.random() < 0.9)
        else:
            broker.acks.extend(node.acknowledge())
        is_busy = bool(broker.wire or node.queue or broker.acks or trouble)
        after = len(node.records), len(broker.under_way), len(broker.queue), len(node.dropped)
        calm = 0 if is_busy or before != after else calm + (event >= 0.8)
        node.now += ASK_AGAIN_S if calm > 6 else 0.0
    return node, count


POLICIES = st.sampled_from(["at once", "counts up", "shuffles"])


@settings(max_examples=150)
@given(POLICIES, st.integers(0, 2**32), st.sampled_from([1, 2, 3, 8]), st.booleans())
def test_whatever_identifiers_a_broker_takes_no_reading_is_lost_and_none_is_doubled_unmarked(
    policy, seed, limit, equal
):
    node, count = run(policy, seed, limit=limit, equal=equal)
    kept = [which for which, _ in node.records]
    assert sorted(set(kept)) == list(range(count)), "a reading is lost"
    assert all(which == of for which, of in node.dropped), "a reading was taken for another"
    first = {which: at for at, (which, _) in reversed(list(enumerate(node.records)))}
    again = [(which, is_marked) for at, (which, is_marked) in enumerate(node.records) if at != first[which]]
    assert all(is_marked for _, is_marked in again), "a reading is doubled, and not marked"


@settings(max_examples=40)
@given(POLICIES, st.integers(0, 2**32), st.sampled_from([1, 2, 3, 8]))
def test_no_reading_is_lost_where_one_found_no_room_and_the_next_one_did(policy, seed, limit):
    node, count = run(policy, seed, limit=limit, equal=False, in_order=False)
    assert {which for which, _ in node.records} == set(range(count))
    assert all(which == of for which, of in node.dropped)


@settings(max_examples=40)
@given(POLICIES, st.integers(0, 2**32))
def test_while_two_messages_are_under_way_no_reading_is_even_doubtful(policy, seed):
    """As under load: nothing is released for being the only one."""
    node, count = run(policy, seed, limit=8, equal=True)
    if "mqtt/f/released" not in node.facts:
        assert sorted(which for which, _ in node.records) == list(range(count))


def test_an_equal_reading_under_an_identifier_that_is_used_again_at_once_is_no_repeat():
    """The kill comes between our acknowledgement and the next reading, which the broker has sent under the same identifier."""
    names = Unsettled("f", boot="ab" * 16)
    facts = dict([names.name(1, b"97      ", is_dup=False).fact, names.name(2, b"98      ", is_dup=False).fact])
    after = Unsettled("f", boot="cd" * 16)
    after.load(facts)
    after.resume()
    second = after.name(2, b"98      ", is_dup=True)  # the newest, which is never acknowledged, comes again
    assert second.fact[1][:24] == facts["mqtt/f/2"][:24]
    fresh = after.name(1, b"97      ", is_dup=True)  # marked, and never seen: 1 had been free
    assert (fresh.text != names.name(1, b"x" * 8, is_dup=False).text, fresh.is_doubtful) == (True, False)
    assert fresh.fact[1] != facts["mqtt/f/1"]


def test_the_newest_that_is_stored_is_acknowledged_only_after_a_later_one_or_a_note():
    slots = Slots()
    one, two, three = (slots.arrived(mid, 1) for mid in (7, 7_000, 3))
    slots.settled(two, Fate.STORED, 0.0)
    assert list(slots.due()) == []
    slots.settled(one, Fate.STORED, 0.0)
    assert list(slots.due()) == [7]
    assert slots.wanted(1e6) is None  # two were under way: more comes, and this one may wait for ever
    slots.settled(three, Fate.PASSED, 0.0)  # nothing of it is stored, and it waits behind
    assert slots.wanted(1e6) == two
    slots.release(two)
    assert list(slots.due()) == [7_000, 3]


def test_one_that_found_no_room_is_not_acknowledged_nor_those_behind_it():
    slots = Slots()
    numbers = [slots.arrived(mid, 1) for mid in (1, 2, 3)]
    for number, fate in zip(numbers, (Fate.STORED, Fate.LOST, Fate.STORED), strict=True):
        slots.settled(number, fate, 0.0)
    assert (list(slots.due()), slots.must_end) == ([1], True)
    held = Slots()
    held.settled(held.arrived(1, 1), Fate.STORED, 0.0)
    held.settled(held.arrived(2, 1), Fate.LOST, 0.0)  # behind one that is held
    assert (list(held.due()), held.must_end) == ([], True)


@pytest.mark.parametrize("policy", ["at once", "counts up", "shuffles"])
def test_a_broker_that_lets_one_message_be_under_way_is_served_to_the_end(policy):
    for seed in range(20):
        node, count = run(policy, seed, limit=1, equal=False)
        assert {which for which, _ in node.records} == set(range(count))


def test_a_name_of_an_older_session_is_no_name_of_this_one_not_even_after_a_restart():
    names = Unsettled("f", boot="ab" * 16)
    one = names.name(1, b"d" * 8, is_dup=False)
    facts = dict([one.fact])
    names.begin(b"new!")
    names.resume()
    facts[names.session_fact] = b"new!"
    assert names.name(1, b"d" * 8, is_dup=True).text != one.text
    second = Unsettled("f", boot="cd" * 16)
    second.load(facts)  # what the new session named was never committed
    second.resume()
    assert second.name(1, b"d" * 8, is_dup=True).text != one.text


def test_a_message_of_qos_0_that_bears_the_mark_says_nothing_of_those_that_come_again():
    """No broker may mark it (MQTT-3.3.1-2); one that does must not have the next repeat taken for new."""
    names = Unsettled("f", boot="ab" * 16)
    one = names.name(1, b"97      ", is_dup=False)
    names.release(one.place)
    names.resume()
    stray = names.name(0, b"55      ", is_dup=True)
    again = names.name(1, b"97      ", is_dup=True)
    assert (stray.fact, stray.is_doubtful, again.is_doubtful) == (None, False, True)


def test_facts_of_an_earlier_version_and_bytes_that_are_nobodys_are_read():
    names = Unsettled("f", boot="ab" * 16)
    one = names.name(9, b"d" * 8, is_dup=False)
    facts = {"mqtt/f/9": one.fact[1][: OLD_ENTRY.size], "mqtt/f/8": b"nonsense", "mqtt/f/released": b"?"}
    second = Unsettled("f", boot="cd" * 16)
    second.load(facts)
    second.resume()
    assert second.name(9, b"d" * 8, is_dup=True).text == one.text


def test_each_packet_identifier_has_one_fact_however_many_messages_go_by():
    facts, names = {}, Unsettled("f", boot="ab" * 16)
    for number in range(70_000):
        facts.update([names.name(1 + number % MIDS, number.to_bytes(8), is_dup=False).fact])
    assert len(facts) == MIDS
