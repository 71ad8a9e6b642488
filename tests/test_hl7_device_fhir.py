"""Results of devices as FHIR: what is kept as it was sent, what is never guessed, whose it is, and that nothing goes missing."""

import json
import random
import re

import pytest

from hl7.convert.result import CannotConvert, Settings
from hl7.devices.profile import read_profile
from hl7.devices.to_fhir import convert
from hl7.devices.values import sfloat, shifted
from node.devices.profiles import find
from tests import fhir_oracle
from tests.convert_rig import message
from tests.device_captures import BODIES, ORIGIN, RIYADH, SETTINGS, astm, converted, observations, resources

HEADER = "H|\\^&|||XN-10^1^2||||||||E1394-97"
LOINC = "http://loinc.org"


def xn(*results: str, order: str = "O|1||^^S-1^M|^^^^CBC|||||||N", person: str = "P|1||1001", **settings: object):
    return converted("sysmex-xn", astm(HEADER, person, order, *results, "L|1|N"), **settings)


def one(
    value: str, unit: str = "g/dL", rest: str = "||N||F||||20261122101530", code: str = "HGB", **settings: object
) -> dict:
    return observations(xn(f"R|1|^^^^{code}^1|{value}|{unit}{rest}", **settings))[code]


# ---- values -----------------------------------------------------------------------------------------------------------
def test_digits_stand_as_they_were_sent():
    found = xn("R|1|^^^^HGB^1|13.20|g/dL||N||F", "R|2|^^^^WBC^1|007.0|10*3/uL||N||F")
    assert '"value":13.20,' in found.json()
    assert '"value":7.0,' in found.json()


@pytest.mark.parametrize(
    ("text", "comparator", "digits"),
    [
        ("<0.01", "<", 0.01),
        (">100", ">", 100),
        (">= 5", ">=", 5),
        ("=<3", "<=", 3),
        ("≤3", "<=", 3),
        ("-4", None, -4),
        (".5", None, 0.5),
    ],
)
def test_a_comparison_is_a_number_with_its_comparator(text, comparator, digits):
    value = one(text)["valueQuantity"]
    assert (value.get("comparator"), value["value"]) == (comparator, digits)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("----", "error"), ("*", "unknown"), ("", "unknown"), ("NaN", "not-a-number"), ("+INFINITY", "positive-infinity"), ("-Inf", "negative-infinity"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_a_reason_with_the_devices_own_mark(text, reason):
    found = one(text)
    assert found["dataAbsentReason"]["coding"][0]["code"] == reason
    assert found["dataAbsentReason"].get("text", "") == text
    assert not any(name.startswith("value") for name in found)


@pytest.mark.parametrize("text", ["NEGATIVE", "1:320", "++", "7,1", "1.2.3", "12.3*", "<", "5-10", "١٢"])
def test_what_is_no_number_stays_text(text):
    found = one(text.replace("^", "&S&"))
    assert found["valueString"] == text
    assert "valueQuantity" not in found


def test_a_comma_is_a_decimal_mark_only_where_the_profile_says_so():
    text = 'title = "t"\nsource = "s"\nkind = "astm"\ndecimal_mark = ","\n[device]\nmanufacturer = "m"\nmodel = "m"\n'
    body = astm(HEADER, "P|1", "O|1|S-1", "R|1|^^^K|4,10|mmol/L", "R|2|^^^NA|1.000,5|mmol/L")
    found = observations(convert(body, read_profile("x", text), SETTINGS))
    assert found["K"]["valueQuantity"]["value"] == 4.1
    assert found["NA"]["valueString"] == "1.000,5"


@pytest.mark.parametrize(
    ("raw", "digits", "reason"),
    [
        (0x07FF, "", "not-a-number"), (0x0800, "", "unknown"), (0x07FE, "", "positive-infinity"), (0x0802, "", "negative-infinity"),
        (0x0801, "", "unsupported"), (0xF16E, "36.6", ""), (0x0062, "98", ""), (0xFF9C, "-10.0", ""), (0x1005, "50", ""),
    ],
)  # fmt: skip
def test_sfloats_that_are_no_numbers_have_a_reason(raw, digits, reason):
    assert sfloat(raw) == (digits, reason)


def test_a_scale_moves_digits_and_rounds_nothing():
    assert [shifted(*each) for each in ((-185, -1), (400, -1), (5, -3), (0, 2), (7, 2), (-1, 0))] == [
        "-18.5", "40.0", "0.005", "0", "700", "-1",
    ]  # fmt: skip


# ---- units and codes --------------------------------------------------------------------------------------------------
def test_an_unknown_unit_is_kept_without_a_code_and_listed():
    found = xn("R|1|^^^^HGB^1|13.2|stone||N||F")
    quantity = observations(found)["HGB"]["valueQuantity"]
    assert quantity == {"value": 13.2, "unit": "stone"}
    assert [each.text for each in found.unmapped if "unit is in no table" in each.reason] == ["stone"]


def test_the_devices_own_code_and_unit_stand_beside_loinc_and_ucum():
    found = one("6.8", "K/uL", code="WBC")
    assert found["valueQuantity"]["unit"] == "K/uL"
    assert found["valueQuantity"]["code"] == "10*3/uL"
    assert [(each["system"], each["code"]) for each in found["code"]["coding"]] == [
        (LOINC, "6690-2"),
        ("urn:wasl:device:sysmex-xn", "WBC"),
    ]


def test_a_unit_is_never_converted():
    assert one("132", "g/L")["valueQuantity"] == {
        "value": 132,
        "unit": "g/L",
        "system": "http://unitsofmeasure.org",
        "code": "g/L",
    }


def test_loinc_is_left_out_where_the_unit_is_another():
    body = astm(HEADER, "P|1||1", "O|1|S-1", "R|1|^^^GLU|5.6|mmol/L", "R|2|^^^UREA|40|mg/dL")
    found = observations(converted("roche-cobas-c111", body))
    assert found["GLU"]["code"]["coding"][0]["code"] == "14749-6"
    assert [each["code"] for each in found["UREA"]["code"]["coding"]] == ["UREA"]
    assert any("LOINC left out" in note["text"] for note in found["UREA"]["note"])


def test_an_unknown_code_is_kept_and_listed():
    found = xn("R|1|^^^^XYZ^1|1|%||N||F")
    assert [each["code"] for each in observations(found)["XYZ"]["code"]["coding"]] == ["XYZ"]
    assert any(each.text == "XYZ" and "[codes]" in each.reason for each in found.unmapped)


# ---- status, repeats, corrections --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sent", "status"),
    [("F", "final"), ("C", "corrected"), ("P", "preliminary"), ("X", "cancelled"), ("", "unknown"), ("?", "unknown")],
)
def test_a_results_status_is_the_devices(sent, status):
    assert one("1", rest=f"||N||{sent}")["status"] == status


