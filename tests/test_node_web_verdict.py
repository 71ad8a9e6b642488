"""The node's opinion of itself: one state and one verdict from the status facts."""

import pytest

from node.room import Stage
from node.web.verdict import CALM, ORDER, STATE_OF, STORAGE, State, decide, room_days, unreadable
from tests.sim_status import FACTS, GB, ago, facts, stream

NOTHING_YET = {"last_receipt": None, "totals": {"accepted": 0, "receipted": 0, "waiting": 0}}


def waits(**other):
    return {"waiting": 1_204, "waiting_bytes": 16_700_000, "oldest_waiting_at": ago(minutes=12), **other}


def with_feed(**changes):
    return facts(feeds=[{**FACTS["feeds"][0], **changes}, *FACTS["feeds"][1:]])


CASES = {
    "VRD-00": facts(),
    "VRD-10": facts(link={"state": "unproven"}, **NOTHING_YET),
    "VRD-20": facts(link={"state": "down", "since": ago(minutes=12)}),
    "VRD-21": facts(streams=[stream("his", 99, **waits())]),
    "VRD-22": facts(link={"state": "off"}),
    "VRD-30": with_feed(running=False),
    "VRD-31": with_feed(last_seen=ago(days=2)),
    "VRD-32": facts(disk={"stage": "filling"}),
    "VRD-33": facts(streams=[stream("his", 99, halted={"code": "SYN-07"})]),
    "VRD-34": facts(link={"state": "fenced"}),
    "VRD-35": facts(link={"state": "revoked"}),
    "VRD-36": facts(disk={"stage": "no-bulk"}),
    "VRD-37": {**facts(disk={"stage": "trimming"}), "feeds": with_feed(paused=True)["feeds"]},
    "VRD-40": facts(core={"running": False}),
    "VRD-41": facts(disk={"stage": "full"}),
    "VRD-42": facts(feeds=[{**feed, "running": False} for feed in FACTS["feeds"]]),
    "VRD-43": facts(disk={"stage": "critical-only"}),
}


@pytest.mark.parametrize("code", CASES)
def test_each_situation_has_its_verdict(code):
    decision = decide(CASES[code])
    assert (decision.verdict.code, decision.state) == (code, STATE_OF[code])


def test_every_code_is_reached_by_a_case():
    assert set(CASES) | {unreadable().verdict.code} == set(STATE_OF)


@pytest.mark.parametrize("code", CASES)
def test_what_nobody_can_act_on_is_no_alarm(code):
    alarms = [alarm.code for alarm in decide(CASES[code]).alarms]
    assert alarms == ([] if code in CALM else [code])


def test_contact_without_a_receipt_is_not_ok():
    assert decide(facts(link={"state": "up"}, **NOTHING_YET)).state is State.UNPROVEN


def test_the_worst_finding_gives_the_state_and_stands_first_among_the_alarms():
    both = facts(link={"state": "down"}, disk={"stage": "full"}, streams=[stream("his", 9, halted={"code": "SYN-07"})])
    decision = decide(both)
    assert [alarm.code for alarm in decision.alarms] == ["VRD-41", "VRD-33", "VRD-20"]
    assert decision.verdict == decision.alarms[0]


def test_a_dead_core_hides_the_feeds_and_link_that_died_with_it():
    dead = facts(
        core={"running": False}, link={"state": "down"}, feeds=[{**feed, "running": False} for feed in FACTS["feeds"]]
    )
    assert [alarm.code for alarm in decide(dead).alarms] == ["VRD-40"]


def test_a_feed_that_never_spoke_is_not_silent():
    assert decide(with_feed(last_seen=None)).state is State.OK


def test_a_feed_is_silent_by_its_own_rhythm():
    assert decide(with_feed(last_seen=ago(hours=2), silent_after_s=3600)).verdict.code == "VRD-31"
    assert decide(with_feed(last_seen=ago(days=2), silent_after_s=7 * 86_400)).state is State.OK


def test_records_of_a_stopped_stream_do_not_count_as_catching_up():
    decision = decide(facts(streams=[stream("his", 99, **waits(halted={"code": "SYN-07"}))]))
    assert [alarm.code for alarm in decision.alarms] == ["VRD-33"]


def test_records_in_their_normal_round_trip_leave_the_state_ok():
    moving = [stream("his", 99, **waits(oldest_waiting_at=ago(seconds=5)))]
    assert decide(facts(streams=moving, totals={"waiting": 1_204})).state is State.OK


def test_room_in_days_follows_from_what_came_since_the_link_went_down():
    waiting = [stream("his", 99, **waits(waiting_bytes=10**9, oldest_waiting_at=ago(days=1)))]  # 1 GB a day, 18 GB free
    assert room_days(facts(link={"state": "down"}, streams=waiting)) == 18
    assert decide(facts(link={"state": "down"}, streams=waiting, disk={"room_bytes": 6 * GB})).verdict.code == "VRD-32"


@pytest.mark.parametrize(
    "unknowable",
    [
        facts(link={"state": "down"}),
        facts(link={"state": "down"}, streams=[stream("his", 99, **waits(oldest_waiting_at=ago(seconds=30)))]),
        facts(link={"state": "up"}, streams=[stream("his", 99, **waits(oldest_waiting_at=ago(days=1)))]),
    ],
    ids=["nothing waits", "too short a time", "the queue drains"],
)
def test_days_are_not_guessed(unknowable):
    assert room_days(unknowable) is None


def test_a_clock_that_was_set_back_does_not_break_the_verdict():
    future = [stream("his", 99, **waits(oldest_waiting_at="2031-01-01T00:00:00.000Z"))]
    assert (
        decide(facts(streams=future, link={"state": "down", "since": "2031-01-01T00:00:00.000Z"})).verdict.code
        == "VRD-20"
    )


def test_the_decision_writes_the_keys_of_the_status_document():
    document = decide(CASES["VRD-20"]).document()
    assert list(document) == ["state", "verdict", "alarms"]
    assert document["verdict"]["params"]["since"] == ago(minutes=12) == document["alarms"][0]["since"]


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_in_which_something_is_refused_or_told_has_its_verdict(stage):
    verdict = decide(facts(disk={"stage": stage.word})).verdict
    assert (verdict.code in STORAGE.values()) == (stage >= Stage.FILLING)
    assert (verdict.code in {"VRD-36", "VRD-41", "VRD-43"}) == bool(stage.refuses)


@pytest.mark.parametrize(
    ("stage", "code"),
    [("open", "VRD-37"), ("filling", "VRD-37"), ("trimming", "VRD-37"), ("no-bulk", "VRD-36"), ("full", "VRD-41")],
)
def test_a_pause_is_named_unless_something_worse_is_to_be_told(stage, code):
    paused = {**facts(disk={"stage": stage}), "feeds": with_feed(paused=True)["feeds"]}
    assert decide(paused).verdict.code == code


def test_facts_are_not_changed():
    before = facts()
    decide(before)
    assert before == facts()


def test_states_are_ranked_from_ok_to_failed():
    assert [str(state) for state in ORDER] == ["ok", "unproven", "waiting", "attention", "failed"]
