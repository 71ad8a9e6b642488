"""A slice of the fuzzing campaign of `make sim`: tests/fuzz_hl7.py."""

import random

import pytest

from tests import fuzz_hl7
from tests.fuzz_hl7 import TARGETS, Broken, mutated, run

MESSAGES = 40_000  # about twenty seconds on the build machine


@pytest.mark.parametrize("part", range(4))
def test_mutated_messages_break_nothing(part):
    many = MESSAGES // 4
    understood = run(1, part * many, many)
    assert all(count > many // 20 for count in understood.values())  # mutants that nobody understands test little


def test_a_message_is_made_from_its_seed_and_number_alone():
    assert [mutated(5, number)[0] for number in range(50)] == [mutated(5, number)[0] for number in range(50)]
    assert len({mutated(5, number)[0] for number in range(200)}) > 150


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_fails_is_reported_with_what_it_takes_to_see_it_again(name, monkeypatch):
    def broken(raw: bytes, dice: random.Random) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(fuzz_hl7.TARGETS, name, broken)
    with pytest.raises(Broken, match=f"--target {name} --seed 3 --first 7 --messages 1"):
        run(3, 7, 1, (name,))
