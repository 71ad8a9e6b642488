"""The kill loop of device feeds: sources of every kind send to one real node with a real gateway while the node is killed again and again.

A source sends again what was not acknowledged (MLLP's CA, ACK, ACK.R01, 201, a SOAP success, the file moved, PUBACK). All that was acknowledged must
be at the gateway once, in the order of its source, every byte the same. ASTM frames that were acknowledged are in a message or in a record marked
incomplete; polls and their gaps join without a hole; what a printer without acknowledgement printed is there, or lies within a gap record.

    python tests/sim_kill_devices.py --kills 1000 [--seed N]

Each kill hits all kinds. SIGKILL proves recovery of the process, not of the disk; the broker is never killed here.
"""

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.errors import CoreSilent
from tests.kill_loop import Loop
from tests.kill_rig import Down, LoopError, Source, now_us
from tests.kill_sources.astm import Astm
from tests.kill_sources.folder import Folder
from tests.kill_sources.hl7 import Pcd
from tests.kill_sources.http import Fhir, Soap
from tests.kill_sources.lines import Line, Told
from tests.kill_sources.modbus import Modbus
from tests.kill_sources.mqtt import Mqtt
from tests.kill_sources.poct1a import Poct
from tests.modbus_rig import Devices, over_tcp
from tests.mqtt_rig import Broker, is_joined
from tests.node_rig import EAGER, Node

WORK_MAX = 3  # messages of one kind acknowledged between two kills, at most
COMPARED_EACH = 10  # kills
REPORTED_EACH = 50
LEAST = (
    3  # messages of each source in any run, and one more for every ten kills: a source that does nothing proves nothing
)
# What a node waits for in seconds, in hundredths: how long a file rests, between two polls, before a port is looked for again, between two notes that
# a line was heard. Nothing else is otherwise than in production.
QUICK = (
    EAGER
    + """
import dataclasses, node.config.modbus, node.feeds.folder, node.feeds.line_away, node.lines.serial_port
asked, begin = node.config.modbus.Point.request, node.feeds.folder.FolderFeed.__init__
node.config.modbus.Point.request = lambda self: dataclasses.replace(asked(self), every_s=0.1)
node.feeds.folder.FolderFeed.__init__ = lambda self, feed, *more: begin(self, feed.model_copy(update={"settle_s": 0.05, "look_s": 0.03}), *more)
node.feeds.line_away.ALIVE_S = 0.05
node.lines.serial_port.AGAIN_S_MIN = node.lines.serial_port.AGAIN_S_MAX = 0.05
"""
)


