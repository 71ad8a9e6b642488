"""Signing keys and what verifies them: Ed25519, in the key forms of C2SP signed-note."""

import hashlib
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.errors import BadSignature

ED25519 = 0x01  # C2SP signed-note: signature over the note's text
COSIGNATURE_V1 = 0x04  # C2SP tlog-cosignature: Ed25519 over the text with a time
KEY_ID_BYTES = 4
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64


class Signer(Protocol):
    """Something that signs under a name: a file key, later a token. Raises nothing that is not fatal."""

    @property
    def name(self) -> str:
        """The key name that notes carry."""

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature over these bytes."""


class FileSigner:
    """An Ed25519 key held in memory."""

    __slots__ = ("_key", "name", "public")

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self.public = key.public_key().public_bytes_raw()
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature over these bytes."""
        return self._key.sign(data)


class Verifier:
    """A public key under a name."""

    __slots__ = ("_key", "name", "public")

    def __init__(self, name: str, public: bytes) -> None:
        self.name = name
        self.public = public
        self._key = Ed25519PublicKey.from_public_bytes(public)

    def verify(self, data: bytes, signature: bytes) -> None:
        """Raise BadSignature unless this key made the signature over these bytes."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature as error:
            raise BadSignature(f"signature of {self.name} does not verify") from error


@lru_cache(maxsize=1024)  # a gateway sees some hundred keys, each for every batch
def key_id(name: str, algorithm: int, public: bytes) -> bytes:
    """The four bytes that stand before a signature: SHA-256(name, newline, algorithm byte, key), cut (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:KEY_ID_BYTES]
