"""Lanes of a running node: one connection each, one session for all, and none waits for another's trouble."""

import contextlib
import threading

import pytest

from node.errors import NoAnswer
from node.uplink.link_turns import LinkTurns, SessionDesk
from sync.lanes import BULK, CRITICAL
from sync.sender_events import SessionOpened
from sync.session import SessionAnswer
from tests.node_rig import Feed, Node, Realm, centre, message, running, wait_until
from tests.sim_gateway import hang, problem, sim_gateway

EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05"
STREAMS = '[[streams]]\nname = "alarm"\nlane = "critical"\n[[streams]]\nname = "archive"\nlane = "bulk"'
NUMBERS = iter(range(1_000_000))


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def fake(realm):
    with sim_gateway(realm) as found:
        yield found


@pytest.fixture
def node(realm, fake, tmp_path):
    """A node with a stream in each lane."""
    feeds = [Feed("his"), Feed("alarm"), Feed("archive")]
    made = Node(
        realm, tmp_path, feeds=feeds, gateway=fake.url, link="connect_s_max = 1\nanswer_s_max = 30", more=STREAMS
    )
    with running(made, before=EAGER):
        yield made


def send_one(node, feed):
    assert node.send(message(f"LANE-{next(NUMBERS)}"), feed=feed)[0].code == "AA"


def stream_of(call):
    return call.path.split("/")[3]


def puts(fake, stream):
    return [call for call in fake.calls if not call.is_session and stream_of(call) == stream]


def test_each_lane_has_its_own_connection_and_all_share_one_session(node, fake):
    for feed in ("his", "alarm", "archive"):
        send_one(node, feed)
    for feed in ("his", "alarm", "archive"):
        node.wait_receipted(feed, size=1)
    assert len([call for call in fake.calls if call.is_session]) == 1
    assert fake.handshakes == 3
    lanes = node.ask("status")["link"]["lanes"]
    assert {name: lane["state"] for name, lane in lanes.items()} == {"critical": "up", "routine": "up", "bulk": "up"}


def test_records_that_stay_held_are_told_once_though_every_lane_hears_of_it(node, fake):
    fake.held = True
    node.restart(before=EAGER)
    for feed in ("his", "alarm", "archive"):
        send_one(node, feed)
    for feed in ("his", "alarm", "archive"):
        node.wait_receipted(feed, size=1)
    assert node.alarms() == {("SYN-23", "")}
    told = [row["event"] for row in node.log() if row.get("code") == "SYN-23"]
    assert told == ["alarm"]
    fake.held = False
    node.restart(before=EAGER)
    send_one(node, "his")
    node.wait_receipted("his", size=2)
    assert node.alarms() == set()


def test_a_critical_record_goes_while_a_call_of_another_lane_hangs(node, fake):
    for feed in ("alarm", "archive"):
        send_one(node, feed)
        node.wait_receipted(feed, size=1)
    fake.script = lambda request: hang if not request.is_session and stream_of(request) == "archive" else None
    send_one(node, "archive")
    wait_until("the hanging call", lambda: len(puts(fake, "archive")) == 2)
    send_one(node, "alarm")
    node.wait_receipted("alarm", size=2)
    assert node.stream("archive").receipted == 1


def test_a_lane_whose_path_fails_leaves_the_others_up_and_says_down(node, fake):
    for feed in ("alarm", "archive"):
        send_one(node, feed)
        node.wait_receipted(feed, size=1)
    fake.script = lambda request: problem(500, "internal") if "archive" in request.path else None
    send_one(node, "archive")
    wait_until("a failure", lambda: node.ask("status")["link"]["lanes"]["bulk"]["state"] == "down")
    send_one(node, "alarm")
    node.wait_receipted("alarm", size=2)
    assert node.ask("status")["link"]["lanes"]["critical"]["state"] == "up"
    wait_until("the whole", lambda: node.link_state()[0] == "down")
    fake.script = lambda _request: None
    node.ask("retry")
    node.wait_receipted("archive", size=2)


def test_a_fence_that_another_lane_was_given_is_taken_up_and_fences_nobody(node, fake):
    for feed in ("alarm", "archive"):
        send_one(node, feed)
        node.wait_receipted(feed, size=1)
    fake.fence = "fence-2"  # the centre was restored: it admits this start anew

    def strict(request):
        return None if request.is_session or request.headers["wasl-fence"] == fake.fence else problem(500, "internal")

    fake.script = strict
    send_one(node, "archive")  # this lane meets the trouble and opens the session
    node.wait_receipted("archive", size=2)
    fake.script = lambda r: None if r.is_session or r.headers["wasl-fence"] == fake.fence else problem(403, "fenced")
    send_one(node, "alarm")
    node.wait_receipted("alarm", size=2)
    assert ("SYN-27", "") not in node.alarms()


