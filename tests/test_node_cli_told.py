"""What a person does wrong at the command line is told in a line, with an exit code of its own, and never with a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.cli.main import main
from node.tools.demo_folder import DemoFolder
from tests.waiting import wait_until

GONE = "127.0.0.1:1"  # where nothing listens
LINES_MAX = 6  # click's usage lines


def said(*words: str, code: int) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    assert len(done.stderr.strip().splitlines()) < LINES_MAX
    return done.output


@pytest.mark.parametrize(
    "words",
    [("status", "--nonsense"), ("doctor", "more"), ("nonsense",), ("verify",), ("verify", "/nowhere"), ("simulate", "hl7")],
)  # fmt: skip
def test_a_slip_is_64_and_not_the_2_of_a_node_that_failed(words):
    said(*words, code=64)


def test_so_it_is_at_the_gateway():
    assert (
        subprocess.run([sys.executable, "-m", "gateway", "--nonsense"], capture_output=True, check=False).returncode
        == 64
    )


@pytest.mark.parametrize("kind", ["hl7", "astm", "pcd01", "poct1a", "serial-lines"])
def test_a_simulator_names_an_address_that_is_none(kind):
    assert "'garbage' is not host:port" in said("simulate", kind, "--to", "garbage", "--count", "1", code=1)


@pytest.mark.parametrize(
    "words",
    [
        ("hl7", "--to", GONE, "--rate", "0"),
        ("hl7", "--to", GONE, "--kinds", "NONE"),
        ("serial-lines", "--to", GONE),
        ("serial-lines", "--link", "/nowhere/tty"),
        ("mqtt", "--to", f"mqtt://{GONE}", "--count", "1"),
        ("modbus", "--port", "/nowhere"),
        ("law", "--to", GONE, "--listen", "x"),
    ],
)
def test_a_simulator_that_cannot_says_why(words):
    said("simulate", *words, code=1)


def test_a_release_says_what_is_in_its_way(tmp_path):
    (tmp_path / "token").write_text("t")
    release = (
        "release",
        "clinic-7",
        "--gateway",
        "central",
        "--token",
        str(tmp_path / "token"),
        "--identity",
        str(tmp_path),
    )
    said(*release, "--yes", "--api", f"http://{GONE}", code=1)
    said(*release, "--yes", "--api", "garbage:port", code=1)


def test_a_body_that_cannot_be_written_is_not_taken_for_an_unproved_record(tmp_path):
    vector = json.loads(Path("tests/vectors/evidence.json").read_text())
    (tmp_path / "record.evidence").write_bytes(bytes.fromhex(vector["present"]))
    told = said("verify", str(tmp_path / "record.evidence"), "--body", str(tmp_path / "no/such"), code=73)
    assert "PROVED: record" in told
    assert "not written" in told


@pytest.mark.parametrize(
    "device", [("astm", "--each", "9"), ("serial-lines", "--every", "9")], ids=["astm", "serial-lines"]
)
def test_the_name_of_a_simulated_port_goes_with_its_simulator(tmp_path, device):
    """The kernel gives the number of its pseudo-terminal to the next: a name that stays leads a node to somebody else's terminal."""
    link = tmp_path / "port"
    simulator = subprocess.Popen([sys.executable, "-m", "node.cli", "simulate", *device, "--link", str(link)])
    try:
        wait_until("the port", link.is_symlink)
        simulator.terminate()
        assert simulator.wait(20) == 0
        assert not link.is_symlink()
    finally:
        simulator.kill()
        simulator.wait()


def test_a_demo_that_was_killed_leaves_no_name_of_a_port_to_the_next(tmp_path):
    link = tmp_path / "devices/haematology/tty"
    link.parent.mkdir(parents=True)
    link.symlink_to("/dev/pts/0")
    DemoFolder(tmp_path).close()
    assert not link.is_symlink()
