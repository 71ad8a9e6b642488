"""A stick that came by hand: its batches go to the ledger as a PUT's would, and the receipts go back onto it.

Who sends is told by the log certificate on the stick, which our authority must have given to that node for its log; each checkpoint is signed by
that key. There is no fence: a stick is nobody's connection. Order, roots and signatures are judged as ever, so the same records by both ways end up once.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ELOOP, ENXIO
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.app import DICTIONARIES_FOLDER, LEDGER_FILE, die
from gateway.config import Config
from gateway.cosigner import Cosigner, load_cosigner
from gateway.dictionaries import keep_dictionaries
from gateway.errors import BadSetup, Busy, GatewayFull, SwapLost, TooManyStreams
from gateway.health import Health
from gateway.identity import ValidityList
from gateway.ledger import EpochCall, Ledger, PutCall
from gateway.ledger_rows import Rows
from gateway.ledger_sqlite import Dice, SqliteLedger
from gateway.log_certificates import LogCertificates
from gateway.stick_answer import Comparison
from sync.answer import PARTED, sign_answer
from sync.batch import Batch, decode
from sync.certificates import read
from sync.dictionary import Shelf
from sync.errors import BadBatch, BadCertificate, BadSeal, BadStick, UnknownDictionary, UnknownSealKey
from sync.receiver import Receipt, Refuse
from sync.seal import seal_key_id, unseal
from sync.stick import (
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    RECEIPTS_NAME,
    ROOM_NAME,
    BatchFile,
    Manifest,
    Receipts,
    Statement,
    folder_name,
    read_manifest,
    where,
)
from sync.store import SafeDatabase, sync_file

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
    """What an import needs of this gateway. `now_s` gives POSIX seconds, UTC; `rows` reads what is committed."""

    ledger: Ledger
    rows: Rows
    anchor: x509.Certificate
    validity: ValidityList
    cosigner: Cosigner
    shelf: Shelf
    seal_keys: Mapping[str, X25519PrivateKey]
    now_s: Callable[[], int]


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
    seal_keys = load_seal_keys(config.stick.keys)
    ledger.start()
    reader = SafeDatabase(folder / LEDGER_FILE, readonly=True)
    try:
        yield Desk(
            ledger=ledger, rows=Rows(reader.raw()), anchor=anchor, validity=validity, cosigner=cosigner, shelf=shelf, seal_keys=seal_keys,
            now_s=lambda: int(time.time()),
        )  # fmt: skip
    finally:
        reader.close()
        ledger.stop()


def load_seal_keys(files: Sequence[Path]) -> dict[str, X25519PrivateKey]:
    """The keys that sticks may be sealed to, by their ids. Raises BadSetup."""
    found: dict[str, X25519PrivateKey] = {}
    for file in files:
        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise BadSetup(f"seal key {file}: {error}") from error
        if not isinstance(key, X25519PrivateKey):
            raise BadSetup(f"seal key {file}: not an X25519 key")
        found[seal_key_id(key.public_key())] = key
    return found


def folders(stick: Path) -> list[Path]:
    """The nodes' folders on a stick. Raises BadStick where there is none."""
    found = sorted(path.parent for path in stick.glob(f"wasl-*/{MANIFEST_NAME}") if not path.parent.is_symlink())
    if not found:
        raise BadStick("no export of a node is on this stick")
    return found[:NODES_MAX]


def import_folder(desk: Desk, folder: Path) -> Imported:
    """Take what one node sent and leave its receipts. Raises BadStick where nothing of it may be believed; then nothing is taken."""
    manifest = read_manifest(_read(folder / MANIFEST_NAME, MANIFEST_BYTES_MAX))
    if folder.name.lower() != folder_name(manifest.node):
        raise BadStick("the folder's name is another node's")
    taking = Taking(desk, manifest, folder)
    for step in manifest.steps():
        taking.statement(step) if isinstance(step, Statement) else taking.batch(step)
    name = desk.cosigner.signer.name
    receipts = Receipts(
        node=manifest.node, gateway=name, ledger=desk.ledger.id, cosign_certificate=desk.cosigner.pem, notes=tuple(taking.notes.values()),
        answers=taking.answers(), refused=taking.refused,
    )  # fmt: skip
    # committed by now; where the stick takes nothing more, the same import gives the same receipts again
    _leave(folder, receipts)
    return Imported(node=manifest.node, records=taking.records, refused=taking.refused)


