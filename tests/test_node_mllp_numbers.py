"""A running feed that follows the sequence number protocol: what a sender reads in MSA-4 is on disk, through every kill."""

import asyncio
import random
import time

import pytest

from hl7.mllp import encode
from hl7.sequence import Link, Mood, hear, start
from node.alarms import Alarms
from node.clock import SystemClock
from node.config.feeds import Mllp
from node.feeds.mllp import CONTENT_TYPE, MllpFeed
from node.feeds.mllp_connection import Connection
from node.feeds.mllp_numbers import Numbers
from node.feeds.open_frames import OpenFrames
from node.intake import Intake, make_door
from node.quality.counts import Inspection
from sync.outbox import Stored
from sync.record import Verdict
from tests.node_rig import Feed, Node, Reply, message, running
from tests.test_node_mllp_modes import full_while

FOLLOWS, REQUIRES = 'sequence_numbers = "followed"', 'sequence_numbers = "required"'


@pytest.fixture
def node(realm, tmp_path):
    feeds = [Feed("his", lines=FOLLOWS), Feed("strict", lines=REQUIRES, check='types = ["ADT^*"]')]
    with running(Node(realm, tmp_path, feeds=feeds), before=full_while(tmp_path / "full")) as found:
        yield found


def numbered(number, control_id=None, **options):
    raw = message(control_id or f"M-{number}", **options)
    return raw.replace(b"||||||UNICODE", b"|%b|||||UNICODE" % str(number).encode(), 1)


def told(reply):
    """MSA-1 and MSA-4."""
    rows = {row[:3]: row.split(b"|") for row in reply.payload.split(b"\r")}
    return reply.code, int(rows[b"MSA"][4]) if len(rows[b"MSA"]) > 4 else None


def say(node, *messages, feed="his"):
    return [told(reply) for reply in node.send(*messages, feed=feed)]


def test_a_link_begins_with_0_adopts_the_first_number_and_counts_on(node):
    assert say(node, numbered(0), numbered(41), numbered(42), numbered(0)) == [
        ("AA", -1),
        ("AA", 41),
        ("AA", 42),
        ("AA", 43),
    ]
    assert [seen.control_id for seen in node.records()] == ["M-41", "M-42"]


def test_a_repeat_is_known_by_its_bytes_and_answered_with_the_next_number(node):
    assert say(node, numbered(7), numbered(7), numbered(8)) == [("AA", 7), ("AA", 8), ("AA", 8)]
    assert len(node.records()) == 2


def test_gaps_old_numbers_and_other_bytes_are_refused_recorded_and_alarmed_until_the_count_goes_on(node):
    assert say(node, numbered(7), numbered(9), numbered(7, "OTHER"), numbered(3)) == [
        ("AA", 7),
        ("AE", 8),
        ("AE", 8),
        ("AE", 8),
    ]
    assert [(seen.header.verdict, seen.refusal) for seen in node.records()] == [
        (Verdict.ACCEPTED, ""), (Verdict.REJECTED, "HL7-11"), (Verdict.REJECTED, "HL7-12"), (Verdict.REJECTED, "HL7-12"),
    ]  # fmt: skip
    assert ("NOD-16", "his") in node.alarms()
    assert say(node, numbered(8)) == [("AA", 8)]
    assert ("NOD-16", "his") not in node.alarms()


def test_minus_1_forgets_the_number_for_good(node):
    assert say(node, numbered(7), numbered(-1)) == [("AA", 7), ("AA", -1)]
    node.restart()
    assert say(node, numbered(0), numbered(1)) == [("AA", -1), ("AA", 1)]


def test_a_message_that_a_rule_refuses_uses_its_number_and_does_not_freeze_the_link(node):
    assert say(node, numbered(1), numbered(2, kind="ORU^R01"), numbered(3), feed="strict") == [
        ("AA", 1),
        ("AR", 2),
        ("AA", 3),
    ]


def test_beyond_the_quota_of_refusals_a_number_is_kept_without_a_record(realm, tmp_path):
    feeds = [Feed("his", lines=f"{FOLLOWS}\nrejected_per_hour_max = 0", check='types = ["ADT^*"]')]
    with running(Node(realm, tmp_path, feeds=feeds)) as node:
        assert say(node, numbered(1), numbered(2, kind="ORU^R01")) == [("AA", 1), ("AR", 2)]
        node.restart()
        assert say(node, numbered(0), numbered(3)) == [("AA", 3), ("AA", 3)]


def test_what_is_no_number_goes_as_the_feed_says(node):
    assert say(node, numbered("LAB"), message("NONE")) == [("AA", None), ("AA", None)]
    assert say(node, numbered("LAB"), message("NONE"), feed="strict") == [("AE", None), ("AE", None)]
    assert [seen.refusal for seen in node.records("strict")] == ["HL7-10", "HL7-10"]


