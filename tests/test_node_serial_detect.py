"""Settings found by listening: a model of a wire and of a receiver says what a wrong rate makes of a device's bytes."""

import contextlib
import os
import random
import stat
import threading
from functools import reduce
from operator import ior, xor

import pytest
from click.testing import CliRunner

from hl7.devices.line_doctor import Heard
from hl7.devices.line_guess import RATES, Trial, best, guess_framing, judge
from node.cli.line import line_command
from node.config.serial import Line
from node.lines.capture import BYTES_MAX, CaptureFile, capture
from node.lines.serial_detect import detect, listen
from tests.serial_rig import Cable

PRINT = "".join(f"#{n:04} GLU {n % 9}.{n % 7} mmol/L  LEU neg  pH 6.5\r\n" for n in range(40)).encode()
PARITIES = {"none": None, "even": 0, "odd": 1}


class Wire:
    """What a device sends, as levels over time, one bit a unit; idle is high. Between bytes lies a pause now and then."""

    def __init__(self, data: bytes, *, baud: int, bits: int, parity: str, dice: random.Random) -> None:
        self.baud, self.levels = baud, [1] * 12
        for byte in data:
            body = [byte >> at & 1 for at in range(bits)]
            odd = PARITIES[parity]
            self.levels += [0, *body, *([] if odd is None else [(sum(body) + odd) % 2]), 1]
            self.levels += [1] * ((dice.random() < 0.2) * dice.randrange(1, 30))
        self._frozen = bytes(self.levels)

    def level(self, at_s: float) -> int:
        position = int(at_s * self.baud)
        return self.levels[position] if position < len(self.levels) else 1

    def next(self, level: int, at_s: float) -> float:
        """When the line next has this level, from then on."""
        position = int(at_s * self.baud)
        if self.level(at_s) == level:
            return at_s
        found = self._frozen.find(level, position)
        return (found if found >= 0 else len(self.levels)) / self.baud + 1e-9


def heard_by(wire: Wire, line: Line) -> bytes:
    """As a receiver with these settings hands it up, wrong bytes marked as the kernel does (PARMRK)."""
    out, at, bit, end = bytearray(), 0.0, 1 / line.baud, len(wire.levels) / wire.baud
    odd = PARITIES[line.parity]
    while at < end:
        if wire.level(at):
            at = wire.next(0, at)
            continue
        if wire.level(at + bit / 2):  # a spike
            at += bit / 2
            continue
        body = [wire.level(at + bit * (1.5 + index)) for index in range(line.bits)]
        checked = line.bits + (odd is not None)
        is_good = wire.level(at + bit * (1.5 + checked)) == 1 and (
            odd is None or wire.level(at + bit * (1.5 + line.bits)) == (sum(body) + odd) % 2
        )
        byte = sum(value << index for index, value in enumerate(body))
        out += (b"\xff\xff" if byte == 0xFF else bytes([byte])) if is_good else b"\xff\x00" + bytes([byte])
        at += bit * (1.5 + checked)
        at = wire.next(1, at)  # a break ends when the line is high again
    return bytes(out)


class Receiver:
    """An open port at the end of a wire."""

    is_marking = True

    def __init__(self, data: bytes) -> None:
        self._out, into = os.pipe()
        os.write(into, data[:60_000])
        os.close(into)

    def fileno(self) -> int:
        return self._out

    def close(self) -> None:
        os.close(self._out)


def found(data: bytes, baud: int, bits: int, parity: str, seed: int = 1) -> str:
    wire = Wire(data, baud=baud, bits=bits, parity=parity, dice=random.Random(seed))
    guess = detect(
        "/dev/ttyS0",
        seconds=60,
        told=lambda _: None,
        now=lambda: 0.0,
        opener=lambda line: Receiver(heard_by(wire, line)),
    )
    return "" if guess is None else f"{guess.shorthand} {guess.sureness}"


@pytest.mark.parametrize("baud", [RATES[0], 115200, 1200])
@pytest.mark.parametrize(("bits", "parity"), [(8, "none"), (7, "even"), (7, "odd"), (8, "even"), (8, "odd")])
def test_the_settings_of_a_device_that_prints_are_found(baud, bits, parity):
    assert found(PRINT[:200], baud, bits, parity) == f"{baud} {bits}{parity[0].upper()}1 sure"


def test_text_of_another_alphabet_is_text():
    data = "الاسم: مريض تجريبي  GLU 5.4 mmol/L\r\n".encode() * 8
    assert found(data[:300], 9600, 8, "none") == "9600 8N1 sure"
    assert found(data.decode().encode("cp1256")[:300], 9600, 8, "none") == "9600 8N1 likely"


def heard_at(baud: int, data: bytes) -> Trial:
    heard = Heard()
    for at in range(0, len(data), 7):
        heard.take(data[at : at + 7])
    return Trial(baud=baud, bits=8, parity="none", heard=heard, sample=data)


