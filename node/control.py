"""The core's control socket: one line of JSON in, one out. The page's process and the command line ask here; a dead core does not answer."""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from node.errors import CoreSilent

SOCKET_NAME = "core.sock"
REQUEST_BYTES_MAX = 4096  # an order is a word, and perhaps what it is about
ANSWER_BYTES_MAX = 4 * 1024 * 1024  # metrics of a thousand streams
WAIT_S_MAX = 5.0  # a probe waits for one group commit on a slow card
CLIENTS_MAX = 32  # page, command line, monitoring

Order = Callable[..., Coroutine[Any, Any, Any]]

log = structlog.get_logger()


@contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """A path to the socket that fits sockaddr_un's 108 bytes, however deep the folder lies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


class ControlServer:
    """Answers orders of processes of the same user, of root, and of those in the folder's group."""

    def __init__(self, folder: Path, orders: dict[str, Order]) -> None:
        self._folder = folder
        self._orders = orders
        self._clients = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen in the data folder; a socket left by an earlier start is replaced."""
        (self._folder / SOCKET_NAME).unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _reachable(self._folder) as path:
            sock.bind(path)
        (self._folder / SOCKET_NAME).chmod(0o660)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=REQUEST_BYTES_MAX)

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
        (self._folder / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MAX and _allowed(writer.get_extra_info("socket")):
                line = await asyncio.wait_for(reader.readline(), WAIT_S_MAX)
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, OSError) as error:
            log.info("control.failed", error=type(error).__name__)
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        name, *words = line.decode("ascii", "replace").split() or [""]
        order = self._orders.get(name)
        if order is None:
            return {"error": "unknown order"}
        try:
            return {"answer": await asyncio.wait_for(order(*words), WAIT_S_MAX)}
        except Exception as error:  # noqa: BLE001  # the asker gets the name, whatever it was; the core goes on
            return {"error": getattr(error, "code", type(error).__name__)}


def _allowed(sock: socket.socket) -> bool:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, group = struct.unpack("3i", credentials)
    return user in {0, os.getuid()} or group == os.getgid()


def ask(folder: Path, order: str) -> Any:  # JSON
    """Ask the core of this data folder; blocking. Raises CoreSilent where it does not answer, or answers with an error."""
    try:
        with _reachable(folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(WAIT_S_MAX)
            sock.connect(path)
            sock.sendall(order.encode("ascii") + b"\n")
            data = _read_all(sock)
        found = json.loads(data)
    except (OSError, ValueError) as error:
        raise CoreSilent(type(error).__name__) from error
    if not isinstance(found, dict) or "answer" not in found:
        raise CoreSilent(str(found.get("error")) if isinstance(found, dict) else "not an answer")
    return found["answer"]


def _read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while len(data) <= ANSWER_BYTES_MAX and (part := sock.recv(65536)):
        data += part
    return bytes(data)
