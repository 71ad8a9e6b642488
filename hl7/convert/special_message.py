"""Special rules of the message's header, the patient and the people around."""

from typing import TYPE_CHECKING, Final

from hl7.convert.building import Resource
from hl7.convert.context import Context
from hl7.convert.json_text import whole
from hl7.convert.people import address, contact_point, practitioner
from hl7.convert.reading import Part, Segment
from hl7.convert.special_values import Special
from hl7.convert.values import UNCODED, concept

if TYPE_CHECKING:
    from hl7.convert.result import Json

_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_TERMS: Final = "http://terminology.hl7.org/CodeSystem/"


def _endpoint(part: Part, ctx: Context) -> str:
    """Return an application's URI; where it has a name only, one made of the name."""
    return ctx.authority(part.get(1), part.get(2), part.get(3)) or "urn:wasl:unknown"


def source(segment: Segment, made: Resource, ctx: Context) -> None:
    """MSH-3."""
    part = segment.reps(3)[0]
    made.body["source"] = ({"name": part.get(1)} if part.has(1) else {}) | {"endpoint": _endpoint(part, ctx)}


def destination(segment: Segment, made: Resource, ctx: Context) -> None:
    """MSH-5."""
    for part in segment.reps(5):
        name = {"name": part.get(1)} if part.has(1) else {}
        made.body.setdefault("destination", []).append(name | {"endpoint": _endpoint(part, ctx)})


def receiver(segment: Segment, made: Resource, ctx: Context) -> None:
    """MSH-6: whose the destination is."""
    part = segment.reps(6)[0]
    name = part.get(1)
    destinations = made.body.setdefault("destination", [{"endpoint": "urn:wasl:unknown"}])
    uri = ctx.authority(name, part.get(2), part.get(3))
    destinations[0]["receiver"] = {"display": name or uri}


def sent(segment: Segment, made: Resource, ctx: Context) -> None:
    """MSH-7 and 10: kept for the Bundle, and for the Provenance of a message that is no record."""
    made.last["sent"] = {"at": segment.peek(7), "id": segment.get(10)}
    if ctx.moment(segment.reps(7)[0]).instant == "" and segment.peek(7):
        segment.reps(7)[0].read = 0


def event(segment: Segment, made: Resource, _ctx: Context) -> None:
    """MSH-9: the event's code, the whole type as its display."""
    part = segment.reps(9)[0]
    code, trigger, structure = part.get(1), part.get(2), part.get(3)
    if not trigger:
        code, _, trigger = code.partition("_")
    system = f"{_TERMS}v2-0003" if trigger else f"{_TERMS}v2-0076"
    display = "^".join(word for word in (code, trigger, structure) if word)
    made.body["eventCoding"] = {"system": system, "code": trigger or code, "display": display}


def purpose(segment: Segment, made: Resource, _ctx: Context) -> None:
    """MSH-11: production, training, debugging."""
    part = segment.reps(11)[0]
    for at, system in ((1, "v2-0103"), (2, "v2-0207")):
        if part.has(at):
            tag = {"system": _TERMS + system, "code": part.get(at)}
            made.put((("meta", ""), ("tag", "*")), tag, None)


def recorded(segment: Segment, made: Resource, ctx: Context) -> None:
    """EVN-2: when the sender wrote the event down; the Provenance itself is written when the record was received."""
    part = segment.reps(2)[0]
    found = ctx.moment(part)
    if found.instant and not made.body["recorded"]:
        made.body["recorded"] = found.instant
    elif found.instant:
        made.body["extension"] = [{"url": "urn:wasl:event-recorded", "valueInstant": found.instant}]


def birth_time(segment: Segment, made: Resource, ctx: Context) -> None:
    """PID-7 with a time of day; midnight to the second is how systems without one fill it up."""
    part = segment.reps(7)[0]
    text = part.peek(1)
    if len(text) <= 8 or not made.body.get("birthDate"):
        return
    if not text[8:14].strip("0").isdigit():
        part.segment.reasons.pop(f"{part.where}.1", None)
        part.get(1)
        return
    found = ctx.moment(part)
    if found.instant:
        made.body["_birthDate"] = {
            "extension": [{"url": f"{_EXTENSION}patient-birthTime", "valueDateTime": found.date_time}]
        }


def _people(segment: Segment, made: Resource, ctx: Context, at: int, name: str) -> None:
    for part in segment.reps(at):
        found = concept(part, ctx, "")
        if found:
            inner = [{"url": "code", "valueCodeableConcept": found}]
            made.put((("extension", "*"),), {"url": f"{_EXTENSION}patient-{name}", "extension": inner}, None)


def citizenship(segment: Segment, made: Resource, ctx: Context) -> None:
    """PID-26."""
    _people(segment, made, ctx, 26, "citizenship")


def nationality(segment: Segment, made: Resource, ctx: Context) -> None:
    """PID-28."""
    _people(segment, made, ctx, 28, "nationality")


