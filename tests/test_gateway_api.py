"""The nodes' listener as a node sees it: a real gateway process, real TLS, real batches."""

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cbor2
import psutil
import pytest
from backports import zstd

from sync.batch import CONTENT_TYPE, RAW_BYTES_MAX, WIRE_BYTES_MAX, encode
from sync.certificates import read, verifier_of
from sync.checkpoint import parse_checkpoint, parse_note
from sync.context import CONTEXT_BYTES_MAX, before
from sync.dictionary import CONTEXT_MARK, NAME_MARK, Shelf, read_index
from sync.log import SIZE_MAX
from sync.receipt import lengthen, open_receipt
from sync.record import BodyState, Record
from tests.gateway_rig import GATEWAY, Realm, code, maker, message, running

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    with running(realm, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def made(realm, gateway, tmp_path, request):
    """A maker of nodes with some messages, each under a name of its own."""
    with maker(realm, gateway, tmp_path, "n" + str(abs(hash(request.node.name)) % 10**9)) as make:
        yield make


# --- sessions


def test_a_first_session_answers_fence_ledger_and_empty_streams(made):
    node = made()
    answer = node.session()
    assert answer.status == 200
    found = answer.json()
    assert len(found["fence"]) == 32
    assert found["held"] is False
    (stream,) = found["streams"]
    assert (stream["stream"], stream["epoch"], stream["tag"], stream["size"]) == ("his", 1, node.origin().tag, 0)


def test_the_same_boot_again_gets_the_same_fence(made):
    node = made()
    assert node.session().json()["fence"] == node.session().json()["fence"]


def test_an_older_boot_is_403_fenced_and_an_older_fence_is_403(made):
    node = made()
    old_boot, old_fence = node.boot, node.session().json()["fence"]
    node.boot = os.urandom(16).hex()
    assert node.session(boots=(old_boot,)).json()["held"] is False
    assert code(node.session(boot=old_boot, fence=old_fence)) == (403, "fenced")
    assert code(node.put(0, 5, fence=old_fence)) == (403, "fenced")
    assert node.put(0, 5).status == 200


def test_an_older_boot_on_a_newer_connection_is_a_clone_alarm(made, gateway):
    node = made("clone")
    old_boot = node.boot
    node.session()
    node.boot = os.urandom(16).hex()
    node.session(boots=(old_boot,))
    node.pool.close()
    node.pool = node.open_pool()
    assert code(node.session(boot=old_boot)) == (403, "fenced")
    assert '"code": "GWY-11", "node": "clone"' in gateway.log


def test_an_unknown_boot_with_unknown_fence_is_admitted_but_held(made, gateway):
    node = made("restored")
    node.session()
    assert node.put(0, 4).status == 200
    node.boot = os.urandom(16).hex()
    assert node.session(fence="f" * 32).json()["held"] is True
    assert node.put(4, 12).status == 200
    assert '"code": "GWY-10", "node": "restored"' in gateway.log
    node.boot, before = os.urandom(16).hex(), node.boot
    assert node.session(boots=(before,)).json()["held"] is True, "a restart releases nothing"


def test_a_log_certificate_of_another_node_or_authority_opens_no_session(made, realm, tmp_path):
    node = made()
    other = realm.node("somebody-else")
    assert code(node.session(log_certificate=(other / "log.pem").read_text())) == (403, "bad-certificate")
    assert code(node.session(log_certificate=(node.keys / "link.pem").read_text())) == (422, "bad-certificate")
    foreign = Realm.make(tmp_path / "foreign").node(node.name)
    assert code(node.session(log_certificate=(foreign / "log.pem").read_text())) == (422, "bad-certificate")
    assert code(node.put(0, 5)) == (403, "fenced")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"boot": "x"}', b"[" * 100_000, "؟".encode()])
def test_a_session_request_that_is_none_is_422(made, body):
    assert code(made().pool.request("POST", "/v1/session", body=body)) == (422, "bad-batch")


def test_a_session_request_too_long_is_413_before_it_is_read(made):
    node = made()
    headers = {"Content-Length": str(300 * 1024)}
    assert code(node.pool.request("POST", "/v1/session", body=b"", headers=headers)) == (413, "too-large")


# --- batches


def test_a_put_is_answered_with_a_receipt_of_the_gateways_key_over_exactly_what_was_sent(made, realm):
    node = made()
    node.session()
    answer = node.put(0, 12)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    cosigner = verifier_of(read((realm.folder / "gateway/cosign.pem").read_bytes()), GATEWAY)
    receipt = open_receipt(answer.data, cosigner)
    assert receipt.checkpoint.origin == node.origin()
    assert (receipt.checkpoint.size, receipt.checkpoint.root) == (12, node.root(12))


