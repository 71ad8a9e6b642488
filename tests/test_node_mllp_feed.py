"""The MLLP feed of a running node against everything a network and bad senders do to it. What is stored is read from its outbox."""

import hashlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from node.tools.pki import issue_gateway, issue_node, make_authority
from sync.record import Kind, Verdict
from tests.node_rig import END, START, Feed, Mllp, Node, Reply, message, open_files, running, wait_until

MIB = 1024 * 1024
IMPATIENT = "import node.feeds.mllp as feed; import node.feeds.mllp_connection as connection; feed.CHECK_S = 0.2; connection.FRAME_S_MAX = 1.0"
STRICT = 'senders = ["HIS|TEST"]\ntypes = ["ADT^*"]\nversions = ["2.5.1"]\nrequired = ["PID-3"]'


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    """One node for all tests that need no restart; each feed has a stream of its own."""
    folder = tmp_path_factory.mktemp("node")
    issue_gateway(realm.folder / "ca", folder / "feed", "feed", ["127.0.0.1"])
    secure = f'certificate = "{folder}/feed/server.pem"\nkey = "{folder}/feed/server.key"\nclient_ca = "{realm.folder}/ca/ca.pem"'
    feeds = [
        Feed("his", ("127.0.0.1", "[::1]"), lines="frame_mb_max = 1"),
        Feed("strict", check=STRICT),
        Feed("closed", ("127.0.0.1", "[::1]"), lines='allow = ["192.0.2.0/24", "2001:db8::/32"]'),
        Feed("few", lines="connections_max = 2"),
        Feed("slow", lines="answer_s_max = 1"),
        Feed("silent", lines="idle_s_max = 1"),
        Feed("secure", tls=secure),
        Feed("secure-few", tls=secure, lines="connections_max = 2"),
        Feed("secure-closed", tls=secure, lines='allow = ["192.0.2.0/24"]'),
    ]  # fmt: skip
    with running(Node(realm, folder, feeds=feeds), before=IMPATIENT) as found:
        yield found


@pytest.fixture
def fresh(realm, tmp_path):
    """A node for one test, to be killed, filled or broken."""
    made = Node(realm, tmp_path)
    yield made
    made.kill()


@pytest.fixture
def new(node):
    """What a stream gained since this test began, once it has `count` records more."""
    sizes = {feed.name: node.stream(feed.name).size for feed in node.feeds}

    def gained(stream="his", count=None):
        if count is not None:
            wait_until(f"{count} records in {stream}", lambda: node.stream(stream).size >= sizes[stream] + count)
        return node.records(stream, sizes[stream])

    return gained


def assert_serves(node, name="his", **options):
    with node.mllp(name, **options) as mllp:
        assert mllp.exchange(message(f"STILL-HERE-{name}")).code == "AA"


# -- frames ------------------------------------------------------------------------------------------------------------
def test_a_message_is_stored_as_it_came_under_its_own_id(node, new):
    raw = message("ID-1", more="ZZZ|خاص\r")
    (reply,) = node.send(raw)
    assert (reply.code, reply.control_id, reply.error) == ("AA", b"ID-1", "")
    (record,) = new()
    assert (record.body, record.control_id, record.peer, record.refusal) == (raw, "ID-1", "127.0.0.1", "")
    assert record.header.verdict is Verdict.ACCEPTED
    assert (record.header.kind, record.header.message_type, record.header.feed) == (Kind.MESSAGE, "ADT^A01", "his")


def test_an_oversized_frame_is_recorded_by_length_hash_and_first_bytes_answered_ae_and_the_connection_goes_on(
    node, new
):
    raw = message("BIG-1", more="OBX|1|ED|||" + "A" * MIB)
    with node.mllp() as mllp:
        reply, after = mllp.exchange(raw), mllp.exchange(message("BIG-2"))
    assert (reply.code, reply.error, reply.control_id) == ("AE", "104", b"BIG-1")
    assert after.code == "AA"
    broken, good = new()
    assert (broken.frame, broken.body) == ((len(raw), hashlib.sha256(raw).digest()), raw[:4096])
    assert (broken.header.kind, broken.header.verdict, broken.refusal) == (Kind.INCOMPLETE, Verdict.REJECTED, "MLP-01")
    assert (broken.control_id, good.body) == ("BIG-1", message("BIG-2"))


