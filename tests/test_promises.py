"""What DESIGN section 1 promises, a test for each sentence, under that sentence: real processes, killed, filled, restored, faked."""

import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from node.tools.pki import issue_node
from sync.checkpoint import open_checkpoint
from sync.keys import Verifier
from sync.log import root_at
from tests import independent_verifier
from tests.gateway_rig import GATEWAY
from tests.node_rig import EAGER, NAME, Centre, Node, centre, message, running, wait_until
from tests.sim_gateway import http, sim_gateway
from tests.sim_kill import KillLoop
from tests.sim_trace import WATCH, early_replies, stop_watched
from tests.test_node_uplink import node_signer

MIB = 1024 * 1024
ROOT = Path(__file__).parents[1]
LIVE = shutil.ignore_patterns("core.*")  # sockets and locks are no data
FIFTY_YEARS_AGO = "import node.clock, time; node.clock.SystemClock.now_us = lambda self: time.time_ns() // 1000 - 1_577_880_000_000_000"
EACH_MINUTE = "import node.app; node.app.MINUTE_S = 0.2"  # what a minute does, sooner


@pytest.fixture
def node(realm, tmp_path):
    """A node, not yet started; the link is off until a gateway is given."""
    made = Node(realm, tmp_path / "node", link="connect_s_max = 2\nanswer_s_max = 5")
    yield made
    made.kill()


def bodies(gateway, name=NAME, stream="his"):
    return [base64.b64decode(record["body"]) for record in gateway.records(name, stream)]


# -- 1 -----------------------------------------------------------------------------------------------------------------
def test_a_source_gets_a_positive_acknowledgement_only_after_its_message_is_on_stable_storage_and_covered_by_a_signed_checkpoint(
    node, realm, tmp_path
):
    # stable storage: as the kernel saw the unmodified process, no reply leaves before the sync of its message (tests/test_power_trace.py)
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is missing")
        print("strace is missing: only the checkpoint is looked at")
        wrapper = ()
    else:
        wrapper = (*WATCH, "-o", str(tmp_path / "trace"))
    raws = [message(f"P1-{n}", name="سلمى") for n in range(40)]
    with running(node, cold=True, wrapper=wrapper):
        with node.mllp() as mllp:
            for n, raw in enumerate(raws):
                assert mllp.exchange(raw).code == "AA"
                # signed: at the moment of the reply the checkpoint on disk covers the message
                assert checkpoint(node, realm).size == n + 1
        assert_root_is_signed(node, realm)
        if wrapper:
            stop_watched(node.process)
            text = (tmp_path / "trace").read_text(errors="replace")
            assert early_replies(text, re.compile(r"P1-\d+"), re.compile(r"MSA\|AA\|(P1-\d+)")) == (len(raws), [])
    node.kill()
    assert node.bodies() == raws


