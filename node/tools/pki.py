"""The PKI tool: an authority, and the certificates of nodes and gateways, as PEM files that a person can carry.

DESIGN section 5 names the keys: a node has a link key (TLS client) and a log key (signs checkpoints), a gateway a
server key (TLS), a cosigning key (receipts) and a seal key (sticks are sealed to it). One person runs it at a time; it never touches a running node.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.tools.pki_files import write_private, write_public

CA_CERTIFICATE, CA_KEY, VALIDITY_LIST = "ca.pem", "ca.key", "crl.der"
LINK, LOG, SERVER, COSIGN, SEAL, OPERATOR = (
    "link",
    "log",
    "server",
    "cosign",
    "seal",
    "operator",
)  # <name>.pem and <name>.key

CA_DAYS = 20 * 365  # evidence must verify for years after the record; longer than any node stands in a clinic
LEAF_DAYS = 2 * 365  # a node is visited or renewed within that time; a lost key ends by itself
# A node without RTC starts at its last shutdown's time until NTP answers: a certificate made today must not be
# "not yet valid" to it.
BACKDATE = timedelta(days=1)
# The list is good as long as the CA. OpenSSL refuses every good node once a list's next update has passed, so a CA
# that nobody attends to would stop all traffic. A revocation reaches a gateway by the new file, not by this date.
VALIDITY_LIST_DAYS = CA_DAYS
NAME_CHARS_MAX = 56  # X.509 allows 64 in a common name; " cosign" is added to it

# The name stands in URNs, in checkpoint origins (node/stream/epoch) and as key name of signed notes, which allow
# neither blanks nor plus signs. One case only, so that two nodes cannot differ in it.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

LeafKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA that can sign: certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One certificate to issue. usage None: a key that signs notes only, of no use to TLS."""

    file: str
    common_name: str
    key: LeafKey
    names: tuple[x509.GeneralName, ...]
    usage: x509.ObjectIdentifier | None


def make_authority(folder: Path, name: str, *, now: datetime | None = None) -> None:
    """Make a CA in `folder`: ca.pem, ca.key and an empty crl.der. FileExistsError: there is one already."""
    now = now or datetime.now(UTC)
    _refuse_existing(folder / CA_CERTIFICATE)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        # Path length 0: it issues leaves only, so a stolen leaf cannot found a CA below it.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(certificate=certificate, key=key)
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / CA_KEY, _key_pem(key))
    write_public(folder / VALIDITY_LIST, _validity_list(authority, (), number=1, now=now))
    # Last, so that its presence says the CA is whole; a crash before leaves files that the next attempt replaces.
    write_public(folder / CA_CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM))


