"""The ring of a line's last bytes: bounded, its values hidden unless permitted, its frames told apart in whatever pieces they come."""

from base64 import b64decode
from functools import reduce
from operator import xor

from hypothesis import given
from hypothesis import strategies as st

from hl7.devices.line_view import Eye, Seen, hexadecimal, is_value, text
from hl7.devices.lines import Framing
from node.lines.trace import (
    ENTRIES_MAX,
    ENTRY_BYTES_MAX,
    ROW_BYTES_MAX,
    SHOWN_BYTES_MAX,
    SHOWN_MAX,
    TAKEN_MAX,
    LineTrace,
)

FRAME = b"\x021H|\\^&|||Analyzer\r\x03"
CHECKED = FRAME + b"%02X\r\n" % (sum(FRAME[1:]) % 256)


def test_no_letter_digit_or_byte_beyond_ascii_leaves_a_trace_that_may_not_show_values():
    trace = LineTrace(lambda: 0)
    trace.came("P|1||900101001||مريم^Test||7.35\r".encode())
    (row,) = trace.document(is_shown=False)
    assert row["text"] == "•|•||•••••••••||••••••••^••••||•.••<CR>"
    assert set(row["hex"]) <= set("· 7C5E2E0D")
    (shown,) = trace.document(is_shown=True)
    assert shown["text"].startswith("P|1||900101001||<D9><85>")
    assert bytes.fromhex(shown["hex"]).decode() == "P|1||900101001||مريم^Test||7.35\r"


@given(st.binary(max_size=200))
def test_hidden_bytes_can_not_be_told_apart(data):
    other = bytes((byte * 7 + 3) % 128 | 0x80 if is_value(byte) else byte for byte in data)
    for show in (text, hexadecimal):
        assert show(data, is_shown=False) == show(other, is_shown=False)
        assert show(data, is_shown=False, is_opaque=True) == show(bytes(len(data)), is_shown=False, is_opaque=True)


def test_control_characters_have_their_names():
    assert (
        text(b"\x02\x05\x06\x0d\x11\x13\x15\x17\x7f\xff", is_shown=True)
        == "<STX><ENQ><ACK><CR><XON><XOFF><NAK><ETB><7F><FF>"
    )


@given(st.lists(st.integers(1, 9), max_size=40))
def test_frames_are_told_apart_in_any_pieces(cuts):
    story = (
        b"\x05" + CHECKED + CHECKED.replace(b"A", b"B", 1) + b"\x021x\x17" + CHECKED + b"\x04WT 71.5\r\n\r\n\x06\x15"
    )
    wanted = [
        Seen("ENQ", 1), Seen("STX 1 … ETX", 22, "good"), Seen("STX 1 … ETX", 22, "wrong"), Seen("STX 1 … ETB", 4),
        Seen("STX 1 … ETX", 22, "good"), Seen("EOT", 1), Seen("CR", 8), Seen("ACK", 1), Seen("NAK", 1),
    ]  # fmt: skip
    eye, found, rest = Eye(), [], story
    for cut in cuts:
        found += eye.receive(rest[:cut])
        rest = rest[cut:]
    assert found + eye.receive(rest) == wanted


def test_only_a_digit_of_ours_is_a_frames_number():
    assert Eye().receive(b"\x02\xb2x\x0300") == [Seen("STX … ETX", 6, "wrong")]
    assert Eye().receive(b"\x027\x03") == []


def test_a_trace_keeps_the_last_bytes_alone_however_much_comes():
    now = [0]
    trace = LineTrace(lambda: now[0])
    for turn in range(2000):
        now[0] = turn * 1_000_000
        trace.came(b"%06d\r" % turn * 40, peer=f"10.0.0.{turn}")
    assert len(trace._entries) == ENTRIES_MAX
    rows = trace.document(is_shown=True)
    assert len(rows) == SHOWN_MAX
    assert rows[-1]["text"].endswith("001999<CR>")
    trace.came(b"x" * 10_000_000)
    assert sum(len(entry.data) for entry in trace._entries) <= ENTRIES_MAX * ENTRY_BYTES_MAX


def test_what_left_as_captures_is_of_the_newest_connections_and_says_where_its_beginning_is_gone():
    trace = LineTrace(lambda: 0)
    for number in range(TAKEN_MAX + 1):
        connection = trace.opened("10.0.0.7")
        trace.came(b"%02d" % number, "10.0.0.7", connection)
    received = trace.told("received", may_show=True)["received"]
    assert [b64decode(each["data"]) for each in received] == [b"%02d" % number for number in range(1, TAKEN_MAX + 1)]
    assert all(each["is_whole"] for each in received)
    trace.came(b"x" * ENTRIES_MAX * ENTRY_BYTES_MAX, "10.0.0.7", connection)
    (rest,) = trace.told("received", may_show=True)["received"]
    assert (set(b64decode(rest["data"])), rest["is_whole"]) == (set(b"x"), False)


def test_two_connections_of_one_address_are_rows_of_their_own_and_their_frames_do_not_mix():
    trace = LineTrace(lambda: 0)
    one, other = trace.opened("10.0.0.7"), trace.opened("10.0.0.7")
    for at in range(0, len(CHECKED), 5):
        for connection in (one, other):
            trace.came(CHECKED[at : at + 5], "10.0.0.7", connection)
    frames = [frame for row in trace.document(is_shown=True) for frame in row["frames"] if frame[0].startswith("STX")]
    assert frames == [["STX 1 … ETX", len(CHECKED) - 2, "good"]] * 2


