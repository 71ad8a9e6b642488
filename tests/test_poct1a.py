"""POCT1-A at a node: nothing that a device deletes is lost, and no device keeps the others out."""

import contextlib
import random
import socket
import time
from types import SimpleNamespace

import pytest

from hl7.devices.poct1a_conversation import Manners
from hl7.devices.xml_documents import Divider
from node.feeds.open_frames import TURN_S_MAX, OpenFrames
from node.feeds.poct1a_connection import DOCUMENT_S_MAX, WAITING_MAX, Poct1aConnection
from node.lines.trace import LineTrace
from node.tools.simulate_poct1a import Device
from tests.kill_sources.poct1a import PoctFeed
from tests.node_rig import Node, running, wait_until
from tests.poct1a_rig import HELLO, MIB, RESULT, document, kind_of


@pytest.fixture
def node(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[PoctFeed("poct", stream="poct")])) as node:
        yield node


def talk(node, *documents):
    """Send each and read what is said until its acknowledgement; what was said."""
    said = []
    with socket.create_connection(node.feed("poct").address, 20) as peer:
        divider = Divider(MIB)
        for raw in documents:
            peer.sendall(raw)
            kinds = []
            while not any(kind[0] == "ACK" for kind in kinds):
                data = peer.recv(65536)
                if not data:
                    return said
                kinds += [kind_of(each.raw) for each in divider.feed(data)]
            said += kinds
    return said


def test_results_are_records_with_their_bytes_and_the_devices_name_before_the_id(node):
    device = Device("SN-77", random.Random(5))
    device.measure(12)
    results = list(device.results)
    assert device.connect(*node.feed("poct").address) == 12
    records = node.records("poct")
    assert [seen.header.message_type for seen in records[:2]] == ["HEL.R01", "DST.R01"]
    observations = records[2:]
    assert [result in seen.body for seen, result in zip(observations, results, strict=True)] == [True] * 12
    assert {seen.header.content_type for seen in records} == {"application/vnd.clsi.poct1a+xml"}
    assert all(seen.control_id.startswith("SN-77/") for seen in records)
    assert "OBS.R02" in {seen.header.message_type for seen in observations}


def test_a_repeat_is_acknowledged_again_and_not_stored_twice(node):
    device = Device("SN-78", random.Random(6))
    device.measure(6)
    device.connect(*node.feed("poct").address, "repeat")
    assert len(node.records("poct")) == 2 + 6