def test_a_correction_replaces_its_result_and_a_rerun_does_not():
    def sent(value: str, status: str, time: str) -> dict:
        return observations(xn(f"R|1|^^^^HGB^1|{value}|g/dL||N||{status}||||{time}"))["HGB"]

    first, corrected, rerun = (
        sent("13.2", "F", "20261122101530"),
        sent("12.9", "C", "20261122101530"),
        sent("13.0", "F", "20261122104500"),
    )
    assert first["id"] == corrected["id"]
    assert corrected["status"] == "corrected"
    assert rerun["id"] != first["id"]


def test_two_results_of_one_code_in_one_message_are_two():
    found = xn("R|1|^^^^HGB^1|13.2|g/dL||N||F||||20261122101530", "R|2|^^^^HGB^1|13.3|g/dL||N||F||||20261122101530")
    assert sorted(each["valueQuantity"]["value"] for each in resources(found, "Observation")) == [13.2, 13.3]


def test_a_samples_number_that_comes_again_another_day_is_another_specimen():
    ids = {
        resources(xn(f"R|1|^^^^HGB^1|1|g/dL||N||F||||{day}101530"), "Specimen")[0]["id"] for day in ("20261122", "20261123")
    }  # fmt: skip
    assert len(ids) == 2


def test_a_transfer_that_comes_again_makes_the_same_resources():
    assert converted("sysmex-xn").json() == converted("sysmex-xn").json()


def test_a_report_is_no_more_final_than_its_results():
    def state(*statuses: str) -> str:
        found = xn(*(f"R|{at}|^^^^HGB{at}|1|g/dL||N||{each}" for at, each in enumerate(statuses, start=1)))
        return resources(found, "DiagnosticReport")[0]["status"]

    assert [state("F", "F"), state("F", "P"), state("F", "C"), state("X"), state("F", "X"), state("")] == [
        "final", "preliminary", "corrected", "cancelled", "final", "unknown",
    ]  # fmt: skip


# ---- times ------------------------------------------------------------------------------------------------------------
def test_a_time_without_a_zone_has_the_sites_or_loses_its_time_of_day():
    assert one("1")["effectiveDateTime"] == "2026-11-22T10:15:30+03:00"
    found = xn("R|1|^^^^HGB^1|1|g/dL||N||F||||20261122101530", zone=None)
    assert resources(found, "Observation")[0]["effectiveDateTime"] == "2026-11-22"
    assert any("zone" in each.reason and each.text == "20261122101530" for each in found.unmapped)


def test_the_time_of_arrival_is_kept_beside_the_devices():
    found = converted("sysmex-xn")
    assert resources(found, "Provenance")[0]["recorded"] == ORIGIN.received_at
    assert {each["issued"] for each in resources(found, "Observation")} == {ORIGIN.received_at}


