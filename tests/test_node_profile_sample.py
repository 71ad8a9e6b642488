"""Samples of what a feed took, checked by hl7apy after the commit: counted by sender and finding, bounded, and never in the way of a reply."""

import asyncio
import sys
from pathlib import Path

import pytest
import urllib3

from hl7.message import facts
from node.config.config import ConfigError, check, load
from node.config.feeds import Mllp
from node.quality import profile_sample as module
from node.quality.counts import BODY_BYTES_MAX
from node.quality.profile_sample import OTHERS, Samples, Tally
from tests.node_rig import END, START, Feed, Node, message, running, wait_until
from tests.sim_status import Node as Page
from tests.sim_status import served, status
from tests.test_node_profile import profile_file

RESTLESS = "import node.quality.profile_sample as sample; sample.REST = 0"


def good(control_id, **options):
    return message(control_id, kind="ADT^A01^ADT_A01", more="PV1|1|I\r", **options)


def feed_of(**options):
    return Mllp.model_validate({"kind": "mllp", "name": "his", "listen": ["127.0.0.1:2575"], **options})


def profile_of(node, name="his"):
    return node.ask("status")["feeds"][name].get("profile")


def findings(document):
    return {each["sender"]: {f["what"]: f["count"] for f in each["findings"]} for each in document["senders"]}


def test_a_running_node_counts_what_the_structure_or_a_profile_lacks_by_feed_and_sender(realm, tmp_path):
    path = profile_file(tmp_path)
    feeds = [
        Feed("his", lines="profile_one_in = 1", check='types = ["ADT^*"]'),
        Feed("birth", lines=f'profile_one_in = 1\nprofile = "{path}"'),
        Feed("bare"),
    ]
    with running(Node(realm, tmp_path, feeds=feeds), before=RESTLESS) as node:
        node.send(
            good("S-1"),
            message("S-2", kind="ADT^A01^ADT_A01", sender="LIS|X", name="سري"),
            message("REFUSED", kind="ORU^R01"),
        )
        wait_until("both", lambda: profile_of(node)["checked"] == 2)
        node.send(good("S-1"))  # a repeat is no new message
        with node.mllp() as mllp:
            mllp.write(START + b"BHS|^~\\&|HIS|TEST\r" + good("B-1") + good("B-2") + b"BTS|2\r" + END)
            mllp.reply()
        node.send(message("P-1", kind="ADT^A01^ADT_A01"), feed="birth")
        wait_until("the other feed", lambda: profile_of(node, "birth")["checked"] == 1)
        document, other = profile_of(node), profile_of(node, "birth")
        assert profile_of(node, "bare") is None
    assert (document["one_in"], document["checked"], document["not_checked"], document["passed_over"]) == (1, 2, 0, 0)
    ((sender, found),) = findings(document).items()
    assert sender == "LIS|X"
    assert any("PV1" in what and count == 1 for what, count in found.items())
    assert "سري" not in str(document)
    assert any("PID.PID_7" in what for what in findings(other)["HIS|TEST"])


def test_a_profile_that_cannot_be_read_is_told_and_every_other_feed_has_its_own(realm, tmp_path):
    bad = tmp_path / "junk"
    bad.write_bytes(b"junk")
    feeds = [Feed("his", lines="profile_one_in = 1"), Feed("bad", lines=f'profile_one_in = 1\nprofile = "{bad}"')]
    with running(Node(realm, tmp_path, feeds=feeds), before=RESTLESS) as node:
        node.send(good("X-1"), feed="bad")
        wait_until("not checked", lambda: profile_of(node, "bad")["not_checked"] == 1)
        node.send(good("X-2"))
        wait_until("checked", lambda: profile_of(node)["checked"] == 1)


def test_a_profile_that_is_not_there_is_refused_by_check_config(realm, tmp_path):
    node = Node(realm, tmp_path, feeds=[Feed("his", lines='profile_one_in = 1\nprofile = "not-there"')])
    assert [problem.key for problem in check(node.config())] == ["feeds[his].profile"]
    node.feeds = [Feed("his", lines="profile_one_in = -1")]
    with pytest.raises(ConfigError, match="profile_one_in"):
        load(node.config())


