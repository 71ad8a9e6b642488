"""Machines that eat a whole body: readings and FHIR of it, or the documented refusal; nothing that a device said is lost without a word.

Each machine is a function of dice that makes its input, puts it through, and tells whether it was understood.
"""

import json
import random
from collections.abc import Callable
from functools import cache
from typing import Final

from hl7.convert.result import CannotConvert
from hl7.devices.astm_orders import asked_for
from hl7.devices.astm_records import purpose
from hl7.devices.astm_records import read as read_records
from hl7.devices.capture import cut
from hl7.devices.files import facts_of
from hl7.devices.own_identity import identity_of
from hl7.devices.profile import Profile, read_profile
from hl7.devices.profile_errors import ProfileProblem
from hl7.devices.read import read
from hl7.devices.readings import NoReadings, Readings
from hl7.devices.to_fhir import convert
from hl7.devices.topics import check_filter, covers, matches, overlap, widest
from tests.device_captures import SETTINGS
from tests.device_fuzz import stock
from tests.device_fuzz.mutants import mutated

CONVERTED: Final = 1 / 16  # of the bodies: a conversion takes ten times as long as the reading it begins with
LONGER_THAN_A_PATTERN: Final = (
    "a pattern looks at"  # of a patient's number: whose result it is cannot be told, so none is made
)
KINDS: Final = frozenset(
    {
        *(
            "Observation",
            "DiagnosticReport",
            "Specimen",
            "Device",
            "Patient",
            "ServiceRequest",
            "Location",
            "Provenance",
        ),
    }
)


def _readings(body: bytes, profile: Profile, dice: random.Random) -> Readings | None:
    """Read it, and now and then convert it; None where it is refused."""
    try:
        found = read(body, profile)
    except NoReadings:
        found = None
    if dice.random() < CONVERTED:
        _converted(body, profile, found)
    if found is not None:
        for sample in found.samples:
            for reading in sample.readings:
                (reading.value + reading.code + reading.unit + reading.text).encode("utf-8")  # no half of a pair
    return found


def _converted(body: bytes, profile: Profile, found: Readings | None) -> None:
    """FHIR, or a refusal where there is no reading; every value stands in the bundle or in the list of what is not mapped."""
    try:
        made = convert(body, profile, SETTINGS)
    except CannotConvert as error:
        if found is not None and LONGER_THAN_A_PATTERN not in str(error):
            raise AssertionError("readings, and no FHIR of them") from error
        return
    assert found is not None
    text = made.json()
    bundle = json.loads(text)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert set(kinds) <= KINDS
    assert kinds.count("Observation") <= sum(1 for _ in found.each())
    if made.json() != convert(body, profile, SETTINGS).json():
        raise AssertionError("a second conversion gives another bundle")
    listed = " ".join(each.text for each in made.unmapped)
    strings = set(_strings(bundle))
    for reading in found.each():
        if reading.value and reading.value not in strings and reading.value not in listed:
            assert _stands(reading.value, text, listed), reading


def _stands(value: str, text: str, listed: str) -> bool:
    """Whether the value's letters and digits stand there, in whatever form."""
    # a number has no zeros in front in FHIR
    words = [word.lstrip("0") or "0" for word in "".join(each if each.isalnum() else " " for each in value).split()]
    return all(json.dumps(word, ensure_ascii=False)[1:-1] in text or word in listed for word in words)


def _strings(node: object) -> "list[str]":
    if isinstance(node, dict):
        return [text for child in node.values() for text in _strings(child)]
    if isinstance(node, list):
        return [text for child in node for text in _strings(child)]
    return [node] if isinstance(node, str) else []


def _of(pairs: Callable[[], stock.Stock]) -> Callable[[random.Random], tuple[Profile, bytes]]:
    """Choose a profile and mutate a body that is its own, or now and then another's."""

    @cache
    def bodies() -> list[bytes]:
        return [body for _, body in pairs()]

    def choose(dice: random.Random) -> tuple[Profile, bytes]:
        profile, body = dice.choice(pairs())
        return profile, mutated(body, dice, bodies())

    return choose


_astm, _hl7, _poct1a, _lines = _of(stock.astm), _of(stock.hl7), _of(stock.poct1a), _of(stock.lines)
_telemetry, _modbus, _tables = _of(stock.telemetry), _of(stock.modbus), _of(stock.tables)


def astm_records(dice: random.Random) -> bool:
    """Records: what they are for, what a query asks, readings."""
    profile, body = _astm(dice)
    records = read_records(body)
    assert purpose(records)
    for record in records:
        assert record.raw in body
    asked = asked_for(body)
    assert asked is None or all(asked)
    found = _readings(body, profile, dice)
    if found is not None:
        _no_value_is_lost(records, profile, found)
    return found is not None


