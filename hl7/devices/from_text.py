"""Printed lines and CSV to readings. A line is matched by the profile's patterns, whose named groups are field words; a CSV's columns are named."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from hl7.convert.result import Unmapped
from hl7.devices.field_words import CONTROL, HEAD, PERSON, RESULT, SAMPLE, SPECIAL
from hl7.devices.profile import Profile
from hl7.devices.readings import NOBODY, NoReadings, Person, Reading, Readings, Sample

LINES_MAX: Final = 50_000  # a logger's year of one value every ten minutes
LINE_CHARACTERS_MAX: Final = (
    2000  # a printed line has 80, a row of a plate reader 1,500; a pattern's time grows with it
)
NO_PATTERN: Final = "no pattern of the profile matches the line"
NO_COLUMN: Final = "no field of the profile names this column"
NO_NUMBER_OF_FIELDS: Final = "the row has other columns than the heading"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")
IGNORED: Final = "the profile says that it is no result"
NO_RESULT: Final = "of a result, and the line names neither code nor value"
SECOND: Final = "the report has said another before, which counts: "
NOT_CONTROL: Final = "the kind of the record, which no rule takes for a control"
NOT_FIRST: Final = "another column of the same word holds something, and comes before"
_OF_RESULT: Final = frozenset({*RESULT, *SPECIAL})
_WHOSE: Final = ("sample", "order", "patient_id", "patient_name", "birth_date")  # of these a report has one each


def _text(body: bytes, profile: Profile, found: Readings) -> str:
    text = body.decode(profile.charset, "replace")
    if "\ufffd" in text:
        found.notes.append(f"bytes that are no text in {profile.charset} were replaced by U+FFFD")
    return text.removeprefix("\ufeff")


def from_lines(body: bytes, profile: Profile) -> Readings:
    """Read what a device prints. Raises NoReadings."""
    if not profile.patterns:
        raise NoReadings("the profile has no patterns")
    found = Readings()
    sample = Sample(place="line 1")
    lines = _text(body, profile, found).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > LINES_MAX:
        raise NoReadings(f"{len(lines)} lines, {LINES_MAX} at most")
    facts: dict[str, str] = {}
    is_result = {"value", "code"}
    for number, line in enumerate(lines, start=1):
        bare = _CONTROL.sub("", line).strip()
        if not bare:
            continue
        words = _matched(bare, profile)
        if words is None:
            found.left.append(Unmapped(f"line {number}", NO_PATTERN, bare))
            continue
        place = f"line {number}"
        # asked of every line: a control behind a patient's sample in one report makes all of it no patient's
        sample.quality = sample.quality or _why_quality({word: text for word, text in words.items() if text}, profile)
        if is_result & words.keys():
            reading = _reading(place, words, profile)
            if reading is None:
                found.left.append(Unmapped(place, IGNORED, bare))
                continue
            sample.readings.append(reading)
            sample.at = sample.at or reading.at
        else:
            found.left += [Unmapped(place, NO_RESULT, words[word]) for word in _OF_RESULT if words.get(word)]
        found.left += _learn(facts, words, place, without={"at"} if is_result & words.keys() else set())
    if not sample.readings:
        raise NoReadings("no line of it matches a pattern with a value")
    _fill(found, sample, facts, profile)
    found.samples.append(sample)
    return found


def _matched(line: str, profile: Profile) -> dict[str, str] | None:
    """Return the words of the first pattern that matches the whole line; None where none does."""
    if len(line) > LINE_CHARACTERS_MAX:
        return None
    for pattern in profile.patterns:
        match = pattern.fullmatch(line)
        if match:
            return {name: text.strip() for name, text in match.groupdict().items() if text is not None}
    return None


def _learn(facts: dict[str, str], words: Mapping[str, str], place: str, without: set[str]) -> Iterator[Unmapped]:
    """Keep what a line says of the whole report, and yield what contradicts a line before it. The first counts."""
    for word in _WHOSE:
        # two printouts without a pause between them: results never go on under the first one's patient. One left blank is another, too
        if word in words and facts.setdefault(word, words[word]) != words[word]:
            raise NoReadings(
                f"{place} names another {word} than a line above it: whose the results are cannot be told; "
                "see what ends a report ([link] of the profile)"
            )
    for word, text in words.items():
        if word in _OF_RESULT or word in without or not text:
            continue
        if facts.setdefault(word, text) != text:
            yield Unmapped(f"{place}, {word}", SECOND + facts[word], text)


def _reading(place: str, words: Mapping[str, str], profile: Profile) -> Reading | None:
    if any(rule.holds(words.get(rule.where, "")) for rule in profile.ignored):
        return None
    made = Reading(place=place, code="", at=words.get("at", ""))
    for word, name in RESULT.items():
        setattr(made, name, words.get(word, ""))
    made.flags = tuple(words.get("flags", "").split())
    if words.get("comment"):
        made.notes.append(words["comment"])
    return made


def _fill(found: Readings, sample: Sample, facts: Mapping[str, str], profile: Profile) -> None:
    """Put what a printout, or a row, says of sample and person where it belongs."""
    for word in HEAD:
        before = getattr(found, word)
        if not before:
            setattr(found, word, facts.get(word, ""))
        elif facts.get(word, before) != before:
            found.left.append(Unmapped(f"{sample.place}, {word}", SECOND + before, facts[word]))
    for word, name in SAMPLE.items():
        setattr(sample, name, facts.get(word, "") or getattr(sample, name))
    if any(facts.get(word) for word in PERSON):
        name = facts.get("patient_name", "")
        sample.person = Person(
            place=sample.place, number=facts.get("patient_id", ""), name=(name,) if name else (),
            birth_date=facts.get("birth_date", ""), sex=facts.get("sex", ""),
        )  # fmt: skip
    else:
        sample.person = NOBODY
    sample.quality = sample.quality or _why_quality({**{rule.where: "" for rule in profile.quality}, **facts}, profile)
    if facts.get(CONTROL) and not sample.quality.endswith(f": {facts[CONTROL]}"):
        found.left.append(Unmapped(f"{sample.place}, {CONTROL}", NOT_CONTROL, facts[CONTROL]))


def _why_quality(words: Mapping[str, str], profile: Profile) -> str:
    """Say why what was read is no patient's, by a pattern's group `control` or by a rule; "" where it may be one's."""
    if profile.language == "lines" and words.get(CONTROL):
        return f"the line says so: {words[CONTROL]}"
    for rule in profile.quality:
        if rule.where in words and rule.holds(words[rule.where]):
            return rule.why(words[rule.where])
    return ""


