"""Which settings a line has, and how its reports end, guessed from what was heard at several settings. Says how sure it is."""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from hl7.devices.line_doctor import ENOUGH, MARKS_SHARE_MAX, Heard
from hl7.devices.line_view import Eye
from hl7.devices.lines import CHECK_BYTES, ETX, STX, Check, Covers, Framing, LineReader

# In the order in which they are tried: what most devices use first (devices' manuals; 19200 is Sysmex XN).
RATES: Final = (9600, 19200, 115200, 38400, 57600, 4800, 2400, 1200)
SURE_BYTES: Final = (
    64  # at a wrong rate, that so many come readable and unmarked does not happen: a byte does one time in three
)
SURE_SHARE: Final = 0.98
# Two hexadecimal digits behind an ETX that also fit come by chance once in thousands of blocks, a byte that fits once in forty (six ways are tried).
PROOF_REPORTS: Final = {1: 3, 2: 1}  # by the check value's bytes
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
    is_proved: bool = False  # check values fit

    @property
    def sample(self) -> bytes:
        """What was heard, without the parity that was read as a bit of the data."""
        return _of_bits(self.trial, self.bits)

    @property
    def told(self) -> str:
        """What the bytes are, in words."""
        heard = self.trial.heard
        if self.bits == 7 or _is_utf8(self.trial.sample):
            text = f"{heard.share(_readable(self.trial, self.bits)):.0%} text"
        else:
            letters = f" ({heard.share(heard.letters):.0%} letters of a code page)" if heard.letters else ""
            text = f"{heard.share(heard.text):.0%} text{letters}"
        return f"{text}, check values fit" if self.is_proved else text

    @property
    def shorthand(self) -> str:
        """As manuals write it."""
        return f"{self.baud} {self.bits}{self.parity[0].upper()}1"


def judge(trial: Trial) -> Guess:
    """What one trial says. With the highest bit as parity, 7 bits were read as 8."""
    heard, bits, parity = trial.heard, trial.bits, trial.parity
    if bits == 8 and parity == "none" and heard.share(heard.marks) <= MARKS_SHARE_MAX and heard.has_parity_as_data:
        bits, parity = 7, "even" if heard.even else "odd"
    is_proved = heard.share(heard.marks) <= MARKS_SHARE_MAX and _is_proved(_of_bits(trial, bits))
    sureness = "sure" if is_proved else _sureness(heard, _readable(trial, bits))
    return Guess(baud=trial.baud, bits=bits, parity=parity, sureness=sureness, trial=trial, is_proved=is_proved)


def _of_bits(trial: Trial, bits: int) -> bytes:
    return bytes(byte & 0x7F for byte in trial.sample) if bits < trial.bits else trial.sample


def _readable(trial: Trial, bits: int) -> int:
    """Bytes that are text beyond doubt: letters of a code page may be anything."""
    heard = trial.heard
    return heard.readable_7 if bits == 7 else heard.readable + heard.high * _is_utf8(trial.sample)


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
    """The most likely settings: those that are proved, then the surest. Where two are as likely, neither is more than perhaps."""
    guesses = sorted((judge(trial) for trial in trials), key=lambda guess: (-guess.is_proved, -RANKS[guess.sureness]))
    if not guesses or guesses[0].sureness == "no":
        return None
    first = guesses[0]
    if first.is_proved:
        return first
    # A line with a wire is text at one rate alone. Where it is text at several (a pseudo-terminal, a device server), a few bytes
    # that happen to be plain outweigh no more bytes that are text too.
    texts = [guess for guess in guesses if guess.sureness in {"sure", "likely"} and _is_text(guess)]
    heaviest = max(texts, key=lambda guess: guess.trial.heard.total, default=first)
    if heaviest.shorthand != first.shorthand and heaviest.trial.heard.total > first.trial.heard.total:
        return replace(heaviest, sureness="likely")
    rivals = [guess for guess in guesses[1:] if guess.sureness == first.sureness]
    if any(rival.shorthand != first.shorthand for rival in rivals):
        return replace(first, sureness="perhaps")
    return first


def _is_text(guess: Guess) -> bool:
    heard = guess.trial.heard
    return not heard.marks and heard.condition == "clear" and heard.share(heard.text) >= SURE_SHARE


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
    if (found := _fitting(sample)) is None:
        return "blocks from STX to ETX; no check value was recognised", lines
    check, covers, count = found
    lines += [f'check = "{check}"', f'covers = "{covers}"']
    return f"blocks from STX to ETX, whose check values fit in all {count}", lines


def _fitting(sample: bytes) -> tuple[Check, Covers, int] | None:
    """The check that fits every whole block, and how many there are."""
    for check, covers in _checks():
        reader = LineReader(Framing(ends="block", check=check, covers=covers))
        reports = reader.receive(sample[max(0, sample.find(STX)) :], 0.0)
        if reports and all(report.fault is None for report in reports):
            return check, covers, len(reports)
    return None


def _is_proved(sample: bytes) -> bool:
    """Whether check values say that these bytes are as the device sent them: a frame of ASTM's, or blocks with any that is known."""
    if any(seen.check == "good" for seen in Eye().receive(sample)):
        return True
    found = _fitting(sample)
    return found is not None and found[2] >= PROOF_REPORTS[CHECK_BYTES[found[0]]]


def _checks() -> list[tuple[Check, Covers]]:
    """Those with more bytes first: two digits fit by chance one time in 256, and so does one byte."""
    ways: list[Covers] = ["text-and-end", "text", "all"]
    kinds: list[Check] = ["sum-hex", "xor-hex", "xor-byte", "sum-byte"]
    return [(check, covers) for check in kinds if CHECK_BYTES[check] for covers in ways]
