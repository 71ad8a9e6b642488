"""What sixteen serial lines at 115200 baud, 200 MQTT topics and 32 Modbus points at 1 Hz, all at once, cost one core process, against one core of the machine.

    python tests/bench/devices.py [--seconds N] [--astm 8] [--printers 8] [--topics 200] [--points 32]

The node is pinned to one core; devices, broker, Modbus server and gateway run on the other. Counted is the processor time of the core process and its
children (user and system, from /proc), so the figure holds on a machine that does other work too. At the end every byte that a device had sent must lie
in the outbox as it was sent, every reading that was published must be a record, and no poll may have failed.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.errors import CoreSilent
from tests.gateway_rig import Realm
from tests.modbus_rig import ModbusFeed
from tests.mqtt_rig import Broker, MqttFeed
from tests.node_rig import ROOT, Centre, Feed, Node, wait_until

WANTED = 0.5  # of one core: issue 5
WARM_UP_S = 5.0
SETTLED_S_MAX = 300.0  # until all that was sent lies in the outbox, on a busy machine
BLOCKS = 'ends = "block"\ncheck = "xor-hex"'
NODE_CORE, OTHER_CORE = 0, 1


@dataclass
class PortFeed(Feed):
    """A feed over a serial port."""

    kind: str = "astm"
    device: str = ""

    def text(self) -> str:
        return f'[[feeds]]\nname = "{self.name}"\nkind = "{self.kind}"\n{self.lines}\n[feeds.serial]\nport = "{self.device}"\nbaud = 115200\n'


def cpu_s(pid: int) -> float:
    """User and system time of a process, its threads and its children that live."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def command(chosen: argparse.Namespace, *arguments: object) -> subprocess.Popen[bytes]:
    """One of our simulators, as a process."""
    line = [*chosen.wrapper.split(), sys.executable, "-m", "node.cli", "simulate", *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Devices:
    """The serial devices' process."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        folder.mkdir()
        self.folder, self.astm, self.count = folder, chosen.astm, chosen.astm + chosen.printers
        line = [
            *chosen.wrapper.split(),
            sys.executable,
            str(Path(__file__).parent / "serial_sources.py"),
            str(folder),
            str(chosen.astm),
            str(chosen.printers),
        ]
        line.append(str(chosen.seconds + WARM_UP_S + 1))
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin
        assert self.process.stdout
        self._in, self._out = self.process.stdin, self.process.stdout
        self._out.readline()

    def feeds(self) -> list[Feed]:
        """One for each port."""
        return [
            PortFeed(f"port-{number}", kind="astm" if number < self.astm else "line", device=str(self.folder / f"port-{number}"), listen=("-",),
                     lines=BLOCKS if number >= self.astm and number % 2 == 0 else "")
            for number in range(self.count)
        ]  # fmt: skip

    def begin(self) -> None:
        """Let them send."""
        self._in.write("\n")
        self._in.flush()

    def end(self) -> dict[str, Any]:
        """Wait for their last byte; what they say of it."""
        return dict(json.loads(self._out.readline()))

    def kill(self) -> None:
        """Unplug all."""
        self.process.kill()
        self.process.wait()

    def lost(self, node: Node) -> list[str]:
        """The ports of which not every byte, or another one, lies in the outbox."""
        return [
            f"port-{number}"
            for number in range(self.count)
            if not self._is_whole(number, node.bodies(f"port-{number}"))
        ]

    def _is_whole(self, number: int, bodies: list[bytes]) -> bool:
        sent = (self.folder / f"sent-{number}").read_bytes()
        if number < self.astm:
            return sent == b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
        if number % 2 == 0:
            return sent == b"".join(bodies)
        return sent == b"".join(
            body + b"\n" for body in bodies
        )  # a line ends at CR; the LF behind it is counted as blank


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run; the core's share of one core, and what came."""
    os.sched_setaffinity(0, {OTHER_CORE})
    broker = Broker(folder / "broker").start()
    ward = MqttFeed("ward", broker)
    cold = ModbusFeed(
        "cold", {f"fridge-{unit}": unit for unit in range(1, chosen.points + 1)}, lines="answer_ms_max = 2000"
    )
    devices, realm = Devices(folder / "ports", chosen), Realm.make(folder / "realm")
    gateway = Centre(realm, folder / "centre")
    if not chosen.no_link:
        gateway.launch(cold=True)
    node = Node(
        realm, folder / "node", feeds=[ward, cold, *devices.feeds()], gateway=None if chosen.no_link else gateway
    )
    modbus = command(
        chosen, "modbus", "--listen", f"127.0.0.1:{cold.port}", "--fridges", chosen.points, "--warm-after", -1
    )
    publisher = None
    try:
        wait_until("a Modbus server", lambda: _listens(cold.port), s_max=SETTLED_S_MAX)
        wait_until("a gateway", lambda: chosen.no_link or gateway.is_up(), s_max=SETTLED_S_MAX)
        node.launch(cold=True, wrapper=("taskset", "-c", str(NODE_CORE), *chosen.wrapper.split()))
        wait_until("a node that listens", node.is_listening, s_max=SETTLED_S_MAX)
        wait_until("a session", lambda: _is_joined(node), s_max=SETTLED_S_MAX)
        count = round(chosen.seconds + WARM_UP_S)
        publisher = command(
            chosen,
            "mqtt",
            "--to",
            f"mqtt://127.0.0.1:{broker.port}",
            "--beds",
            chosen.topics,
            "--each",
            1,
            "--count",
            count,
        )
        wait_until("the first readings", lambda: node.stream("ward").size, s_max=SETTLED_S_MAX)
        devices.begin()
        return _measured(node, devices, publisher, chosen, count)
    finally:
        for process in (publisher, modbus):
            if process is not None:
                process.kill()
        devices.kill()
        node.kill()
        if gateway.process is not None:
            gateway.kill()
        broker.kill()


def _measured(
    node: Node, devices: Devices, publisher: subprocess.Popen[bytes], chosen: argparse.Namespace, count: int
) -> dict[str, Any]:
    time.sleep(WARM_UP_S)
    assert node.process is not None
    pid = node.process.pid
    began, cpu, before = time.monotonic(), cpu_s(pid), _counts(node)
    time.sleep(chosen.seconds)
    took, used, after = time.monotonic() - began, cpu_s(pid) - cpu, _counts(node)
    said = devices.end()
    publisher.wait(SETTLED_S_MAX)
    wait_until("every reading", lambda: node.stream("ward").size >= chosen.topics * count, s_max=SETTLED_S_MAX)
    wait_until("every byte", lambda: not devices.lost(node), s_max=SETTLED_S_MAX)
    points = _asked(node, "status")["feeds"]["cold"]["points"].values()
    return {
        "share_of_one_core": round(used / took, 3), "wanted_below": WANTED, "seconds": round(took, 1), "load": round(os.getloadavg()[0], 1),
        **{name: round((after[name] - before[name]) / took, 1) for name in before},
        "line_bytes_per_s": round(sum(said["bytes"]) / said["seconds"]), "ports_with_a_byte_lost": devices.lost(node), "serial": said,
        "published": chosen.topics * count, "stored": node.stream("ward").size, "polls": sum(each["polls"] for each in points),
        "failed_polls": sum(each["failed"] for each in points), "resident_mib": round(node.rss_bytes() / 2**20, 1),
    }  # fmt: skip


def _counts(node: Node) -> dict[str, float]:
    """What it has done since its start."""
    lines = [line.split() for line in str(_asked(node, "metrics")).splitlines() if line and not line.startswith("#")]
    found = {line[0]: float(line[1]) for line in lines if len(line) == 2}
    frames = sum(each.get("link", {}).get("frames", 0) for each in _asked(node, "status")["feeds"].values())
    return {
        "records_per_s": found["wasl_commit_records_total"],
        "commits_per_s": found["wasl_commits_total"],
        "frames_per_s": frames,
    }


def _asked(node: Node, order: str) -> Any:
    """An answer of the control socket, which may take its time where the machine does other work too."""
    for _ in range(10):
        with contextlib.suppress(CoreSilent):
            return node.ask(order)
    return node.ask(order)


def _is_joined(node: Node) -> bool:
    return bool(_asked(node, "status")["feeds"]["ward"]["broker"]["subscribed"])


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    for name, default in (("astm", 8), ("printers", 8), ("topics", 200), ("points", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-link", action="store_true", help="without a gateway: what taking and storing alone cost")
    parser.add_argument(
        "--wrapper",
        default="",
        help="a command before the node's and the devices' own: `chrt -r 1` where the machine does other work",
    )
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parser.parse_args())))


if __name__ == "__main__":
    main()
