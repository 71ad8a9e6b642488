"""The one catalogue of errors: every code of the rooms below and of the node, with whose fault it is, the reply and the hint."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import hl7.errors
import node.errors
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


def _subclasses(base: type[Any]) -> Iterable[type[Any]]:
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)


@cache
def entries() -> Mapping[str, Entry]:
    """All entries by code. Raises ValueError where two share a code."""
    found: dict[str, Entry] = {}
    for base in (hl7.errors.Hl7Error, sync.errors.SyncError, node.errors.NodeError):
        for each in (base, *_subclasses(base)):
            _add(
                found,
                Entry(code=each.code, fault=each.fault, reply=each.reply, hint=each.hint, retryable=each.retryable),
            )
    for alarms in (sync.errors.ALARMS, node.errors.ALARMS):
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
