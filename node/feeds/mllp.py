"""The MLLP feed: connections in, frames to `intake`, a reply after the commit, in the order of arrival (HL7 2.9 chapter 2.9, appendix C)."""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections import deque
from functools import lru_cache
from typing import cast

import structlog

from hl7.check import Rules, check
from hl7.mllp import Broken, Decoder, Frame, encode
from node.addresses import Address
from node.alarms import Alarms
from node.clock import Clock, hl7_time
from node.config_feeds import Mllp
from node.errors import CannotListen
from node.feeds.mllp_pending import Pending, PendingBroken, control_id
from node.feeds.open_frames import OpenFrames
from node.intake import Door, Intake, Refusal
from node.listeners import is_within, open_listener, tls_context

CONTENT_TYPE = "application/hl7-v2+er7"
IDLE_S = 0.25  # after this pause a FS at the end of what came is the end: some senders leave out the CR
FRAME_S_MAX = (
    60.0  # a frame that grows no further is a dead sender; 16 MiB in a minute is 2 Mbit/s, progress starts it anew
)
TURN_S_MAX = 300.0  # a long frame may keep others waiting so long, where memory is short: the longest at half a Mbit/s
PENDING_MAX = 64  # frames of one connection without a reply; senders that follow the standard have one
PENDING_BYTES_MAX = (
    4 * 1024 * 1024
)  # and their bytes: a commit group's worth, so that a fast sender of scans fills no memory
FRAME_BYTES_FREE = 64 * 1024  # an open frame below this is not counted: nearly all messages are
UNREAD_BYTES_MAX = 64 * 1024  # replies a source has not read: reading from it stops until it does
BACKLOG = 512  # connections the kernel holds for us while the loop is busy: a whole site reconnecting after a power cut
HANDSHAKE_S_MAX = 10.0  # two round trips and one signature; a slow radio link needs two seconds
ACCEPT_AGAIN_S = 0.1  # a file descriptor may be free again by then
CHECK_S = 5.0  # how often connections are looked at for silence
MESSAGE_TYPE = re.compile(rb"[A-Z0-9]{3}(\^[A-Z0-9]{3}(\^[A-Z0-9_]{3,7})?)?")

log = structlog.get_logger()


