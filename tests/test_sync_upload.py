"""A body that goes ahead of its batch: what is read back is that body, to the byte, or nothing."""

from hashlib import sha256

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from native import body_commitment
from sync.batch import Batch, decode, encode
from sync.errors import BadBatch, BadUpload
from sync.record import BodyState
from sync.upload import UPLOAD_BODY_MAX, pack, unpack
from tests.sim_realm import draft, records

BODY = b"MSH|^~\\&|TEST\r" * 400


def record():
    return records([draft(0, body=BODY)], 0)[0]


def batch(made):
    return Batch(
        node="clinic-17", stream="his", epoch=1, tag="0badcafe", first=0, lane="bulk", checkpoint=b"note", records=made
    )


@given(st.binary(max_size=5000))
def test_a_body_comes_back_as_it_went(body):
    made = pack(bytes(32), body)
    assert unpack(made.packed, made.digest, len(body)) == body


def test_the_id_is_the_records_commitment_and_the_bytes_depend_on_the_body_alone():
    one, two = pack(b"\x01" * 32, BODY), pack(b"\x02" * 32, BODY)
    assert one.id == "01" * 32
    assert (one.packed, one.digest) == (two.packed, two.digest)


def test_other_bytes_than_were_named_are_refused():
    made = pack(bytes(32), BODY)
    with pytest.raises(BadUpload):
        unpack(made.packed[:-1] + b"\x00", made.digest, len(BODY))


@pytest.mark.parametrize("length", [0, len(BODY) - 1, len(BODY) + 1, -1, UPLOAD_BODY_MAX + 1])
def test_a_body_of_another_length_is_refused(length):
    made = pack(bytes(32), BODY)
    with pytest.raises(BadUpload):
        unpack(made.packed, made.digest, length)


@pytest.mark.parametrize("more", [b"\x00", zstd.compress(b"another frame")])
def test_bytes_behind_the_frame_are_refused(more):
    packed = pack(bytes(32), BODY).packed + more
    with pytest.raises(BadUpload):
        unpack(packed, sha256(packed).digest(), len(BODY))


def test_what_is_no_frame_is_refused():
    with pytest.raises(BadUpload):
        unpack(b"no frame", sha256(b"no frame").digest(), 8)


# -- in a batch --------------------------------------------------------------------------------------------------------
def test_a_batch_with_an_uploaded_body_gives_the_same_record_and_is_small():
    made = record()
    digest = pack(bytes(32), made.body).digest
    asked = []

    def fetch(*values):
        asked.append(values)
        return made.body

    data = encode(batch([made]), uploaded={0: digest})
    assert decode(data, fetch=fetch).records == [made]
    commitment = body_commitment(made.salt, made.particulars, made.body)
    assert asked == [(commitment, digest, len(made.body))]
    assert made.body[:64] not in zstd.decompress(data)


def test_another_body_than_the_commitment_says_gives_another_leaf_and_so_no_root():
    made = record()
    data = encode(batch([made]), uploaded={0: bytes(32)})
    (found,) = decode(data, fetch=lambda *_: b"x" * len(made.body)).records
    assert found.leaf != made.leaf


def test_an_uploaded_record_among_others_is_refused():
    made = records([draft(0, body=BODY), draft(1)], 0)
    with pytest.raises(BadBatch):
        decode(encode(batch(made), uploaded={0: bytes(32)}), fetch=lambda *_: BODY)


def test_without_a_way_to_fetch_it_an_uploaded_record_is_refused():
    with pytest.raises(BadBatch):
        decode(encode(batch([record()]), uploaded={0: bytes(32)}))


def test_a_body_that_is_gone_travels_as_gone_whatever_was_uploaded():
    made = record()
    from dataclasses import replace

    gone = replace(made, state=BodyState.TRIMMED, salt=b"", particulars=b"", body=b"")
    assert (
        decode(encode(batch([gone]), uploaded={0: bytes(32)}), fetch=lambda *_: BODY).records[0].state
        is BodyState.TRIMMED
    )
