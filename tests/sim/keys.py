"""Keys and certificates of a simulated realm: real ones, or a keyed hash in their place that is a hundred times as fast."""

from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple

from sync.errors import BadCertificate, BadSignature
from sync.keys import SIGNATURE_BYTES, FileSigner
from tests import sim_realm

NEVER = datetime(9999, 1, 1, tzinfo=UTC)


class HashSigner:
    """Satisfies Signer. Whoever knows `public` can sign: here nobody forges."""

    __slots__ = ("name", "public")

    def __init__(self, name: str, public: bytes) -> None:
        self.name, self.public = name, public

    def sign(self, data: bytes) -> bytes:
        return blake2b(data, key=self.public, digest_size=SIGNATURE_BYTES).digest()


class HashVerifier:
    """Stands where the product makes a Verifier."""

    __slots__ = ("name", "public")

    def __init__(self, name: str, public: bytes) -> None:
        self.name, self.public = name, public

    def verify(self, data: bytes, signature: bytes) -> None:
        if blake2b(data, key=self.public, digest_size=SIGNATURE_BYTES).digest() != signature:
            raise BadSignature(f"signature of {self.name} does not verify")


class HashCertificate(NamedTuple):
    """Says whose key this is; nobody signed it."""

    urn: str
    public: bytes
    serial: int
    since: int = 0  # POSIX seconds; it never ends

    @property
    def not_valid_after_utc(self) -> datetime:
        """As a real one says it."""
        return NEVER


def read(data: bytes) -> HashCertificate:
    mark, urn, public, serial, since = (*data.decode().split(), "", "", "", "", "")[:5]
    if mark != "simulated":
        raise BadCertificate("not a certificate")
    return HashCertificate(urn, bytes.fromhex(public), int(serial), int(since or 0))


def der(found: HashCertificate) -> bytes:
    since = f" {found.since}" if found.since else ""
    return f"simulated {found.urn} {found.public.hex()} {found.serial}{since}".encode()


def check_chain(leaf: Any, _chain: Any, _anchor: Any, *, at: int) -> None:
    """Every certificate of this realm is good from its day on."""
    if at < leaf.since:
        raise BadCertificate("not valid yet")


def node_of(found: HashCertificate, role: str = "") -> str:
    return found.urn.removeprefix("urn:wasl:node:").removesuffix(f":{role}")


def gateway_of(found: HashCertificate, role: str = "") -> str:
    return found.urn.removeprefix("urn:wasl:gateway:").removesuffix(f":{role}")


def verifier_of(found: HashCertificate, name: str) -> HashVerifier:
    return HashVerifier(name, found.public)


class Identity(NamedTuple):
    """A signer and the certificate that says so, PEM and DER, and the POSIX second since when it is good."""

    signer: Any
    pem: str
    der: bytes
    since: int = 0

    def public_bytes(self, _encoding: object) -> bytes:
        """As a parsed certificate gives its DER."""
        return self.der


@cache
def identity(urn: str, key: str, serial: int, *, real: bool, since: int = 0) -> Identity:
    """The identity `urn` under the key of that name; `serial` counts its renewals, `since` is when its certificate begins (0: long ago)."""
    name = urn.split(":")[3]
    if real:
        private = sim_realm.ed25519(key)
        begins = datetime.fromtimestamp(since, UTC) if since else sim_realm.FROM
        made = sim_realm.certificate(
            sim_realm.AUTHORITY,
            urn,
            key=private,
            what=f"{urn} {key} {serial} {since or ''}".rstrip(),
            not_before=begins,
        )
        return Identity(FileSigner(name, private), sim_realm.pem(made).decode(), sim_realm.der(made), since)
    public = sim_realm.secret(key)
    data = der(HashCertificate(urn, public, serial, since))
    return Identity(HashSigner(name, public), data.decode(), data, since)
