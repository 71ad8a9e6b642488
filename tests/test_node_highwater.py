"""A disk that is older than the node had been is noticed before there is a link, and what comes after is kept apart."""

import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.alarms import Alarms
from node.clock import SystemClock
from node.restored import name_lost, part_from
from node.uplink.highwater import SAVE_S_MIN, HighWater
from sync.control import Hole, decode, read_hole
from sync.errors import NoRoom
from sync.highwater import Mark, encode_marks, read_marks
from sync.names import Origin
from sync.outbox import Outbox
from sync.record import Kind
from tests.gateway_rig import Realm
from tests.gateway_rig import running as centre
from tests.node_rig import EAGER, Node, message, running, wait_until
from tests.sim_realm import LOG_SIGNER

ORIGIN = Origin("clinic-7", "his", 1, "0badcafe")
LIVE = shutil.ignore_patterns("core.*", "*-shm")


@given(
    st.dictionaries(
        st.sampled_from(["his", "lab", "x-1"]),
        st.builds(Mark, st.integers(1, 2**31 - 1), st.just("0badcafe"), st.integers(0, 2**63 - 1), st.integers(0, 9)),
    )
)
def test_what_is_written_is_read(marks):
    assert read_marks(encode_marks(marks, "fence")) == marks


def test_bytes_that_are_no_mark_are_refused_and_nothing_else_is_raised():
    good, dice, refused = encode_marks({"his": Mark(2, "0badcafe", 7, 5)}, "f"), Random(1), 0
    for _ in range(3000):
        at = dice.randrange(len(good))
        changed = good[:at] + bytes([dice.randrange(256)]) + good[at + dice.randrange(3) :]
        try:
            found = read_marks(changed)
        except ValueError:
            refused += 1
            continue
        # what passes is a mark all the same: another number where a digit became another one, or no stream of that name
        assert read_marks(encode_marks(found, "f")) == found
    assert refused > 2000


@pytest.mark.parametrize(
    ("mark", "ahead"),
    [
        (Mark(1, "0badcafe", 10, 0), False),
        (Mark(1, "0badcafe", 11, 0), True),
        (Mark(1, "00000000", 3, 0), True),
        (Mark(2, "00000000", 0, 0), True),
    ],
)
def test_node_had_been_further_only_if_the_mark_says_so(mark, ahead):
    assert mark.is_ahead_of(ORIGIN, 10) == ahead
    assert not mark.is_ahead_of(Origin("clinic-7", "his", 3, "11111111"), 0)


def test_mark_is_written_seldom_whole_and_at_once_where_it_must(tmp_path):
    now = [0.0]
    kept = HighWater(tmp_path / "mark", lambda: now[0])
    kept.accepted(ORIGIN, 5)
    kept.save()
    kept.accepted(ORIGIN, 6)
    kept.save()
    assert HighWater(tmp_path / "mark", lambda: 0.0).read()["his"].accepted == 5
    now[0] = SAVE_S_MIN
    kept.receipted(ORIGIN, 4, "f")
    kept.save()
    assert HighWater(tmp_path / "mark", lambda: 0.0).read()["his"] == Mark(1, "0badcafe", 6, 4)
    kept.accepted(ORIGIN, 7)
    kept.save(now=True)
    assert HighWater(tmp_path / "mark", lambda: 0.0).read()["his"].accepted == 7


def test_mark_that_cannot_be_read_or_written_stops_nothing(tmp_path):
    (tmp_path / "mark").write_bytes(b"\xff")
    kept = HighWater(tmp_path / "mark", lambda: 0.0)
    assert kept.read() == {}
    gone = HighWater(tmp_path / "nowhere/mark", lambda: 0.0)
    gone.accepted(ORIGIN, 5)
    gone.save(now=True)


