"""The same clinical content as FHIR R4 JSON, and a signature over it: what an integration without Wasl would post, message by message.

Made in the peer's favour: compact JSON without blanks, no narrative, no meta or profiles, short local ids, what a message leaves empty left
out, segments that have no everyday resource left out altogether. One Bundle of type `transaction` a message.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Fields = list[str]
HL7_TABLE = "http://terminology.hl7.org/CodeSystem/"


def get(fields: Fields, at: int, component: int = 1, repeat: int = 0) -> str:
    """A component; for MSH the caller counts the separator."""
    if at >= len(fields):
        return ""
    repeats = fields[at].split("~")
    parts = repeats[repeat].split("^") if repeat < len(repeats) else []
    return parts[component - 1] if component <= len(parts) else ""


def instant(text: str) -> str:
    """An HL7 time as FHIR's."""
    if len(text) < 8:
        return text
    day = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
    return f"{day}T{text[8:10]}:{text[10:12]}:{text[12:14] or '00'}Z" if len(text) >= 12 else day


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {key: value for key, value in found.items() if value not in ("", [], {}, None)}


def coding(fields: Fields, at: int) -> dict[str, Any]:
    systems = {"LN": "http://loinc.org", "SCT": "http://snomed.info/sct", "I10": "http://hl7.org/fhir/sid/icd-10"}
    code = kept({"system": systems.get(get(fields, at, 3), ""), "code": get(fields, at), "display": get(fields, at, 2)})
    return kept({"coding": [code] if code else []})


def patient(f: Fields) -> dict[str, Any]:
    count = f[3].count("~") + 1 if len(f) > 3 else 0
    names = f[5].count("~") + 1 if len(f) > 5 else 0
    homes = f[11].count("~") + 1 if len(f) > 11 else 0
    return kept({
        "identifier": [kept({"system": f"urn:id:{get(f, 3, 4, n)}", "value": get(f, 3, 1, n)}) for n in range(count) if get(f, 3, 1, n)],
        "name": [kept({"family": get(f, 5, 1, n), "given": [g for g in (get(f, 5, 2, n), get(f, 5, 3, n)) if g]}) for n in range(names)],
        "telecom": [kept({"system": "phone", "value": get(f, 13, 7) or get(f, 13)})] if get(f, 13, 7) or get(f, 13) else [],
        "gender": {"F": "female", "M": "male"}.get(get(f, 8), ""),
        "birthDate": instant(get(f, 7)[:8]),
        "address": [kept({"line": [g for g in (get(f, 11, 1, n),) if g], "city": get(f, 11, 3, n), "postalCode": get(f, 11, 5, n), "country": get(f, 11, 6, n)}) for n in range(homes)],
    })  # fmt: skip


def encounter(f: Fields) -> dict[str, Any]:
    place = "/".join(part for part in (get(f, 3), get(f, 3, 2), get(f, 3, 3)) if part)
    return kept({
        "identifier": [{"value": get(f, 19)}] if get(f, 19) else [],
        "status": "finished" if get(f, 45) else "in-progress",
        "class": {"system": HL7_TABLE + "v3-ActCode", "code": {"I": "IMP", "E": "EMER"}.get(get(f, 2), "AMB")},
        "subject": {"reference": "#p"},
        "participant": [{"individual": kept({"identifier": {"value": get(f, 7)}, "display": f"{get(f, 7, 3)} {get(f, 7, 2)}".strip()})}] if get(f, 7) else [],
        "period": kept({"start": instant(get(f, 44)), "end": instant(get(f, 45))}),
        "location": [{"location": {"display": place}}] if place else [],
        "serviceType": {"text": get(f, 10)} if get(f, 10) else {},
    })  # fmt: skip


def request(f: Fields) -> dict[str, Any]:
    return kept({
        "identifier": [{"value": value} for value in (get(f, 2), get(f, 3)) if value],
        "status": "active", "intent": "order", "subject": {"reference": "#p"},
        "authoredOn": instant(get(f, 9)),
        "requester": {"display": f"{get(f, 12, 3)} {get(f, 12, 2)}".strip()} if get(f, 12) else {},
    })  # fmt: skip


