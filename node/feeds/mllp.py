"""The MLLP feed: connections in, frames to `intake`, a reply after the commit, in the order of arrival (HL7 2.9 chapter 2.9, appendix C)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from node.alarms import Alarms
from node.clock import Clock, hl7_time
from node.config.feeds import Mllp
from node.feeds.doorstep import Doorstep
from node.feeds.mllp_connection import Connection
from node.feeds.mllp_numbers import Numbers
from node.feeds.mllp_rules import rules_of
from node.feeds.open_frames import OpenFrames
from node.intake import Door, Intake
from node.orders.law_desk import LawDesk
from node.quality.counts import Quality
from node.quality.profile_sample import Sample
from node.signatures.check import Checker

CONTENT_TYPE = "application/hl7-v2+er7"
CHECK_S = 5.0  # how often connections are looked at for silence

log = structlog.get_logger()


class MllpFeed:
    """One configured MLLP source: its listeners, rules and connections."""

    def __init__(
        self,
        feed: Mllp,
        door: Door,
        intake: Intake,
        *,
        clock: Clock,
        alarms: Alarms,
        prefix: str,
        frames: OpenFrames,
        quality: Quality,
        numbers: Numbers | None = None,
        checker: Checker | None = None,
        sample: Sample | None = None,
        orders: LawDesk | None = None,
        source: Sequence[tuple[int, object]] = (),
    ) -> None:
        """`source`: what each of its records says besides, as particulars by their number."""
        self.feed, self.source = feed, source
        self.frames = frames
        self.door = door
        self.intake = intake
        self.clock = clock
        self.alarms = alarms
        self.rules = rules_of(feed)
        self.always_enhanced = feed.acknowledgement == "enhanced"
        self.numbers = numbers
        self.quality = quality
        self.sample = sample
        self.orders = orders
        self.checker = checker
        self.held = 0  # bytes of messages that wait for room since their senders may not be told that there is none
        self.signed: Counter[str] = Counter()
        self.demands_signatures = feed.signatures == "required"
        self.connections: set[Connection] = set()
        self.noise_bytes = 0
        self.bare_ends = 0
        self._prefix = prefix.encode()
        self._replies = 0
        self._second = (-1, b"")
        coming = set[asyncio.BaseProtocol]()
        self._doorstep, self._trial_doorstep = (
            Doorstep(
                feed, partial(self._connect, is_trial=is_trial), listen=where, connections=self.connections, coming=coming, refused=self._refused
            ) for where, is_trial in ((feed.listen, False), (feed.trial_listen, True))
        )  # fmt: skip
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises CannotListen; SyncError where the count of a numbered feed cannot be read."""
        if self.numbers is not None:
            await self.numbers.load()
        self._doorstep.open()
        self._trial_doorstep.open()
        self._watch = asyncio.get_running_loop().create_task(self._look_at_silence())

    def addresses(self) -> list[str]:
        """Where it really listens for production, port 0 resolved."""
        return [str(address) for address in self._doorstep.addresses()]

    def trial_addresses(self) -> list[str]:
        """The same of its trial ports."""
        return [str(address) for address in self._trial_doorstep.addresses()]

    def facts(self) -> dict[str, Any]:
        """What only its kind has to tell: its trial ports, and what was found of signatures, where they are looked at."""
        signed = {} if self.feed.signatures == "carried" else {"signatures": dict(self.signed)}
        sampled = {} if self.sample is None else {"profile": self.sample.document()}
        asked = {} if self.orders is None else {"orders": self.orders.document()}
        return {
            "trial_addresses": self.trial_addresses(),
            "quality": self.quality.document(),
            **signed,
            **sampled,
            **asked,
        }

    async def stop(self) -> None:
        """Take no connection more, close those there are."""
        if self._watch is not None:
            self._watch.cancel()
        self._doorstep.close()
        self._trial_doorstep.close()
        for connection in list(self.connections):
            connection.close()

    def _connect(self, *, is_trial: bool) -> Connection:
        return Connection(self, asyncio.get_running_loop(), is_trial=is_trial)

    def _refused(self, code: str, peer: str) -> None:
        log.warning("mllp.refused", code=code, feed=self.feed.name, peer=peer)
        self.door.counts.last_error = (code, self.clock.now_us())

    def reply_id(self) -> bytes:
        """The next reply's own control id."""
        self._replies += 1
        return b"%b%d" % (self._prefix, self._replies)

    def reply_number(self) -> int:
        """The same as a number: an X12 interchange has no room for a text."""
        self._replies += 1
        return self._replies

    def now(self) -> bytes:
        """The reply's time stamp; made once a second."""
        now_us = self.clock.now_us()
        second = now_us // 1_000_000
        if second != self._second[0]:
            self._second = (second, hl7_time(now_us).encode())
        return self._second[1]

    async def _look_at_silence(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.clock.monotonic()
            for connection in list(self.connections):
                connection.look_at_silence(now, self.feed)