# ---- whose it is ------------------------------------------------------------------------------------------------------
def test_the_patient_is_the_one_whom_the_hospital_system_has_announced():
    from hl7.convert.to_fhir import convert as convert_message

    adt = convert_message(
        message("ADT^A01", "PID|1||1001^^^CLINIC^MR||الحربي^مريم||19900102|F"),
        Settings(zone=RIYADH, facility="clinic-7"),
    )
    known = [each["resource"]["id"] for each in adt.bundle["entry"] if each["resource"]["resourceType"] == "Patient"]
    found = converted("mindray-bc")
    patient = resources(found, "Patient")[0]
    assert [patient["id"]] == known
    assert patient["name"] == [{"family": "الحربي", "given": ["مريم", "عبدالله"]}]
    assert f"Patient/{patient['id']}" in found.mentioned  # the device is no authority for whom it measures


QUALITY = {
    "sysmex-xn": BODIES["sysmex-xn"].replace(b"|N||||||||||||||F\r", b"|Q||||||||||||||F\r"),
    "horiba-micros60": BODIES["horiba-micros60"].replace(b"S-4713", b"QC-4713"),
    "mindray-bc": BODIES["mindray-bc"].replace(b"|7|P|", b"|7|Q|"),
    "roche-cobas-c111": BODIES["roche-cobas-c111"].replace(b"||N||||||||||||||F\r", b"||Q||||||||||||||F\r"),
    "abbott-istat": BODIES["abbott-istat"].replace(b'role_cd V="OBS"', b'role_cd V="EQC"'),
    "beckman-access": BODIES["beckman-access"].replace(b"|||||||||||Serum", b"|||||||Q||||Serum"),
    "snibe-maglumi": BODIES["snibe-maglumi"]
    .replace(b"S-4716", b"Control 2")
    .replace(b"P|1\r", b"P|1||1009||Al Harbi^Salem\r"),
    "urine-strip-lines": BODIES["urine-strip-lines"].replace(b"U-17", b"CTRL-1"),
}


@pytest.mark.parametrize("name", sorted(QUALITY))
def test_a_quality_control_never_reaches_a_patient(name):
    assert QUALITY[name] != BODIES[name]
    found = converted(name, QUALITY[name])
    text = found.json()
    kinds = {each["resource"]["resourceType"] for each in found.bundle["entry"]}
    assert kinds <= {"Device", "Observation", "Provenance"}
    assert "Patient/" not in text
    assert "الحربي" not in text
    for each in resources(found, "Observation"):
        assert each["subject"]["reference"].startswith("Device/")
        assert each["meta"]["tag"][0]["code"] == "quality-control"


def test_a_number_that_the_instrument_invents_names_nobody():
    found = xn("R|1|^^^^HGB^1|1|g/dL||N||F", order="O|1||^^ERR00001^A|^^^^CBC", person="P|1")
    assert resources(found, "Specimen") == []
    assert resources(found, "Patient") == []
    assert any(each.text == "ERR00001" for each in found.unmapped)


def test_results_without_a_patient_have_no_subject_and_it_is_said():
    found = xn("R|1|^^^^HGB^1|1|g/dL||N||F", person="P|1")
    assert "subject" not in resources(found, "Observation")[0]
    assert any("no patient is named" in note for note in found.notes)


def test_a_person_never_leaks_into_the_results_of_the_next():
    body = astm(
        HEADER,
        "P|1||1001||Al Harbi^Salem",
        "O|1||^^S-1^M",
        "R|1|^^^^HGB|1|g/dL||N||F",
        "P|2",
        "O|1||^^S-2^M",
        "R|1|^^^^WBC|2|%||N||F",
        "L|1|N",
    )
    found = observations(converted("sysmex-xn", body))
    assert "subject" in found["HGB"]
    assert "subject" not in found["WBC"]


def test_a_fridge_is_a_place_and_its_temperature_no_bodys():
    found = converted("fridge-modbus")
    temperature = observations(found)["temperature"]
    assert temperature["subject"]["reference"].startswith("Location/")
    assert '"value":-18.5' in found.json()
    assert "8310-5" not in found.json()
    assert temperature["effectiveDateTime"] == "2026-11-22T10:15:30.500Z"


def test_a_blood_pressure_is_one_observation_of_its_parts():
    for name in ("monitor-pcd01", "vitals-mqtt"):
        panel = [each for each in resources(converted(name), "Observation") if "component" in each]
        assert len(panel) == 1
        assert panel[0]["code"]["coding"][0]["code"] == "85354-9"
        parts = {each["code"]["coding"][0]["code"]: each["valueQuantity"]["value"] for each in panel[0]["component"]}
        assert parts == {"8480-6": 118, "8462-4": 76, "8478-0": 90}


