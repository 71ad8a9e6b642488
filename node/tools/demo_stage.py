"""The demo as it runs: three processes, the link between them, the hospital, and the witness; and what a person may do to them."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from node.control import ask
from node.errors import CoreSilent
from node.tools.demo_devices import DEVICES, Spot, broker_configuration
from node.tools.demo_folder import FEEDS, NODE, DemoFolder
from node.tools.demo_link import Link
from node.tools.demo_notebook import Mark
from node.tools.demo_ports import HOST, Ports
from node.tools.demo_scene import Scene
from node.tools.demo_story import Story
from node.tools.demo_supervisor import Child, Program, word_for
from node.tools.demo_traffic import Traffic, send_headless
from node.tools.demo_witness import Witness
from node.tools.mllp_client import NoReplyError

READY_S_MAX = 90.0  # three Pythons on a slow machine with cold disks
READY_TURN_S = 0.1
TURN_S = 0.4  # between two looks at node and gateway
SETTLE_S_MAX = 0.6  # what was acknowledged a moment ago may still be on its way: a receipt takes some 50 ms
SETTLE_TURN_S = 0.08

CORE, WEB, GATEWAY = "node", "web", "gateway"


class NotReady(Exception):
    """The installation's or the machine's: a process ended, or did not become ready; the text says which and its last words."""


class Stage:
    """Everything that runs in one data directory. Used from the event loop; the witness and the hospital have threads."""

    def __init__(self, folder: DemoFolder, ports: Ports, *, rate: int) -> None:
        self.folder, self.ports, self.story = folder, ports, Story()
        token = folder.prepare(ports)
        self.web, self.api = f"http://{HOST}:{ports.web}", f"http://{HOST}:{ports.api}"
        self._token = token
        self.addresses = {feed.name: feed.address(ports.feed(place)) for place, feed in enumerate(FEEDS)}
        spots = [folder.spot(ports, place) for place, _ in enumerate(DEVICES)]
        self.addresses |= {device.name: device.address(spot) for device, spot in zip(DEVICES, spots, strict=True)}
        self._asked = [*self._programs(spots, is_asked=True, is_silent=not rate)]
        self._calling = [*self._programs(spots, is_asked=False, is_silent=not rate)]
        self._run = folder.next_run()
        hospital = {feed.name: self.addresses[feed.name] for feed in FEEDS if feed.kind == "mllp"}
        self._traffic = Traffic(hospital, run=self._run, rate=rate)
        self._witness = Witness(self.web, self.api, NODE, token, self._traffic.notebook)
        self._link = Link(HOST, ports.link, ports.sync)
        self._children = {
            name: Child(Program(name=name, arguments=arguments, log=folder.log_file(name)), on_start=self._started, on_end=self._ended)
            for name, arguments in (
                (GATEWAY, ("gateway", "--config", str(folder.gateway_config))),
                (CORE, ("node.cli", "node", "--config", str(folder.node_config))),
                (WEB, ("node.cli", "web", "--config", str(folder.node_config))),
            )
        }  # fmt: skip
        self._is_announced = False
        self._failed: Child | None = None
        self._gone: dict[str, float] = {}  # who was killed, and when, until it is seen to be back
        self._drain: tuple[Mark, float] | None = None  # where the notebook stood when the link was restored, and when
        self._done: set[str] = set()
        self._busy = asyncio.Lock()
        self.scene = self._look(Mark(0, 0), None, answered=False)

    def _programs(self, spots: Sequence[Spot], *, is_asked: bool, is_silent: bool) -> Iterator[Child]:
        """The simulators of devices that the node connects to, or of those that connect to it; the broker before the one that needs it.

        `is_silent`: the broker alone, which says nothing by itself: somebody else may publish there.
        """
        for device, spot in zip(DEVICES, spots, strict=True):
            if device.is_asked is not is_asked:
                continue
            log = self.folder.log_file(device.name)
            simulator = Program(name=device.name, arguments=("node.cli", "simulate", *device.command(spot)), log=log)
            programs = [] if is_silent else [simulator]
            if device.broker:
                arguments = ("-c", str(broker_configuration(spot)))
                programs.insert(
                    0,
                    Program(
                        name="broker", arguments=arguments, log=self.folder.log_file("broker"), binary=device.broker
                    ),
                )
            for program in programs:
                yield Child(program, on_start=lambda _: None, on_end=lambda *_: None)

    # -- from the first process to the last ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the link and the processes."""
        await self._link.restore()
        for child in (*self._asked, *self._children.values()):
            await child.start()

    async def open(self) -> None:
        """Wait until the first record can go all the way; write demo.json; let the hospital send. NotReady."""
        deadline_s = time.monotonic() + READY_S_MAX
        while not await asyncio.to_thread(self._is_ready):
            if self._failed is not None:
                raise NotReady(f"{self._failed.name} does not start:\n{self._failed.last_words()}")
            if time.monotonic() > deadline_s:
                raise NotReady(f"not ready after {READY_S_MAX:.0f} s; see {self.folder.path / 'logs'}")
            await asyncio.sleep(READY_TURN_S)
        await asyncio.to_thread(self._witness.skip_history)
        self._is_announced = True
        self._announce()
        self.story.tell("unproven", "opened")
        self._traffic.start()
        for device in self._calling:
            await device.start()

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._turn()
            await asyncio.sleep(TURN_S)

    async def close(self) -> None:
        """Stop all: the sources first, so that nothing is half said."""
        self._is_announced = False
        self.folder.withdraw()
        self._traffic.stop()
        await asyncio.gather(*(device.stop() for device in (*self._asked, *self._calling)))
        await asyncio.gather(*(child.stop() for child in self._children.values()))
        self._link.cut()

    def _is_ready(self) -> bool:
        """Node and gateway answer, and the gateway has answered the node: a session is open."""
        if not self._witness.is_ready():
            return False
        link = (self._witness.status() or {}).get("link", {})
        if link.get("state") == "down":  # it asked before the gateway was there
            self._ask_retry()
        return link.get("round_trip_ms") is not None and link.get("state") in {"up", "unproven"}

    def _ask_retry(self) -> None:
        """Tell the node that the way is mended; it would else try again within a minute."""
        with contextlib.suppress(CoreSilent):  # it is down: a start asks by itself
            ask(self.folder.node_data, "retry")

    # -- what a person may do -----------------------------------------------------------------------------------------

    def actions(self) -> dict[str, Callable[[], Any]]:
        """Each button's work by its name; coroutine functions."""
        return {
            "cut": self.cut, "restore": self.restore, "kill-node": self.kill_node, "kill-gateway": self.kill_gateway,
            "headless": self.send_headless, "slower": self.slower, "faster": self.faster,
        }  # fmt: skip

    async def cut(self) -> None:
        """Cut the link between node and gateway."""
        if self._link.is_up:
            self._link.cut()
            self._drain = None
            self._done.add("cut")
            self.story.tell("waiting", "cut")

    async def restore(self) -> None:
        """Mend it, and tell the node."""
        if self._link.is_up:
            return
        await self._link.restore()
        mark = self._traffic.notebook.mark()
        self._drain = mark, time.monotonic()
        self.story.tell("unproven", "restored", n=self._traffic.notebook.tally(mark).waiting)
        await asyncio.to_thread(self._ask_retry)

    async def kill_node(self) -> None:
        """Kill -9 of node core."""
        self._children[CORE].kill()

    async def kill_gateway(self) -> None:
        """Kill -9 of the gateway."""
        self._children[GATEWAY].kill()

    async def send_headless(self) -> None:
        """Send a message without MSH to the feed `his`."""
        async with self._busy:
            try:
                code = await asyncio.to_thread(send_headless, self.addresses["his"], self._run)
            except NoReplyError:
                self.story.tell("attention", "headless-unanswered")
            else:
                self.story.tell("attention", "headless", code=code)

    async def slower(self) -> None:
        """Send fewer a second, down to none."""
        self.story.tell("unproven", "rate", n=self._traffic.change(-1))

    async def faster(self) -> None:
        """Send more a second."""
        self.story.tell("unproven", "rate", n=self._traffic.change(+1))

    # -- processes ----------------------------------------------------------------------------------------------------

    def _started(self, child: Child) -> None:
        self._announce()
        if child.name in self._gone:
            self.story.tell("unproven", f"{child.name}-again", pid=str(child.pid))

    def _ended(self, child: Child, code: int) -> None:
        if not self._is_announced:
            self._failed = child
            return
        self._gone.setdefault(child.name, time.monotonic())
        self.story.tell("attention", f"{child.name}-gone", how=word_for(code))

    def _announce(self) -> None:
        if not self._is_announced:
            return
        feeds = {
            feed.name: {"kind": feed.kind, "stream": feed.name, "address": self.addresses[feed.name]}
            for feed in (*FEEDS, *DEVICES)
        }
        self.folder.announce(
            {
                "data_dir": str(self.folder.path),
                "node": {"name": NODE, "pid": self._children[CORE].pid, "web": self.web, "feeds": feeds},
                "gateway": {"pid": self._children[GATEWAY].pid, "api": self.api, "token": self._token},
            }
        )

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        mark = self._traffic.notebook.mark()
        status, answered = await asyncio.to_thread(self._observe, mark)
        before, self.scene = self.scene, self._look(mark, status, answered=answered)
        self._tell_news(before, status)

    def _observe(self, mark: Mark) -> tuple[dict[str, Any] | None, bool]:
        """In a thread: read what is new at the centre, with a little patience for what is on its way; then the node's status."""
        until_s = time.monotonic() + SETTLE_S_MAX
        while answered := self._witness.read():
            if not self._traffic.notebook.tally(mark).waiting or not self._link.is_up or time.monotonic() > until_s:
                break
            time.sleep(SETTLE_TURN_S)
        return self._witness.status(), answered

    def _look(self, mark: Mark, status: dict[str, Any] | None, *, answered: bool) -> Scene:
        core, totals = self._children[CORE], (status or {}).get("totals", {})
        is_core_up = status is not None and status["core"]["running"] and status["core"]["pid"] == core.pid
        return Scene(
            tally=self._traffic.notebook.tally(mark), rate=self._traffic.rate, is_linked=self._link.is_up, is_node_up=is_core_up,
            is_gateway_up=answered, node_pid=core.pid, gateway_pid=self._children[GATEWAY].pid, node_waiting=totals.get("waiting"),
            node_receipted=totals.get("receipted"), done=frozenset(self._done),
        )  # fmt: skip

    def _tell_news(self, before: Scene, status: dict[str, Any] | None) -> None:
        scene, tally = self.scene, self.scene.tally
        for name, is_up in ((CORE, scene.is_node_up), (GATEWAY, scene.is_gateway_up), (WEB, status is not None)):
            if is_up and name in self._gone and self._children[name].pid:
                took_s = time.monotonic() - self._gone.pop(name)
                self._done.add(name)
                self.story.tell("ok", f"{name}-back", s=f"{took_s:.1f}")
        if self._drain is not None:
            self._tell_drained(*self._drain)
        if (tally.lost, tally.doubled) != (before.tally.lost, before.tally.doubled):
            self.story.tell("failed", "wrong", lost=tally.lost, doubled=tally.doubled)
        for found in self._witness.headless:
            self._done.add("headless")
            self.story.tell("ok", "headless-arrived", place=f"{found.stream}/{found.epoch}/{found.seq}")
        self._witness.headless.clear()

    def _tell_drained(self, mark: Mark, since_s: float) -> None:
        """Say when all that had been acknowledged before the link came back is confirmed."""
        then = self._traffic.notebook.tally(mark)
        if then.waiting:
            return
        self._drain = None
        if then.sent and not (then.lost or then.doubled):
            self._done.add("restore")
            self.story.tell("ok", "drained", n=then.confirmed, s=f"{time.monotonic() - since_s:.1f}")


def is_silent() -> bool:
    """Whether WASL_DEMO_FEEDS asks for a hospital that sends nothing. ValueError: neither "none" nor empty."""
    wanted = os.environ.get("WASL_DEMO_FEEDS", "")
    if wanted not in {"", "none"}:
        raise ValueError(f'WASL_DEMO_FEEDS must be "none" or empty, not "{wanted}"')
    return wanted == "none"
