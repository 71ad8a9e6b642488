"""The session's JSON: what was said is what is heard; whatever else arrives is refused before it reaches a table or a header."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.announced import HEADS_MAX
from sync.checkpoint import NOTE_BYTES_MAX, Checkpoint, sign_checkpoint
from sync.errors import BadBatch
from sync.keys import FileSigner
from sync.names import EPOCH_MAX, Origin
from sync.session import (
    BOOTS_MAX,
    LANES,
    SESSION_BYTES_MAX,
    STREAMS_MAX,
    OwnStream,
    SessionAnswer,
    SessionRequest,
    TheirStream,
    read_answer,
    read_receipt,
    read_request,
    read_their,
)
from tests.sim_realm import COSIGN_CERTIFICATE, LOG_CERTIFICATE, ed25519, pem

LOG_PEM, COSIGN_PEM = pem(LOG_CERTIFICATE).decode(), pem(COSIGN_CERTIFICATE).decode()
REQUEST = SessionRequest(
    boot="0" * 32, boots=("1" * 32,), fence="f" * 32, log_certificate=LOG_PEM,
    streams=(OwnStream(stream="his", epoch=1, tag="0badcafe", lane="routine"),),
)  # fmt: skip
ANSWER = SessionAnswer(
    fence="f" * 32, ledger="a" * 32, cosign_certificate=COSIGN_PEM, held=False,
    streams=(TheirStream(stream="his", epoch=1, tag="0badcafe", size=7, root=bytes(range(32))),),
)  # fmt: skip

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
TAGS = st.text("0123456789abcdef", min_size=8, max_size=8)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
ASCII = st.text(st.characters(max_codepoint=0x7F), max_size=60)
EPOCHS = st.integers(1, EPOCH_MAX)
OWN = st.builds(OwnStream, stream=NAMES, epoch=EPOCHS, tag=TAGS, lane=st.sampled_from(LANES))
THEIRS = st.builds(
    TheirStream, stream=NAMES, epoch=EPOCHS, tag=TAGS, size=st.integers(0, 2**63 - 1), root=st.binary(min_size=32, max_size=32)
)  # fmt: skip


def unique(of: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(of, max_size=5, unique_by=lambda s: s.stream).map(tuple)


REQUESTS = st.builds(
    SessionRequest, boot=HEX, boots=st.lists(HEX, max_size=4).map(tuple), fence=st.just("") | TOKENS, log_certificate=ASCII, streams=unique(OWN),
    heads=st.lists(st.text(max_size=60).map(str.encode), max_size=3).map(tuple),
)  # fmt: skip
ANSWERS = st.builds(
    SessionAnswer, fence=TOKENS, ledger=TOKENS, cosign_certificate=ASCII, held=st.booleans(), streams=unique(THEIRS)
)


@given(REQUESTS)
def test_request_is_heard_as_it_was_said(request_):
    assert read_request(request_.encode()) == request_


@given(ANSWERS)
def test_answer_is_heard_as_it_was_said(answer):
    assert read_answer(answer.encode()) == answer


# --- what is refused


def altered(message: bytes, *path: str | int, to: Any) -> bytes:
    """The JSON with one place changed; a callable changes what stands there."""
    found = json.loads(message)
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to(place[path[-1]]) if callable(to) else to
    return json.dumps(found).encode()


def refuses(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(BadBatch):
        read(data)


TEXTS: list[Any] = [None, 5, "", "x y", "x\r\nWasl-Fence: y", "\ud800", "é", "x" * 129, ["x"], {}, True]


@pytest.mark.parametrize("value", [*TEXTS, "0" * 31, "0" * 33, "G" * 32, "A" * 32])
@pytest.mark.parametrize("path", [("boot",), ("boots", 0)])
def test_boot_id_that_is_not_thirty_two_hex_digits_is_refused(path, value):
    refuses(read_request, altered(REQUEST.encode(), *path, to=value))


@pytest.mark.parametrize("value", [text for text in TEXTS if text != ""])
def test_fence_of_a_request_that_is_no_plain_token_is_refused(value):
    refuses(read_request, altered(REQUEST.encode(), "fence", to=value))


@pytest.mark.parametrize("value", TEXTS)
@pytest.mark.parametrize("key", ["fence", "ledger"])
def test_fence_or_ledger_of_an_answer_that_is_no_plain_token_is_refused(key, value):
    refuses(read_answer, altered(ANSWER.encode(), key, to=value))


@pytest.mark.parametrize("value", [None, 5, "\ud800", "شهادة", ["x"]])
def test_certificate_that_is_no_ascii_text_is_refused(value):
    refuses(read_request, altered(REQUEST.encode(), "log_certificate", to=value))
    refuses(read_answer, altered(ANSWER.encode(), "cosign_certificate", to=value))


STREAM_FAULTS: list[tuple[str, Any]] = [
    ("stream", "His"), ("stream", "a/b"), ("stream", ""), ("stream", None), ("stream", 5), ("epoch", 0), ("epoch", -1), ("epoch", EPOCH_MAX + 1),
    ("epoch", "1"), ("epoch", 1.0), ("epoch", True), ("tag", "0BADCAFE"), ("tag", "0badcaf"), ("tag", 5), ("tag", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [*STREAM_FAULTS, ("lane", "fast"), ("lane", None), ("lane", ["bulk"])])
def test_own_stream_out_of_range_is_refused(key, value):
    refuses(read_request, altered(REQUEST.encode(), "streams", 0, key, to=value))


THEIR_FAULTS: list[tuple[str, Any]] = [
    *STREAM_FAULTS, ("size", -1), ("size", 2**63), ("size", "7"), ("size", 7.0), ("size", float("inf")), ("size", float("nan")), ("size", True),
    ("key", "00" * 3), ("key", "00" * 5), ("key", "zz" * 4), ("key", None), ("key", 5),
    ("root", "00" * 31), ("root", "00" * 33), ("root", "zz" * 32), ("root", None), ("root", 5),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), THEIR_FAULTS)
def test_their_stream_out_of_range_is_refused_in_an_answer_and_in_a_rewind(key, value):
    refuses(read_answer, altered(ANSWER.encode(), "streams", 0, key, to=value))
    members = json.loads(ANSWER.encode())["streams"][0] | {key: value}
    with pytest.raises(BadBatch):
        read_their(members)


def test_rewind_that_names_no_log_is_refused():
    for members in ({}, {"epoch": 0, "tag": "", "size": 0, "root": "00" * 32, "stream": "his"}):
        with pytest.raises(BadBatch):
            read_their(members)


@pytest.mark.parametrize("value", [None, 0, 1, "false", "true", []])
def test_held_is_a_truth_value_or_the_answer_is_refused(value):
    refuses(read_answer, altered(ANSWER.encode(), "held", to=value))


def test_stream_named_twice_is_refused():
    # two head rows for one name: whichever the ledger takes, the other tag would be a fork
    for read, message in ((read_request, REQUEST), (read_answer, ANSWER)):
        refuses(
            read, altered(message.encode(), "streams", to=lambda streams: [*streams, {**streams[0], "tag": "11111111"}])
        )


@pytest.mark.parametrize("value", [None, 5, {"0": {}}, [None], [[]], ["his"], [{}]])
def test_streams_of_another_shape_are_refused(value):
    refuses(read_request, altered(REQUEST.encode(), "streams", to=value))
    refuses(read_answer, altered(ANSWER.encode(), "streams", to=value))


@pytest.mark.parametrize("key", ["boot", "boots", "fence", "log_certificate", "streams"])
def test_request_without_one_of_its_members_is_refused(key):
    found = json.loads(REQUEST.encode())
    del found[key]
    refuses(read_request, json.dumps(found).encode())


@pytest.mark.parametrize("key", ["fence", "ledger", "cosign_certificate", "held", "streams"])
def test_answer_without_one_of_its_members_is_refused(key):
    found = json.loads(ANSWER.encode())
    del found[key]
    refuses(read_answer, json.dumps(found).encode())


def test_members_that_nobody_knows_are_ignored():
    assert read_request(json.dumps(json.loads(REQUEST.encode()) | {"later": 1}).encode()) == REQUEST
    assert read_answer(json.dumps(json.loads(ANSWER.encode()) | {"later": 1}).encode()) == ANSWER


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"5",
        b'"x"',
        b"{",
        b"[" * 100_000,
        b'{"boot":' + b"9" * 5000 + b"}",
        b" " * (SESSION_BYTES_MAX + 1),
    ],
    ids=lambda data: repr(data[:10]),
)
def test_what_is_no_session_message_is_refused(data):
    refuses(read_request, data)
    refuses(read_answer, data)


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(data):
    refuses(read_request, data)
    refuses(read_answer, data)


def test_more_boots_or_streams_than_a_node_can_have_are_refused():
    boots = [f"{n:032x}" for n in range(BOOTS_MAX)]
    read_request(altered(REQUEST.encode(), "boots", to=boots[:-1]))
    refuses(read_request, altered(REQUEST.encode(), "boots", to=boots))
    streams = [{"stream": f"s{n}", "epoch": 1, "tag": "0badcafe", "lane": "bulk"} for n in range(STREAMS_MAX + 1)]
    read_request(altered(REQUEST.encode(), "streams", to=streams[:-1]))
    refuses(read_request, altered(REQUEST.encode(), "streams", to=streams))


def test_largest_request_and_answer_that_are_allowed_fit_the_limit_of_bytes():
    streams = tuple(
        OwnStream(stream=f"s{n:062}", epoch=EPOCH_MAX, tag="0badcafe", lane="critical") for n in range(STREAMS_MAX)
    )
    boots = tuple(f"{n:032x}" for n in range(BOOTS_MAX - 1))
    request_ = SessionRequest(boot="0" * 32, boots=boots, fence="f" * 128, log_certificate=LOG_PEM, streams=streams)
    assert read_request(request_.encode()) == request_
    theirs = tuple(
        TheirStream(stream=s.stream, epoch=EPOCH_MAX, tag=s.tag, size=2**63 - 1, root=bytes(32)) for s in streams
    )
    answer = SessionAnswer(fence="f" * 128, ledger="l" * 128, cosign_certificate=COSIGN_PEM, held=True, streams=theirs)
    assert read_answer(answer.encode()) == answer


def test_request_without_heads_names_none_and_one_of_before_there_were_heads_is_read():
    assert b"heads" not in REQUEST.encode()
    assert read_request(REQUEST.encode()).heads == ()


@pytest.mark.parametrize(
    "heads", [None, "x", {}, [1], [None], ["\ud800"], ["x" * (NOTE_BYTES_MAX + 1)], ["x"] * (HEADS_MAX + 1)]
)
def test_heads_that_are_no_short_list_of_texts_are_refused(heads):
    with pytest.raises(BadBatch):
        read_request(json.dumps(json.loads(REQUEST.encode()) | {"heads": heads}).encode())


def test_longest_request_fits_what_a_gateway_reads():
    own = tuple(
        OwnStream(stream=f"{n:063d}", epoch=EPOCH_MAX, tag="0" * 8, lane="critical") for n in range(STREAMS_MAX)
    )
    note = sign_checkpoint(
        Checkpoint(Origin("n" * 63, "s" * 63, EPOCH_MAX, "0" * 8), 2**63 - 1, bytes(32)),
        FileSigner("n" * 63, ed25519(b"k")),
    )
    longest = SessionRequest(
        boot="0" * 32, boots=("1" * 32,) * (BOOTS_MAX - 1), fence="f" * 128, log_certificate=LOG_PEM, streams=own, heads=(note,) * HEADS_MAX
    )  # fmt: skip
    assert len(longest.encode()) <= SESSION_BYTES_MAX


@pytest.mark.parametrize(
    ("answer", "note"),
    [(b'{"receipt": "a note"}', b"a note"), (b"{}", b""), (b'{"receipt": 7}', b""), (b'{"receipt": null}', b""), (b'{"receipt": "\\ud800"}', b"?")],
)  # fmt: skip
def test_the_receipt_of_what_is_common_is_the_answers_text_or_nothing(answer, note):
    assert read_receipt(answer) == note
