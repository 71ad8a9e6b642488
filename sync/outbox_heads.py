"""A log's head: the one small row that every group commit overwrites, and all that is checked between a start and the first acknowledgement."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import apsw

from native import cbor_map
from sync.checkpoint import Checkpoint, open_checkpoint
from sync.errors import KeyAbsent, LogBroken, SyncError
from sync.key_ring import KeyRing
from sync.log import TILE_LEAVES, Frontier
from sync.names import Origin
from sync.record import BodyState
from sync.store import OutboxTable, damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A log's present end, as it is in memory and in its row. `octets` counts all body bytes ever appended.

    `run`, `start`: where its rows lie (see LogTable). `opening`: the signed statement that opened its epoch, empty for the first.
    """

    log: int
    run: int
    start: int
    origin: Origin
    lane: str
    frontier: Frontier
    octets: int
    trimmed: int
    group_first: int
    checkpoint: bytes
    opening: bytes = b""

    @property
    def end(self) -> int:
        """Where its rows end in their run."""
        return self.start + self.frontier.size

    def table(self, connection: apsw.Connection) -> OutboxTable:
        """Its leaves, tiles and records."""
        return OutboxTable(connection, self.log, self.run, self.start)

    @property
    def digest(self) -> bytes:
        """Of everything in the row. It keeps no attacker away, the signature does; it notices a disk that gives back something else."""
        values: tuple[int | str | bytes, ...] = (
            self.log, str(self.origin), self.lane, self.frontier.size, self.frontier.peaks, self.octets, self.trimmed, self.group_first, self.checkpoint,
        )  # fmt: skip
        if (self.run, self.start, self.opening) != (
            self.log,
            0,
            b"",
        ):  # heads of before there were further epochs stay as they are
            values = (*values, self.run, self.start, self.opening)
        return sha256(cbor_map(list(enumerate(values)))).digest()


def read_heads(connection: apsw.Connection, node: str) -> Iterator[Head]:
    """All heads of the node's logs, later epochs later. Raises LogBroken for a row that is not as it was written."""
    try:
        rows: Any = connection.execute(
            "SELECT id, run, start, stream, epoch, tag, lane, size, peaks, octets, trimmed, group_first, checkpoint, opening, digest"
            " FROM log ORDER BY stream, epoch"
        ).fetchall()
        for (
            log,
            run,
            start,
            stream,
            epoch,
            tag,
            lane,
            size,
            peaks,
            octets,
            trimmed,
            group_first,
            checkpoint,
            opening,
            digest,
        ) in rows:
            head = Head(
                log=log, run=run or log, start=start, origin=Origin(node, stream, epoch, tag), lane=lane, frontier=Frontier(size, peaks),
                octets=octets, trimmed=trimmed, group_first=group_first, checkpoint=checkpoint, opening=opening,
            )  # fmt: skip
            if head.digest != digest:
                raise LogBroken(f"head row of {head.origin} was changed")
            yield head
    except ValueError as error:  # a text column that is no UTF-8 any more
        raise LogBroken("a head row cannot be read") from error


def insert_head(
    connection: apsw.Connection, *, origin: Origin, lane: str, checkpoint: bytes, run: int = 0, start: int = 0, opening: bytes = b""
) -> Head:  # fmt: skip
    """Make the row of a new, empty log and give its head. `checkpoint` is of size 0; `run` 0: rows of its own."""
    connection.execute(
        "INSERT INTO log (run, start, stream, epoch, tag, lane, size, peaks, octets, trimmed, group_first, checkpoint, opening, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, x'', 0, 0, 0, ?, ?, x'')",
        (run, start, origin.stream, origin.epoch, origin.tag, lane, checkpoint, opening),
    )
    log = connection.last_insert_rowid()
    head = Head(
        log=log, run=run or log, start=start, origin=origin, lane=lane, frontier=Frontier(), octets=0, trimmed=0, group_first=0,
        checkpoint=checkpoint, opening=opening,
    )  # fmt: skip
    write_head(connection, head)
    return head


def write_head(connection: apsw.Connection, head: Head) -> None:
    """Overwrite a head's row, within the caller's transaction."""
    connection.execute(
        "UPDATE log SET lane = ?, size = ?, peaks = ?, octets = ?, trimmed = ?, group_first = ?, checkpoint = ?, digest = ? WHERE id = ?",
        (
            head.lane, head.frontier.size, head.frontier.peaks, head.octets, head.trimmed, head.group_first, head.checkpoint, head.digest, head.log,
        ),
    )  # fmt: skip


def verify_head(connection: apsw.Connection, head: Head, ring: KeyRing) -> None:
    """Check a head's frontier against leaves and tiles, its checkpoint, its last commit group. Raises LogBroken, KeyAbsent."""
    table = head.table(connection)
    try:
        checkpoint = open_checkpoint(head.checkpoint, ring.verifier(head.checkpoint))
        stored = table.frontier(head.frontier.size)
    except KeyAbsent as error:
        # the row is as it was written, its digest says so: no sign of a failing disk, but another key than the configured ones
        raise KeyAbsent(f"{head.origin}: {error}") from error
    except (SyncError, IndexError, ValueError) as error:
        raise LogBroken(f"head of {head.origin}: {error}") from error
    if stored != head.frontier or checkpoint != Checkpoint(head.origin, stored.size, stored.root):
        raise LogBroken(f"head of {head.origin} does not match its leaves")
    if table.leaves(head.frontier.size, 1):
        raise LogBroken(f"{head.origin} has records beyond its head")
    group = max(head.group_first, head.frontier.size - TILE_LEAVES)
    for record in table.records(group, head.frontier.size - group):
        found = damage(record)
        # only a body can be gone, and only by trimming: everything else that is not there was lost
        if found is not None or (record.state is not BodyState.PRESENT and record.seq >= head.trimmed):
            raise LogBroken(f"{head.origin} record {record.seq}: {(found or record.state).word}")
