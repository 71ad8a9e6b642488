"""What happened in the demo, newest first; told as keys of `demo_words`, so that each reader hears it in his language."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

EVENTS_MAX = 40  # an hour of clicking; older ones are forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of the story. `tone`: ok, waiting, attention, failed or unproven; `number` rises."""

    number: int
    at: datetime
    tone: str
    key: str
    params: dict[str, int | str]


class Story:
    """The last happenings. Used from the event loop only."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._told = 0
        self._happenings: deque[Happening] = deque(maxlen=EVENTS_MAX)

    def tell(self, tone: str, key: str, **params: int | str) -> None:
        """Add a line."""
        self._told += 1
        self._happenings.appendleft(
            Happening(number=self._told, at=self._now(), tone=tone, key=key, params=params)
        )  # fmt: skip

    def happenings(self) -> tuple[Happening, ...]:
        """Newest first."""
        return tuple(self._happenings)
