"""Keeps the high-water mark in its small file: written after commits and receipts, read once at the start."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from sync.highwater import BYTES_MAX, Mark, encode_marks, read_marks
from sync.names import Origin
from sync.store import sync_file

SAVE_S_MIN = 10.0  # between two writes: a card dies of more, and what a mark lacks the gateway's session still knows

log = structlog.get_logger()


class HighWater:
    """The marks of all streams. `note` may be called from any thread."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path, self._monotonic = path, monotonic
        self._lock, self._saving = threading.Lock(), threading.Lock()
        self._marks: dict[str, Mark] = {}
        self._saved: dict[str, Mark] = {}
        self._fence = ""
        self._saved_at = float("-inf")

    def read(self) -> dict[str, Mark]:
        """The marks as they were left; none where there is no file, or it cannot be read: the gateway then says it."""
        try:
            with self._path.open("rb") as file:
                marks = read_marks(file.read(BYTES_MAX + 1))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("highwater.unreadable", file=str(self._path), error=type(error).__name__)
            return {}
        self._marks, self._saved = dict(marks), dict(marks)
        return marks

    def accepted(self, origin: Origin, size: int) -> None:
        """A log has this size, durably."""
        with self._lock:
            known = self._marks.get(origin.stream)
            same = known is not None and (known.epoch, known.tag) == (origin.epoch, origin.tag)
            self._marks[origin.stream] = Mark(origin.epoch, origin.tag, size, known.receipted if same and known else 0)

    def receipted(self, origin: Origin, size: int, fence: str) -> None:
        """The gateway has receipted so much of it, under this fence."""
        with self._lock:
            known, self._fence = self._marks.get(origin.stream), fence
            if known is not None and (known.epoch, known.tag) == (origin.epoch, origin.tag):
                self._marks[origin.stream] = Mark(known.epoch, known.tag, known.accepted, max(known.receipted, size))

    def save(self, *, now: bool = False) -> None:
        """Write the file if a mark moved, at most every SAVE_S_MIN unless `now`. One that cannot be written is logged: nothing waits for it."""
        with self._saving:  # not the lock of the marks: the writer must not wait for this disk
            with self._lock:
                marks, fence = dict(self._marks), self._fence
            due = now or self._monotonic() - self._saved_at >= SAVE_S_MIN
            if not due or marks == self._saved:
                return
            self._saved_at = self._monotonic()
            try:
                self._write(encode_marks(marks, fence))
            except OSError as error:
                log.warning("highwater.not_written", file=str(self._path), error=type(error).__name__)
                return
            self._saved = marks

    def _write(self, data: bytes) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(self._path)
        sync_file(self._path.parent)