def test_the_gateway_holds_every_byte_in_order(made, gateway):
    node = made()
    node.session()
    for first, end in ((0, 1), (1, 7), (7, 12)):
        assert node.put(first, end).status == 200
    shown = gateway.records(node.name, "his")
    assert [record["seq"] for record in shown] == list(range(12))
    assert [record["leaf"] for record in shown] == [record.leaf.hex() for record in node.records(0, 12)]


def test_same_range_again_gives_the_same_receipt(made):
    node = made()
    node.session()
    data = encode(node.batch(0, 12))
    first, again = node.put(0, 12, data=data), node.put(0, 12, data=data)
    assert (first.status, first.data) == (again.status, again.data) == (200, first.data)


def test_an_older_range_gives_the_receipt_of_the_head(made):
    node = made()
    node.session()
    head = node.put(0, 12)
    assert node.put(3, 7).data == head.data


def test_an_overlapping_range_appends_only_the_rest(made, gateway):
    node = made()
    node.session()
    assert node.put(0, 8).status == 200
    assert node.put(4, 12).status == 200
    assert len(gateway.records(node.name, "his")) == 12


def test_a_gap_is_409_with_size_and_root(made):
    node = made()
    node.session()
    node.put(0, 5)
    answer = node.put(6, 12)
    assert code(answer) == (409, "rewind")
    found = answer.json()
    assert (found["epoch"], found["tag"], found["size"]) == (1, node.origin().tag, 5)
    assert found["root"] == node.root(5).hex()


def test_a_stream_that_was_never_declared_is_409_with_epoch_0(made):
    node = made(streams=("his", "lab"))
    node.streams = ("his",)
    node.session()
    node.add([message(0)], stream="lab")
    answer = node.put(0, 1, "lab")
    assert (code(answer), answer.json()["epoch"]) == ((409, "rewind"), 0)


def test_a_changed_leaf_is_412_and_nothing_is_stored(made, gateway):
    node = made("forked")
    node.session()
    node.put(0, 8)
    twin = made("forked", streams=("his",))
    changed = [
        Record(seq=7, header=r.header, leaf=r.leaf, state=BodyState.TRIMMED, salt=b"", particulars=b"", body=b"")
        for r in twin.records(7, 8)
    ]
    altered = node.batch(7, 12, records=changed + node.records(8, 12))
    before = gateway.records("forked", "his")
    assert code(node.put(7, 12, data=encode(altered))) == (412, "fork")
    assert gateway.records("forked", "his") == before
    assert '"code": "GWY-12", "node": "forked", "stream": "his"' in gateway.log


def test_a_root_that_the_leaves_do_not_give_is_412_whatever_its_size(made, gateway):
    node = made()
    node.session()
    node.put(0, 8)
    for first, end in ((8, 12), (2, 5)):
        wrong = node.batch(first, end, root=bytes(32))
        assert code(node.put(first, end, data=encode(wrong))) == (412, "fork")
    assert len(gateway.records(node.name, "his")) == 8


def test_a_checkpoint_signed_by_another_key_is_422(made, realm):
    node = made()
    node.session()
    other = made("other-key")
    node.signer = type(node.signer)(node.name, other.signer._key)
    assert code(node.put(0, 5)) == (422, "bad-key")


def test_a_batch_of_another_node_or_address_is_422(made):
    node, other = made(), made("other-address")
    node.session()
    assert code(node.put(0, 5, data=encode(other.batch(0, 5)))) == (422, "bad-batch")
    assert code(node.put(1, 5, data=encode(node.batch(0, 5)))) == (422, "bad-batch")
    assert code(node.put_to("/v1/streams/BAD/1/0", b"x")) == (422, "bad-batch")
    assert code(node.put_to(f"/v1/streams/his/1/{2**64}", b"x")) == (422, "bad-batch")


@pytest.mark.parametrize(
    "data",
    [b"", b"x", zstd.compress(b""), zstd.compress(b"\xa0"), zstd.compress(cbor2.dumps(dict.fromkeys(range(1, 12), 0)))],
)
def test_bytes_that_are_no_batch_are_422(made, data):
    node = made()
    node.session()
    assert code(node.put(0, 1, data=data)) == (422, "bad-batch")


