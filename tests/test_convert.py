"""What becomes of an HL7 v2 message in FHIR R4: values, ids, references, and the list of what has no place."""

import base64
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl7.convert.building import stable_id
from hl7.convert.codes import code_map
from hl7.convert.json_text import Number, dumps, loads, number
from hl7.convert.plan import BLOCKS, TYPES_CONVERTED
from hl7.convert.result import CannotConvert, Settings
from hl7.convert.times import hl7_time, moment
from hl7.convert.to_fhir import convert
from hl7.message import Message
from hl7.text import Text
from tests.convert_rig import ORIGIN, PID, RIYADH, converted, hospital, message, of_type
from tests.convert_tokens import messages as messages_of_words


# ---- nothing is dropped silently -------------------------------------------------------------------------------------
def _said(found) -> str:
    """Everything that a conversion says: the Bundle, attachments in plain, and the list."""
    text = found.json()
    data = (
        base64.b64decode(each).decode("utf-8", "replace") for each in re.findall(r'"data":"([A-Za-z0-9+/=]+)"', text)
    )
    return " ".join((text, *data, *(each.text for each in found.unmapped)))


def test_every_word_of_a_message_stands_in_a_resource_or_in_the_list():
    count = 0
    for name, text, words in messages_of_words():
        said = set(re.findall(r"[Ww][A-Za-z0-9]{3}\d+x", _said(convert(text.encode(), Settings()))))
        lost = [word for word in words if word not in said and word.lower() not in said]
        assert lost == [], f"{name}: {lost[:5]}"
        count += len(words)
    assert count > 300_000  # the rig makes them: an empty one would prove nothing


def test_what_is_listed_is_at_its_path():
    found = converted("ADT^A08", f"{PID}|||||||||||||||||||||||||||||Z1~Z2^Z3&Z4", "ZPI|1|x^y")
    listed = {each.path: each.text for each in found.unmapped}
    assert listed["PID-37"] == "Z1~Z2^Z3&Z4"
    assert listed["ZPI-2"] == "x^y"
    assert all(each.reason for each in found.unmapped)


def test_a_second_repetition_that_an_element_cannot_take_is_listed():
    found = converted("ADT^A08", PID + "|||||||||||||||||||||20200101~20210101")
    assert [each.reason for each in found.unmapped if each.path == "PID-29[2]"] == ["the element takes one value"]


def test_a_code_that_no_table_has_is_listed_and_not_guessed():
    found = converted("ADT^A08", "PID|1||1^^^C^MR||A^B||19900102|Q")
    assert "gender" not in of_type(found, "Patient")[0]
    assert [(each.path, each.text) for each in found.unmapped if each.path.startswith("PID-8")] == [("PID-8", "Q")]


def test_null_is_left_out_and_listed():
    found = converted("ADT^A08", 'PID|1||1^^^C^MR||A^B||""|F')
    assert "birthDate" not in of_type(found, "Patient")[0]
    assert [each.reason[:4] for each in found.unmapped if each.path == "PID-7"] == ["null"]


def test_the_outcome_names_paths_and_no_text():
    found = converted("ADT^A08", PID, "ZPI|1|secret-word")
    outcome = json.dumps(found.outcome())
    assert "ZPI-2" in outcome
    assert "secret-word" not in outcome


# ---- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", ["72.50", "0.10", "100", "-3.00", "1E3", "6.0221e23"])
def test_a_decimal_keeps_the_digits_it_was_sent_with(sent):
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", f"OBX|1|NM|K^Potassium^L||{sent}|mmol/L|||||F")
    assert f'"value":{sent}' in found.json()


def test_what_is_no_number_stays_text():
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", "OBX|1|NM|K^Potassium^L||haemolysed|mmol/L|||||F")
    observation = of_type(found, "Observation")[0]
    assert observation["valueString"] == "haemolysed"
    assert "OBX-5.1" not in {each.path for each in found.unmapped if "not a number" not in each.reason}


def test_a_sign_before_a_number_is_its_comparator():
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", "OBX|1|NM|K^Potassium^L||<0.50|mmol/L|||||F")
    assert of_type(found, "Observation")[0]["valueQuantity"] == {"value": 0.5, "comparator": "<", "unit": "mmol/L"}
    assert '"value":0.50' in found.json()


