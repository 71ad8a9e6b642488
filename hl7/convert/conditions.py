"""Conditions of the tables: what a segment's fields say at once, and what only a message can say."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from hl7.convert.context import Context
from hl7.convert.reading import Segment

Condition = Callable[[Segment, Context], bool]
_TERM: Final = re.compile(r"(!?)(@event|\d+)(?:\.(\d+))?(?:(!?=)(\S+))?")


class Terms(NamedTuple):
    """A condition in two halves: the fields that must hold a value and those that must not, as bits; and what only a message can say."""

    valued: int = 0
    absent: int = 0
    rest: Condition | None = None

    def fits(self, valued: int) -> bool:
        """Tell whether the first half holds."""
        return valued & self.valued == self.valued and not valued & self.absent


ALWAYS: Final = Terms()


def condition_of(text: str | None) -> Terms:
    """Compile "8", "!8", "2=NM,SN", "21!=D", "@event=A11,A12", joined by " & "."""
    if not text:
        return ALWAYS
    terms = [_term(each) for each in text.split(" & ")]
    rest = [each.rest for each in terms if each.rest is not None]
    valued, absent = 0, 0
    for each in terms:
        valued, absent = valued | each.valued, absent | each.absent
    return Terms(valued, absent, _all(rest) if rest else None)


def _all(terms: list[Condition]) -> Condition:
    if len(terms) == 1:
        return terms[0]
    return lambda segment, ctx: all(term(segment, ctx) for term in terms)


def _term(text: str) -> Terms:
    match = _TERM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a condition: {text}")
    absent, name, component, comparison, values = match.groups()
    wanted = frozenset((values or "").split(","))
    if name == "@event":
        return Terms(rest=lambda _, ctx: (ctx.event in wanted) == (comparison == "="))
    at, part = int(name), int(component or 1)
    if comparison:
        return Terms(rest=lambda segment, _: (segment.peek(at, part) in wanted) == (comparison == "="))
    if component:
        return Terms(rest=lambda segment, _: bool(segment.peek(at, part)) != bool(absent))
    return Terms(absent=1 << at) if absent else Terms(valued=1 << at)