def payor(segment: Segment, made: Resource, ctx: Context) -> None:
    """IN1-3, 4, 5, 7: one insurer, known by number, name, address and telephone."""
    number, name = segment.get(3), segment.get(4)
    part = segment.reps(3)[0]
    system = ctx.authority(part.peek(4), "", "") if part.has(4) else ""
    part.get(4)
    insurer, is_new = ctx.draft.entity("Organization", f"{system}|{number}" if number else f"name|{name}")
    if is_new:
        if number:
            insurer.body["identifier"] = [({"system": system} if system else {}) | {"value": number}]
        insurer.body["name"] = name or number
    for at, target, convert in ((5, "address", address), (7, "telecom", contact_point)):
        for each in segment.reps(at) if segment.has(at) else []:
            found = convert(each, ctx, "")
            if found:
                insurer.put(((target, "*"),), found, None)
    made.put((("payor", "*"),), insurer.reference, None)


def diagnosis(segment: Segment, made: Resource, ctx: Context) -> None:
    """DG1 among an Encounter's diagnoses, with its use and rank."""
    condition = ctx.current.get("Condition")
    if condition is None:
        return
    element: Json = {"condition": condition.reference}
    if segment.has(6) and (use := concept(segment.reps(6)[0], ctx, "diagnosis-type")):
        element["use"] = use
    if rank := whole(segment.peek(15)):
        segment.get(15)
        element["rank"] = rank
    made.body.setdefault("diagnosis", []).append(element)


def words_of_concept(segment: Segment, made: Resource, _ctx: Context) -> None:
    """DG1-4, PR1-4, FT1-8: the words of the code in the field before, unless it has some."""
    at = {"FT1": 8}.get(segment.name, 4)
    text = segment.get(at)
    code = made.body.setdefault("code", {})
    if text and code.setdefault("text", text) != text:
        segment.reps(at)[0].read = 0
        segment.note(f"{segment.where}-{at}", "the code has another text")


def role_place(_segment: Segment, made: Resource, ctx: Context) -> None:
    """ROL, PRT: a participant of the visit, once there is one; before it, the patient's own doctor."""
    encounter, patient = ctx.current.get("Encounter"), ctx.current.get("Patient")
    order = ctx.current.get("ServiceRequest")
    if order is not None:
        order.put((("performer", "*"),), made.reference, None)
    elif encounter is not None:
        element: Json = {"individual": made.reference}
        if made.body.get("code"):
            element["type"] = made.body["code"]
        encounter.body.setdefault("participant", []).append(element)
    elif patient is not None:
        patient.put((("generalPractitioner", "*"),), made.reference, None)


def acknowledged(segment: Segment, made: Resource, _ctx: Context) -> None:
    """MSA: FHIR's response has both code and identifier, or is not there."""
    found = made.body.get("response", {})
    if found and not (found.get("code") and found.get("identifier")):
        del made.body["response"]
        for at in (1, 2):
            segment.reps(at)[0].read = 0
            segment.note(f"{segment.where}-{at}", "half of a response")


def provider_name(segment: Segment, made: Resource, ctx: Context) -> None:
    """PRD-2 and 7: a provider's name and numbers, which lie in two fields."""
    part = segment.reps(2)[0]
    number = segment.get(7)
    key = f"number|{number}" if number else "name|" + "|".join(part.peek(at) for at in range(1, 6))
    person, is_new = ctx.draft.entity("Practitioner", key)
    name: Json = {}
    if part.has(1):
        name["family"] = part.sub(1).get(1)
    given = [part.get(at) for at in (2, 3) if part.has(at)]
    if given:
        name["given"] = given
    if is_new and name:
        person.body["name"] = [name]
    if is_new and number:
        person.body["identifier"] = [{"value": number}]
    for at, target, convert in ((3, "address", address),):
        for each in segment.reps(at) if segment.has(at) else []:
            found = convert(each, ctx, "")
            if found:
                person.put(((target, "*"),), found, None)
    made.body["practitioner"] = person.reference


def vaccine_source(segment: Segment, made: Resource, ctx: Context) -> None:
    """RXA-9: 00 of NIP001 is a new vaccination; all others are told from memory or a paper."""
    for part in segment.reps(9):
        code = part.peek(1)
        if code == "00" or not code:
            part.whole()
            made.body.setdefault("primarySource", True)
        elif code.isdigit():
            origin = concept(part, ctx, "")
            made.body["primarySource"] = False
            if origin:
                made.body.setdefault("reportOrigin", origin)
        else:
            text = part.whole()
            made.body.setdefault("note", []).append({"text": text})


def author_unknown(segment: Segment, _made: Resource, ctx: Context) -> None:
    """ORC-10: who entered the order, as an agent of the message's Provenance."""
    provenance = ctx.current.get("Provenance")
    for part in segment.reps(10):
        who = practitioner(part, ctx, "")
        if who is None or provenance is None:
            ctx.lose(part, 1, UNCODED)
        else:
            kind = {"coding": [{"system": f"{_TERMS}provenance-participant-type", "code": "enterer"}]}
            provenance.put((("agent", "*"),), {"type": kind, "who": who}, None)


MESSAGE: Final[dict[str, Special]] = {
    "message-source": source,
    "message-destination": destination,
    "message-receiver": receiver,
    "message-sent": sent,
    "message-event": event,
    "message-purpose": purpose,
    "event-recorded": recorded,
    "birth-time": birth_time,
    "citizenship": citizenship,
    "nationality": nationality,
    "payor": payor,
    "acknowledged": acknowledged,
    "diagnosis": diagnosis,
    "concept-words": words_of_concept,
    "role-place": role_place,
    "provider-name": provider_name,
    "vaccine-source": vaccine_source,
    "enterer": author_unknown,
}
