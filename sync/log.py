"""A stream as an append-only Merkle tree (RFC 9162 section 2.1), read in tiles so that no question needs the whole log."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from native import frontier_append, frontier_root

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 9162 2.1.1: the hash of an empty list
TILE_LEAVES = (
    1024  # a root is stored for each full tile: any question reads at most the tile roots and two tiles of leaves
)
SIZE_MAX = 2**63 - 1  # SQLite's integer; a log of one record a microsecond reaches it in 292,000 years


@dataclass(frozen=True, slots=True)
class Frontier:
    """A log's size and the roots of its full subtrees, largest first: all that appending needs."""

    size: int = 0
    peaks: bytes = b""

    @property
    def root(self) -> bytes:
        """The tree's root at this size."""
        return frontier_root(self.size, self.peaks)

    def append(self, leaves: bytes) -> "Frontier":
        """Give the frontier after these leaf hashes (32 bytes each, joined)."""
        return Frontier(self.size + len(leaves) // HASH_BYTES, frontier_append(self.size, self.peaks, leaves))


class Leaves(Protocol):
    """A stored log to read from: leaf hashes and the roots of full tiles, each joined, in order."""

    def leaves(self, first: int, count: int) -> bytes:
        """Leaf hashes first..first+count-1; fewer where the log ends."""

    def tiles(self, first: int, count: int) -> bytes:
        """Roots of the full tiles first..first+count-1; fewer where they end."""


def tile_root(leaves: bytes) -> bytes:
    """Root of one full tile of leaf hashes."""
    return Frontier().append(leaves).root


def full_tiles(before: Frontier, leaves: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and root of each tile that becomes full when these leaves, joined, are appended to a log."""
    inside, at = before.size % TILE_LEAVES, 0
    # the peaks below a tile's height are those of the leaves in the tile that is not full yet
    part = Frontier(inside, before.peaks[len(before.peaks) - HASH_BYTES * inside.bit_count() :])
    end = HASH_BYTES * (TILE_LEAVES - inside)
    tile = before.size // TILE_LEAVES
    while end <= len(leaves):
        yield tile, part.append(leaves[at:end]).root
        part, tile, at, end = Frontier(), tile + 1, end, end + HASH_BYTES * TILE_LEAVES


def range_frontier(log: Leaves, first: int, end: int) -> Frontier:
    """Frontier of leaves first..end-1 taken as a tree of their own; `first` is a multiple of TILE_LEAVES or the range lies in one tile."""
    size = end - first
    tiles = size // TILE_LEAVES if first % TILE_LEAVES == 0 else 0
    frontier = Frontier()
    if tiles:
        roots = log.tiles(first // TILE_LEAVES, tiles)
        # the peaks over t tile roots are the peaks over t * TILE_LEAVES leaves: the same nodes, counted ten levels up
        over_tiles = frontier.append(roots)
        if over_tiles.size != tiles:
            raise IndexError("tile roots are missing")
        frontier = Frontier(tiles * TILE_LEAVES, over_tiles.peaks)
    rest = log.leaves(first + tiles * TILE_LEAVES, size - tiles * TILE_LEAVES)
    frontier = frontier.append(rest)
    if frontier.size != size:
        raise IndexError("leaves are missing")
    return frontier


def root_at(log: Leaves, size: int) -> bytes:
    """The root the log had at `size`. Raises IndexError where it is shorter."""
    return range_frontier(log, 0, size).root


def inclusion_proof(log: Leaves, index: int, size: int) -> list[bytes]:
    """The path of leaf `index` in the tree of `size` leaves, lowest first (RFC 9162 2.1.3.1)."""
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} is not in a log of {size}")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        split = first + (1 << (end - first - 1).bit_length() - 1)
        if index < split:
            path.append(range_frontier(log, split, end).root)
            end = split
        else:
            path.append(range_frontier(log, first, split).root)
            first = split
    path.reverse()
    return path


def root_from_proof(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """The root that this path gives, or None where its length does not fit (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last, at, used = leaf, size - 1, index, 0
    while last:
        if used == len(path) and (at & 1 or at < last):
            return None
        if at & 1:
            node = _parent(path[used], node)
            used += 1
        elif at < last:
            node = _parent(node, path[used])
            used += 1
        at, last = at >> 1, last >> 1
    return node if used == len(path) else None


def _parent(left: bytes, right: bytes) -> bytes:
    # RFC 9162 2.1.1: the 0x01 keeps a leaf from passing as a node
    return hashlib.sha256(b"\x01" + left + right).digest()
