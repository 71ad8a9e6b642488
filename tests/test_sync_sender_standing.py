"""Where the gateway stands, as a sender finds it: behind, ahead, of another epoch, of another log."""

from dataclasses import replace

import pytest

from sync.agreement import Question, Told
from sync.batch import RECORDS_MAX
from sync.flow import QUANTUM_BYTES_MAX
from sync.opening import End, Opening, sign_opening
from sync.sender import Sender
from sync.sender_events import (
    Alarm,
    AskRoot,
    EpochOpened,
    EpochTaken,
    Grew,
    KeepReceipt,
    OpenEpoch,
    OwnLog,
    PathFailed,
    PostEpoch,
    Put,
    RootTold,
    SessionOpened,
    Started,
    Tick,
)
from tests.sender_rig import HELD, alarms, made_sender, opened, puts, receipt, sender, their
from tests.sim_realm import LOG_SIGNER, ORIGIN, TAG, frontier_of


def test_gateway_behind_is_resent_from_there():
    made = sender(theirs=None)
    assert puts(made.handle(opened(0), 0.0))[0].first == 0


def test_gateway_that_lost_what_it_had_confirmed_is_resent_and_alarmed():
    made = made_sender()
    made.handle(Started((OwnLog(ORIGIN, 40, 30),), "ledger-1"), 0.0)
    effects = made.handle(opened(12), 0.0)
    assert alarms(effects) == ["SYN-25"]
    assert puts(effects)[0].first == 12


def test_second_site_that_holds_less_is_no_restored_gateway():
    made = made_sender()
    made.handle(Started((OwnLog(ORIGIN, 40, 30),), "ledger-0"), 0.0)
    effects = made.handle(opened(0), 0.0)
    assert alarms(effects) == []
    assert puts(effects)[0].first == 0


@pytest.mark.parametrize(
    ("theirs", "code"),
    [
        (their(10, root=bytes(32)), "SYN-20"),
        (their(39, root=bytes(32)), "SYN-20"),
        (their(0, root=bytes(32)), "SYN-20"),
        (their(40, size=41), "SYN-21"),
        (their(10, epoch=2), "SYN-22"),
        (their(10, tag="00000000"), "SYN-22"),
    ],
)
def test_fork_gateway_ahead_and_foreign_log_are_alarmed_and_nothing_is_sent_before_what_is_common_is_known(
    theirs, code
):
    made = sender(theirs=None)
    effects = made.handle(opened(10, streams=(theirs,)), 0.0)
    assert alarms(effects) == [code]
    assert puts(effects) == []
    assert effects[-1] == AskRoot("his", Question(1, 40))


def test_further_epoch_is_stored_then_told_then_sent():
    made = sender(theirs=None)
    made.handle(opened(10, streams=(their(40, size=50),)), 0.0)
    (order,) = made.handle(RootTold("his", Told(TAG, 50, frontier_of(HELD[:40]).root)), 0.0)[:1]
    assert order == OpenEpoch("his", 2, 40, their(40, size=50), 40)
    assert made.handle(Tick(), 0.0) == [], "nothing is said of it before it is durable"
    new = replace(ORIGIN, epoch=2, tag="11111111")
    logs = (OwnLog(ORIGIN, 40, 10), OwnLog(new, 3, start=40, opening=b"signed"))
    assert made.handle(EpochOpened("his", logs), 0.0) == [PostEpoch(new, b"signed")]
    taken = EpochTaken("his", their(0, epoch=2, tag="11111111"))
    assert puts(made.handle(taken, 0.0)) == [Put(new, 0, 3, QUANTUM_BYTES_MAX, False)]


NEW = replace(ORIGIN, epoch=2, tag="11111111")


def statement(common: int) -> bytes:
    """What opened NEW, and says that so much of ORIGIN is common."""
    end = End(ORIGIN, common, frontier_of(HELD[:common]).root)
    return sign_opening(Opening(opened=NEW, theirs=None, own=end, common=end, carried=0), LOG_SIGNER)


def idle(receipted: int, *, common: int = 30, outdated: bool = False) -> tuple[Sender, SessionOpened]:
    """A sender whose second epoch carries nothing, and the session that finds that epoch open."""
    made = made_sender()
    new = OwnLog(NEW, 0, start=30, opening=statement(common), outdated=outdated)
    made.handle(Started((OwnLog(ORIGIN, 30, receipted), new), "ledger-1"), 0.0)
    empty = their(0, epoch=2, tag="11111111")
    return made, opened(0, streams=(empty,))


def taken_with(note: bytes) -> EpochTaken:
    return EpochTaken("his", their(0, epoch=2, tag="11111111"), note)


def test_receipt_of_what_is_common_is_kept_with_the_answer_to_the_statement_and_asked_for_once_a_session_where_that_was_lost():
    made, session = idle(10)
    assert made.handle(session, 0.0)[-1] == PostEpoch(NEW, statement(30))
    note = receipt(30).note
    effects = made.handle(taken_with(note), 0.0)
    assert [each for each in effects if isinstance(each, KeepReceipt)] == [KeepReceipt(ORIGIN, 30, note, 1)]
    assert not any(isinstance(each, PostEpoch) for each in made.handle(session, 0.0))
    # a gateway of before such receipts is not asked for ever
    older, session = idle(10)
    older.handle(session, 0.0)
    assert not any(isinstance(each, PostEpoch | KeepReceipt) for each in older.handle(taken_with(b""), 0.0))
    assert older.handle(session, 0.0)[-1] == PostEpoch(NEW, statement(30))


