"""ASTM with other people's programs at the other end, our own simulator's faults: what was acknowledged is there, once."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.cli.main import main
from node.tools.simulate_astm import Analyzer, Cable
from sync.record import Kind
from tests.astm_rig import STREAM, AstmFeed
from tests.node_rig import Feed, Node, free_port, running, wait_until
from tests.test_node_astm_orders import cable, known, oml

ROOT = Path(__file__).parents[1]
PEER = [str(ROOT / "peers/py/bin/python"), "-I", str(ROOT / "tests/astm_peer.py")]


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    with running(
        Node(realm, tmp_path_factory.mktemp("node"), feeds=[Feed("his"), AstmFeed(STREAM, lines='orders = "query"')])
    ) as node:
        yield node


def messages(node):
    return [seen.body for seen in node.records(STREAM) if seen.header.kind is Kind.MESSAGE]


def test_labmcp_as_sender_is_refused_its_damaged_frames_and_stored_as_it_meant(node):
    before = len(messages(node))
    done = subprocess.run(
        [*PEER, "send", str(node.feed(STREAM).port)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["2", "2"]
    wait_until("records", lambda: len(messages(node)) == before + 2)
    long, short = messages(node)[before:]
    assert long.count(b"^^^T") == 90
    assert (long.count(b"\r"), short.count(b"\r")) == (5, 3)


def test_labmcp_as_receiver_takes_our_frames():
    port = free_port()
    peer = subprocess.Popen([*PEER, "receive", str(port)], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert peer.stdout.readline() == "ready\n"
        line = Cable(f"127.0.0.1:{port}")
        analyzer = Analyzer(line, random.Random(1))
        records = analyzer.measure(1)
        assert [analyzer.transfer(records, fault) for fault in ("", "noise", "checksum", "lost-ack")] == ["sent"] * 4
        line.close()
        out = peer.stdout.read()
    finally:
        peer.kill()
        peer.wait(10)
        peer.stdout.close()
    assert out == ("".join(record.decode("latin-1").strip() + "\n" for record in records) + "end True\n") * 4


@pytest.mark.parametrize("fault", ["", "noise", "checksum", "lost-ack", "cut", "contention", "repeat"])
def test_each_fault_of_the_simulator_leaves_one_result_for_each_that_was_sent(node, fault):
    before, count = len(messages(node)), "1" if fault == "contention" else "2"
    arguments = [
        "simulate",
        "astm",
        "--to",
        f"127.0.0.1:{node.feed(STREAM).port}",
        "--each",
        "0",
        "--count",
        count,
        "--seed",
        str(len(fault)),
    ]
    outcome = CliRunner().invoke(main, [*arguments, *(("--fault", fault) if fault else ())])
    assert outcome.exit_code == 0, outcome.output
    sent = outcome.output.count(" sent")
    assert sent == {"cut": 0, "repeat": 4, "contention": 1}.get(fault, 2), outcome.output
    queries = 1 if fault == "contention" else 0
    wait_until("records", lambda: len(messages(node)) == before + sent + queries)


def test_the_simulator_asks_for_orders_over_a_serial_line(realm, tmp_path):
    if not any(os.access(f"{folder}/socat", os.X_OK) for folder in os.get_exec_path()):
        pytest.skip("no socat")
    feed = AstmFeed(STREAM, listen=(), lines='orders = "query"', more=f'[feeds.serial]\nport = "{tmp_path}/node-end"\n')
    with running(Node(realm, tmp_path, feeds=[Feed("his"), feed])) as node, cable(tmp_path) as ends:
        node.send(oml(1, "WBC"))
        wait_until("orders", known(node))
        wait_until("port", lambda: node.ask("status")["feeds"][STREAM]["port"]["open"])
        outcome = CliRunner().invoke(
            main, ["simulate", "astm", "--to", str(ends[1]), "--each", "0", "--count", "1", "--query", "S000007"]
        )
        assert "O|1|S000007||^^^WBC|R" in outcome.output
        assert "TEST-000001 sent" in outcome.output
        wait_until("records", lambda: len(messages(node)) == 2)
