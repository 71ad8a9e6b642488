"""The kernels in idiomatic Python: their specification. `_kernels.pyx` must agree with this file on every input."""

import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from typing import Final, TypeAlias

Path: TypeAlias = tuple[bytes, int, int, int, int, int]
"""(segment's name, occurrence, field, repetition, component, subcomponent), see `er7_read`."""

Value: TypeAlias = int | bool | bytes | str | tuple["Value", ...] | None
"""What a header may hold: -2**63 <= int < 2**64, bool, None, bytes, str, and tuples of those."""

NOISE: Final = 0  # bytes outside frames
FRAME: Final = 1  # a payload, ended by FS CR
BARE: Final = 2  # a payload, ended by a FS that a VT follows directly: the sender forgot the CR
CUT: Final = 3  # a payload without an end block: a VT and a message's first bytes stand inside it

MESSAGE_BYTES_MAX: Final = 2**30 - 1  # a mark is a position of 30 bits under 2 bits of level
ARRAY_NESTING_MAX: Final = 4  # headers are flat; a bound keeps the compiled twin's stack bounded
TREE_SIZE_MAX: Final = 2**63 - 1  # as SQLite counts; also keeps the peaks below 64
SALT_BYTES: Final = 16
SHORT_MAP_PAIRS_MAX: Final = 23  # a CBOR map of so many has a head of one byte
HASH_BYTES: Final = 32

_FIELD, _REPETITION, _COMPONENT, _SUBCOMPONENT = range(4)  # levels of marks, widest first
_LEVEL_SHIFT: Final = 30
_VT, _FS, _CR = 0x0B, 0x1C, 0x0D
_FENCE: Final = re.compile(rb"[\x0b\x1c]")
_ENDS: Final = re.compile(rb"[\n\x0b\x1c]")
_CONTENT, _UNDECIDED = -1, -2  # beside the kinds of events
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)  # RFC 8949 3.1: major types
_SIMPLE: Final = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}


# ER7, the HL7 v2 encoding by separators


@lru_cache(maxsize=64)  # a site speaks a handful of separator sets
def _levels(separators: bytes) -> tuple[re.Pattern[bytes], dict[int, int]]:
    """Pattern that finds any separator, and each one's level; a byte that is named twice has its first meaning."""
    field, component, repetition, subcomponent = separators
    levels = {subcomponent: _SUBCOMPONENT, repetition: _REPETITION, component: _COMPONENT, field: _FIELD}
    return re.compile(b"[" + re.escape(separators) + b"]"), levels


