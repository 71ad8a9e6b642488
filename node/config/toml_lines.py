"""Where each key of a TOML text stands: tomllib gives the values, a technician needs the line.

Only for text that tomllib has accepted: what is recognised here need not be checked again.
"""

import re
import tomllib
from dataclasses import dataclass

Place = tuple[str | int, ...]  # keys and array positions, as in pydantic's `loc`: ("feeds", 0, "tls", "key")

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n|[^"'\#\[\]{}\n]+''',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Lines:
    """The line, from 1, of every table header and every key that is assigned."""

    of: dict[Place, int]

    def find(self, place: Place) -> int:
        """Find the line of `place` or of the nearest thing around it: an absent key has its table's line, else line 1."""
        while place and place not in self.of:
            place = place[:-1]
        return self.of.get(place, 1)


def read_lines(text: str) -> Lines:
    """Walk the statements of a valid TOML text once."""
    of: dict[Place, int] = {}
    last_of: dict[Place, int] = {}  # [[arrays]] -> position of the element under way
    table: Place = ()
    at, line = 0, 1
    while at < len(text):
        start = at
        if header := _HEADER.match(text, at):
            table = _enter(_parts(header[2]), last_of, opens_element=header[1] == "[[")
            of.setdefault(table, line)
            at = _after_line(text, header.end())
        elif assignment := _ASSIGNMENT.match(text, at):
            place: Place = table
            for part in _parts(assignment[1]):
                place = (*place, part)
                of.setdefault(place, line)
            at = _after_value(text, assignment.end())
        else:  # blank or a comment
            at = _after_line(text, at)
        line += text.count("\n", start, at)
    return Lines(of)


def _parts(key: str) -> list[str]:
    """`a."b.c"` -> ["a", "b.c"]; tomllib itself undoes the quoting."""
    parts = []
    tree = tomllib.loads(f"{key} = 0")
    while isinstance(tree, dict):
        ((part, tree),) = tree.items()
        parts.append(part)
    return parts


def _enter(parts: list[str], last_of: dict[Place, int], *, opens_element: bool) -> Place:
    """Give the place that a header names; inside an array of tables that is its last element (TOML 1.0, Array of Tables)."""
    place: Place = ()
    for depth, part in enumerate(parts, start=1):
        place = (*place, part)
        if opens_element and depth == len(parts):
            last_of[place] = last_of.get(place, -1) + 1
        if place in last_of:
            place = (*place, last_of[place])
    return place


def _after_value(text: str, at: int) -> int:
    """Where the statement ends: the first line end outside brackets and strings."""
    depth = 0
    while token := _TOKEN.match(text, at):
        at = token.end()
        if token[0] in {"[", "{"}:
            depth += 1
        elif token[0] in {"]", "}"}:
            depth -= 1
        elif token[0] == "\n" and depth == 0:
            break
    return at


def _after_line(text: str, at: int) -> int:
    line_end = text.find("\n", at)
    return len(text) if line_end < 0 else line_end + 1
