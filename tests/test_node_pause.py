"""A disk that fills to 85 %: feeds that can wait take nothing, all others go on, and what paused goes on by itself."""

import json

import pytest

from node.clock import SystemClock
from node.config import load
from node.status import Status
from node.web import words
from node.web.speech import speech
from tests.fhir_rig import OBSERVATION, FhirFeed, Http
from tests.node_rig import Feed, Node, Realm, message, running, wait_until
from tests.sim_gateway import problem, sim_gateway

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
