"""FHIR bodies and requests, without a network: what they are, what is wrong with them and where, and what is answered."""

import contextlib
import importlib.util
import json
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7 import fhir_json, fhir_xml
from hl7.check import Outcome
from hl7.fhir import ENTRIES_MAX, JSON, XML, Rules, Strictness, judge
from hl7.fhir_answers import Issue, bundle_response, encode, issue_of, outcome
from hl7.fhir_capability import Endpoint, capability_statement
from hl7.fhir_errors import BadHeader, NotAcceptable, NotARepository, NotThisMedium, UnknownPath
from hl7.fhir_openapi import MESSAGE, OBSERVATION, PATIENT, TRANSACTION, openapi
from hl7.fhir_request import Asked, What, conditions, medium, parse, wanted
from hl7.fhir_types import TYPES, WITHOUT_MODEL
from node.feeds.fhir_worker import validate
from tests.fhir_rig import DOCUMENT, bundle, dumped

ROOT = Path(__file__).parents[1]
CORPUS = ROOT.parent / "shared/corpus/fhir"
AT_BASE, CREATE, UPDATE = Asked(What.BUNDLE), Asked(What.CREATE, "Patient"), Asked(What.UPDATE, "Patient", "7")
NORMAL = Rules()
LENIENT = Rules(Strictness.LENIENT)


def judged(body, asked=AT_BASE, rules=NORMAL, form=JSON):
    found = judge(body if isinstance(body, bytes) else dumped(body), form, asked, rules)
    return found.outcome, [(error.code, error.expression) for error in found.errors]


def resource_xml(inner: str, kind: str = "Patient") -> bytes:
    return f'<{kind} xmlns="http://hl7.org/fhir">{inner}</{kind}>'.encode()


# ---- bodies -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "code", "expression"),
    [
        (b"", "FHR-01", ""),
        (b"{", "FHR-01", ""),
        (b"\xff\xfe{\x00}\x00", "FHR-01", ""),
        ('{"resourceType":"Patient"}'.encode("utf-16"), "FHR-01", ""),
        (b'{"resourceType":"Patient"} {}', "FHR-01", ""),
        (b'{"resourceType":"Patient","id":"1","id":"2"}', "FHR-02", "Patient.id"),
        (b'{"resourceType":"Patient","name":[{},{"family":"a","family":"b"}]}', "FHR-02", "Patient.name[1].family"),
        (b'{"resourceType":"Patient","name":{"family":"a","family":"b"},"name":1}', "FHR-02", "Patient.name"),
        (b'{"resourceType":"Patient","multipleBirthInteger":NaN}', "FHR-03", "Patient.multipleBirthInteger"),
        (b'{"resourceType":"Patient","x":[1,-Infinity]}', "FHR-03", "Patient.x[1]"),
        (b"[" * 200 + b"]" * 200, "FHR-04", ""),
        (b"[" * 5_000_000, "FHR-11", ""),
        (b"[" * 900_000, "FHR-04", ""),
        (b'{"a":' * 120 + b"1" + b"}" * 120, "FHR-04", ""),
        (b"[" + b"1," * 1_100_000 + b"1]", "FHR-11", ""),
        (b"[]", "FHR-05", ""),
        (b"null", "FHR-05", ""),
        (b"{}", "FHR-05", "resourceType"),
        (b'{"resourceType":"Patent"}', "FHR-05", "resourceType"),
        (b'{"resourceType":["Patient"]}', "FHR-05", "resourceType"),
        (b'{"resourceType":"Observation"}', "FHR-06", "resourceType"),
    ],
)
def test_a_body_that_is_no_resource_is_refused_with_its_reason_and_place_and_kept_where_the_feed_is_lenient(
    body, code, expression
):
    verdict, errors = judged(body, CREATE)
    assert (verdict, errors[0]) == (Outcome.REJECTED, (code, expression))
    assert judged(body, CREATE, LENIENT) == (Outcome.ACCEPTED_WITH_WARNING, errors)


@pytest.mark.parametrize("strictness", Strictness)
def test_a_good_resource_is_accepted_without_a_word(strictness):
    assert judged(PATIENT, CREATE, Rules(strictness)) == (Outcome.ACCEPTED, [])
    assert judged(b"\xef\xbb\xbf" + dumped(PATIENT), CREATE, Rules(strictness)) == (Outcome.ACCEPTED, [])


