"""MLLP frames: whatever the chunking, the noise and the broken ends, the same frames come out and memory stays bounded."""

import hashlib
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hl7.mllp
from hl7.errors import ClosedInsideFrame, FrameOversized, FrameWithoutEnd
from hl7.mllp import END, HEAD_BYTES, START, Broken, Decoder, Event, Frame, encode

ARABIC = "MSH|^~\\&|تجربة|عيادة|||20260101||ADT^A01|W1|T|2.5\rPID|1||700001||اختبار^مريم\r".encode()
LIMIT = 12  # small, so that random streams pass it

stream = st.lists(
    st.sampled_from(
        [b"\x0b", b"\x1c", b"\x1c\r", b"\r", b"\n", b"M", b"MS", b"MSH", b"MSH|^~\\&|", b"payload", b"\x0bMSH"]
    )
    | st.binary(max_size=6),
    max_size=24,
).map(b"".join)


def broken(reason, payload):
    return Broken(
        reason=reason, length=len(payload), sha256=hashlib.sha256(payload).digest(), head=payload[:HEAD_BYTES]
    )


def run(decoder: Decoder, chunks: list[bytes]) -> tuple[list[Event], int, int]:
    events = [event for chunk in chunks for event in decoder.receive(chunk)]
    events += decoder.finish()
    return events, decoder.noise_bytes, decoder.bare_ends


def cut(data: bytes, at: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in itertools.pairwise([0, *sorted(at), len(data)])]


@given(stream, st.data())
def test_any_chunking_gives_the_events_of_the_whole(data, draw):
    at = draw.draw(st.lists(st.integers(0, len(data)), max_size=8))
    assert run(Decoder(LIMIT), cut(data, at)) == run(Decoder(LIMIT), [data])


@given(stream)
def test_single_bytes_give_the_events_of_the_whole(data):
    assert run(Decoder(LIMIT), [data[at : at + 1] for at in range(len(data))]) == run(Decoder(LIMIT), [data])


@given(st.lists(st.binary(max_size=40).map(lambda data: data.translate(None, b"\x0b\x1c")), max_size=6))
@example([ARABIC, b"", ARABIC])
def test_what_was_encoded_comes_back_unchanged(payloads):
    assert run(Decoder(), [b"".join(map(encode, payloads))]) == ([Frame(payload) for payload in payloads], 0, 0)


@given(stream)
def test_every_byte_received_is_in_a_frame_or_counted(data):
    decoder = Decoder(LIMIT)
    events = decoder.receive(data) + decoder.finish()
    held = sum(len(event.payload) if isinstance(event, Frame) else event.length for event in events)
    marks = len(data) - held - decoder.noise_bytes
    assert 0 <= marks <= 3 * len(events)  # VT, FS and CR of each


def test_bytes_between_frames_are_counted_and_dropped():
    decoder = Decoder()
    assert decoder.receive(b"GET / HTTP/1.1\r\n" + encode(b"A") + b"\r\n\0" + encode(b"B")) == [
        Frame(b"A"),
        Frame(b"B"),
    ]
    assert decoder.noise_bytes == 16 + 3
    assert not decoder.is_open


def test_a_frame_whose_vt_came_alone_ends_like_any_other():
    decoder = Decoder()
    assert decoder.receive(START) == []  # the frame is open, and its buffer empty
    assert decoder.receive(b"A" + END) == [Frame(b"A")]
    assert not decoder.is_open
    assert decoder.receive(b"noise" + encode(b"B")) == [Frame(b"B")]
    assert decoder.noise_bytes == 5


def test_a_frame_without_cr_ends_where_the_next_begins():
    decoder = Decoder()
    assert decoder.receive(b"\x0bA\x1c" + encode(b"B")) == [Frame(b"A"), Frame(b"B")]
    assert (decoder.bare_ends, decoder.noise_bytes) == (1, 0)


def test_a_frame_without_cr_ends_when_the_line_falls_idle():
    decoder = Decoder()
    assert decoder.receive(b"\x0bA\x1c") == []
    assert decoder.is_open
    assert decoder.idle() == [Frame(b"A")]
    assert (decoder.bare_ends, decoder.is_open) == (1, False)
    assert decoder.receive(b"\r" + encode(b"B")) == [Frame(b"B")]  # the CR came after all


def test_an_idle_line_inside_a_frame_changes_nothing():
    decoder = Decoder()
    for part in (b"", b"noise", b"\x0b", b"MSH|", b"\x1cx"):
        decoder.receive(part)
        assert decoder.idle() == []
    assert decoder.receive(END) == [Frame(b"MSH|\x1cx")]


