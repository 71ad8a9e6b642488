"""FHIR R4's REST pages against a running node, a test for each clause that docs/fhir.md answers with yes."""

import ast
import gzip
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sync.record import Verdict
from tests.fhir_rig import (
    DOCUMENT,
    JSON,
    MESSAGE,
    OBSERVATION,
    PATIENT,
    PATIENT_XML,
    XML,
    bundle,
    connect,
    dumped,
    fhir_node,
    seen_request,
)
from tests.gateway_rig import Realm

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    with fhir_node(realm, tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def http(node):
    with connect(node) as connection:
        yield connection


def newest(node):
    return node.records("app")[-1]


def size(node):
    return node.stream("app").size


# ---- create -------------------------------------------------------------------------------------------------------------
def test_create_answers_201_with_a_location_after_the_bytes_are_a_record(node, http):
    body = b' \r\n{"resourceType": "Observation",\n "status":"final", "code":{"text":"x"}, "valueQuantity": {"value": 72.50}}\n'
    answer = http.call("POST", "/Observation", body, X_Request_Id="create-1")
    stream, epoch, seq = answer.position
    seen = newest(node)
    assert (answer.status, answer.body, stream, seen.record.seq) == (201, b"", "app", seq)
    assert answer.headers["location"] == f"{node.feeds[0].base}/Observation/{epoch}-{seq}"
    assert seen.body == body  # digits, blanks and order as sent
    assert (seen.header.content_type, seen.header.message_type, seen.header.verdict) == (
        JSON,
        "Observation",
        Verdict.ACCEPTED,
    )
    assert seen_request(seen) == ("POST", "/Observation", "")
    assert answer.headers["x-request-id"] == "create-1"


def test_conditional_create_is_kept_with_its_condition(node, http):
    condition = "identifier=urn:oid:2.999.1|900101001"
    answer = http.call("POST", "/Patient", dumped(PATIENT), If_None_Exist=condition)
    assert answer.status == 201
    assert seen_request(newest(node)) == ("POST", "/Patient", f"if-none-exist: {condition}")
    before = size(node)
    assert http.call("POST", "/Patient", dumped(PATIENT), If_None_Exist="nonsense").codes == ["FHR-21"]
    assert size(node) == before


# ---- update -------------------------------------------------------------------------------------------------------------
def test_update_is_kept_with_method_path_and_if_match(node, http):
    answer = http.call("PUT", "/Patient/test-1", dumped(PATIENT), If_Match='W/"3"')
    assert (answer.status, "location" in answer.headers, "etag" in answer.headers) == (200, False, False)
    assert seen_request(newest(node)) == ("PUT", "/Patient/test-1", 'if-match: W/"3"')


def test_conditional_update_is_kept_with_its_search(node, http):
    assert http.call("PUT", "/Patient?identifier=urn:oid:2.999.1%7C1", dumped(PATIENT)).status == 200
    assert seen_request(newest(node)) == ("PUT", "/Patient?identifier=urn:oid:2.999.1%7C1", "")


def test_an_id_that_is_not_the_addresss_is_400(http):
    answer = http.call("PUT", "/Patient/other", dumped(PATIENT))
    assert (answer.status, answer.codes, answer.issues[0]["expression"]) == (400, ["FHR-06"], ["Patient.id"])


# ---- Bundles ------------------------------------------------------------------------------------------------------------
def test_a_transaction_is_one_record_and_its_entries_are_answered_in_order(node, http):
    sent = bundle(
        ("PUT", "Patient/test-1", PATIENT), ("POST", "Observation", OBSERVATION), ("POST", "Observation", OBSERVATION)
    )
    before = size(node)
    answer = http.call("POST", "", dumped(sent))
    _, epoch, seq = answer.position
    responses = [entry["response"] for entry in answer.json["entry"]]
    assert (answer.status, answer.json["type"], size(node)) == (200, "transaction-response", before + 1)
    assert [each["status"] for each in responses] == ["200 OK", "201 Created", "201 Created"]
    assert [each.get("location") for each in responses] == [
        None,
        *(f"{node.feeds[0].base}/Observation/{epoch}-{seq}-{n}" for n in (1, 2)),
    ]
    assert newest(node).header.message_type == "Bundle^transaction"


def test_a_transaction_that_cannot_be_carried_whole_is_refused_whole_and_recorded(node, http):
    answer = http.call("POST", "/", dumped(bundle(("POST", "Observation", OBSERVATION), ("DELETE", "Patient/1", None))))
    seen = newest(node)
    assert (answer.status, answer.codes) == (422, ["FHR-08"])
    assert answer.issues[0]["expression"] == ["Bundle.entry[1].request.method"]
    assert (seen.header.verdict, seen.refusal) == (Verdict.REJECTED, "FHR-08")


def test_a_batch_answers_each_entry_for_itself(node, http):
    answer = http.call(
        "POST", "", dumped(bundle(("GET", "Patient/1", None), ("POST", "Observation", OBSERVATION), kind="batch"))
    )
    responses = [entry["response"] for entry in answer.json["entry"]]
    assert (answer.status, answer.json["type"]) == (200, "batch-response")
    assert [each["status"][:3] for each in responses] == ["422", "201"]
    assert responses[0]["outcome"]["issue"][0]["diagnostics"] == "FHR-08"
    assert newest(node).header.verdict == Verdict.ACCEPTED_WITH_WARNING


def test_an_empty_transaction_has_an_empty_answer(http):
    answer = http.call("POST", "", dumped({"resourceType": "Bundle", "type": "transaction"}))
    assert (answer.status, answer.json) == (200, {"resourceType": "Bundle", "type": "transaction-response"})


def test_a_message_is_kept_and_answered_202_without_a_response_message(node, http):
    for path in ("/$process-message", "/$process-message?async=true", ""):
        answer = http.call("POST", path, dumped({**MESSAGE, "id": f"e{len(path)}"}))
        assert (answer.status, answer.json["resourceType"], newest(node).header.message_type) == (
            202,
            "OperationOutcome",
            "Bundle^message",
        )


def test_a_document_is_kept_at_the_base_and_as_a_bundle(node, http):
    for path, name in (("", "a"), ("/Bundle", "b")):
        answer = http.call("POST", path, dumped({**DOCUMENT, "identifier": {"value": name}}))
        assert (answer.status, newest(node).header.message_type) == (201, "Bundle^document")
        assert re.search(r"/Bundle/\d+-\d+$", answer.headers["location"])


def test_a_collection_is_kept_as_a_resource(node, http):
    assert (
        http.call(
            "POST",
            "/Bundle",
            dumped({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": PATIENT}]}),
        ).status
        == 201
    )
    assert newest(node).header.message_type == "Bundle^collection"


# ---- repeats ------------------------------------------------------------------------------------------------------------
def test_the_same_request_id_and_bytes_are_stored_once_and_answered_alike(node, http):
    first = http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="repeat-1")
    before = size(node)
    again = http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="repeat-1")
    assert (again.status, again.headers["location"], size(node)) == (201, first.headers["location"], before)
    others = [
        http.call("POST", "/Patient", dumped({**PATIENT, "active": True}), X_Request_Id="repeat-1"),
        http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="repeat-2"),
        http.call("POST", "/Patient?_format=json", dumped(PATIENT), X_Request_Id="repeat-2"),
        http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="repeat-2", If_None_Exist="identifier=1"),
        http.call("POST", "/Patient", dumped(PATIENT)),
        http.call("POST", "/Patient", dumped(PATIENT)),
    ]
    assert [answer.position[2] for answer in others] == list(range(before, before + 6))


