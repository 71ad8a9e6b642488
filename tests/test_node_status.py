"""The status document of a real node: what the outbox holds and what the core says, and still a document when the core is dead."""

import json
import re

import pytest
from click.testing import CliRunner

from node.cli.main import main
from node.clock import SystemClock
from node.config.config import load
from node.status import Status
from node.web.speech import speech
from node.web.words import verdict
from tests.node_rig import EAGER, START, Feed, Node, message, running, wait_until
from tests.sim_gateway import problem, sim_gateway

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KEYS = {
    "": {"node", "facility", "site", "version", "now", "state", "verdict", "core", "feeds", "streams", "link", "last_receipt", "totals", "disk", "alarms"},
    "core": {"running", "since", "boot", "kernels", "pid"},
    "feeds": {"name", "kind", "stream", "address", "running", "connections", "last_seen", "accepted", "warned", "rejected", "refused", "last_error", "quality"},
    "streams": {"stream", "lane", "epoch", "tag", "size", "receipted", "waiting", "waiting_bytes", "oldest_waiting_at", "halted"},
    "link": {"state", "gateway", "since", "last_error", "round_trip_ms"},
    "totals": {"accepted", "receipted", "waiting"},
    "disk": {"free_bytes", "quota_bytes", "used_bytes"},
}  # fmt: skip


@pytest.fixture
def node(realm, tmp_path):
    feeds = [Feed("his", check='required = ["PID-3"]'), Feed("lab", ("127.0.0.1", "[::1]"), stream="results")]
    made = Node(realm, tmp_path, feeds=feeds)
    yield made
    made.kill()


def document(node):
    """The document, which must be JSON and have all its keys."""
    found = Status(load(node.config()), SystemClock()).document()
    assert json.loads(json.dumps(found)) == found
    for place, keys in KEYS.items():
        parts = found if not place else found[place]
        for part in parts if isinstance(parts, list) else [parts]:
            assert set(part) >= keys, place
    assert verdict(found, speech("ar"))
    return found


def feed(found, name):
    return next(each for each in found["feeds"] if each["name"] == name)


def test_before_the_first_start_there_is_a_document_that_says_the_core_does_not_run(node):
    found = document(node)
    assert (found["state"], found["verdict"]["code"]) == ("failed", "VRD-40")
    assert (found["streams"], found["core"]["running"], found["last_receipt"]) == ([], False, None)


def test_a_node_that_takes_messages_says_how_many_of_what_kind_and_when(node):
    with running(node):
        node.send(message("S-1"), message("S-2", pid=""), b"HELLO")
        with node.mllp("lab") as mllp:
            mllp.exchange(message("S-3"))
            found = document(node)
            assert feed(found, "lab")["connections"] == 1
        his = feed(found, "his")
        assert (his["running"], his["accepted"], his["warned"], his["rejected"], his["refused"]) == (True, 1, 1, 1, 0)
        assert his["last_error"]["code"] in {"HL7-01", "HL7-09"}
        assert ISO.fullmatch(his["last_seen"])
        assert feed(found, "lab")["address"] == f"127.0.0.1:{node.feed('lab').port}, [::1]:{node.feed('lab').port}"
        assert {stream["stream"]: stream["size"] for stream in found["streams"]} == {"his": 3, "results": 1}
        assert found["totals"] == {"accepted": 4, "receipted": 0, "waiting": 4}
        assert (found["link"]["state"], found["core"]["pid"]) == ("off", node.process.pid)
        assert found["disk"]["used_bytes"] > 0


