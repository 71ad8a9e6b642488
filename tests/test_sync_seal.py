"""Sealing: the library's HPKE against RFC 9180, our files against a reader written from the RFC, and everything that an open stick could have suffered."""

import hmac
from hashlib import sha256
from io import BytesIO

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import BadSeal, UnknownSealKey
from sync.names import Origin
from sync.seal import CHUNK_BYTES, HEAD_BYTES, MAGIC, TAG_BYTES, place, seal, seal_key_id, sealed_bytes, unseal
from tests.sim_realm import secret

KEY = X25519PrivateKey.from_private_bytes(secret("seal key"))
OTHER = X25519PrivateKey.from_private_bytes(secret("another seal key"))
KEY_ID = seal_key_id(KEY.public_key())
HERE = place(Origin("clinic-7", "his", 2, "0badcafe"), 40, 12)
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7)


def sealed(data: bytes, *, where: bytes = HERE, key: X25519PrivateKey = KEY) -> bytes:
    return b"".join(seal(data, key.public_key(), where, secret("file key")))


def opened(data: bytes, *, where: bytes = HERE, keys=None, key_id: str = KEY_ID) -> bytes:
    return b"".join(unseal(BytesIO(data).read, keys or {KEY_ID: KEY}, key_id, where))


def plain(size: int) -> bytes:
    return bytes(n * 7 % 251 for n in range(size))


# --- the library is RFC 9180's


RFC_9180_A_2_1 = {  # DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode, sequence number 0
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    "skRm": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    "aad": "436f756e742d30",
    "pt": "4265617574792069732074727574682c20747275746820626561757479",
    "ct": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
}


def test_library_opens_what_rfc_9180_publishes():
    found = {name: bytes.fromhex(value) for name, value in RFC_9180_A_2_1.items()}
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    key = X25519PrivateKey.from_private_bytes(found["skRm"])
    # the public call has no associated data, the published vectors have: so the one beneath it
    assert openssl.hpke._decrypt_with_aad(suite, found["enc"] + found["ct"], key, found["info"], found["aad"]) == found["pt"]  # fmt: skip
    assert hpke_open(key, found["enc"], found["ct"], found["info"], found["aad"]) == found["pt"]


def hkdf_extract(salt: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), key, "sha256")


def hkdf_expand(key: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")[:size]  # up to 32 bytes: one block


def hpke_open(key: X25519PrivateKey, enc: bytes, ct: bytes, info: bytes, aad: bytes) -> bytes:
    """RFC 9180, sections 4.1 and 5.1, base mode, first message, from hash and cipher alone."""

    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)

    def expand(suite: bytes, prk: bytes, label: bytes, more: bytes, size: int) -> bytes:
        return hkdf_expand(prk, size.to_bytes(2) + b"HPKE-v1" + suite + label + more, size)

    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + key.public_key().public_bytes_raw()
    shared = expand(kem, extract(kem, b"", b"eae_prk", dh), b"shared_secret", context, 32)
    schedule = b"\x00" + extract(hpke, b"", b"psk_id_hash", b"") + extract(hpke, b"", b"info_hash", info)
    secret_ = extract(hpke, shared, b"secret", b"")
    cipher = ChaCha20Poly1305(expand(hpke, secret_, b"key", schedule, 32))
    return cipher.decrypt(expand(hpke, secret_, b"base_nonce", schedule, 12), ct, aad)


@pytest.mark.parametrize("size", SIZES)
def test_reader_written_from_the_rfc_and_the_format_page_opens_a_sealed_file(size):
    data = sealed(plain(size))
    assert data.startswith(b"wasl-seal/1\n")
    file_key = hpke_open(KEY, data[12:44], data[44:92], b"wasl-seal/1\n" + HERE, b"")
    chunks = [data[at : at + 65552] for at in range(92, len(data), 65552)]
    nonces = [n.to_bytes(11) + (b"\x01" if n == len(chunks) - 1 else b"\x00") for n in range(len(chunks))]
    cipher = ChaCha20Poly1305(file_key)
    assert b"".join(cipher.decrypt(*each, None) for each in zip(nonces, chunks, strict=True)) == plain(size)


# --- our own


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens_to_the_byte_and_is_as_long_as_foretold(size):
    data = sealed(plain(size))
    assert len(data) == sealed_bytes(size)
    assert opened(data) == plain(size)


def test_two_seals_of_the_same_bytes_have_nothing_in_common_but_their_name():
    one, other = (b"".join(seal(plain(200), KEY.public_key(), HERE, secret(name))) for name in ("one", "other"))
    assert one[: len(MAGIC)] == other[: len(MAGIC)]
    assert not {one[at : at + 8] for at in range(12, len(one) - 8)} & {other[at : at + 8] for at in range(12, len(other) - 8)}  # fmt: skip


