"""Frames that were acknowledged one by one, until the message that they make up is a record (decision 0029).

The record's own transaction says, by a fact, up to where its transfer is in the log: from then on these rows mean nothing, and go later.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, NamedTuple

import apsw

from native import cbor_map
from sync.errors import LogBroken
from sync.store import all_bytes
from sync.transaction import reading

_INSERT = "INSERT OR REPLACE INTO frame (transfer, place, feed, peer, at_us, text, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
# by either name: a flipped bit in one of them does not hide a frame that was acknowledged
_SELECT = """SELECT CAST(transfer AS BLOB), place, CAST(feed AS BLOB), CAST(peer AS BLOB), at_us, text, digest FROM frame
WHERE feed = ?1 OR substr(transfer, 1, length(?1) + 1) = ?1 || '/' ORDER BY transfer, place"""


class Frame(NamedTuple):
    """One frame's text. `transfer` begins with the feed's name and a slash; `place`: how many bytes of the transfer stand before it.

    `is_good`: it is as it was written; else nothing of it is sure, and there is no text.
    """

    transfer: str
    place: int
    feed: str
    peer: str
    at_us: int
    text: bytes
    is_good: bool = True

    @property
    def digest(self) -> bytes:
        """Over all columns."""
        return sha256(cbor_map(list(enumerate(self[:6])))).digest()


class Frames:
    """The writer's side: frames come, and go when their transfer is settled."""

    def __init__(self, connection: apsw.Connection, transaction: Callable[..., AbstractContextManager[None]]) -> None:
        self._connection, self._transaction = connection, transaction

    def write(
        self, *, kept: Sequence[Frame] = (), dropped: Sequence[str] = (), facts: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """Keep frames, forget transfers, set or forget facts: all or nothing, durable when this returns. Raises NoRoom, CommitUnknown."""
        with self._transaction(grows=bool(kept)):
            self.put(kept=kept, dropped=dropped, facts=facts)

    def put(
        self, *, kept: Sequence[Frame] = (), dropped: Sequence[str] = (), facts: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """The same within the caller's transaction."""
        run = self._connection.execute
        for frame in kept:
            run(_INSERT, (*frame[:6], frame.digest))
        for transfer in dropped:
            run("DELETE FROM frame WHERE transfer = ?", (transfer,))
        for name, value in facts:
            if value is None:
                run("DELETE FROM fact WHERE name = ?", (name,))
            else:
                run("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))

    def of_feed(self, feed: str) -> list[Frame]:
        """All frames of a feed, in the order of their transfers. Raises LogBroken, CommitUnknown."""
        with reading():
            return [_frame(*row) for row in self._connection.execute(_SELECT, (feed,))]

    def check(self) -> None:
        """See that no row has gone: none of the others would tell. Raises LogBroken, CommitUnknown."""
        with reading():
            said = self._connection.execute("PRAGMA integrity_check(frame)").get
        if said != "ok":
            raise LogBroken("the frames of open transfers are not as they were written")

    def facts(self, start: str) -> dict[str, bytes]:
        """The facts whose names begin so; what a flipped bit has made something else is none of them."""
        found: Any = self._connection.execute(
            "SELECT name, value FROM fact WHERE substr(name, 1, ?) = ?", (len(start), start)
        )
        return all_bytes(found)


def _frame(transfer: Any, place: Any, feed: Any, peer: Any, at_us: Any, text: Any, digest: Any) -> Frame:
    """A row as a frame; a damaged one may hold values of any kind."""
    names = [(each or b"").decode("utf-8", "backslashreplace") for each in (transfer, feed, peer)]
    if type(place) is type(at_us) is int and min(place, at_us) >= 0 and type(text) is bytes:
        frame = Frame(names[0], place, names[1], names[2], at_us, text)
        if frame.digest == digest:
            return frame
    return Frame(names[0], 0, names[1], names[2], 0, b"", is_good=False)
