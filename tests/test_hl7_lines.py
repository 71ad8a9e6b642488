"""Reports of devices that just print: cut the same whatever the pieces, checked, bounded, and never a byte lost inside one."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.devices.line_errors import CheckWrong, CutOff, NoEnd, ReportTooLong
from hl7.devices.lines import LONGEST_FACTOR, Framing, LineReader, Report

FRAMINGS = (
    *(Framing(ends="lines", line_end=end, report_bytes_max=8) for end in ("cr", "lf", "crlf", "any")),
    Framing(ends="lines", line_end="any", check="xor-hex", report_bytes_max=40),
    *(Framing(ends="block", check=check, covers="all", report_bytes_max=6) for check in ("none", "xor-byte", "sum-hex")),
    Framing(ends="block", start=ord("{"), end=ord("}"), report_bytes_max=5),
    Framing(ends="fixed", length=5), Framing(ends="fixed", length=4, start=ord("=")),
    Framing(ends="pause", report_bytes_max=7, quiet_s=0.2),
)  # fmt: skip
# what makes framings trip: their marks, over and over
BYTES = st.lists(st.sampled_from([b"\x02", b"\x03", b"\r", b"\n", b"{", b"}", b"=", b"1", b"\x00", b"abc", "م".encode(), b"\xff"]), max_size=60).map(b"".join)  # fmt: skip


def read(framing: Framing, pieces: list[bytes]) -> tuple[list[Report], LineReader]:
    reader = LineReader(framing)
    found = [report for piece in pieces for report in reader.receive(piece, 0.0)]
    return found + reader.tick(60.0), reader


@given(st.sampled_from(FRAMINGS), BYTES, st.randoms(use_true_random=False))
def test_any_pieces_give_the_reports_of_the_whole(framing, data, dice):
    pieces, rest = [], data
    while rest:
        at = dice.randint(1, len(rest))
        pieces.append(rest[:at])
        rest = rest[at:]
    at_once, one = read(framing, [data])
    in_pieces, other = read(framing, pieces)
    assert in_pieces == at_once
    assert (other.noise_bytes, other.blank_bytes) == (one.noise_bytes, one.blank_bytes)


@given(st.sampled_from(FRAMINGS), BYTES)
def test_every_byte_is_in_a_report_or_counted_outside_of_one(framing, data):
    found, reader = read(framing, [data])
    assert sum(report.length for report in found) + reader.noise_bytes + reader.blank_bytes == len(data)
    assert all(report.head in data for report in found)
    for report in found:
        assert len(report.head) == min(report.length, framing.report_bytes_max)
        if report.fault and report.length == len(report.head):
            assert report.sha256 == hashlib.sha256(report.head).digest()


def bodies(framing: Framing, data: bytes) -> list[tuple[bytes, object]]:
    return [(report.head, report.fault) for report in read(framing, [data])[0]]


@pytest.mark.parametrize(
    ("end", "data", "wanted"),
    [
        ("cr", b"pH 7.1\rGLU neg\r", [b"pH 7.1\r", b"GLU neg\r"]),
        ("lf", b"pH 7.1\nGLU neg\n", [b"pH 7.1\n", b"GLU neg\n"]),
        ("crlf", b"a\rb\r\n\r\nc\r\n", [b"a\rb\r\n", b"c\r\n"]),
        ("any", b"a\r\nb\n\n\n c\r", [b"a\r", b"b\n", b" c\r"]),
        ("any", "الوزن 71.5\r".encode(), ["الوزن 71.5\r".encode()]),
    ],
)
def test_lines_end_where_the_manual_says(end, data, wanted):
    assert bodies(Framing(line_end=end), data) == [(body, None) for body in wanted]


def test_a_line_that_never_ends_is_given_up_after_a_pause():
    reader = LineReader(Framing(quiet_s=10))
    assert reader.receive(b"GLU ne", 100.0) == []
    assert reader.quiet_at == 110.0
    assert reader.tick(109.9) == []
    (report,) = reader.tick(110.0)
    assert (report.head, report.fault) == (b"GLU ne", NoEnd)
    assert not reader.is_amid


def test_a_pause_ends_a_report_of_several_lines_and_silence_is_none():
    reader = LineReader(Framing(ends="pause", quiet_s=0.5))
    assert reader.receive(b"ID 007\r\n", 1.0) == reader.receive(b"LEU +\r\n\r\n", 1.4) == []
    (first,) = reader.receive(b"\x00\r\n", 2.0)
    assert (first.head, first.fault) == (b"ID 007\r\nLEU +\r\n\r\n", None)
    assert reader.tick(9.0) == []
    assert reader.blank_bytes == 3


@pytest.mark.parametrize(
    ("covers", "check", "block", "is_good"),
    [
        ("text-and-end", "xor-byte", b"\x02AB\x03\x00", True), ("text", "xor-byte", b"\x02AB\x03\x03", True), ("all", "xor-byte", b"\x02AB\x03\x02", True),
        ("text-and-end", "xor-byte", b"\x02AB\x03\x01", False), ("text-and-end", "sum-byte", b"\x02AB\x03\x86", True),
        ("text-and-end", "sum-hex", b"\x02AB\x0386", True), ("text-and-end", "sum-hex", b"\x02zz\x03F7", True), ("text-and-end", "sum-hex", b"\x02zz\x03f7", True),
        ("text-and-end", "xor-hex", b"\x02AB\x0300", True), ("text-and-end", "xor-hex", b"\x02AB\x0330", False),
    ],
)  # fmt: skip
def test_a_block_is_checked_as_the_manual_says(covers, check, block, is_good):
    framing = Framing(ends="block", covers=covers, check=check)
    assert bodies(framing, b"noise" + block + b"\r\n" + block) == [(block, None if is_good else CheckWrong)] * 2


def test_a_check_value_that_looks_like_a_mark_is_a_check_value():
    framing = Framing(ends="block", check="xor-byte")
    for text in (b"\x01", b"\x00"):  # whose values are STX and ETX
        block = b"\x02" + text + b"\x03" + bytes([text[0] ^ 3])
        assert bodies(framing, block * 3) == [(block, None)] * 3


def test_lines_and_fixed_lengths_are_checked_before_their_end():
    line = b"WT 071.5"
    assert bodies(Framing(check="sum-hex"), line + b"%02X\r" % (sum(line) % 256)) == [
        (line + b"%02X\r" % (sum(line) % 256), None)
    ]
    fixed = Framing(ends="fixed", length=5, check="xor-byte")
    assert bodies(fixed, b"1234\x04") == [(b"1234\x04", None)]
    assert bodies(fixed, b"1234\x05") == [(b"1234\x05", CheckWrong)]


def test_a_block_inside_which_another_begins_is_cut_off_there():
    assert bodies(Framing(ends="block"), b"\x02half\x02whole\x03") == [(b"\x02half", CutOff), (b"\x02whole\x03", None)]


def test_a_line_that_goes_away_leaves_what_had_come():
    reader = LineReader(Framing())
    assert reader.receive(b"K 4.", 0.0) == []
    (report,) = reader.cut()
    assert (report.head, report.fault) == (b"K 4.", CutOff)
    assert reader.cut() == []


def test_a_report_beyond_the_bound_keeps_its_beginning_and_says_how_long_it_was():
    data = b"x" * 50 + b"\r" + b"good\r"
    (first, second), _ = read(Framing(report_bytes_max=20), [data])
    assert (first.head, first.length, first.fault) == (b"x" * 20, 51, ReportTooLong)
    assert first.sha256 == hashlib.sha256(b"x" * 50 + b"\r").digest()
    assert (second.head, second.fault) == (b"good\r", None)


def test_a_line_that_never_stops_takes_bounded_memory_and_still_gives_records():
    reader, found = LineReader(Framing(report_bytes_max=100)), []
    for _ in range(1000):
        found += reader.receive(b"\x55" * 100, 0.0)
        assert len(reader._buffer) <= 200
    assert {report.length for report in found} == {LONGEST_FACTOR * 100}
    assert len(found) == 1000 // LONGEST_FACTOR


@pytest.mark.parametrize("seed", range(3))
def test_noise_neither_breaks_a_reader_nor_fills_it(seed):
    dice = random.Random(seed)
    for framing in FRAMINGS:
        reader = LineReader(framing)
        for turn in range(400):
            reader.receive(dice.randbytes(dice.randrange(1, 300)), turn * dice.random())
            assert len(reader._buffer) <= framing.report_bytes_max + 300


def test_a_good_block_between_noise_is_found_whole():
    noise = bytes(set(range(256)) - {2})
    assert bodies(Framing(ends="block"), noise + b"\x02ok\x03" + noise) == [(b"\x02ok\x03", None)]