def checkpoint(node, realm):
    """The checkpoint in the head row, its signature verified."""
    connection = apsw.Connection(str(node.store), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        note = connection.execute("SELECT checkpoint FROM log WHERE stream = 'his'").get
    finally:
        connection.close()
    return open_checkpoint(note, Verifier(NAME, node_signer(realm).public))


def assert_root_is_signed(node, realm):
    """The signed root is the root of the records that lie there."""
    with node.view() as view:
        found = view.streams()[0]
        signed = checkpoint(node, realm)
        assert signed.root == root_at(view.table(found.log), signed.size)


# -- 2 -----------------------------------------------------------------------------------------------------------------
def test_in_one_stream_the_gateway_holds_exactly_the_accepted_records_in_their_order_no_gap_no_duplicate_every_byte_the_same_every_missing_body_is_a_hole_named_by_a_signed_record(
    node, realm, tmp_path
):
    # order, once, every byte: while either side is killed and everything unanswered sent again
    KillLoop(tmp_path / "loop", 6, random.SystemRandom().randrange(2**32)).run()
    # a body that is not there any more is a hole in the gateway's list too: its header, signed, keeps its place and its hash
    raws = [message(f"P2-{n}", name="مريم") for n in range(300)]
    with running(node):
        node.send(*raws)
    damage(node, 17, "UPDATE body SET body = x'00' WHERE id = ?")
    damage(node, 18, "DELETE FROM body WHERE id = ?")
    with centre(realm, tmp_path / "centre") as gateway:
        node.gateway = gateway
        with running(node):
            node.wait_receipted(size=300)
        held = gateway.records(NAME, "his")
    assert [record["seq"] for record in held] == list(range(300))
    assert [base64.b64decode(record["body"]) for record in held] == [*raws[:17], b"", b"", *raws[19:]]
    assert [record["state"] for record in held if record["state"] != "present"] == ["damaged", "damaged"]
    leaves = {record.record.seq: record.record.leaf.hex() for record in node.records()}
    assert {record["seq"]: record["leaf"] for record in held} == leaves


def damage(node, seq, statement):
    connection = apsw.Connection(str(node.store))
    row = connection.execute("SELECT id FROM header WHERE seq = ?", (seq,)).get
    connection.execute(statement, (row,))
    connection.close()


# -- 3 -----------------------------------------------------------------------------------------------------------------
def test_nothing_the_gateway_has_not_receipted_is_ever_dropped(node, realm, tmp_path):
    # the shortest retention, the smallest quota, restarts, and a gateway that takes batches but never confirms one
    node.outbox = "free_mb_min = 16\nquota_mb = 16\nbody_retention_days = 0"
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: None if request.is_session else http(500) if fake.honest(request) else None
        taken = []
        with running(node, before=EAGER + "\n" + EACH_MINUTE):
            taken += fill(node)
            wait_until("some minutes", lambda: len(fake.calls) > 20)
            assert node.bodies() == taken
            node.restart(before=EAGER + "\n" + EACH_MINUTE)
            asked = len(fake.calls)
            wait_until("some minutes more", lambda: len(fake.calls) > asked + 20)
            assert node.stream().receipted == 0
            assert node.bodies() == taken
            fake.script = lambda _request: None
            node.wait_receipted(size=len(taken))
            assert fake.bodies() == taken


def fill(node):
    """Send until the node says no; what it took."""
    taken = []
    with node.mllp() as mllp:
        while len(taken) < 64:
            raw = message(f"FILL-{len(taken)}", more="OBX|1|ED|||" + "F" * MIB)
            reply = mllp.exchange(raw)
            if reply.code != "AA":
                assert (reply.code, reply.error) == ("AR", "207")
                return taken
            taken.append(raw)
    raise AssertionError("a quota of 16 MB takes 64 MB")


def test_there_is_no_ttl_and_no_overwrite(node):
    # records of a clock that was fifty years behind wait like any other, and a full store keeps the oldest
    node.outbox = "free_mb_min = 16\nquota_mb = 16\nbody_retention_days = 0"
    node.gateway = "https://127.0.0.1:1"
    old = [message(f"OLD-{n}") for n in range(5)]
    with running(node, before=EAGER + "\n" + FIFTY_YEARS_AGO):
        node.send(*old)
    with running(node, before=EAGER + "\n" + EACH_MINUTE):
        taken = fill(node)
        for n in range(20):
            node.send(message(f"MORE-{n}", more="OBX|1|ED|||" + "F" * MIB))
        assert node.bodies() == old + taken


def test_when_space_runs_out_the_node_says_no_to_the_source_and_keeps_draining(node, realm, tmp_path):
    node.outbox = "free_mb_min = 16\nquota_mb = 16"
    gateway = Centre(realm, tmp_path / "centre")
    node.gateway = gateway
    try:
        with running(node, before=EAGER + "\n" + EACH_MINUTE):
            taken = fill(node)
            gateway.start()
            node.wait_receipted(size=len(taken))
            assert bodies(gateway) == taken
            late = message("LATE-1", more="OBX|1|ED|||" + "F" * MIB)
            wait_until("room again", lambda: node.send(late)[0].code == "AA")
            node.wait_receipted(size=len(taken) + 1)
            assert bodies(gateway) == [*taken, late]
    finally:
        gateway.kill()


# -- 4 -----------------------------------------------------------------------------------------------------------------
def test_any_record_can_be_proved_to_a_third_party_offline_years_later_one_evidence_file_and_a_verifier_that_shares_no_code_with_us(
    node, realm, tmp_path
):
    raws = [message("P4-1", name="خالد"), b"NO HEADER AT ALL", message("P4-3", sender="OTHER|PLACE"), message("P4-4")]
    node.feeds[0].check = 'senders = ["HIS|TEST"]'
    with centre(realm, tmp_path / "centre") as gateway:
        node.gateway = gateway
        with running(node):
            assert [reply.code for reply in node.send(*raws)] == ["AA", "AA", "AR", "AA"]
            node.wait_receipted(size=4)
        files = [gateway.get(f"/v1/nodes/{NAME}/streams/his/records/1/{seq}/evidence") for seq in range(4)]
    anchor = realm.folder / "ca/ca.pem"
    script = ROOT / "tests/independent_verifier.py"
    assert not re.search(r"^\s*(from|import) (node|gateway|hl7|sync|native)\b", script.read_text(), re.MULTILINE)
    for seq, answer in enumerate(files):
        assert answer.status == 200
        file = tmp_path / f"{seq}.evidence"
        file.write_bytes(answer.data)
        # another process, an empty environment, nothing but the file and the authority's certificate
        command = [sys.executable, "-I", str(script), str(file), "--anchor", str(anchor)]
        done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        out = tmp_path / f"{seq}.body"
        ours = subprocess.run(
            [sys.executable, "-m", "node.cli", "verify", str(file), "--ca", str(anchor), "--body", str(out)], cwd=ROOT, capture_output=True, text=True
        )  # fmt: skip
        assert (ours.returncode, out.read_bytes()) == (0, raws[seq])
        assert f"record {seq} of {NAME}/his/1-" in ours.stdout
    dice = random.Random(4)
    bent_file = tmp_path / "bent.evidence"
    for _ in range(100):  # every bit of every part is another test's matter
        bent = bytearray(files[0].data)
        bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
        bent_file.write_bytes(bent)
        assert independent_verifier.main([str(bent_file), "--anchor", str(anchor)]) == 1


# -- 5 -----------------------------------------------------------------------------------------------------------------
def test_a_tampered_node_a_node_restored_from_a_backup_or_the_second_of_two_live_copies_is_noticed_at_first_contact_what_a_rolled_back_disk_has_lost_is_named_and_nothing_is_overwritten(
    node, realm, tmp_path
):
    first, lost, late, more = ([message(f"P5-{part}-{n}", name="ليلى") for n in range(3)] for part in "abcd")
    with centre(realm, tmp_path / "centre") as gateway:
        node.gateway = gateway
        with running(node, before=EAGER):
            node.send(*first)
            node.wait_receipted(size=3)
            node.kill()
            shutil.copytree(node.data, tmp_path / "backup", ignore=LIVE)
            node.start(before=EAGER)
            node.send(*lost)
            node.wait_receipted(size=6)
        # restored from a backup: it lacks what the gateway has receipted
        restore(node, tmp_path / "backup")
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: ("SYN-21", "his") in node.alarms())
            assert ("SYN-23", "") in node.alarms()  # the gateway knows too, and holds
            node.send(*late)  # intake goes on
            node.wait_receipted(size=3)
            assert node.bodies() == first + late
            assert "GWY-10" in gateway.log or "held" in gateway.log
            hole = node.stream().opening
        # nothing is overwritten, nothing is lost, and what the disk has forgotten is named and signed
        assert bodies(gateway) == first + lost + late
        assert b"\nhole 3 6\n" in hole
        # restored again, and grown past the gateway's size before it could ask: noticed by the root, not by the count
        restore(node, tmp_path / "backup")
        node.gateway, reachable = "https://127.0.0.1:1", node.gateway
        with running(node, before=EAGER):
            node.send(*more, *[message(f"P5-e-{n}") for n in range(9)])
        node.gateway = reachable
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: {code for code, _ in node.alarms()} & {"SYN-20", "SYN-22"})
            wait_until("the rest", lambda: len(bodies(gateway)) == 21)
            node.wait_receipted()
        assert bodies(gateway) == first + lost + late + node.bodies()[3:]
        tampered_and_copied(realm, tmp_path, gateway)


