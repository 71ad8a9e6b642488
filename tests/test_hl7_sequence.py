"""The sequence number protocol: every row of both tables, and both machines against each other with either killed between any two effects."""

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.errors import SequenceGap, SequenceRepeated
from hl7.sequence import NUMBER_MAX, Deed, Last, Link, Mood, Move, Step, hear, not_stored, number_of, receive, start

A, B = sha256(b"A").digest(), sha256(b"B").digest()
SEVEN = Last(7, A, is_refused=False)


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0", 0),
        (b"-1", -1),
        (b"17", 17),
        (b"+17", 17),
        (b" 17 ", 17),
        (b"17.0", 17),
        (b"007", 7),
        (b"%d" % NUMBER_MAX, NUMBER_MAX),
    ],
)
def test_a_number_is_read(field, number):
    assert number_of(field) == number


@pytest.mark.parametrize(
    "field", [b"", b"LAB", b"^0", b"-2", b"1.5", b"1e3", b"1" * 16, b"\xd9\xa1", b"--1", b'""', b"0x1"]
)
def test_what_is_no_number_of_the_protocol_is_none(field):
    assert number_of(field) is None


def took(last, number, digest=B, *, refused=False):
    return receive(last, number, digest, is_refused=refused)


def test_the_receivers_table_holds_row_by_row():
    assert took(None, 0) == Step(Deed.ANSWER, -1)
    assert took(SEVEN, 0) == Step(Deed.ANSWER, 8)
    assert took(SEVEN, -1) == took(None, -1) == Step(Deed.FORGET, -1)
    assert took(None, 42) == Step(Deed.STORE, 42, None, Last(42, B, is_refused=False))
    assert took(SEVEN, 8) == Step(Deed.STORE, 8, None, Last(8, B, is_refused=False))
    assert took(SEVEN, 8, refused=True) == Step(Deed.STORE, 8, None, Last(8, B, is_refused=True))
    assert took(SEVEN, 7, A) == Step(Deed.ANSWER, 8, is_repeat=True)
    assert took(SEVEN, 7, B) == Step(Deed.REFUSE, 8, SequenceRepeated)
    assert took(SEVEN, 3) == Step(Deed.REFUSE, 8, SequenceRepeated)
    assert took(SEVEN, 9) == Step(Deed.REFUSE, 8, SequenceGap)


def test_a_message_that_was_refused_may_come_again_once_the_rules_have_changed():
    refused = Last(7, A, is_refused=True)
    assert took(refused, 7, A, refused=True).is_repeat
    assert took(refused, 7, A) == Step(Deed.STORE, 7, None, SEVEN)


@given(st.integers(0, NUMBER_MAX), st.binary(min_size=32, max_size=32), st.booleans())
def test_what_is_stored_is_read_back(number, digest, is_refused):
    last = Last(number, digest, is_refused)
    assert Last.read(last.encode()) == last


@given(st.binary(max_size=100))
def test_damaged_storage_is_as_if_nothing_had_come(stored):
    assert Last.read(stored) is None or Last.read(stored).encode() == stored


def test_the_senders_table_holds_row_by_row():
    starting, waiting = start(5), Link(Mood.WAITING, 5)
    frozen = Move(Link(Mood.FROZEN, 5))
    assert hear(starting, 6, 3) == Move(Link(Mood.WAITING, 6), 1)
    assert hear(starting, 8, 3) == Move(Link(Mood.WAITING, 8), 3)
    assert hear(starting, -1, 3) == Move(Link(Mood.WAITING, 5))
    assert hear(starting, 9, 3) == hear(starting, 4, 3) == frozen
    assert hear(waiting, 5, 3) == hear(waiting, 6, 3) == Move(Link(Mood.WAITING, 6), 1)
    assert hear(waiting, 3, 3) == Move(Link(Mood.STARTING, 5, has_asked=True))
    assert hear(Link(Mood.WAITING, 5, has_asked=True), 3, 3).link.mood is Mood.FROZEN
    assert hear(waiting, 6, 3, is_positive=False) == frozen  # they hold another message under this number
    assert hear(waiting, 5, 3, is_positive=False) == Move(
        Link(Mood.WAITING, 6), 1
    )  # refused by a rule, and recorded so
    assert hear(waiting, 7, 3) == hear(waiting, None, 3) == hear(waiting, -1, 3) == frozen
    assert hear(Link(Mood.RESYNCHRONISING, 5), -1, 3) == Move(Link(Mood.WAITING, 5))
    assert hear(Link(Mood.RESYNCHRONISING, 5), 6, 3) == frozen
    assert hear(Link(Mood.FROZEN, 5), 5, 3) == frozen


def test_where_there_was_no_room_the_sender_asks_and_sends_the_same_again():
    for last in (SEVEN, None):
        link = Link(Mood.WAITING, 8)
        for _ in range(3):
            link = hear(link, not_stored(last), 1, is_positive=False).link
            assert link.mood is Mood.STARTING
            link = hear(link, took(last, 0).expected, 1).link
            assert link == Link(Mood.WAITING, 8, has_asked=True)


class World:
    """A sender with a durable queue, a receiver with a durable count: what is not durable is lost at a kill."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.queue = [(number, b"message %d" % number) for number in range(1, 41)]
        self.stored, self.last = [], None  # the receiver's disk: both in one transaction
        self.link = start(1)  # memory; the queue itself is the sender's disk

    def run(self):
        for _ in range(5000):
            if not self.queue:
                return
            assert self.link.mood is not Mood.FROZEN
            self.round()
        pytest.fail("did not end")

    def round(self):
        number, body = (0, b"") if self.link.mood is Mood.STARTING else self.queue[0]
        if self.dies():
            return  # the sender before it sends
        for _ in range(1 + (self.random.random() < 0.1)):  # now and then it arrives twice
            answer = self.receive(number, body)
        if answer is None or self.dies():
            return
        expected, is_positive = answer
        move = hear(self.link, expected, len(self.queue), is_positive=is_positive)
        if self.dies():
            return  # the reply was read and the queue not yet shortened
        self.link = move.link
        del self.queue[: move.stored]

    def receive(self, number, body):
        if self.random.random() < 0.1:
            return None  # lost, or the receiver dies before its transaction
        if self.random.random() < 0.05 and number > 0:
            return not_stored(self.last), False  # its disk is full
        step = receive(self.last, number, sha256(body).digest(), is_refused=False)
        assert step.error is None
        if step.deed is Deed.STORE:
            self.stored.append(body)
            self.last = step.last
        return None if self.random.random() < 0.1 else (step.expected, True)  # it dies after its transaction

    def dies(self):
        if self.random.random() >= 0.1:
            return False
        self.link = start(self.queue[0][0])
        return True


@pytest.mark.parametrize("first", range(0, 2000, 100))
def test_killed_between_any_two_effects_nothing_is_lost_doubled_or_reordered(first):
    for seed in range(first, first + 100):
        world = World(seed)
        world.run()
        assert world.stored == [b"message %d" % number for number in range(1, 41)]
