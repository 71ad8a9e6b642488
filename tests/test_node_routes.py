"""A running node sends each message where its feed's rules say, keeps tests apart, and lets a vendor try a feed before go-live."""

import subprocess
import sys

import pytest

from node.config.config import check as check_config
from node.config.config import load
from node.feeds.trial import judge, messages_in, report
from sync.record import Kind, Verdict
from tests.node_rig import ROOT, Feed, Node, Realm, free_port, message, running
from tests.node_rig import calm as environment

ROUTES = """
[[feeds.routes]]
types = ["ORU^*"]
when = { "OBX-8" = ["HH", "LL"] }
stream = "critical-results"
[[feeds.routes]]
types = ["SIU"]
"""
STREAMS = '[[streams]]\nname = "critical-results"\nlane = "critical"\n'


@pytest.fixture(scope="module")
def trial_port():
    return free_port()


@pytest.fixture(scope="module")
def node(tmp_path_factory, trial_port):
    realm = Realm.make(tmp_path_factory.mktemp("realm"))
    lines = f'test_stream = "his-test"\ntrial_listen = ["127.0.0.1:{trial_port}"]'
    feeds = [Feed("his", lines=lines, more=ROUTES), Feed("plain")]
    with running(Node(realm, tmp_path_factory.mktemp("node"), feeds=feeds, more=STREAMS)) as found:
        yield found


def oru(control_id, flag="N", kind="ORU^R01", **options):
    return message(control_id, kind=kind, more=f"OBR|1\rOBX|1|NM|K||6.9|||{flag}\r", **options)


def as_test(raw, letter=b"T"):
    return raw.replace(b"|P|2.5.1", b"|%b|2.5.1" % letter)


def test_a_critical_result_goes_to_its_own_stream_and_says_what_it_came_after(node):
    before = node.stream().size
    assert [reply.code for reply in node.send(oru("R-1"), oru("R-2", "HH"), oru("R-3"))] == ["AA"] * 3
    assert [seen.control_id for seen in node.records("his", before)] == ["R-1", "R-3"]
    critical = node.records("critical-results")[-1]
    assert critical.control_id == "R-2"
    assert critical.header.after == ("his", 1, before)
    assert critical.header.feed == "his"


def test_what_a_filter_refuses_is_answered_and_recorded(node):
    size = node.stream().size
    (reply,) = node.send(message("F-1", kind="SIU^S12"))
    assert (reply.code, reply.error) == ("AR", "200")
    (seen,) = node.records("his", size)
    assert (seen.header.verdict, seen.refusal) == (Verdict.REJECTED, "HL7-15")


@pytest.mark.parametrize("letter", [b"T", b"D"])
def test_training_and_debugging_messages_go_to_the_test_stream_marked_as_tests_whatever_they_hold(node, letter):
    size = node.stream().size
    assert node.send(as_test(oru(f"T-{letter.decode()}", "HH"), letter))[0].code == "AA"
    seen = node.records("his-test")[-1]
    assert (seen.header.kind, seen.control_id) == (Kind.TEST, f"T-{letter.decode()}")
    assert node.stream().size == size
    assert all(found.header.kind is Kind.MESSAGE for found in node.records("critical-results"))


def test_a_feed_without_a_test_stream_marks_them_in_its_own(node):
    assert node.send(as_test(message("T-2")), message("P-2"), feed="plain")[0].code == "AA"
    assert [seen.header.kind for seen in node.records("plain")] == [Kind.TEST, Kind.MESSAGE]


def test_the_same_message_as_test_and_as_production_is_two_records(node, trial_port):
    raw = message("BOTH-1")
    sizes = node.stream().size, node.stream("his-test").size
    trial = Feed("his", port=trial_port)
    with running_connection(trial) as mllp:
        assert mllp.exchange(raw).code == "AA"
    assert node.send(raw)[0].code == "AA"
    assert (node.stream().size, node.stream("his-test").size) == (sizes[0] + 1, sizes[1] + 1)