def restore(node: Node, backup: Path) -> None:
    shutil.rmtree(node.data)
    shutil.copytree(backup, node.data, ignore=LIVE)


def tampered_and_copied(realm, tmp_path, gateway):
    """A node whose records were changed under it, and the second of two live copies."""
    keys = realm.node("clinic-8")
    node = Node(realm, tmp_path / "eight", gateway=gateway, name="clinic-8", keys=keys)
    raws = [message(f"P5-e-{n}") for n in range(4)]
    with running(node, before=EAGER):
        node.send(*raws)
        node.wait_receipted(size=4)
        node.kill()
        shutil.copytree(node.data, tmp_path / "nine/data", ignore=LIVE)
        # tampered: the newest record's body is another one, and its row of the log is left as it was
        damage(node, 3, "UPDATE body SET body = CAST('FORGED' AS BLOB) WHERE id = ?")
        node.launch(before=EAGER)
        assert node.ended() == 1
        assert node.log("core.cannot_start")[-1]["code"] == "SYN-06"
    # two live copies: the gateway admits the newer start; the older is fenced at its next call
    shutil.rmtree(node.data)
    shutil.copytree(tmp_path / "nine/data", node.data, ignore=LIVE)
    copy = Node(realm, tmp_path / "nine", gateway=gateway, name="clinic-8", keys=keys)
    with running(node, before=EAGER):
        wait_until("a session", lambda: node.log("core.started"))
        node.send(message("P5-f-1"))
        node.wait_receipted(size=5)
        with running(copy, before=EAGER):
            wait_until("the copy's alarm", lambda: {code for code, _ in copy.alarms()} & {"SYN-21", "SYN-23"})
            copy.send(message("P5-g-1"))
            node.send(message("P5-f-2"))
            wait_until("the fence", lambda: ("SYN-27", "") in node.alarms())
            assert node.bodies()[-1] == message("P5-f-2")
            copy.wait_receipted()
    assert bodies(gateway, "clinic-8") == [*raws, message("P5-f-1"), message("P5-g-1")]