def test_an_update_that_comes_again_is_stored_again_unless_it_has_an_idempotency_key(node, http):
    a, b = dumped(PATIENT), dumped({**PATIENT, "active": True})
    before = size(node)
    for body in (a, b, a):
        http.call("PUT", "/Patient/test-1", body, X_Request_Id="trace")
    assert node.bodies("app")[before:] == [a, b, a]  # the state that was sent last is the last one
    first = http.call("PUT", "/Patient/test-1", b, Idempotency_Key='"k-1"')
    assert http.call("PUT", "/Patient/test-1", b, Idempotency_Key='"k-1"').position == first.position


def test_a_message_or_document_with_the_same_names_and_bytes_is_stored_once(node, http):
    for path, body in (
        ("/$process-message", {**MESSAGE, "id": "again"}),
        ("/Bundle", {**DOCUMENT, "identifier": {"value": "again"}}),
    ):
        first, again = (http.call("POST", path, dumped(body), X_Request_Id=f"try-{n}") for n in range(2))
        assert (first.position, first.status) == (again.position, again.status)


def test_repeats_are_known_after_a_crash(realm, tmp_path):
    with fhir_node(realm, tmp_path) as node:
        with connect(node) as http:
            first = http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="r").position
        node.restart()
        with connect(node) as http:
            assert http.call("POST", "/Patient", dumped(PATIENT), X_Request_Id="r").position == first


