"""A seed of a fuzzing campaign keeps its meaning: what failed once can be brought back by its number."""

import random
from hashlib import sha256

import pytest

from tests import fuzz_hl7
from tests.device_fuzz import mutants

RAW = b'MSH|^~\\&|A|B\rPID|1||7^^^X||\xd8\xb3\rOBX|1|NM|a,b;c:d="e"\r\n\x02' * 3
MADE = {mutants: "6b1bb9a6c269a02c2b27aafb0dea6b3d", fuzz_hl7: "770b27970fd254b708693378a74ca27f"}


@pytest.mark.parametrize("of", MADE, ids=lambda of: of.__name__)
def test_the_same_dice_make_the_same_bytes_as_ever_and_are_thrown_as_often(of):
    digest = sha256()
    for mutate in of.MUTATORS:
        if mutate is fuzz_hl7.splice:
            continue  # of the stock, which grows
        for seed in range(100):
            dice = random.Random(seed)
            digest.update(mutate(RAW, dice) + b"%r" % dice.random())
    assert digest.hexdigest()[:32] == MADE[of]
