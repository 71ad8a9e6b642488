"""What the core asks of a feed, of whatever kind."""

from collections.abc import Sized
from typing import Any, Protocol, runtime_checkable

from node.config_feeds import Feed
from node.intake import Door
from node.line_trace import LineTrace


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
