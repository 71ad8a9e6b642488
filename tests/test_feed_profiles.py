"""The device profile that a feed names stands in each of its records: by it anybody may read later what the bytes mean."""

import hashlib
import random
import socket
from pathlib import Path

import pytest

from node.devices.profiles import text_of
from node.tools.simulate_poct1a import Device
from sync.header import PROFILE
from sync.record import Kind
from tests.astm_rig import AstmFeed, Instrument, result
from tests.device_captures import BODIES
from tests.folder_rig import FolderOf
from tests.kill_sources.poct1a import PoctFeed
from tests.node_rig import Feed, Node, message, running, wait_until
from tests.seen_rig import Seen
from tests.serial_rig import Printer

KINDS = {"astm": "sysmex-xn", "line": "urine-strip-lines", "folder": "qpcr-csv", "poct1a": "abbott-istat", "mllp": "hl7-analyzer"}  # fmt: skip


class Site:
    """A node with a feed of each kind that has a profile, each of the site's own, and an ASTM feed without one."""

    def __init__(self, realm, folder: Path) -> None:
        self.profiles, self.drop = folder / "profiles", folder / "drop"
        self.profiles.mkdir()
        self.drop.mkdir()
        self.write("first")
        named = {kind: f'{"device_" if kind == "mllp" else ""}profile = "our-{kind}"' for kind in KINDS}
        feeds = [
            AstmFeed("astm", lines=named["astm"]), Printer("line", lines=named["line"]), FolderOf("folder", listen=("x",), path=self.drop, lines=named["folder"]),
            PoctFeed("poct1a", stream="poct1a", lines=named["poct1a"]), Feed("mllp", stream="mllp", lines=named["mllp"]), AstmFeed("bare"),
        ]  # fmt: skip
        self.node = Node(realm, folder / "node", feeds=feeds, more=f'[devices]\nprofiles = "{self.profiles}"')
        self.sent = 0

    def write(self, version: str) -> None:
        """Have the profiles say something else."""
        for kind, name in KINDS.items():
            (self.profiles / f"our-{kind}.toml").write_text(f"{text_of(name)}\n# {version}\n", encoding="utf-8")

    def mark(self, kind: str) -> list[object]:
        """What a record of this feed says of the profile as it lies in the folder now."""
        text = (self.profiles / f"our-{kind}.toml").read_bytes()
        return [f"our-{kind}", hashlib.sha256(text).digest()[:8]]

    def send(self, kind: str) -> Seen:
        """Have the device say something; its newest record, a message."""
        self.sent += 1
        count, address = len(self.messages(kind)), self.node.feed(kind).address
        match kind:
            case "astm" | "bare":
                with Instrument(address) as instrument:
                    instrument.send(result(self.sent), size=20)
            case "line":
                with socket.create_connection(address) as device:  # a pause ends its report, and it stays for that
                    device.sendall(BODIES["urine-strip-lines"])
                    wait_until("a record of line", lambda: len(self.messages(kind)) > count)
            case "folder":
                (self.drop / f"{self.sent}.csv").write_bytes(BODIES["qpcr-csv"])
            case "poct1a":
                device_of_poct = Device(f"SN-{self.sent}", random.Random(self.sent))
                device_of_poct.measure(1)
                device_of_poct.connect(*address)
            case "mllp":
                with self.node.mllp("mllp") as mllp:
                    mllp.exchange(message(f"M-{self.sent}"))
        wait_until(f"a record of {kind}", lambda: len(self.messages(kind)) > count)
        return self.messages(kind)[-1]

    def messages(self, kind: str) -> list[Seen]:
        return [seen for seen in self.node.records(kind) if seen.header.kind is Kind.MESSAGE]


@pytest.fixture
def site(realm, tmp_path):
    site = Site(realm, tmp_path)
    with running(site.node):
        yield site


def test_each_record_names_its_feeds_profile_by_the_text_that_was_read_at_the_start(site):
    first = {kind: site.mark(kind) for kind in KINDS}
    assert {kind: site.send(kind).particulars.get(PROFILE) for kind in KINDS} == first
    assert PROFILE not in site.send("bare").particulars
    site.write("second")
    assert site.send("astm").particulars[PROFILE] == first["astm"]
    site.node.restart()
    second = {kind: site.mark(kind) for kind in KINDS}
    assert {kind: site.send(kind).particulars.get(PROFILE) for kind in KINDS} == second
    assert not any(first[kind] == second[kind] for kind in KINDS)
    for kind in KINDS:  # every record of a poct1a conversation too, and nothing else about them changed
        assert {tuple(seen.particulars[PROFILE]) for seen in site.messages(kind)} == {tuple(first[kind]), tuple(second[kind])}  # fmt: skip


def test_what_is_left_of_a_transfer_that_a_kill_cut_off_names_it_too(site):
    with Instrument(site.node.feed("astm").address) as instrument:
        instrument.begin()
        for frame in instrument.frames(result())[:3]:
            instrument.exchange(frame)
        site.node.kill()
    site.node.start()
    (seen,) = site.node.records("astm")
    assert (seen.header.kind, seen.particulars[PROFILE]) == (Kind.INCOMPLETE, site.mark("astm"))


def test_a_report_and_a_file_that_are_not_whole_name_it_too(site):
    with socket.create_connection(site.node.feed("line").address) as device:
        device.sendall(b"x" * 70_000)
    (site.drop / "long.csv").write_bytes(bytes(21 * 1024 * 1024))
    for kind in ("line", "folder"):
        seen = wait_until(f"a record of {kind}", lambda kind=kind: [each for each in site.node.records(kind) if each.header.kind is Kind.INCOMPLETE])[0]  # fmt: skip
        assert seen.particulars[PROFILE] == site.mark(kind)
