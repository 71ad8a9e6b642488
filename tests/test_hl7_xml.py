"""HL7 v3, CDA and X12 through a v2 port: told by their beginning, typed, answered in their own way; XML that means harm does none."""

import tracemalloc
from xml.etree import ElementTree as ET

import pytest

from hl7.check import Outcome
from hl7.foreign import recognise, reply_no_room, reply_to
from hl7.signatures import LOOKS_MAX, MARKS_MAX, in_json, in_xml
from hl7.v3 import begin
from hl7.x12 import is_x12
from hl7.xml_reader import DEPTH_MAX, ELEMENTS_MAX, TEXT_CHARACTERS_MAX, XmlTrouble, read
from tests.xml_samples import CDA, HARMFUL, LAUGHS, v3, x12

NOW = b"20300101080000+0000"
NS = "{urn:hl7-org:v3}"


def answer(raw, **options):
    return reply_to(recognise(raw), Outcome.ACCEPTED, number=5, own_id="0" * 32, now=NOW, **options)


# ---- recognised ---------------------------------------------------------------------------------------------------------
def test_a_cda_document_is_typed_by_its_first_template():
    found = recognise(CDA)
    assert (found.content_type, found.message_type) == ("application/hl7-cda+xml", "2.16.840.1.113883.10.20.22.1.1")
    assert found.control_id == "2.16.840.1.113883.19.5.99999.1^TEST-DOC-1"
    assert found.verdict.outcome is Outcome.ACCEPTED


def test_a_v3_message_is_typed_by_its_interaction():
    found = recognise(v3())
    assert (found.content_type, found.message_type) == ("application/hl7-v3+xml", "PRPA_IN201301UV02")
    assert found.control_id == "22a0f9e0-4454-11dc-a6be-3603d6866807^TEST-1"


def test_an_interchange_is_typed_by_its_transaction_set():
    found = recognise(x12())
    assert (found.content_type, found.message_type, found.control_id) == (
        "application/edi-x12",
        "837^005010X222A1",
        "000000007",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"MSH|^~\\&|A",
        b"FHS|^~\\&|",
        b"hello",
        b"ISA",
        b"ISABC",
        b"<a/>",
        b'<a xmlns="urn:other"/>',
        b"\x00",
        b"{}",
    ],
)
def test_what_is_none_of_them_is_left_to_er7(raw):
    assert recognise(raw) is None


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n", b"\xef\xbb\xbf \n"])
@pytest.mark.parametrize(
    "raw", [CDA.partition(b"?>\n")[2], v3().partition(b"?>\n")[2], x12()], ids=["cda", "v3", "x12"]
)
def test_a_byte_order_mark_and_blank_lines_hide_nothing(before, raw):
    assert recognise(before + raw) == recognise(raw)


@pytest.mark.parametrize("encoding", ["windows-1256", "iso-8859-6"])
def test_a_document_in_an_arabic_character_set_is_read(encoding):
    raw = CDA.decode().replace('"UTF-8"', f'"{encoding}"').encode(encoding)
    assert recognise(raw).message_type == "2.16.840.1.113883.10.20.22.1.1"


@pytest.mark.parametrize(("code", "is_test"), [("P", False), ("T", True), ("D", True), ("", False)])
def test_a_v3_message_says_itself_that_it_is_a_test(code, is_test):
    assert recognise(v3(processing=code)).is_test is is_test


@pytest.mark.parametrize(("usage", "is_test"), [("P", False), ("T", True), ("I", False)])
def test_an_interchange_says_itself_that_it_is_a_test(usage, is_test):
    assert recognise(x12(usage=usage)).is_test is is_test


@pytest.mark.parametrize("text", ["مريض", "A" * 200, "900101001", "<x>", "1.2.3 Test Patient"])
def test_no_text_of_a_sender_gets_into_the_permanent_type(text):
    escaped = text.replace("<", "&lt;")
    assert (
        recognise(CDA.replace(b"2.16.840.1.113883.10.20.22.1.1", escaped.encode())).message_type == "ClinicalDocument"
    )
    assert recognise(
        v3().replace(b'extension="PRPA_IN201301UV02"', f'extension="{escaped}"'.encode())
    ).message_type == (
        "PRPA_IN201301UV02"  # the root's name, which is one
    )
    assert recognise(x12().replace(b"ST*837*", b"ST*%b*" % text.encode()[:50])).message_type in {
        "",
        "900101001^005010X222A1",
    }


