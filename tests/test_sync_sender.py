"""The sender by itself: one event, and what it wants done."""

from dataclasses import replace

import pytest

from sync.agreement import Question, Told
from sync.batch import RECORDS_MAX
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.flow import FORKS_MAX, QUANTUM_BYTES_MAX
from sync.keys import FileSigner, Verifier
from sync.opening import End, Opening, sign_opening
from sync.pace import WAIT_S_MAX, WAIT_S_MIN, Backoff
from sync.receipt import cosign
from sync.sender import KEY_WAIT_S, REVOKED_WAIT_S, SESSION_S_MAX, Sender
from sync.sender_events import (
    Alarm,
    AskRoot,
    AskSession,
    EpochOpened,
    EpochTaken,
    Grew,
    KeepFence,
    KeepReceipt,
    OpenEpoch,
    OwnLog,
    PathFailed,
    Phase,
    PostEpoch,
    Put,
    Receipted,
    Refused,
    Retry,
    RootTold,
    SessionOpened,
    Started,
    Tick,
    Wait,
)
from sync.session import SessionAnswer, TheirStream
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, TAG, draft, ed25519, frontier_of, records

HELD = records([draft(n) for n in range(40)])
COSIGNER_KEY = Verifier(COSIGNER.name, COSIGNER.public)


# --- pace


def test_waits_double_to_a_minute_and_start_anew_after_success():
    backoff = Backoff(lambda: 1.0)
    assert [backoff.failed() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, WAIT_S_MAX, WAIT_S_MAX]
    backoff.succeeded()
    assert (backoff.failures, backoff.failed()) == (0, WAIT_S_MIN)


def test_thousand_failures_neither_overflow_nor_shorten_the_wait():
    backoff = Backoff(lambda: 0.0)
    waits = [backoff.failed() for _ in range(1000)]
    assert min(waits[10:]) == max(waits[10:]) == WAIT_S_MAX / 2


def test_mended_path_is_tried_at_once_and_the_waits_go_on_from_where_they_were():
    made = sender()
    for _ in range(9):
        *_, wait = made.handle(PathFailed("x"), 0.0)
        made.handle(Tick(), wait.seconds)
    assert made.handle(PathFailed("x"), 0.0) == [wait]
    assert made.handle(Retry(), 1.0) == [AskSession()]
    assert made.handle(PathFailed("x"), 1.0) == [wait]


def test_idle_node_asks_for_a_session_after_a_quarter_of_an_hour_and_hears_what_became_of_the_gateway():
    made = sender(theirs=40)
    assert made.handle(Tick(), SESSION_S_MAX - 1) == [Wait(1.0)]
    assert made.handle(Tick(), SESSION_S_MAX) == [AskSession()]
    effects = made.handle(opened(12), SESSION_S_MAX)  # it was set back meanwhile
    assert alarms(effects) == ["SYN-25"]
    assert puts(effects)[0].first == 12


def test_idle_node_whose_copy_was_admitted_says_so_and_one_whose_line_is_dead_tries_it_as_ever():
    copied, cut = sender(theirs=40), sender(theirs=40)
    assert copied.handle(Tick(), SESSION_S_MAX) == cut.handle(Tick(), SESSION_S_MAX) == [AskSession()]
    assert copied.handle(Refused("", "fenced"), SESSION_S_MAX) == [Alarm("SYN-27")]
    *_, wait = cut.handle(PathFailed("x"), SESSION_S_MAX)
    assert cut.handle(Tick(), SESSION_S_MAX + wait.seconds) == [AskSession()]


def test_node_with_something_to_send_sends_it_before_it_asks_for_a_session():
    made = sender(theirs=40)
    assert made.handle(Grew(ORIGIN, 41), 2 * SESSION_S_MAX)[0] == Put(ORIGIN, 40, 1, QUANTUM_BYTES_MAX, False)


# --- one event at a time


KEY = bytes.fromhex("0badcafe")


