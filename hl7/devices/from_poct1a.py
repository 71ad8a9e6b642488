"""POCT1-A2 observations (OBS.R01, OBS.R02) to readings: elements named CLASS.attribute whose values stand in attributes V, U, SN, DN."""

from collections.abc import Mapping
from typing import Final

from hl7.convert.result import Unmapped
from hl7.devices.profile import Profile
from hl7.devices.readings import NOBODY, NoReadings, Person, Reading, Readings, Sample
from hl7.xml_reader import XmlTrouble
from hl7.xml_reader import read as read_xml

NOT_MAPPED: Final = "no field takes it"
_ROLES: Final = {  # POCT1-A2 table of SVC.role_cd: what is no patient's
    "LQC": "liquid quality control", "EQC": "electronic quality control", "CVR": "verification of the calibration", "CAL": "calibration",
    "PRF": "proficiency test",
}  # fmt: skip
_STATUS: Final = {"A": "F", "R": "X", "D": "X"}  # OBS.status_cd: accepted, rejected, discarded
_NULL: Final = {"NA": "not-applicable"}  # HL7 v3's null flavours, of which only this says more than "no value"
_PERSON: Final = frozenset(("PT.patient_id", "PT.name", "PT.birth_date", "PT.gender_cd"))
_SAMPLE: Final = {
    "SVC.observation_dttm": "at", "ORD.order_id": "order", "ORD.sample_id": "number", "ORD.universal_service_id": "panel",
    "SPC.specimen_dttm": "collected_at", "SPC.type_cd": "specimen", "SPC.source_cd": "specimen",
    "CTC.lot_number": "number", "SPC.specimen_id": "number", "ORD.ordering_provider_id": "requester",
}  # fmt: skip
_HEAD: Final = {
    "HDR.creation_dttm": "sent_at", "DEV.device_id": "sender", "DEV.serial_id": "serial_number", "DEV.sw_version": "software",
}  # fmt: skip
_USED: Final = {
    "HDR.control_id",
    "HDR.version_id",
    "HDR.message_type",
    "SVC.sequence_nbr",
    "SVC.reason_cd",
    "SVC.role_cd",
    "OBS.status_cd",
}


def from_poct1a(body: bytes, profile: Profile) -> Readings:
    """Read one document. Raises NoReadings."""
    follower = _Follower(profile)
    try:
        read_xml(body, follower)
    except XmlTrouble as error:
        raise NoReadings(str(error)) from None
    found = follower.close()
    if not any(sample.readings for sample in found.samples):
        raise NoReadings(f"no observation in it: a message {follower.root[:20]}")
    return found


