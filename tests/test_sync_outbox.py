"""The outbox: what it acknowledged is there, in order."""

from contextlib import closing
from random import Random

import apsw
import pytest

from sync.checkpoint import Checkpoint, open_checkpoint
from sync.errors import KeyAbsent, LogBroken, NoRoom, NotAName, SyncError
from sync.header import common_start
from sync.keys import FileSigner
from sync.names import Origin
from sync.outbox import TRIM_ROWS_MAX, Outbox, Stored
from sync.outbox_arrivals import repeat_key
from sync.outbox_bodies import receipted as receipted_of
from sync.recent import STRIDE
from sync.record import BodyState, Kind
from sync.session import BOOTS_MAX
from tests.naive_merkle import NaiveTree
from tests.outbox_rig import FAR, KEY, LEDGER, VERIFIER, bodies, note_of, outbox, receipted, some, stored
from tests.sim_disk import disk
from tests.sim_realm import LOG_SIGNER, NODE, NOW_S, STREAM, TAG, draft, ed25519


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


# --- a group


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


# --- streams


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


# --- repeats


def test_empty_control_id_never_repeats():
    assert repeat_key("his", "") == b""
    assert repeat_key("his", "C1") != repeat_key("hisC", "1")


def test_repeat_gets_the_first_ones_position_and_stores_nothing(box):
    (first,) = box.append([draft(0, repeat_key=KEY)])
    (again,) = box.append([draft(0, repeat_key=KEY, received_us=5)])
    assert again == first._replace(repeated=True)
    assert len(stored(box)) == 1


def test_repeat_within_one_group_is_found_too(box):
    box.append([draft(9)])
    group = [draft(0, repeat_key=KEY), draft(1), draft(0, repeat_key=KEY), draft(0, repeat_key=KEY)]
    assert [(each.seq, each.repeated) for each in box.append(group)] == [
        (1, False),
        (2, False),
        (1, True),
        (1, True),
    ]


def test_repeat_is_known_after_a_restart(tmp_path):
    key = repeat_key("his", "C00000")  # as the particulars of draft(0) say
    with closing(outbox(tmp_path)) as made:
        (first,) = made.append([draft(0, repeat_key=key)])
    with closing(outbox(tmp_path)) as made:
        assert made.append([draft(0, repeat_key=key)]) == [first._replace(repeated=True)]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"body": b"MSH|other"}, id="other bytes"),
        pytest.param({"verdict": 2}, id="another verdict"),
        pytest.param({"repeat_key": repeat_key("his", "C2")}, id="another control id"),
        pytest.param({"repeat_key": repeat_key("lab", "C1")}, id="another feed"),
        pytest.param({"repeat_key": b""}, id="no control id"),
        pytest.param(
            {
                "common": common_start(
                    kind=Kind.INCOMPLETE, facility="rawdah", feed="his", content_type="application/hl7-v2+er7"
                )
            },
            id="another kind",
        ),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_is_not_the_same_message_is_stored(box, changes, together):
    one, two = draft(0, repeat_key=KEY), draft(0, repeat_key=KEY)._replace(**changes)
    found = box.append([one, two]) if together else box.append([one]) + box.append([two])
    assert [(each.seq, each.repeated) for each in found] == [(0, False), (1, False)]


@pytest.mark.parametrize("again", ["at once", "after a restart"])
def test_repeat_of_a_message_whose_body_was_trimmed_is_known_and_another_body_under_its_id_is_not(tmp_path, again):
    key = repeat_key("his", "C00000")  # as the particulars of draft(0) say
    with closing(outbox(tmp_path)) as made:
        (first,) = made.append([draft(0, repeat_key=key)])
        receipted(made, 1)
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 1
        found = made.append([draft(0, repeat_key=key)]) if again == "at once" else []
    with closing(outbox(tmp_path)) as made:
        found += made.append([draft(0, repeat_key=key)])
        assert set(found) == {first._replace(repeated=True)}
        (other,) = made.append([draft(0, repeat_key=key, body=b"MSH|other")])
        assert (other.seq, other.repeated) == (1, False)


def test_trimming_keeps_no_body_and_no_more_arrivals_than_are_remembered(tmp_path):
    with closing(outbox(tmp_path, recent_max=4)) as made:
        for first in (0, 6):
            made.append(some(first, 6))
            receipted(made, first + 6)
            assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 6
        kept = made._connection.execute("SELECT id FROM arrival").fetchall()
        assert kept == [(row,) for row in range(9, 13)]
        assert made._connection.execute("SELECT count(*) FROM body").get == 0


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM arrival", "UPDATE arrival SET salt = zeroblob(16)", "UPDATE arrival SET particulars = x'ff'"],
)
def test_repeat_of_a_trimmed_message_is_stored_again_where_nothing_proves_it_any_more(box, damage):
    box.append([draft(0, repeat_key=KEY)])
    receipted(box, 1)
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 1
    box._connection.execute(damage)
    (again,) = box.append([draft(0, repeat_key=KEY)])
    assert (again.seq, again.repeated) == (1, False)


