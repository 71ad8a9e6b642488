"""Batches: every message in a frame has its verdict and its reply, in an envelope that names what is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7 import batch as batches
from hl7.batch import check_batch, divide, is_single, reply_to_batch
from hl7.check import Outcome, Rules, check
from hl7.message import Message

RULES = Rules(types=("ADT^*",))


def one(control_id, kind="ADT^A01"):
    return f"MSH|^~\\&|HIS|C|WASL|HUB|20260101||{kind}|{control_id}|P|2.5\rPID|1||7^^^X||تجربة^Test\r".encode()


def batch(*messages, head=b"BHS|^~\\&|HIS|C|WASL|HUB|20260101||||B-7\r", tail=None):
    return head + b"".join(messages) + (b"BTS|%d\r" % len(messages) if tail is None else tail)


def codes(raw, rules=RULES):
    whole, each = check_batch(raw, divide(raw), rules)
    return whole, [verdict.ack_code for verdict in each]


def test_only_what_holds_one_msh_is_single_for_sure():
    assert is_single(one("A"))
    assert not is_single(one("A") + one("B"))
    assert not is_single(b"BHS|^~\\&\r" + one("A"))


def test_a_single_message_is_no_batch_whatever_its_fields_say():
    assert is_single(one("A"))
    assert divide(one("A")) is None
    assert divide(one("A") + b"NTE|1||MSH|is not a segment here\r") is None
    assert divide(b"") is None
    assert divide(b"nothing of HL7") is None


@pytest.mark.parametrize("ends", [b"\r", b"\n", b"\r\n"])
def test_each_message_of_a_batch_is_found_whatever_ends_its_segments(ends):
    raw = batch(one("A"), one("B"), one("C")).replace(b"\r", ends)
    found = divide(raw)
    assert [Message(raw[start:end]).get("MSH-10") for start, end in found.messages] == [b"A", b"B", b"C"]
    assert found.batch_header.startswith(b"BHS")
    assert not found.file_header


def test_messages_without_an_envelope_are_a_batch_as_well():
    raw = one("A") + one("B")
    assert not is_single(raw)
    assert len(divide(raw).messages) == 2
    assert not divide(raw).batch_header


def test_a_file_of_two_batches_of_mixed_types_is_one_batch_here():
    raw = b"FHS|^~\\&|HIS|C|||20260101||||F-1\r" + batch(one("A")) + batch(one("B", "SIU^S12")) + b"FTS|2\r"
    found = divide(raw)
    assert len(found.messages) == 2
    assert found.file_header.startswith(b"FHS")


def test_the_record_is_taken_and_says_which_of_its_messages_are_refused():
    raw = batch(one("A"), one("B", "ORU^R01"), one("C", "ORU^R01"), one("D"), one("E", "ORU^R01"))
    whole, each = codes(raw)
    assert each == ["AA", "AR", "AR", "AA", "AR"]
    assert (whole.outcome, whole.code, whole.location) == (Outcome.ACCEPTED_WITH_WARNING, "HL7-13", "2-3,5")
    assert whole.facts.control_id == b"A"


def test_a_batch_of_which_every_message_is_refused_is_refused():
    whole, each = codes(batch(one("A", "ORU^R01"), one("B", "ORU^R01")))
    assert each == ["AR", "AR"]
    assert whole.outcome is Outcome.REJECTED


def test_an_empty_batch_is_taken():
    raw = batch()
    whole, each = codes(raw)
    assert each == []
    assert whole.outcome is not Outcome.REJECTED


def test_more_messages_than_can_be_answered_are_refused_as_one(monkeypatch):
    monkeypatch.setattr(batches, "MESSAGES_MAX", 2)
    whole, each = codes(batch(one("A"), one("B"), one("C")))
    assert each == []
    assert whole.code == "HL7-14"
    assert whole.outcome is Outcome.REJECTED


def test_where_the_list_of_refused_ones_is_too_long_all_are_refused(monkeypatch):
    monkeypatch.setattr(batches, "LOCATION_CHARACTERS_MAX", 2)
    whole, each = codes(batch(one("A"), one("B", "ORU^R01"), one("C"), one("D", "ORU^R01")))
    assert each == ["AR"] * 4
    assert whole.outcome is Outcome.REJECTED


def test_the_reply_to_a_batch_is_a_batch_that_names_it():
    raw = batch(one("A"), one("B"))
    reply = reply_to_batch(
        divide(raw), [b"MSH|^~\\&|1\rMSA|AA|A\r", b"MSH|^~\\&|2\rMSA|AA|B\r"], control_id=b"N1", now=b"2026"
    )
    assert reply == (b"BHS|^~\\&|WASL|HUB|HIS|C|2026||||N1|B-7\rMSH|^~\\&|1\rMSA|AA|A\rMSH|^~\\&|2\rMSA|AA|B\rBTS|2\r")


def test_an_empty_reply_batch_says_that_all_was_taken_and_a_file_is_answered_by_a_file():
    raw = b"FHS|^~\\&|HIS|C|W|H|2026||||F-1\r" + batch(one("A")) + b"FTS|1\r"
    assert reply_to_batch(divide(raw), [], control_id=b"N1", now=b"2026") == (
        b"FHS|^~\\&|W|H|HIS|C|2026||||N1|F-1\rBHS|^~\\&|WASL|HUB|HIS|C|2026||||N1|B-7\rBTS|0\rFTS|1\r"
    )


def test_no_envelope_no_envelope_back():
    raw = one("A") + one("B")
    assert reply_to_batch(divide(raw), [b"x", b"y"], control_id=b"N1", now=b"2026") == b"xy"
    assert reply_to_batch(divide(raw), [], control_id=b"N1", now=b"2026") == b""


@given(
    st.lists(
        st.sampled_from(
            [b"MSH|", b"BHS|", b"FHS|", b"BTS|", b"FTS|", b"\r", b"\n", b"|", b"^~\\&", b"A", b"\xff", b"\x0b", b"\x1c"]
        ),
        max_size=60,
    )
)
def test_no_bytes_break_a_batch_and_its_messages_never_overlap(parts):
    raw = b"".join(parts)
    found = divide(raw)
    if found is None:
        return
    places = [place for message in found.messages for place in message]
    assert places == sorted(places)
    whole, each = check_batch(raw, found, RULES)
    assert len(each) == len(found.messages)
    assert whole.outcome in {check(raw).outcome, *(verdict.outcome for verdict in each), Outcome.ACCEPTED_WITH_WARNING}
    reply = reply_to_batch(found, [b"MSH\r"] * len(each), control_id=b"N1", now=b"2026")
    assert b"\x0b" not in reply
    assert b"\x1c" not in reply
