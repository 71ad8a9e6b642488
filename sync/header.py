"""Header and particulars, to bytes and back (docs/wire.md, sections 2 and 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from native import cbor_map, seal_group
from sync.errors import NotARecord
from sync.items import check_items
from sync.record import HEADER_VERSION, Draft, Kind, Verdict

VERSION, KIND, FACILITY, FEED, CONTENT_TYPE, MESSAGE_TYPE, RECEIVED_US, CLOCK_STATE, CLOCK_ERROR_US = range(1, 10)
VERDICT, BODY_BYTES, PROTECTION, COMMITMENT, AFTER = range(10, 15)
PLAIN = 0  # body protection: not sealed

CONTROL_ID, PEER, METHOD, PATH, CONDITIONS, TOPIC, FILE_NAME, REFUSAL, FRAME_BYTES, FRAME_SHA256, COUNT, SIGNATURES = (
    range(1, 13)
)
PROFILE = 13  # name and the first 8 bytes of the SHA-256 of the device profile that was in force

HEADER_BYTES_MAX = 1024  # about 150 are used; a limit, because headers are permanent
MESSAGE_TYPE_CHARS_MAX = 64  # v2 needs 15; a longer one is cut, so that every header fits its limit
NUMBER_MAX = 2**63 - 1  # as SQLite counts
RECEIVED_US_MAX = 253_402_300_799_999_999  # the end of the year 9999: beyond it no calendar library can name the time
SEQUENCES = (list, tuple)  # a union would be made anew at each look
PARTICULARS_BYTES_MAX = 64 * 1024  # a control id, a path, some header lines: generous, and bounded for the receiver

Pair = tuple[int, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A record's permanent facts. `received_us` is UTC microseconds; `after` is (stream, epoch, seq) or None."""

    kind: Kind
    facility: str
    feed: str
    content_type: str
    message_type: str
    received_us: int
    clock_state: int
    clock_error_us: int
    verdict: Verdict
    body_bytes: int
    protection: int
    commitment: bytes
    after: tuple[str, int, int] | None = None


def common_start(*, kind: Kind, facility: str, feed: str, content_type: str) -> bytes:
    """Give the header's beginning that all drafts of one feed share, made once: an encoded map of the pairs 1 to 5."""
    return cbor_map(
        ((VERSION, HEADER_VERSION), (KIND, int(kind)), (FACILITY, facility), (FEED, feed), (CONTENT_TYPE, content_type))
    )


DRAFT_KEYS = (MESSAGE_TYPE, RECEIVED_US, CLOCK_STATE, CLOCK_ERROR_US, VERDICT, BODY_BYTES, PROTECTION, AFTER)


def seal(size: int, peaks: bytes, drafts: Sequence[Draft], salts: bytes) -> tuple[list[bytes], bytes, bytes, bytes]:
    """Turn drafts into records of a log of this size: (header of each, leaves joined, new peaks, root). At least one; `salts` joined."""
    _, starts, types, received, states, errors, verdicts, particulars, bodies, _, after, _, _ = zip(
        *drafts, strict=True
    )
    short = [each[:MESSAGE_TYPE_CHARS_MAX] for each in types]
    columns = (short, received, states, errors, verdicts, list(map(len, bodies)), [PLAIN] * len(drafts), after)
    return seal_group(size, peaks, starts, DRAFT_KEYS, columns, COMMITMENT, salts, particulars, bodies)


def encode_particulars(pairs: Sequence[Pair]) -> bytes:
    """Encode particulars given as pairs in ascending key order: the same deterministic form."""
    return cbor_map(pairs)


def encode_pairs(fields: Mapping[int, Any]) -> bytes:
    """Encode header fields by key as the one deterministic form of RFC 8949 4.2.1."""
    return cbor_map([(key, _tupled(fields[key])) for key in sorted(fields)])


