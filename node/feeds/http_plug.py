"""What every feed over HTTP is: a doorstep, connections, an application that serves them, and an end within a bounded time."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.server import ServerState

from node.alarms import Alarms
from node.clock import Clock
from node.config.http import Http
from node.feeds.doorstep import Doorstep
from node.feeds.http_body import Body
from node.feeds.http_call import Call
from node.feeds.http_connection import HttpConnection, make_config
from node.feeds.http_workshop import Workshop
from node.intake import Door, Intake

CHECK_S = 5.0  # how often connections are looked at for silence
GRACE_S_MAX = 5.0  # for what is under way when the node stops; what is cut off comes again
CLOSE_S_MAX = 0.5  # for clients to take our last bytes; TLS waits for theirs too

log = structlog.get_logger()


class HttpPlug:
    """One configured source over HTTP. `serve` is its ASGI application; `connection`: the class of its connections."""

    noise_bytes = 0  # HTTP has none

    def __init__(
        self,
        feed: Http,
        door: Door,
        intake: Intake,
        *,
        clock: Clock,
        alarms: Alarms,
        workshop: Workshop,
        serve: Callable[[Any, Any, Any], Any],
        connection: type[HttpConnection] = HttpConnection,
        path: str,
    ) -> None:
        self.door, self.intake, self.clock, self.alarms = door, intake, clock, alarms
        self.workshop = workshop
        self.connections: set[HttpConnection] = set()
        self._http = feed
        self._path = path
        self._empty = asyncio.Event()
        self._empty.set()
        self._connection = connection
        self._config = make_config(serve, idle_s_max=feed.idle_s_max)
        self._state = ServerState()
        self._doorstep = Doorstep(
            feed, self._connect, listen=feed.listen, connections=self.connections, coming=set(), refused=self._refused
        )
        self._watch: asyncio.Task[None] | None = None

    @property
    def scheme(self) -> str:
        """With TLS or without."""
        return "http" if self._http.tls is None else "https"

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        self._doorstep.open()
        self._watch = asyncio.get_running_loop().create_task(self._look_at_silence())

    def addresses(self) -> list[str]:
        """Where it really listens, port 0 resolved."""
        return [f"{self.scheme}://{address}{self._path}" for address in self._doorstep.addresses()]

    async def stop(self) -> None:
        """Take no connection more, answer what is under way, close."""
        self._doorstep.close()
        if self._watch is not None:
            self._watch.cancel()
        for connection in list(self.connections):
            connection.finish()
        deadline = self.clock.monotonic() + GRACE_S_MAX
        while self._state.tasks and self.clock.monotonic() < deadline:
            await asyncio.wait(self._state.tasks, timeout=deadline - self.clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._empty.wait()
        for connection in list(self.connections):
            connection.abort()
        await self.workshop.validator.stop()

    async def record_broken(self, body: Body, call: Call, code: str) -> None:
        """Record a body that never was whole, as far as it came. Returns when the record is durable, or why there is none is known."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        length = body.octets or min(int(call.headers.get("content-length", "0")[:18] or 0), 2**62)
        self.intake.store_broken(
            self.door, head=body.head, length=length, sha256=body.sha256(), control_id="", peer=call.peer, code=code,
            answer=lambda _: None if answered.done() else answered.set_result(None),
        )  # fmt: skip
        await answered

    def _connect(self) -> HttpConnection:
        now = self.clock.monotonic
        return self._connection(self._config, self._state, now=now, joined=self._joined, left=self._left)

    def _joined(self, connection: HttpConnection) -> None:
        self.connections.add(connection)
        self._empty.clear()

    def _left(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _refused(self, code: str, peer: str) -> None:
        log.warning("http.not_welcome", code=code, feed=self._http.name, peer=peer)
        self.door.counts.last_error = (code, self.clock.now_us())

    async def _look_at_silence(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.clock.monotonic()
            for connection in list(self.connections):
                if code := connection.look_at_silence(now):
                    self._refused(code, "")