def test_bytes_that_came_together_are_one_row_and_each_way_has_its_own():
    now = [0]
    trace = LineTrace(lambda: now[0])
    for byte in b"GLU":
        now[0] += 1_000
        trace.came(bytes([byte]))
    trace.went(b"\x06")
    now[0] += 1_000_000
    trace.came(b"\r")
    trace.noted("away")
    rows = [(row["way"], row["text"], row["note"]) for row in trace.document(is_shown=True)]
    assert rows == [("in", "GLU", ""), ("out", "<ACK>", ""), ("in", "<CR>", ""), ("", "", "away")]


def block(words: str) -> bytes:
    text_and_end = words.encode("cp1256") + b"\x03"
    return b"\x02" + text_and_end + b"%02X\r\n" % reduce(xor, text_and_end)


PRINTED = block("P|SID 470001|PAT-1001 فاطمة التجريبية\rGLU   5.62 mmol/l H\rCREA   <18 umol/l\r")
XOR = Framing(ends="block", check="xor-hex")


def shown(framing: Framing, pieces: list[bytes], *, apart_us: int = 10_000, charset: str = "") -> list[tuple]:
    now = [1_000_000]
    trace = LineTrace(lambda: now[0], framing=framing, charset=charset)
    for piece in pieces:
        trace.came(piece)
        now[0] += apart_us
    return [(row["length"], row["frames"]) for row in trace.document(is_shown=False)]


@given(st.integers(1, 40))
def test_a_report_is_one_row_and_judged_by_the_feeds_own_check(size):
    line = PRINTED + PRINTED.replace(b"5.62", b"5.63") + PRINTED
    pieces = [line[at : at + size] for at in range(0, len(line), size)]
    length = len(PRINTED) - 2
    assert shown(XOR, pieces) == [
        (length + 2, [["STX … ETX", length, verdict]]) for verdict in ("good", "wrong", "good")
    ]


def test_a_block_without_a_known_check_is_not_judged():
    row, behind = shown(Framing(ends="block"), [PRINTED])
    assert (row, behind) == ((len(PRINTED) - 4, [["STX … ETX", len(PRINTED) - 4, "unchecked"]]), (4, []))
    assert shown(Framing(), [b"WT 71.5\r\nWT", b" 71.6\r\n"]) == [(9, [["CR", 8, "unchecked"]])] * 2


def test_a_report_that_broke_off_is_seen_as_not_whole_and_a_pause_ends_one_that_waits_for_it():
    assert shown(XOR, [PRINTED[:20], PRINTED]) == [
        (20, [["STX … ETX", 20, "broken"]]),
        (len(PRINTED), [["STX … ETX", len(PRINTED) - 2, "good"]]),
    ]
    pause = Framing(ends="pause", quiet_s=1.0)
    assert shown(pause, [b"GLU\r", b"LEU\r"], apart_us=1_500_000) == [(4, [["pause", 4, "unchecked"]])] * 2
    assert shown(pause, [b"GLU\r", b"LEU\r"]) == [(8, [])]


def test_a_line_whose_beginning_has_left_the_ring_is_not_called_wrong():
    framing, now = Framing(check="xor-hex", line_end="cr"), [0]
    trace = LineTrace(lambda: now[0], framing=framing)
    line = b"WT 71.5 kg, a scale whose line is longer than an entry of the ring, by some words more"
    line += b"%02X\r" % reduce(xor, line)
    for _ in range(ENTRIES_MAX):
        now[0] += 1_000_000
        trace.came(line)
    verdicts = {frame[2] for row in trace.document(is_shown=False) for frame in row["frames"]}
    assert verdicts == {"good"}
    assert {frame.check for row in trace._rows() for frame in row.frames} == {"good"}


def test_shown_text_is_read_in_the_devices_character_set_and_hidden_text_is_not():
    trace = LineTrace(lambda: 0, framing=XOR, charset="cp1256")
    trace.came(PRINTED.replace(b"5.62", b"\xfe5.62"))
    (row,) = trace.document(is_shown=True)
    assert "PAT-1001 فاطمة التجريبية<CR>GLU   <U+200F>5.62" in row["text"]
    (row,) = trace.document(is_shown=False)
    assert "•••-•••• ••••• •••••••••<CR>••• " in row["text"]
    assert text("مريم".encode("cp1256") + b"\xd9", is_shown=True, charset="utf-8") == "<E3><D1><ED><E3><D9>"


def test_a_page_holds_no_more_bytes_than_its_rows_may_have_and_the_last_row_always():
    now = [0]
    trace = LineTrace(lambda: now[0], framing=Framing(ends="pause", quiet_s=1.0))
    for _ in range(ENTRIES_MAX):
        now[0] += 60_000
        trace.came(b"x" * ENTRY_BYTES_MAX)
    rows = trace.document(is_shown=True)
    assert [row["length"] for row in rows] == [ROW_BYTES_MAX] * (SHOWN_BYTES_MAX // ROW_BYTES_MAX)
