"""FHIR R4 at a feed: what a body is, and what the feed says of it. The bytes stay as they came; models and terminologies are not asked here."""

import re
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

from hl7 import fhir_json, fhir_xml
from hl7.check import Outcome
from hl7.fhir_errors import (
    BadBundle,
    FhirError,
    NotAResource,
    NotCarried,
    TooManyValues,
    TypeNotAllowed,
    Unreadable,
    WrongAddress,
)
from hl7.fhir_request import Asked, What
from hl7.fhir_types import BUNDLES_CARRIED, TYPES

JSON: Final = "application/fhir+json"
XML: Final = "application/fhir+xml"
ENTRIES_MAX = 10_000  # each is answered: a day of a busy clinic, and the answer stays below 2 MB
ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"))
CARRIED: Final = frozenset(("POST", "PUT"))
FIRST: Final = {"message": "MessageHeader", "document": "Composition"}
IDENTITY_CHARACTERS_MAX = 400  # of what names a message: fits a control id, and is hashed by nobody


class Strictness(IntEnum):
    """How much a feed asks of a body."""

    LENIENT = 0  # whatever comes is kept, with a warning
    NORMAL = 1  # it can be read, is a resource of R4, and stands at the right address
    STRICT = 2  # and the models say that it is valid


class Entry(NamedTuple):
    """One entry of a Bundle: its request, and the type and id of its resource; empty where there is none."""

    method: str
    url: str
    kind: str
    id: str


class Facts(NamedTuple):
    """What the doorway needs to know: type, id, Bundle's type, its entries, and what names a message or document for ever."""

    kind: str = ""
    id: str = ""
    bundle: str = ""
    entries: tuple[Entry, ...] = ()
    identity: str = ""

    @property
    def message_type(self) -> str:
        """For the permanent header: names of R4 alone, never text of the sender."""
        return f"{self.kind}^{self.bundle}" if self.bundle else self.kind


class Rules(NamedTuple):
    """What a feed asks: how strictly, and of which types (none = any)."""

    strictness: Strictness = Strictness.NORMAL
    types: frozenset[str] = frozenset()


class Judgement(NamedTuple):
    """What becomes of a body. `errors` of the whole; `refused` are entries of a batch that are not carried, by their place."""

    outcome: Outcome
    facts: Facts
    errors: tuple[FhirError, ...] = ()
    refused: dict[int, FhirError] = {}  # noqa: RUF012  # never written to

    @property
    def error(self) -> FhirError | None:
        """What decided, or None where all is well."""
        return next(iter((*self.errors, *self.refused.values())), None)


def judge(body: bytes, content_type: str, asked: Asked, rules: Rules) -> Judgement:
    """Read a body and judge it. Never raises, whatever the bytes."""
    errors: list[FhirError] = []
    facts, refused = Facts(), {}
    try:
        if content_type == XML:
            value: Any = fhir_xml.read(body)
        else:
            value, found = fhir_json.read(body)
            errors += found
        facts = facts_of(value)
        errors += _misplaced(facts, asked)
        refused = dict(_refused(facts))
        if refused and facts.bundle == "transaction":  # all or nothing
            errors += refused.values()
            refused = {}
    except FhirError as error:
        errors.append(error)
    barred = _barred(facts, rules.types)
    if barred is not None:
        return Judgement(Outcome.REJECTED, facts, (barred, *errors), refused)
    if errors and rules.strictness > Strictness.LENIENT:
        return Judgement(Outcome.REJECTED, facts, tuple(errors), refused)
    outcome = Outcome.ACCEPTED_WITH_WARNING if errors or refused else Outcome.ACCEPTED
    return Judgement(outcome, facts, tuple(errors), refused)


def sniff(body: bytes) -> str:
    """JSON or XML by the first character. Raises Unreadable."""
    first = body.removeprefix(fhir_json.BOM).lstrip(b" \t\r\n")[:1]
    if first not in {b"{", b"<"}:
        raise Unreadable(detail="Neither JSON nor XML")
    return JSON if first == b"{" else XML


# ---- facts ----------------------------------------------------------------------------------------------------------------------
def facts_of(value: Any) -> Facts:
    """The facts of a resource as JSON has it. Raises NotAResource, BadBundle, TooManyValues."""
    if not isinstance(value, dict):
        raise NotAResource(detail="Not a JSON object")
    kind = _type_of(value)
    if not kind:
        raise NotAResource("resourceType")
    if kind != "Bundle":
        return Facts(kind, _id_of(value))
    bundle, entries = value.get("type"), value.get("entry", [])
    if not isinstance(bundle, str) or bundle not in BUNDLES_CARRIED:
        raise BadBundle("Bundle.type")
    if not isinstance(entries, list):
        raise BadBundle("Bundle.entry")
    if len(entries) > ENTRIES_MAX:
        raise TooManyValues("Bundle.entry", f"More than {ENTRIES_MAX} entries")
    found = tuple(_entry(entry, place) for place, entry in enumerate(entries))
    first = FIRST.get(bundle)
    if first is not None and (not found or found[0].kind != first):
        raise BadBundle("Bundle.entry[0].resource", f"The first entry of a {bundle} is a {first}")
    return Facts(kind, _id_of(value), bundle, found, _identity(value, bundle, found))


