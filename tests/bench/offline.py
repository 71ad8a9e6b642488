"""A node that was offline for a month: so many records accepted without a link, killed, started again, and then drained for a while.

Prints one JSON line. Run: python offline.py [--scratch FOLDER] [--records N] [--drain-s S]     30 days at 50 a minute are 2,160,000 records: 15 minutes,
3 GB in that folder, which are removed at the end. Memory is what the kernel calls VmHWM: the most that was ever resident, all mappings included.
"""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `tests` is no package of the installation
from node.tools.hospital import Hospital  # noqa: E402  # the path is set above
from tests.node_rig import END, START, Centre, Feed, Mllp, Node, Realm  # noqa: E402  # as above

PATTERNS = 4_000  # messages of the simulated hospital, told again with ids of their own: making each anew would be the longest part
WINDOW = 64  # messages in flight on one connection: what a feed takes
LANES = (
    ("his", "routine", 80),
    ("archive", "bulk", 19),
    ("alarm", "critical", 1),
)  # and the share of each in a hundred
RESTARTS = 3  # each killed while messages are being taken
READY_S_MAX = 120.0
SMALL = 20_000  # the default: seconds, and the queue is already longer than any cache of the node
QUOTA_MB = 16_384  # half of the 32 GB card that an appliance has
STREAMS = "".join(f'[[streams]]\nname = "{name}"\nlane = "{lane}"\n' for name, lane, _ in LANES)


class Ward:
    """The simulated hospital without end: every message has an id that was never sent."""

    def __init__(self) -> None:
        hospital, self._number = Hospital(1), 0
        start = datetime(2026, 1, 1, tzinfo=UTC)
        sent = [hospital.next_message(now=start + timedelta(seconds=72 * n)) for n in range(PATTERNS)]
        self._parts = [each.raw.split(each.control_id.encode(), 1) for each in sent]

    def frames(self, count: int) -> bytes:
        """So many, framed."""
        made = []
        for number in range(self._number, self._number + count):
            before, after = self._parts[number % PATTERNS]
            made.append(START + before + b"OFF-%012d" % number + after + END)
        self._number += count
        return b"".join(made)


def peak_mib(node: Node) -> float:
    """The most memory that this process ever had resident."""
    assert node.process is not None
    rows = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith("VmHWM"))) / 1024


def lanes_in_turn() -> Iterator[str]:
    """Feeds, each by its share, spread evenly."""
    owed = dict.fromkeys([name for name, _, _ in LANES], 0)
    while True:
        for name, _, share in LANES:
            owed[name] += share
        name = max(owed, key=owed.__getitem__)
        owed[name] -= 100
        yield name


def fill(node: Node, ward: Ward, count: int, *, unanswered: bool = False) -> dict[str, int]:
    """Have so many accepted, a window at a time; how many on each feed. `unanswered`: leave a last window of each without waiting for replies."""
    turn, accepted = lanes_in_turn(), dict.fromkeys([name for name, _, _ in LANES], 0)
    sources = {name: node.mllp(name) for name in accepted}
    try:
        while (left := count - sum(accepted.values())) > 0:
            name, window = next(turn), min(WINDOW, left)
            sources[name].write(ward.frames(window))
            replies = b"".join(sources[name].reply() for _ in range(window))
            if replies.count(b"MSA|AA") != window:
                raise SystemExit(f"not accepted: {replies[:300]!r}")
            accepted[name] += window
        for source in sources.values() if unanswered else ():
            source.write(ward.frames(WINDOW))
    finally:
        for source in sources.values():
            source.socket.close()
    return accepted


def cpu_s(node: Node) -> float:
    """Processor seconds of this process so far: what a start costs where others share the machine."""
    assert node.process is not None
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_answer(node: Node, ward: Ward) -> dict[str, float]:
    """Seconds from the start of the process to the first acknowledgement of a message that its source sends as often as it must."""
    began = time.perf_counter()
    node.launch(cold=True)
    frame = ward.frames(1)
    while time.perf_counter() - began < READY_S_MAX:
        try:
            with Mllp(node.feed("alarm").address) as source:
                source.write(frame)
                if b"MSA|AA" in source.reply():
                    took = time.perf_counter() - began
                    return {"first_answer_s": round(took, 3), "of_it_processor_s": round(cpu_s(node), 2)}
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"no acknowledgement in {READY_S_MAX:.0f} s:\n{node.text()[-2000:]}")


