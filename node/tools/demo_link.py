"""The demo's link between node and gateway: a TCP forwarder that can be cut. It sees TLS only, as a carrier does."""

import asyncio
import contextlib

CONNECT_S_MAX = 3.0  # the gateway is on this machine: it answers at once, or is not there
READ_BYTES = 65_536


class Link:
    """Forwards `port` to `to_port` of the same host while it is up. Cut: what is open is reset, what comes is refused."""

    def __init__(self, host: str, port: int, to_port: int) -> None:
        self._host, self._port, self._to_port = host, port, to_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    async def restore(self) -> None:
        """Take connections again. OSError: somebody else took the port meanwhile."""
        if self._server is None:
            self._server = await asyncio.start_server(self._forward, self._host, self._port)

    def cut(self) -> None:
        """Reset everything and refuse what comes."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.wait_for(
                asyncio.open_connection(self._host, self._to_port), CONNECT_S_MAX
            )
        except (OSError, TimeoutError):  # the gateway is down: the node sees a connection that ends at once
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        if not self.is_up:  # cut while we were connecting
            self.cut()
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._open -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction until its end; the other end is then closed with what is under way."""
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
