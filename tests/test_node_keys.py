"""A new log key in the middle of a node's life: a real node, a real gateway, a backlog signed by two keys, and everybody who lacks one of them."""

import base64
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.config import load as gateway_config
from gateway.ledger_view import LedgerView
from gateway.stick import import_folder, open_desk
from node.clock import SystemClock
from node.config.config import load
from node.errors import ALARMS, KeyMismatch
from node.keystore import load as load_keys
from node.status import Status
from node.stick.back import take_receipts
from node.stick.export import export
from node.tools import pki
from node.tools.pki import issue_log_key
from sync.certificates import read, verifier_of
from sync.checkpoint import parse_note
from sync.control import decode
from sync.errors import KeyAbsent, KeyFollowed
from sync.evidence import verify
from sync.key_change import KEY_CHANGE, read_key_change
from sync.key_ring import id_of
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.record import Kind
from sync.stick import folder_name
from tests.gateway_rig import GATEWAY, draft
from tests.independent_verifier import verify as verify_independently
from tests.node_rig import NAME, Centre, Feed, Node, Realm, centre, message, running, wait_until
from tests.warm_start import ROOT

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


def changes(node: Node, stream: str, first: int = 0) -> list:
    found = []
    for seen in node.records(stream, first):
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


def fill(site: Site, key: int, count: int) -> None:
    """Put a backlog into the outbox as a node of that key would have taken it."""
    node = site.node
    node.data.mkdir(parents=True, exist_ok=True)
    signer = FileSigner(node.name, load_pem_private_key((site.keys[key] / "log.key").read_bytes(), None))
    outbox = Outbox(node.store, signer=signer, random=os.urandom, recent_max=0)
    outbox.open_streams({"his": "routine", "lab": "routine"}, "0badcafe")
    at = outbox.heads["his"].frontier.size
    for first in range(at, at + count, 200):
        block = range(first, min(first + 200, at + count))
        outbox.append([draft("his", message(f"his-{n:05}"), n) for n in block])
    outbox.close()


def test_key_changed_inside_a_backlog_of_10_000_loses_nothing_and_both_keys_verify(site, gateway, realm):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 6_000)
    site.use(new, 0).gateway = NOWHERE
    node.start(before=EAGER)
    send(node, 6_000, 100)
    node.kill()
    assert [seq for seq, _ in changes(node, "his", 6_000)] == [6_000]
    fill(site, new, 3_899)
    node.gateway = gateway
    node.start(before=EAGER)
    node.wait_receipted("his", 10_000)
    lines = whole_at_the_centre(node, gateway, "his")
    assert len(lines) == 10_000
    assert not {code for code, _ in node.alarms()} & {"SYN-15", "SYN-29", "SYN-31", "SYN-32"}
    ca = (realm.folder / "ca/ca.pem").read_bytes()
    for seq in (0, 5_999, 6_000, 6_001, 9_999):
        file = gateway.get(f"/v1/nodes/{node.name}/streams/his/records/1/{seq}/evidence").data
        assert verify(file, anchor=ca).seq == seq
        assert verify_independently(file, ca)


def test_batches_cut_anywhere_across_a_change_are_taken_and_every_record_has_its_evidence(site, gateway, realm):
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


def test_change_whose_page_of_headers_is_lost_before_it_was_sent_holds_nothing_up(site, gateway):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 60)
    site.use(new, 0).gateway = NOWHERE
    node.start(before=EAGER)
    send(node, 61, 40)
    send(node, 101, 1)  # a group of its own: the start looks closely at the last one
    node.kill()
    with closing(apsw.Connection(str(node.store))) as raw:
        raw.execute(
            "UPDATE header SET header = x'00' WHERE seq BETWEEN 50 AND 69 AND log IN (SELECT id FROM log WHERE stream = 'his')"
        )
    node.gateway = gateway
    node.start(before=EAGER)
    node.wait_receipted("his", 102)
    lines = gateway.records(node.name, "his")
    with node.view() as view:
        (log,) = [each for each in view.streams() if each.origin.stream == "his"]
        assert "".join(line["leaf"] for line in lines) == view.table(log.log).leaves(0, 102).hex()
    assert [line["state"] for line in lines].count("leaf-only") == 20
    assert "SYN-32" not in {code for code, _ in node.alarms()}


