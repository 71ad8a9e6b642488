"""The ASTM link's machine: any chunking is the whole input, a lossy line loses and doubles nothing, each clause of the handshake as it stands."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.devices.astm_events import (
    AGAIN_S,
    ANSWER_S,
    FRAME_S,
    HOST_YIELDS_S,
    INSTRUMENT_YIELDS_S,
    LINES_S,
    OUTGOING_MAX,
    PART_S,
    QUIET_S,
    REPLY_S,
    SENDS_MAX,
    Arrived,
    Closed,
    End,
    Ended,
    Kept,
    NotSent,
    Received,
    Send,
    Sent,
    Switches,
    Tick,
    Write,
)  # fmt: skip
from hl7.devices.astm_frames import FRAME_ENDS, TEXT_LIS01, FrameReader, checksum, encode, encode_all
from hl7.devices.astm_link import Link

ENQ, ACK, NAK, EOT = b"\x05", b"\x06", b"\x15", b"\x04"


class Bench:
    """A machine, its clock, and a disk that keeps what `is_full` does not refuse."""

    def __init__(self, *, is_full=False, **switches):
        self.now = 0.0
        self.link = Link(Switches(**switches), self.now)
        self.is_full = is_full
        self.texts, self.ends, self.others = [], [], []

    def feed(self, data, *, after=0.0):
        """What the machine writes about these bytes."""
        self.now += after
        return self._do(Received(data))

    def wait(self, seconds):
        """What it writes while nothing comes."""
        end, written = self.now + seconds, b""
        while (due := self.link.deadline) is not None and due <= end:
            self.now = max(due, self.now)
            written += self._do(Tick())
        self.now = end
        return written

    def send(self, *records, token=1):
        return self._do(Send(token, records))

    def close(self):
        return self._do(Closed())

    def _do(self, event):
        written, effects = b"", self.link.handle(event, self.now)
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Write):
                written += effect.data
            elif isinstance(effect, Arrived):
                if not self.is_full:
                    self.texts.append(effect.text)
                effects = self.link.handle(Kept(not self.is_full), self.now) + effects
            elif isinstance(effect, Ended):
                self.ends.append(effect)
            else:
                self.others.append(effect)
        return written


def frame(number, text, *, is_end=True):
    return encode(number, text, is_end=is_end)


def opened(**options):
    bench = Bench(**options)
    assert bench.feed(ENQ) == ACK
    return bench


# ---- receiving --------------------------------------------------------------------------------------------------------
def test_the_sum_is_that_of_the_standards_own_example_over_raw_bytes():
    assert checksum(b"1H|\\^&\r\x03") == sum(b"1H|\\^&\r\x03") % 256
    assert frame(1, b"A\r") == b"\x021A\r\x03%02X\r\n" % (sum(b"1A\r\x03") % 256)


def test_a_lower_case_sum_is_right():
    bench = opened()
    raw = frame(1, b"L|1|\xe9N\r")
    assert bench.feed(raw[:-4] + raw[-4:].lower()) == ACK


def test_frames_are_numbered_1_to_7_then_0():
    bench = opened()
    assert [bench.feed(frame(number, b"C|%d\r" % number)) for number in range(1, 18)] == [ACK] * 17
    assert len(bench.texts) == 17


@pytest.mark.parametrize("number", [0, 2, 7])
def test_a_first_frame_of_another_number_than_1_is_refused(number):
    bench = opened()
    assert bench.feed(frame(number, b"H\r")) == NAK
    assert not bench.texts


def test_the_same_frame_again_is_acknowledged_and_not_given_out_twice():
    bench = opened()
    assert [bench.feed(frame(1, b"H\r")) for _ in range(5)] == [ACK] * 5
    assert bench.texts == [b"H\r"]


def test_the_last_number_with_other_bytes_is_refused():
    bench = opened()
    bench.feed(frame(1, b"H\r"))
    assert bench.feed(frame(1, b"P\r")) == NAK
    assert bench.texts == [b"H\r"]


@pytest.mark.parametrize("at", range(1, 12))
def test_a_frame_with_any_byte_changed_is_refused_and_taken_when_it_is_repeated(at):
    raw = bytearray(frame(1, b"R|1|5\r"))
    raw[at] ^= 0x01
    bench = opened()
    written = bench.feed(bytes(raw)) + bench.wait(PART_S)
    assert written.count(ACK) == 0 or bytes(raw)[-1:] != b"\n"
    assert not bench.texts
    assert bench.feed(frame(1, b"R|1|5\r")) == ACK
    assert bench.texts == [b"R|1|5\r"]


def test_a_frame_that_finds_no_room_is_refused_and_taken_when_there_is():
    bench = opened(is_full=True)
    assert bench.feed(frame(1, b"H\r")) == NAK
    bench.is_full = False
    assert bench.feed(frame(1, b"H\r")) == ACK
    assert bench.texts == [b"H\r"]


def test_a_frame_longer_than_the_limit_is_refused_and_the_next_one_taken():
    bench = opened(frame_text_bytes_max=240)
    assert bench.feed(frame(1, b"x" * 241)) == NAK
    assert bench.feed(frame(1, b"x" * 240)) == ACK
    assert bench.link.counts.too_long == 1


def test_a_frame_of_lis01_is_taken_whole():
    bench = opened()
    assert bench.feed(frame(1, b"x" * TEXT_LIS01)) == ACK
    assert bench.texts == [b"x" * TEXT_LIS01]


def test_memory_is_bounded_however_long_a_frame_is():
    bench = opened(frame_text_bytes_max=240)
    for _ in range(1000):
        bench.feed(b"\x021" + b"x" * 1000)
        assert len(bench.link._in) < 2500


def test_a_frame_without_lf_is_taken_when_the_line_is_quiet():
    bench = opened()
    assert bench.feed(frame(1, b"H\r")[:-1]) == b""
    assert bench.wait(QUIET_S) == ACK


def test_a_profile_that_ends_frames_with_cr_is_answered_at_once():
    bench = opened(frame_end="cr")
    assert bench.feed(frame(1, b"H\r")[:-1]) == ACK
    assert bench.feed(b"\n" + frame(2, b"L\r")[:-1]) == ACK


def test_a_frame_that_ends_with_its_sum_is_taken_when_the_line_is_quiet_and_at_once_where_the_profile_says_so():
    whole = frame(1, b"H\r")
    bench = opened()
    assert bench.feed(whole[:-2]) == b""
    assert bench.wait(QUIET_S) == ACK
    bench = opened(frame_end="none")
    assert bench.feed(whole[:-2]) == ACK
    assert bench.feed(b"\r\n" + frame(2, b"L\r")[:-2]) == ACK  # what a repeater puts between frames says nothing
    assert bench.texts == [b"H\r", b"L\r"]


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b""])
@pytest.mark.parametrize("frame_end", sorted(FRAME_ENDS))
def test_whatever_follows_a_sum_a_wrong_sum_is_refused(ending, frame_end):
    bench = opened(frame_end=frame_end)
    damaged = frame(1, b"H\r").replace(b"H", b"I")[:-2]
    assert bench.feed(damaged + ending) + bench.wait(QUIET_S) == NAK
    assert bench.feed(frame(1, b"H\r")) == ACK


def test_half_a_sum_is_no_end_of_a_frame():
    for frame_end in FRAME_ENDS:
        bench = opened(frame_end=frame_end)
        assert bench.feed(frame(1, b"H\r")[:-3]) == b""
        assert bench.wait(QUIET_S) == NAK


def test_enq_and_eot_alone_are_a_keep_alive():
    bench = opened()
    assert bench.feed(EOT) == b""
    assert (bench.ends, bench.link.counts.keep_alives) == ([Ended(End.EOT, False)], 1)


def test_enq_within_a_transfer_begins_it_anew_once_the_line_is_quiet():
    bench = opened()
    bench.feed(frame(1, b"H\r"))
    assert bench.feed(ENQ) == b""
    assert bench.wait(QUIET_S) == ACK
    assert bench.ends == [Ended(End.RESTARTED, False)]
    assert bench.feed(frame(1, b"H\r")) == ACK


def test_a_byte_that_became_enq_is_never_answered_in_place_of_the_frame_behind_it():
    bench = opened()
    assert bench.feed(ENQ + frame(1, b"H\r")) == ACK
    assert bench.texts == [b"H\r"]


def test_a_damaged_lf_that_looks_like_enq_brings_no_second_ack():
    bench = opened()
    assert bench.feed(frame(1, b"H\r")[:-1] + ENQ) == ACK
    assert bench.wait(FRAME_S - 1) == b""


def test_frames_outside_of_a_transfer_are_never_acknowledged_even_where_one_holds_enq():
    bench = Bench()
    assert bench.feed(frame(2, b"R\r")[:-1] + ENQ) + bench.wait(REPLY_S) == b""
    assert bench.feed(EOT + ENQ) == ACK


def test_a_silent_sender_is_given_up_after_30_s():
    bench = opened()
    bench.feed(frame(1, b"H\r"))
    assert bench.wait(FRAME_S - 1) == b""
    assert not bench.ends
    bench.wait(1)
    assert bench.ends == [Ended(End.SILENT, False)]


def test_a_frame_that_stops_short_is_refused_before_its_sender_gives_up():
    bench = opened()
    bench.feed(frame(1, b"H\r")[:5])
    assert bench.wait(REPLY_S - 1) == NAK
    assert PART_S < REPLY_S


def test_a_line_that_goes_away_ends_the_transfer():
    bench = opened()
    bench.feed(frame(1, b"H\r"))
    bench.close()
    assert bench.ends == [Ended(End.LOST, False)]


@pytest.mark.parametrize(("after", "repeats", "is_heard"), [(0.1, 0, True), (REPLY_S, 0, False), (0.1, 1, False)])
def test_a_sender_that_ends_at_once_has_heard_our_ack_and_one_that_waited_or_repeated_may_not(after, repeats, is_heard):
    bench = opened()
    for _ in range(1 + repeats):
        bench.feed(frame(1, b"H\r"))
    bench.wait(after)
    bench.feed(EOT)
    assert bench.ends == [Ended(End.EOT, is_heard)]


def test_an_answer_that_comes_after_its_sender_gave_up_is_not_given():
    link = Link(Switches(), 0.0)
    link.handle(Received(ENQ + frame(1, b"H\r")), 0.0)
    assert link.handle(Kept(True), ANSWER_S) == []
    assert link.handle(Received(EOT), ANSWER_S) == [Ended(End.EOT, False)]


def test_bytes_before_enq_are_counted_as_noise():
    bench = Bench()
    assert bench.feed(b"\xff\xfe?\r\n" + ENQ) == ACK
    assert bench.link.counts.noise_bytes == 3


def test_bytes_that_vendors_use_within_text_are_kept():
    bench = opened()
    assert bench.feed(frame(1, b"M|1|\x11\x13\x10\x05\x04\xff\r")) == ACK
    assert bench.texts == [b"M|1|\x11\x13\x10\x05\x04\xff\r"]


def test_plain_lines_are_taken_where_the_profile_says_so():
    bench = Bench(without_enq=True)
    assert bench.feed(b"H|\\^&\r\nP|1\r\nL|1|N\r\n") == b""
    assert (bench.texts, bench.ends) == ([b"H|\\^&\r", b"P|1\r", b"L|1|N\r"], [Ended(End.EOT, True)])


def test_plain_lines_without_an_end_are_given_up_after_60_s():
    bench = Bench(without_enq=True)
    bench.feed(b"H|\\^&\rP|1\r")
    bench.wait(LINES_S)
    assert bench.ends == [Ended(End.SILENT, False)]


# ---- sending ----------------------------------------------------------------------------------------------------------
def test_a_transfer_is_enq_frames_and_eot_each_after_its_ack():
    bench = Bench()
    first, second = encode_all((b"H\r", b"L\r"), text_bytes_max=240)
    assert bench.send(b"H\r", b"L\r") == ENQ
    assert bench.feed(ACK) == first
    assert bench.feed(ACK) == second
    assert bench.feed(ACK) == EOT
    assert bench.others == [Sent(1)]


def test_a_record_longer_than_a_frame_goes_in_parts_that_end_with_etb():
    frames = encode_all((b"x" * 500,), text_bytes_max=240)
    assert [each[-5:-4] for each in frames] == [b"\x17", b"\x17", b"\x03"]
    bench = opened()
    assert [bench.feed(each) for each in frames] == [ACK] * 3
    assert b"".join(bench.texts) == b"x" * 500


def test_a_frame_is_sent_six_times_and_then_given_up():
    bench = Bench()
    bench.send(b"H\r")
    raw = bench.feed(ACK)
    assert [bench.feed(NAK) for _ in range(SENDS_MAX - 1)] == [raw] * (SENDS_MAX - 1)
    assert bench.feed(NAK) == EOT
    assert bench.others == [NotSent(1, "refused")]


def test_no_answer_to_a_frame_for_15_s_ends_the_transfer():
    bench = Bench()
    bench.send(b"H\r")
    bench.feed(ACK)
    assert bench.wait(REPLY_S - 1) == b""
    assert bench.wait(1) == EOT
    assert bench.others == [NotSent(1, "silent")]


def test_a_busy_receiver_is_asked_again_after_10_s():
    bench = Bench()
    bench.send(b"H\r")
    assert bench.feed(NAK) + bench.wait(AGAIN_S - 1) == b""
    assert bench.wait(1) == ENQ


def test_in_contention_the_host_yields_and_becomes_receiver():
    host = Bench()
    assert host.send(b"H\r") == ENQ
    assert host.feed(ENQ) + host.wait(2) == b""
    assert host.feed(ENQ) == ACK
    assert host.feed(frame(1, b"H\r")) == ACK
    host.feed(EOT)
    assert host.wait(HOST_YIELDS_S) == ENQ


@pytest.mark.parametrize("is_bidding", [True, False])
def test_answers_that_an_instrument_does_not_take_are_bounded_and_the_oldest_is_given_up(is_bidding):
    bench, late = Bench(), [f"late {number}" for number in range(5)]
    if not is_bidding:
        bench.feed(ENQ)  # it sends for ever, and the line is never ours
    for number in range(OUTGOING_MAX + 5):
        bench.send(b"H|\\^&\r", b"L|1|N\r", token=number)
    told = [f"{each.why} {each.token - is_bidding}" for each in bench.others if isinstance(each, NotSent)]
    assert told == late
    assert len(bench.link._outgoing) == OUTGOING_MAX


def test_in_contention_the_instrument_asks_again_after_1_s():
    instrument = Bench(is_instrument=True)
    instrument.send(b"H\r")
    assert instrument.feed(ENQ) == b""
    assert instrument.wait(INSTRUMENT_YIELDS_S) == ENQ


def test_eot_in_place_of_ack_accepts_the_frame():
    bench = Bench()
    bench.send(b"H\r", b"L\r")
    bench.feed(ACK)
    assert bench.feed(EOT) == encode_all((b"H\r", b"L\r"), text_bytes_max=240)[1]
    assert bench.link.counts.interrupts == 1


# ---- properties -------------------------------------------------------------------------------------------------------
def _cut(data, dice):
    while data:
        size = dice.randint(1, max(1, len(data) // 2))
        yield data[:size]
        data = data[size:]


PIECES = st.lists(
    st.one_of(
        st.sampled_from([ENQ, EOT, ACK, NAK, b"\x02", b"\x03", b"\r\n", b"\x0211", b"H|\\^&\r", b"L|1\r"]), st.binary(max_size=8),
        st.builds(lambda n, text, end: encode(n, text, is_end=end), st.integers(0, 7), st.binary(max_size=40), st.booleans()),
    ),
    max_size=25,
)  # fmt: skip


@given(PIECES, st.randoms(use_true_random=False), st.sampled_from(sorted(FRAME_ENDS)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_chunking_of_the_bytes_is_the_whole_input(pieces, dice, frame_end, without_enq):
    data = b"".join(pieces)
    whole, parts = (
        Bench(frame_end=frame_end, without_enq=without_enq),
        Bench(frame_end=frame_end, without_enq=without_enq),
    )
    written = whole.feed(data) + whole.wait(100)
    assert b"".join(parts.feed(chunk) for chunk in _cut(data, dice)) + parts.wait(100) == written
    assert (parts.texts, parts.ends, parts.link.counts) == (whole.texts, whole.ends, whole.link.counts)


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_a_frame_too_long_that_never_ends_leaves_the_end_of_its_transfer_to_be_heard(size):
    data, bench = ENQ + b"\x021H" + b"x" * 700 + EOT, Bench()
    bench.link.switches = Switches(frame_text_bytes_max=60)
    bench.link._reader = FrameReader(60, frame_end="crlf")
    for at in range(0, len(data), size):
        bench.feed(data[at : at + size])
    bench.wait(PART_S)
    assert [end.why for end in bench.ends] == [End.EOT]
    assert bench.link.counts.noise_bytes == len(data) - 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_follows_a_plain_record_that_is_too_long_is_no_message_of_its_own(size):
    whole = b"H|\\^&\rR|1|^^^WBC|5\rL|1|N\r"
    data, bench = b"H|\\^&\rC|1|" + b"x" * 300 + b"|^^^HGB|H\rR|2|^^^pH|7\rL|1|N\r" + whole, Bench(without_enq=True)
    bench.link.switches = replace(bench.link.switches, frame_text_bytes_max=60)
    for at in range(0, len(data), size):
        bench.feed(data[at : at + size])
    assert b"".join(bench.texts) == b"H|\\^&\r" + whole
    assert (bench.link.counts.too_long, [end.why for end in bench.ends]) == (1, [End.LOST, End.EOT])


def _spoil(data, dice, rate):
    """At most one byte of a burst is changed, lost or added: more can cancel out in a sum modulo 256."""
    if dice.random() >= rate:
        return data
    at, kind = dice.randrange(len(data)), dice.randrange(3)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ dice.randint(1, 255)]) + data[at + 1 :]
    return data[:at] + data[at + 1 :] if kind == 1 else data[:at] + bytes([dice.randint(1, 255)]) + data[at:]


def _spoil_answer(answer, dice, rate):
    """The same of an answer: a single byte without a sum. That noise makes an ACK of it no receiver can prevent, so that is left out."""
    spoiled = _spoil(answer, dice, rate)
    return spoiled if set(spoiled) & {4, 6} <= set(answer) else b""


@pytest.mark.parametrize("seed", range(60))
def test_what_a_sender_over_a_lossy_line_believes_sent_is_stored_once_and_unaltered(seed):
    dice = random.Random(seed)
    host, instrument = Bench(), Bench(is_instrument=True)
    rate = dice.choice((0.02, 0.1, 0.3))
    for token in range(3):
        texts = [b"R|%d|%d|%s\r" % (token, n, b"v" * dice.randrange(300)) for n in range(dice.randint(1, 12))]
        mark = len(host.texts)
        out = instrument.send(*texts, token=token)
        while not any(getattr(each, "token", -1) == token for each in instrument.others):
            if not out:
                before = len(instrument.others)
                now = min(due for due in (host.link.deadline, instrument.link.deadline) if due is not None)
                step = max(0.0, now - host.now)
                back, out = host.wait(step), instrument.wait(step)
                if back:
                    out += instrument.feed(_spoil_answer(back, dice, rate))
                assert step < 100 or len(instrument.others) > before
                continue
            back = host.feed(_spoil(out, dice, rate))
            out = instrument.feed(_spoil_answer(back, dice, rate)) if back else b""
        if Sent(token) in instrument.others:
            stored = b"".join(host.texts[mark:])
            assert stored.endswith(b"".join(texts)), seed
            assert stored.count(b"".join(texts)) == 1, seed
        host.wait(60), instrument.wait(60)
