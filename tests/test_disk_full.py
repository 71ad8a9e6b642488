"""A disk that fills, on real small file systems: refused lane by lane, drained all the while, taken again without a restart.

Mounting needs root and a kernel that lets it; where either is missing the quota stands in for the partition.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from node.room import BALLAST_BYTES, JOURNAL_BYTES, free_bytes, hold_journal
from tests.node_rig import Feed, Node, Realm, message, running, wait_until
from tests.sim_gateway import problem, sim_gateway

MIB = 1024 * 1024
DISK_MIB = 64
EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05\nimport node.app; node.app.LOOK_S = 0.1"
LANES = {"adt": "bulk", "his": "routine", "lab": "critical"}
BODY_BYTES = 96 * 1024  # a twentieth of the narrowest stage, so that no lane's first refusal is skipped


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


def mount(kind: str, folder: Path, image: Path) -> None:
    """Mount a small file system. CalledProcessError or OSError where that is not allowed here."""
    if kind == "ext4":
        image.touch()
        os.truncate(image, DISK_MIB * MIB)
        call("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        call("mount", "-o", "loop", str(image), str(folder))
    else:
        call("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "wasl-test", str(folder))


def call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def small_disk(kind: str, folder: Path) -> Iterator[None]:
    folder.mkdir()
    try:
        mount(kind, folder, folder.with_suffix(".img"))
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no {kind} can be mounted here ({type(error).__name__}): the quota's test stands for it")
    try:
        yield
    finally:
        call("umount", "-l", str(folder))


@pytest.fixture(params=["quota", "tmpfs", "ext4"])
def node(request, realm, tmp_path):
    made = Node(realm, tmp_path, feeds=[Feed(stream) for stream in LANES])
    made.more = "".join(f'[[streams]]\nname = "{stream}"\nlane = "{lane}"\n' for stream, lane in LANES.items())
    if request.param == "quota":
        made.outbox = "free_mb_min = 16\nquota_mb = 24"
        yield made
        made.kill()
        return
    made.outbox = "free_mb_min = 16\nquota_mb = 4096"
    with small_disk(request.param, tmp_path / "data"):
        yield made
        made.kill()


def fill(node: Node) -> tuple[dict[str, list[bytes]], list[str]]:
    """Send to each feed in turn until all say no: what was taken of each, and the order in which they began to refuse."""
    taken: dict[str, list[bytes]] = {stream: [] for stream in LANES}
    refusing: list[str] = []
    n = 0
    while len(refusing) < len(LANES):
        for stream in LANES:
            n += 1
            raw = message(f"F-{n}", more="OBX|1|ED|||" + "F" * BODY_BYTES)
            (reply,) = node.send(raw, feed=stream)
            if reply.code == "AA":
                assert stream not in refusing, "what was refused once is refused until the queue drains"
                taken[stream].append(raw)
                continue
            assert (reply.code, reply.error) == ("AR", "207")
            if stream not in refusing:
                refusing.append(stream)
        assert n < 10_000, "the disk never fills"
    return taken, refusing


def test_a_filling_disk_refuses_bulk_then_routine_then_critical_keeps_all_it_took_and_takes_again_without_a_restart(
    node, realm
):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with running(node, before=EAGER):
            pid = node.process.pid
            wait_until("the ballast", (node.data / "ballast").exists)
            taken, refusing = fill(node)
            assert refusing == ["adt", "his", "lab"]
            assert {stream: node.bodies(stream) for stream in LANES} == taken
            assert {("NOD-10", ""), ("NOD-30", "")} <= node.alarms()
            fake.script = lambda _request: None
            for stream in LANES:
                node.wait_receipted(stream, size=len(taken[stream]))
                assert fake.bodies(stream) == taken[stream]
            for stream in LANES:
                late = message(f"LATE-{stream}", more="OBX|1|ED|||" + "F" * BODY_BYTES)
                wait_until(
                    f"{stream} again", lambda late=late, stream=stream: node.send(late, feed=stream)[0].code == "AA"
                )
                taken[stream].append(late)
                node.wait_receipted(stream, size=len(taken[stream]))
                assert fake.bodies(stream) == taken[stream]
            wait_until("no alarm", lambda: not {code for code, _ in node.alarms()} & {"NOD-10", "NOD-30"})
            assert node.process.pid == pid
            assert node.process.poll() is None


def occupy(folder: Path) -> Path:
    """Fill what is left of the disk, as logs gone wild do."""
    file = folder / "foreign"
    with file.open("wb", buffering=0) as out:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    out.write(b"L" * size)
            except OSError:
                continue
    return file


def shorten_wal(node: Node) -> None:
    connection = apsw.Connection(str(node.store))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


def taken_until_refused(node: Node, stream: str) -> list[bytes]:
    """What still found place, in the WAL that was there already, before the node had looked at the disk again."""
    taken: list[bytes] = []
    while True:
        raw = message(f"N-{stream}-{len(taken)}")
        if node.send(raw, feed=stream)[0].code == "AR":
            return taken
        taken.append(raw)


@pytest.mark.parametrize("ballast", ["kept", "eaten"])
@pytest.mark.parametrize("node", ["tmpfs", "ext4"], indirect=True)
def test_a_disk_that_others_filled_to_the_last_byte_still_drains_and_starts_and_recovers_by_itself(
    node, realm, ballast
):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with running(node, before=EAGER):
            raws = {
                stream: [message(f"S-{stream}-{n}", more="OBX|1|ED|||" + "F" * 9000) for n in range(40)]
                for stream in LANES
            }
            for stream in LANES:
                node.send(*raws[stream], feed=stream)
            assert node.stop() == 0
        shorten_wal(node)
        with running(node, before=EAGER):  # all that others cannot take is what the node holds of its WAL
            wait_until("the ballast", (node.data / "ballast").exists)
            if ballast == "eaten":  # dropped too early, while others were still writing
                (node.data / "ballast").unlink()
            foreign = occupy(node.data)
            for stream in LANES:
                raws[stream] += taken_until_refused(node, stream)
            fake.script = lambda _request: None
            for stream in LANES:
                node.wait_receipted(stream, size=len(raws[stream]))
                assert fake.bodies(stream) == raws[stream]
            wait_until("trimmed bodies", lambda: not any(any(node.bodies(stream)) for stream in LANES))
            node.restart(before=EAGER)
            assert (ballast == "eaten") is not bool(node.log("ballast.dropped"))
            assert node.send(message("NO-2"), feed="his")[0].code in {"AA", "AR"}
            foreign.unlink()
            wait_until("room", lambda: node.send(message("YES"), feed="adt")[0].code == "AA")
            wait_until("the ballast again", lambda: (node.data / "ballast").exists())
            assert (node.data / "ballast").stat().st_size == BALLAST_BYTES
            wait_until("no alarm", lambda: node.alarms() == set())


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_journal_that_finds_too_little_room_takes_none_of_it(kind, tmp_path):
    with small_disk(kind, tmp_path / "disk"):
        store = tmp_path / "disk" / "outbox.db"
        wal = store.with_name("outbox.db-wal")
        wal.write_bytes(bytes(32))
        with (tmp_path / "disk" / "others").open("wb") as others:
            os.posix_fallocate(others.fileno(), 0, free_bytes(tmp_path / "disk") - 3 * MIB)
        before = free_bytes(tmp_path / "disk")
        assert not hold_journal(store, JOURNAL_BYTES)
        assert wal.stat().st_size == 32
        assert before - free_bytes(tmp_path / "disk") <= 4096  # a block of the file system's own
        assert hold_journal(store, 0) is False
        (tmp_path / "disk" / "others").unlink()
        assert hold_journal(store, JOURNAL_BYTES)
