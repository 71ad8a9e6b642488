"""Readings as Observations: codes, values, status, times, remarks, and the blood pressure that is one of three values."""

from collections.abc import Sequence
from typing import Final

from hl7.convert.building import Resource
from hl7.convert.codes import code_map
from hl7.convert.context import Context
from hl7.convert.result import Json, Unmapped
from hl7.devices.profile import Profile, Target
from hl7.devices.readings import Reading, Readings, Sample
from hl7.devices.time_forms import Times
from hl7.devices.units import ucum_of
from hl7.devices.values import MDC, UNKNOWN_UNIT, Value, reference_range, value_of

LOINC: Final = "http://loinc.org"
NO_MEANING: Final = "code is in no table: kept as sent, without a LOINC code; add it to [codes] of the profile"
OTHER_UNIT: Final = "the code's LOINC holds for other units: left out"
NO_FLAG: Final = "flag is in no table: kept as text"

# LIS2-A2 9.4.9 beside table 0085, which hl7/convert knows. M: an MIC; Q: an answer to a query; R: sent before; V: verified; W: doubtful; N: more is needed
_ASTM_STATUS: Final = {
    "F": "final", "V": "final", "R": "final", "Q": "final", "M": "final", "C": "corrected", "P": "preliminary", "S": "preliminary",
    "W": "preliminary", "X": "cancelled", "I": "registered", "N": "registered",
}  # fmt: skip
_HL7_STATUS: Final = {sent: found.code for sent, found in code_map("observation-status").codes.items()}
_INTERPRETATION: Final = code_map("interpretation")
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_PRESSURE: Final = {"8480-6", "8462-4", "8478-0"}  # systolic, diastolic, mean
_PRESSURE_PANEL: Final = {
    "coding": [{"system": LOINC, "code": "85354-9", "display": "Blood pressure panel with all children optional"}],
    "text": "Blood pressure",
}


