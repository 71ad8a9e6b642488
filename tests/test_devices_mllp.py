"""Devices that speak HL7 v2: IHE PCD-01 vital signs, and the laboratory analytical workflow (LAW)."""

import random
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from hl7.check import Outcome, check
from hl7.message import Message
from node.tools.simulate_pcd01 import VITALS, report
from tests.destination_rig import Peer, msh
from tests.node_rig import Feed, Node, Reply, running, wait_until

AT = datetime(2030, 1, 1, 8, tzinfo=UTC)

LAB_29 = (
    "MSH|^~\\&|TestAnalyzer|Lab|WASL|HUB|20300101080000||OUL^R22^OUL_R22|LAW-1|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-29^IHE\r"
    "PID|||TEST-500001^^^TEST^PI||تجريبية^سلمى\r"
    "SPM|1|BAR-500001&TEST||SER^Serum^HL70487|||||||P\rSAC|||BAR-500001\r"
    "OBR|1|AWOS-1||GLU^Glucose^99TEST\rORC|OK|AWOS-1|||CM\r"
    "OBX|1|NM|2345-7^Glucose^LN||5.4|mmol/L^mmol/L^UCUM|3.9-6.1|N|||F|||||tech||ANALYZER-1|20300101075500\rTCD|GLU^Glucose^99TEST|1\r"
).encode()
LAB_28 = (
    "MSH|^~\\&|LIS|Lab|TestAnalyzer|Lab|20300101080000||OML^O33^OML_O33|LAW-2|P|2.5.1|||NE|AL||UNICODE UTF-8|||LAB-28^IHE\r"
    "PID|||TEST-500001^^^TEST^PI||تجريبية^سلمى\rSPM|1|BAR-500001&TEST||SER^Serum^HL70487|||||||P\rSAC|||BAR-500001\r"
    "ORC|NW|||||||20300101080000\rTQ1|||||||||R^Routine^HL70485\rOBR|1|AWOS-1||GLU^Glucose^99TEST\rTCD|GLU^Glucose^99TEST\r"
).encode()


# -- PCD-01 ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["", "no-number", "unknown-unit", "spike"])
def test_a_simulated_report_is_a_message_with_every_vital_sign(fault):
    raw = report(3, bed=1, now=AT, dice=random.Random(1), fault=fault)
    assert check(raw).outcome is Outcome.ACCEPTED
    message = Message(raw)
    codes = [message.get(f"OBX[{place}]-3.1") for place in range(2, len(VITALS) + 2)]
    assert codes == [vital.code.encode() for vital in VITALS]
    assert message.get("MSH-21.3") == b"1.3.6.1.4.1.19376.1.6.1.1.1"


def test_a_vital_signs_report_gets_the_accept_reply_that_it_asks_for_and_no_other(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[Feed("ward", stream="ward")])) as node, node.mllp("ward") as mllp:
        raws = [report(number, bed=number, now=AT, dice=random.Random(number)) for number in range(3)]
        replies = [mllp.exchange(raw) for raw in raws]
        assert [(reply.code, reply.control_id) for reply in replies] == [("CA", msh(raw, 10)) for raw in raws]
        assert node.bodies("ward") == raws
        assert {seen.header.message_type for seen in node.records("ward")} == {"ORU^R01^ORU_R01"}


def test_the_simulator_of_monitors_is_answered_by_a_node(realm, tmp_path):
    with running(Node(realm, tmp_path, feeds=[Feed("ward", stream="ward")])) as node:
        command = [sys.executable, "-m", "node.cli", "simulate", "pcd01", "--to", f"127.0.0.1:{node.feed('ward').port}"]
        made = subprocess.run([*command, "--each", "0", "--count", "6", "--fault", "spike"], capture_output=True, text=True, check=True)  # fmt: skip
        assert made.stdout == "CA 6\n"
        assert node.stream("ward").size == 6


# -- LAW ---------------------------------------------------------------------------------------------------------------
def test_an_analyzers_results_get_the_application_reply_that_law_asks_for(realm, tmp_path):
    """LAB-29: MSH-15 ER, MSH-16 AL. A feed that gives application replies answers AA on the same connection."""
    feed = Feed("analyzer", stream="lab", lines="application_reply = true")
    with running(Node(realm, tmp_path, feeds=[feed])) as node, node.mllp("analyzer") as mllp:
        mllp.send(LAB_29)
        reply = Reply(mllp.reply())
        assert (reply.code, reply.control_id) == ("AA", b"LAW-1")
        assert b"|ACK^R22" in reply.payload
        assert node.bodies("lab") == [LAB_29]


def test_an_analyzer_is_given_its_orders_by_a_destination_while_the_link_is_down(realm, tmp_path):
    """LAB-28: orders (OML^O33) that the site's system sends to the node go on to the analyzer, whose reply is ORL^O34."""

    def answer(raw, _):
        return [
            b"MSH|^~\\&|TestAnalyzer|Lab|LIS|Lab|20300101080000||ORL^O34^ORL_O42|R1|P|2.5.1\rMSA|AA|%b\r" % msh(raw, 10)
        ]

    with Peer(answer) as analyzer:
        node = Node(realm, tmp_path, feeds=[Feed("lis", stream="orders")])
        node.more = (
            f'[[destinations]]\nname = "analyzer"\nkind = "mllp"\naddress = "127.0.0.1:{analyzer.port}"\nstreams = ["orders"]\n'
            'types = ["OML^O33"]\n'
        )
        with running(node):
            assert node.send(LAB_28.replace(b"|NE|AL|", b"|||"), feed="lis")[0].code == "AA"
            wait_until("the order at the analyzer", lambda: analyzer.got)
            assert analyzer.got[0].startswith(b"MSH|^~\\&|LIS|Lab|TestAnalyzer")
            wait_until(
                "the destination's place",
                lambda: node.ask("status")["destinations"]["analyzer"]["taken"] == 1,
            )
