"""A disk that fills to 85 %: feeds that can wait take nothing, all others go on, and what paused goes on by itself."""

import json
import socket
from random import Random

import pytest

from node.clock import SystemClock
from node.config.config import load
from node.status import Status
from node.tools.simulate_poct1a import Device as Meter
from node.web import words
from node.web.speech import speech
from tests.astm_rig import ACK, NAK, AstmFeed, Instrument, result
from tests.fhir_rig import OBSERVATION, FhirFeed, Http
from tests.folder_rig import CSV, FolderOf
from tests.kill_sources.lines import block
from tests.kill_sources.poct1a import PoctFeed
from tests.modbus_rig import Devices, ModbusFeed, over_tcp
from tests.mqtt_rig import Device, MqttFeed, broker_at, is_joined, needs_mosquitto
from tests.node_rig import Feed, Node, Realm, message, running, wait_until
from tests.serial_rig import Printer
from tests.sim_gateway import problem, sim_gateway
from tests.sim_kill_devices import QUICK

EAGER = (
    "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05\n"
    "import node.app; node.app.LOOK_S = 0.05\n"
    "import node.room; node.room.LOOK_S = 0.05\n"
    "import node.feeds.mllp_connection as c; c.HOLD_S = 0.05"
)
BULK = ("scans", "quiet", "app", "stays")
PAUSED = {"scans", "quiet", "app"}
STEP = "F" * 400 * 1024  # a fortieth of the smallest quota: four of them lie between the pause and the next stage


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def node(realm, tmp_path):
    feeds = [Feed("his"), Feed("scans"), Feed("quiet"), FhirFeed("app"), Feed("stays", lines="can_wait = false")]
    made = Node(realm, tmp_path, feeds=feeds, outbox="free_mb_min = 16\nquota_mb = 16")
    made.more = "".join(f'[[streams]]\nname = "{stream}"\nlane = "bulk"\n' for stream in BULK)
    yield made
    made.kill()


def document(node):
    return Status(load(node.config()), SystemClock()).document()


def paused(node):
    return {name for name, feed in node.ask("status")["feeds"].items() if feed["paused"]}


def fill(node):
    """Send to the routine feed until a feed is paused; what was taken."""
    taken = []
    while not paused(node):
        raw = message(f"R-{len(taken)}", more=f"OBX|1|ED|||{STEP}")
        (reply,) = node.send(raw)
        assert reply.code == "AA"
        taken.append(raw)
        assert len(taken) < 50, "the disk never fills"
    return taken


def asking(name, accept):
    """A message that says when it wants an accept reply, and never an application reply."""
    return message(name).replace(b"||||||UNICODE UTF-8", b"|||%b|NE||UNICODE UTF-8" % accept)


def test_from_85_percent_on_bulk_feeds_that_can_wait_take_nothing_and_go_on_by_themselves_when_the_queue_has_drained(
    node, realm
):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with running(node, before=EAGER):
            taken = fill(node)
            assert paused(node) == PAUSED
            assert ("NOD-34", "") in node.alarms()
            # the source is told, in its own protocol, and nothing is kept
            (reply,), (asked,) = node.send(message("S-1"), feed="scans"), node.send(asking("S-2", b"AL"), feed="scans")
            assert [(each.code, each.error) for each in (reply, asked)] == [("AR", "207"), ("CE", "207")]
            assert b"NOD-34" in reply.payload
            assert {name: refusals(node, name) for name in ("his", *BULK)} == {
                "his": 0,
                "scans": 2,
                "quiet": 0,
                "app": 0,
                "stays": 0,
            }
            with Http(node.feed("app").address) as http:
                answer = http.call("POST", "/Observation", json.dumps(OBSERVATION).encode())
            assert (answer.status, answer.headers["retry-after"], answer.codes) == (507, "60", ["NOD-34"])
            with node.mllp("quiet") as quiet:  # who may not be told waits, and is read no further
                quiet.send(asking("Q-1", b"NE"), message("Q-2"))
                # what cannot wait, and the lanes above, are taken as before
                assert [each.code for name in ("stays", "his") for each in node.send(message("ON"), feed=name)] == [
                    "AA",
                    "AA",
                ]
                assert [node.stream(name).size for name in BULK] == [0, 0, 0, 1]
                told = document(node)
                assert (told["state"], told["verdict"]["code"]) == ("attention", "VRD-37")
                assert words.verdict(told, speech("en")).startswith("The disk is filling, so 3 bulk feeds are paused")
                fake.script = lambda _request: None
                assert quiet.reply()
            assert [seen.control_id for seen in node.records("quiet")] == ["Q-1", "Q-2"]
            wait_until("no pause", lambda: not paused(node) and ("NOD-34", "") not in node.alarms())
            assert [each.code for each in node.send(message("S-1"), feed="scans")] == ["AA"]
            with Http(node.feed("app").address) as http:
                assert http.call("POST", "/Observation", json.dumps(OBSERVATION).encode()).status == 201
            for name in ("his", *BULK):
                node.wait_receipted(name)
            assert fake.bodies("his") == [*taken, message("ON")]