# -- the queue and the worker, by hand -----------------------------------------------------------------------------------
class Hand:
    """Samples of one feed whose worker is a script of the test."""

    def __init__(self, script, tmp_path, one_in=1):
        path = tmp_path / "worker.py"
        path.write_text(
            "import struct, sys, time\nread, write = sys.stdin.buffer.read, sys.stdout.buffer.write\n" + script
        )
        feed = feed_of(profile_one_in=one_in)
        self.samples = Samples([feed], lambda: 0.0, (sys.executable, str(path)))
        self.sample = self.samples.of_feed(feed)

    def offer(self, count):
        for number in range(count):
            raw = message(f"M-{number}")
            self.sample.offer(facts(raw), raw)

    async def until(self, is_so):
        running = asyncio.create_task(self.samples.run())
        async with asyncio.timeout(30):
            while not is_so(self.sample.document()):
                await asyncio.sleep(0.01)
        running.cancel()
        await self.samples.stop()


ANSWERS = "while head := read(4):\n read(struct.unpack('>I', head)[0])\n write(struct.pack('>I', 8) + b'[\"lack\"]')\n sys.stdout.flush()\n"


def test_one_in_so_many_is_checked(tmp_path):
    hand = Hand(ANSWERS, tmp_path, one_in=3)
    hand.offer(10)
    asyncio.run(hand.until(lambda document: document["checked"] == 3))
    assert hand.sample.document()["passed_over"] == 0
    assert findings(hand.sample.document()) == {"HIS|TEST": {"lack": 3}}


def test_where_more_are_chosen_than_can_wait_or_one_is_too_long_they_are_counted_as_passed_over(tmp_path):
    hand = Hand(ANSWERS, tmp_path)
    raw = message("BIG", more="OBX|1|ED|||" + "A" * BODY_BYTES_MAX)
    hand.sample.offer(facts(raw), raw)
    hand.offer(module.WAITING_MAX + 5)
    assert hand.sample.document()["passed_over"] == 6
    asyncio.run(hand.until(lambda document: document["checked"] == module.WAITING_MAX))


@pytest.mark.parametrize(
    "script",
    [
        "time.sleep(3600)\n",
        "sys.exit(1)\n",
        "write(b'\\xff' * 64)\nsys.stdout.flush()\ntime.sleep(3600)\n",
        ANSWERS.replace('["lack"]', '{"a": 1}'),
    ],
)
def test_a_worker_that_hangs_dies_or_talks_nonsense_is_counted_as_no_answer_and_the_next_message_is_tried(
    tmp_path, monkeypatch, script
):
    monkeypatch.setattr("node.worker.START_S_MAX", 0.5)
    hand = Hand(script, tmp_path)
    hand.offer(2)
    asyncio.run(hand.until(lambda document: document["not_checked"] == 2))
    assert hand.sample.document()["checked"] == 0


def test_a_sender_has_a_bounded_number_of_findings():
    tally = Tally()
    tally.count(f"finding {number}" for number in range(module.FINDINGS_MAX + 10))
    assert len(tally.findings) == module.FINDINGS_MAX + 1
    assert tally.findings[OTHERS] == 10


def test_a_feed_without_a_sample_costs_no_process_and_keeps_the_short_way(realm, tmp_path):
    with running(Node(realm, tmp_path)) as node:
        node.send(good("N-1"))
        assert "profile" not in node.ask("status")["feeds"]["his"]
        assert not Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()


def test_the_page_shows_in_both_languages_what_was_found_and_what_could_not_be_looked_at():
    facts_of_node, found = status(), {"one_in": 50, "checked": 1234, "not_checked": 3, "passed_over": 7}
    found["senders"] = [
        {"sender": "LIS|X", "checked": 9, "findings": [{"what": "Error: Missing required child <b>PV1", "count": 8}]}
    ]
    facts_of_node["feeds"] = [{**feed, "quality": None} for feed in facts_of_node["feeds"]]
    facts_of_node["feeds"][0]["profile"] = found
    with served(Page(facts_of_node)) as (url, _), urllib3.PoolManager() as pool:
        english, arabic = (pool.request("GET", f"{url}/?lang={lang}").data.decode() for lang in ("en", "ar"))
    assert "1 in 50. Checked: 1,234. Not checked, no answer: 3. Left out, too many at once: 7." in english
    assert "بنية الرسائل" in arabic
    for html in (english, arabic):
        assert "Missing required child &lt;b&gt;PV1" in html
        assert "LIS|X" in html
