"""An ASTM feed in a real node: acknowledged means durable; repetitions, cuts and kills leave each result once."""

from contextlib import closing

import apsw
import pytest

from hl7.devices.astm_frames import encode, encode_all
from sync.header import REFUSAL
from sync.record import Kind
from tests.astm_rig import ACK, ENQ, EOT, NAK, STREAM, AstmFeed, Instrument, records, result
from tests.node_rig import Node, running, wait_until


@pytest.fixture
def node(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM)])) as node:
        yield node


def bodies(node, kind=Kind.MESSAGE):
    return [seen.body for seen in node.records(STREAM) if seen.header.kind is kind]


def test_a_result_becomes_one_record_with_the_bytes_that_came(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(result(), size=20)
        wait_until("record", lambda: bodies(node))
    (seen,) = node.records(STREAM)
    assert (seen.body, seen.header.kind, seen.header.message_type) == (result(), Kind.MESSAGE, "R")
    assert seen.header.content_type == "application/astm-e1394"


def counts(node):
    return node.ask("status")["feeds"][STREAM]


def test_a_frame_is_on_disk_before_its_ack_and_a_kill_leaves_an_incomplete_record(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()
        sent = instrument.frames(result())[:3]
        assert [instrument.exchange(frame) for frame in sent] == [ACK] * 3
        node.kill()
    node.start()
    (seen,) = node.records(STREAM)
    assert (seen.header.kind, seen.refusal) == (Kind.INCOMPLETE, "AST-04")
    assert seen.body == b"".join(records(result())[:3])
    node.restart()
    assert len(node.records(STREAM)) == 1


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("UPDATE frame SET text = X'00'", b""),
        ("DELETE FROM frame WHERE place = (SELECT place FROM frame ORDER BY place LIMIT 1 OFFSET 1)", [0, 2]),
        ("UPDATE frame SET feed = 'xm' WHERE place > 0", [0]),
    ],
)
def test_of_frames_that_the_disk_has_lost_somebody_is_told(node, damage, left):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()
        assert [instrument.exchange(frame) for frame in instrument.frames(result())[:3]] == [ACK] * 3
        node.kill()
    with closing(apsw.Connection(str(node.store))) as connection:
        connection.execute(damage)
    node.start()
    (seen,) = node.records(STREAM)
    assert (seen.header.kind, seen.particulars[REFUSAL]) == (Kind.INCOMPLETE, ["AST-04", "frames lost"])
    assert seen.body == b"".join(records(result())[n] for n in left)


