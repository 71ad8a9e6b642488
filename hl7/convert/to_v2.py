"""FHIR R4 to HL7 v2.5.1 for local systems: ServiceRequest to OML^O21, DiagnosticReport to ORU^R01."""

from dataclasses import dataclass
from typing import Any, Final

from hl7.convert.building import stable_id
from hl7.convert.json_reading import Node, unread
from hl7.convert.json_text import loads
from hl7.convert.result import VERSION, CannotConvert, IsLate, Json, Origin, Settings, Unmapped, never
from hl7.convert.times import hl7_time
from hl7.convert.v2_values import Writer, sent_for

MESSAGES_MAX: Final = 1000  # of one Bundle: a transaction of that many orders is beyond what a feed takes in a request
_CLASSES: Final = {"IMP": "I", "ACUTE": "I", "NONAC": "I", "AMB": "O", "EMER": "E", "PRENC": "P", "HH": "H", "VR": "O"}
_ORDERED: Final = {"active": "NW", "revoked": "CA", "on-hold": "HD", "completed": "SC", "entered-in-error": "CA"}
_REPORTED: Final = {"final": "F", "preliminary": "P", "corrected": "C", "amended": "C", "appended": "C"} | {
    "registered": "O",
    "partial": "A",
    "cancelled": "X",
    "entered-in-error": "X",
}
_OBSERVED: Final = {"final": "F", "preliminary": "P", "corrected": "C", "amended": "C", "registered": "I"} | {
    "cancelled": "X",
    "entered-in-error": "W",
}
_CHARSETS: Final = {"utf-8": "UNICODE UTF-8", "ascii": "ASCII"} | {
    f"iso8859_{part}": f"8859/{part}" for part in range(1, 10)
}
"""HL7 table 0211's names of what is written; Windows' sets have none there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedBack:
    """HL7 v2 messages, and every value of the resources that stands in none. `is_test`: a resource says of itself that it is no patient's (HTEST)."""

    messages: tuple[bytes, ...]
    unmapped: tuple[Unmapped, ...]
    is_test: bool = False
    version: str = VERSION


