"""What a FHIR request asks for: method, path below the base, parameters and headers become an interaction, or a refusal."""

import re
from enum import Enum
from typing import Final, NamedTuple

from hl7.fhir_errors import BadHeader, NotAcceptable, NotARepository, NotThisMedium, UnknownPath
from hl7.fhir_types import TYPES

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG: Final = re.compile(r'(W/)?"[\x21\x23-\x7e]{0,128}"')  # RFC 9110 8.8.3; FHIR's are weak and hold a version id
CONDITIONAL: Final = ("if-none-exist", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
CONDITIONS_CHARACTERS_MAX = 8192  # a search by identifiers needs hundreds
PATH_CHARACTERS_MAX = 8192  # as most servers
FHIR_VERSIONS: Final = frozenset(("4.0", "4.0.0", "4.0.1", "4.1", "4.3", "4.3.0"))
FORMATS: Final = {
    "application/fhir+json": "json",
    "application/json": "json",
    "application/json+fhir": "json",
    "text/json": "json",
    "json": "json",
    "application/fhir+xml": "xml",
    "application/xml": "xml",
    "application/xml+fhir": "xml",
    "text/xml": "xml",
    "xml": "xml",
}
"""Names that real clients give to the two forms; those with "+fhir" are of DSTU2."""


class What(Enum):
    """The interactions that this node has an answer to."""

    CAPABILITIES = "capabilities"
    OPENAPI = "openapi"
    PAGE = "page"
    SMART = "smart"
    TOKEN = "token"  # noqa: S105  # the name of an address
    CREATE = "create"
    UPDATE = "update"
    BUNDLE = "bundle"
    MESSAGE = "message"
    VALIDATE = "validate"


STORED: Final = frozenset((What.CREATE, What.UPDATE, What.BUNDLE, What.MESSAGE))
FIXED: Final = {
    ("metadata",): What.CAPABILITIES,
    ("openapi.json",): What.OPENAPI,
    ("docs",): What.PAGE,
    (".well-known", "smart-configuration"): What.SMART,
}
PUBLIC: Final = frozenset((*FIXED.values(), What.TOKEN))  # needed before a client has a token; none tells of a patient


class Asked(NamedTuple):
    """What is asked, of which type, and of which id."""

    what: What
    kind: str = ""
    id: str = ""


class Wanted(NamedTuple):
    """How a client wants to be answered: what to return (`` = not said), form, whether it would rather not wait, with line breaks."""

    returns: str = ""
    form: str = "json"
    is_async: bool = False
    pretty: bool = False


def parse(method: str, path: str, query: str) -> Asked:
    """Read a request's line; `path` is below the base, decoded. Raises NotARepository, UnknownPath, BadHeader."""
    if len(path) + len(query) > PATH_CHARACTERS_MAX:
        raise BadHeader(detail="The address is too long")
    steps = tuple(step for step in path.split("/") if step)
    if steps in FIXED:
        return Asked(_only(method, FIXED[steps], "GET", "HEAD"))
    if steps == ("auth", "token"):
        return Asked(_only(method, What.TOKEN, "POST"))
    if not steps:
        return Asked(_only(method, What.BUNDLE, "POST"))
    if steps == ("$process-message",):
        return Asked(_only(method, What.MESSAGE, "POST"), "Bundle")
    kind, *rest = steps
    if kind in {"_history", "_search"}:
        raise NotARepository
    if kind not in TYPES:
        raise UnknownPath
    return _of_type(method, kind, rest, query)


def _of_type(method: str, kind: str, rest: list[str], query: str) -> Asked:
    match rest:
        case []:
            if method == "PUT" and not query:
                raise BadHeader(detail="An update needs an id, or search parameters")
            return Asked(What.UPDATE if method == "PUT" else _only(method, What.CREATE, "POST", "PUT"), kind)
        case ["$validate"]:
            return Asked(_only(method, What.VALIDATE, "POST"), kind)
        case [identifier, "$validate"] if _ID.fullmatch(identifier):
            return Asked(_only(method, What.VALIDATE, "POST"), kind)
        case [identifier] if _ID.fullmatch(identifier):
            return Asked(_only(method, What.UPDATE, "PUT"), kind, identifier)
        case ["_search" | "_history"]:
            raise NotARepository
        case [identifier, inner, *_] if _ID.fullmatch(identifier) and not inner.startswith(
            "$"
        ):  # versions, compartments
            raise NotARepository
    raise UnknownPath


def _only(method: str, what: What, *allowed: str) -> What:
    if method in allowed:
        return what
    raise NotARepository(", ".join(allowed))


# ---- headers --------------------------------------------------------------------------------------------------------------------
def conditions(headers: dict[str, str]) -> str:
    """The conditional headers as they came, a line each. Raises BadHeader where one cannot be meant."""
    found = {name: headers[name] for name in CONDITIONAL if name in headers}
    text = "\n".join(f"{name}: {value}" for name, value in found.items())
    if len(text) > CONDITIONS_CHARACTERS_MAX:
        raise BadHeader(detail="The conditional headers are too long")
    search = found.get("if-none-exist")
    if search is not None and ("=" not in search or "://" in search.partition("=")[0]):
        raise BadHeader(detail="If-None-Exist must hold search parameters")
    for name in ("if-match", "if-none-match"):
        if name in found and found[name] != "*" and not _ETAG.fullmatch(found[name]):
            raise BadHeader(detail=f'{name} must hold a version such as W/"3"')
    return text


def medium(header: str) -> str:
    """Which form a Content-Type names, json or xml; empty where it says nothing. Raises NotThisMedium."""
    name, *parameters = (part.strip().lower() for part in header.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        value = value.strip('" ')
        if (key == "charset" and value not in {"utf-8", "utf8", "us-ascii"}) or (
            key == "fhirversion" and value not in FHIR_VERSIONS
        ):
            raise NotThisMedium(detail=f"{key} is not one that is taken here")
    if name in FORMATS:
        return FORMATS[name]
    if name in {"", "application/octet-stream"}:
        return ""
    raise NotThisMedium


def wanted(headers: dict[str, str], query: str) -> Wanted:
    """How to answer. Raises NotAcceptable."""
    parameters = dict(_parameter(each) for each in query.split("&"))
    returns, is_async = "", False
    for each in headers.get("prefer", "").split(","):
        key, _, value = each.strip().partition("=")
        if key.lower() == "return" and value.strip('"') in {"minimal", "representation", "OperationOutcome"}:
            returns = value.strip('"')
        is_async = is_async or key.lower() == "respond-async"
    form = _form(parameters["_format"]) if "_format" in parameters else _accepted(headers.get("accept", ""))
    return Wanted(returns, form, is_async, parameters.get("_pretty") == "true")


def _parameter(text: str) -> tuple[str, str]:
    """A parameter's name and value; a "+" stays one, since it is what clients mean by it in `_format`."""
    name, _, value = text.partition("=")
    return name, re.sub("%([0-7][0-9A-Fa-f])", lambda found: chr(int(found[1], 16)), value)


def _form(name: str) -> str:
    found = FORMATS.get(name.partition(";")[0].strip().lower())
    if found is None:
        raise NotAcceptable
    return found


def _accepted(header: str) -> str:
    """The form with the highest weight, JSON where both are as good (RFC 9110 12.5.1)."""
    best, form = 0.0, ""
    for each in header.split(",") if header.strip() else ["*/*"]:
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        found = "json" if name in {"*/*", "application/*", "text/*"} else FORMATS.get(name, "")
        weight = _weight(parameters)
        if found and weight and (weight > best or (weight == best and found == "json" and name != "*/*")):
            best, form = weight, found
    if not form:
        raise NotAcceptable
    return form


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
