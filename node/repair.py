"""`wasl repair`: a damaged outbox is copied, what verifies is carried into a new one, what is gone is named in it, and only then is it put in place."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from node.clock import Clock
from node.config.config import Config
from node.data_folder import STORE_NAME, UNFINISHED, lock
from node.key_change import hand_over
from node.keystore import Keystore, load
from node.room import free_bytes
from sync.control import Moment
from sync.errors import LogBroken, NoRoom
from sync.outbox import Outbox
from sync.outbox_salvage import salvage
from sync.repair import Salvaged
from sync.store import sync_file

WORK_NAME = "repair"  # a folder: the copy that is read, and the outbox that is made of it
FRESH_NAME = "fresh.db"
GROUP_RECORDS_MAX = 256  # holes named in one commit, as many as the writer takes
COPIES = 3  # of the outbox's size must be free: the copy, the new one, and what SQLite needs meanwhile


def repair(config: Config, clock: Clock, *, dry_run: bool) -> tuple[Salvaged, ...]:
    """Repair the outbox of this node, or (`dry_run`) only say how it would turn out.

    Raises EpochNeeded, NoRoom, DataFolderTaken and what the keys raise; the outbox is then as it was. The damaged files are kept beside it.
    """
    folder = config.node.data_dir
    held = lock(folder)
    try:
        keystore = load(config)
        signer = keystore.signer
        source, work = _source(folder), folder / WORK_NAME
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o750)
        try:
            _copy(source, work)
            found = salvage(work / STORE_NAME, work / FRESH_NAME, signer=signer)
            _name_holes(work / FRESH_NAME, found, config, clock, keystore)
            if not dry_run:
                _put_in_place(folder, source, work / FRESH_NAME, clock.now_us())
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return found
    finally:
        os.close(held)


def lines(found: Iterable[Salvaged]) -> Iterator[str]:
    """What a person reads of it."""
    for log in found:
        yield f"{log.origin}: {log.size} records, {log.bodies} with their body, {len(log.holes)} holes"
        for hole in log.holes:
            yield f"  {hole.first}..{hole.last}: {hole.lost} lost ({hole.why})"


def _source(folder: Path) -> Path:
    """Where the damaged outbox lies: beside an unfinished repair's new one, if that had come to putting it in place."""
    unfinished = folder / UNFINISHED
    if (unfinished / STORE_NAME).exists():
        return unfinished
    shutil.rmtree(
        unfinished, ignore_errors=True
    )  # the database comes into it last: without it nothing was replaced yet
    if not (folder / STORE_NAME).exists():
        raise LogBroken("there is no outbox in this data folder")
    return folder


def _files(folder: Path) -> Iterator[Path]:
    """WAL and database, in this order. The index of the WAL is made anew by whoever opens it."""
    for name in (f"{STORE_NAME}-wal", STORE_NAME):
        if (folder / name).exists():
            yield folder / name


def _copy(source: Path, work: Path) -> None:
    size = sum(file.stat().st_size for file in _files(source))
    if free_bytes(work) < COPIES * size:
        raise NoRoom(f"a repair needs {COPIES * size // 2**20} MiB free")
    for file in _files(source):
        shutil.copyfile(file, work / file.name)


def _name_holes(fresh: Path, found: Iterable[Salvaged], config: Config, clock: Clock, keystore: Keystore) -> None:
    """Append the records that explain what is gone, and verify the new outbox as a start does."""
    outbox = Outbox(fresh, signer=keystore.signer, random=os.urandom, recent_max=0)
    try:
        outbox.verify_heads()
        hand_over(outbox, keystore, clock, facility=config.node.facility)
        trust = clock.trust()
        at = Moment(received_us=clock.now_us(), clock_state=trust.state, clock_error_us=trust.error_us)
        drafts = [hole.draft(facility=config.node.facility, at=at) for log in found for hole in log.holes]
        for first in range(0, len(drafts), GROUP_RECORDS_MAX):
            outbox.append(drafts[first : first + GROUP_RECORDS_MAX])
        outbox.verify_heads()
    finally:
        outbox.close()
    if fresh.with_name(f"{FRESH_NAME}-wal").exists():
        raise LogBroken("the new outbox could not be closed")


def _put_in_place(folder: Path, source: Path, fresh: Path, now_us: int) -> None:
    """Swap the outboxes. While the folder UNFINISHED is there no core starts, and a repair begins again with what lies in it."""
    unfinished = folder / UNFINISHED
    if source != unfinished:
        unfinished.mkdir(mode=0o750)
        for file in _files(source):
            os.link(file, unfinished / file.name)
            sync_file(file)
        sync_file(unfinished)
        sync_file(folder)
    # an old WAL beside a new database would be played into it
    for suffix in ("-wal", "-shm"):
        (folder / f"{STORE_NAME}{suffix}").unlink(missing_ok=True)
    sync_file(folder)
    sync_file(fresh)
    fresh.replace(folder / STORE_NAME)
    sync_file(folder)
    unfinished.rename(folder / f"damaged-{now_us}")
    sync_file(folder)
