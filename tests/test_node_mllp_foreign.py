"""CDA, HL7 v3 and X12 through the MLLP feed of a running node: stored as they came, answered after the commit in their own way."""

from xml.etree import ElementTree as ET

import pytest

from sync.header import SIGNATURES
from sync.record import Kind, Verdict
from tests.node_rig import Feed, Node, Realm, Reply, message, running
from tests.xml_samples import CDA, HARMFUL, v3, x12

NS = "{urn:hl7-org:v3}"
NO_ROOM = "import sync.outbox as o; from sync.errors import NoRoom\ndef full(self, drafts): raise NoRoom('full')\no.Outbox.append = full"


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    feeds = [Feed("his"), Feed("tests", lines='test_stream = "trial"')]
    with running(Node(realm, tmp_path_factory.mktemp("node"), feeds=feeds)) as node:
        yield node


def newest(node, stream="his"):
    return node.records(stream)[-1]


def code_of(reply: bytes) -> tuple[str, str]:
    found = ET.fromstring(reply).find(f"{NS}acknowledgement")
    return found.find(f"{NS}typeCode").get("code"), found.find(f"{NS}targetMessage/{NS}id").get("extension")


def test_a_cda_document_is_stored_as_it_came_and_answered_with_aa(node):
    with node.mllp() as mllp:
        mllp.send(CDA)
        assert Reply(mllp.reply()).code == "AA"
    seen = newest(node)
    assert seen.body == CDA
    assert (seen.header.content_type, seen.header.message_type) == (
        "application/hl7-cda+xml",
        "2.16.840.1.113883.10.20.22.1.1",
    )
    assert (seen.header.verdict, seen.control_id) == (Verdict.ACCEPTED, "2.16.840.1.113883.19.5.99999.1^TEST-DOC-1")
    assert SIGNATURES not in seen.particulars


def test_languages_take_turns_on_one_connection_and_replies_keep_their_order(node):
    with node.mllp() as mllp:
        mllp.send(message("M-1"), v3(1), x12(11), CDA, x12(12, ack=0), message("M-2"), v3(2))
        replies = [mllp.reply() for _ in range(7)]
    assert Reply(replies[0]).control_id == b"M-1"
    assert code_of(replies[1]) == ("CA", "TEST-1")
    assert b"TA1*000000011*300101*0800*A*000~" in replies[2]
    assert [Reply(replies[n]).code for n in (3, 4, 5)] == ["AA", "AA", "AA"]
    assert code_of(replies[6]) == ("CA", "TEST-2")
    assert newest(node).body == v3(2)


def test_a_v3_sender_that_wants_no_answer_gets_none(node):
    with node.mllp() as mllp:
        mllp.send(v3(3, accept="NE"), message("M-3"))
        assert Reply(mllp.reply()).control_id == b"M-3"
    assert node.bodies()[-2:] == [v3(3, accept="NE"), message("M-3")]


def test_a_repeat_is_answered_again_and_not_stored_again(node):
    with node.mllp() as mllp:
        mllp.send(v3(4), v3(4))
        assert [code_of(mllp.reply())[0] for _ in range(2)] == ["CA", "CA"]
    assert node.bodies().count(v3(4)) == 1


@pytest.mark.parametrize("raw", [v3(5, processing="T"), x12(15, usage="T")])
def test_a_test_goes_where_tests_go(node, raw):
    with node.mllp("tests") as mllp:
        mllp.send(raw)
        mllp.reply()
    seen = newest(node, "trial")
    assert (seen.body, seen.header.kind) == (raw, Kind.TEST)


@pytest.mark.parametrize("raw", HARMFUL)
def test_harmful_xml_is_kept_with_a_warning_and_nothing_happens(node, raw):
    with node.mllp() as mllp:
        mllp.send(raw)
        assert Reply(mllp.reply()).code == "AA"
    seen = newest(node)
    assert (seen.body, seen.header.verdict, seen.refusal) == (raw, Verdict.ACCEPTED_WITH_WARNING, "HL7-16")


def test_a_signature_is_told_in_the_particulars_and_its_bytes_stay(node):
    raw = CDA.replace(b"<component>", b'<s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"/><component>')
    with node.mllp() as mllp:
        mllp.send(raw)
        mllp.reply()
    seen = newest(node)
    assert seen.body == raw
    assert [tuple(each) for each in seen.particulars[SIGNATURES]] == [("XMLDSig", str(raw.index(b"<s:Sig")), "")]


def test_an_er7_message_is_never_asked_what_else_it_is(realm, tmp_path):
    before = "import os, node.feeds.mllp_connection as c\nc.recognise = lambda raw: os._exit(3)"
    with running(Node(realm, tmp_path), before=before) as node:
        assert node.send(message("M-4"), message("M-5").replace(b"\r", b"\n"))[1].code == "AA"
        assert node.process.poll() is None


def test_what_is_not_stored_gets_no_positive_answer(realm, tmp_path):
    with running(Node(realm, tmp_path), before=NO_ROOM) as node, node.mllp() as mllp:
        mllp.send(v3(6), x12(16), CDA)
        assert code_of(mllp.reply()) == ("CE", "TEST-6")
        assert [Reply(mllp.reply()).code for _ in range(2)] == ["AR", "AR"]


def test_each_answered_message_outlives_a_kill(realm, tmp_path):
    sent = [CDA, v3(7), x12(17)]
    with running(Node(realm, tmp_path)) as node:
        for number, raw in enumerate(sent, 1):
            with node.mllp() as mllp:
                mllp.send(raw)
                mllp.reply()
            node.restart()
            assert node.bodies() == sent[:number]
