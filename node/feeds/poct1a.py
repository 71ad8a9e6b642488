"""A POCT1-A feed: each document is durable before its ACK.R01, since a device deletes what is acknowledged."""

import asyncio
from typing import Any

import structlog

from node.config.poct1a import Poct1a
from node.feeds.doorstep import Doorstep
from node.feeds.kinds import Surroundings
from node.feeds.named_profile import named_by
from node.feeds.poct1a_connection import Poct1aConnection
from node.intake import Door, Intake
from node.lines.trace import LineTrace

CHECK_S = 5.0  # how often connections are looked at for silence
GRACE_S_MAX = 5.0  # for what is under way when the node stops

log = structlog.get_logger()


class Poct1aFeed:
    """One configured port for point-of-care devices."""

    def __init__(self, feed: Poct1a, door: Door, intake: Intake, around: Surroundings) -> None:
        self.feed, self.door, self.intake = feed, door, intake
        self.clock, self.frames = around.clock, around.frames
        _, self.source = named_by(feed.name, feed.profile, around.profiles)
        self.trace = LineTrace(around.clock.now_us)
        self.connections: set[Poct1aConnection] = set()
        self.noise_bytes = 0
        self._doorstep = Doorstep(
            feed, self._connect, listen=feed.listen, connections=self.connections, coming=set(), refused=self._refused
        )
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        self._doorstep.open()
        self._watch = asyncio.get_running_loop().create_task(self._look_at_silence())

    def addresses(self) -> list[str]:
        """Where it really listens, port 0 resolved."""
        return [str(address) for address in self._doorstep.addresses()]

    def facts(self) -> dict[str, Any]:
        """Which devices are connected, as they name themselves."""
        return {"devices": sorted({each.device for each in self.connections if each.device})}

    async def stop(self) -> None:
        """Take no connection more, answer what is under way, close."""
        self._doorstep.close()
        if self._watch is not None:
            self._watch.cancel()
        working = [each.finish() for each in list(self.connections)]
        if working:
            await asyncio.wait(working, timeout=GRACE_S_MAX)
        for connection in list(self.connections):
            connection.abort()

    def tell(self, code: str, peer: str) -> None:
        """Note what is wrong, for page and journal."""
        self.door.counts.last_error = (code, self.clock.now_us())
        log.warning("poct1a.judged", code=code, feed=self.feed.name, peer=peer)

    def _connect(self) -> Poct1aConnection:
        return Poct1aConnection(self)

    def _refused(self, code: str, peer: str) -> None:
        self.tell(code, peer)

    async def _look_at_silence(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.clock.monotonic()
            for connection in list(self.connections):
                connection.look_at_silence(now, self.feed.idle_s_max)
