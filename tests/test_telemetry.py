"""Telemetry without a broker or a line: filters, identities, gaps, the turns of a line under any clock, and configurations that are refused."""

import itertools
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.devices.gaps import RANGES_MAX, TELL_S_MAX, Stretch, encode
from hl7.devices.modbus_poll import REGISTERS_MAX, Request, blocks
from hl7.devices.own_identity import identity_of
from hl7.devices.topics import check_filter, covers, matches, overlap, widest
from node.config.config import check
from node.feeds.modbus_client import BrokenReply, Declined, LineAway, NoAnswer
from node.feeds.modbus_line import REST_AFTER, Missed, ModbusLine, Polled
from node.feeds.mqtt_session import Session, read, write
from tests.node_rig import Node

LEVEL = st.sampled_from(["a", "b", "", "$SYS"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTERS = st.tuples(st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=0, max_size=4), st.booleans()).map(
    lambda made: "/".join([*made[0], *(["#"] if made[1] or not made[0] else [])])
)


# -- topics ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wanted", "topic", "is_meant"),
    [  # MQTT 5.0, 4.7.1.2, 4.7.1.3 and 4.7.2, their own examples
        ("sport/tennis/player1/#", "sport/tennis/player1", True), ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/#", "sport", True), ("sport/+", "sport", False), ("sport/+", "sport/", True), ("+/+", "/finance", True), ("/+", "/finance", True),
        ("+", "/finance", False), ("#", "$SYS/uptime", False), ("+/monitor/Clients", "$SYS/monitor/Clients", False), ("$SYS/#", "$SYS/uptime", True),
        ("ward/+/vitals", "ward/3/vitals", True), ("ward/+/vitals", "ward/3/alarm", False),
    ],
)  # fmt: skip
def test_a_filter_means_the_topics_that_the_standard_says(wanted, topic, is_meant):
    assert matches(check_filter(wanted), topic) is is_meant


@given(FILTERS, FILTERS, TOPICS)
def test_what_is_said_of_two_filters_holds_for_every_topic(one, other, topic):
    both = matches(one, topic) and matches(other, topic)
    if both:
        assert overlap(one, other)
    if covers(one, other) and matches(other, topic):
        assert matches(one, topic)
    kept = widest([one, other])
    assert any(matches(each, topic) for each in kept) == (matches(one, topic) or matches(other, topic))


@pytest.mark.parametrize("bad", ["", "a/#/b", "a+", "#a", "$share/g/a", "a\x00", "x" * 1025, "/".join("a" * 33)])
def test_a_filter_that_no_broker_takes_or_that_loses_messages_is_refused(bad):
    with pytest.raises(ValueError, match="must"):
        check_filter(bad)


# -- what a device says of itself --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("payload", "members", "identity"),
    [
        (b'{"seq": 7, "t": "08:00"}', ("seq", "t"), "seq=7 t=08:00"), (b'{"header": {"n": 1.50}}', ("header.n",), "header.n=1.50"),
        (b'{"seq": 7}', ("seq", "t"), ""), (b'{"seq": true}', ("seq",), ""), (b"not json", ("seq",), ""), (b"[1]", ("seq",), ""),
        (b"[" * 100_000, ("seq",), ""), (b'{"seq":' * 40 + b"1" + b"}" * 40, ("seq",), ""), (b'{"seq": 7}', (), ""), (b'\xff{"seq": 7}', ("seq",), ""),
        (b'{"seq": "\\ud800"}', ("seq",), ""), (b'{"seq": "\\ud83d\\ude00"}', ("seq",), "seq=\U0001f600"),
    ],
)  # fmt: skip
def test_an_identity_is_what_the_named_members_say_and_nothing_is_guessed(payload, members, identity):
    assert identity_of(payload, members) == identity


@given(st.binary(max_size=300))
def test_no_payload_makes_the_reader_of_identities_fail(payload):
    assert isinstance(identity_of(payload, ("seq", "a.b")), str)


# -- sessions -----------------------------------------------------------------------------------------------------------
def test_a_session_file_is_read_as_it_was_written_and_a_damaged_one_is_nobodys(tmp_path):
    session = Session(broker="mqtt://b", client_id="c", filters=("a/#",), alive_us=5)
    write(tmp_path / "s.json", session)
    assert read(tmp_path / "s.json") == session
    (tmp_path / "s.json").write_text('{"broker": 1, "filters": 2}')
    assert read(tmp_path / "s.json") is None


# -- gaps --------------------------------------------------------------------------------------------------------------
@given(st.lists(st.sampled_from(["good", "bad", "lost"]), max_size=300), st.floats(0.1, 400))
def test_every_turn_is_a_value_or_within_one_gap_whatever_fails_in_between(turns, every_s):
    stretch, told = Stretch(subject="p"), []
    for turn, outcome in enumerate(turns):
        if outcome == "good":
            told.append([(turn, turn)])
            gap = stretch.ended()
        else:
            gap = stretch.failed("MOD-01", at_us=turn, now=turn * every_s, sequences=(turn, turn))
        if gap is not None and outcome == "lost":
            stretch.give_back(gap)  # found no room
        elif gap is not None:
            told.append(gap.sequences)
    if gap := stretch.ended():
        told.append(gap.sequences)
    found = sorted(itertools.chain.from_iterable(range(low, high + 1) for ranges in told for low, high in ranges))
    assert found == list(range(len(turns)))