def test_a_frame_of_exactly_the_limit_is_taken(node, new):
    raw = message("LIMIT-1", more="OBX|1|ED|||")
    raw += b"A" * (MIB - len(raw))
    assert node.send(raw)[0].code == "AA"
    assert [record.body for record in new()] == [raw]


def test_an_oversized_frame_that_never_ends_costs_no_memory(node, new):
    before = node.rss_bytes()
    with node.mllp() as mllp:
        mllp.write(START + message("ENDLESS-1"))
        for _ in range(64):
            mllp.write(b"B" * MIB)
        assert node.rss_bytes() - before < 16 * MIB
    (record,) = new(count=1)
    assert record.refusal == "MLP-01"
    assert record.frame[0] == len(message("ENDLESS-1")) + 64 * MIB


def test_a_frame_without_end_block_is_recorded_answered_ae_and_the_next_one_taken(node, new):
    lost, good = message("NO-END-1"), message("NO-END-2")
    with node.mllp() as mllp:
        mllp.write(START + lost + START + good + END)
        first, second = Reply(mllp.reply()), Reply(mllp.reply())
    assert (first.code, first.error, first.control_id) == ("AE", "100", b"NO-END-1")
    assert (second.code, second.control_id) == ("AA", b"NO-END-2")
    broken, taken = new()
    assert (broken.refusal, broken.header.kind) == ("MLP-02", Kind.INCOMPLETE)
    assert (broken.frame, broken.body) == ((len(lost), hashlib.sha256(lost).digest()), lost)
    assert taken.body == good


def test_a_frame_without_end_block_and_without_msh_is_recorded_and_not_answered(node, new):
    with node.mllp() as mllp:
        mllp.write(START + b"HELLO" + START + message("AFTER-HELLO") + END)
        assert Reply(mllp.reply()).control_id == b"AFTER-HELLO"
    assert [(record.refusal, record.body) for record in new()] == [("MLP-02", b"HELLO"), ("", message("AFTER-HELLO"))]


def test_start_and_end_bytes_inside_a_message_are_content(node, new):
    raw = message("CONTENT-1", more="NTE|1||a\x0bb\x1cc\r")
    assert node.send(raw)[0].code == "AA"
    assert [record.body for record in new()] == [raw]


def test_an_end_block_without_its_cr_ends_the_frame(node, new):
    with node.mllp() as mllp:
        mllp.write(START + message("BARE-1") + b"\x1c")
        assert Reply(mllp.reply()).control_id == b"BARE-1"
        mllp.write(START + message("BARE-2") + b"\x1c" + START + message("BARE-3") + END)
        assert [Reply(mllp.reply()).control_id for _ in range(2)] == [b"BARE-2", b"BARE-3"]
    assert [record.control_id for record in new()] == ["BARE-1", "BARE-2", "BARE-3"]


def test_bytes_between_frames_are_no_message(node, new):
    with node.mllp() as mllp:
        mllp.write(b"GET / HTTP/1.1\r\n\r\n" + START + message("NOISE-1") + END + b"\r\n\x00")
        assert Reply(mllp.reply()).control_id == b"NOISE-1"
        assert mllp.exchange(message("NOISE-2")).control_id == b"NOISE-2"
    assert [record.body for record in new()] == [message("NOISE-1"), message("NOISE-2")]


def test_a_message_that_comes_byte_by_byte_is_the_same_message(node, new):
    raw = message("DRIP-1")
    with node.mllp() as mllp:
        mllp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in START + raw + END:
            mllp.write(bytes([byte]))
        assert Reply(mllp.reply()).control_id == b"DRIP-1"
    assert [record.body for record in new()] == [raw]


