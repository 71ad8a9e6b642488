"""`convert`: an HL7 v2 message's bytes to a transaction Bundle of FHIR R4, and a list of what is not in it."""

import hashlib
import re
from typing import Final

from hl7.convert.building import Draft, Resource
from hl7.convert.context import Context
from hl7.convert.json_text import whole
from hl7.convert.naming import key_of
from hl7.convert.plan import IGNORED, Block, Family, family_of, plan_of
from hl7.convert.reading import NULL, Segment, decode, segments
from hl7.convert.result import (
    VERSION,
    CannotConvert,
    Converted,
    IsLate,
    Json,
    Origin,
    Settings,
    Unmapped,
    never,
)
from hl7.convert.times import later, moment
from hl7.errors import NotEr7
from hl7.message import facts
from hl7.separators import read_separators

SEGMENTS_MAX: Final = 20_000  # the largest of 4,128 published messages has 842; a day's batch is split before
BYTES_MAX: Final = 64 * 1024 * 1024  # four times what a feed takes in a frame; the text and its parts are in memory
LOOK_SEGMENTS: Final = 32  # between two looks at the time: 1 to 20 ms

NO_RULE: Final = "no rule maps it"
NO_SEGMENT: Final = "no rule maps this segment in this type of message"
NULL_SENT: Final = 'null (""): FHIR has no "delete"; the element is left out'
NOT_WHOLE: Final = "bytes that are no text in this character set were replaced by U+FFFD"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


_OF_ADT: Final = frozenset({"Account", "Coverage", "Encounter", "Patient", "RelatedPerson"})
_ADT: Final = {"patient", "moved"}  # the families that are about these; to others they are whom the message speaks of
_NOBODY: Final[frozenset[str]] = frozenset()
_OF_ORDERS: Final = frozenset({"MedicationRequest", "ServiceRequest"})
# Messages that place an order, or change it. All others repeat of one what they have to (results, documents, charges, problems, what was given,
# replies): whoever placed it said more, and is its authority.
_PLACING: Final = frozenset({"OMB", "OMD", "OMG", "OMI", "OML", "OMN", "OMP", "OMQ", "OPL", "ORM", "OSU", "RDE", "REF"})


def convert(
    raw: bytes, settings: Settings | None = None, origin: Origin | None = None, is_late: IsLate = never
) -> Converted:
    """Convert one message; CannotConvert where it has no header, is of a type that no table knows, or takes too long."""
    settings = settings or Settings()
    if len(raw) > BYTES_MAX:
        raise CannotConvert("too-large", f"{len(raw)} bytes, {BYTES_MAX} at most")
    try:
        separators = read_separators(raw)
        decoded = decode(raw, settings.charset, settings.charset_default, settings.local_escapes)
        route = facts(raw).route
    except NotEr7 as error:
        raise CannotConvert("no-header", str(error)) from error
    family, code, event = _family(route.message_code, route.trigger_event, route.message_type)
    found = segments(decoded, separators)
    if len(found) > SEGMENTS_MAX:
        raise CannotConvert("too-large", f"{len(found)} segments, {SEGMENTS_MAX} at most")
    position = origin.uri if origin else "urn:wasl:message:" + hashlib.sha256(raw).hexdigest()
    facility = origin.facility if origin else settings.facility
    ctx = Context(settings, Draft(facility, origin.name if origin else position), facility, event)
    ctx.spoken_of = (_NOBODY if family.name in _ADT else _OF_ADT) | (_NOBODY if code in _PLACING else _OF_ORDERS)
    if found:
        ctx.remember(found[0].dialect)
    provenance = _provenance(ctx, origin, position, f"{code}^{event}" if event else code)
    unmapped: list[Unmapped] = []
    for at, segment in enumerate(found):
        if segment.name == "MSH":
            ctx.take_zone(segment.peek(7))
        if not at % LOOK_SEGMENTS and is_late():
            raise CannotConvert("too-slow", f"{at} of {len(found)} segments in the time there is")
        _run(segment, family, ctx)
    _close(ctx, provenance)
    for segment in found:
        unmapped += _left(segment, family)
        segment.close()
    if not decoded.is_whole:
        unmapped = [
            each._replace(text=each.text.encode(errors="surrogateescape").decode(errors="replace")) for each in unmapped
        ]
    bundle, mentioned = _bundle(ctx, position)
    return Converted(
        bundle=bundle,
        unmapped=tuple(unmapped),
        mentioned=frozenset(mentioned),
        notes=() if decoded.is_whole else (f"{NOT_WHOLE} ({decoded.codec})",),
    )


