"""Sealing: what lies on a stick, readable by the gateway alone that holds the key (docs/wire.md, section 7.5). Who wrote it, it does not say.

The file's own key is sealed by HPKE (RFC 9180, base mode); under that key go chunks, each with its number and whether it is the last in its
nonce (the STREAM construction, as in age), so nothing can be moved, left out or cut off unnoticed, and no more than a chunk is in memory.
"""

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from sync.errors import BadSeal, UnknownSealKey
from sync.names import Origin

MAGIC = b"wasl-seal/1\n"
FILE_KEY_BYTES = 32  # ChaCha20-Poly1305
SHARE_BYTES = 32  # the encapsulated X25519 share that HPKE puts first
TAG_BYTES = 16
HEAD_BYTES = len(MAGIC) + SHARE_BYTES + FILE_KEY_BYTES + TAG_BYTES
CHUNK_BYTES = 65_536  # as in age: 16 bytes of tag on it are nothing, and any gateway has it to spare
COUNTER_BYTES = 11  # chunk numbers: with the byte that marks the last one, a nonce of 12
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def seal_key_id(key: X25519PublicKey) -> str:
    """Which key a stick is sealed to: SHA-256 of its raw bytes, in hex."""
    return sha256(key.public_bytes_raw()).hexdigest()


def sealed_bytes(length: int) -> int:
    """How long so many bytes are when they are sealed."""
    return HEAD_BYTES + length + TAG_BYTES * max(1, -(-length // CHUNK_BYTES))


def place(origin: Origin, first: int, count: int) -> bytes:
    """Where on a stick the bytes belong: a file that was put in another's place does not open."""
    return f"{origin}\n{first}\n{count}\n".encode()


def seal(data: bytes, key: X25519PublicKey, where: bytes, file_key: bytes) -> Iterator[bytes]:
    """The sealed file, part by part. `where`: see `place`; `file_key`: fresh random bytes, used for this one alone."""
    if len(file_key) != FILE_KEY_BYTES:
        raise ValueError("a file key has 32 bytes")
    yield MAGIC + _SUITE.encrypt(file_key, key, info=MAGIC + where)
    cipher, view = ChaCha20Poly1305(file_key), memoryview(data)
    last = max(0, len(data) - 1) // CHUNK_BYTES
    for number in range(last + 1):
        chunk = view[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
        yield cipher.encrypt(_nonce(number, last=number == last), chunk, None)


def unseal(read: Callable[[int], bytes], keys: Mapping[str, X25519PrivateKey], key_id: str, where: bytes) -> Iterator[bytes]:  # fmt: skip
    """What was sealed, chunk by chunk; it is whole only when the iterator ends. Raises BadSeal, UnknownSealKey.

    `read(n)` gives the file's next n bytes, fewer only at its end; `key_id`: which of the gateway's keys it says it is sealed to.
    """
    if (key := keys.get(key_id)) is None:
        raise UnknownSealKey("it is sealed to a key that is not held here")
    cipher = ChaCha20Poly1305(_file_key(read(HEAD_BYTES), key, where))
    number, chunk = 0, read(CHUNK_BYTES + TAG_BYTES)
    while True:
        following = read(CHUNK_BYTES + TAG_BYTES)
        if number and len(chunk) <= TAG_BYTES:
            raise BadSeal("an empty chunk at the end")  # two ways to write the same would be one too many
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, None)
        except InvalidTag as error:
            raise BadSeal(f"chunk {number} was changed, moved or cut off") from error
        if not following:
            return
        number, chunk = number + 1, following


def _file_key(head: bytes, key: X25519PrivateKey, where: bytes) -> bytes:
    if len(head) != HEAD_BYTES or not head.startswith(MAGIC):
        raise BadSeal("not a sealed file")
    try:
        found = _SUITE.decrypt(head[len(MAGIC) :], key, info=MAGIC + where)
    except InvalidTag as error:
        raise BadSeal("it is not sealed to this key, or belongs elsewhere on the stick") from error
    if len(found) != FILE_KEY_BYTES:
        raise BadSeal("not a file key")
    return found


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(COUNTER_BYTES) + bytes([last])