def test_a_connection_that_closes_inside_a_frame_leaves_an_incomplete_record(node, new):
    part = message("CUT-1")[:70]
    with node.mllp() as mllp:
        mllp.write(START + part)
    (record,) = new(count=1)
    assert (record.refusal, record.header.kind, record.body) == ("MLP-03", Kind.INCOMPLETE, part)
    assert record.frame == (len(part), hashlib.sha256(part).digest())


def test_a_sender_that_falls_silent_inside_a_frame_is_closed_and_its_bytes_recorded(node, new):
    with node.mllp() as mllp:
        mllp.write(START + message("SILENT-1"))
        assert mllp.is_closed()
    (record,) = new(count=1)
    assert (record.refusal, record.control_id) == ("MLP-03", "SILENT-1")
    assert node.log("mllp.closed")[-1]["code"] == "NOD-15"


def test_an_idle_connection_is_closed_only_where_the_feed_says_so(node):
    with node.mllp("silent") as silent, node.mllp("his") as patient:
        assert silent.is_closed()
        assert patient.exchange(message("PATIENT-1")).code == "AA"


# -- messages ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"HELLO", "HL7-01"),
        (b"", "HL7-01"),
        (b"\x00\xff\xfe" * 9, "HL7-01"),
        (b"MSH", "HL7-01"),
        (b"MSH\r\r\r\r\r\r", "HL7-01"),
        ("رسالة بلا ترويسة".encode(), "HL7-01"),
        (message("UNDECODABLE-1").replace("مريض".encode(), b"\xc3\x28\xff"), "HL7-02"),
        (message("CHARSET-1").replace(b"UNICODE UTF-8", b"KLINGON"), "HL7-03"),
    ],
    ids=["text", "empty", "binary", "msh-only", "cr-separator", "arabic", "undecodable", "unknown-charset"],
)  # fmt: skip
def test_what_cannot_be_parsed_is_stored_as_it_came_and_answered_aa_with_a_warning(node, new, raw, code):
    with node.mllp() as mllp:
        reply = mllp.exchange(raw)
        assert mllp.exchange(message(f"AFTER-{code}-{len(raw)}")).code == "AA"
    assert (reply.code, reply.severity) == ("AA", "W")
    record, _ = new()
    assert (record.body, record.refusal) == (raw, code)
    assert record.header.verdict is Verdict.ACCEPTED_WITH_WARNING


@pytest.mark.parametrize(
    "raw", [b"MSH||||||||||\r", b"MSHaaaaaHISaTEST\r", b"MSH|\\^~&|HIS|T|||||A01|S-1|P|2.5\r", b"MSH|^~\\&"]
)
def test_wrong_separators_are_stored_as_they_came_and_answered_aa(node, new, raw):
    assert [reply.code for reply in node.send(raw, message(f"AFTER-{raw[3:7].hex()}"))] == ["AA", "AA"]
    assert new()[0].body == raw


def test_own_separators_are_understood_and_answered_in_kind(node, new):
    raw = b"MSH#*~\\&#HIS#TEST#WASL#HUB#20300101##ADT*A01#SEP-1#P#2.5.1\rPID#1##9*A\r"
    (reply,) = node.send(raw)
    assert (reply.code, reply.control_id) == ("AA", b"SEP-1")
    assert reply.payload.startswith(b"MSH#*~\\&#WASL#HUB#HIS#TEST#")
    assert [(record.body, record.control_id) for record in new()] == [(raw, "SEP-1")]


@pytest.mark.parametrize(
    ("options", "code", "error", "refusal"),
    [
        ({"sender": "LAB|TEST"}, "AR", "204", "HL7-04"),
        ({"kind": "ORU^R01"}, "AR", "200", "HL7-05"),
        ({"version": "2.3"}, "AR", "203", "HL7-08"),
        ({"pid": '""'}, "AE", "101", "HL7-09"),
    ],
)
def test_a_broken_site_rule_is_refused_and_the_refusal_takes_a_position_in_the_same_stream(
    node, new, options, code, error, refusal
):
    raw = message(f"RULE-{refusal}", **options)
    (reply, after) = node.send(raw, message(f"AFTER-{refusal}"), feed="strict")
    assert reply.code == code
    assert reply.error == error or options.get("version") == "2.3"  # an old ERR has no such field
    assert after.code == "AA"
    refused, good = new("strict")
    assert (refused.body, refused.refusal, refused.header.verdict) == (raw, refusal, Verdict.REJECTED)
    assert (good.record.seq, good.header.verdict) == (refused.record.seq + 1, Verdict.ACCEPTED)


