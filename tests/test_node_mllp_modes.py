"""A running feed answers as its senders ask: enhanced mode, batches, refusals that must be silent; and their character sets."""

import time

import pytest

from sync.record import Verdict
from tests.node_rig import Feed, Node, Reply, message, running, wait_until

RULES = 'types = ["ADT^*"]'


def full_while(flag):
    """Python for the node's process: its disk is full for as long as a file is there."""
    return (
        "import pathlib, node.room as room\nkeep = room.Room.before\n"
        f"room.Room.before = lambda self, outbox, bodies: room.Stage.FULL if pathlib.Path({str(flag)!r}).exists() else keep(self, outbox, bodies)"
    )


@pytest.fixture(scope="module")
def flag(tmp_path_factory):
    return tmp_path_factory.mktemp("flag") / "full"


@pytest.fixture(scope="module")
def node(realm, flag, tmp_path_factory):
    feeds = [
        Feed("his", check=RULES),
        Feed("both", check=RULES, lines="application_reply = true"),
        Feed("plain", lines='acknowledgement = "original"'),
        Feed("always", lines='acknowledgement = "enhanced"'),
        Feed("windows", check='charset = "cp1256"'),
        Feed("waits"),
        Feed("batches", check=RULES),
    ]
    with running(Node(realm, tmp_path_factory.mktemp("node"), feeds=feeds), before=full_while(flag)) as found:
        yield found


@pytest.fixture
def full(flag):
    """The disk is full until the test lets it be, and in any case until it ends."""
    flag.touch()
    yield flag
    flag.unlink(missing_ok=True)


def asking(control_id, accept, application, **options):
    """A message with MSH-15 and MSH-16."""
    raw = message(control_id, **options)
    return raw.replace(b"||||||UNICODE", b"|||%b|%b||UNICODE" % (accept, application), 1)


def answers(node, feed, raw):
    """Every reply to a message, as far as the reply to the next one, which always comes."""
    last = message(f"LAST-{time.monotonic_ns()}")
    found = []
    with node.mllp(feed) as mllp:
        mllp.send(raw)
        mllp.send(last)
        while not found or found[-1].control_id != last.split(b"|")[9]:
            found.append(Reply(mllp.reply()))
    return [reply.code for reply in found[:-1]]


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        (b"AL", b"NE", ["CA"], ["CR"]),
        (b"AL", b"AL", ["CA"], ["CR"]),
        (b"SU", b"NE", ["CA"], []),
        (b"ER", b"NE", [], ["CR"]),
        (b"NE", b"NE", [], []),
        (b"", b"", ["AA"], ["AR"]),
        (b"AL", b"", ["AA"], ["AR"]),
    ],
)  # fmt: skip
def test_a_sender_gets_the_replies_that_it_asks_for_and_its_message_is_recorded_in_any_case(
    node, accept, application, good, bad
):
    size = node.stream().size
    assert answers(node, "his", asking(f"G-{accept}-{application}", accept, application)) == good
    assert answers(node, "his", asking(f"B-{accept}-{application}", accept, application, kind="ORU^R01")) == bad
    verdicts = [seen.header.verdict for seen in node.records("his", size)]
    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REJECTED, Verdict.ACCEPTED]


def test_a_feed_that_says_so_also_sends_the_application_reply_with_the_original_id(node):
    with node.mllp("both") as mllp:
        mllp.send(asking("APP-1", b"AL", b"AL"))
        first, second = Reply(mllp.reply()), Reply(mllp.reply())
    assert [(first.code, first.control_id), (second.code, second.control_id)] == [("CA", b"APP-1"), ("AA", b"APP-1")]
    assert second.payload.split(b"|")[14:16] == [b"NE", b"NE"]
    assert answers(node, "both", asking("APP-2", b"NE", b"ER", kind="ORU^R01")) == ["AR"]


def test_a_feed_may_hold_to_one_mode(node):
    assert answers(node, "plain", asking("P-1", b"NE", b"NE")) == ["AA"]
    assert [reply.code for reply in node.send(message("E-1"), feed="always")] == ["CA"]


@pytest.mark.parametrize(("accept", "code"), [(b"AL", "CE"), (b"ER", "CE"), (b"", "AR")])
def test_no_room_is_ce_in_enhanced_mode_and_ar_in_original_mode(node, full, accept, code):
    size = node.stream().size
    (reply,) = node.send(asking(f"FULL-{code}-{accept}", accept, b"NE" if accept else b""))
    assert (reply.code, reply.error) == (code, "207")
    assert node.stream().size == size


