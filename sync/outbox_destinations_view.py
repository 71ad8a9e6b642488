"""The reading side of a destination: the records from a position on, whatever epochs they stand in. Query-only, one to a thread."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync.outbox_bodies import bodies_from
from sync.outbox_destinations import Cursor, read_cursor
from sync.outbox_parked import Parked, count_parked, read_parked
from sync.record import BodyState, Record
from sync.store import LogTable, OutboxTable, SafeDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The rows of a stream over all its epochs: their `end`, before which place (`trimmed`) no body is left, and the window of each epoch."""

    id: int
    end: int
    trimmed: int
    windows: tuple[tuple[int, int], ...]

    def position(self, place: int) -> tuple[int, int]:
        """Epoch and seq of the record at a place, as it stands today."""
        epoch, start = next(((e, s) for e, s in reversed(self.windows) if s <= place), self.windows[0])
        return epoch, place - start

    def place(self, epoch: int, seq: int) -> int | None:
        """The place of a position; None where the epoch is none of ours."""
        return next((start + seq for each, start in self.windows if each == epoch), None)


class RunTable(OutboxTable):
    """A stream's rows by place, over all its epochs: the window in which a place lies says up to where bodies were trimmed."""

    __slots__ = ()

    def _without_body(self, place: int) -> BodyState:
        # as for one log: asked after the body was missed, so never too early
        trimmed = list(
            self._connection.execute(
                "SELECT start + trimmed FROM log WHERE ? IN (id, run) AND start <= ? ORDER BY epoch DESC LIMIT 1",
                (self.log, place),
            )
        )
        return BodyState.TRIMMED if trimmed and place < trimmed[0][0] else BodyState.PRESENT


class DestinationView:
    """The store of one node, for one destination."""

    def __init__(self, path: Path) -> None:
        self._database = SafeDatabase(path, readonly=True)

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def run(self, stream: str) -> Run | None:
        """A stream's rows as they are now; None where there is no such stream."""
        rows = self._all(
            "SELECT CASE run WHEN 0 THEN id ELSE run END, start, epoch, size, trimmed FROM log WHERE stream = ? ORDER BY epoch",
            (stream,),
        )
        if not rows:
            return None
        return Run(
            id=rows[-1][0], end=rows[-1][1] + rows[-1][3], trimmed=bodies_from((start, size, trimmed) for _, start, _, size, trimmed in rows),
            windows=tuple((epoch, start) for _, start, epoch, _, _ in rows),
        )  # fmt: skip

    def cursor(self, name: str, run: int) -> Cursor | None:
        """Where a destination stands. Raises CursorLost."""
        return read_cursor(self._database.raw(), name, run)

    def parked(self, name: str, *, replay: bool = False, most: int = 1000) -> list[Parked]:
        """What a destination did not take."""
        return read_parked(self._database.raw(), name, replay=replay, most=most)

    def count_parked(self, name: str) -> tuple[int, int]:
        """How many stand parked, and how many of these lost their bodies."""
        return count_parked(self._database.raw(), name)

    def headers(self, run: int, place: int, count: int) -> list[tuple[int, bytes]]:
        """Place and header of the next records; an empty header where it is lost."""
        return self._table(run).headers(place, count)

    def record(self, run: int, place: int) -> Record | None:
        """The record at a place; TRIMMED where it has no body."""
        return next(iter(list(self._table(run).records(place, 1))), None)

    def _table(self, run: int) -> LogTable:
        return RunTable(self._database.raw(), run)

    def _all(self, statement: str, bindings: tuple[Any, ...]) -> list[Any]:
        return list(self._database.raw().execute(statement, bindings))
