"""What a row of a table cannot say: observed values, remarks, spans of time made of a start and a length."""

import base64
import binascii
from collections.abc import Callable
from typing import Final

from hl7.convert.building import Resource
from hl7.convert.context import Context
from hl7.convert.json_text import number, whole
from hl7.convert.people import practitioner
from hl7.convert.reading import Part, Segment
from hl7.convert.result import Json
from hl7.convert.times import later
from hl7.convert.values import NOT_NUMBER, UNCODED, concept, date_time, numeric_range, period, time_of_day, unit

Special = Callable[[Segment, Resource, Context], None]

_COMPARATORS: Final = {"<", "<=", ">=", ">"}
_SIMPLE: Final = {
    **dict.fromkeys(("CE", "CWE", "CNE", "CF"), ("valueCodeableConcept", concept)),
    **dict.fromkeys(("DT", "TS", "DTM"), ("valueDateTime", date_time)),
    "TM": ("valueTime", time_of_day),
    "DR": ("valuePeriod", period),
    "NR": ("valueRange", numeric_range),
}
_ATTACHED: Final = {"ED", "RP"}
_MINUTES: Final = {"MIN": 1, "M": 1, "MINUTE": 1, "MINUTES": 1, "H": 60, "HR": 60, "HOUR": 60, "HOURS": 60, "S": 0}
_MINUTES_MAX: Final = 366 * 24 * 60  # no appointment lasts longer; keeps a wrong unit from reaching the end of time


def observation_value(segment: Segment, made: Resource, ctx: Context) -> None:
    """OBX-5 by OBX-2, with the unit of OBX-6; several texts become the lines of one."""
    kind = segment.get(2).upper()
    parts = segment.reps(5)
    first = parts[0]
    if kind in _ATTACHED:
        _attach(segment, made, ctx)
        return
    if kind in _SIMPLE and not first.is_empty:
        name, convert = _SIMPLE[kind]
        value = convert(first, ctx, "")
        if value is not None:
            made.put(((name, ""),), value, None)
            _more_values(parts[1:])
            return
    if kind == "NM" and _number(segment, made, ctx):
        _more_values(parts[1:])
        return
    if kind == "SN" and _structured(segment, made, ctx):
        return
    lines = [part.whole().strip("\n ") for part in parts]
    text = "\n".join(lines).strip()
    if text:
        made.put((("valueString", ""),), text, None)
        if kind == "NM":
            ctx.lose(first, 1, f"{NOT_NUMBER}: kept as text")
            first.read |= 2


def _more_values(parts: list[Part]) -> None:
    for part in parts:
        part.segment.reasons.setdefault(part.where, "an Observation has one value")


def _unit(segment: Segment, ctx: Context) -> Json:
    return unit(segment.reps(6)[0], ctx, "") or {} if segment.has(6) else {}


def _number(segment: Segment, made: Resource, ctx: Context) -> bool:
    """NM, also as "<5", which many write there."""
    part = segment.reps(5)[0]
    text = part.peek(1)
    sign = next((each for each in ("<=", ">=", "<", ">") if text.startswith(each)), "")
    value = number(text[len(sign) :].strip())
    if value is None:
        return False
    part.get(1)
    compared = {"comparator": sign} if sign else {}
    made.put((("valueQuantity", ""),), {"value": value} | compared | _unit(segment, ctx), None)
    return True


def _structured(segment: Segment, made: Resource, ctx: Context) -> bool:
    """SN: comparator, number, separator, number."""
    part = segment.reps(5)[0]
    sign, mark = part.peek(1), part.peek(3)
    first, second = number(part.peek(2)), number(part.peek(4))
    measure = _unit(segment, ctx) if not sign or sign in _COMPARATORS | {"="} else {}
    compared = {"comparator": sign} if sign in _COMPARATORS else {}
    low: Json = {"value": first} | compared | measure
    if first is None or (sign and sign != "=" and not compared):
        return False
    if not mark and second is None:
        made.put((("valueQuantity", ""),), low, None)
    elif mark in {":", "/"} and second is not None:
        made.put((("valueRatio", ""),), {"numerator": low, "denominator": {"value": second}}, None)
    elif mark == "-" and second is not None and not compared:
        made.put((("valueRange", ""),), {"low": low, "high": {"value": second} | measure}, None)
    else:
        return False
    part.whole()
    return True


def attachment(part: Part, ctx: Context, kind: str) -> Json | None:
    """ED or RP as an Attachment."""
    if kind == "RP":
        pointer = part.get(1)
        made: Json = {"url": pointer} if pointer else {}
        content = _content_type(part.get(3), part.get(4), ctx)
    else:
        encoding, data = part.get(4).lower(), part.get(5)
        made = {"data": _base64(data, encoding)} if data else {}
        if encoding and encoding not in {"a", "base64", "hex"}:
            ctx.lose(part, 4, UNCODED)
        if data and not made["data"]:
            ctx.lose(part, 5, "not in the encoding it names")
            made = {}
        content = _content_type(part.get(2), part.get(3), ctx)
    if made and content:
        made["contentType"] = content
    return made or None


def _content_type(kind: str, subtype: str, ctx: Context) -> str:
    known = ctx.codes("content-type").codes.get(subtype.upper())
    if known:
        return known.code
    if "/" in subtype or "/" in kind:
        return subtype if "/" in subtype else kind
    known = ctx.codes("content-type").codes.get(kind.upper())
    if known:
        return known.code
    return f"{kind.lower()}/{subtype.lower()}" if kind and subtype else ""