# ---- harm ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("raw", HARMFUL)
def test_xml_with_a_doctype_is_kept_and_not_looked_into(raw):
    found = recognise(raw)
    assert (found.content_type, found.message_type, found.verdict.code) == ("application/xml", "", "HL7-16")
    assert found.verdict.outcome is Outcome.ACCEPTED_WITH_WARNING


def test_a_billion_laughs_take_no_memory():
    tracemalloc.start()
    recognise(LAUGHS)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(LAUGHS) + 256 * 1024
    tracemalloc.stop()


class Blind:
    def start(self, path, attributes):
        return False

    def text(self, path, text):
        raise AssertionError("not wanted")


class Reader(Blind):
    def __init__(self):
        self.texts = []

    def start(self, path, attributes):
        return path[-1] == "b"

    def text(self, path, text):
        self.texts.append(text)


def test_elements_nest_only_so_deep():
    read(b"<a>" * DEPTH_MAX + b"</a>" * DEPTH_MAX, Blind())
    with pytest.raises(XmlTrouble, match="deeper"):
        read(b"<a>" * (DEPTH_MAX + 1), Blind())


def test_there_are_only_so_many_elements():
    with pytest.raises(XmlTrouble, match="more than"):
        read(b"<a>" + b"<b/>" * ELEMENTS_MAX, Blind())


def test_a_text_that_is_wanted_is_only_so_long():
    reader = Reader()
    read(b"<a><b>" + b"x" * TEXT_CHARACTERS_MAX + b"</b><c>" + b"x" * 100_000 + b"</c><b>1<i>2</i>3</b></a>", reader)
    assert list(map(len, reader.texts)) == [TEXT_CHARACTERS_MAX, 2]
    with pytest.raises(XmlTrouble, match="characters"):
        read(b"<a><b>" + b"x" * (TEXT_CHARACTERS_MAX + 1) + b"</b></a>", reader)


@pytest.mark.parametrize("raw", [b"", b"<a>", b"<a></b>", b"<a b=1/>", b"<a>\x00</a>", b"\xff<a/>", b"<a/><b/>", b"<a:b/>", b'<?xml version="1.0" encoding="none-such"?><a/>', b'<?xml version="1.0" encoding="gb18030"?><a/>'])  # fmt: skip
def test_what_is_not_xml_is_told_as_such(raw):
    with pytest.raises(XmlTrouble):
        read(raw, Blind())


def test_only_the_beginning_of_a_long_document_is_read():
    assert begin(CDA.replace(b"<recordTarget>", b"<title>" + b"x" * 100_000 + b"</tit")).message_type
    assert recognise(b"<ClinicalDocument xmlns='urn:hl7-org:v3'>" + b"<x>" * 100_000).verdict.code == "HL7-16"


# ---- replies of v3 --------------------------------------------------------------------------------------------------------
def test_a_v3_message_gets_its_accept_acknowledgement_with_the_ids():
    root = ET.fromstring(answer(v3()))
    assert root.tag == f"{NS}MCCI_IN000002UV01"
    assert root.find(f"{NS}acknowledgement/{NS}typeCode").get("code") == "CA"
    assert root.find(f"{NS}acknowledgement/{NS}targetMessage/{NS}id").attrib == {
        "root": "22a0f9e0-4454-11dc-a6be-3603d6866807",
        "extension": "TEST-1",
    }
    assert root.find(f"{NS}receiver/{NS}device/{NS}id").attrib == {
        "root": "1.2.840.114350.1.13.999.567",
        "extension": "A&B",
    }
    assert root.find(f"{NS}sender/{NS}device/{NS}id").attrib == {"root": "1.2.840.114350.1.13.999.234"}
    assert root.find(f"{NS}acceptAckCode").get("code") == "NE"


@pytest.mark.parametrize(
    ("asked", "when_good", "when_bad"),
    [
        ("AL", True, True),
        ("NE", False, False),
        ("ER", False, True),
        ("SU", True, False),
        ("", True, True),
        ("XX", True, True),
    ],
)
def test_accept_ack_code_decides_whether_there_is_one(asked, when_good, when_bad):
    found = recognise(v3(accept=asked))
    assert bool(reply_to(found, Outcome.ACCEPTED, number=1, own_id="0", now=NOW)) is when_good
    assert bool(reply_to(found, Outcome.REJECTED, number=1, own_id="0", now=NOW)) is when_bad
    assert bool(reply_no_room(found, own_id="0", now=NOW, text="no room")) is when_bad