# ---- Prefer -------------------------------------------------------------------------------------------------------------
def test_prefer_return_is_honoured(http):
    body = dumped(PATIENT)
    assert http.call("POST", "/Patient", body, Prefer="return=minimal").body == b""
    assert http.call("POST", "/Patient", body, Prefer="return=representation").body == body
    told = http.call("POST", "/Patient", body, Prefer="return=OperationOutcome")
    assert (told.status, told.issues[0]["severity"]) == (201, "information")
    assert "not validated" in told.issues[0]["details"]["text"]


def test_prefer_respond_async_is_202(http):
    for method, path, body in (
        ("POST", "/Patient", PATIENT),
        ("PUT", "/Patient/test-1", PATIENT),
        ("POST", "", bundle(("POST", "Observation", OBSERVATION))),
    ):
        assert http.call(method, path, dumped(body), Prefer="respond-async").status == 202


# ---- forms --------------------------------------------------------------------------------------------------------------
def test_xml_is_kept_as_it_came_and_answered_in_xml(node, http):
    answer = http.call("POST", "/Patient", PATIENT_XML, content_type=XML, Accept=XML, Prefer="return=representation")
    seen = newest(node)
    assert (answer.status, answer.headers["content-type"], answer.body) == (201, f"{XML}; charset=utf-8", PATIENT_XML)
    assert (seen.body, seen.header.content_type, seen.header.message_type) == (PATIENT_XML, XML, "Patient")
    transaction = (
        b'<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><resource><Observation/></resource>'
        b'<request><method value="POST"/><url value="Observation"/></request></entry></Bundle>'
    )
    root = ET.fromstring(http.call("POST", "", transaction, content_type=XML, Accept=XML).body)
    assert root.find("{*}entry/{*}response/{*}status").get("value") == "201 Created"
    refusal = ET.fromstring(http.call("POST", "/Patient", b"<x", content_type=XML, Accept=XML).body)
    assert refusal.find("{*}issue/{*}diagnostics").get("value") == "FHR-01"


def test_format_overrides_accept_and_pretty_is_pretty(http):
    assert http.call("GET", "/metadata?_format=xml", Accept=JSON).headers["content-type"].startswith(XML)
    assert http.call("GET", "/metadata?_format=json&_pretty=true").body.count(b"\n") > 50


def test_another_medium_is_415_and_another_answer_406(node, http):
    before = size(node)
    for kind in ("text/csv", "application/fhir+json; fhirVersion=5.0", "application/fhir+turtle"):
        answer = http.call("POST", "/Patient", dumped(PATIENT), content_type=kind)
        assert (answer.status, answer.codes) == (415, ["FHR-17"])
    assert http.call("GET", "/metadata", Accept="text/turtle").status == 406
    assert size(node) == before


def test_a_compressed_body_is_415(node, http):
    before = size(node)
    for path in ("/Patient", "/Patient/$validate"):
        answer = http.call("POST", path, gzip.compress(dumped(PATIENT)), Content_Encoding="gzip")
        assert (answer.status, answer.codes) == (415, ["FHR-17"])
    assert http.call("POST", "/Patient", dumped(PATIENT), Content_Encoding="identity").status == 201
    assert size(node) == before + 1


