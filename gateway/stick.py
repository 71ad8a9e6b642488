"""A stick that came by hand: its batches go to the ledger as a PUT's would, and the receipts go back onto it.

Who sends is told by the log certificate on the stick, which our authority must have given to that node for its log; each checkpoint is signed by
that key. There is no fence: a stick is nobody's connection. Order, roots and signatures are judged as ever, so the same records by both ways end up once.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog
from cryptography import x509

from gateway.app import DICTIONARIES_FOLDER, LEDGER_FILE, die
from gateway.config import Config
from gateway.cosigner import Cosigner, load_cosigner
from gateway.dictionaries import keep_dictionaries
from gateway.errors import BadSetup, Busy, SwapLost
from gateway.health import Health
from gateway.identity import ValidityList
from gateway.ledger import Ledger, PutCall
from gateway.ledger_sqlite import Dice, SqliteLedger
from gateway.log_certificates import LogCertificates
from sync.batch import Batch, decode
from sync.certificates import read
from sync.dictionary import Shelf
from sync.errors import BadBatch, BadCertificate, BadStick, UnknownDictionary
from sync.receiver import Receipt
from sync.stick import (
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    RECEIPTS_NAME,
    ROOM_NAME,
    BatchFile,
    Manifest,
    Receipts,
    folder_name,
    read_manifest,
)

TRIES_MAX = 50  # the running gateway writes the same ledger: a busy moment passes within a commit or two
TRY_AGAIN_S = 0.2
NODES_MAX = 256  # folders of one stick: a round through a region's clinics
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of one node's folder: records taken or already held, and the code where a stream was taken no further."""

    node: str
    records: int
    refused: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What an import needs of this gateway. `now_s` is POSIX seconds, UTC."""

    ledger: Ledger
    anchor: x509.Certificate
    validity: ValidityList
    cosigner: Cosigner
    shelf: Shelf
    now_s: int


@contextmanager
def open_desk(config: Config) -> Iterator[Desk]:
    """The ledger, beside the gateway that may be running, for the time of the block. Raises BadSetup."""
    try:
        anchor = read(config.sync.ca.read_bytes())
    except (OSError, BadCertificate) as error:
        raise BadSetup(f"authority {config.sync.ca}: {error}") from error
    health, folder = Health(), config.gateway.data_dir
    cosigner = load_cosigner(
        config.gateway.name, config.cosign.key, config.cosign.certificate, anchor, lambda: int(time.time())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    dice = Dice(
        now_us=lambda: time.time_ns() // 1000, monotonic=time.monotonic, random=os.urandom, free_bytes=lambda: shutil.disk_usage(folder).free
    )  # fmt: skip
    ledger = SqliteLedger(
        folder / LEDGER_FILE, cosigner=cosigner.signer, cosign_certificate=cosigner.der, dice=dice, meter=health, on_death=die
    )  # fmt: skip
    validity = ValidityList(config.sync.crl, anchor, health.alarm)
    shelf = keep_dictionaries(folder / DICTIONARIES_FOLDER)
    ledger.start()
    try:
        yield Desk(
            ledger=ledger, anchor=anchor, validity=validity, cosigner=cosigner, shelf=shelf, now_s=int(time.time())
        )
    finally:
        ledger.stop()


def folders(stick: Path) -> list[Path]:
    """The nodes' folders on a stick. Raises BadStick where there is none."""
    found = sorted(path.parent for path in stick.glob(f"wasl-*/{MANIFEST_NAME}"))
    if not found:
        raise BadStick("no export of a node is on this stick")
    return found[:NODES_MAX]


def import_folder(desk: Desk, folder: Path) -> Imported:
    """Take what one node sent and leave its receipts. Raises BadStick where nothing of it may be believed; then nothing is taken."""
    manifest = read_manifest(_read(folder / MANIFEST_NAME, MANIFEST_BYTES_MAX))
    if folder.name.lower() != folder_name(manifest.node):
        raise BadStick("the folder's name is another node's")
    judge = LogCertificates(desk.anchor, desk.validity, lambda: desk.now_s)
    certificate, earlier = (_certificate(judge, manifest), judge.earlier(manifest.earlier_certificates, manifest.node))
    notes: dict[str, str] = {}
    refused: dict[str, str] = {}
    records = 0
    for each in manifest.batches:
        if each.stream in refused:
            continue  # what comes after a gap could only be refused too
        batch = _batch(desk, folder, each)
        if isinstance(batch, str):
            answer: Receipt | str = batch
        else:
            call = PutCall(
                node=manifest.node, stream=each.stream, epoch=each.epoch, first=each.first, fence="", batch=batch, log_certificate=certificate,
                earlier=earlier, vouched=judge.vouched(batch),
            )  # fmt: skip
            answer = _take(desk, call)
        if isinstance(answer, Receipt):
            notes[each.stream] = answer.note.decode()
            records += each.count
        else:
            refused[each.stream] = answer
            log.warning("stick.refused", node=manifest.node, stream=each.stream, file=each.file, code=answer)
    receipts = Receipts(
        node=manifest.node, gateway=desk.cosigner.signer.name, ledger=desk.ledger.id, cosign_certificate=desk.cosigner.pem, notes=notes, refused=refused
    )  # fmt: skip
    # committed by now; where the stick takes nothing more, the same import gives the same receipts again
    _leave(folder, receipts)
    return Imported(node=manifest.node, records=records, refused=refused)


def _certificate(judge: LogCertificates, manifest: Manifest) -> bytes:
    try:
        return judge.current(manifest.log_certificate.encode(), manifest.node)
    except BadCertificate as error:
        raise BadStick(f"its certificate is not good: {error}") from error


def _batch(desk: Desk, folder: Path, each: BatchFile) -> Batch | str:
    """What is in a batch's file, or the code of a refusal."""
    try:
        data = _read(folder / each.file, each.bytes)
        if sha256(data).hexdigest() != each.sha256:
            return "damaged"
        return decode(data, desk.shelf)
    except UnknownDictionary:
        return "unknown-dictionary"
    except (BadBatch, BadStick):
        return "bad-batch"
    except OSError:
        return "damaged"


def _take(desk: Desk, call: PutCall) -> Receipt | str:
    """One batch: the receipt, or the code of a refusal."""
    for _ in range(TRIES_MAX):
        try:
            answer = desk.ledger.put(call).result()
        except (Busy, SwapLost):
            time.sleep(TRY_AGAIN_S)
            continue
        return answer if isinstance(answer, Receipt) else answer.code
    return "busy"


def _leave(folder: Path, receipts: Receipts) -> None:
    (folder / ROOM_NAME).unlink(missing_ok=True)
    path = folder / RECEIPTS_NAME
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(receipts.encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadStick(f"{path.name} is too long")
    return data
