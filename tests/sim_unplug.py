"""A serial line for years: unplugged and killed again and again while a device prints. What the device was told is stored, is; and no time is untold.

    python tests/sim_unplug.py --turns 1000 [--kills 100] [--seed N]

The device waits for ACK after the commit and prints a report again that was not answered, so every answered report must be in the log; what it
printed into a cable that was pulled is not there, and lies within a gap record. Descriptors and memory of the node must not grow with the turns.
"""

import argparse
import json
import os
import random
import select
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sync.record import Kind
from tests.gateway_rig import Realm
from tests.kill_rig import LoopError
from tests.kill_sources.lines import block
from tests.kill_sources.words import NAMES
from tests.node_rig import Node, wait_until
from tests.serial_rig import Cable, Printer

LINES = 'ends = "block"\ncheck = "xor-hex"\nanswer = "ACK"\nanswer_bad = "NAK"\nquiet_ms = 300'
ANSWER_S_MAX = 3.0


def answered(cable: Cable, data: bytes) -> bool:
    """Print once; whether ACK came."""
    try:
        cable.send(data)
        if not select.select([cable._far], [], [], ANSWER_S_MAX)[0]:
            return False
        return os.read(cable._far, 64).endswith(b"\x06")
    except OSError:
        return False


def run(folder: Path, *, turns: int, kills: int, seed: int) -> str:
    """The whole loop; what it did. LoopError where a promise is broken."""
    dice, realm = random.Random(seed), Realm.make(folder / "realm")
    cable = Cable(folder).plug()
    node = Node(realm, folder / "node", [Printer("printer", device=str(cable.near), lines=LINES)]).start()
    wait_until("the port to be open", lambda: opens(node))
    taken: list[bytes] = []
    killed = set(dice.sample(range(turns), kills))
    began, first = time.monotonic(), {}
    try:
        for turn in range(turns):
            for _ in range(dice.randrange(1, 4)):
                data = block(len(taken), 0, dice.choice(NAMES))
                wait_until("an answer", lambda data=data: answered(cable, data))
                taken.append(data)
            if turn in killed:
                node.kill()
                node.start()
                wait_until("the port to be open", lambda: opens(node))
            if dice.random() < 0.5:
                cable.send(block(999_999, 0, dice.choice(NAMES))[: dice.randrange(1, 9)])  # pulled in the midst of it
            before = opens(node)
            cable.pull()
            cable.plug()
            wait_until("the port to be open again", lambda before=before: opens(node) > before)
            if turn == min(50, turns // 2) or turn in killed or not first:
                first = counts(node)
        wait_until("an answer", lambda: answered(cable, block(999_998, 0, "Test Patient")))
        last = counts(node)
        if last["files"] > first["files"] + 4 or last["threads"] > first["threads"]:
            raise LoopError(f"grew: {first} -> {last}")
        time.sleep(2.5)  # a gap is recorded when the port has stayed
        return verdict(node, taken, turns, kills) + f", {time.monotonic() - began:.0f} s; {first} -> {last}"
    finally:
        node.kill()
        cable.pull()


def opens(node: Node) -> int:
    """How often the node has opened the port since its start."""
    return int(node.ask("status")["feeds"]["printer"]["line"]["opens"])


def counts(node: Node) -> dict[str, int]:
    """What must not grow."""
    base = Path(f"/proc/{node.process.pid}")
    return {
        "files": len(list((base / "fd").iterdir())),
        "threads": len(list((base / "task").iterdir())),
        "rss_kb": node.rss_bytes() // 1024,
    }


def verdict(node: Node, taken: list[bytes], turns: int, kills: int) -> str:
    records = node.records("printer")
    bodies = [each.body for each in records if each.header.kind is Kind.MESSAGE]
    rest = iter(bodies)
    missing = [data for data in taken if not any(body == data.rstrip(b"\r\n") for body in rest)]
    if missing:
        raise LoopError(f"{len(missing)} answered reports are not in the log in their order, the first: {missing[0]!r}")
    gaps = [json.loads(each.body) for each in records if each.header.kind is Kind.GAP]
    told = sum(gap["codes"].get("SER-01", 0) + gap["codes"].get("SER-02", 0) for gap in gaps)
    restarts = sum(gap["codes"].get("SER-07", 0) for gap in gaps)
    if restarts < kills or not gaps or any(gap["first_us"] > gap["last_us"] for gap in gaps):
        raise LoopError(f"{kills} kills, {restarts} told in {len(gaps)} gaps")
    cut = sum(each.header.kind is Kind.INCOMPLETE for each in records)
    return (
        f"{turns} unplugs, {kills} kills: {len(taken)} answered reports, all there in order; {len(bodies) - len(taken)} beyond them (repeated), "
        f"{cut} cut off, {len(gaps)} gap records telling {told} times away and {restarts} restarts"
    )


def main() -> None:
    """Run it over a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wasl-unplug-") as folder:
        print(run(Path(folder), turns=options.turns, kills=options.kills, seed=options.seed))


if __name__ == "__main__":
    main()
