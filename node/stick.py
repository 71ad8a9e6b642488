"""A queue carried by hand: what waits goes onto a stick as batches, sealed to the gateway where its key is known. It reads, and writes on the stick alone."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from node.clock import Clock
from node.config import Config
from node.errors import StickFull, StickUnreadable
from node.keystore import Keystore, load_seal_key
from node.stick_back import last_steps
from node.stick_files import read_file, write_file
from sync.answer import Resume
from sync.batch import RECORDS_MAX, Batch, encode
from sync.checkpoint import Checkpoint
from sync.errors import BadStick
from sync.flow import QUANTUM_BYTES_MAX
from sync.log import root_at
from sync.outbox_view import OutboxView, StreamView
from sync.record import Record
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
from sync.store import damage

STORE_NAME = "outbox.db"  # as node.app has it; this runs beside it or without it
ROOM_BYTES = 1024 * 1024  # receipts of a thousand streams
SPARE_BYTES = 1024 * 1024  # left free for the manifest and the file system's own tables
BATCHES_A_MANIFEST = 64  # written anew so often: what a stick pulled out early loses is 16 MB of copying


@dataclass(frozen=True, slots=True)
class Written:
    """What an export left on the stick: batches and records there now, how many of the batches are new, records that found no room, and
    whether the gateway alone can read it.
    """

    batches: int
    records: int
    fresh: int
    left: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Leg:
    """One log that goes onto the stick, from `first` on."""

    view: StreamView
    first: int


def export(
    config: Config, keystore: Keystore, clock: Clock, stick: Path, *, free_bytes: Callable[[Path], int] | None = None
) -> Written:
    """Write what is not receipted onto the stick, after what is there already. Raises StickUnreadable, SealCertificateBad, SyncError."""
    room = free_bytes or (lambda folder: shutil.disk_usage(folder).free)
    key, node = load_seal_key(config, keystore, clock), config.node.name
    with closing(OutboxView(config.node.data_dir / STORE_NAME, node)) as view:
        legs = legs_of(view, last_steps(config, keystore, clock, view))
        try:
            return _Export(view, keystore, stick / folder_name(node), key, legs).write(room)
        except OSError as error:
            raise StickUnreadable(f"{stick}: {error.strerror}") from error


def legs_of(view: OutboxView, steps: dict[str, Resume]) -> list[Leg]:
    """The logs that are to go, those of a stream oldest first: after the receipts, or from where the gateway last said that it is."""
    streams: dict[str, list[StreamView]] = {}
    for each in view.streams():
        streams.setdefault(each.origin.stream, []).append(each)
    legs: list[Leg] = []
    for name, logs in streams.items():
        step = steps.get(name)
        if step is None:
            legs += [Leg(each, each.receipted) for each in logs if not each.passed]
        else:
            legs += [Leg(logs[step.at], step.size), *(Leg(each, 0) for each in logs[step.at + 1 :])]
    # an epoch in which nothing is left was gone on from at once: its statement, of what was then common, may have become untrue
    return [leg for leg in legs if leg.view.size or leg.view is streams[leg.view.origin.stream][-1]]


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

    def write(self, room: Callable[[Path], int]) -> Written:
        folder = self._folder
        folder.mkdir(exist_ok=True)
        self._batches = self._kept()
        before = len(self._batches)
        if not (folder / ROOM_NAME).exists() and room(folder) > ROOM_BYTES + SPARE_BYTES:
            write_file(folder / ROOM_NAME, [bytes(ROOM_BYTES)])
        self._save()
        _drop_others(folder, self._batches)
        for leg in self._legs:
            if not self._write_leg(leg, room):
                break
        # a stick pulled out before this: the batches that the last manifest names are whole, the others are written again
        self._save()
        records = sum(each.count for each in self._batches)
        return Written(len(self._batches), records, len(self._batches) - before, self._left(), self._key is not None)

    def _save(self) -> None:
        write_file(self._folder / MANIFEST_NAME, [replace(self._manifest, batches=in_order(self._batches)).encode()])

    def _write_leg(self, leg: Leg, room: Callable[[Path], int]) -> bool:
        """The log's batches; False where the stick is full."""
        number = 1 + max((int(each.file[:8]) for each in self._batches), default=-1)
        for checkpoint, count, data in self._data(leg.view, self._end(leg)):
            if len(self._batches) >= BATCHES_MAX or room(self._folder) < len(data) + SPARE_BYTES:
                return False
            try:
                self._batches.append(self._put_down(f"{number:08}.wbt", checkpoint, count, data))
            except OSError as error:
                if error.errno != errno.ENOSPC:  # a stick whose free space is not what it says
                    raise
                return False
            number += 1
            if len(self._batches) % BATCHES_A_MANIFEST == 0:
                self._save()
        return True

    def _end(self, leg: Leg) -> int:
        """Up to where the leg is on the stick."""
        return max([leg.first, *(each.end for each in self._batches if each.origin(self._node) == leg.view.origin)])

    def _left(self) -> int:
        return sum(leg.view.size - self._end(leg) for leg in self._legs)

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
        """Whether the log still holds just these records: a disk that was set back has others, or none, there."""
        view = next((leg.view for leg in self._legs if leg.view.origin == each.origin(self._node)), None)
        if view is None or each.end > view.size:
            return False
        return root_at(self._view.table(view.log), each.end).hex() == each.root

    def _data(self, stream: StreamView, at: int) -> Iterator[tuple[Checkpoint, int, bytes]]:
        """The log's batches from `at` on, without dictionary: a stick may go to a gateway that is older."""
        table, origin = self._view.table(stream.log), stream.origin
        frontier = table.frontier(at)
        while at < stream.size:
            records = _next_records(table.records(at, min(RECORDS_MAX, stream.size - at)))
            frontier = frontier.append(b"".join(record.leaf for record in records))
            checkpoint = Checkpoint(origin, frontier.size, frontier.root)
            note = self._keystore.signer.sign_batch(checkpoint, at, stream.keys)
            batch = Batch(
                node=self._node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=at, lane=stream.lane, checkpoint=note,
                records=records,
            )  # fmt: skip
            yield checkpoint, len(records), encode(batch)
            at += len(records)

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
    for path in folder.glob("*.wbt"):
        if path.name not in names:
            path.unlink()


def _next_records(records: Iterator[Record]) -> list[Record]:
    """About a quantum of them; what does not verify goes without what is damaged, as over the link."""
    taken: list[Record] = []
    octets = 0
    for record in records:
        octets += len(record.body)
        if taken and octets > QUANTUM_BYTES_MAX:
            break
        found = damage(record)
        taken.append(record if found is None else record.without_body(found))
    if not taken:
        raise BadStick("the outbox has no record to export")
    return taken


def check_left(written: Written) -> None:
    """Raise StickFull where something found no room."""
    if written.left:
        raise StickFull(f"{written.left} records found no room")
