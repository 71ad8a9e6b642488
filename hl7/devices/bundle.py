"""The transaction and the Provenance around a device's resources, of the same shape as those of a converted message."""

from typing import Final

from hl7.convert.building import Resource
from hl7.convert.context import Context
from hl7.convert.result import VERSION, Json, Origin

_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def provenance_of(ctx: Context, origin: Origin | None, what: str, sent: str) -> Resource | None:
    """Begin the resource that says where all others come from; None where nobody knows when: an invented time is worse."""
    recorded = origin.received_at if origin else sent if len(sent) > len("2026-11-22") else ""
    if not recorded:
        return None
    made = ctx.draft.begin("Provenance")
    made.keys.append((ctx.draft.position,))
    source: Json = {"identifier": {"system": "urn:ietf:rfc:3986", "value": ctx.draft.position}}
    if origin and origin.leaf:
        source["display"] = f"leaf {origin.leaf}"
    made.body |= {
        "target": [],
        "recorded": recorded,
        "activity": {"text": what},
        "agent": [
            {
                "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler"}]},
                "who": {"display": f"Wasl converter {VERSION}"},
            }
        ],
        "entity": [{"role": "source", "what": source}],
    }
    return made


def bundle_of(ctx: Context, provenance: Resource | None) -> tuple[Json, set[str]]:
    """Return the transaction, and what in it was only mentioned."""
    made = ctx.draft.finish()
    if provenance is not None:
        targets = [each.reference for each in made if each is not provenance and each.owned]
        provenance.body["target"] = targets or [each.reference for each in made if each is not provenance]
    entries = []
    mentioned = set()
    for each in made:
        name = each.reference["reference"]
        if not each.owned:
            mentioned.add(name)
        each.body.setdefault("meta", {})["source"] = ctx.draft.position
        request = {"method": "PUT", "url": name}
        entries.append({"fullUrl": f"urn:uuid:{each.body['id']}", "resource": each.body, "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}, mentioned
