"""A change of the log key in the outbox: all streams or none, whatever breaks; each position keeps its key, over epochs, repairs and full disks."""

from contextlib import closing, suppress
from random import Random

import apsw
import pytest

from sync.checkpoint import open_checkpoint, parse_note
from sync.control import Moment
from sync.errors import CommitUnknown, KeyAbsent, KeyFollowed, NoRoom
from sync.key_change import KeyChange, change_in
from sync.key_ring import KeyRing, id_of
from sync.keys import FileSigner, Verifier
from sync.opening import End
from sync.outbox import Outbox
from sync.outbox_salvage import salvage
from sync.outbox_view import OutboxView
from tests.outbox_rig import some
from tests.power_lives import files_in, lay
from tests.power_states import states
from tests.sim_disk import ALL, disk
from tests.sim_realm import LOG_SIGNER, NODE, TAG, draft, ed25519

STREAMS = ("his", "lab", "orders")
OLD, NEW = LOG_SIGNER, FileSigner(NODE, ed25519("new log key"))
THIRD = FileSigner(NODE, ed25519("third log key"))
BOTH = KeyRing(NEW, (OLD,))
AT = Moment(received_us=1, clock_state=0, clock_error_us=0)


def opened(folder, ring=BOTH, **options) -> Outbox:
    made = Outbox(folder / "outbox.db", signer=ring, random=Random(1).randbytes, **options)
    made.verify_heads()
    made.open_streams(dict.fromkeys(STREAMS, "routine"), TAG)
    return made


def filled(folder, sizes=(5, 0, 12)) -> None:
    """An outbox of the old key."""
    with closing(opened(folder, OLD)) as made:
        for stream, size in zip(STREAMS, sizes, strict=True):
            if size:
                made.append(some(0, size, stream=stream))


def said(origin, before, after):
    change = KeyChange(
        stream=origin.stream, epoch=origin.epoch, before=before.public, after=after.public, certificate=b"DER of a test"
    )
    return change.draft(facility="rawdah", at=AT)


def signed_by(note: bytes) -> list[bytes]:
    return [line.key_id for line in parse_note(note).signatures]


def changed(made: Outbox) -> dict[str, list[int]]:
    """The positions of change records, by stream."""
    return {
        stream: [
            record.seq
            for record in head.table(made._connection).records(0, head.frontier.size)
            if change_in(record) is not None
        ]
        for stream, head in made.heads.items()
    }


def view_of(folder, stream="his", epoch=1):
    with closing(OutboxView(folder / "outbox.db", NODE)) as view:
        return next(each for each in view.streams() if (each.origin.stream, each.origin.epoch) == (stream, epoch))


IDS = [id_of(OLD), id_of(NEW)]


