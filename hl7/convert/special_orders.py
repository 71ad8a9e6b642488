"""Special rules of orders, reports, specimens, doses and timing."""

import re
from typing import TYPE_CHECKING, Final

from hl7.convert.building import Resource
from hl7.convert.context import Context
from hl7.convert.json_text import number
from hl7.convert.people import address, practitioner
from hl7.convert.reading import Segment
from hl7.convert.special_values import Special
from hl7.convert.values import concept, entity_identifier, instant, unit

if TYPE_CHECKING:
    from hl7.convert.result import Json

_TERMS: Final = "http://terminology.hl7.org/CodeSystem/"
_EVERY: Final = re.compile(r"Q(\d{1,3})([SMHDWL])")  # table 0335: Q6H
_TIMES: Final = {"QD": 1, "BID": 2, "TID": 3, "QID": 4}
_UNITS: Final = {"S": "s", "M": "min", "H": "h", "D": "d", "W": "wk", "L": "mo"}


def parent_order(segment: Segment, made: Resource, ctx: Context) -> None:
    """ORC-8, OBR-29: the order it belongs to, by its placer's or filler's number."""
    at = 8 if segment.name == "ORC" else 29
    part = segment.reps(at)[0]
    for sub in (1, 2):
        if part.has(sub):
            found = entity_identifier(part.sub(sub), ctx, "")
            if found:
                reference = {"type": "ServiceRequest", "identifier": found}
                made.put((("basedOn", "*"),), reference, None)


def supporting_text(segment: Segment, made: Resource, _ctx: Context) -> None:
    """OBR-13: what the laboratory should know of the patient."""
    text = "\n".join(part.whole() for part in segment.reps(13)).strip()
    if text:
        made.put((("note", "*"),), {"text": text}, None)


def _specimen(segment: Segment, ctx: Context) -> Resource:
    """Return the specimen of an OBR without SPM; a new one at its first field."""
    made = ctx.current.get("Specimen")
    if made is None:
        made = ctx.draft.begin("Specimen")
        ctx.current["Specimen"] = made
        report = ctx.current.get("DiagnosticReport")
        if report is not None:
            made.keys.append(("of", report))
            report.put((("specimen", "*"),), made.reference, None)
        for name, role in (("subject", "Patient"), ("request", "ServiceRequest")):
            other = ctx.current.get(role)
            if other is not None:
                made.put(((name, "*" if name == "request" else ""),), other.reference, None)
        when = ctx.moment(segment.reps(7)[0]).date_time if segment.has(7) else ""
        if when:
            made.body["collection"] = {"collectedDateTime": when}
    return made


def collector(segment: Segment, _made: Resource, ctx: Context) -> None:
    """OBR-10."""
    who = practitioner(segment.reps(10)[0], ctx, "")
    if who:
        _specimen(segment, ctx).put((("collection", ""), ("collector", "")), who, None)


def received(segment: Segment, _made: Resource, ctx: Context) -> None:
    """OBR-14."""
    found = ctx.moment(segment.reps(14)[0]).date_time
    if found:
        _specimen(segment, ctx).body["receivedTime"] = found


def specimen_source(segment: Segment, _made: Resource, ctx: Context) -> None:
    """OBR-15 (SPS, withdrawn since 2.5): kind, additive, method, body site."""
    part = segment.reps(15)[0]
    specimen = _specimen(segment, ctx)
    for at, steps in (
        (1, (("type", ""),)),
        (2, (("container", "one"), ("additiveCodeableConcept", ""))),
        (4, (("collection", ""), ("bodySite", ""))),
        (6, (("condition", "*"),)),
    ):
        found = concept(part.sub(at), ctx, "") if part.has(at) else None
        if found:
            specimen.put(steps, found, None)
    if part.has(3):
        specimen.put((("note", "*"),), {"text": part.get(3)}, None)


def specimen_remark(segment: Segment, made: Resource, _ctx: Context) -> None:
    """SPM-14."""
    for part in segment.reps(14):
        made.put((("note", "*"),), {"text": part.whole()}, None)


