"""How a device writes its times, where not as its standard does: `time_format` of a profile, read without guessing.

Directives are those of strptime, of which only what has one meaning is allowed. A time that fits a form and is in no calendar
is no time, and never tried in another form: 311126 as day, month, year must not become the year 3111.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from hl7.convert.times import BAD, Moment, moment

FORMS_MAX: Final = 4  # of one device: its own clock, a date alone, and what operators type in
FORM_CHARACTERS_MAX: Final = 40
TEXT_CHARACTERS_MAX: Final = 80  # of a time; longer texts are none
PIVOT: Final = 69  # POSIX: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068

ALLOWED: Final = "%d day, %m month, %b its English name in 3 letters, %y or %Y year, %H hour, %I hour with %p AM or PM, %M minute, %S second"
STANDARD: Final = "YYYYMMDD[HHMM[SS]], YYYY-MM-DD[ HH:MM[:SS]]"
NO_FORM: Final = f'{BAD}: without a format {STANDARD} are read; where the device writes another, time_format in the profile says so, such as "%d.%m.%y %H:%M"'
TWO_CENTURIES: Final = "a year of birth of two digits may be of two centuries: left out"

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DIGITS: Final = frozenset("dmyHIMS")
_PARTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_DIGITS, r"\d\d"), "Y": r"\d{4}", "b": "|".join(_MONTHS), "p": "am|pm",
}  # fmt: skip
_HALF: Final = re.compile(r"(?<![a-z])[ap]\.?m(?![a-z])", re.ASCII | re.IGNORECASE)
_TOKEN: Final = re.compile(r"%(.?)|([^%])", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeForm:
    """One form: its text as the profile has it, the pattern it makes, and its shape, in which every digit is a 9."""

    text: str
    pattern: re.Pattern[str]
    shape: str

    def standard(self, text: str) -> str | None:
        """Return a text of this form as YYYY-MM-DD[THH:MM[:SS]]; None where it has another form."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        found = match.groupdict()
        year = found.get("Y") or _century(found["y"]) + found["y"]
        month = found.get("m") or str(_MONTHS.index(found["b"].lower()) + 1)
        made = f"{year}-{month:0>2}-{found['d']:0>2}"
        hour = found.get("H") or (_hour(found["I"], found["p"]) if "I" in found else "")
        if hour:
            made += f"T{hour:0>2}:{found['M']:0>2}" + (f":{found['S']:0>2}" if "S" in found else "")
        return made


def _century(year: str) -> str:
    return "19" if int(year) >= PIVOT else "20"


def _hour(text: str, half: str) -> str:
    """Return the hour of 24; "99", which is none, for what a clock of 12 does not show."""
    hour = int(text)
    return str(hour % 12 + (12 if half.lower() == "pm" else 0)) if 1 <= hour <= 12 else "99"


def time_form(text: str) -> TimeForm:
    """Read one form. Raises ValueError, which says what is allowed."""
    if not 0 < len(text) <= FORM_CHARACTERS_MAX:
        raise ValueError(f"a form of 1 to {FORM_CHARACTERS_MAX} characters")
    tokens = _TOKEN.findall(text)
    names = [name for name, mark in tokens if not mark]
    for name in names:
        if name not in _PARTS:
            raise ValueError(f"%{name} is not known; allowed are {ALLOWED}")
    if any(mark.isdigit() for _, mark in tokens):
        raise ValueError("a form has no digits of its own")
    if half := _HALF.search("".join(mark or "%" for _, mark in tokens)):
        raise ValueError(
            f'"{half[0]}" says which half of the day it is: write %I for the hour, and %p where "{half[0]}" stands'
        )
    _check(names)
    pieces = []
    for at, (name, mark) in enumerate(tokens):
        # 3.11.26 beside 23.11.26: one digit is enough where no directive stands next to it
        alone = name in _DIGITS - {"y"} and all(
            each[1] for each in (*tokens[max(at - 1, 0) : at], *tokens[at + 1 : at + 2])
        )
        part = r"\d{1,2}" if alone else _PARTS.get(name, "")
        pieces.append(re.escape(mark) if mark else f"(?P<{name}>{part})")
    shape = "".join(mark.lower() or _shape_of(name) for name, mark in tokens)
    return TimeForm(text=text, pattern=re.compile("".join(pieces), re.ASCII | re.IGNORECASE), shape=shape)


def _shape_of(name: str) -> str:
    return {"Y": "9999", "b": "b", "p": "p"}.get(name, "99")


def _check(names: Sequence[str]) -> None:
    """Refuse forms that leave something open."""
    found = set(names)
    if len(found) != len(names):
        raise ValueError("each directive once at most")
    if "d" not in found or len(found & {"m", "b"}) != 1 or len(found & {"y", "Y"}) != 1:
        raise ValueError(f"a day, one month and one year are needed; allowed are {ALLOWED}")
    if ("I" in found) != ("p" in found) or {"H", "I"} <= found:
        raise ValueError("%I and %p go together, without %H")
    if bool(found & {"H", "I"}) != ("M" in found) or ("S" in found and "M" not in found):
        raise ValueError("a time of day has hour and minute, and may have seconds")


def time_forms(texts: Sequence[str]) -> tuple[TimeForm, ...]:
    """Read all forms of a profile. Raises ValueError, also where a time could be read by two of them."""
    made = tuple(map(time_form, texts))
    if len({each.shape for each in made}) < len(made):
        raise ValueError("two forms look the same, so that a time could be read in two ways")
    return made


class Times:
    """Reads a device's times: by the profile's forms, else as the standards write them."""

    def __init__(self, forms: Sequence[TimeForm]) -> None:
        self._forms = forms
        names = ", ".join(each.text for each in forms)
        self._bad = f"{BAD} by time_format ({names}), nor {STANDARD}" if forms else NO_FORM

    def moment(self, text: str, zone: tzinfo | None) -> Moment:
        """Read a time; what is no time says which forms are."""
        found = moment(self._standard(text), zone)
        return found._replace(problem=self._bad) if found.problem == BAD else found

    def birth(self, text: str) -> Moment:
        """Read a date of birth: no century is guessed for it."""
        form = self._form(text)
        if form is not None and "%y" in form.text:
            return Moment("", "", "", TWO_CENTURIES)
        return self.moment(text, None)

    def _form(self, text: str) -> TimeForm | None:
        bare = text.strip()
        if len(bare) > TEXT_CHARACTERS_MAX:
            return None
        return next((each for each in self._forms if each.pattern.fullmatch(bare)), None)

    def _standard(self, text: str) -> str:
        form = self._form(text)
        return (form.standard(text.strip()) or "") if form else text
