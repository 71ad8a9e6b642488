"""Rules of a feed that look into a message: to which stream it goes, or that it is not wanted. Data, not code; the first that matches decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as _field
from typing import Final

from hl7.globs import Globs, compile_globs, is_allowed_sender, is_allowed_type
from hl7.message import Message, Path, Route
from hl7.separators import Separators

PLACES_MAX: Final = 8  # of one rule: each is looked for in all segments of the message, before it is stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. All that it names must hold; a rule that names nothing holds for every message. ValueError on a path that cannot be.

    `types`, `senders`: globs as in `Rules`. `when`: paths and the values of which one must stand there, in any occurrence of the segment and
    any repetition of the field. `stream`: where such a message goes; empty: it is not wanted, which is a refusal and is recorded.
    """

    types: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()
    stream: str = ""
    type_globs: Globs = _field(init=False, repr=False, compare=False)
    sender_globs: Globs = _field(init=False, repr=False, compare=False)
    places: tuple[tuple[Path, frozenset[bytes]], ...] = _field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.when) > PLACES_MAX:
            raise ValueError(f"a rule looks at {PLACES_MAX} places at most")
        places = tuple((Path.parse(path), frozenset(value.encode() for value in values)) for path, values in self.when)
        object.__setattr__(self, "type_globs", compile_globs(self.types, "^"))
        object.__setattr__(self, "sender_globs", compile_globs(self.senders, "|"))
        object.__setattr__(self, "places", places)


def choose(raw: bytes, route: Route, separators: Separators, rules: tuple[Rule, ...]) -> Rule | None:
    """Give the first rule that holds for a message; None where none does. One pass over the message for each rule that asks for values."""
    for rule in rules:
        if rule.types and not is_allowed_type(rule.type_globs, route):
            continue
        if rule.senders and not is_allowed_sender(rule.sender_globs, route, separators):
            continue
        if all(_stands(raw, path, values) for path, values in rule.places):
            return rule
    return None


def _stands(raw: bytes, path: Path, values: frozenset[bytes]) -> bool:
    return any(value in values for value in values_at(Message(raw), path))


def values_at(message: Message, path: Path) -> Iterator[bytes]:
    """Every value at a path: of all occurrences of its segment and all repetitions of its field, unless it names one. Linear in the message."""
    separators, seen = message.separators, 0
    mark = bytes([separators.field])
    for name, (start, end) in message.segments():
        if name != path.segment:
            continue
        seen += 1
        if path.occurrence > 1 and seen != path.occurrence:
            continue
        fields = message.raw[start:end].split(mark, path.kernel[2] + 1)
        if len(fields) > path.kernel[2]:
            yield from _within(fields[path.kernel[2]], path, separators)


def _within(field: bytes, path: Path, separators: Separators) -> Iterator[bytes]:
    if path.is_undivided:
        yield field
        return
    repetitions = _divided(field, separators.repetition)
    if path.repetition:
        repetitions = repetitions[path.repetition - 1 : path.repetition]
    for repetition in repetitions:
        part = _part(repetition, separators.component, path.component)
        if part is not None:
            part = _part(part, separators.subcomponent, path.subcomponent)
        if part is not None:
            yield part


def _divided(value: bytes, mark: int | None) -> list[bytes]:
    return [value] if mark is None else value.split(bytes([mark]))


def _part(value: bytes, mark: int | None, number: int) -> bytes | None:
    """Give part `number` of a value, counted from 1; 0 is the whole."""
    if not number:
        return value
    parts = _divided(value, mark)
    return parts[number - 1] if number <= len(parts) else None