@settings(max_examples=50)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["resourceType", "type", "entry", "resource", "request", "method", "url", "id", "identifier", "x"]) | st.text(max_size=3), inner
    )).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_bytes_make_the_judge_raise_and_no_text_of_the_sender_gets_into_the_header(body):
    for form in (JSON, XML):
        for asked in (AT_BASE, CREATE, UPDATE):
            found = judge(body, form, asked, LENIENT)
            assert found.facts.message_type in {
                "",
                *TYPES,
                *(f"Bundle^{kind}" for kind in ("transaction", "batch", "message", "document", "collection")),
            }
            for error in (*found.errors, *found.refused.values()):
                assert re.fullmatch(r"[A-Za-z0-9_.\[\]%()]*", error.expression)
                encode(outcome([issue_of(error)]), "xml")


def test_names_that_no_element_has_are_not_repeated_to_anybody():
    (_, errors) = judged(b'{"resourceType":"Patient","Fatima 900101001":NaN}', CREATE)
    assert errors == [("FHR-03", "Patient.(unknown)")]


def test_deep_nesting_takes_no_longer_than_its_bytes():
    for body in (b"[" * 900_000, b'{"a":' * 190_000):
        began = time.process_time()
        judged(body)
        assert time.process_time() - began < 5  # quadratic would be minutes


