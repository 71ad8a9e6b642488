"""Machines that eat a stream: any chunking gives what the whole gives, what they hold is bounded, and no byte is lost without a count.

Each machine is a function of dice that makes its input, puts it through, and tells whether anything came out. AssertionError where something does not hold.
"""

import random
import re
from functools import cache
from typing import Final

from hl7.check import NO_RULES, check
from hl7.devices.astm_errors import MessageTooLong
from hl7.devices.astm_events import (
    Arrived,
    Begun,
    Closed,
    Effect,
    End,
    Ended,
    Event,
    Kept,
    Received,
    Send,
    Switches,
    Tick,
    Write,
)
from hl7.devices.astm_frames import FrameEnd, checksum, encode_all
from hl7.devices.astm_link import Link
from hl7.devices.astm_messages import Assembly, Part
from hl7.devices.astm_records import purpose, read
from hl7.devices.line_doctor import Heard
from hl7.devices.line_guess import SAMPLE_BYTES_MAX, guess_framing
from hl7.devices.line_view import Eye, hexadecimal, text
from hl7.devices.lines import CHECK_BYTES, LONGEST_FACTOR, Framing, LineReader, Report
from hl7.devices.poct1a import read_message
from hl7.devices.poct1a_conversation import Conversation, Manners
from hl7.devices.xml_documents import Broken, Divider, Document
from hl7.mllp import HEAD_BYTES, Decoder, Frame, encode
from node.lines.marked_bytes import Unmarker
from tests.device_fuzz import stock
from tests.device_fuzz.mutants import mutated, pieces

BLANK: Final = b"\r\n\0 "  # ends and fillers of records
FRAME_OVERHEAD: Final = (
    8  # STX, FN, ETX, C1, C2, CR, LF, and the byte that shows that a frame is too long; and one read may be held on top
)
_FRAME: Final = re.compile(rb"(?=\x02([0-7])([^\x03\x17]*)([\x03\x17])([0-9A-Fa-f]{2}))")  # wherever an STX stands


# ---- ASTM -------------------------------------------------------------------------------------------------------------
@cache
def sessions() -> list[bytes]:
    return stock.framed_bodies()


class Line:
    """One line as the feed drives it: every frame is stored at once, or refused where `refuses` says so."""

    def __init__(self, switches: Switches, *, needs_terminator: bool, message_bytes_max: int) -> None:
        self.link = Link(switches, 0.0)
        self.written = bytearray()
        self.texts: list[bytes] = []
        self.refused = self._read_max = 0
        self.parts: list[tuple[bytes, Part]] = []
        self.ends: list[Ended] = []
        self.left: list[Part] = []  # of transfers that are over, what no message ended
        self.others: list[Effect] = []
        self._switches, self._terminator, self._most = switches, needs_terminator, message_bytes_max
        self._begin()

    def _begin(self) -> None:
        self.assembly = Assembly(message_bytes_max=self._most, needs_terminator=self._terminator)
        self._taken, self._given = b"", 0

    def _finish(self, *, is_over: bool) -> None:
        """The transfer is over: what was taken of it is in its messages or is left, byte for byte."""
        left, rest = self.assembly.finish(is_over=is_over), self._taken[self._given :]
        if left is None:
            assert not rest.strip(BLANK), "what is left of a transfer is nowhere"
        else:
            assert (left.body, left.end) == (rest, len(self._taken))
            assert not left.is_whole or (is_over and not self._terminator)
            self.left.append(left)
        self._begin()

    def feed(self, event: Event, now: float = 0.0, *, refuses: float = 0.0, dice: random.Random | None = None) -> None:
        effects = self.link.handle(event, now)
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Write):
                self.written += effect.data
            elif isinstance(effect, Begun):
                self._begin()
            elif isinstance(effect, Ended):
                self.ends.append(effect)
                self._finish(is_over=effect.why is End.EOT)
            elif isinstance(effect, Arrived):
                is_stored = self._take(effect, is_refused=dice is not None and dice.random() < refuses)
                effects = self.link.handle(Kept(is_stored), now) + effects
            else:
                self.others.append(effect)
        self._read_max = max(self._read_max, len(event.data) if isinstance(event, Received) else 0)
        assert len(self.link._in) <= self._switches.frame_text_bytes_max + FRAME_OVERHEAD + self._read_max
        assert self.assembly.held <= self._most

    def _take(self, arrived: Arrived, *, is_refused: bool) -> bool:
        try:
            added, parts = self.assembly.take(arrived.text, is_end=arrived.is_end)
        except MessageTooLong:
            self.refused += 1
            return False
        if is_refused:
            self.assembly.undo()
            return False
        self.assembly.keep()
        self._taken += added
        self.texts.append(arrived.text)
        for part in parts:
            assert part.body == self._taken[self._given : part.end]
            self._given = part.end
            self.parts.append((self._taken, part))
        return True