def test_every_stream_with_records_gets_one_more_under_both_signatures_and_goes_on_under_the_new_one(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        assert {origin.stream for origin in made.change_key(said)} == {"his", "orders"}
        assert changed(made) == {"his": [5], "lab": [], "orders": [12]}
        # nobody has seen a signature of an empty log: it needs no record
        assert signed_by(made.heads["lab"].checkpoint) == IDS[1:]
        for head in (made.heads["his"], made.heads["orders"]):
            assert signed_by(head.checkpoint) == IDS
            for key in (OLD, NEW):
                assert open_checkpoint(head.checkpoint, Verifier(NODE, key.public)).size == head.frontier.size
        made.append(some(5, 2))
        assert signed_by(made.heads["his"].checkpoint) == [id_of(NEW)]
        made.verify_heads()
    keys = view_of(tmp_path).keys
    assert [keys.for_batch(*span) for span in ((0, 5), (2, 6), (5, 8), (6, 8))] == [IDS[:1], IDS, IDS, IDS[1:]]


def test_next_start_changes_nothing_with_the_old_key_or_without_it(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
    for ring in (BOTH, NEW):
        with closing(opened(tmp_path, ring)) as again:
            assert again.change_key(said) == []
            assert changed(again) == {"his": [5], "lab": [], "orders": [12]}


def test_without_the_old_key_the_start_is_refused_and_nothing_is_written(tmp_path):
    filled(tmp_path)
    before = files_in(tmp_path)
    for ring in (NEW, KeyRing(NEW, (THIRD,)), KeyRing(THIRD, (NEW,))):
        with closing(Outbox(tmp_path / "outbox.db", signer=ring, random=Random(1).randbytes)) as made:
            with pytest.raises(KeyAbsent):
                made.verify_heads()
            with pytest.raises(KeyAbsent):
                made.change_key(said)
            with pytest.raises(KeyAbsent):
                made.append(some(5, 1))
    assert files_in(tmp_path)["outbox.db"] == before["outbox.db"]


def test_old_key_after_the_change_is_refused(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
    with (
        closing(Outbox(tmp_path / "outbox.db", signer=OLD, random=Random(1).randbytes)) as made,
        pytest.raises(KeyAbsent),
    ):
        made.verify_heads()


def test_nothing_is_appended_before_the_hand_over(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        with pytest.raises(KeyAbsent):
            made.append(some(5, 1))
        made.change_key(said)
        made.append(some(5, 1))


def test_second_change_before_the_first_is_receipted_keeps_three_keys_apart(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        made.append(some(5, 2))
    with closing(opened(tmp_path, KeyRing(THIRD, (NEW,)))) as made:
        made.change_key(said)
    keys = view_of(tmp_path).keys
    assert keys.for_batch(0, 9) == [id_of(OLD), id_of(NEW), id_of(THIRD)]
    assert keys.for_batch(6, 8) == [id_of(NEW)]
    assert keys.at(9) == id_of(THIRD)


def refused(folder, ring) -> None:
    """It neither starts nor hands over, and nothing is written."""
    before = files_in(folder)["outbox.db"]
    with closing(Outbox(folder / "outbox.db", signer=ring, random=Random(1).randbytes)) as made:
        for call in (made.verify_heads, lambda: made.change_key(said)):
            with pytest.raises(KeyFollowed, match=f"(his|orders): .*{id_of(ring).hex()}"):
                call()
    assert files_in(folder)["outbox.db"] == before


def test_key_that_another_has_followed_is_not_handed_back_to(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
    refused(tmp_path, KeyRing(OLD, (NEW,)))
    with closing(opened(tmp_path, KeyRing(THIRD, (NEW,)))) as made:
        made.change_key(said)
    for back in (OLD, NEW):
        refused(tmp_path, KeyRing(back, (THIRD,)))
    with closing(opened(tmp_path, THIRD)) as made:
        made.append(some(6, 1))


@pytest.mark.parametrize("place", [2, 5])
def test_key_that_a_statement_followed_is_not_handed_back_to(tmp_path, place):
    filled(tmp_path, sizes=(5, 0, 0))
    with closing(opened(tmp_path)) as made:
        made.open_epoch("his", epoch=2, tag="22222222", place=place, theirs=None)
        made.change_key(said)
    refused(tmp_path, KeyRing(OLD, (NEW,)))


def test_key_of_an_older_epoch_is_not_handed_back_to_where_its_change_was_cut_off(tmp_path):
    filled(tmp_path, sizes=(5, 0, 0))
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        made.open_epoch("his", epoch=2, tag="22222222", place=2, theirs=theirs(made, 20))
    assert view_of(tmp_path).keys.changes == ()
    refused(tmp_path, KeyRing(OLD, (NEW,)))


# --- what breaks


def all_or_none(folder) -> bool:
    """Whether it was done: in every stream, or in none. Afterwards it is, once."""
    with closing(opened(folder)) as again:
        found = changed(again)
        done = {len(found["his"]), len(found["orders"]), int(signed_by(again.heads["lab"].checkpoint) == IDS[1:])}
        assert done in ({0}, {1}), found
        assert len(again.change_key(said)) == (0 if done == {1} else 2)
        assert changed(again) == {"his": [5], "lab": [], "orders": [12]}
        again.verify_heads()
        again.append([*some(5, 1), *some(0, 1, stream="lab")])
    return done == {1}


def test_power_cut_at_any_moment_leaves_the_old_key_or_the_new_one_in_all_streams(in_memory):
    live, cut = in_memory / "live", in_memory / "cut"
    live.mkdir()
    filled(live)
    with disk("keys") as taped:
        made = opened(live, vfs="keys")
        begin = files_in(live)
        taped.tape = []
        made.change_key(said)
        tape, taped.tape = taped.tape, None
        made.close()
    outcomes = []
    for found in states(tape, begin, seed="keys", count=3):
        lay(found.files, cut)
        outcomes.append(all_or_none(cut))
    assert outcomes[0] is False
    assert outcomes[-1] is True
    assert len(outcomes) > 20


@pytest.mark.parametrize("full", [False, True])
def test_disk_that_fails_at_any_call_leaves_the_old_key_or_the_new_one_in_all_streams(in_memory, full):
    start, live = in_memory / "start", in_memory / "live"
    start.mkdir()
    filled(start)
    begin = files_in(start)
    with disk("failing-keys") as failing:
        for at in range(1, 200):
            lay(begin, live)
            made = opened(live, vfs="failing-keys")
            failing.arm(at, full=full, kinds=("write",) if full else ALL)
            try:
                made.change_key(said)
                ended = None
            except (CommitUnknown, NoRoom) as error:
                ended = error
            calls = len(failing.calls)
            failing.arm()
            with suppress(apsw.Error):
                made.close()
            done = all_or_none(live)
            if calls < at:
                break
            assert done or ended is not None, f"call {at}: nobody noticed"
    assert at > 3
    assert ended is None
    assert done


# --- epochs


def theirs(made: Outbox, size: int) -> End:
    return End(made.heads["his"].origin, size, b"r" * 32)


@pytest.mark.parametrize(("place", "signers"), [(2, IDS), (5, IDS), (6, IDS[1:]), (8, IDS[1:])])
def test_epoch_opened_after_a_change_is_the_new_keys_and_the_old_one_says_so_where_it_is_not_yet_common(
    tmp_path, place, signers
):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        made.append(some(5, 2))
        made.open_epoch("his", epoch=2, tag="22222222", place=place, theirs=theirs(made, 20))
        older, newest = made.logs("his")
        assert signed_by(newest.opening) == signers
        assert signed_by(newest.checkpoint) == [id_of(NEW)]
        assert signed_by(older.checkpoint) == (IDS[:1] if place <= 5 else IDS[1:])
        assert made.change_key(said) == []
        made.verify_heads()
        made.append(some(7, 1))
    newest = view_of(tmp_path, epoch=2).keys
    assert newest.changes == ()
    assert newest.for_batch(0, 3) == [id_of(NEW)]
    before = view_of(tmp_path).keys
    assert before.for_batch(0, place) == (IDS[:1] if place <= 5 else IDS)


def test_change_after_a_further_epoch_stands_in_the_newest_log_alone(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path, OLD)) as made:
        made.open_epoch("his", epoch=2, tag="22222222", place=3, theirs=None)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        assert changed(made)["his"] == [2]
    assert view_of(tmp_path, epoch=2).keys.for_batch(0, 3) == IDS
    assert view_of(tmp_path).keys.for_batch(0, 3) == IDS[:1]


def test_epoch_opened_at_the_start_that_brings_the_new_key_hands_over_by_its_statement(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.open_epoch("his", epoch=2, tag="22222222", place=5, theirs=None)
        assert signed_by(made.heads["his"].opening) == IDS
        assert [origin.stream for origin in made.change_key(said)] == ["orders"]
        made.append(some(5, 1))


def test_empty_log_of_a_further_epoch_gets_its_record_as_its_statement_was_seen(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path, OLD)) as made:
        made.open_epoch("his", epoch=2, tag="22222222", place=5, theirs=None)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        assert changed(made)["his"] == [0]


def test_epoch_can_be_opened_when_the_old_key_is_gone_under_the_new_one_alone(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
    with closing(opened(tmp_path, NEW)) as made:
        made.open_epoch("his", epoch=2, tag="22222222", place=2, theirs=theirs(made, 20))
        assert signed_by(made.heads["his"].opening) == [id_of(NEW)]
        made.verify_heads()


# --- repair


@pytest.mark.parametrize("handed_over", [False, True])
def test_repair_keeps_the_key_that_is_in_force(tmp_path, handed_over):
    filled(tmp_path)
    if handed_over:
        with closing(opened(tmp_path)) as made:
            made.change_key(said)
    (tmp_path / "fresh").mkdir()
    salvage(tmp_path / "outbox.db", tmp_path / "fresh/outbox.db", signer=BOTH)
    with closing(opened(tmp_path / "fresh")) as made:
        assert signed_by(made.heads["his"].checkpoint) == [id_of(NEW if handed_over else OLD)]
        assert len(made.change_key(said)) == (0 if handed_over else 2)
        made.append([draft(99)])
    assert view_of(tmp_path / "fresh").keys.for_batch(0, 6) == IDS


def test_repair_without_the_key_that_signed_is_refused(tmp_path):
    filled(tmp_path)
    (tmp_path / "fresh").mkdir()
    with pytest.raises(KeyAbsent):
        salvage(tmp_path / "outbox.db", tmp_path / "fresh/outbox.db", signer=NEW)


# --- room


def test_change_finds_room_in_an_outbox_that_is_full_for_records(tmp_path):
    filled(tmp_path)
    with closing(opened(tmp_path, OLD, quota_bytes=1)) as made, pytest.raises(NoRoom):
        for n in range(1000):
            made.append(some(100 + 10 * n, 10))
    with closing(opened(tmp_path, quota_bytes=1)) as made:
        assert len(made.change_key(said)) == 2
