"""The line feed: reports of devices that just print, over a serial port or TCP. A report is stored as it came; most devices wait for no answer.

There is no handshake: what a device sends while the port is away, or while this process does not run, is gone. That time becomes a gap record.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from hl7.devices.profile_errors import FramingDiffers
from node.config.line import Lines
from node.config.serial import Line
from node.errors import CannotListen
from node.feeds.kinds import Surroundings
from node.feeds.line_away import Away
from node.feeds.line_session import Session
from node.feeds.listeners import is_within, keep_alive, open_listener, tls_context
from node.feeds.named_profile import named_by
from node.feeds.port_alarms import PortAlarms
from node.feeds.rest import REST_S
from node.intake import Door, Intake
from node.lines.serial_errors import TAKEN
from node.lines.serial_port import SerialPort
from node.lines.trace import LineTrace

if TYPE_CHECKING:
    from socket import socket

BACKLOG: Final = 32  # as many ports as a terminal server has, all calling after a power cut
HANDSHAKE_S_MAX: Final = 10.0
# Between two reads of a port whose device waits for no answer; of 4,096 bytes that the kernel keeps a seventh: REST_S of 115200 baud.
REST_BYTES_MAX: Final = 576

log = structlog.get_logger()


class LineFeed:
    """One configured source of printed reports."""

    def __init__(self, feed: Lines, door: Door, intake: Intake, around: Surroundings) -> None:
        profile, self.source = named_by(feed.name, feed.profile, around.profiles)
        try:
            self.feed = feed.with_profile(profile.link) if profile else feed
            self._own_keys = feed.framed_otherwise(profile.link) if profile else ()
            self._line = self._line_of(feed, dict(profile.serial) if profile else {})
        except ValueError as error:
            raise CannotListen(f"feed {feed.name}: profile {feed.profile}: {error}") from error
        self.door, self.intake = door, intake
        self.clock = around.clock
        self.alarms, self.port_alarms = around.alarms, PortAlarms(around.alarms, feed.name)
        charset = profile.charset if profile else ""
        self.trace = LineTrace(around.clock.now_us, framing=self.feed.framing, charset=charset)
        self.connections: set[Session] = set()
        self._leaving: set[Session] = set()  # closed, and what they brought still waits for room
        self.away = Away(feed.name, door, intake, around, heard_since_us=self._heard_since_us)
        self.noise_bytes = self.blank_bytes = self.lost = 0
        self._port: SerialPort | None = None
        self._servers: list[asyncio.Server] = []
        self.peers: set[_Peer] = set()

    def _line_of(self, feed: Lines, serial: dict[str, Any]) -> Line | None:
        if feed.serial is not None:
            return feed.serial.line(serial)
        return None if feed.connect is None else Line(port=f"socket://{feed.connect}")

    def _rest_s(self, line: Line) -> float:
        """Between two reads of a port: none where the device waits for an answer. A pause is told to a tenth."""
        if self.feed.answer is not None or self.feed.answer_bad is not None:
            return 0.0
        return min(REST_S, 10 * REST_BYTES_MAX / line.baud, self.feed.framing.quiet_s / 10)

    # -- start and stop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, or open the port, now or as soon as it is there. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        self.away.start()
        if self._own_keys:  # check-config refuses it; reports that were printed are kept all the same
            self.alarms.raised(FramingDiffers.code, self.feed.name)
        if self._line is not None:
            name = self.feed.name
            self._port = SerialPort(
                name,
                self._line,
                _Owner(self),
                loop=loop,
                monotonic=self.clock.monotonic,
                rest_s=self._rest_s(self._line),
            )
            self._port.start()
            return
        sockets: list[socket] = []
        try:
            sockets += [open_listener(address) for address in self.feed.listen]
            tls = tls_context(self.feed.tls)
        except (OSError, ssl.SSLError) as error:
            for each in sockets:
                each.close()
            raise CannotListen(
                f"{self.feed.name}: {', '.join(map(str, self.feed.listen))}: {error.strerror}"
            ) from error
        shaking = HANDSHAKE_S_MAX if tls else None
        for each in sockets:
            server = await loop.create_server(
                partial(_Peer, self), sock=each, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=shaking
            )
            self._servers.append(server)
        self.away.returned()

    async def stop(self) -> None:
        """Take nothing more; what had come of a report is recorded as cut off."""
        for server in self._servers:
            server.close()
        if self._port is not None:
            await self._port.stop()
        is_open = self._port is None or bool(self.connections)
        for session in list(self.connections):
            session.close()
        # what one sends from now on would be taken for a report by itself, and be the rest of one
        for peer in list(self.peers):
            peer.close()
        self.away.stop(is_open=is_open)

    # -- sessions ---------------------------------------------------------------------------------------------------

    def begin(self, peer: str, write: Callable[[bytes], object], hold: Callable[[bool], None] | None = None) -> Session:
        """A line is open. `hold`: how its sender is made to wait, where it can be."""
        session = Session(self, peer, write=write, hold=hold)
        self.connections.add(session)
        session.connection = self.trace.opened(peer)
        return session

    def ended(self, session: Session) -> None:
        """A line is no longer open."""
        self.connections.discard(session)
        self._leaving.add(session)
        self.trace.noted("away", session.peer, session.connection)

    def refused(self, code: str, peer: str) -> None:
        """One that may not connect did."""
        log.warning("line.refused", code=code, feed=self.feed.name, peer=peer)
        self.door.counts.last_error = (code, self.clock.now_us())

    def _heard_since_us(self) -> int:
        """When the oldest began of what is in memory alone; 0: nothing is."""
        return min((since for session in self.holding() if (since := session.since_us)), default=0)

    def holding(self) -> set[Session]:
        """The lines that are open, and those that are not and whose reports still wait: all that take memory."""
        self._leaving = {session for session in self._leaving if session.since_us}
        return self.connections | self._leaving

    def heard(self, session: Session) -> None:
        """What its bytes say of the settings; a network has none."""
        if self.feed.serial is not None:
            self.port_alarms.heard(session.heard.condition)

    # -- for the status ---------------------------------------------------------------------------------------------

    def addresses(self) -> list[str]:
        """Where it listens, or what it has open."""
        if self._line is not None:
            return list(self.feed.places)
        return [_shown(sock.getsockname()) for server in self._servers for sock in server.sockets]

    def facts(self) -> dict[str, Any]:
        """The port's story, and what its bytes say of the settings."""
        told: dict[str, Any] = {
            "state": "listening" if self._port is None else "open" if self._port.is_open else "away"
        }
        if self._port is not None:
            counts = self._port.counts
            told |= {
                "opens": counts.opens,
                "away": counts.away,
                "bytes_in": counts.bytes_in,
                "bytes_out": counts.bytes_out,
                "marks": counts.marks,
            }
        if self.feed.serial is not None and self._line is not None:
            told |= {"settings": self._line.shorthand, "flow": self._line.flow}
        for session in list(self.connections)[:1]:
            told["doctor"] = session.heard.document()
        waiting = sum(session.waiting for session in self.holding())
        return {
            "line": {
                **told,
                "blank_bytes": self.blank_bytes,
                "waiting": waiting,
                "lost": self.lost,
                "gap": self.away.document(),
            }
        }