def test_numbers_beyond_all_logs_are_refused_and_no_fault_of_the_gateway(made, gateway):
    node = made()
    node.session()
    last = encode(replace(node.batch(0, 1), first=SIZE_MAX))
    assert code(node.put_to(f"/v1/streams/his/1/{SIZE_MAX}", last)) == (422, "bad-batch")
    for path in (f"/v1/streams/his/1/{'9' * 5000}", f"/v1/streams/his/{'9' * 5000}/0"):
        assert code(node.put_to(path, last)) == (404, "not-found")
    assert "GWY-16" not in gateway.log


def test_a_batch_under_a_dictionary_of_the_release_is_taken_and_under_another_422_unknown(made, gateway):
    node = made()
    node.session()
    known = Shelf(read_index(lambda name: (resources.files("sync") / "dictionaries" / name).read_bytes()))
    data = encode(node.batch(0, 12), known)
    assert data.startswith(NAME_MARK)
    unknown = data[: len(NAME_MARK)] + bytes(32) + data[len(NAME_MARK) + 32 :]
    assert code(node.put(0, 12, data=unknown)) == (422, "unknown-dictionary")
    assert node.put(0, 12, data=data).status == 200
    assert len(gateway.records(node.name, "his")) == 12


# --- contexts


def after(node, first, end, stream="his"):
    """A batch compressed with all that comes before it."""
    found = before(node.table(stream), node.origin(stream), first, since=0, octets_max=CONTEXT_BYTES_MAX)
    data = encode(node.batch(first, end, stream), context=found)
    assert data.startswith(CONTEXT_MARK)
    return data


def test_a_batch_after_its_context_is_taken_as_the_same_records(made, gateway):
    node = made()
    assert node.session().json()["context"] == CONTEXT_BYTES_MAX
    assert node.put(0, 8).status == 200
    assert node.put(8, 12, data=after(node, 8, 12)).status == 200
    assert node.put(8, 12, data=after(node, 8, 12)).status == 200  # the answer was lost
    rows = gateway.records(node.name, "his")
    assert [row["leaf"] for row in rows] == [record.leaf.hex() for record in node.records(0, 12)]
    assert [base64.b64decode(row["body"]) for row in rows] == [message(n) for n in range(12)]


def test_a_context_that_the_gateway_does_not_hold_is_422_unknown_and_changes_nothing(made, gateway):
    node, other = made(), made("other", messages=20)
    node.session()
    other.session()
    assert other.put(0, 20).status == 200
    assert node.put(0, 8).status == 200
    stranger = after(other, 10, 12)
    held = gateway.records(node.name, "his")
    for first, data in ((9, after(node, 9, 12)), (8, stranger), (8, after(node, 9, 12)), (0, after(node, 8, 12))):
        assert code(node.put(first, 12, data=data)) == (422, "unknown-dictionary")
    assert code(node.put_to("/v1/streams/his/2/8", after(node, 8, 12))) == (422, "unknown-dictionary")
    assert code(node.put_to("/v1/streams/nobody/1/8", after(node, 8, 12))) == (422, "unknown-dictionary")
    assert gateway.records(node.name, "his") == held


@pytest.mark.parametrize("state", [BodyState.TRIMMED, BodyState.ERASED, BodyState.DAMAGED])
def test_a_context_with_a_record_that_came_without_its_body_is_422_unknown(made, state):
    node = made()
    node.session()
    sent = [*node.records(0, 7), node.records(7, 8)[0].without_body(state)]
    assert node.put(0, 8, data=encode(node.batch(0, 8, records=sent))).status == 200
    assert code(node.put(8, 12, data=after(node, 8, 12))) == (422, "unknown-dictionary")
    assert node.put(8, 12).status == 200


def test_who_asks_for_a_short_receipt_gets_what_it_did_not_send(made):
    node = made()
    node.session()
    whole = node.put(0, 5)
    sent = node.batch(0, 5).checkpoint
    assert whole.data.startswith(sent)
    short = node.put_to("/v1/streams/his/1/0?short", encode(node.batch(0, 5)))
    assert (short.status, short.data) == (200, whole.data.removeprefix(sent))
    assert len(short.data) < 130
    assert lengthen(short.data, sent) == whole.data
    assert node.put(5, 9).status == 200
    # the head is beyond what is sent again: its checkpoint is no bytes that were sent
    ahead = node.put_to("/v1/streams/his/1/0?short", encode(node.batch(0, 5)))
    assert parse_checkpoint(parse_note(ahead.data).text).size == 9


