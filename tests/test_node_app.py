"""The core as a process: what a start refuses, what a stop leaves, and that no moment is a bad one to be killed."""

import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.node_rig import EAGER, Feed, Node, message, running, wait_until
from tests.sim_gateway import sim_gateway


@pytest.fixture
def node(realm, tmp_path):
    made = Node(realm, tmp_path)
    yield made
    made.kill()


def test_the_unmodified_command_starts_serves_and_stops(node):
    with running(node, cold=True):
        assert node.send(message("A-1"))[0].code == "AA"
        assert node.stop() == 0
    assert [row["event"] for row in node.log()] == ["core.started", "core.stopping"]
    assert node.bodies() == [message("A-1")]


def test_a_second_core_on_the_same_folder_refuses_to_start_and_the_first_goes_on(node):
    with running(node):
        second = Node(node.realm, node.folder, feeds=[Feed("his")])
        second.launch()
        assert second.ended() == 1
        assert node.log("core.cannot_start")[-1]["code"] == "NOD-06"
        assert node.send(message("A-1"))[0].code == "AA"


def test_a_taken_port_refuses_to_start(node, realm, tmp_path):
    with running(node):
        other = Node(realm, tmp_path / "other", feeds=[Feed("his", port=node.feeds[0].port)])
        other.launch()
        assert other.ended() == 1
        assert other.log("core.cannot_start")[-1]["code"] == "NOD-04"


def test_keys_that_do_not_belong_to_the_node_refuse_to_start(node, realm):
    node.keys = realm.node("clinic-8")
    node.launch()
    assert node.ended() == 1
    assert node.log("core.cannot_start")[-1]["code"] == "NOD-02"
    assert not node.store.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_ends_with_0_and_leaves_everything_acknowledged_stored(node, realm, number):
    acknowledged, stop = [], threading.Event()

    def load(at):
        with node.mllp() as mllp:
            n = 0
            while not stop.is_set():
                raw = message(f"A-{at}-{n}")
                try:
                    assert mllp.exchange(raw).code in {"AA", "AR"}
                except OSError:
                    return
                acknowledged.append(raw)
                n += 1

    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            threads = [threading.Thread(target=load, args=(at,)) for at in range(6)]
            for thread in threads:
                thread.start()
            wait_until("some work", lambda: len(acknowledged) > 300)
            node.process.send_signal(number)
            assert node.ended() == 0
            stop.set()
            for thread in threads:
                thread.join()
        stored = node.bodies()
        assert set(acknowledged) <= set(stored)
        assert len(stored) == len(set(stored))
        with running(node, before=EAGER):
            node.wait_receipted(size=len(stored))
        assert fake.bodies() == stored


def test_a_first_start_killed_at_any_moment_leaves_a_folder_that_the_next_start_can_use(realm, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    for at in range(8):
        node = Node(realm, tmp_path / str(at))
        try:
            for _ in range(3):
                node.launch()
                time.sleep(dice.random() * 0.3)
                node.kill()
            with running(node):
                assert node.send(message(f"A-{at}"))[0].code == "AA"
        finally:
            node.kill()


def test_a_dead_thread_ends_the_process(node):
    dying = "import node.proofreader as p; p.Proofreader.run = lambda self: 1 / 0"
    node.launch(before=dying)
    assert node.ended() == 70
    assert node.log("thread.died")[-1]["thread"] == "proofreader"


def test_all_threads_of_the_core_share_one_heap(node):
    """Glibc would give each a reservation of 64 MiB, aligned to its size, and never take back what its largest batch had needed."""
    reserved = 64 * 1024 * 1024
    with running(node, cold=True):
        node.send(message("A-HEAP"))
        lines = (Path("/proc") / str(node.process.pid) / "maps").read_text().splitlines()
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines if len(line.split()) == 5]
    starts = {start for start, _ in spans if start % reserved == 0}
    assert [hex(start) for start in starts if start + reserved in {end for _, end in spans}] == []


def test_a_stream_that_is_no_longer_configured_is_kept_and_still_sent(node, realm):
    node.feeds = [Feed("his"), Feed("lab")]
    with running(node):
        node.send(message("A-HIS"))
        node.send(message("A-LAB"), feed="lab")
    node.feeds = node.feeds[:1]
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            node.wait_receipted("lab", size=1)
        assert fake.bodies("lab") == [message("A-LAB")]


def test_bodies_past_their_retention_go_only_once_they_are_receipted(node, realm):
    node.outbox = "free_mb_min = 16\nbody_retention_days = 0"
    minute = "import node.app; node.app.MINUTE_S = 0.1"
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER + "\n" + minute):
            raws = [message(f"A-{n}") for n in range(5)]
            node.send(*raws)
            wait_until("trimmed bodies", lambda: node.bodies() == [b""] * 5)
            assert fake.bodies() == raws
            fake.close()
            node.send(message("A-LATE"))
            assert node.bodies() == [b""] * 5 + [message("A-LATE")]
            assert node.alarms() == set()


def test_summaries_and_trims_go_on_after_a_minute_that_failed(node):
    failing = """
import node.app, sync.outbox
from sync.errors import NoRoom
node.app.MINUTE_S = 0.1
failures = []
trim = sync.outbox.Outbox.ledger
def ledger(self):
    failures.append(1)
    if len(failures) < 6:
        raise NoRoom("busy")
    return trim(self)
sync.outbox.Outbox.ledger = ledger
"""
    node.feeds[0].check, node.feeds[0].lines = 'senders = ["HIS|TEST"]', "rejected_per_hour_max = 0"
    with running(node, before=failing):
        wait_until("failed minutes", lambda: len(node.log("trim.postponed")) >= 3)
        assert node.send(message("A-1", sender="LAB|TEST"))[0].code == "AR"
        wait_until("the summary", lambda: node.stream().size == 1)
        assert node.records()[0].count == 1


def test_probe_commits_and_signs_and_retry_and_metrics_are_answered(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node):
            assert node.ask("probe") == "committed and signed"
            assert node.ask("retry") == "ok"
            node.send(message("A-1"), b"HELLO")
            node.wait_receipted(size=2)
            metrics = node.ask("metrics")
    for line in (
        'wasl_messages_total{feed="his",outcome="accepted"} 1.0', 'wasl_messages_total{feed="his",outcome="warned"} 1.0',
        "wasl_core_up 1.0", "wasl_commit_records_total 2.0", "wasl_link_up 1.0", 'wasl_connections{feed="his"}',
    ):  # fmt: skip
        assert line in metrics
