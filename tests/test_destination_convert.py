"""Destinations that get another form than what came: HL7 v2 at a FHIR server, FHIR's orders and reports at a system that listens for HL7 v2."""

import json
import os
import subprocess
import time
from dataclasses import replace

import pytest
import urllib3

from hl7.convert.json_text import dumps
from hl7.convert.result import Origin, Settings, Unmapped
from hl7.convert.to_fhir import convert
from hl7.convert.to_v2 import from_json
from hl7.message import Message
from node.clock import iso
from node.config import load
from node.config_destinations import FhirOut, MllpOut
from node.destinations import conversion, fhir_known
from node.destinations.conversion import Tally, ToFhir
from node.destinations.fhir import FhirSink
from node.destinations.fhir_newer import is_newer
from node.destinations.plug import ER7, FHIR_JSON, End, Outgoing
from node.destinations.wanted import selection_of
from tests import fhir_oracle
from tests.convert_rig import PID, corpus, hospital, message
from tests.destination_rig import EAGER, destination, parked, to
from tests.fhir_rig import FhirFeed
from tests.fhir_store import FhirStore
from tests.node_rig import ROOT, Feed, Node, Realm, free_port, running, wait_until
from tests.test_convert_back import ORDER, PATIENT
from tests.test_destination_config import GOOD, problems

RICH = "PID|1||1001^^^CLINIC^MR||الحربي^مريم^عبدالله||19900102|F|||شارع الملك^^الرياض"
THIN = "PID|1||1001^^^CLINIC^MR||الحربي^مريم"
RESULT = (
    "PV1|1|O|||||77^Test^Doctor",
    "OBR|1|P-1|F-1|1^Test||20260102|20260102|",
    "OBX|1|NM|2345-7^Glucose^LN||72.50|mg/dL|||||F",
)
ADMISSION = message("ADT^A01", RICH, "PV1|1|I|ward^12^3")


@pytest.fixture
def store():
    with FhirStore().serving() as found:
        yield found


def sink(store, *, tally=None, manners=None, **keys) -> FhirSink:
    to_server = FhirOut.model_validate(
        {"name": "server", "kind": "fhir", "url": store.url, "streams": ("his",), **keys}
    )
    return FhirSink(to_server, convert=ToFhir(to_server, manners or {}, tally or Tally()))


def outgoing(body: bytes, place: int = 41, **more) -> Outgoing:
    origin = Origin(
        facility="F", stream="his", epoch=1, seq=place, leaf=f"{place:064x}", received_at="2026-11-22T09:30:00.123Z"
    )
    made = Outgoing("clinic-7", "his", place, 0, 1, place, ER7, "ADT^A01", "C1", body, feed="his", origin=origin)
    return made._replace(**more)


def result(number: int, pid: str = THIN) -> bytes:
    return message(
        "ORU^R01", pid, *(line.replace("P-1", f"P-{number}").replace("F-1", f"F-{number}") for line in RESULT)
    )


# ---- HL7 v2 at a FHIR server ---------------------------------------------------------------------------------------------
def test_a_result_is_stored_and_its_thin_patient_does_not_take_the_place_of_a_richer_one(store):
    client = sink(store)
    assert client.deliver(outgoing(ADMISSION, 1)).end is End.TAKEN
    (before,) = store.of("Patient")
    assert before["birthDate"] == "1990-01-02"
    for at in (2, 3):
        assert client.deliver(outgoing(result(at), at)).end is End.TAKEN
    client.close()
    assert store.of("Patient") == [before]
    assert len(store.of("Observation")) == 2
    assert {each["valueQuantity"]["value"].digits for each in store.of("Observation")} == {"72.50"}
    assert before["name"][0]["given"] == ["مريم", "عبدالله"]


