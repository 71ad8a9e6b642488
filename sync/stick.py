"""What lies on a stick that carries a queue by hand (docs/wire.md, section 7.4): a manifest of batches and openings, and what comes back.

Nothing on it is trusted: a batch is proved by its checkpoint, an opening by its signature, a receipt by its cosignature. The manifest says
where to look, and its hashes tell a worn stick from a forged one.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from sync.answer import ANSWER_BYTES_MAX
from sync.batch import RECORDS_MAX, WIRE_BYTES_MAX
from sync.checkpoint import NOTE_BYTES_MAX
from sync.errors import BadOpening, BadStick, SyncError
from sync.keys import Verifier
from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX, NAME, TAG, Origin
from sync.opening import Opening, read_opening
from sync.receipt import Receipt, open_receipt
from sync.seal import place, sealed_bytes
from sync.session import EARLIER_KEYS_MAX, STREAMS_MAX, TOKEN

FORMAT = "wasl-stick/2"
MANIFEST_NAME: Final = "manifest.json"
RECEIPTS_NAME: Final = "receipts.json"
ROOM_NAME: Final = "room.bin"  # taken by the export, given up by the import: a full stick can still bring receipts home
BATCHES_MAX = 65_536  # of a quarter megabyte: 16 GB, and what one folder of a FAT holds
OPENINGS_MAX = 4096  # each came of a restored or copied node; a stick holds those of logs that are not all receipted
MANIFEST_BYTES_MAX = 32 * 1024 * 1024  # some 400 bytes a batch, a thousand an opening
RECEIPTS_BYTES_MAX = 8 * 1024 * 1024  # some notes for each of STREAMS_MAX, escaped
NOTES_MAX = STREAMS_MAX + OPENINGS_MAX  # a receipt for each log
CERTIFICATE_BYTES_MAX = 16 * 1024
FILE_BYTES_MAX = sealed_bytes(WIRE_BYTES_MAX)
FILE_NAME = re.compile(r"[0-9]{8}\.wbt")  # eight and three: any FAT, any system, and no name that one of them reserves
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFile:
    """One batch on the stick: its address as of a PUT, how many records, the log's root after them, and what the file's bytes are.

    The root is for the node: sealed batches it cannot read again, and a disk that was set back has other records where these were.
    """

    file: str
    stream: str
    epoch: int
    tag: str
    first: int
    count: int
    bytes: int
    sha256: str
    root: str

    @property
    def end(self) -> int:
        """The position after its last record."""
        return self.first + self.count

    def origin(self, node: str) -> Origin:
        """The log it is of."""
        return Origin(node, self.stream, self.epoch, self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Whose records these are, the batches in the order in which they are to be taken, and the statements that open further epochs.

    `log_certificate` is PEM, and so are `earlier_certificates`, those of the log keys before that one, as in a session;
    `sealed_to`: id of the key to which every batch is sealed, empty where none is.
    """

    node: str
    log_certificate: str
    batches: tuple[BatchFile, ...]
    openings: tuple[str, ...] = ()
    sealed_to: str = ""
    earlier_certificates: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Its JSON."""
        rows = [asdict(each) for each in self.batches]
        text: dict[str, Any] = {
            "format": FORMAT, "node": self.node, "log_certificate": self.log_certificate, "sealed_to": self.sealed_to,
            "openings": self.openings, "batches": rows,
        }  # fmt: skip
        if self.earlier_certificates:
            text["earlier_certificates"] = list(self.earlier_certificates)
        return json.dumps(text, indent=0).encode()

    def steps(self) -> Iterator["BatchFile | Statement"]:
        """Batches and statements in the order in which they are to be taken: an epoch's statement before its first batch."""
        waiting: dict[str, list[Statement]] = {}
        for text in self.openings:
            found = Statement(text, read_opening(text.encode()))
            waiting.setdefault(found.opening.opened.stream, []).append(found)
        for batch in self.batches:
            stated = waiting.get(batch.stream, [])
            while stated and stated[0].opening.opened.epoch <= batch.epoch:
                yield stated.pop(0)
            yield batch
        for stated in waiting.values():
            yield from stated


class Statement(NamedTuple):
    """An opening statement as it stands on the stick, and what it says, not verified."""

    text: str
    opening: Opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """What a gateway gives back: receipts of logs, its signed answer on each stream, and the code where it took no more. `cosign_certificate` is PEM."""

    node: str
    gateway: str
    ledger: str
    cosign_certificate: str
    notes: tuple[str, ...]
    answers: tuple[str, ...]
    refused: Mapping[str, str]

    def encode(self) -> bytes:
        """Its JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=0).encode()


def where(batch: BatchFile, node: str) -> bytes:
    """What a batch's file is sealed under."""
    return place(batch.origin(node), batch.first, batch.count)


