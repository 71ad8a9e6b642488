"""What is wrong in a configuration, as a technician reads it: file, line, key, what is allowed, the nearest key."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args

from pydantic import BaseModel, Discriminator, Tag, ValidationError
from pydantic_core import ErrorDetails

from node.config.toml_lines import Lines, Place

TAG = "kind:"  # of a table that may be of several kinds: pydantic puts it into the place of a problem, where the file has nothing
VALUE_CHARACTERS_MAX = 80  # of a wrong value in a message: enough to find it, and a line stays a line


def by_kind(of_no_kind: type[BaseModel], **tables: type[BaseModel]) -> Any:
    """Give the type of a table that may be of several kinds, by its key `kind`; what is none of them is read as `of_no_kind`, and refused."""

    def tag(values: Any) -> str:
        kind = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
        return f"{TAG}{kind}" if kind in tables else f"{TAG}none"

    tagged = [Annotated[table, Tag(f"{TAG}{kind}")] for kind, table in {**tables, "none": of_no_kind}.items()]
    return Annotated[Union[tuple(tagged)], Discriminator(tag)]  # noqa: UP007  # a tuple's members cannot stand between bars


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One wrong place. `line` is 0 where the file itself is the problem; `allowed` and `nearest` may be empty."""

    file: str
    line: int
    key: str
    message: str
    allowed: tuple[str, ...] = ()
    nearest: str = ""

    def __str__(self) -> str:
        """Write `file:line key: message`."""
        place = f"{self.file}:{self.line} {self.key}" if self.line else self.file
        allowed = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        nearest = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{place.rstrip()}: {self.message}{allowed}{nearest}"


class ConfigError(Exception):
    """The site's: the configuration is refused whole, with everything that is wrong in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """Write one problem a line."""
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configuration file that is valid TOML: its values and where they stand."""

    file: Path
    values: dict[str, Any]
    lines: Lines

    def problem(self, place: Place, message: str, *, allowed: tuple[str, ...] = (), nearest: str = "") -> Problem:
        """Locate a problem: in this file, at `place`'s line."""
        return Problem(
            file=str(self.file),
            line=self.lines.find(place),
            key=self._key(place),
            message=message,
            allowed=allowed,
            nearest=nearest,
        )

    def _key(self, place: Place) -> str:
        """Write ("feeds", 0, "tls", "key") as feeds[his].tls.key, or feeds[#1] where the feed has no name."""
        written = ""
        value: Any = self.values
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                value = None
            if isinstance(step, str):
                written += f".{step}" if written else step
            else:
                name = value.get("name") if isinstance(value, dict) else None
                written += f"[{name}]" if isinstance(name, str) else f"[#{step + 1}]"
        return written


def problems_of(refusal: ValidationError, model: type[BaseModel], source: Source) -> list[Problem]:
    """Turn pydantic's errors into problems, in the order of the lines."""
    problems = [_problem(error, model, source) for error in refusal.errors(include_url=False)]
    return sorted(problems, key=lambda problem: problem.line)


def _problem(error: ErrorDetails, model: type[BaseModel], source: Source) -> Problem:
    tagged: Place = error["loc"]
    place = tuple(step for step in tagged if not (isinstance(step, str) and step.startswith(TAG)))
    value = error["input"]
    match error["type"]:
        case "extra_forbidden":
            allowed = _keys_at(model, tagged[:-1])
            return source.problem(place, "unknown key", allowed=allowed, nearest=_nearest(str(place[-1]), allowed))
        case "missing":
            return source.problem(place, "is missing")
        case "model_type" | "model_attributes_type":
            return source.problem(place, "must be a table", allowed=_keys_at(model, tagged))
        case "tuple_type":
            return source.problem(place, "must be a list")
        case "literal_error":
            allowed = tuple(re.findall(r"'([^']*)'", error["ctx"]["expected"]))
            message = f"this release does not take {_shown(value)}"
            return source.problem(place, message, allowed=allowed, nearest=_nearest(str(value), allowed))
        case "value_error":
            return source.problem(place, f"{_shown(value)} {error['ctx']['error']}")
    return source.problem(place, f"{_shown(value)}: {error['msg']}")


def _shown(value: object) -> str:
    """Quote a wrong value, its first line only: somebody may have pasted a key where its path belongs."""
    first_line, *more = str(value).splitlines() or [""]
    if more or len(first_line) > VALUE_CHARACTERS_MAX:
        first_line = first_line[:VALUE_CHARACTERS_MAX] + "…"
    return f'"{first_line}"' if isinstance(value, str) else first_line


def _nearest(written: str, allowed: tuple[str, ...]) -> str:
    """Guess what was meant: the most similar, else the one that holds what was written (ca: client_ca)."""
    similar = difflib.get_close_matches(written, allowed, n=1, cutoff=0.5)
    holding = [each for each in allowed if written and written in each.split("_")]
    return next(iter(similar + holding), "")


def _keys_at(model: type[BaseModel], place: Place) -> tuple[str, ...]:
    """List the keys that the table at `place` may have."""
    annotation: object = model
    for step in place:
        if isinstance(step, str):
            annotation = _tagged(annotation, step) if step.startswith(TAG) else model.model_fields[step].annotation
            model = next(_models_in(annotation), model)
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _tagged(annotation: object, tag: str) -> object:
    """Find the table with this tag inside a type."""
    inner = get_args(annotation)
    if any(getattr(each, "tag", None) == tag for each in inner):
        return inner[0]
    return next((found for each in inner if (found := _tagged(each, tag))), None)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Find the tables inside a type: Tls | None -> Tls, tuple[Feed, ...] -> Feed."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