def _frame_end(dice: float) -> FrameEnd:
    if dice < 0.7:
        return "crlf"
    return "cr" if dice < 0.85 else "none"


def _switches(dice: random.Random) -> Switches:
    return Switches(
        frame_text_bytes_max=dice.choice((60, 240, 240)),
        frame_end=_frame_end(dice.random()),
        without_enq=dice.random() < 0.3,
    )


def astm(dice: random.Random) -> bool:
    """A session, whole and in pieces; every fourth on a line that also sends, refuses, waits and breaks."""
    raw = mutated(dice.choice(sessions()), dice, sessions())
    if dice.random() < 0.25:
        return _busy_line(raw, dice)
    switches, terminator = _switches(dice), dice.random() < 0.5
    whole, parts = (Line(switches, needs_terminator=terminator, message_bytes_max=1000) for _ in range(2))
    whole.feed(Received(raw))
    for piece in pieces(raw, dice):
        parts.feed(Received(piece))
    for line in (whole, parts):
        for wait in (3.0, 20.0, 50.0, 100.0):
            line.feed(Tick(), wait)
    assert (parts.written, parts.texts, parts.ends, parts.link.counts) == (
        whole.written,
        whole.texts,
        whole.ends,
        whole.link.counts,
    )
    assert (parts.parts, parts.left) == (whole.parts, whole.left)
    _came_of(raw, whole, is_framed=not switches.without_enq)
    for _, part in whole.parts:
        assert purpose(read(part.body))
    return bool(whole.texts)


def _came_of(raw: bytes, line: Line, *, is_framed: bool) -> None:
    """Every text stands in the bytes, in a frame whose sum is right or as a line; where no loss was counted, all such texts came."""
    counts = line.link.counts
    if not is_framed:
        assert all(each in raw for each in line.texts)
        return
    good = [match[2] for match in _FRAME.finditer(raw) if checksum(b"".join(match.groups()[:3])) == int(match[4], 16)]
    rest = iter(good)
    assert all(any(each == other for other in rest) for each in line.texts), "a text that nobody sent in a frame"
    lost = counts.noise_bytes + counts.damaged + counts.repeats + counts.too_long + line.refused
    if not lost and b"\x02" not in b"".join(good):
        assert line.texts == good


def _busy_line(raw: bytes, dice: random.Random) -> bool:
    """Two sessions on a line of both roles, whose frames are refused now and then, with waits between; orders go out on it."""
    line = Line(_switches(dice), needs_terminator=dice.random() < 0.5, message_bytes_max=1000)
    now, sent = 0.0, 0
    for session in (raw, dice.choice(sessions())):
        for piece in pieces(session, dice):
            now += dice.choice((0.0, 0.0, 0.1, 0.6, 5.0, 40.0))
            line.feed(Received(piece), now, refuses=0.1, dice=dice)
            kind = dice.random()
            if kind < 0.05 and sent < 3:
                sent += 1
                line.feed(Send(sent, (b"H|\\^&\r", b"O|1|" + b"x" * 300 + b"\r", b"L|1|N\r")), now)
            elif kind < 0.15:
                line.feed(
                    Received(dice.choice((b"\x06", b"\x06", b"\x15", b"\x04", b"\x05"))), now, refuses=0.1, dice=dice
                )
            elif kind < 0.25:
                due = line.link.deadline
                now = now if due is None else max(now, due)
                line.feed(Tick(), now)
            elif kind < 0.26:
                line.feed(Closed(), now)
    line.feed(Closed(), now)
    assert line.link.deadline is None
    told = [getattr(each, "token", 0) for each in line.others]
    assert sorted(told) == list(range(1, sent + 1))  # each transfer of ours is told of once
    return bool(line.texts)


