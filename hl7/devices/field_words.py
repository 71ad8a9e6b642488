"""The words by which a profile names what stands in a place, and which of them each language takes: any other is a slip, and refused.

A slip in [[quality]] would hand a control to a patient, so a rule that can never hold is refused as well.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from hl7.devices.places import ASTM, HL7, Places
from hl7.devices.profile_errors import ProfileProblem

HEAD: Final = ("sender", "serial_number", "software", "sent_at")
PERSON: Final = ("patient_id", "patient_name", "birth_date", "sex")
# Words, and what of a Sample and of a Reading they fill
SAMPLE: Final[Mapping[str, str]] = {
    "sample": "number", "order": "order", "panel": "panel", "panel_text": "panel_text", "panel_system": "panel_system", "specimen": "specimen",
    "collected_at": "collected_at", "received_at": "received_at", "at": "at", "report_status": "status", "requester": "requester",
    "lot": "lot", "level": "level",
}  # fmt: skip
RESULT: Final[Mapping[str, str]] = {
    "code": "code", "code_text": "text", "code_system": "system", "sub_id": "sub_id", "value": "value", "unit": "unit", "range": "range",
    "status": "status", "operator": "operator", "instrument": "instrument",
}  # fmt: skip
SPECIAL: Final = ("flags", "comment")  # of a result, and no single text of it
CONTROL: Final = "control"

_COMMON: Final = frozenset({*HEAD, *PERSON, *SAMPLE, *RESULT, *SPECIAL})
_RECORDS: Final = _COMMON | {"value_type"}
# The other languages say themselves what each of their values is
TAKEN: Final[Mapping[str, frozenset[str]]] = {
    "astm": _RECORDS,
    "hl7": _RECORDS,
    "json": _COMMON | {CONTROL, "results", "sequence"},
    "csv": _COMMON | {CONTROL},
}
OF_PATTERNS: Final = _COMMON | {CONTROL}
_OF_RESULT: Final = {*RESULT, *SPECIAL}
_STANDARD: Final[Mapping[str, Places]] = {"astm": ASTM, "hl7": HL7}

_PART: Final = {
    "astm": r"[A-Z]-[1-9]\d{0,2}(\.[1-9]\d?)?",
    "hl7": r"[A-Z][A-Z0-9]{2}-[1-9]\d{0,2}(\.[1-9]\d?)?",
}
_PLACE: Final = {name: re.compile(rf"{part}(\+{part}){{0,3}}") for name, part in _PART.items()}
_PLACE_FORM: Final = {
    "astm": "write R-4 or R-3.4, record, field and component; several as one: R-3.2+R-3.7",
    "hl7": "write OBX-5 or OBX-3.1, segment, field and component; several as one: OBX-3.1+OBX-4",
}

Named = Mapping[str, tuple[str, ...]]


def check_fields(language: str, fields: Named, columns: Sequence[str]) -> None:
    """Refuse a word that the language does not take, and a place that it cannot have."""
    known = TAKEN.get(language, frozenset())
    for word, places in fields.items():
        if word not in known:
            raise ProfileProblem(f"fields.{word}", _unknown(language, known))
        form = _PLACE.get(language)
        for place in places:
            if form is not None and not form.fullmatch(place):
                raise ProfileProblem(f"fields.{word}", f"{place!r} is no place: {_PLACE_FORM[language]}")
        if language == "csv" and columns and not set(places) & set(columns):
            raise ProfileProblem(f"fields.{word}", f"no such column; columns are {', '.join(columns)}")


def _unknown(language: str, known: Collection[str]) -> str:
    if known:
        return f"unknown; known are {', '.join(sorted(known))}"
    if language == "lines":
        return "printed lines have no [fields]: name it as a group of a pattern, such as (?P<sample>.*)"
    return f"{language} says itself what its values are: it has no [fields]"


def check_patterns(patterns: Sequence[re.Pattern[str]]) -> None:
    """Refuse a group that is no field word: its text would go nowhere."""
    for pattern in patterns:
        for group in pattern.groupindex:
            if group not in OF_PATTERNS:
                raise ProfileProblem(
                    "patterns", f"group {group!r} is no field word; known are {', '.join(sorted(OF_PATTERNS))}"
                )


def check_rules(language: str, key: str, wheres: Sequence[str], fields: Named, groups: Collection[str]) -> None:
    """Refuse a rule that looks where nothing can stand. `groups`: those of all patterns."""
    words = _words_of_rules(language, key, fields, groups)
    for where in wheres:
        if where in words or (language in _PLACE and _PLACE[language].fullmatch(where)):
            continue
        if language == "json" and key == "quality" and where.startswith("/"):
            continue
        raise ProfileProblem(
            f"{key}.where", f"{where!r} is nothing that a rule can look at here; {_hint(language, words)}"
        )


def _words_of_rules(language: str, key: str, fields: Named, groups: Collection[str]) -> set[str]:
    """Return the words that a rule of a profile can look at, because something fills them."""
    is_quality = key == "quality"
    match language:
        case "astm" | "hl7":
            return {*_STANDARD[language], *fields}
        case "lines":
            return {word for word in groups if not is_quality or word not in _OF_RESULT}
        case "csv":
            return {word for word in fields if not is_quality or word not in _OF_RESULT}
        case "json" if is_quality:
            return {word for word, places in fields.items() if any(place.startswith("/") for place in places)}
        case "poct1a" if is_quality:
            return {"sample", "patient_id"}
    return set()


def _hint(language: str, words: Collection[str]) -> str:
    named = ", ".join(sorted(words))
    if language in _PLACE:
        return f"{_PLACE_FORM[language]}; or one of {named}"
    if language == "json" and words:
        return f"write a path from the root, such as /patient/id, or one of {named}, which [fields] name so"
    how = {"lines": "groups of the patterns", "csv": "words of [fields]"}.get(language, "")
    if words:
        return f"allowed are {named}" + (f", the {how} that are no result's" if how else "")
    return f"no {how} can be looked at yet" if how else f"{language} has no such rules"


def check_control(fields: Named, wheres: Sequence[str]) -> None:
    """Refuse a column of kinds without the rule that says which of its texts are controls."""
    if CONTROL in fields and CONTROL not in wheres:
        raise ProfileProblem(
            f"fields.{CONTROL}", '[[quality]] with where = "control" says which of its texts are no patient\'s'
        )