# --- who lacks a key


def cannot_start(node: Node) -> str:
    node.launch()
    assert node.ended() == 1
    return node.log("core.cannot_start")[-1]["code"]


def test_start_without_the_old_key_says_so_and_changes_nothing(site):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 5)
    site.use(new)
    node.feeds.append(Feed("orders"))
    assert cannot_start(node) == KeyAbsent.code
    with node.view() as view:
        assert {each.origin.stream for each in view.streams()} == {"his", "lab"}
    hint = node.log("core.cannot_start")[-1]["hint"]
    assert "[[keys.previous]]" in hint
    site.use(0).start()
    assert node.send(message("his-99999"))[0].code == "AA"
    node.kill()
    site.use(new, 0).start()
    assert [seq for seq, _ in changes(node, "his")] == [6]


def test_old_key_is_refused_after_the_change(site):
    fill(site, 0, 5)
    site.use(site.fresh_key(), 0).start().kill()
    site.use(0)
    assert cannot_start(site.node) == KeyAbsent.code


def test_key_that_was_followed_is_refused_even_with_the_later_one_beside_it_and_a_third_goes_on(site):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 5)
    site.use(new, 0).start().kill()
    site.use(0, new)
    assert cannot_start(node) == KeyFollowed.code
    assert "wasl pki log-key" in node.log("core.cannot_start")[-1]["hint"]
    assert len(changes(node, "his")) == 1
    site.use(site.fresh_key(), new).start()
    assert len(changes(node, "his")) == 2


def test_key_that_stands_twice_or_is_another_nodes_is_refused(site, realm):
    new = site.fresh_key()
    fill(site, 0, 1)
    site.use(new, new)
    assert cannot_start(site.node) == KeyMismatch.code
    site.keys.append(realm.node("clinic-other"))
    site.use(new, 2)
    assert cannot_start(site.node) == KeyMismatch.code


def test_old_key_taken_out_too_early_is_asked_for_and_put_back_everything_goes(site, gateway):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 20)
    site.use(new, 0).gateway = NOWHERE
    node.start(before=EAGER).kill()
    site.use(new).gateway = gateway
    node.start(before=EAGER)
    wait_until("the alarm", lambda: (KeyAbsent.code, "his") in node.alarms())
    assert node.send(message("his-99999"))[0].code == "AA"
    assert node.stream("his").receipted == 0
    node.kill()
    site.use(new, 0).start(before=EAGER)
    node.wait_receipted("his", 22)
    whole_at_the_centre(node, gateway, "his")


def told(node: Node) -> list[str]:
    """What `wasl status` prints of the key."""
    command = [sys.executable, "-m", "node.cli", "status", "--config", str(node.config())]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return [line for line in found.stdout.splitlines() if line.startswith("log key")]


def state(node: Node) -> tuple[str, list[str], bool]:
    document = Status(load(node.config()), SystemClock()).document()
    return (
        document["log_key"]["state"],
        document["log_key"]["waits"],
        any(alarm["code"] == "NOD-33" for alarm in document["alarms"]),
    )


def test_status_says_when_the_old_key_may_go_and_not_before(site, gateway):
    node, new = site.node, site.fresh_key()
    fill(site, 0, 20)
    site.use(0).gateway = NOWHERE
    assert state(node) == ("none", [], False)
    site.use(new, 0)
    assert state(node) == ("under-way", ["his", "lab"], False)
    node.start(before=EAGER)
    assert state(node) == ("under-way", ["his"], False)
    assert told(node) == ["log key: the change waits for its receipt in his."]
    node.kill()
    node.gateway = gateway
    node.start(before=EAGER)
    node.wait_receipted("his", 21)
    assert state(node) == ("done", [], True)
    assert told(node) == [f"log key: {ALARMS['NOD-33'][1]}"]
    node.kill()
    site.use(new).start(before=EAGER)
    assert state(node) == ("none", [], False)
    send(node, 100, 3)
    node.wait_receipted("his", 24)


