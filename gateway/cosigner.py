"""The receipt key and its certificate: read once, and refused where they do not belong together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.errors import BadSetup
from sync.certificates import check_chain, der, gateway_of, read, verifier_of
from sync.errors import BadCertificate
from sync.keys import FileSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigner:
    """What makes receipts: the signer under the gateway's name, and its certificate in both forms."""

    signer: FileSigner
    der: bytes
    pem: str


def load_cosigner(
    name: str, key: Path, certificate: Path, anchor: x509.Certificate, now: Callable[[], int]
) -> Cosigner:
    """Read key and certificate (PEM). Raises BadSetup unless both belong to the gateway of this name, certified by the anchor."""
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
        found = read(certificate.read_bytes())
        named, public = gateway_of(found, "cosign"), verifier_of(found, name).public
        check_chain(found, (), anchor, at=now())
    except (OSError, ValueError, TypeError, BadCertificate) as error:
        raise BadSetup(f"cosigning key or certificate: {error}") from error
    if named != name:
        raise BadSetup(f"the cosigning certificate is for {named}, this gateway is {name}")
    if not isinstance(private, Ed25519PrivateKey) or private.public_key().public_bytes_raw() != public:
        raise BadSetup(f"{key} is not the key of {certificate}")
    return Cosigner(signer=FileSigner(name, private), der=der(found), pem=found.public_bytes(Encoding.PEM).decode())
