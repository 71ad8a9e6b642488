"""Telemetry in JSON to readings: a gateway's own shape as the profile describes it, SenML (RFC 8428), and the JSON of Sparkplug B.

A place is a path of members: "/patient/id" from the document's root, "value" from a result's own object.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hl7.convert.json_text import Number
from hl7.convert.result import Unmapped
from hl7.devices.field_words import SAMPLE
from hl7.devices.json_body import load, text_of
from hl7.devices.profile import Profile
from hl7.devices.readings import NOBODY, NoReadings, Person, Reading, Readings, Sample

NOT_MAPPED: Final = "no field of the profile takes it"
OF_MESSAGE: Final = "of the message, not of its results"
NOT_READING: Final = "no code of the profile has this name, and it is no field"
RELATIVE: Final = "time is relative to the arrival: the result has no time of its own"
RELATIVE_S_MAX: Final = 1 << 28  # RFC 8428 4.5.3: below it, relative to now
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = {"s": 1_000_000, "ms": 1000, "us": 1}
_WORDS: Final = (
    "code",
    "code_text",
    "code_system",
    "sub_id",
    "value",
    "unit",
    "range",
    "flags",
    "status",
    "at",
    "operator",
    "instrument",
    "comment",
)
_ITEM: Final = {
    "code": ("code", "name"),
    "value": ("value",),
    "unit": ("unit",),
    "at": ("time", "at"),
    "status": ("status",),
    "flags": ("flags",),
}


def from_json(body: bytes, profile: Profile) -> Readings:
    """Read a payload as the profile describes it. Raises NoReadings."""
    document = _Document(load(body))
    found = Readings(
        sender=document.first(profile, "sender"), serial_number=document.first(profile, "serial_number"),
        software=document.first(profile, "software"), sent_at=instant_of(document.first(profile, "sent_at"), profile.time_unit),
    )  # fmt: skip
    sample = Sample(place="payload", person=_person(document, profile))
    for word, name in SAMPLE.items():
        text = document.first(profile, word)
        setattr(sample, name, instant_of(text, profile.time_unit) if word.endswith("at") else text)
    sample.quality = _why_quality(document, profile)
    sequence = document.first(profile, "sequence")
    sample.readings = list(_results(document, profile))
    if not sample.readings:
        raise NoReadings("no member of it is a result: name them in [codes], or where they stand in fields.results")
    found.samples.append(sample)
    found.left = [Unmapped(place, NOT_MAPPED, text) for place, text in document.unread()]
    if sequence:
        found.left.append(Unmapped(profile.fields["sequence"][0], OF_MESSAGE, sequence))
    return found


class _Document:
    """A JSON value that remembers which of its leaves were read."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._read: set[str] = set()

    def get(self, path: str) -> Any:
        """Return the value at a path from the root; None where there is none."""
        node = self.root
        for name in path.strip("/").split("/"):
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            elif name:
                return None
        return node

    def take(self, path: str) -> str:
        """Return a simple value as text, read; several of a list with blanks between."""
        value = self.get(path)
        if isinstance(value, list):
            texts = [text_of(each) for each in value]
            self._read |= {f"{path}/{at}" for at, text in enumerate(texts) if text}
            return " ".join(text for text in texts if text)
        text = text_of(value)
        if text:
            self._read.add(path)
        return text

    def seen(self, path: str) -> str:
        """Return what `take` would, unread."""
        value = self.get(path)
        if isinstance(value, list):
            return " ".join(text for each in value if (text := text_of(each)))
        return text_of(value)

    def first(self, profile: Profile, word: str, *, is_rooted: bool = True) -> str:
        """Return the first valued of a word's places from the root."""
        for place in profile.fields.get(word, ()):
            if place.startswith("/") == is_rooted and (text := self.take(place)):
                return text
        return ""

    def has_read(self, path: str) -> bool:
        """Tell whether a leaf was read."""
        return path in self._read

    def unread(self) -> Iterator[tuple[str, str]]:
        """Yield the leaves that nobody read, with their paths."""
        waiting: list[tuple[str, Any]] = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            if isinstance(node, dict | list):
                pairs = node.items() if isinstance(node, dict) else enumerate(node)
                waiting += [(f"{path}/{name}", child) for name, child in reversed(list(pairs))]
            elif node is not None and node != "" and path not in self._read:
                yield path, text_of(node)


