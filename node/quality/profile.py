"""Messages checked against an HL7 message profile, on request, in a process of its own with a time for each (`node/quality/profile_worker.py`)."""

import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from node.worker_process import LENGTH

CHECK_S_MAX = 10.0  # hl7apy takes 20 ms for a common message and up to 4 s for the largest of the corpus
START_S_MAX = 20.0  # to import it and read the profile: half a second here, several on a busy card
NOT_CHECKED = "Not checked:"  # begins a finding that is none: why there is no answer
MESSAGE_BYTES_MAX = 1024 * 1024  # longer ones hold a document, and take longer than the time there is


class ProfileCheck:
    """One worker, started when first asked and again after it had to be killed. `profile`: a file of hl7apy_profile_parser; None = the standard."""

    def __init__(
        self,
        profile: Path | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "node.quality.profile_worker"),
    ) -> None:
        self._command = (*command, *([str(profile)] if profile else []))
        self._which = bytes([profile is not None])  # the worker's first profile, or the standard
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, raw: bytes) -> list[str] | None:
        """What is wrong with a message; None where it could not be checked within its time, and nothing is known. Raises OSError."""
        if len(raw) > MESSAGE_BYTES_MAX:
            return None
        limit = CHECK_S_MAX if self._process is not None else START_S_MAX
        process = self._process or self._start()
        given, answers = process.stdin, process.stdout
        assert given is not None  # noqa: S101  # both are pipes, as _start made them
        assert answers is not None  # noqa: S101  # as the other
        try:
            given.write(LENGTH.pack(1 + len(raw)) + self._which + raw)
            given.flush()
            (length,) = LENGTH.unpack(_read(answers, LENGTH.size, limit))
            return [str(each) for each in json.loads(_read(answers, length, limit))]
        except (TimeoutError, EOFError, BrokenPipeError, ValueError):
            self._end()
            return None

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603  # our own command
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()  # a killed process is gone within a millisecond
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _read(pipe: IO[bytes], count: int, wait_s: float) -> bytes:
    """Read exactly so many bytes. Raises TimeoutError, EOFError."""
    data = b""
    while len(data) < count:
        if not select.select([pipe], [], [], wait_s)[0]:
            raise TimeoutError
        part = pipe.read(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
