"""What a conversion is told and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from hl7.convert.json_text import dumps

VERSION: Final = "1"
"""Of tables and code together: raised with every change that can change an output, so that old ones can be run again."""

Json = dict[str, Any]


class CannotConvert(Exception):
    """The message has no conversion; `code` is one of `no-header`, `type`, `too-large`, `content`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the message stands as a record, as its header says it. `received_at`: FHIR's instant; `leaf`: 64 hex digits."""

    facility: str
    stream: str
    epoch: int
    seq: int
    leaf: str
    received_at: str

    @property
    def uri(self) -> str:
        """The record's position as a URI."""
        return f"urn:wasl:record:{self.facility}/{self.stream}/{self.epoch}/{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a site knows and a message does not say.

    `charset`, `charset_default`: as in `hl7.check.Rules`. `zone`: of times that name none (MSH-7's zone comes first);
    without it such times lose their time of day. `facility`: whose identifiers these are, where there is no origin.
    `systems`: URIs of assigning authorities and coding systems by the name that messages give them.
    """

    charset: str = ""
    charset_default: str = "utf-8"
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