@pytest.mark.parametrize("reason", ["all is receipted", "another key signs now"])
def test_statement_is_not_repeated_where_that_would_bring_nothing(reason):
    made, session = idle(30) if reason == "all is receipted" else idle(10, outdated=True)
    assert not any(isinstance(each, PostEpoch) for each in made.handle(session, 0.0))


@pytest.mark.parametrize(
    "note",
    [
        receipt(30, signer=LOG_SIGNER).note, receipt(30, root=bytes(32)).note, receipt(31).note, b"no note",
        # true, and of something else than the statement calls common: another ledger's, perhaps, that is lost
        receipt(29).note, receipt(12).note,
        receipt(30, origin=replace(ORIGIN, tag="22222222")).note,
    ],
)  # fmt: skip
def test_receipt_of_what_is_common_that_is_not_true_is_alarmed_and_nothing_is_kept(note):
    made, session = idle(10)
    made.handle(session, 0.0)
    effects = made.handle(taken_with(note), 0.0)
    assert alarms(effects) == ["SYN-26"]
    assert not any(isinstance(each, KeepReceipt) for each in effects)


def test_statement_is_not_repeated_in_each_session_for_rows_that_only_a_forgotten_log_of_the_gateway_holds():
    made, session = idle(20, common=20)  # of 30; two rolled-back disks forgot the log with the rest
    assert not any(isinstance(each, PostEpoch) for each in made.handle(session, 0.0))
    made, session = idle(19, common=20)
    assert made.handle(session, 0.0)[-1] == PostEpoch(NEW, statement(20))


def test_receipt_of_what_is_common_that_is_older_than_ours_changes_nothing():
    made, session = idle(20, common=12)
    made.handle(session, 0.0)
    effects = made.handle(taken_with(receipt(12).note), 0.0)
    assert not any(isinstance(each, KeepReceipt | Alarm) for each in effects)
    assert made.flows["his"].logs[0].receipted == 20


def test_gateway_that_lost_an_epoch_is_sent_the_rest_of_the_one_before_and_then_the_stored_statement():
    made, new = made_sender(), replace(ORIGIN, epoch=2, tag="11111111")
    made.handle(Started((OwnLog(ORIGIN, 30, 30), OwnLog(new, 10, 10, 30, b"signed")), "ledger-1"), 0.0)
    effects = made.handle(opened(12), 0.0)
    assert alarms(effects) == ["SYN-25"]
    # and no more: the rows behind that log's end are the next one's
    assert puts(effects)[0] == Put(ORIGIN, 12, 30 - 12, QUANTUM_BYTES_MAX, False)
    assert made.handle(receipt(30), 0.0)[-1] == PostEpoch(new, b"signed")


def test_no_call_asks_for_more_records_than_one_batch_holds_or_the_log_is_known_to_have():
    # beyond the end lie the next epoch's records, and those whose growth we were not yet told of
    for size, most in ((10_000, RECORDS_MAX), (12, 2)):
        (put,) = puts(sender(size, theirs=None).handle(opened(10), 0.0))
        assert put.records_max == most


def test_leaves_that_cannot_be_read_stop_the_stream_and_open_no_epoch():
    for root_at, root_of in ((lambda *_: b"", lambda *_: b"x"), (lambda *_: bytes(32), lambda *_: b"")):
        made = Sender(root_at=root_at, root_of=root_of, key_at=lambda *_: b"", dice=lambda: 0.0)
        made.handle(Started((OwnLog(ORIGIN, 40),), "ledger-1"), 0.0)
        told = made.handle(opened(10), 0.0)
        told += made.handle(RootTold("his", Told(TAG, 40, bytes(32))), 0.0)
        assert alarms(told)[-1] == "SYN-31"
        assert not any(isinstance(each, OpenEpoch) for each in told)


def test_growth_of_a_log_that_was_closed_meanwhile_changes_nothing():
    made, new = made_sender(), replace(ORIGIN, epoch=2, tag="11111111")
    made.handle(Started((OwnLog(ORIGIN, 30), OwnLog(new, 4, 0, 30, b"signed")), "ledger-1"), 0.0)
    made.handle(Grew(ORIGIN, 99), 0.0)
    assert [log.size for log in made.flows["his"].logs] == [30, 4]


def test_stream_that_the_gateway_does_not_take_is_alarmed_and_goes_on_once_it_does():
    made = sender(theirs=None)
    effects = made.handle(opened(0, streams=()), 0.0)
    assert alarms(effects) == ["SYN-24"]
    assert puts(effects) == []
    made.handle(PathFailed("x"), 0.0)
    made.handle(Tick(), 100.0)
    assert puts(made.handle(opened(0), 100.0))[0].first == 0


def test_log_that_nobody_declared_is_not_known_to_the_sender():
    made = sender()
    extra = replace(their(10), stream="lab")
    effects = made.handle(PathFailed("x"), 0.0)
    made.handle(Tick(), 100.0)
    effects = made.handle(opened(10, streams=(their(10), extra)), 100.0)
    assert list(made.flows) == ["his"]
    assert puts(effects)[0].origin == ORIGIN
