"""The FHIR feed's HTTP against clients that are slow, torn, greedy or hostile, and against crashes of its own."""

import contextlib
import hashlib
import signal
import ssl
import threading
import time
from random import Random

import pytest

from node.tools.pki import issue_gateway
from sync.record import Kind, Verdict
from tests.fhir_rig import DOCUMENT, OBSERVATION, PATIENT, Http, bundle, connect, dumped, fhir_node, request
from tests.gateway_rig import Realm
from tests.node_rig import WAIT_S_MAX, wait_until

MIB = 1024 * 1024
QUICK = "import node.feeds.{module} as m; m.{name} = {value}"
SOON = "import node.feeds.http_plug as f; f.CHECK_S = 0.1"
SLOW_DISK = "import time, sync.outbox as o; append = o.Outbox.append; o.Outbox.append = lambda self, drafts: (time.sleep(0.5), append(self, drafts))[1]"


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    with fhir_node(realm, tmp_path_factory.mktemp("node"), lines="body_mb_max = 1") as running:
        yield running


@pytest.fixture
def http(node):
    with connect(node) as connection:
        yield connection


def chunked(*parts: bytes, end: bool = True) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + (b"0\r\n\r\n" if end else b"")


def head_of(path: str = "/Patient", **headers: str) -> bytes:
    return request("POST", path, None, content_type="application/fhir+json", **headers)


def newest(node):
    return node.records("app")[-1]


# ---- bodies in pieces ---------------------------------------------------------------------------------------------------
def test_a_chunked_body_is_stored_as_its_bytes(node, http):
    body = dumped(PATIENT)
    http.write(head_of(transfer_encoding="chunked"))
    for at in range(0, len(body), 7):
        http.write(chunked(body[at : at + 7], end=False))
    http.write(b"0\r\n\r\n")
    assert http.answer().status == 201
    assert newest(node).body == body


def test_a_request_that_comes_byte_by_byte_is_taken(node, http):
    body = dumped(PATIENT)
    for byte in request("POST", "/Patient", body):
        http.write(bytes([byte]))
    assert http.answer().status == 201
    assert newest(node).body == body


def test_pipelined_requests_are_answered_in_their_order(node, http):
    bodies = [dumped({**PATIENT, "id": f"p-{n}"}) for n in range(8)]
    http.write(b"".join(request("PUT", f"/Patient/p-{n}", body) for n, body in enumerate(bodies)))
    positions = [http.answer().position[2] for _ in bodies]
    assert positions == list(range(positions[0], positions[0] + 8))
    assert node.bodies("app")[positions[0] :] == bodies


def test_a_client_that_closed_its_half_gets_its_answer(node, http):
    http.send("POST", "/Patient", dumped(PATIENT))
    http.socket.shutdown(1)
    assert http.answer().status == 201
    assert http.is_closed()


def test_a_client_that_waits_for_100_continue_gets_it_or_its_refusal_before_it_sends(node, http):
    body = dumped(PATIENT)
    http.write(head_of(expect="100-continue", content_length=str(len(body))))
    assert http._until(b"\r\n\r\n")[0] == b"HTTP/1.1 100 Continue"
    http._read = b""
    http.write(body)
    assert http.answer().status == 201
    http.write(head_of(expect="100-continue", content_length=str(2 * MIB)))
    assert http.answer().status == 413
    assert http.is_closed()  # it may send the body or not: what came next would have no meaning


def test_a_client_that_offers_http2_is_served_over_http1(http):
    body = dumped(PATIENT)
    http.send(
        "POST", "/Patient", body, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAAP__"
    )
    assert http.answer().status == 201


# ---- bodies that never are whole ----------------------------------------------------------------------------------------
def test_a_body_that_says_it_is_too_long_is_refused_unread_and_recorded(node, http):
    answer = http.call("POST", "/Patient", b"{", content_length=str(5 * MIB))
    seen = newest(node)
    assert (answer.status, answer.codes) == (413, ["FHR-13"])
    assert (seen.header.kind, seen.header.verdict, seen.refusal, seen.frame[0]) == (
        Kind.INCOMPLETE,
        Verdict.REJECTED,
        "FHR-13",
        5 * MIB,
    )


