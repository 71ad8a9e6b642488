"""POCT1-A: where documents end, what is said to a device, and that nothing it deletes is lost."""

import contextlib
import random
import socket
from types import SimpleNamespace
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.devices.poct1a import read_message
from hl7.devices.poct1a_conversation import Conversation, Manners
from hl7.devices.xml_documents import Broken, Divider, Document, Flaw
from node.feeds.open_frames import TURN_S_MAX, OpenFrames
from node.feeds.poct1a_connection import DOCUMENT_S_MAX, WAITING_MAX, Poct1aConnection
from node.line_trace import LineTrace
from node.tools.simulate_poct1a import Device
from tests.kill_sources import PoctFeed
from tests.node_rig import Node, running, wait_until

NOW = "2030-01-01T08:00:00+00:00"
MIB = 1024 * 1024


def document(kind, control_id="7", body=""):
    return f'<{kind}><HDR><HDR.control_id V="{control_id}"/><HDR.version_id V="POCT1"/></HDR>{body}</{kind}>'.encode()


HELLO = document("HEL.R01", "1", '<DEV><DEV.device_id V="SN-1"/></DEV>')
RESULT = document(
    "OBS.R01",
    "3",
    '<SVC><PT><PT.patient_id V="TEST-1"/><PT.name V="مريض تجريبي"/><OBS><OBS.value V="5.4" U="mmol/L"/></OBS></PT></SVC>',
)


def status(observations="1", events="0"):
    return document(
        "DST.R01", "2", f'<DST><DST.new_observations_qty V="{observations}"/><DST.new_events_qty V="{events}"/></DST>'
    )


def divided(data, octets_max=MIB):
    return Divider(octets_max).feed(data)


# -- where a document ends -----------------------------------------------------------------------------------------
NAMES = st.sampled_from(["a", "OBS.R01", "HDR", "x-y"])
TEXTS = st.sampled_from(["", "نص", "a > b", "]]&gt;", "-- ?>", "&#60;"])


@st.composite
def elements(draw, depth=0):
    name = draw(NAMES)
    values = "".join(
        f" v{number}={quote}{draw(st.sampled_from(['', '>', '/>', chr(39), chr(34), '</a>', '<!--'])).replace(quote, '').replace('<', '&lt;')}{quote}"
        for number, quote in enumerate(draw(st.lists(st.sampled_from(["'", '"']), max_size=3)))
    )
    if draw(st.booleans()):
        return f"<{name}{values}/>"
    inside = draw(
        st.lists(
            st.one_of(
                TEXTS,
                st.sampled_from(["<!-- </a> > -->", "<![CDATA[</a><b>]]]]>", "<?p </a> ?>", "<!---->"]),
                *([elements(depth + 1)] if depth < 3 else []),
            ),
            max_size=4,
        )
    )
    return f"<{name}{values}>{''.join(inside)}</{name}>"


@given(st.lists(elements(), min_size=1, max_size=4), st.sampled_from(["", "\r\n", " "]), st.data())
def test_any_cut_into_pieces_gives_the_documents_that_were_sent(documents, between, data):
    raw = [text.encode() for text in documents]
    stream = between.encode().join(raw)
    divider, found, rest = Divider(MIB), [], stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        found += divider.feed(rest[:size])
        rest = rest[size:]
    assert found == [Document(each) for each in raw]
    assert divider.end() is None
    for each in raw:
        expat.ParserCreate().Parse(each, True)  # other people's XML agrees that each is a whole one


@given(st.binary(max_size=300), st.data())
def test_no_bytes_make_it_raise_and_pieces_change_nothing(data, draw):
    whole = Divider(200)
    events = whole.feed(data)
    pieces, divider, rest = [], Divider(200), data
    while rest:
        size = draw.draw(st.integers(1, len(rest)))
        pieces += divider.feed(rest[:size])
        rest = rest[size:]
    events += [last] if (last := whole.end()) else []
    pieces += [last] if (last := divider.end()) else []
    assert [each.flaw if isinstance(each, Broken) else each for each in pieces] == [
        each.flaw if isinstance(each, Broken) else each for each in events
    ]


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_a_document_longer_than_the_bound_is_refused_however_it_comes(size):
    data, divider, found = b"<a/><b>" + b"x" * 200 + b"</b>", Divider(100), []
    for at in range(0, len(data), size):
        found += divider.feed(data[at : at + size])
    assert [each.flaw if isinstance(each, Broken) else each.raw for each in found] == [b"<a/>", Flaw.TOO_LONG]


