"""Control records: one form and no other, and a hole that names what is lost."""

import json

import pytest

from sync.control import BODY_BYTES_MAX, CONTENT_TYPE, Hole, Moment, decode, draft, encode, read_hole
from sync.errors import NotARecord
from sync.header import decode as decode_header
from sync.record import Kind, Verdict
from tests.sim_realm import NOW_S, STREAM, records

AT = Moment(received_us=NOW_S * 1_000_000, clock_state=1, clock_error_us=5000)
HOLE = Hole(stream=STREAM, epoch=1, first=17, last=19, lost="body", why="changed")


def made(kind="hole", members=None):
    """Header and body of a control record."""
    (record,) = records([draft(kind, HOLE.members() if members is None else members, stream=STREAM, facility="rawdah", at=AT)])  # fmt: skip
    return decode_header(record.header), record.body


def test_a_hole_is_what_it_was_after_its_way_through_a_record():
    header, body = made()
    assert body == b'{"epoch":1,"first":17,"last":19,"lost":"body","stream":"his","why":"changed"}'
    assert (header.kind, header.content_type, header.message_type) == (Kind.CONTROL, CONTENT_TYPE, "hole")
    assert (header.feed, header.verdict, header.received_us) == ("wasl", Verdict.ACCEPTED, AT.received_us)
    kind, members = decode(header, body)
    assert (kind, read_hole(members)) == ("hole", HOLE)


@pytest.mark.parametrize(
    "members", [{}, {"z": 1, "a": [{"b": None, "ا": "ب"}], "n": -(2**62)}, {"t": True, "f": False}]
)
def test_any_members_come_back_and_in_one_form(members):
    header, body = made("epoch", members)
    assert decode(header, body) == ("epoch", members)
    assert body == encode(dict(reversed(members.items())))
    assert json.loads(body) == members
    assert b" " not in body


@pytest.mark.parametrize(
    "body",
    [
        b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1,"a":1}', b'{"a":1.0}', b'{"a":1e2}', b'{"a":NaN}', b'{"a":-0}', b"[]", b"1", b"", b'{"a":1}\n', b"\xff",
        b'{"a":"\\u0041"}', b'{"a":9223372036854775808}', b'{"a":"\\ud800"}', b"[" * 50_000, b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}',
    ],
    ids=lambda body: str(body[:16]),
)  # fmt: skip
def test_any_other_form_is_refused(body):
    header, _ = made()
    with pytest.raises(NotARecord):
        decode(header, body)


@pytest.mark.parametrize("members", [{"a": 0.5}, {"a": b"x"}, {1: "a"}, {"a": {1: 2}}, {"a": 2**63}])
def test_members_that_json_does_not_have_are_not_written(members):
    with pytest.raises(ValueError, match="holds no"):
        encode(members)


@pytest.mark.parametrize("kind", ["", "Hole", "a b", "1", "x" * 33, "ثغرة"])
def test_a_kind_is_a_word_of_ours(kind):
    with pytest.raises(ValueError, match="no kind"):
        made(kind)


def test_a_message_is_no_control_record_whatever_its_body():
    from tests.sim_realm import draft as message

    (record,) = records([message(0, body=made()[1])])
    with pytest.raises(NotARecord):
        decode(decode_header(record.header), record.body)


WRONG = {
    "epoch": [0, "1", True, None, 2**31], "first": [-1, 20, "17", None], "last": [16, None, 17.0], "lost": ["salt", None, ["body"]],
    "why": ["", "because of Mr X", None, 5], "stream": ["", "HIS", None, 7, "a/b"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_hole_that_names_nothing_is_refused(name, value):
    with pytest.raises(NotARecord):
        read_hole({**HOLE.members(), name: value})


def test_members_that_a_reader_does_not_know_are_left_alone():
    assert read_hole({**HOLE.members(), "later": 1}) == HOLE
