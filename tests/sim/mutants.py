"""Plants faults one by one and looks for the schedule that finds each. `python -m tests.sim.mutants --find [NAME ...]` keeps the seeds."""

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from typing import Any

from tests.sim.bench import replace_everywhere
from tests.sim.campaign import outcome
from tests.sim.mutant_list import MUTANTS, Mutant
from tests.sim.schedule import schedule_of

KILLING_SEEDS = Path(__file__).parent / "killing_seeds.json"
SEEDS_MAX = 2000


class NotThere(Exception):
    """The text that a mutant changes is not in the function any more: the mutant needs a new one."""


def changed(mutant: Mutant) -> tuple[Any, str, Any, Any]:
    """Owner, name, the function as it is and as the mutant makes it. Raises NotThere."""
    module = import_module(mutant.at.partition(":")[0])
    *outer, name = mutant.at.partition(":")[2].split(".")
    owner = getattr(module, outer[0]) if outer else module
    original = inspect.getattr_static(owner, name)
    function = original.fget if isinstance(original, property) else original
    text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    if text.count(mutant.old) != 1:
        raise NotThere(f"{mutant.name}: {text.count(mutant.old)} times in {mutant.at}: {mutant.old}")
    line = text[: text.index(mutant.old)].rpartition("\n")[2]
    new = mutant.new.replace("\n", "\n" + line[: len(line) - len(line.lstrip())])
    scope: dict[str, Any] = {}
    exec(compile(text.replace(mutant.old, new), f"<{mutant.name}>", "exec"), vars(module), scope)
    return owner, name, original, scope[name]


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The product with this fault."""
    owner, name, original, other = changed(mutant)
    undo = [(owner, name, original)]
    if inspect.ismodule(owner):
        undo += replace_everywhere([(original, other)])
    setattr(owner, name, other)
    try:
        yield
    finally:
        for where, key, value in undo:
            setattr(where, key, value)


def find(mutant: Mutant, first: int, seeds: int) -> tuple[int, str] | None:
    """The first seed that finds the mutant within so many schedules, and what it says. A thief needs worlds whose keys change: one seed in five."""
    fit = (seed for seed in count(first) if not mutant.thief or schedule_of(seed).keys)
    with planted(mutant):
        for seed in islice(fit, seeds):
            found = outcome(seed, thief=mutant.thief)
            if found.why:
                return seed, found.why
    return None


def killing_seeds() -> dict[str, int]:
    """The kept seed of each mutant."""
    kept: dict[str, int] = json.loads(KILLING_SEEDS.read_text(encoding="utf-8")) if KILLING_SEEDS.exists() else {}
    return kept


def main() -> int:
    """Find a seed for each mutant that has none, or whose seed finds it no more."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--find", action="store_true", help="keep what is found")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    kept, survivors = killing_seeds(), []
    for mutant in MUTANTS:
        if options.names and mutant.name not in options.names:
            continue
        found = find(mutant, kept[mutant.name], 1) if mutant.name in kept else None
        found = found or find(mutant, 0, options.seeds)
        if found is None:
            survivors.append(mutant.name)
            kept.pop(mutant.name, None)
        else:
            kept[mutant.name] = found[0]
        print(f"{mutant.name:50} {'SURVIVES' if found is None else f'{found[0]:5} {found[1][:90]}'}", flush=True)
        if options.find:
            KILLING_SEEDS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{len(kept)} of {len(MUTANTS)} mutants found; survivors: {survivors or 'none'}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
