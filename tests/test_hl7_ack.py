"""Replies: the sender finds its own id and its own separators, and no message can put a segment or a frame byte into one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hl7.ack import CONTROL_ID_BYTES_MAX, COPIED_BYTES_MAX, TEXT_BYTES_MAX, acknowledge, refuse
from hl7.check import NO_RULES, Outcome, Rules, Verdict, check
from hl7.errors import NotEr7, RequiredFieldMissing, UndecodableText
from hl7.message import Message, facts, header
from hl7.separators import STANDARD, escape, read_separators

NOW = b"20260101120000.123+0400"
PUNCTUATION = b"!\"#$%&'()*,/:;<=>?@[\\]^_`{|}~"

ORU = (
    b"MSH|^~\\&|LAB^1.2^ISO|CLINIC 7|HIS|MOH|20260101||ORU^R01^ORU_R01|W0001|P|%b|||AL|NE||UNICODE UTF-8\r"
    b"PID|1||700001\r"
)


def reply_to(raw: bytes, rules: Rules = NO_RULES) -> bytes:
    return acknowledge(raw, check(raw, rules), control_id=b"N1", now=NOW)


def no_room(raw: bytes) -> bytes:
    return refuse(raw, ack_code="AR", error_code="207", text="No room; send again later", control_id=b"N1", now=NOW)


def test_an_accepted_message_is_answered_with_the_senders_ids():
    assert reply_to(ORU % b"2.5.1") == (
        b"MSH|^~\\&|HIS|MOH|LAB^1.2^ISO|CLINIC 7|20260101120000.123+0400||ACK^R01^ACK|N1|P|2.5.1||||||UNICODE UTF-8\r"
        b"MSA|AA|W0001\r"
    )


def test_a_short_header_is_answered_in_kind():
    assert reply_to(b"MSH|^~\\&|LAB|||||||W1\r") == b"MSH|^~\\&|||LAB||%b||ACK|N1||\rMSA|AA|W1\r" % NOW


def test_a_reply_leaves_msh_15_and_16_empty():
    reply = Message(reply_to(ORU % b"2.5"))
    assert reply.read(["MSH-13", "MSH-14", "MSH-15", "MSH-16", "MSH-17", "MSH-18"]) == [b""] * 5 + [b"UNICODE UTF-8"]


@pytest.mark.parametrize("version", [b"2.5", b"2.5.1", b"2.6", b"2.9", b"2.10", b"5.0.0", b"2.5+", b"3"])
def test_a_refusal_from_2_5_on_names_place_code_severity_and_text(version):
    assert reply_to(ORU % version, Rules(required=("PID-3[1].4",))).split(b"\r")[1:] == [
        b"MSA|AE|W0001",
        b"ERR||PID^1^3^1^4|101^Required field missing^HL70357|E||||" + RequiredFieldMissing.text.encode(),
        b"",
    ]


@pytest.mark.parametrize("version", [b"2.1", b"2.3.1", b"2.4", b"", b"P", b"2", b"\xff"])
def test_a_refusal_before_2_5_has_its_text_in_msa_3_and_its_place_in_err_1(version):
    assert reply_to(ORU % version, Rules(required=("PID-3[1].4",))).split(b"\r")[1:] == [
        b"MSA|AE|W0001|" + RequiredFieldMissing.text.encode(),
        b"ERR|PID^1^3^101&Required field missing&HL70357",
        b"",
    ]


def test_a_refusal_of_the_type_is_ar():
    assert reply_to(ORU % b"2.5", Rules(types=("ADT",))).split(b"\r")[1] == b"MSA|AR|W0001"


def test_a_warning_is_an_aa_with_an_err_of_severity_w_from_2_5_on():
    raw = ORU.replace(b"700001", "اختبار".encode("cp1256"))
    assert reply_to(raw % b"2.6").split(b"\r")[1:] == [
        b"MSA|AA|W0001",
        b"ERR||PID^1^3|102^Data type error^HL70357|W||||" + UndecodableText.text.encode(),
        b"",
    ]
    assert reply_to(raw % b"2.4").split(b"\r")[1:] == [b"MSA|AA|W0001", b""]


@pytest.mark.parametrize("raw", [b"", b"\0\xff", b"PID|1", b"MSHello", "مرحبا".encode()])
def test_bytes_without_msh_are_answered_aa_with_an_empty_msa_2(raw):
    assert reply_to(raw) == (
        b"MSH|^~\\&|||||%b||ACK|N1|P|2.5\rMSA|AA|\rERR|||100^Segment sequence error^HL70357|W||||%b\r"
        % (NOW, NotEr7.text.encode())
    )


def test_no_room_is_ar_207():
    assert no_room(ORU % b"2.5").split(b"\r")[1:] == [
        b"MSA|AR|W0001",
        b"ERR|||207^Application internal error^HL70357|E||||No room; send again later",
        b"",
    ]
    assert no_room(ORU % b"2.3").split(b"\r")[1:] == [
        b"MSA|AR|W0001|No room; send again later",
        b"ERR|^^^207&Application internal error&HL70357",
        b"",
    ]


def test_a_header_without_its_end_can_be_refused():
    assert no_room(ORU[:60]).startswith(b"MSH|^~\\&|HIS|MOH|LAB^1.2^ISO|CLINIC 7|")


@given(st.lists(st.sampled_from(PUNCTUATION), min_size=2, max_size=6, unique=True))
def test_every_sane_set_of_separators_is_copied(used):
    field, declared = bytes(used[:1]), bytes(used[1:])
    raw = field.join(
        (b"MSH", declared, b"A", b"B", b"C", b"D", b"", b"", declared[:1].join((b"ADT", b"A01")), b"W1", b"T", b"2.5\r")
    )
    rejected = acknowledge(raw, check(raw, Rules(types=("ORU",))), control_id=b"N1", now=NOW)
    reply = Message(rejected)
    assert reply.separators == read_separators(raw)
    assert reply.read(["MSH-2", "MSH-3", "MSH-5", "MSH-9.2", "MSH-10", "MSH-11", "MSH-12", "MSA-1", "MSA-2"]) == [
        *(declared, b"C", b"A", b"A01", b"N1", b"T", b"2.5", b"AR", b"W1"),
    ]
    assert reply.read(["ERR-2.1", "ERR-2.2", "ERR-3.1", "ERR-4"]) == [b"MSH", b"1", b"200", b"E"]


@pytest.mark.parametrize(
    "declaration",
    [b"|", b"|^~\\\\&", b"|^^^^", b"|^a\\&", b"\x01^~\\&", b"\xd8^~\\&", b"+^~\\&", b"-^~\\&", b"|^\x02\\&"],
)
def test_an_insane_set_of_separators_is_answered_with_the_standard_one(declaration):
    mark = declaration[:1]
    raw = mark.join((b"MSH" + declaration, b"A^B", b"F|G", b"C", b"D", b"", b"", b"ADT^A01", b"W1", b"P", b"2.5\r"))
    reply = Message(reply_to(raw))
    assert reply.separators is STANDARD
    assert reply.read(["MSA-1", "MSH-10"]) == [b"AA", b"N1"]
    found = facts(raw)
    assert reply.read(["MSA-2", "MSH-5"]) == [found.control_id, found.route.sending_application]
    if mark != b"|":  # what was no separator there is none here
        assert reply.read(["MSH-5", "MSH-6"]) == [b"A^B", b"F\\F\\G"]


hostile = st.lists(
    st.sampled_from(
        [
            b"|",
            b"^",
            b"~",
            b"\\",
            b"&",
            b"\n",
            b"\r",
            b"\x0b",
            b"\x1c",
            b"\x1c\r",
            b"\rMSA|AA|",
            b"\nERR|",
            b"MSH|^~\\&|",
            b"2.5",
        ]
    )
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)
HEADER = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|W"
starts = st.sampled_from(
    [b"", b"MSH|^~\\&|", b"MSH$", b"MSH\x01^", b"MSH+^~", b"MSH|^~\\\\&|", b"FHS|^~\\&|\rMSH|^~\\&|", b"\nMSH|^~\\&#|", HEADER, HEADER + b"1|P|2.5\r"]
)  # fmt: skip


@given(starts, hostile, st.sampled_from([NO_RULES, Rules(types=("X",)), Rules(senders=("X",), charset="cp1256")]))
@example(b"MSH|^~\\&|", b"A\n\x0b\x1c|B\nC||||||W\n\x1c1", Rules(types=("X",)))
def test_no_message_adds_a_segment_or_a_frame_byte_to_its_reply(start, data, rules):
    raw = start + data
    for reply in (reply_to(raw, rules), no_room(raw)):
        assert not {0x0B, 0x1C, 0x0A} & set(reply)
        assert reply.endswith(b"\r")
        names = [segment[:3] for segment in reply.split(b"\r")]
        assert names in ([b"MSH", b"MSA", b""], [b"MSH", b"MSA", b"ERR", b""])
        message = Message(reply)
        assert message.get("MSH-10") == b"N1"
        assert message.get("MSH-19") is None
        assert message.get("MSA-4") is None
        assert message.get("ERR-9") is None


@given(starts, hostile)
def test_msa_2_is_msh_10_as_it_stands_but_for_the_stripped_bytes(start, data):
    raw = start + data
    verdict = check(raw, NO_RULES)
    wanted = b"" if verdict.facts is None else verdict.facts.control_id.translate(None, b"\x0b\x1c\r\n")
    reply = Message(reply_to(raw))
    if verdict.facts is not None and reply.separators.field != read_separators(header(raw)).field:
        wanted = wanted.replace(b"|", b"\\F\\")  # no separator where the sender wrote it
    assert reply.get("MSA-2") == wanted


@given(starts, hostile)
def test_a_verdict_without_facts_is_answered_as_one_with_them(start, data):
    raw = start + data
    verdict = check(raw, NO_RULES)
    assert acknowledge(raw, verdict._replace(facts=None), control_id=b"N1", now=NOW) == reply_to(raw)


def test_copied_values_are_cut_and_the_control_id_last():
    long = b"x" * 5_000
    raw = b"|".join(
        [
            b"MSH|^~\\&",
            long,
            long,
            long,
            long,
            b"",
            b"",
            b"ADT^" + long,
            long,
            long,
            b"2.5" + long,
            *[b""] * 5,
            long,
            b"\r",
        ]
    )
    reply = Message(reply_to(raw))
    assert reply.get("MSA-2") == long[:CONTROL_ID_BYTES_MAX]
    for path in ("MSH-3", "MSH-4", "MSH-5", "MSH-6", "MSH-9.2", "MSH-11", "MSH-18"):
        assert reply.get(path) == long[:COPIED_BYTES_MAX]


def test_a_control_id_beyond_the_other_fields_limit_is_copied_whole():
    control_id = b"W" * (COPIED_BYTES_MAX + 1)
    assert Message(reply_to(b"MSH|^~\\&|||||||ADT|%b|P|2.5\r" % control_id)).get("MSA-2") == control_id


def test_our_own_text_is_one_value_and_bounded():
    text = "No | room ^ & ~ \\ \r\n here ؟" + "x" * 500
    reply = Message(refuse(ORU % b"2.5", ack_code="AR", error_code="207", text=text, control_id=b"N\r1", now=b"2026\n"))
    assert reply.get("ERR-8") == escape(text.encode("ascii", "replace")[:TEXT_BYTES_MAX], STANDARD)
    assert reply.get("MSH-10") == b"N1"
    assert reply.count == 3


def test_an_unknown_error_code_is_named_without_a_text():
    reply = refuse(ORU % b"2.5", ack_code="AE", error_code="999", text="", control_id=b"N1", now=NOW)
    assert Message(reply).get("ERR-3") == b"999^^HL70357"


def test_a_batch_is_answered_for_its_first_message():
    assert Message(reply_to(b"FHS|^~\\&|X\rBHS|^~\\&|Y\r" + ORU % b"2.5")).read(["MSA-2", "MSH-5"]) == [
        b"W0001",
        b"LAB^1.2^ISO",
    ]


def test_every_verdict_has_its_reply():
    found = facts(ORU % b"2.5")
    for outcome, code in ((Outcome.ACCEPTED, "AA"), (Outcome.ACCEPTED_WITH_WARNING, "AA"), (Outcome.REJECTED, "AR")):
        verdict = Verdict(outcome, "HL7-99", code, "207", "MSH^1^9", "text", found)
        reply = Message(acknowledge(ORU % b"2.5", verdict, control_id=b"N1", now=NOW))
        assert reply.get("MSA-1") == code.encode()
        assert reply.get("ERR-4") == [None, b"W", b"E"][outcome]