@pytest.mark.parametrize(
    ("sent", "name", "value"),
    [
        ("^1^:^128", "valueRatio", {"numerator": {"value": 1}, "denominator": {"value": 128}}),
        ("^2^-^3", "valueRange", {"low": {"value": 2}, "high": {"value": 3}}),
        (">=^10", "valueQuantity", {"value": 10, "comparator": ">="}),
        ("<>^5", "valueString", "<>^5"),
    ],
)
def test_a_structured_numeric_is_what_it_says(sent, name, value):
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", f"OBX|1|SN|K^Titre^L||{sent}||||||F")
    assert of_type(found, "Observation")[0][name] == value


def test_a_time_of_day_without_a_zone_is_never_guessed():
    lines = (PID, "PV1|1|I|W^1^2||||||||||||||||V1|||||||||||||||||||||||||20260102030405")
    raw = message("ADT^A01", *lines).replace(b"+0300", b"")
    blind = convert(raw, Settings())
    assert of_type(blind, "Encounter")[0]["period"] == {"start": "2026-01-02"}
    assert "zone" in {each.path: each.reason for each in blind.unmapped}["PV1-44"]
    told = convert(raw, Settings(zone=RIYADH))
    assert of_type(told, "Encounter")[0]["period"] == {"start": "2026-01-02T03:04:05+03:00"}
    own = convert(message("ADT^A01", *lines), Settings(zone=timezone(timedelta(hours=-5))))
    assert of_type(own, "Encounter")[0]["period"] == {"start": "2026-01-02T03:04:05+03:00"}, "MSH-7's zone comes first"


def test_a_zone_with_summer_time_gives_each_time_its_own_offset():
    zone = ZoneInfo("Europe/Berlin")
    assert moment("202601011200", zone).date_time.endswith("+01:00")
    assert moment("202607011200", zone).date_time.endswith("+02:00")


@pytest.mark.parametrize("text", ["20260230", "2026130", "20260101250000", "abc", "20260101 99", "20261301"])
def test_what_is_no_time_is_none(text):
    assert moment(text, RIYADH).date == ""


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.sampled_from(["Z", "+03:00", "-05:00", ""]))  # noqa: DTZ001  # the zone is the other one
def test_a_time_comes_back_as_it_went(when, zone):
    text = when.strftime("%Y-%m-%dT%H:%M:%S") + zone
    sent = hl7_time(text)
    assert moment(sent, RIYADH).date_time == text.replace("Z", "+00:00") + ("" if zone else "+03:00")


def test_arabic_names_are_whole_in_every_character_set():
    text = message("ADT^A08", PID).decode()
    utf8 = convert(text.encode(), Settings())
    feed = convert(text.encode("cp1256"), Settings(charset="cp1256"))
    named = convert(text.replace("|2.5.1", "|2.5.1||||||8859/6").encode("iso8859_6"), Settings())
    for found in (utf8, feed, named):
        assert of_type(found, "Patient")[0]["name"] == [{"family": "الحربي", "given": ["مريم", "عبدالله"]}]
        assert found.notes == ()


def test_an_escape_character_that_is_no_text_leaves_no_half_of_a_pair_in_the_bundle():
    raw = b"MSH|^~\\&|LIS|TEST|||20300101080000||ADT^A01|C1|P|2.5.1||||||UNICODE UTF-8\rPID|1||T7^^^TEST||TEST^Q.br.X\r"
    raw = raw.replace(b"^~\\&", b"^~\xff&").replace(b"Q.br.", b"Q\xff.br\xff")
    found = convert(raw, Settings())
    found.json().encode("utf-8")
    assert "Q\ufffd.br\ufffdX" in found.json()


def test_bytes_that_are_no_text_are_said():
    found = convert(message("ADT^A08", PID).replace("مريم".encode(), b"\xff\xfe"), Settings())
    assert "U+FFFD" in found.notes[0]


def test_escape_sequences_are_text():
    note = r"NTE|1||a\F\b\S\c\T\d\R\e\E\f\X41\ \.br\second \H\loud\N\ "
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", note)
    assert of_type(found, "ServiceRequest")[0]["note"] == [{"text": "a|b^c&d~e\\fA \nsecond loud"}]


