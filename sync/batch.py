"""The bytes of a PUT: a run of records under a checkpoint of exactly first + count leaves (docs/wire.md, section 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cbor2
from backports import zstd

from native import body_commitment, leaf_hashes
from sync.dictionary import EMPTY, Context, Recall, Shelf, compress, compress_after, open_name
from sync.errors import BadBatch, NotARecord
from sync.header import (
    AFTER,
    BODY_BYTES,
    COMMITMENT,
    HEADER_BYTES_MAX,
    MESSAGE_TYPE,
    PARTICULARS_BYTES_MAX,
    RECEIVED_US,
    decode_fields,
    encode_pairs,
    from_fields,
)
from sync.header import CONTENT_TYPE as HEADER_CONTENT_TYPE
from sync.items import check_items
from sync.log import HASH_BYTES, SIZE_MAX
from sync.names import EPOCH_MAX
from sync.record import SALT_BYTES, BodyState, Record
from sync.store import split_hashes
from sync.upload import Fetch

BATCH_VERSION = 2  # version 1 had each salt within its record; it is read, and written no more
CONTENT_TYPE = "application/vnd.wasl.batch"
RECORDS_MAX = 512  # a batch's proof of order is one signature; more records gain little and cost memory at the gateway
RAW_BYTES_MAX = 24 * 1024 * 1024  # the largest frame a feed may take (16 MiB) with room for its header and neighbours
WIRE_BYTES_MAX = RAW_BYTES_MAX + 64 * 1024  # what does not compress grows by a few bytes a block
ITEMS_MAX = (
    RECORDS_MAX * 64
)  # CBOR items: some 10 are used a record. 24 MiB of empty lists would become 2 GB of objects
WINDOW_LOG_MAX = 25  # 32 MiB covers RAW_BYTES_MAX; a frame may otherwise ask for 128 MiB
ZSTD_LEVEL = 9  # decision 0015: an eighth fewer bytes than level 3, and still far faster than any link of ours

VERSION, NODE, STREAM, EPOCH, TAG, FIRST, LANE, BASE_US, COMMON, CHECKPOINT, RECORDS, SALTS = range(1, 13)
UPLOADED = 5  # a record's form in a batch where its body went ahead in parts; it stands alone there, so the whole stays bounded
_OWN = (RECEIVED_US, BODY_BYTES, COMMITMENT)  # header keys that the receiver computes or that each record states


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records first..first+len-1 of one log, and the signed checkpoint at first+len."""

    node: str
    stream: str
    epoch: int
    tag: str
    first: int
    lane: str
    checkpoint: bytes
    records: Sequence[Record]


def encode(
    batch: Batch, shelf: Shelf = EMPTY, uploaded: Mapping[int, bytes] | None = None, context: Context | None = None
) -> bytes:
    """The batch as it travels, with the context or a dictionary of the shelf where one suits.

    `uploaded`: by seq, the SHA-256 of bodies that went ahead. Raises NotARecord where a stored header does not decode.
    """
    fields = _fields(batch)
    message = _content(batch, fields, uploaded or {})
    raw = cbor2.dumps(message, canonical=True)  # the last key's value, the salts, ends it
    kinds = [
        (found[HEADER_CONTENT_TYPE], found[MESSAGE_TYPE], len(record.body))
        for record, found in zip(batch.records, fields, strict=True)
        if found
    ]
    dictionary, apart = shelf.choose(kinds, len(raw)), len(message[SALTS])
    if context is not None and context.pays(len(raw), dictionary):
        return compress_after(raw, ZSTD_LEVEL, context, apart=apart)
    return compress(raw, ZSTD_LEVEL, dictionary, apart=apart)


def content(batch: Batch) -> bytes:
    """What a batch holds before it is compressed, without its salts. Raises NotARecord where a stored header does not decode."""
    return cbor2.dumps({**_content(batch, _fields(batch), {}), SALTS: b""}, canonical=True)


def _fields(batch: Batch) -> list[dict[int, Any]]:
    return [decode_fields(record.header) if record.header else {} for record in batch.records]