def report(f: Fields) -> dict[str, Any]:
    return kept({
        "identifier": [{"value": value} for value in (get(f, 2), get(f, 3)) if value],
        "status": "final" if get(f, 25) == "F" else "registered",
        "code": coding(f, 4), "subject": {"reference": "#p"},
        "effectiveDateTime": instant(get(f, 7)), "issued": instant(get(f, 22)),
    })  # fmt: skip


def observation(f: Fields) -> dict[str, Any]:
    value = f[5] if len(f) > 5 else ""
    result: dict[str, Any] = {}
    if get(f, 2) == "NM":
        result = {"valueQuantity": kept({"value": value, "unit": get(f, 6)})}
    elif get(f, 2) in {"CE", "CWE"}:
        result = {"valueCodeableConcept": coding(f, 5)}
    elif value:
        result = {"valueString": value}
    flag = get(f, 8)
    return kept({
        "status": "final", "code": coding(f, 3), "subject": {"reference": "#p"}, **result,
        "interpretation": [{"coding": [{"system": HL7_TABLE + "v3-ObservationInterpretation", "code": flag}]}] if flag else [],
        "referenceRange": [{"text": f[7]}] if len(f) > 7 and f[7] else [],
        "effectiveDateTime": instant(get(f, 14)),
    })  # fmt: skip


def condition(f: Fields) -> dict[str, Any]:
    return kept({"code": coding(f, 3), "subject": {"reference": "#p"}, "recordedDate": instant(get(f, 5))})


def allergy(f: Fields) -> dict[str, Any]:
    return kept({"code": coding(f, 3) or {"text": get(f, 3, 2)}, "patient": {"reference": "#p"}, "reaction": [{"manifestation": [{"text": get(f, 5)}]}]})  # fmt: skip


def relative(f: Fields) -> dict[str, Any]:
    return kept({"patient": {"reference": "#p"}, "name": [kept({"family": get(f, 2), "given": [get(f, 2, 2)]})], "relationship": [coding(f, 3)]})  # fmt: skip


def remark(f: Fields) -> dict[str, Any]:
    return {"status": "completed", "subject": {"reference": "#p"}, "payload": [{"contentString": f[3] if len(f) > 3 else ""}]}  # fmt: skip


MAPPED: dict[str, tuple[str, Callable[[Fields], dict[str, Any]]]] = {
    "PID": ("Patient", patient), "PV1": ("Encounter", encounter), "ORC": ("ServiceRequest", request), "OBR": ("DiagnosticReport", report),
    "OBX": ("Observation", observation), "DG1": ("Condition", condition), "AL1": ("AllergyIntolerance", allergy), "NK1": ("RelatedPerson", relative),
    "NTE": ("Communication", remark),
}  # fmt: skip


def bundle(raw: bytes) -> bytes:
    """The message as a FHIR Bundle."""
    entries: list[dict[str, Any]] = []
    lines = [line.split("|") for line in raw.decode("utf-8", "replace").split("\r") if line]
    head = next((line for line in lines if line[0] == "MSH"), [])
    entries.append(
        {"resource": kept({"resourceType": "MessageHeader", "eventCoding": {"code": "-".join(get(head, 8, n) for n in (1, 2))}, "source": {"name": get(head, 2)}, "id": get(head, 9)})}
    )  # fmt: skip
    for line in lines:
        if line[0] in MAPPED:
            kind, make = MAPPED[line[0]]
            named = {"id": "p"} if kind == "Patient" else {}
            entries.append(
                {"resource": {"resourceType": kind, **named, **make(line)}, "request": {"method": "POST", "url": kind}}
            )
    made = {"resourceType": "Bundle", "type": "transaction", "timestamp": instant(get(head, 6)), "entry": entries}
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def signature(body: bytes, key: Ed25519PrivateKey) -> str:
    """A detached JWS (RFC 7515 appendix F) over the body, EdDSA: `header..signature`."""
    protected = base64.urlsafe_b64encode(b'{"alg":"EdDSA","kid":"bench"}').rstrip(b"=")
    payload = base64.urlsafe_b64encode(body).rstrip(b"=")
    signed = base64.urlsafe_b64encode(key.sign(protected + b"." + payload)).rstrip(b"=")
    return (protected + b".." + signed).decode()
