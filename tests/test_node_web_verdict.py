"""The node's opinion of itself: one state and one verdict from the status facts."""

import pytest

from node.catalogue import entries, hint
from node.room import Stage
from node.web.verdict import (
    CALM,
    HELD,
    NOTICES,
    ORDER,
    STATE_OF,
    STORAGE,
    SUMS,
    State,
    decide,
    room_days,
    unreadable,
)
from tests.sim_status import FACTS, GB, ago, alarm, facts, stream

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
    assert set(CASES) | {*SUMS} | {unreadable().verdict.code} == set(STATE_OF)


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


# -- alarms of the core ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(entries()))
def test_a_healthy_node_over_which_any_alarm_stands_asks_for_a_person_but_for_a_mere_notice(code):
    decision = decide(facts(), [alarm(code, "his")], hint)
    assert decision.state is (State.OK if code in NOTICES else State.ATTENTION)
    assert [each.code for each in decision.alarms if not each.code.startswith("VRD")] == [code]


def test_every_notice_and_every_code_of_what_is_held_is_in_the_catalogue():
    assert {*NOTICES, *HELD} <= set(entries())


@pytest.mark.parametrize("code", HELD)
def test_records_that_the_centre_holds_back_have_one_headline_whatever_brought_them_there(code):
    verdict = decide(facts(), [alarm("MQT-10", "vitals"), alarm(code, "his")], hint).verdict
    assert (verdict.code, verdict.params["cause"], verdict.params["restored"]) == ("VRD-38", code, code == "NOD-31")


def test_what_is_held_is_held_since_the_first_sign_of_it():
    standing = [alarm("SYN-23", hours=1), alarm("NOD-31", "his", hours=2), alarm("NOD-31", "lab", hours=3)]
    verdict = decide(facts(), standing, hint).verdict
    assert (verdict.since, verdict.params) == (ago(hours=3), {"cause": "SYN-23", "subject": "", "restored": True})


def test_the_headline_names_the_first_alarm_that_is_no_notice():
    verdict = decide(facts(), [alarm("SYN-25", "x"), alarm("MQT-10", "vitals"), alarm("DST-06", "pacs")], hint).verdict
    assert verdict.code == "VRD-39"
    assert verdict.params == {"cause": "MQT-10", "subject": "vitals", "hint": entries()["MQT-10"].hint}


def test_alarms_that_were_put_into_one_headline_are_listed_each_by_itself_notices_last():
    decision = decide(facts(), [alarm("SYN-25", "x"), alarm("NOD-31", "his"), alarm("NOD-31", "lab")], hint)
    assert [(each.code, each.params["subject"]) for each in decision.alarms] == [
        ("NOD-31", "his"),
        ("NOD-31", "lab"),
        ("SYN-25", "x"),
    ]


@pytest.mark.parametrize("code", [code for code in CASES if code not in CALM and code != "VRD-22"])
@pytest.mark.parametrize("standing", ["MQT-10", "NOD-31"])
def test_an_alarm_takes_no_headline_from_what_is_more_urgent_and_never_makes_the_state_better(code, standing):
    decision = decide(CASES[code], [alarm(standing, "his")], hint)
    assert decision.verdict.code == code
    assert decision.state is max(STATE_OF[code], State.ATTENTION, key=ORDER.index)


@pytest.mark.parametrize("code", [*sorted(CALM), "VRD-22"])
def test_an_alarm_goes_before_what_nobody_has_to_act_on(code):
    decision = decide(CASES[code], [alarm("MQT-10", "vitals")], hint)
    assert (decision.verdict.code, decision.state) == ("VRD-39", State.ATTENTION)


@pytest.mark.parametrize(("code", "verdict"), [("SYN-27", "VRD-34"), ("SYN-28", "VRD-35")])
@pytest.mark.parametrize("link", ["up", "down", "unproven"])
def test_a_fence_or_a_revocation_that_stands_is_the_headline_while_the_link_is_tried_again(code, verdict, link):
    assert decide(facts(link={"state": link}), [alarm(code)], hint).verdict.code == verdict