def test_a_device_that_is_dead_for_a_week_fills_no_log():
    stretch, records, largest = Stretch(subject="p"), 0, 0
    for turn in range(0, 7 * 86400, 10):
        gap = stretch.failed("MOD-01", at_us=turn * 1_000_000, now=float(turn), sequences=(turn // 10, turn // 10))
        if gap is not None:
            records, largest = records + 1, max(largest, len(encode(gap)))
    assert records <= 7 * 86400 / TELL_S_MAX + 10
    assert largest < 400


def test_a_line_that_flickers_makes_no_large_gap():
    stretch, largest = Stretch(subject="p", count=1), 0
    for turn in range(0, 4000, 2):  # never a good value in a row that would end it
        gap = stretch.failed("MOD-01", at_us=turn, now=1.0, sequences=(turn, turn))
        largest = max(largest, len(gap.sequences) if gap else 0)
    assert largest <= RANGES_MAX


# -- Modbus ------------------------------------------------------------------------------------------------------------
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 2)), min_size=1, max_size=80))
def test_blocks_ask_for_every_value_whole_and_for_nothing_else(places):
    found = list(blocks("holding", places))
    asked = [address for first, count in found for address in range(first, first + count)]
    assert set(asked) == {address for first, count in places for address in range(first, first + count)}
    assert all(count <= REGISTERS_MAX for _, count in found)
    assert all(any(first <= at and at + count <= first + size for first, size in found) for at, count in places)


