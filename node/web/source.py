"""A blocking function, read in a thread and shared: however many viewers ask, it runs once a second at most."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

FRESH_SECONDS = 1.0  # one reading serves every viewer for this long
WAIT_SECONDS = 2.0  # a disk that hangs must not hang the page: after this the last reading is shown, with its age

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[T]):
    """A value and the monotonic second at which it was asked for."""

    value: T
    at: float


class Source(Generic[T]):
    """The latest reading of one blocking function. Use from one event loop."""

    def __init__(self, name: str, read: Callable[[], T], now: Callable[[], float]) -> None:
        self._name, self._read, self._now = name, read, now
        self._last: Reading[T] | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._is_failing = False

    async def latest(self) -> Reading[T] | None:
        """The last good reading, renewed when it is no longer fresh; None where there never was one. Never raises."""
        if self._asking is None and self._now() - self._asked_at >= FRESH_SECONDS:
            self._asked_at = self._now()
            self._asking = asyncio.create_task(self._ask(self._asked_at))
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=WAIT_SECONDS)
        return self._last

    def age(self, reading: Reading[T]) -> float:
        """Seconds since a reading was asked for."""
        return max(0.0, self._now() - reading.at)

    async def _ask(self, at: float) -> None:
        """Read once; a failure keeps the last reading, which then grows old in plain sight."""
        try:
            self._last = Reading(value=await asyncio.to_thread(self._read), at=at)
            self._is_failing = False
        except Exception as error:  # noqa: BLE001 - whatever a source does, the page stays up
            if not self._is_failing:  # once per outage: a dead core must not fill the journal second by second
                log.warning("web.source_failed", source=self._name, error=type(error).__name__)
            self._is_failing = True
        finally:
            self._asking = None
