"""The FHIR feed: its listeners and connections, and what its requests are judged by and answered with."""

import asyncio
import contextlib
from typing import Any

import structlog
from uvicorn.server import ServerState

from hl7.fhir import JSON, XML
from node.alarms import Alarms
from node.clock import Clock
from node.config_fhir import BASE_PATH, Fhir
from node.feeds.fhir_access import Access
from node.feeds.fhir_app import FhirApp
from node.feeds.fhir_doorstep import Doorstep
from node.feeds.fhir_http import HttpConnection, make_config
from node.feeds.fhir_library import Library
from node.feeds.fhir_workshop import Workshop
from node.intake import Door, Intake
from sync.header import common_start
from sync.record import Kind

CHECK_S = 5.0  # how often connections are looked at for silence
GRACE_S_MAX = 5.0  # for what is under way when the node stops; what is cut off comes again
CLOSE_S_MAX = 0.5  # for clients to take our last bytes; TLS waits for theirs too
SAMPLES_MAX = 4  # validations of samples under way; more are left out, since they are only for the counts

log = structlog.get_logger()


class FhirFeed:
    """One configured FHIR source."""

    noise_bytes = 0  # HTTP has none

    def __init__(
        self, feed: Fhir, door: Door, intake: Intake, *, clock: Clock, alarms: Alarms, facility: str, workshop: Workshop
    ) -> None:
        self.feed, self.door, self.intake, self.clock, self.alarms = feed, door, intake, clock, alarms
        self.workshop = workshop
        xml = common_start(kind=Kind.MESSAGE, facility=facility, feed=feed.name, content_type=XML)
        self.commons = {JSON: door.message, XML: xml}
        self.base_path = feed.base_path
        self.base = feed.url or f"{self._scheme}://{feed.listen[0]}{BASE_PATH}"
        self.access = Access(feed, audience=f"{self.base}/auth/token", clock=clock)
        self.library = Library(feed, base=self.base, access=self.access)
        self.connections: set[HttpConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.validated = self.invalid = 0
        self._config = make_config(FhirApp(self), idle_s_max=feed.idle_s_max)
        self._state = ServerState()
        self._doorstep = Doorstep(feed, self._connect, count=lambda: len(self.connections), refused=self._refused)
        self._watch: asyncio.Task[None] | None = None
        self._samples: set[asyncio.Task[None]] = set()
        self._taken = 0

    @property
    def _scheme(self) -> str:
        return "http" if self.feed.tls is None else "https"

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        self._doorstep.open()
        self._watch = asyncio.get_running_loop().create_task(self._look_at_silence())
        if self.feed.strictness == "strict":
            await self.workshop.validator.start()

    def addresses(self) -> list[str]:
        """Where it really listens, port 0 resolved."""
        return [f"{self._scheme}://{address}{self.base_path}" for address in self._doorstep.addresses()]

    async def stop(self) -> None:
        """Take no connection more, answer what is under way, close."""
        self._doorstep.close()
        for task in (self._watch, *self._samples):
            if task is not None:
                task.cancel()
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

    def facts(self) -> dict[str, Any]:
        """How it is read, and what the samples say."""
        return {"strictness": self.feed.strictness, "validated": self.validated, "invalid": self.invalid}

    def sample(self, raw: bytes, content_type: str) -> None:
        """Have one in so many validated, after it was taken: only for the counts."""
        every = self.feed.validate_one_in
        self._taken += 1
        if every and not self._taken % every and content_type == JSON and len(self._samples) < SAMPLES_MAX:
            task = asyncio.get_running_loop().create_task(self._validate(raw))
            self._samples.add(task)
            task.add_done_callback(self._samples.discard)

    async def _validate(self, raw: bytes) -> None:
        found = await self.workshop.validator.validate(raw)
        if found is not None:
            self.validated += 1
            self.invalid += any(issue.severity == "error" for issue in found)

    def _connect(self) -> HttpConnection:
        return HttpConnection(
            self._config,
            self._state,
            now=self.clock.monotonic,
            joined=self.connections.add,
            left=self.connections.discard,
        )

    def _joined(self, connection: HttpConnection) -> None:
        self.connections.add(connection)
        self._empty.clear()

    def _left(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _refused(self, code: str, peer: str) -> None:
        log.warning("fhir.not_welcome", code=code, feed=self.feed.name, peer=peer)
        self.door.counts.last_error = (code, self.clock.now_us())

    async def _look_at_silence(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.clock.monotonic()
            for connection in list(self.connections):
                if code := connection.look_at_silence(now):
                    self._refused(code, "")
