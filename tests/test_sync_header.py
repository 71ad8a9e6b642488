"""Headers and particulars: one deterministic form, and nothing else is read."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import body_commitment, cbor_map
from sync import header
from sync.errors import NotARecord
from sync.header import (
    AFTER,
    BODY_BYTES,
    COMMITMENT,
    CONTENT_TYPE,
    FACILITY,
    HEADER_BYTES_MAX,
    KIND,
    MESSAGE_TYPE,
    RECEIVED_US,
    RECEIVED_US_MAX,
    VERDICT,
    VERSION,
)
from sync.record import Kind, Verdict
from tests.sim_realm import draft, records, salt

GOOD = header.decode_fields(records([draft(0)])[0].header)
TEXT = st.text(max_size=40)
NUMBER = st.integers(0, 2**63 - 1)
HEADERS = st.builds(
    header.Header,
    kind=st.sampled_from(Kind), facility=TEXT, feed=TEXT, content_type=TEXT, message_type=TEXT,
    received_us=st.integers(0, RECEIVED_US_MAX), clock_state=NUMBER, clock_error_us=NUMBER, verdict=st.sampled_from(Verdict),
    body_bytes=NUMBER, protection=NUMBER, commitment=st.binary(min_size=32, max_size=32),
    after=st.none() | st.tuples(TEXT, st.integers(1, 2**31 - 1), NUMBER),
)  # fmt: skip


def fields_of(found: header.Header) -> dict:
    names = (
        "kind", "facility", "feed", "content_type", "message_type", "received_us", "clock_state", "clock_error_us", "verdict",
        "body_bytes", "protection", "commitment", "after",
    )  # fmt: skip
    fields = {VERSION: 1} | {key: getattr(found, name) for key, name in enumerate(names, KIND)}
    fields[KIND], fields[VERDICT] = int(found.kind), int(found.verdict)
    if found.after is None:
        del fields[AFTER]
    return fields


# --- round trips


@given(HEADERS)
def test_header_that_was_encoded_reads_back_as_the_same_values(found):
    assert header.decode(header.encode_pairs(fields_of(found))) == found


@given(HEADERS)
def test_header_bytes_are_those_that_another_deterministic_encoder_makes(found):
    fields = fields_of(found)
    assert header.encode_pairs(fields) == cbor2.dumps(fields, canonical=True)


def test_draft_becomes_a_header_that_states_its_facts_and_the_commitment_to_its_bytes():
    made = draft(3, after=("main", 1, 7))
    record = records([made])[0]
    found = header.decode(record.header)
    assert (found.message_type, found.received_us, found.body_bytes) == ("ADT^A01", made.received_us, len(made.body))
    assert (found.facility, found.feed, found.after) == ("rawdah", "his", ("main", 1, 7))
    assert found.commitment == body_commitment(salt(0), made.particulars, made.body)


def test_header_holds_neither_control_id_nor_peer_nor_a_byte_of_the_body():
    record = records([draft(5)])[0]
    assert b"C00005" in record.body
    assert b"C00005" in record.particulars
    for secret in (b"C00005", b"192.0.2.7", record.salt, record.body[:16]):
        assert secret not in record.header


def test_no_message_type_makes_a_header_longer_than_its_limit():
    for hostile in ("A" * 100_000, "\U0010ffff" * 5000):
        record = records([draft(0, message_type=hostile, after=("x" * 63, 2**31 - 1, 2**63 - 1))])[0]
        assert len(record.header) <= HEADER_BYTES_MAX
        assert header.decode(record.header).message_type == hostile[:64]


# --- what is refused


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda good: good[:-1], id="cut off"),
        pytest.param(lambda good: good + b"\0", id="one byte more"),
        pytest.param(lambda good: b"\xb8\x0d" + good[1:], id="head longer than needed"),
        pytest.param(lambda good: b"\xbf" + good[1:] + b"\xff", id="indefinite length"),
        pytest.param(lambda good: b"\xd9\xd9\xf7" + good, id="tagged"),
        pytest.param(lambda good: b"", id="empty"),
        pytest.param(lambda good: b"\x80", id="not a map"),
        pytest.param(lambda good: b"\xa1\x61a\x00", id="text key"),
        pytest.param(lambda good: b"\xa1\x20\x00", id="negative key"),
        pytest.param(lambda good: b"\xa1\x01\xf9\x3c\x00", id="a float"),
        pytest.param(lambda good: b"\xa1\x01" + b"\x81" * 390 + b"\x00", id="deeply nested"),
        pytest.param(lambda good: b"\xa1\x01\xd8\x1c\x81\xd8\x1d\x00", id="an array that holds itself"),
        pytest.param(lambda good: b"\xa1\x01\xc2\x49\x01" + bytes(8), id="a number beyond 64 bits"),
        pytest.param(lambda good: b"\xa1\x01\x62\xff\xff", id="text that is no UTF-8"),
    ],
)
def test_header_that_is_not_exactly_its_deterministic_form_is_refused(damage):
    good = header.encode_pairs(GOOD)
    header.decode(good)
    with pytest.raises(NotARecord):
        header.decode_fields(damage(good))


@given(st.binary(max_size=80))
def test_random_bytes_are_a_header_or_are_refused(data):
    try:
        found = header.decode_fields(data)
    except NotARecord:
        return
    assert header.encode_pairs(found) == data


@pytest.mark.parametrize(
    "change",
    [
        {VERSION: 2}, {VERSION: True}, {KIND: 9}, {KIND: "message"}, {VERDICT: 3}, {FACILITY: b"rawdah"}, {MESSAGE_TYPE: None},
        {COMMITMENT: bytes(31)}, {BODY_BYTES: -1}, {BODY_BYTES: 2**63}, {RECEIVED_US: -1}, {RECEIVED_US: RECEIVED_US_MAX + 1}, {15: 0},
        {AFTER: ("main", 1)}, {AFTER: ("main", True, 3)}, {AFTER: (b"main", 1, 3)}, {AFTER: ("main", 0, 3)}, {AFTER: ("main", 1, -3)}, {AFTER: 5},
    ],
    ids=str,
)  # fmt: skip
def test_header_with_a_field_out_of_its_range_is_refused(change):
    with pytest.raises(NotARecord):
        header.decode(header.encode_pairs({**GOOD, **change}))


@pytest.mark.parametrize("key", range(VERSION, AFTER))
def test_header_without_one_of_its_fields_is_refused(key):
    fields = dict(GOOD)
    del fields[key]
    with pytest.raises(NotARecord):
        header.decode(header.encode_pairs(fields))


def test_header_longer_than_its_limit_is_refused():
    with pytest.raises(NotARecord):
        header.decode(header.encode_pairs({**GOOD, CONTENT_TYPE: "x" * HEADER_BYTES_MAX}))


# --- particulars


def test_particulars_that_are_gone_hold_nothing():
    assert header.decode_particulars(b"") == {}


@given(st.dictionaries(st.integers(1, 11), st.text() | st.binary() | st.integers(0, 2**64 - 1)))
def test_particulars_read_back_as_they_were(fields):
    assert header.decode_particulars(cbor_map(sorted(fields.items()))) == fields


@pytest.mark.parametrize("value", [cbor2.CBORTag(2, b"\x01"), cbor2.CBORTag(35, "(a|b)")])
def test_particulars_with_a_tag_are_refused(value):
    with pytest.raises(NotARecord):
        header.decode_particulars(cbor2.dumps({1: value}))
    with pytest.raises(NotARecord):  # of no length: a look over it beforehand could miss what is in it
        header.decode_particulars(b"\xbf" + cbor2.dumps(1) + cbor2.dumps(value) + b"\xff")


@given(st.binary(min_size=1, max_size=60))
def test_random_bytes_are_particulars_or_are_refused(data):
    try:
        assert isinstance(header.decode_particulars(data), dict)
    except NotARecord:
        pass
