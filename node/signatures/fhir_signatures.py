"""JWS in FHIR resources (R4, signatures): Bundle.signature and Provenance.signature, and what each covers. For the worker alone.

A signature counts for what stands in this message. What a Provenance names by a reference is looked for in the same Bundle, or in the Provenance;
where it is not there, once, nothing can be said, whatever the JWS carries: "unknown".
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from node.signatures.chain import BLIND, Chain, moment
from node.signatures.jws import BadJws, Jws, StrangeKey, opened
from node.signatures.rows import Row, judge_most

JOSE = "application/jose"
FORM = "http://hl7.org/fhir/canonicalization/json"
# R4 json.html#canonical: what each form leaves out of the resource that is signed
WITHOUT: dict[str, tuple[str, ...]] = {
    FORM: (),
    f"{FORM}#data": ("text",),
    f"{FORM}#static": ("text", "meta"),
    f"{FORM}#document": ("id", "meta"),
}
_text = json.JSONEncoder(ensure_ascii=False).encode  # made once: json.dumps makes one for each of a million members
_TYPE = re.compile("[A-Z][A-Za-z]{1,39}")  # R4's longest has 33


class _Number(str):  # noqa: SLOT000  # lives for a moment
    """A number as it was written: 1.0 and 1.00 are two values in FHIR."""


class _Held(NamedTuple):
    """A signature, and where it stands: in which member of which resource, in which Bundle, under which fullUrl."""

    signature: dict[str, Any]
    member: str
    resource: dict[str, Any]
    bundle: dict[str, Any]
    url: str


class _Bad(Exception):
    """Why a signature is no good."""


class _Unknown(Exception):
    """Why nothing can be said of it."""


def check_json(body: bytes, chain: Chain) -> list[Row]:
    """Judge the JWS of a resource, in the order in which they stand. Raises ValueError, RecursionError."""
    value = parsed(body)
    held = [each for each in _held(value) if _is_jws(each)]
    texts = _Texts()
    own = next((each for each in held if each.resource is value and each.member == "signature"), None)
    return judge_most(held, own, lambda each: _row(each, chain, texts, is_root=each.resource is value))


def parsed(body: bytes) -> Any:
    """JSON with its numbers as they were written. Raises ValueError, RecursionError."""
    # only in UTF-8 and without NaN, as RFC 8259 has it: where two readers see two things nothing is signed
    text = body.decode("utf-8-sig")
    return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_refuse, object_pairs_hook=_once)


def canonical(value: Any) -> str:
    """FHIR R4 json.html#canonical: no space, members in order of their names."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return str(value) if isinstance(value, _Number) else _text(value)


class _Texts:
    """Canonical forms of one document's resources. Each resource is written once, member by member: 17 signatures may be over the same 16 MiB."""

    def __init__(self) -> None:
        self._members: dict[int, dict[str, str]] = {}  # by identity, which lasts as long as the document

    def of(self, resource: dict[str, Any], without: tuple[str, ...]) -> str:
        """A resource without some of its members."""
        members = self._members.get(id(resource))
        if members is None:
            members = {name: f"{_text(name)}:{canonical(resource[name])}" for name in sorted(resource)}
            self._members[id(resource)] = members
        return "{" + ",".join(text for name, text in members.items() if name not in without) + "}"


# ---- where they stand ---------------------------------------------------------------------------------------------------------------
def _held(root: Any) -> Iterator[_Held]:
    """Every object, in the order in which they stand, with the place where each does."""
    waiting: list[tuple[Any, _Held]] = [(root, _Held({}, "", {}, {}, ""))]
    while waiting:
        value, at = waiting.pop()
        if isinstance(value, list):
            waiting += [(each, at) for each in reversed(value) if isinstance(each, dict | list)]
            continue
        if not isinstance(value, dict):
            continue
        if "resourceType" in value:
            at = at._replace(resource=value)
            if value["resourceType"] == "Bundle":
                at = at._replace(bundle=value)
        elif at.resource is at.bundle and at.member == "entry":
            at = at._replace(url=str(value.get("fullUrl", "")))
        yield at._replace(signature=value)
        inner = [(name, each) for name, each in value.items() if isinstance(each, dict | list)]
        waiting += [(each, at._replace(member=name)) for name, each in reversed(inner)]


def _is_jws(held: _Held) -> bool:
    """Told by its format; a Bundle's may leave that out."""
    form = held.signature.get("sigFormat")
    is_bundles = held.resource is held.bundle and held.member == "signature" and "data" in held.signature
    return form == JOSE or (form is None and is_bundles and "resourceType" not in held.signature)


