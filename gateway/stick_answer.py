"""What the gateway says home of a stream that came by hand: its newest log, and up to where it holds what it was brought."""

from dataclasses import dataclass, field

from gateway.ledger_rows import Rows
from sync.answer import HELD_MAX, Answer
from sync.batch import Batch
from sync.held import HeldLog
from sync.log import HASH_BYTES, root_at
from sync.names import Origin
from sync.opening import End, Opening
from sync.store import LogTable


@dataclass(slots=True)
class Comparison:
    """One stream of one stick, against the ledger's committed rows. Batches are told one by one, in the stick's order: only one is in memory."""

    rows: Rows
    node: str
    stream: str
    refused: str = ""
    common: tuple[Origin, int] | None = None
    held: list[End] = field(default_factory=list)
    differs: bool = False
    _parted: bool = False  # what follows is compared with the epochs that the node may have forgotten
    _foreign: list[tuple[HeldLog, LogTable]] = field(default_factory=list)
    _matched: int = 0  # rows of the first of these

    @property
    def wants(self) -> bool:
        """Whether further batches of a refused stream may still tell something."""
        return not self._parted or bool(self._foreign)

    def took(self, origin: Origin, end: int) -> None:
        """A batch was taken up to here: so far it is the same."""
        self.common = (origin, end)

    def opens(self, opening: Opening) -> None:
        """A statement was refused; what it calls common is, where it is true."""
        end = opening.common
        found = self.rows.find(end.origin)
        is_true = found is not None and end.size <= found[0] and root_at(found[1], end.size) == end.root
        if self.common is None and is_true:
            self.common = (end.origin, end.size)
        self._part()

    def sees(self, batch: Batch) -> None:
        """A batch was refused, or came after such a one: how much of it is held all the same?"""
        leaves, first = b"".join(record.leaf for record in batch.records), batch.first
        if not self._parted:
            origin = Origin(self.node, self.stream, batch.epoch, batch.tag)
            found = self.rows.find(origin)
            same = _equal(leaves, found[1], first, found[0]) if found is not None else 0
            if same or (self.common is None and found is not None and first <= found[0]):
                self.common = (origin, first + same)  # what lies before `first` the node compares by its root
            if same * HASH_BYTES == len(leaves):
                return
            leaves = leaves[same * HASH_BYTES :]
            self._part()
        while leaves and self._foreign:
            log, table = self._foreign[0]
            same = _equal(leaves, table, self._matched, log.frontier.size)
            self._matched += same
            leaves = leaves[same * HASH_BYTES :]
            if leaves:
                self._close()
        self.differs = self.differs or bool(leaves)

    def stop(self) -> None:
        """A batch cannot be read: what comes after it does not follow on what was compared."""
        self._part()
        if self._foreign:
            self._close()
        self._foreign.clear()

    def answer(self, ledger: str, now_s: int) -> Answer:
        """The answer, not yet signed."""
        if self._foreign:
            self._close()
        newest = self.rows.head(self.node, self.stream)
        return Answer(
            node=self.node, stream=self.stream, ledger=ledger, time=now_s, refused=self.refused,
            newest=None if newest is None else _end(newest[1]), common=self._common(), held=tuple(self.held[:HELD_MAX]),
            differs=self.differs,
        )  # fmt: skip

    def _part(self) -> None:
        """From here on the node's own logs are not held."""
        if not self._parted:
            self._parted = True
            self._foreign = self.rows.epochs(self.node, self.stream)[1:][-HELD_MAX:]

    def _close(self) -> None:
        """The first of the foreign logs goes no further with what was brought."""
        log, table = self._foreign.pop(0)
        if self._matched:
            self.held.append(End(log.origin, self._matched, root_at(table, self._matched)))
        self._matched = 0

    def _common(self) -> End | None:
        if self.common is None:
            return None
        origin, size = self.common
        found = self.rows.find(origin)
        return None if found is None else End(origin, size, root_at(found[1], size))


def _end(held: HeldLog) -> End:
    return End(held.origin, held.frontier.size, held.frontier.root)


def _equal(ours: bytes, table: LogTable, first: int, size: int) -> int:
    """How many of these leaves, from the beginning on, are those of a log from `first` on."""
    count = max(0, min(len(ours) // HASH_BYTES, size - first))
    theirs = table.leaves(first, count)
    if ours[: len(theirs)] == theirs:
        return len(theirs) // HASH_BYTES
    return next(n for n in range(count) if ours[n * HASH_BYTES :][:HASH_BYTES] != theirs[n * HASH_BYTES :][:HASH_BYTES])
