"""A disk that is older than the node had been: its streams go on under further epochs, and what it has lost is named by a signed record of each."""

import json
from collections.abc import Mapping

import structlog

from node.alarms import Alarms
from node.clock import Clock
from sync.control import Hole, Moment, encode, read_hole
from sync.errors import NoRoom, NotARecord
from sync.highwater import Mark
from sync.outbox import Outbox

LOST = "lost/"  # facts: what of a stream is lost and not yet written into it
WHY = "restored"

log = structlog.get_logger()


def part_from(outbox: Outbox, marks: Mapping[str, Mark], alarms: Alarms, *, tag: str) -> None:
    """Where this disk is older than a stream's mark, open a further epoch of it, link or no link."""
    for name, mark in marks.items():
        head = outbox.heads.get(name)
        if head is None or not mark.is_ahead_of(head.origin, head.frontier.size):
            continue
        epoch = max(mark.epoch, head.origin.epoch) + 1
        first, end = mark.lost(head.origin, head.frontier.size)
        log.warning(
            "outbox.restored", code="NOD-31", stream=name, epoch=epoch, lost_epoch=mark.epoch, lost_first=first, lost_end=end
        )  # fmt: skip
        alarms.raised("NOD-31", name)
        fact = None
        if first < end:
            hole = Hole(stream=name, epoch=mark.epoch, first=first, last=end - 1, lost="all", why=WHY)
            fact = (f"{LOST}{name}", encode(hole.members()))
        # the fact goes with the epoch: the mark is overwritten soon, and a crash before the record is written must not leave it unnamed
        outbox.open_epoch(name, epoch=epoch, tag=tag, place=head.end, theirs=None, fact=fact)


def name_lost(outbox: Outbox, clock: Clock, *, facility: str) -> None:
    """Write into each stream, once, which of its records this disk no longer has. Where there is no room the next start does it."""
    for fact, value in outbox.facts(f"{LOST}*").items():
        stream = fact.removeprefix(LOST)
        if not value or stream not in outbox.heads:
            continue
        if (hole := _read(stream, value)) is None:  # a flipped bit; the alarm and the further epoch say the rest
            log.warning("outbox.lost_unreadable", stream=stream)
            continue
        trust = clock.trust()
        at = Moment(received_us=clock.now_us(), clock_state=trust.state, clock_error_us=trust.error_us)
        try:
            outbox.append([hole.draft(facility=facility, at=at)._replace(fact=(fact, b""))])
        except NoRoom:
            log.warning("outbox.lost_not_named", code="NOD-10", stream=stream)


def _read(stream: str, value: bytes) -> Hole | None:
    try:
        members = json.loads(value)
        hole = read_hole(members) if isinstance(members, dict) else None
    except (ValueError, TypeError, NotARecord, RecursionError):
        return None
    return hole if hole is not None and hole.stream == stream else None