def test_a_feeds_own_escape_sequences_are_text_and_those_of_another_are_not():
    raw = message("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", r"NTE|1||µ: \Z1\ ends")
    notes = [
        request["note"]
        for local in ({"Z1": "رمز"}, {"Z2": "رمز"}, {})
        for request in of_type(convert(raw, Settings(local_escapes=local), ORIGIN), "ServiceRequest")
    ]
    assert notes == [[{"text": "µ: رمز ends"}], [{"text": r"µ: \Z1\ ends"}], [{"text": r"µ: \Z1\ ends"}]]


# ---- resources and their relations -----------------------------------------------------------------------------------
def test_the_same_record_gives_the_same_bytes():
    for raw in hospital(20):
        assert convert(raw, Settings(), ORIGIN).json() == convert(raw, Settings(), ORIGIN).json()


def test_one_patient_has_one_id_in_all_messages_and_another_at_another_facility():
    first, second = converted("ADT^A01", PID), converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L")
    other = converted("ADT^A01", PID, facility="G")
    ids = [of_type(each, "Patient")[0]["id"] for each in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]


def test_ids_are_what_they_were_in_the_first_release():
    assert stable_id("F|Patient|urn:id:F:CLINIC|1001") == of_type(converted("ADT^A01", PID), "Patient")[0]["id"]
    assert stable_id("x") == "b518cbb2-5c20-55fa-87cf-a0e97edef621"


def test_two_values_of_one_test_are_two_observations():
    found = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L", "OBX|1|NM|K^K^L||1||||||F", "OBX|2|NM|K^K^L||2||||||F")
    observations = of_type(found, "Observation")
    assert len({each["id"] for each in observations}) == 2
    assert len(of_type(found, "DiagnosticReport")[0]["result"]) == 2


def test_every_reference_has_its_target_in_the_bundle():
    for raw in hospital(40):
        bundle = json.loads(convert(raw, Settings(zone=RIYADH), ORIGIN).json())
        there = {f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in bundle["entry"]}
        pointed = set(re.findall(r'"reference": "([^"]+)"', json.dumps(bundle)))
        assert pointed <= there
        assert len(there) == len(bundle["entry"])


def test_the_output_names_record_leaf_and_converter():
    found = convert(hospital(1)[0], Settings(), ORIGIN)
    provenance = of_type(found, "Provenance")[0]
    assert provenance["entity"][0]["what"]["identifier"]["value"] == "urn:wasl:record:clinic-7/clinic-7/his/1/41"
    assert ORIGIN.leaf in provenance["entity"][0]["what"]["display"]
    assert provenance["agent"][0]["who"]["display"] == f"Wasl converter {found.version}"
    assert provenance["recorded"] == ORIGIN.received_at
    assert all(each["resource"]["meta"]["source"] == ORIGIN.uri for each in found.bundle["entry"])


def test_no_provenance_has_an_invented_time():
    raw = message("ADT^A01", PID).replace(b"20260102030405+0300", b"20260102")
    assert of_type(convert(raw, Settings()), "Provenance") == []


@pytest.mark.parametrize(
    ("event", "status"), [("A01", "in-progress"), ("A03", "finished"), ("A05", "planned"), ("A11", "cancelled")]
)
def test_the_event_says_how_the_visit_is(event, status):
    found = converted(f"ADT^{event}", PID, "PV1|1|I|W^1^2||||||||||||||||V1")
    assert of_type(found, "Encounter")[0]["status"] == status


@pytest.mark.parametrize("event", ["A18", "A30", "A34", "A36", "A39", "A40", "A46", "A47"])
def test_a_merge_links_both_patients_and_retires_the_old_one(event):
    found = converted(f"ADT^{event}", PID, "MRG|2002^^^CLINIC^MR||||||الحربي^مريم")
    new, old = of_type(found, "Patient")
    assert old["active"] is False
    assert old["link"] == [{"type": "replaced-by", "other": {"reference": f"Patient/{new['id']}"}}]
    assert new["link"] == [{"type": "replaces", "other": {"reference": f"Patient/{old['id']}"}}]
    assert "active" not in new
    before = of_type(converted("ADT^A01", "PID|1||2002^^^CLINIC^MR||X"), "Patient")[0]
    assert old["id"] == before["id"], "the id under which it was known"