def test_sealing_holds_one_chunk_at_a_time():
    parts = list(seal(plain(3 * CHUNK_BYTES), KEY.public_key(), HERE, secret("file key")))
    assert max(map(len, parts)) == CHUNK_BYTES + TAG_BYTES
    asked = []
    file = BytesIO(b"".join(parts))
    assert max(len(each) for each in unseal(lambda n: asked.append(n) or file.read(n), {KEY_ID: KEY}, KEY_ID, HERE)) == CHUNK_BYTES  # fmt: skip
    assert max(asked) == CHUNK_BYTES + TAG_BYTES


def refused(data: bytes, **options) -> None:
    with pytest.raises(BadSeal):
        opened(data, **options)


def test_wrong_key_opens_nothing():
    refused(sealed(b"x", key=OTHER))
    with pytest.raises(UnknownSealKey):
        opened(sealed(b"x", key=OTHER), key_id=seal_key_id(OTHER.public_key()))
    assert opened(sealed(b"x", key=OTHER), keys={KEY_ID: KEY, "b": OTHER}, key_id="b") == b"x"


@pytest.mark.parametrize(
    "where",
    [
        place(Origin("clinic-8", "his", 2, "0badcafe"), 40, 12), place(Origin("clinic-7", "lab", 2, "0badcafe"), 40, 12),
        place(Origin("clinic-7", "his", 3, "0badcafe"), 40, 12), place(Origin("clinic-7", "his", 2, "0badcaff"), 40, 12),
        place(Origin("clinic-7", "his", 2, "0badcafe"), 41, 12), place(Origin("clinic-7", "his", 2, "0badcafe"), 40, 13),
    ],
)  # fmt: skip
def test_file_in_another_place_does_not_open(where):
    refused(sealed(b"x"), where=where)


def chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK_BYTES + TAG_BYTES] for at in range(HEAD_BYTES, len(data), CHUNK_BYTES + TAG_BYTES)]


def test_reordered_doubled_missing_and_foreign_chunks_are_noticed():
    data = sealed(plain(4 * CHUNK_BYTES))
    head, (a, b, c, d) = data[:HEAD_BYTES], chunks(data)
    stranger = chunks(b"".join(seal(plain(4 * CHUNK_BYTES), KEY.public_key(), HERE, secret("another file"))))
    assert opened(head + a + b + c + d) == plain(4 * CHUNK_BYTES)
    for wrong in (
        [b, a, c, d],
        [a, b, b, c, d],
        [a, c, d],
        [a, b, c],
        [a, b, d],
        [d],
        [],
        [a, stranger[1], c, d],
        [a, b, c, d, d],
    ):
        refused(head + b"".join(wrong))
    refused(b"".join(seal(b"other", KEY.public_key(), HERE, secret("another file")))[:HEAD_BYTES] + a + b + c + d)


def test_empty_chunk_after_a_full_one_is_no_second_way_to_write_the_same():
    cipher = ChaCha20Poly1305(secret("file key"))
    full = cipher.encrypt(bytes(12), plain(CHUNK_BYTES), None)
    empty = cipher.encrypt((1).to_bytes(11) + b"\x01", b"", None)
    refused(sealed(b"")[:HEAD_BYTES] + full + empty)


@pytest.mark.parametrize("size", [0, 100, CHUNK_BYTES + 50])
def test_file_cut_anywhere_is_refused(size):
    data = sealed(plain(size))
    for length in {
        *range(HEAD_BYTES + TAG_BYTES + 40),
        *range(0, len(data), 997),
        HEAD_BYTES + CHUNK_BYTES + TAG_BYTES,
        len(data) - 1,
    }:
        if length < len(data):
            refused(data[:length])
    refused(data + b"\0")


@given(st.data())
def test_any_flipped_bit_is_refused(data):
    whole = bytearray(sealed(plain(CHUNK_BYTES + 30)))
    # the top bit of an X25519 share is masked (RFC 7748, section 5); HPKE binds the bytes as they stand, so even that one counts
    at = data.draw(st.one_of(st.integers(0, len(whole) * 8 - 1), st.integers(0, HEAD_BYTES * 8 - 1)))
    whole[at // 8] ^= 1 << at % 8
    refused(bytes(whole))


def test_share_of_low_order_is_refused_and_not_a_crash():
    refused(MAGIC + bytes(80) + sealed(b"x")[HEAD_BYTES:])


def test_key_id_is_the_hash_of_the_raw_key():
    assert sha256(KEY.public_key().public_bytes_raw()).hexdigest() == KEY_ID