def test_a_message_type_that_is_none_stays_out_of_the_permanent_header(node, new):
    raw = message("TYPE-1", kind="علي بن سالم")
    assert node.send(raw)[0].code == "AA"
    (record,) = new()
    assert (record.body, record.header.message_type) == (raw, "")


def test_no_control_id_however_long_or_strange_stops_a_message(node, new):
    ids = ["X" * 100_000, "A\x00B", "رقم", "'; DROP TABLE header; --"]
    raws = [message(each) for each in ids] + [message("BAD-UTF8").replace(b"BAD-UTF8", b"\xff\xfe")]
    assert [reply.code for reply in node.send(*raws)] == ["AA"] * 5
    assert [record.body for record in new()] == raws


# -- peers -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_unlisted_peer_leaves_one_event_and_no_record(node, new, host):
    before = len(node.log("mllp.refused"))
    with Mllp((host, node.feed("closed").port)) as mllp:
        assert mllp.is_closed()
    wait_until("the event", lambda: len(node.log("mllp.refused")) > before)
    (event,) = node.log("mllp.refused")[before:]
    assert (event["code"], event["feed"], event["peer"]) == ("NOD-12", "closed", host)
    assert new("closed") == []


def test_an_ipv6_peer_is_served_like_any_other(node, new):
    with Mllp(("::1", node.feed("his").port)) as mllp:
        assert mllp.exchange(message("SIX-1")).code == "AA"
    assert [record.peer for record in new()] == ["::1"]


def test_a_connection_beyond_the_limit_is_closed_and_the_others_served(node):
    with node.mllp("few") as first, node.mllp("few") as second:
        assert first.exchange(message("FEW-1")).code == second.exchange(message("FEW-2")).code == "AA"
        with node.mllp("few") as third:
            assert third.is_closed()
        assert first.exchange(message("FEW-3")).code == "AA"
    wait_until("free places", lambda: node.ask("status")["feeds"]["few"]["connections"] == 0)
    assert_serves(node, "few")


