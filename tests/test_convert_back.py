"""FHIR to HL7 v2: orders and reports for local systems, and what of a resource stands in no field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.convert.result import CannotConvert, Settings
from hl7.convert.to_fhir import convert
from hl7.convert.to_v2 import from_json
from hl7.message import Message
from node.cli.main import main
from tests.convert_rig import PID, converted, message, of_type

F = Settings(facility="F")
ORDER = {
    "resourceType": "ServiceRequest",
    "id": "o1",
    "status": "active",
    "intent": "order",
    "identifier": [{"value": "P1", "type": {"coding": [{"code": "PLAC"}]}}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7", "display": "Glucose"}]},
    "priority": "stat",
    "subject": {"reference": "Patient/p1"},
    "authoredOn": "2026-01-02T03:04:05+03:00",
    "note": [{"text": "صائم | fasting\nsecond"}],
}
PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "الحربي", "given": ["مريم"]}], "gender": "female"}


def _bundle(*resources: dict) -> bytes:
    entries = [{"resource": each} for each in resources]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


def test_an_order_becomes_an_oml_that_our_own_view_reads():
    made = from_json(_bundle(PATIENT, ORDER))
    view = Message(made.messages[0])
    read = {
        path: (view.get(path) or b"").decode()
        for path in ("MSH-9", "PID-5", "ORC-1", "ORC-2", "OBR-4", "TQ1-9", "NTE-3", "MSH-7")
    }
    assert read == {
        "MSH-9": "OML^O21^OML_O21",
        "PID-5": "الحربي^مريم",
        "ORC-1": "NW",
        "ORC-2": "P1",
        "OBR-4": "2345-7^Glucose^LN",
        "TQ1-9": "S",
        "NTE-3": "صائم \\F\\ fasting\\.br\\second",
        "MSH-7": "20260102030405+0300",
    }
    assert made.unmapped == ()


def test_every_value_of_a_resource_that_stands_in_no_field_is_listed():
    made = from_json(_bundle(PATIENT | {"maritalStatus": {"text": "word-1"}}, ORDER | {"doNotPerform": True}))
    assert {(each.path, each.text) for each in made.unmapped} == {
        ("entry[0].Patient.maritalStatus.text", "word-1"),
        ("entry[1].ServiceRequest.doNotPerform", "True"),
    }


def test_a_result_comes_back_from_fhir_as_it_went():
    lines = (
        PID,
        "OBR|1|P1|F1|C^Chemistry^L|||20260102030405+0300|||||||||||||||20260102030505+0300|||F",
        "OBX|1|NM|2345-7^Glucose^LN||72.50|mg/dL||H|||F",
        "OBX|2|TX|N^Note^L||سطر \\F\\ a\\.br\\b||||||C",
        "OBX|3|SN|T^Titre^L||^1^:^128||||||F",
    )
    made = from_json(converted("ORU^R01", *lines).json().encode(), F)
    view = Message(made.messages[0])
    for path in ("PID-3", "PID-5", "PID-7", "PID-8", "OBR-2", "OBR-3", "OBR-4", "OBR-7", "OBR-22", "OBR-25"):
        assert view.get(path) == Message(message("ORU^R01", *lines)).get(path), path
    assert view.get("OBX[1]-5") == b"72.50"
    assert view.get("OBX[2]-5") == "سطر \\F\\ a\\.br\\b".encode()
    assert [view.get(f"OBX[{at}]-11") for at in (1, 2, 3)] == [b"F", b"C", b"F"]
    assert view.get("OBX[3]-5.4") == b"128"


def test_the_way_there_and_back_and_there_changes_no_observation():
    first = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L||||||||||||||||||||||F", "OBX|1|NM|K^K^LN||1.50|mmol/L|||||F")
    again = convert(from_json(first.json().encode(), F).messages[0], F)
    for kind in ("Observation", "Patient"):
        one, two = of_type(first, kind)[0], of_type(again, kind)[0]
        assert one["id"] == two["id"]
        for name in ("valueQuantity", "status", "name", "birthDate"):
            assert one.get(name) == two.get(name)


def test_members_that_name_each_other_in_a_circle_end():
    one = {
        "resourceType": "Observation",
        "id": "a",
        "status": "final",
        "code": {"text": "x"},
        "hasMember": [{"reference": "Observation/a"}],
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"text": "y"},
        "result": [{"reference": "Observation/a"}],
    }
    assert from_json(_bundle(one, report)).messages[0].count(b"OBX") == 1


def test_characters_that_a_character_set_lacks_are_said():
    made = from_json(_bundle(PATIENT | {"name": [{"family": "李"}]}, ORDER), Settings(charset="cp1256"))
    assert "cp1256" in made.unmapped[-1].reason
    assert "صائم".encode("cp1256") in made.messages[0]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "content"),
        (b"[1]", "content"),
        (b"{", "content"),
        (b'{"resourceType":"Patient"}', "type"),
        (b'{"resourceType":1}', "content"),
        (b"[" * 100_000, "content"),
        (b'{"a":NaN}', "content"),
    ],
)
def test_what_holds_no_order_is_refused_with_a_code(data, code):
    with pytest.raises(CannotConvert) as refused:
        from_json(data)
    assert refused.value.code == code


ANY = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["reference", "coding", "code", "value", "text", "identifier", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(set(ORDER) | {"result", "basedOn", "presentedForm", "contained"})), ANY),
    st.sampled_from(["ServiceRequest", "DiagnosticReport"]),
)
def test_no_shape_of_a_resource_raises(body, kind):
    made = from_json(_bundle(PATIENT, body | {"resourceType": kind}))
    assert made.messages[0].startswith(b"MSH|^~\\&|")
    assert b"\n" not in made.messages[0]


def test_wasl_convert_shows_bundle_and_list(tmp_path):
    from click.testing import CliRunner

    file = tmp_path / "two.hl7"
    file.write_bytes(message("ADT^A01", PID, "ZPI|1").replace(b"\r", b"\n") + message("ACK").replace(b"\r", b"\n"))
    done = CliRunner().invoke(main, ["convert", str(file), "--zone", "Asia/Riyadh", "--facility", "F"])
    assert done.exit_code == 1, "one of the two has no conversion"
    assert json.loads(done.stdout)["resourceType"] == "Bundle"
    assert "ZPI-1" in done.stderr
    assert "message 2: not converted (type)" in done.stderr
    assert CliRunner().invoke(main, ["convert", str(file), "--zone", "nowhere"]).exit_code == 64