def _family(code_sent: bytes, event_sent: bytes, type_sent: bytes) -> tuple[Family, str, str]:
    """Find the tables; the type's separators may be others than those declared, as in ORU_R01 for a whole field."""
    code, event = code_sent.decode("latin-1").strip(), event_sent.decode("latin-1").strip()
    if not code and "_" in event:
        code, event = event, ""
    if not event and "_" in code:
        code, _, event = code.partition("_")
    family = family_of(code, event)
    if family is None:
        raise CannotConvert("type", f"no table converts {type_sent.decode('latin-1')!r}")
    return family, code, event


# ---- the segments in their order ------------------------------------------------------------------------------------
def _run(segment: Segment, family: Family, ctx: Context) -> None:
    """Let every block of a segment's rules fill its resource."""
    plan = plan_of(segment.name, family)
    if not plan.blocks:
        return
    for block, rules in plan.steps(segment.shape):
        if block.condition.rest is not None and not block.condition.rest(segment, ctx):
            continue
        made = _resource(block, segment, ctx)
        if made is None:
            segment.reasons.setdefault(segment.where, f"no {block.onto} before it")
            continue
        for rule in rules:
            rule(segment, made, ctx)
        if block.keys:
            key = key_of(block.keys, segment, ctx)
            if key is not None:
                made.keys.append(key)
        if block.finals:
            made.last.setdefault("defaults", {}).update({steps[0][0]: (steps, value) for steps, value in block.finals})


def _resource(block: Block, segment: Segment, ctx: Context) -> Resource | None:
    """Return what the block fills: what is open, or something new, which closes what does not outlive it."""
    if block.onto:
        made = ctx.current.get(block.onto)
        if made is not None:
            made.seen.add(segment.name)
        return made
    if block.join:
        made = ctx.current.get(block.join)
        if made is not None and segment.name not in made.seen:
            made.seen.add(segment.name)
            return made
    for role in block.ends:
        ctx.current.pop(role, None)
    made = ctx.draft.begin(block.resource)
    made.owned = block.resource not in ctx.spoken_of
    made.seen.add(segment.name)
    ctx.current[block.role] = made
    if block.notes is True:
        ctx.current["Noted"] = made
    elif block.notes is False:
        ctx.current.pop("Noted", None)
    return made


def _left(segment: Segment, family: Family) -> list[Unmapped]:
    """List what of a segment stands in no resource, with the most exact reason there is."""
    reasons = segment.reasons
    whole = reasons.get(segment.where)
    unread = segment.unread()
    if not unread:
        return []
    if whole is None and not plan_of(segment.name, family).blocks:
        whole = IGNORED.get(segment.name, NO_SEGMENT)
    found = []
    for path, text in unread:
        reason = reasons.get(path) or reasons.get(f"{path}.1")
        if reason is None and reasons:
            field = path.partition(".")[0]
            reason = reasons.get(field) or reasons.get(
                field.partition("-")[0] + "-" + field.partition("-")[2].partition("[")[0]
            )
        if text == NULL:
            reason = NULL_SENT
        found.append(Unmapped(path, reason or whole or NO_RULE, text))
    return found


