"""What a resource is known by: the parts of a table's `key` rows, read without being marked as read."""

from typing import NamedTuple

from hl7.convert.building import Key, Resource
from hl7.convert.context import Context
from hl7.convert.reading import Part, Segment

_PREFERRED = ("MR", "MRN", "PI", "PT", "")  # of a patient's identifiers: the facility's own comes first


class KeyPart(NamedTuple):
    """A word of a `key` row, such as "@Patient", "=al1", "cx:3", "2.2?": its kind ("" is a plain value), name, field, component."""

    kind: str
    name: str
    field: int
    component: int
    may_miss: bool


def key_part(word: str) -> KeyPart:
    """Read a word of a table."""
    bare, may_miss = word.rstrip("?"), word.endswith("?")
    if bare[0] in "@=":
        return KeyPart(bare[0], bare[1:], 0, 0, may_miss)
    kind, mark, rest = bare.rpartition(":")
    field, _, component = rest.partition(".")
    return KeyPart(kind if mark else "", "", int(field), int(component or 1), may_miss)


def key_of(alternatives: list[list[KeyPart]], segment: Segment, ctx: Context) -> Key | None:
    """Return the first alternative all of whose parts are there; None where none is."""
    for words in alternatives:
        found: list[str | Resource] = []
        for word in words:
            part = _part(word, segment, ctx)
            if part:
                found.append(part)
            elif word.may_miss:
                found.append("")
            else:
                break
        else:
            return tuple(found)
    return None


def _part(word: KeyPart, segment: Segment, ctx: Context) -> str | Resource | None:
    kind, name, at, component, _ = word
    if kind == "@":
        return ctx.current.get(name)
    if kind == "=":
        return name
    if not segment.has(at):
        return None
    if not kind:
        return segment.peek(at, component)
    parts = segment.reps(at)
    if kind == "cx":
        return _identifier(parts, ctx)
    if kind == "ei":
        return _entity(parts[0], ctx)
    if kind == "eip":
        part = parts[0]
        for sub in (1, 2):
            if part.has(sub) and (found := _peeking(part, sub, ctx)):
                return found
        return None
    first = parts[0]
    return first.peek(1) or first.peek(4) or first.peek(2) or first.peek(9)


def _identifier(parts: list[Part], ctx: Context) -> str | None:
    """Return system and value of the best of several CX: one of a preferred type, else the first."""
    valued = [part for part in parts if part.has(1)]
    if not valued:
        return None
    chosen = min(valued, key=lambda part: _rank(part.peek(5)))
    return f"{_authority(chosen, 4, ctx)}|{chosen.peek(1)}"


def _rank(kind: str) -> int:
    return _PREFERRED.index(kind) if kind in _PREFERRED else len(_PREFERRED)


def _authority(part: Part, at: int, ctx: Context) -> str:
    if not part.has(at):
        return ""
    name, uid, kind = (*part.peek(at).split(part.segment.dialect.subcomponent), "", "")[:3]
    return ctx.authority(name, uid, kind)


def _entity(part: Part, ctx: Context) -> str | None:
    value = part.peek(1)
    return f"{ctx.authority(part.peek(2), part.peek(3), part.peek(4))}|{value}" if value else None


def _peeking(part: Part, sub: int, ctx: Context) -> str | None:
    values = (*part.peek(sub).split(part.segment.dialect.subcomponent), "", "", "")[:4]
    return f"{ctx.authority(*values[1:])}|{values[0]}" if values[0] else None
