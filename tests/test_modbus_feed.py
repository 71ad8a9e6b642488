"""The Modbus feed against pymodbus' own servers, over TCP and over a pseudo-terminal: values as they were, gaps where there were none."""

import itertools
import json
import time

import pytest

from sync.record import Kind
from tests.modbus_rig import Devices, ModbusFeed, over_cable, over_tcp
from tests.node_rig import Node, running, wait_until

HASTE = (
    "import node.feeds.modbus_line as l, hl7.devices.gaps as g\n"
    "l.REST_S_MIN = l.REST_S_MAX = 0.5\nl.AWAY_S_MIN = l.AWAY_S_MAX = 0.2\n"
    "import dataclasses, node.config.modbus as c\nasked = c.Point.request\n"
    "c.Point.request = lambda self: dataclasses.replace(asked(self), every_s=0.25)\n"  # a configuration has whole seconds
)


def told(node: Node, feed: str = "cold"):
    return node.ask("status")["feeds"][feed]


def polls(node: Node, point: str = "fridge-1") -> list:
    """The documents of a point's values."""
    found = [json.loads(seen.body) for seen in node.records("cold") if seen.header.kind == Kind.MESSAGE]
    return [each for each in found if each["point"] == point]


def gaps(node: Node, subject: str = "fridge-1") -> list:
    found = [json.loads(seen.body) for seen in node.records("cold") if seen.header.kind == Kind.GAP]
    return [each for each in found if each["subject"] == subject]


def turns_told(node: Node, point: str = "fridge-1") -> list[int]:
    """Every turn of one start that a record tells of, as a value or within a gap."""
    values = [each["sequence"] for each in polls(node, point)]
    ranges = [pair for gap in gaps(node, point) for pair in gap["sequences"]]
    return sorted([*values, *itertools.chain.from_iterable(range(low, high + 1) for low, high in ranges)])


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_each_reply_is_a_record_of_the_registers_as_they_were(realm, tmp_path, way):
    devices, feed = Devices(), ModbusFeed("cold")
    with over_tcp(devices, feed.port) if way == "tcp" else over_cable(devices) as line:
        if way == "pty":
            feed.path = line.ends[1]
        with running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
            wait_until("two polls", lambda: len(polls(node)) >= 2)
            first, second = polls(node)[:2]
            status = told(node)
    assert first["registers"] == [42, 65351, 850]
    assert first["as"] == {"type": "int16", "order": "big", "scale": -1, "unit": "Cel"}
    assert (first["unit"], first["function"], first["address"], first["quality"]) == (1, "holding", 0, "good")
    assert (first["sequence"], second["sequence"], first["boot"] == second["boot"]) == (0, 1, True)
    assert second["wall_us"] > first["wall_us"]
    assert second["monotonic_us"] > first["monotonic_us"]
    assert (status["gap"], status["connections"], status["points"]["fridge-1"]["failed"]) == (None, 1, 0)


@pytest.mark.parametrize("way", ["tcp", "pty"])
def test_a_dead_device_does_not_stop_the_others_and_is_told_by_few_records(realm, tmp_path, way):
    devices, feed = Devices(mute={2}), ModbusFeed("cold", {"fridge-1": 1, "fridge-2": 2})
    with over_tcp(devices, feed.port) if way == "tcp" else over_cable(devices) as line:
        if way == "pty":
            feed.path = line.ends[1]
        with running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
            wait_until("an alarm", lambda: ("MOD-01", "cold") in node.alarms())
            wait_until("values of the other", lambda: len(polls(node)) >= 4)
            wait_until("failures", lambda: told(node)["points"]["fridge-2"]["failed"] >= 4)
            assert len(gaps(node, "fridge-2")) == 1
            assert told(node)["gap"]["subject"] == "fridge-2"
            devices.mute.clear()
            wait_until("its first value", lambda: polls(node, "fridge-2"))
            wait_until("the gap's end", lambda: len(gaps(node, "fridge-2")) >= 2)
            wait_until("no alarm", lambda: ("MOD-01", "cold") not in node.alarms())
            node.stop()
            first, last = gaps(node, "fridge-2")
            told_turns = turns_told(node, "fridge-2")
    assert (first["part"], first["count"], last["part"]) == ("first", 1, "ended")
    assert last["codes"] == {"MOD-01": last["count"]}
    assert told_turns == list(range(len(told_turns)))  # every turn once: a value or a gap


def test_a_reply_that_comes_after_its_time_out_is_never_taken_for_the_next_one(realm, tmp_path):
    """Over TCP the transaction numbers would stay off by one for ever (telegraf #14317)."""
    devices, feed = Devices(slow_s={1: 0.4}), ModbusFeed("cold")
    with over_tcp(devices, feed.port), running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
        wait_until("a time-out", lambda: gaps(node))
        devices.slow_s.clear()
        devices.registers[:] = [7, 8, 9]
        wait_until("a value", lambda: polls(node))
        wait_until("another", lambda: len(polls(node)) >= 2)
        assert [each["registers"] for each in polls(node)][-1] == [7, 8, 9]
        assert not any(each["registers"] == [42, 65351, 850] for each in polls(node))