def test_a_patient_whom_a_result_mentions_first_is_made_and_an_admission_then_says_more(store):
    client = sink(store)
    client.deliver(outgoing(result(1), 1))
    (thin,) = store.of("Patient")
    client.deliver(outgoing(ADMISSION, 2))
    (rich,) = store.of("Patient")
    assert ("birthDate" in thin, rich["birthDate"], rich["id"]) == (False, "1990-01-02", thin["id"])
    client.close()
    again = sink(store)  # a new start remembers nothing of the server
    again.deliver(outgoing(result(3), 3))
    again.close()
    assert store.of("Patient") == [rich]


def test_a_message_that_is_sent_again_changes_nothing_also_after_another_epoch_was_opened(store):
    for at, raw in enumerate((ADMISSION, result(1), message("ADT^A08", RICH, "AL1|1||^Penicillin"))):
        client = sink(store)
        assert client.deliver(outgoing(raw, at)).end is End.TAKEN
        client.close()
        resources, versions = dict(store.resources), dict(store.versions)
        again = sink(store)  # as after a crash: nothing of the server is remembered
        assert again.deliver(outgoing(raw, at)).end is End.TAKEN
        assert (store.resources, store.versions) == (resources, versions)
        origin = replace(outgoing(raw, at).origin, epoch=2, seq=0)  # what was carried into another epoch keeps its leaf
        assert again.deliver(outgoing(raw, at, epoch=2, seq=0, origin=origin)).end is End.TAKEN
        again.close()
        assert set(store.resources) == set(resources)


def test_two_messages_of_one_batch_never_share_a_resource_that_nothing_names(store):
    client = sink(store)
    for part in (0, 1):
        place = replace(outgoing(b"").origin, part=part)
        client.deliver(outgoing(message("ADT^A08", RICH, f"AL1|1||^Allergy {part}"), part=part, origin=place))
    client.close()
    assert len(store.of("AllergyIntolerance")) == 2
    assert len(store.of("Provenance")) == 2


def test_what_somebody_else_made_between_question_and_transaction_is_asked_for_once_more(store):
    client = sink(store)
    client.deliver(outgoing(ADMISSION, 1))
    (rich,) = store.of("Patient")
    client.close()
    again = sink(store)
    store.answers = [404] * len(convert(result(2), Settings(facility="F")).mentioned)  # the server's copy lags
    assert again.deliver(outgoing(result(2), 2)).end is End.TAKEN
    again.close()
    assert store.of("Patient") == [rich]


def test_a_server_that_has_lost_what_it_was_known_to_have_gets_it_again(store):
    client = sink(store)
    client.deliver(outgoing(result(1), 1))
    store.resources.clear()
    assert client.deliver(outgoing(result(2), 2)).end is End.TAKEN
    assert len(store.of("Patient")) == 1
    store.requests.clear()
    store.refusal = 422
    assert client.deliver(outgoing(result(3), 3)).end is End.REFUSED
    assert [method for method, _ in store.requests].count("POST") == 2
    client.close()


def test_what_the_server_is_known_to_have_is_not_asked_for_again(store):
    client = sink(store)
    for at in range(5):
        client.deliver(outgoing(result(at), at))
    client.close()
    asked = [path for method, path in store.requests if method == "GET"]
    assert len(asked) == len(set(asked))
    known = fhir_known.Known()
    known.add(f"Patient/{at}" for at in range(fhir_known.KNOWN_MAX + 10))
    assert ("Patient/0" in known, len(known)) == (False, fhir_known.KNOWN_MAX)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (401, End.BROKEN),
        (403, End.BROKEN),
        (405, End.BROKEN),
        (400, End.BROKEN),
        (302, End.BROKEN),
        (500, End.LATER),
        (429, End.LATER),
    ],
)
def test_a_server_that_does_not_say_what_it_has_is_sent_nothing(store, status, end):
    client = sink(store)
    store.answers = [status]
    assert client.deliver(outgoing(result(1))).end is end
    client.close()
    assert [method for method, _ in store.requests] == ["GET"]


