"""A queue carried by hand: what waits goes onto a stick as batches, and the receipts that come back are verified and stored."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from node.clock import Clock
from node.config import Config
from node.control import ask
from node.errors import CoreSilent, StickFull, StickUnreadable
from node.keystore import Keystore
from sync.batch import RECORDS_MAX, Batch, encode
from sync.certificates import check_chain, gateway_of, read, verifier_of
from sync.checkpoint import Checkpoint
from sync.errors import BadStick, SyncError
from sync.flow import QUANTUM_BYTES_MAX
from sync.keys import Verifier
from sync.log import root_at
from sync.names import Origin
from sync.outbox import Outbox
from sync.outbox_view import OutboxView, StreamView
from sync.record import Record
from sync.stick import (
    BATCHES_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    RECEIPTS_BYTES_MAX,
    RECEIPTS_NAME,
    ROOM_NAME,
    BatchFile,
    Manifest,
    Receipts,
    check_receipt,
    folder_name,
    read_manifest,
    read_receipts,
    still_wanted,
)
from sync.store import damage

STORE_NAME, LOCK_NAME = "outbox.db", "core.lock"  # as node.app has them; this runs beside it or without it
INBOX_NAME = "carried.json"  # receipts on their way to the core, in the data folder
ROOM_BYTES = 1024 * 1024  # receipts of a thousand streams
SPARE_BYTES = 1024 * 1024  # left free for the manifest and the file system's own tables
BATCHES_A_MANIFEST = 64  # written anew so often: what a stick pulled out early loses is 16 MB of copying


@dataclass(frozen=True, slots=True)
class Written:
    """What an export left on the stick: batches and records there now, how many of the batches are new, and records that found no room."""

    batches: int
    records: int
    fresh: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One verified receipt."""

    origin: Origin
    size: int
    note: bytes
    at: int


# -- out ---------------------------------------------------------------------------------------------------------------


def export(config: Config, keystore: Keystore, stick: Path, *, free_bytes: Callable[[Path], int] | None = None) -> Written:  # fmt: skip
    """Write what is not receipted onto the stick, after what is there already. Raises StickUnreadable, SyncError. Reads the outbox only."""
    room = free_bytes or (lambda folder: shutil.disk_usage(folder).free)
    view = OutboxView(config.node.data_dir / STORE_NAME, config.node.name)
    try:
        return _export(view, keystore, stick / folder_name(config.node.name), config.node.name, room)
    except OSError as error:
        raise StickUnreadable(f"{stick}: {error.strerror}") from error
    finally:
        view.close()


def _export(view: OutboxView, keystore: Keystore, folder: Path, node: str, room: Callable[[Path], int]) -> Written:
    folder.mkdir(exist_ok=True)
    streams = {each.origin.stream: each for each in view.streams()}  # of several epochs the newest
    kept = _kept(folder, node, streams)
    before = len(kept)
    manifest = Manifest(
        node=node,
        log_certificate=keystore.log_certificate_pem(),
        batches=tuple(kept),
        earlier_certificates=keystore.signer.earlier_certificates,
    )
    if not (folder / ROOM_NAME).exists() and room(folder) > ROOM_BYTES + SPARE_BYTES:
        _write(folder / ROOM_NAME, bytes(ROOM_BYTES))
    _write(folder / MANIFEST_NAME, manifest.encode())
    _drop_others(folder, kept)
    number = 1 + max((int(each.file[:8]) for each in kept), default=-1)
    full = False
    for stream in streams.values():
        at = max([stream.receipted, *(each.end for each in kept if each.stream == stream.origin.stream)])
        for first, count, data in _batches(view, keystore, node, stream, at):
            if len(kept) >= BATCHES_MAX or room(folder) < len(data) + SPARE_BYTES:
                full = True
                break
            try:
                kept.append(_put_down(folder, f"{number:08}.wbt", stream, first, count, data))
            except OSError as error:
                if error.errno != errno.ENOSPC:  # a stick whose free space is not what it says
                    raise
                full = True
                break
            number += 1
            if len(kept) % BATCHES_A_MANIFEST == 0:
                _write(folder / MANIFEST_NAME, replace(manifest, batches=tuple(kept)).encode())
        if full:
            break
    # a stick pulled out before this: the batches that the last manifest names are whole, the others are written again
    _write(folder / MANIFEST_NAME, replace(manifest, batches=tuple(kept)).encode())
    return Written(len(kept), sum(each.count for each in kept), len(kept) - before, _left(streams, kept))


def _left(streams: dict[str, StreamView], kept: list[BatchFile]) -> int:
    ends = {name: max([s.receipted, *(b.end for b in kept if b.stream == name)]) for name, s in streams.items()}
    return sum(streams[name].size - end for name, end in ends.items())


def _kept(folder: Path, node: str, streams: dict[str, StreamView]) -> list[BatchFile]:
    """What an earlier export left and is still good; a stick of which nothing can be read begins anew."""
    try:
        manifest = read_manifest(_read(folder / MANIFEST_NAME, MANIFEST_BYTES_MAX))
    except (FileNotFoundError, BadStick):
        return []
    if manifest.node != node:
        return []
    ours = {name: (each.origin, each.receipted, each.size) for name, each in streams.items()}
    whole = [each for each in manifest.batches if _is_whole(folder / each.file, each)]
    return still_wanted(whole, ours)


def _is_whole(path: Path, batch: BatchFile) -> bool:
    try:
        return sha256(_read(path, batch.bytes)).hexdigest() == batch.sha256
    except (OSError, BadStick):
        return False


def _drop_others(folder: Path, kept: list[BatchFile]) -> None:
    names = {each.file for each in kept}
    for path in folder.glob("*.wbt"):
        if path.name not in names:
            path.unlink()


