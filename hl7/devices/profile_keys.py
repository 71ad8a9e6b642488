"""The keys of a profile's tables, each taken once: what nobody takes is unknown, and told."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hl7.devices.profile_errors import ProfileProblem

Simple = str | int | float | bool

TEXT_MAX: Final = 400  # of one value: a sentence; patterns are shorter than a line
PATTERN_MAX: Final = 300  # what a technician can still read
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MISSING: Final = object()


class Keys:
    """A table under way; `place` is where it stands, for messages."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self._values = dict(values)
        self._place = place

    def close(self) -> None:
        """Refuse what nobody took."""
        for name in self._values:
            raise ProfileProblem(self._at(name), "unknown key; docs/devices.md lists those there are")

    def names(self) -> list[str]:
        """The names that are left, in their order."""
        return list(self._values)

    def text(self, name: str, default: str | None = None) -> str:
        """Take a text; without a default it must be there."""
        value = self._take(name, default)
        if value is None:
            raise ProfileProblem(self._at(name), "missing; a text belongs here")
        if not isinstance(value, str) or len(value) > TEXT_MAX:
            raise ProfileProblem(self._at(name), f"a text of at most {TEXT_MAX} characters belongs here")
        return value

    def one_of(self, name: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Take one of several words."""
        value = self._take(name, default)
        if value not in allowed:
            raise ProfileProblem(self._at(name), f"one of {', '.join(allowed)}")
        return str(value)

    def matching(self, name: str, pattern: re.Pattern[str], form: str) -> str:
        """Take a text of a form, or nothing."""
        value = self.text(name, "")
        if value and not pattern.fullmatch(value):
            raise ProfileProblem(self._at(name), form)
        return value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Take a whole number within bounds."""
        value = self._take(name, default)
        if type(value) is not int or not low <= value <= high:
            raise ProfileProblem(self._at(name), f"a whole number from {low} to {high}")
        return value

    def wholes(self, name: str, count_max: int) -> list[int]:
        """Take a list of whole numbers."""
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > count_max or any(type(each) is not int for each in value):
            raise ProfileProblem(self._at(name), f"a list of at most {count_max} whole numbers")
        return value

    def texts_of(self, name: str, count_max: int) -> tuple[str, ...]:
        """Take a list of texts; a single text is a list of one."""
        value = self._take(name, [])
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or len(found) > count_max or not all(_is_text(each) for each in found):
            raise ProfileProblem(self._at(name), f"a text, or a list of at most {count_max}")
        return tuple(found)

    def pattern(self, name: str) -> "Pattern | None":
        """Take a regular expression, or nothing."""
        value = self.text(name, "")
        return self._compiled(name, value) if value else None

    def patterns(self, name: str, count_max: int) -> Iterator["Pattern"]:
        """Take a list of regular expressions."""
        for each in self.texts_of(name, count_max):
            yield self._compiled(name, each)

    def _compiled(self, name: str, text: str) -> "Pattern":
        if len(text) > PATTERN_MAX:
            raise ProfileProblem(self._at(name), f"a pattern of at most {PATTERN_MAX} characters")
        try:
            return re.compile(text)
        except (
            re.error,
            OverflowError,
            RecursionError,
        ) as error:  # a count beyond the engine's, or brackets in brackets
            raise ProfileProblem(self._at(name), f"not a regular expression: {error}") from None

    def table(self, name: str) -> "Keys":
        """Take a table; an absent one is empty."""
        value = self._take(name, {})
        if not isinstance(value, dict):
            raise ProfileProblem(self._at(name), f"a table: [{self._at(name)}]")
        return Keys(value, self._at(name))

    def tables(self, name: str, count_max: int) -> Iterator["Keys"]:
        """Take a list of tables."""
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > count_max or not all(isinstance(each, dict) for each in value):
            raise ProfileProblem(self._at(name), f"at most {count_max} tables: [[{self._at(name)}]]")
        for at, each in enumerate(value):
            yield Keys(each, f"{self._at(name)}[{at + 1}]")

    def texts(self, count_max: int) -> dict[str, str]:
        """Take everything: texts by any name."""
        if len(self._values) > count_max:
            raise ProfileProblem(self._place, f"{len(self._values)} keys, {count_max} at most")
        return {name: self.text(name) for name in self.names()}

    def simple(self) -> dict[str, Simple]:
        """Take everything: switches whose names and values the feed's kind checks."""
        for name, value in self._values.items():
            if not _KEY.fullmatch(name) or not isinstance(value, str | int | float | bool):
                raise ProfileProblem(
                    self._at(name), "a switch: small letters and _, and a text, a number, true or false"
                )
        taken, self._values = self._values, {}
        return taken

    def chosen(self, allowed: Mapping[str, tuple[Simple, ...] | type[int]]) -> dict[str, Simple]:
        """Take everything: each known by name and value."""
        for name, value in self._values.items():
            choice = allowed.get(name)
            if choice is None:
                raise ProfileProblem(self._at(name), f"unknown key; known are {', '.join(allowed)}")
            if choice is int and (type(value) is not int or value <= 0):
                raise ProfileProblem(self._at(name), "a whole number above 0")
            if isinstance(choice, tuple) and (value not in choice or isinstance(value, bool)):
                raise ProfileProblem(self._at(name), f"one of {', '.join(map(str, choice))}")
        taken, self._values = self._values, {}
        return taken

    def _take(self, name: str, default: Any) -> Any:
        found = self._values.pop(name, _MISSING)
        return default if found is _MISSING else found

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


Pattern = re.Pattern[str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_MAX
