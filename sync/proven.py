"""Whether what was read from a log is what was signed: a flipped bit in a leaf, or in the index that leads to it, must not be signed anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from native import leaf_hashes
from sync.errors import LogBroken
from sync.log import HASH_BYTES, TILE_LEAVES, Frontier, Leaves, tile_root
from sync.record import BodyState, Record

MENDED_MAX = (
    8  # leaves of a batch that are read in two ways: one bad page has some twenty rows, and 256 choices take a second
)


def proven(
    log: Leaves, before: Frontier, taken: Sequence[tuple[Record, Record]], head: Frontier, check: Callable[[Record], Record],
    kept: dict[int, bytes] | None = None,
) -> list[Record]:  # fmt: skip
    """The records, of which each was `taken` as it is stored and as `check` gave it to be sent, under leaves that were signed before.

    Raises LogBroken where none of the ways to read them gives the root. `kept`: as for is_proven.
    """
    stored, sent = [record for record, _ in taken], [record for _, record in taken]
    for records in mended(sent, stored):
        if is_proven(log, before, [record.leaf for record in records], head, kept):
            # hashed once already, where its leaf is what it was
            return [r if r is s else check(r) for r, s in zip(records, sent, strict=True)]
    raise LogBroken("the leaves that were read are not those that were signed")


def is_proven(
    log: Leaves, before: Frontier, leaves: Sequence[bytes], head: Frontier, kept: dict[int, bytes] | None = None
) -> bool:  # fmt: skip
    """Whether these leaves stand in the log from `before` on: by the roots of their tiles, or by going on from them to its head.

    `kept` holds the leaves of the tile that was proven last, for the next call on this log: batches follow each other within one.
    """
    after = before.append(b"".join(leaves))
    if after.size == head.size:
        return after == head
    kept = {} if kept is None else kept
    first, end = before.size // TILE_LEAVES, -(-after.size // TILE_LEAVES)
    return all(_in_tile(log, tile, before.size, leaves, kept) for tile in range(first, end)) or leads_to(
        log, after, head
    )


def _in_tile(log: Leaves, tile: int, first: int, leaves: Sequence[bytes], kept: dict[int, bytes]) -> bool:
    start = tile * TILE_LEAVES
    mine = b"".join(leaves[max(0, start - first) : start + TILE_LEAVES - first])
    at = max(0, first - start)
    if tile not in kept:
        end = start + at + len(mine) // HASH_BYTES
        whole = log.leaves(start, at) + mine + log.leaves(end, start + TILE_LEAVES - end)
        if log.tiles(tile, 1) != tile_root(whole):
            return False
        kept.clear()
        kept[tile] = whole
    return kept[tile][at * HASH_BYTES : at * HASH_BYTES + len(mine)] == mine


def leads_to(log: Leaves, after: Frontier, head: Frontier) -> bool:
    """Whether the log, gone on with from this frontier of it, comes to its head."""
    boundary = min(head.size, -(-after.size // TILE_LEAVES) * TILE_LEAVES)
    found = after.append(log.leaves(after.size, boundary - after.size))
    tiles = head.size // TILE_LEAVES
    if boundary % TILE_LEAVES == 0 and tiles * TILE_LEAVES > boundary:
        # as in range_frontier: the peaks over tile roots are the peaks over their leaves, counted ten levels up
        over = Frontier(boundary // TILE_LEAVES, found.peaks).append(
            log.tiles(boundary // TILE_LEAVES, tiles - boundary // TILE_LEAVES)
        )
        found = Frontier(over.size * TILE_LEAVES, over.peaks)
    return found.append(log.leaves(found.size, head.size - found.size)) == head


def mended(records: Sequence[Record], stored: Sequence[Record]) -> Iterator[list[Record]]:
    """The ways to read `records` where a header lost its leaf: perhaps it is the leaf that changed. `stored`: the same as they were read."""
    doubtful = [n for n, record in enumerate(records) if record.state is BodyState.LEAF_ONLY and stored[n].header]
    if len(doubtful) > MENDED_MAX:
        return
    for choice in product((False, True), repeat=len(doubtful)):
        found = list(records)
        for n, changed in zip(doubtful, choice, strict=True):
            if changed:
                found[n] = replace(stored[n], leaf=leaf_hashes([stored[n].header]))
        yield found