# --- who does not believe it


def alarmed(gateway: Centre, node: Node) -> set[str]:
    with closing(LedgerView(gateway.data / "ledger.sqlite")) as view:
        return {code for code, who, *_ in view.alarms(1000) if who == node.name}


def test_change_to_a_revoked_certificate_is_refused_and_alarmed_on_both_sides_and_intake_goes_on(tmp_path):
    realm = Realm.make(tmp_path / "realm")
    with centre(realm, tmp_path / "centre") as gateway:
        site = Site(realm, tmp_path / "site")
        node, new = site.node, site.fresh_key()
        with running(site.use(0), before=EAGER):
            node.gateway = gateway
        with running(node, before=EAGER):
            send(node, 0, 5)
            node.wait_receipted("his", 5)
        good = site.fresh_key()
        realm.revoke(site.keys[new] / "log.pem")
        with running(site.use(new, 0), before=EAGER):
            # the session itself is refused to a node whose present certificate is revoked
            wait_until("the alarm", lambda: ("SYN-28", "") in node.alarms())
            assert node.send(message("his-99999"))[0].code == "AA"
            assert len(gateway.records(node.name, "his")) == 5
        with running(site.use(good, new, 0), before=EAGER):
            # a good one after it does not make the revoked one between them good
            wait_until("the alarm", lambda: ("SYN-32", "his") in node.alarms())
            assert node.send(message("his-99998"))[0].code == "AA"
            assert len(gateway.records(node.name, "his")) == 5
        assert "GWY-22" in alarmed(gateway, node)
        again = tmp_path / "again"
        issue_again(realm, site.keys[new], again, node.name, now=datetime.now(UTC))
        site.keys[new] = again
        with running(site.use(good, new, 0), before=EAGER):
            wait_until("all of it", lambda: len(gateway.records(node.name, "his")) == 9)
            node.wait_receipted("his", 9)
            whole_at_the_centre(node, gateway, "his")
            assert ("SYN-32", "his") not in node.alarms()


def test_old_key_whose_certificate_has_expired_still_signs_what_stands_before_the_change(realm, gateway, tmp_path):
    name = "clinic-expired"
    site = Site(realm, tmp_path, name)
    node, new = site.node, site.fresh_key()
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    fill(site, 0, 10)
    old = Path(tmp_path / "expired")
    issue_again(realm, site.keys[0], old, name, now=datetime.now(UTC) - timedelta(days=pki.LEAF_DAYS, hours=12))
    site.keys[0] = old
    with running(site.use(new, 0), before=EAGER):
        node.wait_receipted("his", 16)
        whole_at_the_centre(node, gateway, "his")
        assert not {code for code, _ in node.alarms()} & {"SYN-15", "SYN-32"}


def issue_again(realm: Realm, keys: Path, folder: Path, name: str, *, now: datetime) -> None:
    """Another certificate for the same log key, as of another day."""
    key = load_pem_private_key((keys / "log.key").read_bytes(), None)
    shutil.copytree(keys, folder)
    leaf = replace(pki._log_leaf(name), key=key)
    made = pki._certificate(pki._authority(realm.folder / "ca"), leaf, now=now)
    (folder / "log.pem").write_bytes(made.public_bytes(Encoding.PEM))


# --- disks and ledgers of before


LIVE = shutil.ignore_patterns("*.sock", "core.lock")


def backed_up(node: Node, where: Path) -> None:
    shutil.copytree(node.data, where, ignore=LIVE)