# ---- one signature ------------------------------------------------------------------------------------------------------------------
def _row(held: _Held, chain: Chain, texts: _Texts, *, is_root: bool) -> Row:
    try:
        jws = opened(held.signature.get("data"), chain)
        covers, *notes = _fit(held, jws, texts, is_root=is_root)
    except (_Bad, BadJws) as bad:
        return ["invalid", "JWS", "", str(bad), ""]
    except StrangeKey:
        if chain.is_blind:
            return ["unknown", "JWS", "", BLIND, ""]
        return ["unknown signer", "JWS", "", "it names a key that is not configured", ""]
    except _Unknown as unknown:
        return ["unknown", "JWS", "", str(unknown), ""]
    except (
        ValueError,
        RecursionError,
    ):  # half of a pair of UTF-16, which is no text and has no bytes; a payload of no base64; hundreds of levels
        return ["invalid", "JWS", "", "what it covers or carries cannot be read", ""]
    claimed = moment(jws.header.get("sigT")) or moment(held.signature.get("when"))
    judged = chain.judge(jws.signer, jws.others, claimed)
    return [judged.result, "JWS", covers, judged.why, "; ".join((*judged.notes, *notes))]


def _fit(held: _Held, jws: Jws, texts: _Texts, *, is_root: bool) -> tuple[str, ...]:
    """What it covers, and of a Bundle what it does not. Raises _Bad, _Unknown."""
    payload = jws.payload
    if payload is not None and not jws.fits():
        raise _Bad("the signature does not fit what it carries")
    target, forms = _signed(held)
    carried = None if payload is None else _carried(payload)
    for without in forms:
        expected = texts.of(target, without)
        if jws.fits(expected.encode()) if payload is None else carried == expected:
            left_out = " and ".join(name for name in without if name in target and name != "signature")
            if held.resource is not held.bundle:
                return (f"target {_kind(target)}{left_out and f' without {left_out}'}",)
            return ("document" if is_root else "element Bundle", *([f"its {left_out} not covered"] if left_out else []))
    what = "the Bundle" if held.resource is held.bundle else "its target"
    raise _Bad(f"the signature does not fit {what}" if payload is None else f"what it carries is not {what}")


def _kind(resource: dict[str, Any]) -> str:
    """Its type where that is one: a source's own words are not told on."""
    kind = resource.get("resourceType")
    return kind if isinstance(kind, str) and _TYPE.fullmatch(kind) else "of no known type"


def _signed(held: _Held) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """The resource that is signed, and the members that the signer may have left out. Raises _Unknown."""
    is_bundles = held.resource is held.bundle
    if held.member != "signature" or not (is_bundles or held.resource.get("resourceType") == "Provenance"):
        raise _Unknown("what it covers is not said")
    target = held.resource if is_bundles else _target(held)
    _, _, form = str(held.signature.get("targetFormat", "")).partition("canonicalization=")
    form = form.partition(";")[0].strip(' "')
    if form and form not in WITHOUT:
        raise _Unknown("a canonical form that is not read here")
    # many signers of documents leave id and meta out, as R4 has it for them, and do not say so; of others only what is said counts
    forms: list[tuple[str, ...]] = [WITHOUT[form]] if form else [(), ("id", "meta")] if is_bundles else [()]
    return target, [(*each, "signature") for each in forms] if is_bundles else forms


def _carried(payload: bytes) -> str | None:
    """The canonical form of what a JWS carries, however its members are ordered and spaced; None for what is no JSON."""
    try:
        return canonical(parsed(payload))
    except (ValueError, RecursionError):
        return None


# ---- what a Provenance is about -----------------------------------------------------------------------------------------------------
def _target(held: _Held) -> dict[str, Any]:
    """The one resource of this message that a Provenance names. Raises _Unknown."""
    targets = held.resource.get("target")
    if not isinstance(targets, list) or len(targets) > 1:
        raise _Unknown("several targets: R4 does not say how they are joined")
    reference = targets[0].get("reference") if targets and isinstance(targets[0], dict) else None
    found = _contained(held.resource, reference) if str(reference).startswith("#") else _entries(held, reference)
    if len(found) != 1:
        raise _Unknown("target not here")
    return found[0]


def _contained(resource: dict[str, Any], reference: Any) -> list[dict[str, Any]]:
    contained = resource.get("contained")
    rows = contained if isinstance(contained, list) else []
    return [each for each in rows if isinstance(each, dict) and f"#{each.get('id')}" == reference]


def _entries(held: _Held, reference: Any) -> list[dict[str, Any]]:
    """R4 bundle.html#references: by fullUrl; a relative one below the Provenance's own address, or by type and id where the entries have no address."""
    rows = held.bundle.get("entry")
    if not isinstance(reference, str) or not isinstance(rows, list):
        return []
    plain, _, version = reference.partition("/_history/")
    base = held.url.rpartition("Provenance/")[0]
    wanted = {plain, f"{base}{plain}"} if base else {plain}
    found = []
    for entry in rows:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            continue
        name = entry.get("fullUrl") or f"{resource.get('resourceType')}/{resource.get('id')}"
        meta = resource.get("meta")
        if (
            isinstance(name, str)
            and name in wanted
            and (not version or (isinstance(meta, dict) and meta.get("versionId") == version))
        ):
            found.append(resource)
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: two readers would see two resources under one signature."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands twice")
    return found
