"""Two hosts for real: a node and a gateway against each other over a bad line that is cut again and again, each killed once.

    python tests/sim_hosts.py [--way namespaces|loopback|both] [--seconds 240] [--seed N] [--congestion reno]

Three sources send, one to a lane. At the end the gateway must hold exactly what was acknowledged: each stream in order, each record once,
every byte the same. One line of figures for each way; a way that this kernel or user does not have is left out with a word.
tests/bench/hosts.py measures what the same line carries. Never part of `make test`: it needs minutes of real time.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.tools.pki import issue_gateway, make_authority  # `tests` is no package of the installation
from tests.hosts_net import FAR_IP, Loopback, Namespaces, Shape, why_not
from tests.hosts_sources import LANES, ReckoningError, Source, reckon
from tests.node_rig import GATEWAY, Centre, Feed, Node, Realm, wait_until

Hosts = Namespaces | Loopback
WAYS: dict[str, type[Hosts]] = {"namespaces": Namespaces, "loopback": Loopback}
STREAMS = "".join(f'[[streams]]\nname = "{each.feed}"\nlane = "{each.lane}"\n' for each in LANES)
BETWEEN_S = (8.0, 20.0)  # between two cuts: long enough for a handshake and some calls
CUT_S = (1.0, 8.0)
LONG_CUT_S = 40.0  # once: longer than TCP_USER_TIMEOUT of the node, so that its connections die
DRAIN_S_MAX = 1800.0
READY_S_MAX = 60.0


@dataclass
class FarCentre(Centre):
    """A gateway on the far host: nodes reach it from the near one, its consumers ask on its own."""

    hosts: Any = None

    def config(self) -> Path:
        path = super().config()
        text = path.read_text().replace(
            f'[sync]\nlisten = "127.0.0.1:{self.sync_port}"',
            f'[sync]\nlisten = "{self.hosts.far_host}:{self.sync_port}"',
        )
        path.write_text(text)
        return path

    def get(self, path: str, **options: Any) -> Any:
        with self.hosts.far():
            return super().get(path, **options)

    def start_far(self) -> None:
        """Start the unmodified command on its host and wait until it is healthy."""
        with self.hosts.far():
            self.launch(cold=True)
        wait_until("a gateway that is up", self.is_up, s_max=READY_S_MAX)


@dataclass
class Pair:
    """A node and a gateway on two hosts."""

    hosts: Hosts
    folder: Path
    link: str = ""
    centre: FarCentre = field(init=False)
    node: Node = field(init=False)

    def __post_init__(self) -> None:
        realm = self.folder / "realm"
        make_authority(realm / "ca", "Test Authority")
        issue_gateway(realm / "ca", realm / "gateway", GATEWAY, ["localhost", "127.0.0.1", FAR_IP])
        self.centre = FarCentre(Realm(realm), self.folder / "centre", hosts=self.hosts)
        self.node = Node(
            Realm(realm), self.folder / "node", feeds=[Feed(each.feed) for each in LANES], more=STREAMS,
            gateway="https://{}:{}".format(*self.hosts.way_to(self.centre.sync_port)), link=self.link,
        )  # fmt: skip

    def start(self) -> None:
        """Both, and wait until they listen."""
        self.centre.start_far()
        self.start_node()

    def start_node(self) -> None:
        """The unmodified command on its host."""
        with self.hosts.near():
            self.node.launch(cold=True)
        wait_until("a node that listens", self.node.is_listening, s_max=READY_S_MAX)

    def receipted(self) -> bool:
        """Whether the gateway has receipted all that was accepted."""
        with self.node.view() as view:
            return all(stream.receipted == stream.size for stream in view.streams())

    def close(self) -> None:
        """End both."""
        self.node.kill()
        if self.centre.process is not None:
            self.centre.kill()


@dataclass
class Campaign:
    """One run on one way. `report` is told what happens."""

    hosts: Hosts
    folder: Path
    seconds: float
    seed: int
    report: Callable[[str], None] = print

    def run(self) -> str:
        """Send, cut, kill, finish, compare; a summary. Raises ReckoningError."""
        self._dice, self._cuts, self._cut_s = random.Random(self.seed), 0, 0.0
        self._pair = pair = Pair(self.hosts, self.folder)
        self._sources = [
            Source(lane, pair.node.feed(lane.feed).address, self.hosts.near, random.Random(f"{self.seed}-{lane.feed}"))
            for lane in LANES
        ]
        try:
            pair.start()
            for source in self._sources:
                source.start()
            began = time.monotonic()
            self._trouble(began)
            return self._finish(began)
        finally:
            for source in self._sources:
                source.finishing, source.fault = True, source.fault or "over"
            pair.close()

    def _trouble(self, began: float) -> None:
        """Cuts until the time is over; the kills at a third and at two thirds of it, the long cut in the middle."""
        works = [self._kill_node, self._long_cut, self._kill_centre]
        marks = [self.seconds * share for share in (0.3, 0.5, 0.7)]
        while (now := time.monotonic() - began) < self.seconds:
            if marks and now > marks[0]:
                marks.pop(0)
                works.pop(0)()
            time.sleep(self._dice.uniform(*BETWEEN_S))
            self._cut(self._dice.uniform(*CUT_S))
            self._check_faults()
        for work in works:  # a run too short for its marks
            work()

    def _cut(self, seconds: float) -> None:
        how = self.hosts.cut(self._dice)
        time.sleep(seconds)
        self.hosts.mend()
        self._cuts, self._cut_s = self._cuts + 1, self._cut_s + seconds
        self.report(f"  cut: {how}, {seconds:.1f} s; {self._count()} acknowledged")

    def _long_cut(self) -> None:
        self._cut(LONG_CUT_S)

    def _kill_node(self) -> None:
        self.report("  node killed")
        self._pair.node.kill()
        self._pair.start_node()

    def _kill_centre(self) -> None:
        self.report("  gateway killed")
        self._pair.centre.kill()
        self._pair.centre.start_far()

    def _count(self) -> int:
        return sum(len(source.acknowledged) for source in self._sources)

    def _check_faults(self) -> None:
        if faults := [source.fault for source in self._sources if source.fault]:
            raise ReckoningError(f"seed {self.seed}: {faults}")

    def _finish(self, began: float) -> str:
        for source in self._sources:
            source.finishing = True
        for source in self._sources:
            source.join(READY_S_MAX)
        self._check_faults()
        sent_s = time.monotonic() - began
        self._pair.node.ask("retry")
        wait_until("everything receipted", self._pair.receipted, s_max=DRAIN_S_MAX)
        drained_s = time.monotonic() - began - sent_s
        found = {each.lane.feed: reckon(self._pair.centre, self._pair.node.name, each) for each in self._sources}
        octets = sum(len(raw) for each in self._sources for raw in each.acknowledged)
        link = self._pair.node.ask("status")["link"]
        calls = {name: lane["dscp_seen"] for name, lane in link["lanes"].items()}
        return (
            f"{self.hosts.name}, {self.hosts.shape}: {sum(found.values())} messages ({octets / 1000:.0f} kB) acknowledged, all at the gateway, byte for"
            f" byte, in order, once: {json.dumps(found)}; {self._cuts} cuts ({self._cut_s:.0f} s of {sent_s:.0f} s), node and gateway killed once,"
            f" drained {drained_s:.0f} s after the last; {sum(each.repeats for each in self._sources)} repeats of sources; marks seen {json.dumps(calls)}"
            f" (seed {self.seed})"
        )


@contextmanager
def on(way: str, shape: Shape, *, seed: int, congestion: str = "") -> Iterator[Hosts | None]:
    """Two hosts of this kind, taken away again whatever happens; None, and a word, where there are none."""
    if way == "namespaces" and (word := why_not()):
        print(f"namespaces: left out: {word}")
        yield None
        return
    hosts = WAYS[way](shape, seed=seed, congestion=congestion)
    try:
        yield hosts
    finally:
        print(f"{way}: {hosts.close()}", flush=True)


def ended(*_: object) -> None:
    """SIGTERM: out by way of every `finally`."""
    sys.exit("ended")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=(*WAYS, "both"), default="both")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--congestion", default="", help="reno or bbr instead of the machine's own (namespaces)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, ended)
    for way in WAYS if options.way == "both" else [options.way]:
        with tempfile.TemporaryDirectory() as folder:
            congestion = options.congestion if way == "namespaces" else ""
            try:
                with on(way, Shape(), seed=options.seed, congestion=congestion) as hosts:
                    if hosts is not None:
                        print(Campaign(hosts, Path(folder), options.seconds, options.seed).run(), flush=True)
            except (ReckoningError, RuntimeError) as error:
                sys.exit(f"FAILED with seed {options.seed}: {way}: {error}")


if __name__ == "__main__":
    main()
