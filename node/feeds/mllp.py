"""The MLLP feed: connections in, frames to `intake`, a reply after the commit, in the order of arrival (HL7 2.9 chapter 2.9, appendix C)."""

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from functools import partial
from typing import Any

import structlog

from node.addresses import Address
from node.alarms import Alarms
from node.clock import Clock, hl7_time
from node.config_feeds import Mllp
from node.errors import CannotListen
from node.feeds.law_desk import LawDesk
from node.feeds.mllp_connection import Connection
from node.feeds.mllp_numbers import Numbers
from node.feeds.mllp_rules import rules_of
from node.feeds.open_frames import OpenFrames
from node.intake import Door, Intake
from node.listeners import is_within, open_listener, tls_context
from node.profile_sample import Sample
from node.quality import Quality
from node.signature_check import Checker

CONTENT_TYPE = "application/hl7-v2+er7"
BACKLOG = 512  # connections the kernel holds for us while the loop is busy: a whole site reconnecting after a power cut
HANDSHAKE_S_MAX = 10.0  # two round trips and one signature; a slow radio link needs two seconds
ACCEPT_AGAIN_S = 0.1  # a file descriptor may be free again by then
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
    ) -> None:
        self.feed = feed
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
        self._servers: list[asyncio.Server] = []
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()  # of TLS: one for each listener, one for each handshake
        self._shaking = 0
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises CannotListen; SyncError where the count of a numbered feed cannot be read."""
        if self.numbers is not None:
            await self.numbers.load()
        loop = asyncio.get_running_loop()
        for address in self.feed.listen:
            await self._listen(loop, address, is_trial=False)
        for address in self.feed.trial_listen:
            await self._listen(loop, address, is_trial=True)
        self._watch = loop.create_task(self._look_at_silence())

    async def _listen(self, loop: asyncio.AbstractEventLoop, address: Address, *, is_trial: bool) -> None:
        try:
            context, listener = tls_context(self.feed.tls), open_listener(address)
            self._listeners.append(listener)
            if context is None:
                make = partial(Connection, self, loop, is_trial=is_trial)
                self._servers.append(await loop.create_server(make, sock=listener, backlog=BACKLOG))
                return
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except (OSError, ssl.SSLError) as error:
            raise CannotListen(f"feed {self.feed.name}: {address}: {error}") from error
        self._tasks.add(loop.create_task(self._accept(loop, listener, context, is_trial=is_trial)))

    def addresses(self) -> list[str]:
        """Where it really listens for production, port 0 resolved."""
        return self._names(self._listeners[: len(self.feed.listen)])

    def trial_addresses(self) -> list[str]:
        """The same of its trial ports."""
        return self._names(self._listeners[len(self.feed.listen) :])

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

    @staticmethod
    def _names(listeners: list[socket.socket]) -> list[str]:
        names = [listener.getsockname() for listener in listeners]
        return [str(Address(name[0], name[1])) for name in names]

    async def stop(self) -> None:
        """Take no connection more, close those there are."""
        if self._watch is not None:
            self._watch.cancel()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.close()

    def welcomes(self, peer: str) -> bool:
        """Whether one more connection of this peer may come; one that may not is logged."""
        code = ""
        if not peer or not self.admits(peer):
            code = "NOD-12"
        elif len(self.connections) + self._shaking >= self.feed.connections_max:
            code = "NOD-13"
        if code:
            log.warning("mllp.refused", code=code, feed=self.feed.name, peer=peer)
            self.door.counts.last_error = (code, self.clock.now_us())
        return not code

    def admits(self, peer: str) -> bool:
        """Whether this address may send here."""
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return is_within(mapped or address, self.feed.allow)

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

    async def _accept(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, context: ssl.SSLContext, *, is_trial: bool
    ) -> None:  # fmt: skip
        """Look at each TLS source before its handshake: one that may not come costs a socket and no more."""
        while True:
            try:
                sock, name = await loop.sock_accept(listener)
            except OSError as error:  # no file descriptors left, or it is gone again
                log.warning("mllp.not_accepted", feed=self.feed.name, error=type(error).__name__)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            if not self.welcomes(str(name[0])):
                sock.close()
                continue
            self._shaking += 1
            task = loop.create_task(self._shake_hands(loop, sock, context, is_trial=is_trial))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext, *, is_trial: bool
    ) -> None:  # fmt: skip
        try:
            await loop.connect_accepted_socket(
                partial(Connection, self, loop, is_welcome=True, is_trial=is_trial), sock, ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
            )  # fmt: skip
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            log.info("mllp.no_handshake", feed=self.feed.name, error=type(error).__name__)
            sock.close()
        finally:
            self._shaking -= 1

    async def _look_at_silence(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            now = self.clock.monotonic()
            for connection in list(self.connections):
                connection.look_at_silence(now, self.feed)
