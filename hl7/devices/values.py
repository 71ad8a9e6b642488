"""A reading's text to FHIR's value[x]: a number with its digits as sent, a comparison, a reason why there is none, or the text itself."""

import re
from typing import Final, NamedTuple

from hl7.convert.json_text import Number, number
from hl7.convert.result import Json
from hl7.devices.profile import Profile
from hl7.devices.readings import Reading
from hl7.devices.units import UCUM, ucum_of

ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
MDC: Final = "urn:iso:std:iso:11073:10101"

UNKNOWN_UNIT: Final = "unit is in no table: kept as text, without a UCUM code; add it to [units] of the profile"
NOT_NUMBER: Final = "kept as text: not a number"
COMMA: Final = "kept as text: a comma may be a decimal mark or part thousands; set decimal_mark in the profile"

# What devices print where there is no value. `++++` and the like are not here: on a urine strip they are one.
NO_VALUE: Final = {
    **dict.fromkeys(("----", "---", "--", "-----", "----.-", "--.-", "-.--", "-.-", "*", "**", "***", "****", "*****", "**.*"), "unknown"),
    **dict.fromkeys(("NaN", "NAN", "nan", "-NaN"), "not-a-number"),
    **dict.fromkeys(("+INFINITY", "+Inf", "+INF", "Infinity", "INF", "Inf", "inf"), "positive-infinity"),
    **dict.fromkeys(("-INFINITY", "-Inf", "-INF", "-Infinity", "-inf"), "negative-infinity"),
    **dict.fromkeys(("NRes", "NRES"), "unknown"),
}  # fmt: skip

# IEEE 11073-20601 SFLOAT: mantissas that are no numbers; 0x0801 is reserved
SFLOAT: Final = {
    0x07FF: "not-a-number",
    0x0800: "unknown",
    0x07FE: "positive-infinity",
    0x0802: "negative-infinity",
    0x0801: "unsupported",
}

_SIGN: Final = re.compile(r"(<=|>=|=<|=>|<|>|≤|≥)\s*(?=[0-9.,+-])")
_SAME: Final = {"=<": "<=", "=>": ">=", "≤": "<=", "≥": ">="}
_COMMA: Final = re.compile(r"[+-]?\d{1,12},\d{1,12}")
_RANGE: Final = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(?:-|to|\.\.|–|~|\^)\s*([+-]?\d+(?:\.\d+)?)\s*")


class Value(NamedTuple):
    """The elements of an Observation (or of a component), and what must be said of it."""

    elements: Json
    ucum: str  # the unit's code; "" where none is known or there is no unit
    notes: tuple[str, ...]


def value_of(reading: Reading, profile: Profile) -> Value:
    """Return what FHIR can say of a reading's value."""
    if reading.none:
        return Value(absent(reading.none, reading.value), "", ())
    if reading.coded is not None and any(reading.coded):
        return Value(_coded(reading.coded), "", ())
    text = reading.value.strip()
    reason = profile.no_value.get(text) or NO_VALUE.get(text, "")
    if not text:
        reason = "not-performed" if reading.status == "X" else "unknown"
    if reason:
        return Value(absent(reason, text), "", ())
    found, sign, trouble = read_number(text, profile.decimal_mark)
    if found is None:
        trouble = trouble or (f"{NOT_NUMBER}; its unit is kept in a note" if reading.unit else "")
        return Value({"valueString": reading.value}, "", (trouble,) if trouble else ())
    unit = reading.unit or profile.implied_units.get(reading.code, "")
    quantity: Json = {"value": found} | ({"comparator": sign} if sign else {})
    ucum = ucum_of(unit, reading.unit_system, profile.units) if unit else ""
    if unit:
        quantity["unit"] = unit
    if ucum:
        quantity |= {"system": UCUM, "code": ucum}
    return Value({"valueQuantity": quantity}, ucum, (UNKNOWN_UNIT,) if unit and not ucum else ())


def read_number(text: str, decimal_mark: str) -> tuple[Number | None, str, str]:
    """Return the number, its comparator, and why there is no number where it looks like one."""
    match = _SIGN.match(text)
    sign = match[1] if match else ""
    bare = text[match.end() :] if match else text
    if decimal_mark == ",":
        if "." in bare and "," in bare:
            return None, "", NOT_NUMBER
        bare = bare.replace(",", ".")
    elif _COMMA.fullmatch(bare):
        return None, "", COMMA
    found = number(bare.strip()) if any(mark.isdigit() for mark in bare) else None
    return found, _SAME.get(sign, sign), ""


def absent(reason: str, text: str) -> Json:
    """Return the element that says why there is no value, with the device's own mark."""
    concept: Json = {"coding": [{"system": ABSENT, "code": reason}]}
    return {"dataAbsentReason": concept | ({"text": text.strip()} if text.strip() else {})}


def _coded(coded: tuple[str, str, str]) -> Json:
    code, text, system = coded
    coding: Json = (
        ({"system": system} if system else {}) | ({"code": code} if code else {}) | ({"display": text} if text else {})
    )
    return {"valueCodeableConcept": {"coding": [coding]} | ({"text": text or code})}


def reference_range(text: str, ucum: str, unit: str) -> Json:
    """Return a reference range: its text always, its bounds where it is two plain numbers."""
    made: Json = {}
    match = _RANGE.fullmatch(text)
    if match:
        measure: Json = ({"unit": unit} if unit else {}) | ({"system": UCUM, "code": ucum} if ucum else {})
        low, high = number(match[1]), number(match[2])
        if low is not None and high is not None:
            made = {"low": {"value": low} | measure, "high": {"value": high} | measure}
    return made | {"text": text}


def sfloat(raw: int) -> tuple[str, str]:
    """Return a SFLOAT's digits (IEEE 11073-20601 F.8), or why it has none."""
    mantissa, exponent = raw & 0x0FFF, raw >> 12 & 0xF
    if exponent == 0 and mantissa in SFLOAT:
        return "", SFLOAT[mantissa]
    mantissa -= 0x1000 if mantissa & 0x800 else 0
    exponent -= 0x10 if exponent & 0x8 else 0
    return shifted(mantissa, exponent), ""


def shifted(value: int, exponent: int) -> str:
    """Return a whole number times a power of ten, digit by digit: -185 and -1 are "-18.5", 400 and -1 are "40.0"."""
    sign, digits = ("-" if value < 0 else ""), str(abs(value))
    if exponent >= 0:
        return sign + digits + "0" * (exponent if value else 0)
    digits = digits.rjust(1 - exponent, "0")
    return f"{sign}{digits[:exponent]}.{digits[exponent:]}"
