"""The uplink of a running node against gateways that lie, stammer, hang or are somebody else. The node must live, keep and retry."""

import contextlib
import json
import random
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.uplink.dictionaries import shipped
from sync.batch import decode
from sync.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, parse_note, sign_checkpoint
from sync.dictionary import NAME_MARK
from sync.keys import FileSigner, Verifier
from sync.names import Origin
from sync.session import TheirStream
from tests.gateway_rig import GATEWAY
from tests.node_rig import NAME, Feed, Node, message, running, wait_until
from tests.sim_gateway import SimGateway, hang, http, other_pem, problem, sim_gateway

MIB = 1024 * 1024
EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05"  # as short as a test wants to wait between tries
SHELF = shipped()
LINK = "connect_s_max = 1\nanswer_s_max = 1"
NUMBERS = iter(range(1_000_000))


@pytest.fixture(scope="module")
def fake(realm):
    with sim_gateway(realm) as found:
        yield found


@pytest.fixture(scope="module")
def node(realm, fake, tmp_path_factory):
    """One node for all lies after which the link goes on by itself."""
    made = Node(realm, tmp_path_factory.mktemp("node"), feeds=[Feed("his"), Feed("lab")], gateway=fake.url, link=LINK)
    with running(made, before=EAGER) as found:
        yield found


@pytest.fixture
def fresh(realm, tmp_path):
    """A node for one test, not yet started."""
    made = Node(realm, tmp_path, feeds=[Feed("his"), Feed("lab")], link=LINK)
    yield made
    made.kill()


@pytest.fixture
def lie(node, fake):
    """Call it with a script: the node meets it while a message waits; afterwards an honest gateway must get everything once."""

    def met(script, *, calls=2):
        settle(node, fake)
        pid, receipted = node.process.pid, node.stream().receipted
        asked = []

        def told(request):
            asked.extend([request] * (not request.is_session))
            return script(request)

        fake.script = told
        raw = send_one(node)
        wait_until("the lies", lambda: len(asked) >= calls)
        assert node.stream().receipted == receipted
        assert node.process.poll() is None
        alarms, link = node.alarms(), node.link_state()
        assert [reply.code for reply in node.send(raw)] == ["AA"]  # intake does not care
        settle(node, fake)
        assert node.process.pid == pid
        return alarms, link

    yield met
    fake.script = lambda _request: None


def send_one(node, feed="his", more=""):
    raw = message(f"UP-{next(NUMBERS)}", more=more)
    assert node.send(raw, feed=feed)[0].code == "AA"
    return raw


def settle(node, fake):
    """An honest gateway again: everything is there, in order, once, byte for byte."""
    fake.script = lambda _request: None
    node.ask("retry")
    for feed in node.feeds:
        node.wait_receipted(feed.name)
        assert fake.bodies(feed.name) == node.bodies(feed.name)


def then_close(data: bytes = b""):
    return lambda sock: sock.sendall(data) if data else None


def forever(start: bytes, part: bytes):
    def send(sock: ssl.SSLSocket) -> None:
        sock.sendall(start)
        while True:
            sock.sendall(part)

    return send