# -- 6 -----------------------------------------------------------------------------------------------------------------
HOSTILE = {
    "no header": b"HELLO",
    "binary": bytes(range(256)).replace(b"\x1c\r", b"").replace(b"\x0b", b""),
    "empty": b"",
    "undecodable": message("P6-u").replace("مريض".encode(), b"\xff\xc3\x28"),
    "deep": message("P6-d", more="OBX|1|ST|||" + "~^&" * 100_000),
    "many segments": message("P6-s", more="Z|\r" * 100_000),
    "one long field": message("P6-l", more="OBX|1|ED|||" + "A" * (15 * MIB)),
    "long control id": message("X" * 200_000),
    "null bytes": message("P6-0", more="NTE|1||" + "\0" * 1000),
    "looks like a batch": b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + message("P6-b") + b"BTS|1\rFTS|1\r",
    "sql": message("'; DROP TABLE body; --", sender="');|--"),
    "json": b'{"resourceType": "Bundle"}',
    "cbor bomb": b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff" + b"\x81" * 5000,
    "zstd": bytes.fromhex("28b52ffd") + bytes(range(200)).replace(b"\x1c", b"").replace(b"\x0b", b""),
    "right-to-left marks": message("P6-r", name="\u202e\u2066مريض\u2069"),
}


def test_one_messages_content_can_never_hold_up_another_what_cannot_be_parsed_is_stored_as_it_came_forwarded_and_parked_downstream(
    node, realm, tmp_path
):
    # parking is the outflow's, which comes later: here all of it is committed at the gateway, with its warning
    sent = []
    for n, raw in enumerate(HOSTILE.values()):
        sent += [message(f"P6-before-{n}", name="نورة"), raw]
    sent.append(message("P6-after"))
    with centre(realm, tmp_path / "centre") as gateway:
        node.gateway = gateway
        with running(node, before=EAGER):
            for name, raw in zip(("good", *HOSTILE, "good"), (sent[0], *HOSTILE.values(), sent[-1]), strict=True):
                assert node.send(message(f"P6-probe-{name}"), raw, message(f"P6-then-{name}"))[1].code == "AA", name
            node.wait_receipted()
            held = gateway.records(NAME, "his")
            assert node.alarms() == set()
        assert [base64.b64decode(record["body"]) for record in held] == node.bodies()
        by_body = {base64.b64decode(record["body"]): record for record in held}
        assert all(raw in by_body for raw in HOSTILE.values())
        unparsed = ("no header", "binary", "empty", "json", "cbor bomb", "zstd", "undecodable")
        assert {by_body[HOSTILE[name]]["verdict"] for name in unparsed} == {"accepted-with-warning"}
        assert json.dumps(held)