def test_a_stop_ends_a_lane_that_waits_for_its_turn():
    turns = LinkTurns(lambda: 0.0)
    turns.wants(CRITICAL)
    ended = []

    def wait():
        with contextlib.suppress(NoAnswer), turns.turn(BULK, 1, lambda: 0.0):
            ended.append("began")
        ended.append("ended")

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    turns.stop()
    thread.join(30)
    assert ended == ["ended"]


# -- the common session ------------------------------------------------------------------------------------------------
class Desk:
    """A desk on a hand-turned clock."""

    def __init__(self):
        self.now = 0.0
        self.calls = 0
        self.desk = SessionDesk(lambda: self.now)

    def ask(self, since):
        return self.desk.ask(since, self._call, lambda: None)

    def _call(self):
        self.calls += 1
        began = self.now
        self.now += 1.0
        answer = SessionAnswer(fence=f"f{began}", ledger="l", cosign_certificate="", held=False, streams=())
        return SessionOpened(answer, None)


def test_a_lane_that_called_nothing_since_takes_the_other_lanes_session():
    made = Desk()
    made.now = 10.0
    assert made.ask(float("-inf"))[0] == 10.0
    assert made.ask(9.0)[0] == 10.0
    assert made.calls == 1


def test_a_lane_that_was_told_more_since_asks_anew():
    made = Desk()
    made.now = 10.0
    made.ask(0.0)
    assert made.ask(10.0)[0] == 11.0
    assert made.desk.fence == "f11.0"


# -- marks -------------------------------------------------------------------------------------------------------------
def test_the_gateway_tells_the_mark_it_saw_and_the_right_one_is_no_alarm(realm, tmp_path):
    with centre(realm, tmp_path / "gateway") as gateway:
        made = Node(realm, tmp_path, feeds=[Feed("alarm")], gateway=gateway, more=STREAMS)
        with running(made, before=EAGER):
            send_one(made, "alarm")
            made.wait_receipted("alarm", size=1)
            lane = made.ask("status")["link"]["lanes"]["critical"]
            assert (lane["dscp"], lane["dscp_seen"]) == (26, 26)
            assert ("LNK-10", "critical") not in made.alarms()


def test_a_bleached_mark_is_alarmed_and_taken_back(node, fake):
    fake.dscp = 0
    send_one(node, "alarm")
    node.wait_receipted("alarm", size=1)
    wait_until("the alarm", lambda: ("LNK-10", "critical") in node.alarms())
    fake.dscp = 26
    send_one(node, "alarm")
    node.wait_receipted("alarm", size=2)
    wait_until("its end", lambda: ("LNK-10", "critical") not in node.alarms())


# -- what a critical record follows ------------------------------------------------------------------------------------
def entered(turns, lane, *, above):
    """Whether a call of this lane begins at once; the thread that would wait is let go."""
    began, ended = threading.Event(), threading.Event()

    def call():
        with contextlib.suppress(NoAnswer), turns.turn(lane, 1, lambda: 0.0, above=above):
            began.set()
        ended.set()

    threading.Thread(target=call, daemon=True).start()
    found = began.wait(1)
    turns.stop()
    ended.wait(30)
    return found


@pytest.mark.parametrize(
    ("lane", "above", "begins"), [("routine", True, True), ("routine", False, False), (BULK, True, False)]
)
def test_only_a_needed_routine_call_begins_beside_a_critical_record_for_it_is_raised_one_class(lane, above, begins):
    turns = LinkTurns(lambda: 0.0)
    turns.wants(CRITICAL)
    assert entered(turns, lane, above=above) is begins


def test_a_needed_bulk_call_goes_before_a_routine_one_that_waits_longer():
    turns = LinkTurns(lambda: 5.0)
    turns.wants("routine")
    assert entered(turns, BULK, above=True)


@pytest.mark.parametrize(
    ("first", "end", "needed"), [(5, 8, True), (7, 8, True), (0, 7, False), (8, 9, False)]
)  # fmt: skip
def test_a_call_is_needed_only_if_it_brings_the_position_that_a_critical_record_follows(first, end, needed):
    turns = LinkTurns(lambda: 0.0)
    turns.need("his", 1, 7)
    assert turns.is_needed("his", 1, first, end) is needed
    assert not turns.is_needed("his", 2, first, end)
    assert not turns.is_needed("lab", 1, first, end)