def from_json(
    data: bytes, settings: Settings | None = None, origin: Origin | None = None, is_late: IsLate = never
) -> ConvertedBack:
    """Convert the orders and reports of JSON text; CannotConvert where it is no resource, holds none of them, or takes too long."""
    try:
        value = loads(data)
    except (ValueError, RecursionError) as error:
        raise CannotConvert("content", f"not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise CannotConvert("content", "not a FHIR resource")
    return from_fhir(value, settings or Settings(), origin, is_late)


def from_fhir(value: Json, settings: Settings, origin: Origin | None = None, is_late: IsLate = never) -> ConvertedBack:
    """Convert the orders and reports of a Bundle, or one with what it contains."""
    known = _Known(value, settings, origin)
    reports = known.of("DiagnosticReport")
    told = known.told_in(reports)  # an order that a report of the Bundle answers is told within the report's message
    orders = [each for each in known.of("ServiceRequest") if each.path not in told]
    if not orders and not reports:
        raise CannotConvert("type", "neither a ServiceRequest nor a DiagnosticReport in it")
    if len(orders) + len(reports) > MESSAGES_MAX:
        raise CannotConvert("too-large", f"{len(orders) + len(reports)} orders and reports, {MESSAGES_MAX} at most")
    messages: list[str] = []
    for each in (*orders, *reports):
        if is_late():
            raise CannotConvert("too-slow", f"{len(messages)} messages in the time there is")
        messages.append((known.order if len(messages) < len(orders) else known.report)(each))
    charset = settings.charset or "utf-8"
    unmapped = known.unread()
    encoded = [each.encode(charset, "replace") for each in messages]
    for at, (text, raw) in enumerate(zip(messages, encoded, strict=True)):
        if raw.decode(charset) != text:
            unmapped.append(Unmapped(f"message[{at}]", f"characters that {charset} does not have became ?", ""))
    return ConvertedBack(messages=tuple(encoded), unmapped=tuple(unmapped), is_test=known.is_test)


class _Known:
    """The resources of a Bundle, found by reference, and what of them was read."""

    def __init__(self, value: Json, settings: Settings, origin: Origin | None) -> None:
        self.settings, self.origin = settings, origin
        self.read: set[str] = set()
        self.told: set[str] = set()  # the observations of the report that is being written
        self.nodes: list[Node] = []
        self.by_reference: dict[str, Node] = {}
        self.is_test = _is_test(value)
        entries = value.get("entry") if value["resourceType"] == "Bundle" else [{"resource": value}]
        for at, entry in enumerate(entries if isinstance(entries, list) else []):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(resource, dict):
                self._add(resource, f"entry[{at}].{resource.get('resourceType')}", entry.get("fullUrl"))
        self.write = Writer(self.find, settings)

    def _add(self, resource: Json, path: str, url: Any) -> None:
        node = Node(resource, path, self.read)
        self.nodes.append(node)
        self.is_test = self.is_test or _is_test(resource)
        names = [f"{resource.get('resourceType')}/{resource.get('id')}", url]
        contained = resource.get("contained")
        for at, inner in enumerate(contained if isinstance(contained, list) else []):
            if isinstance(inner, dict):
                self.by_reference[f"#{inner.get('id')}"] = Node(inner, f"{path}.contained[{at}]", self.read)
        for name in names:
            if isinstance(name, str):
                self.by_reference[name] = node
        for name in ("resourceType", "id"):
            node[name].text()

    def of(self, kind: str) -> list[Node]:
        return [node for node in self.nodes if node.value.get("resourceType") == kind]

    def find(self, reference: Node) -> Node:
        """Return the resource that a reference names; an absent one where it is not in the Bundle."""
        found = self.by_reference.get(reference["reference"].peek())
        if found is None:
            return Node(None, reference.path, self.read)
        reference["reference"].text()
        return found

    def told_in(self, reports: list[Node]) -> set[str]:
        """Return the paths of the orders that these reports answer."""
        return {self.find(each).path for report in reports for each in report["basedOn"].each()}

    def unread(self) -> list[Unmapped]:
        return [each for node in self.nodes for each in unread(node.value, node.path, self.read)]

    # ---- messages ---------------------------------------------------------------------------------------------------
    def order(self, node: Node) -> str:
        """OML^O21: the order, its patient, visit, timing, remarks and specimens."""
        status = node["status"].text()
        control = _ORDERED.get(status, "NW")
        lines = [self._head("OML^O21^OML_O21", node, node["authoredOn"])]
        lines += self._people(node)
        placer, filler = self.write.order_numbers(node)
        state = {"completed": "CM", "on-hold": "HD", "revoked": "CA", "entered-in-error": "ER"}.get(status, "")
        requester = self.write.person(node["requester"])
        authored = hl7_time(node["authoredOn"].text())
        group = self.write.entity(node["requisition"])
        lines.append(
            _segment("ORC", {1: control, 2: placer, 3: filler, 4: group, 5: state, 9: authored, 12: requester})
        )
        priority = sent_for("priority", node["priority"].text())
        start, end = self.write.span(node, "occurrence")
        if priority or start or end:
            lines.append(_segment("TQ1", {1: "1", 7: start, 8: end, 9: priority}))
        node["intent"].text()
        fields = {1: "1", 2: placer, 3: filler, 4: self.write.concept(node["code"]), 16: requester}
        fields[31] = self.write.repeated(self.write.concept, node["reasonCode"])
        lines.append(_segment("OBR", fields))
        lines += self._notes(node["note"])
        for at, each in enumerate(node["specimen"].each(), start=1):
            lines += self._specimen(at, self.find(each))
        return "\r".join(lines) + "\r"

    def report(self, node: Node) -> str:
        """ORU^R01: the report, the order it answers, its observations and specimens."""
        self.told.clear()
        order = self.find(next(node["basedOn"].each(), node["basedOn"]))
        lines = [self._head("ORU^R01^ORU_R01", node, node["issued"])]
        lines += self._people(node)
        placer, filler = self.write.order_numbers(node)
        if order:
            of_order = self.write.order_numbers(order)
            placer, filler = placer or of_order[0], filler or of_order[1]
            for name in ("status", "intent"):
                order[name].text()
        requester = self.write.person(order["requester"])
        lines.append(_segment("ORC", {1: "RE", 2: placer, 3: filler, 12: requester}))
        start, end = self.write.span(node, "effective")
        fields = {
            1: "1",
            2: placer,
            3: filler,
            4: self.write.concept(node["code"]),
            7: start,
            8: end,
            16: requester,
            22: hl7_time(node["issued"].text()),
            24: self.write.code_of(node["category"]),
            25: _REPORTED.get(node["status"].text(), ""),
        }
        if order["code"].value == node["code"].value:
            order["code"].take()
        lines.append(_segment("OBR", fields))
        lines += self._notes(order["note"])
        if conclusion := node["conclusion"].text():
            lines.append(_segment("NTE", {1: "1", 3: self.write.lines(conclusion)}))
        for at, each in enumerate(node["result"].each(), start=1):
            lines += self._observation(at, self.find(each))
        count = sum(line.startswith("OBX") for line in lines)
        for at, each in enumerate(node["presentedForm"].each(), start=count + 1):
            lines.append(self._attached(at, each, fields[4]))
        for at, each in enumerate(node["specimen"].each(), start=1):
            lines += self._specimen(at, self.find(each))
        return "\r".join(lines) + "\r"

    # ---- segments ---------------------------------------------------------------------------------------------------
    def _head(self, kind: str, node: Node, when: Node) -> str:
        """MSH: the time is the resource's own, else the record's; the control id a function of the record and the resource: the same again, always."""
        named = node["id"].text()
        if self.origin is None:
            identity = stable_id(f"{self.settings.facility}|{kind}|{named}|{node['meta']['versionId'].peek()}")
        else:  # the same resource in a later record is other news of it
            identity = stable_id(f"{self.origin.name}|{kind}|{node.path}|{named}")
        sent = hl7_time(when.peek()) or (hl7_time(self.origin.received_at) if self.origin else "")
        charset = _CHARSETS.get(self.settings.charset or "utf-8", "")
        fields = {4: self.write.text(self.settings.facility), 7: sent, 9: kind}
        fields |= {
            3: "WASL",
            10: identity.replace("-", "")[:20],
            11: "T" if self.is_test else "P",
            12: "2.5.1",
            18: charset,
        }
        return "MSH|^~\\&|" + "|".join(fields.get(at, "") for at in range(3, 19)).rstrip("|")

    def _people(self, node: Node) -> list[str]:
        lines = []
        patient = self.find(node["subject"])
        if patient:
            fields = {
                1: "1",
                3: self.write.repeated(self.write.identifier, patient["identifier"]),
                5: self.write.repeated(self.write.name, patient["name"]),
                7: hl7_time(patient["birthDate"].text()),
                8: sent_for("gender", patient["gender"].text()),
                11: self.write.repeated(self.write.address, patient["address"]),
                13: self.write.repeated(self.write.telecom, patient["telecom"]),
            }
            lines.append(_segment("PID", fields))
        visit = self.find(node["encounter"])
        if visit:
            kind = _CLASSES.get(visit["class"]["code"].text(), "U")
            number = self.write.identifier(next(visit["identifier"].each(), visit["identifier"]))
            lines.append(_segment("PV1", {1: "1", 2: kind, 19: number}))
        return lines

    def _notes(self, notes: Node) -> list[str]:
        return [
            _segment("NTE", {1: str(at), 3: self.write.lines(each["text"].text()), 6: hl7_time(each["time"].text())})
            for at, each in enumerate(notes.each(), start=1)
        ]

    def _observation(self, at: int, node: Node) -> list[str]:
        if not node or node.path in self.told:
            return []
        self.told.add(node.path)  # members may name each other in a circle
        kind, value, unit = self.write.observed(node)
        start, _ = self.write.span(node, "effective")
        fields = {
            1: str(at),
            2: kind,
            3: self.write.concept(node["code"]),
            5: value,
            6: unit,
            7: self.write.reference_range(node["referenceRange"]),
            8: self.write.repeated(self.write.code_of, node["interpretation"]),
            11: _OBSERVED.get(node["status"].text(), ""),
            14: start,
            16: self.write.repeated(self.write.person, node["performer"]),
            17: self.write.concept(node["method"]),
        }
        lines = [_segment("OBX", fields), *self._notes(node["note"])]
        for inner in node["hasMember"].each():
            lines += self._observation(at, self.find(inner))
        return lines

    def _attached(self, at: int, node: Node, code: str) -> str:
        content = node["contentType"].text()
        kind, _, subtype = content.partition("/")
        if url := node["url"].text():
            return _segment(
                "OBX", {1: str(at), 2: "RP", 3: code, 5: f"{self.write.text(url)}^^{kind}^{subtype}", 11: "F"}
            )
        data = node["data"].text()
        return _segment("OBX", {1: str(at), 2: "ED", 3: code, 5: f"^{kind}^{subtype}^Base64^{data}", 11: "F"})

    def _specimen(self, at: int, node: Node) -> list[str]:
        if not node:
            return []
        placer, filler = self.write.order_numbers(node)
        collection = node["collection"]
        start, end = self.write.span(collection, "collected")
        fields = {
            1: str(at),
            2: f"{placer}^{filler}".rstrip("^").replace("^", "&"),
            4: self.write.concept(node["type"]),
            8: self.write.concept(collection["bodySite"]),
            17: f"{start}^{end}".rstrip("^"),
            18: hl7_time(node["receivedTime"].text()),
            30: self.write.identifier(node["accessionIdentifier"]),
        }
        return [_segment("SPM", fields)]


def _is_test(resource: Json) -> bool:
    """Tell whether meta.security says HTEST: health data made for a test (FHIR R4, resource.html#Meta.security; v3 ActReason)."""
    meta = resource.get("meta")
    labels = meta.get("security") if isinstance(meta, dict) else None
    return any(
        isinstance(each, dict) and each.get("code") == "HTEST" for each in (labels if isinstance(labels, list) else [])
    )


def _segment(name: str, fields: dict[int, str]) -> str:
    return name + "|" + "|".join(fields.get(at, "") for at in range(1, max(fields) + 1)).rstrip("|")