def test_as_a_message_the_bundle_begins_with_its_header_and_asks_nothing_of_its_receiver(store):
    client = sink(store, convert="message")
    assert client.deliver(outgoing(result(1))).end is End.TAKEN
    client.close()
    assert store.requests == [("POST", "$process-message")]
    (bundle,) = store.bodies
    assert (bundle["type"], bundle["entry"][0]["resource"]["resourceType"]) == ("message", "MessageHeader")
    assert not [entry for entry in bundle["entry"] if "request" in entry]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (message("ADT^A01", PID).replace(b"|P|2.5.1", b"|T|2.5.1"), "test"), (message("ADT^A01", PID).replace(b"|P|2.5.1", b"|D|2.5.1"), "test"),
        (message("ACK"), "type"), (message("QBP^Q11"), "type"), (b"PID|1||7", "no-header"), (b"", "no-header"),
        (message("ADT^A01") + b"NTE|1\r" * 20_001, "too-large"),
    ],
    ids=["training", "debugging", "acknowledgement", "query", "no header", "nothing", "too many segments"],
)  # fmt: skip
def test_what_cannot_or_must_not_be_converted_is_refused_with_its_reason_and_nothing_is_sent(store, body, detail):
    tally = Tally()
    client = sink(store, tally=tally)
    outcome = client.deliver(outgoing(body))
    assert (outcome.end, outcome.code, outcome.detail) == (End.REFUSED, "DST-02", detail)
    client.close()
    assert (store.requests, tally.document()["converted"]) == ([], 0)


def test_a_conversion_that_takes_too_long_ends(store, monkeypatch):
    monkeypatch.setattr(conversion, "CONVERT_S_MAX", 0.0)
    assert sink(store).deliver(outgoing(ADMISSION)).detail == "too-slow"
    monkeypatch.setattr(conversion, "BODY_BYTES_MAX", 10)
    assert sink(store).deliver(outgoing(ADMISSION)).detail == "too-large"
    assert sink(store, convert="none").deliver(outgoing(ADMISSION)).detail == "off"


def test_a_field_of_a_hundred_thousand_repetitions_is_cut_and_the_rest_of_it_listed():
    many = "~".join(f"{number}^^^CLINIC^MR" for number in range(20_000))
    start = time.thread_time()
    found = convert(message("ADT^A01", f"PID|1||{many}||Test"))
    left = [each for each in found.unmapped if each.path.startswith("PID-3[")]
    assert len(left) >= 19_000
    assert left[-1].reason == "more repetitions than are converted"
    assert time.thread_time() >= start


def test_each_feed_s_text_is_read_in_its_own_character_set(store):
    raw = message("ADT^A01", RICH).decode().encode("cp1256")
    client = sink(store, manners={"his": ("cp1256", "utf-8", {}), "lab": ("", "iso8859_6", {})})
    client.deliver(outgoing(raw, 1))
    client.deliver(
        outgoing(message("ADT^A01", RICH.replace("1001", "2002")).decode().encode("iso8859_6"), 2, feed="lab")
    )
    client.close()
    assert [each["name"][0]["family"] for each in store.of("Patient")] == ["الحربي", "الحربي"]


