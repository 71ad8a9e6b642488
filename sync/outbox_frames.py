"""Frames that were acknowledged one by one, until the message that they make up is a record (decision 0029).

The record's own transaction says, by a fact, up to where its transfer is in the log: from then on these rows mean nothing, and go later.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any, NamedTuple

import apsw

from native import cbor_map

_INSERT = "INSERT OR REPLACE INTO frame (transfer, place, feed, peer, at_us, text, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT transfer, place, feed, peer, at_us, text, digest FROM frame WHERE feed = ? ORDER BY transfer, place"


class Frame(NamedTuple):
    """One frame's text, or what stands for it. `is_good`: it is as it was written."""

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
        run = self._connection.execute
        with self._transaction(grows=bool(kept)):
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
        """All frames of a feed, in the order of their transfers."""
        return list(self._read(feed))

    def facts(self, start: str) -> dict[str, bytes]:
        """The facts whose names begin so."""
        found: Any = self._connection.execute(
            "SELECT name, value FROM fact WHERE substr(name, 1, ?) = ?", (len(start), start)
        )
        return {name: bytes(value) for name, value in found}

    def _read(self, feed: str) -> Iterator[Frame]:
        rows: Any = self._connection.execute(_SELECT, (feed,))
        for *values, digest in rows:
            frame = Frame(*values)
            yield frame if frame.digest == digest else frame._replace(is_good=False)
