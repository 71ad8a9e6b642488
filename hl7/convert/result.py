"""What a conversion is told and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from hl7.convert.json_text import dumps

VERSION: Final = "3"
"""Of tables and code together: raised with every change that can change an output, so that old ones can be run again."""

Json = dict[str, Any]

IsLate = Callable[[], bool]
"""Asked now and then while a message is converted: True ends it with the code `too-slow`. Nothing here reads a clock."""


def never() -> bool:
    """Tell that there is time."""
    return False


class CannotConvert(Exception):
    """The message has no conversion; `code` is one of `no-header`, `type`, `too-large`, `too-slow`, `content`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the message stands as a record, as its header says it. `received_at`: FHIR's instant; `leaf`: 64 hex digits.

    `part`: which message of the record's batch, from 0.
    """

    facility: str
    stream: str
    epoch: int
    seq: int
    leaf: str
    received_at: str
    part: int = 0

    @property
    def uri(self) -> str:
        """The record's position as a URI."""
        place = f"urn:wasl:record:{self.facility}/{self.stream}/{self.epoch}/{self.seq}"
        return f"{place}/{self.part}" if self.part else place

    @property
    def name(self) -> str:
        """What ids are made of where nothing else names a thing: the leaf, which a record keeps in every epoch, or the position."""
        return f"{self.leaf}/{self.part}" if self.leaf else self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a site knows and a message does not say.

    `charset`, `charset_default`: as in `hl7.check.Rules`. `local_escapes`: `local` of `hl7.text.Text`.
    `zone`: of times that name none (MSH-7's zone comes first);
    without it such times lose their time of day. `facility`: whose identifiers these are, where there is no origin.
    `systems`: URIs of assigning authorities and coding systems by the name that messages give them.
    """

    charset: str = ""
    charset_default: str = "utf-8"
    local_escapes: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None
    facility: str = ""
    systems: Mapping[str, str] = field(default_factory=dict)


class Unmapped(NamedTuple):
    """A value of the message that no resource holds: its path ("PID-3[2].7"), why, and the text as it stands."""

    path: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A transaction Bundle, and everything of the message that is not in it.

    `mentioned`: "Type/id" of the resources that the message only speaks of and is no authority for: a server may know
    more of them. `notes`: what was done to the whole, such as bytes that are no text.
    """

    bundle: Json
    unmapped: tuple[Unmapped, ...]
    mentioned: frozenset[str]
    notes: tuple[str, ...]
    version: str = VERSION

    def json(self) -> str:
        """Return the Bundle as JSON text, numbers digit by digit."""
        return dumps(self.bundle)

    def outcome(self) -> Json:
        """Return the unmapped values as an OperationOutcome: paths and reasons, no text of the message."""
        issues = [
            {"severity": "information", "code": "incomplete", "diagnostics": each.reason, "expression": [each.path]}
            for each in self.unmapped
        ]
        issues += [{"severity": "warning", "code": "processing", "diagnostics": note} for note in self.notes]
        everything = {"severity": "information", "code": "informational", "diagnostics": "everything is mapped"}
        return {"resourceType": "OperationOutcome", "issue": issues or [everything]}