def made_sender() -> Sender:
    return Sender(
        root_at=lambda _, upto: frontier_of(HELD[:upto]).root,
        root_of=lambda _, start, size: frontier_of(HELD[start : start + size]).root,
        key_at=lambda *_: KEY,
        dice=lambda: 0.0,
    )


def sender(size: int = 40, theirs: int | None = 10, **answer) -> Sender:
    """A sender with one log of `size`; with a session open if `theirs` is a size."""
    made = made_sender()
    assert made.handle(Started((OwnLog(ORIGIN, size, theirs or 0),), "ledger-1"), 0.0) == [AskSession()]
    if theirs is not None:
        made.handle(opened(theirs, **answer), 0.0)
    return made


def their(upto: int, **changes) -> TheirStream:
    found = TheirStream(stream="his", epoch=1, tag=TAG, size=upto, root=frontier_of(HELD[:upto]).root)
    return replace(found, **changes)


def opened(size: int, **changes) -> SessionOpened:
    answer = SessionAnswer(fence="f", ledger="ledger-1", cosign_certificate="x", held=False, streams=(their(size),))
    return SessionOpened(replace(answer, **changes), COSIGNER_KEY)


def receipt(size: int, *, origin=ORIGIN, root: bytes | None = None, signer: FileSigner = COSIGNER) -> Receipted:
    root = frontier_of(HELD[:size]).root if root is None else root
    note = sign_checkpoint(Checkpoint(origin, size, root), LOG_SIGNER)
    return Receipted("his", cosign(note, time=1, signer=signer))


def alarms(effects) -> list[str]:
    return [each.code for each in effects if isinstance(each, Alarm)]


def puts(effects) -> list[Put]:
    return [each for each in effects if isinstance(each, Put)]


def test_session_comes_before_any_put_and_its_fence_is_kept_first():
    made = sender(theirs=None)
    effects = made.handle(opened(10), 0.0)
    assert effects == [KeepFence("f", "ledger-1"), Put(ORIGIN, 10, 30, QUANTUM_BYTES_MAX, False)]


def test_one_call_at_a_time():
    made = sender()
    assert made.handle(Grew(ORIGIN, 40), 1.0) == []
    assert made.handle(Tick(), 1000.0) == []


def test_good_receipt_moves_the_cursor_to_what_it_confirms():
    made = sender()
    effects = made.handle(receipt(30), 0.0)
    assert isinstance(effects[0], KeepReceipt)
    assert (effects[0].size, made.flows["his"].theirs) == (30, 30)
    assert puts(effects)[0].first == 30


def moved(made: Sender) -> tuple[int | None, int]:
    return made.flows["his"].theirs, made.flows["his"].receipted


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(receipt(40, origin=replace(ORIGIN, stream="lab")), id="of another stream"),
        pytest.param(receipt(40, origin=replace(ORIGIN, node="clinic-18")), id="of another node"),
        pytest.param(receipt(40, origin=replace(ORIGIN, epoch=2)), id="of another epoch"),
        pytest.param(receipt(40, origin=replace(ORIGIN, tag="00000000")), id="of a copy's log"),
        pytest.param(receipt(40, root=bytes(32)), id="of other records"),
        pytest.param(receipt(40, signer=FileSigner(COSIGNER.name, ed25519("nobody"))), id="of another key"),
        pytest.param(receipt(40, signer=FileSigner("elsewhere", ed25519("cosign key"))), id="of another gateway"),
        pytest.param(receipt(40, root=bytes(31)), id="that is no checkpoint"),
        pytest.param(Receipted("his", b""), id="empty"),
        pytest.param(Receipted("his", b"<html>Welcome to the hotel</html>"), id="of a captive portal"),
        pytest.param(receipt(10), id="that confirms nothing of what was sent"),
        pytest.param(receipt(3), id="of long ago"),
    ],
)
def test_receipt_never_moves_the_cursor_if_it_is(event):
    made = sender()
    before = moved(made)
    effects = made.handle(event, 0.0)
    assert moved(made) == before
    assert alarms(effects) == ["SYN-26"]
    assert not any(isinstance(each, KeepReceipt) for each in effects)
    assert isinstance(effects[-1], Wait), "it is a failure of the path: it waits and asks again"


