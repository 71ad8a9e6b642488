"""Frames on their way to the disk: all that queued while the last commit ran go together, of whatever feed. Used from the event loop only."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from node.alarms import Alarms
from node.writer import Writer
from sync.errors import NoRoom
from sync.outbox import Outbox
from sync.outbox_frames import Frame

FULL = "NOD-10"

Facts = Sequence[tuple[str, bytes | None]]
Done = Callable[[bool], None]


class _Work(NamedTuple):
    stream: str
    kept: Sequence[Frame]
    dropped: Sequence[str]
    facts: Facts
    done: Done


class FrameStore:
    """What every feed of frames writes through. `done` hears True when it is durable, False where there was no room."""

    def __init__(self, writer: Writer, alarms: Alarms) -> None:
        self._writer, self._alarms = writer, alarms
        self._waiting: list[_Work] = []
        self._is_busy = False

    def write(
        self, stream: str, done: Done, *, kept: Sequence[Frame] = (), dropped: Sequence[str] = (), facts: Facts = ()
    ) -> None:
        """Keep frames, forget transfers, set or forget facts: all of it or nothing."""
        self._waiting.append(_Work(stream, kept, dropped, facts, done))
        self._go_on()

    def _go_on(self) -> None:
        if self._is_busy or not self._waiting:
            return
        works, self._waiting = self._waiting, []
        self._is_busy = True
        loop = asyncio.get_running_loop()
        future = self._writer.order(
            lambda outbox: _write(outbox, self._writer, works),
            lambda outbox: _write_within(outbox, self._writer, works),
        )
        future.add_done_callback(lambda settled: loop.call_soon_threadsafe(self._settle, works, settled))

    def _settle(self, works: list[_Work], settled: Future[list[bool]]) -> None:
        self._is_busy = False
        # a crash here: the frames are kept, not acknowledged; their sender repeats them
        outcome = [False] * len(works) if settled.exception() else settled.result()
        if not all(outcome):
            self._alarms.raised(FULL)
        for work, is_stored in zip(works, outcome, strict=True):
            work.done(is_stored)
        self._go_on()


def _write(outbox: Outbox, writer: Writer, works: list[_Work]) -> list[bool]:
    """In the writer's thread. Where there is no room for frames, what makes room or adds nothing is written all the same."""
    outcome = _roomy(outbox, writer, works)
    try:
        _write_those(outbox.frames.write, works, outcome)
    except NoRoom:
        outcome = [not work.kept for work in works]
        _write_those(outbox.frames.write, works, outcome)
    return outcome


def _write_within(outbox: Outbox, writer: Writer, works: list[_Work]) -> list[bool]:
    """The same within a transaction of others. Raises NoRoom: then all of that is undone."""
    outcome = _roomy(outbox, writer, works)
    _write_those(outbox.frames.put, works, outcome)
    return outcome


def _roomy(outbox: Outbox, writer: Writer, works: list[_Work]) -> list[bool]:
    """Of which there is room for the frames, by the lane of their stream."""
    sizes = [sum(len(frame.text) for frame in work.kept) for work in works]
    return [
        not (work.kept and writer.refuses(outbox, work.stream, size)) for work, size in zip(works, sizes, strict=True)
    ]


def _write_those(write: Callable[..., None], works: list[_Work], chosen: list[bool]) -> None:
    those = [work for work, is_chosen in zip(works, chosen, strict=True) if is_chosen]
    if those:
        write(
            kept=[frame for work in those for frame in work.kept], dropped=[name for work in those for name in work.dropped],
            facts=[fact for work in those for fact in work.facts],
        )  # fmt: skip
