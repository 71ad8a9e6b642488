"""The kernels in idiomatic Python: their specification. `_kernels.pyx` must agree with this file, `_pure_log.py` and `_pure_json.py` on every input."""

import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from native._pure_json import json_text
from native._pure_log import (
    Value,
    body_commitment,
    cbor_map,
    frontier_append,
    frontier_root,
    leaf_hashes,
    pack_rows,
    seal_group,
)

__all__ = [
    "BARE",
    "CUT",
    "FRAME",
    "NOISE",
    "Path",
    "Value",
    "body_commitment",
    "cbor_map",
    "er7_index",
    "er7_read",
    "er7_spans",
    "er7_template",
    "frontier_append",
    "frontier_root",
    "json_text",
    "leaf_hashes",
    "mllp_scan",
    "pack_rows",
    "seal_group",
]

Path: TypeAlias = tuple[bytes, int, int, int, int, int]
"""(segment's name, occurrence, field, repetition, component, subcomponent), see `er7_read`."""

NOISE: Final = 0  # bytes outside frames
FRAME: Final = 1  # a payload, ended by FS CR
BARE: Final = 2  # a payload, ended by a FS that a VT follows directly: the sender forgot the CR
CUT: Final = 3  # a payload without an end block: a VT and a message's first bytes stand inside it

MESSAGE_BYTES_MAX: Final = 2**30 - 1  # a mark is a position of 30 bits under 2 bits of level

_FIELD, _REPETITION, _COMPONENT, _SUBCOMPONENT = range(4)  # levels of marks, widest first
_LEVEL_SHIFT: Final = 30
_VT, _FS, _CR = 0x0B, 0x1C, 0x0D
_FENCE: Final = re.compile(rb"[\x0b\x1c]")
_ENDS: Final = re.compile(rb"[\n\x0b\x1c]")
_CONTENT, _UNDECIDED = -1, -2  # beside the kinds of events


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