def _segments(message: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each segment, terminators excluded, blank lines skipped."""
    terminator = b"\r" if b"\r" in message else b"\n"
    start = 0
    while start < len(message):
        end = message.find(terminator, start)
        end = len(message) if end < 0 else end
        if start < end:
            yield start, end
        start = end + 1
        while message.startswith(b"\n", start):  # CR LF: the LF is not part of the next segment
            start += 1


def er7_index(message: bytes, separators: bytes) -> bytes:
    """Positions of all segments and separators, as native-endian uint32s; raises on no content.

    `separators`: field, component, repetition, subcomponent; one that is not declared repeats the field's.
    Shape: [segments, marks], per segment [start, end, first mark, mark end], per mark position | level << 30 (levels:
    0 field, 1 repetition, 2 component, 3 subcomponent). Segments end at CR, or at LF where there is no CR at all.
    ValueError: separators that are not 4 bytes, a message of 2**30 bytes or more.
    """
    if len(separators) != 4:
        raise ValueError("separators are 4 bytes: field, component, repetition, subcomponent")
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError("message too long to index")
    pattern, levels = _levels(separators)
    rows: list[int] = []
    marks: list[int] = []
    for start, end in _segments(message):
        first = len(marks)
        for match in pattern.finditer(message, start, end):
            at = match.start()
            marks.append(at | levels[message[at]] << _LEVEL_SHIFT)
        rows += start, end, first, len(marks)
    numbers = [len(rows) // 4, len(marks), *rows, *marks]
    return struct.pack(f"={len(numbers)}I", *numbers)


def _open_index(message: bytes, index: bytes) -> tuple[memoryview, memoryview]:
    """(rows, marks) of an index; ValueError where it cannot belong to the message."""
    mismatch = ValueError("index does not belong to the message")
    if len(index) < 8 or len(index) % 4 or len(message) > MESSAGE_BYTES_MAX:
        raise mismatch
    numbers = memoryview(index).cast("I")
    rows, marks = numbers[2 : 2 + 4 * numbers[0]], numbers[2 + 4 * numbers[0] :]
    if len(rows) != 4 * numbers[0] or len(marks) != numbers[1]:
        raise mismatch
    for at in range(0, len(rows), 4):
        start, end, first, last = rows[at : at + 4]
        if not (start <= end <= len(message) and first <= last <= len(marks)):
            raise mismatch
    if any(mark & MESSAGE_BYTES_MAX >= len(message) for mark in marks):
        raise mismatch
    return rows, marks


def _piece(marks: memoryview, span: tuple[int, int, int, int], level: int, wanted: int) -> tuple[int, int, int, int]:
    """Narrow (start, end, first mark, mark end) to its n-th piece at one level; (-1, …) where absent."""
    start, end, first, last = span
    for at in range(first, last):
        if marks[at] >> _LEVEL_SHIFT == level:
            position = marks[at] & MESSAGE_BYTES_MAX
            if wanted == 0:
                return start, position, first, at
            wanted -= 1
            start, first = position + 1, at + 1
    return (start, end, first, last) if wanted == 0 else (-1, -1, 0, 0)


def er7_spans(message: bytes, index: bytes, paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    """(start, end) of what each path names, or None where it is absent. See `er7_read`."""
    rows, marks = _open_index(message, index)
    named: dict[bytes, list[tuple[int, int, int, int]]] = {}
    for at in range(0, len(rows), 4):
        span = (rows[at], rows[at + 1], rows[at + 2], rows[at + 3])
        start, end, _, _ = _piece(marks, span, _FIELD, 0)
        named.setdefault(message[start:end], []).append(span)
    found: list[tuple[int, int] | None] = []
    for segment, occurrence, field, repetition, component, subcomponent in paths:
        if min(occurrence, field, repetition + 1, component, subcomponent) < 0:
            raise ValueError("a path counts from 0; only its repetition may be -1")
        spans = named.get(segment, [])
        span = _piece(marks, spans[occurrence], _FIELD, field) if occurrence < len(spans) else (-1, -1, 0, 0)
        if repetition >= 0 or component or subcomponent:
            span = _piece(marks, span, _REPETITION, max(repetition, 0)) if span[0] >= 0 else span
        if component or subcomponent:
            span = _piece(marks, span, _COMPONENT, max(component, 1) - 1) if span[0] >= 0 else span
        if subcomponent:
            span = _piece(marks, span, _SUBCOMPONENT, subcomponent - 1) if span[0] >= 0 else span
        if span[0] > span[1]:
            raise ValueError("index does not belong to the message")
        found.append(span[:2] if span[0] >= 0 else None)
    return found


def er7_read(message: bytes, index: bytes, paths: Sequence[Path]) -> list[bytes | None]:
    """Read what each path names: None where absent, b"" where present and empty.

    Path: (segment's name, occurrence from 0, field, repetition, component, subcomponent). Field n follows the n-th
    field mark, field 0 is the segment's name. Repetition counts from 0, -1 is the whole field; component and
    subcomponent count from 1, 0 is the whole. Where a narrower step is asked for, a whole above it means its first
    piece.
    ValueError: an index that cannot belong to the message, a negative number (but repetition -1).
    """
    return [span and message[span[0] : span[1]] for span in er7_spans(message, index, paths)]


def er7_template(message: bytes, limit: int) -> tuple[bytes, bytes] | None:
    """What a sender's messages of one type have in common, and what tells them apart: (header without MSH-7 and MSH-10, MSH-10).

    None where the message does not begin with MSH and the usual separators, its header does not end with a CR before
    `limit` or holds a LF, VT or FS, or nothing follows MSH-10.
    """
    end = message.find(b"\r", 0, max(limit, 0))
    if end < 0 or not message.startswith(b"MSH|^~\\&|") or _ENDS.search(message, 0, end):
        return None
    fields = message[:end].split(b"|", 10)  # fields[n] is MSH-(n + 1)
    if len(fields) < 11:
        return None
    control_id = fields[9]
    fields[6] = fields[9] = b""
    return b"|".join(fields), control_id


# MLLP, the framing


def _judge(buffer: bytes | bytearray, at: int, restart: bytes) -> int:
    """Tell what the VT or FS at `at` inside a frame means; undecided where the buffer ends too early."""
    if buffer[at] == _VT:
        ahead = buffer[at + 1 : at + 1 + len(restart)]
        if ahead == restart:
            return CUT
        return _UNDECIDED if restart.startswith(ahead) else _CONTENT
    if at + 1 == len(buffer):
        return _UNDECIDED
    return {_CR: FRAME, _VT: BARE}.get(buffer[at + 1], _CONTENT)


def mllp_scan(
    buffer: bytes | bytearray, opened: int, searched: int, restart: bytes
) -> tuple[list[tuple[int, int, int]], int, int]:
    """One pass over the buffer from `searched`: (events, opened', searched'), events being (kind, start, end).

    `opened`: offset of the first payload byte of the frame under way, -1 between frames. Kinds: NOISE, FRAME, BARE,
    CUT. A VT inside a frame starts a new one if `restart` follows it; any other VT, and a FS before neither CR nor VT,
    is content. What the buffer's end leaves undecided is where the next call goes on. Nothing before `searched` is
    looked at again.
    ValueError: offsets outside the buffer, or `opened` after `searched`.
    """
    if not -1 <= opened <= searched <= len(buffer) or searched < 0:
        raise ValueError("opened and searched are offsets in the buffer, in this order")
    events: list[tuple[int, int, int]] = []
    while searched < len(buffer):
        if opened < 0:
            start = buffer.find(_VT, searched)
            start = len(buffer) if start < 0 else start
            if start > searched:
                events.append((NOISE, searched, start))
            if start == len(buffer):
                return events, -1, start
            opened = searched = start + 1
            continue
        fence = _FENCE.search(buffer, searched)
        if fence is None:
            return events, opened, len(buffer)
        at = fence.start()
        kind = _judge(buffer, at, restart)
        if kind == _UNDECIDED:
            return events, opened, at
        searched = at + 2 if kind == FRAME else at + 1  # a BARE frame's VT is still to open the next one
        if kind != _CONTENT:
            events.append((kind, opened, at))
            opened = at + 1 if kind == CUT else -1
    return events, opened, searched


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
    rows = list(zip(*columns, strict=True))
    numbers, offset = array("q"), 0
    for row in rows:
        number = offset
        for cell, width in zip(row, bits, strict=True):
            if len(cell) >> width:
                return None
            number = number << width | len(cell)
        if offset >> (63 - sum(bits)):
            return None
        numbers.append(number)
        offset += sum(map(len, row))
    return b"".join(chain.from_iterable(rows)), numbers.tobytes()