def _batches(view: OutboxView, keystore: Keystore, node: str, stream: StreamView, at: int) -> Iterator[tuple[int, int, bytes]]:  # fmt: skip
    """The stream's batches from `at` on, without dictionary: a stick may go to a gateway that is older."""
    table, origin = view.table(stream.log), stream.origin
    frontier = table.frontier(at)
    while at < stream.size:
        records = _next_records(table.records(at, min(RECORDS_MAX, stream.size - at)))
        frontier = frontier.append(b"".join(record.leaf for record in records))
        note = keystore.signer.sign_batch(Checkpoint(origin, frontier.size, frontier.root), at, stream.keys)
        batch = Batch(
            node=node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=at, lane=stream.lane, checkpoint=note, records=records
        )  # fmt: skip
        yield at, len(records), encode(batch)
        at += len(records)


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


def _put_down(folder: Path, name: str, stream: StreamView, first: int, count: int, data: bytes) -> BatchFile:
    _write(folder / name, data)
    return BatchFile(
        file=name, stream=stream.origin.stream, epoch=stream.origin.epoch, tag=stream.origin.tag, first=first, count=count, bytes=len(data),
        sha256=sha256(data).hexdigest(),
    )  # fmt: skip


# -- back --------------------------------------------------------------------------------------------------------------


def take_receipts(config: Config, keystore: Keystore, clock: Clock, stick: Path) -> list[Taken]:
    """Verify the stick's receipts and have them stored, by the core where it runs. None there: nothing. Raises BadStick, StickUnreadable."""
    try:
        data = _read(stick / folder_name(config.node.name) / RECEIPTS_NAME, RECEIPTS_BYTES_MAX)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StickUnreadable(f"{stick}: {error.strerror}") from error
    found, ledger = verify_receipts(config, keystore, clock, data)
    data_dir = config.node.data_dir
    with (data_dir / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the core runs, and it alone writes: it verifies again
            _write(data_dir / INBOX_NAME, data)
            if ask(data_dir, "carried") != len(found):
                raise CoreSilent("the core did not take the receipts") from None
            return found
        outbox = Outbox(data_dir / STORE_NAME, signer=keystore.signer, random=os.urandom)
        try:
            store_receipts(outbox, found, ledger)
        finally:
            outbox.close()
    return found


def take_inbox(config: Config, keystore: Keystore, clock: Clock) -> tuple[list[Taken], str]:
    """The core's side: what `wasl export` left in the data folder, verified. Raises BadStick."""
    try:
        data = _read(config.node.data_dir / INBOX_NAME, RECEIPTS_BYTES_MAX)
    except OSError as error:
        raise BadStick("there are no receipts to take") from error
    (config.node.data_dir / INBOX_NAME).unlink(missing_ok=True)
    return verify_receipts(config, keystore, clock, data)


def verify_receipts(config: Config, keystore: Keystore, clock: Clock, data: bytes) -> tuple[list[Taken], str]:
    """The receipts, each proved against our own log, and the ledger that gave them. Raises BadStick."""
    receipts = read_receipts(data)
    if receipts.node != config.node.name:
        raise BadStick(f"these receipts are for {receipts.node}, this node is {config.node.name}")
    cosigner = _cosigner(config, keystore, clock, receipts)
    view = OutboxView(config.node.data_dir / STORE_NAME, config.node.name)
    try:
        known = (view.fact("ledger") or b"").decode()
        # the ledger's name is not signed; a receipt is proved all the same, but may not be counted for another site
        if known and known != receipts.ledger:
            raise BadStick("these receipts are of another ledger than the one that admitted this node")
        streams = {each.origin.stream: each for each in view.streams()}
        taken = []
        for name, note in receipts.notes.items():
            if name not in streams:
                raise BadStick(f"a receipt is of {name}, which is no stream of this node")
            stream = streams[name]
            table = view.table(stream.log)
            size, at = check_receipt(note, cosigner, stream.origin, stream.size, lambda n, t=table: root_at(t, n))  # type: ignore[misc]  # mypy cannot infer a default's type
            taken.append(Taken(origin=stream.origin, size=size, note=note.encode(), at=at))
    finally:
        view.close()
    return taken, receipts.ledger


def store_receipts(outbox: Outbox, taken: list[Taken], ledger: str) -> int:
    """Store verified receipts, on the writer's side; how many. A node that no gateway ever admitted knows its ledger from now on."""
    if not outbox.ledger():
        with outbox.transaction():
            outbox.set_fact("ledger", ledger.encode())
    for each in taken:
        outbox.keep_receipt(ledger=ledger, origin=each.origin, size=each.size, receipt=each.note, at=each.at)
    return len(taken)


def _cosigner(config: Config, keystore: Keystore, clock: Clock, receipts: Receipts) -> Verifier:
    if config.gateway is None:
        raise BadStick("no gateway is configured: whose receipts would be good is not known")
    try:
        certificate = read(receipts.cosign_certificate.encode())
        check_chain(certificate, (), keystore.anchor, at=clock.now_us() // 1_000_000)
        named = gateway_of(certificate, "cosign")
        verifier = verifier_of(certificate, config.gateway.name)
    except SyncError as error:
        raise BadStick(f"the gateway's certificate on the stick is not good: {error}") from error
    if named != config.gateway.name:
        raise BadStick(f"the receipts are of {named}, the configured gateway is {config.gateway.name}")
    return verifier


# -- files -------------------------------------------------------------------------------------------------------------


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadStick(f"{path.name} is too long")
    return data


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the stick when this returns."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def check_left(written: Written) -> None:
    """Raise StickFull where something found no room."""
    if written.left:
        raise StickFull(f"{written.left} records found no room")
