"""HL7 data types to FHIR's: each function reads one repetition or component and returns an element, or None.

The last argument is the word in brackets behind the type in a table, mostly a code map.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from hl7.convert.context import Context
from hl7.convert.json_text import Number, number
from hl7.convert.reading import Part
from hl7.convert.result import Json
from hl7.convert.times import clock_time

Convert = Callable[[Part, Context, str], Any]

UNCODED: Final = "code is not in the table"
NOT_NUMBER: Final = "not a number"
_UCUM: Final = "http://unitsofmeasure.org"
_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"


def text(part: Part, _ctx: Context, _arg: str) -> str | None:
    """ST, ID, IS, SI: the first component."""
    return part.get(1) or None


def whole(part: Part, _ctx: Context, _arg: str) -> str | None:
    """FT, TX: everything, with what looks like separators."""
    return part.whole().strip("\n ") or None


def date(part: Part, ctx: Context, _arg: str) -> str | None:
    """DT or the day of a DTM."""
    return ctx.moment(part).date or None if part.has(1) else None


def date_time(part: Part, ctx: Context, _arg: str) -> str | None:
    """DTM or TS."""
    return ctx.moment(part).date_time or None if part.has(1) else None


def instant(part: Part, ctx: Context, _arg: str) -> str | None:
    """DTM that names second and zone."""
    if not part.has(1):
        return None
    found = ctx.moment(part)
    if not found.instant and not found.problem:
        ctx.lose(part, 1, "an instant needs a time of day")
    return found.instant or None


def time_of_day(part: Part, ctx: Context, _arg: str) -> str | None:
    """TM."""
    found = clock_time(part.get(1))
    if not found and part.has(1):
        ctx.lose(part, 1, "not a time of day")
    return found or None


def decimal(part: Part, ctx: Context, _arg: str) -> Number | None:
    """NM, digits as sent."""
    found = number(part.get(1))
    if found is None and part.has(1):
        ctx.lose(part, 1, NOT_NUMBER)
    return found


def integer(part: Part, ctx: Context, arg: str) -> Number | None:
    """NM as an integer of at least `arg`, by default 0."""
    found = number(part.get(1))
    if found is not None and re.fullmatch(r"\d{1,9}", found.digits) and int(found.digits) >= int(arg or 0):
        return found
    if part.has(1):
        ctx.lose(part, 1, "not a whole number that FHIR takes here")
    return None


def boolean(part: Part, ctx: Context, _arg: str) -> bool | None:
    """Y or N."""
    found = {"Y": True, "YES": True, "N": False, "NO": False, "TRUE": True, "FALSE": False}.get(part.get(1).upper())
    if found is None and part.has(1):
        ctx.lose(part, 1, UNCODED)
    return found


def code(part: Part, ctx: Context, arg: str) -> str | None:
    """A code that FHIR requires, by a map."""
    sent = part.get(1)
    found = ctx.codes(arg).codes.get(sent) or ctx.codes(arg).codes.get(sent.upper())
    if found is None and sent:
        ctx.lose(part, 1, UNCODED)
    return found.code if found and found.code != "-" else None


def _one_coding(part: Part, ctx: Context, at: int, arg: str) -> list[Json]:
    """Codings of a triplet that begins at `at`: the map's, where there is one, and the one that was sent."""
    sent, display, system = part.get(at), part.get(at + 1), part.get(at + 2)
    version = {1: 7, 4: 8, 10: 13}[at]
    made: Json = {}
    codings: list[Json] = []
    if arg and sent:
        mapping = ctx.codes(arg)
        found = mapping.codes.get(sent)
        if found and found.code != "-":
            codings.append(
                {"system": mapping.system, "code": found.code} | ({"display": found.display} if found.display else {})
            )
        system = system or mapping.table
        if codings and ctx.coding_system(system) == mapping.system:
            return codings
    if system and sent:
        made["system"] = ctx.coding_system(system)
    if sent:
        if version <= len(part.parts) and part.has(version):
            made["version"] = part.get(version)
        made["code"] = sent
    if display:
        made["display"] = display
    return [*codings, made] if made else codings