@dataclass
class DeviceLoop(Loop):
    """Sources of all kinds at one node, which each kill hits."""

    start_s_max = 0.5
    rest_s_max = 0.02
    before: str = ""  # Python that each node runs first, to break something

    def make(self) -> Node:
        """One feed for each kind of source."""
        self._broker, self._devices = Broker(self.folder / "broker").start(), Devices()
        self._sources = self._all(f"{self.seed}", self._broker, self._devices)
        feeds = [each.feed for each in self._sources]
        return Node(self._realm, self.folder / "node", feeds=feeds, gateway=self._centre)

    def _all(self, seed: str, broker: Broker, devices: Devices) -> list[Source]:
        quiet: list[Source] = [Pcd(seed), Fhir(seed), Soap(seed), Astm(seed), Poct(seed), Line(seed)]
        self._told = Told(seed, self.folder)
        return [*quiet, self._told, Folder(seed, self.folder), Mqtt(seed, broker), Modbus(devices)]

    def work(self) -> str:
        with over_tcp(self._devices, self._node.feed(Modbus.name).port):
            self._centre.start()
            self._launch()
            self.wait("a session at the broker", self._is_up)  # it keeps nothing for a client that it does not know
            for source in self._sources:
                source.start()
            self._kill_all()
            return self._finish()

    def abandon(self) -> None:
        for source in self._sources:
            source.abandon()
        self._broker.kill()

    def faults(self) -> list[str]:
        return [fault for source in self._sources for fault in source.faults]

    # -- killing -----------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        for source in self._sources:
            source.stir(self._dice)
        self._node.launch(before=QUICK + self.before)

    def _is_up(self) -> bool:
        try:
            return self._node.is_listening() and is_joined(self._node, Mqtt.name)
        except CoreSilent:  # a busy machine
            return False

    def _kill_all(self) -> None:
        began = time.monotonic()
        for at in range(1, self.kills + 1):
            source = self._dice.choice(self._sources)
            self.let_work([self._is_up], lambda source=source: self.acknowledged(source), WORK_MAX, source.name)
            self._kill()
            if at % COMPARED_EACH == 0:
                self._compare()
            if at % REPORTED_EACH == 0:
                self.report(f"{at} kills, {(time.monotonic() - began) / at:.2f} s each")

    def acknowledged(self, source: Source) -> int:
        """How often it was; where it waits for the comparison, that is made first, or both would wait for ever."""
        if source.is_behind:
            source.read(self._centre, self._node.name)
        return source.acknowledged

    def _kill(self) -> None:
        """Kill and start again."""
        for source in self._sources:
            source.hits += source.is_amid
        before_us = now_us()
        self._node.kill()
        self._come_back(before_us)

    def _come_back(self, before_us: int) -> None:
        after_us = now_us()
        self._launch()
        for source in self._sources:
            source.was_down(Down(before_us, after_us, after_us))

    # -- the reckoning -----------------------------------------------------------------------------------------------

    @property
    def _least(self) -> int:
        return LEAST + self.kills // 10

    def _compare(self, *, is_end: bool = False) -> None:
        for source in self._sources:
            source.read(self._centre, self._node.name, is_end=is_end)

    def _finish(self) -> str:
        self.wait("a node that listens", self._is_up)
        there = self._told.there
        self.wait("something of each source", self._is_enough)
        others = [source for source in self._sources if source is not self._told]
        for source in others:
            source.finish()
        for source in others:
            source.join()
        self.wait("a report of the printer", lambda: self._heard() > there)
        self._told.finish()
        self._told.join()
        self._settle()
        self.check_faults()
        self._compare(is_end=True)
        for source in self._sources:
            source.check_floor(self._least)
        if not self.kills <= sum(source.hits for source in self._sources):
            raise LoopError("kills in which nothing was under way prove nothing")
        size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) // 2**20
        return f"{self.kills} kills of each kind (seed {self.seed}), {size} MiB on the disk\n  " + "\n  ".join(
            source.said() for source in self._sources
        )

    def _is_enough(self) -> bool:
        self.check_faults()
        for source in self._sources:
            if source.done == source.there:  # it counts what is at the gateway
                source.read(self._centre, self._node.name)
        return all(source.done >= self._least for source in self._sources)

    def _heard(self) -> int:
        self._told.read(self._centre, self._node.name)
        return self._told.there

    def _settle(self) -> None:
        """Wait until what was sent is stored, then end the node in good order: a stretch of failed polls is told then."""
        mqtt = next(source for source in self._sources if isinstance(source, Mqtt))
        self.wait("all that the broker has", lambda: self._node.stream(mqtt.name).size >= mqtt.acknowledged)
        self.wait("the last report", lambda: self._heard() and not self._told.peers[0].printed)
        before_us = now_us()
        if self._node.stop():
            raise LoopError("the node did not stop in good order")
        self._come_back(before_us)
        self.wait("a node that listens", self._is_up)
        self._node.ask("retry")
        sizes = {source.name: self._node.stream(source.name).size for source in self._sources}
        self.wait(
            "everything receipted",
            lambda: all(self._node.stream(name).receipted >= size for name, size in sizes.items()),
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--keep", type=Path, help="use and keep this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop, began = DeviceLoop(options.keep or Path(folder), options.kills, options.seed), time.monotonic()
        try:
            print(loop.run(), f"\n  in {time.monotonic() - began:.0f} s")
        except (LoopError, RuntimeError) as error:
            sys.exit(f"FAILED with seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
