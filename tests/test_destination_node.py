"""A node that serves its own site: killed at any moment, without a link, with a full disk, across a further epoch; what is refused is parked and replayed."""

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from node.cli.main import main
from node.config.config import load as load_config
from node.keystore import load as load_keys
from sync.outbox import Outbox
from sync.outbox_destinations import Cursor
from tests.destination_rig import EAGER, Peer, ack, destination, ids, msh, once, parked, serve, to, wait_got
from tests.node_rig import Feed, Node, Realm, free_port, message, running, wait_until
from tests.sim_gateway import sim_gateway
from tests.warm_start import ROOT

SHORT = EAGER + "\nimport node.app; node.app.MINUTE_S = node.app.LOOK_S = 0.1"


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def node(realm, tmp_path):
    made = Node(realm, tmp_path)
    yield made
    made.kill()


def wasl(node: Node, *words: str, code: int = 0) -> str:
    """`wasl destination …` as a person calls it."""
    done = CliRunner().invoke(main, ["destination", words[0], "--config", str(node.folder / "node.toml"), *words[1:]])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def messages(name: str, count: int) -> list[bytes]:
    return [message(f"{name}-{n}") for n in range(count)]


def wait_state(node: Node, **wanted) -> None:
    def is_so() -> bool:
        found = destination(node)
        return all(found[key] == value for key, value in wanted.items())

    wait_until(f"{wanted}", is_so)


# -- order, kills, no link ------------------------------------------------------------------------------------------------
def test_a_node_killed_at_any_moment_without_a_link_loses_nothing_keeps_order_and_repeats_only_the_last(node):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    sent: list[bytes] = []
    with Peer(lambda raw, _: None if dice.random() < 0.05 else [ack(raw)]) as peer:
        serve(node, to(peer)).gateway = f"https://127.0.0.1:{free_port()}"
        node.start(before=EAGER)
        for at in range(8):
            batch = messages(f"A-{at}", 15)
            node.send(*batch)
            sent += batch
            time.sleep(dice.random() * 0.05)
            node.restart(before=EAGER)
        wait_until("the last", lambda: peer.got[-1:] == sent[-1:])
    assert once(peer.got) == sent
    assert peer.most_open <= 2  # of a killed node the kernel closes the old one when it likes


def test_each_stream_keeps_its_order_and_one_that_waits_does_not_hold_the_other(node):
    good = threading.Event()

    def answer(raw, _):
        return [ack(raw, "AR" if raw.find(b"|H-") > 0 and not good.is_set() else "AA")]

    with Peer(answer) as peer:
        serve(node, to(peer, streams='"his", "lab"'), feeds=("his", "lab"))
        with running(node, before=EAGER):
            node.send(*messages("H", 5))
            node.send(*messages("L", 5), feed="lab")
            wait_until("the laboratory's", lambda: ids(peer.got).count("L-4") == 1)
            assert "H-1" not in ids(peer.got)
            good.set()
            wait_until("all", lambda: "H-4" in ids(peer.got))
    taken = once(peer.got)
    assert [each for each in ids(taken) if each[0] == "L"] == [f"L-{n}" for n in range(5)]
    assert list(dict.fromkeys(each for each in ids(taken) if each[0] == "H")) == [f"H-{n}" for n in range(5)]


def test_a_peer_that_takes_nothing_is_tried_again_for_ever_and_alarmed_and_the_alarm_ends(node):
    good = threading.Event()
    with Peer(lambda raw, _: [ack(raw, "AA" if good.is_set() else "CR")]) as peer:
        serve(node, to(peer, more="alarm_minutes = 0"))
        with running(node, before=EAGER):
            node.send(*messages("A", 3))
            wait_until("an alarm", lambda: ("DST-11", "lis") in node.alarms())
            assert destination(node)["state"] == "retrying"
            assert set(ids(peer.got)) == {"A-0"}
            good.set()
            wait_until("all", lambda: ids(peer.got)[-1] == "A-2")
            wait_until("no alarm", lambda: not node.alarms())
            assert destination(node)["state"] == "up"


