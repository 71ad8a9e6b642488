"""What lies on a stick that carries a queue by hand (docs/wire.md, section 7.4): a manifest of batches, and the receipts that come back.

Nothing on it is trusted: a batch is proved by its checkpoint, a receipt by its cosignature. The manifest says where to look, and its hashes tell a
worn stick from a forged one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sync.batch import RECORDS_MAX, WIRE_BYTES_MAX
from sync.checkpoint import NOTE_BYTES_MAX, Checkpoint
from sync.errors import BadStick, SyncError
from sync.keys import Verifier
from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX, NAME, TAG, Origin
from sync.receipt import open_receipt
from sync.session import EARLIER_KEYS_MAX, STREAMS_MAX, TOKEN

FORMAT = "wasl-stick/1"
MANIFEST_NAME: Final = "manifest.json"
RECEIPTS_NAME: Final = "receipts.json"
ROOM_NAME: Final = "room.bin"  # taken by the export, given up by the import: a full stick can still bring receipts home
BATCHES_MAX = 65_536  # of a quarter megabyte: 16 GB, and what one folder of a FAT holds
MANIFEST_BYTES_MAX = 32 * 1024 * 1024  # some 300 bytes a batch
RECEIPTS_BYTES_MAX = 8 * 1024 * 1024  # STREAMS_MAX notes, base64 or escaped
CERTIFICATE_BYTES_MAX = 16 * 1024
FILE_NAME = re.compile(r"[0-9]{8}\.wbt")  # eight and three: any FAT, any system, and no name that one of them reserves
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFile:
    """One batch on the stick: its address as of a PUT, how many records, and what the file's bytes are."""

    file: str
    stream: str
    epoch: int
    tag: str
    first: int
    count: int
    bytes: int
    sha256: str

    @property
    def end(self) -> int:
        """The position after its last record."""
        return self.first + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Whose records these are, and the batches in the order in which they are to be taken. `log_certificate` is PEM.

    `earlier_certificates`: those of the log keys before that one, as in a session.
    """

    node: str
    log_certificate: str
    batches: tuple[BatchFile, ...]
    earlier_certificates: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Its JSON."""
        rows = [asdict(each) for each in self.batches]
        text = {"format": FORMAT, "node": self.node, "log_certificate": self.log_certificate, "batches": rows}
        if self.earlier_certificates:
            text["earlier_certificates"] = list(self.earlier_certificates)
        return json.dumps(text, indent=0).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """What a gateway gives back: for each stream its receipt, and the code where it took no more. `cosign_certificate` is PEM."""

    node: str
    gateway: str
    ledger: str
    cosign_certificate: str
    notes: Mapping[str, str]
    refused: Mapping[str, str]

    def encode(self) -> bytes:
        """Its JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=0).encode()


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
            node=found["node"], log_certificate=found["log_certificate"], batches=batches, earlier_certificates=tuple(found.get("earlier_certificates", ()))
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise BadStick("the manifest does not say what it should") from error
    certificates = (manifest.log_certificate, *manifest.earlier_certificates)
    if not (_named(manifest.node) and all(map(_certificate, certificates)) and all(map(_good, batches))):
        raise BadStick("a name, number or file of the manifest is out of range")
    if len(certificates) > 1 + EARLIER_KEYS_MAX:
        raise BadStick("the manifest brings too many certificates")
    if len({each.file for each in batches}) != len(batches):
        raise BadStick("the manifest names a file twice")
    return manifest


def read_receipts(data: bytes) -> Receipts:
    """Read what came back. Raises BadStick."""
    found = _object(data, RECEIPTS_BYTES_MAX, RECEIPTS_NAME)
    try:
        receipts = Receipts(
            node=found["node"], gateway=found["gateway"], ledger=found["ledger"], cosign_certificate=found["cosign_certificate"],
            notes=dict(found["notes"]), refused=dict(found["refused"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadStick("the receipts do not say what they should") from error
    if not (_named(receipts.node) and _named(receipts.gateway) and _certificate(receipts.cosign_certificate)):
        raise BadStick("the receipts name nobody")
    if not (isinstance(receipts.ledger, str) and TOKEN.fullmatch(receipts.ledger)):
        raise BadStick("the receipts name no ledger")
    texts = (*receipts.notes.values(), *receipts.refused.values())
    if not all(isinstance(each, str) and len(each) <= NOTE_BYTES_MAX for each in texts):
        raise BadStick("a receipt is none")
    if len(texts) > 2 * STREAMS_MAX or not all(map(_named, (*receipts.notes, *receipts.refused))):
        raise BadStick("the receipts name no streams, or too many")
    if not all(_CODE.fullmatch(code) for code in receipts.refused.values()):
        raise BadStick("a refusal has no code")
    return receipts


def check_receipt(note: str, cosigner: Verifier, origin: Origin, size: int, root_at: Callable[[int], bytes]) -> tuple[int, int]:  # fmt: skip
    """Size and time (POSIX seconds) of a receipt for a log of ours that has `size` records now. Raises BadStick.

    As of one that came over the link: what the gateway confirms must be what we hold, else nothing is trimmed on its word.
    """
    try:
        receipt = open_receipt(note.encode(), cosigner)
    except (SyncError, ValueError) as error:
        raise BadStick(f"the receipt of {origin.stream} does not verify: {error}") from error
    found = receipt.checkpoint
    if found.origin != origin:
        raise BadStick(f"a receipt is of {found.origin}, not of {origin}")
    if not 0 < found.size <= size or found != Checkpoint(origin, found.size, root_at(found.size)):
        raise BadStick(f"the receipt of {origin.stream} speaks of other records than ours")
    return found.size, receipt.time


def still_wanted(batches: Sequence[BatchFile], streams: Mapping[str, tuple[Origin, int, int]]) -> list[BatchFile]:
    """Of batches already on the stick, those to keep: of our logs (origin, receipted, size by stream), without gap, with something not receipted."""
    kept: list[BatchFile] = []
    ends: dict[str, int] = {}
    for each in batches:
        found = streams.get(each.stream)
        if found is None or (each.epoch, each.tag) != (found[0].epoch, found[0].tag):
            continue
        end = ends.get(each.stream, found[1])
        if each.first <= end < each.end <= found[2]:
            kept.append(each)
            ends[each.stream] = each.end
    return kept


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
        (batch.epoch, 1, EPOCH_MAX), (batch.first, 0, SIZE_MAX - RECORDS_MAX), (batch.count, 1, RECORDS_MAX), (batch.bytes, 1, WIRE_BYTES_MAX),
    )  # fmt: skip
    return (
        all(type(value) is int and low <= value <= high for value, low, high in numbers)
        and isinstance(batch.file, str) and FILE_NAME.fullmatch(batch.file) is not None
        and isinstance(batch.tag, str) and TAG.fullmatch(batch.tag) is not None
        and isinstance(batch.sha256, str) and _DIGEST.fullmatch(batch.sha256) is not None
        and _named(batch.stream)
    )  # fmt: skip
