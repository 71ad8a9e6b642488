"""Mutated sessions against everything that receives from devices: no exception but the documented one, and what must hold of any bytes holds.

`python tests/fuzz_devices.py --inputs 10000000` (so many for each machine) is part of `make sim`; tests/test_device_fuzz.py runs a slice. An input is
made from (seed, number) alone: `--machine NAME --seed S --first N --inputs 1` gives the same one again.
"""

import argparse
import multiprocessing
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.device_fuzz import bodies, long_lines, streams

BLOCK = 2000  # inputs between two reports of a process
CPU_S_MAX = 5.0  # of one input: a thousand times what the slowest takes

Machine = Callable[[random.Random], bool]
MACHINES: dict[str, Machine] = {
    each.__name__.replace("_", "-"): each
    for each in (
        *(streams.astm, streams.sent_over_a_line, streams.lines, streams.monitor, streams.xml, streams.mllp),
        *(bodies.astm_records, bodies.device_messages, bodies.poct1a_documents, bodies.prints, bodies.payloads, bodies.polls, bodies.files),
        *(bodies.topics, bodies.profiles, bodies.captures, long_lines.astm_for_days, long_lines.prints_for_days),
    )
}  # fmt: skip


class Broken(Exception):
    """A machine failed: which, on what."""


class TooSlow(Exception):
    """An input takes as long as no input may."""


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow


def run(name: str, seed: int, first: int, inputs: int) -> int:
    """Put so many inputs through a machine; how many it understood. Raises Broken."""
    machine, understood = MACHINES[name], 0
    before = signal.signal(signal.SIGVTALRM, _give_up)
    try:
        for number in range(first, first + inputs):
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
            try:
                understood += machine(random.Random(seed << 40 | number))
            except Exception as error:
                raise Broken(f"--machine {name} --seed {seed} --first {number} --inputs 1: {error!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return understood


def _block(job: tuple[str, int, int, int]) -> tuple[int, float]:
    began = time.process_time()
    return run(*job), time.process_time() - began


def campaign(name: str, seed: int, first: int, inputs: int, jobs: int) -> None:
    """One machine's inputs; prints how many it took and at which rate of a core."""
    end = first + inputs
    blocks = [(name, seed, at, min(BLOCK, end - at)) for at in range(first, end, BLOCK)]
    done = understood = 0
    spent = 0.0
    with multiprocessing.Pool(jobs) as pool:
        for (_, _, _, many), (good, took) in zip(blocks, pool.imap(_block, blocks), strict=True):
            done, understood, spent = done + many, understood + good, spent + took
            if done % (BLOCK * 25) == 0:
                print(f"{name}: {done:,} inputs, {done / spent:,.0f} a second of one core", flush=True)
    print(f"{name}: {done:,} inputs (seed {seed}, from {first}), {understood / done:.0%} understood, {done / spent:,.0f} a second of one core; no failure", flush=True)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="for each machine")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--machine", action="append", choices=tuple(MACHINES), help="only these; all without")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # of regular expressions that a mutant of a profile holds
    for name in chosen.machine or MACHINES:
        campaign(name, chosen.seed, chosen.first, chosen.inputs, chosen.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
