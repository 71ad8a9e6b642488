"""ASTM lines over TCP: instruments that call here, and those that are called."""

import asyncio
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any, cast

import structlog

from node.config.addresses import Address
from node.errors import CannotListen
from node.feeds.astm_line import Line
from node.feeds.listeners import is_within, keep_alive, open_listener, tls_context
from node.feeds.plug import watch_over

if TYPE_CHECKING:
    from node.feeds.astm import AstmFeed

BACKLOG = 64  # a laboratory after a power cut
HANDSHAKE_S_MAX = 10.0  # two round trips and one signature; a slow radio link needs two seconds
AGAIN_S_MIN, AGAIN_S_MAX = (
    1.0,
    30.0,
)  # an analyzer that was switched on waits half a minute at most for its results to go
CONNECT_S_MAX = 10.0  # it stands in the same building
UNREAD_BYTES_MAX = 64 * 1024
log = structlog.get_logger()


class Connection(asyncio.Protocol):
    """One TCP connection that carries a line."""

    def __init__(self, feed: "AstmFeed", *, is_called: bool = False) -> None:
        self._feed = feed
        self._is_called = is_called
        self.line: Line | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it at once where the peer is not allowed or there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._is_called and not welcomes(self._feed, peer):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            keep_alive(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def flow(is_reading: bool) -> None:
            (transport.resume_reading if is_reading else transport.pause_reading)()

        self._transport = transport
        self.line = Line(self._feed, peer, write=self._write, flow=flow)
        self._feed.add(self.line)

    def _write(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._transport.abort()  # it asks, and reads no answer
        else:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Bytes of the line."""
        if self.line is not None:
            self.line.received(data)

    def connection_lost(self, error: Exception | None) -> None:
        """The line is gone."""
        del error
        if self.line is not None:
            self.line.close()
        if not self.over.done():
            self.over.set_result(None)

    def close(self) -> None:
        """Close the connection."""
        if self.line is not None:
            self._transport.abort()
            self.line.close()


def welcomes(feed: "AstmFeed", peer: str) -> bool:
    """Whether one more connection of this peer may come; one that may not is logged."""
    code = ""
    if not peer or not _admits(feed, peer):
        code = "NOD-12"
    elif len(feed.lines) >= feed.feed.connections_max:
        code = "NOD-13"
    if code:
        log.warning("astm.refused", code=code, feed=feed.door.feed, peer=peer)
        feed.note(code)
    return not code


def _admits(feed: "AstmFeed", peer: str) -> bool:
    address = ipaddress.ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return is_within(mapped or address, feed.feed.allow)


class Listeners:
    """The feed's listening addresses."""

    def __init__(self, feed: "AstmFeed") -> None:
        self._feed = feed
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        for address in self._feed.feed.listen:
            try:
                context, listener = tls_context(self._feed.feed.tls), open_listener(address)
                self._sockets.append(listener)
                shake = HANDSHAKE_S_MAX if context else None
                self._servers.append(
                    await loop.create_server(
                        self._connect, sock=listener, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=shake
                    )
                )
            except (OSError, ssl.SSLError) as error:
                raise CannotListen(f"feed {self._feed.door.feed}: {address}: {error}") from error

    def _connect(self) -> Connection:
        connection = Connection(self._feed)
        self._connections.add(connection)
        connection.over.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    async def stop(self) -> None:
        """Close all."""
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        for connection in list(self._connections):
            connection.close()

    def addresses(self) -> list[str]:
        """Where it really listens, port 0 resolved."""
        names = [sock.getsockname() for sock in self._sockets]
        return [str(Address(name[0], name[1])) for name in names]

    def facts(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}


class Caller:
    """The feed's connection to an instrument that listens: made again whenever it is lost."""

    def __init__(self, feed: "AstmFeed", address: Address) -> None:
        self._feed, self._address = feed, address
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._error = ""

    async def start(self) -> None:
        """Begin to call; whether the instrument is on today is no matter of the node's start."""
        self._task = asyncio.get_running_loop().create_task(self._call())
        watch_over(self._task, self._feed.door.feed, self._feed.around.die)

    async def _call(self) -> None:
        loop, wait = asyncio.get_running_loop(), AGAIN_S_MIN
        while True:
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    _, made = await loop.create_connection(
                        lambda: Connection(self._feed, is_called=True), self._address.host, self._address.port
                    )
            except (OSError, TimeoutError) as error:
                if not self._error:
                    log.info("astm.not_connected", feed=self._feed.door.feed, error=type(error).__name__)
                self._error = type(error).__name__
                await asyncio.sleep(wait)
                wait = min(2 * wait, AGAIN_S_MAX)
                continue
            self._connection, self._error, wait = made, "", AGAIN_S_MIN
            await made.over
            self._connection = None
            await asyncio.sleep(AGAIN_S_MIN)

    async def stop(self) -> None:
        """Call no more, and close."""
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.close()

    def addresses(self) -> list[str]:
        """Whom it calls, once connected."""
        return [str(self._address)] if self._connection is not None else []

    def facts(self) -> dict[str, Any]:
        """Whether the instrument is there."""
        return {
            "calls": {
                "address": str(self._address),
                "connected": self._connection is not None,
                "error": self._error,
            }
        }
