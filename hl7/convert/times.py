"""HL7 times to FHIR's: the precision that was sent, the zone that was sent or that the caller set, never a guess."""

import re
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

_DTM: Final = re.compile(
    r"(\d{4})(?:-?(\d\d)(?:-?(\d\d)(?:[T ]?(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d+)?)?)?)?)?)?\s*(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_TM: Final = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d+)?)?)?([+-]\d{4})?", re.ASCII)
_ZONE: Final = re.compile(r"([+-])(\d\d):?(\d\d)$|(Z)$", re.ASCII)
_ZONE_MINUTES_MAX: Final = 14 * 60  # FHIR's dateTime goes no further

BAD: Final = "not a time"
NO_ZONE: Final = "time of day without a zone: set the facility's zone"


class Moment(NamedTuple):
    """What FHIR can say of a time: `date`, `date_time`, `instant`; "" where it cannot. `problem` says what was lost."""

    date: str
    date_time: str
    instant: str
    problem: str


_NOTHING: Final = Moment("", "", "", BAD)


@lru_cache(maxsize=8192)  # a message repeats the same few times; the same zone all day
def moment(text: str, zone: tzinfo | None) -> Moment:
    """Read YYYY[MM[DD[HH[MM[SS[.s]]]]]][+ZZZZ]; `zone` is what holds where the text names none."""
    match = _DTM.fullmatch(text)
    if match is None:
        return _NOTHING
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        local = datetime(  # noqa: DTZ001  # the zone is written beside it
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), min(int(second or 0), 59)
        )
    except ValueError:
        return _NOTHING
    if second is not None and int(second) > 60:
        return _NOTHING
    date = "-".join(part for part in (year, month, day) if part)
    if hour is None:
        return Moment(date, date, "", "")
    written = _offset(offset, local, zone)
    if written is None:
        return Moment(date, date, "", BAD if offset else NO_ZONE)
    full = f"{date}T{hour}:{minute or '00'}:{second or '00'}{fraction or ''}{written}"
    return Moment(date, full, full, "")


def _offset(text: str | None, local: datetime, zone: tzinfo | None) -> str | None:
    """Return "+03:00": as it was sent, else the zone's at that time."""
    if text is None:
        if zone is None:
            return None
        delta = zone.utcoffset(local.replace(tzinfo=zone)) or timedelta()
        minutes = int(delta.total_seconds() // 60)
        return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if text == "Z":
        return "Z"
    digits = text[1:].replace(":", "")
    if int(digits[:2]) * 60 + int(digits[2:]) > _ZONE_MINUTES_MAX or int(digits[2:]) > 59:
        return None
    return f"{text[0]}{digits[:2]}:{digits[2:]}"


def clock_time(text: str) -> str:
    """Return FHIR's time of an HL7 TM; "" where it is none."""
    match = _TM.fullmatch(text)
    if match is None:
        return ""
    hour, minute, second, fraction, _ = match.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ""
    return f"{hour}:{minute or '00'}:{second or '00'}{fraction or ''}"


def zone_in(text: str) -> str:
    """Return the zone a time ends with ("+0300"); "" where it names none."""
    match = _ZONE.search(text) if len(text) > 8 else None
    return match[0] if match else ""


def later(instant: str, minutes: int) -> str:
    """Return the instant so many minutes later, in the same zone; "" where no calendar has it, or it begins in a leap second."""
    try:
        return (datetime.fromisoformat(instant) + timedelta(minutes=minutes)).isoformat()
    except (ValueError, OverflowError):
        return ""


def hl7_time(text: str) -> str:
    """Return an HL7 DTM of FHIR's date, dateTime or instant; "" where it is none of them."""
    match = _DTM.fullmatch(text)
    if match is None:
        return ""
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    zone = {None: "", "Z": "+0000"}.get(offset, (offset or "").replace(":", ""))
    fraction = (fraction or "")[:5]  # HL7 2.A.22: four digits at most
    return "".join(part or "" for part in (year, month, day, hour, minute, second)) + fraction + (zone if hour else "")
