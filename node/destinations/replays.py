"""What a person wants sent again: parked messages, one at a time between those of the streams. The order of the streams is not theirs any more."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from node.destinations.plug import End, Outcome, Outgoing
from node.destinations.reading import Reading
from node.destinations.steps import behind, counted
from node.destinations.wanted import selection_of
from sync.outbox_destinations import Cursor
from sync.outbox_destinations_view import DestinationView, Run
from sync.outbox_parked import Parked

if TYPE_CHECKING:
    from node.destinations.carrier import Carrier, Lane
    from node.destinations.trouble import Trouble

WAIT_S_MAX = 60.0


class Replays:
    """The replays of one destination. Its thread only."""

    def __init__(self, carrier: "Carrier", view: DestinationView, node: str, trouble: "Trouble") -> None:
        self._carrier, self._view, self._node, self.trouble = carrier, view, node, trouble
        self._name = carrier.destination.name
        self._wanted = selection_of(carrier.destination, carrier.tally, orders=carrier.orders)
        self._any = selection_of(carrier.destination, carrier.tally, of_any_type=True, orders=carrier.orders)

    def turn(self, now: float) -> float:
        """One message, if one is wanted and the time has come. Seconds until the next turn."""
        wait = max(self.trouble.not_before - now, self._carrier.is_waiting())
        if wait > 0:
            return wait
        try:
            row = next(iter(self._view.parked(self._name, replay=True, most=1)), None)
            if row is None:
                self.trouble.passed()
                return WAIT_S_MAX
            lane = self._carrier.lane(row.run)
            run = None if lane is None else self._view.run(lane.reading.stream)
            if lane is None or run is None or lane.cursor is None:
                self._give_up(row)  # its stream is not this destination's any more
                return 0.0
            outgoing, place, lost = self._find(lane, run, row)
        except Exception as error:  # noqa: BLE001  # a page that cannot be read, in whatever way: intake must not die of it
            self._carrier.unreadable(self.trouble, error)
            return 0.0
        if outgoing is None:
            self._done(lane, row, place, lost)
        else:
            self._send(lane, row, outgoing)
        return 0.0

    def _find(self, lane: "Lane", run: Run, row: Parked) -> tuple[Outgoing | None, int, str]:
        """The row's next message; where there is none, the place from which the rest of the row goes on, and why a record before it is lost."""
        if row.part is None:
            reading = Reading(self._view, self._node, lane.reading.stream, self._wanted.again(None))
            found = reading.next(run, Cursor(name=row.name, run=row.run, place=row.place, part=row.done))
            if found.cursor.place > row.last:
                return None, row.last + 1, ""
            return found.outgoing, found.cursor.place + (1 if found.lost else 0), found.lost
        reading = Reading(self._view, self._node, lane.reading.stream, self._any.again(row.part))
        headers = self._view.headers(row.run, row.place, 1)
        one = reading.at(run, row.place, row.part, headers[0][1]) if headers else None
        is_it = one is not None and one[0] is not None and one[0].part == row.part
        return (one[0] if one is not None and is_it else None), row.place, ""

    def _send(self, lane: "Lane", row: Parked, outgoing: Outgoing) -> None:
        if self._carrier.is_numbered:
            numbered = self._carrier.with_number(lane, outgoing)
            if numbered is None:
                return
            outgoing = numbered
        outcome = self._carrier.deliver(outgoing._replace(is_replay=True))
        match outcome.end:
            case End.TAKEN:
                self._taken(lane, row, outgoing, outcome)
            case End.REFUSED:
                self._refused(lane, row, outgoing, outcome)
            case End.LATER:
                self._carrier.note(self.trouble, outcome.code, outcome.detail, outcome.wait_s)
            case End.BROKEN:
                self._carrier.broken(outcome)
            case End.SPENT | End.FREE:
                self._count(lane, outcome)

    def _taken(self, lane: "Lane", row: Parked, outgoing: Outgoing, outcome: Outcome) -> None:
        place, done = behind(outgoing) if row.part is None else (row.last + 1, 0)
        self._progress(lane, row, place, done, outcome)
        self._carrier.counts.taken += 1
        self.trouble.passed()

    def _refused(self, lane: "Lane", row: Parked, outgoing: Outgoing, outcome: Outcome) -> None:
        if row.part is None:  # the rest of the row goes on, this one has a row of its own
            again = self._carrier.parked_now(row.run, outgoing, outcome)
            self._progress(lane, row, *behind(outgoing), outcome, (again,))
        else:
            self._give_up(row)
            self._count(lane, outcome)
            self._carrier.refused_again(outgoing, outcome)  # its row keeps the first reason
        self._carrier.counts.refused += 1

    def _done(self, lane: "Lane", row: Parked, place: int, lost: str) -> None:
        """Nothing of it can be sent: the end of a row is its end; a message whose body is gone stays named."""
        if row.part is None and place > row.place:
            gone = (replace(row, place=place - 1, last=place - 1, reason=lost),) if lost else ()
            self._progress(lane, row, place, 0, Outcome(End.TAKEN), gone)
        else:
            self._give_up(row)

    def _progress(
        self, lane: "Lane", row: Parked, place: int, done: int, outcome: Outcome, parked: tuple[Parked, ...] = ()
    ) -> None:
        """Keep how far the row is through, and the number that it used."""
        cursor = counted(lane.cursor, outcome) if outcome.used and lane.cursor is not None else None

        def work(outbox: Any) -> None:
            outbox.destinations.replayed(row, place=place, done=done, cursor=cursor, parked=parked)

        if self._carrier.store(lane, work) and cursor is not None:
            lane.cursor = cursor
        self._carrier.recount(self._view)

    def _give_up(self, row: Parked) -> None:
        """It stays parked, under its first reason."""
        self._carrier.store_alone(lambda outbox: outbox.destinations.refused_again(row.id, name=row.name))

    def _count(self, lane: "Lane", outcome: Outcome) -> None:
        """The number went with another message, or with none, or with one that was refused."""
        cursor = lane.cursor
        if cursor is None or not (outcome.used or outcome.end in {End.SPENT, End.FREE}):
            return
        number = cursor.number + (outcome.end is not End.FREE)
        self._carrier.move(lane, replace(cursor, number=number, given=None))
