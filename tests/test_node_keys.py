"""A new log key in the middle of a node's life: a real node, a real gateway, a backlog signed by two keys, and everybody who lacks one of them."""

import shutil
from pathlib import Path

import pytest

from node.tools.pki import issue_log_key
from sync.certificates import read, verifier_of
from sync.checkpoint import parse_note
from sync.control import decode
from sync.evidence import verify
from sync.key_change import KEY_CHANGE, read_key_change
from sync.key_ring import id_of
from sync.record import Kind
from tests.gateway_rig import GATEWAY
from tests.independent_verifier import verify as verify_independently
from tests.node_rig import NAME, Centre, Feed, Node, Realm, centre, message

EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05\nimport sync.sender as sender; sender.KEY_WAIT_S = 0.1"
SMALL = "\nimport sync.sender as sender; sender.RECORDS_MAX = 7\nimport sync.flow as flow; flow.RECORDS_MAX = 7"
NOWHERE = "https://127.0.0.1:9"


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


class Site:
    """A node whose log keys are numbered: 0 is the one it was enrolled with."""

    def __init__(self, realm: Realm, folder: Path, name: str = NAME) -> None:
        self.realm, self.folder = realm, folder
        self.keys = [realm.node(name)]
        self.node = Node(realm, folder, feeds=[Feed("his"), Feed("lab")], name=name)

    def fresh_key(self) -> int:
        folder = self.folder / f"keys-{len(self.keys)}"
        issue_log_key(self.realm.folder / "ca", folder, self.node.name)
        for part in ("link.key", "link.pem"):
            shutil.copy(self.keys[0] / part, folder / part)
        self.keys.append(folder)
        return len(self.keys) - 1

    def use(self, key: int, *previous: int) -> Node:
        """Configure this log key, with these before it."""
        self.node.keys = self.keys[key]
        lines = (
            f'[[keys.previous]]\nlog_key = "{self.keys[n]}/log.key"\nlog_certificate = "{self.keys[n]}/log.pem"\n'
            for n in previous
        )
        self.node.more = "".join(lines)
        return self.node

    def id(self, key: int) -> bytes:
        return id_of(verifier_of(read((self.keys[key] / "log.pem").read_bytes()), self.node.name))


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path, f"clinic-{abs(hash(tmp_path)) % 10**8}")
    yield made
    made.node.kill()


@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    with centre(realm, tmp_path_factory.mktemp("gateway")) as found:
        yield found


def send(node: Node, first: int, count: int, feed: str = "his") -> None:
    with node.mllp(feed) as mllp:
        for start in range(first, first + count, 50):
            block = range(start, min(start + 50, first + count))
            mllp.send(*(message(f"{feed}-{n:05}") for n in block))
            for _ in block:
                assert b"MSA|AA" in mllp.reply()


def signers(note: bytes) -> list[bytes]:
    return [line.key_id for line in parse_note(note).signatures if line.name != GATEWAY]


def changes(node: Node, stream: str) -> list:
    found = []
    for seen in node.records(stream):
        if seen.header.kind is Kind.CONTROL:
            kind, members = decode(seen.header, seen.body)
            assert kind == KEY_CHANGE
            found.append((seen.record.seq, read_key_change(members)))
    return found


def whole_at_the_centre(node: Node, gateway: Centre, stream: str) -> list[dict]:
    """All records of the stream are there, in order, once, to the byte."""
    lines = gateway.records(node.name, stream)
    assert [line["leaf"] for line in lines] == [seen.record.leaf.hex() for seen in node.records(stream)]
    return lines


def test_key_changed_inside_a_backlog_loses_nothing_and_both_keys_verify(site, gateway, realm):
    first = site.node
    first.gateway = gateway
    first.start(before=EAGER)
    send(first, 0, 40)
    first.wait_receipted("his", 40)
    first.kill()
    site.use(0).gateway = NOWHERE
    first.start(before=EAGER)
    send(first, 40, 100)
    send(first, 0, 3, "lab")
    first.kill()
    new = site.fresh_key()
    site.use(new, 0).start(before=EAGER)
    send(first, 140, 60)
    assert [seq for seq, _ in changes(first, "his")] == [140]
    assert first.ask("status") is not None
    first.kill()
    assert changes(first, "lab")[0][0] == 3
    first.gateway = gateway
    first.start(before=EAGER + SMALL)
    first.wait_receipted("his", 201)
    first.wait_receipted("lab", 4)
    whole_at_the_centre(first, gateway, "his")
    whole_at_the_centre(first, gateway, "lab")
    assert "SYN-" not in "".join(code for code, _ in first.alarms())
    # evidence of a record before the change, of the change, and after it
    ca = (realm.folder / "ca/ca.pem").read_bytes()
    for seq in (0, 100, 139, 140, 141, 200):
        file = gateway.get(f"/v1/nodes/{first.name}/streams/his/records/1/{seq}/evidence").data
        assert verify(file, anchor=ca).seq == seq
        assert verify_independently(file, ca)
    with first.view() as view:
        (log,) = [each for each in view.streams() if each.origin.stream == "his"]
        assert signers(log.receipt) == [site.id(new)]
