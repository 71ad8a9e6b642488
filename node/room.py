"""How much room the outbox has, and which lanes are still taken for want of it: bulk is refused first, critical last. Draining never is."""

import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import structlog

from node.alarms import Alarms
from node.config.config import Outbox as Limits
from sync.outbox import Outbox
from sync.transaction import Pages

BALLAST_NAME = "ballast"
BALLAST_BYTES = 1024 * 1024  # measured: with so much, DELETE and checkpoint of a full partition work again
DRAIN_BYTES = 10 * 1024 * 1024  # the WAL at its usual longest and its way back into the database, 4 MB each, and some
JOURNAL_BYTES = 5 * 1024 * 1024  # of the WAL: its usual longest, and some dozens of receipts and deletions more
RETURN_BYTES = (
    DRAIN_BYTES - JOURNAL_BYTES
)  # what draining needs beside a WAL that is held: its way back into the database
RESUME_PARTS = 16  # a pause ends one part of so many below where it began, 80 % for 85: nearer, and the next messages would begin it again
PLENTY_PERCENT = 5  # below the warning trimming ends: any nearer, and the next messages would raise it again
PLENTY_SHARE_MIN = 0.5  # of the warning, where that is so low that five per cent below it there is nothing
SPARE_BYTES_MIN = BALLAST_BYTES  # fewer free pages than this are fragments: no group of usual size finds place there
LOOK_S = 1.0  # the disk is asked once a second, not once a commit: it takes as long as a small message
GRAINS = 256  # and after each such part of what the outbox may hold: no stage is narrower than two or three of them
RECORD_BYTES = 512  # counted for each record beside its body: header, index, and what the pages waste

log = structlog.get_logger()


class Stage(IntEnum):
    """How far the outbox has filled; each stage refuses what the one before did, and more."""

    OPEN = 0
    FILLING = 1  # people are told
    TRIMMING = 2  # receipted bodies go before their retention has passed; feeds that can wait are paused
    NO_BULK = 3
    CRITICAL_ONLY = 4
    FULL = 5

    @property
    def word(self) -> str:
        """The name in the status document."""
        return self.name.lower().replace("_", "-")

    @property
    def refuses(self) -> frozenset[str]:
        """The lanes whose records are refused."""
        return _REFUSED.get(self, frozenset())


