"""Sockets towards the gateway: how they are marked, bound, bounded and read. Linux's own options stand here and nowhere else."""

import math
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

# Values of Linux's headers that Python's socket module does not name.
IP_MTU = 14
SO_MAX_PACING_RATE = 47
PACING_MAX = 2**31 - 1  # what fits the option; infinite is -1
# Bytes that the kernel may hold unsent: two segments keep the link busy, more would stand before the next lane's.
# SO_SNDBUF stays the kernel's: it bounds what is on the way as well, and would throttle a satellite's long pipe.
UNSENT_BYTES_MAX = 4096
# Sent and not acknowledged for so long: the path is gone. Several repetitions of TCP at a round trip of 600 ms fit, and the
# node is on the next path within half a minute.
UNACKNOWLEDGED_MS_MAX = 30_000
# A resting connection is asked after half a minute, under the 60 s at which many firewalls forget it, and is dead after three.
KEEPALIVE_IDLE_S, KEEPALIVE_EACH_S, KEEPALIVE_PROBES = 30, 10, 3
MIN_RTT_AT = 148  # of struct tcp_info (linux/tcp.h), u32 microseconds
TCP_INFO_BYTES = 192
HEADERS_BYTES = 40  # of IPv4 and TCP: segment = packet - 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a connection leaves: marked with this DSCP, out of this interface or from this address, in segments of at most `mss` bytes."""

    dscp: int = 0
    interface: str = ""
    source: str = ""
    mss: int = 0


def connect(host: str, port: int, way: Way, timeout_s: float | None) -> socket.socket:
    """A connected socket. Raises OSError (gaierror for a name that does not resolve, TimeoutError) as the last address did."""
    failed: OSError = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            _prepare(sock, way)
            sock.settimeout(timeout_s)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


def _prepare(sock: socket.socket, way: Way) -> None:
    """Set what must stand before the first packet: the gateway reads the mark from the SYN, and the peer learns the segment from it."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, way.dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, way.dscp << 2)
    if way.interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.interface.encode() + b"\0")
    if way.source:
        sock.bind((way.source, 0))
    tcp = socket.IPPROTO_TCP
    if way.mss:
        sock.setsockopt(tcp, socket.TCP_MAXSEG, way.mss)
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(tcp, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, KEEPALIVE_EACH_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def pace(sock: socket.socket, octets_per_s: float) -> None:
    """Let what is written leave at this rate at most, packet by packet."""
    rate = -1 if octets_per_s == math.inf else min(PACING_MAX, max(1, int(octets_per_s)))
    with suppress(OSError):  # a kernel without it sends in bursts, as ever
        sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)


def round_trip_s(sock: socket.socket) -> float:
    """The least round trip that TCP saw on this connection lately; 0.0 where the kernel does not say."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return 0.0
    if len(info) < MIN_RTT_AT + 4:
        return 0.0
    least_us: int = struct.unpack_from("=I", info, MIN_RTT_AT)[0]
    return 0.0 if least_us == 0xFFFFFFFF else least_us / 1_000_000


def path_mtu(sock: socket.socket) -> int:
    """The packet size that the kernel believes this connected path to carry; 0 where it does not say."""
    try:
        return sock.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return 0
