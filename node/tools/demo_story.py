"""What happened in the demo, newest first; told as keys of `demo_words`, so that each reader hears it in his language."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

EVENTS_MAX = 40  # an hour of clicking; older ones are forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of the story. `tone`: ok, waiting, attention, failed or unproven."""

    at: datetime
    tone: str
    key: str
    params: dict[str, int | str]


class Story:
    """The last happenings. Used from the event loop only."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._happenings: deque[Happening] = deque(maxlen=EVENTS_MAX)

    def tell(self, tone: str, key: str, **params: int | str) -> None:
        """Add a line. The same again replaces the last: only the newest pace is of interest."""
        if self._happenings and self._happenings[0].key == key:
            self._happenings.popleft()
        self._happenings.appendleft(Happening(at=self._now(), tone=tone, key=key, params=params))

    def happenings(self) -> tuple[Happening, ...]:
        """Newest first."""
        return tuple(self._happenings)
