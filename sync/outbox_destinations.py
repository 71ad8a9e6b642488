"""Where the site's own systems stand in the outbox: one position for each destination and stream, and the messages it did not take.

A position is a place in the run of rows that all epochs of a stream share (decision 0014): what a further epoch carries is not repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import apsw

from native import cbor_map
from sync.errors import CursorLost, CursorMoved, ParkedFull
from sync.outbox_parked import (
    PARKED_MAX,
    TRIMMED,
    Parked,
    ask_replay,
    count_rows,
    forget,
    go_on,
    park,
    read_parked,
    refused_again,
)
from sync.transaction import reading

_CURSOR = "name, run, place, part, number, given_place, given_part, turn, digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The next message of a stream for a destination. `number`: the one it will be sent with where the peer counts; `given`: the place and
    part of the message that may have been sent with that number already.
    """

    name: str
    run: int
    place: int
    part: int = 0
    number: int = 1
    given: tuple[int, int] | None = None
    turn: int = 0

    @property
    def row(self) -> tuple[Any, ...]:
        """Its columns, the digest last."""
        place, part = self.given or (None, None)
        values = (self.name, self.run, self.place, self.part, self.number, place, part, self.turn)
        text = [(key, "" if value is None else value) for key, value in enumerate(values)]
        return (*values, sha256(cbor_map(text)).digest())


def read_cursor(connection: Any, name: str, run: int) -> Cursor | None:
    """Where a destination stands; None where it never stood anywhere. Raises CursorLost for a row that is not as it was written, or is gone."""
    rows = list(connection.execute(f"SELECT {_CURSOR} FROM destination WHERE name = ? AND run = ?", (name, run)))  # noqa: S608  # constants
    if rows:
        return _cursor(rows[0])
    # one flipped bit in a row's name, or in its page's list of rows, and it is not found any more: it must not begin anew at the stream's end
    if connection.execute("SELECT 1 FROM fact WHERE name = ?", (_began(name, run),)).get:
        raise CursorLost(f"{name}: the row is gone")
    return None


def _began(name: str, run: int) -> str:
    """The fact that a destination was once opened on a run: it lies on another page than the position."""
    return f"destination {name} {run}"


def _cursor(row: tuple[Any, ...]) -> Cursor:
    name, run, place, part, number, given_place, given_part, turn, digest = row
    try:
        given = None if given_place is None else (given_place, given_part)
        found = Cursor(name=name, run=run, place=place, part=part, number=number, given=given, turn=turn)
        if found.row[-1] == digest and place >= 0:
            return found
    except (TypeError, ValueError, OverflowError) as error:
        raise CursorLost(str(name)) from error
    raise CursorLost(f"{name}: the row was changed")


