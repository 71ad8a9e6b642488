"""FHIR's data types as HL7 v2 writes them: escaped, joined, empty where there is nothing."""

from collections.abc import Callable
from typing import Final

from hl7.convert.codes import code_map, name_of_system
from hl7.convert.json_reading import Node
from hl7.convert.result import Settings
from hl7.convert.times import hl7_time
from hl7.separators import STANDARD, escape

Find = Callable[[Node], Node]
_PLACER: Final = {"PLAC"}
_FILLER: Final = {"FILL", "ACSN"}


def sent_for(name: str, code: str) -> str:
    """Return the HL7 code that a map gives that FHIR code for; the first one where there are several."""
    return next((sent for sent, found in code_map(name).codes.items() if found.code == code), "") if code else ""


class Writer:
    """Writes values; `find` returns the resource that a reference names."""

    def __init__(self, find: Find, settings: Settings) -> None:
        self.find = find
        self.settings = settings
        self.names = {uri: name for name, uri in settings.systems.items()}

    def text(self, value: str) -> str:
        """One value, its separators escaped."""
        return escape(value.encode(), STANDARD).decode()

    def lines(self, value: str) -> str:
        r"""Text of several lines: their ends are \.br\."""
        return "\\.br\\".join(self.text(line) for line in value.replace("\r\n", "\n").split("\n"))

    def repeated(self, write: Callable[[Node], str], node: Node) -> str:
        """Repetitions of a field."""
        return "~".join(found for found in map(write, node.each()) if found)

    def authority(self, system: str, name: str = "") -> str:
        """HD as a component, of an identifier's system."""
        if known := self.names.get(system):
            return self.text(known)
        local = system.removeprefix("urn:id:") if system.startswith("urn:id:") else ""
        if self.settings.facility:
            local = local.removeprefix(f"{self.settings.facility}:")
        if local or not system:
            return self.text(name or local)
        for prefix, kind in (("urn:oid:", "ISO"), ("urn:uuid:", "UUID")):
            if system.startswith(prefix):
                return f"{self.text(name)}&{self.text(system.removeprefix(prefix))}&{kind}"
        return f"{self.text(name)}&{self.text(system)}&URI"

    def identifier(self, node: Node) -> str:
        """CX."""
        value = node["value"].text()
        if not value:
            return ""
        coding = node["type"]["coding"]
        coding["system"].text()
        assigner = self.authority(node["system"].text(), node["assigner"]["display"].text())
        return f"{self.text(value)}^^^{assigner}^{self.text(coding['code'].text())}".rstrip("^")

    def entity(self, node: Node) -> str:
        """EI."""
        value = node["value"].text()
        if not value:
            return ""
        for name in ("system", "code"):
            node["type"]["coding"][name].text()
        parts = self.authority(node["system"].text(), node["assigner"]["display"].text()).replace("&", "^")
        return f"{self.text(value)}^{parts}".rstrip("^")

    def order_numbers(self, node: Node) -> tuple[str, str]:
        """Placer's and filler's number; the first identifier without such a type is the placer's."""
        placer = filler = ""
        for each in node["identifier"].each():
            kind = each["type"]["coding"]["code"].peek()
            if kind in _FILLER and not filler:
                filler = self.entity(each)
            elif not placer and (kind in _PLACER or not kind):
                placer = self.entity(each)
        return placer, filler

    def concept(self, node: Node) -> str:
        """CWE: two codings and the text."""
        codings = [
            each for each in node["coding"].each() if isinstance(each.value, dict) and not isinstance(each.value, list)
        ]
        parts = [""] * 9
        for at, each in zip((0, 3), codings, strict=False):
            parts[at] = self.text(each["code"].text())
            parts[at + 1] = self.text(each["display"].text())
            parts[at + 2] = self._system(each["system"].text())
            parts[6 + at // 3] = self.text(each["version"].text())
        words = node["text"].text()
        parts[8] = self.text(words)
        if words and not codings:
            parts[1] = parts[8]
        return "^".join(parts).rstrip("^")

    def _system(self, uri: str) -> str:
        known = self.names.get(uri) or name_of_system(uri)
        local = uri.removeprefix("urn:id:").removeprefix(f"{self.settings.facility}:")
        return self.text(known or local)

    def code_of(self, node: Node) -> str:
        """The first coding's code alone, as ID and IS have it."""
        coding = node["coding"]
        for name in ("system", "display"):
            coding[name].text()
        return self.text(coding["code"].text() or node["text"].text())

    def name(self, node: Node) -> str:
        """XPN."""
        family, given = self.text(node["family"].text()), [self.text(each.text()) for each in node["given"].each()]
        suffix, prefix = self.text(node["suffix"].text()), self.text(node["prefix"].text())
        use = sent_for("name-use", node["use"].text())
        if not family and not given:
            family = self.text(node["text"].text())
        second = " ".join(given[1:])
        return "^".join((family, given[0] if given else "", second, suffix, prefix, "", use)).rstrip("^")

    def person(self, node: Node) -> str:
        """XCN of a reference to a Practitioner, or of its display."""
        found = self.find(node)
        role = self.find(found["practitioner"])
        found = role or found
        if not found:
            display = node["display"].text()
            return f"^{self.text(display)}" if display else ""
        number = self.identifier(next(found["identifier"].each(), found["identifier"])).split("^")
        name = self.name(next(found["name"].each(), found["name"])).split("^")
        name += [""] * (7 - len(name))
        number += [""] * (5 - len(number))
        parts = [number[0], *name[:5], "", "", number[3], name[6], "", "", number[4]]
        return "^".join(parts).rstrip("^")

    def address(self, node: Node) -> str:
        """XAD."""
        lines = [self.text(each.text()) for each in node["line"].each()]
        names = ("city", "state", "postalCode", "country")
        city, state, code, country = (self.text(node[name].text()) for name in names)
        use, district = sent_for("address-use", node["use"].text()), self.text(node["district"].text())
        first, second = (lines[0] if lines else ""), " ".join(lines[1:])
        return f"{first}^{second}^{city}^{state}^{code}^{country}^{use}^^{district}".rstrip("^")

    def telecom(self, node: Node) -> str:
        """XTN."""
        value, system, use = node["value"].text(), node["system"].text(), node["use"].text()
        if not value:
            return ""
        kind = {"phone": "PH", "fax": "FX", "email": "Internet", "pager": "BP"}.get(system, "")
        used = {"home": "PRN", "work": "WPN", "mobile": "PRS"}.get(use, "")
        if system == "email":
            return f"^NET^Internet^{self.text(value)}"
        return f"^{used}^{'CP' if use == 'mobile' else kind}^^^^^^^^^{self.text(value)}"

    def span(self, node: Node, name: str) -> tuple[str, str]:
        """Start and end of an element that is a dateTime, an instant or a Period."""
        start = node[f"{name}DateTime"].text() or node[f"{name}Instant"].text()
        period = node[f"{name}Period"]
        return hl7_time(start or period["start"].text()), hl7_time(period["end"].text())

    def quantity(self, node: Node) -> tuple[str, str, str]:
        """Comparator, number with its digits, unit as CWE."""
        code, words, system = node["code"].text(), node["unit"].text(), node["system"].text()
        unit = "^".join((self.text(code), self.text(words), self._system(system))) if code else self.text(words)
        return node["comparator"].text(), node["value"].text(), unit

    def observed(self, node: Node) -> tuple[str, str, str]:
        """OBX-2, 5 and 6 of an Observation."""
        if node["valueQuantity"]:
            sign, value, unit = self.quantity(node["valueQuantity"])
            return ("SN", f"{self.text(sign)}^{value}", unit) if sign else ("NM", value, unit)
        if node["valueCodeableConcept"]:
            return "CWE", self.concept(node["valueCodeableConcept"]), ""
        if node["valueString"]:
            return "TX", self.lines(node["valueString"].text()), ""
        if node["valueDateTime"]:
            return "DTM", hl7_time(node["valueDateTime"].text()), ""
        if node["valueTime"]:
            return "TM", node["valueTime"].text().replace(":", ""), ""
        return self._pair(node)

    def _pair(self, node: Node) -> tuple[str, str, str]:
        """Values of two numbers, as SN; those of one small word, as ST."""
        for name, first, mark, second in (
            ("valueRange", "low", "-", "high"),
            ("valueRatio", "numerator", ":", "denominator"),
        ):
            if node[name]:
                sign, low, unit = self.quantity(node[name][first])
                _, high, _ = self.quantity(node[name][second])
                return "SN", f"{self.text(sign)}^{low}^{mark}^{high}", unit
        for name in ("valueInteger", "valueBoolean"):
            if node[name]:
                return ("NM" if name == "valueInteger" else "ST"), node[name].text(), ""
        return "", "", ""

    def reference_range(self, node: Node) -> str:
        """OBX-7: its text, else low and high."""
        words = node["text"].text()
        if words:
            return self.text(words)
        low, high = node["low"]["value"].text(), node["high"]["value"].text()
        if low and high:
            return f"{low}-{high}"
        return f">={low}" if low else f"<={high}" if high else ""
