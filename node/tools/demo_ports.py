"""The demo's ports: one range on loopback, each port by its place in it."""

import errno
import socket
from dataclasses import dataclass

HOST = "127.0.0.1"
BASE_DEFAULT = 8400  # below the ephemeral ports, so no outgoing connection takes one while the link is cut
RANGE = 24  # five of our own, the hospital's four feeds, eight devices, and some to come
RANGES_MAX = 64  # about a thousand ports in use: then a person has to say where
PORT_MIN, PORT_MAX = 1024, 65_536 - RANGE


class PortTaken(Exception):
    """The machine's: something else listens there, and nobody may be moved aside. Name another range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One range, from `base` on."""

    base: int

    @property
    def page(self) -> int:
        """The demo's page."""
        return self.base

    @property
    def web(self) -> int:
        """The node's page."""
        return self.base + 1

    @property
    def api(self) -> int:
        """The gateway's consumers."""
        return self.base + 2

    @property
    def sync(self) -> int:
        """The gateway's nodes."""
        return self.base + 3

    @property
    def link(self) -> int:
        """Our end of the link that can be cut."""
        return self.base + 4

    def feed(self, place: int) -> int:
        """The feed with this place in the list, from 0."""
        return self.base + 5 + place


def reserve(base: int | None) -> tuple[Ports, socket.socket]:
    """Find a free range, `base`'s or the next one from the default on; give it with the page's listening socket.

    The socket holds the range against a second demo that starts at the same moment. PortTaken, ValueError: bad base.
    """
    if base is not None:
        if not PORT_MIN <= base <= PORT_MAX:
            raise ValueError(f"the port base must be {PORT_MIN} to {PORT_MAX}, not {base}")
        return _take(base)
    for candidate in range(BASE_DEFAULT, BASE_DEFAULT + RANGES_MAX * RANGE, RANGE):
        try:
            return _take(candidate)
        except PortTaken:
            continue
    raise PortTaken(f"no {RANGE} free ports in a row from {BASE_DEFAULT} on; name a base")


def _take(base: int) -> tuple[Ports, socket.socket]:
    page = _bound(base)
    try:
        page.listen()
        for port in range(base + 1, base + RANGE):
            _bound(port).close()
    except OSError:  # two that bound the same port at once: only one may listen
        page.close()
        raise PortTaken(f"port {base} is taken") from None
    except PortTaken:
        page.close()
        raise
    return Ports(base=base), page


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(f"port {port} is taken") from None
        raise
    return sock
