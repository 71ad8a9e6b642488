"""The Modbus feed: each reply becomes a record, each stretch of failures a few gap records, and no value is ever invented."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from hl7.devices.gaps import Gap, Stretch
from hl7.devices.modbus_poll import Function, Poll, Request, blocks, encode
from hl7.devices.profile import Profile
from hl7.devices.profile_errors import ProfileProblem
from node.clock import iso
from node.config.modbus import Modbus
from node.config.serial import Line
from node.devices.profiles import marked
from node.errors import EXIT_THREAD, FeedPaused, QueueFull
from node.feeds.gap_store import GapStore
from node.feeds.kinds import Surroundings
from node.feeds.modbus_client import Client
from node.feeds.modbus_line import MISSED, Missed, ModbusLine, Polled
from node.feeds.plug import watch_over
from node.feeds.telemetry_errors import ProfileBad
from node.intake import Counted, Door, Intake
from node.writer import Outcome
from sync.header import PROFILE
from sync.outbox import Outbox, Stored
from sync.record import Verdict

LOOK_S = 5.0  # how often the thread is looked at, and what could not be told is told
SILENT_S_MAX = (
    180.0  # the longest step of a thread: opening a line whose name does not resolve, and an answer of a minute
)
STOP_S_MAX = 5.0  # for the question under way; a thread that hangs longer dies with the process
ALARM_AFTER = 3  # failures in a row, as where a device is left alone
NO_ROOM = "NOD-10"
OUR_OWN = {NO_ROOM, FeedPaused.code}  # causes with an alarm of the node's

log = structlog.get_logger()


@dataclass(slots=True)
class Source:
    """One request and how it goes."""

    request: Request
    profile: str
    mark: tuple[str, bytes] | None  # what its records say of the profile
    stretch: Stretch
    last_us: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"polls": 0, "failed": 0})


class ModbusFeed:
    """One configured line."""

    noise_bytes = 0  # what is no reply is a failed poll

    def __init__(self, feed: Modbus, door: Door, intake: Intake, around: Surroundings) -> None:
        self.feed, self.door, self._intake = feed, door, intake
        self._clock, self._alarms, self._die, self._writer = around.clock, around.alarms, around.die, around.writer
        self._boot, self._folder = around.boot[:8], getattr(around, "profiles", None)
        self._fact_name = f"modbus/{feed.name}"
        self._gaps = GapStore(door, intake, peer=feed.line)
        self._sources: list[Source] = []
        self._is_open = False
        self._raised: set[str] = set()
        self._line: ModbusLine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.Task[None] | None = None

    # -- what the core asks of a plug -------------------------------------------------------------------------------

    @property
    def connections(self) -> list[str]:
        """The line, while it is open."""
        return [self.feed.line] if self._is_open else []

    def addresses(self) -> list[str]:
        """Where it goes to."""
        return [self.feed.line]

    async def start(self) -> None:
        """Begin to poll; a line that is not there is no reason not to start. Raises ProfileBad."""
        self._loop = loop = asyncio.get_running_loop()
        requests = [(point.request(), "") for point in self.feed.points]
        profiles, marks = await asyncio.to_thread(self._profiles)
        line = self._line_of(profiles)
        for device in self.feed.devices:
            requests += [
                (each, device.profile)
                for each in _requests(device.name, device.unit, device.every_s, profiles[device.profile])
            ]
        self._sources = [
            Source(request, profile, marks.get(profile), Stretch(subject=request.name, boot=self._boot))
            for request, profile in requests
        ]
        fact = self._fact_name
        last, open_ones = await asyncio.wrap_future(
            self._writer.order(lambda outbox: (outbox.fact(fact), outbox.facts(f"{fact}/*")))
        )
        self._tell_pause(last)
        self._tell_open(open_ones)
        self._line = ModbusLine(
            self.feed.name, Client(self.feed, line), [each.request for each in self._sources], clock=self._clock, hear=self._hear_in_loop
        )  # fmt: skip
        self._line.start()
        self._watch = loop.create_task(self._look())
        watch_over(self._watch, self.feed.name, self._die)

    async def stop(self) -> None:
        """Ask nothing more, and tell the failures that were not told yet."""
        if self._watch is not None:
            self._watch.cancel()
        if self._line is not None:
            self._line.stop()
            await asyncio.to_thread(self._line.join, STOP_S_MAX)
        await asyncio.sleep(0)  # what the thread told last
        for source in self._sources:
            self._end(source)
        self._loop = None

    def facts(self) -> dict[str, Any]:
        """How the line and each point goes, and the gap that lasts."""
        points = {
            each.request.name: {
                "last": iso(each.last_us) if each.last_us else None, **each.counts,
                "failing_since": iso(each.stretch.since_us) if each.stretch.count else None, "code": each.stretch.code or None,
            } for each in self._sources
        }  # fmt: skip
        return {
            "points": points,
            "gap": self._gaps.document(*(each.stretch for each in self._sources)),
        }

    # -- what the thread tells --------------------------------------------------------------------------------------

    def _hear_in_loop(self, event: Polled | Missed) -> None:
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._hear, event)

    def _hear(self, event: Polled | Missed) -> None:
        source = self._sources[event.place]
        if isinstance(event, Missed):
            self._failed(source, MISSED, event.wall_us, (event.first, event.last))
            self._heard()
        elif event.registers is None:
            self._is_open = event.code != "MOD-03"
            self._failed(source, event.code, event.wall_us, (event.sequence, event.sequence))
            self._heard()
        else:
            self._is_open = True
            self._store(source, event, event.registers)

    def _store(self, source: Source, polled: Polled, registers: tuple[int, ...]) -> None:
        poll = Poll(
            request=source.request, registers=registers, boot=self._boot, sequence=polled.sequence, wall_us=polled.wall_us,
            monotonic_us=polled.monotonic_us, took_us=polled.took_us, late_us=polled.late_us, stepped_us=polled.stepped_us, profile=source.profile,
        )  # fmt: skip

        def answer(outcome: Outcome | QueueFull | Counted) -> None:
            self._heard()
            if not isinstance(outcome, Stored):
                code = FeedPaused.code if isinstance(outcome, FeedPaused) else NO_ROOM
                self._failed(source, code, polled.wall_us, (polled.sequence, polled.sequence))
                return
            source.last_us = polled.wall_us
            source.counts["polls"] += 1

        # before the value: a crash in between leaves a gap without its end, never an end without its gap
        self._end(source)
        self._weigh()
        # the time of the last poll lies beside the record: a start then knows since when nothing was polled
        self._intake.store_typed(
            self.door, common=self.door.message, body=encode(poll), message_type=source.request.name, control_id="", peer=self.feed.line,
            verdict=Verdict.ACCEPTED, refusal=None, answer=answer, fact=(self._fact_name, str(polled.wall_us).encode()),
            source=[(PROFILE, source.mark)] if source.mark else (),
        )  # fmt: skip

    def _failed(self, source: Source, code: str, at_us: int, sequences: tuple[int, int]) -> None:
        source.counts["failed"] += sequences[1] - sequences[0] + 1
        self.door.counts.last_error = (code, at_us)
        gap = source.stretch.failed(code, at_us=at_us, now=self._clock.monotonic(), sequences=sequences)
        if gap is not None:
            self._tell(source, gap)
        self._weigh()

    def _tell(self, source: Source, gap: Gap) -> None:
        """Have a stretch's gap recorded. Up to when it is told lies beside the record while it lasts: a start after a kill then tells the rest."""
        until = b"" if gap.part == "ended" else str(gap.last_us).encode()

        def stored() -> None:
            if until and not source.stretch.count:  # a value came meanwhile, and what took the note back was before it
                self._forget(source)

        self._gaps.tell(gap, source.stretch, (self._open_name(source), until), stored)

    def _end(self, source: Source) -> None:
        """End the stretch of failures, if there is one."""
        was_open = source.stretch.count > 0
        if gap := source.stretch.ended():
            self._tell(source, gap)
        elif was_open:  # told to its end already
            self._forget(source)

    def _forget(self, source: Source) -> None:
        """Nothing of its stretch is open any more."""
        name = self._open_name(source)
        self._writer.order(lambda outbox: _keep_fact(outbox, name, b""))

    def _open_name(self, source: Source) -> str:
        return f"{self._fact_name}/{source.request.name}"

    def _heard(self) -> None:
        if self._line is not None:
            self._line.heard()

    def _weigh(self) -> None:
        """Raise an alarm for each cause that a stretch of failures has now, and clear the others."""
        standing = {each.stretch.code for each in self._sources if each.stretch.count >= ALARM_AFTER} - OUR_OWN
        for code in standing - self._raised:
            self._alarms.raised(code, self.feed.name)
        for code in self._raised - standing:
            self._alarms.cleared(code, self.feed.name)
        self._raised = standing

    # -- the rounds -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """See that the thread turns, and tell what could not be told or has become due."""
        while True:
            await asyncio.sleep(LOOK_S)
            now, line = self._clock.monotonic(), self._line
            if line is not None and (not line.is_alive() or now - line.turned_at > SILENT_S_MAX):
                log.critical("modbus.thread_hangs", feed=self.feed.name)
                self._die(EXIT_THREAD)
            self._gaps.again()
            for source in self._sources:
                if gap := source.stretch.due(now):
                    self._tell(source, gap)

    def _tell_pause(self, fact: bytes | None) -> None:
        """Tell that nothing was polled while no process ran, if that was longer than two turns."""
        last_us, now_us = int(fact) if fact and fact.isdigit() else 0, self._clock.now_us()
        shortest_us = min(each.request.every_s for each in self._sources) * 1_000_000
        if last_us and now_us - last_us > 2 * shortest_us:
            self._gaps.tell(
                Gap(
                    subject="line",
                    part="once",
                    first_us=last_us,
                    last_us=now_us,
                    count=0,
                    codes={"MOD-06": 1},
                    boot=self._boot,
                )
            )

    def _tell_open(self, facts: dict[str, bytes]) -> None:
        """Tell of each point that failed when the process was killed: it failed on, and nothing is known of how often, nor of the time without a process."""
        now_us = self._clock.now_us()
        for source in self._sources:
            name = self._open_name(source)
            if (until := facts.get(name, b"")).isdigit():
                gap = Gap(
                    subject=source.request.name, part="once", first_us=int(until), last_us=now_us, count=0, codes={"MOD-06": 1}, boot=self._boot
                )  # fmt: skip
                self._gaps.tell(gap, fact=(name, b""))

    def _line_of(self, profiles: Mapping[str, Profile]) -> Line | None:
        """How a serial line is set. Raises ProfileBad."""
        if self.feed.serial is None:
            return None
        name, serial = next(((name, profile.serial) for name, profile in profiles.items()), ("", None))
        try:
            return self.feed.serial.line(serial)
        except ValueError as error:
            raise ProfileBad(f"{name}: {error}") from error

    def _profiles(self) -> tuple[dict[str, Profile], dict[str, tuple[str, bytes]]]:
        try:
            found = {device.profile: marked(device.profile, self._folder) for device in self.feed.devices}
            return {name: each for name, (each, _) in found.items()}, {name: mark for name, (_, mark) in found.items()}
        except ProfileProblem as error:
            raise ProfileBad(str(error)) from error


def _keep_fact(outbox: Outbox, name: str, value: bytes) -> None:
    with outbox.transaction():
        outbox.set_fact(name, value)


def _requests(name: str, unit: int, every_s: int, profile: Profile) -> list[Request]:
    """What a device's profile has to be asked for, in as few requests as may be; named by the device, and numbered where there are several."""
    found = [
        (function, address, count)
        for function in sorted({point.function for point in profile.points})
        for address, count in blocks(
            function, ((point.address, point.registers) for point in profile.points if point.function == function)
        )
    ]
    return [
        Request(
            name=name if len(found) == 1 else f"{name}-{at}", unit=unit, function=cast("Function", function), address=address, count=count, every_s=every_s
        ) for at, (function, address, count) in enumerate(found, start=1)
    ]  # fmt: skip