def test_receipt_beyond_our_own_size_never_moves_the_cursor():
    made = sender(size=20)
    before = moved(made)
    assert alarms(made.handle(receipt(30), 0.0)) == ["SYN-26"]
    assert moved(made) == before


def test_receipt_of_what_was_sent_is_good_though_the_log_grew_meanwhile():
    made = sender(size=10, theirs=10)
    made.flows["his"] = replace(made.flows["his"], logs=(OwnLog(ORIGIN, 10, 4),))
    assert puts(made.handle(Tick(), 0.0)) == [Put(ORIGIN, 9, 1, QUANTUM_BYTES_MAX, False)]
    made.handle(Grew(ORIGIN, 12), 0.0)
    effects = made.handle(receipt(10), 0.0)
    assert alarms(effects) == []
    assert puts(effects)[0].first == 10


# --- where the gateway stands


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


# --- what else a PUT may be answered


def test_rewind_is_followed():
    made = sender()
    effects = made.handle(Refused("his", "rewind", their(25)), 0.0)
    assert alarms(effects) == []
    assert puts(effects)[0].first == 25


def test_rewind_below_what_was_confirmed_is_followed_and_alarmed():
    effects = sender().handle(Refused("his", "rewind", their(4)), 0.0)
    assert alarms(effects) == ["SYN-25"]
    assert puts(effects)[0].first == 4


@pytest.mark.parametrize("theirs", [their(25, root=bytes(32)), their(40, size=50), their(25, tag="00000000")])
def test_rewind_to_a_log_that_is_not_ours_is_compared_before_anything_is_sent(theirs):
    effects = sender().handle(Refused("his", "rewind", theirs), 0.0)
    assert puts(effects) == []
    assert alarms(effects)
    assert isinstance(effects[-1], AskRoot)


@pytest.mark.parametrize("theirs", [None, their(10), their(0, size=-1)])
def test_rewind_that_says_nothing_new_is_a_failure_of_the_path(theirs):
    effects = sender().handle(Refused("his", "rewind", theirs), 0.0)
    assert effects == [Wait(WAIT_S_MIN / 2)]


def test_gateway_that_rewinds_to_and_fro_is_not_followed_without_waits():
    made = sender()
    made.handle(Refused("his", "rewind", their(25)), 0.0)
    assert made.handle(Refused("his", "rewind", their(24)), 0.0) == [Wait(WAIT_S_MIN / 2)]


def test_fork_is_compared_in_a_new_session_and_stops_the_stream_where_that_finds_nothing():
    made, told = sender(), []
    for n in range(FORKS_MAX):
        effects = made.handle(Refused("his", "fork"), 100.0 * n)
        told += alarms(effects)
        assert puts(effects) == []
        made.handle(Tick(), 100.0 * n + 90)
        effects = made.handle(opened(10), 100.0 * n + 90)
        assert bool(puts(effects)) == (n < 2)
    assert told == ["SYN-20", "SYN-20", "SYN-31"]


def test_fenced_sender_never_calls_again_whatever_happens():
    made = sender()
    assert made.handle(Refused("his", "fenced"), 0.0) == [Alarm("SYN-27")]
    for event in (
        Tick(),
        Retry(),
        PathFailed("x"),
        Grew(ORIGIN, 40),
        opened(10),
        receipt(40),
        Refused("", "busy"),
        Refused("his", "revoked"),
    ):
        assert made.handle(event, 10_000.0) == []
    assert made.phase is Phase.FENCED
    assert made.flows["his"].size == 40


def test_fenced_lane_goes_on_where_another_lane_of_this_start_was_admitted_anew():
    made = sender()
    assert made.handle(Refused("his", "fenced"), 0.0) == [Alarm("SYN-27")]
    assert made.handle(opened(10), 1.0) == [], "the answer of before says nothing new"
    assert puts(made.handle(opened(10, fence="newer"), 2.0))[0].first == 10
    assert made.phase is Phase.OPEN


