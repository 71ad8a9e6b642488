"""What the head rows of a damaged outbox ask for: which logs there were, up to where, and what says that all of one was found."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sync.checkpoint import open_checkpoint, parse_note
from sync.errors import KeyAbsent, NotAName, SyncError
from sync.key_ring import KeyRing, last_id
from sync.keys import Signer
from sync.log import Frontier
from sync.names import Origin
from sync.outbox_heads import Head
from sync.store import LogTable

HEAD_COLUMNS = (
    "id, run, start, stream, epoch, tag, lane, size, peaks, octets, trimmed, group_first, checkpoint, opening, digest"
)
LANES = frozenset({"critical", "routine", "bulk"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A log as its head row asks for it: `fits` says whether a frontier is the one that was signed; `whole`: nothing in the row changed.

    `signer`: the key in force at its end; None where its note cannot be read. `absent` says which key that is where it is not configured: a log
    whose row is whole is then carried with its note as it is.
    """

    row: int
    run: int
    start: int
    opening: bytes
    origin: Origin
    lane: str
    size: int
    fits: Callable[[Frontier], bool]
    trimmed: int
    octets: int
    whole: bool
    note: bytes
    signer: Signer | None
    absent: str

    def holds(self, run: object, place: object) -> bool:
        """Whether a row of this run and place is one of its records."""
        return run == self.run and isinstance(place, int) and self.start <= place < self.start + self.size

    def follows(self, other: "Wanted") -> bool:
        """Whether it is a later epoch of the same stream."""
        return self.origin.stream == other.origin.stream and self.origin.epoch > other.origin.epoch

    def table(self, connection: Any) -> LogTable:
        """Its leaves, tiles and records."""
        return LogTable(connection, self.row, self.run, self.start)

    @property
    def openers(self) -> list[bytes]:
        """The ids of the keys on its statement: the first was in force where the log before it ends, the last signs this one from its first record on.

        None where there is no statement, or none to be believed.
        """
        if not self.opening or not (self.whole or self.signer is None):
            return []  # something in the row changed, and it was not the note: perhaps the statement
        try:
            return [line.key_id for line in parse_note(self.opening).signatures]
        except SyncError:
            return []


def read_wanted(row: Sequence[Any], ring: KeyRing) -> Wanted | None:
    """What this head row asks for: by its signed checkpoint, or, where that is what was damaged, by its peaks."""
    log, run, start, stream, epoch, tag, lane, size, peaks, octets, trimmed, group_first, note, opening, digest = row
    run, start = (run, start) if isinstance(run, int) and isinstance(start, int) and run and start >= 0 else (log, 0)
    try:
        origin, frontier = Origin.parse(f"{ring.name}/{stream}/{epoch}-{tag}"), Frontier(size, peaks)
        head = Head(
            log=log, run=run, start=start, origin=origin, lane=lane, frontier=frontier, octets=octets, trimmed=trimmed,
            group_first=group_first, checkpoint=note, opening=opening,
        )  # fmt: skip
        whole = head.digest == digest
    except (NotAName, TypeError, ValueError, OverflowError):
        origin, frontier, whole = None, None, False
    fits: Callable[[Frontier], bool]
    signer: Signer | None = None
    absent = ""
    try:
        signed = open_checkpoint(note, ring.verifier(note))
        signer = ring.signer(last_id(note, ring.name))
        origin, size, fits = signed.origin, signed.size, lambda found: found.root == signed.root
    except (SyncError, TypeError, ValueError, AttributeError) as error:
        absent = str(error) if whole and isinstance(error, KeyAbsent) else ""
        if origin is None or not isinstance(size, int) or size < 0:
            return None
        fits = lambda found: found == frontier  # noqa: E731  # beside the other that stands in its place above
    return Wanted(
        row=log, run=run, start=start, opening=octets_of(opening), origin=origin, lane=lane if lane in LANES else "routine", size=size,
        fits=fits, trimmed=trimmed, octets=octets, whole=whole, note=octets_of(note), signer=signer,
        absent=absent,
    )  # fmt: skip


def newest(wanted: Iterable[Wanted]) -> dict[str, Wanted]:
    """The last log of each stream."""
    return {want.origin.stream: want for want in sorted(wanted, key=lambda want: want.origin.epoch)}


def check_present(wanted: Iterable[Wanted]) -> None:
    """Raise KeyAbsent where a stream goes on under a key that is not configured: nothing is damaged there, the key has to be brought first.

    That of an older epoch may be gone: it was taken out of the node once its change was receipted.
    """
    for want in newest(wanted).values():
        if want.absent:
            raise KeyAbsent(f"{want.origin}: {want.absent}")


def octets_of(value: object) -> bytes:
    """A BLOB column's value; where a flipped bit made it something else, nothing."""
    return value if isinstance(value, bytes) else b""
