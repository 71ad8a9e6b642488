"""A destination that is a FHIR server: each record the request it came as; what the server's status means; HL7 v2 is in tests/test_destination_convert.py."""

import contextlib
import itertools
import json
import time

import pytest

from node.config.destinations import FhirOut
from node.destinations.fhir import FhirSink
from node.destinations.plug import ER7, FHIR_JSON, End, Outgoing
from tests.destination_rig import Peer, http
from tests.node_rig import Realm, free_port, message

BUNDLE = (
    json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": {"value": 72.50}}]})
    .replace("72.5", "72.50")
    .encode()
)


def sink(url: str, **keys) -> FhirSink:
    table = {"name": "server", "kind": "fhir", "url": url, "streams": ("his",), **keys}
    return FhirSink(
        FhirOut.model_validate(table).model_copy(update={"answer_s_max": 0.4, "connect_s_max": 0.4}),
        monotonic=time.monotonic,
    )


def outgoing(message_type: str = "Bundle^transaction", body: bytes = BUNDLE, **more) -> Outgoing:
    return Outgoing("clinic-7", "his", 41, 0, 1, 41, FHIR_JSON, message_type, "", body)._replace(**more)


@pytest.fixture
def server():
    """A server whose answer a test may change; its URL, what came, and the answer."""
    answer = {"status": 201, "headers": {}}
    with http(lambda _: (answer["status"], answer["headers"])) as (url, got):
        yield url, got, answer


def test_the_bytes_and_the_digits_of_their_decimals_arrive_as_they_came(server):
    url, got, _ = server
    client = sink(url)
    assert client.deliver(outgoing()).end is End.TAKEN
    client.close()
    ((method, path, headers, body),) = got
    assert (method, path, headers["Content-Type"], body) == ("POST", "/fhir", "application/fhir+json", BUNDLE)


@pytest.mark.parametrize(
    ("sent", "aim"),
    [
        ({}, ("POST", "/fhir")),
        ({"message_type": "Bundle^batch"}, ("POST", "/fhir")),
        ({"message_type": "Bundle^message"}, ("POST", "/fhir/$process-message")),
        ({"message_type": "Bundle^document"}, ("POST", "/fhir/Bundle")),
        ({"message_type": "Patient"}, ("POST", "/fhir/Patient")),
        ({"message_type": "Patient", "method": "PUT", "path": "Patient/p-7"}, ("PUT", "/fhir/Patient/p-7")),
        ({"message_type": "Patient", "method": "PUT", "path": "/Patient?identifier=urn:x|900101001"}, ("PUT", "/fhir/Patient?identifier=urn:x%7C900101001")),
        ({"message_type": "Bundle^transaction", "method": "POST", "path": ""}, ("POST", "/fhir")),
    ],
)  # fmt: skip
def test_a_record_goes_where_it_came_to(server, sent, aim):
    url, got, _ = server
    client = sink(url)
    assert client.deliver(outgoing(**sent)).end is End.TAKEN
    client.close()
    assert got[0][:2] == aim


@pytest.mark.parametrize(
    "sent",
    [
        {"method": "DELETE", "path": "Patient/p-7"}, {"method": "POST", "path": "../admin"}, {"method": "POST", "path": "//evil.example/x"},
        {"method": "PUT", "path": "Patient/p-7\r\nX: y"}, {"method": "POST", "path": "metadata"}, {"message_type": ""},
    ],
)  # fmt: skip
def test_a_record_never_becomes_another_request_than_a_delivery(server, sent):
    url, got, _ = server
    assert sink(url).deliver(outgoing(**sent)).end is End.REFUSED
    assert got == []


def test_conditional_headers_travel_and_no_other_line_does(server):
    url, got, _ = server
    client = sink(url)
    lines = 'if-none-exist: identifier=urn:x|7\nauthorization: Basic eA==\nif-match: W/"3"\nx-evil: 1'
    client.deliver(outgoing("Patient", conditions=lines))
    client.close()
    headers = {key.lower(): value for key, value in got[0][2].items()}
    assert (headers["if-none-exist"], headers["if-match"]) == ("identifier=urn:x|7", 'W/"3"')
    assert not {"authorization", "x-evil"} & headers.keys()


