"""What the core asks of a feed, of whatever kind."""

from collections.abc import Sized
from typing import Protocol

from node.config_feeds import Feed
from node.intake import Door


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