def printed(name: str, check: str = "xor") -> bytes:
    text = f"P|23.11.26 10:00|SID 470001|PAT-1001 {name}\rGLU    5.62 mmol/l H\r".encode("cp1256") + b"\x03"
    return b"\x02" + text + b"%02X\r\n" % (reduce(ior if check == "none" else xor, text))


def test_check_values_that_fit_are_proof_whatever_the_alphabet_and_a_short_plain_text_is_none_beside_them():
    reports, control = (
        heard_at(9600, printed("فاطمة التجريبية") * 3),
        heard_at(57600, b"Q|LOT 88|CTRL-H\rGLU 5.1\r" * 4),
    )
    guess = best([reports, control])
    assert (guess.shorthand, guess.sureness, guess.is_proved) == ("9600 8N1", "sure", True)
    assert guess.told == "100% text (18% letters of a code page), check values fit"
    assert found(printed("فاطمة التجريبية") * 3, 4800, 8, "none") == "4800 8N1 sure"
    odd = bytes(byte | 0x80 * (byte.bit_count() % 2 == 0) for byte in printed("Test") * 3)
    assert (judge(heard_at(9600, odd)).shorthand, judge(heard_at(9600, odd)).is_proved) == ("9600 7O1", True)


def test_where_text_comes_at_several_rates_the_most_bytes_count_most():
    report, control = printed("فاطمة التجريبية", "none"), b"Q|LOT 88|CTRL-H\rGLU 5.1\r" * 4
    assert judge(heard_at(9600, report * 5)).sureness == "likely"
    assert judge(heard_at(57600, control)).sureness == "sure"
    guess = best([heard_at(9600, report * 5), heard_at(57600, control)])
    assert (guess.shorthand, guess.sureness) == ("9600 8N1", "likely")
    guess = best([heard_at(9600, report), heard_at(57600, control * 5)])
    assert (guess.shorthand, guess.sureness) == ("57600 8N1", "sure")


@pytest.mark.parametrize("seed", range(4))
def test_a_mostly_arabic_printer_is_text_in_any_pieces_and_noise_is_not(seed):
    data = "اسم المريض: فاطمة الحربي\r\nالسكر 5.4 مرتفع\r\nالكرياتينين 80 طبيعي\r\n".encode("cp1256") * 5
    dice, heard, noise = random.Random(seed), Heard(), Heard()
    whole = Heard()
    whole.take(data)
    while data:
        size = dice.randrange(1, 30)
        heard.take(data[:size])
        data = data[size:]
    assert heard.condition == whole.condition == "clear"
    assert (heard.letters, heard.text) == (whole.letters, whole.text)
    noise.take(dice.randbytes(2000))
    assert noise.condition == "binary"


@pytest.mark.parametrize("seed", range(4))
def test_a_binary_device_is_never_called_sure(seed):
    data = random.Random(seed).randbytes(300)
    assert "sure" not in found(data, 19200, 8, "none", seed)


def test_a_silent_line_gives_no_guess():
    assert found(b"", 9600, 8, "none") == ""


@pytest.mark.parametrize(
    ("baud", "listened"), [(9600, 19200), (9600, 115200), (115200, 9600), (19200, 9600), (9600, 4800)]
)
def test_the_doctor_calls_a_wrong_rate_a_wrong_rate(baud, listened):
    wire = Wire(PRINT[:1200], baud=baud, bits=8, parity="none", dice=random.Random(2))
    heard, _ = listen(
        Line(port="/dev/ttyS0", baud=listened),
        seconds=60,
        now=lambda: 0.0,
        opener=lambda line: Receiver(heard_by(wire, line)),
    )
    assert heard.condition == "wrong-rate", heard


@pytest.mark.parametrize(("bits", "parity"), [(7, "even"), (7, "odd"), (8, "even")])
def test_the_doctor_tells_a_wrong_parity_and_a_right_one(bits, parity):
    wire = Wire(PRINT[:1200], baud=9600, bits=bits, parity=parity, dice=random.Random(3))
    for line, wanted in (
        (Line(port="/dev/ttyS0"), "wrong-parity"),
        (Line(port="/dev/ttyS0", bits=bits, parity=parity), "clear"),
    ):
        heard, _ = listen(line, seconds=60, now=lambda: 0.0, opener=lambda line: Receiver(heard_by(wire, line)))
        assert heard.condition == wanted, heard


def test_arabic_text_is_no_wrong_rate():
    for charset in ("utf-8", "cp1256", "iso8859_6"):
        heard = Heard()
        heard.take(("الاسم: مريض تجريبي\r\nالسكر 5.4\r\n" * 20).encode(charset))
        assert heard.condition == "clear", charset


def block(text: bytes) -> bytes:
    total = sum(text + b"\x03") % 256
    return b"\x02" + text + b"\x03%02X\r\n" % total