class Observations:
    """Makes the Observations of one body."""

    def __init__(self, profile: Profile, ctx: Context, found: Readings, unmapped: list[Unmapped]) -> None:
        self._profile = profile
        self._ctx = ctx
        self._found = found
        self._unmapped = unmapped
        self._times = Times(profile.time_forms)
        self._system = profile.code_system or f"urn:wasl:device:{profile.name}"

    def of_sample(
        self, sample: Sample, subject: Resource | None, device: Resource, specimen: Resource | None
    ) -> list[Resource]:
        """Return the Observations of a sample in their order."""
        made = []
        pressures = self._pressures(sample.readings)
        for reading in sample.readings:
            if any(reading in each[1:] for each in pressures):
                continue
            panel = next((each for each in pressures if reading is each[0]), None)
            observation = self._begin(reading, sample, subject, device, specimen)
            if panel is None:
                self._fill(observation.body, reading)
            else:
                self._fill_panel(observation.body, panel)
            made.append(observation)
        return made

    def _begin(
        self, reading: Reading, sample: Sample, subject: Resource | None, device: Resource, specimen: Resource | None
    ) -> Resource:
        made = self._ctx.draft.begin("Observation")
        body = made.body
        body["status"] = self._status(reading)
        if self._profile.device.category in {"laboratory", "vital-signs"}:
            body["category"] = [{"coding": [{"system": _CATEGORY, "code": self._profile.device.category}]}]
        body["code"] = self.concept(reading)
        if subject is not None:
            body["subject"] = subject.reference
        at = reading.at or sample.at
        when = self._times.moment(at, self._ctx.zone) if at else None
        if when is not None:
            if when.problem:
                self._lose(reading, when.problem, at)
            if when.date_time:
                body["effectiveDateTime"] = when.date_time
        body["device"] = device.reference
        if specimen is not None:
            body["specimen"] = specimen.reference
        if reading.operator:
            body["performer"] = [{"display": reading.operator}]
        # One of another time is another result, never the older one's replacement: a sample's number may come again.
        time = at or self._found.sent_at or self._ctx.draft.position
        # two levels of one lot may be measured at once
        control = (sample.lot, sample.level) if sample.lot or sample.level else ()
        made.keys.append(
            (device, sample.number, sample.order, sample.panel, reading.code, reading.sub_id, time, *control)
        )
        return made

    def _fill(self, body: Json, reading: Reading) -> None:
        value = value_of(reading, self._profile)
        body |= value.elements
        notes = [*reading.notes]
        self._remark(reading, value, notes)
        if found := self._interpretation(reading):
            body["interpretation"] = found
        if reading.range:
            body["referenceRange"] = [reference_range(reading.range, value.ucum, reading.unit)]
        _extend(body, reading)
        if "valueQuantity" not in value.elements and reading.unit:
            notes.append(f"unit: {reading.unit}")
        if notes:
            body["note"] = [{"text": each} for each in notes]

    def _remark(self, reading: Reading, value: Value, notes: list[str]) -> None:
        """List what a table should know and does not."""
        for trouble in value.notes:
            self._lose(reading, trouble, reading.unit if trouble == UNKNOWN_UNIT else reading.value)
        if reading.system and not reading.code:
            self._lose(reading, "the system of a code, and there is no code", reading.system)
        targets = self._profile.targets(reading.code)
        is_clinical = self._profile.device.category in {"laboratory", "vital-signs"}
        if not targets and is_clinical and self._code_system(reading) != LOINC:
            self._lose(reading, NO_MEANING, reading.code)
        elif targets and not self._fitting(reading, targets):
            self._lose(reading, OTHER_UNIT, reading.unit or "(no unit)")
            notes.append("LOINC left out: the unit is not the one that the profile's code is for")

    # ---- what it is -----------------------------------------------------------------------------------------------------
    def concept(self, reading: Reading) -> Json:
        """Return the code: LOINC where the profile knows it, and always the device's own."""
        codings: list[Json] = []
        target = self._fitting(reading, self._profile.targets(reading.code))
        if target is not None:
            codings = [{"system": LOINC, "code": code, "display": target.display} for code in target.codes[:1]]
            codings += [{"system": LOINC, "code": code} for code in target.codes[1:]]
        native: Json = {"system": self._code_system(reading), "code": reading.code} if reading.code else {}
        if native:
            codings.append(native | ({"display": reading.text} if reading.text else {}))
        text = reading.text or (target.display if target else "") or reading.code or "unknown"
        return ({"coding": codings} if codings else {}) | {"text": text}

    def _code_system(self, reading: Reading) -> str:
        if not reading.system:
            return self._system
        if reading.system == "MDC":
            return MDC
        return self._ctx.coding_system(reading.system)

    def _fitting(self, reading: Reading, targets: Sequence[Target]) -> Target | None:
        """Return the meaning that holds in the reading's unit: mass and substance concentrations have different codes."""
        unit = reading.unit or self._profile.implied_units.get(reading.code, "")
        ucum = ucum_of(unit, reading.unit_system, self._profile.units)
        return next((each for each in targets if not each.units or ucum in each.units), None)

    def _status(self, reading: Reading) -> str:
        sent = reading.status or self._profile.status_default
        table = _ASTM_STATUS if self._profile.language == "astm" else _HL7_STATUS
        found = table.get(sent.upper(), "")
        if not found and reading.status:
            self._lose(reading, "status is not in the table", reading.status)
        return found or "unknown"

    def _interpretation(self, reading: Reading) -> list[Json]:
        made: list[Json] = []
        for flag in reading.flags:
            known = _INTERPRETATION.codes.get(flag)
            if known:
                coding = {"system": _INTERPRETATION.system, "code": known.code, "display": known.display}
                made.append({"coding": [coding], "text": flag})
            else:
                made.append({"text": flag})
        return made

    # ---- blood pressure: R4's vital signs want one Observation with components --------------------------------------------
    def _pressures(self, readings: list[Reading]) -> list[list[Reading]]:
        """Return those that belong together: of one moment and one cuff, systolic, diastolic and mean once each at most."""
        if self._profile.device.category != "vital-signs":
            return []
        groups: dict[tuple[str, str], dict[str, Reading]] = {}
        for reading in readings:
            target = self._fitting(reading, self._profile.targets(reading.code))
            code = next((each for each in target.codes if each in _PRESSURE), "") if target else ""
            cuff = reading.sub_id.rpartition(".")[0]
            if code:
                groups.setdefault((reading.at, cuff), {}).setdefault(code, reading)
        return [list(found.values()) for found in groups.values() if len(found) > 1]

    def _fill_panel(self, body: Json, panel: list[Reading]) -> None:
        body["code"] = _PRESSURE_PANEL
        components = []
        notes: list[str] = []
        for reading in panel:
            value = value_of(reading, self._profile)
            self._remark(reading, value, notes)
            made: Json = {"code": self.concept(reading)} | value.elements
            if found := self._interpretation(reading):
                made["interpretation"] = found
            if reading.range:
                made["referenceRange"] = [reference_range(reading.range, value.ucum, reading.unit)]
            _extend(made, reading)
            components.append(made)
            notes += reading.notes
            if reading.operator and reading.operator != panel[0].operator:
                notes.append(f"{reading.code}: operator {reading.operator}")
            if "valueQuantity" not in value.elements and reading.unit:
                notes.append(f"unit: {reading.unit}")
        body["status"] = _least({self._status(each) for each in panel})
        body["component"] = components
        if notes:
            body["note"] = [{"text": each} for each in notes]

    def _lose(self, reading: Reading, reason: str, text: str) -> None:
        self._unmapped.append(Unmapped(reading.place, reason, text))


def _extend(body: Json, reading: Reading) -> None:
    """Add which part of the device measured, as it names it, and the reading's place in its own order (OBX-4)."""
    parts = [("part", reading.instrument), ("sub-id", reading.sub_id)]
    found = [{"url": f"urn:wasl:device:{name}", "valueString": text} for name, text in parts if text]
    if found:
        body["extension"] = found


def _least(states: set[str]) -> str:
    order = ("unknown", "registered", "preliminary", "corrected", "amended", "final", "entered-in-error", "cancelled")
    return next((each for each in order if each in states), "unknown")
