"""The Merkle tree of RFC 9162 section 2.1, written down as the RFC says it, without a thought for speed: the oracle of our log."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256


class NaiveTree:
    """A tree over these leaf hashes."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = list(leaves)
        self.range_root = cache(self._range_root)

    def root(self, size: int) -> bytes:
        """MTH(D[size]), section 2.1.1."""
        return sha256(b"").digest() if size == 0 else self.range_root(0, size)

    def path(self, index: int, first: int, end: int) -> list[bytes]:
        """PATH(index, D[first:end]), section 2.1.3.1; index counts from `first`."""
        if end - first == 1:
            return []
        k = _split(end - first)
        if index < k:
            return [*self.path(index, first, first + k), self.range_root(first + k, end)]
        return [*self.path(index - k, first + k, end), self.range_root(first, first + k)]

    def _range_root(self, first: int, end: int) -> bytes:
        if end - first == 1:
            return self.leaves[first]
        k = _split(end - first)
        return sha256(b"\x01" + self.range_root(first, first + k) + self.range_root(first + k, end)).digest()


def _split(count: int) -> int:
    """The largest power of two smaller than count."""
    k = 1
    while 2 * k < count:
        k *= 2
    return k
