"""JSON of a sender read within bounds: values, depth, members that stand twice, numbers that are none; and where in the resource."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from hl7.fhir_errors import DuplicateKey, FhirError, NotANumber, TooDeep, TooManyValues, Unreadable

VALUES_MAX = 1_000_000  # 16 MiB of small Observations hold half as many; a value of two bytes takes a hundred in memory
DEPTH_MAX = 100  # objects and lists within each other; official examples stay below 20, a nested Questionnaire below 60
PROBLEMS_MAX = 10  # of one kind that are named: more say nothing new
BOM: Final = b"\xef\xbb\xbf"

NUMBER: Final = object()  # every number: facts need none, and one object for all is a bound on memory
NO_NUMBER: Final = object()


class Read(NamedTuple):
    """A value, and what is wrong with its text though it can be read."""

    value: Any
    problems: list[FhirError]


def read(body: bytes) -> Read:
    """Read a body. Raises Unreadable, TooDeep, TooManyValues; what a lenient reader passes over stands in `problems`."""
    if body.count(b",") + body.count(b"{") + body.count(b"[") > VALUES_MAX:
        raise TooManyValues(detail=f"More than {VALUES_MAX} values")
    doubled: list[tuple[dict[str, Any], str]] = []

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs) and len(doubled) < PROBLEMS_MAX:
            doubled.append((made, _twice(pairs)))
        return made

    strange: list[str] = []

    def note(name: str) -> object:
        strange[:] = [name]
        return NO_NUMBER

    try:
        # RFC 8259 8.1: UTF-8, and a reader may pass over a byte order mark
        text = body.removeprefix(BOM).decode()
        value = json.loads(
            text, object_pairs_hook=make, parse_int=_number, parse_float=_number, parse_constant=note
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise Unreadable(detail=f"Not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Unreadable(detail=f"Not JSON at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise TooDeep(detail=f"Deeper than {DEPTH_MAX}") from None
    if not _is_within(value, DEPTH_MAX):
        raise TooDeep(detail=f"Deeper than {DEPTH_MAX}")
    return Read(value, list(_problems(value, doubled, strange=bool(strange))))


def _number(_text: str) -> object:
    return NUMBER


def _twice(pairs: list[tuple[str, Any]]) -> str:
    names = [name for name, _ in pairs]
    return next(name for place, name in enumerate(names) if name in names[:place])


def _is_within(value: Any, depth: int) -> bool:
    """Whether no object or list lies deeper; level by level, so it recurses nowhere."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            child
            for node in level
            if type(node) is dict or type(node) is list
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return True
    return False


# ---- where: only looked for once something is wrong ---------------------------------------------------------------------------
def _problems(value: Any, doubled: list[tuple[dict[str, Any], str]], *, strange: bool) -> Iterator[FhirError]:
    if not doubled and not strange:
        return
    twice = {id(made): name for made, name in doubled}
    left = PROBLEMS_MAX
    for node, place in places(value):
        if id(node) in twice:
            yield DuplicateKey(f"{place}.{element(twice.pop(id(node)))}")
        elif node is NO_NUMBER and left:
            left -= 1
            yield NotANumber(place)
    for name in twice.values():  # it lies in a member that stands twice itself, and was lost with it
        yield DuplicateKey(element(name))


def places(value: Any) -> Iterator[tuple[Any, str]]:
    """Every value with its FHIRPath, from the outside in."""
    kind = value.get("resourceType") if isinstance(value, dict) else None
    waiting: list[tuple[Any, str]] = [(value, element(kind) if isinstance(kind, str) else "%resource")]
    while waiting:
        node, place = waiting.pop()
        yield node, place
        if isinstance(node, dict):
            waiting += [(child, f"{place}.{element(name)}") for name, child in reversed(node.items())]
        elif isinstance(node, list):
            waiting += [(child, f"{place}[{at}]") for at, child in reversed(list(enumerate(node)))]


def element(name: str) -> str:
    """A member's name as it may stand in an answer: one that no element of FHIR can have is not repeated to the sender, nor kept."""
    return name if name.isascii() and name.isidentifier() and len(name) <= NAME_CHARACTERS_MAX else "(unknown)"


NAME_CHARACTERS_MAX = 64  # the longest element of R4 has 36
