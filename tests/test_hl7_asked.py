"""Which replies a sender gets: the whole table of MSH-15 and MSH-16, and what is no condition at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.ack import acknowledge
from hl7.asked import ORIGINAL, Asked, accept_code, asked, is_wanted, reply_codes
from hl7.check import Rules, check
from hl7.message import Message, Route

RULES = Rules(types=("ADT^*",), senders=("HIS|*",))
GOOD = b"MSH|^~\\&|HIS|C|||20260101||ADT^A01|W1|P|2.5\rPID|1\r"
WRONG_TYPE = GOOD.replace(b"ADT^A01", b"ORU^R01")
WRONG_SENDER = GOOD.replace(b"HIS", b"LAB")


def verdict(raw):
    return check(raw, RULES)


def wants(accept, application=b""):
    return Route(accept_ack=accept, application_ack=application)


def test_empty_or_null_conditions_are_original_mode():
    assert asked(wants(b"", b"")) is ORIGINAL
    assert asked(wants(b'""', b'""')) is ORIGINAL


@pytest.mark.parametrize("one", [(b"AL", b""), (b"", b"AL"), (b"NE", b'""')])
def test_one_condition_alone_is_original_mode_unless_the_feed_says_otherwise(one):
    assert asked(wants(*one)) is ORIGINAL
    assert asked(wants(*one), "enhanced").is_enhanced


def test_a_feed_may_hold_to_one_mode_whatever_the_sender_asks():
    assert asked(wants(b"AL", b"AL"), "original") is ORIGINAL
    assert asked(wants(b"", b""), "enhanced") == Asked(b"AL", b"NE")


def test_what_is_no_condition_is_answered_always_and_processed_never():
    assert asked(wants(b"yes", b"no")) == Asked(b"AL", b"NE")


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [(b"AL", True, True), (b"SU", True, False), (b"ER", False, True), (b"NE", False, False)],
)
def test_each_condition_of_table_0155_is_heeded_for_each_code(condition, good, bad):
    assert [is_wanted(condition, code) for code in ("CA", "AA")] == [good] * 2
    assert [is_wanted(condition, code) for code in ("CE", "CR", "AE", "AR")] == [bad] * 4


def test_only_type_processing_id_and_version_are_cr():
    assert accept_code(verdict(GOOD)) == "CA"
    assert accept_code(verdict(WRONG_TYPE)) == "CR"
    assert accept_code(verdict(WRONG_SENDER)) == "CE"
    assert accept_code(check(GOOD, Rules(versions=("2.3",)))) == "CR"
    assert accept_code(check(GOOD, Rules(processing_ids=("T",)))) == "CR"
    assert accept_code(check(GOOD, Rules(required=("PID-3",)))) == "CE"


@pytest.mark.parametrize(
    ("accept", "application", "of_good", "of_bad"),
    [
        (b"AL", b"AL", ("CA", "AA"), ("CR", "")),
        (b"AL", b"NE", ("CA", ""), ("CR", "")),
        (b"NE", b"AL", ("", "AA"), ("", "AR")),
        (b"NE", b"NE", ("", ""), ("", "")),
        (b"ER", b"SU", ("", "AA"), ("CR", "")),
        (b"SU", b"ER", ("CA", ""), ("", "AR")),
    ],
)
def test_a_refusal_is_told_once_and_an_application_reply_only_where_the_feed_gives_them(
    accept, application, of_good, of_bad
):
    wanted = Asked(accept, application)
    assert reply_codes(wanted, verdict(GOOD), answers_application=True) == of_good
    assert reply_codes(wanted, verdict(WRONG_TYPE), answers_application=True) == of_bad
    assert reply_codes(wanted, verdict(GOOD), answers_application=False) == (of_good[0], "")


def test_an_application_reply_asks_for_no_reply_itself():
    raw = GOOD.replace(b"2.5", b"2.5||||||UNICODE UTF-8")
    reply = Message(acknowledge(raw, verdict(raw), control_id=b"N1", now=b"2026", ack_code="AA", is_application=True))
    assert reply.read(["MSH-10", "MSH-15", "MSH-16", "MSH-18", "MSA-1", "MSA-2"]) == [
        b"N1",
        b"NE",
        b"NE",
        b"UNICODE UTF-8",
        b"AA",
        b"W1",
    ]


def test_an_accept_reply_has_its_own_code_and_leaves_the_conditions_empty():
    reply = Message(acknowledge(GOOD, verdict(GOOD), control_id=b"N1", now=b"2026", ack_code="CA"))
    assert reply.read(["MSH-15", "MSH-16", "MSA-1", "MSA-2"]) == [None, None, b"CA", b"W1"]


@pytest.mark.parametrize("version", [b"2.3", b"2.5"])
def test_the_expected_number_is_msa_4_with_and_without_a_text_before_it(version):
    raw = WRONG_TYPE.replace(b"2.5", version)
    assert Message(acknowledge(raw, verdict(raw), control_id=b"N1", now=b"2026", expected=b"7")).get("MSA-4") == b"7"
    good = GOOD.replace(b"2.5", version)
    assert acknowledge(good, verdict(good), control_id=b"N1", now=b"2026", expected=b"-1").endswith(b"MSA|AA|W1||-1\r")


@given(
    st.binary(max_size=300),
    st.binary(max_size=12),
    st.binary(max_size=12),
    st.sampled_from(["as-asked", "original", "enhanced"]),
)
def test_no_bytes_keep_a_sender_from_its_replies(raw, accept, application, setting):
    wanted = asked(wants(accept, application), setting)
    assert reply_codes(wanted, verdict(raw), answers_application=True)
    assert wanted == ORIGINAL or wanted.is_enhanced
