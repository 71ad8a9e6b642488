"""The tables compiled: `tables/segments.txt` and `tables/messages.txt` read once into rules that run on a segment.

The form of the tables is told in docs/convert.md.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hl7.convert.building import Resource, Step, add, is_same
from hl7.convert.codes import code_map, read_table
from hl7.convert.conditions import ALWAYS, Condition, Terms, condition_of
from hl7.convert.context import Context
from hl7.convert.naming import KeyPart, key_part
from hl7.convert.people import PEOPLE
from hl7.convert.reading import Segment
from hl7.convert.result import Json
from hl7.convert.special import SPECIAL
from hl7.convert.values import PLAIN, Convert

TAKEN: Final = "another value fills the element"
ONE_ONLY: Final = "the element takes one value"
TYPES: Final[dict[str, Convert]] = PLAIN | PEOPLE

ONE_TOO_MANY: Final = "more repetitions than are converted"
REPETITIONS_MAX: Final = (
    500  # of a field that fills a list; 4,128 published messages have 30. Each is compared with all before it
)
SHAPES_MAX: Final = 1000  # of one segment's filled fields; 4,128 published messages have 180 of PID

Rule = Callable[[Segment, Resource, Context], None]


@dataclass(slots=True)
class Block:
    """The rules by which one segment fills one resource. `where`: its line in the table."""

    segment: str
    variant: str
    resource: str
    where: str
    role: str = ""
    onto: str = ""  # the role it adds to, or nothing is done
    join: str = ""  # the role it adds to unless that has had this segment; else it begins a new one
    ends: tuple[str, ...] = ()
    notes: bool | None = None  # True: an NTE behind it belongs to it; False: to nothing
    condition: Terms = ALWAYS
    rows: list[tuple[Terms, Rule]] = field(default_factory=list)  # (what must hold, rule)
    finals: list[tuple[tuple[Step, ...], Any]] = field(default_factory=list)
    keys: list[list[KeyPart]] = field(default_factory=list)
    targets: list[tuple[str, str]] = field(default_factory=list)  # (path, type), for those who check the table

    def rules_for(self, valued: int) -> tuple[Rule, ...]:
        """Return the rules that have something to do where these fields hold values."""
        return tuple(rule for terms, rule in self.rows if terms.fits(valued))


class Plan:
    """What a segment's blocks have to do among the messages of a family, by the fields that hold values, as found so far."""

    __slots__ = ("_chosen", "blocks")

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self._chosen: dict[tuple[bool, ...], tuple[tuple[Block, tuple[Rule, ...]], ...]] = {}

    def steps(self, shape: tuple[bool, ...]) -> tuple[tuple[Block, tuple[Rule, ...]], ...]:
        """Return blocks and rules; one sender's segments nearly all fill the same fields."""
        found = self._chosen.get(shape)
        if found is None:
            if len(self._chosen) >= SHAPES_MAX:
                self._chosen.clear()
            valued = sum((1 << at for at, is_valued in enumerate(shape) if is_valued), start=0) | 1
            fitting = (block for block in self.blocks if block.condition.fits(valued))
            found = self._chosen[shape] = tuple((block, block.rules_for(valued)) for block in fitting)
        return found


@dataclass(frozen=True, slots=True)
class Family:
    """The messages that are converted alike: which variant of a segment's rules holds among them."""

    name: str
    variants: dict[str, str]


_STEP: Final = re.compile(r"([A-Za-z_]+)(?:\[(\*|[a-z0-9-]+)\])?")
_SOURCE: Final = re.compile(r"(\d+)(?:\.(\d+))?")
_ROW: Final = re.compile(r"(?P<body>.*?)(?:\s+with\s+(?P<pattern>\S+))?(?:\s+if\s+(?P<condition>.+))?")
_HEADER: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?::(?P<variant>[a-z]+))? > (?P<resource>[A-Za-z]+)"
    r"(?: as (?P<role>\w+))?(?: onto (?P<onto>\w+))?(?: join (?P<join>\w+))?"
    r"(?: ends (?P<ends>[\w,]+))?(?: (?P<notes>notes|silent))?(?: if (?P<condition>.+))?"
)


def _steps(text: str) -> tuple[Step, ...]:
    steps = []
    for each in text.split("."):
        match = _STEP.fullmatch(each)
        if match is None:
            raise ValueError(f"not a path of elements: {text}")
        steps.append((match[1], match[2] or ""))
    return tuple(steps)


