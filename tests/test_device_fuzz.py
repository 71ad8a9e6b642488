"""A slice of the fuzzing campaign of `make sim` on the device machines: tests/fuzz_devices.py."""

import random

import pytest

from hl7.devices.astm_messages import Part
from tests import fuzz_devices
from tests.device_fuzz.mutants import pieces
from tests.fuzz_devices import MACHINES, Broken, TooSlow, run

INPUTS = 300  # of each machine: about five seconds together on the build machine
UNDERSTOOD = {
    "poct1a-documents": 0.08,
    "prints": 0.1,
    "payloads": 0.15,
    "polls": 0.15,
    "profiles": 0.1,
}  # mutants that nobody understands test little


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of regular expressions that a mutant of a profile holds
@pytest.mark.parametrize("name", MACHINES)
def test_mutated_sessions_of_devices_break_nothing(name):
    assert run(name, 1, 0, INPUTS) > INPUTS * UNDERSTOOD.get(name, 0.3)


def test_a_machine_that_fails_is_reported_with_what_it_takes_to_see_it_again(monkeypatch):
    def broken(dice: random.Random) -> bool:
        raise ZeroDivisionError

    monkeypatch.setitem(fuzz_devices.MACHINES, "astm", broken)
    with pytest.raises(Broken, match="--machine astm --seed 3 --first 7 --inputs 1"):
        run("astm", 3, 7, 1)


PLANTED = {
    "what is left of a transfer is forgotten": (
        "astm",
        "hl7.devices.astm_messages.Assembly.finish",
        lambda *_, **__: None,
    ),
    "what is left of a transfer lacks its last byte": (
        "astm",
        "hl7.devices.astm_messages.Assembly.finish",
        lambda self, *, is_over: (
            (self._text.strip(b"\r\n\0 ") and Part(bytes(self._text[:-1]), self.end, False)) or None
        ),
    ),
    "a transfer that stopped keeps its line": ("astm-for-days", "hl7.devices.astm_link.Link.deadline", None),
    "noise of a day keeps the next report out": ("prints-for-days", "hl7.devices.lines.LineReader.tick", lambda *_: []),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_machine_finds_it_when(what, monkeypatch):
    machine, place, broken = PLANTED[what]
    monkeypatch.setattr(place, broken)
    with pytest.raises(Broken):
        run(machine, 1, 0, INPUTS)


def test_an_input_that_takes_too_long_is_a_failure(monkeypatch):
    def endless(dice: random.Random) -> bool:
        while True:
            dice.random()

    monkeypatch.setitem(fuzz_devices.MACHINES, "astm", endless)
    monkeypatch.setattr(fuzz_devices, "CPU_S_MAX", 0.01)
    with pytest.raises(Broken) as failure:
        run("astm", 3, 7, 1)
    assert isinstance(failure.value.__cause__, TooSlow)


def test_pieces_are_the_whole():
    dice = random.Random(1)
    for size in (0, 1, 2, 50, 5000):
        raw = dice.randbytes(size)
        cuts = [pieces(raw, dice) for _ in range(20)]
        assert all(b"".join(each) == raw and b"" not in each for each in cuts)
    assert len({len(each) for each in cuts}) > 3
