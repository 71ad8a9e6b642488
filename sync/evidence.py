"""The evidence file: one record, proved to a third party, offline (docs/verify.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from native import body_commitment, leaf_hashes
from sync.certificates import check_chain, der, gateway_of, node_of, read, read_der, read_validity, verifier_of
from sync.checkpoint import parse_note, verify_note
from sync.errors import BadCertificate, BadEvidence, SyncError
from sync.header import Header, decode
from sync.log import HASH_BYTES, root_from_proof
from sync.names import Origin
from sync.receipt import verify_receipt
from sync.record import SALT_BYTES

FORMAT = "wasl-evidence/1"
EVIDENCE_BYTES_MAX = 64 * 1024 * 1024  # the largest body, certificates, a long proof; a limit for a stranger's file
PROOF_MAX = 64  # a log of 2**63 leaves has paths of 63

(
    _FORMAT,
    _HEADER,
    _SALT,
    _PARTICULARS,
    _BODY,
    _SEQ,
    _PROOF,
    _NOTE,
    _LOG_CERT,
    _COSIGN_CERT,
    _CHAIN,
    _VALIDITY,
    _ANCHOR,
) = range(1, 14)
_KEYS = set(range(_FORMAT, _ANCHOR + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a verifier needs. `salt`, `particulars`, `body` are None where they were erased or trimmed; certificates are DER.

    `chain` stands between the two certificates and the anchor; `validity` is the X.509 CRL in force; `note` the cosigned checkpoint.
    """

    header: bytes
    salt: bytes | None
    particulars: bytes | None
    body: bytes | None
    seq: int
    proof: tuple[bytes, ...]
    note: bytes
    log_certificate: bytes
    cosign_certificate: bytes
    chain: tuple[bytes, ...]
    validity: bytes
    anchor: bytes

    def encode(self) -> bytes:
        """The file's bytes: deterministic CBOR."""
        return cbor2.dumps(
            {
                _FORMAT: FORMAT, _HEADER: self.header, _SALT: self.salt, _PARTICULARS: self.particulars, _BODY: self.body,
                _SEQ: self.seq, _PROOF: list(self.proof), _NOTE: self.note, _LOG_CERT: self.log_certificate,
                _COSIGN_CERT: self.cosign_certificate, _CHAIN: list(self.chain), _VALIDITY: self.validity, _ANCHOR: self.anchor,
            },
            canonical=True,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What a verified evidence file says. `time`: the receipt's, POSIX seconds; `body` None where only the commitment is proved."""

    origin: Origin
    seq: int
    header: Header
    body: bytes | None
    size: int
    time: int
    gateway: str
    anchor_sha256: str


def parse(data: bytes) -> Evidence:
    """Read an evidence file. Raises BadEvidence unless the bytes are exactly what encode() gives."""
    if len(data) > EVIDENCE_BYTES_MAX:
        raise BadEvidence("file too long")
    try:
        found = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise BadEvidence("not CBOR") from error
    if not isinstance(found, dict) or set(found) != _KEYS or found[_FORMAT] != FORMAT:
        raise BadEvidence("not an evidence file of this format")
    evidence = _shaped(found)
    if evidence.encode() != data:
        raise BadEvidence("not in its canonical form")
    return evidence


def verify(data: bytes, *, anchor: bytes | None = None) -> Proved:
    """Verify a whole evidence file; `anchor` is the authority's certificate (PEM or DER) the reader trusts. Raises BadEvidence.

    Without `anchor` the file is held against the authority inside it, whose fingerprint the reader must compare.
    """
    evidence = parse(data)
    try:
        return _verify(evidence, anchor)
    except BadEvidence:
        raise
    except (SyncError, ValueError) as error:
        raise BadEvidence(str(error)) from error


def _verify(evidence: Evidence, anchor: bytes | None) -> Proved:
    root = _anchor(evidence, anchor)
    chain = [read_der(each) for each in evidence.chain]
    log_cert, cosign_cert = read_der(evidence.log_certificate), read_der(evidence.cosign_certificate)
    node, gateway = node_of(log_cert, "log"), gateway_of(cosign_cert, "cosign")
    note = parse_note(evidence.note)
    receipt = verify_receipt(note, verifier_of(cosign_cert, gateway))
    checkpoint = verify_note(note, verifier_of(log_cert, node))
    if len(note.signatures) != 2 or checkpoint.origin.node != node:
        raise BadEvidence("the checkpoint is not signed by this node and this gateway alone")
    validity = read_validity(evidence.validity, root)
    for certificate in (log_cert, cosign_cert):
        check_chain(certificate, chain, root, at=receipt.time)
    for certificate in (log_cert, cosign_cert, *chain):
        _check_revocation(certificate, validity, receipt.time)
    header = decode(evidence.header)
    _check_commitment(evidence, header)
    leaf = leaf_hashes([evidence.header])
    if root_from_proof(leaf, evidence.seq, checkpoint.size, list(evidence.proof)) != checkpoint.root:
        raise BadEvidence("the record is not in the log at this position")
    return Proved(
        origin=checkpoint.origin, seq=evidence.seq, header=header, body=evidence.body, size=checkpoint.size, time=receipt.time,
        gateway=gateway, anchor_sha256=root.fingerprint(hashes.SHA256()).hex(),
    )  # fmt: skip


def _check_commitment(evidence: Evidence, header: Header) -> None:
    if evidence.salt is None or evidence.particulars is None or evidence.body is None:
        if (evidence.salt, evidence.particulars, evidence.body) != (None, None, None):
            raise BadEvidence("salt, particulars and body are erased together")
        return
    found = body_commitment(evidence.salt, evidence.particulars, evidence.body)
    if found != header.commitment or len(evidence.body) != header.body_bytes:
        raise BadEvidence("the body is not the one that was committed to")


def _anchor(evidence: Evidence, trusted: bytes | None) -> x509.Certificate:
    found = read_der(evidence.anchor)
    if trusted is not None and der(read(trusted)) != evidence.anchor:
        raise BadEvidence("the file belongs to another authority")
    try:
        found.verify_directly_issued_by(found)
    except Exception as error:  # every way in which a stranger's root can be wrong
        raise BadEvidence("the authority's certificate does not verify") from error
    return found


def _check_revocation(certificate: x509.Certificate, validity: x509.CertificateRevocationList, time: int) -> None:
    entry = validity.get_revoked_certificate_by_serial_number(certificate.serial_number)
    # what was receipted before the revocation stays valid (docs/wire.md, section 4)
    if entry is not None and entry.revocation_date_utc.timestamp() <= time:
        raise BadCertificate("a certificate had been revoked before the receipt")


def _shaped(found: Mapping[int, Any]) -> Evidence:
    parts = [found[key] for key in (_SALT, _PARTICULARS, _BODY)]
    blobs = [found[key] for key in (_HEADER, _NOTE, _LOG_CERT, _COSIGN_CERT, _VALIDITY, _ANCHOR)]
    lists = [found[_PROOF], found[_CHAIN]]
    if not all(part is None or type(part) is bytes for part in parts) or not all(type(blob) is bytes for blob in blobs):
        raise BadEvidence("a part has the wrong type")
    if not all(type(each) is list and all(type(item) is bytes for item in each) for each in lists):
        raise BadEvidence("proof or chain is not a list of bytes")
    if (
        type(found[_SEQ]) is not int
        or any(len(step) != HASH_BYTES for step in found[_PROOF])
        or len(found[_PROOF]) > PROOF_MAX
    ):
        raise BadEvidence("position or proof out of range")
    if found[_SALT] is not None and len(found[_SALT]) != SALT_BYTES:
        raise BadEvidence("salt out of range")
    return Evidence(
        header=found[_HEADER], salt=found[_SALT], particulars=found[_PARTICULARS], body=found[_BODY], seq=found[_SEQ],
        proof=tuple(found[_PROOF]), note=found[_NOTE], log_certificate=found[_LOG_CERT], cosign_certificate=found[_COSIGN_CERT],
        chain=tuple(found[_CHAIN]), validity=found[_VALIDITY], anchor=found[_ANCHOR],
    )  # fmt: skip