@pytest.mark.parametrize("error", [ValueError("secret"), OverflowError(), KeyError("secret"), RecursionError()])
def test_whatever_a_message_does_to_the_converter_parks_that_message_and_ends_no_thread(store, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(conversion, "convert", broken)
    outcome = sink(store).deliver(outgoing(ADMISSION))
    assert (outcome.end, outcome.detail) == (End.REFUSED, "content")
    assert "secret" not in repr(outcome)


def test_what_has_no_place_is_counted_by_its_path_without_its_value():
    tally = Tally()
    tally.add(
        [
            Unmapped("PID-3[2].7", "why", "secret"),
            Unmapped("PID-3.7", "why", "secret"),
            Unmapped("entry[0].Patient.x\ny", "why", "s"),
        ]
    )
    for number in range(conversion.PATHS_MAX + 50):
        tally.add([Unmapped(f"ZZ1-{number}", "why", "secret")])
    found = tally.document()
    assert found["converted"] == conversion.PATHS_MAX + 51
    assert found["unmapped"] == conversion.PATHS_MAX + 53
    assert {"path": "PID-3.7", "reason": "why", "count": 2} in found["paths"]
    assert found["paths"][0] == {"path": "(others)", "reason": "", "count": 53}
    assert "secret" not in json.dumps(found)


def test_every_bundle_that_is_sent_is_valid_for_an_independent_validator(store):
    fhir_oracle.need()
    client = sink(store, zone="+03:00")
    raws = [
        *(raw.replace(b"|T|2.5", b"|P|2.5") for raw in hospital(60)),
        *(raw for row, raw in corpus()[::40] if row["quality"] == "clean"),
    ]
    ends = [client.deliver(outgoing(raw, at)) for at, raw in enumerate(raws)]
    message_sink = sink(store, zone="+03:00", convert="message")
    message_sink.deliver(outgoing(result(1), 999))
    for each in (client, message_sink):
        each.close()
    assert {(end.end, end.detail) for end in ends} <= {(End.TAKEN, ""), (End.REFUSED, "type"), (End.REFUSED, "test")}
    checked = [store.bodies[0], store.bodies[-1], *store.resources.values()]
    assert [each for each in fhir_oracle.errors_of([dumps(each) for each in checked]) if each] == []
    assert len(checked) > 100


# ---- an order, and what else speaks of it ---------------------------------------------------------------------------------
ORDERED = (
    "ORC|NW|P-1||||||20260101||||77^Test^Doctor",
    "OBR|1|P-1||1^Test|||||||||fasting since midnight||||||||||||||||||^Test reason",
)


def test_a_result_does_not_take_the_place_of_the_order_that_it_answers_in_whichever_way_it_names_it(store):
    client = sink(store)
    assert client.deliver(outgoing(message("OML^O21", RICH, *ORDERED), 1)).end is End.TAKEN
    (order,) = store.of("ServiceRequest")
    for at, kind in enumerate(("ORU^R01", "OUL^R22", "MDM^T02", "ORL^O22"), 2):
        said = message(kind, THIN, "ORC|SC|P-1", "OBR|1|P-1||1^Test|||||||||||||||||||||F", "OBX|1|NM|1^Test||5||||||F")
        assert client.deliver(outgoing(said, at)).end is End.TAKEN
    assert (store.of("ServiceRequest"), store.versions[f"ServiceRequest/{order['id']}"]) == ([order], 1)
    client.deliver(outgoing(message("OML^O21", RICH, "ORC|CA|P-1", ORDERED[1]), 9))
    assert store.of("ServiceRequest")[0]["status"] == "revoked"  # who placed it says what becomes of it
    client.close()


def test_a_result_without_its_order_brings_the_order_s_bare_name_so_that_no_reference_leads_nowhere(store):
    client = sink(store)
    assert client.deliver(outgoing(result(1), 1)).end is End.TAKEN
    (made,) = store.of("ServiceRequest")
    (report,) = store.of("DiagnosticReport")
    assert report["basedOn"] == [{"reference": f"ServiceRequest/{made['id']}"}]
    client.close()


@pytest.mark.parametrize("kind", ["RDS^O13", "RAS^O17"])
def test_what_was_dispensed_or_given_does_not_take_the_place_of_its_prescription(store, kind):
    client = sink(store)
    client.deliver(outgoing(message("OMP^O09", RICH, "ORC|NW|P-1", "RXO|1^Test drug|5||mg||^take with food"), 1))
    (ordered,) = store.of("MedicationRequest")
    given = "RXA|0|1|20260102||1^Test drug|5" if kind.startswith("RAS") else "RXD|1|1^Test drug|20260102|5"
    assert client.deliver(outgoing(message(kind, THIN, "ORC|RE|P-1", given), 2)).end is End.TAKEN
    assert store.of("MedicationRequest") == [ordered]
    client.close()


# ---- requests, deletions, replays ------------------------------------------------------------------------------------------
def test_a_second_attempt_with_other_content_bears_another_request_id_and_a_repetition_the_same(store):
    client = sink(store)
    for _ in range(3):
        client.deliver(outgoing(ADMISSION, 1))
    # the second found the ward there, which the first had to make; the third is the second again
    assert (store.bodies[0] == store.bodies[1], store.ids[0] == store.ids[1]) == (False, False)
    assert (store.bodies[1], store.ids[1]) == (store.bodies[2], store.ids[2])
    store.resources.clear()  # behind our back: the server refuses the references, and is asked again
    client.deliver(outgoing(result(2), 2))
    refused = store.ids[3:]
    client.close()
    assert store.bodies[3] != store.bodies[4]
    assert (len(refused), len(set(refused))) == (2, 2)
    assert all(each.startswith("clinic-7.his.2.0.") for each in refused)


def test_a_patient_who_was_deleted_at_the_server_stays_deleted_and_the_result_waits_for_a_person(store):
    client = sink(store)
    client.deliver(outgoing(ADMISSION, 1))
    (rich,) = store.of("Patient")
    name = f"Patient/{rich['id']}"
    store.delete(name)
    outcome = client.deliver(outgoing(result(2), 2))
    assert (outcome.end, outcome.code, outcome.detail) == (End.REFUSED, "DST-01", "409, Patient 410")
    assert store.of("Patient") == store.of("Observation") == []
    store.resources[name] = rich  # the person restores it, and has the message sent again
    assert client.deliver(outgoing(result(2), 2, is_replay=True)).end is End.TAKEN
    assert (store.of("Patient"), len(store.of("Observation"))) == ([rich], 1)
    client.close()


def test_a_doctor_who_was_deleted_at_the_server_holds_no_result_back(store):
    client = sink(store)
    client.deliver(outgoing(result(1), 1))
    for doctor in store.of("Practitioner"):
        store.delete(f"Practitioner/{doctor['id']}")
    client.close()
    again = sink(store)
    assert again.deliver(outgoing(result(2), 2)).end is End.TAKEN
    assert store.of("Practitioner")
    again.close()


def test_a_replay_of_an_older_admission_does_not_bring_back_its_older_state(store):
    moved = message("ADT^A02", RICH.replace("الرياض", "جدة"), "PV1|1|I|ward^99^9")
    client = sink(store)
    client.deliver(outgoing(ADMISSION, 1))
    client.deliver(outgoing(moved, 2))
    newest = (store.of("Patient"), store.of("Encounter"))
    assert client.deliver(outgoing(ADMISSION, 1, is_replay=True)).end is End.TAKEN
    assert (store.of("Patient"), store.of("Encounter")) == newest
    assert client.deliver(outgoing(moved, 2, is_replay=True)).end is End.TAKEN  # the newest itself may come again
    assert client.deliver(outgoing(ADMISSION, 3, is_replay=True)).end is End.TAKEN
    client.close()
    assert (store.of("Patient"), store.of("Encounter")) != newest


def test_a_replay_of_an_earlier_message_of_one_record_does_not_bring_back_its_older_state(store):
    """A batch is one record: its messages differ in their part alone."""

    def part(number: int, city: str) -> Outgoing:
        origin = replace(outgoing(b"").origin, part=number)
        raw = message("ADT^A08", RICH.replace("الرياض", city))
        return outgoing(raw, part=number, origin=origin, is_replay=True)

    client = sink(store)
    cities = []
    for number, city in ((0, "جدة"), (2, "أبها"), (1, "تبوك"), (0, "جدة"), (2, "حائل")):
        assert client.deliver(part(number, city)).end is End.TAKEN
        cities += [each["address"][0]["city"] for each in store.of("Patient")]
    client.close()
    assert cities == ["جدة", "أبها", "أبها", "أبها", "حائل"]


@pytest.mark.parametrize(
    ("source", "part", "newer"),
    [("41/2", 1, True), ("41/2", 0, True), ("41/2", 2, False), ("41/2", 3, False), ("41", 1, False), ("41/2#x", 1, True), ("41/10", 9, True)],
)  # fmt: skip
def test_of_the_messages_of_one_record_the_later_part_is_the_newer(source, part, newer):
    held = json.dumps({"meta": {"source": f"urn:wasl:record:F/his/1/{source}"}}).encode()
    assert is_newer(held, replace(outgoing(b"").origin, part=part)) is newer


@pytest.mark.parametrize(
    "source",
    ["urn:wasl:record:F/lab/1/99", "urn:wasl:record:F/his/1", "urn:wasl:record:F/his/x/9", "https://other/1", 7, None],
)
def test_what_another_stream_or_system_wrote_is_not_known_to_be_newer(source):
    origin = outgoing(b"").origin
    assert origin is not None
    assert not is_newer(json.dumps({"meta": {"source": source}}).encode(), origin)
    assert not is_newer(b"{", origin)
    assert is_newer(b'{"meta": {"source": "urn:wasl:record:F/his/1/42/3#abc"}}', replace(origin, part=2))
    assert not is_newer(b'{"meta": {"source": "urn:wasl:record:F/his/1/41#abc"}}', origin)


def test_a_replay_writes_nothing_older_over_a_long_resource_and_nothing_at_all_where_it_cannot_tell(store, monkeypatch):
    client = sink(store)
    client.deliver(outgoing(message("ADT^A08", RICH.replace("الرياض", "جدة")), 2))
    (newest,) = store.of("Patient")
    newest["text"] = {"status": "generated", "div": "<div>" + "x" * 200_000 + "</div>"}  # as servers add
    sent = len(store.bodies)
    assert client.deliver(outgoing(ADMISSION, 1, is_replay=True)).end is End.TAKEN
    assert (store.of("Patient"), len(store.bodies)) == ([newest], sent + 1)
    store.breaks_off = True
    broken_off = client.deliver(outgoing(ADMISSION, 1, is_replay=True))
    assert (broken_off.end, broken_off.code, len(store.bodies)) == (End.LATER, "DST-12", sent + 1)
    store.breaks_off = False
    monkeypatch.setattr("node.destinations.fhir.RESOURCE_BYTES_MAX", 199_999)
    refused = client.deliver(outgoing(ADMISSION, 1, is_replay=True))
    client.close()
    assert refused[:3] == (End.REFUSED, "DST-08", "Patient")
    assert (store.of("Patient"), len(store.bodies)) == ([newest], sent + 1)


def test_a_replay_asks_nothing_more_of_a_server_that_does_not_say_what_it_has(store):
    client = sink(store)
    store.answers = [500]
    assert client.deliver(outgoing(ADMISSION, 1, is_replay=True)).end is End.LATER
    client.close()
    assert store.bodies == []


# ---- FHIR at a system that listens for HL7 v2 ------------------------------------------------------------------------------
def back(body: bytes, place: int = 41, **keys) -> list[Outgoing]:
    """The messages that a record becomes, as a destination's thread reads them."""
    listener = MllpOut.model_validate(
        {"name": "lis", "kind": "mllp", "address": "127.0.0.1:1", "streams": ("fhir",), "convert": "v2", **keys}
    )
    header = _header()
    origin = outgoing(b"", place).origin
    assert origin is not None
    return selection_of(listener).parts(header, _record(body), origin)


def _header():
    from tests.test_destination_config import header

    return header(content_type=FHIR_JSON, message_type="Bundle^transaction")


def _record(body):
    from tests.test_destination_config import record

    return record(body)


def bundle(*resources: dict) -> bytes:
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
        for each in resources
    ]
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()