def test_messages_sent_without_waiting_and_over_two_connections_are_judged_one_after_the_other(node):
    with node.mllp() as one, node.mllp() as other:
        one.send(*(numbered(number) for number in range(1, 21)))
        assert [told(Reply(one.reply())) for _ in range(20)] == [("AA", number) for number in range(1, 21)]
        one.send(*(numbered(number) for number in range(21, 31)))
        other.send(numbered(0))
        assert told(Reply(other.reply()))[1] in range(21, 32)
        assert [told(Reply(one.reply())) for _ in range(10)] == [("AA", number) for number in range(21, 31)]
    assert [seen.control_id for seen in node.records()] == [f"M-{number}" for number in range(1, 31)]


class SlowWriter:
    """Keeps each draft until it is told that the disk has it."""

    def __init__(self):
        self.waiting = []

    def submit(self, draft, done):
        self.waiting.append((draft, done))
        return True


class Wire:
    """What a connection writes."""

    def __init__(self):
        self.written = b""

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high):
        pass

    def write(self, data):
        self.written += data

    def pause_reading(self):
        pass

    resume_reading = abort = close = pause_reading


def test_a_thousand_connections_that_wait_for_one_message_are_all_answered_when_it_is_stored():
    async def crowd():
        clock, writer = SystemClock(), SlowWriter()
        alarms = Alarms(clock.now_us)
        table = Mllp.model_validate(
            {"name": "his", "kind": "mllp", "listen": ["127.0.0.1:0"], "sequence_numbers": "followed"}
        )
        door = make_door(facility="F", feed="his", stream="his", content_type=CONTENT_TYPE, rejected_per_hour_max=9)
        feed = MllpFeed(
            table, door, Intake(clock=clock, writer=writer, alarms=alarms), clock=clock, alarms=alarms, prefix="x-", frames=OpenFrames(monotonic=time.monotonic),
            numbers=Numbers("his", writer, is_required=False), quality=Inspection(clock, None).of_feed(),
        )  # fmt: skip
        wires = [Wire() for _ in range(1001)]
        connections = [Connection(feed, asyncio.get_running_loop()) for _ in wires]
        for connection, wire in zip(connections, wires, strict=True):
            connection.connection_made(wire)
        connections[0].data_received(encode(numbered(7)))
        for connection in connections[1:]:
            connection.data_received(encode(numbered(0)))
        assert not any(wire.written for wire in wires)
        writer.waiting[0][1](Stored("his", 1, 0))
        return [wire.written for wire in wires]

    first, *others = asyncio.run(crowd())
    assert b"MSA|AA|M-7||7\r" in first
    assert all(b"MSA|AA|M-0||8\r" in written for written in others)


def test_without_room_the_number_stays_and_the_sender_can_send_it_again(node, tmp_path):
    assert say(node, numbered(1)) == [("AA", 1)]
    (tmp_path / "full").touch()
    assert say(node, numbered(2), numbered(0)) == [("AR", 1), ("AA", 2)]
    (tmp_path / "full").unlink()
    assert say(node, numbered(2)) == [("AA", 2)]


class Sender:
    """A sender of the protocol with a durable queue; its connection may break at any time."""

    def __init__(self, node, count):
        self.node, self.end = node, count + 1
        self.link = start(1)

    def step(self, mllp):
        """One message and its reply."""
        number = 0 if self.link.mood is Mood.STARTING else self.link.oldest
        code, expected = told(mllp.exchange(numbered(number)))
        queued = self.end - self.link.oldest
        self.link = hear(self.link, expected, queued, is_positive=code == "AA").link
        assert self.link.mood is not Mood.FROZEN

    def run(self, steps):
        """At most so many exchanges over one connection; a broken one begins anew."""
        try:
            with self.node.mllp() as mllp:
                for _ in range(steps):
                    if self.link.oldest >= self.end:
                        return
                    self.step(mllp)
        except OSError:
            pass
        self.link = start(self.link.oldest)


def test_killed_at_any_point_no_message_is_lost_doubled_or_reordered(node):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice, sender = random.Random(seed), Sender(node, 200)
    kills = 0
    while sender.link.oldest < sender.end:
        if kills < 12:
            # the last message is on its way when the node dies: the sender never reads its reply
            sender.run(dice.randrange(1, 25))
            with node.mllp() as mllp:
                if sender.link.oldest < sender.end:
                    mllp.send(numbered(0), numbered(sender.link.oldest))
                node.kill()
            node.start()
            kills += 1
        else:
            sender.run(1000)
    assert isinstance(sender.link, Link)
    assert [seen.control_id for seen in node.records()] == [f"M-{number}" for number in range(1, 201)]
