"""Batches: what arrives is byte for byte what left, and nothing that a stranger sends costs more than it weighs."""

from dataclasses import replace

import cbor2
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from native import body_commitment
from sync import batch
from sync.batch import (
    BASE_US,
    CHECKPOINT,
    COMMON,
    EPOCH,
    FIRST,
    RAW_BYTES_MAX,
    RECORDS,
    RECORDS_MAX,
    SALTS,
    TAG,
    VERSION,
    Batch,
)
from sync.errors import BadBatch
from sync.header import BODY_BYTES, COMMITMENT, FACILITY, MESSAGE_TYPE, RECEIVED_US, common_start, decode_fields
from sync.record import BodyState, Kind, Record
from tests.sim_realm import COMMON as DRAFT_COMMON
from tests.sim_realm import NODE, STREAM, checkpoint_note, draft, records, without_body

MADE = records([draft(n) for n in range(5)])
NOTE = checkpoint_note(MADE)


def batch_of(found: list[Record], first: int = 0) -> Batch:
    return Batch(
        node=NODE, stream=STREAM, epoch=1, tag="0badcafe", first=first, lane="routine", checkpoint=NOTE, records=found
    )  # fmt: skip


def raw(found: Batch) -> dict:
    """A batch's map, to be changed."""
    return cbor2.loads(zstd.decompress(batch.encode(found)))


def first_version(found: Batch) -> dict:
    """The same batch as version 1 had it: each salt within its record."""
    message = raw(found)
    salts = message.pop(SALTS)
    given = (salts[at : at + 16] for at in range(0, len(salts), 16))
    items = [[*item[:4], next(given), *item[4:]] if item[0] == 0 else item for item in message[RECORDS]]
    return {**message, VERSION: 1, RECORDS: items}


def many(count: int) -> dict:
    """The first record so many times."""
    message = raw(batch_of(MADE))
    return {**message, RECORDS: message[RECORDS][:1] * count, SALTS: message[SALTS][:16] * count}


def packed(message) -> bytes:
    return zstd.compress(cbor2.dumps(message))


def changed(key: int, value) -> bytes:
    return packed({**raw(batch_of(MADE)), key: value})


# --- round trips

DRAFTS = st.builds(
    draft, st.integers(0, 10_000), body=st.binary(max_size=50),
    common=st.sampled_from([DRAFT_COMMON, common_start(kind=Kind.MESSAGE, facility="rawdah", feed="lab", content_type="application/fhir+json")]),
    message_type=st.sampled_from(["ADT^A01", "ORU^R01", ""]), received_us=st.integers(0, 2**52), clock_state=st.integers(0, 3),
    verdict=st.integers(0, 2), particulars=st.binary(max_size=20),
    after=st.none() | st.tuples(st.just("main"), st.just(1), st.integers(0, 9)),
)  # fmt: skip
STATES = st.sampled_from(BodyState)


@given(st.lists(st.tuples(DRAFTS, STATES), min_size=1, max_size=12), st.integers(0, 2**62))
def test_records_of_every_state_arrive_as_they_left(found, first):
    made = [
        record if state is BodyState.PRESENT else without_body(record, state)
        for record, (_, state) in zip(records([each for each, _ in found], first), found, strict=True)
    ]
    sent = batch_of(made, first)
    assert batch.decode(batch.encode(sent)) == sent


def test_record_after_one_with_a_position_in_another_stream_does_not_inherit_it():
    made = records([draft(0, after=("main", 1, 7)), draft(1), draft(2, after=("main", 1, 8))])
    assert batch.decode(batch.encode(batch_of(made))).records == made


def test_what_all_records_share_travels_once():
    one, many = (len(zstd.decompress(batch.encode(batch_of(records([draft(0, body=b"")] * n))))) for n in (1, 101))
    assert (many - one) / 100 < len(MADE[0].particulars) + 16 + 16  # particulars, salt, a few bytes of frame


def test_present_record_travels_without_what_the_receiver_computes():
    differs = raw(batch_of(MADE))[RECORDS][1][2]
    assert not {BODY_BYTES, COMMITMENT, RECEIVED_US} & set(differs)


def test_changed_body_particulars_or_salt_give_another_leaf():
    for place in (3, 4, SALTS):
        message = raw(batch_of(MADE))
        parts, at = (message, SALTS) if place == SALTS else (message[RECORDS][2], place)
        first = 2 * 16 if place == SALTS else 0  # the third record's
        parts[at] = parts[at][:first] + bytes([parts[at][first] ^ 1]) + parts[at][first + 1 :]
        found = batch.decode(packed(message)).records
        assert [n for n in range(5) if found[n].leaf != MADE[n].leaf] == [2]


