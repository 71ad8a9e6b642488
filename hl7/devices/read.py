"""A body in whatever language its device speaks, as readings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from hl7.devices.from_json import from_json, from_senml, from_sparkplug
from hl7.devices.from_modbus import from_modbus
from hl7.devices.from_poct1a import from_poct1a
from hl7.devices.from_segments import from_astm, from_hl7
from hl7.devices.from_text import from_csv, from_lines
from hl7.devices.line_framing import NotOneReport, content, framing_of
from hl7.devices.profile import Profile
from hl7.devices.readings import NoReadings, Readings

Read = Callable[[bytes, Profile], Readings]
READ: Final[Mapping[str, Read]] = {
    "astm": from_astm,
    "hl7": from_hl7,
    "poct1a": from_poct1a,
    "json": from_json,
    "senml": from_senml,
    "sparkplug": from_sparkplug,
    "modbus": from_modbus,
    "lines": from_lines,
    "csv": from_csv,
}


def read(body: bytes, profile: Profile, *, charset: str = "") -> Readings:
    """Read a body as the profile's language says. Raises NoReadings. `charset`: the feed's, where it names one."""
    if profile.kind == "line":
        try:
            body = content(body, framing_of(profile.link))
        except NotOneReport as error:
            raise NoReadings(str(error)) from error
    if profile.language == "hl7":
        return from_hl7(body, profile, charset)
    if charset:
        profile = replace(profile, charset=charset)
    return READ[profile.language](body, profile)