REPORT = {
    "resourceType": "DiagnosticReport", "id": "r1", "status": "final", "code": {"text": "Glucose"}, "subject": {"reference": "Patient/p1"},
    "result": [{"reference": "Observation/v1"}],
}  # fmt: skip
VALUE = {
    "resourceType": "Observation",
    "id": "v1",
    "status": "final",
    "code": {"text": "Glucose"},
    "valueQuantity": {"value": 5},
}


def test_an_order_and_a_report_of_one_record_become_two_messages_of_it_with_ids_of_their_own():
    made = back(bundle(PATIENT, ORDER, REPORT, VALUE))
    assert [(part.part, part.message_type) for part in made] == [(0, "OML^O21^OML_O21"), (1, "ORU^R01^ORU_R01")]
    assert all(part.content_type == ER7 for part in made)
    again = back(bundle(PATIENT, ORDER, REPORT, VALUE))
    assert [part.body for part in again] == [part.body for part in made]
    other = back(bundle(PATIENT, ORDER, REPORT, VALUE), 42)  # the same resources in a later record are news
    assert not {part.control_id for part in made} & {part.control_id for part in other}
    assert len({part.control_id for part in made}) == 2


def test_a_report_without_a_time_bears_that_of_its_record():
    (made,) = back(bundle(PATIENT, REPORT, VALUE))
    assert Message(made.body).get("MSH-7") == b"20261122093000.123+0000"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bundle(PATIENT), "type"), (b"{", "content"), (b"[]", "content"),
        (bundle(PATIENT, ORDER | {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}}), "test"),
    ],
    ids=["no order", "no JSON", "no resource", "test"],
)  # fmt: skip
def test_a_fhir_record_that_becomes_no_message_stays_as_it_is_with_its_reason(body, reason):
    (part,) = back(body)
    assert (part.body, part.content_type, part.unconverted) == (body, FHIR_JSON, reason)


