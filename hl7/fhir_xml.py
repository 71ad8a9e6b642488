"""FHIR's XML: the few facts of a sender's body that decide about it, in the shape that JSON has them; and our own answers as XML."""

from typing import Any, Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from hl7.fhir_errors import NotAResource, TooDeep, TooManyValues, Unreadable
from hl7.fhir_json import DEPTH_MAX, VALUES_MAX

NAMESPACE: Final = "http://hl7.org/fhir"
# Deeper than these the facts lie nowhere; what is not read is not kept, so memory is bounded by the number of entries.
_PLAIN: Final = frozenset(
    (
        ("id",),
        ("type",),
        ("identifier", "system"),
        ("identifier", "value"),
        ("entry", "fullUrl"),
        ("entry", "request", "method"),
        ("entry", "request", "url"),
        ("entry", "request", "ifNoneExist"),
    )
)


def read(body: bytes) -> dict[str, Any]:
    """Read the facts of a body as members of a JSON resource. Raises Unreadable, TooDeep, TooManyValues, NotAResource."""
    if body.count(b"<") > VALUES_MAX:
        raise TooManyValues(detail=f"More than {VALUES_MAX} elements")
    reader = _Reader()
    # FHIR's XML is UTF-8 whatever its declaration says (http://hl7.org/fhir/R4/xml.html)
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise Unreadable(detail=f"Not XML at line {error.lineno} column {error.offset + 1}") from None
    return reader.found


def _refuse_doctype(*_declaration: object) -> None:
    # entities that grow, and files that are not the sender's to read
    raise Unreadable(detail="A DOCTYPE is not allowed")


class _Reader:
    """Follows the elements; `found` grows to what a JSON resource would have."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._path: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        path = self._path
        if not path:
            if namespace != NAMESPACE:
                raise NotAResource(detail=f"The namespace is not {NAMESPACE}")
            self.found["resourceType"] = local
        path.append(local)
        if len(path) > DEPTH_MAX:
            raise TooDeep(detail=f"Deeper than {DEPTH_MAX}")
        if len(path) <= 5 and namespace == NAMESPACE:
            self._note(tuple(path[1:]), attributes.get("value", ""))

    def end(self, _name: str) -> None:
        self._path.pop()

    def _note(self, place: tuple[str, ...], value: str) -> None:
        if place == ("entry",):
            self.found.setdefault("entry", []).append({})
        elif place[:2] == ("entry", "resource") and len(place) >= 3:
            self._note_resource(place[2:], value)
        elif place in _PLAIN:
            at = self.found
            for step in place[:-1]:
                at = at["entry"][-1] if step == "entry" else at.setdefault(step, {})
            at[place[-1]] = value

    def _note_resource(self, place: tuple[str, ...], value: str) -> None:
        resource = self.found["entry"][-1].setdefault("resource", {})
        if len(place) == 1:
            resource["resourceType"] = place[0]
        elif place[1] == "id":
            resource["id"] = value


# ---- our own answers ------------------------------------------------------------------------------------------------------------
def write(resource: dict[str, Any]) -> bytes:
    """A resource whose members stand in FHIR's order, as XML. For what we make ourselves: no narrative, no primitive extensions."""
    parts = [f'<{resource["resourceType"]} xmlns="{NAMESPACE}">']
    _write_members(parts, resource)
    parts.append(f"</{resource['resourceType']}>")
    return b'<?xml version="1.0" encoding="UTF-8"?>' + "".join(parts).encode()


def _write_members(parts: list[str], node: dict[str, Any]) -> None:
    for name, value in node.items():
        if name == "resourceType":
            continue
        for each in value if isinstance(value, list) else [value]:
            _write_one(parts, name, each)


def _write_one(parts: list[str], name: str, value: Any) -> None:
    if not isinstance(value, dict):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        parts.append(f"<{name} value={quoteattr(text)}/>")
        return
    inner = value.get("resourceType")
    url = f" url={quoteattr(value['url'])}" if name == "extension" else ""  # the one attribute of FHIR's own elements
    parts.append(f"<{name}{url}>" + (f"<{inner}>" if inner else ""))
    _write_members(parts, {key: each for key, each in value.items() if not (url and key == "url")})
    parts.append((f"</{inner}>" if inner else "") + f"</{name}>")
