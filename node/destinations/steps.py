"""Where a cursor stands after a message."""

from dataclasses import replace

from node.destinations.plug import Outcome, Outgoing
from sync.outbox_destinations import Cursor


def after(cursor: Cursor, outgoing: Outgoing, outcome: Outcome) -> Cursor:
    """The position behind a message that was taken or put aside."""
    return counted(replace(cursor, place=outgoing.place, part=outgoing.part + 1), outcome)


def counted(cursor: Cursor, outcome: Outcome) -> Cursor:
    """The same position; the next number, where this one was used."""
    return replace(cursor, number=cursor.number + 1, given=None) if outcome.used else cursor