def _content(batch: Batch, fields: list[dict[int, Any]], uploaded: Mapping[int, bytes]) -> dict[int, Any]:
    common = next((dict(found) for found in fields if found), {})
    base = common.get(RECEIVED_US, 0)
    for key in (*_OWN, AFTER):  # a record can add to what is common, but not take away: `after` is not in every header
        common.pop(key, None)
    items, last = [], base
    for record, found in zip(batch.records, fields, strict=True):
        ahead = uploaded.get(record.seq) if record.state is BodyState.PRESENT else None
        items.append(_encode_record(record, found, common, last, ahead))
        last = found.get(RECEIVED_US, last)
    return {
        VERSION: BATCH_VERSION, NODE: batch.node, STREAM: batch.stream, EPOCH: batch.epoch, TAG: batch.tag, FIRST: batch.first,
        LANE: batch.lane, BASE_US: base, COMMON: common, CHECKPOINT: batch.checkpoint, RECORDS: items,
        SALTS: b"".join([record.salt for record, item in zip(batch.records, items, strict=True) if item[0] == BodyState.PRESENT]),
    }  # fmt: skip


def _encode_record(
    record: Record, found: Mapping[int, Any], common: Mapping[int, Any], last_us: int, uploaded: bytes | None = None
) -> list[Any]:
    if record.state is BodyState.LEAF_ONLY:
        return [int(record.state), record.leaf]
    differs = {key: value for key, value in found.items() if key not in _OWN and common.get(key) != value}
    delta = found[RECEIVED_US] - last_us
    if record.state is BodyState.PRESENT and uploaded is None:
        return [int(record.state), delta, differs, record.particulars, record.body]
    differs |= {BODY_BYTES: found[BODY_BYTES], COMMITMENT: found[COMMITMENT]}
    if uploaded is not None:
        return [UPLOADED, delta, differs, record.particulars, record.salt, uploaded]
    return [int(record.state), delta, differs]