# ---- addresses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "asked", "code", "expression"),
    [
        (PATIENT, AT_BASE, "FHR-06", "resourceType"),
        (OBSERVATION, CREATE, "FHR-06", "resourceType"),
        (PATIENT, UPDATE, "FHR-06", "Patient.id"),
        ({"resourceType": "Patient"}, UPDATE, "FHR-06", "Patient.id"),
        ({"resourceType": "Patient", "id": "7/../8"}, UPDATE, "FHR-06", "Patient.id"),
        (TRANSACTION, Asked(What.MESSAGE, "Bundle"), "FHR-06", "Bundle.type"),
        ({"resourceType": "Bundle"}, AT_BASE, "FHR-07", "Bundle.type"),
        ({"resourceType": "Bundle", "type": "searchset"}, AT_BASE, "FHR-07", "Bundle.type"),
        ({"resourceType": "Bundle", "type": "batch", "entry": {}}, AT_BASE, "FHR-07", "Bundle.entry"),
        ({"resourceType": "Bundle", "type": "batch", "entry": [1]}, AT_BASE, "FHR-07", "Bundle.entry[0]"),
        ({"resourceType": "Bundle", "type": "message"}, AT_BASE, "FHR-07", "Bundle.entry[0].resource"),
        ({"resourceType": "Bundle", "type": "document", "entry": [{"resource": PATIENT}]}, AT_BASE, "FHR-07", "Bundle.entry[0].resource"),
        ({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": PATIENT}]}, AT_BASE, "FHR-07", "Bundle.entry[0].request"),
        (bundle(("BREW", "Patient", PATIENT)), AT_BASE, "FHR-07", "Bundle.entry[0].request"),
        (bundle(("POST", "Patient", {"resourceType": "Nothing"})), AT_BASE, "FHR-05", "Bundle.entry[0].resource"),
        (bundle(("POST", "Patient", PATIENT), ("GET", "Patient/1", None)), AT_BASE, "FHR-08", "Bundle.entry[1].request.method"),
        (bundle(("DELETE", "Patient/1", None)), AT_BASE, "FHR-08", "Bundle.entry[0].request.method"),
        (bundle(("POST", "Patient/$match", PATIENT)), AT_BASE, "FHR-08", "Bundle.entry[0].request.url"),
        (bundle(("PUT", "Patient/", PATIENT)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
        (bundle(("POST", "Patient/test-900101001", PATIENT)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
        (bundle(("POST", "Observation", PATIENT)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
        (bundle(("POST", "Patient", None)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
        (bundle(("PUT", "Patient/other", PATIENT)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
        (bundle(("PUT", "Patient", PATIENT)), AT_BASE, "FHR-06", "Bundle.entry[0].request.url"),
    ],
)  # fmt: skip
def test_what_does_not_belong_where_it_was_sent_is_refused_with_its_place(body, asked, code, expression):
    assert judged(body, asked) == (Outcome.REJECTED, [(code, expression)])


@pytest.mark.parametrize(
    "url",
    [
        "Patient/test-900101001",
        "/Patient/test-900101001?_pretty=true",
        "http://elsewhere/fhir/Patient/test-900101001",
        "Patient?identifier=urn:oid:2.999.1|1",
    ],
)
def test_an_entry_updates_by_id_or_by_search(url):
    assert judged(bundle(("PUT", url, PATIENT))) == (Outcome.ACCEPTED, [])
    assert judged(bundle(("PUT", url, {"resourceType": "Patient"}))) == (Outcome.ACCEPTED, [])  # the address has the id


def test_a_batch_is_taken_though_one_of_its_entries_is_not_carried():
    found = judge(
        dumped(bundle(("GET", "Patient/1", None), ("POST", "Observation", OBSERVATION), kind="batch")),
        JSON,
        AT_BASE,
        Rules(),
    )
    assert found.outcome is Outcome.ACCEPTED_WITH_WARNING
    assert {place: error.code for place, error in found.refused.items()} == {0: "FHR-08"}
    answered = bundle_response(found.facts, found.refused, base="http://b", epoch=1, seq=5, is_async=False)
    assert [entry["response"]["status"] for entry in answered["entry"]] == ["422", "201 Created"]
    assert answered["entry"][1]["response"]["location"] == "http://b/Observation/1-5-1"


def test_a_feeds_types_hold_for_every_entry_however_lenient_it_is():
    rules = Rules(Strictness.LENIENT, frozenset(("Patient",)))
    assert judged(PATIENT, CREATE, rules) == (Outcome.ACCEPTED, [])
    assert judged(OBSERVATION, Asked(What.CREATE, "Observation"), rules) == (
        Outcome.REJECTED,
        [("FHR-09", "resourceType")],
    )
    assert judged(TRANSACTION, AT_BASE, rules) == (Outcome.REJECTED, [("FHR-09", "Bundle.entry[1].resource")])


def test_a_bundle_has_a_largest_number_of_entries():
    many = bundle(*[("POST", "Observation", {"resourceType": "Observation"})] * (ENTRIES_MAX + 1))
    assert judged(many) == (Outcome.REJECTED, [("FHR-11", "Bundle.entry")])


def test_messages_and_documents_are_known_by_their_own_names_and_nothing_else_is():
    identity = {name: judge(dumped(value), JSON, AT_BASE, Rules()).facts.identity for name, value in
                {"message": MESSAGE, "document": DOCUMENT, "transaction": {**TRANSACTION, "id": "t"}}.items()}  # fmt: skip
    assert identity == {"message": "envelope-1|message-1", "document": "urn:test|document-1", "transaction": ""}


# ---- XML ----------------------------------------------------------------------------------------------------------------
def test_xml_is_judged_as_the_same_json():
    inner = (
        '<type value="transaction"/><entry><resource><Patient><id value="7"/><contact><id value="x"/></contact></Patient></resource>'
        '<request><method value="PUT"/><url value="Patient/7"/></request></entry>'
        '<entry><resource><Observation/></resource><request><method value="POST"/><url value="Observation"/></request></entry>'
    )
    as_json = bundle(
        ("PUT", "Patient/7", {"resourceType": "Patient", "id": "7"}),
        ("POST", "Observation", {"resourceType": "Observation"}),
    )
    found = judge(resource_xml(inner, "Bundle"), XML, AT_BASE, Rules())
    assert found == judge(dumped(as_json), JSON, AT_BASE, Rules())
    assert found.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<Patient", "FHR-01"),
        (b'<Patient xmlns="http://hl7.org/fhir"></Person>', "FHR-01"),
        (b"<Patient/>", "FHR-05"),
        (resource_xml("", "Patent"), "FHR-05"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + resource_xml("&a;"), "FHR-01"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + resource_xml(""), "FHR-01"),
        (resource_xml("<a>" * 200 + "</a>" * 200), "FHR-04"),
        (resource_xml("<a/>" * 1_000_001), "FHR-11"),
        (b'<?xml version="1.0" encoding="ISO-8859-6"?>' + resource_xml("مريض").decode().encode("iso-8859-6"), "FHR-01"),
    ],
)  # fmt: skip
def test_xml_that_is_none_grows_reaches_out_or_nests_is_refused(body, code):
    verdict, errors = judged(body, CREATE, form=XML)
    assert (verdict, errors[0][0]) == (Outcome.REJECTED, code)


def test_answers_as_xml_say_what_they_say_as_json():
    found = outcome([Issue("error", "invalid", 'a < "b" & ج', "Patient.name[0]", "FHR-10")])
    root = ET.fromstring(encode(found, "xml"))
    fhir = "{http://hl7.org/fhir}"
    assert root.tag == f"{fhir}OperationOutcome"
    issue = root.find(f"{fhir}issue")
    assert [child.tag.removeprefix(fhir) for child in issue] == [
        "severity",
        "code",
        "details",
        "diagnostics",
        "expression",
    ]
    assert issue.find(f"{fhir}details/{fhir}text").get("value") == 'a < "b" & ج'
    facts = judge(dumped(TRANSACTION), JSON, AT_BASE, Rules()).facts
    answered = ET.fromstring(encode(bundle_response(facts, {}, base="http://b", epoch=1, seq=0, is_async=True), "xml"))
    assert [each.get("value") for each in answered.iter(f"{fhir}status")] == ["202 Accepted", "202 Accepted"]


# ---- requests -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "query", "asked"),
    [
        ("POST", "", "", Asked(What.BUNDLE)),
        ("POST", "/", "_format=json", Asked(What.BUNDLE)),
        ("POST", "/Patient", "", Asked(What.CREATE, "Patient")),
        ("PUT", "/Patient/7", "", Asked(What.UPDATE, "Patient", "7")),
        ("PUT", "/Patient", "identifier=a|b", Asked(What.UPDATE, "Patient")),
        ("POST", "/$process-message", "", Asked(What.MESSAGE, "Bundle")),
        ("POST", "/Patient/$validate", "mode=create", Asked(What.VALIDATE, "Patient")),
        ("POST", "/Patient/7/$validate", "", Asked(What.VALIDATE, "Patient")),
        ("HEAD", "/metadata", "", Asked(What.CAPABILITIES)),
        ("GET", "/.well-known/smart-configuration", "", Asked(What.SMART)),
    ],
)
def test_a_request_line_is_an_interaction(method, path, query, asked):
    assert parse(method, path, query) == asked


@pytest.mark.parametrize(
    ("method", "path", "error", "allow"),
    [
        ("GET", "", NotARepository, "POST"),
        ("GET", "/Patient", NotARepository, "POST, PUT"),
        ("GET", "/Patient/7", NotARepository, "PUT"),
        ("DELETE", "/Patient/7", NotARepository, "PUT"),
        ("PATCH", "/Patient/7", NotARepository, "PUT"),
        ("POST", "/Patient/_search", NotARepository, ""),
        ("GET", "/Patient/7/_history/1", NotARepository, ""),
        ("GET", "/_history", NotARepository, ""),
        ("POST", "/metadata", NotARepository, "GET, HEAD"),
        ("POST", "/Patent", UnknownPath, None),
        ("POST", "/$import", UnknownPath, None),
        ("POST", "/Patient/$match", UnknownPath, None),
        ("PUT", "/Patient", BadHeader, None),
        ("PUT", "/Patient/" + "7" * 65, UnknownPath, None),
        ("POST", "/" + "x" * 9000, BadHeader, None),
    ],
)
def test_what_a_node_that_only_carries_cannot_do_is_refused_and_told_so(method, path, error, allow):
    with pytest.raises(error) as refusal:
        parse(method, path, "")
    if allow is not None:
        assert refusal.value.allow == allow


@given(
    st.text(max_size=30), st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "X"]), st.text(max_size=20)
)
def test_no_request_line_raises_anything_but_a_refusal(path, method, query):
    for read in (
        lambda: parse(method, f"/{path}", query),
        lambda: wanted({"accept": path, "prefer": query}, query),
        lambda: medium(path),
        lambda: conditions({"if-none-exist": path, "if-match": query}),
    ):
        with contextlib.suppress(BadHeader, NotAcceptable, NotARepository, NotThisMedium, UnknownPath):
            read()


def test_conditional_headers_are_kept_as_they_came():
    headers = {"if-none-exist": "identifier=urn:test|1", "if-match": 'W/"3"', "accept": "*/*"}
    assert conditions(headers) == 'if-none-exist: identifier=urn:test|1\nif-match: W/"3"'
    for wrong in (
        {"if-none-exist": "x"},
        {"if-none-exist": ""},
        {"if-match": "3"},
        {"if-none-exist": "a=" + "b" * 9000},
    ):
        with pytest.raises(BadHeader):
            conditions(wrong)


@pytest.mark.parametrize(
    ("accept", "query", "form"),
    [
        ("", "", "json"),
        ("*/*", "", "json"),
        ("application/fhir+xml", "", "xml"),
        ("application/fhir+xml, application/fhir+json", "", "json"),
        ("application/fhir+xml;q=1.0, application/fhir+json;q=0.9", "", "xml"),
        ("application/fhir+xml, */*;q=0.1", "", "xml"),
        ("text/html", "_format=xml", "xml"),
        ("text/html", "_format=application/fhir+json", "json"),
        ("text/html", "_format=application%2Ffhir%2Bxml", "xml"),
        ("text/html", "", None),
        ("application/json;q=0", "", None),
        ("*/*", "_format=ttl", None),
    ],
)
def test_a_client_is_answered_in_the_form_it_prefers(accept, query, form):
    if form is None:
        with pytest.raises(NotAcceptable):
            wanted({"accept": accept}, query)
    else:
        assert wanted({"accept": accept}, query).form == form


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("application/fhir+json", "json"),
        ("application/json; charset=UTF-8", "json"),
        ("application/fhir+xml; fhirVersion=4.0", "xml"),
        ("", ""),
        ("text/plain", None),
        ("application/fhir+json; fhirVersion=5.0", None),
        ("application/fhir+json; charset=windows-1256", None),
    ],
)
def test_a_body_is_of_a_form_and_version_that_is_known(header, form):
    if form is None:
        with pytest.raises(NotThisMedium):
            medium(header)
    else:
        assert medium(header) == form


# ---- what we make ourselves ----------------------------------------------------------------------------------------------
ENDPOINT = Endpoint(
    base="http://b/fhir", version="0", date="2030-01-01", strictness=Strictness.NORMAL, types=(), body_bytes_max=1, token_url="http://b/t",
    needs_token=True, scopes=("system/*.cu",),
)  # fmt: skip


@pytest.mark.parametrize(
    "resource",
    [capability_statement(ENDPOINT), PATIENT, OBSERVATION, TRANSACTION, MESSAGE, outcome([Issue("error", "invalid", "x", "Patient", "FHR-10")]),
     bundle_response(judge(dumped(TRANSACTION), JSON, AT_BASE, Rules()).facts, {}, base="http://b", epoch=1, seq=1, is_async=False)],
    ids=lambda each: f"{each['resourceType']}-{each.get('type', '')}",
)  # fmt: skip
def test_what_we_answer_and_show_as_examples_is_valid_by_the_models(resource):
    assert validate(dumped(resource)) == []


def test_the_openapi_document_shows_an_example_for_each_body():
    document = openapi(ENDPOINT)
    for path in document["paths"].values():
        for method in ("post", "put"):
            if method in path:
                example = path[method]["requestBody"]["content"]["application/fhir+json"]["example"]
                assert judge(dumped(example), JSON, Asked(What.VALIDATE), Rules()).outcome is Outcome.ACCEPTED
                assert {"400", "429", "507"} <= path[method]["responses"].keys()


def test_the_types_without_a_model_are_those_of_r4_that_r4b_took_away():
    without = {kind for kind in TYPES if importlib.util.find_spec(f"fhir.resources.R4B.{kind.lower()}") is None}
    assert without == WITHOUT_MODEL
    assert len(TYPES) == 146  # the 148 codes of R4's resource-types without its two abstract ones


def test_the_corpus_is_taken_or_refused_for_a_reason_and_never_crashes_the_judge():
    if not CORPUS.is_dir():
        pytest.skip("no corpus beside the project")
    verdicts = []
    for file in sorted(CORPUS.rglob("*.json")):
        body = file.read_bytes()
        found = judge(body, JSON, Asked(What.VALIDATE), Rules())
        verdicts.append(found.outcome)
        assert (found.outcome is Outcome.ACCEPTED) is (not found.errors and not found.refused)
        if found.outcome is Outcome.ACCEPTED:
            assert fhir_json.read(body).value["resourceType"] == found.facts.kind
    assert verdicts.count(Outcome.ACCEPTED) > 300


def test_the_writer_of_xml_knows_extensions():
    written = fhir_xml.write(capability_statement(ENDPOINT)).decode()
    assert '<extension url="token"><valueUri value="http://b/t"/></extension>' in written
