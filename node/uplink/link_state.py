"""How a lane's link is, for whoever shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """How the link is, for page and metrics. Times are UTC microseconds; `state` as in the status document."""

    state: str = "unproven"
    since_us: int = 0
    last_error: tuple[str, int, str] | None = None
    round_trip_ms: float | None = None
    calls: int = 0
    failures: int = 0
    octets_sent: int = 0
    records_sent: int = 0
