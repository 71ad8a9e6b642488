"""What is poor in a message is named by place, never by value; civil numbers are found among the identifiers and judged by the country's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.civil_number import CivilNumber, luhn, weighted
from hl7.message import Message
from hl7.quality import Finding, look

KUWAIT = CivilNumber(
    authorities=("PACI",),
    types=("NI",),
    pattern="[0-9]{12}",
    check="weighted",
    weights=(2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2),
)
SAUDI = CivilNumber(types=("NI",), pattern="[12][0-9]{9}", check="luhn")
GOOD = (
    b"MSH|^~\\&|HIS|C7|W|H|20300101080000||ORU^R01|W1|P|2.5\rPID|1||77^^^MRN^MR~%b^^^PACI^CI||\xd8\xaa\xd8\xac\xd8\xb1\xd8\xa8\xd8\xa9^Test||19800101|F\r"
    b"PV1|1|I\rOBR|1|||K^Potassium|||20300101\rOBX|1|NM|K||6.9|||N|||F|||20300101\r"
)


def number_for(digits):
    """A number of twelve digits whose last is right, or None where no digit is."""
    for last in "0123456789":
        if weighted(digits + last, KUWAIT.weights, 11):
            return digits + last
    return None


NUMBER = number_for("99901010000").encode()


def found(raw, **options):
    return set(look(raw, tomorrow=b"20300103", **options))


def test_a_local_escape_sequence_that_nobody_explained_is_named_by_its_field_and_one_of_the_table_is_none():
    raw = GOOD.replace(b"K^Potassium", b"K^Pot\\Zq\\assium").replace(b"1|NM|K||6.9", b"1|NM|K||\\Z01\\6.9\\Zq\\")
    assert found(raw, civil=KUWAIT) - found(GOOD, civil=KUWAIT) == {
        Finding("OBR-4", "local-escape"),
        Finding("OBX-5", "local-escape"),
    }
    assert found(raw, local={"Zq": "½"}) - found(GOOD) == {Finding("OBX-5", "local-escape")}
    assert found(raw, local={"Zq": "½", "Z01": "<"}) == found(GOOD)
    assert found(GOOD.replace(b"K^Potassium", b"K^\\E\\Zq and \\T\\Zq")) == found(
        GOOD
    )  # an escape character, and letters
    assert Finding("MSH-4", "local-escape") in look(GOOD.replace(b"|C7|", b"|C\\Zq\\7|"), tomorrow=b"20300103")


def test_a_good_message_has_no_finding():
    assert found(GOOD % NUMBER, civil=KUWAIT) == set()


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (b"19800101|F", b"19800101|", ("PID-8", "missing")),
        (b"19800101|F", b"19800101|W", ("PID-8", "unknown-code")),
        (b"|19800101|", b"||", ("PID-7", "missing")),
        (b"|19800101|", b'|""|', ("PID-7", "missing")),
        (b"|19800101|", b"|20310101|", ("PID-7", "future")),
        (b"|19800101|", b"|01/02/1980|", ("PID-7", "not-a-date")),
        (b"|19800101|", b"|19801301|", ("PID-7", "not-a-date")),
        (b"|19800101|", "|١٩٨٠٠١٠١|".encode(), ("PID-7", "not-a-date")),
        (b"|||20300101\rOBX", b"|||203505\rOBX", ("OBR-7", "future")),
        (b"PV1|1|I", b"PV1|1|Z", ("PV1-2", "unknown-code")),
        (b"K^Potassium", b"", ("OBR-4", "missing")),
        (b"|||F|||2030", b"|||Q|||2030", ("OBX-11", "unknown-code")),
        (b"|W1|", b"||", ("MSH-10", "missing")),
        (b"PACI^CI", b"OTHER^CI", ("PID-3", "missing")),
        (NUMBER, b"123", ("PID-3", "invalid")),
    ],
)
def test_each_flaw_is_named_by_its_place_and_nothing_else(old, new, finding):
    raw = GOOD % NUMBER
    assert old in raw
    assert found(raw.replace(old, new, 1), civil=KUWAIT) == {Finding(*finding)}


def test_today_is_no_future_and_a_year_alone_is_a_date():
    assert found((GOOD % NUMBER).replace(b"19800101", b"2030")) == set()
    assert found((GOOD % NUMBER).replace(b"19800101", b"20300102")) == set()


def test_a_message_without_a_segment_does_not_lack_its_fields():
    assert found(b"MSH|^~\\&|HIS|C7|W|H|20300101||ADT^A01|W1|P|2.5\r", civil=KUWAIT) == set()


def test_the_civil_number_is_found_by_authority_in_any_subcomponent_or_by_type_in_any_repetition():
    def find(identifiers, rule=KUWAIT):
        return rule.find(Message(b"MSH|^~\\&|A|B\rPID|1||" + identifiers + b"\r"))

    assert find(b"1^^^MRN~2^^^X&PACI&ISO") == "2"
    assert find(b"1^^^MRN~2^^^^NI") == "2"
    assert find(b"1^^^MRN^MR") is None
    assert find(b"^^^PACI~3^^^PACI") == "3"
    assert find("٣^^^PACI".encode()) == "\\xd9\\xa3"


def test_luhn_and_weights_tell_a_wrong_digit():
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert SAUDI.is_valid("1000000008")
    assert not SAUDI.is_valid("1000000009")
    good = NUMBER.decode()
    wrong = [good[:place] + str((int(good[place]) + 1) % 10) + good[place + 1 :] for place in range(12)]
    assert KUWAIT.is_valid(good)
    assert not any(KUWAIT.is_valid(each) for each in wrong)


@pytest.mark.parametrize("number", ["", "12345678901", "١٢٣٤٥٦٧٨٩٠١٢", "12345678901a", "-1"])
def test_what_has_not_the_form_is_no_civil_number(number):
    assert not KUWAIT.is_valid(number)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"types": ("NI",), "pattern": "("},
        {"types": ("NI",), "check": "weighted"},
        {"types": ("NI",), "check": "weighted", "weights": (1,), "modulus": 1},
    ],
)
def test_a_rule_that_cannot_be_is_refused_when_it_is_made(options):
    with pytest.raises(ValueError, match=r"names|regular|weights"):
        CivilNumber(**options)


@given(
    st.lists(
        st.sampled_from([b"PID|", b"OBX|", b"PV1|", b"|", b"^", b"~", b"&", b"\r", b"2030", b"\xff", b"F", b'""']),
        max_size=80,
    )
)
def test_no_bytes_break_the_look(parts):
    look(b"MSH|^~\\&|" + b"".join(parts), tomorrow=b"20300103", civil=KUWAIT)