def test_no_room_is_a_ce():
    found = reply_no_room(recognise(v3()), own_id="0", now=NOW, text="no <room>")
    root = ET.fromstring(found)
    assert root.find(f"{NS}acknowledgement/{NS}typeCode").get("code") == "CE"
    assert root.find(f".//{NS}text").text == "no <room>"


@pytest.mark.parametrize(
    "raw", [CDA, v3().replace(b'<id root="22a0f9e0-4454-11dc-a6be-3603d6866807" extension="TEST-1"/>', b"")]
)
def test_what_has_no_acknowledgement_of_its_own_is_left_to_er7s(raw):
    assert answer(raw) is None


# ---- replies of X12 -------------------------------------------------------------------------------------------------------
def test_an_interchange_that_asks_gets_its_ta1():
    segments = answer(x12(42)).decode().split("~")
    isa, ta1, iea, _ = (segment.split("*") for segment in segments)
    assert ta1 == ["TA1", "000000042", "300101", "0800", "A", "000"]
    assert (isa[5:9], isa[13], iea) == (
        ["ZZ", "HUB            ", "ZZ", "CLINIC7        "],
        "000000005",
        ["IEA", "0", "000000005"],
    )
    assert len(segments[0]) == 105  # as all of them


def test_a_ta1_can_be_read_as_an_interchange():
    assert is_x12(answer(x12()))
    assert recognise(answer(x12())).verdict.outcome is Outcome.ACCEPTED


def test_an_interchange_that_does_not_ask_gets_er7s():
    assert answer(x12(ack=0)) is None


def test_no_room_has_no_ta1():
    assert reply_no_room(recognise(x12()), own_id="0", now=NOW, text="") is None


@pytest.mark.parametrize(("raw", "note"), [(x12(end=8), b"*E*001~"), (x12().rpartition(b"IEA")[0], b"*E*023~")])
def test_an_envelope_that_does_not_close_is_told(raw, note):
    assert recognise(raw).verdict.code == "HL7-17"
    assert note in answer(raw)


@pytest.mark.parametrize("raw", [x12()[:100], x12().replace(b"ISA*00", b"ISA*0"), x12().replace(b"*:~", b"***", 1)])
def test_a_header_of_other_widths_is_kept_with_a_warning(raw):
    found = recognise(raw)
    assert (found.content_type, found.message_type, found.verdict.code) == ("application/edi-x12", "", "HL7-17")
    assert reply_to(found, Outcome.ACCEPTED_WITH_WARNING, number=1, own_id="0", now=NOW) is None


# ---- signatures -----------------------------------------------------------------------------------------------------------
def test_signatures_are_seen_and_placed():
    raw = CDA.replace(b"<component>", b'<s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"/><component>')
    (mark,) = in_xml(raw)
    assert (mark.kind, raw[int(mark.place) :][:12]) == ("XMLDSig", b"<s:Signature")
    assert in_xml(raw.replace(b"<s:Sig", b"<x xmlns='http://uri.etsi.org/01903/v1.3.2#'/><s:Sig"))[0].kind == "XAdES"
    assert in_xml(CDA) == ()
    assert recognise(raw).signatures == (mark,)


def test_a_document_full_of_the_word_is_looked_at_only_so_often():
    space = b"http://www.w3.org/2000/09/xmldsig#"
    assert in_xml(space + b"Signature " * (LOOKS_MAX + 1) + b"<Signature>") == ()
    assert len(in_xml(space + b"<Signature>" * 100)) == MARKS_MAX
    assert in_xml(space + b"<SignatureValue><xSignature><!Signature></Signature>") == ()


def test_a_signature_of_a_resource_is_seen():
    raw = b'{"resourceType":"Bundle","signature":{"sigFormat": "application/jose","data":"eyJ"}}'
    assert [mark.kind for mark in in_json(raw)] == ["JWS"]
    assert in_json(b'{"resourceType":"Patient"}') == ()
