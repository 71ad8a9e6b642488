"""Profiles in the configuration: `wasl check-config` says which of them would stop a feed, and why."""

from pathlib import Path

import pytest

from node.config.config import check, load
from node.devices.profiles import text_of
from tests.test_node_config import SMALLEST

FEED = '[[feeds]]\nname = "lab"\nkind = "astm"\nlisten = ["127.0.0.1:4010"]\nprofile = "{}"\n'


@pytest.fixture
def said(tmp_path):
    def problems_of(profile: str, more: str = "") -> list[str]:
        for name in ("link.key", "link.pem", "log.key", "log.pem", "ca.pem"):
            (tmp_path / name).touch()
        (tmp_path / "profiles").mkdir(exist_ok=True)
        file = tmp_path / "node.toml"
        file.write_text(SMALLEST + '[devices]\nprofiles = "profiles"\n' + FEED.format(profile) + more, encoding="utf-8")
        assert load(file).devices.profiles == Path(tmp_path / "profiles")
        return [each.message for each in check(file)]

    return problems_of


def test_a_shipped_profile_and_a_sites_own_are_good(said, tmp_path):
    assert said("sysmex-xn") == []
    assert said("our-xn") != []
    (tmp_path / "profiles/our-xn.toml").write_text(text_of("sysmex-xn"), encoding="utf-8")
    assert said("our-xn") == []


def test_a_profile_that_is_not_there_or_not_readable_is_a_problem_that_names_its_key(said, tmp_path):
    assert "sysmex-xn" in said("sysmex")[0]
    (tmp_path / "profiles/our-xn.toml").write_text(text_of("sysmex-xn") + 'colour = "red"\n', encoding="utf-8")
    assert "codes.colour" in said("our-xn")[0]


def test_a_profile_of_another_kind_or_with_a_switch_that_the_feed_refuses_is_a_problem(said, tmp_path):
    assert '"mllp"' in said("mindray-bc")[0]
    (tmp_path / "profiles/our-xn.toml").write_text(
        text_of("sysmex-xn").replace("[link]\n", '[link]\nframe_end = "lf"\n'), encoding="utf-8"
    )
    assert "frame_end" in said("our-xn")[0]
    (tmp_path / "profiles/our-xn.toml").write_text(text_of("sysmex-xn").replace("19200", "12345"), encoding="utf-8")
    serial = (
        FEED.format("our-xn").replace('listen = ["127.0.0.1:4010"]\n', "").replace('"lab"', '"lab2"')
        + '[feeds.serial]\nport = "/dev/serial/by-id/x"\n'
    )
    assert any("baud" in each for each in said("sysmex-xn", serial))


NAMED = {
    "folder": 'path = "drop"\nprofile = "{}"\n',
    "poct1a": 'listen = ["127.0.0.1:4011"]\nprofile = "{}"\n',
    "mllp": 'listen = ["127.0.0.1:4011"]\ndevice_profile = "{}"\n',
}


@pytest.mark.parametrize(("kind", "good"), [("folder", "qpcr-csv"), ("poct1a", "abbott-istat"), ("mllp", "monitor-pcd01")])  # fmt: skip
def test_a_profile_of_files_point_of_care_devices_and_hl7_is_read_and_must_be_of_its_feeds_kind(said, kind, good):
    def refused(name: str) -> list[str]:
        return said("sysmex-xn", f'[[feeds]]\nname = "device"\nkind = "{kind}"\n' + NAMED[kind].format(name))

    assert refused(good) == []
    assert f'"{kind}"' in refused("sysmex-xn")[0]
    assert "cannot be read" in refused("no-such")[0]


LINE = '[[feeds]]\nname = "printer"\nkind = "line"\nlisten = ["127.0.0.1:4011"]\nprofile = "our-printer"\n'
BLOCKS = 'ends = "block"\ncheck = "xor-hex"'


@pytest.mark.parametrize(
    ("link", "own", "refused"),
    [
        (BLOCKS, "", []),
        (BLOCKS, 'start = "STX"\nend = 3\ncovers = "text-and-end"\nquiet_ms = 500\nreport_kb_max = 4\nanswer = "ACK"', []),
        (BLOCKS, 'ends = "lines"', ["ends"]),
        (BLOCKS, 'check = "xor-byte"', ["check"]),
        (BLOCKS, 'covers = "all"\nend = "ETB"', ["end", "covers"]),
        (BLOCKS, 'start = "="', ["start"]),
        ('ends = "block"', 'covers = "all"', []),  # without a check it covers nothing
        ("", 'line_end = "any"', []),
        ("", 'line_end = "crlf"', ["line_end"]),
        ("", 'ends = "pause"', ["ends"]),
        ('ends = "pause"', "quiet_ms = 3000", []),
        ('ends = "fixed"\nlength = 20', "length = 21", ["length"]),
        ('ends = "lines"\nlength = 20', "length = 21", []),  # no line is cut by it
    ],
)  # fmt: skip
def test_own_keys_of_a_line_that_cut_reports_otherwise_than_its_profile_are_refused(said, tmp_path, link, own, refused):
    said("sysmex-xn")
    (tmp_path / "profiles/our-printer.toml").write_text(PRINTER.format(link=link), encoding="utf-8")
    found = said("sysmex-xn", LINE + own + "\n")
    assert len(found) == len(refused), found
    assert all("[PRF-02]" in each for each in found)
    assert [each.key for each in check(tmp_path / "node.toml")] == [f"feeds[printer].{key}" for key in refused]


PRINTER = """
title = "Invented"
source = "none"
kind = "line"
patterns = ['(?P<code>\\S+) +(?P<value>\\S+)']
[device]
manufacturer = "Invented"
model = "P-1"
[identity]
[codes]
GLU = "14749-6 Glucose [Moles/volume] in Serum or Plasma"
[link]
{link}
"""
