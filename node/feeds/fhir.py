"""The FHIR feed: what its requests are judged by and answered with, and the samples that are validated for its counts."""

import asyncio
from collections import Counter
from typing import Any

from hl7.fhir import JSON, XML
from node.alarms import Alarms
from node.clock import Clock
from node.config.fhir import BASE_PATH, Fhir
from node.feeds.fhir_app import FhirApp
from node.feeds.fhir_library import Library
from node.feeds.http_access import Access
from node.feeds.http_plug import HttpPlug
from node.feeds.http_workshop import Workshop
from node.intake import Door, Intake
from sync.header import common_start
from sync.record import Kind

SAMPLES_MAX = 4  # validations of samples under way; more are left out, since they are only for the counts


class FhirFeed(HttpPlug):
    """One configured FHIR source."""

    def __init__(
        self, feed: Fhir, door: Door, intake: Intake, *, clock: Clock, alarms: Alarms, facility: str, workshop: Workshop
    ) -> None:
        super().__init__(
            feed, door, intake, clock=clock, alarms=alarms, workshop=workshop, serve=FhirApp(self), path=feed.base_path
        )
        self.feed = feed
        xml = common_start(kind=Kind.MESSAGE, facility=facility, feed=feed.name, content_type=XML)
        self.commons = {JSON: door.message, XML: xml}
        self.base_path = feed.base_path
        self.base = feed.url or f"{self.scheme}://{feed.listen[0]}{BASE_PATH}"
        self.access = Access(feed, audience=f"{self.base}/auth/token", clock=clock)
        self.library = Library(feed, base=self.base, access=self.access)
        self.validated = self.invalid = 0
        self._samples: set[asyncio.Task[None]] = set()
        self._taken = 0
        self.signed: Counter[str] = Counter()

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        await super().start()
        if self.feed.strictness == "strict":
            await self.workshop.validator.start()

    async def stop(self) -> None:
        """Take no connection more, answer what is under way, close."""
        for task in self._samples:
            task.cancel()
        await super().stop()

    def facts(self) -> dict[str, Any]:
        """How it is read, and what the samples say."""
        return {
            "strictness": self.feed.strictness,
            "validated": self.validated,
            "invalid": self.invalid,
            "signatures": dict(self.signed),
        }

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