def test_a_repetition_bears_the_same_request_id_and_another_message_another(server):
    url, got, answer = server
    answer["status"] = 503
    client = sink(url)
    for place in (41, 41, 42):
        client.deliver(outgoing(place=place))
    client.close()
    assert [request[2]["X-Request-Id"] for request in got] == [
        "clinic-7.his.41.0",
        "clinic-7.his.41.0",
        "clinic-7.his.42.0",
    ]


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (200, End.TAKEN), (201, End.TAKEN), (202, End.TAKEN), (204, End.TAKEN), (400, End.REFUSED), (404, End.REFUSED), (409, End.REFUSED),
        (412, End.REFUSED), (413, End.REFUSED), (422, End.REFUSED), (408, End.LATER), (429, End.LATER), (500, End.LATER), (503, End.LATER),
        (401, End.BROKEN), (403, End.BROKEN), (301, End.BROKEN), (302, End.BROKEN), (304, End.BROKEN),
    ],
)  # fmt: skip
def test_a_status_means_what_it_says_and_a_lost_right_to_send_is_no_message_s_fault(server, status, end):
    url, _, answer = server
    answer["status"], answer["headers"] = status, {"Location": "http://127.0.0.1:1/"}
    client = sink(url)
    assert client.deliver(outgoing()).end is end
    client.close()


@pytest.mark.parametrize(
    ("asked", "wait"), [("7", 7.0), ("99999", 3600.0), ("Wed, 21 Oct 2030", 0.0), ("-1", 0.0), ("9" * 400, 0.0)]
)
def test_the_wait_that_a_server_asks_for_is_kept_and_bounded(server, asked, wait):
    url, _, answer = server
    answer["status"], answer["headers"] = 429, {"Retry-After": asked}
    client = sink(url)
    assert client.deliver(outgoing()).wait_s == wait
    client.close()


def test_hl7_v2_is_refused_where_it_is_not_to_be_converted_and_so_is_what_nothing_converts(server):
    url, got, _ = server
    raw = outgoing("ADT^A01", message("A-1"), content_type=ER7)
    assert sink(url).deliver(raw).code == "DST-02"
    assert sink(url).deliver(raw._replace(content_type="application/dicom")).code == "DST-02"
    assert got == []


def test_a_bearer_token_is_read_from_its_file_and_again_after_a_refusal(server, tmp_path):
    url, got, answer = server
    token = tmp_path / "token"
    token.write_text("one\n")
    client = sink(url, bearer_token=token)
    client.deliver(outgoing())
    token.write_text("two\n")
    answer["status"] = 401
    client.deliver(outgoing())
    answer["status"] = 201
    client.deliver(outgoing())
    client.close()
    assert [request[2]["Authorization"] for request in got] == ["Bearer one", "Bearer one", "Bearer two"]
    token.write_text("with a\nline break")
    assert sink(url, bearer_token=token).deliver(outgoing()).end is End.BROKEN


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        ([], End.LATER), (None, End.LATER), ([b"HTTP/1.1 2"], End.LATER), ([b"garbage\r\n\r\n"], End.LATER),
        ([b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nshort"], End.TAKEN),
        ([b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], End.TAKEN),
        ([b"HTTP/1.1 201 Created\r\n\r\n" + b"x" * 300_000], End.TAKEN),
    ],
    ids=["silence", "close", "half a line", "garbage", "cut body", "bad chunk", "endless"],
)  # fmt: skip
def test_no_status_is_no_verdict_and_a_status_is_one_whatever_follows_it(reply, end):
    class Raw(Peer):
        pass

    with Raw() as peer:
        peer._serve = lambda sock: _answer(sock, reply)
        client = sink(f"http://127.0.0.1:{peer.port}/fhir")
        assert client.deliver(outgoing()).end is end
        client.close()


def _answer(sock, reply) -> None:
    with sock:
        sock.recv(65536)
        if reply is None:
            return
        for part in reply:
            sock.sendall(part)
        time.sleep(1.0 if not reply else 0.2)


def test_an_answer_that_drips_is_left_after_the_time_of_an_answer_and_its_status_stands():
    seconds = itertools.count()

    def drip(sock):
        with sock, contextlib.suppress(OSError):
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n")
            for _ in range(100):  # each within the time that one read may take
                sock.sendall(b"x")
                time.sleep(0.01)

    with Peer() as peer:
        peer._serve = drip
        client = sink(f"http://127.0.0.1:{peer.port}/fhir")
        client._monotonic = lambda: float(next(seconds))
        assert client.deliver(outgoing()).end is End.TAKEN
        assert not client._answer.is_whole
        client.close()


def test_nobody_there_is_no_verdict():
    assert sink(f"http://127.0.0.1:{free_port()}/fhir").deliver(outgoing()).code == "DST-10"


def test_tls_of_another_authority_is_told_apart(tmp_path):
    realm = Realm.make(tmp_path / "realm")
    with Peer() as peer:
        client = sink(f"https://127.0.0.1:{peer.port}/fhir", tls={"ca": realm.folder / "ca/ca.pem"})
        assert client.deliver(outgoing()).end in {End.BROKEN, End.LATER}
        missing = sink(f"https://127.0.0.1:{peer.port}/fhir", tls={"ca": tmp_path / "none.pem"})
        assert missing.deliver(outgoing()).code == "DST-20"