def test_a_moved_visit_retires_no_patient():
    found = converted("ADT^A45", PID, "MRG|2002^^^CLINIC^MR||||V9^^^CLINIC", "PV1|1|I")
    assert len(of_type(found, "Patient")) == 1
    assert "V9" in json.dumps(of_type(found, "Encounter"))


@pytest.mark.parametrize(
    ("sent", "status"),
    [("F", "final"), ("C", "corrected"), ("D", "entered-in-error"), ("W", "entered-in-error"), ("P", "preliminary")],
)
def test_a_correction_replaces_the_observation_under_its_id(sent, status):
    lines = [PID, "OBR|1|P1|F1|C^T^L|||||||||||||||||||||F"]
    first = converted("ORU^R01", *lines, "OBX|1|NM|K^K^L||1||||||F")
    later = converted("ORU^R01", *lines, f"OBX|1|NM|K^K^L||2||||||{sent}")
    assert of_type(first, "Observation")[0]["id"] == of_type(later, "Observation")[0]["id"]
    assert of_type(later, "Observation")[0]["status"] == status


def test_an_order_and_its_result_speak_of_one_request():
    order = converted("ORM^O01", PID, "ORC|NW|P1^HIS", "OBR|1|P1^HIS||C^T^L")
    result = converted("ORU^R01", PID, "ORC|RE|P1^HIS|", "OBR|1|P1^HIS||C^T^L")
    assert of_type(order, "ServiceRequest")[0]["id"] == of_type(result, "ServiceRequest")[0]["id"]
    assert of_type(order, "ServiceRequest")[0]["status"] == "active"


def test_a_document_stands_in_the_report_as_it_came():
    data = base64.b64encode(b"%PDF-1.4 \xff\x00").decode()
    found = converted(
        "ORU^R01", PID, "OBR|1|P1|F1|C^T^L", f"OBX|1|ED|PDF^Report^L||^application^pdf^Base64^{data}||||||F"
    )
    form = of_type(found, "DiagnosticReport")[0]["presentedForm"][0]
    assert (form["data"], form["contentType"]) == (data, "application/pdf")


def test_lines_of_a_document_are_one_text():
    found = converted(
        "MDM^T02", PID, "TXA|1|PN|TX||||||||||D1^HIS", "OBX|1|TX|N^Note^L||أول||||||F", "OBX|2|TX|N^Note^L||ثان||||||F"
    )
    attachment = of_type(found, "DocumentReference")[0]["content"][0]["attachment"]
    assert base64.b64decode(attachment["data"]).decode() == "أول\nثان"


def test_a_patient_of_a_result_is_only_mentioned():
    result, admission = converted("ORU^R01", PID, "OBR|1|P1|F1|C^T^L"), converted("ADT^A08", PID)
    assert any(name.startswith("Patient/") for name in result.mentioned)
    assert not any(name.startswith("Patient/") for name in admission.mentioned)


@pytest.mark.parametrize(
    ("said", "places"),
    [
        *(
            (kind, False)
            for kind in ("ORU^R01", "ORR^O02", "RRI^I12", "PPR^PC1", "RDR^RDR", "RAS^O17", "RDS^O13", "RRE^O12")
        ),
        *((kind, True) for kind in ("OML^O21", "REF^I12", "RDE^O11")),
    ],
)
def test_only_what_places_an_order_is_its_authority(said, places):
    found = converted(said, PID, "ORC|NW|P1^HIS", "OBR|1|P1^HIS||C^T^L", "RXO|D^Drug^L|1||mg", "RXE||D^Drug^L|1||mg")
    kinds = ("ServiceRequest", "MedicationRequest")
    requests = {f"{kind}/{each['id']}" for kind in kinds for each in of_type(found, kind)}
    assert requests
    assert not requests & set(found.mentioned) if places else requests <= set(found.mentioned)


# ---- refusals, tables, JSON ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"", "no-header"), (b"PID|1", "no-header"), (message("ACK"), "type"), (message("ZZZ^Z01"), "type")],
)
def test_what_cannot_be_converted_is_refused_with_a_code(raw, code):
    with pytest.raises(CannotConvert) as refused:
        convert(raw)
    assert refused.value.code == code


