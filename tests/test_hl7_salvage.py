"""A damaged header: the reply names the sender's message where that can be found, the verdict stays, and nothing is made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.ack import acknowledge, refuse
from hl7.check import NO_RULES, check
from hl7.errors import NotEr7
from hl7.message import Message
from hl7.salvage import LOOKED_AT_BYTES_MAX, salvage

NOW = b"20260101120000+0400"
GOOD = b"MSH|^~\\&|LAB|CLINIC 7|HIS|MOH|20260101||ADT^A01^ADT_A01|W0001|P|2.5.1\rPID|1||700001\r"
DAMAGED = {
    "bytes before MSH": b"\x00\x01xx" + GOOD,
    "a text before MSH": b"HELLO FROM LAB " + GOOD,
    "MSH behind another segment": b"PID|1||700001\r" + GOOD,
    "a second VT": b"\x0b" + GOOD,
    "small letters": GOOD.replace(b"MSH", b"msh"),
    "one small letter": GOOD.replace(b"MSH", b"MsH"),
    "a blank before MSH-1": GOOD.replace(b"MSH|", b"MSH |"),
    "a blank for MSH-1": GOOD.replace(b"MSH|", b"MSH "),
    "no MSH-1": GOOD.replace(b"MSH|^~\\&|", b"MSH"),
    "a letter for every separator": GOOD.replace(b"|", b"q"),
    "a digit for every separator": GOOD.replace(b"|", b"7").replace(b"CLINIC 7", b"CLINIC").replace(b"2.5.1", b"2.5"),
    "a UTF-16 half": b"\xff\xfe" + GOOD,
}


def reply_to(raw: bytes) -> bytes:
    return acknowledge(raw, check(raw, NO_RULES), control_id=b"N1", now=NOW)


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_the_reply_to_a_damaged_header_carries_the_senders_id_and_the_verdict_stays(raw):
    verdict = check(raw, NO_RULES)
    assert (verdict.code, verdict.ack_code, verdict.facts) == (NotEr7.code, "AA", None)
    reply = Message(reply_to(raw))
    assert reply.read(["MSA-1", "MSA-2", "MSH-9", "MSH-3"]) == [b"AA", b"W0001", b"ACK^A01^ACK", b""]
    assert (reply.get("MSH-6") or b"").startswith(b"CLINIC")
    assert reply.get("ERR-3.1") == b"100"


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_refusal_for_want_of_room_carries_it_too(raw):
    reply = Message(refuse(raw, ack_code="AR", error_code="207", text="No room", control_id=b"N1", now=NOW))
    assert reply.read(["MSA-1", "MSA-2"]) == [b"AR", b"W0001"]


def test_the_sender_is_named_where_its_name_is_left():
    assert salvage(b"xx" + GOOD).route[:2] == (b"LAB", b"CLINIC 7")
    assert salvage(GOOD.replace(b"MSH|^~\\&|", b"MSH")).route[:2] == (b"LAB", b"CLINIC 7")
    assert salvage(GOOD.replace(b"MSH|^~\\&|LAB|", b"MSH")).route[:2] == (b"", b"CLINIC 7")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"PID|1||W0001", b"MSHello", b"MSH", b"MSHaaaaaHISaTEST\r", "مرحبا".encode(), b"MSH\r\r\r\r\r\r", b"{}" * 99,
        b"x MSH|^~\\&|LAB|C|H|M|2026||nothing|W0001|P\r", b"x MSH|^~\\&|RAD|C|ADT^A01|W0001\r", b"a" * LOOKED_AT_BYTES_MAX + GOOD,
        b"x MSH|^~\\&|LAB|C|H|M|2026||ADT^A01\rW0001|P\r",
    ],
)  # fmt: skip
def test_without_a_message_type_in_its_place_nothing_is_guessed(raw):
    assert salvage(raw).control_id == b""


@given(
    st.sampled_from([b"msh|", b"x MSH", b"MSH ", b"\x00", b"xx" + GOOD[:60]]),
    st.lists(st.sampled_from([b"|", b"^", b"ADT^A01", b"ORU", b"\r", b"\n", b"\x0b", b"\x1c", b"W1", b"MSH", b"msh"]) | st.binary(max_size=5), max_size=40).map(b"".join),
)  # fmt: skip
def test_no_damaged_bytes_put_a_segment_or_a_frame_byte_into_the_reply(start, data):
    raw = start + data
    reply = reply_to(raw)
    assert not {0x0B, 0x1C, 0x0A} & set(reply)
    assert [segment[:3] for segment in reply.split(b"\r")] in ([b"MSH", b"MSA", b""], [b"MSH", b"MSA", b"ERR", b""])
    message = Message(reply)
    assert message.read(["MSH-10", "MSH-19", "MSA-4", "ERR-9"]) == [b"N1", None, None, None]
    if check(raw).facts is None:
        assert message.get("MSA-2") == salvage(raw).control_id.replace(b"|", b"\\F\\").translate(None, b"\r\n\x0b\x1c")
