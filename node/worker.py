"""A worker process as the core has it: started when first needed, given a time for each body, killed where it takes longer. Inside: `worker_process.py`."""

import asyncio
import contextlib
import json
import socket
import subprocess
from typing import Any, Self

import structlog

from node.worker_process import LENGTH

START_S_MAX = 20.0  # to import its libraries: 0.3 s here, several on a busy card
WAITING_MAX = 8  # bodies that wait for their turn; more would only be told later that there was no time
ANSWER_BYTES_MAX = 256 * 1024  # the workers' own bounds make less

log = structlog.get_logger()


class Worker:
    """One process at most, for one kind of work. Used from the event loop only. `killed`: how often it gave no answer and was ended."""

    def __init__(self, command: tuple[str, ...], *, name: str, code: str, octets_max: int, answer_s_max: float) -> None:
        self._command, self._answer_s_max = command, answer_s_max
        self._name, self._code, self._octets_max = name, code, octets_max
        self._process: _Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.killed = 0

    async def ask(self, body: bytes) -> list[Any] | None:
        """The worker's rows about a body; None where there is no answer in time, and nothing is known."""
        if len(body) > self._octets_max or self._waiting >= WAITING_MAX:
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout(self._answer_s_max + START_S_MAX), self._turn:
                return await self._ask(body)
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1

    async def start(self) -> None:
        """Start the worker before it is needed: who asks first shall not wait for it."""
        with contextlib.suppress(OSError):
            await self._started()

    async def stop(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    async def _ask(self, body: bytes) -> list[Any] | None:
        try:
            process, limit = await self._started()
            async with asyncio.timeout(limit):
                return await process.exchange(body)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            log.warning(self._name, code=self._code, error=type(error).__name__)
        except asyncio.CancelledError:
            await self._drop()  # its answer to this one must not be taken for the next one's
            raise
        await self._drop()
        return None

    async def _started(self) -> tuple["_Process", float]:
        """The worker, and how long it may take: longer where it has to start. Raises OSError."""
        if self._process is not None:
            return self._process, self._answer_s_max
        self._process = await _Process.start(self._command)
        return self._process, START_S_MAX

    async def _drop(self) -> None:
        self.killed += 1
        await self.stop()


def _spawn(command: tuple[str, ...], pipe: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603  # our own command


class _Process:
    """One process, and our end of the socket pair that is its standard input and output."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, command: tuple[str, ...]) -> Self:
        """Raises OSError. By Popen, which forks no thread's state: the core has many, and the loop's own way runs Python in the child."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _spawn(command, theirs.fileno())
            except OSError:
                ours.close()
                raise
        return cls(process, *await asyncio.open_connection(sock=ours, limit=ANSWER_BYTES_MAX))

    async def exchange(self, body: bytes) -> list[Any]:
        """Send a body, read its answer. Raises OSError, EOFError (IncompleteReadError), ValueError where the worker is not well."""
        self._writer.write(LENGTH.pack(len(body)) + body)
        await self._writer.drain()
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        if length > ANSWER_BYTES_MAX:
            raise ValueError("an answer that is too long")
        rows = json.loads(await self._reader.readexactly(length))
        if not isinstance(rows, list):
            raise ValueError("an answer that is no list")  # noqa: TRY004  # as any other answer that is none
        return rows

    def end(self) -> None:
        """Kill it."""
        self._writer.close()
        self._process.kill()
        self._process.wait()  # a killed process is gone within a millisecond
