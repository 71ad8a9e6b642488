"""Addresses as a technician writes them: where to listen, who may connect. IPv4 and IPv6 alike."""

import ipaddress
import re
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT_MAX = 65535  # 16 bits on the wire
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")  # RFC 1123 2.1: 253 characters at most
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # compared with, not bound


class Address(NamedTuple):
    """Where to listen: an IP address or host name, and a port; port 0 takes any free one, for tests."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as the configuration does."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def clashes(self, other: "Address") -> bool:
        """Tell whether one machine cannot listen on both; our IPv6 listeners take no IPv4 (IPV6_V6ONLY)."""
        if self.port != other.port or self.port == 0:
            return False
        if self.host == other.host:
            return True
        any_host = _ANY[6 if ":" in self.host else 4]
        return any_host in {self.host, other.host} and (":" in self.host) is (":" in other.host)


def parse_listen(text: str) -> Address:
    """Read "10.0.0.5:2575" or "[::1]:2575"; ValueError says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > len(str(PORT_MAX)) or int(port) > PORT_MAX:
        raise ValueError(f'must be "host:port" with a port from 0 to {PORT_MAX}')
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError("must hold an IPv6 address in its brackets") from None
    if ":" in host:
        raise ValueError(f'must have its IPv6 address in brackets: "[{host}]:{port}"')
    if not _HOST.fullmatch(host):
        raise ValueError('must be "host:port", with 0.0.0.0 or [::] for every address of the machine')
    check_host(host)
    return Address(host, int(port))


def check_host(host: str) -> None:
    """A name that can be asked for: looking up another one is no OSError, and ends whoever does it. Raises ValueError in a technician's words."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("must hold a host whose name has no empty part, and none of more than 63 characters") from None


def parse_network(text: str) -> Network:
    """Read "10.20.0.0/16", "fd00::/8" or a single address; ValueError says what is wrong."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError('must be a network such as "10.20.0.0/16" or "fd00::/8"') from None
    if interface.ip != interface.network.network_address:
        raise ValueError(f'has an address inside its network: write "{interface.network}" or "{interface.ip}"')
    return interface.network
