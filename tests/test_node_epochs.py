"""A stream that goes on under a further epoch because of its keys: a thief signed first, or a person ordered it. Real node, real gateway."""

import base64
import subprocess
import sys

import pytest

from node.errors import NoSuchStream
from tests.gateway_rig import Realm
from tests.node_rig import Centre, Node, centre, message, running, wait_until
from tests.test_node_keys import EAGER, Site, alarmed, backed_up, fill, restore, send, whole_at_the_centre
from tests.warm_start import ROOT

# somebody inside the link, who has an earlier key, signs the first batch in the place of the node
THIEF = """
import sync.key_ring as rings
from sync.checkpoint import sign_checkpoint
signed, once = rings.KeyRing.sign_batch, []
def thief(ring, checkpoint, first, keys):
    if once or first or checkpoint.origin.stream != "his":
        return signed(ring, checkpoint, first, keys)
    once.append(first)
    return sign_checkpoint(checkpoint, ring.earlier[0])
rings.KeyRing.sign_batch = thief
"""


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def gateway(realm, tmp_path):
    with centre(realm, tmp_path / "gateway") as found:
        yield found


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path)
    yield made
    made.node.kill()


def told(gateway: Centre, node: Node) -> list[str]:
    """The control ids of the messages at the centre, as their bodies say them; none before its first batch."""
    if gateway.get(f"/v1/nodes/{node.name}/streams/his/records").status == 404:
        return []
    found = [base64.b64decode(line["body"]) for line in gateway.records(node.name, "his") if line["kind"] == "message"]
    return [body.split(b"|")[9].decode() for body in found]


def wasl(node: Node, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "node.cli", *words, "--config", node.config()], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize(
    # the statement bears the thief's key too, where that is in force in a part of what is carried
    ("waits", "alarm"), [(600, "GWY-22"), (0, "GWY-23")], ids=["before both changes", "after both changes"]
)  # fmt: skip
def test_log_that_a_thief_began_under_an_earlier_key_goes_on_and_both_sides_are_told(site, gateway, waits, alarm):
    first, second, third = 0, site.fresh_key(), site.fresh_key()
    node = site.node
    if waits:
        fill(site, first, waits)  # off-line
    node.gateway = None
    for keys in ((second, first), (third, second, first)):
        with running(site.use(*keys), before=EAGER):
            pass
    node.gateway = gateway
    with running(site.use(third, second, first), before=EAGER + THIEF):
        send(node, waits, 10)
        wait_until("what the thief signed", lambda: told(gateway, node))
        # the gateway took that, and would refuse for ever what the node signs
        send(node, waits + 10, 5)
        wait_until("the alarm", lambda: ("SYN-33", "his") in node.alarms())
        wait_until("all of it", lambda: len(told(gateway, node)) == waits + 15)
        node.wait_receipted("his")
        assert told(gateway, node) == [f"his-{n:05}" for n in range(waits + 15)]
        assert node.stream("his").origin.epoch == 2
        assert {code for code, _ in node.alarms()} & {"SYN-31", "SYN-32"} == set()
    assert {"GWY-17", alarm} <= alarmed(gateway, node)


def test_survivor_of_two_copies_that_was_given_the_others_key_drains_after_the_order_of_a_further_epoch(site, gateway, tmp_path):  # fmt: skip
    node, (ours, others, fresh) = site.node, (site.fresh_key() for _ in range(3))
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    backed_up(node, tmp_path / "copy")
    with running(site.use(ours, 0), before=EAGER):
        send(node, 5, 5)
        node.wait_receipted("his", 11)
    backed_up(node, tmp_path / "survivor")
    restore(node, tmp_path / "copy", mark=True)
    with running(site.use(others, 0), before=EAGER):  # the copy is live too
        send(node, 20, 3)
        node.wait_receipted("his")
        wait_until("the copy's", lambda: "his-00022" in told(gateway, node))
    restore(node, tmp_path / "survivor", mark=True)
    with running(site.use(ours, 0), before=EAGER):  # and is stopped; the survivor goes on
        send(node, 30, 3)
        wait_until("the survivor's", lambda: "his-00032" in told(gateway, node))
        node.wait_receipted("his")
    with running(site.use(others, ours, 0), before=EAGER):
        # which the survivor's has followed: no gateway takes the change to it, whatever key comes after
        send(node, 40, 3)
        wait_until("the alarm", lambda: ("SYN-32", "his") in node.alarms())
    with running(site.use(fresh, others, ours, 0), before=EAGER):
        send(node, 50, 3)
        wait_until("the alarm", lambda: ("SYN-32", "his") in node.alarms())
        assert "his-00040" not in told(gateway, node)
        ordered = wasl(node, "epoch", "open", "his")
        assert (ordered.returncode, ordered.stderr) == (0, "")
        assert "Ordered: his, now under epoch 3," in ordered.stdout
        wait_until("all of it", lambda: "his-00052" in told(gateway, node))
        node.wait_receipted("his")
        wait_until("one alarm less", lambda: ("SYN-32", "his") not in node.alarms())
        assert ("NOD-36", "his") in node.alarms()
        every = (*range(10), *range(20, 23), *range(30, 33), *range(40, 43), *range(50, 53))
        assert told(gateway, node) == [f"his-{n:05}" for n in every]
        assert node.stream("his").origin.epoch == 4
        # intake never stopped, and the centre holds all this until a person releases it
        assert gateway.records(node.name, "his", "?epoch=4")[0]["epoch"] == 4
        assert node.send(message("his-90000"))[0].code == "AA"
    assert "GWY-17" in alarmed(gateway, node)


def test_order_for_a_stream_that_is_not_there_or_to_a_core_that_is_stopped_changes_nothing(site, gateway):
    node = site.node
    site.use(0).gateway = gateway
    stopped = wasl(node, "epoch", "open", "his")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("NOT ORDERED [NOD-05]")
    with running(node, before=EAGER):
        send(node, 0, 2)
        node.wait_receipted("his", 2)
        for name in ("none", "No Stream"):
            refused = wasl(node, "epoch", "open", name)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert NoSuchStream.code in refused.stderr
        whole_at_the_centre(node, gateway, "his")
        assert node.stream("his").origin.epoch == 1