def forget_pages(folder: Path) -> None:
    """Have the kernel drop what it keeps of these files: the next start reads the disk, as after a power cut."""
    for path in folder.iterdir():
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def sizes(node: Node) -> dict[str, tuple[int, int]]:
    """Size and receipted size of each stream."""
    with node.view() as view:
        return {each.origin.stream: (each.size, each.receipted) for each in view.streams()}


def restarts(node: Node, ward: Ward, accepted: dict[str, int]) -> list[dict[str, float]]:
    """Kill it in the middle of its work and start it, some times; the last time with nothing of its store in memory."""
    found = []
    for turn in range(RESTARTS):
        for name, count in fill(node, ward, 10 * WINDOW, unanswered=True).items():
            accepted[name] += count
        peak = peak_mib(node)
        node.kill()
        cold = turn == RESTARTS - 1
        if cold:
            forget_pages(node.data)
        took = first_answer(node, ward)
        accepted["alarm"] += 1
        lost = {name: count for name, count in accepted.items() if sizes(node)[name][0] < count}
        if lost:
            raise SystemExit(f"accepted and not there: {lost} of {sizes(node)}")
        found.append({**took, "from_disk": cold, "peak_mib_before": round(peak, 1)})
    return found


def drain(node: Node, centre: Centre, seconds: float) -> dict[str, Any]:
    """Let the link come up, and look for a while."""
    centre.launch(cold=True)
    node.ask("retry")
    before, peaks = sizes(node), []
    waiting = sum(size - receipted for size, receipted in before.values())
    began = time.perf_counter()
    while time.perf_counter() - began < seconds and any(size > receipted for size, receipted in sizes(node).values()):
        peaks.append(round(peak_mib(node), 1))
        time.sleep(1)
    took, after = time.perf_counter() - began, sizes(node)
    receipted = {name: after[name][1] - before[name][1] for name in after}
    return {
        "waiting": waiting, "for_s": round(took, 1), "receipted": receipted,
        "per_s": round(sum(receipted.values()) / took), "peaks_mib": peaks[:: max(1, len(peaks) // 8)],
    }  # fmt: skip


def measured(folder: Path, records: int, drain_s: float) -> dict[str, Any]:
    """One run over a folder."""
    realm = Realm.make(folder / "realm")
    centre = Centre(realm, folder / "centre")
    feeds = [Feed(name) for name, _, _ in LANES]
    node = Node(
        realm, folder / "node", feeds=feeds, gateway=centre, outbox=f"quota_mb = {QUOTA_MB}\nfree_mb_min = 256", more=STREAMS
    )  # fmt: skip
    ward, steps = Ward(), []
    try:
        empty = first_answer(node, ward)
        wait_listening(node)
        accepted = {name: int(name == "alarm") for name, _, _ in LANES}
        began = time.perf_counter()
        for part in range(10):
            for name, count in fill(node, ward, records * (part + 1) // 10 - records * part // 10).items():
                accepted[name] += count
            steps.append(round(peak_mib(node), 1))
        took = time.perf_counter() - began
        again = restarts(node, ward, accepted)
        octets = sum(path.stat().st_size for path in node.data.iterdir() if path.is_file())
        peak = peak_mib(node)
        drained = drain(node, centre, drain_s)
        return {
            "records": sum(accepted.values()), "accepted_per_s": round(records / took), "disk_mb": round(octets / 1e6),
            "disk_bytes_per_record": round(octets / sum(accepted.values())), "peak_mib_by_tenths": steps,
            "empty": empty, "restarts": again, "peak_mib_restarted": round(peak, 1),
            "drain": drained, "peak_mib_drained": round(peak_mib(node), 1),
        }  # fmt: skip
    finally:
        node.kill()
        if centre.process is not None:
            centre.kill()


def wait_listening(node: Node) -> None:
    """Every feed, not only the one that answered."""
    for feed in node.feeds:
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                socket.create_connection(feed.address, 5).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--records", type=int, default=SMALL)
    parser.add_argument("--drain-s", type=float, default=10.0)
    options = parser.parse_args()
    folder = options.scratch / f"offline-{time.time_ns()}"
    folder.mkdir(parents=True)
    try:
        print(json.dumps(measured(folder, options.records, options.drain_s)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
