"""Names, addresses, numbers; and the people, places and organisations that become resources of their own."""

import re
from typing import Final

from hl7.convert.building import Resource
from hl7.convert.context import Context
from hl7.convert.reading import Part
from hl7.convert.result import Json
from hl7.convert.values import UNCODED, Convert, authority_at

_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/"
_PLACES: Final = (  # PL's components from the smallest: component, FHIR's physical type
    (3, "bd", "Bed"),
    (2, "ro", "Room"),
    (1, "wa", "Ward"),
    (8, "lvl", "Level"),
    (7, "bu", "Building"),
    (4, "si", "Site"),
)


def _family(part: Part, at: int, made: Json) -> str:
    """FN: surname; own and partner's names as HL7's extensions."""
    if not part.has(at):
        return ""
    child = part.sub(at)
    name = child.get(1)
    own = [("humanname-own-prefix", 2), ("humanname-own-name", 3)]
    partner = [("humanname-partner-prefix", 4), ("humanname-partner-name", 5)]
    parts = [
        {"url": _EXTENSION + url, "valueString": child.get(sub)}
        for url, sub in (own + partner if len(child.parts) > 1 else [])
        if child.has(sub)
    ]
    if parts:
        made["_family"] = {"extension": parts}
    return name


def _name(part: Part, ctx: Context, first: int, kind: int) -> Json | None:
    """Build a name whose surname is at `first`, the others behind it, and its use at `kind`."""
    made: Json = {}
    use = part.get(kind)
    if use:
        known = ctx.codes("name-use").codes.get(use)
        if known:
            made["use"] = known.code
        else:
            ctx.lose(part, kind, UNCODED)
    family = _family(part, first, made)
    if family:
        made["family"] = family
    given = [part.get(first + at) for at in (1, 2) if part.has(first + at)]
    if given:
        made["given"] = given
    if part.has(first + 4):
        made["prefix"] = [part.get(first + 4)]
    suffix = [part.get(first + at) for at in (3, 5) if part.has(first + at)]
    if suffix:
        made["suffix"] = suffix
    if "family" not in made and "given" not in made:
        made.pop("use", None)
    return made or None


def _span(part: Part, ctx: Context, first: int) -> Json:
    """Return the period of two times that stand side by side."""
    span = {}
    for at, end in ((first, "start"), (first + 1, "end")):
        if part.has(at) and (found := ctx.moment(part, at).date_time):
            span[end] = found
    return span


def _validity(part: Part, ctx: Context, span_at: int, first: int) -> Json:
    """Return the period of two times, or of the DR that older versions have in their place."""
    if found := _span(part, ctx, first):
        return found
    return _span(part.sub(span_at), ctx, 1) if part.has(span_at) else {}


def human_name(part: Part, ctx: Context, _arg: str) -> Json | None:
    """XPN."""
    made = _name(part, ctx, 1, 7)
    if made is None or len(part.parts) < 8:
        return made
    if part.has(14):
        made.setdefault("suffix", []).append(part.get(14))
    if part.has(11) and (order := part.get(11)):
        made["extension"] = [{"url": f"{_EXTENSION}humanname-assembly-order", "valueCode": order}]
    if span := _validity(part, ctx, 10, 12):
        made["period"] = span
    return made


def name_text(part: Part, ctx: Context, _arg: str) -> str | None:
    """XPN as one string."""
    made = _name(part, ctx, 1, 7)
    if made is None:
        return None
    words = [*made.get("prefix", []), *made.get("given", []), made.get("family", ""), *made.get("suffix", [])]
    return " ".join(word for word in words if word) or None


def _lines(part: Part) -> list[str]:
    """Return the lines of an XAD: street, name and number in one, what else there is each in one."""
    lines = []
    if part.has(1):
        street = part.sub(1)
        lines = [" ".join(street.get(at) for at in (1, 2, 3) if street.has(at))]
    return [line for line in [*lines, part.get(2), part.get(19)] if line]


def _county(part: Part) -> str:
    """XAD.9: a code until 2.6, a CWE from 2.7 on, of which a person reads the text."""
    if part.segment.dialect.subcomponent not in part.parts[8]:
        return part.get(9)
    child = part.sub(9)
    return child.get(2) or child.get(9) or child.get(1) or part.get(9)