_REFUSED: Final = {
    Stage.NO_BULK: frozenset({"bulk"}),
    Stage.CRITICAL_ONLY: frozenset({"bulk", "routine"}),
    Stage.FULL: frozenset({"bulk", "routine", "critical"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Bytes: that hold something, of free pages in the database, by which its file has yet to grow, and free in the file system."""

    used: int
    spare: int
    growth: int
    free: int

    @property
    def for_growth(self) -> int:
        """What the file system and the database's own free pages have left, all reserves included."""
        return max(0, self.free - self.growth) + max(0, self.spare - SPARE_BYTES_MIN)

    def room(self, limits: Limits) -> int:
        """Bytes of records that still fit: what quota and file system both allow."""
        on_disk = max(0, self.free - self.growth - limits.free_bytes_min) + max(0, self.spare - SPARE_BYTES_MIN)
        return max(0, min(limits.quota_bytes - self.used, on_disk))


def measure(store: Path, pages: Pages) -> Space:
    """The space of this outbox: its pages as its database counts them, the rest as the file system does."""
    try:
        size = store.stat().st_size
    except FileNotFoundError:
        size = 0
    return Space(
        used=(pages.total - pages.free) * pages.size,
        spare=pages.free * pages.size,
        growth=max(0, pages.total * pages.size - size),
        free=free_bytes(store.parent),
    )


def stage_of(space: Space, limits: Limits) -> Stage:
    """The stage of an outbox with this space: the worse of quota and partition counts."""
    if space.used >= limits.quota_bytes or space.for_growth < DRAIN_BYTES:
        return Stage.FULL
    percent = 100 * filled(space, limits)
    for stage, begins in (
        (Stage.CRITICAL_ONLY, limits.refuse_routine_percent), (Stage.NO_BULK, limits.refuse_bulk_percent),
        (Stage.TRIMMING, limits.trim_percent), (Stage.FILLING, limits.warn_percent),
    ):  # fmt: skip
        if percent >= begins:
            return stage
    return Stage.OPEN


def filled(space: Space, limits: Limits) -> float:
    """Which part of what the outbox may have is used, from 0 to 1."""
    return 1 - space.room(limits) / max(1, min(limits.quota_bytes, space.used + space.room(limits)))


def resume_percent(limits: Limits) -> float:
    """Below this, feeds that were paused go on."""
    return limits.trim_percent * (RESUME_PARTS - 1) / RESUME_PARTS


def plenty_percent(limits: Limits) -> float:
    """Below this, no more bodies go before their time. Never above where a pause ends: else what was trimmed would not end it."""
    below_warning = max(limits.warn_percent - PLENTY_PERCENT, limits.warn_percent * PLENTY_SHARE_MIN)
    return min(below_warning, resume_percent(limits))


def free_bytes(folder: Path) -> int:
    """Bytes that this process may still write in the folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def hold_journal(store: Path, spare: int) -> bool:
    """Have the WAL's first JOURNAL_BYTES allocated, of `spare` bytes at most: the ballast, once dropped, is whoever's is quickest.

    False where there is no room for it; then nothing is taken. Used by the writer's thread, so nobody else makes the WAL longer meanwhile.
    Zeros behind the last frame are no frame (SQLite's file format, section 4.1), as old frames there are none.
    """
    with suppress(FileNotFoundError), store.with_name(store.name + "-wal").open("r+b") as file:
        held = os.fstat(file.fileno()).st_size
        if held < JOURNAL_BYTES and spare < JOURNAL_BYTES - held:
            return False
        try:
            if held < JOURNAL_BYTES:
                os.posix_fallocate(file.fileno(), 0, JOURNAL_BYTES)
        except OSError:
            # ext4 keeps what it could give, which may be the last that a receipt would have found
            os.ftruncate(file.fileno(), held)
            return False
    return True


class Ballast:
    """A file that holds nothing but room: without any, SQLite can neither delete nor bring its WAL back. Used by the writer's thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BALLAST_NAME
        self.there = self._is_whole()

    def lay(self) -> None:
        """Have it on the disk; where there is no room for it, later."""
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
                os.fsync(file.fileno())
            self.there = True
        except OSError as error:
            log.info("ballast.no_room", error=error.strerror)
            self.drop()

    def drop(self) -> bool:
        """Give its room to what drains the queue; False where it was gone already."""
        gone = self._path.exists()
        self._path.unlink(missing_ok=True)
        if gone and self.there:
            log.warning("ballast.dropped")
        self.there = False
        return gone

    def _is_whole(self) -> bool:
        # a crash while it was laid leaves a shorter one
        return self._path.exists() and self._path.stat().st_size == BALLAST_BYTES


class Room:
    """The stage as the writer's thread sees it, with its alarms. `stage`, `short` and `paused` may be read from anywhere.

    `short`: bodies must go before their time, from the trimming stage on until there is plenty. `patient`: the feeds that are paused from that stage on;
    without any, there is no pause to be told of. A pause never outlives being short: nothing else would end it before bodies are old.
    """

    def __init__(
        self, *, store: Path, limits: Limits, ballast: Ballast, alarms: Alarms, monotonic: Callable[[], float], patient: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._store, self._limits, self._ballast = store, limits, ballast
        self._alarms, self._monotonic = alarms, monotonic
        self._looked_at, self._grain, self._grown = float("-inf"), 0, 0
        self._journal_held = True
        self._patient = patient
        self.stage, self.short, self.paused = Stage.OPEN, False, False

    def before(self, outbox: Outbox, bodies: Iterable[int]) -> Stage:
        """The stage before bodies of these lengths are stored: looked for anew after a second, or as soon as they add up to something."""
        self._grown += sum(octets + RECORD_BYTES for octets in bodies)
        if self._grown >= self._grain or self._monotonic() - self._looked_at >= LOOK_S:
            self.look(outbox)
        return self.stage

    def look(self, outbox: Outbox) -> Stage:
        """The present stage."""
        space = measure(self._store, outbox.pages())
        self._looked_at, self._grown = self._monotonic(), 0
        self._grain = (space.used + space.room(self._limits)) // GRAINS
        percent = 100 * filled(space, self._limits)
        self._enter(stage_of(space, self._limits))
        if self.stage >= Stage.TRIMMING:
            self.short, self.paused = True, bool(self._patient)
        else:
            self.short &= percent >= plenty_percent(self._limits)
            self.paused &= percent >= resume_percent(self._limits)
        self._tell_pause()
        return self.stage

    def keep_ballast(self, outbox: Outbox) -> None:
        """Hold room in the WAL, which nobody else can take, and lay the ballast again, when the disk has room for them."""
        space = measure(self._store, outbox.pages())
        held = hold_journal(self._store, space.free - space.growth - RETURN_BYTES)
        if held is not self._journal_held:
            log.info("journal.held" if held else "journal.no_room")
        self._journal_held = held
        if self._ballast.there:
            return
        space = measure(self._store, outbox.pages())
        if space.free - space.growth >= DRAIN_BYTES + BALLAST_BYTES:
            self._ballast.lay()

    def relieve(self) -> bool:
        """Nothing else lets what drains the queue go on: drop the ballast. False where that was done already."""
        return self._ballast.drop()

    def _tell_pause(self) -> None:
        if self.paused:
            self._alarms.raised("NOD-34")
        else:
            self._alarms.cleared("NOD-34")

    def _enter(self, stage: Stage) -> None:
        if stage is not self.stage:
            log.info("room", stage=stage.word, before=self.stage.word)
        self.stage = stage
        for code, begins in (("NOD-30", Stage.FILLING), ("NOD-10", Stage.NO_BULK)):
            if stage >= begins:
                self._alarms.raised(code)
            else:
                self._alarms.cleared(code)
