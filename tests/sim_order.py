"""Order under faults: many schedules of the simulator (tests/sim), one line at the end. A failing seed is shrunk and told.

`python tests/sim_order.py --seeds 2000 --first 0`, `--replay SEED [--drop 1,4]`, `--wild` for schedules in which several disks are rolled back.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.sim.campaign import Campaign, outcome
from tests.sim.shrink import report

# what befell log keys, of the counts
KEY_COUNTS = ("keys changed", "keys taken out", "keys put right", "resign", "thief's taken", "jumps", "epochs ordered")
TOLD_MAX = 5  # failures that are shrunk and told; the others by number


def main() -> int:
    """Run; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--replay", type=int)
    parser.add_argument("--drop", default="")
    parser.add_argument("--wild", action="store_true")
    parser.add_argument("--keys", action="store_true", help="only schedules whose log key changes")
    parser.add_argument("--thief", action="store_true", help="these, with somebody on the way who has earlier keys")
    options = parser.parse_args()
    if options.replay is not None:
        found = outcome(
            options.replay, {int(n) for n in options.drop.split(",") if n}, wild=options.wild, thief=options.thief
        )
        print("\n".join(found.trace))
        print(f"seed {found.seed}: {found.why or 'every invariant holds'}, {found.effects} effects")
        return 1 if found.why else 0
    campaign = Campaign()
    campaign.run(options.first, options.seeds, wild=options.wild, keys=options.keys, thief=options.thief)
    for failure in campaign.failures[:TOLD_MAX]:
        print(report(failure.seed, wild=options.wild, thief=options.thief))
    if rest := [failure.seed for failure in campaign.failures[TOLD_MAX:]]:
        print(f"further failing seeds: {rest}")
    print(campaign.summary())
    if told := {kind: n for kind, n in sorted(campaign.counts.items()) if kind in KEY_COUNTS}:
        print(", ".join(f"{kind} {n}" for kind, n in told.items()))
    return 0 if campaign.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
