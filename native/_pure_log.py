"""The log's kernels in idiomatic Python: deterministic CBOR, commitments, the Merkle tree, and rows in one piece."""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, TypeAlias

Value: TypeAlias = int | bool | bytes | str | tuple["Value", ...] | None
"""What a header may hold: -2**63 <= int < 2**64, bool, None, bytes, str, and tuples of those."""

ARRAY_NESTING_MAX: Final = 4  # headers are flat; a bound keeps the compiled twin's stack bounded
TREE_SIZE_MAX: Final = 2**63 - 1  # as SQLite counts; also keeps the peaks below 64
SALT_BYTES: Final = 16
SHORT_MAP_PAIRS_MAX: Final = 23  # a CBOR map of so many has a head of one byte
HASH_BYTES: Final = 32

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)  # RFC 8949 3.1: major types
_SIMPLE: Final = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}


# CBOR, the deterministic subset that headers use


def _head(major: int, number: int) -> bytes:
    """RFC 8949 4.2.1: the shortest head that holds the number."""
    if number < 24:
        return bytes([major << 5 | number])
    for info, code in ((24, "B"), (25, "H"), (26, "I"), (27, "Q")):
        if number >> 8 * struct.calcsize(">" + code) == 0:
            return struct.pack(">B" + code, major << 5 | info, number)
    raise ValueError("number needs more than 64 bits")


def _encode(value: Value, nesting: int) -> bytes:
    """One value; `nesting`: arrays around it."""
    match value:
        case bool() | None:
            return _SIMPLE[value]
        case int() if value < -(2**63):
            raise ValueError("number below -2**63")
        case int():
            return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case tuple() if nesting == ARRAY_NESTING_MAX:
            raise ValueError("arrays nested too deep")
        case tuple():
            return _head(_ARRAY, len(value)) + b"".join(_encode(item, nesting + 1) for item in value)
    message = f"a header holds no {type(value).__name__}"
    raise TypeError(message)


def cbor_map(pairs: Sequence[tuple[int, Value]]) -> bytes:
    """Deterministic CBOR (RFC 8949 4.2.1) of a map from integers.

    ValueError: keys that are negative, not strictly ascending, or above 2**64-1; a number outside -2**63..2**64-1;
    nesting above 4; text with lone surrogates. TypeError: another type.
    """
    parts = [_head(_MAP, len(pairs))]
    before = -1
    for key, value in pairs:
        if not isinstance(key, int) or isinstance(key, bool):
            raise TypeError("a key is an integer")
        if key <= before:
            raise ValueError("keys are not negative and strictly ascending")
        parts += _head(_UNSIGNED, key), _encode(value, 0)
        before = key
    return b"".join(parts)


# The log: commitments and the Merkle tree of RFC 9162


def body_commitment(salt: bytes, particulars: bytes, body: bytes) -> bytes:
    """SHA-256 of salt, particulars as one CBOR byte string, body. ValueError: a salt that is not 16 bytes."""
    if len(salt) != SALT_BYTES:
        raise ValueError("a salt is 16 bytes")
    return sha256(salt + _head(_BYTES, len(particulars)) + particulars + body).digest()


def leaf_hashes(headers: Sequence[bytes]) -> bytes:
    """Hash each header as a leaf: 32 bytes each, joined."""
    # RFC 9162 2.1.1: the 0x00 keeps a node from passing as a leaf
    return b"".join(sha256(b"\x00" + header).digest() for header in headers)


def _split_peaks(size: int, peaks: bytes) -> list[bytes]:
    """List the peaks; ValueError where they cannot be those of a tree of this size."""
    if not 0 <= size <= TREE_SIZE_MAX:
        raise ValueError("a tree's size lies in 0..2**63-1")
    if len(peaks) != HASH_BYTES * size.bit_count():
        raise ValueError("a tree has one peak per bit set in its size")
    return [peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)]


def frontier_append(size: int, peaks: bytes, leaves: bytes) -> bytes:
    """Append leaf hashes to the peaks: the 32-byte roots of the full subtrees, largest (leftmost) first.

    ValueError: peaks that are not popcount(size) hashes, leaves that are not whole hashes, a size outside 0..2**63-1.
    """
    stack = _split_peaks(size, peaks)
    if len(leaves) % HASH_BYTES:
        raise ValueError("a leaf hash is 32 bytes")
    if size + len(leaves) // HASH_BYTES > TREE_SIZE_MAX:
        raise ValueError("a tree's size lies in 0..2**63-1")
    for at in range(0, len(leaves), HASH_BYTES):
        node, level = leaves[at : at + HASH_BYTES], size
        while level & 1:
            node = sha256(b"\x01" + stack.pop() + node).digest()
            level >>= 1
        stack.append(node)
        size += 1
    return b"".join(stack)


