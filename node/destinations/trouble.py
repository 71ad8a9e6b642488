"""That something does not go on: since when, why, when it is tried again, and from when on a person hears of it."""

from collections.abc import Callable
from dataclasses import dataclass

from node.destinations.errors import DAMAGED, FROZEN, FULL, LOST, STOPPED
from sync.pace import Backoff

AT_ONCE = frozenset({STOPPED, FULL, FROZEN, LOST, DAMAGED})  # nothing passes by itself here: a person is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failure: its code, when (UTC microseconds), and a status or error name."""

    code: str
    at_us: int
    detail: str


class Trouble:
    """One stream of a destination, or all of it. Growing pauses, bounded, never an end."""

    def __init__(self, dice: Callable[[], float], alarm_s: float) -> None:
        self._backoff, self._alarm_s = Backoff(dice), alarm_s
        self._since: float | None = None
        self.code = ""
        self.not_before = float("-inf")

    def failed(self, code: str, now: float, wait_s: float = 0.0) -> None:
        """It failed once more; the next try comes after a pause, at least as long as the peer asked for."""
        self._since = now if self._since is None else self._since
        self.code = code
        self.not_before = now + max(wait_s, self._backoff.failed())

    def passed(self) -> None:
        """It goes on."""
        self._since, self.code, self.not_before = None, "", float("-inf")
        self._backoff.succeeded()

    def hurry(self) -> None:
        """Try now."""
        self.not_before = float("-inf")

    def is_grave(self, now: float) -> bool:
        """Whether a person should hear of it."""
        return self._since is not None and (self.code in AT_ONCE or now - self._since >= self._alarm_s)

    @property
    def needs_person(self) -> bool:
        """Whether it cannot pass by itself."""
        return self.code in AT_ONCE