class Destinations:
    """The writer's side: positions move, and what was not taken is kept, each in one transaction."""

    def __init__(self, connection: apsw.Connection, transaction: Callable[..., AbstractContextManager[None]]) -> None:
        self._connection, self._transaction = connection, transaction
        self._parked: dict[
            str, list[Parked]
        ] = {}  # of those asked for since one of them changed: trimming asks again and again

    def open(self, name: str, run: int, place: int) -> Cursor:
        """Let a destination begin at this place of a run, unless it stands there already. Raises CursorLost."""
        with reading():
            found = read_cursor(self._connection, name, run) or Cursor(name=name, run=run, place=place)
            known: Any = self._connection.execute("SELECT 1 FROM fact WHERE name = ?", (_began(name, run),)).get
        if not known:  # new, or opened by a release that kept no such fact
            with self._transaction():
                self._put(found)
                self._connection.execute("INSERT INTO fact (name, value) VALUES (?, x'01')", (_began(name, run),))
        return found

    def move(self, cursor: Cursor, *, parked: Sequence[Parked] = (), settled: Sequence[int] = ()) -> None:
        """Go on to this position, keep what was not taken, forget what was replayed: all or nothing.

        Raises CursorMoved where a person moved it meanwhile, ParkedFull where no more may be kept, NoRoom.
        """
        with reading():
            self._refuse_old(cursor)
            self._refuse_more(cursor.name, len(parked) - len(settled))
        with (self._parking if parked or settled else self._transaction)(grows=bool(parked)):
            self._put(cursor)
            for each in parked:
                park(self._connection, each)
            forget(self._connection, cursor.name, settled)

    def set_back(self, cursor: Cursor, *, parked: Sequence[Parked] = ()) -> Cursor:
        """A person's order: this position from now on, whatever the destination is about. Raises CursorMoved, ParkedFull, NoRoom."""
        after = replace(cursor, turn=cursor.turn + 1)
        with reading():
            self._refuse_old(cursor)
            self._refuse_more(cursor.name, len(parked))
        with self._parking(grows=bool(parked)):
            self._put(after)
            for each in parked:
                park(self._connection, each)
        return after

    def put_anew(self, cursor: Cursor) -> None:
        """A person's order where the position cannot be read any more: this one. Raises NoRoom."""
        with self._transaction():
            self._put(cursor)

    def ask_replay(self, name: str, rows: Sequence[int] | None) -> int:
        """Have these parked rows of a destination sent again, or all that still can be; how many. Raises NoRoom."""
        with self._parking():
            return ask_replay(self._connection, name, rows)

    def dismiss(self, name: str, rows: Sequence[int] | None) -> int:
        """Forget these parked rows of a destination, or all; how many. Raises NoRoom."""
        with self._parking():
            return forget(self._connection, name, rows)

    def refused_again(self, row: int, *, name: str) -> None:
        """A replayed message was not taken either: it stays, under its first reason. Raises NoRoom."""
        with self._parking():
            refused_again(self._connection, name, row)

    def replayed(
        self, row: Parked, *, place: int, done: int, cursor: Cursor | None = None, parked: Sequence[Parked] = ()
    ) -> None:
        """A replay of a row has come so far. `cursor`: moves too, where the peer counts. Raises CursorMoved, ParkedFull, NoRoom."""
        with reading():
            if cursor is not None:
                self._refuse_old(cursor)
            self._refuse_more(row.name, len(parked))
        with self._parking(grows=bool(parked)):
            go_on(self._connection, row, place=place, done=done)
            if cursor is not None:
                self._put(cursor)
            for each in parked:
                park(self._connection, each)

    def held_at(self, run: int, holders: Mapping[str, int]) -> int | None:
        """The first place of a run whose body a destination still needs: none may go from there on. None where nothing is held.

        `holders`: each destination, and since when (UTC microseconds) a parked message of it keeps its body.
        """
        places: list[int] = []
        for name, since_us in holders.items():
            try:
                cursor = read_cursor(self._connection, name, run)
            except CursorLost:
                return 0
            places += [cursor.place] if cursor is not None else []
            if name not in self._parked:
                self._parked[name] = read_parked(self._connection, name)
            rows = self._parked[name]
            if any(row.is_changed for row in rows):
                return 0  # which message it was nobody can say
            kept = (row for row in rows if row.run == run and row.reason != TRIMMED)
            places += [row.place for row in kept if row.replay or row.at_us >= since_us]
        return min(places, default=None)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _parking(self, *, grows: bool = False) -> AbstractContextManager[None]:
        self._parked.clear()
        return self._transaction(grows=grows)

    def _refuse_old(self, cursor: Cursor) -> None:
        now = read_cursor(self._connection, cursor.name, cursor.run)
        if now is None or now.turn != cursor.turn:
            raise CursorMoved(cursor.name)

    def _refuse_more(self, name: str, more: int) -> None:
        if more > 0:
            held = count_rows(self._connection, name)
            if held + more > PARKED_MAX:
                raise ParkedFull(f"{name}: {held} stand parked")

    def _put(self, cursor: Cursor) -> None:
        marks = ", ".join("?" for _ in _CURSOR.split(","))
        self._connection.execute(f"INSERT OR REPLACE INTO destination ({_CURSOR}) VALUES ({marks})", cursor.row)  # noqa: S608  # constants
