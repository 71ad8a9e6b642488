"""Rules that look into a message: which stream, or not wanted; every occurrence and repetition counts, and the first rule decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.check import Outcome, Rules, check
from hl7.message import Message, Path, facts, is_test
from hl7.routing import Rule, choose, values_at
from hl7.separators import read_separators

ORU = (
    b"MSH|^~\\&|LAB|C7|W|H|20260101||ORU^R01|W1|P|2.5\rPID|1||7^^^X~8^^^Y&1.2&ISO\r"
    b"OBR|1||||||||||||||||||||||||||^^^^^S\rOBX|1|NM|K||6.9|||HH~A\rOBX|2|NM|NA||140|||N\r"
)
CRITICAL = Rule(types=("ORU^*",), when=(("OBX-8", ("HH", "LL")),), stream="critical")


def chosen(raw, *rules):
    found = facts(raw)
    rule = choose(raw, found.route, read_separators(raw), rules)
    return rule.stream if rule else None


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("OBX-8", [b"HH", b"A", b"N"]), ("OBX[2]-8", [b"N"]), ("OBX-8[1]", [b"HH", b"N"]), ("PID-3.1", [b"7", b"8"]), ("PID-3[2].4.3", [b"ISO"]),
        ("PID-3.4.2", [b"1.2"]), ("OBR-27.6", [b"S"]), ("MSH-3", [b"LAB"]), ("MSH-2", [b"^~\\&"]), ("ZZZ-1", []), ("OBX-99", []), ("OBX-8.2", []),
    ],
)  # fmt: skip
def test_every_value_at_a_place_is_found(path, values):
    assert list(values_at(Message(ORU), Path.parse(path))) == values


def test_a_critical_flag_in_any_result_chooses_the_stream():
    assert chosen(ORU, CRITICAL) == "critical"
    assert chosen(ORU.replace(b"HH~A", b"N~LL"), CRITICAL) == "critical"
    assert chosen(ORU.replace(b"HH~A", b"N"), CRITICAL) is None
    assert chosen(ORU.replace(b"ORU^R01", b"ORM^O01"), CRITICAL) is None


def test_all_that_a_rule_names_must_hold_and_the_first_rule_that_does_decides():
    both = Rule(when=(("OBX-8", ("HH",)), ("OBR-27.6", ("S",))), stream="stat")
    assert chosen(ORU, both, CRITICAL) == "stat"
    assert chosen(ORU.replace(b"^S\r", b"^R\r"), both, CRITICAL) == "critical"
    assert chosen(ORU, Rule(senders=("HIS|*",), stream="his"), Rule(senders=("LAB|C?",), stream="lab"), both) == "lab"
    assert chosen(ORU, Rule(stream="all"), both) == "all"
    assert chosen(ORU) is None


def test_a_rule_without_a_stream_refuses_unless_an_earlier_one_takes_the_message():
    rules = Rules(routes=(CRITICAL, Rule(types=("ORU",))))
    assert check(ORU, rules).outcome is Outcome.ACCEPTED
    refused = check(ORU.replace(b"HH~A", b"N"), rules)
    assert (refused.code, refused.ack_code, refused.error_code) == ("HL7-15", "AR", "200")


def test_a_rule_that_cannot_be_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match="not a path"):
        Rule(when=(("OBX", ("A",)),), stream="x")
    with pytest.raises(ValueError, match="at most"):
        Rule(when=tuple((f"OBX-{n}", ("A",)) for n in range(1, 10)), stream="x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"T", True),
        (b"D", True),
        (b"T^A", True),
        (b"P", False),
        (b"", False),
        (b"TX", False),
        (b"t", False),
        (b'""', False),
    ],
)
def test_only_t_and_d_are_test_traffic(value, expected):
    assert is_test(facts(ORU.replace(b"|P|", b"|%b|" % value)).route) is expected


def test_a_fragment_is_not_held_to_fields_that_may_stand_in_its_other_part():
    rules = Rules(required=("PID-7",))
    assert check(ORU, rules).code == "HL7-09"
    assert check(ORU + b"DSC|next|F\r", rules).outcome is Outcome.ACCEPTED
    assert check(ORU.replace(b"|2.5\r", b"|2.5||next\r"), rules).outcome is Outcome.ACCEPTED


@given(
    st.lists(
        st.sampled_from([b"MSH|^~\\&|", b"OBX|", b"|", b"^", b"~", b"&", b"\r", b"\n", b"HH", b"\\", b"\xff"]),
        max_size=80,
    )
)
def test_what_is_found_at_a_place_is_what_the_view_says_of_each_occurrence(parts):
    raw = b"MSH|^~\\&|" + b"".join(parts)
    message = Message(raw)
    occurrences = sum(name == b"OBX" for name, _ in message.segments())
    expected = []
    for number in range(1, occurrences + 1):
        field = message.get(f"OBX[{number}]-2")
        for repetition in range(1, 1 + (field.count(b"~") + 1 if field is not None else 0)):
            value = message.get(f"OBX[{number}]-2[{repetition}].1")
            expected += [] if value is None else [value]
    assert list(values_at(message, Path.parse("OBX-2.1"))) == expected
