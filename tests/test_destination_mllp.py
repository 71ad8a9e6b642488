"""The MLLP client against a peer that answers late, twice, wrongly, to others, or not at all: no reply is ever credited to another message."""

import ssl
import time

import pytest

from node.config.destinations import MllpOut
from node.destinations.mllp import IDS_MAX, MllpSink
from node.destinations.plug import ER7, End, Outgoing
from tests.destination_rig import Peer, ack, ids, msh
from tests.node_rig import END, START, free_port, message


def outgoing(control_id: str, place: int = 0, **more) -> Outgoing:
    return Outgoing("clinic-7", "his", place, 0, 1, place, ER7, "ADT^A01", control_id, message(control_id, **more))


def sink(port: int, **keys) -> MllpSink:
    table = {
        "name": "lis",
        "kind": "mllp",
        "address": f"127.0.0.1:{port}",
        "streams": ("his",),
        "answer_s_max": 1,
        **keys,
    }
    return MllpSink(MllpOut.model_validate(table).model_copy(update={"answer_s_max": 0.4}))  # who is silent is silent


@pytest.fixture
def made():
    """A peer with its client; closed at the end."""
    kept = []

    def make(answer=None, **keys):
        peer = Peer(answer)
        client = sink(peer.port, **keys)
        kept.extend((client, peer))
        return peer, client

    yield make
    for each in kept:
        each.close()


@pytest.mark.parametrize(
    ("code", "end"), [("AA", End.TAKEN), ("CA", End.TAKEN), ("AE", End.REFUSED), ("CE", End.REFUSED), ("AR", End.LATER), ("CR", End.LATER)]
)  # fmt: skip
def test_a_reply_of_either_mode_means_what_the_standard_says(made, code, end):
    _, client = made(lambda raw, _: [ack(raw, code)])
    assert client.deliver(outgoing("A-1")).end is end


def test_the_bytes_arrive_as_they_came_whatever_their_character_set(made):
    peer, client = made()
    body = message("A-1").replace("مريض تجريبي".encode(), "مريض تجريبي".encode("cp1256")) + b"ZZ1|\xff\xfe\x80|\r\r"
    assert client.deliver(outgoing("A-1")._replace(body=body)).end is End.TAKEN
    assert peer.got == [body]


def test_a_late_reply_is_never_credited_to_the_next_message(made):
    held = []

    def answer(raw, _):
        if msh(raw, 10) == b"A-1":
            held.append(ack(raw))
            return []
        return held  # the old one, and nothing about this one

    peer, client = made(answer, connection="kept")
    assert client.deliver(outgoing("A-1", 0)).end is End.LATER
    assert client.deliver(outgoing("A-2", 1)).end is End.LATER
    assert ids(peer.got) == ["A-1", "A-2"]


def test_a_reply_that_comes_unasked_before_a_message_is_forgotten(made):
    peer, client = made(lambda raw, _: [ack(raw)] if msh(raw, 10) != b"A-2" else [])
    assert client.deliver(outgoing("A-1", 0)).end is End.TAKEN
    peer.write(START + ack(message("A-2")) + END)
    time.sleep(0.1)  # it has to lie there before the message goes
    assert client.deliver(outgoing("A-2", 1)).end is End.LATER
    assert client.discarded == 1


def test_a_foreign_id_is_discarded_and_the_own_one_after_it_counts(made):
    _, client = made(
        lambda raw, _: [
            ack(raw, "AE", control_id=b"OTHER"),
            ack(raw, "AE", control_id=b""),
            ack(raw, "AE", control_id=b"A-11"),
            ack(raw),
        ]
    )
    assert client.deliver(outgoing("A-1")).end is End.TAKEN
    assert client.discarded == 3


def test_of_two_replies_to_one_message_the_second_is_nobodys(made):
    _, client = made(lambda raw, _: [ack(raw), ack(raw, "AE")])
    assert [client.deliver(outgoing(f"A-{n}", n)).end for n in range(30)] == [End.TAKEN] * 30


