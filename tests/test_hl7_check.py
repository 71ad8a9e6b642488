"""The site's rules: what breaks one is refused with the code of the table, and what cannot be read never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.answer import read_answer
from hl7.check import NO_RULES, Outcome, Rules, Verdict, check, verdict_of
from hl7.devices.astm_orders import Order
from hl7.devices.law import SAMPLE_CHARACTERS_MAX, Query, no_work, read_query, read_reply, respond, work
from hl7.devices.law_errors import OrdersUnread, QueryIncomplete, QueryUnknown
from hl7.errors import (
    CATALOGUE,
    EventNotAllowed,
    Hl7Error,
    NotEr7,
    ProcessingIdNotAllowed,
    RequiredFieldMissing,
    SenderNotAllowed,
    TypeNotAllowed,
    UndecodableText,
    UnknownCharacterSet,
    VersionNotAllowed,
)
from hl7.message import Message, facts
from hl7.text import Text

ADT = (
    "MSH|^~\\&|HIS^1.2^ISO|عيادة^2.3^ISO|NODE|MOH|20260101120000||ADT^A01^ADT_A01|W7|P^T|2.5^KWT|||||{charset}\r"
    "PID|1||700001~||اختبار^مريم||\r"
    "PV1|1|O|^^\r"
)
UTF8 = ADT.replace("|||||{charset}", "||||||UNICODE UTF-8").encode()


def with_charset(charset: bytes, codec: str) -> bytes:
    return ADT.replace("|||||{charset}", "||||||{charset}").replace("{charset}", charset.decode()).encode(codec)


def refused(rules: Rules, raw: bytes = UTF8) -> tuple[str, str, str, str]:
    verdict = check(raw, rules)
    assert verdict.outcome is Outcome.REJECTED
    assert verdict.facts == facts(raw)
    return verdict.code, verdict.ack_code, verdict.error_code, verdict.location


def test_without_rules_a_message_is_accepted_with_its_facts():
    assert check(UTF8, Rules()) == Verdict(Outcome.ACCEPTED, "", "AA", "", "", "", facts(UTF8))
    assert check(b"MSH|^~\\&|\r", NO_RULES).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"PID|1", b"MSH", b"MSHello", b"{}", b"H|\\^&\r", "مرحبا".encode("cp1256")]
)
def test_what_has_no_msh_is_accepted_with_a_warning(raw):
    verdict = check(raw, Rules(senders=("X|Y",), types=("ADT",), required=("PID-3",)))
    assert verdict == (Outcome.ACCEPTED_WITH_WARNING, NotEr7.code, "AA", "100", "", NotEr7.text, None)


@pytest.mark.parametrize(
    "senders",
    [
        ("HIS|عيادة",),
        ("HIS|*",),
        ("HIS",),
        ("*|عيا*",),
        ("LAB|*", "H?S|*"),
        ("HIS^1.2^ISO|عيادة^2.3^ISO",),
        ("HIS^1.2*|*",),
        ("*",),
    ],
)
def test_a_sender_that_a_glob_names_is_accepted(senders):
    assert check(UTF8, Rules(senders=senders)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("senders", [("LAB|*",), ("HIS|LAB",), ("his|*",), ("HI",), ("HIS^9*|*",), ("*|",)])
def test_a_sender_that_no_glob_names_is_refused(senders):
    assert refused(Rules(senders=senders)) == (SenderNotAllowed.code, "AR", "204", "MSH^1^3")


def test_a_bar_inside_a_field_does_not_pass_for_the_facility():
    raw = b"MSH$^~\\&$HIS|MOH$X$$$$$ADT^A01$W1$P$2.5\r"
    assert check(raw, Rules(senders=("HIS|MOH",))).outcome is Outcome.REJECTED


@pytest.mark.parametrize("types", [("ADT^A01",), ("ADT^*",), ("ADT",), ("ORU^R01", "A??^A0[13]"), ("*",)])
def test_a_type_that_a_glob_names_is_accepted(types):
    assert check(UTF8, Rules(types=types)).outcome is Outcome.ACCEPTED


def test_a_type_that_no_glob_names_is_refused():
    assert refused(Rules(types=("ORU^*", "MDM"))) == (TypeNotAllowed.code, "AR", "200", "MSH^1^9^1^1")


def test_an_event_that_no_glob_of_its_type_names_is_refused():
    assert refused(Rules(types=("ORU^A01", "ADT^A03"))) == (EventNotAllowed.code, "AR", "201", "MSH^1^9^1^2")


def test_a_type_is_found_behind_any_separators():
    assert check(b"MSH$%~\\&$A$B$C$D$$$ADT%A01$W1$P$2.5\r", Rules(types=("ADT^A01",))).outcome is Outcome.ACCEPTED


def test_processing_id_and_version_are_compared_by_their_first_component():
    assert check(UTF8, Rules(processing_ids=("P",), versions=("2.4", "2.5"))).outcome is Outcome.ACCEPTED
    assert refused(Rules(processing_ids=("T", "D"))) == (ProcessingIdNotAllowed.code, "AR", "202", "MSH^1^11")
    assert refused(Rules(versions=("2.5.1",))) == (VersionNotAllowed.code, "AR", "203", "MSH^1^12")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("PID-2", "PID^1^2"),
        ("PID-3[2]", "PID^1^3^2"),
        ("PID-3[2].1", "PID^1^3^2^1"),
        ("PID-5.3", "PID^1^5^1^3"),
        ("PID-5.1.2", "PID^1^5^1^1^2"),
        ("PV1-3", "PV1^1^3"),
        ("PV1[2]-1", "PV1^2^1"),
        ("OBX-5", "OBX^1^5"),
        ("MSH-13", "MSH^1^13"),
    ],
)
def test_a_required_field_that_holds_nothing_is_named(path, location):
    assert refused(Rules(required=("PID-3", path, "ZZZ-1"))) == (RequiredFieldMissing.code, "AE", "101", location)


def test_a_required_field_that_is_null_is_missing():
    assert refused(Rules(required=("PID-3",)), UTF8.replace(b"700001~", b'""'))[2] == "101"


def test_required_fields_that_hold_a_value_pass():
    rules = Rules(required=("PID-3", "PID-3[1].1", "PID-5.2", "PV1-2", "MSH-1", "MSH-2", "MSH-10"))
    assert check(UTF8, rules).outcome is Outcome.ACCEPTED


def test_the_first_broken_rule_decides():
    rules = Rules(senders=("X",), types=("X",), processing_ids=("X",), versions=("X",), required=("ZZZ-1",))
    assert refused(rules)[0] == SenderNotAllowed.code


@pytest.mark.parametrize("path", ["", "PID", "PID-0.0", "3"])
def test_a_required_path_that_is_none_is_refused_with_the_rules(path):
    with pytest.raises(ValueError, match="not a path"):
        Rules(required=(path,))


@pytest.mark.parametrize("name", ["utf-16", "UTF-32-LE", "klingon", "hex", "rot13"])
def test_a_charset_that_cannot_be_framed_is_refused_with_the_rules(name):
    for rules in ({"charset": name}, {"charset_default": name}):
        with pytest.raises(ValueError, match="not a character set"):
            Rules(**rules)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        (b"", "utf-8"),
        (b'""', "utf-8"),
        (b"UNICODE UTF-8", "utf-8"),
        (b"UNICODE", "utf-8"),
        (b"8859/6", "iso8859_6"),
        (b"8859/6~ISO IR87", "iso8859_6"),
        (b"GB 18030-2000", "gb18030"),
    ],
)
def test_text_in_the_declared_character_set_is_accepted(charset, codec):
    assert check(with_charset(charset, codec), NO_RULES).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        (b"", "cp1256"),
        (b"UNICODE UTF-8", "iso8859_6"),
        (b"ASCII", "utf-8"),
        (b"ASCII~UNICODE UTF-8", "utf-8"),
        (b"8859", "cp1256"),
    ],
)
def test_text_outside_the_declared_character_set_is_accepted_with_a_warning(charset, codec):
    verdict = check(with_charset(charset, codec), NO_RULES)
    assert verdict[:5] == (Outcome.ACCEPTED_WITH_WARNING, UndecodableText.code, "AA", "102", "MSH^1^4")


@pytest.mark.parametrize("charset", [b"UTF-8", b"1", b"CNS 11643-1992", b"8859/99~ASCII"])
def test_an_unknown_character_set_is_read_as_utf_8_with_a_warning(charset):
    verdict = check(with_charset(charset, "utf-8"), NO_RULES)
    assert verdict[:5] == (Outcome.ACCEPTED_WITH_WARNING, UnknownCharacterSet.code, "AA", "103", "MSH^1^18")


def test_a_wrong_character_set_is_no_matter_where_the_text_is_ascii():
    assert check(b"MSH|^~\\&|A|B|C|D|||ADT^A01|W1|P|2.5||||||klingon\r", NO_RULES).outcome is Outcome.ACCEPTED


def test_the_feeds_character_set_overrides_msh_18_and_its_default_stands_in():
    windows = with_charset(b"UNICODE UTF-8", "cp1256")
    assert check(windows, Rules(charset="cp1256")).outcome is Outcome.ACCEPTED
    assert check(windows, Rules(charset_default="cp1256")).outcome is Outcome.ACCEPTED_WITH_WARNING
    assert check(with_charset(b"", "cp1256"), Rules(charset_default="cp1256")).outcome is Outcome.ACCEPTED


def test_a_broken_rule_outweighs_a_warning():
    assert refused(Rules(types=("ORU",)), with_charset(b"", "cp1256"))[0] == TypeNotAllowed.code


EVERY_RULE = Rules(
    senders=("HIS|*", "[!a-z]*"),
    types=("ADT^A0?", "ORU"),
    versions=("2.5",),
    processing_ids=("P",),
    required=("PID-3.1",),
)


@given(
    st.sampled_from(
        [b"", b"MSH|^~\\&|HIS|X|||||ADT^A01||P|2.5||||||", b"MSH$^", b"FHS|^~\\&|\rMSH|", b"\xef\xbb\xbfMSH|"]
    ),
    st.lists(st.sampled_from([b"|", b"^", b"\r", b"\n", b"PID", b"MSH", b"~"]) | st.binary(max_size=5), max_size=30),
)
def test_no_bytes_make_the_check_raise(start, parts):
    for rules in (NO_RULES, EVERY_RULE, Rules(charset="cp1256", required=("MSH-1", "PID-3"))):
        verdict = check(start + b"".join(parts), rules)
        assert (verdict.facts is None) == (verdict.code == NotEr7.code)
        assert verdict.ack_code == "AA" if verdict.outcome is not Outcome.REJECTED else verdict.ack_code in {"AE", "AR"}


_QUERY_PARTS = st.lists(
    st.sampled_from(
        [b"|", b"^", b"~", b"\\", b"&", b"#", b"\r", b"\n", b"\x0b", b"\x1c", b"QPD", b"QPD|WOS^x|T1|S1", b"WOS", b"WOS_ALL", b"MSH|", b"ORC|UA", b'""', b"9" * 81]
    )
    | st.binary(max_size=5),
    max_size=30,
)  # fmt: skip
_QUERY_STARTS = st.sampled_from(
    [
        b"MSH|^~\\&|A|L|WASL|HUB|20300101||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||ER|AL||UNICODE UTF-8|||LAB-27^IHE\r",
        b"MSH|^~\\&|A|L|WASL|HUB|20300101||QBP^Q11|Q1|P|2.3\r",
        b"MSH|^~\\&|A|L|WASL|HUB|20300101||QBP^Q11|Q1|P|2.5.1\rQPD|WOS^x|T1|",
        b"MSH#@~\\&#A#L#WASL#HUB#20300101##QBP@Q11@QBP_Q11#Q1#P#2.5.1\r",
        b"MSH|^~\\&|A|L|||||QBP^Q11|Q1|P|2.5||||||GB 18030-2000\r",
        b"MSH|\r",
        b"\xef\xbb\xbfMSH|^~\\&|",
        b"",
    ]
)


@given(_QUERY_STARTS, _QUERY_PARTS, st.sampled_from(["", "cp1256", "big5"]), st.booleans())
def test_any_query_is_answered_or_refused_by_an_error_of_the_catalogue_and_never_raises(
    start, parts, charset, is_known
):
    raw = start + b"".join(parts)
    query = read_query(raw, charset=charset)
    assert query.problem in {None, QueryIncomplete, QueryUnknown}
    assert query.problem is None or query.location.startswith("QPD")
    assert len(query.sample) <= SAMPLE_CHARACTERS_MAX
    query.sample.encode()  # it is looked up, and goes out again
    verdict = check(raw, NO_RULES)
    if verdict.facts is None:
        return  # no message at all: never taken for a query
    for asked in (query, Query(problem=OrdersUnread)):
        reply = respond(raw, verdict.facts, asked, is_known=is_known, control_id=b"R1", now=b"20300101")
        answer = read_answer(reply)
        assert answer is not None
        assert answer.code == (asked.problem.reply if asked.problem else "AA")
        assert Message(reply).get("MSH-10") == b"R1"
        assert [name for name, _ in Message(reply).segments()] in _SHAPES
        assert not {0x0B, 0x1C, 0x0A} & set(reply)


_SHAPES = [
    [name for name, is_there in zip((b"MSH", b"MSA", b"ERR", b"QAK", b"QPD"), (True, True, has_error, True, has_qpd), strict=True) if is_there]
    for has_error in (False, True) for has_qpd in (False, True)
]  # fmt: skip


@given(_QUERY_STARTS, _QUERY_PARTS)
def test_any_reply_to_work_is_a_reply_or_none_and_never_raises(start, parts):
    raw = (start.replace(b"QBP^Q11", b"ORL^O34") + b"MSA|AA|W1\r" if parts[:1] == [b"|"] else start) + b"".join(parts)
    answer = read_reply(raw)
    assert answer is None or answer.code in {"AA", "AE", "AR", "CA", "CE", "CR"}


@given(st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=10), max_size=4))
def test_any_order_is_written_as_one_message_whose_values_are_read_back(sample, name, tests):
    order = Order(
        keys=(sample,), placer=name, family=name, patient=sample, tests=tuple(tests), priority=name, specimen=sample
    )
    asked = facts(UTF8)
    raw = work(order, asked, control_id=b"W1", now=b"20300101")
    assert [each for each, _ in Message(raw).segments()] == [
        b"MSH",
        b"PID",
        b"SPM",
        b"SAC",
        *[b"ORC", b"TQ1", b"OBR"] * len(tests),
    ]
    assert Text(raw).get("SAC-3").text == sample
    assert [Text(raw).get(f"OBR[{at}]-4").text for at in range(1, len(tests) + 1)] == tests
    assert Text(no_work(sample, asked, control_id=b"W1", now=b"20300101")).get("SPM-2").text == sample


@pytest.mark.parametrize("error", [QueryIncomplete, QueryUnknown, OrdersUnread])
def test_each_error_of_a_query_has_all_its_parts_and_a_code_of_its_own(error):
    assert error.code.startswith("LAW-")
    assert error.text != Hl7Error.text
    assert error.hint != Hl7Error.hint
    assert error.text.isascii()  # a reply in any character set can carry it
    assert (error.reply, error.error_code) in {("AE", "101"), ("AR", "103"), ("AE", "207")}
    assert verdict_of(error, "", None).outcome is Outcome.REJECTED
    assert error.code not in {other.code for other in CATALOGUE}


def test_the_catalogue_holds_every_error_once_with_all_its_parts():
    subclasses = [each for each in Hl7Error.__subclasses__() if each.__module__ == "hl7.errors"]  # LAW has its own
    assert set(subclasses) == set(CATALOGUE)
    assert len({error.code for error in CATALOGUE}) == len(CATALOGUE)
    for error in CATALOGUE:
        assert error.text != Hl7Error.text, error
        assert error.hint != Hl7Error.hint, error
        assert error.text.isascii(), error  # a reply in any character set can carry it
        assert error.fault in {"source", "site", "node", "centre"}, error
        assert error.reply in {"AA", "AE", "AR", "none"}, error
        assert error.error_code.isdigit(), error