def issue_node(dir_ca: Path, out_dir: Path, name: str, *, now: datetime | None = None) -> None:
    """Make a node's two keys and certificates in `out_dir`: link and log. FileExistsError: it has them already."""
    urn = f"urn:wasl:node:{_checked(name)}"
    link = Leaf(
        file=LINK,
        common_name=name,
        key=ec.generate_private_key(ec.SECP256R1()),
        names=(x509.UniformResourceIdentifier(urn),),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    _issue(dir_ca, out_dir, (link, _log_leaf(name)), now=now or datetime.now(UTC))


def issue_log_key(dir_ca: Path, out_dir: Path, name: str, *, now: datetime | None = None) -> None:
    """Make a further log key for a node, with its certificate, in `out_dir`: never where the present one is. FileExistsError: there is one."""
    _issue(dir_ca, out_dir, (_log_leaf(_checked(name)),), now=now or datetime.now(UTC))


def issue_gateway(dir_ca: Path, out_dir: Path, name: str, hosts: Sequence[str], *, now: datetime | None = None) -> None:
    """Make a gateway's keys and certificates in `out_dir`: server, for all `hosts` (DNS names, IPs), seal and cosign.

    FileExistsError: it has them already. ValueError: no host, or a bad name.
    """
    if not hosts:
        raise ValueError("a gateway needs at least one host name or address that nodes will call")
    urn = f"urn:wasl:gateway:{_checked(name)}"
    server = Leaf(
        file=SERVER,
        common_name=name,
        key=ec.generate_private_key(ec.SECP256R1()),
        names=(*map(_host, hosts), x509.UniformResourceIdentifier(urn)),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
    )
    cosign = Leaf(
        file=COSIGN,
        common_name=f"{name} cosign",
        key=ed25519.Ed25519PrivateKey.generate(),
        names=(x509.UniformResourceIdentifier(f"{urn}:cosign"),),
        usage=None,
    )
    _issue(dir_ca, out_dir, (server, _seal_leaf(name), cosign), now=now or datetime.now(UTC))


def issue_seal(dir_ca: Path, out_dir: Path, name: str, *, now: datetime | None = None) -> None:
    """Make a further seal key and certificate of a gateway in `out_dir`. FileExistsError: there is one already."""
    _issue(dir_ca, out_dir, (_seal_leaf(name),), now=now or datetime.now(UTC))


def _seal_leaf(name: str) -> Leaf:
    return Leaf(
        file=SEAL, common_name=f"{name} seal", key=x25519.X25519PrivateKey.generate(),
        names=(x509.UniformResourceIdentifier(f"urn:wasl:gateway:{_checked(name)}:seal"),), usage=None,
    )  # fmt: skip


def issue_operator(dir_ca: Path, out_dir: Path, name: str, *, now: datetime | None = None) -> None:
    """Make the key and certificate with which a person at the centre signs releases. FileExistsError: there are some already."""
    operator = Leaf(
        file=OPERATOR, common_name=f"{name} operator", key=ed25519.Ed25519PrivateKey.generate(),
        names=(x509.UniformResourceIdentifier(f"urn:wasl:operator:{_checked(name)}"),), usage=None,
    )  # fmt: skip
    _issue(dir_ca, out_dir, (operator,), now=now or datetime.now(UTC))


def revoke(dir_ca: Path, certificate_pem: bytes, *, now: datetime | None = None) -> None:
    """Put one certificate on the validity list and rewrite crl.der; again is harmless. ValueError: not of this CA."""
    now = now or datetime.now(UTC)
    authority = _authority(dir_ca)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ValueError("this certificate was not issued by this CA") from error
    current = x509.load_der_x509_crl((dir_ca / VALIDITY_LIST).read_bytes())
    if current.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        return
    entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
    number = current.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    write_public(dir_ca / VALIDITY_LIST, _validity_list(authority, (*current, entry), number=number, now=now))


def _log_leaf(name: str) -> Leaf:
    return Leaf(
        file=LOG, common_name=f"{name} log", key=ed25519.Ed25519PrivateKey.generate(),
        names=(x509.UniformResourceIdentifier(f"urn:wasl:node:{name}:log"),), usage=None,
    )  # fmt: skip


def _issue(dir_ca: Path, out_dir: Path, leaves: Sequence[Leaf], *, now: datetime) -> None:
    _refuse_existing(out_dir / f"{leaves[-1].file}.pem")
    authority = _authority(dir_ca)
    certificates = [_certificate(authority, leaf, now=now) for leaf in leaves]
    out_dir.mkdir(parents=True, exist_ok=True)
    for leaf in leaves:
        write_private(out_dir / f"{leaf.file}.key", _key_pem(leaf.key))
    # Certificates last: the last of them says that all is whole; a crash before leaves what the next attempt replaces.
    for leaf, certificate in zip(leaves, certificates, strict=True):
        write_public(out_dir / f"{leaf.file}.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(authority: Authority, leaf: Leaf, *, now: datetime) -> x509.Certificate:
    public_key = leaf.key.public_key()
    issuer_id = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + timedelta(days=LEAF_DAYS), authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False, agrees=leaf.file == SEAL), critical=True)
        .add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    if leaf.usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _validity_list(
    authority: Authority, entries: Sequence[x509.RevokedCertificate], *, number: int, now: datetime
) -> bytes:
    issuer_id = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - BACKDATE)
        .next_update(now + timedelta(days=VALIDITY_LIST_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _authority(dir_ca: Path) -> Authority:
    """Read the CA. FileNotFoundError: there is none; ValueError: not a CA of ours."""
    certificate = x509.load_pem_x509_certificate((dir_ca / CA_CERTIFICATE).read_bytes())
    key = serialization.load_pem_private_key((dir_ca / CA_KEY).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"{CA_KEY} is not the key of {CA_CERTIFICATE}")
    return Authority(certificate=certificate, key=key)


def _key_usage(*, authority: bool, agrees: bool = False) -> x509.KeyUsage:
    # RFC 8410 5: an X25519 key agrees on keys and signs nothing
    return x509.KeyUsage(
        digital_signature=not (authority or agrees),
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=agrees,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: LeafKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _checked(name: str) -> str:
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a name has up to {NAME_CHARS_MAX} of a-z, 0-9 and dash")
    return name


def _refuse_existing(path: Path) -> None:
    if path.exists():  # a key that signed something must never be replaced by accident
        raise FileExistsError(f"{path} exists already; move it away first")
