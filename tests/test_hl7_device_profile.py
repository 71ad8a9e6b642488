"""Profiles: every shipped one reads; what is wrong in one is named by its key; units are UCUM's."""

import pytest

from hl7.devices.profile import is_loinc, read_profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.read import read
from hl7.devices.units import TEXTS, ucum_of
from node.devices.profiles import chosen, find, names, text_of
from tests.device_captures import BODIES

SHIPPED = [name for name, _ in names()]
GOOD = """
title = "An analyzer"
source = "invented"
kind = "astm"
[device]
manufacturer = "Nobody"
model = "One"
"""


def test_a_profile_of_every_language_and_of_enough_devices_is_shipped():
    profiles = [find(name) for name in SHIPPED]
    assert sum(each.device.category == "laboratory" for each in profiles) >= 8
    assert sum(each.device.category in {"vital-signs", "cold-chain"} for each in profiles) >= 3
    assert {"astm", "hl7", "poct1a", "json", "modbus", "lines", "csv"} == {each.language for each in profiles}
    assert sorted(BODIES) == SHIPPED  # each has a capture, which the other tests convert


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_says_that_it_was_not_tried(name):
    assert "NOT TRIED" in text_of(name)
    assert any(words in find(name).source for words in ("not tried", "our own simulator"))


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('colour = "red"', "colour"),
        ('charset = "utf-16"', "charset"),
        ('charset = "nonsense"', "charset"),
        ('zone = "Mars"', "zone"),
        ('[serial]\nbaud = "fast"', "serial.baud"),
        ('[serial]\nparity = "maybe"', "serial.parity"),
        ("[serial]\nspeed = 1", "serial.speed"),
        ("[link]\nDeep = { a = 1 }", "link.Deep"),
        ('[fields]\ncolour = "R-3"', "fields.colour"),
        ('[fields]\ncode = "R.3"', "fields.code"),
        ('[[quality]]\nwhere = "O-12"', "quality.is"),
        ('[[quality]]\nwhere = "O-12"\nmatches = "("', "quality[1].matches"),
        ('[[quality]]\nwhere = "nowhere"\nis = "Q"', "quality.where"),
        ('[[quality]]\nwhere = "O-12"\nis = "Q"\nat = 1', "quality[1].at"),
        ('[codes]\nHGB = "718-8 Hemoglobin"', "codes.HGB"),
        ('[codes]\nHGB = "Hemoglobin"', "codes.HGB"),
        ('[codes]\nGLU = ["2345-7 Glucose", "14749-6 Glucose"]', "codes.GLU"),
        ('[no_value]\n"--" = "lost"', "no_value.--"),
        ('[identity]\nsample_holds = "luck"', "identity.sample_holds"),
        ('[[point]]\ncode = "t"\naddress = 70000', "point[1].address"),
        ("[[point]]\naddress = 1", "point[1].code"),
        ('language = "klingon"', "language"),
        ('charset = "a\\u0000"', "charset"), ('charset = "unicode_escape"', "charset"), ('charset = "utf-7"', "charset"),
        ('patterns = ["x{99999999999}"]', "patterns"), ("[[point]]\naddress = " + "9" * 5000, ""), ("patterns = " + "[" * 5000, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_profile_is_named_by_its_key(lines, key):
    text = GOOD + lines if lines.startswith("[") else lines + GOOD
    with pytest.raises(ProfileProblem) as caught:
        read_profile("one", text)
    assert caught.value.key == key, str(caught.value)


def test_a_profile_without_a_needed_key_or_with_broken_toml_is_refused():
    for text in ("", "title = 1", "= =", GOOD.replace("title", "titel"), GOOD.replace('kind = "astm"', "")):
        with pytest.raises(ProfileProblem):
            read_profile("one", text)
    with pytest.raises(ProfileProblem):
        read_profile("../one", GOOD)


def test_body_temperature_is_refused_for_what_has_no_body():
    text = GOOD + 'category = "cold-chain"\nsubject = "location"\n[codes]\ntemp = "8310-5 Body temperature"\n'
    with pytest.raises(ProfileProblem, match="8310-5"):
        read_profile("fridge", text)


def test_a_sites_own_profile_comes_before_the_shipped_one_of_its_name(tmp_path):
    (tmp_path / "sysmex-xn.toml").write_text(GOOD, encoding="utf-8")
    assert find("sysmex-xn", tmp_path).title == "An analyzer"
    assert ("sysmex-xn", True) in list(names(tmp_path))
    assert find("mindray-bc", tmp_path).device.manufacturer == "Mindray"
    assert chosen(str(tmp_path / "sysmex-xn.toml")).title == "An analyzer"
    for name in ("../sysmex-xn", "none-such"):
        with pytest.raises(ProfileProblem):
            find(name, tmp_path)


def test_the_check_digit_tells_a_loinc_code_from_a_slip():
    assert all(map(is_loinc, ("718-7", "6690-2", "59408-5", "2708-6", "85354-9", "94500-6")))
    assert not any(map(is_loinc, ("718-6", "6690-3", "59480-5", "7187", "718-77", "-7")))


# ---- units ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ucum():
    from ucumvert import PintUcumRegistry  # 2 s to start

    return PintUcumRegistry()


def test_every_code_of_the_unit_table_is_ucum(ucum):
    refused = []
    for code in sorted(set(TEXTS.values())):
        try:
            ucum.from_ucum(code)
        except Exception as error:  # ucumvert raises what its parser raises
            refused.append((code, str(error)))
    # [pH] is UCUM's; ucumvert reads it, and pint has no such unit
    assert [(code, text) for code, text in refused if not (code == "[pH]" and "pH_value" in text)] == []


def test_every_code_and_unit_of_the_shipped_profiles_is_ucum(ucum):
    for name in SHIPPED:
        profile = find(name)
        units = {*profile.units.values(), *(each.unit for each in profile.points if each.unit)}
        units |= {TEXTS.get(text, text) for text in profile.implied_units.values()}
        units |= {
            unit
            for code in (*profile.codes, *profile.by_unit)
            for target in profile.targets(code)
            for unit in target.units
        }
        for unit in units:
            ucum.from_ucum(unit)


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("K/uL", "10*3/uL", "kelvin"),
        ("PG", "pg", "petagauss"),
        ("x10^9/L", "10*9/L", None),
        ("MG/DL", "mg/dL", None),
        ("µmol/L", "umol/L", None),
        ("mmHg", "mm[Hg]", None),
    ],
)
def test_where_ucumvert_is_wrong_or_refuses_the_table_knows(ucum, text, ours, theirs):
    assert ucum_of(text, "", {}) == ours
    if theirs is None:
        with pytest.raises(Exception):  # noqa: B017  # the parser's own
            ucum.from_ucum(text)
    else:
        assert theirs in str(ucum.from_ucum(text))