def address(part: Part, ctx: Context, _arg: str) -> Json | None:
    """XAD."""
    made: Json = {}
    kind = part.get(7)
    if kind:
        use, form = (ctx.codes(name).codes.get(kind) for name in ("address-use", "address-type"))
        if use:
            made["use"] = use.code
        if form:
            made["type"] = form.code
        if not use and not form:
            ctx.lose(part, 7, UNCODED)
    if lines := _lines(part):
        made["line"] = lines
    for at, name in ((3, "city"), (9, "district"), (4, "state"), (5, "postalCode"), (6, "country")):
        if part.has(at):
            made[name] = _county(part) if at == 9 else part.get(at)
    if part.has(10):
        made["extension"] = [{"url": f"{_EXTENSION}iso21090-ADXP-censusTract", "valueString": part.get(10)}]
    if span := _validity(part, ctx, 12, 13):
        made["period"] = span
    return made if made.keys() - {"use", "type"} else None


def _telephone(part: Part) -> tuple[str, list[Json]]:
    """Return a number put together of XTN.5 to 8, and the same as extensions; the number of XTN.1 or 12 comes first."""
    pieces = [part.get(at) for at in (5, 6, 7, 8)]
    names = ("country", "area", "local", "extension")
    extensions = [
        {"url": f"{_EXTENSION}contactpoint-{name}", "valueString": piece}
        for name, piece in zip(names, pieces, strict=True)
        if piece
    ]
    country, area, local, inner = pieces
    joined = " ".join(piece for piece in (f"+{country.lstrip('+')}" if country else "", area, local) if piece)
    joined += f" X{inner}" if joined and inner else ""
    return part.get(12) or part.get(1) or joined, extensions  # what is not asked for stays unread, so it is listed


def contact_point(part: Part, ctx: Context, arg: str) -> Json | None:
    """XTN; `arg`: its use where it names none."""
    use, kind = part.get(2), part.get(3)
    system = ctx.codes("telecom-system").codes.get(kind)
    if kind and system is None:
        ctx.lose(part, 3, UNCODED)
    is_mail = part.has(4) and (
        system is None or system.code == "email" or not any(part.has(at) for at in (1, 5, 6, 7, 8, 12))
    )
    number, extensions = ("", []) if is_mail else _telephone(part)
    value = part.get(4) if is_mail else number
    if not value:
        return None
    made: Json = {"extension": extensions} if extensions else {}
    made["system"] = "email" if is_mail else system.code if system else _looks(number)
    made["value"] = value
    known = ctx.codes("telecom-use").codes.get(use)
    if known and known.code != "-":
        made["use"] = known.code
    elif kind == "CP":
        made["use"] = "mobile"
    elif arg:
        made["use"] = arg
    if use and (known is None or known.code == "-") and not (use == "NET" and is_mail):
        ctx.lose(part, 2, UNCODED)
    if not is_mail and part.has(4):
        ctx.lose(part, 4, "an element has one value: the number stands in it")
    if len(part.parts) > 12:
        _reach(part, ctx, made)
    return made


def _reach(part: Part, ctx: Context, made: Json) -> None:
    """XTN.13, 14 and 18: from when to when the number holds, and which comes first."""
    if span := _span(part, ctx, 13):
        made["period"] = span
    rank = part.peek(18)
    if re.fullmatch(r"[1-9][0-9]{0,8}", rank):
        made["rank"] = int(part.get(18))


def _looks(text: str) -> str:
    return "email" if re.fullmatch(r"[^@\s]+@[^@\s]+", text) else "phone"


def _refer(ctx: Context, kind: str, key: str) -> tuple[Resource, bool]:
    return ctx.draft.entity(kind, key)


def practitioner(part: Part, ctx: Context, _arg: str) -> Json | None:
    """XCN or CNN as a reference to a Practitioner, known by number and authority, else by name."""
    value = part.get(1)
    name = _name(part, ctx, 2, 10)
    if not value and not name:
        return None
    system, assigner = authority_at(part, ctx, 9)
    if not system and part.has(8):
        system = ctx.coding_system(part.get(8))
    kind = part.get(13)
    key = f"{system}|{value}" if value else "name|" + "|".join(part.peek(at) for at in range(2, 7))
    made, is_new = _refer(ctx, "Practitioner", key)
    if is_new:
        if value:
            named: Json = {"system": system} if system else {}
            named["value"] = value
            if kind:
                known = ctx.codes("identifier-type").codes.get(kind)
                types = ctx.codes("identifier-type").system
                named["type"] = {"coding": [{"system": types, "code": known.code} if known else {"code": kind}]}
            if assigner:
                named["assigner"] = {"display": assigner}
            made.body["identifier"] = [named]
        if name:
            made.body["name"] = [name]
    elif name and "name" not in made.body:
        made.body["name"] = [name]
    return made.reference


def short_practitioner(part: Part, ctx: Context, _arg: str) -> Json | None:
    """NDL: its first component is a CNN."""
    return practitioner(part.sub(1), ctx, "") if part.has(1) else None