@given(st.binary(max_size=300), st.sampled_from(["ADT^A08", "ORU^R01", "SIU^S12", "MDM^T02", "RDE^O11"]))
def test_no_bytes_raise_anything_but_a_refusal(tail, kind):
    raw = message(kind, PID, "OBR|1") + tail
    json.loads(convert(raw, Settings(zone=RIYADH)).json())


ODD = (
    "²",
    "٣",
    "-1",
    "9" * 5000,
    "1e9",
    "0",
    "20260102030460",
    "99991231235959",
    "00000000",
    "20261301",
    "20260230",
    "\\X3\\",
)


@pytest.mark.parametrize("kind", ["ADT^A01", "SIU^S12", "ORU^R01", "RDE^O11", "VXU^V04", "ORM^O01", "DFT^P03"])
@pytest.mark.parametrize("odd", ODD)
def test_a_digit_that_is_none_and_a_time_that_no_calendar_has_break_no_message(kind, odd):
    every = [f"{name}|" + "|".join([odd] * 45) for name in ("PV1", "DG1", "OBR", "OBX", "RXE", "RXA", "TQ1", "FT1")]
    schedule = f"SCH|1||||||{odd}||{odd}|MIN|^^{odd}^20260102030460^99991231235959"
    resources = [f"{name}|1|A|{'|'.join([odd] * 9)}|MIN" for name in ("AIS", "AIG", "AIL", "AIP")]
    for zone in (None, RIYADH):
        json.loads(convert(message(kind, PID, schedule, *every, *resources), Settings(zone=zone)).json())


