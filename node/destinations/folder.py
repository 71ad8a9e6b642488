"""A destination that is a folder: each message a file of its own, whole or not there at all, for a system that looks into it and takes files away."""

import os
import re
from contextlib import suppress
from pathlib import Path

from node.config.destinations import FolderOut
from node.destinations.errors import FOLDER
from node.destinations.plug import ER7, FHIR_JSON, TAKEN, End, Outcome, Outgoing
from sync.store import sync_file

UNFINISHED = (
    ".wasl-"  # before a name, with the destination's and a dot: a system that takes files passes over hidden ones
)
ID_CHARACTERS_MAX = 64  # of a control id in a file name, which may have 255 bytes
SUFFIXES = {ER7: "hl7", FHIR_JSON: "json", "application/fhir+xml": "xml", "application/astm-e1394": "astm"}

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class FolderSink:
    """One folder. The name says the place in the stream's run of rows, which no epoch changes: a file that is written twice has one name."""

    def __init__(self, destination: FolderOut) -> None:
        self._folder, self._files_max = destination.path, destination.files_max
        self._unfinished = f"{UNFINISHED}{destination.name}."
        self._files: int | None = None  # at most so many are there; None before they were counted

    def deliver(self, outgoing: Outgoing) -> Outcome:
        """Have the file in the folder, and on the disk, under its whole name."""
        try:
            if self._is_full():
                return Outcome(End.BROKEN, FOLDER, f"{self._files_max} files")
            self._write(name_of(outgoing), outgoing.body)
        except OSError as error:
            self._files = None
            return Outcome(End.BROKEN, FOLDER, error.strerror or type(error).__name__)
        return TAKEN

    def rest(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Count again when it goes on."""
        self._files = None

    def _is_full(self) -> bool:
        """Whether no file more may lie there. Counted when it might be so: others only take files away. Raises OSError."""
        if self._files is None or self._files >= self._files_max:
            self._files = 0
            for entry in os.scandir(self._folder):
                if entry.name.startswith(self._unfinished):  # of a node that was killed: nobody else writes so
                    with suppress(FileNotFoundError):
                        Path(entry.path).unlink()
                else:
                    self._files += 1
        return self._files >= self._files_max

    def _write(self, name: str, body: bytes) -> None:
        unfinished = self._folder / f"{self._unfinished}{name}"
        with unfinished.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # a crash here leaves the unfinished file, which the next start removes; the cursor stands, and the file is written again
        unfinished.replace(self._folder / name)
        # a crash here: there, and written again under the same name with the same bytes
        sync_file(self._folder)
        self._files = (self._files or 0) + 1


def name_of(outgoing: Outgoing) -> str:
    """A file's name: stream, place and part in the order of the stream, then the control id as far as it is safe to write."""
    said = _UNSAFE.sub("_", outgoing.control_id)[:ID_CHARACTERS_MAX] or "none"
    suffix = SUFFIXES.get(outgoing.content_type, "bin")
    return f"{outgoing.stream}-{outgoing.place:012d}-{outgoing.part:04d}-{said}.{suffix}"
