"""The sender against a real receiver: whatever the network and the power do, the centre ends with exactly the prefix, once, in order."""

from dataclasses import replace
from random import Random

import pytest

from sync.agreement import Question, Told
from sync.batch import RECORDS_MAX
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.flow import QUANTUM_BYTES_MAX
from sync.keys import FileSigner, Verifier
from sync.pace import WAIT_S_MAX, WAIT_S_MIN, Backoff
from sync.receipt import cosign
from sync.record import BodyState
from sync.sender import FORKS_MAX, REVOKED_WAIT_S, Phase, Sender
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
from tests.sim_link import Centre, Clinic, Network
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, TAG, draft, ed25519, frontier_of, records

HELD = records([draft(n) for n in range(40)])
COSIGNER_KEY = Verifier(COSIGNER.name, COSIGNER.public)


def link(seed: int = 1, streams=("his",)) -> tuple[Clinic, Centre, Network]:
    """A clinic and a centre on a quiet network."""
    dice = Random(seed)
    network = Network(dice)
    network.quiet = True
    centre = Centre(dice)
    return Clinic(dice, network, centre, streams), centre, network


def agree(clinic: Clinic, centre: Centre) -> None:
    """The centre holds exactly what the clinic kept, and the clinic has a receipt for all of it."""
    for name, made in clinic.kept.items():
        assert centre.logs[name].records == made
        assert clinic.receipts.get(name, (0, b""))[0] == len(made)


# --- with everything that a network and a power line can do


@pytest.mark.parametrize("seed", range(60))
def test_losses_repeats_delays_and_restarts_end_in_exactly_the_prefix(seed):
    clinic, centre, network = link(seed, ("his", "lab"))
    network.quiet, dice = False, Random(seed + 1000)
    for _ in range(dice.randrange(50, 300)):
        lot = dice.random()
        if lot < 0.15:
            clinic.accept(dice.choice(["his", "lab"]), dice.randrange(1, 8))
        elif lot < 0.2:
            clinic.restart()
        elif clinic.sender.phase is not Phase.FENCED or clinic.waiting:
            clinic.step()
    network.quiet = True
    clinic.settle()
    agree(clinic, centre)
    assert clinic.alarms == []
    assert centre.alarms == []
    assert not centre.known.held


def test_record_is_receipted_even_when_each_answer_to_the_last_batch_was_lost():
    clinic, centre, _ = link()
    clinic.accept("his", 3)
    answers = centre.put
    for _ in range(4):
        centre.put = lambda *call: answers(*call) and None  # committed, and the answer is lost
        while not clinic.calls or not clinic.calls[-1].startswith("put"):
            clinic.step()
        clinic.calls.clear()
        centre.put = answers
        assert clinic.receipts == {}
        clinic.restart()
    clinic.settle()
    agree(clinic, centre)


def test_a_start_with_everything_receipted_sends_nothing():
    clinic, _, _ = link()
    clinic.accept("his", 3)
    clinic.settle()
    clinic.restart()
    clinic.calls.clear()
    clinic.settle()
    assert clinic.calls == ["session"]


def test_lost_receipt_is_fetched_with_one_record():
    clinic, centre, _ = link()
    clinic.accept("his", 30)
    clinic.settle()
    clinic.receipts.clear()
    clinic.restart()
    clinic.calls.clear()
    clinic.settle()
    assert clinic.calls == ["session", "put 29+1"]
    agree(clinic, centre)


def test_long_cut_ends_with_a_wait_and_then_everything_arrives():
    clinic, centre, network = link()
    network.cut = True
    for n in range(200):
        clinic.accept("his", 1)
        if n % 3 == 0:
            clinic.step()
    for _ in range(200):
        clinic.step()
    assert centre.logs == {}
    network.cut = False
    clinic.settle()
    agree(clinic, centre)


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


# --- one event at a time