def sent_over_a_line(dice: random.Random) -> bool:
    """What one machine sends, another takes whole, whatever the sizes: the texts of the frames are the records."""
    profile, body = dice.choice(stock.astm())
    del profile
    records = [each + b"\r" for each in body.split(b"\r") if each]
    frames = encode_all(records, text_bytes_max=dice.choice((20, 64, 240)))
    line = Line(Switches(), needs_terminator=False, message_bytes_max=10_000)
    for piece in pieces(b"\x05" + b"".join(frames) + b"\x04", dice):
        line.feed(Received(piece))
    assert [part.body for _, part in line.parts] == [body]
    assert line.link.counts.frames == len(frames)
    return True


# ---- lines ------------------------------------------------------------------------------------------------------------
FRAMINGS: Final = (
    Framing(report_bytes_max=200), Framing(line_end="crlf", report_bytes_max=30), Framing(line_end="cr", check="sum-hex", report_bytes_max=200),
    Framing(ends="pause", report_bytes_max=400), Framing(ends="block", check="xor-hex", report_bytes_max=200), Framing(ends="block", report_bytes_max=10),
    Framing(ends="block", start=0x23, end=0x0D, check="sum-byte", covers="all", report_bytes_max=60), Framing(ends="fixed", length=24, report_bytes_max=24),
    Framing(ends="fixed", length=9, start=0x54, report_bytes_max=20), Framing(line_end="lf", start=0x53, report_bytes_max=64),
)  # fmt: skip


def lines(dice: random.Random) -> bool:
    """Prints, whole and in pieces, by framings that fit them and others."""
    raw = mutated(dice.choice(prints()), dice, prints())
    framing = dice.choice(FRAMINGS)
    whole, parts = LineReader(framing), LineReader(framing)
    reports = [*whole.receive(raw, 0.0), *whole.tick(60.0)]
    found: list[Report] = []
    most = framing.report_bytes_max + CHECK_BYTES[framing.check] + 2
    for piece in pieces(raw, dice):
        found += parts.receive(piece, 0.0)
        assert len(parts._buffer) <= most
    assert [*found, *parts.tick(60.0)] == reports
    assert (parts.noise_bytes, parts.blank_bytes) == (whole.noise_bytes, whole.blank_bytes)
    assert sum(each.length for each in reports) + whole.noise_bytes + whole.blank_bytes == len(raw)
    at = 0
    for each in reports:
        at = raw.find(each.head, at)
        assert at >= 0
        assert each.length <= LONGEST_FACTOR * framing.report_bytes_max + most
        assert len(each.head) == min(each.length, framing.report_bytes_max)
    return bool(reports)


@cache
def prints() -> list[bytes]:
    return [body for _, body in stock.lines()]


@cache
def _any_bytes() -> list[bytes]:
    return [*sessions(), *prints()]


def monitor(dice: random.Random) -> bool:
    """What the page shows of a line's bytes: the same for any cut, and nothing of a value where values are hidden."""
    raw = mutated(dice.choice(_any_bytes())[:240], dice)[:400]
    whole, eye, heard = Eye(), Eye(), Heard()
    frames = whole.receive(raw)
    cut = pieces(raw, dice)
    assert [seen for piece in cut for seen in eye.receive(piece)] == frames
    marked, plain = Unmarker(), Unmarker()
    came = [marked.receive(piece) for piece in cut]
    first, marks = plain.receive(raw)
    assert (b"".join(data for data, _ in came), sum(count for _, count in came)) == (first, marks)
    assert len(marked._rest) <= 2
    heard.take(first, marks)
    assert heard.condition in {"silent", "clear", "binary", "wrong-rate", "wrong-parity"}
    hidden = text(raw, is_shown=False)
    assert not any(each.isalnum() for each in _unnamed(hidden)), hidden
    assert len(hexadecimal(raw, is_shown=False).split(" ")) == max(1, len(raw))
    if dice.random() < 0.05:
        words, table = guess_framing(raw[:SAMPLE_BYTES_MAX])
        assert words
        assert all(" = " in each for each in table)
    return bool(frames)