@dataclass
class World:
    """A clock that the asker moves: no thread waits, and the wall clock jumps as it is told."""

    monotonic_s: float = 100.0
    wall_us: int = 1_900_000_000_000_000
    took_s: float = 0.05
    fails: dict[int, type[Exception]] = field(default_factory=dict)
    asked: list[tuple[int, float]] = field(default_factory=list)
    heard: list[Polled | Missed] = field(default_factory=list)
    ends_at: float = 200.0
    line: ModbusLine | None = None
    closed: int = 0

    def now_us(self) -> int:
        return self.wall_us

    def monotonic(self) -> float:
        return self.monotonic_s

    def pass_s(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_us += int(seconds * 1_000_000)

    def ask(self, request: Request) -> tuple[int, ...]:
        self.asked.append((request.unit, self.monotonic_s))
        self.pass_s(self.took_s)
        if error := self.fails.get(request.unit):
            raise error("planted")
        return (1,) * request.count

    def close(self) -> None:
        self.closed += 1

    def run(self, *requests: Request) -> list[Polled | Missed]:
        line = ModbusLine("test", self, requests, clock=self, hear=self.hear)
        line._stopping.wait = lambda seconds: self.rest(seconds)
        self.line = line
        line.run()
        return self.heard

    def rest(self, seconds: float) -> bool:
        self.pass_s(seconds)
        if self.monotonic_s >= self.ends_at:
            self.line.stop()
        return False

    def hear(self, event: Polled | Missed) -> None:
        self.heard.append(event)
        self.line.heard()
        if self.monotonic_s >= self.ends_at:
            self.line.stop()


def request(unit: int = 1, every_s: float = 1.0) -> Request:
    return Request(name=f"p{unit}", unit=unit, function="holding", address=0, count=1, every_s=every_s)


def test_polls_do_not_drift_however_long_each_takes():
    world = World(took_s=0.3)
    polled = world.run(request())
    assert [each.sequence for each in polled] == list(range(len(polled)))
    assert [at for _, at in world.asked] == pytest.approx([100.0 + turn for turn in range(len(polled))])
    assert len(polled) >= 99


@pytest.mark.parametrize("jump_s", [-86400, -2, 3, 86400 * 365])
def test_a_wall_clock_that_jumps_moves_no_poll_and_is_told_once(jump_s):
    world = World(ends_at=110.0)
    hear = world.hear

    def jump(event):
        hear(event)
        if event.sequence == 4:
            world.wall_us += jump_s * 1_000_000

    world.hear = jump
    polled = world.run(request())
    assert [at for _, at in world.asked] == pytest.approx([100.0 + turn for turn in range(len(polled))])
    assert [round(each.stepped_us / 1e6) for each in polled] == [0] * 5 + [jump_s] + [0] * (len(polled) - 6)


def test_turns_that_a_slow_line_misses_are_told_and_never_made_up_for():
    world = World(took_s=2.5, ends_at=130.0)
    told = []
    for event in world.run(request()):
        told += range(event.first, event.last + 1) if isinstance(event, Missed) else [event.sequence]
    assert told == list(range(len(told)))
    assert len(world.asked) <= 30 / 2.5 + 1


@pytest.mark.parametrize("error", [NoAnswer, BrokenReply])
def test_a_dead_device_is_left_alone_and_its_turns_fail_at_once(error):
    world = World(took_s=0.2, fails={2: error}, ends_at=220.0)
    polled = world.run(request(1), request(2))
    assert len([unit for unit, _ in world.asked if unit == 2]) <= REST_AFTER + 8  # 1, 2, 4 … 60 s apart
    assert [each.registers is None for each in polled if each.place == 1] == [True] * len(
        [each for each in polled if each.place == 1]
    )
    assert all(each.registers == (1,) for each in polled if each.place == 0)
    assert len([each for each in polled if each.place == 1]) >= 119


def test_a_device_that_declines_is_asked_on():
    world = World(fails={1: Declined}, ends_at=120.0)
    assert {each.code for each in world.run(request())} == {"MOD-02"}
    assert len(world.asked) >= 20


def test_a_line_that_is_away_is_tried_ever_more_rarely_and_by_one_question_at_a_time():
    world = World(took_s=0.0, fails={1: LineAway, 2: LineAway}, ends_at=220.0)
    polled = world.run(request(1), request(2))
    assert {each.code for each in polled} == {"MOD-03"}
    assert len(world.asked) <= 12


# -- configuration -----------------------------------------------------------------------------------------------------
MQTT = 'kind = "mqtt"\nbroker = "mqtt://10.0.0.9"\nclient_id = "wasl-1"\n'
WARD = '[[feeds.topics]]\nfilter = "ward/#"\n'
MODBUS = 'kind = "modbus"\ntcp = "10.0.0.9:502"\n'
POINT = '[[feeds.points]]\nname = "p"\nfunction = "holding"\naddress = 0\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MQTT + WARD, ""), (MQTT, "topics: is missing"), (MQTT + "topics = []\n", "must not be empty"), (MQTT.replace("wasl-1", "a b") + WARD, "letters, digits"),
        (MQTT + 'listen = ["127.0.0.1:1"]\n' + WARD, "goes to its source itself"), (MQTT + 'allow = ["10.0.0.0/8"]\n' + WARD, "goes to its source itself"),
        (MQTT.replace("mqtt:", "mqtts:") + WARD, "must have `ca` with mqtts"), (MQTT + 'password = "node.toml"\n' + WARD, "the `user`"),
        (MQTT.replace("10.0.0.9", "u:p@h") + WARD, "keys of their own"), (MQTT.replace("mqtt://", "http://") + WARD, 'begin with "mqtts://"'),
        (MQTT + WARD + '[[feeds.topics]]\nfilter = "+/alarm"\n', "half overlap"), (MQTT + WARD + '[[feeds.topics]]\nfilter = "ward/+/alarm"\n', ""),
        (MQTT + WARD.replace("ward/#", "$share/a/b"), "must not be shared"), (MQTT + 'heartbeat_topic = "a/+"\n' + WARD, "one topic"),
        (MQTT + 'profile = "sysmex-xn"\n' + WARD, 'for feeds of kind "astm"'), (MQTT + WARD + 'profile = "fridge-modbus"\n', 'for feeds of kind "modbus"'),
        (MQTT + WARD + 'profile = "vitals-mqtt"\n', ""), (MQTT + WARD + 'profile = "nobodys"\n', "there is no profile"),
        (MODBUS + POINT, ""), (MODBUS, "nothing would be asked"), ('kind = "modbus"\n' + POINT, "either `tcp` or `serial`"), (MODBUS + POINT + POINT, "twice"),
        (MODBUS.replace(":502", "") + POINT, '"host:port"'), (MODBUS + POINT + "count = 126\n", "125 registers"), (MODBUS + POINT + "every_s = 0\n", "whole number from 1"),
        (MODBUS + POINT + 'type = "float32"\ncount = 3\n', "even `count`"), (MODBUS + POINT.replace("address = 0", "address = 65535") + "count = 2\n", "end at address 65535"),
        ('kind = "modbus"\nserial = { port = "/dev/ttyUSB0" }\n' + POINT, "another adapter"),
    ],
)  # fmt: skip
def test_a_configuration_is_refused_in_a_technicians_words(realm, tmp_path, text, said):
    node = Node(realm, tmp_path, feeds=[])
    path = node.config()
    path.write_text(path.read_text() + f'[[feeds]]\nname = "f"\n{text}')
    problems = [str(problem) for problem in check(path)]
    assert (problems == []) if not said else (len(problems) == 1 and said in problems[0]), problems


def test_the_bytes_of_a_gap_are_those_of_the_wire_page():
    stretch = Stretch(subject="fridge-1", boot="1f0c55aa")
    gap = stretch.failed("MOD-01", at_us=1_795_000_000_000_000, now=0.0, sequences=(7, 7))
    assert encode(gap).decode() == (
        '{"boot":"1f0c55aa","codes":{"MOD-01":1},"count":1,"first_us":1795000000000000,"last_us":1795000000000000,"part":"first",'
        '"sequences":[[7,7]],"subject":"fridge-1","v":1}'
    )
    assert json.loads(encode(gap))["v"] == 1
