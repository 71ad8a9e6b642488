"""Zones of time as a person writes them: "+03:00" or "Asia/Riyadh"."""

import re
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo


def zone_of(text: str) -> tzinfo | None:
    """Read a zone, None where nothing is said. Raises ValueError."""
    match = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", text)
    try:
        if match:
            minutes = int(match[2]) * 60 + int(match[3])
            return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
        return ZoneInfo(text) if text else None
    except (ValueError, OSError, KeyError):
        raise ValueError('must be a zone of time such as "+03:00" or "Asia/Riyadh", or empty') from None