def made_sender() -> Sender:
    return Sender(
        root_at=lambda _, upto: frontier_of(HELD[:upto]).root,
        root_of=lambda _, start, size: frontier_of(HELD[start : start + size]).root,
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
    assert effects == [KeepFence("f", "ledger-1"), Put(ORIGIN, 10, RECORDS_MAX, QUANTUM_BYTES_MAX, False)]


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
    assert puts(made.handle(taken, 0.0)) == [Put(new, 0, RECORDS_MAX, QUANTUM_BYTES_MAX, False)]


def test_gateway_that_lost_an_epoch_is_sent_the_rest_of_the_one_before_and_then_the_stored_statement():
    made, new = made_sender(), replace(ORIGIN, epoch=2, tag="11111111")
    made.handle(Started((OwnLog(ORIGIN, 30, 30), OwnLog(new, 10, 10, 30, b"signed")), "ledger-1"), 0.0)
    effects = made.handle(opened(12), 0.0)
    assert alarms(effects) == ["SYN-25"]
    assert puts(effects)[0] == Put(ORIGIN, 12, RECORDS_MAX, QUANTUM_BYTES_MAX, False)
    assert made.handle(receipt(30), 0.0)[-1] == PostEpoch(new, b"signed")


def test_leaves_that_cannot_be_read_stop_the_stream_and_open_no_epoch():
    for root_at, root_of in ((lambda *_: b"", lambda *_: b"x"), (lambda *_: bytes(32), lambda *_: b"")):
        made = Sender(root_at=root_at, root_of=root_of, dice=lambda: 0.0)
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


def test_one_halted_stream_does_not_hold_up_another():
    clinic, centre, _ = link(streams=("his", "lab"))
    clinic.accept("his", 3)
    clinic.accept("lab", 3, message_type="ORU^R01")
    centre.poison = lambda record: record.leaf == clinic.kept["his"][1].leaf
    clinic.settle()
    assert clinic.alarms == ["SYN-29", "SYN-29"]
    assert centre.logs["lab"].records == clinic.kept["lab"]
    assert len(centre.logs["his"].records) == 1


# --- restored, copied


def at_the_centre(centre: Centre, stream: str = "his") -> list[bytes]:
    """The leaves that the centre holds, in the order of the epochs."""
    return [record.leaf for log in centre.all_logs(stream) for record in log.records]


@pytest.mark.parametrize("backup", [0, 1, 17, 29, 30])
@pytest.mark.parametrize("fresh", [0, 1, 12])
def test_restored_node_loses_nothing_sends_nothing_twice_and_is_held(backup, fresh):
    clinic, centre, _ = link()
    clinic.accept("his", 30)
    clinic.settle()
    before = at_the_centre(centre)
    clinic.restored({"his": backup})
    clinic.dice.random()
    clinic.accept("his", fresh, message_type="ADT^A08")
    clinic.settle()
    if backup + fresh < 30 or fresh:
        assert at_the_centre(centre) == before + [record.leaf for record in clinic.kept["his"][backup:]]
    if backup < 30:
        assert clinic.alarms[0] in {"SYN-20", "SYN-21"}
        assert [log.head.origin.epoch for log in centre.all_logs("his")] == [1, 2]
        assert centre.known.held
        assert "GWY-17" in centre.alarms


def test_node_restored_twice_to_the_same_backup_sends_what_it_had_carried_only_once():
    clinic, centre, _ = link()
    clinic.accept("his", 10)
    clinic.settle()
    clinic.network.cut = True
    clinic.accept("his", 5)
    backup = [*clinic.kept["his"]]
    clinic.network.cut = False
    centre.restored({"his": 8})
    clinic.settle()
    clinic.kept["his"] = backup[:12]
    clinic.restart()
    clinic.accept("his", 4, message_type="ADT^A08")
    clinic.settle()
    leaves = at_the_centre(centre)
    assert len(set(leaves)) == len(leaves)
    assert {record.leaf for record in clinic.kept["his"]} <= set(leaves)


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
    assert made.handle(Tick(), 60.1) == [Put(ORIGIN, 10, RECORDS_MAX, 5000, False)]
    made = sender(theirs=None)
    (wait,) = made.handle(Refused("", "busy", wait_s=wait_s), 0.0)
    assert least <= wait.seconds <= most
    assert made.handle(Tick(), 60.1) == [AskSession()]


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


@pytest.mark.parametrize("bad", [0, 17, 39])
def test_record_that_the_gateway_cannot_take_arrives_without_its_body_and_all_others_with_theirs(bad):
    clinic, centre, _ = link()
    centre.poison = lambda record: record.seq == bad and record.state is BodyState.PRESENT
    clinic.accept("his", 40)
    clinic.settle()
    held = centre.logs["his"].records
    assert [record.leaf for record in held] == [record.leaf for record in clinic.kept["his"]]
    assert [record.seq for record in held if record.state is not BodyState.PRESENT] == [bad]
    assert clinic.alarms == ["SYN-29"]
    assert clinic.receipts["his"][0] == 40


def test_full_batches_follow_a_poisoned_record_again():
    clinic, centre, _ = link()
    centre.poison = lambda record: record.seq == 3 and record.state is BodyState.PRESENT
    clinic.accept("his", 300)
    clinic.settle()
    assert clinic.calls[-1] == "put 4+296"


def test_streams_take_turns():
    clinic, _, network = link(streams=("his", "lab"))
    network.cut = True
    clinic.accept("his", 600)
    clinic.accept("lab", 600)
    network.cut = False
    order: list[str] = []
    put = clinic.centre.put
    clinic.centre.put = lambda stream, *rest: (order.append(stream), put(stream, *rest))[1]
    clinic.settle()
    assert order == ["his", "lab", "his", "lab"]


# --- copies and backups


def test_second_copy_is_held_and_the_first_is_fenced_and_does_not_fight_back():
    clinic, centre, network = link()
    clinic.accept("his", 3)
    clinic.settle()
    copy = Clinic(Random(9), network, centre)
    copy.tag, copy.boots, copy.fence, copy.ledger = clinic.tag, list(clinic.boots), clinic.fence, clinic.ledger
    copy.kept, copy.logs = {"his": list(clinic.kept["his"])}, {"his": list(clinic.logs["his"])}
    copy.receipts = dict(clinic.receipts)
    clinic.restart()
    clinic.settle()
    clinic.accept("his", 1)
    clinic.settle()
    copy.restart()
    copy.settle()
    assert "SYN-23" in copy.alarms
    assert centre.alarms == ["GWY-10", "GWY-17"]
    assert centre.known.held
    clinic.accept("his", 1)
    clinic.settle()
    assert clinic.sender.phase is Phase.FENCED
    assert clinic.alarms == ["SYN-27"]
    assert clinic.sender.handle(Tick(), 1e9) == []


def test_node_restored_from_a_backup_never_sends_another_record_at_a_position_that_the_centre_holds():
    clinic, centre, _ = link()
    clinic.accept("his", 5)
    clinic.settle()
    backup = (list(clinic.kept["his"]), dict(clinic.receipts), list(clinic.boots), clinic.fence)
    clinic.accept("his", 5)
    clinic.settle()
    first = list(centre.logs["his"].records)
    clinic.kept["his"], clinic.receipts, clinic.boots, clinic.fence = backup
    clinic.calls.clear()
    clinic.restart()
    clinic.accept("his", 9, message_type="ADT^A08")
    clinic.settle()
    assert clinic.alarms[0] in {"SYN-20", "SYN-23"}
    assert [call for call in clinic.calls if call != "session"] == ["epoch 2", "put 0+9"]
    assert centre.all_logs("his")[0].records == first
    assert [record.leaf for record in centre.logs["his"].records] == [record.leaf for record in clinic.kept["his"][5:]]


def test_gateway_restored_from_a_backup_gets_everything_again():
    clinic, centre, _ = link()
    clinic.accept("his", 12)
    clinic.settle()
    centre.restored({"his": 5})
    clinic.restart()
    clinic.settle()
    assert clinic.alarms == ["SYN-25"]
    assert centre.logs["his"].records == clinic.kept["his"]


def test_log_that_nobody_declared_is_not_known_to_the_sender():
    made = sender()
    extra = replace(their(10), stream="lab")
    effects = made.handle(PathFailed("x"), 0.0)
    made.handle(Tick(), 100.0)
    effects = made.handle(opened(10, streams=(their(10), extra)), 100.0)
    assert list(made.flows) == ["his"]
    assert puts(effects)[0].origin == ORIGIN


def test_unknown_dictionary_sends_the_same_range_without_one_until_the_next_session():
    made = sender()
    (again,) = puts(made.handle(Refused("his", "unknown-dictionary"), 1.0))
    assert (again.first, again.records_max, again.plain) == (10, RECORDS_MAX, True)
    (beyond,) = puts(made.handle(receipt(20), 2.0))
    assert (beyond.first, beyond.plain) == (20, True)
    made.handle(PathFailed("LNK-02"), 3.0)
    made.handle(Tick(), 3.0 + WAIT_S_MAX)
    (fresh,) = puts(made.handle(opened(20), 4.0 + WAIT_S_MAX))
    assert not fresh.plain


def test_gateway_that_misses_a_dictionary_where_none_was_used_is_a_failure_of_the_path():
    made = sender()
    made.handle(Refused("his", "unknown-dictionary"), 1.0)
    assert not puts(made.handle(Refused("his", "unknown-dictionary"), 2.0))
    assert made.phase is Phase.CLOSED
