"""The node core: builds everything once, starts it in order, stops it in order. Wiring only; each part says its own rules."""

import asyncio
import ctypes
import gc
import os
import random
import resource
import secrets
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import structlog
import uvloop

import native
from node.alarms import Alarms
from node.clock import Clock, SystemClock, iso
from node.config.config import Config, patient_feeds
from node.control import ControlServer
from node.data_folder import MARK_NAME, STORE_NAME, UNFINISHED, lock
from node.destinations.site import Site, holders, open_cursors
from node.errors import EXIT_THREAD, NoSuchStream, RepairUnfinished
from node.feeds.astm_store import FrameStore
from node.feeds.http_workshop import Workshop
from node.feeds.kinds import Surroundings, make_plug
from node.feeds.open_frames import OpenFrames
from node.feeds.plug import Plug, Traced, stop_all
from node.intake import Intake
from node.key_change import hand_over
from node.keystore import Keystore, load
from node.metrics import CoreMetrics
from node.orders.orders import Orders
from node.proofreader import Proofreader
from node.quality.counts import Inspection
from node.quality.profile_sample import Samples
from node.restored import name_lost, part_from
from node.room import BALLAST_BYTES, LOOK_S, Ballast, Room, free_bytes
from node.signatures.check import Checker
from node.stick.back import open_epochs, store_receipts, take_inbox
from node.uplink.highwater import HighWater
from node.uplink.lanes import Lanes
from node.uplink.way_out import make_lanes
from node.writer import Result, Writer
from sync.errors import SyncError
from sync.names import Origin
from sync.outbox import NOBODY, Outbox

BOOT_BYTES = 16  # 128 bits: two starts never share one
M_ARENA_MAX = -8  # malloc.h
MINUTE_S = 60.0  # summaries of refusals, trims and the look at the disk
DAY_US = 86_400_000_000
FAR_US = 2**62  # later than any record came
GC_OBJECTS = 50_000  # objects made between two looks for cycles: about 10 MB

log = structlog.get_logger()