def test_a_commitment_that_the_sender_states_for_a_present_body_is_not_believed():
    message = raw(batch_of(MADE))
    message[RECORDS][0][2] |= {COMMITMENT: bytes(32), BODY_BYTES: 1, RECEIVED_US: 1}
    found = batch.decode(packed(message)).records[0]
    assert decode_fields(found.header)[COMMITMENT] == body_commitment(found.salt, found.particulars, found.body)
    assert found == MADE[0]


# --- the envelope


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", batch.encode(batch_of(MADE))[:-1], batch.encode(batch_of(MADE)) + b"x", zstd.compress(b""), zstd.compress(b"\xff"), packed([]),
        packed({}), packed("text"), batch.encode(batch_of(MADE)) * 2, zstd.compress(b"\xbf\xff"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_batch_are_refused(data):
    with pytest.raises(BadBatch):
        batch.decode(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_batch_compressed_or_not(data):
    for sent in (data, zstd.compress(data)):
        with pytest.raises(BadBatch):
            batch.decode(sent)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (VERSION, 3), (VERSION, 1), (VERSION, 0), (VERSION, [1]), (VERSION, 2.0), (VERSION, True), (SALTS, b""), (SALTS, bytes(16 * 6)), (SALTS, [bytes(80)]),
        (SALTS, bytes(79)), (batch.NODE, 1), (batch.STREAM, b"his"), (EPOCH, 0), (EPOCH, 2**31), (EPOCH, True), (EPOCH, 2**70_000), (TAG, None), (FIRST, -1),
        (FIRST, 2**63), (FIRST, 1.0), (BASE_US, "0"), (BASE_US, 2**80), (COMMON, []), (CHECKPOINT, "note"), (RECORDS, []), (RECORDS, {}), (99, 0),
    ],
    ids=lambda value: hex(value)[:20] if type(value) is int else str(value),
)  # fmt: skip
def test_batch_with_a_field_of_the_wrong_type_or_range_is_refused(key, value):
    with pytest.raises(BadBatch):
        batch.decode(changed(key, value))


@pytest.mark.parametrize("key", range(VERSION, SALTS + 1))
def test_batch_without_one_of_its_fields_is_refused(key):
    message = raw(batch_of(MADE))
    del message[key]
    with pytest.raises(BadBatch):
        batch.decode(packed(message))


SALT = bytes(16)


@pytest.mark.parametrize(
    "item",
    [
        [], [5, 0, {}], [0, 0, {}], [0, 0, {}, b"", SALT[1:], b""], [0, 0, {}, b"", SALT, b"", b""], [0, "0", {}, b"", SALT, b""], [0, 0, [], b"", SALT, b""],
        [0, 0, {}, "", SALT, b""], [0, 0, {}, bytes(64 * 1024 + 1), SALT, b""], [4, bytes(31)], [4], [1, 0, {}], [3, 0, {COMMITMENT: bytes(32)}],
        [1, 0, {COMMITMENT: bytes(31), BODY_BYTES: 3}], [0, 0, {99: 1}, b"", SALT, b""], [0, 0, {FACILITY: 5}, b"", SALT, b""], {}, None, 4, "x",
        [0, -(2**62), {}, b"", SALT, b""], [0, 2**62, {}, b"", SALT, b""], [0, 2**80, {}, b"", SALT, b""], [0, 0, {"a": 1}, b"", SALT, b""],
        [0, 0, {MESSAGE_TYPE: "x" * 1024}, b"", SALT, b""], [0, 0, {FACILITY: True}, b"", SALT, b""], [0, 0, {(): 1}, b"", SALT, b""],
    ],
    ids=lambda item: str(item)[:40],
)  # fmt: skip
def test_record_of_a_shape_nobody_knows_is_refused(item):
    first = first_version(batch_of(MADE))
    with pytest.raises(BadBatch):
        batch.decode(packed({**first, RECORDS: [*first[RECORDS], item]}))
    message = raw(batch_of(MADE))
    if isinstance(item, list) and len(item) == 6:
        salt, item = item[4], [*item[:4], *item[5:]]
        message[SALTS] += salt if isinstance(salt, bytes) else b""
    with pytest.raises(BadBatch):
        batch.decode(packed({**message, RECORDS: [*message[RECORDS], item]}))


def test_batch_of_the_first_version_is_read_as_ever():
    assert batch.decode(packed(first_version(batch_of(MADE)))) == batch_of(MADE)