def test_a_body_without_a_content_type_is_taken_for_what_it_begins_with(node, http):
    assert http.call("POST", "/Patient", PATIENT_XML, content_type=None).status == 201
    assert newest(node).header.content_type == XML
    assert http.call("POST", "/Patient", dumped(PATIENT), content_type=None).status == 201
    assert newest(node).header.content_type == JSON
    assert http.call("POST", "/Patient", b"MSH|", content_type=None).codes == ["FHR-01"]


# ---- refusals -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/Patient/test-1", 405, "PUT"),
        ("GET", "/Patient?name=x", 405, "POST, PUT"),
        ("POST", "/Patient/_search", 405, ""),
        ("GET", "/Patient/1/_history", 405, ""),
        ("GET", "/_history", 405, ""),
        ("PATCH", "/Patient/1", 405, "PUT"),
        ("DELETE", "/Patient/1", 405, "PUT"),
        ("GET", "", 405, "POST"),
        ("POST", "/Patent", 404, None),
        ("POST", "/Patient/$everything", 404, None),
        ("GET", "//", 404, None),
        ("POST", "//fhirx/Patient", 404, None),
    ],
)
def test_every_refusal_of_an_address_is_an_operation_outcome_and_no_record(node, http, method, path, status, allow):
    before = size(node)
    answer = http.call(method, path, dumped(PATIENT) if method in {"POST", "PATCH"} else None)
    assert (answer.status, answer.headers.get("allow"), answer.issues[0]["severity"], size(node)) == (
        status,
        allow,
        "error",
        before,
    )


def test_every_refusal_of_a_body_is_an_operation_outcome_and_a_record_of_its_bytes(node, http):
    for body in (
        b"{",
        b'{"resourceType":"Patient","id":"1","id":"2"}',
        b'{"resourceType":"Patient","x":NaN}',
        b"[]",
        b'{"a":' * 101 + b"1" + b"}" * 101,
    ):
        answer = http.call("POST", "/Patient", body)
        seen = newest(node)
        assert answer.status in {400, 422}
        assert (seen.body, seen.header.verdict, [seen.refusal]) == (body, Verdict.REJECTED, answer.codes[:1])


