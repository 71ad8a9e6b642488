"""What a person sees and orders of the destinations: where each stands, what is parked, what is sent again or passed over.

The same in the core and, where that does not run, in `wasl destination`: every order is one transaction of the writer's side.
"""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hl7.devices.law_errors import OrdersUnread
from node.clock import iso
from node.config.destinations import AnyDestination
from node.config.replies import OrdersOut
from node.destinations.errors import CHANGED, SKIPPED, TRIMMED, NoSuchDestination
from node.destinations.orders import LawDesks
from node.destinations.plug import TAKEN, Outgoing
from node.destinations.reading import Next, Reading
from node.destinations.steps import after
from node.destinations.wanted import selection_of
from sync.errors import CursorLost
from sync.outbox import Outbox
from sync.outbox_destinations import Cursor
from sync.outbox_destinations_view import DestinationView, Run
from sync.outbox_parked import Parked

LISTED_MAX = 1000  # parked messages in one answer: more is a matter of --all
ROWS_MAX = 200  # named in one order: what fits the control socket's line

Order = Callable[[Callable[[Outbox], Any]], Any]
Tried = Callable[[str, Cursor], Outgoing | None]


class Desk:
    """Answers and orders for the destinations of one configuration; blocking. `order` runs something on the outbox and gives its result.

    Of a running core: `law`, the desks, which alone know what an analyzer's queries are followed by; `tried`, what is tried again and again of a
    destination in a stream: by the clock its query may be too old by now, and its orders may be others.
    """

    def __init__(
        self, destinations: Sequence[AnyDestination], *, node: str, store: Path, order: Order, now_us: Callable[[], int],
        law: LawDesks = lambda _feed: None, tried: Tried = lambda _name, _cursor: None,
    ) -> None:  # fmt: skip
        self._destinations = {each.name: each for each in destinations}
        self._node, self._store, self._order, self._now_us = node, store, order, now_us
        self._law, self._tried = law, tried

    def everywhere(self) -> list[dict[str, Any]]:
        """Every destination, and where it stands in each of its streams."""
        with closing(DestinationView(self._store)) as view:
            return [standing(view, each) for each in self._destinations.values()]

    def parked(self, name: str) -> list[dict[str, Any]]:
        """What a destination did not take. Raises NoSuchDestination."""
        destination = self._known(name)
        with closing(DestinationView(self._store)) as view:
            runs = {run.id: (stream, run) for stream in destination.streams if (run := view.run(stream)) is not None}
            return [_shown(row, runs.get(row.run)) for row in view.parked(name, most=LISTED_MAX)]

    def replay(self, name: str, rows: Sequence[str]) -> int:
        """Have parked messages sent again, these or (`all`) every one that still can be; how many. Raises NoSuchDestination, NoRoom."""
        self._known(name)
        return self._some(self._order(lambda outbox: outbox.destinations.ask_replay(name, _numbers(rows))))

    def dismiss(self, name: str, rows: Sequence[str]) -> int:
        """Forget parked messages, these or all; how many. Raises NoSuchDestination, NoRoom."""
        self._known(name)
        return self._some(self._order(lambda outbox: outbox.destinations.dismiss(name, _numbers(rows))))

    def go_to(self, name: str, position: str) -> int:
        """Go on from STREAM/EPOCH/SEQ, STREAM/start or STREAM/end: back sends again, forward puts aside what lies between. How many records that are.

        Raises NoSuchDestination, CursorMoved, ParkedFull, NoRoom.
        """
        destination, stream = self._known(name), position.partition("/")[0]
        with closing(DestinationView(self._store)) as view:
            run = self._run(view, destination, stream)
            place = _place(run, position)
            cursor: Cursor | None = None
            with suppress(CursorLost):
                cursor = view.cursor(name, run.id)
        if cursor is None:
            anew = Cursor(name=name, run=run.id, place=place)
            self._order(lambda outbox: outbox.destinations.put_anew(anew))
            return 0
        between = place - cursor.place
        passed = Parked(name=name, run=run.id, place=cursor.place, last=place - 1, reason=SKIPPED, at_us=self._now_us())
        moved, parked = replace(cursor, place=place, part=0), [passed] if between > 0 else []
        self._order(lambda outbox: outbox.destinations.set_back(moved, parked=parked))
        return abs(between)

    def skip(self, name: str, stream: str) -> str:
        """Put aside the message at which a stream waits; its position. Raises NoSuchDestination, CursorMoved, ParkedFull, NoRoom."""
        destination = self._known(name)
        with closing(DestinationView(self._store)) as view:
            run = self._run(view, destination, stream)
            cursor = view.cursor(name, run.id)
            outgoing = None if cursor is None else self._head(view, destination, stream, run, cursor)
        if cursor is None or outgoing is None:
            raise NoSuchDestination(f"nothing waits in {stream}")
        passed = Parked(
            name=name, run=run.id, place=outgoing.place, last=outgoing.place, part=outgoing.part, reason=SKIPPED, at_us=self._now_us()
        )  # fmt: skip
        moved = after(cursor, outgoing, TAKEN)
        self._order(lambda outbox: outbox.destinations.set_back(moved, parked=[passed]))
        return f"{stream}/{outgoing.epoch}/{outgoing.seq}"

    # -- inside ---------------------------------------------------------------------------------------------------

    def _known(self, name: str) -> AnyDestination:
        if name not in self._destinations:
            raise NoSuchDestination(name)
        return self._destinations[name]

    def _run(self, view: DestinationView, destination: AnyDestination, stream: str) -> Run:
        run = view.run(stream) if stream in destination.streams else None
        if run is None:
            raise NoSuchDestination(f"{destination.name} reads no stream {stream}")
        return run

    def _head(
        self, view: DestinationView, destination: AnyDestination, stream: str, run: Run, cursor: Cursor
    ) -> Outgoing | None:
        law = self._law(destination.feed) if isinstance(destination, OrdersOut) else None
        if isinstance(destination, OrdersOut) and law is None:
            raise NoSuchDestination(
                "only a running core knows which orders wait; start it, or name a position with --to"
            )
        if law is not None and (tried := self._tried(destination.name, cursor)) is not None:
            return tried
        reading = Reading(view, self._node, stream, selection_of(destination, orders=law))
        found = Next(cursor, is_more=True)
        try:
            while found.is_more:
                found = reading.next(run, found.cursor)
        except OrdersUnread as error:
            raise NoSuchDestination("its orders cannot be read just now; try again in a minute") from error
        return found.outgoing

    def _some(self, count: int) -> int:
        if not count:
            raise NoSuchDestination("no such message stands parked, or its body is gone")
        return count


