"""Where text ends being text: the place in a reply's ERR-2 is the field's, whatever stands before it, and a declared switch is no fault."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7 import undecodable
from hl7.charsets import charset_of
from hl7.check import Outcome, Rules, check
from hl7.errors import UndecodableText
from hl7.message import Message
from hl7.separators import STANDARD
from hl7.undecodable import place_of_undecodable

HEADER = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|W1|T|2.5.1||||||%b\r"


def place(rest: bytes, declared: bytes = b"UNICODE UTF-8", **rules) -> str:
    verdict = check(HEADER % declared + rest, Rules(**rules))
    assert verdict.code in {"", UndecodableText.code}
    return verdict.location


@pytest.mark.parametrize(
    ("rest", "where"),
    [
        (b"PID|1||\xff\r", "PID^1^3"),
        (b"PID|1||a^b\xff\r", "PID^1^3^1^2"),
        (b"PID|1||a~b^c&\xff\r", "PID^1^3^2^2^2"),
        (b"PID|1||a~\xff\r", "PID^1^3^2"),
        (b"OBX|1\rPID|\xff\rOBX|2|\xff\r", "PID^1^1"),
        (b"OBX|1\rOBX|2\rOBX|3||\xff", "OBX^3^3"),
        (b"OBX|1\r\nOBX|2\r\nOBX|3||\xff\r\n", "OBX^3^3"),
        (b"NTE|1||two\nlines \xff\r", "NTE^1^3"),
        (b"NTE|1||" + b"x\n" * 300 + b"\xff\r", "MSH^1^18"),
        (b"ZAB|\xff\r", "ZAB^1^1"),
        (b"\xff|x\r", "MSH^1^18"),
    ],
)
def test_the_first_field_with_bytes_that_are_no_text_is_named(rest, where):
    assert place(rest) == where


def test_a_bad_byte_in_the_header_is_named_as_hl7_counts():
    raw = (HEADER % b"UNICODE UTF-8").replace(b"|A|", b"|A\xff|")
    assert check(raw).location == "MSH^1^3"
    assert check(b"\r\n" + raw).location == "MSH^1^3"


def test_fields_are_counted_in_characters_where_these_can_hold_separators():
    hidden = b"\x81|\x81^\x81~"
    assert place(b"PID|1|" + hidden + b"|a^\xff\r", b"GB 18030-2000") == "PID^1^3^1^2"


def test_the_second_message_of_a_batch_is_counted_on():
    raw = (HEADER % b"UNICODE UTF-8") + b"PID|1\r" + (HEADER % b"UNICODE UTF-8") + b"PID|\xff\r"
    assert check(raw).location == "PID^2^1"


@pytest.mark.parametrize(
    ("declared", "value", "outcome"),
    [
        (b"~8859/6", b"\\C2D47\\\xd3\xcc\xe4", Outcome.ACCEPTED),
        (b"ASCII~8859/6", b"\\C2D47\\\xd3\xcc\xe4\\C2842\\ ok", Outcome.ACCEPTED),
        (b"ASCII~8859/6", b"\\C2D47\\\xd3\\C2842\\\xff", Outcome.ACCEPTED_WITH_WARNING),
        (b"ASCII~8859/6", b"\\C2D47\\\xd3^\xff", Outcome.ACCEPTED_WITH_WARNING),
        (b"ASCII~8859/6", b"\xd3\\C2D47\\\xd3", Outcome.ACCEPTED_WITH_WARNING),
    ],
)
def test_bytes_behind_a_switch_are_judged_by_the_set_switched_to(declared, value, outcome):
    raw = HEADER % declared + b"NTE|1||" + value + b"\rNTE|2||good\r"
    verdict = check(raw)
    assert (verdict.outcome, verdict.location) == (outcome, "" if outcome is Outcome.ACCEPTED else verdict.location)


def test_fields_beyond_the_bound_of_switches_are_a_warning_and_cost_no_time(monkeypatch):
    monkeypatch.setattr(undecodable, "SWITCHES_MAX", 3)
    raw = HEADER % b"ASCII~8859/6" + b"NTE|" + b"|".join([b"\\C2D47\\\xd3"] * 9) + b"\r"
    assert check(raw).location == "NTE^1^3"


@given(st.lists(st.sampled_from([b"MSH", b"PID", b"|", b"^", b"~", b"&", b"\r", b"\n", b"\\C2D47\\", b"\xff", b"\x81", b"\xc3\xa9"]) | st.binary(max_size=3), max_size=40).map(b"".join), st.sampled_from(["", "utf-8", "ascii", "gb18030", "cp1256", "shift_jis"]))  # fmt: skip
def test_no_bytes_make_the_search_raise_and_what_it_names_is_there(data, codec):
    raw = HEADER % b"~8859/6" + data
    where = place_of_undecodable(raw, charset_of(b"~8859/6", ord("~"), codec), STANDARD)
    if where is not None and b"\n" not in raw and codec in {"utf-8", "ascii"}:
        name, occurrence, field, *_ = where.split("^")
        found = Message(raw).get(f"{name}[{occurrence}]-{field}")
        assert found is not None
        assert where == "MSH^1^18" or not found.isascii()