# ---- metadata, $validate, pages -----------------------------------------------------------------------------------------
def test_metadata_is_a_capability_statement_that_names_the_limits_and_has_a_tag(node, http):
    answer = http.call("GET", "/metadata")
    statement, rest = answer.json, answer.json["rest"][0]
    assert (statement["resourceType"], statement["fhirVersion"], statement["kind"]) == (
        "CapabilityStatement",
        "4.0.1",
        "instance",
    )
    assert statement["implementation"]["url"] == node.feeds[0].base
    assert str(16 * 1024 * 1024) in statement["description"]
    assert {each["code"] for each in rest["interaction"]} == {"transaction", "batch"}
    assert len(rest["resource"]) == 146
    assert {each["code"] for found in rest["resource"] for each in found["interaction"]} == {"create", "update"}
    assert http.call("GET", "/metadata", If_None_Match=answer.headers["etag"]).status == 304
    http.send("HEAD", "/metadata")
    head = http._until(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ")
    http._read = b""


def test_validate_tells_what_the_models_say_and_keeps_nothing(node, http):
    before = size(node)
    wrong = {"resourceType": "Patient", "birthDate": "soon", "name": [{"family": 5}], "nothing": 1}
    for path, body in (
        ("/Patient/$validate", wrong),
        (
            "/Patient/1/$validate",
            {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": wrong}]},
        ),
    ):
        answer = http.call("POST", path, dumped(body))
        assert answer.status == 200
        assert [issue["expression"] for issue in answer.issues if issue["severity"] == "error"] == [
            ["Patient.birthDate"],
            ["Patient.name[0].family"],
            ["Patient.nothing"],
        ]
    assert [issue["severity"] for issue in http.call("POST", "/Patient/$validate", dumped(PATIENT)).issues] == [
        "information"
    ]
    assert http.call("POST", "/Patient/$validate", b"{").codes == ["FHR-01"]
    told = http.call("POST", "/Patient/$validate", PATIENT_XML, content_type=XML)
    assert "Not validated" in told.issues[0]["details"]["text"]
    assert size(node) == before


def test_the_openapi_page_has_an_example_for_each_call_and_loads_nothing(http):
    page, document = http.call("GET", "/docs"), http.call("GET", "/openapi.json").json
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    assert document["openapi"].startswith("3.1")
    for path in document["paths"]:
        assert path in text
    assert text.count("curl -X") == sum(
        method in found for found in document["paths"].values() for method in ("post", "put")
    )
    assert not re.search(r"<script|src=|https?://(?!127\.0\.0\.1|loinc|unitsofmeasure)", text)


# ---- strictness ---------------------------------------------------------------------------------------------------------
def test_a_lenient_feed_keeps_whatever_comes_and_says_what_is_wrong(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines='strictness = "lenient"') as node, connect(node) as http:
        bodies = [
            b"{",
            b"MSH|^~\\&|",
            b'{"resourceType":"Patient","id":"1","id":"2"}',
            dumped(OBSERVATION),
            b"<x",
            b"\xff",
        ]
        answers = [http.call("POST", "/Patient", body, content_type="text/plain") for body in bodies]
        assert [answer.status for answer in answers] == [202, 202, 201, 201, 202, 202]
        assert [issue["severity"] for answer in answers for issue in answer.issues] == ["warning"] * 6
        records = node.records("app")
        assert [seen.body for seen in records] == bodies
        assert {seen.header.verdict for seen in records} == {Verdict.ACCEPTED_WITH_WARNING}
        assert [seen.refusal for seen in records] == [answer.codes[0] for answer in answers]


def test_a_strict_feed_refuses_what_the_models_refuse_and_says_where(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines='strictness = "strict"') as node, connect(node) as http:
        assert http.call("POST", "/Patient", dumped(PATIENT)).status == 201
        wrong = bundle(
            ("POST", "Observation", OBSERVATION),
            ("POST", "Observation", {"resourceType": "Observation", "status": "final"}),
        )
        answer = http.call("POST", "", dumped(wrong))
        assert (answer.status, answer.codes, answer.issues[0]["expression"]) == (
            422,
            ["FHR-10"],
            ["Bundle.entry[1].resource.code"],
        )
        assert [(seen.header.verdict, seen.refusal) for seen in node.records("app")[1:]] == [
            (Verdict.REJECTED, "FHR-10")
        ]
        assert http.call("POST", "/MedicinalProduct", dumped({"resourceType": "MedicinalProduct"})).status == 201
        assert http.call("POST", "/Patient", dumped(PATIENT), content_type=None).status == 415


def test_a_feeds_types_are_its_only_ones(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines='types = ["Patient"]') as node, connect(node) as http:
        assert http.call("POST", "/Patient", dumped(PATIENT)).status == 201
        assert http.call("POST", "/Observation", dumped(OBSERVATION)).codes == ["FHR-09"]
        assert [found["type"] for found in http.call("GET", "/metadata").json["rest"][0]["resource"]] == ["Patient"]


def test_refusals_beyond_the_hours_quota_are_counted_and_still_answered(realm, tmp_path):
    with fhir_node(realm, tmp_path, lines="rejected_per_hour_max = 2") as node, connect(node) as http:
        assert [http.call("POST", "/Patient", b"{").status for _ in range(5)] == [400] * 5
        assert size(node) == 2
        assert node.ask("status")["feeds"]["app"]["rejected"] == 5


# ---- the page that says so ----------------------------------------------------------------------------------------------
def test_each_yes_of_the_conformance_page_names_a_test_that_exists():
    page = (ROOT / "docs/fhir.md").read_text(encoding="utf-8")
    tests = {
        node.name
        for file in (ROOT / "tests").glob("test_fhir*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    rows = [line.strip("|").split("|") for line in page.splitlines() if re.match(r"\|.*\| (yes|no|in part)\b", line)]
    assert len(rows) > 40
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row[-1])
        if not row[1].strip().startswith("no"):
            assert names, row
        assert set(names) <= tests, row
    assert json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])["resourceType"] == "OperationOutcome"
