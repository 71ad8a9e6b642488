"""The mark (DSCP) that a connection arrived with. Carriers bleach it; only the receiver can tell, and it tells the node in each answer."""

import socket
from contextlib import suppress
from typing import Any

DSCP_HEADER = "Wasl-DSCP"
# Values of linux/tcp.h that Python's socket module does not name. The kernel keeps the headers of a connection's first packet
# for us: later packets' marks cannot be read from a TCP socket, and TOS of the accepted one is our own.
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28
SYN_BYTES_MAX = 256  # IP and TCP headers with all their options are at most 120
IPV4_BYTES_MIN, IPV6_BYTES_MIN = 20, 40


def save_marks(listener: socket.socket) -> None:
    """Have the kernel keep the first packet's headers of each connection; where it cannot, no mark is told."""
    with suppress(OSError):
        listener.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)


def mark_of(transport: Any) -> int | None:
    """The DSCP that an accepted connection's first packet bore; None where it is not known. To be asked once: the kernel then forgets."""
    sock = transport.get_extra_info("socket")
    try:
        return read_mark(sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, SYN_BYTES_MAX))
    except (OSError, AttributeError):
        return None


def read_mark(packet: bytes) -> int | None:
    """The DSCP of an IP packet's header; None where it is none."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_BYTES_MIN:
        return packet[1] >> 2  # RFC 2474 section 3: the upper six bits of the former TOS octet
    if version == 6 and len(packet) >= IPV6_BYTES_MIN:
        return (packet[0] & 0xF) << 2 | packet[
            1
        ] >> 6  # RFC 8200 section 3: the traffic class follows four bits of version
    return None
