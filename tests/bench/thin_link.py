"""A thin link in user space: one queue for all connections each way, drained at a rate, then a delay. For kernels without netem; needs no rights.

The queue is a router's without classes, so marks help nobody here: what a lane gains, it gains by what the others do not send.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

PACKET_BYTES = 1400
QUEUE_PACKETS = 6  # 1 s of 64 kbit/s: a small router's queue, and unkind enough
RECEIVE_BYTES = 2304  # the kernel's least: what it takes ahead of our queue would be a second queue
RECEIVE_S = 0.1  # or, at higher rates, so much of the link: a window below what delayed acknowledgements need would be the bottleneck


class _Direction:
    """One way through: packets of all connections in order of arrival."""

    def __init__(self, rate: float, delay_s: float) -> None:
        self.rate, self.delay_s = rate, delay_s
        self.octets = 0
        self._under_way: set[asyncio.Future[None]] = set()
        self._queue: asyncio.Queue[tuple[bytes, Callable[[bytes], Awaitable[None]]]] = asyncio.Queue(QUEUE_PACKETS)

    async def put(self, packet: bytes, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        await self._queue.put((packet, deliver))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        while True:
            packet, deliver = await self._queue.get()
            free_at = max(free_at, loop.time()) + len(packet) / self.rate
            await asyncio.sleep(free_at - loop.time())
            self.octets += len(packet)
            loop.call_later(self.delay_s, self._deliver, packet, deliver)

    def _deliver(self, packet: bytes, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(deliver(packet))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class ThinLink:
    """Forwards 127.0.0.1:port to `upstream` in a thread of its own. `up`: False refuses and cuts every connection."""

    def __init__(self, port: int, upstream: int, *, rate: float, delay_s: float) -> None:
        self.port, self.upstream, self.rate, self.delay_s = port, upstream, rate, delay_s
        self.up = True
        self._pumps: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def octets_up(self) -> int:
        """Bytes that went towards `upstream`, TLS and heads included."""
        return self._ways[0].octets

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def cut(self) -> None:
        """Every connection ends now."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        # closed, not shut down: a socket that is only shut down would go on taking bytes for nobody
        for task in self._pumps:
            task.cancel()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._ways = [_Direction(self.rate, self.delay_s), _Direction(self.rate, self.delay_s)]
        tasks = [asyncio.create_task(way.run()) for way in self._ways]
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(RECEIVE_BYTES, int(self.rate * RECEIVE_S)))
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        listener.setblocking(False)
        tasks.append(asyncio.create_task(self._accept(listener)))
        self._ready.set()
        await self._stop.wait()
        self._cut()
        for task in [*tasks, *self._pumps]:
            task.cancel()
        await asyncio.gather(*tasks, *self._pumps, return_exceptions=True)
        listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            near, _ = await self._loop.sock_accept(listener)
            if not self.up:
                near.close()
                continue
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(RECEIVE_BYTES, int(self.rate * RECEIVE_S)))
            for sock in (near, far):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await self._loop.sock_connect(far, ("127.0.0.1", self.upstream))
            except OSError:
                near.close()
                far.close()
                continue
            task = asyncio.create_task(self._carry(near, far))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """One connection to its end in both directions."""
        ways = ((self._ways[0], near, far), (self._ways[1], far, near))
        try:
            await asyncio.gather(*(self._pump(*each) for each in ways))
            await asyncio.sleep(2 * self.delay_s)  # what is still on the way
        finally:
            for sock in (near, far):
                sock.close()

    async def _pump(self, way: _Direction, source: socket.socket, sink: socket.socket) -> None:
        in_order = asyncio.Lock()  # a sink that takes only half of a packet must not get the next one between

        async def deliver(packet: bytes) -> None:
            with suppress(OSError):
                async with in_order:
                    await self._loop.sock_sendall(sink, packet)

        async def end(_: bytes) -> None:
            with suppress(OSError):
                async with in_order:
                    sink.shutdown(socket.SHUT_WR)

        with suppress(OSError):
            while packet := await self._loop.sock_recv(source, PACKET_BYTES):
                await way.put(packet, deliver)
        await way.put(b"", end)


def raw_goodput(link: ThinLink, sink: socket.socket, seconds: float) -> float:
    """Bytes a second that plain TCP brings through the link to `sink`, which listens where the link leads."""
    sock = socket.create_connection(("127.0.0.1", link.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4096)
    peer, _ = sink.accept()

    def send() -> None:
        with suppress(OSError):
            while True:
                sock.sendall(bytes(4096))

    threading.Thread(target=send, daemon=True).start()
    warm_until = time.perf_counter() + 2  # what the queue took at once is no rate
    while time.perf_counter() < warm_until:
        peer.recv(65536)
    began, octets = time.perf_counter(), 0
    while (now := time.perf_counter()) - began < seconds:
        octets += len(peer.recv(65536))
    sock.close()
    peer.close()
    return octets / (now - began)