def _no_value_is_lost(records: object, profile: Profile, found: Readings) -> None:
    """R-4 of every result stands in a reading or in the list."""
    del profile
    kept = "\0".join(
        [*(each.value + each.code + " ".join(each.notes) for each in found.each()), *(each.text for each in found.left)]
    )
    for record in records.of("R"):  # type: ignore[attr-defined]
        for part in record.field(4).split(record.delimiters.repeat):
            word = bytes(part).split(record.delimiters.component)[0].split(record.delimiters.escape)[0].strip()
            if word.isalnum() and word.isascii():
                assert word.decode() in kept, word


def device_messages(dice: random.Random) -> bool:
    """PCD-01 and LAW."""
    profile, body = _hl7(dice)
    return _readings(body, profile, dice) is not None


def poct1a_documents(dice: random.Random) -> bool:
    """Observations of POCT1-A."""
    profile, body = _poct1a(dice)
    return _readings(body, profile, dice) is not None


def prints(dice: random.Random) -> bool:
    """Printed reports."""
    profile, body = _lines(dice)
    return _readings(body, profile, dice) is not None


def payloads(dice: random.Random) -> bool:
    """JSON, SenML and Sparkplug; and by what a payload is known again."""
    profile, body = _telemetry(dice)
    said = identity_of(body, ("device", "seq", "ts", "patient.id"))
    assert len(said.encode()) < 1600  # it becomes a record's particular
    return _readings(body, profile, dice) is not None


def polls(dice: random.Random) -> bool:
    """Polls of Modbus devices, of every type of a point."""
    profile, body = _modbus(dice)
    return _readings(body, profile, dice) is not None


NAMES: Final = ("a.csv", "b.CSV", "c.hl7", "d.pdf", "e", ".hl7", "f.txt", "مريم.csv", "g.hl7.", "h.xml")


def files(dice: random.Random) -> bool:
    """Files of rows, and files that are messages whatever their names say."""
    if dice.random() < 0.5:
        profile, body = _tables(dice)
    else:
        profile, body = _hl7(dice)
    facts = facts_of(dice.choice(NAMES), body, types={"dat": "text/csv"})
    assert facts.content_type
    assert len(facts.message_type) <= 64
    if profile.language != "csv":
        return not facts.is_refused
    return _readings(body, profile, dice) is not None


LEVELS: Final = ("", "+", "#", "a", "b", "ward", "$SYS", "$share", "مريم", "a+", "a#", "\0", " ", "x" * 400)


def topics(dice: random.Random) -> bool:
    """Filters and topics: one that covers another means all that the other means; two that mean a topic overlap; the widest mean all."""
    names = [
        "/".join(dice.choice(LEVELS[: dice.choice((5, 14))]) for _ in range(dice.choice((1, 2, 2, 3, 40))))
        for _ in range(4)
    ]
    good = []
    for name in names:
        try:
            good.append(check_filter(name))
        except ValueError:
            continue
    theirs = [
        "/".join(dice.choice(("", "a", "b", "ward", "$SYS")) for _ in range(dice.choice((1, 2, 2, 3))))
        for _ in range(4)
    ]
    for topic in theirs:
        meaning = [each for each in good if matches(each, topic)]
        assert all(overlap(one, other) for one in meaning for other in meaning)
        assert bool(meaning) == any(matches(each, topic) for each in widest(good))
        for one in good:
            assert all(matches(one, topic) for other in meaning if covers(one, other))
    return bool(good)


@cache
def _profile_texts() -> list[bytes]:
    return stock.profiles()


def profiles(dice: random.Random) -> bool:
    """A profile that somebody writes: read, or refused with its key; one that was read reads a body or refuses it."""
    raw = mutated(dice.choice(_profile_texts()), dice, _profile_texts())
    try:
        profile = read_profile("a-profile", raw.decode("utf-8", "replace"))
    except ProfileProblem:
        return False
    if (
        profile.patterns
        or any(rule.pattern for rule in (*profile.quality, *profile.ignored))
        or profile.identity.nobody
    ):
        return True  # whatever such a pattern does, its author has written it
    bodies = [
        body
        for pairs in (stock.astm, stock.hl7, stock.telemetry, stock.modbus, stock.tables)
        for by, body in pairs()
        if by.language == profile.language
    ]
    if bodies:
        _readings(dice.choice(bodies), profile, dice)
    return True


def captures(dice: random.Random) -> bool:
    """A technician's capture: bodies and a story, whatever it is."""
    profile, body = dice.choice((_astm, _hl7, _poct1a, _lines, _telemetry, _modbus, _tables))(dice)
    raw = body
    if profile.language == "astm" and dice.random() < 0.7:
        raw = mutated(dice.choice(_sessions()), dice)
    found = cut(raw, profile)
    assert found.frames or not raw.strip()
    for each in found.bodies:
        _readings(each, profile, dice)
    return bool(found.bodies)


@cache
def _sessions() -> list[bytes]:
    return stock.framed_bodies()
