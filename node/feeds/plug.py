"""What the core asks of a feed, of whatever kind."""

import asyncio
from collections.abc import Callable, Sequence, Sized
from typing import Any, Final, Protocol, runtime_checkable

import structlog

from node.config.feeds import Feed
from node.errors import EXIT_THREAD
from node.intake import Door
from node.lines.trace import LineTrace

# For all feeds together, which stop at once: each bounds its own steps below it (5 s for requests and questions under way, 3 s for last
# acknowledgements). With the writer, the uplink and the destinations a stop stays below systemd's usual 90 s (TimeoutStopSec).
STOP_S_MAX: Final = 15.0

log = structlog.get_logger()


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


def watch_over(task: "asyncio.Task[None]", feed: str, die: Callable[[int], object]) -> None:
    """A feed that is deaf, or that nobody looks after, is worse than a restart: where its task fails, the supervisor starts the process again."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("feed.died", feed=feed, error=type(error).__name__)
            die(EXIT_THREAD)

    task.add_done_callback(ended)


async def stop_all(plugs: Sequence[Plug]) -> None:
    """Stop all at once: a broker or a line that is away costs the others nothing, and all together one bound."""
    stopping = {asyncio.create_task(each.stop()): each.feed.name for each in plugs}
    if not stopping:
        return
    done, hanging = await asyncio.wait(stopping, timeout=STOP_S_MAX)
    for each in hanging:  # what it has under way is not acknowledged, and comes again
        log.error("feed.not_stopped", feed=stopping[each])
        each.cancel()
    for each in done:
        # one whose stop awaited something cancelled is cancelled itself: exception() would raise that here, and the core's stop would end with it
        error = asyncio.CancelledError() if each.cancelled() else each.exception()
        if error is not None:
            log.error("feed.stopped_badly", feed=stopping[each], error=type(error).__name__, detail=str(error))