def _person(document: _Document, profile: Profile) -> Person:
    name = document.first(profile, "patient_name")
    number = document.first(profile, "patient_id")
    made = Person(
        place=next(iter(profile.fields.get("patient_id", ())), ""), number=number, name=(name,) if name else (),
        birth_date=document.first(profile, "birth_date"), sex=document.first(profile, "sex"),
    )  # fmt: skip
    return made if any((number, name, made.birth_date, made.sex)) else NOBODY


def _why_quality(document: _Document, profile: Profile) -> str:
    for rule in profile.quality:
        places = profile.fields.get(rule.where, (rule.where,))
        for place in places:
            if rule.holds(document.seen(place)):
                return rule.why(document.take(place))
    return ""


# ---- where results stand ----------------------------------------------------------------------------------------------
def _results(document: _Document, profile: Profile) -> Iterator[Reading]:
    """Yield the results: the items of a list, or the members of an object, each of which is one."""
    base = next(iter(profile.fields.get("results", ())), "").rstrip("/")
    node = document.get(base) if base else document.root
    if isinstance(node, list):
        for at, item in enumerate(node):
            yield from _of_item(document, f"{base}/{at}", item, profile)
    elif isinstance(node, dict):
        for name, child in node.items():
            place = f"{base}/{name}"
            if document.has_read(place):
                continue
            if not base and not profile.targets(name) and name not in profile.implied_units:
                continue  # of a payload's own members only those that the profile knows
            yield from _of_member(document, place, name, child, profile)


def _of_item(document: _Document, base: str, item: Any, profile: Profile) -> Iterator[Reading]:
    if not isinstance(item, dict):
        return
    found = {word: _within(document, base, word, profile) for word in _WORDS}
    if found["code"]:
        yield _reading(base, found, profile)
        return
    for name, child in item.items():  # a list of moments, each with its values as members
        if profile.targets(name) or name in profile.implied_units:
            for reading in _of_member(document, f"{base}/{name}", name, child, profile):
                reading.at = reading.at or instant_of(found["at"], profile.time_unit)
                yield reading


def _of_member(document: _Document, place: str, name: str, child: Any, profile: Profile) -> Iterator[Reading]:
    if isinstance(child, dict):
        found = {word: _within(document, place, word, profile) for word in _WORDS if word != "code"}
        yield _reading(place, found | {"code": name}, profile)
    elif child is None:
        yield Reading(place=place, code=name, none="unknown", value="null", status=profile.status_default)
    elif not isinstance(child, list):
        yield _reading(place, {"code": name, "value": document.take(place)}, profile)


def _within(document: _Document, base: str, word: str, profile: Profile) -> str:
    places = [each for each in profile.fields.get(word, ()) if not each.startswith("/")] or _ITEM.get(word, ())
    return next((text for each in places if (text := document.take(f"{base}/{each}"))), "")


def _reading(place: str, found: dict[str, str], profile: Profile) -> Reading:
    made = Reading(
        place=place, code=found["code"], text=found.get("code_text", ""), system=found.get("code_system", ""),
        sub_id=found.get("sub_id", ""), value=found.get("value", ""),
        unit=found.get("unit", ""), range=found.get("range", ""), status=found.get("status", ""),
        at=instant_of(found.get("at", ""), profile.time_unit), operator=found.get("operator", ""), instrument=found.get("instrument", ""),
    )  # fmt: skip
    made.flags = tuple(found.get("flags", "").split())
    if found.get("comment"):
        made.notes.append(found["comment"])
    return made