def test_a_new_destination_begins_at_the_end_or_where_it_is_told_to(node):
    with running(node, before=EAGER):
        node.send(*messages("OLD", 3))
    with Peer() as now, Peer() as all_of_it:
        serve(node, to(now, name="now"), to(all_of_it, name="all", more='from = "start"'))
        with running(node, before=EAGER):
            node.send(*messages("NEW", 2))
            assert ids(wait_got(now, 2)) == ["NEW-0", "NEW-1"]
            assert ids(wait_got(all_of_it, 5)) == ["OLD-0", "OLD-1", "OLD-2", "NEW-0", "NEW-1"]


def test_what_was_refused_at_the_feed_and_other_types_never_reach_a_destination(node):
    with Peer() as peer:
        serve(node, to(peer, more='types = ["ORU^*"]'))
        node.feeds = [Feed("his", check='senders = ["HIS|TEST"]')]
        with running(node, before=EAGER):
            replies = node.send(
                message("A-1"),
                message("A-2", kind="ORU^R01", sender="X|Y"),
                message("A-3", kind="ORU^R01"),
                b"HELLO",
                message("A-4", kind="ORU^R32^X"),
            )
            assert [reply.code for reply in replies] == ["AA", "AR", "AA", "AA", "AA"]
            assert ids(wait_got(peer, 2)) == ["A-3", "A-4"]
            wait_state(node, parked=0)


def test_a_batch_goes_message_by_message_without_those_that_were_refused(node):
    batch = (
        b"FHS|^~\\&|HIS\rBHS|^~\\&|HIS\r"
        + message("B-1")
        + message("B-2", sender="X|Y")
        + message("B-3")
        + b"BTS|3\rFTS|1\r"
    )
    with Peer(lambda raw, _: [ack(raw, "AE" if b"B-3" in raw else "AA")]) as peer:
        serve(node, to(peer))
        node.feeds = [Feed("his", check='senders = ["HIS|TEST"]')]
        with running(node, before=EAGER):
            node.send(batch, message("A-1"))
            wait_got(peer, 3)
            assert peer.got == [message("B-1"), message("B-3"), message("A-1")]
            wait_state(node, parked=1)
            (row,) = parked(node)
            assert (row["stream"], row["seq"], row["part"], row["reason"]) == ("his", 0, 2, "DST-01")


# -- parked, stopped, skipped, replayed -----------------------------------------------------------------------------------
def test_a_refused_message_is_parked_with_its_reason_the_next_goes_on_and_a_replay_delivers_it(node):
    good = threading.Event()
    with Peer(lambda raw, _: [ack(raw, "AE" if b"|A-2|" in raw and not good.is_set() else "AA")]) as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(*messages("A", 5))
            wait_got(peer, 5)
            wait_state(node, parked=1)
            wait_until("an alarm", lambda: ("DST-06", "lis") in node.alarms())
            (row,) = json.loads(wasl(node, "parked", "lis", "--json"))
            assert (row["seq"], row["reason"], row["detail"], row["body"]) == (2, "DST-01", "AE", True)
            assert "DST-01" in wasl(node, "parked", "lis")
            assert wasl(node, "replay", "lis", str(row["id"])) == "1 are sent again\n"
            wait_until("refused again", lambda: parked(node)[0]["tries"] == 2)
            wait_until("its reason", lambda: node.log("destination.refused_again"))
            assert destination(node)["last_error"]["code"] == "DST-01"
            node.restart(before=EAGER)
            good.set()
            wasl(node, "replay", "lis", "--all")
            wait_state(node, parked=0)
            wait_until("no alarm", lambda: not node.alarms())
    assert ids(peer.got) == ["A-0", "A-1", "A-2", "A-3", "A-4", "A-2", "A-2"]


