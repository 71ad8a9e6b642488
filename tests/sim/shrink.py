"""A failing schedule with as few faults as still fail, told so that it can be run again."""

from tests.sim.campaign import outcome
from tests.sim.schedule import schedule_of, with_thief
from tests.sim.world import Outcome


def shrink(seed: int, *, wild: bool = False, thief: bool = False) -> tuple[Outcome, set[int]]:
    """The smallest failure found by leaving out one operation after the other, and those left out."""
    found, dropped = outcome(seed, wild=wild, thief=thief), set[int]()
    schedule = schedule_of(seed, wild=wild)
    count = len((with_thief(schedule) if thief else schedule).ops)
    shrunk = True
    while shrunk:
        shrunk = False
        for number in range(count):
            if number in dropped:
                continue
            tried = outcome(seed, dropped | {number}, wild=wild, thief=thief)
            if tried.why:
                found, dropped, shrunk = tried, dropped | {number}, True
    return found, dropped


def report(seed: int, *, wild: bool = False, thief: bool = False) -> str:
    """What a person needs: what broke, the faults that it takes, and the command that runs just these."""
    found, dropped = shrink(seed, wild=wild, thief=thief)
    drop = f" --drop {','.join(map(str, sorted(dropped)))}" if dropped else ""
    trace = "\n".join(found.trace)
    command = f"python tests/sim_order.py --replay {seed}{drop}{' --wild' if wild else ''}{' --thief' if thief else ''}"
    return f"seed {seed}: {found.why}\n{trace}\nrun again: {command}"