def test_oxygen_saturation_has_both_codes_that_the_profile_of_vital_signs_asks_for():
    found = converted("monitor-pcd01")
    codings = observations(found)["150456"]["code"]["coding"]
    assert [each["code"] for each in codings] == ["59408-5", "2708-6", "150456"]
    assert codings[-1]["system"] == "urn:iso:std:iso:11073:10101"
    assert '"value":36.80' in found.json()


# ---- the whole --------------------------------------------------------------------------------------------------------
def test_every_resource_of_every_profile_passes_the_independent_validator():
    fhir_oracle.need()
    found = [
        converted(name, body, origin=origin)
        for name, body in [*BODIES.items(), *QUALITY.items()]
        for origin in (ORIGIN, None)
    ]
    texts = [json.dumps(entry["resource"]) for each in found for entry in json.loads(each.json())["entry"]]
    errors = [(text[:200], said) for text, said in zip(texts, fhir_oracle.errors_of(texts), strict=True) if said]
    assert errors == []
    assert len(texts) > 250


@pytest.mark.parametrize("name", sorted(BODIES))
def test_every_reference_points_to_what_is_there(name):
    entries = json.loads(converted(name).json())["entry"]
    there = {f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in entries}
    asked = set(re.findall(r'"reference": ?"([^"]+)"', json.dumps(entries)))
    assert asked <= there


def _filled(name: str, letters: str, fields: int) -> tuple[bytes, list[str]]:
    """Records with a word of its own in every field and component that holds a text."""
    words: list[str] = []

    def word() -> str:
        words.append(f"w{len(words):04}q")
        return words[-1]

    records = []
    for letter in letters:
        record = [letter, "1", *(f"{word()}^{word()}^{word()}\\{word()}" for _ in range(fields))]
        records.append("|".join(record))
    return astm(
        "H|\\^&|" + "|".join(["", "", f"{word()}^{word()}^{word()}", *(word() for _ in range(9))]), *records, "L|1|N"
    ), words


@pytest.mark.parametrize("name", ["sysmex-xn", "roche-cobas-c111", "snibe-maglumi", "cepheid-genexpert"])
@pytest.mark.parametrize("letters", ["PCORCRC", "POR", "R", "PORXMSOR"])
def test_no_value_of_a_transfer_is_lost_without_being_listed(name, letters):
    body, words = _filled(name, letters, 28)
    for flagged in (body, body.replace(b"|P|", b"|Q|")):
        found = converted(name, flagged)
        said = found.json() + "".join(f"{each.text} " for each in found.unmapped) + " ".join(found.notes)
        assert [each for each in words if each not in said] == []


@pytest.mark.parametrize("name", ["mindray-bc", "monitor-pcd01"])
def test_no_value_of_a_devices_message_is_lost_without_being_listed(name):
    words: list[str] = []

    def word() -> str:
        words.append(f"w{len(words):04}q")
        return words[-1]

    lines = ["MSH|^~\\&|" + "|".join(word() for _ in range(4)) + "|20261122101530||ORU^R01|1|P|2.5.1"]
    for segment, count in (
        ("PID", 30),
        ("PV1", 10),
        ("ORC", 12),
        ("OBR", 40),
        ("NTE", 3),
        ("OBX", 18),
        ("NTE", 3),
        ("OBX", 18),
        ("SPM", 20),
        ("ZZZ", 4),
    ):
        fields = ["1", *(f"{word()}^{word()}^{word()}^{word()}~{word()}" for _ in range(count))]
        if segment == "OBX":
            fields[1] = "ST"
        lines.append(f"{segment}|" + "|".join(fields))
    words = [each for each in words if any(each in line for line in lines)]
    found = converted(name, "".join(f"{line}\r" for line in lines).encode())
    said = found.json() + "".join(f"{each.text} " for each in found.unmapped) + " ".join(found.notes)
    assert [each for each in words if each not in said] == []


@pytest.mark.parametrize("name", sorted(BODIES))
def test_damaged_bodies_are_converted_or_refused_and_nothing_else(name):
    rng = random.Random(name)  # the same on every run
    body = BODIES[name]
    profile = find(name)
    for _ in range(150):
        spoilt = bytearray(body)
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(len(spoilt))
            match rng.randrange(4):
                case 0:
                    spoilt[at] = rng.randrange(256)
                case 1:
                    del spoilt[at : at + rng.randrange(1, 30)]
                case 2:
                    spoilt[at:at] = rng.choice(
                        (b"|", b"^", b"\\", b"\r", b"{", b"[", b'"', b"<", b"\x00", b"-", b"9" * 30, b"\xff")
                    )
                case 3:
                    spoilt[at:at] = spoilt[at : at + rng.randrange(1, 60)]
            if not spoilt:
                break
        try:
            json.loads(convert(bytes(spoilt), profile, SETTINGS, ORIGIN).json())
        except CannotConvert:
            continue