def _unnamed(shown: str) -> str:
    """Without names of control characters."""
    parts = shown.split("<")
    return parts[0] + "".join(each.partition(">")[2] for each in parts[1:] if ">" in each)


# ---- XML --------------------------------------------------------------------------------------------------------------
@cache
def _documents() -> list[bytes]:
    return [body for _, body in stock.poct1a()]


def xml(dice: random.Random) -> bool:
    """A conversation's documents, whole and in pieces; the answers to them."""
    raw = mutated(dice.choice(_documents()), dice, _documents())
    most = dice.choice((300, 2500, 100_000))
    whole, parts = Divider(most), Divider(most)
    events = whole.feed(raw)
    found: list[Document | Broken] = []
    for piece in pieces(raw, dice):
        found += parts.feed(piece)
        assert parts.held <= most
    events += [last] if (last := whole.end()) is not None else []
    found += [last] if (last := parts.end()) is not None else []
    assert len(found) == len(events)
    at = 0
    for one, other in zip(events, found, strict=True):
        if isinstance(one, Document):
            assert one == other
            assert len(one.raw) <= most
        else:
            assert isinstance(other, Broken)
            assert other.flaw is one.flaw
            assert one.raw.startswith(other.raw)  # what came of it; a smaller read may see the flaw earlier
        at = raw.find(one.raw, at)
        assert at >= 0
        at += len(one.raw)
    assert whole.noise_bytes == parts.noise_bytes
    if not any(isinstance(each, Broken) for each in events):
        blank = len(raw) - len(raw.translate(None, b" \t\r\n"))
        assert len(raw) - blank <= sum(len(each.raw) for each in events) + whole.noise_bytes
    _converse([each.raw for each in events if isinstance(each, Document)], dice)
    return any(isinstance(each, Document) for each in events)


def _converse(documents: list[bytes], dice: random.Random) -> None:
    """Each document is answered once at most, and every answer is a document itself."""
    talk = Conversation(Manners(continuous=dice.random() < 0.5, acknowledges_end_of_topic=dice.random() < 0.5))
    for raw in documents:
        message = read_message(raw)
        talk.hear(message)
        said = talk.replies(message, is_taken=dice.random() < 0.8, now="2026-11-23T08:00:00+03:00")
        assert len(said) <= 2
        for each in said:
            assert read_message(each).is_xml, each
        if said and said[0].startswith(b"<ACK"):
            assert read_message(said[0]).values["ACK.ack_control_id"] == message.control_id


# ---- MLLP -------------------------------------------------------------------------------------------------------------
@cache
def _messages() -> list[bytes]:
    return [encode(body) for _, body in stock.hl7()]


def mllp(dice: random.Random) -> bool:
    """Messages of LAW and PCD-01 in frames, several one after the other."""
    raw = b"".join(mutated(dice.choice(_messages()), dice) for _ in range(dice.choice((1, 1, 2))))
    most = dice.choice((300, 100_000))
    whole, parts = Decoder(most), Decoder(most)
    events = [*whole.receive(raw), *whole.finish()]
    found = []
    for piece in pieces(raw, dice):
        found += parts.receive(piece)
        assert parts.held <= most + HEAD_BYTES
    assert [*found, *parts.finish()] == events
    assert (whole.noise_bytes, whole.bare_ends) == (parts.noise_bytes, parts.bare_ends)
    for event in events:
        if isinstance(event, Frame):
            assert event.payload in raw
            assert check(event.payload, NO_RULES).ack_code in {"AA", "AE", "AR"}
    return any(isinstance(event, Frame) for event in events)