def _base64(data: str, encoding: str) -> str:
    """Return the data in base64, whatever encoding it came in (table 0299)."""
    if encoding == "hex":
        try:
            return base64.b64encode(bytes.fromhex(data)).decode()
        except ValueError:
            return ""
    if encoding == "base64":
        bare = "".join(data.split())
        try:
            return bare if base64.b64decode(bare, validate=True) else ""
        except binascii.Error:
            return ""
    return base64.b64encode(data.encode()).decode()


def _attach(segment: Segment, made: Resource, ctx: Context) -> None:
    """ED, RP: R4's Observation has no attachment, so it stands in the report, else in a document of its own."""
    kind = segment.get(2).upper()
    for part in segment.reps(5):
        found = attachment(part, ctx, kind)
        if found is None:
            continue
        title = segment.peek(3, 2) or segment.peek(3)
        if title:
            found["title"] = title
        report = ctx.current.get("DiagnosticReport")
        if made.type == "DocumentReference":
            made.put((("content", "*"), ("attachment", "")), found, None)
        elif report is not None:
            report.put((("presentedForm", "*"),), found, None)
        else:
            _document(made, found, ctx)


def _document(made: Resource, found: Json, ctx: Context) -> None:
    document = ctx.draft.begin("DocumentReference")
    document.keys.append(("of", made))
    document.body |= {"status": "current", "content": [{"attachment": found}]}
    patient = ctx.current.get("Patient")
    if patient is not None:
        document.body["subject"] = patient.reference
    made.put((("derivedFrom", "*"),), document.reference, None)


def document_text(segment: Segment, made: Resource, ctx: Context) -> None:
    """OBX-5 of a document: attachments as they are, text as an attachment of text, all lines of it in one."""
    if segment.get(2).upper() in _ATTACHED:
        _attach(segment, made, ctx)
        return
    text = "\n".join(part.whole().strip("\n ") for part in segment.reps(5))
    before = made.last.get("text")
    if before is None:
        found: Json = {"contentType": "text/plain", "data": ""}
        made.last["text"] = {"lines": [], "of": found}
        made.put((("content", "*"), ("attachment", "")), found, None)
        before = made.last["text"]
    before["lines"].append(text)
    joined = "\n".join(before["lines"])
    before["of"]["data"] = base64.b64encode(joined.encode()).decode()


def remark(segment: Segment, made: Resource, ctx: Context) -> None:
    """NTE-3 into the note of what it stands behind; NTEs in a row are lines of one."""
    text = "\n".join(part.whole().strip("\n ") for part in segment.reps(3)).rstrip()
    if made.type == "Appointment":
        before = made.body.get("comment")
        made.body["comment"] = f"{before}\n{text}" if before else text
        return
    last = made.last.get("note")
    if last is not None and not segment.has(5) and not segment.has(6):
        last["text"] += "\n" + text
        return
    note: Json = {}
    if segment.has(5):
        author = practitioner(segment.reps(5)[0], ctx, "")
        note |= {"authorReference": author} if author else {}
    if segment.has(6):
        when = date_time(segment.reps(6)[0], ctx, "")
        note |= {"time": when} if when else {}
    note["text"] = text
    made.last["note"] = note
    made.body.setdefault("note", []).append(note)


def appointment_length(segment: Segment, made: Resource, _ctx: Context) -> None:
    """SCH-9 or an AIx's duration with its unit, as minutes."""
    at = {"SCH": 9, "AIS": 7, "AIG": 11, "AIL": 9, "AIP": 9}[segment.name]
    minutes = (whole(segment.peek(at)) or 0) * _MINUTES.get(segment.peek(at + 1).upper(), 0)
    if not 0 < minutes <= _MINUTES_MAX:
        return
    segment.get(at)
    segment.reps(at + 1)[0].whole()
    made.body.setdefault("minutesDuration", minutes)
    start = made.body.get("start")
    if start and "end" not in made.body and (end := later(start, minutes)):
        made.body["end"] = end


def timing(segment: Segment, made: Resource, ctx: Context) -> None:
    """TQ (ORC-7, OBR-27): quantity, interval, start, end, priority, text, into what an order can say of it."""
    at = 7 if segment.name == "ORC" else 27
    part = segment.reps(at)[0]
    start = ctx.moment(part, 4).date_time if part.has(4) else ""
    end = ctx.moment(part, 5).date_time if part.has(5) else ""
    if made.type == "ServiceRequest":
        if start and end:
            made.put((("occurrencePeriod", ""),), {"start": start, "end": end}, None)
        elif start:
            made.put((("occurrenceDateTime", ""),), start, None)
        elif end:
            ctx.lose(part, 5, "an end without a start")
    elif start or end:
        span = ({"start": start} if start else {}) | ({"end": end} if end else {})
        repeat = (("dosageInstruction", "order"), ("timing", ""), ("repeat", ""), ("boundsPeriod", ""))
        made.put(repeat, span, None)
    if part.has(6):
        known = ctx.codes("priority").codes.get(part.get(6))
        if known is None or not made.put((("priority", ""),), known.code, None):
            ctx.lose(part, 6, "code is not in the table" if known is None else "another value fills the element")


OBSERVATIONS: Final[dict[str, Special]] = {
    "observation-value": observation_value,
    "document-text": document_text,
    "remark": remark,
    "appointment-length": appointment_length,
    "timing": timing,
}