def test_where_a_refusal_stops_the_stream_it_waits_for_a_person_who_skips_or_corrects(node):
    with Peer(lambda raw, _: [ack(raw, "AE" if b"|A-1|" in raw else "AA")]) as peer:
        serve(node, to(peer, more='on_refusal = "stop"'))
        with running(node, before=EAGER):
            node.send(*messages("A", 3))
            wait_state(node, state="stopped")
            wait_until("an alarm", lambda: ("DST-13", "lis") in node.alarms())
            assert set(ids(peer.got)) == {"A-0", "A-1"}
            assert wasl(node, "skip", "lis", "his") == "his/1/1 is put aside\n"
            wait_until("the next", lambda: ids(peer.got)[-1] == "A-2")
            assert [row["reason"] for row in parked(node)] == ["DST-07"]
            assert wasl(node, "skip", "lis", "--parked", "all") == "1 forgotten\n"
            wait_state(node, parked=0)


def test_a_stream_is_sent_again_from_a_position_in_order(node):
    with Peer() as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(*messages("A", 6))
            wait_got(peer, 6)
            wait_until("the cursor", lambda: node.ask("destination list")[0]["waiting"] == 0)
            assert wasl(node, "replay", "lis", "--from", "his/1/3") == "3 records are sent again\n"
            wait_got(peer, 9)
    assert ids(peer.got) == [f"A-{n}" for n in (0, 1, 2, 3, 4, 5, 3, 4, 5)]


def test_what_a_person_put_aside_at_once_can_be_replayed_in_order(node):
    with running(serve(node, to(free_port())), before=EAGER):
        node.send(*messages("A", 4))
        wait_state(node, state="retrying")
        assert wasl(node, "skip", "lis", "--to", "his/end") == "4 records are put aside\n"
    with Peer() as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(message("A-4"))
            wait_got(peer, 1)
            wasl(node, "replay", "lis", "--all")
            wait_got(peer, 5)
            wait_state(node, parked=0)
    assert ids(peer.got) == ["A-4", "A-0", "A-1", "A-2", "A-3"]


def test_orders_are_taken_while_the_core_is_stopped(node):
    with Peer(lambda raw, _: [ack(raw, "AE")]) as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(*messages("A", 2))
            wait_state(node, parked=2)
        assert "2 parked" in wasl(node, "list")
        wasl(node, "replay", "lis", "--all")
        wasl(node, "replay", "lis", "--from", "his/start")
        assert json.loads(wasl(node, "list", "--json"))[0]["waiting"] == 2
        peer.answer = lambda raw, _: [ack(raw)]
        with running(node, before=EAGER):
            wait_state(node, parked=0, state="up")
            wait_got(peer, 6)
    assert sorted(ids(peer.got)) == ["A-0"] * 3 + ["A-1"] * 3


@pytest.mark.parametrize(
    "words",
    [
        ("parked", "nobody"),
        ("skip", "lis", "his"),
        ("skip", "lis", "lab"),
        ("replay", "lis", "7"),
        ("replay", "lis", "--from", "his/9/9"),
    ],
)
@pytest.mark.parametrize("is_running", [True, False])
def test_an_order_for_what_is_not_there_says_so(node, words, is_running):
    with running(serve(node, to(free_port())), before=EAGER):
        if is_running:
            assert "DST-19" in wasl(node, *words, code=1)
    if not is_running:
        assert "DST-19" in wasl(node, *words, code=1)


def test_the_unmodified_command_lists(node):
    with running(serve(node, to(free_port())), before=EAGER):
        command = [sys.executable, "-m", "node.cli", "destination", "list", "--config", str(node.folder / "node.toml")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout.splitlines()[0].endswith("0 waiting, 0 parked")) == (0, True), done.stderr


# -- trimming, epochs -------------------------------------------------------------------------------------------------------
def test_a_body_past_its_retention_stays_until_every_destination_has_it(node, realm):
    with sim_gateway(realm) as fake, Peer(lambda raw, _: [ack(raw, "AR")]) as peer:
        serve(node, to(peer)).gateway = fake.url
        node.outbox = "free_mb_min = 16\nbody_retention_days = 0"
        with running(node, before=SHORT):
            node.send(*messages("A", 3))
            node.wait_receipted(size=3)
            time.sleep(0.5)  # several minutes of this node
            assert node.bodies() == messages("A", 3)
            peer.answer = lambda raw, _: [ack(raw)]
            wait_until("trimmed bodies", lambda: node.bodies() == [b""] * 3)
            assert ids(once(peer.got)) == ["A-0", "A-1", "A-2"]


