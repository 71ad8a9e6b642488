"""A raw connection, under whatever protocol a test speaks over it."""

import socket
from typing import Any, Self

from tests.waiting import WAIT_S_MAX


class Raw:
    """One TCP connection: what is sent is what the test says. `receive_bytes`: the kernel's buffer for what comes, where it matters."""

    def __init__(self, address: tuple[str, int], *, tls: Any = None, receive_bytes: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(WAIT_S_MAX)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address[0])
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)
