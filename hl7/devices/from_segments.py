"""ASTM records and HL7 v2 segments to readings: both are lines of fields, and a table says which field holds what.

What nobody takes is listed with its place, as the conversion of messages does it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from hl7.charsets import Charset, Source
from hl7.convert.reading import Decoded, Dialect, Part, Segment, Unescaper, decode, segments
from hl7.convert.result import Unmapped
from hl7.devices.astm_records import Records
from hl7.devices.astm_records import read as read_records
from hl7.devices.places import ASTM, HL7, ORDINARY, QUALITY, Places
from hl7.devices.profile import Profile
from hl7.devices.readings import NOBODY, NoReadings, Person, Reading, Readings, Sample
from hl7.errors import NotEr7
from hl7.escapes import Writing
from hl7.separators import Separators, read_separators

BYTES_MAX: Final = 16 * 1024 * 1024  # what the feeds take at most
LINES_MAX: Final = 20_000  # a day's worklist of an analyzer sent at once has some 3,000
NOT_MAPPED: Final = "no field of the profile takes it"
OF_MESSAGE: Final = "of the message, not of its results"
NOT_RESULT: Final = "not a record of results"
IGNORED: Final = "the profile says that it is no result"
ATTACHED: Final = "pictures and files are not converted"
PART_OF_DEVICE: Final = "names a part of the device, and no value"

_USED: Final = {"H": (1, 2, 4), "P": (1, 2), "O": (1, 2), "R": (1, 2), "C": (1, 2), "L": (1, 2, 3)}
# H-4 is a password (LIS2-A2 6.4): taken, and never shown
_ENVELOPE: Final = re.compile(r"H-(3|10|11|13)|MSH-(3\.3|4|5|6|8|9|10|12|15|16|17|18|19|20|21)(\.\d+)?")
_RESULT: Final = {"R", "OBX"}
_OF_RESULT: Final = _RESULT | {"C", "NTE"}
_ATTACHED: Final = {"ED", "RP"}
_CODED: Final = {"CE", "CWE", "CNE", "CF"}
_TYPES: Final = {
    *_ATTACHED,
    *_CODED,
    *["NM", "SN", "NA", "ST", "TX", "FT", "DT", "TM", "TS", "DTM", "DR", "IS", "ID", "SI"],
}  # table 0125, as devices use it
UNKNOWN_TYPE: Final = "type of the value is not known: read as text"


def from_astm(body: bytes, profile: Profile) -> Readings:
    """Read the records of one or several ASTM messages. Raises NoReadings."""
    records = read_records(body)
    if not records.of("R"):
        raise NoReadings(_why_not(records))
    lines, is_whole = _astm_lines(records, profile.charset)
    found = _Walk(profile, "astm", ASTM, {"H": "head", "P": "person", "O": "sample"}).run(lines)
    if not is_whole:
        found.notes.append(f"bytes that are no text in {profile.charset} were replaced by U+FFFD")
    return found


def _why_not(records: Records) -> str:
    letters = records.letters
    if "Q" in letters:
        return "a query of the instrument, and no result (records " + letters[:20] + ")"
    return "no result record (R) in it" + (f": records {letters[:20]}" if letters.isalnum() else "")


def _astm_lines(records: Records, charset: str) -> tuple[list[Segment], bool]:
    if len(records) > LINES_MAX:
        raise NoReadings(f"{len(records)} records, {LINES_MAX} at most")
    marks = records.delimiters
    field, repeat, component, _ = (mark.decode("latin-1") for mark in marks)
    separators = Separators(
        field=marks.field[0], component=marks.component[0], repetition=marks.repeat[0], escape=marks.escape[0]
    )
    unescape = Unescaper(Decoded("", Writing(separators, Charset(charset, Source.FEED), charset), charset, True))
    dialect = Dialect(component, repeat, "\x00", component + repeat, unescape)
    counted: dict[str, int] = {}
    found = []
    is_whole = True
    for record in records:
        text = record.raw.decode(charset, "replace")
        is_whole &= "\ufffd" not in text
        fields = text.strip("\x00").split(field)
        name = record.letter
        counted[name] = number = counted.get(name, 0) + 1
        line = Segment(name, [name, *fields], f"{name}[{number}]" if number > 1 else name, dialect)
        if name == "H":
            line.fields[2:3] = [""]  # LIS2-A2 6.2: the delimiters, which do not divide themselves
        found.append(line)
    return found, is_whole


def from_hl7(body: bytes, profile: Profile, charset: str = "") -> Readings:
    """Read a device's ORU or OUL. Raises NoReadings. `charset`: the feed's, whatever MSH-18 says."""
    try:
        decoded = decode(body, charset, profile.charset)
        lines = segments(decoded, read_separators(body))
    except NotEr7 as error:
        raise NoReadings(str(error)) from None
    if len(lines) > LINES_MAX:
        raise NoReadings(f"{len(lines)} segments, {LINES_MAX} at most")
    if not any(line.name == "OBX" for line in lines):
        raise NoReadings("no result segment (OBX) in it")
    found = _Walk(profile, "hl7", HL7, {"MSH": "head", "PID": "person", "OBR": "sample"}).run(lines)
    if not decoded.is_whole:
        found.notes.append(f"bytes that are no text in {decoded.codec} were replaced by U+FFFD")
    return found


class _Walk:
    """The records under way: the last one of each name is where the fields of its level are looked for."""

    def __init__(self, profile: Profile, language: str, standard: Places, opening: Mapping[str, str]) -> None:
        self._profile = profile
        self._places: Places = {**standard, **profile.fields}
        self._quality = QUALITY[language]
        self._of_results = [rule for rule in profile.quality if self._is_of_result(rule.where)]
        self._of_sample = [rule for rule in profile.quality if rule not in self._of_results]
        self._opening = opening
        self._open: dict[str, Segment] = {}
        self._found = Readings()
        self._person = NOBODY
        self._sample: Sample | None = None
        self._last: Sample | Reading | None = None
        self._waiting: list[str] = []  # comments on a person or a message, which stand before its samples

    def run(self, lines: Iterable[Segment]) -> Readings:
        """Take every line in its order; what a sample's later lines say of it is asked when they end."""
        kept = list(lines)
        for line in kept:
            self._take(line)
        self._close()
        for line in kept:
            self._found.left += _left(line)
            line.close()
        return self._found

    def _take(self, line: Segment) -> None:
        level = self._opening.get(line.name)
        if level in {"head", "person"}:
            self._last, self._waiting = None, []
        if level == "head":
            self._close()
            self._open = {line.name: line}
            self._head()
        elif level == "person":
            self._close()
            self._keep(line, *self._opening)
            self._person = self._read_person()
        elif level == "sample":
            self._close()
            self._keep(line, *self._opening)
            self._begin(line)
        else:
            self._open[line.name] = line
            if line.name in _RESULT:
                self._result(line)
            elif line.name in {"C", "NTE"}:
                self._comment()
        for at in _USED.get(line.name, (1,)):
            line.get(at)

    def _keep(self, line: Segment, *names: str) -> None:
        """Forget what stood below a level that begins anew: a sample's fields are not looked for in the one before."""
        upper = list(names)[: list(names).index(line.name)]
        self._open = {name: self._open[name] for name in upper if name in self._open} | {line.name: line}
        if line.name in {"P", "PID"}:
            self._person = NOBODY

    # ---- levels -------------------------------------------------------------------------------------------------------
    def _head(self) -> None:
        found = self._found
        self._person = NOBODY
        found.sender = found.sender or self._text("sender")
        found.serial_number = found.serial_number or self._text("serial_number")
        found.software = found.software or self._text("software")
        found.sent_at = self._text("sent_at") or found.sent_at

    def _read_person(self) -> Person:
        number, place = self._placed("patient_id")
        part = self._part("patient_name")
        name = tuple(part.get(at) for at in range(1, min(len(part.parts), 5) + 1)) if part else ()
        authority = ""
        if place == "PID-3.1" and (cx := self._part("patient_id")) is not None:
            authority = cx.get(4).split(cx.segment.dialect.subcomponent)[0]
            cx.get(5)
        return Person(
            place=place, number=number, authority=authority, name=name if any(name) else (),
            birth_date=self._text("birth_date"), sex=self._text("sex"),
        )  # fmt: skip

    def _begin(self, line: Segment) -> Sample:
        made = self._sample = self._last = Sample(place=line.where, person=self._person, notes=[*self._waiting])
        return made

    def _close(self) -> None:
        """Ask what a sample's own lines say, now that all of them are there."""
        sample, self._sample = self._sample, None
        if sample is None:
            return
        sample.number = self._text("sample")
        sample.order = self._text("order")
        sample.panel, sample.panel_text = self._panel()
        sample.panel_system = self._text("panel_system") if sample.panel else ""
        sample.specimen = self._text("specimen")
        sample.collected_at, sample.received_at = self._text("collected_at"), self._text("received_at")
        sample.status = self._text("report_status")
        sample.requester = self._text("requester")
        sample.lot, sample.level = self._text("lot"), self._text("level")
        sample.quality = sample.quality or self._why_quality(sample)
        self._found.samples.append(sample)

    def _panel(self) -> tuple[str, str]:
        """Return what was ordered; several tests of one sample are a text."""
        place = self._where("panel")
        codes = self._each("panel", whole=False)
        if len(codes) > 1:
            return "", ", ".join(codes)
        return (self._read(place) if place else ""), self._text("panel_text")

    def _result(self, line: Segment) -> None:
        sample = self._sample or self._begin(line)  # a result without an order is legal in both languages
        self._ask_result(sample)
        kind = self._text("value_type")
        code = self._text("code")
        if kind and kind not in _TYPES:
            self._found.left.append(Unmapped(line.where, UNKNOWN_TYPE, kind))
        if kind in _ATTACHED:
            line.note(line.where, ATTACHED)
            return
        if any(self._holds(rule.where, rule.holds, {"code": code}) for rule in self._profile.ignored):
            line.note(line.where, IGNORED)
            return
        if line.name == "OBX" and not line.has(5) and not kind and line.peek(4).endswith(".0"):
            line.note(line.where, PART_OF_DEVICE)  # IEEE 11073-10101 containment, IHE DEV TF-2 B.8
            return
        unit, unit_system = self._unit()
        reading = Reading(
            place=line.where, code=code, text=self._text("code_text"), system=self._text("code_system"), sub_id=self._text("sub_id"),
            unit=unit, unit_system=unit_system, range=self._text("range"), flags=self._each("flags"), status=self._text("status"),
            at=self._text("at"), operator=self._text("operator"), instrument=self._text("instrument"),
        )  # fmt: skip
        self._value(reading, kind)
        sample.readings.append(reading)
        self._last = reading

    def _unit(self) -> tuple[str, str]:
        part = self._part("unit")
        if part is None:
            return "", ""
        system = part.peek(3).upper()
        if system == "MDC":  # number and name of one unit
            code, text = part.get(1), part.get(2)
            return text or code, part.get(3)
        if system == "UCUM":
            return part.get(1), part.get(3).upper()
        text = part.peek(1)
        # of ISO+ or a vendor's own list: its code is a text like any other
        if system and text and not text[-1].isdigit():
            return part.get(1).strip(), ""
        return part.whole().strip(), ""  # 10^9/L too, where ^ is the component delimiter and nobody escaped it

    def _value(self, reading: Reading, kind: str) -> None:
        part = self._part("value")
        if part is None:
            return
        if kind in _CODED:
            reading.coded = (part.get(1), part.get(2), part.get(3))
        elif kind == "SN":  # comparator, number, separator, number
            reading.value = part.whole().replace(part.segment.dialect.component, "")
        else:
            rest = part.segment.reps(_field_of(self._where("value")))[1:]
            reading.value = "\n".join([self._text("value"), *(each.whole() for each in rest)]).strip()

    def _comment(self) -> None:
        text = self._text("comment")
        if text and self._last is not None:
            self._last.notes.append(text)
        elif text:
            self._waiting.append(text)
        if self._sample is not None:
            self._ask_result(self._sample)

    def _ask_result(self, sample: Sample) -> None:
        """Ask the rules on what a result says, at each of them: one control among them makes all of the sample no patient's."""
        for rule in self._of_results:
            text = self._seen(rule.where)
            if not sample.quality and self._holds(rule.where, rule.holds, {}):
                sample.quality = rule.why(text)

    def _is_of_result(self, where: str) -> bool:
        """Whether a rule looks at what each result, or a comment, has for itself."""
        places = self._places.get(where, (where,))
        return any(part.partition("-")[0] in _OF_RESULT for place in places for part in place.split("+"))

    def _why_quality(self, sample: Sample) -> str:
        for place, texts in self._quality.items():
            text = self._read(place, peek=True)
            if text in texts:
                self._read(place)
                return f"{place} is {text}"
            if text in ORDINARY[place]:
                self._read(place)
        known = {"sample": sample.number}
        for rule in self._of_sample:
            text = known[rule.where] if rule.where in known else self._seen(rule.where)
            if self._holds(rule.where, rule.holds, known):
                return rule.why(text)
        return ""

    # ---- places -------------------------------------------------------------------------------------------------------
    def _holds(self, where: str, holds: Callable[[str], bool], known: Mapping[str, str]) -> bool:
        place = self._where(where) if where in self._places else where
        text = known[where] if where in known else self._seen(where)
        if holds(text):
            self._read(place)  # only what a rule decides on is used
            return True
        return False

    def _seen(self, where: str) -> str:
        """Return what stands where a rule looks, without using it."""
        return self._read(self._where(where) if where in self._places else where, peek=True)

    def _where(self, word: str) -> str:
        """Return the first of a word's places that holds something."""
        for place in self._places.get(word, ()):
            if self._read(place, peek=True):
                return place
        return ""

    def _placed(self, word: str) -> tuple[str, str]:
        place = self._where(word)
        return (self._read(place), place) if place else ("", "")

    def _text(self, word: str) -> str:
        return self._placed(word)[0]

    def _part(self, word: str) -> Part | None:
        place = self._where(word)
        line = self._open.get(place.partition("-")[0]) if place else None
        return line.reps(_field_of(place))[0] if line is not None else None

    def _each(self, word: str, *, whole: bool = True) -> tuple[str, ...]:
        place = self._where(word)
        line = self._open.get(place.partition("-")[0]) if place else None
        if line is None:
            return ()
        component = int(place.partition(".")[2] or 0)
        texts = (rep.whole() if whole or not component else rep.get(component) for rep in line.reps(_field_of(place)))
        return tuple(text for text in texts if text)

    def _read(self, place: str, *, peek: bool = False) -> str:
        if "+" in place:  # several places that are one name
            return "/".join(text for each in place.split("+") if (text := self._read(each, peek=peek)))
        name, _, rest = place.partition("-")
        line = self._open.get(name)
        if line is None or not rest:
            return ""
        field, _, component = rest.partition(".")
        if not line.has(int(field)):
            return ""
        part = line.reps(int(field))[0]
        before = part.read
        text = part.get(int(component)) if component else part.whole().strip(" " + line.dialect.component)
        if peek:
            part.read = before
        return text


def _field_of(place: str) -> int:
    return int(place.partition("-")[2].partition(".")[0])


def _left(line: Segment) -> list[Unmapped]:
    whole = line.reasons.get(line.where)
    if whole is None and line.name not in {*_USED, "MSH", "PID", "OBR", "OBX", "NTE", "SPM", "SAC", "ORC"}:
        whole = NOT_RESULT
    found = ((path, text) for path, text in line.unread() if path != f"{line.where}-1")
    return [
        Unmapped(path, whole or (OF_MESSAGE if _ENVELOPE.fullmatch(path) else NOT_MAPPED), text) for path, text in found
    ]