# -- 7 -----------------------------------------------------------------------------------------------------------------
JUMPING = """
import node.clock, pathlib, time
def jumped(self, file=pathlib.Path({file!r})):
    try:
        return int(file.read_text())
    except FileNotFoundError:
        return time.time_ns() // 1000
node.clock.SystemClock.now_us = jumped
"""
TIMES_US = {
    "1970": 0,
    "before the certificates": int(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000,
    "after the certificates": int(datetime(2190, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000,
    "the last second of 2038's first half": (2**31 - 1) * 1_000_000,
    "year 9999": int(datetime(9999, 12, 31, 23, 59, tzinfo=UTC).timestamp()) * 1_000_000,
}


def test_no_outage_of_gateway_clock_ca_or_time_stamp_authority_stops_intake(node, realm, tmp_path):
    # gateway: not there at all; it is also the time-stamp authority: a receipt's time is its cosignature's
    gateway = Centre(realm, tmp_path / "centre")
    node.gateway, clock, fresh = gateway, tmp_path / "now-us", tmp_path / "now-us.new"
    with running(node, before=EAGER + JUMPING.format(file=str(clock))):
        sent = [message("P7-gateway", name="فاطمة")]
        # clock: it jumps, back and forth, while messages come
        for n, (name, now_us) in enumerate(TIMES_US.items()):
            fresh.write_text(str(now_us))
            fresh.rename(clock)  # the node reads it all the time, and must never read half of it
            sent += [message(f"P7-clock-{n}-{k}", name=name) for k in range(3)]
            assert [reply.code for reply in node.send(*sent[-3:])] == ["AA"] * 3, name
        clock.unlink()
        assert node.send(sent[0])[0].code == "AA"
        assert sorted(node.bodies()) == sorted(sent)
        kept = node.bodies()
        # what came under a wrong clock arrives like any other
        gateway.start()
        node.wait_receipted(size=len(sent))
        assert bodies(gateway) == kept
        gateway.kill()
    # CA: its certificates have all run out, its validity list cannot be had, the gateway refuses the node
    ran_out = tmp_path / "ran-out"
    issue_node(realm.folder / "ca", ran_out, "clinic-9", now=datetime.now(UTC) - timedelta(days=3 * 365))
    other = Node(realm, tmp_path / "nine", gateway=gateway, name="clinic-9", keys=ran_out)
    try:
        gateway.start()
        with running(other, before=EAGER):
            assert [reply.code for reply in other.send(message("P7-ca-1"), message("P7-ca-2"))] == ["AA", "AA"]
            wait_until("the refusal", lambda: other.link_state()[1] in {"LNK-03", "LNK-05"})
            assert other.send(message("P7-ca-3"))[0].code == "AA"
            assert len(other.bodies()) == 3
    finally:
        gateway.kill()
    # the authority's file itself cannot be read any more while the node runs
    with running(node, before=EAGER):
        moved = realm.folder / "ca/ca.pem"
        moved.rename(realm.folder / "ca/away.pem")
        try:
            assert node.send(message("P7-ca-4"))[0].code == "AA"
        finally:
            (realm.folder / "ca/away.pem").rename(moved)
    # time-stamp authority: a gateway that takes batches but gives no receipt that verifies
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: (
            None if request.is_session else fake.honest(request).replace(GATEWAY.encode(), b"nobody")
        )
        with running(node, before=EAGER):
            for n in range(20):
                assert node.send(message(f"P7-tsa-{n}"))[0].code == "AA"