def organization(part: Part, ctx: Context, _arg: str) -> Json | None:
    """XON as a reference to an Organization."""
    name, value = part.get(1), part.get(10) or part.get(3)
    if not name and not value:
        return None
    system, assigner = authority_at(part, ctx, 6) if value else ("", "")
    made, is_new = _refer(ctx, "Organization", f"{system}|{value}" if value else f"name|{name}")
    if is_new:
        if value:
            made.body["identifier"] = [({"system": system} if system else {}) | {"value": value}]
            if assigner:
                made.body["identifier"][0]["assigner"] = {"display": assigner}
            kind = part.get(7)
            known = ctx.codes("identifier-type").codes.get(kind)
            if known:
                types = ctx.codes("identifier-type").system
                made.body["identifier"][0]["type"] = {"coding": [{"system": types, "code": known.code}]}
            elif kind:
                ctx.lose(part, 7, UNCODED)
        if name:
            made.body["name"] = name
    return made.reference


def named_organization(part: Part, ctx: Context, _arg: str) -> Json | None:
    """CWE as a reference to an Organization."""
    value, name, system = part.get(1), part.get(2) or part.get(9), part.get(3)
    if not value and not name:
        return None
    uri = ctx.coding_system(system) if system else ""
    made, is_new = _refer(ctx, "Organization", f"{uri}|{value}" if value else f"name|{name}")
    if is_new:
        if value:
            made.body["identifier"] = [({"system": uri} if uri else {}) | {"value": value}]
        made.body["name"] = name or value
    return made.reference


def authority_organization(part: Part, ctx: Context, _arg: str) -> Json | None:
    """HD as a reference to an Organization."""
    name, uid = part.get(1), part.get(2)
    if not name and not uid:
        return None
    uri = ctx.authority(name, uid, part.get(3))
    made, is_new = _refer(ctx, "Organization", f"hd|{uri}")
    if is_new:
        made.body["identifier"] = [{"system": "urn:ietf:rfc:3986", "value": uri}]
        made.body["name"] = name or uid
    return made.reference


def device(part: Part, ctx: Context, _arg: str) -> Json | None:
    """EI or HD as a reference to a Device."""
    value, name = part.get(1), part.get(2)
    uid, kind = part.get(3), part.get(4)
    if not value and not name:
        return None
    system = ctx.authority(name, uid, kind)
    made, is_new = _refer(ctx, "Device", f"{system}|{value}")
    if is_new:
        made.body["identifier"] = [({"system": system} if system else {}) | {"value": value or name}]
        if name and value:
            made.body["identifier"][0]["assigner"] = {"display": name}
    return made.reference


def location(part: Part, ctx: Context, _arg: str) -> Json | None:
    """PL as a reference to the smallest place it names, which is part of the next one."""
    named = []
    for at, kind, word in _PLACES:
        if part.has(at):
            child = part.sub(at)
            name = child.get(1) or child.get(2)
            if name:
                named.append((name, kind, word))
    description = part.get(9)
    if not named:
        return {"display": description} if description else None
    inner: Resource | None = None
    for at in reversed(range(len(named))):  # from the largest, which the smaller ones name
        name, kind, word = named[at]
        made, is_new = _refer(ctx, "Location", "|".join(f"{each[1]}={each[0]}" for each in named[at:]))
        if is_new:
            system = "http://terminology.hl7.org/CodeSystem/location-physical-type"
            made.body |= {"identifier": [{"value": name}], "name": name, "mode": "instance"}
            made.body["physicalType"] = {"coding": [{"system": system, "code": kind, "display": word}]}
            if inner is not None:
                made.body["partOf"] = inner.reference
        inner = made
    assert inner is not None  # noqa: S101  # `named` is not empty
    if description:
        inner.body.setdefault("description", description)
    return inner.reference


def named_location(part: Part, ctx: Context, _arg: str) -> Json | None:
    """ST, HD or a CWE as a reference to a Location of that name."""
    name = part.get(1)
    if not name:
        return None
    made, is_new = _refer(ctx, "Location", f"name|{name}")
    if is_new:
        made.body |= {"name": name, "mode": "instance"}
        if part.has(2):
            made.body["description"] = part.get(2)
    return made.reference


PEOPLE: Final[dict[str, Convert]] = {
    "XPN": human_name,
    "XPN-text": name_text,
    "XAD": address,
    "XTN": contact_point,
    "XCN": practitioner,
    "NDL": short_practitioner,
    "XON": organization,
    "CWE-organization": named_organization,
    "HD-organization": authority_organization,
    "EI-device": device,
    "PL": location,
    "ST-location": named_location,
}