def test_fenced_at_the_session_stops_it_too():
    made = sender(theirs=None)
    assert made.handle(Refused("", "fenced"), 0.0) == [Alarm("SYN-27")]
    assert made.handle(Tick(), 10_000.0) == []


def test_revoked_certificate_is_asked_about_again_only_after_minutes():
    made = sender()
    effects = made.handle(Refused("his", "revoked"), 0.0)
    assert effects == [Alarm("SYN-28"), Wait(REVOKED_WAIT_S)]
    assert made.handle(Tick(), REVOKED_WAIT_S) == [AskSession()]


@pytest.mark.parametrize(
    ("wait_s", "least", "most"),
    [(5.0, 5, 5), (0.0, 0.1, 0.1), (-5.0, 0.1, 0.1), (1e9, 60, 60), (float("inf"), 60, 60), (float("nan"), 0.1, 0.1)],
)
def test_busy_gateway_is_left_alone_for_as_long_as_it_asks_but_never_for_ever(wait_s, least, most):
    made = sender()
    (wait,) = made.handle(Refused("his", "busy", wait_s=wait_s, window_bytes=5000), 0.0)
    assert least <= wait.seconds <= most
    assert made.handle(Tick(), 60.1) == [Put(ORIGIN, 10, 30, 5000, False)]
    made = sender(theirs=None)
    (wait,) = made.handle(Refused("", "busy", wait_s=wait_s), 0.0)
    assert least <= wait.seconds <= most
    assert made.handle(Tick(), 60.1) == [AskSession()]


@pytest.mark.parametrize(("code", "alarm"), [("bad-key", "SYN-32"), ("key-absent", "SYN-15")])
def test_stream_whose_key_does_not_count_waits_alone_and_is_tried_again(code, alarm):
    made, lab = made_sender(), replace(ORIGIN, stream="lab")
    made.handle(Started((OwnLog(ORIGIN, 40, 10), OwnLog(lab, 40, 10)), "ledger-1"), 0.0)
    *_, first = made.handle(opened(10, streams=(their(10), their(10, stream="lab"))), 0.0)
    assert first.origin == ORIGIN
    warned, other = made.handle(Refused("his", code), 0.0)
    assert (warned, other.origin) == (Alarm(alarm, "his"), lab)
    kept, wait = made.handle(replace(receipt(40, origin=lab), stream="lab"), 1.0)
    assert (kept.origin, kept.size) == (lab, 40)
    assert wait == Wait(KEY_WAIT_S - 1.0)
    if code == "bad-key":  # what the gateway goes by it learns with a session alone
        assert made.handle(Tick(), KEY_WAIT_S) == [AskSession()]
        event = opened(10, streams=(their(10), their(40, stream="lab")))
    else:
        event = Tick()
    assert puts(made.handle(event, KEY_WAIT_S)) == [first]
    assert made.phase is Phase.OPEN


def refused_statement(*logs: OwnLog) -> list:
    """What a sender does when the gateway, which holds 10 of the first log, does not believe the second one's statement."""
    made = made_sender()
    made.handle(Started((OwnLog(ORIGIN, 10, 10), *logs), "ledger-1"), 0.0)
    assert made.handle(opened(10), 0.0)[-1] == PostEpoch(logs[0].origin, logs[0].opening)
    return made.handle(Refused("his", "bad-key"), 0.0)


def test_statement_under_a_key_of_before_that_is_believed_no_more_is_followed_by_one_under_the_present_key():
    second, third = (replace(ORIGIN, epoch=n, tag="11111111") for n in (2, 3))
    old = OwnLog(second, 30, start=10, opening=b"old", outdated=True)
    # what is common is looked for again, and a further epoch comes of it
    assert refused_statement(old) == [Alarm("SYN-20", "his"), AskRoot("his", Question(1, 10))]
    assert refused_statement(replace(old, outdated=False)) == [Alarm("SYN-32", "his"), Wait(KEY_WAIT_S)]
    # one that is open already is not opened twice, as long as it carries all of what is left out
    new = OwnLog(third, 30, start=10, opening=b"new")
    assert refused_statement(replace(old, size=0), new) == [PostEpoch(third, b"new")]
    assert refused_statement(replace(old, size=5), replace(new, start=15, size=25))[-1] == AskRoot(
        "his", Question(1, 10)
    )


