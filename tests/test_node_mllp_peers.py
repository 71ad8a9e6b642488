"""Senders that other people wrote against a real node: @medplum/hl7, node-hl7-client and hl7lw, each in an environment of its own."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager

import pytest

from hl7.message import Message
from tests.destination_rig import EAGER, Peer, destination, serve, to, wait_got
from tests.node_rig import ROOT, WAIT_S_MAX, Feed, Node, free_port, message, running, wait_until
from tests.test_node_mllp_modes import asking

SENDERS = ROOT / "tests/peer_senders"
MODULES = ROOT / "peers/js/node_modules"
COMMANDS = {
    "@medplum/hl7": ("node", str(SENDERS / "medplum.mjs")),
    "node-hl7-client": ("node", str(SENDERS / "node_hl7_client.cjs")),
    "hl7lw": (str(ROOT / "peers/py/bin/python"), "-I", str(SENDERS / "hl7lw_sender.py")),
}
NAMES = ("ليلى تجريبية", "عبد الله الاختبار", "Žofie Zkušební")


def needed(command: str, folder) -> None:
    if shutil.which(command) is None or not folder.exists():
        assert os.environ.get("CI") != "true", f"{folder} is missing: run .ci/setup test"
        pytest.skip(f"{folder} is missing: run .ci/setup test")


class Sender:
    """A running sender: it is given a message and says which reply it read."""

    def __init__(self, process):
        self._process = process

    def send(self, raw: bytes, **options) -> Message:
        """Give it a message and read the reply that it took for it."""
        self.give(raw, **options)
        return self.reply()

    def give(self, raw: bytes, **options) -> None:
        self._process.stdin.write(json.dumps({"text": raw.decode(), **options}).encode() + b"\n")
        self._process.stdin.flush()

    def reply(self) -> Message:
        line = self._process.stdout.readline()
        assert line, "the sender ended"
        return Message(json.loads(line).encode())


@contextmanager
def sender(name, port, folder):
    needed(COMMANDS[name][0], MODULES / name if name != "hl7lw" else ROOT / "peers/py")
    process = subprocess.Popen(
        [*COMMANDS[name], str(port), str(MODULES)], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    patience = threading.Timer(WAIT_S_MAX, process.kill)  # a reply that never comes ends the sender, and so the test
    patience.start()
    try:
        yield Sender(process)
    finally:
        patience.cancel()
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def said(reply: Message) -> tuple[bytes, ...]:
    return tuple(reply.read(("MSA-1", "MSA-2")))


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    with running(Node(realm, tmp_path_factory.mktemp("node"))) as found:
        yield found


@pytest.fixture
def new(node):
    """What the feed's stream gained since the test began."""
    sizes = {feed.name: node.stream(feed.name).size for feed in node.feeds}
    return lambda name="his": node.records(name, sizes[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sender_that_others_wrote_reads_our_replies_and_its_bytes_are_kept(node, new, tmp_path, name):
    sent = [message(f"{name[:8]}-{n}", name=NAMES[n % 3]) for n in range(6)]
    with sender(name, node.feed("his").port, tmp_path) as peer:
        assert [said(peer.send(raw)) for raw in sent] == [(b"AA", f"{name[:8]}-{n}".encode()) for n in range(6)]
    # @medplum/hl7 writes a message without its last CR
    assert [seen.body.rstrip(b"\r") for seen in new()] == [raw.rstrip(b"\r") for raw in sent]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sender_that_others_wrote_takes_the_accept_reply_of_enhanced_mode(node, tmp_path, name):
    with sender(name, node.feed("his").port, tmp_path) as peer:
        assert said(peer.send(asking("E-1", b"AL", b"NE", name=NAMES[0]))) == (b"CA", b"E-1")
        assert said(peer.send(message("E-2"))) == (b"AA", b"E-2")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sender_that_others_wrote_comes_again_after_a_restart_and_nothing_is_stored_twice(realm, tmp_path, name):
    with running(Node(realm, tmp_path)) as node, sender(name, node.feed("his").port, tmp_path) as peer:
        assert said(peer.send(message("R-1")))[0] == b"AA"
        node.restart()
        assert said(peer.send(message("R-2"), anew=True)) == (b"AA", b"R-2")
        assert [seen.control_id for seen in node.records()] == ["R-1", "R-2"]


def test_a_batch_of_node_hl7_client_is_kept_and_answered_as_one_which_ends_it(node, new, tmp_path, capfd):
    batch = [message(f"B-{n}", name=NAMES[n]).decode() for n in range(3)]
    with sender("node-hl7-client", node.feed("his").port, tmp_path) as peer:
        peer.give(b"", batch=batch)
        with pytest.raises(AssertionError, match="the sender ended"):
            peer.reply()
    assert (
        "text must begin with the MSH segment" in capfd.readouterr().err
    )  # of our reply, which begins with BHS as the standard has it
    (record,) = new()
    assert record.body.startswith(b"BHS|")
    assert all(f"|B-{n}|".encode() in record.body for n in range(3))


def test_two_replies_in_one_packet_are_one_reply_to_medplum_and_so_the_application_reply_goes_apart(realm, tmp_path):
    listener = free_port()
    feeds = [
        Feed("both", lines="application_reply = true"),
        Feed("apart", lines=f'application_reply_to = "127.0.0.1:{listener}"'),
    ]
    with running(Node(realm, tmp_path, feeds=feeds), before=EAGER) as node:
        with sender("@medplum/hl7", node.feed("both").port, tmp_path) as peer:
            assert b"\x1c\r\x0bMSH" in peer.send(asking("P-1", b"AL", b"AL")).raw
        with sender("@medplum/hl7", node.feed("apart").port, tmp_path) as peer:
            assert said(peer.send(asking("P-2", b"AL", b"AL"))) == (b"CA", b"P-2")
        with Peer(port=listener) as own:
            assert said(Message(wait_got(own, 1)[0])) == (b"AA", b"P-2")


MEDPLUM_SERVER = """
const { createRequire } = require('node:module');
const { Hl7Server } = createRequire(process.argv[3] + '/')('@medplum/hl7');
const server = new Hl7Server((connection) => connection.addEventListener('message', (event) => {
  console.log(event.message.getSegment('MSH').getField(10).toString() + ' ' + event.message.getSegment('PID').getField(5).toString());
  connection.send(event.message.buildAck());
}));
server.start(Number(process.argv[2]), 'utf-8', process.argv[4] === 'enhanced');
"""


@pytest.mark.parametrize("mode", ["original", "enhanced"])
def test_medplums_listener_takes_every_message_in_order_with_its_arabic_also_after_it_was_killed(realm, tmp_path, mode):
    needed("node", MODULES / "@medplum/hl7")
    script, port, heard = tmp_path / "server.cjs", free_port(), tmp_path / "heard"
    script.write_text(MEDPLUM_SERVER)

    def start():
        with heard.open("ab") as out:
            return subprocess.Popen(["node", str(script), str(port), str(MODULES), mode], cwd=tmp_path, stdout=out)

    def lines():
        return heard.read_text(encoding="utf-8").splitlines()

    process = start()
    try:
        with running(serve(Node(realm, tmp_path / "n"), to(port)), before=EAGER) as node:
            node.send(*[message(f"A-{n}", name=NAMES[n % 3]) for n in range(10)])
            wait_until("ten", lambda: destination(node)["taken"] == 10)
            process.kill()
            process.wait()
            node.send(*[message(f"B-{n}", name=NAMES[n % 3]) for n in range(10)])
            wait_until("trouble", lambda: destination(node)["state"] == "retrying")
            process = start()
            wait_until("twenty", lambda: destination(node)["taken"] == 20)
    finally:
        process.kill()
        process.wait()
    wanted = [f"{part}-{n} {NAMES[n % 3]}^Test" for part in "AB" for n in range(10)]
    assert list(dict.fromkeys(lines())) == wanted