def test_a_frame_without_cr_is_whole_when_the_connection_closes():
    decoder = Decoder()
    decoder.receive(b"\x0bA\x1c")
    assert decoder.finish() == [Frame(b"A")]


def test_a_missing_end_block_breaks_one_frame_and_not_the_next():
    events = Decoder().receive(b"\x0bMSH|lost" + encode(b"MSH|kept"))
    assert events == [broken("no-end", b"MSH|lost"), Frame(b"MSH|kept")]
    assert isinstance(events[0], Broken)
    assert events[0].error is FrameWithoutEnd


def test_vt_and_fs_inside_a_frame_are_content():
    payload = b"MSH|\x0bOBX|\x1cNTE|\x0bMS"
    assert Decoder().receive(encode(payload)) == [Frame(payload)]


def test_a_closed_connection_reports_what_was_under_way():
    decoder = Decoder()
    decoder.receive(encode(b"A") + b"\x0b" + ARABIC)
    assert decoder.is_open
    events = decoder.finish()
    assert events == [broken("closed", ARABIC)]
    assert isinstance(events[0], Broken)
    assert events[0].error is ClosedInsideFrame
    assert not decoder.is_open
    assert decoder.finish() == []


def test_a_closed_connection_between_frames_reports_nothing():
    decoder = Decoder()
    decoder.receive(encode(b"A") + b"\x0b")
    assert decoder.finish() == []
    assert decoder.noise_bytes == 1


def test_a_frame_at_the_limit_is_whole_and_one_byte_more_is_oversized():
    whole, over = b"x" * LIMIT, b"x" * (LIMIT + 1)
    for chunks in ([encode(whole), encode(over), encode(b"B")], [encode(whole) + encode(over) + encode(b"B")]):
        events = run(Decoder(LIMIT), chunks)[0]
        assert events == [Frame(whole), broken("oversized", over), Frame(b"B")]
    assert events[1].error is FrameOversized


def test_an_oversized_frame_is_reported_oversized_however_it_ends():
    over = b"MSH|" + b"x" * LIMIT
    for end in (END, b"\x1c\x0b", b"\x1c", b"", b"\x0bMSH"):
        events, _, _ = run(Decoder(LIMIT), [b"\x0b" + over, end])
        assert events[0] == broken("oversized", over)
    decoder = Decoder(LIMIT)
    decoder.receive(b"\x0b" + over + b"\x1c")
    assert decoder.idle() == [broken("oversized", over)]


def test_memory_stays_bounded_while_an_oversized_frame_arrives():
    decoder, digest = Decoder(100_000), hashlib.sha256()
    decoder.receive(START)
    for number in range(2000):
        part = b"%05d" % number * 200
        digest.update(part)
        assert decoder.receive(part) == []
        assert len(decoder._buffer) <= 100_000 + len(part)
    assert len(decoder._buffer) == 0
    (event,) = decoder.receive(END)
    assert isinstance(event, Broken)
    assert (event.length, event.sha256, len(event.head)) == (2_000_000, digest.digest(), HEAD_BYTES)
    assert decoder.receive(encode(b"B")) == [Frame(b"B")]


def test_a_decoder_between_frames_holds_no_bytes():
    decoder = Decoder()
    decoder.receive(b"noise" + encode(b"x" * 100_000) + b"noise")
    assert decoder._buffer == b""
    decoder.receive(b"\x0bMSH")
    decoder.receive(b"|x\x1c\r")
    assert decoder._buffer == b""


def test_a_slow_drip_is_scanned_once(monkeypatch):
    looked_at = 0
    scan = hl7.mllp.mllp_scan

    def counting(buffer, opened, searched, restart):
        nonlocal looked_at
        looked_at += len(buffer) - searched
        return scan(buffer, opened, searched, restart)

    monkeypatch.setattr(hl7.mllp, "mllp_scan", counting)
    payload = b"MSH|" + b"\x1cx\x0bMSx" * 2000  # every mark in it leaves the scan undecided
    decoder, wire = Decoder(), encode(payload)
    events = [event for at in range(len(wire)) for event in decoder.receive(wire[at : at + 1])]
    assert events == [Frame(payload)]
    assert looked_at <= 4 * len(wire)  # a mark is looked at again until decided: VT, M, S, and what follows


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES, HEAD_BYTES + 1])
def test_a_broken_frame_keeps_its_first_bytes_only(size):
    payload = b"y" * size
    decoder = Decoder(0)
    decoder.receive(START)
    events = [*decoder.receive(payload[:700]), *decoder.receive(payload[700:]), *decoder.finish()]
    assert events == ([broken("oversized", payload)] if size else [])