def instant_of(text: str, unit: str) -> str:
    """Return a time as text: a number of seconds, or parts of them, since 1970 as an instant in UTC."""
    scale = _MICRO.get(unit)
    if scale is None or not text:
        return text
    whole, _, fraction = text.partition(".")
    if not whole.removeprefix("-").isdecimal() or not (fraction or "0").isdecimal() or len(whole) > 16:
        return text
    micro = int(whole) * scale + int((fraction + "0" * 6)[:6]) * scale // 1_000_000
    if not 0 <= micro < 1 << 53:
        return text
    made = (_FIRST + timedelta(microseconds=micro)).isoformat(
        timespec="milliseconds" if micro % 1_000_000 else "seconds"
    )
    return made.replace("+00:00", "Z")


# ---- SenML ------------------------------------------------------------------------------------------------------------
_SENML: Final = frozenset(("bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"))


def from_senml(body: bytes, profile: Profile) -> Readings:
    """Read a SenML pack, its base fields resolved. Raises NoReadings."""
    pack = load(body)
    if not isinstance(pack, list) or not all(isinstance(each, dict) for each in pack):
        raise NoReadings("not a SenML pack: it is no list of objects")
    base: dict[str, Any] = {}
    found, sample = Readings(), Sample(place="pack")
    for at, record in enumerate(pack):
        base |= {name: value for name, value in record.items() if name.startswith("b")}
        found.left += [
            Unmapped(f"/{at}/{name}", NOT_MAPPED, text_of(record[name]))
            for name in record
            if name not in _SENML or name in {"vd", "s", "bs", "bv", "ut"}
        ]
        if not {"v", "vs", "vb"} & record.keys():
            continue
        prefix, name = text_of(base.get("bn")), text_of(record.get("n"))
        when, note = _senml_time(base.get("bt"), record.get("t"))
        value = next(text_of(record[each]) for each in ("v", "vs", "vb") if each in record)
        made = Reading(
            place=f"/{at}",
            code=name or prefix,
            value=value,
            unit=text_of(record.get("u")) or text_of(base.get("bu")),
            at=when,
            status=profile.status_default,
        )
        made.notes += [note] if note else []
        found.sender = found.sender or prefix
        sample.readings.append(made)
    if not sample.readings:
        raise NoReadings("no record of the pack has a value")
    found.samples.append(sample)
    return found


def _senml_time(base: Any, own: Any) -> tuple[str, str]:
    if not isinstance(base, Number) and not isinstance(own, Number):
        return "", RELATIVE  # RFC 8428 4.5.3: then it is now
    total = sum(float(each.digits) for each in (base, own) if isinstance(each, Number))
    if abs(total) < RELATIVE_S_MAX:
        return "", f"{RELATIVE} ({total:g} s)"
    return instant_of(f"{total:.6f}", "s"), ""


# ---- Sparkplug B, as JSON ---------------------------------------------------------------------------------------------
def from_sparkplug(body: bytes, profile: Profile) -> Readings:
    """Read a Sparkplug B payload in its JSON form. Raises NoReadings."""
    document = load(body)
    metrics = document.get("metrics") if isinstance(document, dict) else None
    if not isinstance(metrics, list):
        raise NoReadings("no Sparkplug payload in JSON: it has no list of metrics (in protobuf it is not read here)")
    found = Readings(sent_at=instant_of(text_of(document.get("timestamp")), "ms"))
    sample = Sample(place="metrics", at=found.sent_at)
    for at, metric in enumerate(metrics):
        place = f"/metrics/{at}"
        if not isinstance(metric, dict) or not text_of(metric.get("name")):
            found.left.append(Unmapped(place, "a metric without a name (an alias of an earlier birth)", ""))
            continue
        made = Reading(
            place=place, code=text_of(metric["name"]), value=text_of(metric.get("value")), status=profile.status_default
        )
        made.at = instant_of(text_of(metric.get("timestamp")), "ms")
        if metric.get("is_null") is True or metric.get("isNull") is True:
            made.none = "unknown"
        properties = metric.get("properties")
        if isinstance(properties, dict):
            unit = properties.get("engUnit", properties.get("Engineering Units"))
            made.unit = text_of(unit.get("value") if isinstance(unit, dict) else unit)
        sample.readings.append(made)
    if not sample.readings:
        raise NoReadings("no metric with a name in it")
    found.samples.append(sample)
    return found
