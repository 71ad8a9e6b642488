"""What of a bad line a drain uses, against plain TCP on the same line in the same run: one stream, then two lanes busy. Prints one JSON line a shape.

Run: python hosts.py [--scratch FOLDER] [--way namespaces|loopback] [--seconds S] [--seed N] [--congestion reno]     see tests/sim_hosts.py for the two ways
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.tools.hospital import Hospital  # `tests` is no package of the installation
from tests.hosts_net import Shape, raw_goodput
from tests.sim_hosts import WAYS, Hosts, Pair, ended, on

SHAPES = (Shape(round_trip_s=0.02, loss=0.0), Shape(round_trip_s=0.6, loss=0.0), Shape(round_trip_s=0.6, loss=0.05))
BACKLOG_PER_S = 140  # messages of the hospital that the thin link carries in a second, and a half more
SETTLE_S = 25.0  # handshake, slow start, and a dozen calls from which the quantum learns
WARM_S = 10.0
QUANTUM_S = 1.5  # of sync/lanes.py
WINDOW = 64


def fill(hosts: Hosts, pair: Pair, feed: str, count: int, hospital: Hospital) -> None:
    """So many accepted on this feed."""
    with hosts.near():
        source = pair.node.mllp(feed)
    with source:
        for _ in range(0, count, WINDOW):
            source.send(*(hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw for _ in range(WINDOW)))
            replies = b"".join(source.reply() for _ in range(WINDOW))
            if replies.count(b"MSA|AA") != WINDOW:
                raise SystemExit(f"not accepted: {replies[:300]!r}")


def drained(hosts: Hosts, pair: Pair, seconds: float) -> dict[str, float]:
    """Payload bytes a second of all lanes, from the end of a call to the end of another; frames on the line beside it."""
    edges: list[tuple[float, int, int]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        sent = int(pair.node.ask("status")["link"]["octets_sent"])
        if not edges or sent != edges[-1][1]:
            edges.append((time.perf_counter(), sent, hosts.octets_up()))
        time.sleep(0.1)
    first, last = edges[1], edges[-1]
    took = last[0] - first[0]
    return {
        "payload_per_s": (last[1] - first[1]) / took,
        "line_per_s": (last[2] - first[2]) / took,
        "calls": len(edges) - 2,
    }


def measured(hosts: Hosts, folder: Path, shape: Shape, seconds: float) -> dict[str, Any]:
    """One shape: plain TCP, one stream, two lanes, plain TCP again."""
    hosts.reshape(shape)
    raw = [raw_goodput(hosts, seconds, WARM_S)]
    pair, hospital, count = Pair(hosts, folder), Hospital(1), int(2 * (seconds + SETTLE_S) * BACKLOG_PER_S)
    try:
        pair.start()
        hosts.cut(Random(1))
        fill(hosts, pair, "his", count, hospital)
        hosts.mend()
        pair.node.ask("retry")
        time.sleep(SETTLE_S)
        one = drained(hosts, pair, seconds)
        fill(hosts, pair, "archive", count // 2, hospital)
        time.sleep(SETTLE_S)
        two = drained(hosts, pair, seconds)
        link = pair.node.ask("status")["link"]
        with pair.node.view() as view:
            waiting = {each.origin.stream: each.waiting for each in view.streams()}
    finally:
        pair.close()
    raw.append(raw_goodput(hosts, seconds, WARM_S))
    rate = sum(raw) / 2
    bound = 0.9 if shape.round_trip_s < 0.1 else 0.9 * QUANTUM_S / (QUANTUM_S + shape.round_trip_s)
    return {
        "way": hosts.name, "line": str(shape), "raw_per_s": [round(each) for each in raw],
        "one": _row(one, rate, bound), "two": _row(two, rate, 0.9 if shape.round_trip_s < 0.1 else 0.85),
        "failures": {name: lane["state"] for name, lane in link["lanes"].items()}, "goodput": link["goodput_bytes_per_s"], "waiting": waiting,
    }  # fmt: skip


def _row(found: dict[str, float], raw: float, wanted: float) -> dict[str, float]:
    return {
        "of_raw": round(found["payload_per_s"] / raw, 3),
        "wanted": round(wanted, 3),
        **{name: round(value) for name, value in found.items()},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--way", choices=tuple(WAYS), default="namespaces")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--congestion", default="")
    parser.add_argument("--shape", type=int, default=-1, help="only this one of the shapes, from 0")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, ended)
    folder = options.scratch / f"hosts-{time.time_ns()}"
    shapes = SHAPES if options.shape < 0 else SHAPES[options.shape : options.shape + 1]
    try:
        with on(options.way, shapes[0], seed=options.seed, congestion=options.congestion) as hosts:
            for number, shape in enumerate(shapes if hosts is not None else ()):
                print(json.dumps(measured(hosts, folder / str(number), shape, options.seconds)), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