def test_a_transfer_that_ends_early_is_never_a_result(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()
        instrument.exchange(instrument.frames(result())[0])
        instrument.write(EOT)
        wait_until("record", lambda: node.records(STREAM))
        instrument.send(result())
        wait_until("result", lambda: bodies(node))
    assert [seen.header.kind for seen in node.records(STREAM)] == [Kind.INCOMPLETE, Kind.MESSAGE]


def test_an_identical_repetition_is_acknowledged_and_not_stored_twice(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()
        for frame in instrument.frames(result()):
            assert [instrument.exchange(frame) for _ in range(3)] == [ACK] * 3
        instrument.write(EOT)
        wait_until("record", lambda: bodies(node))
    assert bodies(node) == [result()]


def test_a_transfer_repeated_after_its_last_ack_was_lost_is_one_record_also_over_a_kill(node):
    for is_killed in (False, True):
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.begin()
            for frame in instrument.frames(result()):
                assert instrument.exchange(frame) == ACK
        if is_killed:
            node.restart()
        wait_until("line gone", lambda: counts(node)["connections"] == 0)
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(result())
        wait_until("repeat known", lambda: counts(node)["repeated"] == 1)
    assert bodies(node) == [result()]


def test_two_equal_results_on_purpose_are_two_records(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(result())
        wait_until("first", lambda: len(bodies(node)) == 1 and counts(node)["transfers"] == {"eot": 1})
        instrument.send(result())
        wait_until("second", lambda: len(bodies(node)) == 2)
    assert bodies(node) == [result(), result()]


def test_two_equal_results_on_purpose_are_two_records_also_when_the_node_was_killed_between(node):
    for number in (1, 2):
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.send(result())
            wait_until("stored", lambda: len(bodies(node)) == number)  # noqa: B023
            wait_until("settled", lambda: counts(node)["transfers"].get("eot"))
            instrument.begin()  # behind it in the queue: what the end of the transfer wrote is on disk
            instrument.write(EOT)
        node.restart()
    assert len(bodies(node)) == 2


@pytest.mark.parametrize("size", [1, 7, 240, 4000])
def test_a_message_is_the_same_however_frames_divide_it(node, size):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()

        for frame in encode_all([result()], text_bytes_max=size):
            assert instrument.exchange(frame) == ACK
        instrument.write(EOT)
        wait_until("record", lambda: bodies(node))
    assert bodies(node) == [result()]


def test_several_messages_of_one_transfer_and_of_one_frame_are_several_records(node):

    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.begin()
        for frame in encode_all([result(1) + result(2) + result(3)[:100], result(3)[100:]], text_bytes_max=9000):
            assert instrument.exchange(frame) == ACK
        instrument.write(EOT)
        wait_until("records", lambda: len(bodies(node)) == 3)
    assert b"".join(bodies(node)).replace(b"\r", b"") == (result(1) + result(2) + result(3)).replace(b"\r", b"")


def test_a_session_that_comes_in_one_piece_is_answered_frame_by_frame(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        frames = instrument.frames(result())
        instrument.write(ENQ + b"".join(frames) + EOT)
        assert instrument.read(1 + len(frames)) == ACK * (1 + len(frames))
    assert bodies(node) == [result()]


def test_two_instruments_on_one_port_do_not_mix(node):
    with Instrument(node.feed(STREAM).address) as one, Instrument(node.feed(STREAM).address) as other:
        one.begin(), other.begin()
        for first, second in zip(one.frames(result(1)), other.frames(result(2)), strict=True):
            assert (one.exchange(first), other.exchange(second)) == (ACK, ACK)
        one.write(EOT), other.write(EOT)
        wait_until("both", lambda: len(bodies(node)) == 2)
    assert set(bodies(node)) == {result(1), result(2)}


def test_a_message_beyond_the_limit_is_refused_and_what_came_is_incomplete(realm, tmp_path):
    with running(
        Node(realm, tmp_path, feeds=[AstmFeed(STREAM, lines="message_mb_max = 1\nsend_text_bytes_max = 240")])
    ) as node:
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.begin()

            answers = [
                instrument.exchange(encode(n, b"M|1|" + b"x" * 60_000 + b"\r", is_end=True)) for n in range(1, 19)
            ]
            assert answers == [ACK] * 17 + [NAK]
        wait_until("record", lambda: node.records(STREAM))
        assert [seen.header.kind for seen in node.records(STREAM)] == [Kind.INCOMPLETE]
        assert counts(node)["last_error"][0] == "AST-04"


def test_a_full_disk_is_nak_and_what_was_acknowledged_before_is_recorded_when_there_is_room(realm, tmp_path):
    node = Node(realm, tmp_path, feeds=[AstmFeed(STREAM)])
    with running(node):
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.begin()
            assert instrument.exchange(instrument.frames(result())[0]) == ACK
            node.kill()
        node.outbox = "free_mb_min = 1000000"  # more than the disk has
        node.start()
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.begin()
            assert [instrument.exchange(instrument.frames(result())[0]) for _ in range(3)] == [NAK] * 3
            instrument.write(EOT)
            wait_until("alarm", lambda: ("NOD-10", "") in node.alarms())
        assert node.records(STREAM) == []
        node.outbox = "free_mb_min = 16"
        node.restart()
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.send(result())
            wait_until("record", lambda: bodies(node))
    assert [(seen.header.kind, seen.body) for seen in node.records(STREAM)] == [
        (Kind.INCOMPLETE, records(result())[0]),
        (Kind.MESSAGE, result()),
    ]


def test_a_sender_that_is_not_registered_is_kept_and_said(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM, lines='senders = ["c111"]')])) as node:
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.send(result())
            wait_until("record", lambda: bodies(node))
        assert node.records(STREAM)[0].refusal == "AST-05"


def test_an_instrument_that_leaves_out_l_is_whole_with_eot_where_the_profile_says_so(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM, lines='terminator = "optional"')])) as node:
        with Instrument(node.feed(STREAM).address) as instrument:
            instrument.send(result(end=""))
            wait_until("record", lambda: bodies(node))
        assert bodies(node) == [result(end="")]


def test_a_stranger_and_one_connection_too_many_are_closed(realm, tmp_path):
    feeds = [AstmFeed(STREAM, lines="connections_max = 1"), AstmFeed("far", lines='allow = ["192.0.2.0/24"]')]
    with running(Node(realm, tmp_path, feeds=feeds)) as node:
        with Instrument(node.feed("far").address) as stranger:
            assert not _read(stranger)
        with Instrument(node.feed(STREAM).address) as first:
            first.begin()
            with Instrument(node.feed(STREAM).address) as second:
                assert not _read(second)
            assert first.exchange(first.frames(result())[0]) == ACK


def _read(instrument):
    try:
        return instrument.read()
    except ConnectionResetError:
        return b""


def test_the_line_monitor_shows_both_sides_of_a_transfer_and_no_value(node):
    with Instrument(node.feed(STREAM).address) as instrument:
        instrument.send(result())
        wait_until("record", lambda: bodies(node))
        rows = node.ask(f"line {STREAM}")["rows"]
    assert {row["way"] for row in rows} == {"", "in", "out"}
    assert any(row["frames"] for row in rows)
    assert sum(row["length"] for row in rows if row["way"] == "in") > len(result())
    shown = "".join(row["text"] for row in rows)
    assert "WBC" not in shown
    assert "5.4" not in shown


def test_long_messages_of_several_lines_share_one_allowance_and_none_is_lost(realm, tmp_path):
    little = "import node.feeds.open_frames as o\no.OpenFrames.__init__.__defaults__ = (100_000,)"
    long = [result(number, tests=2000) for number in (1, 2)]
    with running(Node(realm, tmp_path, feeds=[AstmFeed(STREAM)]), before=little) as node:
        address = node.feed(STREAM).address
        with Instrument(address) as one, Instrument(address) as other:
            first, second = (one.frames(message, size=9000) for message in long)
            one.begin()
            other.begin()
            assert [one.exchange(frame) for frame in first[:-1]] == [ACK] * (len(first) - 1)
            taken = 0
            while other.exchange(second[taken]) == ACK:  # up to where both together hold too much
                taken += 1
            assert 0 < taken < len(second) - 1
            assert one.exchange(first[-1]) == ACK
            one.write(EOT)
            wait_until("the first", lambda: bodies(node) == long[:1])
            assert [other.exchange(frame) for frame in second[taken:]] == [ACK] * (len(second) - taken)
            other.write(EOT)
            wait_until("the second", lambda: bodies(node) == long)
