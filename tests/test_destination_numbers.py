"""A peer that counts: whatever reply is lost, wherever either side dies, no number is used for two messages, and no message is taken twice."""

import hashlib
import random

import pytest

from hl7.answer import link_message, with_number
from hl7.message import Message
from hl7.sequence import Deed, Last, number_of, receive
from node.config.destinations import MllpOut
from node.destinations.mllp_numbers import NumberedSink
from node.destinations.plug import ER7, End, Outgoing
from tests.destination_rig import EAGER, Peer, ack, destination, ids, msh, once, serve, to, wait_got
from tests.node_rig import Node, Realm, message, wait_until


class Counter:
    """The receiving side of the protocol, over the machine that the node's own feed uses; `lose` says which replies get lost."""

    def __init__(self, lose=lambda: False) -> None:
        self.last: Last | None = None
        self.taken: list[bytes] = []
        self.lose = lose

    def __call__(self, raw: bytes, _peer: object) -> list[bytes] | None:
        number = number_of(msh(raw, 13))
        assert number is not None, raw
        step = receive(self.last, number, hashlib.sha256(raw).digest(), is_refused=False)
        if step.deed is Deed.STORE:
            self.last = step.last
            self.taken.append(raw)
        if self.lose():
            return None
        return [ack(raw, "AE" if step.error else "AA", expected=step.expected)]


def sink(peer: Peer) -> NumberedSink:
    table = {
        "name": "lis",
        "kind": "mllp",
        "address": f"127.0.0.1:{peer.port}",
        "streams": ("his",),
        "sequence_numbers": True,
    }
    made = MllpOut.model_validate(table).model_copy(update={"answer_s_max": 0.4})
    return NumberedSink(made, prefix="0-lis-", now=lambda: "20300101080000+0000")


def outgoing(n: int, number: int, numbered="new") -> Outgoing:
    return Outgoing(
        "clinic-7", "his", n, 0, 1, n, ER7, "ADT^A01", f"A-{n}", message(f"A-{n}"), number=number, numbered=numbered
    )


def test_only_msh_13_of_a_message_changes():
    raw = message("A-1")
    numbered = with_number(raw, 4711)
    assert msh(numbered, 13) == b"4711"
    assert numbered.replace(b"|2.5.1|4711|", b"|2.5.1||") == raw
    short = b"MSH|^~\\&|A\rPID|1\r"
    assert with_number(short, 7) == b"MSH|^~\\&|A||||||||||7\rPID|1\r"


def test_the_start_of_a_link_is_an_msh_alone():
    raw = link_message(message("A-1"), 0, control_id=b"L-1", now=b"20300101")
    assert raw.count(b"\r") == 1
    assert Message(raw).read(("MSH-7", "MSH-10", "MSH-13", "MSH-3")) == [b"20300101", b"L-1", b"0", b"HIS"]


def test_numbers_follow_one_another_after_one_start():
    counter = Counter()
    with Peer(counter) as peer:
        client = sink(peer)
        for n in range(5):
            outcome = client.deliver(outgoing(n, n + 1))
            assert (outcome.end, outcome.used) == (End.TAKEN, True)
        client.close()
        assert [number_of(msh(raw, 13)) for raw in peer.got] == [0, 1, 2, 3, 4, 5]


def test_a_message_whose_reply_was_lost_is_not_sent_twice():
    lost = [False, True]
    counter = Counter(lambda: bool(lost) and lost.pop(0))
    with Peer(counter) as peer:
        client = sink(peer)
        assert client.deliver(outgoing(0, 1)).end is End.LATER
        assert client.deliver(outgoing(0, 1, "own")) == (End.TAKEN, "", "", 0.0, True)
        client.close()
        assert [number_of(msh(raw, 13)) for raw in peer.got] == [0, 1, 0]
        assert counter.taken == [with_number(message("A-0"), 1)]


def test_a_number_that_another_message_used_is_not_this_one_s():
    lost = [False, True]
    counter = Counter(lambda: bool(lost) and lost.pop(0))
    with Peer(counter) as peer:
        client = sink(peer)
        client.deliver(outgoing(0, 1))  # taken, its reply lost, and then a person skipped it
        assert client.deliver(outgoing(1, 1, "other")).end is End.SPENT
        assert client.deliver(outgoing(1, 2)).end is End.TAKEN
        assert client.deliver(outgoing(3, 3, "other")).end is End.FREE
        assert client.deliver(outgoing(3, 3)).end is End.TAKEN
        client.close()
    assert ids(counter.taken) == ["A-0", "A-1", "A-3"]


@pytest.mark.parametrize("expected", [9, 6, 0, None])
def test_a_peer_that_counts_otherwise_is_no_reason_to_send(expected):
    with Peer(lambda raw, _: [ack(raw, expected=expected)]) as peer:
        client = sink(peer)
        outcome = client.deliver(outgoing(4, 5))
        client.close()
        assert (outcome.end, outcome.code) == (End.LATER, "DST-15")
        assert [number_of(msh(raw, 13)) for raw in peer.got] == [0]


def test_a_late_reply_to_an_old_start_is_not_the_answer_to_this_one():
    with Peer(lambda raw, _: [ack(raw, expected=1, control_id=b"0-lis-99")]) as peer:
        client = sink(peer)
        assert client.deliver(outgoing(0, 1)).code == "DST-12"
        client.close()


def test_a_refused_message_has_used_its_number():
    def answer(raw, _):
        return [
            ack(raw, "AA", expected=-1) if msh(raw, 13) == b"0" else ack(raw, "AE", expected=number_of(msh(raw, 13)))
        ]

    with Peer(answer) as peer:
        client = sink(peer)
        outcome = client.deliver(outgoing(0, 1))
        assert (outcome.end, outcome.used) == (End.REFUSED, True)
        client.close()


def test_a_node_killed_at_any_moment_and_replies_lost_at_any_message_leave_no_gap_and_no_double(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    counter = Counter(lambda: dice.random() < 0.15)
    node = serve(Node(Realm.make(tmp_path / "realm"), tmp_path / "n"), "")
    with Peer(counter) as peer:
        serve(node, to(peer, more="sequence_numbers = true"))
        try:
            node.start(before=EAGER)
            for at in range(5):
                node.send(*[message(f"A-{at}-{n}") for n in range(12)])
                wait_until("some", lambda at=at: len(counter.taken) > 12 * at + dice.randrange(8))
                node.restart(before=EAGER)
            wait_until("all", lambda: len(counter.taken) >= 60)
            wait_until("the cursor", lambda: node.ask("destination list")[0]["waiting"] <= 1)
            assert destination(node)["parked"] == 0
        finally:
            node.kill()
    assert [number_of(msh(raw, 13)) for raw in counter.taken] == list(range(1, 61))
    assert ids(counter.taken) == [f"A-{at}-{n}" for at in range(5) for n in range(12)]
    assert once(counter.taken) == counter.taken
    assert wait_got(peer, 60)
