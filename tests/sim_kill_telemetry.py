"""The kill loop of telemetry: a device publishes, a line is polled, and the node is killed again and again, at any moment.

What the broker took from the device and gave to the node must be at the gateway exactly once and in order, whether the device counts its
readings or not. Of the polls of each start, the values and gaps at the gateway must join without a hole up to the last one told.

    python tests/sim_kill_telemetry.py --kills 1000 [--seed N]

SIGKILL proves recovery of the process, not of the disk. The broker is never killed here: its own promise is docs/devices-mqtt.md's matter.
"""

import argparse
import base64
import json
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.modbus_rig import Devices, over_tcp
from tests.modbus_rig import ModbusFeed as Line
from tests.mqtt_rig import Broker, Device, MqttFeed, is_joined
from tests.node_rig import EAGER, Centre, Node, Realm, wait_until

TOPICS = "".join(
    f'[[feeds.topics]]\nfilter = "{name}"\ncontent_type = "application/json"\n{identity}'
    for name, identity in (("ward/counted", 'identity = ["seq"]\n'), ("ward/plain", ""))
)
QUICK = EAGER + (
    "\nimport dataclasses, node.config_modbus as c\nasked = c.Point.request\n"
    "c.Point.request = lambda self: dataclasses.replace(asked(self), every_s=0.05)\n"
)
WORK_S_MAX = 0.4  # from being connected to the kill
START_S_MAX = 0.5  # some kills come before it is connected


class LoopError(Exception):
    """What the loop found: a promise is broken."""


class Publisher(threading.Thread):
    """A device: each reading is sent once and waited for until the broker has it. Plain readings differ in a number that is no member's name."""

    def __init__(self, broker: Broker, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._device, self._dice = Device(broker), dice
        self.sent: dict[str, list[bytes]] = {"ward/counted": [], "ward/plain": []}
        self.finishing = False

    def run(self) -> None:
        """Publish until told to finish."""
        while not self.finishing:
            topic = self._dice.choice(list(self.sent))
            number = len(self.sent[topic])
            value = self._dice.choice((97, 97, 98))  # equal bytes in a row are usual
            payload = json.dumps(
                {"seq": number, "spo2": value} if topic == "ward/counted" else {"spo2": value, "name": "مريم"}
            ).encode()
            self._device.send(topic, payload)
            self.sent[topic].append(payload)
            time.sleep(self._dice.random() * 0.01)
        self._device.close()


@dataclass
class TelemetryLoop:
    """One run over a folder. `report` is told what happens."""

    folder: Path
    kills: int
    seed: int
    report: Callable[[str], None] = print

    def run(self) -> str:
        """Kill, restart, finish, compare; a summary. Raises LoopError."""
        self.report(f"seed {self.seed}")
        self._dice = random.Random(self.seed)
        realm = Realm.make(self.folder / "realm")
        self._centre = Centre(realm, self.folder / "centre")
        broker, devices = Broker(self.folder / "broker").start(), Devices()
        line = Line("cold", {f"fridge-{unit}": unit for unit in (1, 2, 3)})
        ward = MqttFeed("ward", broker, lines="receive_max = 20", topics=TOPICS)
        self._node = Node(realm, self.folder / "node", feeds=[ward, line], gateway=self._centre)
        try:
            with over_tcp(devices, line.port):
                self._centre.launch()
                self._node.launch(before=QUICK)
                wait_until("a session", self._is_joined)
                publisher = Publisher(broker, random.Random(f"{self.seed}-p"))
                publisher.start()
                for at in range(self.kills):
                    self._kill(at, devices)
                return self._finish(publisher)
        finally:
            self._node.kill()
            self._centre.kill()
            broker.kill()

    def _is_joined(self) -> bool:
        return self._node.is_listening() and is_joined(self._node, "ward")

    def _kill(self, at: int, devices: Devices) -> None:
        if self._dice.random() < 0.2:
            time.sleep(self._dice.random() * START_S_MAX)
        else:
            wait_until("a session", self._is_joined)
            devices.mute = set(self._dice.sample((1, 2, 3), self._dice.randrange(2)))
            time.sleep(self._dice.random() * WORK_S_MAX)
        self._node.kill()
        self._node.launch(before=QUICK)
        if at % 100 == 99:
            self.report(f"{at + 1} kills")

    def _finish(self, publisher: Publisher) -> str:
        publisher.finishing = True
        publisher.join(60)
        wait_until("a session", self._is_joined)
        sent = sum(map(len, publisher.sent.values()))
        wait_until("all that was sent", lambda: self._node.stream("ward").size >= sent)
        assert self._node.stop() == 0
        self._node.launch(before=QUICK)
        wait_until("a session", self._is_joined)
        self._node.ask("retry")
        size = self._node.stream("cold").size
        self._node.wait_receipted("ward", sent)
        wait_until("polls receipted", lambda: self._node.stream("cold").receipted >= size, s_max=120)
        self._check_messages(publisher.sent)
        polls, gaps = self._check_polls()
        return f"{self.kills} kills: {sent} messages sent, {sent} at the gateway, in order, each once; {polls} polls and {gaps} gaps without a hole (seed {self.seed})"

    def _rows(self, stream: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        address = f"/v1/nodes/{self._node.name}/streams/{stream}/records?limit=2000&from="
        while lines := self._centre.get(f"{address}{len(rows)}").data.splitlines():
            rows += map(json.loads, lines)
        return rows

    def _check_messages(self, sent: dict[str, list[bytes]]) -> None:
        got = [base64.b64decode(row["body"]) for row in self._rows("ward") if row["kind"] == "message"]
        for topic, mine in sent.items():
            theirs = [body for body in got if (b'"seq"' in body) == (topic == "ward/counted")]
            if mine != theirs:
                at = next(
                    (n for n, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]),
                    min(len(mine), len(theirs)),
                )
                raise LoopError(
                    f"seed {self.seed}: {topic}: {len(mine)} sent, {len(theirs)} at the gateway; they differ at {at}"
                )

    def _check_polls(self) -> tuple[int, int]:
        told: dict[tuple[str, str], list[int]] = defaultdict(list)
        polls = gaps = 0
        for row in self._rows("cold"):
            body = json.loads(base64.b64decode(row["body"]))
            if row["kind"] == "message":
                polls += 1
                told[body["boot"], body["point"]].append(body["sequence"])
                if body["registers"] != [42, 65351, 850]:
                    raise LoopError(f"seed {self.seed}: invented registers {body}")
            elif body["subject"] != "line":
                gaps += 1
                for low, high in body["sequences"]:
                    told[body["boot"], body["subject"]] += range(low, high + 1)
        for of, turns in told.items():
            if sorted(turns) != list(range(len(turns))):
                raise LoopError(f"seed {self.seed}: turns of {of}: {sorted(turns)}")
        return polls, gaps


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        try:
            print(
                TelemetryLoop(Path(folder), options.kills, options.seed).run(), f"in {time.monotonic() - began:.0f} s"
            )
        except (LoopError, RuntimeError) as error:
            sys.exit(f"FAILED with seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