def standing(view: DestinationView, destination: AnyDestination) -> dict[str, Any]:
    """Where a destination stands, by the outbox alone. `waiting` counts records, also those that are not for it."""
    streams, waiting = {}, 0
    for stream in destination.streams:
        run = view.run(stream)
        if run is None:
            continue
        try:
            cursor = view.cursor(destination.name, run.id)
        except CursorLost:
            streams[stream] = {"epoch": None, "seq": None, "waiting": run.end}
            continue
        if cursor is not None:
            epoch, seq = run.position(cursor.place)
            streams[stream] = {"epoch": epoch, "seq": seq, "waiting": run.end - cursor.place}
            waiting += run.end - cursor.place
    parked, lost = view.count_parked(destination.name)
    return {
        "name": destination.name, "kind": destination.kind, "address": address_of(destination), "waiting": waiting, "parked": parked, "lost": lost,
        "streams": streams,
    }  # fmt: skip


def address_of(destination: AnyDestination) -> str:
    """Where it is, as the configuration says it."""
    match destination.kind:
        case "mllp":
            return str(destination.address)
        case "folder":
            return str(destination.path)
        case "fhir":
            return destination.url


def _place(run: Run, position: str) -> int:
    """The place that a position names. Raises NoSuchDestination."""
    match position.split("/"):
        case [_, "start"]:
            return run.trimmed
        case [_, "end"]:
            return run.end
        case [_, epoch, seq] if epoch.isdecimal() and seq.isdecimal():
            place = run.place(int(epoch), int(seq))
            if place is not None and place <= run.end:
                return place
    raise NoSuchDestination(f"{position} is no position")


def _numbers(rows: Sequence[str]) -> list[int] | None:
    """Row numbers, or None for all. Raises NoSuchDestination."""
    if list(rows) == ["all"]:
        return None
    if not rows or len(rows) > ROWS_MAX or not all(row.isdecimal() and len(row) < 18 for row in rows):
        raise NoSuchDestination("parked messages are named by their numbers")
    return [int(row) for row in rows]


def _shown(row: Parked, known: tuple[str, Run] | None) -> dict[str, Any]:
    stream, run = known if known is not None else ("", None)
    epoch, seq = run.position(row.place) if run is not None else (None, None)
    return {
        "id": row.id, "stream": stream, "epoch": epoch, "seq": seq, "records": row.records, "part": row.part, "reason": row.reason,
        "detail": row.detail, "at": iso(row.at_us), "tries": row.tries, "replay": row.replay,
        "body": run is not None and row.reason not in {TRIMMED, CHANGED} and row.last >= run.trimmed,
    }  # fmt: skip