def test_a_message_made_of_a_test_says_so_itself():
    labelled = ORDER | {"meta": {"security": [{"code": "HTEST"}]}}
    made = from_json(bundle(PATIENT, labelled))
    assert (made.is_test, Message(made.messages[0]).get("MSH-11")) == (True, b"T")


def test_messages_are_written_in_the_destination_s_own_character_set():
    (part,) = back(bundle(PATIENT, ORDER), charset="iso8859_6")
    assert "الحربي".encode("iso8859_6") in part.body
    assert Message(part.body).get("MSH-18") == b"8859/6"


def test_a_destination_that_does_not_convert_gets_fhir_as_it_came():
    (part,) = back(bundle(PATIENT, ORDER), convert="none")
    assert (part.content_type, part.unconverted) == (FHIR_JSON, "")


# ---- in a node -------------------------------------------------------------------------------------------------------
def table(store, more: str = "") -> str:
    return f'[[destinations]]\nname = "server"\nkind = "fhir"\nurl = "{store.url}"\nstreams = ["his"]\nzone = "Asia/Riyadh"\n{more}\n'


def test_a_node_killed_at_any_moment_leaves_at_the_server_what_an_undisturbed_one_leaves(tmp_path, store):
    test, *sent = hospital(41)  # what the simulated hospital says is marked as a test
    raws = [raw.replace(b"|T|2.5", b"|P|2.5") for raw in sent]
    node = Node(
        Realm.make(tmp_path / "realm"),
        tmp_path / "n",
        feeds=[Feed("his", check='charset_default = "utf-8"')],
        more=table(store),
    )
    with running(node, before=EAGER) as node:
        node.send(test)
        for start in range(0, len(raws), 10):
            node.send(*raws[start : start + 10])
            node.restart(before=EAGER)
        wait_until(
            "all of them",
            lambda: (
                len({each["entity"][0]["what"]["identifier"]["value"] for each in store.of("Provenance")}) == len(raws)
            ),
        )
        wait_until("nothing waits", lambda: node.ask("destination list")[0]["waiting"] == 0)
        found = destination(node, "server")["conversion"]
        told = node.ask("destination unmapped server")
        rows = parked(node, "server")
        records = node.records()
    assert rows == []
    assert (told, found["converted"] >= 1, len(records)) == (found, True, 41)
    with FhirStore().serving() as calm:
        client = sink(calm, zone="Asia/Riyadh")
        for each in records[1:]:
            origin = Origin(
                facility=each.header.facility, stream="his", epoch=1, seq=each.record.seq, leaf=each.record.leaf.hex(),
                received_at=iso(each.header.received_us),
            )  # fmt: skip
            assert client.deliver(outgoing(each.body, each.record.seq, origin=origin)).end is End.TAKEN
        client.close()
        assert (store.resources, store.versions) == (calm.resources, calm.versions)