def test_a_body_that_grows_too_long_is_refused_with_what_came_of_it(node, http):
    http.write(head_of(transfer_encoding="chunked"))
    http.write(chunked(b"a" * (MIB + 1)))
    assert http.answer().codes == ["FHR-13"]
    seen = newest(node)
    length, sha256 = seen.frame
    assert (length, sha256, seen.body) == (MIB + 1, hashlib.sha256(b"a" * (MIB + 1)).digest(), b"a" * 4096)
    http.send("GET", "/metadata")
    assert http.answer().status == 200  # the connection lives


def test_a_refused_body_that_goes_on_for_ever_is_cut_off(node):
    with connect(node) as http, pytest.raises(ConnectionError):
        http.write(head_of(transfer_encoding="chunked"))
        for _ in range(1000):
            http.write(chunked(b"a" * 65536, end=False))


def test_a_connection_that_closes_inside_a_body_leaves_a_record_of_what_came(node):
    with connect(node) as http:
        http.write(head_of(content_length="1000") + b'{"resourceType":"Pat')
    seen = wait_until("the record", lambda: (found := newest(node)).refusal == "FHR-14" and found)
    assert (seen.header.kind, seen.body, seen.frame) == (
        Kind.INCOMPLETE,
        b'{"resourceType":"Pat',
        (20, hashlib.sha256(b'{"resourceType":"Pat').digest()),
    )


def test_a_body_that_stops_coming_is_408(realm, tmp_path):
    before = QUICK.format(module="http_body", name="PIECE_S_MAX", value=0.2)
    with fhir_node(realm, tmp_path, before=before) as node, connect(node) as http:
        http.write(head_of(content_length="1000") + b"{")
        answer = http.answer()
        assert (answer.status, answer.codes, newest(node).refusal) == (408, ["FHR-15"], "FHR-15")


def test_long_bodies_share_one_allowance_and_all_of_them_arrive(realm, tmp_path):
    before = f"import node.feeds.open_frames as f; f.OpenFrames.__init__.__defaults__ = ({8 * MIB},)"
    with fhir_node(realm, tmp_path, lines="body_mb_max = 4", before=before) as node:
        body = dumped({"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==" * (MIB - 100)})
        http = [connect(node) for _ in range(10)]
        empty = node.rss_bytes()
        threads = [
            threading.Thread(target=each.write, args=(request("POST", "/Binary", body)[:-1],), daemon=True)
            for each in http
        ]
        for thread in threads:
            thread.start()
        time.sleep(1.0)  # nothing is asserted of it: they write as far as they can
        assert node.rss_bytes() - empty < 30 * MIB  # 40 came, or would have
        for each, thread in zip(http, threads, strict=True):

            def finish(each=each, thread=thread):
                thread.join()
                each.write(body[-1:])

            threading.Thread(target=finish, daemon=True).start()
        assert [each.answer().status for each in http] == [201] * 10
        assert set(node.bodies("app")) == {body}
        for each in http:
            each.socket.close()


