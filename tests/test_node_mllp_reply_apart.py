"""Application replies over a connection of ours to the sender's own listener: stored before they are sent, in order, repeated, parked where refused."""

import pytest

from hl7.message import Message
from node.config.config import ConfigError, load
from tests.destination_rig import EAGER, Peer, ack, destination, msh, once, parked, wait_got
from tests.node_rig import END, START, Feed, Node, free_port, message, running, wait_until
from tests.test_node_mllp_modes import asking

RULES = 'types = ["ADT^*"]'


def feed(peer: Peer | int, *, more: str = "", check: str = RULES) -> Feed:
    port = peer if isinstance(peer, int) else peer.port
    return Feed("his", lines=f'application_reply_to = "127.0.0.1:{port}"\n{more}', check=check)


@pytest.fixture
def node(realm, tmp_path):
    made = Node(realm, tmp_path)
    yield made
    made.kill()


def accepts(node, *raws):
    """The replies on the sender's own connection."""
    return [reply.code for reply in node.send(*raws)]


def said(peer):
    """MSA-1 and MSA-2 of what came to the sender's listener."""
    return [tuple(Message(raw).read(("MSA-1", "MSA-2"))) for raw in once(peer.got)]


def test_the_accept_reply_comes_on_the_senders_connection_and_the_application_reply_on_ours(node):
    with Peer() as peer:
        node.feeds = [feed(peer)]
        node.start(before=EAGER)
        assert accepts(node, *[asking(f"M-{n}", b"AL", b"AL", name="ليلى تجريبية") for n in range(5)]) == ["CA"] * 5
        wait_got(peer, 5)
        wait_until("all are taken", lambda: destination(node, "his-replies")["taken"] == 5)
    assert said(peer) == [(b"AA", b"M-%d" % n) for n in range(5)]
    for raw in peer.got:
        head = Message(raw).read(("MSH-3", "MSH-5", "MSH-9.1", "MSH-15", "MSH-16", "MSH-18"))
        assert head == [b"WASL", b"HIS", b"ACK", b"AL", b"NE", b"UNICODE UTF-8"]
        assert 1 <= len(msh(raw, 10)) <= 20
    assert len({msh(raw, 10) for raw in peer.got}) == 5


def test_only_who_asks_for_an_application_reply_gets_one_and_refusals_and_tests_are_told_too(node):
    with Peer() as peer:
        node.feeds = [feed(peer, more='test_stream = "his-test"')]
        node.start(before=EAGER)
        sent = [
            message("ORIGINAL"), asking("NEVER", b"AL", b"NE"), asking("GOOD", b"AL", b"SU"), asking("ONLY-ERRORS", b"AL", b"ER"),
            asking("REFUSED", b"AL", b"AL", kind="ORU^R01"), asking("TEST", b"AL", b"AL").replace(b"|P|2.5.1", b"|T|2.5.1"),
        ]  # fmt: skip
        assert accepts(node, *sent) == ["AA", "CA", "CA", "CA", "CR", "CA"]
        with node.mllp() as mllp:
            mllp.send(asking("SILENT", b"NE", b"AL", kind="ORU^R01"))
            assert mllp.exchange(message("LAST")).code == "AA"
        wait_until("both streams", lambda: destination(node, "his-replies")["taken"] == 3)
    # what the accept reply has refused has no application reply; two streams take turns, each in its order
    assert sorted(said(peer)) == sorted([(b"AA", b"GOOD"), (b"AR", b"SILENT"), (b"AA", b"TEST")])
    refused = next(raw for raw in peer.got if b"SILENT" in raw)
    assert Message(refused).read(("ERR-3.1", "ERR-2")) == [b"200", b"MSH^1^9^1^1"]


def test_a_batch_is_answered_message_by_message(node):
    inner = asking("B-1", b"AL", b"AL") + asking("B-2", b"AL", b"AL", kind="ORU^R01") + asking("B-3", b"NE", b"AL")
    with Peer() as peer:
        node.feeds = [feed(peer)]
        node.start(before=EAGER)
        with node.mllp() as mllp:
            mllp.write(START + b"BHS|^~\\&|HIS|TEST\r" + inner + b"BTS|3\r" + END)
            mllp.reply()
        wait_until("two", lambda: destination(node, "his-replies")["taken"] == 2)
    assert said(peer) == [(b"AA", b"B-1"), (b"AA", b"B-3")]


def test_replies_wait_for_a_listener_that_is_away_and_outlive_a_killed_node_in_their_order(node):
    port = free_port()
    node.feeds = [feed(port)]
    node.start(before=EAGER)
    for part in range(3):
        assert accepts(node, *[asking(f"{part}-{n}", b"AL", b"AL") for n in range(4)]) == ["CA"] * 4
        node.restart(before=EAGER)
    wait_until("trouble", lambda: destination(node, "his-replies")["state"] == "retrying")
    with Peer(port=port) as peer:
        wait_until("the last", lambda: said(peer)[-1:] == [(b"AA", b"2-3")])
        before = len(peer.got)
        node.restart(before=EAGER)
        assert accepts(node, asking("AFTER", b"AL", b"AL")) == ["CA"]
        wait_until("the next one", lambda: said(peer)[-1:] == [(b"AA", b"AFTER")])
        assert len(peer.got) <= before + 2  # at most the one that was under way comes twice
    assert said(peer) == [(b"AA", b"%d-%d" % (part, n)) for part in range(3) for n in range(4)] + [(b"AA", b"AFTER")]