def test_refused_key_is_tried_after_a_session_each_time_even_behind_a_stream_that_never_ends():
    made, lab = made_sender(), replace(ORIGIN, stream="lab")
    made.handle(Started((OwnLog(ORIGIN, 40, 10), OwnLog(lab, 40, 10)), "ledger-1"), 0.0)
    effects = made.handle(opened(10, streams=(their(10), their(10, stream="lab"))), 0.0)
    now, asked, tried = 0.0, [], []
    while now < 4 * KEY_WAIT_S:
        now += 1.0
        (put,) = puts(effects)
        if put.origin == ORIGIN:
            tried.append(now)
            effects = made.handle(Refused("his", "bad-key"), now)
        else:
            effects = made.handle(Refused("lab", "too-large"), now)  # as long as there is always something to send
            made.flows["lab"] = replace(made.flows["lab"], halted="", records_max=30, bare=False)
        if AskSession() in effects:
            asked.append(now)
            effects = made.handle(opened(10, streams=(their(10), their(10, stream="lab"))), now)
    assert len(asked) == 3
    assert [sum(at < each for at in tried) for each in asked] == [1, 2, 3]


def test_refused_keys_session_that_fails_is_asked_for_again_and_one_that_came_anyway_is_enough():
    made = sender()
    made.handle(Refused("his", "bad-key"), 0.0)
    assert made.handle(Tick(), KEY_WAIT_S) == [AskSession()]
    *_, wait = made.handle(PathFailed("x"), KEY_WAIT_S)
    assert made.handle(Tick(), KEY_WAIT_S + wait.seconds) == [AskSession()]
    assert [put.first for put in puts(made.handle(opened(10), 2 * KEY_WAIT_S))] == [10]
    made.handle(Refused("his", "bad-key"), 2 * KEY_WAIT_S)
    made.handle(opened(10), 2 * KEY_WAIT_S + 1)
    assert [put.first for put in puts(made.handle(Tick(), 3 * KEY_WAIT_S))] == [10]


def test_stream_whose_key_is_gone_hears_from_the_gateway_as_an_idle_one_does():
    made, tries = sender(), 0
    effects = made.handle(Refused("his", "key-absent"), 0.0)
    now = 0.0
    while AskSession() not in effects:
        now += effects[-1].seconds
        effects = made.handle(Tick(), now)
        if puts(effects):
            tries += 1
            effects = made.handle(Refused("his", "key-absent"), now)
    assert (now, tries) == (SESSION_S_MAX, SESSION_S_MAX // KEY_WAIT_S)


def test_window_never_grows_beyond_the_quantum_and_is_forgotten_after_success():
    made = sender()
    made.handle(Refused("his", "busy", window_bytes=10**12), 0.0)
    assert puts(made.handle(Tick(), 61.0))[0].octets_max == QUANTUM_BYTES_MAX
    made.handle(Refused("his", "busy", window_bytes=1), 61.0)
    assert puts(made.handle(Tick(), 130.0))[0].octets_max == 1
    assert puts(made.handle(receipt(11), 130.0))[0].octets_max == QUANTUM_BYTES_MAX


@pytest.mark.parametrize("code", ["", "teapot", "rewind"])
def test_verdict_that_nobody_knows_is_a_failure_of_the_path(code):
    assert sender().handle(Refused("his", code), 0.0) == [Wait(WAIT_S_MIN / 2)]


def test_unknown_dictionary_sends_the_same_range_without_one_until_the_next_session():
    made = sender()
    (again,) = puts(made.handle(Refused("his", "unknown-dictionary"), 1.0))
    assert (again.first, again.records_max, again.plain) == (10, 30, True)
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.first, beyond.plain) == (20, True)
    made.handle(PathFailed("LNK-02"), 3.0)
    made.handle(Tick(), 3.0 + WAIT_S_MAX)
    (fresh,) = puts(made.handle(opened(20), 4.0 + WAIT_S_MAX))
    assert not fresh.plain