def test_two_thousand_idle_connections_leave_a_good_sender_served_and_memory_small(node, new):
    idle = 2000
    with open_files(2 * idle + 500):
        before, peers = node.rss_bytes(), []
        try:
            for n in range(idle):
                peers.append(node.mllp())
                if n % 2:  # half of them stop inside a frame
                    peers[-1].write(START + b"MSH|^~\\&|HALF")
            wait_until("2000 connections", lambda: node.ask("status")["feeds"]["his"]["connections"] >= idle // 2)
            assert [reply.code for reply in node.send(*[message(f"IDLE-{n}") for n in range(50)])] == ["AA"] * 50
            assert node.rss_bytes() - before < idle * 32 * 1024
        finally:
            for peer in peers:
                peer.socket.close()
    ids = [record.control_id for record in new(count=50)]
    assert [each for each in ids if each.startswith("IDLE-")] == [f"IDLE-{n}" for n in range(50)]


def test_a_node_without_free_file_descriptors_serves_again_once_there_are_some(fresh):
    with running(fresh, before="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"):
        peers = [fresh.mllp() for _ in range(100)]
        for peer in peers:
            peer.socket.close()
        wait_until("a node that serves", lambda: _serves(fresh))
        assert fresh.process.poll() is None


def test_the_usual_soft_limit_of_open_files_does_not_bound_the_connections(fresh):
    soft = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    with running(fresh, before=soft):
        peers = [fresh.mllp() for _ in range(400)]
        assert [peer.exchange(message(f"SOFT-{n}")).code for n, peer in enumerate(peers)] == ["AA"] * 400
        for peer in peers:
            peer.socket.close()


def _serves(node):
    try:
        with node.mllp() as mllp:
            return mllp.exchange(message("FD-1")).code == "AA"
    except OSError:
        return False


# -- replies -----------------------------------------------------------------------------------------------------------
def test_pipelined_frames_are_answered_in_the_order_in_which_they_came(node, new):
    raws = [message(f"PIPE-{n}") if n % 5 else b"JUNK %d" % n for n in range(300)]
    with node.mllp() as mllp:
        mllp.send(*raws)
        ids = [Reply(mllp.reply()).control_id.decode() for _ in raws]
    assert ids == [f"PIPE-{n}" if n % 5 else "" for n in range(300)]
    assert [record.body for record in new()] == raws


def test_a_client_that_never_reads_its_acks_is_closed_and_the_memory_stays_bounded(node, new):
    before, sent = node.rss_bytes(), 0
    with node.mllp("slow", receive_bytes=4096) as mllp, pytest.raises(OSError):  # closed at some write
        mllp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        while sent < 100_000:
            mllp.send(_unread(sent))  # the reply repeats the id: a few thousand fill any socket buffer
            sent += 1
    assert sent < 100_000
    assert node.log("mllp.closed")[-1]["code"] == "NOD-14"
    assert node.rss_bytes() - before < 24 * MIB
    taken = [record.body for record in new("slow")]
    whole = [body for body in taken if body.endswith(b"\r")]
    assert whole == [_unread(n) for n in range(len(whole))]
    assert len(taken) - len(whole) <= 1  # the frame the close cut
    assert_serves(node, "slow")


def _unread(number):
    return message(f"{number}-" + "U" * 3000)


# -- repeats -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("between", ["nothing", "SIGTERM", "SIGKILL"])
def test_a_resent_message_is_answered_again_and_stored_once(fresh, between):
    raw, refused = message("AGAIN-1"), message("AGAIN-2", sender="LAB|TEST")
    fresh.feeds[0].check = STRICT
    with running(fresh):
        first = fresh.send(raw, raw, refused)
        if between != "nothing":
            if between == "SIGTERM":
                assert fresh.stop() == 0
            fresh.restart()
        second = fresh.send(raw, refused, raw)
        assert [(r.code, r.control_id) for r in first] == [("AA", b"AGAIN-1"), ("AA", b"AGAIN-1"), ("AR", b"AGAIN-2")]
        assert [(r.code, r.control_id) for r in second] == [("AA", b"AGAIN-1"), ("AR", b"AGAIN-2"), ("AA", b"AGAIN-1")]
        assert fresh.bodies() == [raw, refused]


def test_a_message_resent_before_its_original_is_stored_joins_it(node, new):
    raw, codes = message("STORM-1"), []
    barrier = threading.Barrier(30)

    def storm():
        with node.mllp() as mllp:
            barrier.wait()
            mllp.send(raw, raw, raw)
            codes.extend(Reply(mllp.reply()).code for _ in range(3))

    threads = [threading.Thread(target=storm) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["AA"] * 90
    assert [record.body for record in new()] == [raw]


def test_the_same_id_with_other_bytes_is_another_message(node, new):
    raws = [message("SAME-1"), message("SAME-1", name="أخرى"), message("SAME-1") + b"\n"]
    assert [reply.code for reply in node.send(*raws)] == ["AA"] * 3
    assert [record.body for record in new()] == raws


def test_the_same_message_on_another_feed_is_another_message(node, new):
    raw = message("FEEDS-1")
    node.send(raw)
    node.send(raw, feed="strict")
    assert [record.body for record in new()] == [record.body for record in new("strict")] == [raw]


def test_messages_with_an_empty_control_id_never_repeat(node, new):
    raw = message("")
    assert [reply.code for reply in node.send(raw, raw, b"NO HEADER", b"NO HEADER")] == ["AA"] * 4
    assert [record.body for record in new()] == [raw, raw, b"NO HEADER", b"NO HEADER"]


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_refusals_beyond_the_quota_are_answered_and_counted_in_one_summary_record(fresh):
    fresh.feeds[0].check, fresh.feeds[0].lines = STRICT, "rejected_per_hour_max = 3"
    raws = [message(f"NO-{n}", sender="LAB|TEST") for n in range(9)]
    with running(fresh):
        replies = fresh.send(*raws, message("YES-1"))
        with fresh.mllp() as mllp:
            mllp.write(START + message("BROKEN-1") + START + message("YES-2") + END)
            broken = [Reply(mllp.reply()).code for _ in range(2)]
        assert ("NOD-11", "his") in fresh.alarms()
        assert fresh.stop() == 0
    assert [reply.code for reply in replies] == ["AR"] * 9 + ["AA"]
    assert broken == ["AE", "AA"]
    *records, summary = fresh.records()
    assert [record.body for record in records] == [*raws[:3], message("YES-1"), message("YES-2")]
    assert (summary.header.content_type, summary.refusal, summary.count) == (
        "application/vnd.wasl.refusals",
        "NOD-11",
        7,
    )
    assert (summary.header.verdict, summary.body) == (Verdict.REJECTED, b"")


# -- TLS ---------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificates(realm):
    """Client certificates: a good one, one of another authority, one that has expired."""
    past = datetime.now(UTC) - timedelta(days=3 * 365)
    make_authority(realm.folder / "other-ca", "Somebody Else")
    issue_node(realm.folder / "ca", realm.folder / "his", "his")
    issue_node(realm.folder / "other-ca", realm.folder / "stranger", "his")
    issue_node(realm.folder / "ca", realm.folder / "expired", "his", now=past)
    return realm.folder


def client(certificates, name):
    context = ssl.create_default_context(cafile=certificates / "ca/ca.pem")
    if name:
        context.load_cert_chain(certificates / name / "link.pem", certificates / name / "link.key")
    return context


def test_a_tls_source_with_a_certificate_of_the_authority_is_served(node, new, certificates):
    with node.mllp("secure", tls=client(certificates, "his")) as mllp:
        assert mllp.socket.version() in {"TLSv1.2", "TLSv1.3"}
        assert mllp.exchange(message("TLS-1")).code == "AA"
    assert [record.body for record in new("secure")] == [message("TLS-1")]


@pytest.mark.parametrize("name", ["", "stranger", "expired"])
def test_a_tls_source_without_a_valid_certificate_leaves_no_record(node, new, certificates, name):
    with (
        pytest.raises(OSError),
        node.mllp("secure", tls=client(certificates, name)) as mllp,
    ):  # at the handshake or the first read
        mllp.send(message("TLS-BAD"))
        mllp.reply()
    assert_serves(node, "secure", tls=client(certificates, "his"))
    assert [record.control_id for record in new("secure")] in ([], ["STILL-HERE-secure"])


def test_sockets_that_never_shake_hands_count_as_connections_of_a_tls_feed(node, certificates):
    with node.mllp("secure-few"), node.mllp("secure-few"), node.mllp("secure-few") as third:
        assert third.socket.recv(1) == b""
    wait_until("room again", lambda: shakes_hands(node, "secure-few", certificates))


def shakes_hands(node, feed, certificates):
    try:
        with node.mllp(feed, tls=client(certificates, "his")):
            return True
    except OSError:
        return False


def test_a_peer_that_is_not_on_a_tls_feeds_list_is_closed_before_any_handshake(node, certificates):
    with node.mllp("secure-closed") as mllp:
        assert mllp.socket.recv(1) == b"", "nothing was sent, so no handshake had begun"
    assert not shakes_hands(node, "secure-closed", certificates)


def test_plain_bytes_on_a_tls_port_leave_no_record(node, new, certificates):
    with node.mllp("secure") as mllp:
        mllp.send(message("PLAIN-1"))
        assert mllp.socket.recv(4096)[:1] in {b"", b"\x15"}  # a TLS alert at most
    assert_serves(node, "secure", tls=client(certificates, "his"))
    assert "PLAIN-1" not in [record.control_id for record in new("secure")]