class _Follower:
    """Fills readings as elements go by: a service begins a sample, an OBS a reading, all else says something of the one before."""

    def __init__(self, profile: Profile) -> None:
        self.root = ""
        self._profile = profile
        self._found = Readings()
        self._sample: Sample | None = None
        self._reading: Reading | None = None
        self._person: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._operator = ""

    def start(self, path: list[str], attributes: dict[str, str]) -> bool:
        """Take an element by its name and its values."""
        name = path[-1].rpartition(" ")[2]  # a namespace may stand before it
        if len(path) == 1:
            self.root = name
        if "." not in name:
            self._open(name, attributes, path)
        else:
            self._value(name, attributes)
        return False

    def text(self, _path: list[str], _text: str) -> None:
        """No text is asked for: POCT1-A's values stand in attributes."""

    def close(self) -> Readings:
        """End the last sample and return everything."""
        self._end()
        return self._found

    def _open(self, name: str, attributes: Mapping[str, str], path: list[str]) -> None:
        self._counted[name] = self._counted.get(name, 0) + 1
        if name == "SVC":
            self._end()
            self._sample = Sample(place=self._place(name))
        elif name == "OBS":
            if self._sample is None:
                self._sample = Sample(place="OBS")
            self._reading = Reading(place=self._place(name), code="", status=self._profile.status_default)
            self._sample.readings.append(self._reading)
        elif name in {"PT", "CTC", "OPR", "ORD", "SPC", "RGT"}:
            self._reading = None  # a remark behind it is not a result's
        elif name in {"GIV", "FAM", "MID", "PFX", "SFX"} and "V" in attributes:
            if path[-2].endswith("PT.name"):
                self._person[name] = attributes["V"]
            else:
                self._left(path[-2].rpartition(" ")[2] + f"/{name}", attributes["V"])
        elif "V" in attributes:
            self._left(name, attributes["V"])
        if name == "CTC" and self._sample is not None:
            self._sample.quality = self._sample.quality or "a control or calibration (CTC)"

    def _value(self, name: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("V", "")
        if name in _HEAD:
            setattr(self._found, _HEAD[name], value)
        elif name == "OPR.operator_id":
            self._operator = value
        elif name == "NTE.text":
            notes = self._reading.notes if self._reading else self._sample.notes if self._sample else self._found.notes
            notes.append(value)
        elif value and name in _PERSON:
            self._person[name] = value
        elif (
            not self._of_sample(name, value) and not self._of_reading(name, attributes) and name not in _USED and value
        ):
            self._left(name, value)

    def _of_sample(self, name: str, value: str) -> bool:
        """Take what is said of a sample; False where it is nothing that is known, or is said twice."""
        made = self._sample
        if made is None:
            return False
        if name == "SVC.role_cd":
            made.quality = _ROLES.get(value, "" if value == "OBS" else f"role {value}")
        elif name in _SAMPLE and not getattr(made, _SAMPLE[name]):
            setattr(made, _SAMPLE[name], value)
        else:
            return False
        return True

    def _of_reading(self, name: str, attributes: Mapping[str, str]) -> bool:
        """Take what an observation says of itself; False where it is nothing that is known."""
        made, value = self._reading, attributes.get("V", "")
        if made is None:
            return False
        match name:
            case "OBS.observation_id":
                made.code, made.system, made.text = value, attributes.get("SN", ""), attributes.get("DN", "")
            case "OBS.value":
                made.value, made.unit = value, attributes.get("U", "")
                made.none = _NULL.get(attributes["NULL"], "unknown") if attributes.get("NULL") else ""
            case "OBS.qualitative_value" if not made.value:
                made.value = attributes.get("DN") or value
            case "OBS.status_cd":
                made.status = _STATUS.get(value, value)
            case "OBS.interpretation_cd":
                made.flags = (*made.flags, *value.split())
            case "OBS.normal_lo-hi_limit":
                made.range = _limits(value)
            case "OBS.observation_dttm":
                made.at = value
            case _:
                return False
        return True

    def _end(self) -> None:
        sample, self._sample = self._sample, None
        self._reading = None
        if sample is None:
            return
        person, self._person = self._person, {}
        name: tuple[str, ...] = (
            person.get("FAM", ""),
            person.get("GIV", ""),
            person.get("MID", ""),
            person.get("SFX", ""),
            person.get("PFX", ""),
        )
        if not any(name) and person.get("PT.name"):
            name = (person["PT.name"],)
        if person:
            sample.person = Person(
                place="PT.patient_id", number=person.get("PT.patient_id", ""), name=name if any(name) else (),
                birth_date=person.get("PT.birth_date", ""), sex=person.get("PT.gender_cd", ""),
            )  # fmt: skip
        else:
            sample.person = NOBODY
        for reading in sample.readings:
            reading.operator = reading.operator or self._operator
        self._operator = ""
        known = {"sample": sample.number, "patient_id": sample.person.number}
        for rule in self._profile.quality:
            if rule.holds(known.get(rule.where, "")):
                sample.quality = sample.quality or rule.why(known.get(rule.where, ""))
        self._found.samples.append(sample)

    def _place(self, name: str) -> str:
        number = self._counted.get(name, 1)
        return f"{name}[{number}]" if number > 1 else name

    def _left(self, name: str, text: str) -> None:
        self._found.left.append(Unmapped(name, NOT_MAPPED, text))


def _limits(text: str) -> str:
    """Return "[3.9;6.1]", an interval of POCT1-A, as "3.9-6.1"; what has another form as it is."""
    bare = text.strip("[]")
    return bare.replace(";", "-") if bare.count(";") == 1 and text.startswith("[") else text
