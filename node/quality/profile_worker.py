"""Checks HL7 v2 messages against message profiles by hl7apy, in a process: `python -m node.quality.profile_worker [PROFILE…]`; messages in, findings out.

Before each message stands one byte: by which of the profiles, counted from 1; 0 is the standard's own structure of its version.

Its parent kills it where it takes too long: one message can cost hl7apy seconds. It never writes a message, and what it finds names no value of one.
"""

import io
import pickle
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from hl7apy.consts import VALIDATION_LEVEL  # type: ignore[import-untyped]  # it brings no types
from hl7apy.exceptions import HL7apyException  # type: ignore[import-untyped]  # it brings no types
from hl7apy.parser import parse_message  # type: ignore[import-untyped]  # it brings no types

from node.quality.profile import NOT_CHECKED
from node.worker_process import confine, serve

MEMORY_BYTES_MAX = 512 * 1024 * 1024  # of address space: a large message's tree takes some hundred megabytes
PROFILE_BYTES_MAX = 16 * 1024 * 1024  # an ORU's has some hundred kilobytes
FINDINGS_MAX, TEXT_CHARACTERS_MAX = 200, 200

UNREAD = object()
NO_PROFILE = f"{NOT_CHECKED} the profile cannot be read"

_VALUE = re.compile(r"^Value .* not in table", re.DOTALL)
_QUOTED = re.compile(r"(['\"]).*?\1", re.DOTALL)


class _Reader(pickle.Unpickler):
    """A profile is dictionaries, lists and texts, as hl7apy's own parser writes it; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:  # what pickle asks for anything that is not plain data
        raise pickle.UnpicklingError(f"a profile holds plain data, not {module}.{name}")


def read_profile(data: bytes) -> Any:
    """Read a profile that `hl7apy_profile_parser` wrote. Raises ValueError."""
    try:
        found = _Reader(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message profile: {error}") from error
    if not isinstance(found, dict) or not found:
        raise ValueError("not a message profile: it names no message")
    return found


def findings(message: str, profile: Any) -> list[str]:
    """What is wrong with a message by its profile, or by the standard's structure of its version where there is none. Never raises but MemoryError."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as report:
        try:
            parsed = parse_message(
                message, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True, message_profile=profile
            )
            parsed.validate(report_file=report.name)
            said: list[str] = []
        except (HL7apyException, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            # what the library leaves of the first error; its own report may hold more
            said = [f"{type(error).__name__}: {error}"]
        lines = [line.strip() for line in report if line.strip()]
    return [_without_values(line) for line in (lines or said)[:FINDINGS_MAX]]


def _without_values(line: str) -> str:
    kind, _, text = line.partition(": ")
    text = _QUOTED.sub("…", _VALUE.sub("Value not in table", text))
    return f"{kind}: {text}"[:TEXT_CHARACTERS_MAX]


def check(body: bytes, profiles: list[Any]) -> list[str]:
    """What is wrong with a message, by the profile that its first byte names. Never raises but MemoryError."""
    profile = profiles[body[0]]
    return [NO_PROFILE] if profile is UNREAD else findings(body[1:].decode("utf-8", "replace"), profile)


def main() -> None:
    """Bound what this process may do, and serve."""
    confine(MEMORY_BYTES_MAX)
    profiles = [None, *(_profile(Path(name)) for name in sys.argv[1:])]
    exhausted = [f"{NOT_CHECKED} it takes too much memory"]
    serve(sys.stdin.buffer, sys.stdout.buffer, lambda body: check(body, profiles), exhausted)


def _profile(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return read_profile(file.read(PROFILE_BYTES_MAX))
    except (OSError, ValueError):  # one feed's profile, and the others have theirs
        return UNREAD


if __name__ == "__main__":
    main()