def test_damaged_record_is_no_proof_that_a_message_is_stored(box):
    box.append([draft(0, repeat_key=KEY)])
    box._connection.execute("UPDATE header SET header = x'ff' WHERE seq = 0")
    (again,) = box.append([draft(0, repeat_key=KEY)])
    assert (again.seq, again.repeated) == (1, False)


def test_only_so_many_arrivals_are_remembered(tmp_path):
    with closing(outbox(tmp_path, recent_max=3)) as made:
        made.append([draft(n, repeat_key=b"k%d" % n) for n in range(600)])
        assert 3 <= len(made._recent) <= 3 + STRIDE
        found = made.append([draft(n, repeat_key=b"k%d" % n) for n in (599, 0)])
        assert [each.repeated for each in found] == [True, False]


def test_group_of_repeats_alone_writes_nothing(tmp_path):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append([draft(0, repeat_key=KEY)])
        platter.arm()
        made.append([draft(0, repeat_key=KEY)])
        assert platter.calls == []


def test_repeat_of_a_group_that_was_refused_is_no_repeat(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=300_000)) as made:
        with pytest.raises(NoRoom):
            made.append([draft(0, repeat_key=KEY), draft(1, body=bytes(500_000))])
        assert [each.repeated for each in made.append([draft(0, repeat_key=KEY)])] == [False]


# --- receipts, trimming, starts


def view(made: Outbox, ledger: str = LEDGER):
    return made._connection.execute(
        "SELECT size, octets, receipt, at FROM cursor WHERE ledger = ?", (ledger,)
    ).fetchone()


def test_cursor_moves_forward_only(box):
    box.append(some(0, 9))
    sizes = [len(d.body) for d in some(0, 9)]
    for size, kept in ((4, 4), (2, 4), (0, 4), (7, 7), (9, 9), (8, 9)):
        receipted(box, size, at=size)
        assert view(box) == (kept, sum(sizes[:kept]), note_of(box, kept), kept)


def test_receipt_of_all_that_there_is_asks_nothing_of_the_disk_that_was_just_written(box):
    box.append(some(0, 9))
    receipted(box, 3)
    ran: list[str] = []
    box._connection.exec_trace = lambda _cursor, sql, _values: ran.append(sql) is None
    receipted(box, 9, at=7)
    box._connection.exec_trace = None
    assert [sql.split()[0] for sql in ran] == ["INSERT"]
    assert view(box) == (9, sum(len(d.body) for d in some(0, 9)), note_of(box, 9), 7)


def test_receipt_of_a_log_that_an_epoch_has_cut_is_kept_though_it_is_of_less_than_one_before(box):
    box.append(some(0, 9))
    receipted(box, 9)
    older, note = box.heads[STREAM].origin, note_of(box, 4)
    box.open_epoch(STREAM, epoch=2, tag="00000002", place=4, theirs=None)
    assert view(box) is None  # it went with the cut
    box.keep_receipt(ledger=LEDGER, origin=older, size=4, receipt=note, at=1)
    assert view(box)[0] == 4


def test_ledger_that_a_failed_transaction_named_is_not_the_one_in_force(box):
    box.admitted(boot=bytes(16), ledger="one", fence="f")
    assert box.ledger() == "one"
    with pytest.raises(NoRoom), box.transaction():
        box.set_fact("ledger", b"two")
        raise NoRoom("full")
    assert box.ledger() == "one"
    box.admitted(boot=bytes(16), ledger="two", fence="f")
    assert box.ledger() == "two"


def test_bit_that_flips_in_the_cursor_deletes_no_body(box):
    box.append(some(0, 9))
    receipted(box, 3)
    for bit in range(62):
        box._connection.execute("UPDATE cursor SET size = ?", (3 ^ 1 << bit,))
        assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 0
    # and the next receipt sets it right
    receipted(box, 4)
    assert view(box)[0] == 4
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 4


def test_cursor_of_one_ledger_says_nothing_of_another(box):
    box.append(some(0, 9))
    receipted(box, 9, ledger="one")
    assert box.trim(STREAM, ledger="two", received_before_us=FAR) == 0
    receipted(box, 2, ledger="two")
    assert (view(box, "one")[0], view(box, "two")[0]) == (9, 2)
    assert box.trim(STREAM, ledger="two", received_before_us=FAR) == 2


@pytest.mark.parametrize("size", [0, 1, 5, 9])
def test_trimming_never_passes_the_receipt(box, size):
    box.append(some(0, 9))
    if size:
        receipted(box, size)
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == size
    states = [record.state for record in stored(box)]
    assert states == [BodyState.TRIMMED] * size + [BodyState.PRESENT] * (9 - size)
    box.verify_heads()


