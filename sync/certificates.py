"""Certificates of log and cosigning keys: whose key is this, and does an authority we trust say so (RFC 5280, cut to what we issue)."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID

from sync.errors import BadCertificate
from sync.keys import Verifier
from sync.names import NAME

CERTIFICATE_BYTES_MAX = 16 * 1024  # ours are 0.6 kB; a limit for what a stranger sends
CHAIN_MAX = 4  # leaf, two intermediates, root

# every way in which cryptography says that a stranger's certificate is odd; most of them only when a part is looked at
_ODD = (
    ValueError, TypeError, OverflowError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension,
    x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, CryptographyDeprecationWarning,
)  # fmt: skip
# RFC 5280 4.2: a critical extension that a verifier does not process makes the certificate invalid
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


def read(data: bytes) -> x509.Certificate:
    """Read one certificate, PEM or DER. Raises BadCertificate."""
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise BadCertificate("certificate too long")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except _ODD as error:
        raise BadCertificate("not a certificate") from error
    # RFC 5280 4.1.2.2. The library only warns yet (and where warnings are errors, raises)
    if found.serial_number <= 0:
        raise BadCertificate("a serial number is positive")
    return found


def read_der(data: bytes) -> x509.Certificate:
    """Read one certificate, DER only: in PEM, line breaks and text around it could be changed unnoticed. Raises BadCertificate."""
    certificate = read(data)
    if der(certificate) != data or not _ends_whole(data, certificate.signature):
        raise BadCertificate("not a certificate in DER")
    return certificate


def der(certificate: x509.Certificate) -> bytes:
    """The certificate's DER bytes."""
    return certificate.public_bytes(Encoding.DER)


def node_of(certificate: x509.Certificate, role: str = "") -> str:
    """The node that a link certificate (role "") or log certificate (role "log") names. Raises BadCertificate."""
    return _named(certificate, "urn:wasl:node:", role)


def gateway_of(certificate: x509.Certificate, role: str = "") -> str:
    """The gateway that a server certificate (role ""), cosigning ("cosign") or seal certificate ("seal") names. Raises BadCertificate."""
    return _named(certificate, "urn:wasl:gateway:", role)


def operator_of(certificate: x509.Certificate) -> str:
    """The operator of the centre whom it names. Raises BadCertificate."""
    return _named(certificate, "urn:wasl:operator:", "")


def verifier_of(certificate: x509.Certificate, name: str) -> Verifier:
    """The certificate's Ed25519 key under this name. Raises BadCertificate for another kind of key."""
    try:
        key = certificate.public_key()
    except _ODD as error:
        raise BadCertificate("unreadable key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadCertificate("not an Ed25519 key")
    return Verifier(name, key.public_bytes_raw())


def seal_key_of(certificate: x509.Certificate) -> X25519PublicKey:
    """The certificate's X25519 key, to which sticks are sealed. Raises BadCertificate for another kind of key."""
    try:
        key = certificate.public_key()
    except _ODD as error:
        raise BadCertificate("unreadable key") from error
    if not isinstance(key, X25519PublicKey):
        raise BadCertificate("not an X25519 key")
    return key


def check_chain(
    leaf: x509.Certificate, chain: Sequence[x509.Certificate], anchor: x509.Certificate, *, at: int
) -> None:
    """Raise BadCertificate unless leaf, then chain in order, leads to the anchor, each valid at `at` (POSIX seconds, UTC).

    `chain` holds the certificates between leaf and anchor, without the anchor.
    """
    if len(chain) + 2 > CHAIN_MAX:
        raise BadCertificate("chain too long")
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadCertificate("no certificate is valid at that time") from error
    below = leaf
    for depth, issuer in enumerate((*chain, anchor)):
        _check_valid(below, when)
        _check_authority(issuer, depth)
        try:
            below.verify_directly_issued_by(issuer)
        except _ODD as error:
            raise BadCertificate("a certificate was not issued by the next of its chain") from error
        below = issuer
    _check_valid(anchor, when)


def is_revoked(leaf: x509.Certificate, validity: x509.CertificateRevocationList) -> bool:
    """Whether the validity list names this certificate."""
    return validity.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None


def read_validity(data: bytes, anchor: x509.Certificate) -> x509.CertificateRevocationList:
    """Read the validity list (an X.509 CRL, DER) that this authority signed. Raises BadCertificate."""
    try:
        validity = x509.load_der_x509_crl(data)
        signed = validity.is_signature_valid(anchor.public_key())  # type: ignore[arg-type]  # any key type: a wrong one raises
        # RFC 5280 5.2: delta and partial lists say so in a critical extension; what they leave out is not unrevoked
        partial = any(extension.critical for extension in validity.extensions)
    except _ODD as error:
        raise BadCertificate("not a validity list") from error
    if not signed or validity.issuer != anchor.subject or not _ends_whole(data, validity.signature):
        raise BadCertificate("the validity list is not signed by the authority")
    if partial:
        raise BadCertificate("the validity list is not a complete one")
    return validity


def _check_valid(certificate: x509.Certificate, when: datetime) -> None:
    try:
        valid = certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc
        unknown = [found.oid for found in certificate.extensions if found.critical and found.oid not in _PROCESSED]
    except _ODD as error:
        raise BadCertificate("a certificate cannot be read") from error
    if not valid:
        raise BadCertificate("a certificate was not valid at that time")
    if unknown:
        raise BadCertificate("a certificate has a critical extension that nobody here knows")


def _check_authority(certificate: x509.Certificate, depth: int) -> None:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except _ODD as error:
        raise BadCertificate("an issuer is not an authority") from error
    if not basic.ca or not usage.key_cert_sign or (basic.path_length is not None and basic.path_length < depth):
        raise BadCertificate("an issuer may not issue")


def _ends_whole(data: bytes, signature: bytes) -> bool:
    """Whether the signature at the end has no unused bits. They lie outside of what is signed, and parsers let zeros pass."""
    return data.endswith(b"\0" + signature)


def _named(certificate: x509.Certificate, prefix: str, role: str) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except _ODD as error:
        raise BadCertificate("the certificate names nobody") from error
    found = [_bare(uri, prefix, role) for uri in uris if uri.startswith(prefix)]
    if len(found) != 1 or not found[0]:
        raise BadCertificate(f"the certificate does not name one {prefix}…{':' + role if role else ''}")
    return found[0]


def _bare(uri: str, prefix: str, role: str) -> str:
    name, _, found = uri.removeprefix(prefix).partition(":")
    return name if found == role and NAME.fullmatch(name) else ""