def collected(segment: Segment, made: Resource, ctx: Context) -> None:
    """SPM-17: a moment, or a span where it names an end."""
    part = segment.reps(17)[0]
    start = ctx.moment(part, 1).date_time if part.has(1) else ""
    end = ctx.moment(part, 2).date_time if part.has(2) else ""
    collection = made.body.setdefault("collection", {})
    if end:
        collection["collectedPeriod"] = ({"start": start} if start else {}) | {"end": end}
    elif start:
        collection["collectedDateTime"] = start
    if not collection:
        del made.body["collection"]


def sub_identifier(segment: Segment, made: Resource, _ctx: Context) -> None:
    """OBX-4: which of several of the same code it is; R4's Observation knows it as an identifier at most."""
    text = segment.reps(4)[0].whole()
    made.put((("identifier", "*"),), {"type": {"text": "OBX-4"}, "value": text}, None)


def unit_alone(segment: Segment, made: Resource, ctx: Context) -> None:
    """OBX-6 where the value is no number: a unit that FHIR has no place for stays unread; without value it is listed."""
    value = made.body.get("valueQuantity")
    if value is not None and "unit" not in value:
        value |= unit(segment.reps(6)[0], ctx, "") or {}


def no_result(segment: Segment, made: Resource, _ctx: Context) -> None:
    """OBX-11 of X or N: why there is no value."""
    code = {"X": "not-performed", "N": "not-asked", "O": "temp-unknown", "I": "temp-unknown"}.get(segment.peek(11))
    if code and not any(name.startswith("value") for name in made.body):
        made.body["dataAbsentReason"] = {"coding": [{"system": f"{_TERMS}data-absent-reason", "code": code}]}


def performer_address(segment: Segment, made: Resource, ctx: Context) -> None:
    """OBX-24: the address of the organisation of OBX-23."""
    found = address(segment.reps(24)[0], ctx, "")
    references = [each for each in made.body.get("performer", []) if "reference" in each]
    for other in ctx.draft.resources:
        if found and other.type == "Organization" and any(other.reference is each for each in references):
            other.put((("address", "*"),), found, None)
            return
    if found:
        segment.reps(24)[0].read = 0
        segment.note(f"{segment.where}-24", "no organisation of OBX-23 to give it to")


def observation_category(segment: Segment, made: Resource, ctx: Context) -> None:
    """OBX-29: RSLT, EXP, SCI and others of table 0936."""
    code = segment.get(29)
    known = ctx.codes("observation-category").codes.get(code)
    system = f"{_TERMS}observation-category" if known else f"{_TERMS}v2-0936"
    made.put((("category", "*"),), {"coding": [{"system": system, "code": known.code if known else code}]}, None)


def document_title(segment: Segment, made: Resource, _ctx: Context) -> None:
    """OBX-3 of a document: what its part is called."""
    part = segment.reps(3)[0]
    title = part.get(2) or part.get(1)
    if title and not made.body.get("description"):
        made.body["description"] = title
    elif title and made.body.get("description") != title:
        segment.note(part.where, "the document has another title")
        part.read = 0


def repeat_pattern(segment: Segment, made: Resource, _ctx: Context) -> None:
    """TQ1-3: how often, as far as FHIR's Timing knows it; the words themselves always."""
    part = segment.reps(3)[0]
    _put_pattern(part.sub(1).get(1) or part.get(1), made)


def _put_pattern(pattern: str, made: Resource) -> None:
    if not pattern:
        return
    timing: Json = {"code": {"text": pattern}}
    every = _EVERY.fullmatch(pattern.upper())
    if every:
        timing["repeat"] = {"frequency": 1, "period": int(every[1]), "periodUnit": _UNITS[every[2]]}
    elif pattern.upper() in _TIMES:
        timing["repeat"] = {"frequency": _TIMES[pattern.upper()], "period": 1, "periodUnit": "d"}
    if made.type == "ServiceRequest":
        if not any(name.startswith("occurrence") for name in made.body):
            made.body["occurrenceTiming"] = timing
        elif "note" not in made.body:
            made.body["note"] = [{"text": pattern}]
    else:
        made.put((("dosageInstruction", "order"), ("timing", "")), timing, None)