@pytest.mark.parametrize("forgets", ["some", "everything"])
def test_restored_node_knows_it_without_a_link_and_what_it_takes_then_is_held_and_never_lost(tmp_path, forgets):
    realm = Realm.make(tmp_path / "realm")
    with centre(realm, tmp_path / "centre") as gateway:
        node = Node(realm, tmp_path / "node", gateway=gateway)
        first, lost, late = ([message(f"H-{part}-{n}") for n in range(3)] for part in "abc")
        with running(node, before=EAGER):
            node.send(*first)
            node.wait_receipted(size=3)
        shutil.copytree(node.data, tmp_path / "backup", ignore=LIVE)
        with running(node, before=EAGER):
            node.send(*lost)
            node.wait_receipted(size=6)
            node.stop()
        for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
            (node.data / name).unlink(missing_ok=True)
        if forgets == "some":
            shutil.copy(tmp_path / "backup/outbox.db", node.data)
            shutil.copy(tmp_path / "backup/outbox.db-wal", node.data)
        node.gateway = "https://127.0.0.1:1"
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: ("NOD-31", "his") in node.alarms())
            assert node.stream().origin.epoch == 2
            node.send(*late)
        node.gateway = gateway
        with running(node, before=EAGER):
            node.wait_receipted()
            wait_until("all of it", lambda: len(gateway.records("clinic-7", "his")) == 10)
        found = gateway.records("clinic-7", "his")
        later = found[-1]["epoch"]
        assert later > 1
        assert [(each["epoch"], each["seq"], each["held"], each["kind"]) for each in found] == (
            [(1, n, False, "message") for n in range(6)]
            + [(later, n, True, "control" if n == 0 else "message") for n in range(4)]
        )
        # what the disk has lost is named there, signed, once
        (hole,) = [
            read_hole(decode(seen.header, seen.body)[1]) for seen in node.records() if seen.header.kind is Kind.CONTROL
        ]
        first_lost = 3 if forgets == "some" else 0
        assert hole == Hole(stream="his", epoch=1, first=first_lost, last=5, lost="all", why="restored")


def restored(tmp_path: Path, *, quota_bytes: int = 0) -> Outbox:
    """An outbox whose disk has none of the six records that the mark knows, after the further epoch was opened."""
    outbox = Outbox(tmp_path / "outbox.db", signer=LOG_SIGNER, random=Random(1).randbytes, quota_bytes=quota_bytes)
    outbox.open_streams({"his": "routine"}, ORIGIN.tag)
    part_from(outbox, {"his": Mark(1, ORIGIN.tag, 6, 0)}, Alarms(lambda: 0), tag="11111111")
    return outbox


def test_a_crash_between_the_further_epoch_and_its_hole_leaves_the_hole_to_the_next_start(tmp_path):
    outbox = restored(tmp_path)
    for _ in range(2):  # the second start finds it done
        name_lost(outbox, SystemClock(), facility="clinic-7")
        assert (outbox.heads["his"].origin.epoch, outbox.heads["his"].frontier.size) == (2, 1)


def test_what_is_lost_waits_to_be_named_until_there_is_room(tmp_path, monkeypatch):
    outbox = restored(tmp_path)

    def full(_drafts):
        raise NoRoom("full")

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "append", full)
        name_lost(outbox, SystemClock(), facility="clinic-7")
    assert outbox.heads["his"].frontier.size == 0
    name_lost(outbox, SystemClock(), facility="clinic-7")
    assert outbox.heads["his"].frontier.size == 1


@pytest.mark.parametrize(
    "value", [b"{", b"7", b"\xff", b'{"stream":"lab","epoch":1,"first":0,"last":5,"lost":"all","why":"restored"}']
)
def test_a_flipped_bit_in_what_is_to_be_named_stops_no_start(tmp_path, value):
    outbox = restored(tmp_path)
    with outbox.transaction():
        outbox.set_fact("lost/his", value)
    name_lost(outbox, SystemClock(), facility="clinic-7")
    assert outbox.heads["his"].frontier.size == 0
