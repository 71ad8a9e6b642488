"""What is wrong now: codes with since when, shared by all threads of the core."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from node.catalogue import entries

HISTORY_MAX = 256  # distinct (code, subject) pairs; more is a storm, and the oldest says least

log = structlog.get_logger()


class Alarms:
    """The standing alarms. An edge is logged once, however often it is raised."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._lock = threading.Lock()
        self._standing: dict[tuple[str, str], int] = {}

    def raised(self, code: str, subject: str = "") -> None:
        """This is so; `subject` is a stream, feed or empty. ValueError for a code that is not in the catalogue."""
        if code not in entries():
            raise ValueError(f"{code} is not in the catalogue")
        with self._lock:
            if (code, subject) in self._standing:
                return
            if len(self._standing) >= HISTORY_MAX:
                self._standing.pop(next(iter(self._standing)))
            self._standing[code, subject] = self._now_us()
        log.warning("alarm", code=code, subject=subject)

    def cleared(self, code: str, subject: str = "") -> None:
        """This is no longer so."""
        with self._lock:
            stood = self._standing.pop((code, subject), None)
        if stood is not None:
            log.info("alarm.cleared", code=code, subject=subject)

    def all_cleared(self, codes: Iterable[str], subject: str = "") -> None:
        """None of these is so any longer."""
        for code in codes:
            self.cleared(code, subject)

    def standing(self) -> list[dict[str, Any]]:
        """All of them: code, subject, since (UTC microseconds)."""
        with self._lock:
            return [
                {"code": code, "subject": subject, "since_us": at} for (code, subject), at in self._standing.items()
            ]
