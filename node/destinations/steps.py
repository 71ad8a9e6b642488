"""Where a cursor stands after a message."""

from dataclasses import replace

from node.destinations.plug import Outcome, Outgoing
from sync.outbox_destinations import Cursor


def after(cursor: Cursor, outgoing: Outgoing, outcome: Outcome) -> Cursor:
    """The position behind a message that was taken or put aside."""
    place, part = behind(outgoing)
    return counted(replace(cursor, place=place, part=part), outcome)


def behind(outgoing: Outgoing) -> tuple[int, int]:
    """The place and part that follow a message."""
    return (outgoing.place + 1, 0) if outgoing.is_last else (outgoing.place, outgoing.part + 1)


def counted(cursor: Cursor, outcome: Outcome) -> Cursor:
    """The same position; the next number, where this one was used."""
    return replace(cursor, number=cursor.number + 1, given=None) if outcome.used else cursor
