"""Message profiles: checked in a process of its own, with a time for each message, and no value of a message in what is found."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.quality import profile as module
from node.quality.profile import ProfileCheck
from node.quality.profile_worker import read_profile
from tests.node_rig import ROOT, Feed, Node, calm, message

NAMES = {"MSH": 21, "EVN": 7, "PID": 30}
LEAST = {"MSH_9", "PID_7"}


def field(name, number):
    least = 1 if f"{name}_{number}" in LEAST else 0
    return (
        f"{name}_{number}",
        ("leaf", None, "ST", f"FIELD {number}", "HL70001" if (name, number) == ("PID", 8) else None, 0),
        (least, -1),
        "FIE",
    )


def profile_file(folder):
    """A profile as hl7apy_profile_parser writes it: MSH, EVN, PID with a birth date."""
    segments = tuple(
        (name, ("sequence", tuple(field(name, number) for number in range(1, count + 1))), (1, 1), "SEG")
        for name, count in NAMES.items()
    )
    path = folder / "adt_a01"
    path.write_bytes(pickle.dumps({"ADT_A01": ("sequence", segments)}, protocol=2))
    return path


@pytest.fixture
def structure():
    with ProfileCheck() as worker:
        yield worker


def good(**options):
    return message("P-1", kind="ADT^A01^ADT_A01", more="PV1|1|I\r", **options)


def test_a_message_that_follows_the_standard_has_no_finding_and_one_that_does_not_has(structure):
    assert structure.ask(good()) == []
    assert any("PV1" in line for line in structure.ask(good().replace(b"PV1|1|I\r", b"")))


def test_a_profile_asks_for_more_than_the_standard(tmp_path, structure):
    raw = message("P-2", kind="ADT^A01^ADT_A01")
    with ProfileCheck(profile_file(tmp_path)) as worker:
        assert any("Missing required child PID.PID_7" in line for line in worker.ask(raw))
        assert not any(
            "Missing required child PID.PID_7" in line for line in worker.ask(raw.replace(b"^Test", b"^Test||19800101"))
        )


def test_what_is_found_holds_no_value_of_the_message(structure):
    raw = good(name="سري").replace(b"^Test", b"^Test||SECRETDATE|SECRETSEX").replace(b"PV1|1|I", b"PV1|1|SECRETCLASS")
    found = structure.ask(raw)
    assert any("HL70001" in line for line in found)
    assert not any("SECRET" in line or "سري" in line for line in found)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nothing",
        b"MSH|^~\\&|",
        b"\xff" * 100,
        good().replace(b"2.5.1", b"9.9"),
        good().replace(b"|^~\\&|", b"|^~\\&#|"),
    ],
)
def test_no_bytes_end_the_worker(structure, raw):
    assert structure.ask(raw)
    process = structure._process
    assert structure.ask(good()) == []
    assert structure._process is process


def test_a_message_that_takes_too_long_is_not_checked_and_the_next_one_is(monkeypatch, tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import sys, time\nsys.stdin.buffer.read(1)\ntime.sleep(3600)\n")
    monkeypatch.setattr(module, "START_S_MAX", 0.5)
    with ProfileCheck(command=(sys.executable, str(slow))) as worker:
        assert worker.ask(good()) is None
        assert worker._process is None
        worker._command = (sys.executable, "-m", "node.quality.profile_worker")
        monkeypatch.setattr(module, "START_S_MAX", 20.0)
        assert worker.ask(good()) == []


def test_what_is_too_large_is_not_asked(structure):
    assert structure.ask(b"M" * (module.MESSAGE_BYTES_MAX + 1)) is None
    assert structure._process is None


class Danger:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/wasl-danger",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        pickle.dumps([1]),
        pickle.dumps({}),
        pickle.dumps({"ADT_A01": Danger()}),
        pickle.dumps({"A": b"x"})[:-3],
    ],
)
def test_a_file_that_is_no_profile_or_more_than_data_is_refused(data):
    with pytest.raises(ValueError, match="not a message profile"):
        read_profile(data)
    assert not Path("/tmp/wasl-danger").exists()


def test_the_worker_ends_with_its_parent(tmp_path):
    code = (
        "from node.quality.profile import ProfileCheck\nfrom tests.test_node_profile import good\n"
        "worker = ProfileCheck()\nworker.ask(good())\nprint(worker._process.pid, flush=True)\nimport os\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=calm(), capture_output=True, text=True)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_the_command_line_shows_it_beside_the_feeds_verdict(realm, tmp_path):
    path = Node(realm, tmp_path, feeds=[Feed("his")]).config()
    file = tmp_path / "day.hl7"
    file.write_bytes(good() + message("P-9", kind="ADT^A01^ADT_A01"))
    command = [sys.executable, "-m", "node.cli", "feed", "test", "--config", str(path), "--structure", "his", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=calm(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "message 1: 0 findings" in done.stdout
    assert "message 2: 1 findings" in done.stdout
