"""The outbox: a group of drafts becomes records, or nothing does; and its streams."""

from contextlib import closing
from random import Random

import pytest

from sync.checkpoint import Checkpoint, open_checkpoint
from sync.errors import LogBroken, NotAName
from sync.keys import FileSigner
from sync.names import Origin
from sync.outbox import Outbox, Stored
from tests.naive_merkle import NaiveTree
from tests.outbox_rig import VERIFIER, bodies, outbox, some, stored
from tests.sim_disk import disk
from tests.sim_realm import LOG_SIGNER, NODE, STREAM, TAG, draft, ed25519


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


# ---- a group ---------------------------------------------------------------------------------------------------------
def test_drafts_stand_in_the_order_in_which_they_were_given(box):
    for first, count in ((0, 3), (3, 1), (4, 6)):
        found = box.append(some(first, count))
        assert found == [Stored(STREAM, 1, first + n, False) for n in range(count)]
    assert bodies(box) == [d.body for d in some(0, 10)]
    assert [record.seq for record in stored(box)] == list(range(10))


def test_each_stream_of_a_group_counts_for_itself(tmp_path):
    with closing(outbox(tmp_path, streams=("his", "lab"))) as made:
        group = [draft(n, stream="lab" if n % 3 == 0 else "his") for n in range(9)]
        found = made.append(group)
        assert [(each.stream, each.seq) for each in found] == [
            ("lab", 0), ("his", 0), ("his", 1), ("lab", 1), ("his", 2), ("his", 3), ("lab", 2), ("his", 4), ("his", 5),
        ]  # fmt: skip
        assert bodies(made, "lab") == [d.body for d in group[::3]]
        assert bodies(made, "his") == [d.body for n, d in enumerate(group) if n % 3]


def test_head_is_a_signed_checkpoint_of_exactly_the_records(box):
    for group in (some(0, 5), some(5, 1), some(6, 20)):
        box.append(group)
        head = box.heads[STREAM]
        leaves = [record.leaf for record in stored(box)]
        assert open_checkpoint(head.checkpoint, VERIFIER) == Checkpoint(
            Origin(NODE, STREAM, 1, TAG), len(leaves), NaiveTree(leaves).root(len(leaves))
        )
        assert head.octets == sum(map(len, bodies(box)))


def test_group_costs_one_signature_and_one_sync(tmp_path):
    class Counting(FileSigner):
        signed = 0

        def sign(self, data: bytes) -> bytes:
            Counting.signed += 1
            return super().sign(data)

    with (
        disk() as platter,
        closing(outbox(tmp_path, signer=Counting(NODE, ed25519("log key")), vfs=platter.name)) as made,
    ):
        made.append(some(0, 1))
        Counting.signed = 0
        platter.arm()
        made.append(some(1, 50))
        assert Counting.signed == 1
        assert [call for call in platter.calls if call[0] == "sync"] == [("sync", "wal")]
        assert platter.calls[-1] == ("sync", "wal"), "nothing is written after the sync that append waits for"


def test_each_record_has_a_salt_of_its_own(box):
    box.append([draft(0)._replace(repeat_key=b"") for _ in range(40)])
    salts = {record.salt for record in stored(box)}
    assert len(salts) == 40
    assert {len(salt) for salt in salts} == {16}
    assert len({record.leaf for record in stored(box)}) == 40, "equal messages have different leaves"


def test_nothing_is_stored_of_a_group_that_names_an_unknown_stream(box):
    box.append(some(0, 2))
    before = dict(box.heads)
    with pytest.raises(LogBroken):
        box.append([draft(2), draft(3, stream="lab")])
    assert box.heads == before
    assert len(stored(box)) == 2
    box.append(some(2, 1))
    assert [record.seq for record in stored(box)] == [0, 1, 2]


def test_nothing_is_stored_of_a_group_with_a_draft_that_cannot_be_encoded(box):
    before = dict(box.heads)
    with pytest.raises((ValueError, TypeError)):
        box.append([draft(0), draft(1, received_us=2**70)])
    assert box.heads == before
    assert stored(box) == []


def test_empty_group_is_nothing(box):
    assert box.append([]) == []
    assert box.heads[STREAM].frontier.size == 0


def test_everything_is_there_after_closing_and_opening(tmp_path):
    size = 0
    for count in (3, 1, 30, 2):
        with closing(outbox(tmp_path)) as made:
            assert bodies(made) == [d.body for d in some(0, size)]
            made.append(some(size, count))
            size += count
            last = made.heads
    with closing(outbox(tmp_path)) as made:
        assert made.heads == last


def test_log_over_tile_borders_verifies_and_goes_on(tmp_path):
    size = 0
    for count in (1000, 23, 1, 1, 1023, 5):
        with closing(outbox(tmp_path)) as made:
            made.append([draft(n, body=b"") for n in range(size, size + count)])
            size += count
    with closing(outbox(tmp_path)) as made:
        leaves = [record.leaf for record in stored(made)]
        assert made.heads[STREAM].frontier.root == NaiveTree(leaves).root(size)


# ---- streams ---------------------------------------------------------------------------------------------------------
def test_streams_keep_their_tag_and_get_the_lane_that_is_configured(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 2))
        made.open_streams({STREAM: "critical", "lab": "bulk"}, "11111111")
        assert (made.heads[STREAM].origin.tag, made.heads[STREAM].lane, made.heads[STREAM].frontier.size) == (
            TAG,
            "critical",
            2,
        )
        assert (made.heads["lab"].origin.tag, made.heads["lab"].lane) == ("11111111", "bulk")
        kept = dict(made.heads)
    with closing(Outbox(tmp_path / "outbox.db", signer=LOG_SIGNER, random=Random(2).randbytes)) as made:
        made.verify_heads()
        assert made.heads == kept


def test_stream_with_a_name_that_is_none_opens_nothing(box):
    with pytest.raises(NotAName):
        box.open_streams({"lab": "bulk", "Not A Name": "bulk"}, TAG)
    assert list(box.heads) == [STREAM]
    box.open_streams({"lab": "bulk"}, TAG)
    box.append([draft(0, stream="lab")])
