"""Listening: sockets of IPv4 and IPv6, TLS, and who may connect. The same for every kind of feed that listens."""

import ipaddress
import socket
import ssl

from node.config.addresses import Address, Network
from node.config.feeds import Tls

# answers are single bytes, an order a kilobyte
KEEPALIVE = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 20,
    socket.TCP_KEEPCNT: 6,
}  # an analyzer that was switched off is found in 3 min


def keep_alive(sock: socket.socket) -> None:
    """Find out within minutes that a peer is gone which says nothing any more, as after a power cut."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def is_within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[Network, ...]) -> bool:
    """Whether the address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def open_listener(address: Address) -> socket.socket:
    """A listening socket. An IPv6 one takes IPv6 only: IPv4 has its own line in the configuration."""
    family, kind, protocol, _, name = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """TLS of the feed (IHE ATNA): 1.2 at least, because hospital systems are old; with client_ca the source must show a certificate."""
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