def _literal(text: str) -> Any:
    """Return JSON where it is some, else the words as they stand."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class _Compiler:
    """Reads the segment tables line by line."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, str], list[Block]] = {}
        self.ignored: dict[str, str] = {}
        self.patterns: dict[str, Json] = {}
        self.block: Block

    def line(self, where: str, text: str) -> None:
        if text.startswith("pattern "):
            _, name, body = text.split(None, 2)
            self.patterns[name] = json.loads(body)
        elif text.startswith("nothing "):
            _, names, reason = text.split(None, 2)
            self.ignored |= dict.fromkeys(names.split(","), reason)
        elif not text.startswith(" "):
            self._header(where, text)
        else:
            self._row(text.strip())

    def _header(self, where: str, text: str) -> None:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise ValueError(f"not the head of a block: {text}")
        notes = {"notes": True, "silent": False}.get(match["notes"] or "")
        self.block = Block(
            segment=match["segment"],
            variant=match["variant"] or "",
            resource=match["resource"],
            where=where,
            role=match["role"] or match["resource"],
            onto=match["onto"] or "",
            join=match["join"] or "",
            ends=tuple((match["ends"] or "").split(",")) if match["ends"] else (),
            notes=notes,
            condition=condition_of(match["condition"]),
        )
        self.blocks.setdefault((self.block.segment, self.block.variant), []).append(self.block)

    def _row(self, text: str) -> None:
        block = self.block
        first, _, rest = text.partition(" ")
        rest = rest.strip()
        if first == "key":
            block.keys = [[key_part(word) for word in each.split()] for each in rest.split("|")]
        elif first == "default":
            target, _, value = rest.partition(" ")
            block.finals.append((_steps(target), _literal(value.strip())))
            block.targets.append((target, "="))
        elif rest.startswith("- "):
            block.rows.append((Terms(1 << int(first)), _reason(int(first), rest[2:].strip())))
        else:
            match = _ROW.fullmatch(text)
            assert match is not None  # noqa: S101  # it matches anything
            pattern = self.patterns[match["pattern"]] if match["pattern"] else None
            at, rule = self._rule(match["body"].split(None, 2), pattern)
            terms = condition_of(match["condition"])
            block.rows.append((Terms(terms.valued | 1 << at, terms.absent), _when(terms.rest, rule)))

    def _rule(self, words: list[str], pattern: Json | None) -> tuple[int, Rule]:
        first, second, third = (*words, "")[:3]
        if first == "link":
            self.block.targets.append((second, "Reference"))
            return 0, _link(_steps(second), third, pattern)
        if first == "into":
            self.block.targets.append((f"{second}:{third}", "Reference"))
            return 0, _into(second, _steps(third), pattern)
        if first == "!":
            return 0, _special(second)
        if first == "=":
            self.block.targets.append((second, "="))
            return 0, _fixed(_steps(second), _literal(third), pattern)
        match = _SOURCE.fullmatch(first)
        if match is None:
            raise ValueError(f"not a field: {first}")
        at = int(match[1])
        if second == "used":
            return at, _used(at)
        if second == "!":
            return at, _special(third)
        kind, _, argument = third.rstrip(")").partition("(")
        if argument and kind in {"code", "CWE", "Coding", "ID", "bound"}:
            code_map(argument)  # or the table names one that is not there
        self.block.targets.append((second, kind))
        return at, _mapped(at, int(match[2] or 0), _steps(second), (TYPES[kind], argument, pattern))


def _when(condition: Condition | None, rule: Rule) -> Rule:
    if condition is None:
        return rule

    def run(segment: Segment, made: Resource, ctx: Context) -> None:
        if condition(segment, ctx):
            rule(segment, made, ctx)

    return run


def _mapped(at: int, component: int, steps: tuple[Step, ...], how: tuple[Convert, str, Json | None]) -> Rule:
    """Compile "this field into that element"; only where a list is on the way are further repetitions read."""
    convert, argument, pattern = how
    if not component and pattern is None and len(steps) == 1:
        return _plain(at, steps[0], convert, argument)
    is_list = any(kind == "*" for _, kind in steps)
    most, beyond = (REPETITIONS_MAX, ONE_TOO_MANY) if is_list else (1, ONE_ONLY)

    def run(segment: Segment, made: Resource, ctx: Context) -> None:
        parts = segment.reps(at)
        for part in parts[:most]:
            if component:
                if not part.has(component):
                    continue
                part = part.sub(component)  # noqa: PLW2901  # the component is what is meant
            value = convert(part, ctx, argument)
            if value is not None and not made.put(steps, value, pattern):
                _unread(part, TAKEN)
        for part in parts[most:]:
            part.segment.reasons.setdefault(part.where, beyond)

    return run