@pytest.mark.parametrize("accept", [b"NE", b"SU"])
def test_where_no_room_may_not_be_told_the_message_waits_and_nothing_overtakes_it(node, full, accept):
    size = node.stream("waits").size
    names = [f"{accept.decode()}-{number}" for number in range(30)]
    with node.mllp("waits") as mllp:
        mllp.send(*(asking(name, accept, b"NE") for name in names), message(f"END-{accept.decode()}"))
        time.sleep(0.3)
        assert node.stream("waits").size == size
        full.unlink()
        replies = [Reply(mllp.reply()) for _ in range(31 if accept == b"SU" else 1)]
    assert (replies[-1].code, replies[-1].control_id) == ("AA", b"END-" + accept)
    assert [seen.control_id for seen in node.records("waits", size)] == [*names, f"END-{accept.decode()}"]


def test_what_waits_for_room_is_bounded_and_a_sender_beyond_it_sees_its_connection_break(node, full):
    size = node.stream("waits").size
    big = asking("HELD", b"NE", b"NE", more="OBX|1|ED|||" + "A" * 9 * 1024 * 1024)
    held = [node.mllp("waits") for _ in range(4)]
    for number, mllp in enumerate(held):
        mllp.send(big.replace(b"HELD", b"HELD-%d" % number))
        time.sleep(0.2)
    assert held[3].is_closed()
    full.unlink()
    wait_until("the others stored", lambda: node.stream("waits").size == size + 3)
    assert {seen.control_id for seen in node.records("waits", size)} == {"HELD-0", "HELD-1", "HELD-2"}
    for mllp in held:
        mllp.socket.close()


def test_what_a_sender_that_wants_no_reply_left_behind_is_stored_after_it_has_gone(node):
    size = node.stream("waits").size
    names = [f"GONE-{number}" for number in range(50)]
    with node.mllp("waits") as mllp:
        mllp.send(*(asking(name, b"NE", b"NE") for name in names))
    wait_until("all stored", lambda: node.stream("waits").size == size + 50)
    assert [seen.control_id for seen in node.records("waits", size)] == names


def test_windows_arabic_without_a_declaration_is_good_text_on_a_feed_that_says_so(node):
    raw = message("W-1", name="سجل").replace(b"||||||UNICODE UTF-8", b"").decode().encode("cp1256")
    assert [reply.severity for reply in node.send(raw, feed="windows")] == [""]
    assert [reply.severity for reply in node.send(raw)] == ["W"]
    assert node.bodies("windows")[-1] == raw


def batch(*messages):
    return b"BHS|^~\\&|HIS|TEST|WASL|HUB|20300101||||B-1\r" + b"".join(messages) + b"BTS|%d\r" % len(messages)


def test_a_batch_is_one_record_and_each_message_in_it_has_its_reply(node):
    size = node.stream("batches").size
    raw = batch(
        message("B-1"), message("B-2", kind="ORU^R01"), asking("B-3", b"AL", b"NE"), asking("B-4", b"ER", b"NE")
    )
    with node.mllp("batches") as mllp:
        mllp.send(raw)
        reply = mllp.reply()
    rows = [row.split(b"|") for row in reply.split(b"\r")]
    assert [row[1:3] for row in rows if row[0] == b"MSA"] == [[b"AA", b"B-1"], [b"AR", b"B-2"], [b"CA", b"B-3"]]
    assert rows[0][0] == b"BHS"
    assert rows[0][11] == b"B-1"
    assert [row[1] for row in rows if row[0] == b"BTS"] == [b"3"]
    (seen,) = node.records("batches", size)
    assert (seen.body, seen.header.verdict, seen.particulars[8]) == (
        raw,
        Verdict.ACCEPTED_WITH_WARNING,
        ["HL7-13", "2"],
    )


def test_every_message_of_a_batch_without_room_is_to_be_sent_again(node, full):
    size = node.stream("batches").size
    with node.mllp("batches") as mllp:
        mllp.send(batch(message("N-1"), message("N-2")))
        reply = mllp.reply()
    assert reply.count(b"MSA|AR|N-") == 2
    assert node.stream("batches").size == size