@pytest.mark.parametrize(
    ("sample", "words", "lines"),
    [
        (PRINT, "lines", ['kind = "line"', 'ends = "lines"', 'line_end = "crlf"']),
        (b"WT 71.5\rWT 71.6\r", "lines", ['kind = "line"', 'ends = "lines"', 'line_end = "cr"']),
        (b"=71.5=71.6", "pause", ['kind = "line"', 'ends = "pause"']),
        (
            block(b"HB 13.2") + block(b"WBC 5.1"),
            "fit in all 2",
            ['kind = "line"', 'ends = "block"', 'check = "sum-hex"', 'covers = "text-and-end"'],
        ),
        (b"\x02HB\x03??", "no check value", ['kind = "line"', 'ends = "block"']),
        (b"\x05\x021H|\\^&\r\x03A5\r\n\x04", "ASTM", ['kind = "astm"']),
    ],
)
def test_framing_is_guessed_from_what_was_heard(sample, words, lines):
    said, told = guess_framing(sample)
    assert words in said
    assert told == lines


def test_the_command_prints_a_table_for_the_configuration_and_writes_nothing(tmp_path):
    with Cable(tmp_path) as cable:
        with sending(cable, PRINT[:120]):
            result = CliRunner().invoke(line_command, [str(cable.near), "--seconds", "20"])
        assert result.exit_code == 0, result.output
        assert "9600 8N1: sure" in result.output
        assert f'port = "{cable.near}"' in result.output
        with pytest.raises(RuntimeError, match="never came"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.serial_rig.WAIT_S_MAX", 0.05)
            cable.receive(1)


@contextlib.contextmanager
def sending(cable: Cable, data: bytes):
    """A device that prints again and again."""
    stop = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):  # nobody reads at the end, and the cable is pulled
            while not stop.wait(0.01):
                cable.send(data)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    yield
    stop.set()


def test_a_capture_holds_the_bytes_as_they_came_and_its_owner_alone_reads_it(tmp_path):
    data, file = printed("فاطمة التجريبية") + bytes(range(256)), tmp_path / "line.cap"
    with Cable(tmp_path) as cable, sending(cable, data):
        command = [str(cable.near), "--at", "9600 8N1", "--capture", str(file), "--capture-seconds", "0.4"]
        result = CliRunner().invoke(line_command, command)
        assert result.exit_code == 0, result.output
        kept = file.read_bytes()
        assert data in kept
        assert f"{file}: {len(kept)} bytes" in result.output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        again = CliRunner().invoke(line_command, command)
        assert (again.exit_code, "not overwritten" in again.output) == (64, True)
        assert file.read_bytes() == kept


def test_a_capture_follows_the_settings_that_were_found(tmp_path):
    with Cable(tmp_path) as cable, sending(cable, printed("فاطمة التجريبية")):
        command = [str(cable.near), "--capture", str(tmp_path / "line.cap"), "--capture-seconds", "0.3"]
        result = CliRunner().invoke(line_command, command)
    assert "check values fit -> sure" in result.output
    assert printed("فاطمة التجريبية") in (tmp_path / "line.cap").read_bytes()


def test_a_capture_is_bounded_and_one_without_a_byte_leaves_no_file(tmp_path):
    file = CaptureFile(tmp_path / "full.cap")
    capture(Line(port="/dev/ttyS0"), file, seconds=60, now=lambda: 0.0, opener=lambda _: Receiver(PRINT[:1000]))
    assert (file.length, file.is_full) == (1000, False)
    file.write(bytes(2 * BYTES_MAX))
    assert file.is_full
    file.close()
    assert file.path.stat().st_size == BYTES_MAX
    with Cable(tmp_path) as cable:
        command = [
            str(cable.near),
            "--at",
            "9600-8N1",
            "--capture",
            str(tmp_path / "no.cap"),
            "--capture-seconds",
            "0.2",
        ]
        result = CliRunner().invoke(line_command, command)
    assert (result.exit_code, "Nothing came" in result.output) == (1, True)
    assert not (tmp_path / "no.cap").exists()


@pytest.mark.parametrize("wrong", ["9600", "9601 8N1", "9600 9N1"])
def test_settings_that_no_line_has_are_refused_before_a_file_is_made(tmp_path, wrong):
    command = ["/dev/ttyS0", "--at", wrong, "--capture", str(tmp_path / "no.cap")]
    assert CliRunner().invoke(line_command, command).exit_code == 64
    assert not (tmp_path / "no.cap").exists()


def test_the_command_refuses_a_number_and_tells_an_absent_port():
    assert "after a restart" in CliRunner().invoke(line_command, ["/dev/ttyUSB0"]).output
    assert "SER-01" in CliRunner().invoke(line_command, ["/dev/serial/by-id/none"]).output
