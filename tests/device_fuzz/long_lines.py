"""Lines that stay for days: session after session through one machine, most of them damaged. What has passed never keeps the next one out."""

import random

from hl7.devices.astm_events import Received, Switches, Tick
from hl7.devices.astm_frames import encode_all
from hl7.devices.lines import Framing, LineReader
from tests.device_fuzz import stock
from tests.device_fuzz.mutants import mutated, pieces
from tests.device_fuzz.streams import Line, prints, sessions
from tests.kill_sources.lines import block

SESSIONS = (1, 3, 12)  # through one machine
QUIET_S = 60.0  # after the last timer: an instrument that failed tries again in seconds, and prints a result a minute
TICKS_MAX = 50  # until a line is at rest: each timer of it runs out once or twice
BLOCK = Framing(ends="block", check="xor-hex", report_bytes_max=200)


def astm_for_days(dice: random.Random) -> bool:
    """After whatever came, and its time, a whole transfer is taken whole: frames, message, and nothing else."""
    line, now = Line(Switches(), needs_terminator=False, message_bytes_max=10_000), 0.0
    for _ in range(dice.choice(SESSIONS)):
        for piece in pieces(mutated(dice.choice(sessions()), dice, sessions()), dice):
            line.feed(Received(piece), now)
        now = _rest(line, now)
        _, body = dice.choice(stock.astm())
        records = [each + b"\r" for each in body.split(b"\r") if each]
        frames = encode_all(records, text_bytes_max=dice.choice((64, 240)))
        before = len(line.parts), len(line.texts), len(line.left)
        for piece in pieces(b"\x05" + b"".join(frames) + b"\x04", dice):
            line.feed(Received(piece), now)
        assert [part.body for _, part in line.parts[before[0] :]] == [body]
        assert len(line.texts) - before[1] == len(frames)
        assert len(line.left) == before[2]
    return True


def _rest(line: Line, now: float) -> float:
    """Let all its times run out; when that is."""
    for _ in range(TICKS_MAX):
        if (due := line.link.deadline) is None:
            return now + QUIET_S
        now = max(now, due)
        line.feed(Tick(), now)
    raise AssertionError("a line that is never at rest")


def prints_for_days(dice: random.Random) -> bool:
    """After whatever came, and a silence, a whole report is taken whole."""
    reader, now = LineReader(BLOCK), 0.0
    for number in range(dice.choice(SESSIONS)):
        for piece in pieces(mutated(dice.choice(prints()), dice, prints()), dice):
            reader.receive(piece, now)
        now += 3600.0
        reader.tick(now)
        report = block(number, 1, dice.choice(("Test", "مريم")))
        found = [each for piece in pieces(report, dice) for each in reader.receive(piece, now)]
        assert [(each.head, each.fault) for each in found] == [(report.rstrip(b"\r\n"), None)]
    return True
