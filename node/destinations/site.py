"""All destinations as one thing for the rest of the core: their cursors at the start, their threads, their orders."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from node.alarms import Alarms
from node.clock import Clock, hl7_time
from node.config.config import Config
from node.config.destinations import AnyDestination
from node.config.feeds import Mllp
from node.config.folder import Folder
from node.config.replies import OrdersOut
from node.destinations.carrier import Carrier
from node.destinations.conversion import Manners, Tally, ToFhir
from node.destinations.desk import Desk
from node.destinations.errors import NoSuchDestination
from node.destinations.fhir import FhirSink
from node.destinations.folder import FolderSink
from node.destinations.mllp import MllpSink
from node.destinations.mllp_numbers import NumberedSink
from node.destinations.orders import LawDesks, OrdersSink
from node.destinations.plug import Outgoing, Sink
from node.orders.law_desk import LawDesk
from node.writer import Writer
from sync.errors import CursorLost, LogBroken
from sync.outbox import Outbox
from sync.outbox_bodies import bodies_from
from sync.outbox_destinations import Cursor

DAY_US = 86_400_000_000
STOP_S_MAX = 2.0  # for the messages under way: their replies come within that, or the next start sends them again

log = structlog.get_logger()


def open_cursors(outbox: Outbox, config: Config) -> None:
    """Give each new destination its beginning, before anything can be stored or trimmed. In the writer's thread."""
    for each in config.outlets:
        for stream in each.streams:
            logs = outbox.logs(stream)
            oldest = bodies_from((head.start, head.frontier.size, head.trimmed) for head in logs)
            begin = logs[-1].end if each.begin == "end" else oldest
            try:
                outbox.destinations.open(each.name, logs[-1].run, begin)
            except (CursorLost, LogBroken) as error:  # its thread raises the alarm and stands still; nothing else does
                log.warning("destination.position_lost", code=error.code, destination=each.name, stream=stream)


def holders(config: Config, now_us: int) -> dict[str, int]:
    """Whom bodies are kept for (see Destinations.held_at). A destination that is not configured any more holds nothing."""
    return {each.name: now_us - each.parked_days * DAY_US for each in config.outlets}


def manners_of(config: Config) -> Manners:
    """How each feed's text is written, as it was set for its checks: character set, the one by default, local escape sequences."""
    return {
        feed.name: (
            feed.check.charset,
            feed.check.charset_default,
            feed.local_escapes if isinstance(feed, Mllp) else {},
        )
        for feed in config.feeds
        if isinstance(feed, Mllp | Folder)
    }


def sink_of(
    destination: AnyDestination, *, prefix: str, clock: Clock, manners: Manners, tally: Tally, orders: LawDesk | None = None
) -> Sink:  # fmt: skip
    """The protocol of a destination. `manners`: of the feeds; `tally` counts what is converted; `orders`: of an analyzer's listener."""
    if isinstance(destination, OrdersOut) and orders is not None:
        return OrdersSink(destination, orders)
    match destination.kind:
        case "mllp" if destination.sequence_numbers:
            return NumberedSink(
                destination, prefix=f"{prefix}-{destination.name[:8]}-", now=lambda: hl7_time(clock.now_us())
            )
        case "mllp":
            return MllpSink(destination)
        case "folder":
            return FolderSink(destination)
        case "fhir":
            return FhirSink(destination, convert=ToFhir(destination, manners, tally), monotonic=clock.monotonic)


class Site:
    """The destinations of one node. `prefix` makes ids of this start."""

    def __init__(
        self, config: Config, *, store: Path, writer: Writer, clock: Clock, alarms: Alarms, dice: Callable[[], float], prefix: str,
        orders: LawDesks,
    ) -> None:  # fmt: skip
        node, self._monotonic, manners = config.node.name, clock.monotonic, manners_of(config)

        def carrier(each: AnyDestination) -> Carrier:
            tally = Tally()
            desk = orders(each.feed) if isinstance(each, OrdersOut) else None
            sink = sink_of(each, prefix=prefix, clock=clock, manners=manners, tally=tally, orders=desk)
            return Carrier(
                each, sink, node=node, store=store, writer=writer, clock=clock, alarms=alarms, dice=dice, tally=tally, orders=desk
            )  # fmt: skip

        self._carriers = {each.name: carrier(each) for each in config.outlets}
        self._desk = Desk(
            config.outlets, node=node, store=store, order=lambda work: writer.order(work).result(), now_us=clock.now_us, law=orders,
            tried=self._tried,
        )  # fmt: skip

    def start(self) -> None:
        """Start every thread."""
        for each in self._carriers.values():
            each.start()

    def grown(self, stream: str) -> None:
        """A stream has a record more, durably."""
        for each in self._carriers.values():
            each.grown(stream)

    def retry(self) -> None:
        """Try now, everywhere."""
        for each in self._carriers.values():
            each.poke()

    def stop(self) -> None:
        """End every thread after the message under way; one that waits for a silent peer is left, and sends it again after the next start."""
        for each in self._carriers.values():
            each.stop()
        deadline = self._monotonic() + STOP_S_MAX
        for each in self._carriers.values():
            each.join(max(0.0, deadline - self._monotonic()))

    def document(self) -> Mapping[str, Any]:
        """How each is, by name."""
        return {name: each.document() for name, each in self._carriers.items()}

    def _tried(self, name: str, cursor: Cursor) -> Outgoing | None:
        lane = self._carriers[name].lane(cursor.run)
        return None if lane is None else lane.reading.tried(cursor)

    # -- orders of the control socket -------------------------------------------------------------------------------

    async def order(self, verb: str, *words: str) -> Any:
        """Carry out an order of `wasl destination`. Raises NoSuchDestination, and what the outbox raises."""
        if verb == "unmapped":
            if len(words) != 1 or words[0] not in self._carriers:
                raise NoSuchDestination(" ".join(words))
            return self._carriers[words[0]].tally.document()
        found = await asyncio.to_thread(carry_out, self._desk, verb, words)
        self.retry()
        return found


def carry_out(desk: Desk, verb: str, words: tuple[str, ...]) -> Any:
    """One order: its verb and words, as `wasl destination` sends them. Raises KeyError, TypeError for one that is none."""
    verbs: dict[str, Callable[..., Any]] = {
        "list": desk.everywhere, "parked": desk.parked, "skip": desk.skip, "go": desk.go_to,
        "replay": lambda name, *rows: desk.replay(name, rows), "dismiss": lambda name, *rows: desk.dismiss(name, rows),
    }  # fmt: skip
    if verb == "unmapped":
        return Tally().document()  # counted since the start of a core, which does not run
    return verbs[verb](*words)