class MllpFeed:
    """One configured MLLP source: its listeners, rules and connections."""

    def __init__(
        self, feed: Mllp, door: Door, intake: Intake, *, clock: Clock, alarms: Alarms, prefix: str, frames: OpenFrames
    ) -> None:
        self.feed = feed
        self.frames = frames
        self.door = door
        self.intake = intake
        self.clock = clock
        self.alarms = alarms
        self.rules = Rules(
            senders=feed.check.senders, types=feed.check.types, versions=feed.check.versions,
            processing_ids=feed.check.processing_ids, required=feed.check.required,
        )  # fmt: skip
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
        """Listen. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        for address in self.feed.listen:
            try:
                context, listener = tls_context(self.feed.tls), open_listener(address)
                self._listeners.append(listener)
                if context is None:
                    server = await loop.create_server(lambda: Connection(self, loop), sock=listener, backlog=BACKLOG)
                    self._servers.append(server)
                    continue
                listener.listen(BACKLOG)
                listener.setblocking(False)
            except (OSError, ssl.SSLError) as error:
                raise CannotListen(f"feed {self.feed.name}: {address}: {error}") from error
            self._tasks.add(loop.create_task(self._accept(loop, listener, context)))
        self._watch = loop.create_task(self._look_at_silence())

    def addresses(self) -> list[str]:
        """Where it really listens, port 0 resolved."""
        names = [listener.getsockname() for listener in self._listeners]
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

    def now(self) -> bytes:
        """The reply's time stamp; made once a second."""
        now_us = self.clock.now_us()
        second = now_us // 1_000_000
        if second != self._second[0]:
            self._second = (second, hl7_time(now_us).encode())
        return self._second[1]

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, context: ssl.SSLContext) -> None:
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
            task = loop.create_task(self._shake_hands(loop, sock, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await loop.connect_accepted_socket(
                lambda: Connection(self, loop, is_welcome=True), sock, ssl=context, ssl_handshake_timeout=HANDSHAKE_S_MAX
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


class Connection(asyncio.Protocol):
    """One sender's connection. Replies leave in the order in which frames came, none before its record is durable."""

    __slots__ = (
        "_decoder",
        "_heard_at",
        "_idle",
        "_is_welcome",
        "_loop", "_octets",
        "_paused_at",
        "_peer",
        "_pending",
        "_reading",
        "_transport",
        "_waits",
        "feed",
    )  # fmt: skip

    def __init__(self, feed: MllpFeed, loop: asyncio.AbstractEventLoop, *, is_welcome: bool = False) -> None:
        self.feed = feed
        self._loop = loop
        self._is_welcome = is_welcome  # it was looked at before its handshake
        self._decoder = Decoder(feed.feed.frame_bytes_max)
        self._pending: deque[Pending | PendingBroken] = deque()
        self._octets = 0
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._peer = ""
        self._reading = True
        self._waits = False  # for room for its open frame
        self._paused_at: float | None = None
        self._heard_at = feed.clock.monotonic()

    # -- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it at once where the peer is not allowed or there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        feed = self.feed
        name = transport.get_extra_info("peername") or ("",)
        self._peer = str(name[0])
        if not self._is_welcome and not feed.welcomes(self._peer):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._transport = transport
        feed.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Record what the peer left unfinished."""
        del error
        self._cancel_idle()
        if self._transport is None:
            return
        self._transport = None
        self.feed.connections.discard(self)
        self.feed.frames.release(self)
        for event in self._decoder.finish():
            self._take(event)
        self.feed.noise_bytes += self._decoder.noise_bytes
        self.feed.bare_ends += self._decoder.bare_ends

    def data_received(self, data: bytes) -> None:
        """Decode what came; every whole frame goes to the doorway."""
        if self._transport is None:
            return
        self._heard_at = self.feed.clock.monotonic()
        if self._idle is not None:
            self._cancel_idle()
        decoder = self._decoder
        events = decoder.receive(data)
        for event in events:
            self._take(event)
        is_long = False
        if decoder.is_open:
            self._idle = self._loop.call_later(IDLE_S, self._on_idle)
            is_long = decoder.held >= FRAME_BYTES_FREE
        if is_long or self.feed.frames.holders:
            if events:
                self.feed.frames.release(self)  # the next frame has no right to the turn of the one that ended
            self._account()
        if len(self._pending) >= PENDING_MAX or self._octets >= PENDING_BYTES_MAX:
            self._set_reading()

    def _account(self) -> None:
        """Say how much the open frame holds; where all of them hold too much, this one waits for its turn."""
        frames, held = self.feed.frames, self._decoder.held
        if held < FRAME_BYTES_FREE:
            frames.release(self)
            if self._waits:
                self.go_on()
        elif not frames.hold(self, held):
            self._waits = True
            self._set_reading()

    def go_on(self) -> None:
        """There is room for the open frame again."""
        self._waits = False
        self._heard_at = self.feed.clock.monotonic()
        self._set_reading()

    def pause_writing(self) -> None:
        """The source does not read its replies: stop reading from it."""
        self._paused_at = self.feed.clock.monotonic()
        self._set_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused_at = None
        self._set_reading()

    # -- silence ----------------------------------------------------------------------------------------------------

    def look_at_silence(self, now: float, feed: Mllp) -> None:
        """Close a connection that reads no replies, stays silent inside a frame, or longer than the feed allows."""
        if self._paused_at is not None:
            if now - self._paused_at > feed.answer_s_max:
                self._give_up("NOD-14")
            return
        if self._waits:  # it is we who do not read
            if now - self._heard_at > TURN_S_MAX:
                self.feed.frames.give_up_oldest()
            return
        limit = FRAME_S_MAX if self._decoder.is_open else feed.idle_s_max
        if limit and not self._pending and now - self._heard_at > limit:
            self._give_up("NOD-15")

    def close(self) -> None:
        """Close after what is written has left."""
        if self._transport is not None:
            self._transport.close()

    def give_up_turn(self) -> None:
        """Others have waited for the end of this frame as long as they may."""
        self._give_up("NOD-15")

    def _give_up(self, code: str) -> None:
        log.warning("mllp.closed", code=code, feed=self.feed.feed.name, peer=self._peer)
        self.feed.door.counts.last_error = (code, self.feed.clock.now_us())
        if self._transport is not None:
            self._transport.abort()

    def _on_idle(self) -> None:
        self._idle = None
        for event in self._decoder.idle():
            self._take(event)
        self._account()

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    # -- messages ---------------------------------------------------------------------------------------------------

    def _take(self, event: Frame | Broken) -> None:
        if isinstance(event, Frame):
            self._take_message(event.payload)
        else:
            self._take_broken(event)

    def _take_message(self, raw: bytes) -> None:
        feed = self.feed
        verdict = check(raw, feed.rules)
        pending = Pending(self, raw, verdict)
        self._pending.append(pending)
        self._octets += len(raw)
        found, code = verdict.facts, verdict.code
        feed.intake.store(
            feed.door,
            body=raw,
            message_type=safe_type(found.route.message_type) if found else "",
            control_id=found.control_id.decode("utf-8", "backslashreplace") if found else "",
            peer=self._peer,
            verdict=int(verdict.outcome),
            refusal=Refusal(code=code, location=verdict.location) if code else None,
            answer=pending.answer,
        )
        if code:
            feed.door.counts.last_error = (code, feed.clock.now_us())
            log.info("mllp.judged", code=code, feed=feed.feed.name, peer=self._peer, outcome=verdict.outcome.name)

    def _take_broken(self, event: Broken) -> None:
        feed, code = self.feed, event.error.code
        pending = PendingBroken(self, event)
        self._pending.append(pending)
        self._octets += pending.octets
        feed.door.counts.last_error = (code, feed.clock.now_us())
        log.warning("mllp.broken", code=code, feed=feed.feed.name, peer=self._peer, length=event.length)
        feed.intake.store_broken(
            feed.door, head=event.head, length=event.length, sha256=event.sha256, control_id=control_id(event.head), peer=self._peer,
            code=code, answer=pending.answer,
        )  # fmt: skip

    def flush(self) -> None:
        """Write the replies that are ready, in the order in which their frames came."""
        pending, transport = self._pending, self._transport
        while pending and (reply := pending[0].reply) is not None:
            self._octets -= pending.popleft().octets
            if reply and transport is not None:
                transport.write(encode(reply))
        if not self._reading:
            self._set_reading()

    def _set_reading(self) -> None:
        """Read while the source reads its replies and has not too many frames under way."""
        wanted = len(self._pending) < PENDING_MAX and self._octets < PENDING_BYTES_MAX
        wanted = wanted and self._paused_at is None and not self._waits
        if self._transport is not None and wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


@lru_cache(maxsize=512)  # a site sends some tens of types
def safe_type(message_type: bytes) -> str:
    """MSH-9 where it has the form of one, else empty: headers are permanent, and a sender may write anything there."""
    return message_type.decode() if MESSAGE_TYPE.fullmatch(message_type) else ""