def test_orders_that_come_as_fhir_reach_a_listener_that_others_wrote_and_the_rest_is_parked_with_its_reason(tmp_path):
    port, said = free_port(), tmp_path / "said"
    script = tmp_path / "peer.py"
    script.write_text(LISTENER)
    feed = FhirFeed("fhir")
    node = Node(
        Realm.make(tmp_path / "realm"), tmp_path / "n", feeds=[feed],
        more=to(port, streams='"fhir"', more='convert = "v2"'),
    )  # fmt: skip
    with said.open("wb") as out, running(node, before=EAGER) as node:
        peer = subprocess.Popen(
            [str(ROOT / "peers/py/bin/python"), str(script), str(port)], cwd=tmp_path, env=os.environ, stdout=out
        )
        try:
            http = urllib3.PoolManager()
            for body in (bundle(PATIENT, ORDER, REPORT, VALUE), bundle(PATIENT)):
                answer = http.request("POST", feed.base, body=body, headers={"Content-Type": FHIR_JSON})
                assert answer.status < 300
            wait_until(
                "both messages and what is none", lambda: destination(node)["taken"] == 2 and len(parked(node)) == 1
            )
            rows = parked(node)
            assert destination(node)["conversion"]["converted"] == 1
        finally:
            peer.kill()
            peer.wait()
    assert [(row["reason"], row["detail"]) for row in rows] == [("DST-02", "type")]
    heard = said.read_text(encoding="utf-8").splitlines()
    assert list(dict.fromkeys(heard)) == ["OML^O21^OML_O21 الحربي^مريم", "ORU^R01^ORU_R01 الحربي^مريم"]


