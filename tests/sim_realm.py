"""An authority with one node and one gateway, and logs of invented messages: from fixed keys, so equal in every run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from native import frontier_append
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.evidence import Evidence
from sync.header import CONTROL_ID, PEER, common_start, encode_particulars, seal
from sync.keys import FileSigner
from sync.log import TILE_LEAVES, Frontier, inclusion_proof, tile_root
from sync.names import Origin
from sync.receipt import cosign
from sync.record import BodyState, Draft, Kind, Record

NODE, GATEWAY, STREAM, TAG = "clinic-17", "centre", "his", "0badcafe"
ORIGIN = Origin(NODE, STREAM, 1, TAG)
NOW_S = 1_780_000_000  # 2026-05-28, when receipts of this realm are given
FROM, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NAMES = ("مريم بنت سالم التجريبية", "Test^Hamad", "نورة عبدالله المثال", "Sample^Aisha")
COMMON = common_start(kind=Kind.MESSAGE, facility="rawdah", feed="his", content_type="application/hl7-v2+er7")


def secret(what: str) -> bytes:
    """32 bytes that stand for a random secret."""
    return sha256(f"wasl test {what}".encode()).digest()


def ed25519(what: str) -> Ed25519PrivateKey:
    """The Ed25519 key of that name."""
    return Ed25519PrivateKey.from_private_bytes(secret(what))


def p256(what: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of that name."""
    return ec.derive_private_key(int.from_bytes(secret(what)) % (P256_ORDER - 1) + 1, ec.SECP256R1())


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def serial(what: str) -> int:
    """A certificate's serial number, by its name."""
    return int.from_bytes(secret(what)[:16]) >> 1


def authority(what: str = "authority", *, issuer: Authority | None = None, path_length: int | None = 0) -> Authority:
    """A CA by name, self-signed or below another."""
    key = p256(what)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Test {what}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(serial(what))
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return Authority(certificate=certificate, key=key)


def certificate(
    issuer: Authority,
    *uris: str,
    key,
    what: str = "",
    not_before: datetime = FROM,
    not_after: datetime = UNTIL,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.Certificate:
    """A leaf with these URIs as its names."""
    common = uris[0].removeprefix("urn:wasl:") if uris else "nobody"
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial(what or common))
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def validity_list(issuer: Authority, revoked: dict[x509.Certificate, datetime] | None = None, **extension) -> bytes:
    """The CA's CRL, DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(FROM)
        .next_update(UNTIL)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for found, when in (revoked or {}).items():
        entry = x509.RevokedCertificateBuilder().serial_number(found.serial_number).revocation_date(when)
        builder = builder.add_revoked_certificate(entry.build())
    if extension:
        builder = builder.add_extension(extension["critical"], critical=True)
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def der(found: x509.Certificate) -> bytes:
    """A certificate's DER."""
    return found.public_bytes(Encoding.DER)


def pem(found: x509.Certificate) -> bytes:
    """A certificate's PEM."""
    return found.public_bytes(Encoding.PEM)


LOG_SIGNER = FileSigner(NODE, ed25519("log key"))
COSIGNER = FileSigner(GATEWAY, ed25519("cosign key"))
AUTHORITY = authority()
LOG_CERTIFICATE = certificate(AUTHORITY, f"urn:wasl:node:{NODE}:log", key=ed25519("log key"))
COSIGN_CERTIFICATE = certificate(AUTHORITY, f"urn:wasl:gateway:{GATEWAY}:cosign", key=ed25519("cosign key"))
VALIDITY = validity_list(AUTHORITY)


# -- messages and logs -----------------------------------------------------------------------------------------------


def draft(n: int, *, body: bytes | None = None, stream: str = STREAM, **changes) -> Draft:
    """The n-th invented message."""
    if body is None:
        name = NAMES[n % len(NAMES)]
        body = f"MSH|^~\\&|HIS|RAWDAH|||202605281200||ADT^A01|C{n:05}|T|2.5\rPID|1||{n:09}^^^TEST||{name}\r".encode()
    made = Draft(
        stream=stream, common=COMMON, message_type="ADT^A01", received_us=NOW_S * 1_000_000 + n * 1000, clock_state=1,
        clock_error_us=5000, verdict=0, particulars=encode_particulars([(CONTROL_ID, f"C{n:05}"), (PEER, "192.0.2.7")]), body=body,
    )  # fmt: skip
    return made._replace(**changes)