def folder_name(node: str) -> str:
    """The node's folder on a stick; the prefix keeps a node named `con` from being a device."""
    return f"wasl-{node}"


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises BadStick."""
    found = _object(data, MANIFEST_BYTES_MAX, MANIFEST_NAME)
    try:
        rows = found["batches"]
        if not isinstance(rows, list) or len(rows) > BATCHES_MAX:
            raise BadStick("the manifest lists no batches, or too many")
        batches = tuple(BatchFile(**row) for row in rows)
        manifest = Manifest(
            node=found["node"], log_certificate=found["log_certificate"], batches=batches, openings=_texts(found["openings"], OPENINGS_MAX, NOTE_BYTES_MAX),
            sealed_to=found["sealed_to"], earlier_certificates=tuple(found.get("earlier_certificates", ())),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise BadStick("the manifest does not say what it should") from error
    certificates = (manifest.log_certificate, *manifest.earlier_certificates)
    if not (_named(manifest.node) and all(map(_certificate, certificates)) and all(map(_good, batches))):
        raise BadStick("a name, number or file of the manifest is out of range")
    if len(certificates) > 1 + EARLIER_KEYS_MAX:
        raise BadStick("the manifest brings too many certificates")
    if manifest.sealed_to != "" and not (isinstance(manifest.sealed_to, str) and _DIGEST.fullmatch(manifest.sealed_to)):
        raise BadStick("the manifest names no key")
    _check_openings(manifest)
    if len({each.file for each in batches}) != len(batches):
        raise BadStick("the manifest names a file twice")
    return manifest


def read_receipts(data: bytes) -> Receipts:
    """Read what came back. Raises BadStick."""
    found = _object(data, RECEIPTS_BYTES_MAX, RECEIPTS_NAME)
    try:
        receipts = Receipts(
            node=found["node"], gateway=found["gateway"], ledger=found["ledger"], cosign_certificate=found["cosign_certificate"],
            notes=_texts(found["notes"], NOTES_MAX, NOTE_BYTES_MAX), answers=_texts(found["answers"], STREAMS_MAX, ANSWER_BYTES_MAX),
            refused=dict(found["refused"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadStick("the receipts do not say what they should") from error
    if not (_named(receipts.node) and _named(receipts.gateway) and _certificate(receipts.cosign_certificate)):
        raise BadStick("the receipts name nobody")
    if not (isinstance(receipts.ledger, str) and TOKEN.fullmatch(receipts.ledger)):
        raise BadStick("the receipts name no ledger")
    if len(receipts.refused) > STREAMS_MAX or not all(map(_named, receipts.refused)):
        raise BadStick("the receipts name no streams, or too many")
    if not all(isinstance(code, str) and _CODE.fullmatch(code) for code in receipts.refused.values()):
        raise BadStick("a refusal has no code")
    return receipts


def read_note(note: str, cosigner: Verifier) -> Receipt:
    """A receipt whose cosignature verifies. Raises BadStick."""
    try:
        return open_receipt(note.encode(), cosigner)
    except (SyncError, ValueError) as error:
        raise BadStick(f"a receipt does not verify: {error}") from error


def still_wanted(batches: Sequence[BatchFile], node: str, logs: Mapping[Origin, tuple[int, int]]) -> list[BatchFile]:
    """Of batches already on the stick, those to keep: of the logs that go (from where, up to where), without gap, with something still wanted."""
    kept: list[BatchFile] = []
    ends = {origin: first for origin, (first, _) in logs.items()}
    for each in batches:
        origin = each.origin(node)
        if origin in logs and each.first <= ends[origin] < each.end <= logs[origin][1]:
            kept.append(each)
            ends[origin] = each.end
    return kept


def in_order(batches: Iterable[BatchFile]) -> tuple[BatchFile, ...]:
    """Each stream's batches, epoch by epoch."""
    return tuple(sorted(batches, key=lambda each: (each.stream, each.epoch, each.first)))


def _check_openings(manifest: Manifest) -> None:
    """That each is a statement of this node, and those of a stream stand in their order. Raises BadStick."""
    last: dict[str, int] = {}
    for text in manifest.openings:
        try:
            opened = read_opening(text.encode()).opened
        except (BadOpening, ValueError) as error:
            raise BadStick("what the manifest calls an opening is none") from error
        if opened.node != manifest.node or opened.epoch <= last.get(opened.stream, 0):
            raise BadStick("an opening is of another node, or out of order")
        last[opened.stream] = opened.epoch


def _texts(found: object, most: int, bytes_max: int) -> tuple[str, ...]:
    """A list of so many texts at most, each so long. Raises BadStick."""
    if not isinstance(found, list) or len(found) > most:
        raise BadStick("a list is none, or too long")
    if not all(isinstance(each, str) and len(each) <= bytes_max for each in found):
        raise BadStick("a list holds something that is no note")
    return tuple(found)


def _object(data: bytes, most: int, name: str) -> dict[str, Any]:
    if len(data) > most:
        raise BadStick(f"{name} is too long")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadStick(f"{name} cannot be read") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadStick(f"{name} is not of this format")
    return found


def _named(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _certificate(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and len(text) <= CERTIFICATE_BYTES_MAX


def _good(batch: BatchFile) -> bool:
    numbers = (
        (batch.epoch, 1, EPOCH_MAX), (batch.first, 0, SIZE_MAX - RECORDS_MAX), (batch.count, 1, RECORDS_MAX), (batch.bytes, 1, FILE_BYTES_MAX),
    )  # fmt: skip
    return (
        all(type(value) is int and low <= value <= high for value, low, high in numbers)
        and isinstance(batch.file, str) and FILE_NAME.fullmatch(batch.file) is not None
        and isinstance(batch.tag, str) and TAG.fullmatch(batch.tag) is not None
        and all(isinstance(text, str) and _DIGEST.fullmatch(text) is not None for text in (batch.sha256, batch.root))
        and _named(batch.stream)
    )  # fmt: skip
