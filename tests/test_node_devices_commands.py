"""`wasl devices`: what a technician sees of profiles and captures."""

import json

import pytest
from click.testing import CliRunner

from node.cli.main import main
from node.devices.profiles import text_of
from tests.device_captures import BODIES, framed


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.output


@pytest.fixture
def capture(tmp_path):
    file = tmp_path / "line.cap"
    file.write_bytes(framed(BODIES["sysmex-xn"]))
    return str(file)


def test_every_profile_is_listed_and_shown_as_it_stands():
    code, text = run("devices", "list")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == sorted(BODIES)
    assert run("devices", "show", "fridge-modbus") == (0, text_of("fridge-modbus"))


def test_a_capture_is_told_as_frames_readings_resources_and_findings(capture):
    code, text = run("devices", "test", "sysmex-xn", "--capture", capture, "--zone", "+03:00")
    assert code == 0, text
    for words in ("frame 1, ", "a message of ", "WBC = 6.80 10*3/uL  [6690-2]", "4 Observation", "furlong", "الحربي"):
        assert words in text
    assert "no time zone" in run("devices", "test", "sysmex-xn", "--capture", capture)[1]


def test_a_technicians_own_profile_is_tried_from_its_file(tmp_path, capture):
    own = tmp_path / "our-xn.toml"
    own.write_text(text_of("sysmex-xn").replace("[codes]", '[units]\nfurlong = "[fur_us]"\n[codes]'), encoding="utf-8")
    code, text = run("devices", "test", str(own), "--capture", capture, "--zone", "+03:00")
    assert code == 0
    assert "unit is in no table" not in text
    own.write_text('kind = "astm"\ncolour = 1\n', encoding="utf-8")
    code, text = run("devices", "test", str(own), "--capture", capture)
    assert (code, "PRF-01" in text, "title" in text) == (1, True, True)


def test_a_profile_or_zone_that_is_none_is_refused_with_what_there_is(capture):
    code, text = run("devices", "show", "sysmex")
    assert code == 1
    assert "sysmex-xn" in text
    assert run("devices", "test", "sysmex-xn", "--capture", capture, "--zone", "Mars")[0] == 64


def test_convert_takes_what_a_device_sent(tmp_path, capture):
    done = CliRunner().invoke(
        main, ["convert", capture, "--profile", "sysmex-xn", "--zone", "+03:00", "--facility", "clinic-7"]
    )
    assert done.exit_code == 0, done.output
    bundle = json.loads(done.stdout)
    assert {"Device", "Observation", "DiagnosticReport", "Specimen", "Patient"} == {
        each["resource"]["resourceType"] for each in bundle["entry"]
    }
    assert "furlong" in done.stderr
    empty = tmp_path / "query.astm"
    empty.write_bytes(b"H|\\^&\rQ|1|^S-1||ALL\rL|1|N\r")
    done = CliRunner().invoke(main, ["convert", str(empty), "--profile", "sysmex-xn"])
    assert (done.exit_code, "query" in done.output) == (1, True)
