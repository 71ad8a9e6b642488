"""A Modbus poll's document (docs/wire.md) to readings, by the points of the profile: sign, word order and scale are the profile's to say."""

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hl7.convert.json_text import Number
from hl7.convert.result import Unmapped
from hl7.devices.json_body import load as load_json
from hl7.devices.json_body import whole_number
from hl7.devices.profile import Point, Profile
from hl7.devices.readings import NoReadings, Reading, Readings, Sample
from hl7.devices.values import sfloat, shifted

NO_POINT: Final = "no point of the profile reads it"
HALF: Final = "the poll holds only a part of this point's registers"
_USED: Final = {
    *(
        "v",
        "point",
        "unit",
        "function",
        "address",
        "registers",
        "boot",
        "sequence",
        "wall_us",
        "monotonic_us",
        "took_us",
    ),
    *("late_us", "stepped_us", "quality", "profile", "as"),
}
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNED: Final = {"int16": 16, "int32": 32}


def from_modbus(body: bytes, profile: Profile) -> Readings:
    """Read one poll. Raises NoReadings."""
    document = load_json(body)
    if not isinstance(document, dict) or not isinstance(document.get("registers"), list):
        raise NoReadings("not the document of a Modbus poll: it has no registers")
    registers = [whole_number(each) for each in document["registers"]]
    address = whole_number(document.get("address"))
    if address is None or any(each is None or not 0 <= each <= 0xFFFF for each in registers):
        raise NoReadings("not the document of a Modbus poll: its registers are no numbers of 16 bits")
    function = str(document.get("function", ""))
    found = Readings(sender=f"unit {_plain(document.get('unit'))}", sent_at=_instant(document.get("wall_us")))
    sample = Sample(place="registers", at=found.sent_at)
    read: set[int] = set()
    for point in profile.points:
        if point.function != function or not address <= point.address < address + len(registers):
            continue
        first = point.address - address
        taken = [each or 0 for each in registers[first : first + point.registers]]
        place = f"registers[{point.address}]"
        if len(taken) < point.registers:
            found.left.append(Unmapped(place, HALF, str(taken[0])))
        else:
            sample.readings.append(_reading(point, taken, place, document))
        read |= set(range(first, first + len(taken)))
    found.left += [
        Unmapped(f"registers[{address + at}]", NO_POINT, str(each))
        for at, each in enumerate(registers)
        if at not in read
    ]
    found.left += [Unmapped(name, "not known in a poll", str(document[name])) for name in document if name not in _USED]
    if not sample.readings:
        raise NoReadings(f"no point of the profile is at {function} {address} to {address + len(registers) - 1}")
    found.samples.append(sample)
    return found


def _reading(point: Point, taken: Sequence[int], place: str, document: dict[str, Any]) -> Reading:
    raw = taken[0] if len(taken) == 1 else _joined(taken, point.order)
    made = Reading(place=place, code=point.code, unit=point.unit, status="F")
    quality = str(document.get("quality", "good"))
    if quality != "good":
        made.notes.append(f"poll quality: {quality}")
    if raw in point.none:
        made.none, made.value = "unknown", f"0x{raw:X}"
    elif point.type == "float32":
        made.value, made.none = _float(raw)
    elif point.type == "sfloat":
        made.value, made.none = sfloat(raw)
    else:
        bits = _SIGNED.get(point.type, 0)
        made.value = shifted(raw - (1 << bits) if bits and raw >> (bits - 1) & 1 else raw, point.scale)
    return made


def _joined(taken: Sequence[int], order: str) -> int:
    high, low = (taken[0], taken[1]) if order == "big" else (taken[1], taken[0])
    return high << 16 | low


def _float(raw: int) -> tuple[str, str]:
    """Return the shortest digits that are this float of 32 bits, or why it is no number."""
    value: float = struct.unpack(">f", struct.pack(">I", raw))[0]
    if math.isnan(value):
        return "", "not-a-number"
    if math.isinf(value):
        return "", "negative-infinity" if value < 0 else "positive-infinity"
    short = next(
        text
        for digits in range(6, 10)
        if struct.pack(">f", float(text := f"{value:.{digits}g}")) == struct.pack(">I", raw)
    )
    return short, ""


def _instant(value: Any) -> str:
    """Return microseconds since 1970 as an instant in UTC; the node's clock knows its zone."""
    number = whole_number(value)
    if number is None or not 0 <= number < 1 << 53:
        return ""
    return (_FIRST + timedelta(microseconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> str:
    return value.digits if isinstance(value, Number) else str(value or "")
