"""The endpoint as OpenAPI 3.1, with worked examples; synthetic patients that look it."""

from typing import Any, Final

from hl7.fhir_answers import KEPT, outcome
from hl7.fhir_capability import READS, Endpoint

Document = dict[str, Any]

PATIENT: Final[Document] = {
    "resourceType": "Patient",
    "id": "test-900101001",
    "identifier": [{"system": "urn:oid:2.999.1", "value": "900101001"}],
    "name": [{"text": "مريض تجريبي", "family": "Test", "given": ["Patient"]}],
    "gender": "female",
    "birthDate": "1990-01-01",
}
OBSERVATION: Final[Document] = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]},
    "subject": {"reference": "Patient/test-900101001"},
    "effectiveDateTime": "2030-01-01T08:00:00+03:00",
    "valueQuantity": {"value": 13.5, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
}
TRANSACTION: Final[Document] = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/test-900101001"}},
        {"resource": OBSERVATION, "request": {"method": "POST", "url": "Observation", "ifNoneExist": "identifier=urn:oid:2.999.2|L-1"}},
    ],
}  # fmt: skip
MESSAGE: Final[Document] = {
    "resourceType": "Bundle",
    "id": "envelope-1",
    "type": "message",
    "timestamp": "2030-01-01T08:00:00+03:00",
    "entry": [
        {
            "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001",
            "resource": {
                "resourceType": "MessageHeader",
                "id": "message-1",
                "eventCoding": {"system": "urn:oid:2.999.3", "code": "test-event"},
                "source": {"endpoint": "urn:oid:2.999.4"},
            },
        },
        {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000002", "resource": PATIENT},
    ],
}

REFUSALS: Final = {
    "400": "It cannot be read, or does not fit its address; the OperationOutcome names the element",
    "401": "A bearer token is needed",
    "404": "No such address",
    "405": "This node only carries: it holds nothing to read, search, patch or delete",
    "413": "Longer than the feed takes",
    "415": "Neither JSON nor XML of FHIR R4",
    "422": "Not a resource of R4, not a type of this feed, or not valid",
    "429": "The disk is slow: not stored; send again after Retry-After",
    "507": "There is no room: not stored; send again after Retry-After",
}


def openapi(endpoint: Endpoint) -> Document:
    """The whole document."""
    document: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Wasl: FHIR feed", "version": endpoint.version, "description": f"{READS[endpoint.strictness]} {endpoint.limits}"},
        "servers": [{"url": endpoint.base}],
        "paths": {
            "/": {"post": _post("Send a transaction, batch, message or document", "200", TRANSACTION, "Answered entry by entry")},
            "/{type}": {
                "parameters": [_parameter("type", "path", "A resource type of R4", "Observation")],
                "post": _post("Create a resource", "201", OBSERVATION, "Kept durably; Location names what it becomes", _parameter(
                    "If-None-Exist", "header", "Kept, and carried out at the centre", "identifier=urn:oid:2.999.2|L-1")),
            },
            "/{type}/{id}": {
                "parameters": [
                    _parameter("type", "path", "A resource type of R4", "Patient"),
                    _parameter("id", "path", "The id, which the resource has too", "test-900101001"),
                ],
                "put": _post("Update a resource, or create it under this id", "200", PATIENT, "Kept durably", _parameter(
                    "If-Match", "header", "Kept, and carried out at the centre", 'W/"3"')),
            },
            "/{type}/$validate": {
                "parameters": [_parameter("type", "path", "A resource type of R4", "Patient")],
                "post": _post("Validate, and keep nothing", "200", PATIENT, "What structure and models say"),
            },
            "/$process-message": {"post": _post("Send a message", "202", MESSAGE, "Kept durably; the response comes from the centre")},
            "/metadata": {"get": {"summary": "The CapabilityStatement", "responses": {"200": {"description": "Every limit stands in it"}}}},
        },
    }  # fmt: skip
    if endpoint.needs_token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def _parameter(name: str, where: str, description: str, example: str) -> Document:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def _post(summary: str, status: str, example: Document, answer: str, *parameters: Document) -> Document:
    prefer = _parameter(
        "Prefer",
        "header",
        "return=minimal, representation or OperationOutcome; respond-async",
        "return=OperationOutcome",
    )
    request_id = _parameter(
        "X-Request-Id", "header", "The same id and bytes a second time are a repeat, and are not stored twice", "a-1"
    )
    refusals: Document = {
        code: {"description": text, "content": {"application/fhir+json": {}}} for code, text in REFUSALS.items()
    }
    kept = {"application/fhir+json": {"example": outcome([KEPT])}}
    return {
        "summary": summary,
        "parameters": [*parameters, prefer, request_id],
        "requestBody": {
            "required": True,
            "content": {
                "application/fhir+json": {"schema": {"type": "object"}, "example": example},
                "application/fhir+xml": {},
            },
        },
        "responses": {status: {"description": answer, "content": kept}, **refusals},
    }