class Taking:
    """One node's folder on its way into the ledger, step by step. After a refusal the rest of that stream is only compared."""

    def __init__(self, desk: Desk, manifest: Manifest, folder: Path) -> None:
        self._desk, self._manifest, self._folder = desk, manifest, folder
        self._judge = LogCertificates(desk.anchor, desk.validity, desk.now_s)
        self._certificate = _certificate(self._judge, manifest)
        self._earlier = self._judge.earlier(manifest.earlier_certificates, manifest.node)
        self.notes: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.records = 0
        self._compared: dict[str, Comparison] = {}

    def statement(self, found: Statement) -> None:
        """Open an epoch, or know it opened."""
        node, stream = self._manifest.node, found.opening.opened.stream
        compared = self._comparison(stream)
        if stream in self.refused:
            return
        call = EpochCall(
            node=node, stream=stream, fence="", statement=found.text.encode(), log_certificate=self._certificate, earlier=self._earlier,
            revoked=self._desk.validity.serials,
        )  # fmt: skip
        answer = _patiently(lambda: self._desk.ledger.epoch(call))
        if isinstance(answer, str):
            self._refuse(stream, answer, str(found.opening.opened))
            compared.opens(found.opening)
        else:
            log.info("stick.epoch", node=node, stream=stream, epoch=found.opening.opened.epoch)

    def batch(self, each: BatchFile) -> None:
        """Take a batch."""
        node, compared = self._manifest.node, self._comparison(each.stream)
        if self.refused.get(each.stream, "rewind") not in PARTED or not compared.wants:
            return  # what comes after a gap could only be refused too
        found = self._open(each)
        if isinstance(found, str):
            self._refuse(each.stream, self.refused.get(each.stream, found), each.file)
            compared.stop()
            return
        if each.stream in self.refused:
            compared.sees(found)
            return
        call = PutCall(
            node=node, stream=each.stream, epoch=each.epoch, first=each.first, fence="", batch=found, log_certificate=self._certificate,
            earlier=self._earlier, vouched=self._judge.vouched(found),
        )  # fmt: skip
        answer = _patiently(lambda: self._desk.ledger.put(call))
        if isinstance(answer, Receipt):
            self.notes[str(each.origin(node))] = answer.note.decode()
            self.records += each.count
            compared.took(each.origin(node), each.end)
        else:
            self._refuse(each.stream, str(answer), each.file)
            if answer in PARTED:
                compared.sees(found)

    def answers(self) -> tuple[str, ...]:
        """What is said home of each stream, signed."""
        desk = self._desk
        made = (each.answer(desk.ledger.id, desk.now_s()) for each in self._compared.values())
        return tuple(sign_answer(answer, desk.cosigner.signer).decode() for answer in made)

    def _comparison(self, stream: str) -> Comparison:
        return self._compared.setdefault(stream, Comparison(self._desk.rows, self._manifest.node, stream))

    def _refuse(self, stream: str, code: str, what: str) -> None:
        self.refused[stream] = self._compared[stream].refused = code
        log.warning("stick.refused", node=self._manifest.node, stream=stream, what=what, code=code)

    def _open(self, each: BatchFile) -> Batch | str:
        """The batch of a file, or the code of what is wrong with it."""
        try:
            data = _read(self._folder / each.file, each.bytes)
            if sha256(data).hexdigest() != each.sha256:
                return "damaged"
            if self._manifest.sealed_to:
                read = BytesIO(data).read
                data = b"".join(
                    unseal(read, self._desk.seal_keys, self._manifest.sealed_to, where(each, self._manifest.node))
                )
            return decode(data, self._desk.shelf)
        except UnknownDictionary:
            return "unknown-dictionary"
        except UnknownSealKey:
            return "unknown-key"
        except BadSeal:
            return "bad-seal"
        except (BadBatch, BadStick):
            return "bad-batch"
        except OSError:
            return "damaged"


def _patiently(ask: Callable[[], Future[Any]]) -> Any:
    """The ledger's answer, or the code of its refusal; a running gateway writes the same ledger."""
    for _ in range(TRIES_MAX):
        try:
            answer = ask().result()
        except (Busy, SwapLost):
            time.sleep(TRY_AGAIN_S)
            continue
        except GatewayFull:
            return "full"
        except TooManyStreams:
            return "too-many-streams"
        return answer.code if isinstance(answer, Refuse) else answer
    return "busy"


def _certificate(judge: LogCertificates, manifest: Manifest) -> bytes:
    try:
        return judge.current(manifest.log_certificate.encode(), manifest.node)
    except BadCertificate as error:
        raise BadStick(f"its certificate is not good: {error}") from error


def _leave(folder: Path, receipts: Receipts) -> None:
    (folder / ROOM_NAME).unlink(missing_ok=True)
    path = folder / RECEIPTS_NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    # made here and nowhere else: what stood there may have been a link to a file of this machine
    with fresh.open("xb") as file:
        file.write(receipts.encode())
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_file(folder)


def _read(path: Path, most: int) -> bytes:
    """A file of the stick. Raises BadStick where it is too long, or a link, a pipe or a device: an open would leave the stick, or wait for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {ELOOP, ENXIO}:
            raise BadStick(f"{path.name} is no plain file") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadStick(f"{path.name} is no plain file")
        data = file.read(most + 1)
    if len(data) > most:
        raise BadStick(f"{path.name} is too long")
    return data