def test_what_waits_has_its_size_and_age_and_goes_when_it_is_receipted(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with running(node, before=EAGER):
            node.send(*[message(f"S-{n}") for n in range(3)])
            found = document(node)
            stream = next(each for each in found["streams"] if each["stream"] == "his")
            assert (stream["waiting"], stream["waiting_bytes"]) == (3, 3 * len(message("S-0")))
            assert ISO.fullmatch(stream["oldest_waiting_at"])
            fake.script = lambda _request: None
            node.wait_receipted(size=3)
            wait_until("the link's state", lambda: document(node)["link"]["state"] == "up")
            found = document(node)
            stream = next(each for each in found["streams"] if each["stream"] == "his")
            assert (stream["waiting"], stream["waiting_bytes"], stream["oldest_waiting_at"]) == (0, 0, None)
            assert (found["state"], found["alarms"]) == ("ok", [])
            assert (found["last_receipt"]["stream"], found["last_receipt"]["size"]) == ("his", 3)


def test_a_dead_core_leaves_what_the_outbox_knows(node):
    with running(node):
        node.send(message("S-1"), message("S-2"))
        node.kill()
        found = document(node)
    assert (found["state"], found["verdict"]["code"]) == ("failed", "VRD-40")
    assert found["totals"]["waiting"] == 2
    assert [each["running"] for each in found["feeds"]] == [False, False]
    assert feed(found, "his")["address"] == f"127.0.0.1:{node.feed('his').port}"


def test_a_stream_that_stands_still_says_under_which_code_and_an_alarm_asks_for_a_person(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: problem(412, "fork") if request.method == "PUT" else None
        with running(node, before=EAGER):
            node.send(message("S-1"))
            wait_until("the alarm", lambda: ("SYN-31", "his") in node.alarms())
            found = document(node)
    halted = {stream["stream"]: stream["halted"] for stream in found["streams"]}
    assert (halted["his"]["code"], halted["results"]) == ("SYN-31", None)
    assert found["state"] == "attention"
    assert {"SYN-31", "VRD-33"} <= {alarm["code"] for alarm in found["alarms"]}


def test_a_fenced_node_asks_for_a_person(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda _request: problem(403, "fenced")
        with running(node, before=EAGER):
            wait_until("the fence", lambda: document(node)["link"]["state"] == "fenced")
            found = document(node)
    assert (found["state"], found["verdict"]["code"]) == ("attention", "VRD-34")


def told(node):
    """Exit code and first line of `wasl status`, and what its JSON says."""
    path = str(node.config())
    spoken = CliRunner().invoke(main, ["status", "--config", path])
    document = json.loads(CliRunner().invoke(main, ["status", "--config", path, "--json"]).stdout)
    return spoken.exit_code, spoken.stdout.splitlines()[0], document["verdict"]["code"]


def test_a_node_whose_records_the_centre_holds_asks_for_a_person_until_they_are_released(node, realm):
    with sim_gateway(realm, held=True) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            node.send(message("S-1"))
            node.wait_receipted(size=1)
            wait_until("the link's state", lambda: document(node)["link"]["state"] == "up")
            held = "attention: The centre holds this node's records until a person there releases them"
            assert told(node) == (1, held, "VRD-38")
        fake.held = False
        with running(node, before=EAGER):
            node.send(message("S-2"))
            node.wait_receipted(size=2)
            wait_until("the link's state", lambda: document(node)["link"]["state"] == "up")
            assert (told(node)[0], document(node)["alarms"]) == (0, [])


def test_a_node_that_was_restored_says_so_of_each_stream_without_a_link_too(node):
    with running(node):
        node.send(message("S-1"))
        node.send(message("S-2"), feed="lab")
        assert node.stop() == 0
    for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
        (node.data / name).unlink(missing_ok=True)
    with running(node):
        found = document(node)
        assert {alarm["params"]["subject"] for alarm in found["alarms"] if alarm["code"] == "NOD-31"} == {
            "his",
            "results",
        }
        assert told(node)[0] == 1
        assert told(node)[1].startswith("attention: This node was restored from an older backup")


def test_an_alarm_of_a_feed_that_has_no_sentence_of_its_own_makes_the_headline(node, tmp_path):
    node.more = f'[[feeds]]\nname = "drop"\nkind = "folder"\npath = "{tmp_path}/nowhere"\n'
    with running(node):
        wait_until("the alarm", lambda: ("FOL-01", "drop") in node.alarms())
        said = "attention: Something needs attention (drop): The folder of this feed cannot be read"
        assert told(node) == (1, said, "VRD-39")


def test_a_sender_that_breaks_its_frames_is_named_on_its_feed(node):
    with running(node):
        with node.mllp() as mllp:
            mllp.write(START + message("S-1")[:50])
        wait_until("the record", lambda: node.stream().size)
        assert feed(document(node), "his")["last_error"]["code"] == "MLP-03"


def test_the_command_tells_the_state_and_its_exit_code_says_it_too(node):
    path = str(node.config())
    told = CliRunner().invoke(main, ["status", "--config", path, "--json"])
    assert (told.exit_code, json.loads(told.stdout)["state"]) == (2, "failed")
    with running(node):
        told = CliRunner().invoke(main, ["status", "--config", path])
        assert (told.exit_code, told.stdout.partition(":")[0]) in {(0, "unproven"), (0, "waiting"), (0, "ok")}
