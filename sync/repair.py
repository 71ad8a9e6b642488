"""What a damaged log is still worth: which leaves it must have had, and which holes that leaves. Pure; `outbox_salvage` fetches the rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from math import prod
from typing import Literal, NamedTuple

from native import body_commitment, leaf_hashes
from sync.control import Hole
from sync.errors import EpochNeeded, SyncError
from sync.header import COMMITMENT, decode_fields
from sync.log import HASH_BYTES, TILE_LEAVES, Frontier, Leaves, range_frontier, tile_root
from sync.names import Origin

CHOICES_MAX = 4096  # ways to read the doubtful rows that are tried against a root: one bad page leaves far fewer

Lost = Literal["body", "header", "all"]


class Reading(NamedTuple):
    """One way to read what is stored at a position: the leaf, and the header that gives it (empty where that is lost)."""

    leaf: bytes
    header: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What became of one log: its size, how many bodies are there, and what of it is lost, in order of position."""

    origin: Origin
    size: int
    bodies: int
    holes: tuple[Hole, ...] = ()


def readings(header: bytes, leaf: bytes) -> tuple[Reading, ...]:
    """The ways to read a row; one alone where header and leaf belong together."""
    hashed = leaf_hashes([header]) if header else b""
    if hashed == leaf:
        return (Reading(leaf, header),)
    found = [Reading(hashed, header)] if header else []
    if len(leaf) == HASH_BYTES:
        found.append(Reading(leaf, b""))
    return tuple(found)


def settle(
    known: Leaves, size: int, doubtful: Mapping[int, Sequence[Reading]], kept: Mapping[int, bytes], fits: Callable[[Frontier], bool]
) -> dict[int, Reading]:  # fmt: skip
    """Choose a reading for each doubtful position, so that the log's frontier fits what was signed for it.

    `known` has anything at the doubtful positions; `kept`: the stored roots of full tiles. Raises EpochNeeded where no choice fits.
    """
    if not all(doubtful.values()):
        gone = min(seq for seq, ways in doubtful.items() if not ways)
        raise EpochNeeded(f"of record {gone} not even the leaf is left")
    by_tile = [
        list(_in_tile(known, tile, list(seqs), doubtful, kept))
        for tile, seqs in groupby(sorted(doubtful), key=lambda seq: seq // TILE_LEAVES)
    ]
    if prod(map(len, by_tile)) > CHOICES_MAX:
        raise EpochNeeded("too much is damaged to find out which leaves were signed")
    roots: dict[int, bytes] = {}
    for choice in product(*by_tile):
        chosen = {seq: reading for part in choice for seq, reading in part.items()}
        if fits(range_frontier(_Patched(known, size, chosen, roots), 0, size)):
            return chosen
    raise EpochNeeded("its leaves do not give the root that was signed for them")


def _in_tile(
    known: Leaves, tile: int, seqs: list[int], doubtful: Mapping[int, Sequence[Reading]], kept: Mapping[int, bytes]
) -> Iterable[dict[int, Reading]]:
    """The choices within one tile: those that give its stored root, or all of them where that tells nothing."""
    if prod(len(doubtful[seq]) for seq in seqs) > CHOICES_MAX:
        raise EpochNeeded("too much of one tile is damaged to find out which leaves were signed")
    choices = [dict(zip(seqs, ways, strict=True)) for ways in product(*(doubtful[seq] for seq in seqs))]
    stored = kept.get(tile)
    first = tile * TILE_LEAVES
    fitting = [
        each for each in choices if stored and tile_root(_patched(known.leaves(first, TILE_LEAVES), first, each)) == stored
    ]  # fmt: skip
    return fitting or choices


class _Patched:
    """A log as it is with these readings."""

    def __init__(self, known: Leaves, size: int, chosen: Mapping[int, Reading], roots: dict[int, bytes]) -> None:
        self._known, self._size, self._chosen, self._roots = known, size, chosen, roots
        self._touched = {seq // TILE_LEAVES for seq in chosen}

    def leaves(self, first: int, count: int) -> bytes:
        """As in Leaves."""
        return _patched(self._known.leaves(first, min(count, self._size - first)), first, self._chosen)

    def tiles(self, first: int, count: int) -> bytes:
        """As in Leaves; computed, because a stored root may be what is wrong. `roots` remembers those that no choice touches."""
        return b"".join(self._tile(tile) for tile in range(first, first + count))

    def _tile(self, tile: int) -> bytes:
        if tile in self._touched:
            return tile_root(self.leaves(tile * TILE_LEAVES, TILE_LEAVES))
        if tile not in self._roots:
            self._roots[tile] = tile_root(self.leaves(tile * TILE_LEAVES, TILE_LEAVES))
        return self._roots[tile]


def _patched(leaves: bytes, first: int, chosen: Mapping[int, Reading]) -> bytes:
    found = bytearray(leaves)
    for seq, reading in chosen.items():
        at = (seq - first) * HASH_BYTES
        if 0 <= at < len(found):
            found[at : at + HASH_BYTES] = reading.leaf
    return bytes(found)


class Loss(NamedTuple):
    """One position of which something is lost, and why."""

    seq: int
    lost: Lost
    why: str


def holes(origin: Origin, losses: Iterable[Loss]) -> Iterator[Hole]:
    """Losses as holes: neighbours that lost the same for the same reason are named together."""
    run: list[Loss] = []
    for loss in sorted(losses):
        if run and loss != (run[-1].seq + 1, run[-1].lost, run[-1].why):
            yield _hole(origin, run)
            run = []
        run.append(loss)
    if run:
        yield _hole(origin, run)


def _hole(origin: Origin, run: Sequence[Loss]) -> Hole:
    return Hole(
        stream=origin.stream, epoch=origin.epoch, first=run[0].seq, last=run[-1].seq, lost=run[0].lost, why=run[0].why
    )  # fmt: skip


def commitment_of(header: bytes | None) -> bytes:
    """The commitment that a header states; empty where it states none."""
    try:
        found = decode_fields(header or b"")[COMMITMENT]
    except (SyncError, TypeError, KeyError):
        return b""
    return found if isinstance(found, bytes) else b""


def commitment_to(salt: bytes, particulars: bytes, body: bytes) -> bytes:
    """The commitment to these parts; empty where they can be none."""
    try:
        return body_commitment(salt, particulars, body)
    except ValueError:
        return b""
