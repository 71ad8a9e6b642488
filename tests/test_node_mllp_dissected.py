"""Our traffic as Wireshark's authors read HL7: every message and every reply, dissected by tshark from what a proxy wrote down."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from hl7.mllp import Decoder, Frame
from node.tools.hospital import Hospital
from tests.destination_rig import EAGER, Peer, destination, to
from tests.node_rig import Feed, Mllp, Node, Reply, free_port, message, running, wait_until
from tests.pcap import HL7_PORT, Conversation, capture, recorded
from tests.test_node_mllp_modes import asking

RULES = (
    'types = ["ADT^*", "ORU^*", "ORM^*", "OML^*", "SIU^*", "MDM^*", "VXU^*", "DFT^*", "RDE^*"]\nrequired = ["PID-3"]'
)
COLUMNS = ("tcp.stream", "tcp.dstport", "hl7.segment", "hl7.field", "hl7.message.type", "hl7.event.type")
WRONG = "hl7.malformed || _ws.malformed || _ws.expert.severity >= 0x600000"  # a warning or worse


def has_tshark():
    if shutil.which("tshark") is None:
        assert os.environ.get("CI") != "true", "tshark is missing: run .ci/setup test"
        return False
    return True


pytestmark = pytest.mark.skipif(not has_tshark(), reason="tshark is missing (apt-get install tshark)")


def tshark(path, shown):
    """The rows of a capture that a filter shows, each column's values in their order."""
    command = ["tshark", "-n", "-r", str(path), "-d", f"tcp.port=={HL7_PORT},hl7", "-Y", shown, "-T", "json"]
    columns = [word for name in COLUMNS for word in ("-e", name)]
    done = subprocess.run([*command, *columns], capture_output=True, check=True, timeout=120)
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def dissected(path):
    """What tshark reads: by connection and side, the texts of all segments and all fields that hold something."""
    found = {}
    for row in tshark(path, "hl7"):
        segments, fields = found.setdefault(
            (int(row["tcp.stream"][0]), int(row["tcp.dstport"][0]) == HL7_PORT), ([], [])
        )
        segments += row["hl7.segment"]
        fields += row["hl7.field"]
    return found


def sent(conversation: Conversation, side: bool) -> list[bytes]:
    """The frames of one side, by our own decoder."""
    decoder = Decoder(2**24)
    data = b"".join(piece for is_client, piece in conversation.pieces if is_client is side)
    return [event.payload for event in decoder.receive(data) if isinstance(event, Frame)]


def ascii_only(texts):
    """Those that tshark 4 can show: it takes HL7 for ASCII, whatever MSH-18 says."""
    return [text for text in texts if text.isascii()]


def assert_is_read_as_sent(path, conversations: list[Conversation]) -> int:
    """Every message of every connection is HL7 to tshark, with the segments and fields that were sent; how many frames there were."""
    capture(path, conversations)
    assert tshark(path, WRONG) == []
    found, count = dissected(path), 0
    for number, conversation in enumerate(conversations):
        for side in (True, False):
            payloads = sent(conversation, side)
            segments = [row.decode("utf-8", "replace") for raw in payloads for row in raw.split(b"\r") if row]
            fields = [field for row in segments for field in row.split("|") if field]
            theirs, their_fields = found.pop((number, side), ([], []))
            assert [text.rstrip("\r") for text in ascii_only(theirs)] == ascii_only(segments)
            assert len(theirs) == len(segments)
            assert ascii_only(their_fields) == ascii_only(fields)
            count += len(payloads)
    assert found == {}
    return count


def test_every_message_of_a_hospital_and_every_kind_of_reply_is_hl7_to_wireshark(realm, tmp_path):
    source = Hospital(11)
    plain = [source.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw for _ in range(60)]
    feeds = [
        Feed("his", check=RULES, lines="application_reply = true"),
        Feed("counts", lines='sequence_numbers = "followed"'),
    ]
    odd = [
        message("WRONG", kind="QRY^A19"), message("NO-PID", pid=""), message("OLD", kind="QRY^A19", version="2.3"),
        asking("BOTH", b"AL", b"AL"), asking("REFUSED", b"AL", b"AL", kind="QRY^A19"),
        message("OTHERS").replace(b"&", b"@").replace(b"^~", b"~^"), message("BAD-TEXT").replace("مريض".encode(), b"\xff\xfe"),
        message("ESCAPED", more="NTE|1||a \\T\\ b \\.br\\ c\r"),
    ]  # fmt: skip
    with (
        running(Node(realm, tmp_path, feeds=feeds)) as node,
        recorded(node.feed("his").address) as his,
        recorded(node.feed("counts").address) as counts,
    ):
        with Mllp(("127.0.0.1", his.port)) as mllp:
            for raw in plain:
                assert mllp.exchange(raw).code == "AA"
            for raw in odd:
                mllp.send(raw)
            codes = [
                Reply(mllp.reply()).code for _ in range(len(odd) + 1)
            ]  # one has two replies; tshark knows no batches
            mllp.send(*plain[:20])  # repeats, and pipelined
            while (reply := mllp.reply()) and plain[19].split(b"|")[9] not in reply:
                pass
        with Mllp(("127.0.0.1", counts.port)) as mllp:
            for number in (b"0", b"1", b"2", b"7"):
                mllp.exchange(message(f"N-{number.decode()}").replace(b"||||||UNICODE", b"|%b|||||UNICODE" % number))
    assert {"AA", "AE", "AR", "CA", "CR"} <= set(codes)
    assert assert_is_read_as_sent(tmp_path / "sent.pcap", his.conversations + counts.conversations) > 2 * 60


def test_what_a_node_sends_to_the_sites_own_systems_is_hl7_to_wireshark(realm, tmp_path):
    port = free_port()
    with Peer() as peer, recorded(("127.0.0.1", peer.port), port=port) as lis:
        feeds = [Feed("his", lines=f'application_reply_to = "127.0.0.1:{port}"')]
        with running(Node(realm, tmp_path, feeds=feeds, more=to(port)), before=EAGER) as node:
            node.send(*[asking(f"D-{n}", b"AL", b"AL", more="OBX|1|NM|GLU^Glucose||72.50\r" * 40) for n in range(20)])
            for name in ("lis", "his-replies"):
                wait_until(name, lambda name=name: destination(node, name)["taken"] == 20)
    assert assert_is_read_as_sent(tmp_path / "sent.pcap", lis.conversations) == 2 * 2 * 20