def test_record_of_the_first_version_is_none_of_the_second():
    message = raw(batch_of(MADE))
    with pytest.raises(BadBatch):
        batch.decode(packed({**message, RECORDS: first_version(batch_of(MADE))[RECORDS]}))


def test_salts_do_not_cost_the_text_its_compression():
    sent = batch_of(records([draft(n, body=b"the same words again and again" * 9) for n in range(200)]))
    without = len(zstd.compress(cbor2.dumps({**raw(sent), SALTS: b""}, canonical=True), batch.ZSTD_LEVEL))
    assert len(batch.encode(sent)) < without + 200 * 16 + 32


def test_as_many_records_as_the_limit_pass_and_one_more_is_refused():
    most = many(RECORDS_MAX)
    assert len(batch.decode(packed(most)).records) == RECORDS_MAX
    with pytest.raises(BadBatch):
        batch.decode(packed(many(RECORDS_MAX + 1)))


def test_leaf_alone_stands_for_a_record_whose_header_is_lost():
    made = [MADE[0], without_body(MADE[1], BodyState.LEAF_ONLY), MADE[2]]
    found = batch.decode(batch.encode(batch_of(made))).records
    assert [record.leaf for record in found] == [record.leaf for record in MADE[:3]]
    assert found[1].header == b""


def test_batch_of_nothing_but_lost_headers_arrives():
    made = [without_body(record, BodyState.LEAF_ONLY) for record in MADE]
    assert batch.decode(batch.encode(batch_of(made))).records == made


# --- what a stranger may cost


def test_batch_that_decompresses_beyond_its_limit_is_refused():
    bomb = zstd.compress(
        cbor2.dumps({**raw(batch_of(MADE)), RECORDS: [[0, 0, {}, b"", bytes(RAW_BYTES_MAX)]], SALTS: SALT})
    )
    assert len(bomb) < 64 * 1024
    with pytest.raises(BadBatch):
        batch.decode(bomb)


def test_largest_body_that_a_feed_may_take_passes():
    made = records([draft(0, body=bytes(16 * 1024 * 1024))])
    assert batch.decode(batch.encode(batch_of(made))).records == made


def test_long_text_stated_once_for_all_records_is_refused_before_it_multiplies():
    message = many(RECORDS_MAX)
    message[COMMON][FACILITY] = "x" * (8 * 1024 * 1024)
    with pytest.raises(BadBatch, match="too long"):
        batch.decode(packed(message))


def test_batch_with_a_tag_is_refused_before_a_decoder_makes_anything_of_it():
    # what a tag may cost, a decimal fraction's hours, is nothing to wait for in a test: an integer in a tag's form shows as much
    message = raw(batch_of(MADE))
    assert batch.decode(packed(message)).epoch == 1
    with pytest.raises(BadBatch):
        batch.decode(packed({**message, EPOCH: cbor2.CBORTag(2, b"\x01")}))


def test_batch_of_millions_of_tiny_items_is_refused():
    with pytest.raises(BadBatch):
        batch.decode(changed(RECORDS, [[0] * 5_000_000]))


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xbb\x00\x00\x01\x00\x00\x00\x00\x00",
        b"\x81" * 100_000, b"\xd8\x1c" * 50_000, b"\xd8\x1c\x81\xd8\x1d\x00", b"\xd8\x23\x64((((", b"\xd8\x1e\x82\x01\x00", b"\xc1\xfb\x7f\xf0" + bytes(6),
    ],
    ids=lambda data: data[:6].hex(),
)  # fmt: skip
def test_hostile_cbor_is_refused_and_nothing_else_is_raised(hostile):
    with pytest.raises(BadBatch):
        batch.decode(zstd.compress(hostile))
    for key, message in ((RECORDS, first_version(batch_of(MADE))), (SALTS, raw(batch_of(MADE)))):
        whole = cbor2.dumps({**message, key: None})
        assert whole.endswith(bytes([key, 0xF6]))
        with pytest.raises(BadBatch):
            batch.decode(zstd.compress(whole[:-1] + hostile))


def test_damaged_batch_is_refused_or_gives_other_leaves_or_the_same_records():
    data = cbor2.dumps(raw(batch_of(MADE)))
    leaves = [record.leaf for record in MADE]
    for at in range(0, 8 * len(data), 3):
        broken = bytearray(data)
        broken[at >> 3] ^= 1 << (at & 7)
        try:
            got = batch.decode(zstd.compress(bytes(broken), 1))
            found = [replace(record, seq=record.seq - got.first) for record in got.records]
        except BadBatch:
            continue
        assert [record.leaf for record in found] != leaves or found == MADE
