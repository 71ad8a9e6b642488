"""A device's own way to write times: said in the profile, read without guessing, refused by name where it leaves something open."""

import pytest

from hl7.devices.profile import Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.to_fhir import convert
from tests.device_captures import SETTINGS, astm, resources

TOP = 'title = "t"\nsource = "s"\nkind = "{kind}"\nstatus_default = "F"\n{more}\n[device]\nmanufacturer = "m"\nmodel = "m"\n{tables}'
LINES = r"""patterns = ['AT (?P<at>.*)', 'BORN (?P<birth_date>.*)', 'ID (?P<patient_id>\S+)', '(?P<code>K) (?P<value>\S+)']"""


def profile(*forms: str, kind: str = "line", more: str = LINES, tables: str = "") -> Profile:
    said = f"time_format = {list(forms)!r}\n" if forms else ""
    return read_profile("x", TOP.format(kind=kind, more=said + more, tables=tables))


def effective(body: bytes, by: Profile) -> tuple[str, list[str]]:
    found = convert(body, by, SETTINGS)
    one = resources(found, "Observation")[0]
    return one.get("effectiveDateTime", ""), [each.reason for each in found.unmapped if "time" in each.reason]


@pytest.mark.parametrize(
    ("form", "text", "instant"),
    [
        ("%d.%m.%y %H:%M", "23.11.26 02:10", "2026-11-23T02:10:00+03:00"),
        ("%d.%m.%y %H:%M", "3.1.26 2:10", "2026-01-03T02:10:00+03:00"),
        ("%d.%m.%Y %H:%M", "23.11.2026 02:10", "2026-11-23T02:10:00+03:00"),
        ("%d/%m/%Y %H:%M:%S", "23/11/2026 02:10:59", "2026-11-23T02:10:59+03:00"),
        ("%m/%d/%Y %H:%M", "11/03/2026 02:10", "2026-11-03T02:10:00+03:00"),
        ("%y-%m-%d %H:%M", "26-11-23 02:10", "2026-11-23T02:10:00+03:00"),
        ("%d-%b-%Y %I:%M %p", "23-Nov-2026 12:10 am", "2026-11-23T00:10:00+03:00"),
        ("%d-%b-%Y %I:%M %p", "23-NOV-2026 12:10 PM", "2026-11-23T12:10:00+03:00"),
        ("%y%m%d%H%M", "2611230210", "2026-11-23T02:10:00+03:00"),
        ("%H:%M %d.%m.%y", "02:10 23.11.26", "2026-11-23T02:10:00+03:00"),
        ("%d.%m.%y", "23.11.26", "2026-11-23"),
        ("%d.%m.%y", "31.12.68", "2068-12-31"),
        ("%d.%m.%y", "01.01.69", "1969-01-01"),
    ],
)
def test_a_time_in_the_form_of_the_profile_is_the_results_time(form, text, instant):
    assert effective(f"AT {text}\nK 4.1\n".encode(), profile(form)) == (instant, [])


@pytest.mark.parametrize("text", ["202611230210", "2026-11-23 02:10", "20261123"])
def test_the_standards_form_is_read_with_and_without_the_key(text):
    body = f"AT {text}\nK 4.1\n".encode()
    assert effective(body, profile()) == effective(body, profile("%d.%m.%y %H:%M", "%d.%m.%y"))
    assert effective(body, profile())[0].startswith("2026-11-23")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d.%m.%y %H:%M", "31.11.26 02:10"), ("%d.%m.%y %H:%M", "23.11.26 24:10"), ("%d%m%y", "320112"), ("%d%m%Y", "20261123"),
        ("%d.%m.%y %I:%M %p", "23.11.26 13:10 PM"), ("%d.%m.%y %I:%M %p", "23.11.26 00:10 AM"), ("%d.%m.%y", "١٢.١١.٢٦"), ("%d.%m.%y", "1" * 200),
    ],
)  # fmt: skip
def test_a_time_that_does_not_exist_is_a_finding_and_never_another_time(form, text):
    instant, reasons = effective(f"AT {text}\nK 4.1\n".encode(), profile(form))
    assert instant == ""
    assert [form in each for each in reasons][:1] == [True]


def test_the_finding_names_the_key_and_what_is_read_without_it():
    _, reasons = effective(b"AT 23.11.26 02:10\nK 4.1\n", profile())
    assert "time_format" in reasons[0]
    assert "YYYYMMDD[HHMM[SS]]" in reasons[0]


def test_every_language_whose_times_are_texts_has_forms():
    form = "%d.%m.%y %H:%M"
    csv = profile(form, kind="folder", more="", tables='[fields]\nat = "T"\ncode = "C"\nvalue = "V"\n')
    json = profile(form, kind="mqtt", more="", tables='[fields]\nat = "/t"\n[implied_units]\nK = "mmol/L"\n')
    for body, by in (
        (b"T,C,V\n23.11.26 02:10,K,4.1\n", csv),
        (b'{"t": "23.11.26 02:10", "K": 4.1}', json),
        (astm("H|\\^&", "P|1", "O|1|S", "R|1|^^^K|4.1|||||F||||23.11.26 02:10"), profile(form, kind="astm", more="")),
        (b"MSH|^~\\&|a\rOBR|1\rOBX|1|NM|K||4.1||||||F|||23.11.26 02:10\r", profile(form, kind="mllp", more="")),
    ):
        assert effective(body, by) == ("2026-11-23T02:10:00+03:00", [])


def test_a_birth_in_a_year_of_two_digits_has_no_century_and_is_listed():
    body = "ID 1001\nBORN 02.01.{}\nK 4.1\n"
    by = profile("%d.%m.%y", "%d.%m.%Y")
    found = convert(body.format("26").encode(), by, SETTINGS)
    assert "birthDate" not in resources(found, "Patient")[0]
    assert any("two centuries" in each.reason and each.text == "02.01.26" for each in found.unmapped)
    found = convert(body.format("1926").encode(), by, SETTINGS)
    assert resources(found, "Patient")[0]["birthDate"] == "1926-01-02"


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        (["%d.%m.%y %X"], "%X is not known"), (["%d.%m"], "year"), (["%H:%M"], "day"), (["%d.%m.%y %H"], "minute"), (["%d.%m.%y %I:%M"], "%p"),
        (["%d.%m.%y %d"], "once"), (["%d.%m.%y%"], "not known"), (["%d.%m.%y", "%m.%d.%y"], "two ways"), (["%d%m%Y", "%Y%m%d"], "two ways"),
        (["20%y-%m-%d"], "digits"), ([""], "characters"), (["%d.%m.%y %H:%I:%M %p"], "without %H"),
        (["%d.%m.%y %H:%M pm"], '"pm" says which half'), (["%d.%m.%y %I:%MAM %p"], '"AM" says'), (["%d.%m.%y p.m. %H:%M"], r'"p\.m" says'),
        (["%d.%m.%y %I:%M %p am"], '"am" says'),
    ],
)  # fmt: skip
def test_a_form_that_leaves_something_open_is_refused_by_its_key(forms, words):
    with pytest.raises(ProfileProblem, match=words) as caught:
        profile(*forms)
    assert caught.value.key == "time_format"


def test_letters_that_are_no_half_of_a_day_stay_in_a_form():
    assert profile("Datum %d.%m.%y um %H:%M Uhr").time_forms


def test_a_form_is_refused_where_times_are_numbers():
    for more in ('time_unit = "s"', 'language = "senml"'):
        with pytest.raises(ProfileProblem, match="numbers"):
            profile("%d.%m.%y", kind="mqtt", more=more)
