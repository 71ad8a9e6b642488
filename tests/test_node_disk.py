"""A running node whose disk has no room, is slow, or fails: what is acknowledged is on it, and nothing else is."""

import base64
import threading

import pytest

from tests.node_rig import Centre, Node, Reply, message, running, wait_until

MIB = 1024 * 1024


@pytest.fixture
def fresh(realm, tmp_path):
    """A node for one test, to be filled or broken."""
    made = Node(realm, tmp_path)
    yield made
    made.kill()


def test_a_disk_without_the_reserve_is_refused_before_the_commit_with_ar_207_and_nothing_is_stored(fresh):
    with running(fresh):
        assert fresh.send(message("ROOM-1"))[0].code == "AA"
    fresh.outbox = "free_mb_min = 1048576"  # a terabyte: no test machine has it to spare
    with running(fresh):
        reply, junk = fresh.send(message("ROOM-2"), b"JUNK")
        assert (reply.code, reply.error, reply.control_id) == ("AR", "207", b"ROOM-2")
        assert junk.code == "AR"
        assert fresh.bodies() == [message("ROOM-1")]
        assert ("NOD-10", "") in fresh.alarms()
    fresh.outbox = "free_mb_min = 16"
    with running(fresh):
        assert fresh.send(message("ROOM-2"))[0].code == "AA"
        assert fresh.bodies() == [message("ROOM-1"), message("ROOM-2")]


def fill(node):
    """Send until the node says no, twice; what it took."""
    taken, refused = [], 0
    with node.mllp() as mllp:
        while refused < 2 and len(taken) < 64:
            raw = message(f"FILL-{len(taken)}-{refused}", more="OBX|1|ED|||" + "F" * MIB)
            reply = mllp.exchange(raw)
            if reply.code == "AA":
                taken.append(raw)
            else:
                assert (reply.code, reply.error) == ("AR", "207")
                refused += 1
    assert refused
    return taken


def test_a_full_outbox_refuses_with_ar_207_keeps_draining_and_takes_messages_again(realm, fresh, tmp_path):
    centre = Centre(realm, tmp_path / "centre")
    fresh.gateway, fresh.outbox = centre, "free_mb_min = 16\nquota_mb = 16"
    try:
        with running(fresh, before="import node.app; node.app.MINUTE_S = 0.3"):
            taken = fill(fresh)
            assert fresh.bodies() == taken
            # it stands until the next look at the disk: what is left may be room enough for smaller messages
            assert "NOD-10" in {row["code"] for row in fresh.log("alarm")}
            assert fresh.stream().receipted == 0
            centre.start()
            fresh.ask("retry")
            fresh.wait_receipted(size=len(taken))
            # what is receipted makes room at once, whatever the retention says
            late = message("LATE-1", more="OBX|1|ED|||" + "F" * MIB)
            wait_until("room", lambda: fresh.send(late)[0].code == "AA")
            assert fresh.alarms() == set()
            fresh.wait_receipted(size=len(taken) + 1)
        held = [base64.b64decode(record["body"]) for record in centre.records(fresh.name, "his")]
        assert held == [*taken, late]
    finally:
        centre.kill()


def test_a_node_whose_quota_was_lowered_below_what_it_holds_still_starts_and_drains(realm, fresh, tmp_path):
    centre = Centre(realm, tmp_path / "centre")
    try:
        with running(fresh):
            taken = [message(f"LOWER-{n}", more="OBX|1|ED|||" + "F" * MIB) for n in range(24)]
            fresh.send(*taken)
        fresh.outbox, fresh.gateway = "free_mb_min = 16\nquota_mb = 16", centre
        centre.start()
        with running(fresh, before="import node.app; node.app.MINUTE_S = 0.3"):
            assert fresh.send(message("LOWER-NO"))[0].code in {"AA", "AR"}
            fresh.wait_receipted(size=24)
            wait_until("room", lambda: fresh.send(message("LOWER-YES"))[0].code == "AA")
            assert fresh.bodies()[-1] == message("LOWER-YES")
    finally:
        centre.kill()


SLOW_DISK = """
import functools, time, apsw, node.app
from sync.outbox import Outbox
class Slow(apsw.VFS):
    def __init__(self):
        super().__init__("slow", "")
    def xOpen(self, name, flags):
        return SlowFile("", name, flags)
class SlowFile(apsw.VFSFile):
    def xSync(self, flags):
        time.sleep(0.03)
        super().xSync(flags)
slow = Slow()
node.app.Outbox = functools.partial(Outbox, vfs="slow")
"""


def test_frames_that_arrive_faster_than_the_disk_stores_them_do_not_fill_the_memory(fresh):
    raws, peak = [message(f"FAST-{n}", more="OBX|1|ED|||" + "F" * 2 * MIB) for n in range(32)], 0
    with running(fresh, before=SLOW_DISK):
        before = fresh.rss_bytes()
        with fresh.mllp() as mllp:
            sender = threading.Thread(target=mllp.send, args=raws)
            sender.start()
            for _ in raws:
                assert Reply(mllp.reply()).code == "AA"
                peak = max(peak, fresh.rss_bytes() - before)
            sender.join()
        assert fresh.bodies() == raws
    assert peak < 32 * MIB


DYING_DISK = """
import functools, pathlib, node.app
from sync.outbox import Outbox
from tests.sim_disk import Disk
disk = Disk("dying")
trigger, step = pathlib.Path({trigger!r}), disk.step
def dying(what, file):
    if what == {what!r} and disk.fails_at == 0 and trigger.exists():
        disk.arm(1)
    step(what, file)
disk.step = dying
node.app.Outbox = functools.partial(Outbox, vfs="dying")
"""


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_failed_commit_is_not_answered_and_ends_the_process_with_74(fresh, tmp_path, what):
    trigger, lost = tmp_path / "now", message("LOST-1")
    with running(fresh, before=DYING_DISK.format(trigger=str(trigger), what=what)):
        assert fresh.send(message("KEPT-1"))[0].code == "AA"
        trigger.touch()
        with fresh.mllp() as mllp:
            mllp.send(lost)
            assert mllp.is_closed()
        assert fresh.ended() == 74
    assert fresh.log("store.failed")[-1]["code"] == "SYN-08"
    with running(fresh):
        assert fresh.bodies()[:1] == [message("KEPT-1")]
        assert fresh.send(lost)[0].code == "AA"
        assert fresh.bodies() == [message("KEPT-1"), lost]