def restore(node: Node, where: Path, *, mark: bool) -> None:
    """Bring an older disk back; `mark`: the high-water mark is of then, too."""
    kept = None if mark else (node.data / "highwater.json").read_bytes()
    shutil.rmtree(node.data)
    shutil.copytree(where, node.data)
    if kept is not None:
        (node.data / "highwater.json").write_bytes(kept)


@pytest.mark.parametrize("mark", [True, False], ids=["and does not know it", "and knows it"])
def test_disk_restored_to_before_the_change_hands_over_anew_under_a_further_epoch(site, gateway, tmp_path, mark):
    node, new = site.node, site.fresh_key()
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    backed_up(node, tmp_path / "backup")
    with running(site.use(new, 0), before=EAGER):
        send(node, 5, 5)
        node.wait_receipted("his", 11)
    restore(node, tmp_path / "backup", mark=mark)
    with running(node, before=EAGER):
        send(node, 50, 4)
        node.wait_receipted("his")
        wait_until("all of it", lambda: len(gateway.records(node.name, "his")) >= 11 + 4)
        bodies = [
            base64.b64decode(line["body"]) for line in gateway.records(node.name, "his") if line["kind"] == "message"
        ]
        assert bodies == [message(f"his-{n:05}") for n in (*range(10), *range(50, 54))]
        assert not {code for code, _ in node.alarms()} & {"SYN-15", "SYN-31", "SYN-32"}
    assert "GWY-22" not in alarmed(gateway, node)


@pytest.mark.parametrize("mark", [True, False], ids=["and does not know it", "and knows it"])
def test_disk_restored_with_the_key_of_before_stands_still_only_until_it_is_given_the_present_one(
    site, gateway, tmp_path, mark
):
    node, new = site.node, site.fresh_key()
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    backed_up(node, tmp_path / "backup")
    with running(site.use(new, 0), before=EAGER):
        send(node, 5, 5)
        node.wait_receipted("his", 11)
    restore(node, tmp_path / "backup", mark=mark)
    with running(site.use(0), before=EAGER):
        # it goes on under a further epoch, which the key of before alone opens: whoever has that is not the node any more
        send(node, 50, 4)
        wait_until("the alarm", lambda: ("SYN-32", "his") in node.alarms())
    with running(site.use(new, 0), before=EAGER):
        send(node, 60, 4)
        node.wait_receipted("his")
        wait_until("all of it", lambda: len(gateway.records(node.name, "his")) >= 11 + 4 + 1 + 4)
        bodies = [
            base64.b64decode(line["body"]) for line in gateway.records(node.name, "his") if line["kind"] == "message"
        ]
        assert bodies == [message(f"his-{n:05}") for n in (*range(10), *range(50, 54), *range(60, 64))]
        assert ("SYN-32", "his") not in node.alarms()


def test_further_epochs_before_and_after_a_change_go_on_under_the_right_keys(site, gateway, tmp_path, realm):
    node, new = site.node, site.fresh_key()
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    backed_up(node, tmp_path / "one")
    with running(node, before=EAGER):
        send(node, 5, 5)
        node.wait_receipted("his", 10)
    restore(node, tmp_path / "one", mark=True)
    with running(node, before=EAGER):
        send(node, 20, 3)
        wait_until("the second epoch", lambda: node.stream().origin.epoch == 2 and node.stream().receipted == 3)
    with running(site.use(new, 0), before=EAGER):
        send(node, 30, 3)
        node.wait_receipted("his", 7)
    backed_up(node, tmp_path / "two")
    with running(node, before=EAGER):
        send(node, 40, 3)
        node.wait_receipted("his", 10)
    restore(node, tmp_path / "two", mark=True)
    with running(site.use(new), before=EAGER):
        send(node, 50, 3)
        wait_until("the third epoch", lambda: node.stream().origin.epoch == 3 and node.stream().receipted == 3)
    lines = gateway.records(node.name, "his")
    assert [(line["epoch"], line["kind"]) for line in lines] == (
        [(1, "message")] * 10 + [(2, "message")] * 3 + [(2, "control")] + [(2, "message")] * 6 + [(3, "message")] * 3
    )
    ca = (realm.folder / "ca/ca.pem").read_bytes()
    for line in lines:
        file = gateway.get(f"/v1/nodes/{node.name}/streams/his/records/{line['epoch']}/{line['seq']}/evidence").data
        assert verify(file, anchor=ca).seq == line["seq"]
        assert verify_independently(file, ca)
    assert "GWY-22" not in alarmed(gateway, node)


