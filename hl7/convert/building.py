"""Resources while they are made: targets filled by path, references that get their ids last, ids made of what is named."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from hl7.convert.result import Json

_NAMESPACE: Final = bytes.fromhex("6f1d3f0c5a0b5a5e9d0e7761736c0001")  # ours; never changed, or every id changes

# Two mentions of one of these in a message are the same thing; of others each is a thing of its own.
SAME: Final = frozenset(
    {"Account", "Coverage", "Device", "Encounter", "EpisodeOfCare", "Location", "Medication", "Organization"}
    | {"Patient", "Practitioner", "RelatedPerson", "Specimen", "Appointment"}
)

Key = tuple["str | Resource", ...]
Step = tuple[str, str]  # a name, and: "" one element, "*" a new one of a list, else the list's element of that label


def stable_id(name: str) -> str:
    """Return a name's UUID (RFC 9562 version 5) in Wasl's namespace: the same for ever, whoever computes it."""
    digest = bytearray(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Resource:
    """One resource in the making; `reference` is shared by all who point to it and gets its text when ids are known."""

    __slots__ = ("body", "keys", "labelled", "last", "owned", "reference", "seen", "type")

    def __init__(self, kind: str) -> None:
        self.type = kind
        self.body: Json = {"resourceType": kind, "id": ""}
        self.reference: Json = {"reference": ""}
        self.keys: list[Key] = []
        self.labelled: dict[tuple[str, ...], Json] = {}
        self.last: dict[str, Json] = {}
        self.seen: set[str] = set()  # the segments that have filled it
        self.owned = True

    def put(self, steps: tuple[Step, ...], value: Any, pattern: Json | None) -> bool:
        """Set a value at a path; False where something else stands there. `pattern`: what a new list element also holds."""
        node = self.body
        walked: tuple[str, ...] = ()
        for name, kind in steps[:-1]:
            walked += (name, kind)
            node = self._step(node, name, kind, walked, pattern)
        name, kind = steps[-1]
        if not kind:
            return is_same(node.setdefault(name, value), value)
        if pattern is not None and isinstance(value, dict):
            value = {**_copy(pattern), **value}
        add(node.setdefault(name, []), value)
        return True

    def _step(self, node: Json, name: str, kind: str, walked: tuple[str, ...], pattern: Json | None) -> Json:
        if not kind:
            found: Json = node.setdefault(name, {})
            return found
        element = self.labelled.get(walked) if kind != "*" else None
        if element is None:
            element = _copy(pattern) if pattern is not None else {}
            node.setdefault(name, []).append(element)
            if kind != "*":
                self.labelled[walked] = element
        return element


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal; references are only as themselves, as ids come last."""
    return one is other or (one == other and not (isinstance(one, dict) and "reference" in one))


def add(elements: list[Any], value: Any) -> None:
    """Append a value that is not yet there."""
    if elements:
        for each in elements:
            if is_same(each, value):
                return
    elements.append(value)


def _copy(pattern: Any) -> Any:
    if isinstance(pattern, dict):
        return {name: _copy(value) for name, value in pattern.items()}
    return [_copy(each) for each in pattern] if isinstance(pattern, list) else pattern


@dataclass(slots=True)
class Draft:
    """The resources of one message, in the order in which they were begun; `scope` keeps facilities' ids apart."""

    scope: str
    position: str
    resources: list[Resource] = field(default_factory=list)
    entities: dict[tuple[str, str], Resource] = field(default_factory=dict)

    def begin(self, kind: str) -> Resource:
        """Return a new resource."""
        made = Resource(kind)
        self.resources.append(made)
        return made

    def entity(self, kind: str, key: str) -> tuple[Resource, bool]:
        """Return the thing of that key, and whether it is new to the message."""
        found = self.entities.get((kind, key))
        if found is not None:
            return found, False
        made = self.begin(kind)
        made.keys.append((key,))
        made.owned = False
        self.entities[kind, key] = made
        return made, True

    def finish(self) -> list[Resource]:
        """Give every resource its id; two mentions of one thing become one. Return those that remain."""
        by_id: dict[str, Resource] = {}
        for at, made in enumerate(self.resources):
            key = self._key(made, at)
            uid = stable_id(f"{self.scope}|{made.type}|{key}")
            if uid in by_id and made.type in SAME:
                _merge(by_id[uid].body, made.body)
                by_id[uid].owned |= made.owned
            else:
                number = 1
                while uid in by_id:
                    number += 1
                    uid = stable_id(f"{self.scope}|{made.type}|{key}|{number}")
                by_id[uid] = made
            made.body["id"] = uid
            made.reference["reference"] = f"{made.type}/{uid}"
        return list(by_id.values())

    def _key(self, made: Resource, at: int) -> str:
        """Return what names the resource; where nothing does, its place in this very message."""
        if not made.keys:
            return f"{self.position}#{at}"
        return "|".join(part if isinstance(part, str) else str(part.body["id"]) for part in made.keys[0])


def _merge(into: Json, other: Json) -> None:
    """Add what the other says more."""
    for name, value in other.items():
        if name not in into:
            into[name] = value
        elif isinstance(value, list) and isinstance(into[name], list):
            into[name] += [each for each in value if each not in into[name]]
