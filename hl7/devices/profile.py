"""A device's profile: everything a device's reader must know that its bytes do not say. TOML in, a frozen value out.

A profile says how the line is set, how records are divided, where in them a value stands, what its codes and units mean, and
how quality control is told from a patient. It holds no code and no secret; docs/devices.md describes every key.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from hl7.devices.field_words import check_control, check_fields, check_patterns, check_rules
from hl7.devices.link_keys import link_of
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.profile_keys import Keys, Pattern, Simple
from hl7.devices.readings import NoReadings
from hl7.devices.time_forms import FORMS_MAX, TimeForm, time_forms

TEXT_CHARACTERS_MAX: Final = 256 * 1024  # the largest shipped one has 9,000; a map of 2,000 codes has 150,000
CODES_MAX: Final = 4000  # a chemistry line offers some 400 tests; the largest published LIVD sheet has 2,600
RULES_MAX: Final = 32  # of one kind: each is tried on every sample
# Of a text that a pattern of a rule looks at: numbers, codes and names have 80 at most. A pattern's time may grow with the square of it, or
# worse. Where it is longer nobody can say whether the rule holds, and a control must not become a patient's: the message has no readings.
RULE_TEXT_CHARACTERS_MAX: Final = 200
POINTS_MAX: Final = 250  # of one Modbus device, of which a poll reads 125 registers at most

Kind = Literal["astm", "mllp", "poct1a", "mqtt", "modbus", "folder", "line"]
KINDS: Final = ("astm", "mllp", "poct1a", "mqtt", "modbus", "folder", "line")
LANGUAGES: Final = ("astm", "hl7", "poct1a", "json", "senml", "sparkplug", "modbus", "lines", "csv")
LANGUAGE_OF: Final[Mapping[str, str]] = {
    "astm": "astm", "mllp": "hl7", "poct1a": "poct1a", "mqtt": "json", "modbus": "modbus", "folder": "csv", "line": "lines",
}  # fmt: skip
SUBJECTS: Final = ("patient", "location", "device")
CATEGORIES: Final = ("laboratory", "vital-signs", "cold-chain", "plant")
PARITIES: Final = ("none", "even", "odd", "mark", "space")
FLOWS: Final = ("none", "xonxoff", "rtscts")
SAMPLE_HOLDS: Final = ("sample", "order", "patient")
FUNCTIONS: Final = ("coils", "discrete", "holding", "input")
POINT_TYPES: Final = ("int16", "uint16", "int32", "uint32", "float32", "sfloat", "bit")
ORDERS: Final = ("big", "little")

_BODY_TEMPERATURE: Final = "8310-5"
_PLAIN: Final = "".join(chr(octet) for octet in range(0x20, 0x7F) if octet != 0x5C) + "\\n"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_ZONE: Final = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d|[A-Za-z_]+(/[A-Za-z0-9_+-]+){1,2}|UTC")
_SERIAL: Final[Mapping[str, tuple[Simple, ...] | type[int]]] = {
    "baud": int, "bits": (5, 6, 7, 8), "parity": PARITIES, "stop": (1, 1.5, 2), "flow": FLOWS,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a native code means: LOINC codes (one, or several that all hold), and in which UCUM units only."""

    codes: tuple[str, ...]
    display: str
    units: tuple[str, ...] = ()  # empty: whatever the unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A place and what stands there. `texts`: exactly one of these; else `pattern` matches the whole."""

    where: str
    texts: frozenset[str]
    pattern: re.Pattern[str] | None

    def holds(self, text: str) -> bool:
        """Tell whether a text is what the rule looks for. Raises NoReadings where its pattern cannot look at so long a one."""
        return text in self.texts or _matches(self.pattern, text, f"the profile's rule on {self.where}")

    def why(self, text: str) -> str:
        """Say why a sample is no patient's; the text too, unless it has a place of its own."""
        return f"the profile's rule on {self.where}" + (f": {text}" if text and self.where != "sample" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value in a Modbus device's registers. `scale`: a power of ten, so that digits are moved and never rounded."""

    code: str
    function: str
    address: int
    type: str
    order: str
    scale: int
    unit: str
    none: frozenset[int]  # raw values that say "no value", such as 0x8000

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return 2 if self.type in {"int32", "uint32", "float32"} else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What kind of thing it is, whose values they are, and what it is called."""

    manufacturer: str
    model: str
    category: str
    subject: str
    location: str  # the name of the place, where the subject is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which numbers name a patient, and which only look like it."""

    sample_holds: str  # what operators type in as the sample's number
    patient_system: str
    sample_system: str
    sample_unique: str  # for how long a sample's number names that sample only: "day" or "ever"
    nobody: re.Pattern[str] | None  # numbers that the instrument invents

    def is_nobody(self, number: str, place: str) -> bool:
        """Tell whether the instrument has made up a number. Raises NoReadings where the pattern cannot look at so long a one."""
        return _matches(self.nobody, number, f"{place}, identity.nobody of the profile")


def _matches(pattern: re.Pattern[str] | None, text: str, asked: str) -> bool:
    if pattern is None:
        return False
    if len(text) > RULE_TEXT_CHARACTERS_MAX:
        raise NoReadings(
            f"{asked}: a text of {len(text)} characters, of which a pattern looks at {RULE_TEXT_CHARACTERS_MAX} at most"
        )
    return pattern.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A device as data. `link` and `serial` are read by the feed, whose own keys come before these; the rest by the normalisation."""

    name: str
    title: str
    source: str
    kind: Kind
    language: str
    charset: str = "utf-8"
    zone: str = ""
    link: Mapping[str, Simple] = field(default_factory=dict)
    serial: Mapping[str, Simple] = field(default_factory=dict)
    device: Device
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quality: tuple[Rule, ...] = ()
    ignored: tuple[Rule, ...] = ()
    identity: Identity
    code_system: str = ""
    codes: Mapping[str, Target] = field(default_factory=dict)
    by_unit: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    implied_units: Mapping[str, str] = field(default_factory=dict)
    no_value: Mapping[str, str] = field(default_factory=dict)
    patterns: tuple[re.Pattern[str], ...] = ()
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    points: tuple[Point, ...] = ()
    status_default: str = ""  # of results that bring none
    decimal_mark: str = "."
    time_unit: str = "text"  # of times that are numbers: since 1970, in these
    time_forms: tuple[TimeForm, ...] = ()  # of times that are texts, before the standard's own

    def targets(self, code: str) -> tuple[Target, ...]:
        """Return what a native code may mean; several where that depends on the unit."""
        one = self.codes.get(code)
        return (one,) if one else self.by_unit.get(code, ())


def read_profile(name: str, text: str) -> Profile:
    """Read a profile's TOML. Raises ProfileProblem, which names the key and says what is allowed there."""
    if not _NAME.fullmatch(name):
        raise ProfileProblem("", f"{name!r} is no name of a profile: small letters, digits and hyphens, 64 at most")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ProfileProblem("", f"{len(text)} characters, {TEXT_CHARACTERS_MAX} at most")
    try:
        keys = Keys(tomllib.loads(text), "")
    except (
        ValueError,
        RecursionError,
    ) as error:  # tomllib lets a number of thousands of digits, and a nest of brackets, through as these
        raise ProfileProblem("", f"not TOML: {error}") from None
    profile = _profile(name, keys)
    keys.close()
    _check(profile)
    return profile


def _check(profile: Profile) -> None:
    """Refuse what contradicts itself."""
    if profile.time_forms and (profile.time_unit != "text" or profile.language in {"senml", "sparkplug", "modbus"}):
        raise ProfileProblem("time_format", "times are numbers here: leave it out, or time_unit")
    check_fields(profile.language, profile.fields, profile.columns)
    check_patterns(profile.patterns)
    groups = {group for pattern in profile.patterns for group in pattern.groupindex}
    for key, rules in (("quality", profile.quality), ("ignored", profile.ignored)):
        check_rules(profile.language, key, [rule.where for rule in rules], profile.fields, groups)
    check_control(profile.fields, [rule.where for rule in profile.quality])
    if profile.device.subject != "patient":
        for name in {*profile.codes, *profile.by_unit}:
            if any(_BODY_TEMPERATURE in each.codes for each in profile.targets(name)):
                raise ProfileProblem(
                    f"codes.{name}", f"{_BODY_TEMPERATURE} is a body's temperature, and the subject is no patient"
                )


def _profile(name: str, keys: Keys) -> Profile:
    kind = cast("Kind", keys.one_of("kind", KINDS))
    codes, by_unit = _codes(keys.table("codes"))
    places = keys.table("fields")
    return Profile(
        name=name,
        title=keys.text("title"),
        source=keys.text("source"),
        kind=kind,
        language=keys.one_of("language", LANGUAGES, LANGUAGE_OF[kind]),
        charset=_charset(keys),
        zone=keys.matching("zone", _ZONE, "an offset such as +03:00, or a zone such as Asia/Riyadh"),
        link=link_of(keys.table("link"), kind),
        serial=keys.table("serial").chosen(_SERIAL),
        device=_device(keys.table("device")),
        fields={word: places.texts_of(word, 8) for word in places.names()},
        quality=_rules(keys, "quality"),
        ignored=_rules(keys, "ignored"),
        identity=_identity(keys.table("identity")),
        code_system=keys.text("code_system", ""),
        codes=codes,
        by_unit=by_unit,
        units=keys.table("units").texts(CODES_MAX),
        implied_units=keys.table("implied_units").texts(CODES_MAX),
        no_value=_no_value(keys.table("no_value")),
        patterns=tuple(keys.patterns("patterns", RULES_MAX)),
        columns=keys.texts_of("columns", CODES_MAX),
        delimiter=keys.text("delimiter", ""),
        points=tuple(_point(each) for each in keys.tables("point", POINTS_MAX)),
        status_default=keys.one_of("status_default", ("", "F", "P"), ""),
        decimal_mark=keys.one_of("decimal_mark", (".", ","), "."),
        time_unit=keys.one_of("time_unit", ("text", "s", "ms", "us"), "text"),
        time_forms=_time_forms(keys),
    )


def _time_forms(keys: Keys) -> tuple[TimeForm, ...]:
    try:
        return time_forms(keys.texts_of("time_format", FORMS_MAX))
    except ValueError as error:
        raise ProfileProblem("time_format", str(error)) from None


def _charset(keys: Keys) -> str:
    name = keys.text("charset", "utf-8")
    try:
        is_good = _PLAIN.encode("ascii").decode(name) == _PLAIN
    except (LookupError, ValueError):
        is_good = False
    if not is_good:
        raise ProfileProblem(
            "charset", f"{name!r} is no character set that keeps ASCII as it is; such as utf-8, latin-1, cp1256"
        )
    return name


def _device(keys: Keys) -> Device:
    made = Device(
        manufacturer=keys.text("manufacturer"),
        model=keys.text("model"),
        category=keys.one_of("category", CATEGORIES, "laboratory"),
        subject=keys.one_of("subject", SUBJECTS, "patient"),
        location=keys.text("location", ""),
    )
    keys.close()
    return made


def _rules(keys: Keys, name: str) -> tuple[Rule, ...]:
    made = []
    for each in keys.tables(name, RULES_MAX):
        rule = Rule(where=each.text("where"), texts=frozenset(each.texts_of("is", 64)), pattern=each.pattern("matches"))
        if not rule.texts and rule.pattern is None:
            raise ProfileProblem(f"{name}.is", "a rule needs `is` (texts) or `matches` (a pattern)")
        each.close()
        made.append(rule)
    return tuple(made)


def _identity(keys: Keys) -> Identity:
    made = Identity(
        sample_holds=keys.one_of("sample_holds", SAMPLE_HOLDS, "sample"),
        patient_system=keys.text("patient_system", ""),
        sample_system=keys.text("sample_system", ""),
        sample_unique=keys.one_of("sample_unique", ("day", "ever"), "day"),
        nobody=keys.pattern("nobody"),
    )
    keys.close()
    return made


# ---- what codes mean --------------------------------------------------------------------------------------------------
_LOINC: Final = re.compile(r"\d{1,7}-\d")
_TARGET: Final = re.compile(
    r"(?P<codes>\d{1,7}-\d(?: \+ \d{1,7}-\d)*)(?: \((?P<units>[^()]+)\))? +(?P<display>[^(\s].*)"
)
_TARGET_FORM: Final = 'write "718-7 Hemoglobin [Mass/volume] in Blood", or "2345-7 (mg/dL) Glucose ..." where the code holds in that UCUM unit only'


def _codes(keys: Keys) -> tuple[dict[str, Target], dict[str, tuple[Target, ...]]]:
    names = keys.names()
    if len(names) > CODES_MAX:
        raise ProfileProblem("codes", f"{len(names)} codes, {CODES_MAX} at most")
    single: dict[str, Target] = {}
    several: dict[str, tuple[Target, ...]] = {}
    for name in names:
        found = tuple(_target(f"codes.{name}", text) for text in keys.texts_of(name, 8))
        if len(found) == 1 and not found[0].units:
            single[name] = found[0]
        elif found and all(each.units for each in found):
            several[name] = found
        else:
            raise ProfileProblem(f"codes.{name}", f"of several meanings each names its unit; {_TARGET_FORM}")
    return single, several


def _target(key: str, text: str) -> Target:
    match = _TARGET.fullmatch(text)
    if match is None:
        raise ProfileProblem(key, _TARGET_FORM)
    codes = tuple(match["codes"].split(" + "))
    for code in codes:
        if not is_loinc(code):
            raise ProfileProblem(key, f"{code} is no LOINC code: its last digit does not check the others")
    units = tuple(match["units"].split(" ")) if match["units"] else ()
    return Target(codes=codes, display=match["display"], units=units)


def is_loinc(code: str) -> bool:
    """Tell whether a code's check digit (mod 10, Luhn) is right, as LOINC's are."""
    if not _LOINC.fullmatch(code):
        return False
    total = 0
    for at, digit in enumerate(reversed(code.replace("-", ""))):
        doubled = int(digit) * (2 if at % 2 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


REASONS: Final = (
    *("unknown", "temp-unknown", "not-performed", "not-applicable", "unsupported", "error"),
    *("not-a-number", "negative-infinity", "positive-infinity"),
)  # of FHIR's data-absent-reason, what a device can mean


def _no_value(keys: Keys) -> Mapping[str, str]:
    made = keys.texts(RULES_MAX * 8)
    for text, reason in made.items():
        if reason not in REASONS:
            raise ProfileProblem(f"no_value.{text}", f"{reason!r} is no reason; known are {', '.join(REASONS)}")
    return made


def _point(keys: Keys) -> Point:
    made = Point(
        code=keys.text("code"),
        function=keys.one_of("function", FUNCTIONS, "holding"),
        address=keys.whole("address", 0, 65535),
        type=keys.one_of("type", POINT_TYPES, "int16"),
        order=keys.one_of("order", ORDERS, "big"),
        scale=keys.whole("scale", -9, 9, 0),
        unit=keys.text("unit", ""),
        none=frozenset(keys.wholes("none", 16)),
    )
    keys.close()
    return made


__all__ = ["Pattern", "Profile", "ProfileProblem", "read_profile"]