def frontier_root(size: int, peaks: bytes) -> bytes:
    """Fold the peaks right to left into the root, RFC 9162 2.1.1. ValueError as `frontier_append`."""
    stack = _split_peaks(size, peaks)
    if not stack:
        return sha256(b"").digest()
    root = stack.pop()
    while stack:
        root = sha256(b"\x01" + stack.pop() + root).digest()
    return root


def seal_group(
    size: int,
    peaks: bytes,
    starts: Sequence[bytes],
    keys: Sequence[int],
    columns: Sequence[Sequence[Value]],
    commitment_key: int,
    salts: bytes,
    particulars: Sequence[bytes],
    bodies: Sequence[bytes],
) -> tuple[list[bytes], bytes, bytes, bytes]:
    """Commit, encode, hash and append a group: (bytes of each header, leaves joined, new peaks, root).

    A header begins with the pairs of its encoded `start`, a map of at most 23, and goes on with what the columns hold for
    it under their keys; None leaves the pair out. That `keys` are above those of `start` is the caller's to see to. Each
    record's commitment joins them at `commitment_key`, in the order of keys.
    `salts`: 16 bytes for each record, joined. ValueError: lists of unequal length, a start that is no such map, and as
    the kernels it is made of.
    """
    count = len(starts)
    if {len(salts) // SALT_BYTES, len(particulars), len(bodies), *map(len, columns)} - {count} or len(
        salts
    ) % SALT_BYTES:
        raise ValueError("a group has one start, salt, particulars, body and value of each column per record")
    if len(keys) != len(columns):
        raise ValueError("each column has a key")
    place = bisect_left(keys, commitment_key)
    cbor_map(
        [(key, None) for key in (*keys[:place], commitment_key, *keys[place:])]
    )  # refuses what is no ascending key
    encoded: list[bytes] = []
    for at, start in enumerate(starts):
        if not start or start[0] >> 5 != _MAP or start[0] & 31 > SHORT_MAP_PAIRS_MAX:
            raise ValueError("a header begins with a short map")
        salt = salts[SALT_BYTES * at : SALT_BYTES * (at + 1)]
        values = [(key, column[at]) for key, column in zip(keys, columns, strict=True)]
        values.insert(place, (commitment_key, body_commitment(salt, particulars[at], bodies[at])))
        pairs = [(key, value) for key, value in values if value is not None]
        head = _head(_MAP, len(pairs))
        encoded.append(_head(_MAP, len(pairs) + (start[0] & 31)) + start[1:] + cbor_map(pairs)[len(head) :])
    leaves = leaf_hashes(encoded)
    peaks = frontier_append(size, peaks, leaves)
    return encoded, leaves, peaks, frontier_root(size + count, peaks)


# Rows in one piece


def pack_rows(columns: Sequence[Sequence[bytes]], bits: Sequence[int]) -> tuple[bytes, bytes] | None:
    """Join the cells of all rows, row after row, and say where each lies: (joined, one native int64 for each row).

    A row's number is the offset of its first cell and the length of each cell, packed from the top down: the length of
    the n-th column takes `bits[n]` bits, the offset what is left of 63. None where a number does not fit.
    ValueError: columns of unequal length, none, another number of `bits`, or more than 62 of them together.
    """
    counts = {len(column) for column in columns}
    if len(counts) != 1 or len(bits) != len(columns) or min(bits) < 1 or sum(bits) > 62:
        raise ValueError("columns of one length have 62 bits among them")
    joined, numbers = b"", array("q")
    for row in zip(*columns, strict=True):
        number = len(joined)
        if number >> (63 - sum(bits)) or any(len(cell) >> width for cell, width in zip(row, bits, strict=True)):
            return None
        for cell, width in zip(row, bits, strict=True):
            number = number << width | len(cell)
        numbers.append(number)
        joined += b"".join(row)
    return joined, numbers.tobytes()
