"""IHE LAW as bytes: what a query asks for, the reply to it, the work that follows; hl7apy reads both."""

from dataclasses import replace

import pytest
from hl7apy.parser import parse_message

from hl7.answer import read_answer
from hl7.devices.astm_orders import Order
from hl7.devices.law import Query, is_query, no_work, read_query, read_reply, respond, work
from hl7.devices.law_errors import QueryIncomplete, QueryUnknown
from hl7.message import Message, facts
from hl7.text import Text

NOW = b"20300101080000+0000"
MARIAM = Order(
    keys=("BAR-1", "P-1"), placer="P-1", patient="TEST-500001", family="تجريبية", given="سلمى", birth="19900102", sex="F",
    tests=("GLU", "K^X"), priority="STAT", collected="20300101075000", specimen="SER",
)  # fmt: skip


def qbp(qpd="QPD|WOS^Work Order Step^IHE_LABTF|Tag1|BAR-1", *, kind="QBP^Q11^QBP_Q11", asks="ER|AL"):
    return (
        f"MSH|^~\\&|TestAnalyzer|Lab|WASL|HUB|20300101080000||{kind}|Q1|P|2.5.1|||{asks}||UNICODE UTF-8|||LAB-27^IHE\r"
        f"{qpd}\rRCP|I||R\r"
    ).encode()


def told(raw, *, is_known=True):
    return respond(raw, facts(raw), read_query(raw), is_known=is_known, control_id=b"R1", now=NOW)


@pytest.mark.parametrize(
    ("qpd", "wanted"),
    [
        ("QPD|WOS^Work Order Step^IHE_LABTF|T|BAR-1", Query("BAR-1")),
        ("QPD|WOS^Work Order Step^IHELAW|T| BAR-1 ^LAB", Query("BAR-1")),
        ("QPD|WOS|T|عينة-١", Query("عينة-١")),
        ("QPD|WOS_ALL^Work Order Step All^IHE_LABTF|T", Query()),
        ("QPD|WOS^x|T|", Query(problem=QueryIncomplete, location="QPD^1^3")),
        ("QPD|WOS^x|T|" + "9" * 81, Query(problem=QueryIncomplete, location="QPD^1^3")),
        ("QPD|WOS^x||BAR-1", Query(problem=QueryIncomplete, location="QPD^1^2")),
        ("QPD|WOS_BY_RACK^x|T||RACK-1|3", Query(problem=QueryUnknown, location="QPD^1^1")),
        ("QPD|Z34^Immunization|T|1", Query(problem=QueryUnknown, location="QPD^1^1")),
        ("NTE|1", Query(problem=QueryIncomplete, location="QPD^1")),
    ],
)  # fmt: skip
def test_a_query_asks_for_one_sample_or_for_all_and_says_what_it_lacks(qpd, wanted):
    assert read_query(qbp(qpd)) == wanted


def test_bytes_that_are_no_message_are_no_query_and_raise_nothing():
    assert read_query(b"rubbish").problem is QueryIncomplete
    assert read_query(qbp("QPD|WOS|T|+2AA-"), charset="utf-7").problem is QueryIncomplete  # half a character
    assert is_query(facts(qbp()).route)
    assert is_query(facts(qbp(kind="QBP^WOS^QBP_Q11")).route)
    assert not is_query(facts(qbp(kind="QBP^Q22^QBP_Q21")).route)


def test_the_response_is_one_that_hl7apy_takes_strictly_with_what_was_asked_given_back():
    for is_known, status in ((True, b"OK"), (False, b"NF")):
        reply = told(qbp(), is_known=is_known)
        message = Message(reply)
        assert message.read(("MSH-9", "MSH-15", "MSH-16", "MSH-21", "MSA-1", "MSA-2", "QAK-1", "QAK-2", "QAK-3.1")) == [
            b"RSP^K11^RSP_K11", b"NE", b"NE", b"LAB-27^IHE", b"AA", b"Q1", b"Tag1", status, b"WOS",
        ]  # fmt: skip
        assert b"\rQPD|WOS^Work Order Step^IHE_LABTF|Tag1|BAR-1\r" in reply
        assert b"ERR" not in reply
        found = parse_message(reply.decode(), find_groups=True)
        assert [child.name for child in found.children] == ["MSH", "MSA", "QAK", "QPD"]
        assert found.msh.message_type.message_structure.value == "RSP_K11"


@pytest.mark.parametrize(
    ("qpd", "code", "place", "error"),
    [
        ("QPD|WOS^x|T|", b"AE", b"QPD^1^3", b"101"),
        ("QPD|WOS_BY_TRAY^x|T", b"AR", b"QPD^1^1", b"103"),
        ("NTE|1", b"AE", b"QPD^1", b"101"),
    ],
)
def test_a_query_that_is_not_answered_is_told_where_and_why(qpd, code, place, error):
    reply = told(qbp(qpd))
    assert Message(reply).read(("MSA-1", "QAK-2", "ERR-2", "ERR-3.1")) == [code, code, place, error]
    assert read_answer(reply).control_id == b"Q1"