def test_a_repeated_reply_has_the_same_bytes_and_one_that_is_refused_is_parked_with_its_reason_and_replayed(node):
    answers = iter(["CR", "CA", "CE"])
    with Peer(lambda raw, _: [ack(raw, next(answers, "CA"))]) as peer:
        node.feeds = [feed(peer)]
        node.start(before=EAGER)
        node.send(asking("TWICE", b"AL", b"AL"), asking("BAD", b"AL", b"AL"), asking("NEXT", b"AL", b"AL"))
        wait_got(peer, 4)
        wait_until("one is parked", lambda: [row["reason"] for row in parked(node, "his-replies")] == ["DST-01"])
        assert peer.got[0] == peer.got[1]
        assert said(peer) == [(b"AA", b"TWICE"), (b"AA", b"BAD"), (b"AA", b"NEXT")]
        node.ask("destination replay his-replies all")
        wait_until("it is taken", lambda: not parked(node, "his-replies"))
    assert peer.got[4] == peer.got[2]


def test_a_reply_that_nobody_confirms_is_sent_again(node):
    held = iter([[], [b"no reply"]])
    with Peer(lambda raw, _: next(held, [ack(raw, "CA")])) as peer:
        node.feeds = [feed(peer)]
        node.start(
            before=EAGER
            + "\nfrom node.config.replies import RepliesOut; RepliesOut.model_fields['answer_s_max'].default = 1; RepliesOut.model_rebuild(force=True)"
        )
        node.send(asking("UNSURE", b"AL", b"AL"))
        wait_got(peer, 3)
        wait_until("taken", lambda: destination(node, "his-replies")["taken"] == 1)
    assert len(set(peer.got)) == 1


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ('application_reply_to = "127.0.0.1:2600"\napplication_reply = true', "one connection or the other"),
        (
            'application_reply_to = "127.0.0.1:2600"\nacknowledgement = "original"',
            "original mode has no application reply",
        ),
        ('application_reply_to = "127.0.0.1:0"', "must name a port"),
        ('application_reply_tls = { ca = "ca.pem" }', "without application_reply_to"),
    ],
)
def test_replies_that_could_go_two_ways_or_none_are_refused_by_the_configuration(realm, tmp_path, lines, wrong):
    node = Node(realm, tmp_path, feeds=[Feed("his", lines=lines)])
    with pytest.raises(ConfigError, match=wrong):
        load(node.config())


def test_a_destination_cannot_have_the_name_that_a_feeds_replies_have(realm, tmp_path):
    taken = '[[destinations]]\nname = "his-replies"\nkind = "mllp"\naddress = "127.0.0.1:2601"\nstreams = ["his"]\n'
    node = Node(realm, tmp_path, feeds=[feed(2600)], more=taken)
    with pytest.raises(ConfigError, match="which a destination has"):
        load(node.config())


def test_a_feed_without_the_setting_carries_nothing(realm, tmp_path):
    with running(Node(realm, tmp_path)) as node:
        assert node.ask("status")["destinations"] == {}


BROKEN = """
import node.destinations.replies as r
made = r.acknowledge
def broken(raw, *more, **keys):
    if b"|BAD|" in raw:
        raise OverflowError("secret")
    return made(raw, *more, **keys)
r.acknowledge = broken
"""


def test_a_reply_that_cannot_be_made_is_parked_and_told_and_those_behind_it_leave(node):
    with Peer() as peer:
        node.feeds = [feed(peer)]
        node.start(before=EAGER + BROKEN)
        node.send(asking("FIRST", b"AL", b"AL"), asking("BAD", b"AL", b"AL"), asking("NEXT", b"AL", b"AL"))
        wait_until("the others", lambda: said(peer) == [(b"AA", b"FIRST"), (b"AA", b"NEXT")])
        (row,) = parked(node, "his-replies")
        assert (row["reason"], row["detail"]) == ("DST-02", "content")
        wait_until("an alarm", lambda: any("his-replies" in str(each) for each in node.ask("status")["alarms"]))
        inner = asking("B-1", b"AL", b"AL") + asking("BAD", b"AL", b"AL") + asking("B-3", b"AL", b"AL")
        with node.mllp() as mllp:
            mllp.write(START + b"BHS|^~\\&|HIS|TEST\r" + inner + b"BTS|3\r" + END)
            mllp.reply()
        wait_until("the others of a batch", lambda: said(peer)[2:] == [(b"AA", b"B-1"), (b"AA", b"B-3")])
        assert len(parked(node, "his-replies")) == 2
        assert destination(node, "his-replies")["state"] == "up"
    node.stop()
    node.start(before=EAGER)  # the fault is mended: what was parked can be sent
    with Peer(port=peer.port) as later:
        node.ask("destination replay his-replies all")
        wait_until("both", lambda: sorted(said(later)) == [(b"AA", b"BAD")] * 2)
