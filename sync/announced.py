"""Announced heads: with a session a node tells, signed, where its logs end that still wait. The centre then knows what will come, and what it must be.

On a line that costs by the byte this is all that lanes but the critical one send. A node that is rolled back after it, or a copy of it,
contradicts what it signed: that is told to people and refuses nothing, as a record that is at the node is worth more than a reason.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sync.checkpoint import Checkpoint, open_checkpoint
from sync.errors import SyncError
from sync.keys import Verifier
from sync.log import Frontier
from sync.names import Origin

HEADS_MAX = 128  # with a session: at most 55 kB of its 256; streams beyond are told of once these have drained


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The end of a log that a node signed. `note` is its checkpoint, bytes as they came."""

    origin: Origin
    size: int
    root: bytes
    note: bytes

    def is_denied_by(self, later: "Announced", *, same_start: bool) -> bool:
        """Whether a later word on this stream contradicts this one. A start's own words may come out of order, but never differ at one size."""
        if later.origin != self.origin:
            return False
        return later.root != self.root if later.size == self.size else later.size < self.size and not same_start

    def is_broken_by(self, before: Frontier, leaves: Sequence[bytes]) -> bool:
        """Whether these leaves, appended to the log as it was, give another root at the announced size. False where they do not pass it."""
        if not before.size < self.size <= before.size + len(leaves):
            return False
        return before.append(b"".join(leaves[: self.size - before.size])).root != self.root


def read_heads(notes: Iterable[bytes], verifiers: Sequence[Verifier], node: str) -> tuple[Announced, ...]:
    """The heads that one of these keys signed for this node's logs. One that none of them signed says nothing: it is left out.

    At a change of the log key a head bears the signatures of both keys; either one is the node's word.
    """
    found: list[Announced] = []
    for note in notes:
        checkpoint = _signed_by_one(note, verifiers)
        if checkpoint is not None and checkpoint.origin.node == node:
            found.append(Announced(origin=checkpoint.origin, size=checkpoint.size, root=checkpoint.root, note=note))
    return tuple(found)


def _signed_by_one(note: bytes, verifiers: Sequence[Verifier]) -> Checkpoint | None:
    for verifier in verifiers:
        with suppress(SyncError):
            return open_checkpoint(note, verifier)
    return None