def test_a_destination_that_was_taken_out_holds_nothing_back_and_put_back_names_what_it_lost(node, realm):
    with sim_gateway(realm) as fake, Peer() as peer:
        node.gateway, node.outbox = fake.url, "free_mb_min = 16\nbody_retention_days = 0"
        with running(serve(node, to(free_port())), before=SHORT):
            node.send(*messages("A", 3))
            node.wait_receipted(size=3)
        with running(serve(node), before=SHORT):
            wait_until("trimmed bodies", lambda: node.bodies() == [b""] * 3)
        with running(serve(node, to(peer)), before=SHORT):
            node.send(message("B-1"))
            wait_got(peer, 1)
            wait_state(node, parked=3, lost=3)
            assert ("DST-03", "lis") in node.alarms()
            assert [(row["seq"], row["records"], row["reason"], row["body"]) for row in parked(node)] == [
                (0, 3, "DST-03", False)
            ]
            assert "DST-19" in wasl(node, "replay", "lis", "--all", code=1)
            wasl(node, "skip", "lis", "--parked", "all")
            wait_until("no alarm", lambda: not node.alarms())
    assert peer.got == [message("B-1")]


def test_where_room_is_short_receipted_bodies_go_all_the_same_and_the_loss_is_named(node, realm):
    with sim_gateway(realm) as fake, Peer(lambda raw, _: [ack(raw, "AR")]) as peer:
        serve(node, to(peer)).gateway = fake.url
        node.outbox = "quota_mb = 16\nfree_mb_min = 16\nwarn_percent = 7\ntrim_percent = 10"
        raws = [message(f"A-{n}", more="NTE|1||" + "x" * 200_000 + "\r") for n in range(12)]
        with running(node, before=SHORT):
            node.send(*raws)
            wait_until("trimmed bodies", lambda: b"" in node.bodies())
            wait_until("an alarm, while it still waits", lambda: ("DST-03", "lis") in node.alarms())
            peer.answer = lambda raw, _: [ack(raw)]
            wait_state(node, state="up")
            wait_until("the cursor", lambda: node.ask("destination list")[0]["waiting"] == 0)
            gone = {at for at, body in enumerate(node.bodies()) if not body}
            lost = {n for row in parked(node) for n in range(row["seq"], row["seq"] + row["records"])}
            assert all(row["reason"] == "DST-03" for row in parked(node))
    arrived = {int(each.partition("-")[2]) for each in ids(peer.got)}
    assert arrived | lost == set(range(12))
    assert lost <= gone
    assert once([raw for raw in peer.got if raw != raws[0]]) == sorted(
        once([raw for raw in peer.got if raw != raws[0]]), key=raws.index
    )


def test_a_further_epoch_in_between_repeats_nothing_and_loses_nothing(node):
    with Peer(lambda raw, _: [ack(raw, "AR" if b"|A-5|" in raw else "AA")]) as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(*messages("A", 8))
            wait_until("the one that waits", lambda: "A-5" in ids(peer.got))
        config = load_config(node.folder / "node.toml")
        with closing(Outbox(node.store, signer=load_keys(config).signer, random=random.randbytes)) as outbox:
            outbox.open_epoch("his", epoch=2, tag="0000beef", place=3, theirs=None)
        peer.answer = lambda raw, _: [ack(raw, "AE" if b"|A-6|" in raw else "AA")]
        with running(node, before=EAGER):
            node.send(message("A-8"))
            wait_until("the last", lambda: "A-8" in ids(peer.got))
            wait_state(node, parked=1)
            assert [(row["epoch"], row["seq"]) for row in parked(node)] == [(2, 3)]
    assert list(dict.fromkeys(ids(peer.got))) == [f"A-{n}" for n in range(9)]
    assert once(peer.got) == messages("A", 9)