def printed(node, name, data):
    """A connection over which a device has printed."""
    line = socket.create_connection(node.feed(name).address, 10)
    line.settimeout(40)
    line.sendall(data)
    return line


@needs_mosquitto
def test_what_devices_have_while_bulk_feeds_are_paused_stays_with_them_or_is_told_and_comes_by_itself(realm, tmp_path):
    drop, devices, meter = tmp_path / "drop", Devices(), Meter("SN-1", Random(1))
    drop.mkdir()
    meter.measure(2)
    lines = 'ends = "block"\ncheck = "xor-hex"'
    with broker_at(tmp_path / "broker") as broker, sim_gateway(realm) as fake:
        feeds = [
            Feed("his"), FolderOf("files", listen=("x",), path=drop), PoctFeed("meters"), Printer("prints", lines=lines),
            Printer("asks", lines=lines + '\nanswer = "ACK"\nanswer_bad = "NAK"'), MqttFeed("ward", broker), ModbusFeed("cold"),
            AstmFeed("xn"),
        ]  # fmt: skip
        names = {feed.name for feed in feeds[1:]}
        node = Node(realm, tmp_path / "node", feeds=feeds, outbox="free_mb_min = 16\nquota_mb = 16", gateway=fake.url)
        node.more = "".join(f'[[streams]]\nname = "{name}"\nlane = "bulk"\n' for name in sorted(names))
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with over_tcp(devices, node.feed("cold").port), running(node, before=EAGER + "\n" + QUICK):
            wait_until("a session", lambda: is_joined(node, "ward"))
            wait_until("polls", lambda: node.stream("cold").size >= 3)
            fill(node)
            assert paused(node) == names
            (drop / "a.csv").write_bytes(CSV)
            with Device(broker) as monitor:
                monitor.send("ward/1", b'{"spo2": 97}')  # the broker has it, and gets no PUBACK
            assert keeps(meter, node)
            with Instrument(node.feed("xn").address) as instrument:
                instrument.begin()
                said = [instrument.exchange(frame) for frame in instrument.frames(result())]
            assert said == [ACK] * (len(said) - 1) + [NAK], "what was acknowledged is kept, the message is not taken"
            with printed(node, "asks", block(1, 0, "Test Patient")) as asking:
                assert asking.recv(1) == b"\x15"
            with printed(node, "prints", block(2, 0, "Test Patient")):
                wait_until("it waits in memory", lambda: waiting(node) == 1)
            wait_until("the device is gone", lambda: node.ask("status")["feeds"]["prints"]["connections"] == 0)
            assert waiting(node) == 1
            held = devices.asked[1]
            wait_until("polls that are not stored", lambda: devices.asked[1] > held + 3)
            before = {name: node.stream(name).size for name in names}
            wait_until("all have tried", lambda: all(refusals(node, name) for name in names - {"asks"}))
            assert {name: node.stream(name).size for name in names} == before
            assert sum(before.values()) == before["cold"], "only polls of before the pause"
            assert (drop / "a.csv").exists()
            fake.script = lambda _request: None
            wait_until("no pause", lambda: not paused(node))
            with Instrument(node.feed("xn").address) as instrument:
                instrument.send(result())
            wait_until("the file is moved", lambda: not (drop / "a.csv").exists())
            wait_until("a message", lambda: fake.bodies("ward") == [b'{"spo2": 97}'])
            wait_until("a report", lambda: fake.bodies("prints") == [block(2, 0, "Test Patient").rstrip()])
            assert meter.connect(*node.feed("meters").address) == 2
            with printed(node, "asks", block(1, 0, "Test Patient")) as asking:
                assert asking.recv(1) == b"\x06"
            wait_until("all at the centre", lambda: fake.bodies("files") == [CSV] and len(fake.bodies("asks")) == 1)
            wait_until("the instrument's", lambda: result() in fake.bodies("xn"))
            wait_until("the meter's", lambda: any(b"<SVC>" in body for body in fake.bodies("meters")))
            polls = wait_until("polls again", lambda: told_polls(fake.bodies("cold")))
            assert polls == list(range(len(polls))), "each turn is a value, or in a gap"


def keeps(meter, node):
    """Whether a device has kept its results after it was connected."""
    try:
        meter.connect(*node.feed("meters").address)
    except ConnectionError:
        return len(meter.results) == 2
    return False


def waiting(node):
    return node.ask("status")["feeds"]["prints"]["line"]["waiting"]


def refusals(node, name):
    return node.ask("status")["feeds"][name]["refused"]


def told_polls(bodies):
    """The turns that values and gaps tell of, once a value has come after the pause."""
    turns, paused_turns, is_value = [], 0, False
    for body in map(json.loads, bodies):
        is_value = "sequence" in body
        if is_value:
            turns.append(body["sequence"])
        else:
            assert body["codes"].keys() <= {"NOD-34", "MOD-05", "MOD-01"}, body
            paused_turns += body["codes"].get("NOD-34", 0)
            passed = [turn for low, high in body["sequences"] for turn in range(low, high + 1)]
            assert body["count"] == sum(body["codes"].values()) == len(passed), "each turn is told once, with one cause"
            turns += passed
    return sorted(turns) if paused_turns and is_value else []