@given(
    st.lists(
        st.sampled_from(
            [
                "PID|1||1^^^C",
                "MRG|2",
                "PV1|1|I",
                "ORC|NW|1",
                "OBR|1|1",
                "OBX|1|ED|a||^^^Base64^!",
                "NTE|1||x",
                "RXA|0",
                "DG1|1||x",
                "SPM|1",
                "TXA|1",
                "SCH|1",
                "AIS|1||x|20200101|",
                "IN1|1",
                "PV1",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(sorted(TYPES_CONVERTED)),
)
def test_segments_in_any_order_convert(lines, kind):
    found = convert(message(kind, *lines), Settings())
    assert json.loads(found.json())["type"] == "transaction"


def test_every_block_of_the_tables_is_used_by_some_message():
    used = {(name, family.variants.get(name, "")) for family in TYPES_CONVERTED.values() for name, _ in BLOCKS}
    assert set(BLOCKS) <= used


def test_a_map_of_codes_gives_codes():
    assert code_map("gender").codes["F"].code == "female"
    with pytest.raises(KeyError):
        code_map("nothing")


@pytest.mark.parametrize(
    ("sent", "digits"), [("05", "5"), ("+5", "5"), (".5", "0.5"), ("5.", "5"), ("-0.0", "-0.0"), ("1e3", "1e3")]
)
def test_a_number_is_written_as_json_wants_it(sent, digits):
    assert number(sent) == Number(digits)


@pytest.mark.parametrize("sent", ["", ".", "-", "<5", "1,5", "5 mg", "NaN", "1" * 41, "٥"])
def test_what_is_no_number_is_none(sent):
    assert number(sent) is None


JSON = st.recursive(
    st.one_of(st.text(), st.booleans(), st.none(), st.sampled_from(["1.0", "72.50", "1E400"]).map(Number)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(JSON)
def test_json_comes_back_as_it_went(value):
    assert loads(dumps(value)) == value


@pytest.mark.parametrize("text", ["\ud800", '\ud8001,"x":2\ud800', "\ud800\ud800", "a\ud800b"])
def test_no_text_can_pass_for_a_number(text):
    value = {"a": text, "b": Number("1.50"), text: [text]}
    assert loads(dumps(value)) == value


def test_the_validators_lock_has_hashes_and_no_address():
    text = (Path(__file__).parent / "peers-js/package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert "://" not in text
    assert packages["node_modules/fhir"]["version"] == "4.12.0"
    assert [
        name for name, each in packages.items() if name and not each.get("inBundle") and "integrity" not in each
    ] == []


@pytest.mark.parametrize(
    ("declared", "name", "settings"),
    [
        ("", "الحربي".encode(), {}), ("", "الحربي".encode("cp1256"), {"charset": "cp1256"}), ("", "الحربي".encode("iso8859_6"), {"charset_default": "iso8859_6"}),
        ("8859/6", "الحربي".encode("iso8859_6"), {}), ("ASCII", "الحربي".encode("cp1256"), {"charset_default": "cp1256"}), ("ASCII", "الحربي".encode(), {}),
        ("UNICODE UTF-8", "الحربي".encode("cp1256"), {}), ("UNICODE UTF-8", "الحربي".encode("cp1256"), {"charset": "cp1256"}),
        ("BOGUS", "الحربي".encode(), {"charset_default": "cp1256"}), ("GB 18030-2000", "李|^".encode("gb18030")[:2], {}),
        ("BIG-5", "功".encode("big5"), {}), ("~ISO IR87", b"Yamada \x1b$B;3ED\x1b(B", {}), ("ASCII~8859/6", rb"\C2D47\%b" % "الحربي".encode("iso8859_6"), {}),
        ("", rb"Al\XD8A7\\XD984\x", {}), ("", rb"a\T\b\S\c\F\d\R\e\E\f", {}), ("", rb"one\.br\two\.sp+2\three\H\x\N\y", {}), ("", rb"a\Z1\b\unknown\c", {}),
        ("", b"bad \xff\xfe bytes\\T\\x", {}), ("ASCII", b"bad \xff\\T\\", {"charset_default": "ascii"}), ("", rb"half\Xd8\only", {}),
    ],
)  # fmt: skip
def test_a_value_is_read_by_the_converter_as_by_the_view(declared, name, settings):
    """One decoder: the character set of the feed or of MSH-18, and every escape, mean the same to both."""
    fields = [
        "MSH",
        "^~\\&",
        "HIS",
        "CLINIC",
        "",
        "",
        "20260102030405+0300",
        "",
        "ADT^A01",
        "C1",
        "P",
        "2.5.1",
        "",
        "",
        "",
        "",
        "",
        "",
    ]
    raw = "|".join([*fields[:17], declared]).encode() + b"\rPID|1||1001^^^CLINIC^MR||" + name + b"^Given\r"
    seen = Text(raw, **settings).get("PID-5.1", is_formatted=True).text
    (patient,) = of_type(convert(raw, Settings(**settings)), "Patient")
    assert patient["name"][0]["family"] == seen.strip()
    assert Message(raw).get("MSH-18") == declared.encode()


def test_validity_rank_and_county_of_names_addresses_and_numbers_are_kept_in_old_and_new_form():
    person = (
        "PID|1||1001^^^CLINIC^MR||Test^A^^^^^L^^^20200101&20210101||19900102|F||"
        "|1&Street^^Riyadh^^^SAU^H^^&North^^^20200102&20210102~2^^Jeddah^^^^^^West^^^^20200103^20210103"
        "||0551^PRN^PH^^^^^^^^^^20200104^20210104^^^^2~0552^PRN^PH^^^^^^^^^^^^^^^x"
    )
    (patient,) = of_type(converted("ADT^A08", person), "Patient")
    assert patient["name"][0]["period"] == {"start": "2020-01-01", "end": "2021-01-01"}
    assert [each["period"]["start"] for each in patient["address"]] == ["2020-01-02", "2020-01-03"]
    assert [each["district"] for each in patient["address"]] == ["North", "West"]
    assert (patient["telecom"][0]["period"]["end"], patient["telecom"][0]["rank"]) == ("2021-01-04", 2)
    assert "rank" not in patient["telecom"][1]
    assert [each.text for each in converted("ADT^A08", person).unmapped if each.path.startswith("PID-13")] == ["x"]


@pytest.mark.parametrize(
    ("sent", "codes"),
    [("ara^Arabic^ISO6392", ["ar", "ara"]), ("EN", ["en"]), ("tlh^Klingon^ISO6392", ["tlh"])],
)
def test_a_language_has_the_code_that_fhir_prescribes_beside_the_one_sent(sent, codes):
    (patient,) = of_type(converted("ADT^A08", PID + "|||||||" + sent), "Patient")
    assert [each["code"] for each in patient["communication"][0]["language"]["coding"]][: len(codes)] == codes
