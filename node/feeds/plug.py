"""What the core asks of a feed, of whatever kind."""

from collections.abc import Sized
from typing import Any, Final, Protocol, runtime_checkable

from node.config_feeds import Feed
from node.intake import Door
from node.line_trace import LineTrace

# For all feeds together, which stop at once: each bounds its own steps below it (5 s for requests and questions under way, 3 s for last
# acknowledgements). With the writer, the uplink and the destinations a stop stays below systemd's usual 90 s (TimeoutStopSec).
STOP_S_MAX: Final = 15.0


class Plug(Protocol):
    """One configured source that is running."""

    door: Door
    noise_bytes: int

    @property
    def feed(self) -> Feed:
        """Its table of the configuration."""

    @property
    def connections(self) -> Sized:
        """Those that are open."""

    async def start(self) -> None:
        """Listen. Raises CannotListen."""

    async def stop(self) -> None:
        """Take nothing more, and end what is open within a bounded time."""

    def addresses(self) -> list[str]:
        """Where it really listens."""

    def facts(self) -> dict[str, Any]:
        """What only its kind has to tell, for the status document."""


@runtime_checkable
class Traced(Protocol):
    """A feed whose line can be watched on the page."""

    trace: LineTrace