# ---- the whole ------------------------------------------------------------------------------------------------------
def _provenance(ctx: Context, origin: Origin | None, position: str, event: str) -> Resource:
    """Begin the resource that says where all others come from: record, leaf, converter."""
    made = ctx.draft.begin("Provenance")
    made.keys.append((ctx.draft.position,))
    ctx.current["Provenance"] = made
    source: Json = {"identifier": {"system": "urn:ietf:rfc:3986", "value": position}}
    if origin and origin.leaf:
        source["display"] = f"leaf {origin.leaf}"
    made.body |= {
        "target": [],
        "recorded": origin.received_at if origin else "",
        "activity": {"text": event},
        "agent": [
            {
                "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler"}]},
                "who": {"display": f"Wasl converter {VERSION}"},
            }
        ],
        "entity": [{"role": "source", "what": source}],
    }
    return made


def _close(ctx: Context, provenance: Resource) -> None:
    """Set what only the end can know: defaults, the provenance's targets and time."""
    for made in ctx.draft.resources:
        for steps, value in made.last.get("defaults", {}).values():
            if not _is_there(steps[0][0], made.body):
                made.put(steps, value, None)
        if made.type == "Appointment":
            _whole_span(made.body)
    others = [made for made in ctx.draft.resources if made is not provenance]
    provenance.body["target"] = [made.reference for made in others if made.owned] or [made.reference for made in others]
    if not provenance.body["recorded"]:
        when = ctx.current["MessageHeader"].last.get("sent", {}) if "MessageHeader" in ctx.current else {}
        instant = moment(when.get("at", ""), ctx.zone).instant
        if instant:
            provenance.body["recorded"] = instant
        else:  # nobody knows when: better no Provenance than an invented time
            ctx.draft.resources.remove(provenance)


def _whole_span(body: Json) -> None:
    """R4's app-2: an Appointment has start and end or neither; a start alone is when it is asked for."""
    start = body.get("start")
    minutes = whole(str(body.get("minutesDuration", "")))
    if start and minutes is not None and "end" not in body and (end := later(start, minutes)):
        body["end"] = end
    if ("start" in body) != ("end" in body):
        span = {name: body.pop(name) for name in ("start", "end") if name in body}
        body.setdefault("requestedPeriod", []).append(span)


_CHOICE: Final = re.compile(r"_|(DateTime|Period|String|CodeableConcept)$")


def _is_there(name: str, body: Json) -> bool:
    """Tell whether the element has a value, for one of several types (value[x]) in any of them."""
    base = _CHOICE.sub("", name)
    return name in body or (base != name and any(each.startswith(base) for each in body))


def _bundle(ctx: Context, position: str) -> tuple[Json, set[str]]:
    """Return the transaction, and what in it was only mentioned."""
    entries = []
    mentioned = set()
    made = ctx.draft.finish()
    kept = {each.reference["reference"] for each in made}
    for each in made:
        name = each.reference["reference"]
        if not each.owned:
            mentioned.add(name)
        body = each.body
        if each.type == "Provenance":
            body["target"] = _once(body["target"], kept)
        body.setdefault("meta", {})["source"] = position
        request = {"method": "PUT", "url": name}
        entries.append({"fullUrl": f"urn:uuid:{body['id']}", "resource": body, "request": request})
    head = ctx.current["MessageHeader"].last.get("sent", {}) if "MessageHeader" in ctx.current else {}
    bundle: Json = {"resourceType": "Bundle", "type": "transaction"}
    if head.get("id"):
        bundle["identifier"] = {"system": ctx.authority("control-id", "", ""), "value": head["id"]}
    if sent := moment(head.get("at", ""), ctx.zone).instant:
        bundle["timestamp"] = sent
    return bundle | {"entry": entries}, mentioned


def _once(references: list[Json], kept: set[str]) -> list[Json]:
    """Return the references that are kept, each once: two mentions of one thing have become one."""
    return list({each["reference"]: each for each in references if each["reference"] in kept}.values())
