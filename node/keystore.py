"""The node's keys and certificates, read once at start and held against each other."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from node.clock import Clock
from node.config import Config, Keys
from node.errors import KeyMismatch, SealCertificateBad
from sync.certificates import check_chain, gateway_of, node_of, read, seal_key_of
from sync.errors import SyncError
from sync.keys import FileSigner

KEY_BYTES_MAX = 16 * 1024  # a PKCS#8 key is 120 bytes to 2 kB


@dataclass(frozen=True, slots=True)
class Keystore:
    """The log key with its certificate, the authority, and what TLS needs."""

    signer: FileSigner
    log_certificate: x509.Certificate
    link_certificate: x509.Certificate
    anchor: x509.Certificate
    files: Keys

    def log_certificate_pem(self) -> str:
        """The log certificate as it goes to the gateway."""
        return self.log_certificate.public_bytes(Encoding.PEM).decode()

    def tls(self) -> ssl.SSLContext:
        """TLS 1.3 as a client with the link certificate; only the authority's servers are believed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.files.ca)
        context.load_cert_chain(self.files.link_certificate, self.files.link_key)
        return context

    def days_left(self, now: datetime) -> dict[str, int]:
        """Whole days until each certificate ends, by name."""
        held = {"link": self.link_certificate, "log": self.log_certificate, "ca": self.anchor}
        return {
            name: (certificate.not_valid_after_utc - now.astimezone(UTC)).days for name, certificate in held.items()
        }


def load(config: Config) -> Keystore:
    """Read the key files. Raises KeyMismatch where a file is unreadable or they do not belong to each other and to this node."""
    files, name = config.keys, config.node.name
    try:
        log_certificate, link_certificate, anchor = (
            read(_bytes(path)) for path in (files.log_certificate, files.link_certificate, files.ca)
        )
        key = load_pem_private_key(_bytes(files.log_key), password=None)
        link_key = load_pem_private_key(_bytes(files.link_key), password=None)
        named = {node_of(log_certificate, "log"), node_of(link_certificate)}
    except (OSError, ValueError, TypeError, SyncError) as error:
        raise KeyMismatch(f"keys: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMismatch("the log key is not Ed25519")
    if named != {name}:
        raise KeyMismatch(f"the certificates name {', '.join(sorted(named))}, the configuration {name}")
    if key.public_key() != log_certificate.public_key() or link_key.public_key() != link_certificate.public_key():
        raise KeyMismatch("a key does not belong to its certificate")
    return Keystore(FileSigner(name, key), log_certificate, link_certificate, anchor, files)


def load_seal_key(config: Config, keystore: Keystore, clock: Clock) -> X25519PublicKey | None:
    """The configured gateway's key to which sticks are sealed; None where none is configured. Raises SealCertificateBad."""
    if config.gateway is None or config.gateway.seal_certificate is None:
        return None
    try:
        certificate = read(_bytes(config.gateway.seal_certificate))
        check_chain(certificate, (), keystore.anchor, at=clock.now_us() // 1_000_000)
        named, key = gateway_of(certificate, "seal"), seal_key_of(certificate)
    except (OSError, SyncError) as error:
        raise SealCertificateBad(f"seal certificate: {error}") from error
    if named != config.gateway.name:
        raise SealCertificateBad(f"the seal certificate is {named}'s, the configured gateway is {config.gateway.name}")
    return key


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(KEY_BYTES_MAX)
