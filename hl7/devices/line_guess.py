"""Which settings a line has, and how its reports end, guessed from what was heard at several settings. Says how sure it is."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from hl7.devices.line_doctor import ENOUGH, MARKS_SHARE_MAX, Heard
from hl7.devices.lines import CHECK_BYTES, ETX, STX, Check, Covers, Framing, LineReader

# In the order in which they are tried: what most devices use first (devices' manuals; 19200 is Sysmex XN).
RATES: Final = (9600, 19200, 115200, 38400, 57600, 4800, 2400, 1200)
SURE_BYTES: Final = (
    64  # at a wrong rate, that so many come readable and unmarked does not happen: a byte does one time in three
)
SURE_SHARE: Final = 0.98
SAMPLE_BYTES_MAX: Final = 4096  # of which the framing is guessed: a few reports

Parity = Literal["none", "even", "odd"]
Sureness = Literal["sure", "likely", "perhaps", "no"]
RANKS: Final[dict[Sureness, int]] = {"sure": 3, "likely": 2, "perhaps": 1, "no": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was heard at one setting. `bits` and `parity` are those it was listened with."""

    baud: int
    bits: int
    parity: Parity
    heard: Heard
    sample: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """The settings that a trial speaks for, and how surely."""

    baud: int
    bits: int
    parity: Parity
    sureness: Sureness
    trial: Trial

    @property
    def shorthand(self) -> str:
        """As manuals write it."""
        return f"{self.baud} {self.bits}{self.parity[0].upper()}1"


def judge(trial: Trial) -> Guess:
    """What one trial says. With the highest bit as parity, 7 bits were read as 8."""
    heard, bits, parity = trial.heard, trial.bits, trial.parity
    if bits == 8 and parity == "none" and heard.share(heard.marks) <= MARKS_SHARE_MAX and heard.has_parity_as_data:
        bits, parity = 7, "even" if heard.even else "odd"
    readable = heard.readable_7 if bits == 7 else heard.readable + heard.high * _is_utf8(trial.sample)
    return Guess(baud=trial.baud, bits=bits, parity=parity, sureness=_sureness(heard, readable), trial=trial)


def _is_utf8(sample: bytes) -> bool:
    """Whether it is text of any alphabet; the first and the last character may be cut."""
    middle = sample.lstrip(bytes(range(0x80, 0xC0)))
    return len(sample) - len(middle) < 4 and any(_decodes(middle[: len(middle) - cut]) for cut in range(4))


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sureness(heard: Heard, readable: int) -> Sureness:
    if heard.total < ENOUGH or heard.share(heard.marks) > MARKS_SHARE_MAX:
        return "no"
    if heard.total >= SURE_BYTES and not heard.marks and heard.share(readable) >= SURE_SHARE:
        return "sure"
    if heard.condition in {"clear", "wrong-parity"}:
        return "likely"
    return "perhaps" if heard.condition == "binary" and not heard.marks and heard.total >= SURE_BYTES else "no"


def best(trials: list[Trial]) -> Guess | None:
    """The most likely settings. Where two are as likely, neither is more than perhaps."""
    guesses = sorted((judge(trial) for trial in trials), key=lambda guess: -RANKS[guess.sureness])
    if not guesses or guesses[0].sureness == "no":
        return None
    first, rivals = guesses[0], [guess for guess in guesses[1:] if guess.sureness == guesses[0].sureness]
    if any(rival.shorthand != first.shorthand for rival in rivals):
        return Guess(baud=first.baud, bits=first.bits, parity=first.parity, sureness="perhaps", trial=first.trial)
    return first


# -- framing -----------------------------------------------------------------------------------------------------------
def guess_framing(sample: bytes) -> tuple[str, list[str]]:
    """What the bytes look like in words, and the lines of a feed's table that would read them."""
    if re.search(rb"\x02[0-7][^\x02]*?[\x03\x17][0-9A-Fa-f]{2}\r", sample):
        return "frames of ASTM (E1381, LIS01)", ['kind = "astm"']
    if re.search(rb"\x0bMSH.*?\x1c", sample, re.DOTALL):
        return "HL7 v2 in MLLP frames: over TCP that is a feed of kind mllp", []
    if STX in sample and ETX in sample:
        return _blocks(sample)
    ends = {
        "crlf": sample.count(b"\r\n"),
        "cr": len(re.findall(rb"\r(?!\n)", sample)),
        "lf": len(re.findall(rb"(?<!\r)\n", sample)),
    }
    found = [name for name, count in ends.items() if count]
    if not found:
        return "no end that could be told: a pause ends a report", ['kind = "line"', 'ends = "pause"']
    line_end = found[0] if len(found) == 1 else "any"
    return 'lines; if a report has several, end it by a pause (ends = "pause")', ['kind = "line"', 'ends = "lines"', f'line_end = "{line_end}"']  # fmt: skip


def _blocks(sample: bytes) -> tuple[str, list[str]]:
    lines = ['kind = "line"', 'ends = "block"']
    for check, covers in _checks():
        reader = LineReader(Framing(ends="block", check=check, covers=covers))
        reports = reader.receive(sample[sample.find(STX) :], 0.0)
        if reports and all(report.fault is None for report in reports):
            return f"blocks from STX to ETX, whose check values fit in all {len(reports)}", [
                *lines,
                f'check = "{check}"',
                f'covers = "{covers}"',
            ]
    return "blocks from STX to ETX; no check value was recognised", lines


def _checks() -> list[tuple[Check, Covers]]:
    """Those with more bytes first: two digits fit by chance one time in 256, and so does one byte."""
    ways: list[Covers] = ["text-and-end", "text", "all"]
    kinds: list[Check] = ["sum-hex", "xor-hex", "xor-byte", "sum-byte"]
    return [(check, covers) for check in kinds if CHECK_BYTES[check] for covers in ways]