class _Owner:
    """What a port tells, as the feed hears it."""

    def __init__(self, feed: LineFeed) -> None:
        self._feed = feed
        self._session: Session | None = None

    def opened(self, _at: float) -> None:
        feed = self._feed
        feed.port_alarms.opened()
        self._session = feed.begin(feed.feed.places[0], self._write)
        feed.away.returned()

    def gone(self, _at: float, error: OSError) -> None:
        feed = self._feed
        code = feed.port_alarms.gone(error)
        if self._session is not None:
            self._session.close()
            self._session = None
        elif code == TAKEN:
            feed.trace.noted("taken")
        feed.away.went(code)

    def received(self, data: bytes, at: float, marks: int) -> None:
        self._feed.away.settle()
        if self._session is not None:
            self._session.received(data, at, marks)

    def stalled(self, _at: float) -> None:
        self._feed.port_alarms.stalled()
        self._feed.trace.noted("stalled")

    def flowing(self, _at: float) -> None:
        self._feed.port_alarms.flowing()

    def _write(self, data: bytes) -> None:
        if (port := self._feed._port) is not None:  # noqa: SLF001  # one noun in two classes
            port.write(data)


class _Peer(asyncio.Protocol):
    """One TCP connection of a device."""

    def __init__(self, feed: LineFeed) -> None:
        self._feed = feed
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        feed, name = self._feed, transport.get_extra_info("peername")
        if not name:  # it was reset before we looked
            transport.close()
            return
        if not is_within(ipaddress.ip_address(name[0].partition("%")[0]), feed.feed.allow):
            feed.refused("NOD-12", name[0])
        elif len(feed.holding()) >= feed.feed.connections_max:
            feed.refused("NOD-13", name[0])
        else:
            both = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
            keep_alive(transport.get_extra_info("socket"))  # a terminal server that lost its power says no more
            self._session, self._transport = feed.begin(_shown(name), both.write, partial(_hold, both)), both
            feed.peers.add(self)
            return
        transport.close()

    def data_received(self, data: bytes) -> None:
        if self._session is not None:
            self._session.received(data, self._feed.clock.monotonic(), 0)

    def connection_lost(self, _error: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        self._feed.peers.discard(self)
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._transport is not None:
            self._transport.close()


def _hold(transport: asyncio.Transport, is_held: bool) -> None:
    if transport.is_closing():
        return
    if is_held:
        transport.pause_reading()
    else:
        transport.resume_reading()


def _shown(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
