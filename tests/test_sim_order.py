"""A slice of the simulator: fresh schedules of the product as it is, and for each planted fault the schedule that finds it."""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.errors import GatewayFull
from gateway.ledger import EpochCall
from gateway.ledger_queue import Waiting
from sync.receiver import Receipt
from tests.sim.campaign import Campaign, outcome
from tests.sim.machine import Broken
from tests.sim.mutant_list import MUTANTS
from tests.sim.mutants import NotThere, changed, killing_seeds, planted
from tests.sim.schedule import schedule_of
from tests.sim.shrink import report
from tests.sim.truth import Truth

ROOT = Path(__file__).parents[1]
SLICE = 60  # schedules: 20 s of a core
MUTANTS_MIN = 40


def test_order_and_durability_hold_under_a_slice_of_schedules():
    first = int(
        os.environ.get("WASL_SIM_FIRST", "2000")
    )  # fresh ones are the campaign's: what lands must not hang on dice
    campaign = Campaign()
    campaign.run(first, SLICE)
    assert not campaign.failures, "\n".join(report(each.seed) for each in campaign.failures[:2])
    assert campaign.is_sound, campaign.summary()


# what the simulator found in the product, by the seed that found it
FOUND = {
    131: "the last records of an older epoch were asked for together with the next epoch's: a damage was alarmed that is none",
    38509: "a fence that a full disk did not take was never stored, and bodies were trimmed by another ledger's receipts",
}
# the same beside a thief
FOUND_BESIDE_A_THIEF = {
    700017: "an earlier key took over a log that a restored ledger had forgotten, by leaving out the later key's signature",
    700068: "after a person's order for a further epoch the alarm stayed that the stream stands still",
    700730: "a ledger that was put back refused for ever the epoch that follows those which a thief had opened far ahead",
}


@pytest.mark.parametrize(
    ("seed", "thief"),
    [*((seed, False) for seed in FOUND), *((seed, True) for seed in FOUND_BESIDE_A_THIEF)],
    ids=[*FOUND.values(), *FOUND_BESIDE_A_THIEF.values()],
)
def test_what_was_found_once_does_not_come_back(seed, thief):
    assert not outcome(seed, thief=thief).why


@pytest.mark.parametrize("error", [None, GatewayFull("the ledger's disk is full")], ids=["taken", "rolled back"])
def test_what_a_full_disk_rolled_back_is_not_judged_as_if_it_had_been_taken(error):
    # seed 701051 without its fault 7, beside a thief: two of his statements, and then no room for the third
    world = SimpleNamespace(schedule=SimpleNamespace(keys=False), counts=Counter())
    truth, future = Truth(world), Future()
    truth.scan = lambda _: None
    if error:
        future.set_exception(error)
    else:
        future.set_result(Receipt(b""))
    call = EpochCall(node="clinic-17", stream="his", fence="a fence of before", statement=b"")
    waiting = Waiting(call, future, answer=Receipt(b""))
    with nullcontext() if error else pytest.raises(Broken, match="of an older fence was taken"):
        truth.committed(SimpleNamespace(watched=False), [waiting], "the fence")


def test_equal_seeds_are_equal_runs():
    one, other = outcome(3), outcome(3)
    assert (one.effects, one.counts, one.virtual_s, one.trace) == (
        other.effects,
        other.counts,
        other.virtual_s,
        other.trace,
    )


def test_equal_seeds_are_equal_runs_in_whatever_process():
    # sets of strings are in another order in each process, unless told otherwise
    run = "from tests.sim.campaign import outcome; one = outcome(40016); print(one.effects, sorted(one.counts.items()), one.virtual_s)"
    found = {
        subprocess.run(
            [sys.executable, "-c", run], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        for salt in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_every_schedule_has_two_faults_or_more():
    assert min(len(schedule_of(seed).ops) for seed in range(500)) >= 2


def test_there_are_forty_planted_faults_or_more_and_each_has_its_seed():
    assert len(killing_seeds()) >= MUTANTS_MIN
    assert {mutant.name for mutant in MUTANTS} == killing_seeds().keys()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found(mutant):
    seed = killing_seeds()[mutant.name]
    with planted(mutant):
        assert outcome(seed, thief=mutant.thief).why, (
            f"seed {seed} finds it no more: python -m tests.sim.mutants --find"
        )


def test_a_mutant_whose_text_is_gone_fails_loudly():
    gone = MUTANTS[0]._replace(old="this text is nowhere")
    with pytest.raises(NotThere):
        changed(gone)


def test_the_kept_seeds_are_a_sorted_table():
    text = (ROOT / "tests" / "sim" / "killing_seeds.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text))
