"""The listeners of a feed: who may connect is decided before a handshake or a byte costs anything."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

import structlog

from node.config.addresses import Address, Network
from node.config.feeds import Tls
from node.errors import CannotListen
from node.feeds.listeners import is_within, open_listener, tls_context

BACKLOG = 512  # connections the kernel holds for us while the loop is busy: a whole site reconnecting after a power cut
HANDSHAKE_S_MAX = 10.0  # two round trips and one signature; a slow radio link needs two seconds
ACCEPT_AGAIN_S = 0.1  # a file descriptor may be free again by then

log = structlog.get_logger()


class Listening(Protocol):
    """What a doorstep asks of a feed's table."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def allow(self) -> tuple[Network, ...]:
        """Who may come."""

    @property
    def tls(self) -> Tls | None:
        """Under which certificate, if under any."""

    @property
    def connections_max(self) -> int:
        """How many at a time."""


class Doorstep:
    """Listens for one feed at some of its addresses.

    `connections`: those that are open, `coming`: those being made, on all doorsteps of the feed; `refused` is told code and peer of one
    that may not come.
    """

    def __init__(
        self,
        feed: Listening,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        listen: tuple[Address, ...],
        connections: AbstractSet[asyncio.BaseProtocol],
        coming: set[asyncio.BaseProtocol],
        refused: Callable[[str, str], None],
    ) -> None:
        self._feed = feed
        self._protocol, self._listen = protocol, listen
        self._connections, self._coming = connections, coming
        self._refused = refused
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = (
            set()
        )  # one for each listener, one for each connection that is being made

    def open(self) -> None:
        """Listen. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        for address in self._listen:
            try:
                context, listener = tls_context(self._feed.tls), open_listener(address)
                self._listeners.append(listener)
                listener.listen(BACKLOG)
                listener.setblocking(False)
            except (OSError, ssl.SSLError) as error:
                raise CannotListen(f"feed {self._feed.name}: {address}: {error}") from error
            self._tasks.add(loop.create_task(self._accept(loop, listener, context)))

    def addresses(self) -> list[Address]:
        """Where it really listens, port 0 resolved."""
        names = [listener.getsockname() for listener in self._listeners]
        return [Address(name[0], name[1]) for name in names]

    def close(self) -> None:
        """Take no connection more."""
        for task in self._tasks:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    def admits(self, peer: str) -> bool:
        """Whether this address may send here."""
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return is_within(mapped or address, self._feed.allow)

    @property
    def _count(self) -> int:
        """One that is open stays among the coming ones until its task has seen it: it is counted once."""
        return len(self._connections) + sum(each not in self._connections for each in self._coming)

    def _welcomes(self, peer: str) -> bool:
        code = ""
        if not self.admits(peer):
            code = "NOD-12"
        elif self._count >= self._feed.connections_max:
            code = "NOD-13"
        if code:
            self._refused(code, peer)
        return not code

    async def _accept(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        while True:
            try:
                sock, name = await loop.sock_accept(listener)
            except OSError as error:  # no file descriptors left, or it is gone again
                log.warning("feed.not_accepted", feed=self._feed.name, error=type(error).__name__)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            if not self._welcomes(str(name[0])):
                sock.close()
                continue
            protocol = self._protocol()
            self._coming.add(protocol)
            task = loop.create_task(self._let_in(loop, protocol, sock, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _let_in(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        sock: socket.socket,
        context: ssl.SSLContext | None,
    ) -> None:
        limit = None if context is None else HANDSHAKE_S_MAX
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context, ssl_handshake_timeout=limit)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            log.info("feed.no_handshake", feed=self._feed.name, error=type(error).__name__)
            sock.close()
        finally:
            self._coming.discard(protocol)
