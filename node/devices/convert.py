"""What a capture of a device becomes, step by step, as `wasl devices test` and `wasl convert --profile` show it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hl7.convert.json_text import dumps
from hl7.convert.result import CannotConvert, Converted, Settings
from hl7.devices.capture import Capture, cut
from hl7.devices.profile import Profile
from hl7.devices.read import read
from hl7.devices.readings import NoReadings, Reading, Readings, Sample
from hl7.devices.to_fhir import convert
from node.convert import Shown
from node.zones import zone_of

FRAMES_SHOWN = 40  # a screen


def settings_for(profile: Profile, settings: Settings) -> Settings:
    """Complete what the site has not said by what the profile says."""
    return replace(settings, zone=settings.zone or zone_of(profile.zone))


def to_fhir(data: bytes, profile: Profile, settings: Settings, *, is_record: bool = False) -> Shown:
    """Convert every message of a file that a device's feed stored, or of a capture of its line. `is_record`: it is one record's body, not to be cut."""
    capture = Capture([data], []) if is_record and profile.kind == "line" else cut(data, profile)
    shown: list[str] = []
    left: list[str] = list(capture.told)
    is_whole = not left
    settings = settings_for(profile, settings)
    if not capture.bodies:
        return [], ["no results in it", *(f"  {line}" for line in capture.told or capture.frames[:FRAMES_SHOWN])], False
    for number, body in enumerate(capture.bodies, start=1):
        try:
            found = convert(body, profile, settings)
        except CannotConvert as error:
            left.append(f"message {number}: not converted ({error.code}): {error}")
            is_whole = False
            continue
        shown.append(dumps(found.bundle, indent=2))
        left.append(
            f"message {number}: {len(found.bundle['entry'])} resources; {len(found.unmapped)} values stand in none, or not as they could"
        )
        left += _said(found)
    return shown, left, is_whole


def story(data: bytes, profile: Profile, settings: Settings, *, with_fhir: bool) -> Iterator[str]:
    """Tell what a capture becomes: frames, records, readings, FHIR, findings."""
    settings = settings_for(profile, settings)
    yield f"profile {profile.name}: {profile.title} ({profile.kind}, {profile.language})"
    yield f"  source: {profile.source}"
    if settings.zone is None:
        yield "  no time zone: times of day will be left out; set zone in the profile, or --zone"
    capture = cut(data, profile)
    yield "frames"
    yield from (f"  {line}" for line in capture.frames[:FRAMES_SHOWN])
    if len(capture.frames) > FRAMES_SHOWN:
        yield f"  and {len(capture.frames) - FRAMES_SHOWN} more"
        yield from (f"  {line}" for line in capture.told if line not in capture.frames[:FRAMES_SHOWN])
    for number, body in enumerate(capture.bodies, start=1):
        yield f"message {number}: {len(body)} bytes"
        yield from _message(body, profile, settings, with_fhir=with_fhir)


def _message(body: bytes, profile: Profile, settings: Settings, *, with_fhir: bool) -> Iterator[str]:
    try:
        found = read(body, profile, charset=settings.charset)
        converted = convert(body, profile, settings)
    except (NoReadings, CannotConvert) as error:
        yield f"  no results: {error}"
        return
    yield from _device(found)
    for sample in found.samples:
        yield from _sample(sample, profile)
    kinds = Counter(entry["resource"]["resourceType"] for entry in converted.bundle["entry"])
    yield "  FHIR: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if with_fhir:
        yield dumps(converted.bundle, indent=2)
    yield f"  findings: {len(converted.unmapped) + len(converted.notes)}"
    yield from (f"  {line}" for line in _said(converted))


def _device(found: Readings) -> Iterator[str]:
    facts = (
        ("sender", found.sender),
        ("serial number", found.serial_number),
        ("software", found.software),
        ("sent at", found.sent_at),
    )
    said = ", ".join(f"{name} {text}" for name, text in facts if text)
    if said:
        yield f"  device: {said}"


def _sample(sample: Sample, profile: Profile) -> Iterator[str]:
    who = " ".join(part for part in (sample.person.number, *sample.person.name) if part)
    about = (
        "QUALITY CONTROL, no patient: " + "; ".join(filter(None, (sample.quality, sample.lot, sample.level)))
        if sample.quality
        else f"patient {who}"
        if who
        else profile.device.subject
    )
    if not sample.quality and not who and profile.device.subject == "patient":
        about = "no patient is named"
    number = f" {sample.number}" if sample.number else ""
    yield f"  sample{number} ({sample.place}): {about}"
    for reading in sample.readings:
        yield f"    {_reading(reading, profile)}"


def _reading(reading: Reading, profile: Profile) -> str:
    value = (
        reading.coded[1] or reading.coded[0] if reading.coded else reading.value or f"({reading.none or 'no value'})"
    )
    unit = reading.unit or (
        f"{profile.implied_units[reading.code]} (profile)" if reading.code in profile.implied_units else ""
    )
    targets = profile.targets(reading.code)
    own = f"{reading.code}, as sent" if reading.system in {"LN", "LOINC"} else "no LOINC"
    meaning = " | ".join(" + ".join(each.codes) for each in targets) or own
    extras = [text for text in (" ".join(reading.flags), reading.status, reading.at) if text]
    return (
        f"{reading.place}: {reading.code} = {value} {unit}".rstrip()
        + f"  [{meaning}]"
        + (f"  {', '.join(extras)}" if extras else "")
    )


def _said(found: Converted) -> Iterator[str]:
    yield from (f"  {note}" for note in found.notes)
    yield from (f"  {each.path}: {each.reason}: {each.text}" for each in found.unmapped)