def test_two_messages_with_one_control_id_never_share_a_connection(made):
    """As in 2,251 of 4,128 collected messages: a second reply to the first would be taken for the other's."""
    taken = []

    def answer(raw, _):
        taken.append(raw)
        return [ack(raw), ack(raw)] if len(taken) == 1 else [ack(raw, "AE")]

    peer, client = made(answer)
    assert client.deliver(outgoing("SAME", 0)).end is End.TAKEN
    assert client.deliver(outgoing("SAME", 1)).end is End.REFUSED
    assert (peer.connections, peer.most_open) == (2, 1)


def test_messages_without_a_control_id_go_one_to_a_connection_and_are_answered_without_one(made):
    peer, client = made()
    assert [client.deliver(outgoing("", n)).end for n in range(3)] == [End.TAKEN] * 3
    assert peer.connections == 3


def test_one_connection_serves_all_and_never_are_there_two(made):
    peer, client = made()
    for n in range(50):
        assert client.deliver(outgoing(f"A-{n}", n)).end is End.TAKEN
    assert (peer.connections, peer.most_open) == (1, 1)
    assert ids(peer.got) == [f"A-{n}" for n in range(50)]


def test_a_connection_for_each_where_the_peer_wants_it(made):
    peer, client = made(connection="each")
    for n in range(5):
        assert client.deliver(outgoing(f"A-{n}", n)).end is End.TAKEN
    assert (peer.connections, peer.most_open) == (5, 1)


def test_a_connection_that_the_peer_closed_between_messages_costs_nothing(made):
    peer, client = made(lambda raw, _: [ack(raw)])
    assert client.deliver(outgoing("A-1", 0)).end is End.TAKEN
    for sock in list(peer._socks):
        sock.shutdown(2)
    time.sleep(0.1)
    assert client.deliver(outgoing("A-2", 1)).end is End.TAKEN
    assert peer.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        [], None, [b"\x00" * 5000], [START + b"HELLO" + END], [START + b"MSH|^~\\&|A\rMSA|AA" + END], [START + b"MSA|AA|A-1" + END],
        [START + b"MSH|^~\\&|A\rMSA|XX|A-1\r" + END], [START + b"x" * 200_000], [START + b"MSH|^~\\&|" + b"y" * 200_000 + b"\rMSA|AA|A-1\r" + END],
        [b"MSH|^~\\&|A\rMSA||A-1\r"], [START],
    ],
    ids=["silence", "close", "zeros", "text", "no id", "no MSH", "no code", "endless", "oversized", "empty code", "only VT"],
)  # fmt: skip
def test_what_is_no_reply_is_waited_over_and_the_same_is_tried_again(made, reply):
    good = []
    _, client = made(lambda raw, _: [ack(raw)] if good else reply)
    assert client.deliver(outgoing("A-1")).end is End.LATER
    good.append(1)
    assert client.deliver(outgoing("A-1")).end is End.TAKEN


@pytest.mark.parametrize(
    "reply",
    [START + b"MSH|^~\\&|A\rMSA|AA|A-1" + b"\x1c", b"noise" + START + b"\nMSH|^~\\&|A\n\nMSA|aa |A-1\n" + END],
    ids=["no CR", "LF"],
)
def test_the_ways_in_which_real_peers_write_are_taken(made, reply):
    _, client = made(lambda *_: [reply])
    assert client.deliver(outgoing("A-1")).end is End.TAKEN


def test_a_reply_that_drips_in_is_heard(made):
    def drip(raw, peer):
        for byte in START + ack(raw) + END:
            for sock in list(peer._socks):
                sock.sendall(bytes([byte]))
        return []

    _, client = made(drip)
    assert client.deliver(outgoing("A-1")).end is End.TAKEN


def test_nobody_there_is_no_verdict_on_the_message():
    client = sink(free_port())
    outcome = client.deliver(outgoing("A-1"))
    assert (outcome.end, outcome.code) == (End.BROKEN, "DST-10")