def running_connection(feed):
    from tests.node_rig import Mllp

    return Mllp(feed.address)


def test_all_that_comes_to_the_trial_port_is_a_test_and_its_report_names_each_verdict(node, trial_port):
    with running_connection(Feed("his", port=trial_port)) as mllp:
        assert mllp.exchange(message("TRY-1")).code == "AA"
        assert mllp.exchange(message("TRY-2", kind="SIU^S12")).code == "AR"
    config = load(node.folder / "node.toml")
    good, bad = report(config, config.feeds[0], 2)
    assert (good.control_id, good.outcome, good.code) == ("TRY-1", "accepted", "")
    assert (bad.control_id, bad.outcome, bad.code, bad.location) == ("TRY-2", "rejected", "HL7-15", "MSH^1^9")
    assert good.at.endswith("Z")


def wasl(node, *arguments):
    command = [
        sys.executable,
        "-m",
        "node.cli",
        *arguments[:2],
        "--config",
        str(node.folder / "node.toml"),
        *arguments[2:],
    ]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_the_command_line_tells_a_vendor_what_would_be_said_to_a_file(node, tmp_path):
    file = tmp_path / "day.hl7"
    file.write_bytes((message("V-1") + oru("V-2", "HH") + message("V-3", kind="SIU^S12")).replace(b"\r", b"\r\n"))
    done = wasl(node, "feed", "test", "his", str(file))
    assert done.returncode == 1, done.stderr
    assert "V-2  ORU^R01  accepted -> critical-results" in done.stdout
    assert "V-3  SIU^S12  rejected -> his  [HL7-15] at MSH^1^9" in done.stdout
    assert "3 messages, 1 would be refused" in done.stdout
    told = wasl(node, "feed", "report", "his", "--last", "2")
    assert told.returncode == 0, told.stderr
    assert "2 tests" in told.stdout
    assert wasl(node, "feed", "report", "none").returncode == 64


@pytest.mark.parametrize("ends", [b"\r", b"\n", b"\r\n"])
def test_the_messages_of_a_file_are_found_whatever_ends_their_lines_and_frames_them(ends):
    both = [message("A"), message("B")]
    assert messages_in(b"".join(both).replace(b"\r", ends)) == both
    assert messages_in(b"".join(b"\x0b" + raw + b"\x1c\r" for raw in both)) == both
    assert messages_in(b"\xef\xbb\xbf\r\n" + (ends * 2).join(raw.replace(b"\r", ends) for raw in both)) == both
    assert messages_in(b"") == []


def test_a_batch_in_a_file_is_judged_message_by_message(node):
    config = load(node.folder / "node.toml")
    raw = b"BHS|^~\\&|A|B\r" + message("A") + message("B", kind="SIU^S12") + as_test(message("C")) + b"BTS|3\r"
    assert [(each.control_id, each.code) for each in judge(config.feeds[0], raw)] == [
        ("A", ""),
        ("B", "HL7-15"),
        ("C", "HL7-07"),
    ]


@pytest.mark.parametrize(
    ("lines", "streams", "wrong"),
    [
        ('test_stream = "his"', "", "is a stream of production messages"),
        ('test_stream = "lab"', '[[streams]]\nname = "lab"\n', "is not marked test = true"),
        ("", '[[streams]]\nname = "his"\ntest = true\n', "is a stream of production messages"),
        ('trial_listen = ["127.0.0.1:{port}"]', "", "is listened on already"),
    ],
)
def test_a_stream_is_of_tests_or_of_production_never_both(tmp_path, lines, streams, wrong):
    realm = Realm.make(tmp_path / "realm")
    feed = Feed("his")
    feed.lines = lines.format(port=feed.port)
    path = Node(realm, tmp_path, feeds=[feed], more=streams).config()
    assert any(wrong in str(problem) for problem in check_config(path))
