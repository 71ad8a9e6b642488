"""What pages name is there: tests, and the planted faults with the seeds that find them."""

import re

from tests.sim.mutant_list import MUTANTS
from tests.sim.mutants import killing_seeds
from tests.tree import ROOT


def test_every_test_that_a_page_names_exists():
    files = list((ROOT / "tests").rglob("*.py"))
    have = {file.stem for file in files}
    for file in files:
        have |= set(re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    named = {(page.name, name) for page in pages for name in re.findall(r"`(?:test_\w+::)?(test_\w+)`", page.read_text(encoding="utf-8"))}  # fmt: skip
    assert len(named) > 200
    assert not sorted((page, name) for page, name in named if name not in have)


def test_the_page_of_the_simulator_lists_each_planted_fault_with_its_place_and_its_seed():
    page = (ROOT / "docs" / "reliability-simulation.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (.+?) \| `([\w.]+)` \| (\d+)(, thief)? \|$", page, re.MULTILINE)
    seeds = killing_seeds()
    planted = [
        (each.name, each.at.replace(":", "."), str(seeds[each.name]), ", thief" * each.thief) for each in MUTANTS
    ]
    assert sorted(set(listed) ^ set(planted)) == []
    assert len(listed) == len(planted)
    assert f"\n{len(planted)}, each a change of the source text" in page
