"""A destination that writes FHIR to a server in the test's own process, and what is sent to it."""

import json
import time

from hl7.convert.result import Origin
from node.config.destinations import FhirOut
from node.destinations.conversion import Tally, ToFhir
from node.destinations.fhir import FhirSink
from node.destinations.plug import ER7, Outgoing
from tests.convert_rig import message

THIN = "PID|1||1001^^^CLINIC^MR||الحربي^مريم"
RESULT = (
    "PV1|1|O|||||77^Test^Doctor",
    "OBR|1|P-1|F-1|1^Test||20260102|20260102|",
    "OBX|1|NM|2345-7^Glucose^LN||72.50|mg/dL|||||F",
)


def sink(store, *, tally=None, manners=None, **keys) -> FhirSink:
    to_server = FhirOut.model_validate(
        {"name": "server", "kind": "fhir", "url": store.url, "streams": ("his",), **keys}
    )
    return FhirSink(to_server, monotonic=time.monotonic, convert=ToFhir(to_server, manners or {}, tally or Tally()))


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