def test_a_doctype_is_refused_recorded_and_ends_the_connection(node):
    with socket.create_connection(node.feed("poct").address, 20) as peer:
        peer.sendall(b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><HEL.R01>&a;</HEL.R01>')
        assert peer.recv(100) == b""
    (seen,) = node.records("poct")
    assert (seen.refusal, seen.header.verdict.name) == ("POC-02", "REJECTED")


def test_a_fault_inside_is_stored_as_it_came_and_the_next_document_is_served(node):
    bad = document("OBS.R01", "3", "<SVC>&undefined;</SVC>")
    assert talk(node, HELLO, bad, RESULT) == [("ACK", "AA", "1"), ("ACK", "AA", "3"), ("ACK", "AA", "3")]
    records = node.records("poct")
    assert [seen.body for seen in records] == [HELLO, bad, RESULT]
    assert records[1].refusal == "POC-06"


def test_a_connection_cut_inside_a_document_leaves_an_incomplete_record(node):
    with socket.create_connection(node.feed("poct").address, 20) as peer:
        peer.sendall(RESULT[:50])
    wait_until("the record", lambda: node.records("poct"))
    (seen,) = node.records("poct")
    assert (seen.refusal, seen.header.kind.name, seen.body) == ("POC-04", "INCOMPLETE", RESULT[:50])


def test_the_page_knows_which_devices_are_connected(node):
    with socket.create_connection(node.feed("poct").address, 20) as peer:
        peer.sendall(HELLO)
        peer.recv(1000)
        assert node.ask("status")["feeds"]["poct"]["devices"] == ["SN-1"]


def test_the_line_monitor_shows_what_was_said_and_no_value(node):
    talk(node, HELLO, RESULT)
    rows = node.ask("line poct")["rows"]
    assert {row["way"] for row in rows} == {"", "in", "out"}
    assert not any("TEST-1" in row["text"] or "SN-1" in row["text"] for row in rows)


def test_a_device_that_fills_the_line_without_reading_is_let_go(node):
    # a busy node reads on for long, and lets it go at the end: who gives up before that has not filled the line
    with socket.create_connection(node.feed("poct").address, 200) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        talks = b"".join(document("KPA.R01", str(number)) for number in range(1000))
        with contextlib.suppress(OSError):
            for _ in range(200):  # 17 MB of talk, 35 MB of answers: more than any buffers on the way hold
                peer.sendall(talks)
        wait_until("it is let go", lambda: node.ask("status")["feeds"]["poct"]["connections"] == 0)


class Transport:
    reading, is_aborted = True, False

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def abort(self):
        self.is_aborted = True

    def get_extra_info(self, _name):
        return ("127.0.0.1", 1)


class Seconds:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def connected(frames=None):
    """A connection whose documents nobody answers, and its transport."""
    feed = SimpleNamespace(
        feed=SimpleNamespace(message_bytes_max=MIB, manners=Manners()), clock=SimpleNamespace(monotonic=lambda: 0.0), connections=set(),
        trace=LineTrace(lambda: 0), noise_bytes=0, frames=frames or OpenFrames(monotonic=time.monotonic), tell=lambda *_: None,
    )  # fmt: skip
    connection = Poct1aConnection(feed)
    connection._work = lambda: None
    connection.connection_made(transport := Transport())
    return connection, transport


def test_documents_that_wait_for_their_answers_are_bounded_in_number_and_bytes():
    for size, most in ((100, WAITING_MAX + 1), (40_000, 3)):
        connection, transport = connected()
        raw = document("OBS.R01", "3", "<X>" + "x" * size + "</X>")
        for _ in range(100):
            if transport.reading:
                connection.data_received(raw)
        assert len(connection._waiting) <= most


def test_long_documents_of_several_devices_share_one_allowance_and_the_oldest_goes_on():
    frames = OpenFrames(100_000, monotonic=time.monotonic)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    assert (first.reading, second.reading) == (True, False)
    one.data_received(b"</OBS.R01>")
    assert second.reading, "the first is whole"
    other.data_received(b"x" * 80_000)
    one.connection_lost(None)
    other.connection_lost(None)
    assert frames.holders == {}


def test_a_document_that_drips_while_others_wait_is_given_up():
    seconds = Seconds()
    frames = OpenFrames(100_000, monotonic=seconds)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    seconds.now = 2 * TURN_S_MAX  # nobody waits: it may take its time
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    one.data_received(b"x")
    assert not first.is_aborted
    seconds.now += TURN_S_MAX + 1
    other.look_at_silence(seconds.now, 0)
    assert (first.is_aborted, second.is_aborted) == (True, False)


def test_a_device_that_waits_for_memory_longer_than_a_turn_has_the_oldest_given_up_and_goes_on():
    seconds = Seconds()
    frames = OpenFrames(100_000, monotonic=seconds)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    seconds.now = TURN_S_MAX - 1
    other.look_at_silence(seconds.now, 1)  # it is we who do not read: no silence of the device's
    assert (first.is_aborted, second.is_aborted) == (False, False)
    seconds.now = TURN_S_MAX + 1
    other.look_at_silence(seconds.now, 0)
    assert (first.is_aborted, second.is_aborted) == (True, False)
    one.connection_lost(None)
    assert second.reading


def test_each_device_that_waits_gives_the_next_one_a_whole_turn():
    seconds = Seconds()
    frames = OpenFrames(100_000, monotonic=seconds)
    (one, first), (other, second), (third, last) = (connected(frames) for _ in range(3))
    for each in (one, other, third):
        each.data_received(b"<OBS.R01>" + b"x" * 80_000)
    seconds.now = TURN_S_MAX + 1
    for each in (other, third):  # one after the other, as the feed looks at them
        each.look_at_silence(seconds.now, 0)
        one.connection_lost(None)
    assert (first.is_aborted, second.is_aborted, last.is_aborted) == (True, False, False)
    seconds.now += TURN_S_MAX - 1
    third.look_at_silence(seconds.now, 0)
    assert not second.is_aborted
    seconds.now += 2
    third.look_at_silence(seconds.now, 0)
    assert (second.is_aborted, last.is_aborted) == (True, False)


def test_a_device_silent_inside_a_document_is_let_go_also_where_none_is_for_resting():
    connection, transport = connected()
    connection.look_at_silence(DOCUMENT_S_MAX + 1, 0)
    assert not transport.is_aborted
    connection.data_received(b"<OBS.R01>" + b"x" * 80_000)
    connection.look_at_silence(DOCUMENT_S_MAX - 1, 0)
    assert not transport.is_aborted
    connection.look_at_silence(DOCUMENT_S_MAX + 1, 0)
    assert transport.is_aborted


def test_a_device_of_one_long_document_after_another_does_not_keep_its_turn():
    frames = OpenFrames(100_000, monotonic=time.monotonic)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    one.data_received(b"</OBS.R01><OBS.R01>" + b"x" * 80_000)  # the end of the first and most of the next in one read
    assert (first.reading, second.reading) == (False, True)


def test_a_document_that_ends_while_it_waits_for_memory_is_followed_by_the_next():
    """What the kernel had given before reading was paused may come all the same."""
    frames = OpenFrames(100_000, monotonic=time.monotonic)
    (one, _), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 60_000)
    other.data_received(b"x" * 20_000)
    assert not second.reading
    other.data_received(b"</OBS.R01>")
    other._waiting.clear()  # it is answered
    assert not other._is_full()
