"""A line's bytes into a file of a person's own: as they came, bounded, and where nobody else reads them."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from hl7.devices.line_guess import Guess
from node.config.serial import Line
from node.lines.serial_detect import chunks
from node.lines.serial_port import Open, open_device

# Of what `wasl devices test` reads (16 MB) a part: a hundred results of an analyzer, and no disk is filled by a device that jabbers.
BYTES_MAX: Final = 1024 * 1024


class CaptureFile:
    """A new file, of which its owner alone reads. Raises FileExistsError where there is one of this name; OSError."""

    def __init__(self, path: Path) -> None:
        self.path, self.length = path, 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """Add these, as far as BYTES_MAX leaves room."""
        left = memoryview(data)[: BYTES_MAX - self.length]
        while left:
            written = os.write(self._descriptor, left)
            self.length += written
            left = left[written:]

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes in."""
        return self.length >= BYTES_MAX

    def close(self) -> None:
        """Close it; a file into which nothing came does not stay."""
        os.close(self._descriptor)
        if not self.length:
            self.path.unlink(missing_ok=True)


def capture(
    line: Line, file: CaptureFile, *, seconds: float, now: Callable[[], float], opener: Open = open_device
) -> None:
    """Write what comes in this time to the file. Sends nothing. Raises OSError where the port cannot be opened, or the file not written."""
    device = opener(line)
    try:
        for data, _ in chunks(device, now() + seconds, now):
            file.write(data)
            if file.is_full:
                return
    finally:
        device.close()


def guessed(line: Line, guess: Guess) -> Line:
    """The line with the settings that were found."""
    return replace(line, baud=guess.baud, bits=guess.bits, parity=guess.parity)
