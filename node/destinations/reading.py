"""What comes next for a destination in one stream: from its cursor on, over records that are not for it, to a message or to the end."""

from dataclasses import replace
from typing import NamedTuple

from hl7.convert.result import Origin
from node.clock import iso
from node.destinations.errors import DAMAGED, TRIMMED
from node.destinations.plug import Outgoing
from node.destinations.selection import Part, Request, Selection, request_of
from sync.errors import NotARecord
from sync.header import Header
from sync.outbox_destinations import Cursor
from sync.outbox_destinations_view import DestinationView, Run
from sync.record import BodyState, Record
from sync.store import damage

LOOK_ROWS = 256  # headers read together: 40 kB
FIRST_ROWS = 8  # most destinations want what comes next: 1 kB
LOOKS_MAX = 16  # in one turn: a destination that wants little of much gives its other streams their turn


class Next(NamedTuple):
    """Where the cursor stands now, and what stands there: a message, or why there is none of it; neither at the stream's end.

    `is_more`: nothing was found yet, but the end was not reached.
    """

    cursor: Cursor
    outgoing: Outgoing | None = None
    lost: str = ""
    is_more: bool = False


class _Divided(NamedTuple):
    """A record, and the messages of it that are for this destination."""

    place: int
    header: Header
    parts: list[Part]
    request: Request
    origin: Origin


def _origin(stream: str, position: tuple[int, int], header: Header, record: Record) -> Origin:
    """Where a record comes from, as a converter wants it: the facility that took it, its position, its leaf."""
    return Origin(
        facility=header.facility, stream=stream, epoch=position[0], seq=position[1], leaf=record.leaf.hex(), received_at=iso(header.received_us)
    )  # fmt: skip


class Reading:
    """One destination's look into one stream. One thread only, but for `tried`."""

    def __init__(self, view: DestinationView, node: str, stream: str, selection: Selection) -> None:
        self.stream = stream
        self._view, self._node, self._selection = view, node, selection
        self._divided: _Divided | None = None  # the record that was read last
        self._last: Next | None = None

    def next(self, run: Run, cursor: Cursor) -> Next:
        """The next message from the cursor on, and the cursor moved up to it."""
        self._last = found = self._next(run, cursor)
        return found

    def tried(self, cursor: Cursor) -> Outgoing | None:
        """What was read last, where it still waits by this cursor, which is durable: it was tried, perhaps often; None where something else comes next."""
        found = self._last
        if found is None or found.outgoing is None or found.cursor.turn != cursor.turn:
            return None
        outgoing = found.outgoing
        return outgoing if (outgoing.place, outgoing.part) >= (cursor.place, cursor.part) else None

    def _next(self, run: Run, cursor: Cursor) -> Next:
        for look in range(LOOKS_MAX):
            rows = self._view.headers(
                run.id, cursor.place, min(LOOK_ROWS if look else FIRST_ROWS, run.end - cursor.place)
            )
            if not rows:
                return Next(cursor)
            for place, raw in rows:
                if place > cursor.place:  # also over a row that is not there any more
                    cursor = replace(cursor, place=place, part=0)
                found = self.at(run, place, cursor.part, raw)
                if found is not None:
                    outgoing, lost = found
                    part = cursor.part if outgoing is None else outgoing.part
                    return Next(replace(cursor, part=part), outgoing, lost)
                cursor = replace(cursor, place=place + 1, part=0)
        return Next(cursor, is_more=True)

    def at(self, run: Run, place: int, part: int, raw: bytes) -> tuple[Outgoing | None, str] | None:
        """The first message from a part on of the record at a place, or why there is none of it; None where it holds none for us."""
        try:
            header = self._selection.header(raw)
        except NotARecord:
            return None, DAMAGED  # what it was nobody can say: it is named, not passed over
        if header is None:
            return (None, DAMAGED) if self._is_altered(run, place) else None
        if self._divided is None or self._divided.place != place:
            record = self._view.record(run.id, place)
            if record is not None and record.state is BodyState.ERASED:
                return None  # by law: it is nobody's any more
            if record is None or record.state is not BodyState.PRESENT or damage(record) is not None:
                return (None, self._why(record)) if self._selection.might_want(header) else None
            origin = _origin(self.stream, run.position(place), header, record)
            self._divided = _Divided(
                place, header, self._selection.parts(header, record, origin), request_of(record), origin
            )
        _, header, parts, request, origin = self._divided
        chosen = next((each for each in parts if each.part >= part), None)
        if chosen is None:
            return None
        epoch, seq = run.position(place)
        return Outgoing(
            self._node, self.stream, place, chosen.part, epoch, seq, chosen.content_type, chosen.message_type, chosen.control_id, chosen.body,
            *request, chosen is parts[-1], feed=header.feed, origin=replace(origin, part=chosen.part), unconverted=chosen.unconverted,
        ), ""  # fmt: skip

    def _is_altered(self, run: Run, place: int) -> bool:
        """Whether a header that is not for us may have been: a flipped bit can make of a message what no destination wants."""
        record = self._view.record(run.id, place)
        return record is not None and damage(record) is BodyState.LEAF_ONLY

    def _why(self, record: Record | None) -> str:
        """Why a record has no body, by the window in which it lies."""
        return TRIMMED if record is not None and record.state is BodyState.TRIMMED else DAMAGED
