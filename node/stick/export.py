"""A queue carried by hand: what waits goes onto a stick as batches, sealed to the gateway where its key is known. It reads, and writes on the stick alone."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from node.clock import Clock
from node.config.config import Config
from node.data_folder import STORE_NAME
from node.errors import StickFull, StickUnreadable
from node.keystore import Keystore, load_seal_key
from node.stick.back import last_steps
from node.stick.files import read_file, write_file
from node.stick.legs import Leg, batches, legs_of
from sync.checkpoint import Checkpoint
from sync.errors import BadStick, KeyAbsent, LogBroken, SyncError
from sync.names import Origin
from sync.outbox_view import OutboxView
from sync.proven import leads_to
from sync.seal import FILE_KEY_BYTES, seal, seal_key_id
from sync.stick import (
    BATCHES_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    ROOM_NAME,
    BatchFile,
    Manifest,
    folder_name,
    in_order,
    read_manifest,
    still_wanted,
    where,
)
from sync.store import UNREADABLE, sync_file

ROOM_BYTES = 1024 * 1024  # receipts of a thousand streams
SPARE_BYTES = 1024 * 1024  # left free for the manifest and the file system's own tables
BATCHES_A_MANIFEST = 64  # written anew so often: what a stick pulled out early loses is 16 MB of copying

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Written:
    """What an export left on the stick: batches and records there now, how many of the batches are new, records that found no room, and
    whether the gateway alone can read it.

    `damaged`: positions of records that travel without the header or body that no longer verifies; `stopped`: streams that go no further, with why.
    """

    batches: int
    records: int
    fresh: int
    left: int
    sealed: bool
    damaged: Mapping[Origin, list[int]]
    stopped: Mapping[str, SyncError]


def export(
    config: Config, keystore: Keystore, clock: Clock, stick: Path, *, free_bytes: Callable[[Path], int] | None = None
) -> Written:
    """Write what is not receipted onto the stick, after what is there already. Raises StickUnreadable, SealCertificateBad, SyncError."""
    room = free_bytes or (lambda folder: shutil.disk_usage(folder).free)
    key, node = load_seal_key(config, keystore, clock), config.node.name
    with closing(OutboxView(config.node.data_dir / STORE_NAME, node)) as view:
        try:
            legs = legs_of(view, last_steps(config, keystore, clock, view))
        except UNREADABLE as error:
            raise LogBroken(f"the outbox cannot be read: {error}") from error
        try:
            return _Export(view, keystore, stick / folder_name(node), key, legs).write(room)
        except OSError as error:
            raise StickUnreadable(f"{stick}: {error.strerror}") from error


class _Export:
    """One export onto one folder."""

    def __init__(
        self, view: OutboxView, keystore: Keystore, folder: Path, key: X25519PublicKey | None, legs: list[Leg]
    ) -> None:
        self._view, self._keystore, self._folder, self._key, self._legs = view, keystore, folder, key, legs
        self._node = keystore.signer.name
        self._manifest = Manifest(
            node=self._node, log_certificate=keystore.log_certificate_pem(), batches=(), sealed_to=seal_key_id(key) if key else "",
            openings=tuple(leg.view.opening.decode() for leg in legs if leg.view.opening),
            earlier_certificates=keystore.signer.earlier_certificates,
        )  # fmt: skip
        self._batches: list[BatchFile] = []
        self._damaged: dict[Origin, list[int]] = {}
        self._stopped: dict[str, SyncError] = {}

    def write(self, room: Callable[[Path], int]) -> Written:
        folder = self._folder
        folder.mkdir(exist_ok=True)
        sync_file(folder.parent)
        self._batches = self._kept()
        before = len(self._batches)
        if not (folder / ROOM_NAME).exists() and room(folder) > ROOM_BYTES + SPARE_BYTES:
            write_file(folder / ROOM_NAME, [bytes(ROOM_BYTES)])
        self._save()
        _drop_others(folder, self._batches)
        for leg in self._legs:
            stream = leg.view.origin.stream
            if stream in self._stopped:
                continue  # what is of a later epoch could only be refused before the rest of this one
            try:
                if not self._write_leg(leg, room):
                    break
            except (LogBroken, KeyAbsent) as error:
                log.warning("stick.stream_stopped", code=error.code, stream=stream, detail=str(error))
                self._stopped[stream] = error
        # a stick pulled out before this: the batches that the last manifest names are whole, the others are written again
        self._save()
        records = sum(each.count for each in self._batches)
        return Written(
            batches=len(self._batches), records=records, fresh=len(self._batches) - before, left=self._left(), sealed=self._key is not None,
            damaged=self._damaged, stopped=self._stopped,
        )  # fmt: skip

    def _save(self) -> None:
        write_file(self._folder / MANIFEST_NAME, [replace(self._manifest, batches=in_order(self._batches)).encode()])

    def _write_leg(self, leg: Leg, room: Callable[[Path], int]) -> bool:
        """The log's batches; False where the stick is full. Raises LogBroken, KeyAbsent where the log goes no further."""
        number = 1 + max((int(each.file[:8]) for each in self._batches), default=-1)
        known = next((each.root for each in self._batches if each.end == self._end(leg) and self._is_of(each, leg)), "")
        for packed in batches(self._view, self._keystore, leg.view, self._end(leg), known=bytes.fromhex(known)):
            if len(self._batches) >= BATCHES_MAX or room(self._folder) < len(packed.data) + SPARE_BYTES:
                return False
            try:
                self._batches.append(self._put_down(f"{number:08}.wbt", packed.checkpoint, packed.count, packed.data))
            except OSError as error:
                if error.errno != errno.ENOSPC:  # a stick whose free space is not what it says
                    raise
                return False
            if packed.damaged:
                self._damaged.setdefault(leg.view.origin, []).extend(packed.damaged)
            number += 1
            if len(self._batches) % BATCHES_A_MANIFEST == 0:
                self._save()
        return True

    def _is_of(self, each: BatchFile, leg: Leg) -> bool:
        return each.origin(self._node) == leg.view.origin

    def _end(self, leg: Leg) -> int:
        """Up to where the leg is on the stick."""
        return max([leg.first, *(each.end for each in self._batches if self._is_of(each, leg))])

    def _left(self) -> int:
        going = [leg for leg in self._legs if leg.view.origin.stream not in self._stopped]
        return sum(leg.view.size - self._end(leg) for leg in going)

    def _kept(self) -> list[BatchFile]:
        """What an earlier export left and is still good; a stick of which nothing can be read, or which is sealed otherwise, begins anew."""
        try:
            manifest = read_manifest(read_file(self._folder / MANIFEST_NAME, MANIFEST_BYTES_MAX))
        except (FileNotFoundError, BadStick):
            return []
        if (manifest.node, manifest.sealed_to) != (self._node, self._manifest.sealed_to):
            return []
        whole = [each for each in manifest.batches if self._is_ours(each) and _is_whole(self._folder / each.file, each)]
        return still_wanted(whole, self._node, {leg.view.origin: (leg.first, leg.view.size) for leg in self._legs})

    def _is_ours(self, each: BatchFile) -> bool:
        """Whether the log still holds just these records: a disk that was set back has others, or none, there.

        A log that cannot be read, or does not lead to its own head, is no sign of that: what is whole on the stick may be the last that is.
        """
        view = next((leg.view for leg in self._legs if leg.view.origin == each.origin(self._node)), None)
        if view is None or each.end > view.size:
            return False
        try:
            table = self._view.table(view.log)
            found = table.frontier(each.end)
            return found.root.hex() == each.root or not leads_to(table, found, self._view.head(view.log))
        except (IndexError, *UNREADABLE):
            return True

    def _put_down(self, name: str, checkpoint: Checkpoint, count: int, data: bytes) -> BatchFile:
        origin = checkpoint.origin
        each = BatchFile(
            file=name, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=checkpoint.size - count, count=count, bytes=0, sha256="",
            root=checkpoint.root.hex(),
        )  # fmt: skip
        digest, size = sha256(), 0

        def told(parts: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                digest.update(part)
                size += len(part)
                yield part

        parts = [data] if self._key is None else seal(data, self._key, where(each, self._node), os.urandom(FILE_KEY_BYTES))  # fmt: skip
        write_file(self._folder / name, told(parts))
        return replace(each, bytes=size, sha256=digest.hexdigest())


def _is_whole(path: Path, batch: BatchFile) -> bool:
    try:
        return sha256(read_file(path, batch.bytes)).hexdigest() == batch.sha256
    except (OSError, BadStick):
        return False


def _drop_others(folder: Path, kept: list[BatchFile]) -> None:
    names = {each.file for each in kept}
    for path in folder.iterdir():
        # `.new`: what a stick that was pulled out while it was written has of a file, perhaps in plain
        if path.suffix in {".wbt", ".new"} and path.name not in names:
            path.unlink()


def check_left(written: Written) -> None:
    """Raise StickFull where something found no room, or why a stream goes no further."""
    if written.left:
        raise StickFull(f"{written.left} records found no room")
    for error in written.stopped.values():
        raise error
