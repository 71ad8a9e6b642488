"""One destination's thread: takes what comes next in each of its streams, hands it over, and moves the cursor once it was taken.

A crash between the peer's word and the cursor's commit sends the same message again: same bytes, same MSH-10, same file name, same X-Request-Id
(of a converted message: where the server's state makes the same request of it).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from hl7.devices.law_errors import OrdersUnread
from node.alarms import Alarms
from node.clock import Clock
from node.config.destinations import AnyDestination
from node.destinations.conversion import Tally
from node.destinations.errors import CHANGED, DAMAGED, FULL, LOST, STANDING, STOPPED, TRIMMED
from node.destinations.plug import End, Outcome, Outgoing, Sink
from node.destinations.reading import Next, Reading
from node.destinations.replays import Replays
from node.destinations.steps import after
from node.destinations.trouble import Failure, Trouble
from node.destinations.wanted import selection_of
from node.orders.law_desk import LawDesk
from node.writer import Writer
from sync.errors import CursorLost, CursorMoved, NoRoom, ParkedFull
from sync.outbox_destinations import Cursor
from sync.outbox_destinations_view import DestinationView, Run
from sync.outbox_parked import PARKED_MAX, Parked

WAIT_S_MAX = 60.0  # even with nothing to do the loop turns, so that a lost wake-up costs a minute at most
AGAIN_S = 1.0  # a full outbox drains in seconds, and what was taken must not be sent twice for it
PASSED_BY_S = (
    10.0  # what is not for this destination is looked at again after a crash; so the disk need not hear of each record
)
LOOK_S = 3600.0  # what stands parked is read again: with 10,000 rows that takes a tenth of a second

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Counts:
    """Since the start, for page and metrics."""

    taken: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0


class Lane:
    """One stream of a destination, or its replays: where it stands in memory, and what troubles it."""

    def __init__(self, reading: Reading, trouble: Trouble) -> None:
        self.reading, self.trouble = reading, trouble
        self.cursor: Cursor | None = None
        self.saved: Cursor | None = None
        self.saved_at = float("-inf")
        self.is_behind = False  # bodies beyond its cursor are gone


class Carrier(threading.Thread):
    """Carries to one destination until stopped. Whatever is not the peer's doing ends the process: the supervisor starts it again."""

    def __init__(
        self, destination: AnyDestination, sink: Sink, *, node: str, store: Path, writer: Writer, clock: Clock, alarms: Alarms,
        dice: Callable[[], float], tally: Tally | None = None, orders: LawDesk | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name=f"to-{destination.name}", daemon=True)
        self.destination = destination
        self.counts = Counts()
        self.tally, self.orders = tally or Tally(), orders
        self.last_error: Failure | None = None
        self.since_us = clock.now_us()
        self.parked, self.lost, self.changed = 0, 0, 0
        self._sink, self._node, self._store = sink, node, store
        self._writer, self._clock, self._alarms = writer, clock, alarms
        self._dice = dice
        self._trouble = self._new_trouble()  # of the destination as a whole
        self._lanes: dict[str, Lane] = {}
        self._wake = threading.Event()
        self._stopping, self._poked, self._looked_at = False, True, float("-inf")
        self._raised: set[str] = set()
        self._state = "unproven"

    # -- called from other threads ----------------------------------------------------------------------------------

    def grown(self, stream: str) -> None:
        """A stream has a record more, durably."""
        if stream in self.destination.streams:
            self._wake.set()

    def poke(self) -> None:
        """A person gave an order, or says that it is worth trying now."""
        self._poked = True
        self._wake.set()

    def stop(self) -> None:
        """End after the message under way."""
        self._stopping = True
        self._wake.set()

    def document(self) -> dict[str, Any]:
        """How it is, for the status document. Times are UTC microseconds."""
        error = self.last_error
        return {
            "state": self._state, "since_us": self.since_us, **asdict(self.counts), "parked": self.parked, "lost": self.lost,
            "last_error": None if error is None else asdict(error), "conversion": self.tally.document(),
        }  # fmt: skip

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry until stopped."""
        view = DestinationView(self._store)
        selection = selection_of(self.destination, self.tally, orders=self.orders)
        for stream in self.destination.streams:
            self._lanes[stream] = Lane(Reading(view, self._node, stream, selection), self._new_trouble())
        again = Replays(self, view, self._node, self._new_trouble())
        while not self._stopping:
            self._wake.clear()
            self._heed_poke(view, again)
            waits = [self._turn(view, lane) for lane in self._lanes.values() if not self._stopping]
            waits.append(again.turn(self._clock.monotonic()) if not self._stopping else 0.0)
            self._show([*self._lanes.values()], again.trouble)
            if (wait := min(waits)) > 0:
                self._sink.rest()
                self._wake.wait(min(wait, WAIT_S_MAX))
        self._sink.close()
        view.close()

    def _new_trouble(self) -> Trouble:
        return Trouble(self._dice, self.destination.alarm_minutes * 60.0)

    def _heed_poke(self, view: DestinationView, again: "Replays") -> None:
        if self._poked:
            self._poked = False
            for trouble in (self._trouble, again.trouble, *(lane.trouble for lane in self._lanes.values())):
                trouble.hurry()
            self.recount(view)
            self._looked_at = float("-inf")
        if self._clock.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = self._clock.monotonic()
            self._look_over(view)

    def _look_over(self, view: DestinationView) -> None:
        """See whether what stands parked is as it was written; as before where that cannot be read."""
        try:
            self.changed = sum(row.is_changed for row in view.parked(self.destination.name, most=PARKED_MAX))
        except Exception as error:  # noqa: BLE001  # as in `_turn`
            log.warning("destination.not_looked_over", destination=self.destination.name, error=type(error).__name__)

    def _turn(self, view: DestinationView, lane: Lane) -> float:
        """One message of a stream, if there is one and the time has come. Seconds until it wants another turn."""
        wait = max(lane.trouble.not_before, self._trouble.not_before) - self._clock.monotonic()
        if wait > 0:
            return wait
        try:
            run = view.run(lane.reading.stream)
            if run is None or not self._know_cursor(view, lane, run) or lane.cursor is None:
                return WAIT_S_MAX
            found = lane.reading.next(run, lane.cursor)
        except Exception as error:  # noqa: BLE001  # a page that cannot be read, in whatever way: intake must not die of it
            self.unreadable(lane.trouble, error)
            return 0.0
        lane.cursor = found.cursor
        lane.is_behind = run.trimmed > found.cursor.place
        if found.lost:
            return self._pass_by(view, lane, run, found)
        if found.outgoing is None:
            self._save_passed(lane)
            lane.trouble.passed()
            return 0.0 if found.is_more else WAIT_S_MAX
        outgoing = found.outgoing
        if self.is_numbered:
            numbered = self.with_number(lane, outgoing)
            if numbered is None:
                return 0.0
            outgoing = numbered
        self._settle(view, lane, outgoing, self._sink.deliver(outgoing))
        return 0.0

    def _know_cursor(self, view: DestinationView, lane: Lane, run: Run) -> bool:
        """Have the cursor, as a person set it if one did; False where there is none to be believed."""
        try:
            saved = view.cursor(self.destination.name, run.id)
        except CursorLost:
            self.note(lane.trouble, LOST, "")
            return False
        if saved is None:
            return False
        if saved.place > run.end and saved.place > self._end(view, lane):
            self.note(lane.trouble, LOST, "")  # rows that it had passed are gone: what comes now would be passed over
            return False
        if lane.cursor is None or lane.cursor.turn != saved.turn:
            lane.cursor = saved
        lane.saved = saved
        return True

    @staticmethod
    def _end(view: DestinationView, lane: Lane) -> int:
        """The stream's end now: it may have grown since it was asked."""
        run = view.run(lane.reading.stream)
        return run.end if run is not None else 0

    # -- what becomes of a message --------------------------------------------------------------------------------

    def _settle(self, view: DestinationView, lane: Lane, outgoing: Outgoing, outcome: Outcome) -> None:
        cursor = lane.cursor
        assert cursor is not None  # noqa: S101  # a message was read at it
        match outcome.end:
            case End.TAKEN:
                if self.move(lane, after(cursor, outgoing, outcome)):
                    self._count_taken(lane)
            case End.REFUSED:
                self._refused(view, lane, outgoing, outcome)
            case End.LATER:
                self._trouble.passed()  # it was reached
                self.note(lane.trouble, outcome.code, outcome.detail, outcome.wait_s)
            case End.BROKEN:
                self.note(self._trouble, outcome.code, outcome.detail, outcome.wait_s)
            case End.SPENT:
                self.move(lane, replace(cursor, number=cursor.number + 1, given=None))
            case End.FREE:
                self.move(lane, replace(cursor, given=None))

    def _count_taken(self, lane: Lane) -> None:
        self.counts.taken += 1
        lane.trouble.passed()
        self._trouble.passed()

    def _refused(self, view: DestinationView, lane: Lane, outgoing: Outgoing, outcome: Outcome) -> None:
        cursor = lane.cursor
        assert cursor is not None  # noqa: S101  # as above
        self._trouble.passed()  # it answers
        if self.destination.on_refusal == "stop":
            if not outcome.used or self.move(lane, replace(cursor, number=cursor.number + 1, given=None)):
                self.note(lane.trouble, STOPPED, outcome.detail or outcome.code)
            return
        if self.move(lane, after(cursor, outgoing, outcome), [self.parked_now(cursor.run, outgoing, outcome)]):
            self.counts.refused += 1
            lane.trouble.passed()
            log.warning(
                "destination.parked", code=outcome.code, destination=self.destination.name, stream=outgoing.stream,
                epoch=outgoing.epoch, seq=outgoing.seq, part=outgoing.part, detail=outcome.detail,
            )  # fmt: skip
            self.recount(view)

    def parked_now(self, run: int, outgoing: Outgoing, outcome: Outcome) -> Parked:
        """The row of a message that was just refused."""
        return Parked(
            name=self.destination.name, run=run, place=outgoing.place, last=outgoing.place, part=outgoing.part, reason=outcome.code,
            detail=outcome.detail, at_us=self._clock.now_us(),
        )  # fmt: skip

    def _pass_by(self, view: DestinationView, lane: Lane, run: Run, found: Next) -> float:
        """A record without its bytes: it is named, and the next one comes."""
        cursor = found.cursor
        gone = Parked(
            name=self.destination.name, run=run.id, place=cursor.place, last=cursor.place, reason=found.lost, at_us=self._clock.now_us()
        )  # fmt: skip
        if self.move(lane, replace(cursor, place=cursor.place + 1, part=0), [gone]):
            self.counts.lost += 1
            self.recount(view)
        return 0.0

    def _save_passed(self, lane: Lane) -> None:
        """Keep how far was looked, now and then."""
        now = self._clock.monotonic()
        if lane.cursor is not None and lane.cursor != lane.saved and now - lane.saved_at >= PASSED_BY_S:
            self.move(lane, lane.cursor)

    # -- numbers --------------------------------------------------------------------------------------------------

    @property
    def is_numbered(self) -> bool:
        """Whether the peer counts."""
        return self.destination.kind == "mllp" and self.destination.sequence_numbers

    def with_number(self, lane: Lane, outgoing: Outgoing) -> Outgoing | None:
        """Give a message its number, durably, before it is first sent with it; None where that could not be kept."""
        cursor, here = lane.cursor, (outgoing.place, outgoing.part)
        assert cursor is not None  # noqa: S101  # as above
        if cursor.given is None:
            if not self.move(lane, replace(cursor, given=here)):
                return None
            return outgoing._replace(number=cursor.number, numbered="new")
        return outgoing._replace(number=cursor.number, numbered="own" if cursor.given == here else "other")

    # -- storing --------------------------------------------------------------------------------------------------

    def move(self, lane: Lane, cursor: Cursor, parked: Sequence[Parked] = ()) -> bool:
        """Have the writer move the cursor; False where that did not happen, and the lane's cursor is to be read anew."""

        def work(outbox: Any) -> None:
            outbox.destinations.move(cursor, parked=parked)

        if not self.store(lane, work):
            return False
        lane.cursor = lane.saved = cursor
        lane.saved_at = self._clock.monotonic()
        return True

    def store_alone(self, work: Callable[[Any], None]) -> None:
        """Have the writer do something that no person can be in the way of, however long there is no room for it."""
        self.store(Lane(next(iter(self._lanes.values())).reading, self._trouble), work)

    def store(self, lane: Lane, work: Callable[[Any], None]) -> bool:
        """Have the writer do something, however long there is no room for it; False where a person was quicker, or no more may be parked."""
        while True:
            try:
                self._writer.order(work).result()
            except CursorMoved:
                lane.cursor = None
                return False
            except ParkedFull:
                self.note(lane.trouble, FULL, "")
                return False
            except NoRoom:
                # what was taken must not be sent again for want of a page
                if self._stopping:
                    return False
                self._wake.wait(AGAIN_S)
                self._wake.clear()
                continue
            return True

    # -- for replays ----------------------------------------------------------------------------------------------

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Hand over one message."""
        return self._sink.deliver(outgoing)

    def lane(self, run: int) -> Lane | None:
        """The lane of a stream, by its rows."""
        return next(
            (lane for lane in tuple(self._lanes.values()) if lane.saved is not None and lane.saved.run == run), None
        )

    def is_waiting(self) -> float:
        """Seconds for which nothing at all is to be sent."""
        return self._trouble.not_before - self._clock.monotonic()

    def unreadable(self, trouble: Trouble, error: Exception) -> None:
        """What the disk gives back cannot be read: it stands still, and only here."""
        if isinstance(error, OrdersUnread):
            self.note(trouble, error.code, str(error))
        else:
            self.note(trouble, DAMAGED, type(error).__name__)

    def broken(self, outcome: Outcome) -> None:
        """Nothing can be sent at all for a while."""
        self.note(self._trouble, outcome.code, outcome.detail, outcome.wait_s)

    def refused_again(self, outgoing: Outgoing, outcome: Outcome) -> None:
        """A replay was not taken either: its reason, which may be another than the first, is the last error."""
        self.last_error = Failure(code=outcome.code, at_us=self._clock.now_us(), detail=outcome.detail)
        log.warning(
            "destination.refused_again", code=outcome.code, destination=self.destination.name, stream=outgoing.stream,
            epoch=outgoing.epoch, seq=outgoing.seq, part=outgoing.part, detail=outcome.detail,
        )  # fmt: skip

    # -- what people see ------------------------------------------------------------------------------------------

    def note(self, trouble: Trouble, code: str, detail: str, wait_s: float = 0.0) -> None:
        """Something failed, and is tried again."""
        self.counts.failed += 1
        if trouble.code != code:
            log.warning("destination.waits", code=code, destination=self.destination.name, detail=detail)
        trouble.failed(code, self._clock.monotonic(), wait_s)
        self.last_error = Failure(code=code, at_us=self._clock.now_us(), detail=detail)

    def recount(self, view: DestinationView) -> None:
        """Count what stands parked, from the table itself; as before where that cannot be read."""
        try:
            self.parked, self.lost = view.count_parked(self.destination.name)
        except Exception as error:  # noqa: BLE001  # as above
            log.warning("destination.not_counted", destination=self.destination.name, error=type(error).__name__)

    def _show(self, lanes: Sequence[Lane], replays: Trouble) -> None:
        """Bring state and alarms to what is so now."""
        now, troubles = self._clock.monotonic(), [self._trouble, replays, *(lane.trouble for lane in lanes)]
        wanted = {trouble.code for trouble in troubles if trouble.is_grave(now)}
        wanted |= {STANDING} if self.parked else set()
        wanted |= {CHANGED} if self.changed else set()
        wanted |= {TRIMMED} if self.lost or any(lane.is_behind for lane in lanes) else set()
        for code in wanted - self._raised:
            self._alarms.raised(code, self.destination.name)
        for code in self._raised - wanted:
            self._alarms.cleared(code, self.destination.name)
        self._raised = wanted
        state = "up" if self.counts.taken or self.counts.refused else "unproven"
        if any(trouble.code for trouble in troubles):
            state = "stopped" if any(trouble.needs_person for trouble in troubles) else "retrying"
        if state != self._state:
            self._state, self.since_us = state, self._clock.now_us()
