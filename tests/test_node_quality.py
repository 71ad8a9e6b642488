"""Data quality at a running node: counted by feed and sender, shown on the page in both languages, never at the cost of intake."""

from datetime import UTC, datetime

import pytest

from hl7.message import facts
from node.config.config import ConfigError, load
from node.feeds.trial import judge
from node.quality import counts as module
from node.quality.counts import OTHERS, Inspection
from node.tools.hospital import Hospital
from tests.node_rig import Feed, Node, Realm, message, running, wait_until

CIVIL = '[civil_number]\nauthorities = ["TEST"]\npattern = "[0-9]{9}"\n'


class Clock:
    def now_us(self):
        return int(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1e6)

    def monotonic(self):
        return 0.0


@pytest.fixture
def inspection():
    return Inspection(Clock(), None)


@pytest.fixture
def quality(inspection):
    return inspection.of_feed()


def offer(quality, raw):
    quality.offer(facts(raw), raw)


def test_a_running_node_counts_what_is_poor_by_feed_and_sender(tmp_path):
    node = Node(Realm.make(tmp_path / "realm"), tmp_path, feeds=[Feed("his"), Feed("lab")], more=CIVIL)
    with running(node):
        node.send(
            message("Q-1"),
            message("Q-2", sender="LIS|X", pid="1^^^MRN"),
            message("Q-3", sender="LIS|X", pid="7^^^TEST"),
        )
        wait_until("looked at", lambda: node.ask("status")["feeds"]["his"]["quality"]["looked"] == 3)
        document = node.ask("status")["feeds"]["his"]["quality"]
        assert node.ask("status")["feeds"]["lab"]["quality"]["looked"] == 0
    by_sender = {
        each["sender"]: {(f["place"], f["what"]): f["count"] for f in each["findings"]} for each in document["senders"]
    }
    assert by_sender["LIS|X"][("PID-3", "missing")] == 1
    assert by_sender["LIS|X"][("PID-3", "invalid")] == 1
    assert ("PID-3", "missing") not in by_sender["HIS|TEST"]
    assert by_sender["HIS|TEST"][("PID-7", "missing")] == 1


def test_a_feeds_local_escapes_are_explained_by_its_own_table(realm, tmp_path):
    known = Feed("his", lines='local_escapes = { Zq = "½", Z01 = "≥ 1" }')
    with running(Node(realm, tmp_path, feeds=[known, Feed("lab")])) as node:
        raw = message("Z-1", more="NTE|1||\\Zq\\ tablet \\Z01\\ daily\r")
        for name in ("his", "lab"):
            node.send(raw, feed=name)
            wait_until("looked at", lambda name=name: node.ask("status")["feeds"][name]["quality"]["looked"] == 1)
        told = {name: str(node.ask("status")["feeds"][name]["quality"]) for name in ("his", "lab")}
        config = load(node.config())
    assert ("local-escape" in told["his"], "local-escape" in told["lab"]) == (False, True)
    notes = [judge(feed, raw)[0].notes for feed in config.feeds]
    assert notes == [(), ("NTE-3: a local escape sequence that is kept as it stands",)]


@pytest.mark.parametrize("wrong", ['{ q = "x" }', '{ "Z\\\\" = "x" }', '{ Zq = "" }', '{ Zq = "a\\rb" }', '["Zq"]'])
def test_a_local_escape_is_a_name_that_begins_with_z_and_a_text(realm, tmp_path, wrong):
    with pytest.raises(ConfigError, match="local_escapes"):
        load(Node(realm, tmp_path, feeds=[Feed("his", lines=f"local_escapes = {wrong}")]).config())


def test_where_more_come_than_can_be_looked_at_the_others_are_counted_as_passed_over(inspection, quality):
    for number in range(module.WAITING_MAX + 10):
        offer(quality, message(f"M-{number}"))
    offer(quality, message("BIG", more="OBX|1|ED|||" + "A" * module.BODY_BYTES_MAX))
    while quality.document()["looked"] < module.WAITING_MAX:
        inspection.round()
    assert quality.document()["passed_over"] == 11


def test_where_more_wait_than_can_be_looked_at_a_sample_is(inspection, quality):
    for number in range(module.WAITING_MAX):
        offer(quality, message(f"M-{number}"))
    inspection.round()
    assert quality.document()["looked"] == module.BUSY_MESSAGES_MAX


def test_a_message_whose_look_fails_is_passed_over_and_the_next_one_is_looked_at(inspection, quality, monkeypatch):
    offer(quality, message("BAD"))
    offer(quality, message("GOOD"))
    real = module.look
    monkeypatch.setattr(module, "look", lambda raw, **options: 1 / 0 if b"BAD" in raw else real(raw, **options))
    inspection.round()
    assert (quality.document()["looked"], quality.passed_over) == (1, 1)


def test_a_round_is_bounded(inspection, quality):
    for number in range(module.ROUND_MESSAGES_MAX + 5):
        offer(quality, message(f"M-{number}"))
    inspection.round()
    assert quality.document()["looked"] == module.ROUND_MESSAGES_MAX


def test_a_feed_has_a_bounded_number_of_senders_and_their_names_cannot_break_a_line(inspection, quality):
    for number in range(module.SENDERS_MAX + 20):
        offer(quality, message("M", sender=f"S{number}\x07|{'x' * 200}"))
        inspection.round()
    senders = quality._tallies
    assert len(senders) == module.SENDERS_MAX + 1
    assert senders[OTHERS].looked == 20
    assert all(name.isprintable() and len(name) <= module.NAME_CHARACTERS_MAX for name in senders)


def test_the_simulated_hospital_writes_good_messages_but_for_what_it_leaves_out_on_purpose(inspection, quality):
    hospital = Hospital(seed=7)
    for number in range(200):
        sent = hospital.next_message(now=datetime(2030, 1, 1, tzinfo=UTC))
        offer(quality, sent.raw)
        if number % 10 == 9:
            inspection.round()
    found = {(f["place"], f["what"]) for each in quality.document()["senders"] for f in each["findings"]}
    assert not {finding for finding in found if finding[1] in {"not-a-date", "unknown-code"}}