LISTENER = """
import asyncio, sys, hl7.mllp as m
sys.stdout.reconfigure(encoding="utf-8")
async def cb(r, w):
    try:
        while True:
            got = await r.readmessage()
            print(got.segment("MSH")[9], got.segment("PID")[5], flush=True)
            w.writemessage(got.create_ack()); await w.drain()
    except asyncio.IncompleteReadError:
        w.close()
async def main():
    s = await m.start_hl7_server(cb, "127.0.0.1", int(sys.argv[1]), encoding="utf-8")
    await s.serve_forever()
asyncio.run(main())
"""


# ---- configuration -----------------------------------------------------------------------------------------------------
FHIR = '[[destinations]]\nname = "f"\nkind = "fhir"\nurl = "http://x/"\nstreams = ["his"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FHIR + 'convert = "v2"\n', "allowed: transaction, message, none"), (FHIR + 'zone = "Mars/North"\n', "must be a zone of time"),
        (FHIR + 'zone = "+3"\n', "must be a zone of time"), (FHIR + 'systems = { MOI = "not a uri" }\n', "must be a URI"),
        (GOOD + 'convert = "transaction"\n', "allowed: none, v2"), (GOOD + 'charset = "utf-16"\n', "must be a character set that MLLP can carry"),
        (GOOD + 'zone = "Asia/Riyadh"\n', "unknown key"),
    ],
)  # fmt: skip
def test_a_conversion_that_cannot_be_meant_is_said_with_its_place(tmp_path, text, said):
    assert said in problems(tmp_path, text)


def test_what_is_converted_unless_told_otherwise(tmp_path):
    assert problems(tmp_path, GOOD + FHIR + 'systems = { MOI = "http://nphies.sa/identifier/nationalid" }\n') == ""
    lis, server = load(tmp_path / "node.toml").destinations
    assert (lis.convert, server.convert, server.zone) == ("none", "transaction", "")
    assert server.systems == {"MOI": "http://nphies.sa/identifier/nationalid"}
