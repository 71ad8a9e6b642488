"""What else a sender's PUT may be answered: rewind, fork, fenced, revoked, busy, a key that does not count, and what nobody knows."""

from dataclasses import replace

import pytest

from sync.agreement import Question
from sync.flow import FORKS_MAX, QUANTUM_BYTES_MAX
from sync.pace import WAIT_S_MIN
from sync.sender import KEY_WAIT_S, REVOKED_WAIT_S, SESSION_S_MAX
from sync.sender_events import (
    Alarm,
    AskRoot,
    AskSession,
    Grew,
    OwnLog,
    PathFailed,
    Phase,
    PostEpoch,
    Put,
    Refused,
    Retry,
    Started,
    Tick,
    Wait,
)
from tests.sender_rig import alarms, made_sender, opened, puts, receipt, sender, their
from tests.sim_realm import ORIGIN


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
