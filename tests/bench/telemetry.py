"""What 200 MQTT topics at 1 Hz and 32 Modbus points at 1 Hz cost one core process, against one core of the machine.

    python tests/bench/telemetry.py [--seconds N]

The core's own CPU time (user and system, from /proc) over the measured time; broker, devices and publisher are other processes. At the end
every reading that was published must be a record, and every turn of every point a value.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.modbus_rig import ModbusFeed
from tests.mqtt_rig import Broker, MqttFeed, is_joined, told
from tests.node_rig import ROOT, Node, Realm, wait_until

TOPICS, POINTS = 200, 32
WARM_UP_S = 3.0
WANTED = 0.5  # of one core: issue 5


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(*arguments: object) -> subprocess.Popen[bytes]:
    """One of our simulators, as a process."""
    line = [sys.executable, "-m", "node.cli", "simulate", *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(folder: Path, seconds: int) -> dict[str, Any]:
    """One run; the core's share of one core, and what came."""
    broker = Broker(folder / "broker").start()
    ward = MqttFeed("ward", broker)
    line = ModbusFeed("cold", {f"fridge-{unit}": unit for unit in range(1, POINTS + 1)}, lines="answer_ms_max = 500")
    node = Node(Realm.make(folder / "realm"), folder / "node", feeds=[ward, line])
    modbus = command("modbus", "--listen", f"127.0.0.1:{line.port}", "--fridges", POINTS, "--warm-after", -1)
    wait_until("a Modbus server", lambda: _listens(line.port))
    try:
        node.start(cold=True)
        wait_until("a session", lambda: is_joined(node, "ward"))
        count = seconds + round(WARM_UP_S) + 2
        publisher = command(
            "mqtt", "--to", f"mqtt://127.0.0.1:{broker.port}", "--beds", TOPICS, "--each", 1, "--count", count
        )
        wait_until("the first readings", lambda: node.stream("ward").size)
        time.sleep(WARM_UP_S)
        assert node.process is not None
        began, cpu, records = time.monotonic(), cpu_s(node.process.pid), _records(node)
        time.sleep(seconds)
        took, used, came = time.monotonic() - began, cpu_s(node.process.pid) - cpu, _records(node) - records
        publisher.wait(60)
        wait_until("every reading", lambda: node.stream("ward").size >= TOPICS * count, s_max=30)
        points = told(node, "cold")["points"]
        return {
            "share_of_one_core": round(used / took, 3), "wanted_below": WANTED, "seconds": round(took, 1), "records_per_s": round(came / took, 1),
            "published": TOPICS * count, "stored": node.stream("ward").size, "polls": sum(each["polls"] for each in points.values()),
            "failed_polls": sum(each["failed"] for each in points.values()), "resident_mib": round(node.rss_bytes() / 2**20, 1),
        }  # fmt: skip
    finally:
        node.kill()
        modbus.kill()
        broker.kill()


def _records(node: Node) -> int:
    return node.stream("ward").size + node.stream("cold").size


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=30)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), seconds)))


if __name__ == "__main__":
    main()