def test_a_query_with_separators_of_its_own_is_answered_in_them():
    raw = qbp().replace(b"|", b"#").replace(b"^", b"@").replace(b"MSH#@~", b"MSH#@~")
    reply = told(raw)
    assert Message(reply).read(("MSH-9.1", "QAK-2", "QPD-3")) == [b"RSP", b"OK", b"BAR-1"]


def test_work_has_an_order_for_each_test_and_an_arabic_name_and_hl7apy_finds_its_groups():
    raw = work(MARIAM, facts(qbp()), control_id=b"W1", now=NOW)
    text = Text(raw)
    assert [text.get(path).text for path in ("PID-3", "PID-5.1.1", "PID-5.2", "SPM-2", "SAC-3", "SPM-4", "TQ1[2]-9.1")] == [
        "TEST-500001", "تجريبية", "سلمى", "BAR-1", "BAR-1", "SER", "S",
    ]  # fmt: skip
    assert [(text.get(f"OBR[{n}]-2").text, text.get(f"OBR[{n}]-4.1").text) for n in (1, 2)] == [
        ("P-1-GLU", "GLU"),
        ("P-1-K^X", "K^X"),
    ]
    assert Message(raw).read(("MSH-3", "MSH-5", "MSH-9", "MSH-15", "MSH-16", "MSH-21")) == [
        b"WASL", b"TestAnalyzer", b"OML^O33^OML_O33", b"ER", b"AL", b"LAB-28^IHE",
    ]  # fmt: skip
    # of two orders hl7apy takes the second for a prior result, as the structure of 2.5.1 allows: so it is shown one
    raw = work(replace(MARIAM, tests=("K^X",)), facts(qbp()), control_id=b"W1", now=NOW)
    (order,) = parse_message(raw.decode(), find_groups=True).oml_o33_specimen.oml_o33_order
    assert order.oml_o33_observation_request.obr.obr_4.obr_4_1.value == "K\\S\\X"


def test_of_a_sample_without_work_it_is_said_that_there_is_none():
    raw = no_work("NONE|^1", facts(qbp()), control_id=b"W1", now=NOW)
    assert Text(raw).get("SAC-3").text == "NONE|^1"
    assert Message(raw).read(("SPM-11.1", "ORC-1", "OBR-4", "PID-3")) == [b"U", b"DC", None, None]


def test_no_value_of_an_order_adds_a_segment_or_a_field():
    bad = Order(keys=("B|1\rZZZ|1",), family="A^B\rPID|9", given="\x0b\x1c", tests=("T\r|",), patient="~&")
    raw = work(bad, facts(qbp()), control_id=b"W1", now=NOW)
    assert [name for name, _ in Message(raw).segments()] == [
        b"MSH", b"PID", b"SPM", b"SAC", b"ORC", b"TQ1", b"OBR",
    ]  # fmt: skip
    assert b"\x0b" not in raw
    assert b"\x1c" not in raw


def test_a_reply_says_of_some_work_that_it_cannot_be_done():
    orl = b"MSH|^~\\&|A|L|WASL|HUB|20300101||ORL^O34^ORL_O42|R1|P|2.5.1\rMSA|AA|W1\rSPM|1|BAR-1\r%b"
    assert [read_reply(orl % each).is_unable for each in (b"ORC|OK\rORC|UA\r", b"ORC|OK\r")] == [
        True,
        False,
    ]
    assert read_reply(b"rubbish") is None


@pytest.mark.parametrize(
    ("number", "container", "wanted"), [("", "", "BAR-1"), ("", "C7", "C7"), ("C7", "C7", "C7"), ("P-1", "C7", "P-1")]
)
def test_work_names_the_container_as_the_analyzer_read_it_on_the_tube(number, container, wanted):
    raw = work(
        replace(MARIAM, containers=(container,) if container else ()),
        facts(qbp()),
        control_id=b"W1",
        now=NOW,
        number=number,
    )
    assert Message(raw).read(("SAC-3", "SPM-2", "OBR-2")) == [wanted.encode(), b"BAR-1", b"P-1-GLU"]


def test_the_awos_id_of_each_test_has_the_number_of_its_own_order():
    raw = work(replace(MARIAM, placers=("P-1", "P-2")), facts(qbp()), control_id=b"W1", now=NOW)
    assert [Text(raw).get(f"OBR[{n}]-2").text for n in (1, 2)] == ["P-1-GLU", "P-2-K^X"]