def test_context_is_as_long_as_the_gateway_says_and_an_older_one_that_says_nothing_gets_none():
    assert puts(sender(theirs=None).handle(opened(10, context=4711), 0.0))[0].context == 4711
    assert puts(sender(theirs=None).handle(opened(10), 0.0))[0].context == 0


def test_first_record_of_a_log_has_no_context():
    assert puts(sender(theirs=None).handle(opened(0, context=4711), 0.0))[0].context == 0


@pytest.mark.parametrize("code", ["unknown-dictionary", "bad-batch"])
def test_context_that_is_refused_is_left_out_before_anything_else_is_given_up(code):
    made = sender(context=4711)
    (again,) = puts(made.handle(Refused("his", code), 1.0))
    assert (again.first, again.records_max, again.plain, again.bare, again.context) == (
        10,
        30,
        False,
        False,
        0,
    )
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.first, beyond.since) == (20, 10)
    assert beyond.context == (4711 if code == "unknown-dictionary" else 0)  # who calls it bad may be an older gateway


def test_dictionary_is_left_out_where_it_was_not_the_context_that_was_unknown():
    made = sender(context=4711)
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    (again,) = puts(made.handle(Refused("his", "unknown-dictionary"), 1.0))
    assert again.plain
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.plain, beyond.context) == (True, 0)


def test_half_of_a_batch_that_was_refused_without_context_goes_without_it_too():
    made = sender(context=4711)
    made.handle(Refused("his", "bad-batch"), 1.0)
    (half,) = puts(made.handle(Refused("his", "bad-batch"), 1.0))
    assert (half.records_max, half.context) == (15, 0)


def test_contexts_are_tried_again_after_the_next_session_but_never_those_that_the_gateway_had_not():
    made = sender(context=4711)
    for size in (20, 30, 35):
        made.handle(Refused("his", "unknown-dictionary"), 1.0)
        (beyond,) = puts(made.handle(receipt(size), 1.0))
    assert beyond.context == 0
    made.handle(PathFailed("LNK-02"), 3.0)
    made.handle(Tick(), 3.0 + WAIT_S_MAX)
    (fresh,) = puts(made.handle(opened(35, context=4711), 4.0 + WAIT_S_MAX))
    assert (fresh.context, fresh.since) == (4711, 30)


def test_further_epoch_may_use_all_its_own_records_as_context():
    made = sender(context=4711)
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    assert made.flows["his"].since == 10
    second = OwnLog(replace(ORIGIN, epoch=2, tag="11111111"), 3, start=40, opening=b"statement")
    made.handle(EpochOpened("his", (OwnLog(ORIGIN, 40), second)), 1.0)
    assert made.flows["his"].origin == second.origin
    assert made.flows["his"].since == 0


def test_gateway_that_misses_a_dictionary_where_none_was_used_is_a_failure_of_the_path():
    made = sender()
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    assert not puts(made.handle(Refused("his", "unknown-dictionary"), 2.0))
    assert made.phase is Phase.CLOSED


# --- one message's content can never hold up another


@pytest.mark.parametrize("code", ["bad-batch", "too-large"])
def test_batch_that_is_refused_is_halved_down_to_a_bare_record_and_then_the_stream_stops(code):
    made = sender()
    asked: list[tuple[int, bool]] = []
    told: list[str] = []
    effects = made.handle(Tick(), 0.0)
    for _ in range(40):
        effects = made.handle(Refused("his", code), 0.0)
        told += alarms(effects)
        if not puts(effects):
            break
        asked.append((puts(effects)[0].records_max, puts(effects)[0].bare))
    assert asked == [(15, False), (7, False), (3, False), (1, False), (1, True)]
    assert told == ["SYN-29", "SYN-29"]
    assert made.flows["his"].halted == "SYN-29"
