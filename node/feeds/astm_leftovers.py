"""Transfers that were cut off by a stop, or that found no room at their end: what was acknowledged of them becomes a record marked incomplete."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from node.feeds.astm_sessions import Session, Transfer
from sync.errors import SyncError
from sync.outbox import Stored
from sync.outbox_frames import Frame

if TYPE_CHECKING:
    from node.errors import QueueFull
    from node.feeds.astm import AstmFeed
    from node.intake import Counted
    from node.writer import Outcome

LOOK_S = 60.0  # how often what found no room is tried again


async def recover(feed: "AstmFeed", *, first: bool) -> bool:
    """Record what is left of transfers that nobody works on; whether some still found no room. `first`: at the start. Raises SyncError."""
    name, start = feed.door.feed, feed.fact_start
    if first:
        await asyncio.wrap_future(feed.around.writer.order(lambda outbox: outbox.frames.check()))
    rows, facts = await asyncio.wrap_future(
        feed.around.writer.order(lambda outbox: (outbox.frames.of_feed(name), outbox.frames.facts(start)))
    )
    if first:
        for fact, value in facts.items():
            feed.remember(Session.read(fact, value))
    left = False
    for transfer, frames in groupby(rows, key=lambda frame: frame.transfer):
        if not feed.is_open(transfer):
            left = not await _record(feed, transfer, list(frames)) or left
    if first:
        for fact in facts:  # their senders never heard how it ended
            session = feed.session(fact.removeprefix(start))
            for transfer in list(session.transfers):
                session.close(transfer, is_heard=False)
    return left


def leftover(frames: Sequence[Frame], end: int) -> tuple[bytes, bool]:
    """What the frames of a transfer hold behind its byte `end`, up to which all is in the log; and whether none of them is missing or damaged."""
    text, at, is_whole = bytearray(), 0, True
    for frame in frames:
        # a frame that ended a message went into its record, and has no row: what is missing before `end` is not lost
        is_whole = is_whole and frame.is_good and at <= frame.place <= max(at, end)
        at = frame.place + len(frame.text)
        text += frame.text[max(0, end - frame.place) :]
    return bytes(text), is_whole


@asynccontextmanager
async def _alone(session: Session) -> AsyncIterator[None]:
    """While no other commit of this line is under way: what is marked here must not stand in another's, which may succeed where this one fails."""
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin() -> None:
        if turn.done():  # the feed was stopped while it waited
            session.leave()
        else:
            turn.set_result(None)

    session.enter(begin)
    await turn
    try:
        yield
    finally:
        session.leave()


async def _record(feed: "AstmFeed", transfer: str, frames: list[Frame]) -> bool:
    """One transfer; False where there was no room."""
    session = feed.session(frames[0].peer)
    async with _alone(session):
        return await _record_alone(feed, session, transfer, frames)


async def _record_alone(feed: "AstmFeed", session: Session, transfer: str, frames: list[Frame]) -> bool:
    known = session.transfers.setdefault(transfer, Transfer())
    text, is_whole = leftover(frames, known.end)
    before, known.end = known.end, max(known.end, *(frame.place + len(frame.text) for frame in frames))
    if text.strip() or not is_whole:
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def answer(outcome: "Outcome | QueueFull | Counted") -> None:
            if not stored.done():  # the feed was stopped meanwhile
                stored.set_result(isinstance(outcome, Stored))

        feed.take(
            text, peer=frames[0].peer, is_cut=True, fact=(session.name, session.encode() or b""), answer=answer,
            damaged=not is_whole,
        )  # fmt: skip
        if not await stored:
            known.end = before
            return False
    # a crash here: the fact says that these rows are in the log
    session.close(transfer, is_heard=False)
    fact = (session.name, session.encode())
    try:
        await asyncio.wrap_future(
            feed.around.writer.order(lambda outbox: outbox.frames.write(dropped=[transfer], facts=[fact]))
        )
    except SyncError:
        return False
    return True
