"""A FHIR resource that remembers which of its values were read, so that the others can be listed with their paths."""

from collections.abc import Iterator
from typing import Any

from hl7.convert.json_text import Number
from hl7.convert.result import Json, Unmapped

NO_FIELD = "no field of the message takes it"
DEPTH_MAX = 60  # R4's resources go 15 deep; keeps a nest of brackets from exhausting the stack


class Node:
    """A value somewhere in a resource; one that is absent has children that are absent too."""

    __slots__ = ("path", "read", "value")

    def __init__(self, value: Any, path: str, read: set[str]) -> None:
        self.value = value
        self.path = path
        self.read = read

    def __getitem__(self, name: str) -> "Node":
        """Return a child by its name; of a list, the first element's."""
        value = self.value
        path = self.path
        if isinstance(value, list):
            value, path = (value[0] if value else None), f"{path}[0]"
        child = value.get(name) if isinstance(value, dict) else None
        return Node(child, f"{path}.{name}", self.read)

    def __bool__(self) -> bool:
        return self.value not in (None, "", [], {})

    def each(self) -> Iterator["Node"]:
        """Yield a list's elements; what is no list is its own only one."""
        if isinstance(self.value, list):
            for at, value in enumerate(self.value):
                yield Node(value, f"{self.path}[{at}]", self.read)
        elif self.value is not None:
            yield self

    def _simple(self) -> tuple[str, str]:
        """Return a simple value as text and its path; of a list, the first one's."""
        value, path = self.value, self.path
        if isinstance(value, list):
            value, path = (value[0] if value else None), f"{path}[0]"
        if value is None or isinstance(value, dict | list):
            return "", path
        if isinstance(value, bool):
            return ("true" if value else "false"), path
        return (value.digits if isinstance(value, Number) else str(value)), path

    def text(self) -> str:
        """Return a simple value as text, read."""
        text, path = self._simple()
        if text:
            self.read.add(path)
        return text

    def peek(self) -> str:
        """Return a simple value as text, which stays unread."""
        return self._simple()[0]

    def take(self) -> None:
        """Mark everything in it as read."""
        self.read.update(path for path, _ in leaves(self.value, self.path))


def leaves(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every simple value."""
    if depth > DEPTH_MAX:
        yield path, "(too deep)"
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}", depth + 1)
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from leaves(each, f"{path}[{at}]", depth + 1)
    elif value is not None:
        yield path, value.digits if isinstance(value, Number) else str(value)


def unread(resource: Json, path: str, read: set[str]) -> list[Unmapped]:
    """List every value of a resource that nobody read."""
    return [Unmapped(where, NO_FIELD, text) for where, text in leaves(resource, path) if where not in read]