def concept(part: Part, ctx: Context, arg: str) -> Json | None:
    """CE, CWE, CNE, CF: up to three codings and a text. Senders repeat theirs, so they are remembered; what is inside `coding` is never changed."""
    key = (part.text, arg, 0 if part.above is None else 1)
    known = ctx.concepts.get(key)
    if known is None:
        read, part.read = part.read, 0
        known = ctx.concepts[key] = (_concept(part, ctx, arg), part.read)
        part.read = read
    part.read |= known[1]
    return None if known[0] is None else known[0].copy()


def _concept(part: Part, ctx: Context, arg: str) -> Json | None:
    codings = _one_coding(part, ctx, 1, arg)
    if len(part.parts) > 3:
        codings += _one_coding(part, ctx, 4, "")
        if len(part.parts) > 9:
            codings += _one_coding(part, ctx, 10, "")
    original = part.get(9)
    if not original and codings and "code" not in codings[-1]:
        original = codings.pop()["display"] if len(codings) == 1 else ""
    made: Json = {"coding": codings} if codings else {}
    if original:
        made["text"] = original
    return made or None


def bound_concept(part: Part, ctx: Context, arg: str) -> Json | None:
    """CWE as a concept whose codes FHIR prescribes: by the map; an unknown code only as text."""
    sent = part.get(1)
    mapping = ctx.codes(arg)
    found = mapping.codes.get(sent) or mapping.codes.get(sent.upper())
    words = part.get(9) or part.get(2)
    if found:
        return {"coding": [{"system": mapping.system, "code": found.code}]} | ({"text": words} if words else {})
    if sent:
        ctx.lose(part, 1, UNCODED)
    return {"text": words} if words else None


def coding(part: Part, ctx: Context, arg: str) -> Json | None:
    """CWE as a single Coding."""
    codings = _one_coding(part, ctx, 1, arg)
    return codings[0] if codings else None


def concept_of_code(part: Part, ctx: Context, arg: str) -> Json | None:
    """ID or IS as a concept, by a map or the HL7 table it is of."""
    sent = part.get(1)
    if not sent:
        return None
    mapping = ctx.codes(arg)
    found = mapping.codes.get(sent)
    if found:
        made: Json = {"system": mapping.system, "code": found.code}
        return {"coding": [made | ({"display": found.display} if found.display else {})]}
    return {"coding": [{"system": mapping.table, "code": sent}] if mapping.table else [{"code": sent}]}


def concept_text(part: Part, _ctx: Context, _arg: str) -> Json | None:
    """ST as a concept's text."""
    sent = part.whole().strip()
    return {"text": sent} if sent else None


def authority(part: Part, ctx: Context, _arg: str) -> str | None:
    """HD as the URI of what it names."""
    return ctx.authority(part.get(1), part.get(2), part.get(3)) or None


def authority_at(part: Part, ctx: Context, at: int) -> tuple[str, str]:
    """Return (system, name) of the HD at a component."""
    if not part.has(at):
        return "", ""
    child = part.sub(at)
    name = child.get(1)
    return ctx.authority(name, child.get(2), child.get(3)), name


def identifier(part: Part, ctx: Context, _arg: str) -> Json | None:
    """CX: value, system of the assigning authority, type, period, check digit."""
    value = part.get(1)
    if not value:
        return None
    made: Json = {}
    if part.has(2):
        made["extension"] = [{"url": f"{_EXTENSION}identifier-checkDigit", "valueString": part.get(2)}]
    kind = part.get(5)
    if kind:
        mapping = ctx.codes("identifier-type")
        known = mapping.codes.get(kind)
        made["type"] = {
            "coding": [{"system": mapping.system, "code": known.code}] if known else [{"code": kind}],
        }
    system, name = authority_at(part, ctx, 4)
    if system:
        made["system"] = system
    made["value"] = value
    start, end = (ctx.moment(part, at).date_time if part.has(at) else "" for at in (7, 8))
    if start or end:
        made["period"] = ({"start": start} if start else {}) | ({"end": end} if end else {})
    if name:
        made["assigner"] = {"display": name}
    return made


def entity_identifier(part: Part, ctx: Context, _arg: str) -> Json | None:
    """EI."""
    value = part.get(1)
    if not value:
        return None
    if len(part.parts) == 1:
        return {"value": value}
    name = part.get(2)
    system = ctx.authority(name, part.get(3), part.get(4))
    made: Json = {"system": system} if system else {}
    made["value"] = value
    if name:
        made["assigner"] = {"display": name}
    return made


