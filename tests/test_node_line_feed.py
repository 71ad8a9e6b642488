"""The line feed in a real node: reports become records as they came, what is not whole is kept with its reason, and silence of the node is told."""

import json
import socket
import time

import pytest

from node.config.config import check
from node.config.line import Lines
from node.config.serial import Line
from node.lines.serial_port import Tty
from sync.record import Kind
from tests.node_rig import Node, Seen, running, wait_until
from tests.serial_rig import Cable, Printer
from tests.test_node_config_devices import PRINTER

URINE = "#0007 مريض تجريبي\r\n GLU   neg\r\n pH    6.5\r\n".encode()


def kinds(seen: list[Seen]) -> list[tuple[str, bytes]]:
    return [(each.header.kind.word, each.body) for each in seen if each.header.kind is not Kind.GAP]


def gaps(node: Node) -> list[dict]:
    return [json.loads(each.body) for each in node.records("printer") if each.header.kind is Kind.GAP]


def wait_records(node: Node, count: int) -> list[Seen]:
    wait_until(f"{count} records", lambda: len(kinds(node.records("printer"))) >= count)
    return node.records("printer")


def test_what_a_device_prints_is_at_the_node_byte_for_byte_and_a_pulled_cable_is_a_gap(realm, tmp_path):
    cable = Cable(tmp_path).plug()
    feed = Printer("printer", device=str(cable.near), lines='ends = "pause"\nquiet_ms = 150')
    try:
        with running(Node(realm, tmp_path / "node", [feed])) as node:
            wait_until("open", lambda: node.ask("status")["feeds"]["printer"]["line"]["state"] == "open")
            cable.send(URINE)
            wait_records(node, 1)
            assert gaps(node) == []  # a feed that is new was never away
            began = time.time()
            cable.pull()
            wait_until("the alarm", lambda: ("SER-01", "printer") in node.alarms())
            cable.plug()
            wait_until("no alarm", lambda: ("SER-01", "printer") not in node.alarms())
            cable.send(b"WT 71.5\r\n")
            records = wait_records(node, 2)
            assert kinds(records) == [("message", URINE), ("message", b"WT 71.5\r\n")]
            assert {each.header.content_type for each in records} == {"text/plain", "application/vnd.wasl.gap+json"}
            assert records[0].peer == str(cable.near)
            (gap,) = wait_until("the gap", lambda: gaps(node))
            assert set(gap["codes"]) == {"SER-01"}
            assert began - 5 <= gap["first_us"] / 1e6 <= gap["last_us"] / 1e6 <= time.time()
            told = node.ask("status")["feeds"]["printer"]["line"]
            assert (told["opens"], told["away"], told["doctor"]["condition"]) == (2, 1, "silent")
    finally:
        cable.pull()


def test_the_alarm_of_a_port_says_why_it_is_away_now_and_not_why_it_was_first(realm, tmp_path):
    cable = Cable(tmp_path)
    feed = Printer("printer", device=str(cable.near))
    with running(Node(realm, tmp_path / "node", [feed])) as node:
        wait_until("not there", lambda: ("SER-01", "printer") in node.alarms())
        with cable:
            wait_until("no alarm", lambda: ("SER-01", "printer") not in node.alarms())
            node.stop()
            other = Tty(Line(port=str(cable.near)))  # another program is quicker than we are
            node.start()
            wait_until("taken", lambda: ("SER-02", "printer") in node.alarms())
        wait_until("not there again", lambda: ("SER-01", "printer") in node.alarms())
        assert ("SER-02", "printer") not in node.alarms()
        other.close()


def test_the_time_in_which_the_node_did_not_run_is_a_gap_and_its_reports_are_not_repeated(realm, tmp_path):
    with Cable(tmp_path) as cable:
        node = Node(realm, tmp_path / "node", [Printer("printer", device=str(cable.near))])
        with running(node):
            wait_until("open", lambda: node.ask("status")["feeds"]["printer"]["line"]["state"] == "open")
            cable.send(b"one\r")
            wait_records(node, 1)
            node.kill()
            cable.send(b"nobody hears this\r")
            node.start()
            # on a slow machine the port may have been away for a moment at the first start, which is a gap of its own
            (gap,) = wait_until("the gap", lambda: [each for each in gaps(node) if "SER-07" in each["codes"]])
            assert gap["codes"] == {"SER-07": 1}
            assert gap["first_us"] < gap["last_us"]
            cable.send(b"two\r")
            wait_until("two", lambda: (("message", b"two\r")) in kinds(node.records("printer")))