def test_random_xml_like_bytes_never_make_it_raise_and_never_hold_more_than_their_bound():
    dice = random.Random(9)
    for _ in range(1000):
        divider = Divider(500)
        for _ in range(dice.randrange(1, 30)):
            divider.feed(
                b"".join(
                    dice.choice(
                        (b"<", b">", b"/", b"a", b"'", b'"', b"!--", b"-->", b"![CDATA[", b"]]>", b"?", b" ", b"\xff")
                    )
                    for _ in range(40)
                )
            )
            assert len(divider._held) <= 500
        divider.end()


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"<a>" + b"x" * 600, Flaw.TOO_LONG),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', Flaw.DECLARATION),
        (b"<a/>" + b"<!ENTITY", Flaw.DECLARATION),
        (b"</a>", Flaw.UNBALANCED),
        (b"<a>" * 70, Flaw.UNBALANCED),
    ],
)
def test_what_cannot_be_divided_ends_the_stream(data, flaw):
    divider = Divider(500)
    assert divider.feed(data)[-1].flaw is flaw
    assert divider.feed(RESULT) == []


def test_a_document_cut_off_is_told_at_the_end():
    divider = Divider(500)
    assert divider.feed(b"<a><b>") == []
    assert divider.end() == Broken(Flaw.CUT_OFF, b"<a><b>")


def test_bytes_between_documents_are_counted_as_noise_and_skipped():
    divider = Divider(MIB)
    assert divider.feed(b"\x06\x06 hello \r\n<a/>\x04<b/>") == [Document(b"<a/>"), Document(b"<b/>")]
    assert divider.noise_bytes == 8


def test_a_drip_of_single_bytes_costs_no_more_than_the_bytes():
    """Each byte of an unfinished comment is looked at a bounded number of times: counted, not timed."""

    class Counted(bytearray):
        looked = 0

        def find(self, what, start=0):
            Counted.looked += len(self) - start
            return super().find(what, start)

    divider = Divider(MIB)
    divider._held = Counted()
    for byte in b"<a><!-- " + b"x" * 20_000:
        divider.feed(bytes([byte]))
    assert Counted.looked < 20_000 * 8


# -- the conversation --------------------------------------------------------------------------------------------------
def heard(*documents, is_taken=True, **manners):
    """What is said to each, as (type, code or command)."""
    conversation, said = Conversation(Manners(**manners)), []
    for raw in documents:
        message = read_message(raw)
        conversation.hear(message)
        replies = conversation.replies(message, is_taken=is_taken, now=NOW)
        said.append([kind_of(each) for each in replies])
    return said


def kind_of(raw):
    (found,) = divided(raw)
    message = read_message(found.raw)
    told = {"ACK.R01": "ACK.type_cd"}.get(message.type)
    if told:
        return message.type[:3], message.values[told], message.values["ACK.ack_control_id"]
    return message.type[:3], raw.partition(b'_cd V="')[2].partition(b'"')[0].decode()


END = document("EOT.R01", "9", '<EOT><EOT.topic_cd V="OBS"/></EOT>')


def test_what_waits_in_a_device_is_fetched_and_the_conversation_ended():
    assert heard(HELLO, status(), RESULT, END) == [
        [("ACK", "AA", "1")],
        [("ACK", "AA", "2"), ("REQ", "ROBS")],
        [("ACK", "AA", "3")],
        [("END", "NRM")],
    ]


def test_a_device_with_nothing_new_is_let_go_at_once():
    assert heard(HELLO, status("0", "0"))[-1] == [("ACK", "AA", "2"), ("END", "NRM")]


def test_a_device_that_does_not_count_is_asked():
    assert heard(HELLO, document("DST.R01", "2", "<DST/>"))[-1] == [("ACK", "AA", "2"), ("REQ", "ROBS")]


def test_events_are_fetched_after_the_results():
    assert heard(HELLO, status("2", "3"), END, END)[1:] == [
        [("ACK", "AA", "2"), ("REQ", "ROBS")], [("REQ", "RDEV")], [("END", "NRM")],
    ]  # fmt: skip
    assert heard(HELLO, status("2", "3"), END, asks_events=False)[-1] == [("END", "NRM")]