def decode_fields(header: bytes) -> dict[int, Any]:
    """Read a header into its fields by key. Raises NotARecord unless the bytes are exactly their deterministic encoding."""
    if len(header) > HEADER_BYTES_MAX:
        raise NotARecord("header too long")
    fields = _loads(header)
    try:
        again = encode_pairs(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotARecord("header is not a map of plain values") from error
    if again != header:
        raise NotARecord("header is not deterministic CBOR")
    return fields


def feed_of(header: bytes) -> str:
    """The feed that a header names, for what is only looked up: whether its bytes are deterministic is not asked, which takes longer. Raises NotARecord."""
    feed = _loads(header).get(FEED)
    if not isinstance(feed, str):
        raise NotARecord("header names no feed")
    return feed


def after_of(header: bytes) -> tuple[str, int, int] | None:
    """The position that a header says it follows; None for none. Of the other fields nothing is asked. Raises NotARecord."""
    return _after(decode_fields(header).get(AFTER))


def decode(header: bytes) -> Header:
    """Read a header. Raises NotARecord where a field is missing, of the wrong type, or unknown."""
    return from_fields(decode_fields(header))


_TYPES: Mapping[int, type] = {
    VERSION: int, KIND: int, FACILITY: str, FEED: str, CONTENT_TYPE: str, MESSAGE_TYPE: str, RECEIVED_US: int,
    CLOCK_STATE: int, CLOCK_ERROR_US: int, VERDICT: int, BODY_BYTES: int, PROTECTION: int, COMMITMENT: bytes,
}  # fmt: skip
_KNOWN = frozenset((*_TYPES, AFTER))


def from_fields(fields: Mapping[int, Any]) -> Header:
    """Check fields by key and give the header they make. Raises NotARecord."""
    if not _TYPES.keys() <= fields.keys() <= _KNOWN:
        raise NotARecord("header fields are missing or unknown")
    if any(type(fields[key]) is not kind for key, kind in _TYPES.items()) or fields[VERSION] != HEADER_VERSION:
        raise NotARecord("a header field has the wrong type, or the version is unknown")
    try:
        kind, verdict = Kind(fields[KIND]), Verdict(fields[VERDICT])
    except ValueError as error:
        raise NotARecord("unknown kind or verdict") from error
    numbers = [fields[key] for key in (CLOCK_STATE, CLOCK_ERROR_US, BODY_BYTES, PROTECTION)]
    if not all(0 <= number <= NUMBER_MAX for number in numbers) or not 0 <= fields[RECEIVED_US] <= RECEIVED_US_MAX:
        raise NotARecord("a number of the header is out of range")
    if len(fields[COMMITMENT]) != 32:
        raise NotARecord("a commitment is 32 bytes")
    return Header(
        kind=kind, facility=fields[FACILITY], feed=fields[FEED], content_type=fields[CONTENT_TYPE],
        message_type=fields[MESSAGE_TYPE], received_us=fields[RECEIVED_US], clock_state=fields[CLOCK_STATE],
        clock_error_us=fields[CLOCK_ERROR_US], verdict=verdict, body_bytes=fields[BODY_BYTES],
        protection=fields[PROTECTION], commitment=fields[COMMITMENT], after=_after(fields.get(AFTER)),
    )  # fmt: skip


def decode_particulars(particulars: bytes) -> dict[int, Any]:
    """Read particulars into fields by key; an empty one (erased, trimmed) gives none. Raises NotARecord."""
    if not particulars:
        return {}
    try:
        check_items(particulars, PARTICULARS_BYTES_MAX)
    except ValueError as error:
        raise NotARecord("particulars are not plain values") from error
    return _loads(particulars, allow_indefinite=False)


def _after(value: object) -> tuple[str, int, int] | None:
    if value is None:
        return None
    match value:
        case [str() as stream, int() as epoch, int() as seq] if type(epoch) is type(seq) is int:
            if 0 < epoch <= NUMBER_MAX and 0 <= seq <= NUMBER_MAX:
                return (stream, epoch, seq)
    raise NotARecord("`after` is not a position")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, SEQUENCES) else value


def _loads(data: bytes, *, allow_indefinite: bool = True) -> dict[int, Any]:
    try:
        fields = cbor2.loads(data, allow_indefinite=allow_indefinite)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise NotARecord("not CBOR") from error
    if not isinstance(fields, dict) or not all(type(key) is int and key >= 0 for key in fields):
        raise NotARecord("not a map with small integer keys")
    return fields