@pytest.mark.parametrize("body", [b"HELLO", b"", b"MSH|^~\\&|A\x1c\rB\r", b"MSH|^~\\&|A\r\x0bMSH|^~\\&|B\r"])
def test_what_cannot_be_framed_or_has_no_header_is_refused_before_it_is_sent(made, body):
    peer, client = made()
    assert client.deliver(outgoing("A-1")._replace(body=body)).end is End.REFUSED
    assert peer.got == []


def asking(accept: str, application: str = "NE") -> Outgoing:
    raw = message("A-1").replace(b"||||||UNICODE", f"|||{accept}|{application}||UNICODE".encode())
    assert msh(raw, 15) == accept.encode()
    return outgoing("A-1")._replace(body=raw)


@pytest.mark.parametrize(
    ("accept", "setting", "end"),
    [
        ("NE", "as-asked", End.TAKEN), ("ER", "as-asked", End.TAKEN), ("AL", "as-asked", End.LATER), ("SU", "as-asked", End.LATER),
        ("NE", "always", End.LATER), ("ER", "always", End.LATER),
    ],
)  # fmt: skip
def test_silence_is_consent_only_where_the_message_asked_for_it_and_the_site_says_so(made, accept, setting, end):
    peer, client = made(lambda *_: [], acknowledgement=setting)
    assert client.deliver(asking(accept)).end is end
    assert peer.got or accept == "NE"


def test_an_error_is_heard_where_only_errors_are_told(made):
    _, client = made(lambda raw, _: [ack(raw, "CE")], acknowledgement="as-asked")
    assert client.deliver(asking("ER")).end is End.REFUSED


def test_the_error_code_of_a_refusal_is_kept_and_its_text_is_not(made):
    _, client = made(lambda raw, _: [ack(raw, "AE") + b"ERR||PID^1^3|204^Unknown key|E||||Layla Test is unknown\r"])
    assert client.deliver(outgoing("A-1")).detail == "AE 204"
    _, client = made(lambda raw, _: [ack(raw, "AE") + b"ERR||PID^1^3|LAYLA^TEST|E\r"])
    assert client.deliver(outgoing("A-1")).detail == "AE"


def test_ids_that_are_remembered_are_bounded(made):
    peer, client = made()
    client.deliver(outgoing("A-0"))
    client._sent |= {b"%d" % n for n in range(IDS_MAX)}
    assert client.deliver(outgoing("A-1", 1)).end is End.TAKEN
    assert peer.connections == 2
    assert len(client._sent) == 1


def test_tls_with_a_client_certificate_is_spoken_and_another_authority_is_not(tmp_path):
    from tests.gateway_rig import Realm

    realm = Realm.make(tmp_path / "realm")
    keys = realm.node("clinic-7")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = realm.folder / "gateway"
    pem = sorted(server.rglob("*.pem"))
    certificate = next(
        each for each in pem if each.with_suffix(".key").exists() and each.stem in {"tls", "server", "link", "gateway"}
    )
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    context.load_verify_locations(realm.folder / "ca/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    table = {
        "ca": str(realm.folder / "ca/ca.pem"),
        "certificate": str(keys / "link.pem"),
        "key": str(keys / "link.key"),
        "server_name": "127.0.0.1",
    }
    with Peer(tls=context) as peer:
        client = sink(peer.port, tls=table)
        assert client.deliver(outgoing("A-1")).end is End.TAKEN
        client.close()
        for wrong in (
            {**table, "certificate": None, "key": None},
            {**table, "ca": str(keys / "link.pem")},
            {**table, "ca": str(tmp_path / "none.pem")},
        ):
            client = sink(peer.port, tls=wrong)
            outcome = client.deliver(outgoing("A-2"))
            assert outcome.end in {End.BROKEN, End.LATER}  # TLS 1.3: a missing certificate is told after the handshake
            client.close()
    assert ids(peer.got) == ["A-1"]