def salt(n: int) -> bytes:
    """The n-th record's salt."""
    return secret(f"salt {n}")[:16]


def records(drafts: Sequence[Draft], first: int = 0) -> list[Record]:
    """Drafts as the records first, first+1, …"""
    salts = b"".join(salt(first + n) for n in range(len(drafts)))
    headers, leaves, _, _ = seal(0, b"", drafts, salts) if drafts else ([], b"", b"", b"")
    return [
        Record(
            seq=first + n, header=headers[n], leaf=leaves[32 * n : 32 * n + 32], state=BodyState.PRESENT,
            salt=salts[16 * n : 16 * n + 16], particulars=each.particulars, body=each.body,
        )
        for n, each in enumerate(drafts)
    ]  # fmt: skip


def without_body(record: Record, state: BodyState = BodyState.TRIMMED) -> Record:
    """The record as it is after trimming, erasure or damage."""
    header = b"" if state is BodyState.LEAF_ONLY else record.header
    return replace(record, state=state, header=header, salt=b"", particulars=b"", body=b"")


class MemoryRecords:
    """Records in a list, read as a context is made of them. `read` counts those whose bodies were."""

    def __init__(self, held: Sequence[Record]) -> None:
        self.held = list(held)
        self.read = 0

    def octets(self, first: int, count: int) -> list[tuple[int, int]]:
        return [
            (each.seq, len(each.particulars) + len(each.body))
            for each in self.held[first : first + count]
            if each.state is BodyState.PRESENT
        ]

    def kept(self, first: int, count: int) -> list[tuple[int, bytes, bytes, bytes]]:
        found = [
            (each.seq, each.header, each.particulars, each.body)
            for each in self.held[first : first + count]
            if each.state is BodyState.PRESENT
        ]
        self.read += len(found)
        return found


class MemoryLog:
    """Leaf hashes in a list, read as `sync.log` reads them. `reads` counts the leaves that were asked for."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self.hashes = list(leaves)
        self.reads = 0

    def leaves(self, first: int, count: int) -> bytes:
        found = self.hashes[first : first + count]
        self.reads += len(found)
        return b"".join(found)

    def tiles(self, first: int, count: int) -> bytes:
        full = len(self.hashes) // TILE_LEAVES
        spans = [n * TILE_LEAVES for n in range(first, min(first + count, full))]
        return b"".join(tile_root(b"".join(self.hashes[at : at + TILE_LEAVES])) for at in spans)


def frontier_of(made: Sequence[Record]) -> Frontier:
    """The frontier over these records as a whole log."""
    return Frontier(len(made), frontier_append(0, b"", b"".join(record.leaf for record in made)))


def checkpoint_note(made: Sequence[Record], *, origin: Origin = ORIGIN, signer: FileSigner = LOG_SIGNER) -> bytes:
    """The signed checkpoint of exactly these records."""
    frontier = frontier_of(made)
    return sign_checkpoint(Checkpoint(origin, frontier.size, frontier.root), signer)


def evidence(*, size: int = 3, seq: int = 1, body: bytes | None = None, time: int = NOW_S, **changes) -> Evidence:
    """Evidence of one record in a log of `size`; `changes` replace parts of it."""
    made = records([draft(n, body=body) for n in range(size)])
    record = made[seq]
    parts = Evidence(
        header=record.header, salt=record.salt, particulars=record.particulars, body=record.body, seq=seq,
        proof=tuple(inclusion_proof(MemoryLog([each.leaf for each in made]), seq, size)),
        note=cosign(checkpoint_note(made), time=time, signer=COSIGNER),
        log_certificate=der(LOG_CERTIFICATE), cosign_certificate=der(COSIGN_CERTIFICATE), chain=(), validity=VALIDITY,
        anchor=der(AUTHORITY.certificate),
    )  # fmt: skip
    return replace(parts, **changes)


def trimmed(found: Evidence) -> Evidence:
    """The same evidence after the body was erased."""
    return replace(found, salt=None, particulars=None, body=None)


def later(seconds: int) -> datetime:
    """A moment so many seconds after this realm's receipts."""
    return datetime.fromtimestamp(NOW_S, UTC) + timedelta(seconds=seconds)
