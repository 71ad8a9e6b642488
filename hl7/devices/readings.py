"""What a device said, in its own words: readings by sample, whatever the language they came in. Nothing here is mapped or converted."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hl7.convert.result import Unmapped


@dataclass(slots=True, kw_only=True)
class Reading:
    """One value as it was sent. `place`: where it stands. `system`: what its code is of, as the device names it, or ""."""

    place: str
    code: str
    text: str = ""
    system: str = ""
    sub_id: str = ""
    value: str = ""
    coded: tuple[str, str, str] | None = None  # code, text, system: where the value itself is a code
    unit: str = ""
    unit_system: str = ""
    range: str = ""
    flags: tuple[str, ...] = ()
    status: str = ""
    at: str = ""
    operator: str = ""
    instrument: str = ""
    none: str = ""  # why there is no value, where the transport knows
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom the device names. `name`: family, given, further given, suffix, prefix; or one text."""

    place: str = ""
    number: str = ""
    authority: str = ""
    name: tuple[str, ...] = ()
    birth_date: str = ""
    sex: str = ""


NOBODY = Person()


@dataclass(slots=True, kw_only=True)
class Sample:
    """The readings of one sample, or of one moment of a monitor or a fridge. `quality`: why it is no patient's, or ""."""

    place: str
    person: Person = NOBODY
    number: str = ""
    order: str = ""
    panel: str = ""
    panel_text: str = ""
    panel_system: str = ""
    specimen: str = ""
    collected_at: str = ""
    received_at: str = ""
    at: str = ""
    status: str = ""
    requester: str = ""
    lot: str = ""  # of a control, and its level
    level: str = ""
    quality: str = ""
    notes: list[str] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Readings:
    """All that one body says. `left`: what of it stands in no reading, with its place."""

    sender: str = ""
    serial_number: str = ""
    software: str = ""
    sent_at: str = ""
    samples: list[Sample] = field(default_factory=list)
    left: list[Unmapped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def each(self) -> Iterator[Reading]:
        """Yield every reading."""
        for sample in self.samples:
            yield from sample.readings


class NoReadings(Exception):
    """The bytes hold no result that can be read in this language. Its text says why, and holds nothing of them but places."""
