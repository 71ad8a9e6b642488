"""How the synthetic hospital writes HL7 v2.5.1: invented people, visits, orders and results become ER7 segments."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from node.tools import hospital_names as names
from node.tools.hospital_laboratory import Result
from node.tools.hospital_panels import Panel
from node.tools.hospital_town import PersonName, Resident

HOSPITAL = "WADI-NOOR"  # assigning authority and sending facility
VERSION = "2.5.1"
CHARACTER_SET = "UNICODE UTF-8"  # table 0211
TRAINING, PRODUCTION = (
    "T",
    "P",
)  # table 0103: synthetic messages must never be taken for production, but in the demo, which is a world of its own
COUNTRY = "ZZZ"  # ISO 3166 leaves ZZZ to users: the town lies in no country

_LATIN, _ARABIC = "A", "I"  # table 0465; it knows no Arabic: the local, multi-byte script is coded I, as Kanji is


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One stay or clinic visit. patient_class: table 0004, I or O. place: ward^room^bed."""

    number: str
    resident: int
    patient_class: str
    place: str
    service: str
    doctor: tuple[str, str, str]
    began: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One panel ordered for a visit; the placer is the hospital, the filler its laboratory."""

    placer: str
    filler: str
    visit: Visit
    panel: Panel
    ordered: datetime


def dtm(moment: datetime) -> str:
    """HL7 DTM with milliseconds and offset. ValueError: without a zone each reader would see another moment."""
    if moment.tzinfo is None:
        raise ValueError("the hospital's clock needs a time zone")
    return f"{moment:%Y%m%d%H%M%S}.{moment.microsecond // 1000:03d}{moment:%z}"


def segment(name: str, fields: Mapping[int, str]) -> str:
    """One segment without its terminator; `fields` maps HL7 field numbers to ready ER7 text."""
    return "|".join((name, *(fields.get(number, "") for number in range(1, max(fields) + 1))))


def header(
    *, application: str, message_type: str, control_id: str, now: datetime, processing_id: str = TRAINING
) -> str:
    """MSH with both acknowledgement fields empty: original mode."""
    fields = {
        3: application,
        4: HOSPITAL,
        5: "WASL",
        6: "NHR",
        7: dtm(now),
        9: message_type,
        10: control_id,
        11: processing_id,
        12: VERSION,
        18: CHARACTER_SET,
    }
    # MSH-1 is the separator itself, so the first joined field is MSH-2.
    return "|".join(("MSH", "^~\\&", *(fields.get(number, "") for number in range(3, 19))))


def evn(trigger: str, now: datetime) -> str:
    """Event segment of ADT messages."""
    return segment("EVN", {1: trigger, 2: dtm(now), 6: dtm(now)})


def pid(person: Resident, visit: Visit) -> str:
    """Patient identification: two identifiers; name and address once in Arabic and once in Latin script."""
    home = "~".join(
        f"{street} {person.house}^^{town}^^^{COUNTRY}^H" for street, town in zip(person.street, names.TOWN, strict=True)
    )
    fields = {
        1: "1",
        3: f"{person.record_number}^^^{HOSPITAL}^MR~{person.civil_number}^^^CIVIL-TEST^NI",
        5: f"{_xpn(person.arabic, _ARABIC)}~{_xpn(person.latin, _LATIN)}",
        7: f"{person.born:%Y%m%d}",
        8: "F" if person.female else "M",
        11: home,
        13: f"^PRN^CP^^999^^{person.phone}",
        18: f"{visit.number}^^^{HOSPITAL}^AN",
    }
    return segment("PID", fields)


def _xpn(name: PersonName, script: str) -> str:
    """XPN: family, given, further given; component 7 the type L (legal), component 8 the script."""
    return f"{name.family}^{name.given}^{name.father}^^^^L^{script}"


def _xcn(doctor: tuple[str, str, str]) -> str:
    number, family, given = doctor
    return f"{number}^{family}^{given}^^^DR^^^{HOSPITAL}"


def pv1(visit: Visit, *, ended: datetime | None = None) -> str:
    """Patient visit; `ended` for a discharge."""
    fields = {
        1: "1",
        2: visit.patient_class,
        3: f"{visit.place}^{HOSPITAL}",
        7: _xcn(visit.doctor),
        10: visit.service,
        19: f"{visit.number}^^^{HOSPITAL}^VN",
        44: dtm(visit.began),
    }
    if ended is not None:
        fields |= {36: "01", 45: dtm(ended)}  # table 0112: discharged to home
    return segment("PV1", fields)


def nk1(relative: PersonName, phone: str) -> str:
    """Next of kin, whose name stands in Arabic only."""
    return segment("NK1", {1: "1", 2: _xpn(relative, _ARABIC), 3: "SPO^Spouse^HL70063", 5: f"^PRN^CP^^999^^{phone}"})


def al1(allergy: tuple[str, str, str]) -> str:
    """One allergy."""
    kind, substance, reaction = allergy
    return segment("AL1", {1: "1", 2: f"{kind}^^HL70127", 3: f"^{substance}", 4: "MO", 5: reaction})


def dg1(diagnosis: names.Pair, now: datetime) -> str:
    """Admitting diagnosis."""
    code, text = diagnosis
    return segment("DG1", {1: "1", 3: f"{code}^{text}^I10", 5: dtm(now), 6: "A"})


def orc(order: Order, *, control: str, status: str, now: datetime) -> str:
    """Order, common part. control: table 0119 (NW new, RE results follow); status: table 0038."""
    fields = {
        1: control,
        2: f"{order.placer}^HIS",
        3: f"{order.filler}^LAB" if control == "RE" else "",
        5: status,
        9: dtm(now),
        12: _xcn(order.visit.doctor),
    }
    return segment("ORC", fields)


def obr(order: Order, *, reported: datetime | None = None) -> str:
    """Observation request; with `reported` it heads final results."""
    panel = order.panel
    fields = {
        1: "1",
        2: f"{order.placer}^HIS",
        4: f"{panel.loinc}^{panel.name}^LN",
        15: f"{panel.specimen}&{panel.specimen_name}&HL70487",
        16: _xcn(order.visit.doctor),
        24: panel.section,
    }
    if reported is not None:
        taken = dtm(order.ordered)
        fields |= {3: f"{order.filler}^LAB", 7: taken, 14: taken, 22: dtm(reported), 25: "F"}
    return segment("OBR", fields)


def obx(set_id: int, result: Result, *, taken: datetime) -> str:
    """One final numeric result."""
    analyte = result.analyte
    fields = {
        1: str(set_id),
        2: "NM",
        3: f"{analyte.loinc}^{analyte.name}^LN",
        5: result.value,
        6: f"{analyte.unit}^^UCUM",
        7: result.range,
        8: result.flag,
        11: "F",
        14: dtm(taken),
    }
    return segment("OBX", fields)


def nte(text: str) -> str:
    """Remark of the laboratory; `text` is ready ER7, escapes included."""
    return segment("NTE", {1: "1", 2: "L", 3: text})
