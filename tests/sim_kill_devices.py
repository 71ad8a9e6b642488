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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.errors import CoreSilent
from tests.kill_rig import LoopError, Source
from tests.kill_sources import Astm, Fhir, Folder, Line, Modbus, Mqtt, Pcd, Poct, Soap, Told
from tests.modbus_rig import Devices, over_tcp
from tests.mqtt_rig import Broker, is_joined
from tests.node_rig import EAGER, Centre, Node, Realm, wait_until

START_S_MAX = 0.5  # about what a warm start takes: some kills come before all listen
WORK_MAX = 3  # messages of one kind acknowledged between two kills, at most
COMPARED_EACH = 10  # kills
REPORTED_EACH = 50
COME_S_MAX = 900.0  # for what must come, on a machine that does other things
# What a node waits for in seconds, in hundredths: how long a file rests, between two polls, before a port is looked for again, between two notes that
# a line was heard. Nothing else is otherwise than in production.
QUICK = (
    EAGER
    + """
import dataclasses, node.config_modbus, node.feeds.folder, node.feeds.line_away, node.serial_port
asked, begin = node.config_modbus.Point.request, node.feeds.folder.FolderFeed.__init__
node.config_modbus.Point.request = lambda self: dataclasses.replace(asked(self), every_s=0.1)
node.feeds.folder.FolderFeed.__init__ = lambda self, feed, *more: begin(self, feed.model_copy(update={"settle_s": 0.05, "look_s": 0.03}), *more)
node.feeds.line_away.ALIVE_S = 0.05
node.serial_port.AGAIN_S_MIN = node.serial_port.AGAIN_S_MAX = 0.05
"""
)


@dataclass
class DeviceLoop:
    """One run over a folder. `report` is told what happens."""

    folder: Path
    kills: int
    seed: int
    report: Callable[[str], None] = print

    def run(self) -> str:
        """Kill, restart, compare, finish; a summary. Raises LoopError."""
        self.report(f"seed {self.seed}")
        self._dice = random.Random(self.seed)
        realm = Realm.make(self.folder / "realm")
        self._centre = Centre(realm, self.folder / "centre")
        broker, devices = Broker(self.folder / "broker").start(), Devices()
        self._sources = self._make(f"{self.seed}", broker, devices)
        self._node = Node(
            realm, self.folder / "node", feeds=[each.feed for each in self._sources], gateway=self._centre
        )
        try:
            with over_tcp(devices, self._node.feed(Modbus.name).port):
                self._centre.start()
                self._launch()
                wait_until(
                    "a session at the broker", self._is_up
                )  # it keeps nothing for a client that it does not know
                for source in self._sources:
                    source.start()
                self._kill_all()
                return self._finish()
        finally:
            for source in self._sources:
                source.abandon()
            self._node.kill()
            self._centre.kill()
            broker.kill()

    def _make(self, seed: str, broker: Broker, devices: Devices) -> list[Source]:
        quiet: list[Source] = [Pcd(seed), Fhir(seed), Soap(seed), Astm(seed), Poct(seed), Line(seed)]
        return [*quiet, Told(seed, self.folder), Folder(seed, self.folder), Mqtt(seed, broker), Modbus(devices)]

    # -- killing -----------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        for source in self._sources:
            source.stir(self._dice)
        self._node.launch(before=QUICK)

    def _is_up(self) -> bool:
        try:
            return self._node.is_listening() and is_joined(self._node, Mqtt.name)
        except CoreSilent:  # a busy machine
            return False

    def _kill_all(self) -> None:
        began = time.monotonic()
        for at in range(1, self.kills + 1):
            self._kill()
            if at % COMPARED_EACH == 0:
                self._compare()
            if at % REPORTED_EACH == 0:
                self.report(f"{at} kills, {(time.monotonic() - began) / at:.2f} s each")

    def _kill(self) -> None:
        """Let all start, or one kind of source be acknowledged something; kill; start again."""
        if self._dice.random() < 0.2:
            time.sleep(self._dice.random() * START_S_MAX)
        else:
            wait_until("a node that listens", self._is_up, s_max=COME_S_MAX)
            source = self._dice.choice(self._sources)
            goal = source.acknowledged + self._dice.randint(1, WORK_MAX)
            wait_until(
                f"acknowledgements of {source.name}",
                lambda: source.acknowledged >= goal or self._faults(),
                s_max=COME_S_MAX,
            )
            time.sleep(self._dice.random() * 0.02)
        if faults := self._faults():
            raise LoopError(f"{faults}")
        for source in self._sources:
            source.hits += source.is_amid
        self._node.kill()
        self._launch()

    def _faults(self) -> list[str]:
        return [fault for source in self._sources for fault in source.faults]

    # -- the reckoning -----------------------------------------------------------------------------------------------

    def _compare(self, *, is_end: bool = False) -> None:
        for source in self._sources:
            source.read(self._centre, self._node.name, is_end=is_end)

    def _finish(self) -> str:
        wait_until("a node that listens", self._is_up, s_max=COME_S_MAX)
        told = next(source for source in self._sources if isinstance(source, Told))
        there, others = told.there, [source for source in self._sources if source is not told]
        for source in others:
            source.finish()
        for source in others:
            source.join()
        wait_until("a report of the printer", lambda: self._read(told).there > there, s_max=COME_S_MAX)
        told.finish()
        told.join()
        self._settle(told)
        if faults := self._faults():
            raise LoopError(f"{faults}")
        self._compare(is_end=True)
        size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) // 2**20
        return f"{self.kills} kills of each kind (seed {self.seed}), {size} MiB on the disk\n  " + "\n  ".join(
            source.said() for source in self._sources
        )

    def _read(self, told: Told) -> Told:
        told.read(self._centre, self._node.name)
        return told

    def _settle(self, told: Told) -> None:
        """Wait until what was sent is stored, then end the node in good order: a stretch of failed polls is told then."""
        mqtt = next(source for source in self._sources if isinstance(source, Mqtt))
        wait_until(
            "all that the broker has", lambda: self._node.stream(mqtt.name).size >= mqtt.acknowledged, s_max=COME_S_MAX
        )
        wait_until("the last report", lambda: not self._read(told).peers[0].printed, s_max=COME_S_MAX)
        if self._node.stop():
            raise LoopError("the node did not stop in good order")
        self._launch()
        wait_until("a node that listens", self._is_up, s_max=COME_S_MAX)
        self._node.ask("retry")
        sizes = {source.name: self._node.stream(source.name).size for source in self._sources}
        wait_until(
            "everything receipted",
            lambda: all(self._node.stream(name).receipted >= size for name, size in sizes.items()),
            s_max=COME_S_MAX,
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