class Core:
    """One node core. `run` returns when it was told to stop."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._boot = secrets.token_bytes(BOOT_BYTES)
        self._started_us = self._clock.now_us()
        self._keystore: Keystore = load(config)
        self._alarms = Alarms(self._clock.now_us)
        self._store = config.node.data_dir / STORE_NAME
        self._ballast = Ballast(config.node.data_dir)
        self._room = Room(
            store=self._store, limits=config.outbox, ballast=self._ballast, alarms=self._alarms, monotonic=self._clock.monotonic,
            patient=patient_feeds(config),
        )  # fmt: skip
        mark = config.node.high_water or config.node.data_dir / MARK_NAME
        self._highwater = HighWater(mark, self._clock.monotonic)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uplink: Lanes | None = None
        self._site: Site | None = None
        self._feeds: list[Plug] = []
        self._frames = OpenFrames(monotonic=self._clock.monotonic)
        self._quality = Inspection(self._clock, config.civil_number.rule() if config.civil_number else None)
        self._samples = Samples(config.feeds, self._clock.monotonic)
        seen = config.signatures
        self._checker = None if seen is None else Checker(seen.authorities, self._clock, self._alarms)
        self._workshop = Workshop(self._frames, self._checker)
        self._writer = Writer(
            self._open_outbox,
            queue_records_max=config.outbox.queue_records_max,
            deliver=self._deliver,
            refused=lambda outbox, bodies: self._room.before(outbox, bodies).refuses,
            relieve=self._room.relieve,
            grown=self._grown,
        )
        self._frame_store = FrameStore(self._writer, self._alarms)
        self._orders = Orders(config, self._store, self._clock)

    # -- storage ----------------------------------------------------------------------------------------------------

    def _open_outbox(self) -> Outbox:
        """In the writer's thread: open, store this boot, verify what stands between here and the first acknowledgement."""
        if free_bytes(self._store.parent) < BALLAST_BYTES:
            self._ballast.drop()  # opening needs a page or two of its own
        outbox = Outbox(
            self._store, signer=self._keystore.signer, random=os.urandom, quota_bytes=self._config.outbox.quota_bytes,
            recent_max=self._config.outbox.dedupe_records,
        )  # fmt: skip
        outbox.start_boot(self._boot, self._started_us)
        outbox.verify_heads()  # before anything is signed: a start that lacks a key must leave no stream under another
        outbox.open_streams({stream.name: stream.lane for stream in self._config.streams}, self._boot.hex()[:8])
        part_from(outbox, self._highwater.read(), self._alarms, tag=self._boot.hex()[:8])
        self._heed_stick(outbox)
        hand_over(outbox, self._keystore, self._clock, facility=self._config.node.facility)
        name_lost(outbox, self._clock, facility=self._config.node.facility)
        open_cursors(outbox, self._config)
        self._note_accepted(outbox)
        self._room.keep_ballast(outbox)
        return outbox

    def _note_accepted(self, outbox: Outbox) -> None:
        for head in outbox.heads.values():
            self._highwater.accepted(head.origin, head.frontier.size)
        self._highwater.save(now=True)

    def _heed_stick(self, outbox: Outbox) -> None:
        """Where a stick brought home that the gateway holds something else, let the stream go on under a further epoch."""
        for name in open_epochs(self._config, self._keystore, self._clock, outbox, tag=self._boot.hex()[:8]):
            self._alarms.raised("SYN-20", name)
            self._highwater.accepted(outbox.heads[name].origin, outbox.heads[name].frontier.size)

    def _deliver(self, result: Result) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(_answer_all, result)

    def _grown(self, origin: Origin, size: int) -> None:
        self._highwater.accepted(origin, size)
        if self._uplink is not None:
            self._uplink.grown(origin, size)
        if self._site is not None:
            self._site.grown(origin.stream)
        self._orders.grown()

    # -- start and stop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start all, wait for SIGTERM or SIGINT, stop all. Raises what stops a start."""
        self._loop = loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        self._writer.start()
        await asyncio.wrap_future(self._writer.opened)
        self._uplink = self._make_uplink()
        self._site = site = Site(
            self._config, store=self._store, writer=self._writer, clock=self._clock, alarms=self._alarms, dice=random.random,
            prefix=self._boot.hex()[:8], orders=self._orders.law,
        )  # fmt: skip
        proofreader = Proofreader(store=self._store, node=self._config.node.name, alarms=self._alarms)
        intake = self._make_intake()
        self._feeds = [make_plug(feed, intake, self._surroundings()) for feed in self._config.feeds]
        control = self._make_control(site)
        await control.start()
        for feed in self._feeds:
            await feed.start()
        if self._uplink is not None:
            self._uplink.start()
        site.start()
        self._orders.start()
        proofreader.start()
        every = (self._each_minute(intake), self._make_room(), self._quality.run(), self._samples.run())
        rounds = [loop.create_task(each) for each in every]
        for each in rounds:
            each.add_done_callback(_die_with_task)
        # what is here stays; a message makes some thirty objects and no cycle, so looking for cycles 20 times a second was a third of the work
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS)
        log.info("core.started", node=self._config.node.name, kernels=native.IMPLEMENTATION, boot=self._boot.hex()[:8])
        await stop.wait()
        log.info("core.stopping")
        for each in rounds:
            each.cancel()
        await self._stop_feeds(intake)
        proofreader.stop()
        await self._samples.stop()
        if self._checker is not None:
            await self._checker.stop()
        if self._uplink is not None:
            self._uplink.stop()
        await asyncio.to_thread(site.stop)
        self._orders.close()
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        self._highwater.save(now=True)
        await control.stop()

    async def _stop_feeds(self, intake: Intake) -> None:
        for feed in self._feeds:
            intake.summarise(feed.door)
        await stop_all(self._feeds)
        await asyncio.to_thread(self._orders.stop)

    def _make_control(self, site: Site) -> ControlServer:
        """Make the socket by which the page and the commands ask the core."""
        return ControlServer(self._store.parent, {
            "status": self._status, "probe": self._probe, "metrics": self._metrics, "retry": self._retry, "part": self._part,
            "carried": self._carried, "destination": site.order, "line": self._line,
        })  # fmt: skip

    def _make_uplink(self) -> Lanes | None:
        return make_lanes(
            self._config, keystore=self._keystore, writer=self._writer, clock=self._clock, alarms=self._alarms, boot=self._boot, store=self._store,
            highwater=self._highwater,
        )  # fmt: skip

    def _make_intake(self) -> Intake:
        return Intake(clock=self._clock, writer=self._writer, alarms=self._alarms, is_filling=lambda: self._room.paused)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            clock=self._clock, alarms=self._alarms, writer=self._writer, facility=self._config.node.facility, folder=self._store.parent,
            boot=self._boot.hex(), frames=self._frames, quality=self._quality, samples=self._samples, checker=self._checker,
            workshop=self._workshop, die=os._exit, patient=patient_feeds(self._config), frame_store=self._frame_store, desk=self._orders.desk,
            law=self._orders.law, profiles=self._config.devices.profiles,
        )  # fmt: skip

    async def _each_minute(self, intake: Intake) -> None:
        while True:
            await asyncio.sleep(MINUTE_S)
            for feed in self._feeds:
                intake.summarise(feed.door)
            await asyncio.to_thread(self._highwater.save)
            if self._checker is not None:
                await self._checker.look_again()
            try:
                for stream in self._config.streams:
                    await self._trim(stream.name, self._trim_before_us(), holders(self._config, self._clock.now_us()))
            except SyncError as error:
                # a busy or full writer: the next minute comes
                log.warning("trim.postponed", code=error.code, detail=str(error))

    def _trim_before_us(self) -> int:
        """Bodies older than this may go."""
        return self._clock.now_us() - self._config.outbox.body_retention_days * DAY_US

    async def _make_room(self) -> None:
        """Where room is short, let receipted bodies go before their time, until there is plenty: a new one is worth more than an old copy.

        Also those that a destination of the site has not taken: the centre has them, and what it lost is named.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                while await self._is_short() and any(
                    [await self._trim_some(stream.name, FAR_US) for stream in self._config.streams]
                ):
                    pass
                await asyncio.wrap_future(self._writer.order(self._room.keep_ballast))
            except SyncError as error:
                log.warning("trim.postponed", code=error.code, detail=str(error))

    async def _is_short(self) -> bool:
        """Whether bodies must go before their time, as it is now."""
        await asyncio.wrap_future(self._writer.order(self._room.look))
        return self._room.short

    async def _trim(self, stream: str, before_us: int, needed_by: dict[str, int]) -> None:
        """Delete receipted bodies past their retention that every destination has, a small transaction at a time; intake commits in between."""
        while await self._trim_some(stream, before_us, needed_by):
            pass

    async def _trim_some(self, stream: str, before_us: int, needed_by: Mapping[str, int] = NOBODY) -> int:
        def step(outbox: Outbox) -> int:
            ledger = outbox.ledger()
            return outbox.trim(stream, ledger=ledger, received_before_us=before_us, holders=needed_by) if ledger else 0

        return await asyncio.wrap_future(self._writer.order(step))

    # -- orders of the control socket -------------------------------------------------------------------------------

    async def _status(self) -> dict[str, Any]:
        link = None if self._uplink is None else self._uplink.document()
        return {
            "since": iso(self._started_us), "boot": self._boot.hex()[:8], "kernels": native.IMPLEMENTATION, "pid": os.getpid(),
            "feeds": {feed.feed.name: self._feed_status(feed) for feed in self._feeds},
            "destinations": {} if self._site is None else self._site.document(), "link": link, "alarms": self._alarms.standing(),
            "queued": self._writer.queued(),
        }  # fmt: skip

    def _feed_status(self, feed: Plug) -> dict[str, Any]:
        counts = asdict(feed.door.counts)
        return {
            **counts,
            "paused": feed.door.can_wait and self._room.paused,
            "addresses": feed.addresses(),
            "connections": len(feed.connections),
            "noise_bytes": feed.noise_bytes,
            "monitor": isinstance(feed, Traced),
            **feed.facts(),
        }

    async def _line(self, name: str, wish: str = "") -> dict[str, Any]:
        """The line monitor of a feed; values only where the configuration permits it. LookupError for a feed without one."""
        trace = next((feed.trace for feed in self._feeds if feed.feed.name == name and isinstance(feed, Traced)), None)
        if trace is None:
            raise LookupError(name)
        may_show = self._config.web.line_values == "on-request"
        return {"feed": name, **trace.told(wish, may_show=may_show)}

    async def _probe(self) -> str:
        await asyncio.wrap_future(self._writer.order(lambda outbox: outbox.probe()))
        return "committed and signed"

    async def _metrics(self) -> str:
        return CoreMetrics(self._feeds, self._writer, self._uplink, self._site).text().decode()

    async def _retry(self) -> str:
        if self._uplink is not None:
            self._uplink.retry()
        if self._site is not None:
            self._site.retry()
        return "ok"

    async def _part(self, stream: str) -> int:
        """Let a stream go on under a further epoch; under which it is now. Raises NoSuchStream."""
        found = await asyncio.wrap_future(self._writer.order(lambda outbox: outbox.heads.get(stream)))
        if self._uplink is None or found is None:
            raise NoSuchStream(stream)
        self._uplink.part(stream)
        return found.origin.epoch

    async def _carried(self) -> int:
        """Take the receipts that `wasl export` left for us; how many."""
        taken, ledger = await asyncio.to_thread(take_inbox, self._config, self._keystore, self._clock)
        return await asyncio.wrap_future(self._writer.order(lambda outbox: store_receipts(outbox, taken, ledger)))


def _answer_all(result: Result) -> None:
    for done, outcome in result:
        done(outcome)


def _die_with_task(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("task.died", error=type(error).__name__, detail=str(error))
        os._exit(EXIT_THREAD)


def _die_with_thread(args: threading.ExceptHookArgs) -> None:
    # a node that lost a thread looks healthy and is not: the supervisor starts it anew, and the start verifies
    name = args.thread.name if args.thread else ""
    log.critical("thread.died", thread=name, error=args.exc_type.__name__, detail=str(args.exc_value))
    os._exit(EXIT_THREAD)


def run(config: Config) -> None:
    """Run the core until it is told to stop. Raises ConfigError, NodeError, SyncError where it cannot start."""
    held = lock(config.node.data_dir)
    if (config.node.data_dir / UNFINISHED).exists():
        raise RepairUnfinished(str(config.node.data_dir))
    _allow_many_files()
    _share_heap()
    threading.excepthook = _die_with_thread
    core = Core(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(core.run())
    os.close(held)


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: the usual 1024 are fewer than the connections that a feed may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _share_heap() -> None:
    """One heap of glibc for all threads: each would else keep what its largest batch had needed, 10 MiB a lane. They run one at a time anyway."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