@pytest.mark.parametrize("text", ["G/L", "T/L", "K", "M", "rpm", "COI", "furlong", "", " g/dL", "10^3", "MG/L/2"])
def test_a_text_of_two_meanings_or_of_none_has_no_code(text):
    assert ucum_of(text, "", {}) == ""


def test_a_profile_may_settle_what_the_table_leaves_open():
    assert ucum_of("G/L", "", {"G/L": "10*9/L"}) == "10*9/L"
    assert ucum_of("mg/dL", "", {"mg/dL": "g/L"}) == "g/L"
    assert ucum_of("{anything}", "UCUM", {}) == "{anything}"


@pytest.mark.parametrize(
    ("field", "unit", "ucum"),
    [
        ("mg/dL^^ISO+", "mg/dL", "mg/dL"), ("mmol/L^millimole per litre^99ROC", "mmol/L", "mmol/L"), ("x10^9/L^99MRC", "x10^9/L^99MRC", ""),
        ("10^9/L", "10^9/L", "10*9/L"), ("G/L^giga per litre^99ROC", "G/L", ""), ("mm[Hg]^mmHg^UCUM", "mm[Hg]", "mm[Hg]"),
    ],
)  # fmt: skip
def test_a_unit_of_a_vendors_own_list_is_the_text_that_stands_first_and_no_carets(field, unit, ucum):
    body = f"MSH|^~\\&|A|||||ORU^R01|1|P|2.5\rOBR|1|2|3|4\rOBX|1|NM|GLU||5.4|{field}|||||F\r".encode()
    (reading,) = read(body, find("hl7-analyzer")).each()
    assert (reading.unit, ucum_of(reading.unit, reading.unit_system, {})) == (unit, ucum)