def test_gateway_restored_to_before_the_change_is_sent_it_again(realm, tmp_path):
    with centre(realm, tmp_path / "centre") as gateway:
        site = Site(realm, tmp_path / "site", "clinic-back")
        node, new = site.node, site.fresh_key()
        site.use(0).gateway = gateway
        with running(node, before=EAGER):
            send(node, 0, 5)
            node.wait_receipted("his", 5)
        gateway.stop()
        shutil.copytree(gateway.data, tmp_path / "backup")
        gateway.start()
        with running(site.use(new, 0), before=EAGER):
            send(node, 5, 5)
            node.wait_receipted("his", 11)
        gateway.stop()
        shutil.rmtree(gateway.data)
        shutil.copytree(tmp_path / "backup", gateway.data)
        gateway.start()
        # without the old key the way back is closed, and says what is missing
        with running(site.use(new), before=EAGER):
            wait_until("the alarm", lambda: (KeyAbsent.code, "his") in node.alarms())
        with running(site.use(new, 0), before=EAGER):
            wait_until("all of it", lambda: len(gateway.records(node.name, "his")) == 11)
            whole_at_the_centre(node, gateway, "his")


def test_empty_ledger_takes_a_log_from_its_first_key_on(realm, tmp_path):
    site = Site(realm, tmp_path / "site", "clinic-fresh")
    node, new = site.node, site.fresh_key()
    fill(site, 0, 30)
    with centre(realm, tmp_path / "centre") as gateway:
        site.use(new, 0).gateway = gateway
        with running(node, before=EAGER + SMALL):
            send(node, 30, 10)
            node.wait_receipted("his", 41)
        whole_at_the_centre(node, gateway, "his")


def test_replaced_box_under_a_key_of_its_own_is_held_and_alarmed_for_a_person(site, gateway):
    node, new = site.node, site.fresh_key()
    site.use(0).gateway = gateway
    with running(node, before=EAGER):
        send(node, 0, 5)
        node.wait_receipted("his", 5)
    shutil.rmtree(node.data)
    with running(site.use(new), before=EAGER):
        send(node, 50, 4)
        wait_until("all of it", lambda: len(gateway.records(node.name, "his")) == 9)
        found = gateway.records(node.name, "his")
    assert [(line["epoch"] > 1, line["held"]) for line in found] == [(False, False)] * 5 + [(True, True)] * 4
    assert {"GWY-17", "GWY-23"} <= alarmed(gateway, node)


# --- by hand


def test_backlog_across_a_change_is_carried_by_hand(realm, tmp_path):
    site = Site(realm, tmp_path / "site", "clinic-by-hand")
    node, new = site.node, site.fresh_key()
    fill(site, 0, 30)
    with running(site.use(new, 0), before=EAGER):
        send(node, 30, 10)
    gateway = Centre(realm, tmp_path / "centre")
    node.gateway = gateway
    config, stick = load(node.config()), tmp_path / "stick"
    stick.mkdir()
    export(config, load_keys(config), SystemClock(), stick)
    with open_desk(gateway_config(gateway.config())) as desk:
        imported = import_folder(desk, stick / folder_name(node.name))
    assert (imported.records, imported.refused) == (41, {})
    assert take_receipts(config, load_keys(config), SystemClock(), stick).taken
    assert state(node)[0] == "done"
