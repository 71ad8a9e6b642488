"""HL7 v2 at a FHIR server: what a destination makes of messages, orders, repetitions and replays."""

import json
import time
from dataclasses import replace

import pytest

from hl7.convert.json_text import dumps
from hl7.convert.result import Settings, Unmapped
from hl7.convert.to_fhir import convert
from node.destinations import conversion, fhir_known
from node.destinations.conversion import Tally
from node.destinations.fhir_newer import is_newer
from node.destinations.plug import End, Outgoing
from tests import fhir_oracle
from tests.convert_rig import PID, corpus, hospital, message
from tests.fhir_sink_rig import THIN, outgoing, result, sink
from tests.fhir_store import FhirStore

RICH = "PID|1||1001^^^CLINIC^MR||الحربي^مريم^عبدالله||19900102|F|||شارع الملك^^الرياض"
ADMISSION = message("ADT^A01", RICH, "PV1|1|I|ward^12^3")


@pytest.fixture
def store():
    with FhirStore().serving() as found:
        yield found


# ---- HL7 v2 at a FHIR server -----------------------------------------------------------------------------------------
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


ORDERED = (
    "ORC|NW|P-1||||||20260101||||77^Test^Doctor",
    "OBR|1|P-1||1^Test|||||||||fasting since midnight||||||||||||||||||^Test reason",
)


# ---- an order, and what else speaks of it ----------------------------------------------------------------------------
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


# ---- requests, deletions, replays ------------------------------------------------------------------------------------
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