def _plain(at: int, step: Step, convert: Convert, argument: str) -> Rule:
    """Compile the same for an element of the resource itself, as most rows are."""
    name, kind = step

    def one(segment: Segment, made: Resource, ctx: Context) -> None:
        parts = segment.reps(at)
        value = convert(parts[0], ctx, argument)
        if value is not None and not is_same(made.body.setdefault(name, value), value):
            _unread(parts[0], TAKEN)
        for part in parts[1:]:
            segment.reasons.setdefault(part.where, ONE_ONLY)

    def many(segment: Segment, made: Resource, ctx: Context) -> None:
        parts = segment.reps(at)
        for part in parts[:REPETITIONS_MAX]:
            value = convert(part, ctx, argument)
            if value is not None:
                add(made.body.setdefault(name, []), value)
        for part in parts[REPETITIONS_MAX:]:
            segment.reasons.setdefault(part.where, ONE_TOO_MANY)

    return many if kind == "*" else one


def _unread(part: Any, reason: str) -> None:
    """List a whole part although it was read."""
    part.read = 0
    part.children = None
    part.segment.note(part.where, reason)


def _reason(at: int, reason: str) -> Rule:
    def run(segment: Segment, _made: Resource, _ctx: Context) -> None:
        segment.note(f"{segment.where}-{at}", reason)

    return run


def _used(at: int) -> Rule:
    def run(segment: Segment, _made: Resource, _ctx: Context) -> None:
        segment.get(at)

    return run


def _special(name: str) -> Rule:
    return SPECIAL[name]


def _fixed(steps: tuple[Step, ...], value: Any, pattern: Json | None) -> Rule:
    def run(_segment: Segment, made: Resource, _ctx: Context) -> None:
        made.put(steps, value, pattern)

    return run


def _link(steps: tuple[Step, ...], role: str, pattern: Json | None) -> Rule:
    def run(_segment: Segment, made: Resource, ctx: Context) -> None:
        other = ctx.current.get(role)
        if other is not None and other is not made:
            made.put(steps, other.reference, pattern)

    return run


def _into(role: str, steps: tuple[Step, ...], pattern: Json | None) -> Rule:
    def run(_segment: Segment, made: Resource, ctx: Context) -> None:
        other = ctx.current.get(role)
        if other is not None and other is not made:
            other.put(steps, made.reference, pattern)

    return run


def _compile() -> tuple[dict[tuple[str, str], list[Block]], dict[str, str]]:
    compiler = _Compiler()
    for name in ("patterns.txt", "people.txt", "visits.txt", "orders.txt", "medication.txt", "others.txt"):
        for number, line in read_table(name):
            try:
                compiler.line(f"{name}:{number}", line)
            except (ValueError, KeyError, StopIteration) as error:
                raise ValueError(f"{name}:{number}: {error}") from error
    return compiler.blocks, compiler.ignored


BLOCKS, IGNORED = _compile()


def _families() -> tuple[dict[str, Family], dict[str, Family]]:
    """Read messages.txt: "family NAME SEG=variant ..." and "types NAME ADT ORU^R01 ..."."""
    families: dict[str, Family] = {}
    types: dict[str, Family] = {}
    for number, line in read_table("messages.txt"):
        word, name, *rest = line.split()
        if word == "family":
            variants = dict(each.split("=", 1) for each in rest)
            for segment, variant in variants.items():
                if variant != "none" and (segment, variant) not in BLOCKS:
                    raise ValueError(f"messages.txt:{number}: no rules {segment}:{variant}")
            families[name] = Family(name, variants)
        else:
            types |= dict.fromkeys(rest, families[name])
    return families, types


_, TYPES_CONVERTED = _families()


def family_of(code: str, event: str) -> Family | None:
    """Return how a message type is converted; None where it is not."""
    return TYPES_CONVERTED.get(f"{code}^{event}") or TYPES_CONVERTED.get(code)


_PLANS: Final[dict[tuple[str, str], Plan]] = {}
_NOTHING: Final = Plan([])


def plan_of(segment: str, family: Family) -> Plan:
    """Return what a segment's rules do among the messages of a family."""
    plan = _PLANS.get((family.name, segment))
    if plan is None:
        blocks = BLOCKS.get((segment, family.variants.get(segment, "")))
        if not blocks:
            return _NOTHING  # and nothing is kept of a name that a sender made up
        plan = _PLANS[family.name, segment] = Plan(blocks)
    return plan