def test_a_report_that_is_not_whole_is_an_incomplete_record_with_its_reason_and_the_device_gets_its_answer(
    realm, tmp_path
):
    lines = 'ends = "block"\ncheck = "xor-hex"\nanswer = "ACK"\nanswer_bad = "NAK"\nquiet_ms = 200\nreport_kb_max = 1'
    good = b"\x02HB 13.2\x03%02X" % (0x03 ^ 0x48 ^ 0x42 ^ 0x20 ^ 0x31 ^ 0x33 ^ 0x2E ^ 0x32)
    long = b"\x02" + b"x" * 3000 + b"\x0300"
    with running(Node(realm, tmp_path, [Printer("printer", lines=lines)])) as node:
        with socket.create_connection(node.feed("printer").address) as peer:
            peer.settimeout(40)
            for sent, answer in ((good, b"\x06"), (good[:-1] + b"?", b"\x15"), (long, b"\x15"), (b"\x02HB", b"\x15")):
                peer.sendall(b"~~" + sent)
                assert peer.recv(9) == answer
            peer.sendall(b"\x02HB 1")
        records = wait_records(node, 5)
        told = [(each.header.kind.word, each.refusal, len(each.body)) for each in records]
        assert told == [
            ("message", "", 11),
            ("incomplete", "LIN-02", 11),
            ("incomplete", "LIN-01", 1024),
            ("incomplete", "LIN-04", 3),
            ("incomplete", "LIN-03", 5),
        ]
        assert [each.frame[0] for each in records if each.refusal] == [11, 3004, 3, 5]
        assert node.ask("status")["feeds"]["printer"]["noise_bytes"] == 8


def test_a_report_that_finds_no_room_waits_and_comes_in_order_when_there_is_some(realm, tmp_path):
    # the writer's queue holds one record; what a device prints meanwhile must neither be lost nor overtake
    with running(Node(realm, tmp_path, [Printer("printer")], outbox="free_mb_min = 16\nqueue_records_max = 1")) as node:
        printed = [b"%05d\r" % number for number in range(500)]
        with socket.create_connection(node.feed("printer").address) as peer:
            peer.sendall(b"".join(printed))
            wait_until("all", lambda: node.stream("printer").size == len(printed))
        assert node.bodies("printer") == printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[feeds.serial]\nport = "/dev/ttyUSB0"', "after a restart"),
        ('listen = ["127.0.0.1:4001"]\n[feeds.serial]\nport = "/dev/ttyS0"', 'needs one of "listen"'),
        ('ends = "fixed"\nlisten = ["127.0.0.1:4001"]', 'give "length"'),
        ('ends = "pause"\ncheck = "xor-hex"\nlisten = ["127.0.0.1:4001"]', "needs an end"),
        ('check = "sum-byte"\n[feeds.serial]\nport = "/dev/ttyS0"\nflow = "xonxoff"', "takes the bytes 0x11"),
        ('ends = "block"\nstart = "SOHO"\nlisten = ["127.0.0.1:4001"]', 'a name such as "STX"'),
        ('[feeds.serial]\nport = "/dev/ttyS0"\nbaud = 9601', "must be one of"),
        ("baud = 9600\n[feeds.serial]\nport = '/dev/ttyS0'", "unknown key"),
    ],
)
def test_a_line_feed_that_cannot_be_is_refused_in_words_of_a_technician(realm, tmp_path, more, said):
    node = Node(realm, tmp_path, [])
    path = node.config()
    path.write_text(path.read_text() + f'[[feeds]]\nname = "printer"\nkind = "line"\n{more}\n')
    problems = check(path)
    assert len(problems) == 1, problems
    assert said in str(problems[0])


def test_a_profiles_framing_is_the_feeds_where_it_has_none_of_its_own():
    feed = Lines(name="printer", kind="line", connect="127.0.0.1:4001", profile="some-reader", line_end="cr")
    found = feed.with_profile(
        {"ends": "block", "line_end": "lf", "start": "=", "check": "xor-hex", "answer": "ACK", "columns": 3}
    )
    assert (found.ends, found.line_end, found.start, found.check, found.answer, found.profile) == (
        "block",
        "cr",
        0x3D,
        "xor-hex",
        6,
        "some-reader",
    )
    for wrong in ({"ends": "fixed"}, {"ends": "page"}, {"check": "crc"}):
        with pytest.raises(ValueError, match=r"length|Input should be"):
            feed.with_profile(wrong)


def test_a_feed_that_cuts_otherwise_than_its_profile_says_so_and_keeps_what_is_printed(realm, tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/ours.toml").write_text(PRINTER.format(link='ends = "block"'), encoding="utf-8")
    devices = f'[devices]\nprofiles = "{tmp_path}/profiles"'
    feeds = [Printer("own", lines='profile = "ours"\nends = "lines"'), Printer("profiles", lines='profile = "ours"')]
    with running(Node(realm, tmp_path, feeds, more=devices)) as node:
        wait_until("the alarm", lambda: ("PRF-02", "own") in node.alarms())
        assert ("PRF-02", "profiles") not in node.alarms()
        with socket.create_connection(node.feed("own").address) as peer:
            peer.sendall(b"GLU 5.4\r")
            wait_until("its report", lambda: node.bodies("own") == [b"GLU 5.4\r"])