def decode(data: bytes, shelf: Shelf = EMPTY, fetch: Fetch | None = None, recall: Recall | None = None) -> Batch:
    """Read a batch and rebuild its records' exact headers and leaves. Raises BadBatch, BadUpload, UnknownDictionary.

    `fetch` gives bodies that went ahead, `recall` the context of records that are held already.
    """
    message = _open(data, shelf, recall)
    try:
        return _read(message, fetch)
    except (NotARecord, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BadBatch(f"batch does not hold records: {error}") from error


def _open(data: bytes, shelf: Shelf, recall: Recall | None) -> dict[int, Any]:
    if len(data) > WIRE_BYTES_MAX:
        raise BadBatch("batch too long")
    prior, frame = open_name(data, shelf, recall)
    try:
        decompressor = zstd.ZstdDecompressor(prior, {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX})
        raw = decompressor.decompress(frame, RAW_BYTES_MAX)
        if not decompressor.eof or decompressor.unused_data:
            raise BadBatch("batch is longer than the limit, or cut off")
        check_items(raw, ITEMS_MAX)
        message = cbor2.loads(raw, allow_indefinite=False)
    except (zstd.ZstdError, cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise BadBatch("batch does not decode") from error
    version = message.get(VERSION) if isinstance(message, dict) else None
    if type(version) is not int or not 1 <= version <= BATCH_VERSION:
        raise BadBatch("a batch of no version that is known")
    if set(message) != set(range(VERSION, (RECORDS if version == 1 else SALTS) + 1)):
        raise BadBatch("batch fields are missing or unknown")
    return cast("dict[int, Any]", message)


_SHAPE: tuple[tuple[int, type], ...] = (
    (NODE, str), (STREAM, str), (EPOCH, int), (TAG, str), (FIRST, int), (LANE, str), (BASE_US, int), (COMMON, dict), (CHECKPOINT, bytes), (RECORDS, list),
)  # fmt: skip


def _read(message: Mapping[int, Any], fetch: Fetch | None) -> Batch:
    if any(type(message[key]) is not kind for key, kind in _SHAPE):
        raise BadBatch("a batch field has the wrong type")
    if not 0 < message[EPOCH] <= EPOCH_MAX or not 0 <= message[FIRST] <= SIZE_MAX:
        raise BadBatch("epoch or position out of range")
    items = message[RECORDS]
    if not 0 < len(items) <= RECORDS_MAX:
        raise BadBatch("too many records, or none")
    if message[FIRST] + len(items) > SIZE_MAX:
        raise BadBatch("the log would be too long")
    if message[VERSION] == BATCH_VERSION:
        items = _with_salts(items, message[SALTS])
    items = _whole(items, fetch)
    last, rebuilt = message[BASE_US], []
    for item in items:
        last, state, header, parts = _rebuild(item, message[COMMON], last)
        rebuilt.append((state, header, parts))
    hashed = iter(
        split_hashes(leaf_hashes([header for state, header, _ in rebuilt if state is not BodyState.LEAF_ONLY]))
    )
    first = message[FIRST]
    records = [
        Record(
            seq=first + n, header=b"", leaf=header, state=state, salt=b"", particulars=b"", body=b""
        ) if state is BodyState.LEAF_ONLY else Record(
            seq=first + n, header=header, leaf=next(hashed), state=state, particulars=parts[0], salt=parts[1], body=parts[2]
        )
        for n, (state, header, parts) in enumerate(rebuilt)
    ]  # fmt: skip
    return Batch(
        node=message[NODE], stream=message[STREAM], epoch=message[EPOCH], tag=message[TAG], first=first, lane=message[LANE],
        checkpoint=message[CHECKPOINT], records=records,
    )  # fmt: skip


def _whole(items: list[Any], fetch: Fetch | None) -> list[Any]:
    """The items with an uploaded body in its record, as if it had come with the batch."""
    match items:
        case [[5, delta, dict() as differs, particulars, salt, bytes() as digest]] if fetch is not None:
            commitment, body_bytes = differs.get(COMMITMENT), differs.get(BODY_BYTES)
            if type(commitment) is not bytes or len(commitment) != HASH_BYTES or type(body_bytes) is not int:
                raise BadBatch("an uploaded record does not say which body is its own")
            return [[int(BodyState.PRESENT), delta, differs, particulars, salt, fetch(commitment, digest, body_bytes)]]
    return items


def _with_salts(items: Sequence[Any], salts: Any) -> list[Any]:
    """The items as version 1 had them. Raises BadBatch unless each body has its salt and no salt is left over."""
    bodies = sum(isinstance(item, list) and item[:1] == [BodyState.PRESENT] for item in items)
    if not isinstance(salts, bytes) or len(salts) != bodies * SALT_BYTES:
        raise BadBatch("salts and bodies are not as many")
    given = (salts[at : at + SALT_BYTES] for at in range(0, len(salts), SALT_BYTES))
    found = []
    for item in items:
        match item:
            case [0, delta, differs, particulars, body]:
                found.append([0, delta, differs, particulars, next(given), body])
            case [0, *_]:
                raise BadBatch("a record of a shape nobody knows")
            case _:
                found.append(item)
    return found


_NO_PARTS = (b"", b"", b"")


def _rebuild(
    item: Any, common: Mapping[int, Any], last_us: int
) -> tuple[int, BodyState, bytes, tuple[bytes, bytes, bytes]]:
    match item:
        case [4, bytes() as leaf] if len(leaf) == HASH_BYTES:
            return last_us, BodyState.LEAF_ONLY, leaf, _NO_PARTS
        case [0, int() as delta, dict() as differs, bytes() as particulars, bytes() as salt, bytes() as body]:
            if len(salt) != SALT_BYTES or len(particulars) > PARTICULARS_BYTES_MAX:
                raise BadBatch("salt or particulars out of range")
            own = {BODY_BYTES: len(body), COMMITMENT: body_commitment(salt, particulars, body)}
            received, header = _header(common, differs, delta + last_us, own)
            return received, BodyState.PRESENT, header, (particulars, salt, body)
        case [1 | 2 | 3 as state, int() as delta, dict() as differs]:
            received, header = _header(common, differs, delta + last_us, {})
            return received, BodyState(state), header, _NO_PARTS
    raise BadBatch("a record of a shape nobody knows")


def _header(
    common: Mapping[int, Any], differs: Mapping[int, Any], received_us: int, own: Mapping[int, Any]
) -> tuple[int, bytes]:
    fields = {**common, **differs, RECEIVED_US: received_us, **own}
    from_fields(fields)
    header = encode_pairs(fields)
    # headers are permanent; and a long text in COMMON would be multiplied by the number of records
    if len(header) > HEADER_BYTES_MAX:
        raise BadBatch("a header is too long")
    return received_us, header
