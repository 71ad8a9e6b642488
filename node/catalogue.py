"""The one catalogue of errors: every code of the rooms below and of the node, with whose fault it is, the reply and the hint."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import hl7.devices.astm_errors
import hl7.devices.errors
import hl7.devices.folder_errors
import hl7.devices.law_errors
import hl7.devices.line_errors
import hl7.devices.mqtt_errors
import hl7.devices.poct1a_errors
import hl7.devices.profile_errors
import hl7.errors
import hl7.fhir_errors
import hl7.soap_errors
import node.destinations.errors
import node.errors
import node.feeds.telemetry_errors
import node.lines.serial_errors
import sync.errors

SPEECHES: Final = ("en", "ar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One code: whose fault, the reply the peer gets ("none" where nobody waits), a hint, whether the same may pass later."""

    code: str
    fault: str
    reply: str
    hint: str
    retryable: bool

    def row(self) -> str:
        """Its line in docs/errors.md."""
        again = "yes" if self.retryable else "no"
        text = self.hint.replace("|", "\\|")
        return f"| {self.code} | {self.fault} | {self.reply} | {again} | {text} |"


def _subclasses(base: type[Any]) -> Iterable[type[Any]]:
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)


@cache
def entries() -> Mapping[str, Entry]:
    """All entries by code. Raises ValueError where two share a code."""
    found: dict[str, Entry] = {}
    for base in (
        hl7.errors.Hl7Error,
        hl7.fhir_errors.FhirError,
        hl7.soap_errors.SoapError,
        hl7.devices.errors.DeviceError,
        sync.errors.SyncError,
        node.errors.NodeError,
    ):
        for each in (base, *_subclasses(base)):
            _add(
                found,
                Entry(code=each.code, fault=each.fault, reply=each.reply, hint=each.hint, retryable=each.retryable),
            )
    for alarms in (
        sync.errors.ALARMS,
        node.errors.ALARMS,
        node.destinations.errors.ALARMS,
        node.feeds.telemetry_errors.ALARMS,
        hl7.devices.folder_errors.ALARMS,
        node.lines.serial_errors.ALARMS,
    ):
        for code, (fault, hint) in alarms.items():
            _add(found, Entry(code=code, fault=fault, reply="none", hint=hint, retryable=False))
    return dict(sorted(found.items()))


def hint(code: str) -> str:
    """The English hint of a code, or the code itself where it is unknown."""
    entry = entries().get(code)
    return entry.hint if entry else code


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if found.setdefault(entry.code, entry) != entry:
        raise ValueError(f"two errors share the code {entry.code}")


_PAGE: Final = """# Error codes

Written by `python -m node.catalogue`; a test holds this page to the code. Logs, replies, the technician's page and `wasl doctor` name these codes.
*Fault* is who has to act; *reply* what a waiting peer is told (MSA-1, or an HTTP status); *again* whether the same may pass later.
The gateway's own codes (GWY) stand in `gateway/errors.py`, the verdicts of the page (VRD) in `node/web/verdict.py`.

| code | fault | reply | again | what to do |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole of docs/errors.md."""
    return _PAGE + "".join(f"{entry.row()}\n" for entry in entries().values())


if __name__ == "__main__":
    sys.stdout.write(page())