# ---- CSV --------------------------------------------------------------------------------------------------------------
def from_csv(body: bytes, profile: Profile) -> Readings:
    """Read a table whose first row (or `columns` of the profile) names its columns. Raises NoReadings.

    A column that a field names is that field; one named as a code of the profile is a result of its own.
    """
    found = Readings()
    text = _text(body, profile, found)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=profile.delimiter or ",")
    try:
        table = [(number, row) for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise NoReadings(f"no CSV: {error}") from None
    if len(table) > LINES_MAX:
        raise NoReadings(f"{len(table)} rows, {LINES_MAX} at most")
    heading = [each.strip() for each in (profile.columns or (table[0][1] if table else ()))]
    word_of = {column: word for word, columns in profile.fields.items() for column in columns}
    if not any(
        profile.targets(name) or name in profile.implied_units or word_of.get(name) == "value" for name in heading
    ):
        raise NoReadings(
            "no column is a result: name them in [codes] or fields.value; the columns are " + ", ".join(heading)[:300]
        )
    _check_heading(heading, profile)
    samples: dict[tuple[tuple[str, str], ...], Sample] = {}
    for number, row in table if profile.columns else table[1:]:
        place = f"row {number}"
        if len(row) != len(heading):
            found.left.append(Unmapped(place, NO_NUMBER_OF_FIELDS, (profile.delimiter or ",").join(row)))
            continue
        cells = dict(zip(heading, (cell.strip() for cell in row), strict=True))
        _row(place, cells, word_of, profile, found, samples)
    found.samples = [each for each in samples.values() if each.readings]
    if not found.samples:
        raise NoReadings("no row of it has a value")
    return found


def _check_heading(heading: Sequence[str], profile: Profile) -> None:
    """Refuse a heading that hides a value, or what tells a control from a patient's sample."""
    named = [each for each in heading if each]
    if twice := sorted({each for each in named if named.count(each) > 1}):
        raise NoReadings("columns of one name: " + ", ".join(twice)[:300])
    for rule in profile.quality:
        if not set(profile.fields.get(rule.where, ())) & set(named):
            raise NoReadings(
                f"no column of {rule.where}, by which the profile tells controls: "
                + ", ".join(profile.fields.get(rule.where, ()))
            )


def _row(
    place: str,
    cells: Mapping[str, str],
    word_of: Mapping[str, str],
    profile: Profile,
    found: Readings,
    samples: dict[tuple[tuple[str, str], ...], Sample],
) -> None:
    facts: dict[str, str] = {}
    for word, columns in profile.fields.items():  # the first that holds something counts
        for column in columns:
            if (text := cells.get(column, "")) and facts.setdefault(word, text) != text:
                found.left.append(Unmapped(f"{place}, {column}", NOT_FIRST, text))
    rest = {word: text for word, text in facts.items() if word not in _OF_RESULT}
    sample = samples.get(tuple(rest.items()))  # with their words: a patient's number may be another's sample
    if sample is None:
        sample = samples[tuple(rest.items())] = Sample(place=place)
        _fill(found, sample, rest, profile)
    readings = list(_readings(place, cells, facts, word_of, profile))
    sample.readings += readings
    if not any(each.place == place for each in readings):
        why = IGNORED if "value" in facts else NO_RESULT
        found.left += [Unmapped(f"{place}, {word}", why, text) for word, text in facts.items()]
    for column, text in cells.items():
        if text and column not in word_of and not profile.targets(column) and column not in profile.implied_units:
            found.left.append(Unmapped(f"{place}, {column}", NO_COLUMN, text))


def _readings(
    place: str, cells: Mapping[str, str], facts: Mapping[str, str], word_of: Mapping[str, str], profile: Profile
) -> Iterator[Reading]:
    if "value" in facts:
        reading = _reading(place, facts, profile)
        if reading is not None:
            yield reading
    for column, text in cells.items():
        if column not in word_of and (profile.targets(column) or column in profile.implied_units):
            yield Reading(place=f"{place}, {column}", code=column, value=text)
