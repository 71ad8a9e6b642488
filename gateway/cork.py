"""One packet for an answer that fits into one. uvicorn writes head and body by themselves, and on a bad line either may be lost."""

import socket
from contextlib import suppress
from typing import Any


def hold_back(transport: Any, *, held: bool) -> None:
    """Let the kernel keep what does not fill a packet (for 200 ms at most), or send it now."""
    with suppress(OSError, AttributeError):  # a kernel without it sends two packets, as ever
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(held))
