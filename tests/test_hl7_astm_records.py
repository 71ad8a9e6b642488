"""ASTM records: delimiters are the header's, escapes read back, unknown records stay, nothing raises; messages however frames divide them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.devices.astm_errors import MessageTooLong, NotReadable
from hl7.devices.astm_messages import Assembly
from hl7.devices.astm_records import (
    STANDARD,
    Delimiters,
    escape,
    purpose,
    read,
    read_delimiters,
    unescape,
    write,
    write_header,
)
from tests.astm_rig import result


def test_delimiters_come_from_the_header():
    records = read(b"H|@^\\|ID||GeneXpert^1\rR|1|^^^MTB|NEG@POS\rL|1|N\r")
    assert records.delimiters == Delimiters(b"|", b"@", b"^", b"\\")
    assert records.of("R")[0].repeats(4) == [b"NEG", b"POS"]
    assert records.header.get(5, 2) == b"1"


@pytest.mark.parametrize("header", [b"H", b"H||||", b"H|\\^|", b"Habcd", b"P|\\^&"])
def test_a_header_without_four_marks_is_refused(header):
    with pytest.raises(NotReadable):
        read_delimiters(header)


def test_unknown_records_stay_and_lines_may_end_with_crlf():
    assert read(b"H|\\^&\r\nZ|1|x\r\nM|1\r\n\r\nL|1\r\n").letters == "HZML"


@pytest.mark.parametrize(
    ("body", "letter"),
    [(result(), "R"), (b"H|\\^&\rQ|1\rL|1\r", "Q"), (b"H|\\^&\rP|1\rO|1\r", "O"), (b"H|\\^&\rL|1\r", "H"), (b"", "H")],
)
def test_a_messages_type_is_what_it_is_for(body, letter):
    assert purpose(read(body)) == letter


def test_what_stands_between_escape_marks_and_is_no_escape_stays():
    assert unescape(b"a&H&b&Z1&c&F&&X0D0A&") == b"a&H&b&Z1&c|\r\n"


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_written_value_reads_back(value):
    assert unescape(escape(value)) == value
    written = write("O", b"1", [value, b"x"], [[b"", value], [value]])
    assert b"\r" not in written[:-1]
    record = read(write_header() + written)[1]
    assert (record.get(3), record.get(4, 2), record.get(4, 1, 2)) == (value, value, value)
    assert record.delimiters == STANDARD


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_the_reader_raise(body):
    for record in read(body):
        assert record.components(3) and record.get(5) is not None  # noqa: PT018


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_messages_are_the_same_however_frames_divide_them(data):
    text = result(1) + result(2)
    assembly, parts, at = Assembly(message_bytes_max=10_000, needs_terminator=True), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, 200))
        chunk = text[at : at + size]
        at += size
        if data.draw(st.booleans()):  # refused for want of room, and sent again
            assembly.take(chunk, is_end=False)
            assembly.undo()
        parts += assembly.take(chunk, is_end=False)[1]
        assembly.keep()
    assert [part.body for part in parts] == [result(1), result(2)]
    assert assembly.finish(is_over=True) is None


def test_a_message_beyond_its_limit_is_refused():
    with pytest.raises(MessageTooLong):
        Assembly(message_bytes_max=10, needs_terminator=True).take(b"x" * 11, is_end=True)
