"""The process that checks HL7 v2 messages against a message profile by hl7apy. Run: `python -m node.profile_worker [PROFILE]`; messages in, findings out.

Its parent kills it where it takes too long: one message can cost hl7apy seconds. It never writes a message, and what it finds names no value of one.
"""

import ctypes
import io
import json
import os
import pickle
import re
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from hl7apy.consts import VALIDATION_LEVEL  # type: ignore[import-untyped]  # it brings no types
from hl7apy.exceptions import HL7apyException  # type: ignore[import-untyped]  # it brings no types
from hl7apy.parser import parse_message  # type: ignore[import-untyped]  # it brings no types

from node.profile import LENGTH

MEMORY_BYTES_MAX = 512 * 1024 * 1024  # of address space: a large message's tree takes some hundred megabytes
PROFILE_BYTES_MAX = 16 * 1024 * 1024  # an ORU's has some hundred kilobytes
PR_SET_PDEATHSIG = 1  # prctl(2)
FINDINGS_MAX, TEXT_CHARACTERS_MAX = 200, 200

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


def serve(given: BinaryIO, answers: BinaryIO, profile: Any) -> None:
    """Check message after message until there are no more."""
    while len(head := given.read(LENGTH.size)) == LENGTH.size:
        raw = given.read(LENGTH.unpack(head)[0])
        try:
            found = findings(raw.decode("utf-8", "replace"), profile)
        except MemoryError:
            found = ["Not checked: it takes too much memory"]
        data = json.dumps(found).encode()
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()


def main() -> None:
    """Bound what this process may do, and serve."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    os.nice(10)  # intake comes first
    with Path(sys.argv[1]).open("rb") if len(sys.argv) > 1 else io.BytesIO() as file:
        data = file.read(PROFILE_BYTES_MAX)
    serve(sys.stdin.buffer, sys.stdout.buffer, read_profile(data) if data else None)


if __name__ == "__main__":
    main()