def concept_identifier(part: Part, ctx: Context, _arg: str) -> Json | None:
    """CWE as an identifier."""
    value = part.get(1)
    if not value:
        return None
    system = part.get(3)
    return ({"system": ctx.coding_system(system)} if system else {}) | {"value": value}


def driving_licence(part: Part, ctx: Context, _arg: str) -> Json | None:
    """DLN."""
    value = part.get(1)
    if not value:
        return None
    made: Json = {"type": {"coding": [{"system": ctx.codes("identifier-type").system, "code": "DL"}]}, "value": value}
    if part.has(2):
        made["assigner"] = {"display": part.get(2)}
    if part.has(3) and (end := ctx.moment(part, 3).date_time):
        made["period"] = {"end": end}
    return made


def quantity(part: Part, ctx: Context, _arg: str) -> Json | None:
    """CQ: a number and its unit."""
    value = number(part.get(1))
    if value is None:
        if part.has(1):
            ctx.lose(part, 1, NOT_NUMBER)
        return None
    made: Json = {"value": value}
    return made | (unit(part.sub(2), ctx, "") or {}) if part.has(2) else made


def unit(part: Part, ctx: Context, _arg: str) -> Json | None:
    """CWE as the unit of a Quantity; a code only where its system is named."""
    display = part.get(2)
    if not part.has(3) or not part.has(1):  # R4's qty-3: no code without its system
        display = display or part.get(1)
        return {"unit": display} if display else None
    sent = part.get(1)
    return {"unit": display or sent, "system": ctx.coding_system(part.get(3)), "code": sent}


def numeric_range(part: Part, _ctx: Context, _arg: str) -> Json | None:
    """NR."""
    made = {}
    for at, name in ((1, "low"), (2, "high")):
        value = number(part.get(at))
        if value is not None:
            made[name] = {"value": value}
    return made or None


def period(part: Part, ctx: Context, _arg: str) -> Json | None:
    """DR."""
    made = {}
    for at, name in ((1, "start"), (2, "end")):
        if part.has(at) and (found := ctx.moment(part, at).date_time):
            made[name] = found
    return made or None


def days(part: Part, ctx: Context, _arg: str) -> Json | None:
    """NM as a duration in days."""
    value = decimal(part, ctx, "")
    return {"value": value, "unit": "days", "system": _UCUM, "code": "d"} if value is not None else None


def fhir_language(part: Part, _ctx: Context, _arg: str) -> str | None:
    """A language's code, where it looks like one of BCP 47."""
    sent = part.peek(1)
    if re.fullmatch(r"[A-Za-z]{2}(-[A-Za-z0-9]{2,4})?", sent):
        return part.get(1)
    return None


def concept_words(part: Part, _ctx: Context, _arg: str) -> str | None:
    """CWE as a string: its text, else its display, else its code."""
    return part.get(9) or part.get(2) or part.get(1) or None


def concept_display(part: Part, _ctx: Context, _arg: str) -> Json | None:
    """CWE as a reference of which only the name is known."""
    display = part.get(2) or part.peek(1)
    if not display:
        return None
    value = part.get(1)
    return {"display": display} | ({"identifier": {"value": value}} if value else {})


def organization_name(part: Part, _ctx: Context, _arg: str) -> str | None:
    """XON as a string."""
    return part.get(1) or part.get(10) or part.get(3) or None


PLAIN: Final[dict[str, Convert]] = {
    "ST": text,
    "FT": whole,
    "date": date,
    "dateTime": date_time,
    "instant": instant,
    "time": time_of_day,
    "NM": decimal,
    "integer": integer,
    "boolean": boolean,
    "code": code,
    "CWE": concept,
    "Coding": coding,
    "bound": bound_concept,
    "ID": concept_of_code,
    "concept-text": concept_text,
    "uri": authority,
    "CX": identifier,
    "EI": entity_identifier,
    "CWE-identifier": concept_identifier,
    "DLN": driving_licence,
    "CWE-text": concept_words,
    "CWE-display": concept_display,
    "XON-text": organization_name,
    "CQ": quantity,
    "unit": unit,
    "NR": numeric_range,
    "DR": period,
    "days": days,
    "language": fhir_language,
}