RECEIPT_LIKE = http(200, b"clinic-7/his/1-00000000\n1\nAAAA\n\n\xe2\x80\x94 centre AAAA\n")
BAD_ANSWERS = {
    "garbage": then_close(b"\x00\xff\x16\x03 garbage \r\n\r\n"),
    "another-protocol": then_close(b"220 mail.example ESMTP\r\n"),
    "closed-before-the-answer": then_close(),
    "closed-inside-the-head": then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closed-inside-the-body": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"),
    "nothing": hang,
    "endless-head": forever(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 60_000 + b"\r\n"),
    "endless-body": forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "bad-chunk": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
    "bad-length": then_close(b"HTTP/1.1 200 OK\r\nContent-Length: minus one\r\n\r\n"),
    "claims-gzip": http(200, b"\x1f\x8bnot gzip", Content_Encoding="gzip"),
    "500": http(500, b"Internal Server Error"),
    "500-problem": problem(500, "internal"),
    "502-html": http(502, b"<html>Bad Gateway</html>", "text/html"),
    "204": http(204),
    "301": http(301, Location="https://elsewhere.example/"),
    "200-empty": http(200),
    "200-garbage": http(200, b"\xff" * 300),
    "200-receipt-like": RECEIPT_LIKE,
    "200-long": http(200, b"A" * 600_000),
    "no-code": problem(403, None),
    "code-is-a-list": problem(403, ["fenced"]),
    "code-is-a-map": problem(403, {"fenced": 1}),
    "unknown-code": problem(400, "try-harder"),
    "fenced-without-problem-type": http(403, b'{"code": "fenced"}', "application/json"),
    "problem-is-a-list": http(403, b'["fenced"]', "application/problem+json"),
    "problem-is-deep": http(403, b"[" * 100_000, "application/problem+json"),
    "problem-is-cut": http(403, b'{"code": "fen', "application/problem+json"),
    "problem-is-not-text": http(403, b"\xff\xfe", "application/problem+json"),
    "retry-after-a-date": problem(503, "busy", headers={"Retry-After": "Wed, 21 Oct 2030 07:28:00 GMT"}),
    "rewind-to-nowhere": problem(409, "rewind"),
    "rewind-to-infinity": http(409, b'{"code": "rewind", "epoch": 1e999, "tag": "00000000", "size": 1e999, "root": ""}', "application/problem+json"),
    "rewind-to-before-the-start": problem(409, "rewind", epoch=1, tag="00000000", size=-5, root="00" * 32),
    "rewind-to-a-text": problem(409, "rewind", epoch="one", tag=7, size="x", root=9),
    "rewind-to-a-bad-root": problem(409, "rewind", epoch=1, tag="00000000", size=0, root="zz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_batch_answered_with_something_else_is_a_failure_of_the_path_and_sent_again(lie, name):
    alarms, link = lie(lambda request: None if request.is_session else BAD_ANSWERS[name])
    receipts = (
        {("SYN-26", "his")} if (name.startswith("200-") and name != "200-long") or name == "claims-gzip" else set()
    )
    assert alarms == receipts
    assert link[0] in {"down", "unproven", "up"}
    assert receipts or link[1] in {"LNK-05", "LNK-06"}


@pytest.mark.parametrize("name", [name for name in BAD_ANSWERS if not name.startswith(("rewind", "200-receipt"))])
def test_a_session_answered_with_something_else_is_a_failure_of_the_path_and_asked_again(node, fake, name):
    settle(node, fake)
    fake.script = lambda request: BAD_ANSWERS[name] if request.is_session else then_close()
    asked = len(fake.calls)
    send_one(node)
    wait_until("sessions", lambda: len([call for call in fake.calls[asked:] if call.is_session]) >= 2)
    assert node.link_state()[1] in {"LNK-05", "LNK-06"}
    settle(node, fake)


def edited(**changes):
    """The honest session answer as JSON, with these members changed; None removes one."""

    def edit(fake: SimGateway, request):
        found = json.loads(fake.session_answer(request).encode())
        found |= changes
        return json.dumps({key: value for key, value in found.items() if value is not None}).encode()

    return edit


def stream_of(**changes):
    def edit(fake: SimGateway, request):
        found = json.loads(fake.session_answer(request).encode())
        found["streams"] = [{**stream, **changes} for stream in found["streams"]]
        return json.dumps(found).encode()

    return edit


BAD_SESSIONS = {
    "no-fence": edited(fence=None),
    "fence-with-newline": edited(fence="a\r\nX-Injected: 1"),
    "fence-is-a-number": edited(fence=7),
    "no-certificate": edited(cosign_certificate=None),
    "certificate-is-not-text": edited(cosign_certificate="\ud800"),
    "certificate-is-garbage": edited(cosign_certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "certificate-of-strangers": lambda fake, request: fake.session_answer(request, cosign_certificate=other_pem(fake.realm)).encode(),
    "certificate-of-the-server": lambda fake, request: fake.session_answer(request, cosign_certificate=(fake.leaf / "server.pem").read_text()).encode(),
    "certificate-of-the-node": lambda fake, request: fake.session_answer(request, cosign_certificate=(fake.realm.node(NAME) / "log.pem").read_text()).encode(),
    "held-is-a-word": edited(held="no"),
    "streams-is-a-number": edited(streams=5),
    "a-stream-twice": lambda fake, request: edited(streams=json.loads(fake.session_answer(request).encode())["streams"] * 2)(fake, request),
    "size-is-negative": stream_of(size=-1),
    "size-is-infinite": stream_of(size=float("inf")),
    "size-is-true": stream_of(size=True),
    "root-is-short": stream_of(root="00"),
    "epoch-is-zero": stream_of(epoch=0),
    "tag-is-a-path": stream_of(tag="../../.."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SESSIONS)
def test_a_session_that_does_not_verify_opens_nothing(node, fake, name):
    settle(node, fake)
    fake.script = lambda request: (
        http(200, BAD_SESSIONS[name](fake, request), "application/json") if request.is_session else http(500)
    )
    send_one(node)
    asked = len(fake.calls)
    wait_until("sessions", lambda: len(fake.calls) >= asked + 3)
    assert {call.is_session for call in fake.calls[asked + 1 :]} == {
        True
    }  # no batch goes to a gateway whose key is not known
    assert node.link_state() == ("down", "LNK-06")
    settle(node, fake)


# -- receipts ----------------------------------------------------------------------------------------------------------
def node_signer(realm):
    return FileSigner(NAME, load_pem_private_key((realm.node(NAME) / "log.key").read_bytes(), None))


def forged(realm, **changes):
    """A receipt by the right key on a checkpoint that the node's own key signed, but not the one it sent."""

    def answer(fake, request):
        honest = parse_checkpoint(parse_note(decode(request.body, SHELF).checkpoint).text)
        values = {"origin": honest.origin, "size": honest.size, "root": honest.root}
        made = Checkpoint(**{**values, **{key: change(honest) for key, change in changes.items()}})
        return fake.receipt(sign_checkpoint(made, node_signer(realm)))

    return answer


FORGERIES = {
    "another-log": {"origin": lambda c: Origin(NAME, "lab", c.origin.epoch, c.origin.tag)},
    "another-node": {"origin": lambda c: Origin("clinic-8", c.origin.stream, c.origin.epoch, c.origin.tag)},
    "another-epoch": {"origin": lambda c: Origin(NAME, "his", c.origin.epoch + 1, c.origin.tag)},
    "another-tag": {"origin": lambda c: Origin(NAME, "his", c.origin.epoch, "deadbeef")},
    "a-larger-size": {"size": lambda c: c.size + 1},
    "a-huge-size": {"size": lambda _: 2**62},
    "a-smaller-size": {"size": lambda c: c.size - 1},
    "size-zero": {"size": lambda _: 0},
    "another-root": {"root": lambda _: bytes(32)},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_receipt_for_anything_but_what_was_sent_marks_nothing_as_receipted(lie, fake, realm, name):
    answer = forged(realm, **FORGERIES[name])
    alarms, _ = lie(lambda request: None if request.is_session else answer(fake, request))
    assert alarms == {("SYN-26", "his")}


@pytest.mark.parametrize("name", ["another-key", "a-flipped-bit", "only-the-node's-signature", "another-name"])
def test_a_receipt_with_a_wrong_signature_marks_nothing_as_receipted(lie, fake, realm, name):
    stranger = FileSigner(GATEWAY, Ed25519PrivateKey.generate())
    renamed = FileSigner("center", load_pem_private_key((realm.folder / "gateway/cosign.key").read_bytes(), None))

    def answer(request):
        if request.is_session:
            return None
        note = decode(request.body, SHELF).checkpoint
        if name == "another-key":
            return fake.receipt(note, stranger)
        if name == "another-name":
            return fake.receipt(note, renamed)
        if name == "only-the-node's-signature":
            return http(200, note)
        flipped = bytearray(fake.receipt(note))
        flipped[-10] ^= 1
        return bytes(flipped)

    alarms, _ = lie(answer)
    assert alarms == {("SYN-26", "his")}


def test_an_old_receipt_answered_again_for_ever_does_not_pass_for_progress(lie, fake, node):
    settle(node, fake)
    old = node.stream().receipt
    alarms, _ = lie(lambda request: None if request.is_session else http(200, old))
    assert alarms == {("SYN-26", "his")}


def test_calls_share_one_connection(node, fake):
    settle(node, fake)
    send_one(node)
    settle(node, fake)
    handshakes, asked = fake.handshakes, len(fake.calls)
    for _ in range(5):
        send_one(node)
        settle(node, fake)
    assert len(fake.calls) >= asked + 5
    assert fake.handshakes == handshakes


def test_what_the_node_sends_is_signed_by_its_log_key_over_exactly_what_was_sent(node, fake, realm):
    settle(node, fake)
    asked = len(fake.calls)
    send_one(node)
    settle(node, fake)
    batch = decode(next(call for call in fake.calls[asked:] if not call.is_session).body, SHELF)
    signer = node_signer(realm)
    checkpoint = open_checkpoint(batch.checkpoint, Verifier(NAME, signer.public))
    assert (checkpoint.size, checkpoint.origin) == (batch.first + len(batch.records), node.stream().origin)


# -- verdicts ----------------------------------------------------------------------------------------------------------
def test_a_busy_gateway_is_asked_again_with_no_more_than_its_window(node, fake):
    settle(node, fake)
    fake.script = lambda request: None if request.is_session else problem(503, "busy", window=1)
    asked = len(fake.calls)
    raws = [send_one(node) for _ in range(5)]
    wait_until("calls", lambda: len(fake.calls) >= asked + 3)
    small = [decode(call.body, SHELF) for call in fake.calls[asked + 1 :] if not call.is_session]
    assert {len(batch.records) for batch in small[1:]} == {1}
    settle(node, fake)
    assert fake.bodies()[-5:] == raws


def test_a_gateway_that_lost_its_newest_records_gets_them_again_under_an_alarm(node, fake):
    settle(node, fake)
    log, count = fake.logs["his"], len(fake.bodies())
    send_one(node)
    send_one(node)
    settle(node, fake)
    fake.logs["his"] = log  # as after a restore from yesterday's backup
    del fake.records["his"][count:]
    raw = send_one(node)
    wait_until("the third", lambda: fake.bodies()[-1:] == [raw])
    settle(node, fake)


@pytest.mark.parametrize("code", ["bad-batch", "too-large"])
def test_one_record_that_the_gateway_cannot_take_goes_without_body_and_holds_up_no_other(node, fake, code):
    settle(node, fake)
    count = len(fake.bodies())

    def script(request):
        if request.method != "PUT" or b"POISON" not in b"".join(
            record.body for record in decode(request.body, SHELF).records
        ):
            return None
        return problem(422, code)

    fake.script = lambda request: problem(503, "busy") if request.method == "PUT" else None
    raws = [send_one(node, more="ZZZ|POISON\r" if n == 5 else "") for n in range(11)]
    fake.script = script
    node.wait_receipted()
    assert fake.bodies()[count:] == [*raws[:5], b"", *raws[6:]]
    assert ("SYN-29", "his") in node.alarms()
    fake.records["his"][count + 5] = raws[5]
    settle(node, fake)


# -- a gateway that holds something else: each with a node of its own ------------------------------------------------------
PARTED = {
    "rewind-beyond-our-end": ("SYN-21", lambda fake: rewind(fake, size=99)),
    "rewind-to-another-root": ("SYN-20", lambda fake: rewind(fake, size=1)),
    "rewind-to-another-epoch": ("SYN-22", lambda fake: rewind(fake, epoch=2, size=1)),
    "rewind-to-another-tag": ("SYN-22", lambda fake: rewind(fake, tag="deadbeef", size=1)),
    "session-of-another-epoch": ("SYN-22", lambda fake: changed(fake, epoch=2)),
    "session-of-another-tag": ("SYN-22", lambda fake: changed(fake, tag="deadbeef")),
    "session-beyond-our-end": ("SYN-21", lambda fake: changed(fake, size=99)),
    "session-of-another-root": ("SYN-20", lambda fake: changed(fake, root=bytes(32))),
}


def changed(fake, **changes):
    """The gateway's log is another one from now on; a lost answer makes the node ask for a session."""
    fake.logs["his"] = TheirStream(**{**_members(fake.logs["his"]), **changes})
    return then_close()


def rewind(fake, **changes):
    log = fake.logs["his"]
    values = {"epoch": log.epoch, "tag": log.tag, "size": log.size, "root": "ab" * 32}
    return problem(409, "rewind", **{**values, **changes})


@pytest.mark.parametrize("name", PARTED)
def test_a_stream_of_which_the_gateway_holds_something_else_goes_on_under_a_further_epoch_and_loses_nothing(
    fresh, realm, name
):
    code, answer = PARTED[name]
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            first = [send_one(fresh), send_one(fresh)]
            fresh.wait_receipted(size=2)
            fake.script = lambda request: (
                answer(fake) if request.method == "PUT" and "/his/1/" in request.path else None
            )
            kept = [send_one(fresh), send_one(fresh)]
            wait_until("the alarm", lambda: (code, "his") in fresh.alarms())
            other = [send_one(fresh, "lab"), send_one(fresh, "lab")]
            kept.append(send_one(fresh))
            fresh.wait_receipted("lab", size=2)
            wait_until("all of it", lambda: fake.bodies()[-3:] == kept)
            fresh.wait_receipted()
            assert fresh.stream().origin.epoch == max(2, fake.logs["his"].epoch)
            assert fresh.bodies() == first + kept
            assert fake.bodies()[:2] == first
            assert fake.bodies("lab") == other


def test_a_stream_that_the_gateway_calls_forked_though_it_is_not_stands_still_while_intake_and_others_go_on(
    fresh, realm
):
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            first = [send_one(fresh), send_one(fresh)]
            fresh.wait_receipted(size=2)
            fake.script = lambda request: (
                problem(412, "fork") if request.method == "PUT" and "/his/" in request.path else None
            )
            kept = [send_one(fresh), send_one(fresh)]
            wait_until("the alarm", lambda: ("SYN-31", "his") in fresh.alarms())
            asked = len(fake.calls)
            other = [send_one(fresh, "lab"), send_one(fresh, "lab")]
            kept.append(send_one(fresh))
            fresh.wait_receipted("lab", size=2)
            assert {call.path.split("/")[3] for call in fake.calls[asked:] if call.method == "PUT"} <= {"lab"}
            assert (fresh.stream().size, fresh.stream().receipted) == (5, 2)
            assert fresh.bodies() == first + kept
            assert (fake.bodies(), fake.bodies("lab")) == (first, other)


def test_a_stream_that_the_gateway_does_not_know_waits_while_the_others_go_on(fresh, realm):
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url

        def without_his(request):
            if not request.is_session:
                return None
            answer = fake.session_answer(request)
            rest = tuple(stream for stream in answer.streams if stream.stream != "his")
            return http(200, fake.session_answer(request, streams=rest).encode(), "application/json")

        fake.script = without_his
        with running(fresh, before=EAGER):
            raw, other = send_one(fresh), send_one(fresh, "lab")
            fresh.wait_receipted("lab", size=1)
            assert ("SYN-24", "his") in fresh.alarms()
            assert (fake.bodies(), fake.bodies("lab"), fresh.bodies()) == ([], [other], [raw])
            fake.script = lambda _request: None
            with contextlib.suppress(OSError):
                fake.fence = "fence-2"
            fresh.restart(before=EAGER)
            fresh.wait_receipted("his", size=1)
            assert ("SYN-24", "his") not in fresh.alarms()


COUNTING = """
import os, node.uplink.uplink as uplink
class Counting(uplink.Sender):
    turns = 0
    def handle(self, event, now):
        if self.phase.value == "fenced":
            Counting.turns += 1
            if Counting.turns > 500: os._exit(99)  # it spins
        return super().handle(event, now)
uplink.Sender = Counting
"""


@pytest.mark.parametrize("at", ["session", "batch"])
def test_a_fenced_node_asks_no_more_alarms_and_keeps_taking_messages_without_spinning(fresh, realm, at):
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url
        fake.script = lambda request: problem(403, "fenced") if request.is_session == (at == "session") else None
        with running(fresh, before=EAGER + COUNTING):
            raws = [send_one(fresh)]
            wait_until("the alarm", lambda: ("SYN-27", "") in fresh.alarms())
            wait_until("the state", lambda: fresh.link_state()[0] == "fenced")
            asked = len(fake.calls)
            for _ in range(20):
                raws.append(send_one(fresh))
                fresh.ask("retry")
            with pytest.raises(RuntimeError):
                wait_until("another call", lambda: len(fake.calls) > asked, s_max=1.5)
            assert fresh.process.poll() is None
            assert (fresh.bodies(), fake.bodies(), fresh.stream().receipted) == (raws, [], 0)
            fake.script = lambda _request: None
            fresh.restart(before=EAGER)  # a person, or the supervisor
            fresh.wait_receipted(size=len(raws))
            assert fake.bodies() == raws


@pytest.mark.parametrize("at", ["session", "batch"])
def test_a_revoked_node_alarms_and_keeps_taking_messages(fresh, realm, at):
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url
        fake.script = lambda request: problem(403, "revoked") if request.is_session == (at == "session") else None
        with running(fresh, before=EAGER):
            raw = send_one(fresh)
            wait_until("the alarm", lambda: ("SYN-28", "") in fresh.alarms())
            wait_until("the state", lambda: fresh.link_state()[0] == "revoked")
            assert (fresh.bodies(), fake.bodies()) == ([raw], [])


def test_a_node_whose_records_are_held_says_so_and_goes_on_sending(fresh, realm):
    with sim_gateway(realm, held=True) as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            send_one(fresh)
            fresh.wait_receipted(size=1)
            assert fresh.alarms() == {("SYN-23", "")}


def test_a_restarted_node_that_finds_less_at_the_gateway_than_was_receipted_raises_the_alarm(fresh, realm):
    with sim_gateway(realm) as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            raws = [send_one(fresh) for _ in range(3)]
            fresh.wait_receipted(size=3)
        fake.logs["his"], fake.records = (
            TheirStream(**{**_members(fake.logs["his"]), "size": 0, "root": EMPTY_ROOT}),
            {},
        )
        fake.script = lambda request: None if request.is_session else problem(503, "busy")
        with running(fresh, before=EAGER):
            wait_until("the alarm", lambda: ("SYN-25", "his") in fresh.alarms())
            fake.script = lambda _request: None
            wait_until("all of it again", lambda: fake.bodies() == raws)


EMPTY_ROOT = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")  # SHA-256 of nothing


def _members(log):
    return {"stream": log.stream, "epoch": log.epoch, "tag": log.tag, "size": log.size, "root": log.root}


# -- long stories ------------------------------------------------------------------------------------------------------
def test_endless_answers_leave_the_memory_bounded(node, fake):
    settle(node, fake)
    send_one(node)
    settle(node, fake)
    before = node.rss_bytes()
    asked = len(fake.calls)
    fake.script = lambda request: None if request.is_session else BAD_ANSWERS["endless-body"]
    send_one(node)
    wait_until("twenty of them", lambda: len(fake.calls) >= asked + 40)
    assert node.rss_bytes() - before < 16 * MIB
    settle(node, fake)


def test_a_long_queue_arrives_whole_in_order_and_once_through_a_link_that_fails_at_random(node, fake):
    settle(node, fake)
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    count = len(fake.bodies())
    bad = [BAD_ANSWERS[name] for name in ("garbage", "closed-before-the-answer", "500", "closed-inside-the-body")]

    def script(request):
        if dice.random() > 0.6:
            return None
        if dice.random() < 0.5:
            fake.honest(request)  # taken, but the answer is lost on the way
        return dice.choice(bad)

    fake.script = script
    raws = [message(f"LONG-{n}", name="سلمى" * (n % 40)) for n in range(1200)]
    with node.mllp() as mllp:
        for at in range(0, len(raws), 50):
            mllp.send(*raws[at : at + 50])
            for _ in raws[at : at + 50]:
                assert b"MSA|AA" in mllp.reply()
    wait_until("all of it", lambda: len(fake.bodies()) == count + 1200)
    assert fake.bodies()[count:] == raws
    settle(node, fake)


def test_a_gateway_that_lacks_the_dictionary_gets_the_same_range_without_one_until_the_next_session(node, fake):
    settle(node, fake)
    before, alarms = len(fake.calls), node.alarms()

    def lacks(request):
        named = not request.is_session and request.body.startswith(NAME_MARK)
        return problem(422, "unknown-dictionary") if named else None

    fake.script = lacks
    for _ in range(2):
        send_one(node)
        node.wait_receipted()
    puts = [call for call in fake.calls[before:] if not call.is_session]
    assert [call.body.startswith(NAME_MARK) for call in puts] == [True, False, False]
    assert puts[0].path == puts[1].path
    assert node.alarms() == alarms
    settle(node, fake)