def test_a_new_destination_is_given_what_came_before_a_further_epoch_too(node):
    with running(node, before=EAGER):
        node.send(*messages("OLD", 3))
    config = load_config(node.folder / "node.toml")
    with closing(Outbox(node.store, signer=load_keys(config).signer, random=random.randbytes)) as outbox:
        outbox.open_epoch("his", epoch=2, tag="0000beef", place=3, theirs=None)
    with Peer() as peer:
        serve(node, to(peer, more='from = "start"'))
        with running(node, before=EAGER):
            node.send(*messages("NEW", 2))
            assert ids(wait_got(peer, 5)) == ["OLD-0", "OLD-1", "OLD-2", "NEW-0", "NEW-1"]
            assert not {code for code, _ in node.alarms()} & {"DST-03"}
        wasl(node, "replay", "lis", "--from", "his/start")
        assert json.loads(wasl(node, "list", "--json"))[0]["waiting"] == 5


# -- the core ---------------------------------------------------------------------------------------------------------------
def test_a_dead_thread_of_a_destination_ends_the_process(node):
    serve(node, to(free_port())).launch(
        before="import node.destinations.carrier as c; c.Carrier._turn = lambda *_: 1 / 0"
    )
    assert node.ended() == 70
    assert node.log("thread.died")[-1]["thread"] == "to-lis"


@pytest.mark.parametrize("change", ["a bit", "rows gone"])
def test_a_position_that_cannot_be_right_stands_still_until_a_person_says_where_to_go_on(node, change):
    with Peer() as peer:
        serve(node, to(peer))
        with running(node, before=EAGER):
            node.send(*messages("A", 3))
            wait_got(peer, 3)
        config = load_config(node.folder / "node.toml")
        with closing(Outbox(node.store, signer=load_keys(config).signer, random=random.randbytes)) as outbox:
            if change == "a bit":
                outbox._connection.execute("UPDATE destination SET place = 700")
            else:
                outbox.destinations.put_anew(Cursor(name="lis", run=outbox.heads["his"].run, place=700))
        with running(node, before=EAGER):
            node.send(message("A-3"))
            wait_until("an alarm", lambda: ("DST-17", "lis") in node.alarms())
            assert destination(node)["state"] == "stopped"
            wasl(node, "replay", "lis", "--from", "his/1/3")
            wait_got(peer, 4)
            wait_until("no alarm", lambda: not node.alarms())
    assert ids(peer.got) == ["A-0", "A-1", "A-2", "A-3"]


def test_a_page_that_cannot_be_read_stops_the_destination_and_neither_core_nor_intake(node):
    failing = """
import apsw, sync.outbox_destinations_view as v
def headers(self, *_):
    raise apsw.CorruptError("database disk image is malformed")
v.DestinationView.headers = headers
"""
    with Peer() as peer:
        with running(serve(node, to(peer)), before=EAGER + failing):
            assert [reply.code for reply in node.send(*messages("A", 3))] == ["AA"] * 3
            wait_until("an alarm", lambda: ("DST-04", "lis") in node.alarms())
            assert node.send(message("A-3"))[0].code == "AA"
        with running(node, before=EAGER):
            assert ids(wait_got(peer, 4)) == [f"A-{n}" for n in range(4)]


def test_status_and_metrics_tell_of_it(node):
    with Peer(lambda raw, _: [ack(raw, "AE" if msh(raw, 10) == b"A-1" else "AA")]) as peer:
        with running(serve(node, to(peer)), before=EAGER):
            node.send(*messages("A", 3))
            wait_state(node, taken=2, parked=1)
            metrics = node.ask("metrics")
            for line in (
                'wasl_destination_messages_total{destination="lis",outcome="taken"} 2.0', 'wasl_destination_up{destination="lis"} 1.0',
                'wasl_destination_parked{destination="lis"} 1.0',
            ):  # fmt: skip
                assert line in metrics
            done = CliRunner().invoke(main, ["status", "--json", "--config", str(node.folder / "node.toml")])
            (found,) = json.loads(done.output)["destinations"]
            assert (found["state"], found["parked"], found["kind"]) == ("up", 1, "mllp")
        done = CliRunner().invoke(main, ["status", "--json", "--config", str(node.folder / "node.toml")])
        assert json.loads(done.output)["destinations"][0]["state"] == "off"