def test_an_exception_and_a_damaged_reply_are_gaps_with_their_causes(realm, tmp_path):
    devices, feed = Devices(), ModbusFeed("cold")
    with over_cable(devices) as cable:
        feed.path = cable.ends[1]
        with running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
            wait_until("a value", lambda: polls(node))
            devices.declining.add(1)
            wait_until("an exception", lambda: told(node)["last_error"] and told(node)["last_error"][0] == "MOD-02")
            devices.declining.clear()
            wait_until("a value again", lambda: told(node)["gap"]["until"])
            before = len(gaps(node))
            cable.noise = b"\x01\x03\x06\x00\x2a\xff"  # as its beginning, and then the real reply: the sum is wrong
            wait_until("a broken reply", lambda: len(gaps(node)) > before)
            assert gaps(node)[-1]["codes"] == {"MOD-04": 1}
            assert all(each["registers"] == [42, 65351, 850] for each in polls(node))


def test_a_line_that_is_away_is_opened_again_when_it_is_back(realm, tmp_path):
    devices, feed = Devices(), ModbusFeed("cold")
    with running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
        wait_until("the alarm", lambda: ("MOD-03", "cold") in node.alarms())
        assert not told(node)["connections"]
        with over_tcp(devices, feed.port):
            wait_until("a value", lambda: polls(node))
            wait_until("no alarm", lambda: ("MOD-03", "cold") not in node.alarms())


def test_a_kill_loses_no_stored_poll_and_the_time_without_a_node_is_a_gap(realm, tmp_path):
    devices, feed = Devices(), ModbusFeed("cold")
    with over_tcp(devices, feed.port), running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
        wait_until("polls", lambda: len(polls(node)) >= 2)
        node.kill()
        held = node.bodies("cold")
        time.sleep(0.6)  # more than two turns
        node.start(before=HASTE)
        wait_until("polls", lambda: len(node.bodies("cold")) >= len(held) + 2)
        assert node.bodies("cold")[: len(held)] == held
        (gap,) = gaps(node, "line")
        assert gap["codes"] == {"MOD-06": 1}
        assert gap["first_us"] == json.loads(held[-1])["wall_us"]


def test_failures_that_no_record_told_before_a_kill_are_told_as_a_gap_by_the_next_start(realm, tmp_path):
    """The other device answers, so that the line itself has no gap in which the dead one's could lie."""
    devices, feed = Devices(mute={2}), ModbusFeed("cold", {"fridge-1": 1, "fridge-2": 2})
    with over_tcp(devices, feed.port), running(Node(realm, tmp_path / "node", feeds=[feed]), before=HASTE) as node:
        wait_until("a gap", lambda: gaps(node, "fridge-2"))
        wait_until("failures", lambda: told(node)["points"]["fridge-2"]["failed"] >= 4)
        wait_until("a value of the other", lambda: polls(node))
        node.kill()
        (first,) = gaps(node, "fridge-2")
        devices.mute.clear()
        node.start(before=HASTE)
        wait_until("its value", lambda: polls(node, "fridge-2"))
        node.kill()  # all is told now: the next start has nothing to tell of the point
        node.start(before=HASTE)
        wait_until("a value of the new start", lambda: len({each["boot"] for each in polls(node, "fridge-2")}) == 2)
        told_first, rest = gaps(node, "fridge-2")
        value = polls(node, "fridge-2")[0]
    assert told_first == first
    assert (rest["codes"], rest["count"], rest["part"], rest["boot"]) == ({"MOD-06": 1}, 0, "once", value["boot"])
    assert rest["first_us"] == first["last_us"]
    assert rest["last_us"] <= value["wall_us"]


def test_a_stretch_that_ended_with_nothing_untold_is_not_told_again_after_a_kill(realm, tmp_path):
    devices, feed = Devices(mute={1}), ModbusFeed("cold")
    one = HASTE + "g.TELL_S_MIN = g.TELL_S_MAX = 0.0\n"  # each failure is told at once
    with over_tcp(devices, feed.port), running(Node(realm, tmp_path / "node", feeds=[feed]), before=one) as node:
        wait_until("a gap", lambda: gaps(node))
        devices.mute.clear()
        wait_until("a value", lambda: polls(node))
        node.kill()
        before = len(gaps(node))
        node.start(before=one)
        wait_until("a value of the new start", lambda: len({each["boot"] for each in polls(node)}) == 2)
        assert len(gaps(node)) == before


def test_a_poll_that_finds_no_room_is_told_as_a_gap_when_there_is_room_again(realm, tmp_path):
    devices, feed = Devices(), ModbusFeed("cold")
    node = Node(realm, tmp_path / "node", feeds=[feed])
    flag = node.folder / "full"
    before = HASTE + (
        "import node.room as r, pathlib, node.feeds.modbus as m\nm.LOOK_S = 0.2\nold = r.Room.before\n"
        "class Full:\n    refuses = frozenset({'routine'})\n"
        f"r.Room.before = lambda self, *a: Full if pathlib.Path({str(flag)!r}).exists() else old(self, *a)"
    )
    with over_tcp(devices, feed.port), running(node, before=before):
        wait_until("a poll", lambda: polls(node))
        flag.touch()
        wait_until("refused polls", lambda: told(node)["points"]["fridge-1"]["failed"] >= 2)
        flag.unlink()
        wait_until("a gap", lambda: gaps(node))
        count = len(polls(node))
        wait_until("a value", lambda: len(polls(node)) > count)
        node.stop()
        turns = turns_told(node)
        assert {code for gap in gaps(node) for code in gap["codes"]} == {"NOD-10"}
        assert turns == list(range(len(turns)))
