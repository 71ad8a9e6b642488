"""A further epoch of a stream: the records that the gateway does not hold become the first of a new log, under a signed statement.

No row moves. The epochs of a stream are windows on one run of rows; opening one cuts the windows before it and lays the new one
over the rest, so a queue of millions is carried in the time that hashing its leaves takes.
"""

from collections.abc import Sequence
from dataclasses import replace

import apsw

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import LogBroken
from sync.key_ring import KeyRing, id_of
from sync.keys import Signer
from sync.log import HASH_BYTES, TILE_LEAVES, Frontier
from sync.names import EPOCH_OPENED_MAX, Origin
from sync.opening import End, Opening, sign_opening
from sync.outbox_bodies import body_bytes
from sync.outbox_heads import Head, insert_head, write_head
from sync.outbox_keys import cut_changes, keys_of
from sync.store import LogTable

LEAVES_MAX = 64 * TILE_LEAVES  # hashed together: 2 MiB of memory, and whole tiles


def open_epoch(
    connection: apsw.Connection, heads: Sequence[Head], *, epoch: int, tag: str, place: int, own: int, theirs: End | None, signer: KeyRing
) -> list[Head]:  # fmt: skip
    """Open an epoch at a place of the stream's run, within the caller's transaction; all heads of the stream as they are then.

    `heads`: those of the stream, oldest first. Raises LogBroken where the place, or leaves before it, are not there.
    """
    newest = heads[-1]
    holder = next((head for head in heads if head.start <= own <= head.end), None)
    # what lies between `own` and `place` the gateway holds too, but in a log that a rolled-back disk has made us forget
    is_next = newest.origin.epoch < epoch <= EPOCH_OPENED_MAX
    if holder is None or not own <= place <= newest.end or not is_next:
        raise LogBroken(f"{newest.origin}: no epoch {epoch} can be opened at {place}")
    common = own - holder.start
    opening = Opening(
        opened=Origin(newest.origin.node, newest.origin.stream, epoch, tag), theirs=theirs,
        own=End(newest.origin, newest.frontier.size, newest.frontier.root),
        common=End(holder.origin, common, holder.table(connection).frontier(common).root), carried=newest.end - place,
    )  # fmt: skip
    carried = _carry(connection, heads, opening, place, signer)
    cut = [_cut(connection, head, max(0, place - head.start), signer) for head in heads]
    return [*cut, carried]


def _carry(connection: apsw.Connection, heads: Sequence[Head], opening: Opening, place: int, signer: KeyRing) -> Head:
    """Make the new log over the rows from `place` on. The present key signs it from its first record: its statement hands over, if need be."""
    newest, size = heads[-1], opening.carried
    made = insert_head(
        connection, origin=opening.opened, lane=newest.lane, checkpoint=_sign(opening.opened, Frontier(), signer), run=newest.run, start=place,
        opening=sign_opening(opening, *_openers(connection, heads, opening.common, signer)),
    )  # fmt: skip
    frontier = _rehash(made.table(connection), size)
    trimmed = max((head.start + head.trimmed for head in heads if head.trimmed), default=0) - place
    head = replace(
        made, frontier=frontier, octets=body_bytes(connection, made, 0, size), trimmed=min(max(0, trimmed), size),
        # no group was committed to it yet: what is carried was verified where it was stored, or a repair has named it as lost
        group_first=size, checkpoint=_sign(made.origin, frontier, signer),
    )  # fmt: skip
    write_head(connection, head)
    return head


def _openers(connection: apsw.Connection, heads: Sequence[Head], common: End, ring: KeyRing) -> list[Signer]:
    """Each key that the gateway may know as the one in force, as far as the two agree and after it; the present one last.

    One that is gone cannot sign: then a person at the centre decides, as about every further epoch.
    """
    holder = next(head for head in heads if head.origin == common.origin)
    keys = keys_of(connection, ring, holder.log, holder.checkpoint)
    wanted = dict.fromkeys(keys.for_batch(common.size, holder.frontier.size))
    return [*ring.held(each for each in wanted if each != id_of(ring)), ring.now]


def _rehash(table: LogTable, size: int) -> Frontier:
    """Hash leaves that lie there already into the tree of another log, and store its tiles."""
    frontier = Frontier()
    while frontier.size < size:
        leaves = table.leaves(frontier.size, min(LEAVES_MAX, size - frontier.size))
        if not leaves or len(leaves) % HASH_BYTES:
            raise LogBroken("leaves of the run are missing")
        table.fill_tiles(frontier, leaves)
        frontier = frontier.append(leaves)
    return frontier


def _cut(connection: apsw.Connection, head: Head, size: int, ring: KeyRing) -> Head:
    """Let an older log end at `size`, where it does not already."""
    if head.frontier.size <= size:
        return head
    frontier = head.table(connection).frontier(size)
    # of what is common nothing is sent again; so where its key is gone the present one may keep the row
    signer = next(iter(ring.held([keys_of(connection, ring, head.log, head.checkpoint).at(size)])), ring.now)
    after = replace(
        head, frontier=frontier, octets=body_bytes(connection, head, 0, size), trimmed=min(head.trimmed, size),
        group_first=min(head.group_first, size), checkpoint=_sign(head.origin, frontier, signer),
    )  # fmt: skip
    connection.execute("DELETE FROM tile WHERE log = ? AND tile >= ?", (head.log, size // TILE_LEAVES))
    # a receipt of more than is common speaks of something that the gateway no longer holds
    connection.execute("DELETE FROM cursor WHERE log = ? AND size > ?", (head.log, size))
    cut_changes(connection, head.log, size)
    write_head(connection, after)
    return after


def _sign(origin: Origin, frontier: Frontier, signer: Signer) -> bytes:
    return sign_checkpoint(Checkpoint(origin, frontier.size, frontier.root), signer)