def test_in_continuous_mode_the_device_stays_and_each_result_is_acknowledged():
    said = heard(
        HELLO,
        status(),
        RESULT,
        END,
        RESULT,
        document("KPA.R01", "10"),
        status(),
        document("END.R01", "11"),
        continuous=True,
    )
    assert said[3:] == [
        [("DTV", "START_CONTINUOUS")], [("ACK", "AA", "3")], [("ACK", "AA", "10")], [("ACK", "AA", "2")], [("ACK", "AA", "11")],
    ]  # fmt: skip


def test_a_topic_that_the_device_leaves_is_over():
    assert heard(HELLO, status(), document("ESC.R01", "5"))[-1] == [("END", "NRM")]


def test_end_of_topic_is_acknowledged_only_where_the_device_wants_it():
    assert heard(HELLO, status(), END, acknowledges_end_of_topic=True)[-1][0] == ("ACK", "AA", "9")


def test_an_acknowledgement_is_never_acknowledged():
    assert heard(document("ACK.R01", "4", '<ACK><ACK.type_cd V="AA"/></ACK>')) == [[]]


def test_what_could_not_be_stored_is_answered_with_an_error_and_nothing_more_is_asked_for():
    assert heard(status(), is_taken=False) == [[("ACK", "AE", "2")]]


def test_an_unknown_type_is_kept_and_acknowledged():
    message = read_message(document("DTV.NOVA_REQ.R02", "8"))
    assert message.type == "DTV.NOVA_REQ.R02"
    assert Conversation(Manners()).hear(message).is_record
    assert heard(document("DTV.NOVA_REQ.R02", "8")) == [[("ACK", "AA", "8")]]


def test_a_control_id_is_written_back_as_xml():
    (said,) = heard(document("OBS.R01", "&quot;&lt;1"))
    assert said == [("ACK", "AA", '"<1')]


def test_of_what_is_no_xml_inside_the_id_is_still_read():
    message = read_message(document("OBS.R01", "3", "<SVC>&undefined;</SVC>"))
    assert (message.control_id, message.type, message.is_xml) == ("3", "OBS.R01", False)


# -- a real node -------------------------------------------------------------------------------------------------------
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


def connected(frames=None):
    """A connection whose documents nobody answers, and its transport."""
    feed = SimpleNamespace(
        feed=SimpleNamespace(message_bytes_max=MIB, manners=Manners()), clock=SimpleNamespace(monotonic=lambda: 0.0), connections=set(),
        trace=LineTrace(lambda: 0), noise_bytes=0, frames=frames or OpenFrames(), tell=lambda *_: None,
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
    frames = OpenFrames(100_000)
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
    connection, transport = connected()
    connection.data_received(b"<OBS.R01>" + b"x" * 80_000)
    connection._feed.frames.give_up_oldest()
    assert transport.is_aborted


def test_a_device_that_waits_for_memory_longer_than_a_turn_has_the_oldest_given_up_and_goes_on():
    frames = OpenFrames(100_000)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.look_at_silence(TURN_S_MAX - 1, 1)  # it is we who do not read: no silence of the device's
    assert (first.is_aborted, second.is_aborted) == (False, False)
    other.look_at_silence(TURN_S_MAX + 1, 0)
    assert (first.is_aborted, second.is_aborted) == (True, False)
    one.connection_lost(None)
    assert second.reading


def test_each_device_that_waits_gives_the_next_one_a_whole_turn():
    frames = OpenFrames(100_000)
    (one, first), (other, second), (third, _) = (connected(frames) for _ in range(3))
    for each in (one, other, third):
        each.data_received(b"<OBS.R01>" + b"x" * 80_000)
    third.look_at_silence(TURN_S_MAX + 1, 0)
    one.connection_lost(None)
    third.look_at_silence(TURN_S_MAX + 6, 0)
    assert (first.is_aborted, second.is_aborted) == (True, False)


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
    frames = OpenFrames(100_000)
    (one, first), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 80_000)
    one.data_received(b"</OBS.R01><OBS.R01>" + b"x" * 80_000)  # the end of the first and most of the next in one read
    assert (first.reading, second.reading) == (False, True)


def test_a_document_that_ends_while_it_waits_for_memory_is_followed_by_the_next():
    """What the kernel had given before reading was paused may come all the same."""
    frames = OpenFrames(100_000)
    (one, _), (other, second) = connected(frames), connected(frames)
    one.data_received(b"<OBS.R01>" + b"x" * 80_000)
    other.data_received(b"<OBS.R01>" + b"x" * 60_000)
    other.data_received(b"x" * 20_000)
    assert not second.reading
    other.data_received(b"</OBS.R01>")
    other._waiting.clear()  # it is answered
    assert not other._is_full()
