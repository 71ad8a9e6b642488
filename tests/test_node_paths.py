"""Ways out of a running node: the next one after several failures, the better one again when it is back, and only what is critical where bytes cost."""

import contextlib
from types import SimpleNamespace

import pytest

from node.errors import NoAnswer
from node.uplink.lane import Lane
from node.uplink.link_turns import LinkTurns, SessionDesk
from node.uplink.path_switch import PathSwitch
from sync.checkpoint import parse_checkpoint, parse_note
from sync.lanes import BULK, CRITICAL, ROUTINE
from sync.paths import FAILURES_MAX, Path
from tests.bench.thin_link import ThinLink
from tests.node_rig import Feed, Node, Realm, free_port, message, running, wait_until
from tests.sim_gateway import sim_gateway

EAGER = (
    "import sync.sender as sender; sender.SESSION_S_MAX = 0.3\n"
    "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05\n"
    "import sync.paths as p, node.uplink.path_switch as s; p.HOLD_DOWN_S = p.PROBE_EACH_S = s.PROBE_EACH_S = 0.2"
)
STREAMS = '[[streams]]\nname = "alarm"\nlane = "critical"'
NUMBERS = iter(range(1_000_000))


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def fake(realm):
    with sim_gateway(realm) as found:
        yield found


def send_one(node, feed):
    assert node.send(message(f"PATH-{next(NUMBERS)}"), feed=feed)[0].code == "AA"


def made(realm, folder, fake, *, port, more=""):
    paths = (
        f'[[gateway.paths]]\nname = "mpls"\nurl = "https://127.0.0.1:{port}"\nsource = "127.0.0.1"\n'
        f'[[gateway.paths]]\nname = "lte"\n{more}\n'
    )
    link = f"connect_s_max = 1\nanswer_s_max = 5\n{paths}"
    return Node(realm, folder, feeds=[Feed("his"), Feed("alarm")], gateway=fake.url, link=link, more=STREAMS)


def in_use(node):
    return [path["name"] for path in node.ask("status")["link"]["paths"] if path["in_use"]]


def test_a_dead_path_is_left_for_the_next_and_taken_back_when_it_is_there_again(realm, fake, tmp_path):
    port = free_port()
    node = made(realm, tmp_path, fake, port=port)
    with running(node, before=EAGER):
        send_one(node, "his")
        node.wait_receipted("his", size=1)
        assert in_use(node) == ["lte"]
        link = ThinLink(port, int(fake.url.rpartition(":")[2]), rate=1e6, delay_s=0.001)
        wait_until("the better path", lambda: in_use(node) == ["mpls"])
        send_one(node, "his")
        node.wait_receipted("his", size=2)
        assert fake.bodies("his") == node.bodies("his")
        link.close()
        wait_until("the next path", lambda: send_one(node, "his") or in_use(node) == ["lte"])
        node.wait_receipted("his")
        assert fake.bodies("his") == node.bodies("his")


def heads_of(session: tuple[bytes, ...]) -> list[tuple[str, int]]:
    found = [parse_checkpoint(parse_note(note).text) for note in session]
    return [(head.origin.stream, head.size) for head in found]


def test_on_a_metered_path_only_the_critical_lane_sends_and_the_others_follow_on_a_free_one(realm, fake, tmp_path):
    port = free_port()
    node = made(realm, tmp_path, fake, port=port, more="metered = true")
    with running(node, before=EAGER):
        for feed in ("his", "alarm"):
            send_one(node, feed)
        node.wait_receipted("alarm", size=1)
        assert in_use(node) == ["lte"]
        send_one(node, "alarm")
        node.wait_receipted("alarm", size=2)
        assert node.stream("his").receipted == 0
        assert fake.bodies("his") == []
        # of the lane that waits the centre knows all the same, signed, what it holds
        wait_until("an announced head", lambda: any(heads_of(session) == [("his", 1)] for session in fake.announced))
        link = ThinLink(port, int(fake.url.rpartition(":")[2]), rate=1e6, delay_s=0.001)
        node.wait_receipted("his", size=1)
        assert in_use(node) == ["mpls"]
        link.close()


def test_a_node_without_a_critical_stream_announces_on_a_metered_path_what_waits(realm, fake, tmp_path):
    node = made(realm, tmp_path, fake, port=free_port(), more="metered = true")
    node.feeds, node.more = [Feed("his")], ""
    with running(node, before=EAGER):
        wait_until("the metered path", lambda: in_use(node) == ["lte"])
        send_one(node, "his")
        wait_until("an announced head", lambda: any(heads_of(session) == [("his", 1)] for session in fake.announced))
        assert fake.bodies("his") == []
        assert node.stream("his").receipted == 0


class LateTurns(LinkTurns):
    """Turns that come only after the better path has failed for good."""

    @contextlib.contextmanager
    def turn(self, *about, **more):
        for _ in range(FAILURES_MAX):
            self.switch.failed("mpls", self._now())
        with super().turn(*about, **more):
            yield


@pytest.mark.parametrize(("lane", "calls"), [(CRITICAL, ["lte"]), (ROUTINE, []), (BULK, [])])
def test_a_lane_that_waited_for_its_turn_while_the_path_became_a_metered_one_calls_there_only_if_it_is_critical(
    lane, calls
):
    clock = iter(range(1000))
    turns = LateTurns(lambda: next(clock))
    turns.switch = PathSwitch([Path(name="mpls"), Path(name="lte", metered=True)], lambda: next(clock), turns.forget)
    clients = {
        name: SimpleNamespace(name=name, drop=lambda: None, round_trip_s=lambda: 0.0, pace=lambda _rate: None)
        for name in ("mpls", "lte")
    }
    made, called = Lane(lane, clients, turns, None, turns.switch, lambda: next(clock)), []
    with contextlib.nullcontext() if calls else pytest.raises(NoAnswer):
        made.put(1, lambda: called.append(made.client.name))
    assert called == calls


class LateDesk(SessionDesk):
    """A desk that is free only after the better path has failed for good; all stand in its queue at one instant."""

    def ask(self, *about):
        for n in range(FAILURES_MAX):
            self.switch.failed("mpls", float(n))
        return super().ask(*about)


def test_that_a_lane_may_not_go_a_metered_way_is_no_failure_for_the_critical_one_behind_it_in_the_queue():
    desk = LateDesk(lambda: 0.0)
    desk.switch = PathSwitch([Path(name="mpls"), Path(name="lte", metered=True)], lambda: 0.0, lambda: None)
    lanes = {
        name: Lane(name, {}, LinkTurns(lambda: 0.0), desk, desk.switch, lambda: 0.0) for name in (ROUTINE, CRITICAL)
    }
    with pytest.raises(NoAnswer):
        lanes[ROUTINE].session(lambda: "routine's")
    assert lanes[CRITICAL].session(lambda: "critical's") == "critical's"


def test_a_stop_ends_a_lane_that_waits_for_a_free_path(realm, fake, tmp_path):
    node = made(realm, tmp_path, fake, port=free_port(), more="metered = true")
    with running(node, before=EAGER):
        send_one(node, "alarm")
        node.wait_receipted("alarm", size=1)
        send_one(node, "his")
        assert node.stop() == 0