def test_one_that_drips_gives_up_its_turn_when_others_have_waited_long_enough(realm, tmp_path):
    before = (
        f"import node.feeds.open_frames as f; f.OpenFrames.__init__.__defaults__ = ({MIB},)\n"
        "import node.feeds.http_body as b; b.TURN_S_MAX = f.TURN_S_MAX = 0.3"
    )
    with fhir_node(realm, tmp_path, before=before) as node, connect(node) as first, connect(node) as second:
        body = dumped({"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==" * (MIB // 4)})
        first.write(request("POST", "/Binary", body)[: 900 * 1024])
        wait_until("the first one to be read", lambda: node.rss_bytes() > 0 and time.sleep(0.3) is None)
        second.write(request("POST", "/Binary", body))
        assert second.answer().status == 201
        assert first.answer().status == 408


# ---- heads --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS to a plain port
        b"MSH|^~\\&|HIS|TEST\r",
        b"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",  # smuggling
        b"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /fhir/metadata HTTP/1.1\r\nx: " + b"a" * 40_000,
    ],
    ids=["tls", "hl7", "two-lengths", "two-content-lengths", "bad-chunk", "long-head"],
)
def test_what_is_no_http_is_refused_and_closed_and_leaves_no_message(node, raw):
    before = node.stream("app").size
    with connect(node) as http:
        http.write(raw)
        answer = http.answer()
        assert (answer.status, answer.issues[0]["severity"]) == (400, "error")
        assert http.is_closed()
    assert [seen for seen in node.records("app")[before:] if seen.header.kind is Kind.MESSAGE] == []


def test_a_head_that_does_not_end_and_a_client_that_does_not_read_are_cut_off(realm, tmp_path):
    before = f"import node.feeds.http_connection as h; h.HEAD_S_MAX = h.UNREAD_S_MAX = 0.3\n{SOON}"
    body = dumped({"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==" * (3 * MIB)})
    with fhir_node(realm, tmp_path, before=before) as node:
        with connect(node) as http:
            http.write(b"GET /fhir/metadata HTTP/1.1\r\n")
            assert http.is_closed()
        with connect(node) as http:
            http.send("POST", "/Binary", body, Prefer="return=representation")
            wait_until("both to be told", lambda: len(node.log("http.not_welcome")) == 2)
            with pytest.raises(ConnectionError):
                http.answer()
        wait_until("both to be gone", lambda: node.ask("status")["feeds"]["app"]["connections"] == 0)
        assert {row["code"] for row in node.log("http.not_welcome")} == {"NOD-14", "NOD-15"}
        assert node.bodies("app") == [body]


def test_garbage_after_a_request_is_not_answered_in_its_place(node):
    with connect(node) as http:
        http.write(request("POST", "/Patient", dumped(PATIENT)) + b"\x00garbage\r\n\r\n")
        assert http.answer().status == 201
        assert http.is_closed()
    with connect(node) as http:
        http.write(request("POST", "/Patient", dumped(PATIENT)) * 2 + b"\x00garbage\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert http.answer().status == 201


def test_each_head_of_a_connection_has_the_same_limit(node):
    for before in range(3):
        with connect(node) as http:
            for _ in range(before):
                assert http.call("POST", "/Patient", dumped(PATIENT)).status == 201
            http.write(b"GET /fhir/metadata HTTP/1.1\r\nx: " + b"a" * 40_000)
            assert http.answer().status == 400


def test_blank_lines_hold_no_connection_open(realm, tmp_path):
    before = f"import node.feeds.http_connection as h; h.HEAD_S_MAX = 0.3\n{SOON}"
    with fhir_node(realm, tmp_path, before=before) as node, connect(node) as http:
        assert http.call("GET", "/metadata").status == 200
        http.write(b"\r\n")
        assert http.is_closed()


def test_a_fault_of_ours_is_a_500_that_says_so_and_the_feed_goes_on(realm, tmp_path):
    before = "import node.feeds.fhir_app as a; honest = a.judge\ndef judge(raw, *rest):\n    assert b'x' not in raw, raw\n    return honest(raw, *rest)\na.judge = judge"
    with fhir_node(realm, tmp_path, before=before) as node, connect(node) as http:
        answer = http.call("POST", "/Patient", b"xSECRET")
        assert (answer.status, answer.codes) == (500, ["NOD-00"])
        assert http.call("POST", "/Patient", b'{"resourceType":"Patient"}').status == 201
        assert "SECRET" not in node.text()


def test_too_many_pipelined_requests_are_cut_off(realm, tmp_path):
    with fhir_node(realm, tmp_path, before=SLOW_DISK) as node, connect(node) as http:
        http.write(request("POST", "/Patient", dumped(PATIENT)) * 40)
        with pytest.raises(ConnectionError):
            while True:
                http.answer()


# ---- who may come -------------------------------------------------------------------------------------------------------
def test_an_address_that_is_not_allowed_and_one_connection_too_many_are_closed(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines="connections_max = 1") as node, connect(node) as http:
        assert http.call("GET", "/metadata").status == 200
        with connect(node) as other:
            assert other.is_closed()
        assert http.call("GET", "/metadata").status == 200
    with fhir_node(realm, tmp_path / "b", lines='allow = ["192.0.2.0/24"]') as node, connect(node) as http:
        assert http.is_closed()
        assert node.log("http.not_welcome")[0]["code"] == "NOD-12"


def test_with_a_client_authority_only_its_certificates_get_in(realm, tmp_path):
    ca = realm.folder / "ca"
    issue_gateway(ca, tmp_path / "feed", "feed", ["127.0.0.1"])
    keys = realm.node("sender")
    tls = f'certificate = "{tmp_path}/feed/server.pem"\nkey = "{tmp_path}/feed/server.key"\nclient_ca = "{ca}/ca.pem"'
    with fhir_node(realm, tmp_path / "n", tls=tls) as node:
        context = ssl.create_default_context(cafile=str(ca / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)), connect(node, tls=context) as http:
            http.call("POST", "/Patient", dumped(PATIENT))
        context.load_cert_chain(keys / "link.pem", keys / "link.key")
        with connect(node, tls=context) as http:
            answer = http.call("POST", "/Patient", dumped(PATIENT))
            assert (answer.status, answer.headers["location"][:8]) == (201, "https://")
        with Http(node.feeds[0].address) as plain:
            plain.write(b"GET /fhir/metadata HTTP/1.1\r\n\r\n")
            assert plain.is_closed()


# ---- commits ------------------------------------------------------------------------------------------------------------
def test_what_was_answered_with_201_is_there_after_a_kill(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node:
        for n in range(4):
            body = dumped({**OBSERVATION, "id": f"kill-{n}"})
            with connect(node) as http:
                answer = http.call("POST", "/Observation", body)
                node.kill()
            node.start()
            assert answer.status == 201
            assert node.records("app")[answer.position[2]].body == body
        assert node.stream("app").size == 4


def test_no_2xx_leaves_before_the_commit(realm, tmp_path):
    dies = "import os, sync.outbox as o; o.Outbox.append = lambda self, drafts: os._exit(9)"
    with fhir_node(realm, tmp_path, before=dies) as node, connect(node) as http:
        http.send("POST", "/Patient", dumped(PATIENT))
        with pytest.raises(ConnectionError):
            http.answer()


def test_a_full_queue_is_429_and_is_told_when_to_come_again(realm, tmp_path):
    with fhir_node(realm, tmp_path, outbox="free_mb_min = 16\nqueue_records_max = 1", before=SLOW_DISK) as node:
        http = [connect(node) for _ in range(6)]
        for each in http:
            each.send("POST", "/Patient", dumped(PATIENT))
        answers = [each.answer() for each in http]
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {201, 429}
        assert {
            (answer.codes[0], answer.issues[0]["code"], bool(answer.headers["retry-after"])) for answer in refused
        } == {("NOD-01", "throttled", True)}
        assert node.stream("app").size == len(answers) - len(refused)
        for each in http:
            each.socket.close()


def test_a_full_disk_is_507_and_nothing_that_was_taken_is_lost(realm, tmp_path):
    with fhir_node(realm, tmp_path, outbox="free_mb_min = 16\nquota_mb = 16") as node, connect(node) as http:
        body = dumped({"resourceType": "Binary", "contentType": "text/plain", "data": "QQ==" * (MIB // 4)})
        taken = 0
        while (answer := http.call("POST", "/Binary", body)).status == 201:
            taken += 1
            assert taken < 30
        assert (answer.status, answer.issues[0]["code"], bool(answer.headers["retry-after"])) == (507, "no-store", True)
        assert len(node.records("app")) == taken > 3
        assert node.ask("status")["feeds"]["app"]["refused"] == 1


def test_what_is_under_way_is_answered_before_the_node_stops(realm, tmp_path):
    with fhir_node(realm, tmp_path, before=SLOW_DISK) as node, connect(node) as http, connect(node) as idle:
        http.send("POST", "", dumped(bundle(("POST", "Observation", OBSERVATION))))
        wait_until("the request to be taken", lambda: node.ask("status")["feeds"]["app"]["last_seen_us"])
        node.process.send_signal(signal.SIGTERM)
        assert http.answer().status == 200
        assert idle.is_closed()
        assert node.process.wait(20) == 0


def test_a_document_of_some_mib_is_judged_beside_the_loop(node, http):
    big = {
        **DOCUMENT,
        "entry": [*DOCUMENT["entry"], *[{"resource": {**OBSERVATION, "note": [{"text": "x" * 100}]}}] * 4000],
    }
    assert len(dumped(big)) > 512 * 1024
    assert http.call("POST", "", dumped(big)).status == 201
    assert newest(node).header.message_type == "Bundle^document"


def test_of_many_senders_no_201_is_lost_by_a_kill(realm, tmp_path):
    answered: dict[int, bytes] = {}

    def send(number: int) -> None:
        with contextlib.suppress(ConnectionError, OSError), connect(node) as http:
            for n in range(1000):
                body = dumped({**OBSERVATION, "id": f"s-{number}-{n}"})
                answer = http.call("POST", "/Observation", body)
                assert answer.status == 201
                answered[answer.position[2]] = body

    with fhir_node(realm, tmp_path) as node:
        for lives in range(3):
            wanted, threads = (
                len(answered) + 100,
                [threading.Thread(target=send, args=(10 * lives + k,)) for k in range(6)],
            )
            for thread in threads:
                thread.start()
            wait_until("a hundred answers", lambda wanted=wanted: len(answered) >= wanted)
            node.restart()
            for thread in threads:
                thread.join(WAIT_S_MAX)
        bodies = node.bodies("app")
        assert {seq: bodies[seq] for seq in answered} == answered


def test_torn_and_twisted_requests_neither_end_the_feed_nor_store_what_was_not_answered(node):
    """Valid requests with bytes changed, cut out, doubled or cut off at random, the same in each run."""
    dice = Random(20261122)
    good = [
        request("POST", "/Patient", dumped(PATIENT)),
        request("PUT", "/Patient/test-1", dumped(PATIENT), If_Match='W/"1"'),
    ]
    good += [
        head_of(transfer_encoding="chunked") + chunked(dumped(PATIENT)),
        request("POST", "", dumped(bundle(("POST", "Observation", OBSERVATION)))),
    ]
    before, taken = node.stream("app").size, []
    for _ in range(200):
        raw = bytearray(dice.choice(good))
        for _ in range(dice.randrange(1, 3)):
            at = dice.randrange(len(raw))
            raw[at : at + dice.randrange(3)] = (
                dice.randbytes(dice.randrange(3)) if dice.random() < 0.5 else raw[at : at + 1] * dice.randrange(3)
            )
        with connect(node) as http:
            http.write(bytes(raw[: len(raw) if dice.random() < 0.8 else dice.randrange(len(raw))]))
            http.socket.shutdown(1)
            with contextlib.suppress(ConnectionError):
                answer = http.answer()
                assert answer.status < 500, raw
                taken += [answer.position[2]] if answer.status < 300 and "wasl-record" in answer.headers else []
    with connect(node) as http:
        assert http.call("POST", "/Patient", dumped(PATIENT)).status == 201
    accepted = [seen.record.seq for seen in node.records("app")[before:-1] if seen.header.verdict < Verdict.REJECTED]
    assert taken == accepted
    assert len(taken) > 10