def _type_of(value: dict[str, Any]) -> str:
    kind = value.get("resourceType")
    return kind if isinstance(kind, str) and kind in TYPES else ""


def _id_of(value: dict[str, Any]) -> str:
    found = value.get("id")
    return found if isinstance(found, str) and ID.fullmatch(found) else ""


def _entry(entry: Any, place: int) -> Entry:
    if not isinstance(entry, dict):
        raise BadBundle(f"Bundle.entry[{place}]")
    resource, request = entry.get("resource"), entry.get("request")
    kind = identifier = ""
    if resource is not None:
        kind = _type_of(resource) if isinstance(resource, dict) else ""
        if not kind:
            raise NotAResource(f"Bundle.entry[{place}].resource")
        identifier = _id_of(resource)
    method, url = (request.get("method"), request.get("url")) if isinstance(request, dict) else ("", "")
    return Entry(_text(method), _text(url), kind, identifier)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _identity(value: dict[str, Any], bundle: str, entries: tuple[Entry, ...]) -> str:
    """What names a message or a document for ever: the same name and bytes a second time are a repeat (FHIR R4, messaging 2.4.4, documents 2.43.4)."""
    identifier = value.get("identifier")
    parts = [_text(identifier.get("system")), _text(identifier.get("value"))] if isinstance(identifier, dict) else []
    if bundle == "message":
        parts = [*parts, _id_of(value), entries[0].id]
    if bundle not in FIRST or not any(parts):
        return ""
    identity = "|".join(parts)
    is_plain = len(identity) <= IDENTITY_CHARACTERS_MAX and identity.isprintable()
    return identity if is_plain else ""  # a name that cannot be kept whole names nothing


# ---- rules ----------------------------------------------------------------------------------------------------------------------
def _misplaced(facts: Facts, asked: Asked) -> Iterator[FhirError]:
    """What does not belong to the address that it was sent to."""
    if asked.what in {What.BUNDLE, What.MESSAGE} and facts.kind != "Bundle":
        yield WrongAddress("resourceType", "A Bundle belongs here; one resource belongs at its type's address")
    elif asked.what is What.MESSAGE and facts.bundle != "message":
        yield WrongAddress("Bundle.type", "$process-message takes a message")
    elif asked.what is What.VALIDATE and facts.kind == "Parameters":
        return  # R4 operation-resource-validate: the resource lies in them
    elif asked.kind and facts.kind != asked.kind:
        yield WrongAddress("resourceType")
    elif asked.what is What.UPDATE and asked.id and facts.id != asked.id:
        # R4 http 3.1.0.4: the id of the body is that of the address, or 400
        yield WrongAddress(f"{facts.kind}.id")


def _refused(facts: Facts) -> Iterator[tuple[int, FhirError]]:
    """Entries of a transaction or batch that cannot be carried out as they are. Raises BadBundle where there is no telling what they are."""
    if facts.bundle not in {"transaction", "batch"}:
        return
    for place, entry in enumerate(facts.entries):
        where = f"Bundle.entry[{place}].request"
        if entry.method not in METHODS or not entry.url:
            raise BadBundle(where, "Each entry of a transaction or batch has a method and a url")
        if entry.method not in CARRIED or "$" in entry.url.partition("?")[0]:
            yield place, NotCarried(f"{where}.method" if entry.method not in CARRIED else f"{where}.url")
        elif not _fits(entry):
            yield place, WrongAddress(f"{where}.url")


def _fits(entry: Entry) -> bool:
    """Whether a resource stands at the address that its entry names: its type to create, its type and id, or a search, to update."""
    path, _, query = entry.url.partition("?")
    rest, _, last = path.rpartition("/")  # an absolute address ends like a relative one
    if not entry.kind:
        return False
    if last == entry.kind:
        return entry.method == "POST" or bool(query)
    # many leave out the id that the address has; another one is a contradiction
    return (
        entry.method == "PUT"
        and rest.rpartition("/")[2] == entry.kind
        and bool(ID.fullmatch(last))
        and entry.id in {"", last}
    )


def _barred(facts: Facts, types: frozenset[str]) -> FhirError | None:
    """The first resource whose type the feed does not take; a Bundle is as good as what it holds."""
    if not types:
        return None
    if facts.kind != "Bundle":
        return None if facts.kind in types or not facts.kind else TypeNotAllowed("resourceType")
    for place, entry in enumerate(facts.entries):
        if entry.kind and entry.kind not in types:
            return TypeNotAllowed(f"Bundle.entry[{place}].resource")
    return None