def test_a_batch_without_length_or_beyond_the_limit_is_refused_before_it_is_read(made):
    node = made()
    headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(WIRE_BYTES_MAX + 1)}
    assert code(node.pool.request("PUT", "/v1/streams/his/1/0", body=b"", headers=headers)) == (413, "too-large")
    node.pool.close()  # the announced body never comes
    node.pool = node.open_pool()
    chunked = node.pool.request(
        "PUT", "/v1/streams/his/1/0", body=iter([b"x"]), chunked=True, headers={"Content-Type": CONTENT_TYPE}
    )
    assert code(chunked) == (411, "length-required")


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def bombs() -> dict[str, bytes]:
    """Batches of a few kilobytes that become large: as bytes, as objects, as headers."""
    fields = dict.fromkeys(range(1, 12), 0)
    many = b"\x9a" + (20 * MIB).to_bytes(4, "big") + b"\x80" * (20 * MIB)
    wide = {1: 1, 2: "n", 3: "his", 4: 1, 5: "a" * 8, 6: 0, 7: "bulk", 8: 0, 10: b"", 11: [[1, 0, {}]] * 512}
    common = {1: 1, 2: 0, 3: "x" * (20 * MIB), 4: "f", 5: "c", 6: "t", 8: 0, 9: 0, 10: 0, 11: 0, 12: 0, 13: bytes(32)}
    return {
        "bytes": zstd.compress(bytes(40 * RAW_BYTES_MAX)),
        "objects": zstd.compress(cbor2.dumps(fields)[:-1] + many),
        "headers": zstd.compress(cbor2.dumps(wide | {9: common})),
    }


def test_a_zstd_bomb_is_422_within_bounded_memory(made, gateway):
    node = made()
    node.session()
    process = psutil.Process(gateway.process.pid)
    for name, bomb in bombs().items():
        assert len(bomb) < MIB
        before = process.memory_info().rss
        assert code(node.put(0, 1, data=bomb)) == (422, "bad-batch"), name
        assert peak_bytes(process.pid) - before < 160 * MIB, name
    assert node.put(0, 5).status == 200


def test_two_puts_racing_on_one_stream_never_double_a_record(made, gateway):
    node = made(messages=200)
    node.session()
    ranges = [(first, min(200, first + length)) for first in range(0, 200, 7) for length in (7, 13)]
    batches = [(first, encode(node.batch(first, end))) for first, end in ranges]

    def send(batch: tuple[int, bytes]) -> int:
        pool = node.open_pool()
        try:
            headers = {"Content-Type": CONTENT_TYPE, "Wasl-Fence": node.fence}
            return pool.request("PUT", f"/v1/streams/his/1/{batch[0]}", body=batch[1], headers=headers).status
        finally:
            pool.close()

    with ThreadPoolExecutor(6) as threads:
        while len(gateway.records(node.name, "his")) < 200:
            assert set(threads.map(send, batches)) <= {200, 409, 503}
    shown = gateway.records(node.name, "his")
    assert [record["leaf"] for record in shown] == [record.leaf.hex() for record in node.records(0, 200)]


def test_trimmed_and_bare_records_are_committed_and_receipted(made, gateway):
    node = made(messages=3)
    node.session()
    whole, header_only, leaf_only = node.records(0, 3)
    none = {"salt": b"", "particulars": b"", "body": b""}
    sent = [
        whole,
        Record(seq=1, header=header_only.header, leaf=header_only.leaf, state=BodyState.DAMAGED, **none),
        Record(seq=2, header=b"", leaf=leaf_only.leaf, state=BodyState.LEAF_ONLY, **none),
    ]
    assert node.put(0, 3, data=encode(node.batch(0, 3, records=sent))).status == 200
    shown = gateway.records(node.name, "his")
    assert [record["state"] for record in shown] == ["present", "damaged", "leaf-only"]
    assert [record["body"] == "" for record in shown] == [False, True, True]
    assert [record["leaf"] for record in shown] == [record.leaf.hex() for record in node.records(0, 3)]


# --- what is no call of ours


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/v1/nodes"), ("PUT", "/v1/streams/his/1/x"), ("PUT", "/v1/streams/his/1/-1")],
)  # fmt: skip
def test_a_call_that_is_not_of_this_release_is_404_as_a_problem(made, method, path):
    answer = made(messages=1).pool.request(method, path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_method_that_does_not_fit_is_405_as_a_problem(made):
    assert code(made(messages=1).pool.request("GET", "/v1/session")) == (405, "method-not-allowed")


# --- last, over all that the tests before it sent


def test_the_log_holds_no_content(made, gateway):
    node = made()
    node.session()
    node.put(0, 12)
    node.put(0, 12, data=b"PID|1||T7||Secret Patient")
    assert "Secret" not in gateway.log
    assert "MSG0000" not in gateway.log
    assert all(json.loads(line)["level"] for line in gateway.log.splitlines())