def test_trimming_never_takes_what_is_younger_than_its_retention(box):
    box.append(some(0, 9))
    receipted(box, 9)
    at = NOW_S * 1_000_000 + 4000
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=at) == 4
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=at) == 0
    assert bodies(box)[4:] == [d.body for d in some(4, 5)]


def test_trimming_keeps_header_leaf_and_root(box):
    box.append(some(0, 9))
    before = stored(box)
    receipted(box, 9)
    box.trim(STREAM, ledger=LEDGER, received_before_us=FAR)
    assert [(record.header, record.leaf) for record in stored(box)] == [
        (record.header, record.leaf) for record in before
    ]
    assert box._connection.execute("SELECT count(*) FROM body").get == 0


def test_trimming_takes_a_bounded_number_at_once_and_goes_on_after_a_restart(tmp_path):
    count = TRIM_ROWS_MAX + 44
    with closing(outbox(tmp_path)) as made:
        made.append([draft(n, body=b"") for n in range(count)])
        receipted(made, count)
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == TRIM_ROWS_MAX
    with closing(outbox(tmp_path)) as made:
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 44


def test_receipt_over_a_body_page_that_cannot_be_read_is_kept(tmp_path):
    sent = [draft(n, body=b"b" * 3000) for n in range(40)]
    with closing(outbox(tmp_path)) as made:
        made.append(sent)
        made.append([draft(99)])  # a start verifies the last group, and would not begin on a broken one
    found = apsw.Connection(str(tmp_path / "outbox.db"))
    (page,) = found.execute(
        "SELECT pageno FROM dbstat WHERE name = 'body' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 20"
    ).fetchone()
    found.close()
    with (tmp_path / "outbox.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    with closing(outbox(tmp_path)) as made:
        receipted(made, 40)
        assert receipted_of(made._connection, LEDGER, made.heads[STREAM]) == (40, 40 * 3000)


def test_damaged_header_does_not_stop_trimming(box):
    box.append(some(0, 9))
    receipted(box, 9)
    box._connection.execute("UPDATE header SET header = x'ff' WHERE seq = 2")
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 9


def boots(made: Outbox) -> list[bytes]:
    return [row[0] for row in made._connection.execute("SELECT id FROM boot ORDER BY rowid")]


def test_starts_are_listed_until_one_of_them_is_admitted(box):
    for n in range(4):
        box.start_boot(bytes([n]) * 16, n)
    assert boots(box) == [bytes([n]) * 16 for n in range(4)]
    box.admitted(boot=b"\3" * 16, ledger=LEDGER, fence="f")
    assert boots(box) == [b"\3" * 16]
    assert box.ledger() == LEDGER
    assert box._connection.execute("SELECT value FROM fact WHERE name = 'fence'").get == b"f"


def test_box_that_restarts_in_a_loop_never_lists_more_starts_than_a_session_may_name(box):
    box.start_boot(b"admitted", 0)
    box.admitted(boot=b"admitted", ledger=LEDGER, fence="f")
    with box.transaction():
        box._connection.executemany("INSERT INTO boot VALUES (?, ?)", [(b"%016d" % n, n) for n in range(BOOTS_MAX)])
    for n in range(5):
        box.start_boot(b"newest%d" % n, n)
    listed = boots(box)
    assert len(listed) < BOOTS_MAX
    assert listed[0] == b"admitted", "the gateway may know this one only"
    assert listed[-5:] == [b"newest%d" % n for n in range(5)]


def test_probe_writes_syncs_and_signs_and_touches_no_stream(tmp_path):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append(some(0, 2))
        before = dict(made.heads)
        platter.arm()
        made.probe()
        assert ("sync", "wal") in platter.calls
        assert made.heads == before
        made.verify_heads()


def test_probe_fails_where_the_key_cannot_sign(tmp_path):
    class Token(FileSigner):
        def sign(self, data: bytes) -> bytes:
            if data == b"probe":
                raise SyncError("the token was pulled out")
            return super().sign(data)

    with closing(outbox(tmp_path, signer=Token(NODE, ed25519("log key")))) as made, pytest.raises(SyncError):
        made.probe()


def test_transaction_of_the_caller_is_kept_whole_or_not_at_all(box):
    with pytest.raises(KeyError), box.transaction():
        box.set_fact("a", b"1")
        raise KeyError
    with box.transaction():
        box.set_fact("b", b"2")
    assert [row[0] for row in box._connection.execute("SELECT name FROM fact")] == ["b"]


def test_outbox_of_another_key_is_refused(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 1))
    other = Outbox(tmp_path / "outbox.db", signer=FileSigner(NODE, ed25519("another")), random=Random(1).randbytes)
    with closing(other), pytest.raises(KeyAbsent):
        other.verify_heads()
    with pytest.raises(KeyAbsent):
        other.append(some(1, 2))


def test_library_that_would_not_keep_what_is_acknowledged_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(SyncError):
        outbox(tmp_path)


def test_connection_of_the_outbox_syncs_at_every_commit(box):
    assert box._connection.pragma("synchronous") == 2