def timing_span(segment: Segment, made: Resource, ctx: Context) -> None:
    """TQ1-7 and 8: when the order is to be carried out."""
    start, end = (ctx.moment(segment.reps(at)[0]).date_time if segment.has(at) else "" for at in (7, 8))
    if not any(name.startswith("occurrence") for name in made.body):
        if start and not end:
            made.body["occurrenceDateTime"] = start
        elif end:
            made.body["occurrencePeriod"] = ({"start": start} if start else {}) | {"end": end}
        return
    timing = made.body.get("occurrenceTiming")
    if timing is not None and (start or end):
        span = ({"start": start} if start else {}) | ({"end": end} if end else {})
        timing.setdefault("repeat", {}).setdefault("boundsPeriod", span)


def timing_first(segment: Segment, made: Resource, ctx: Context) -> None:
    """RXE-1 (TQ, withdrawn since 2.7): interval, start, end."""
    part = segment.reps(1)[0]
    if part.has(2):
        _put_pattern(part.sub(2).get(1), made)
    span = {}
    for at, name in ((4, "start"), (5, "end")):
        if part.has(at) and (found := ctx.moment(part, at).date_time):
            span[name] = found
    if span:
        steps = (("dosageInstruction", "order"), ("timing", ""), ("repeat", ""), ("boundsPeriod", ""))
        made.put(steps, span, None)


def dose(segment: Segment, made: Resource, ctx: Context) -> None:
    """RXO-2 to 4, RXE-3 to 5, RXG-5 to 7: an amount, or a range of them, and the unit."""
    at = {"RXO": 2, "RXE": 3, "RXG": 5}[segment.name]
    low, high = number(segment.peek(at)), number(segment.peek(at + 1))
    if low is None:
        segment.note(f"{segment.where}-{at}", "not a number")
        return
    segment.get(at)
    segment.get(at + 1)
    measure = (unit(segment.reps(at + 2)[0], ctx, "") or {}) if segment.has(at + 2) else {}
    steps = (("dosageInstruction", "order"), ("doseAndRate", "one"))
    if high is not None and high != low:
        range_of = {"low": {"value": low} | measure, "high": {"value": high} | measure}
        made.put((*steps, ("doseRange", "")), range_of, None)
    else:
        made.put((*steps, ("doseQuantity", "")), {"value": low} | measure, None)


def vaccine_dose(segment: Segment, made: Resource, ctx: Context) -> None:
    """RXA-6 and 7; 999 is the registries' word for "not known" and no amount."""
    sent = segment.peek(6)
    value = number(sent)
    if value is None or sent == "999":
        segment.note(f"{segment.where}-6", "999: the amount is not known" if sent == "999" else "not a number")
        return
    segment.get(6)
    measure = (unit(segment.reps(7)[0], ctx, "") or {}) if segment.has(7) else {}
    made.body["doseQuantity"] = {"value": value} | measure


def appointment_timing(segment: Segment, made: Resource, ctx: Context) -> None:
    """SCH-11 (TQ, withdrawn since 2.7): start, end, priority."""
    part = segment.reps(11)[0]
    for at, name in ((4, "start"), (5, "end")):
        if part.has(at):
            found = ctx.moment(part, at)
            if found.instant:
                made.body.setdefault(name, found.instant)
            elif not found.problem:
                ctx.lose(part, at, "an instant needs a time of day")


def first_instant(segment: Segment, made: Resource, ctx: Context) -> None:
    """AIx: the start of the appointment, unless SCH has said it."""
    at = {"AIS": 4, "AIG": 8, "AIL": 6, "AIP": 6}[segment.name]
    found = instant(segment.reps(at)[0], ctx, "")
    if found and made.body.setdefault("start", found) != found:
        segment.note(f"{segment.where}-{at}", "the appointment begins at another time")


ORDERS: Final[dict[str, Special]] = {
    "parent-order": parent_order,
    "supporting-text": supporting_text,
    "collector": collector,
    "received": received,
    "specimen-source": specimen_source,
    "specimen-remark": specimen_remark,
    "collected": collected,
    "sub-identifier": sub_identifier,
    "unit-alone": unit_alone,
    "no-result": no_result,
    "performer-address": performer_address,
    "observation-category": observation_category,
    "document-title": document_title,
    "repeat-pattern": repeat_pattern,
    "timing-span": timing_span,
    "timing-first": timing_first,
    "dose": dose,
    "vaccine-dose": vaccine_dose,
    "appointment-timing": appointment_timing,
    "appointment-start": first_instant,
}
