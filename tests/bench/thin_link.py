"""A thin link in user space: one queue for all connections each way, drained at a rate, then a delay. For kernels without netem; needs no rights.

The queue is a router's without classes, so marks help nobody here: what a lane gains, it gains by what the others do not send.

It carries streams, and a stream cannot lose a byte. What stands for a lost packet is what TCP makes of it in the best case: it takes the link
twice, and its stream waits a round trip for the repetition, longer when that is lost too. A window that shrinks is not in it: for that the
loss must be real (tests/hosts_net.py).
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

PACKET_BYTES = 1400
QUEUE_PACKETS = 6  # 1 s of 64 kbit/s: a small router's queue, and unkind enough
RECEIVE_BYTES = 2304  # the kernel's least: what it takes ahead of our queue would be a second queue
ORDER_S = 1e-6  # between two packets of one stream that come together: the loop keeps no order among equal times
RECEIVE_S = 0.1  # or, at higher rates, so much of the link: a window below what delayed acknowledgements need would be the bottleneck


@dataclass(eq=False)
class _Sink:
    """Where a stream's packets go, and when the last of them comes there: no later one comes before it."""

    deliver: Callable[[bytes], Awaitable[None]]
    last_at: float = 0.0


class _Direction:
    """One way through: packets of all connections in order of arrival."""

    def __init__(self, rate: float, delay_s: float, dice: Callable[[], float]) -> None:
        self.rate, self.delay_s, self.loss = rate, delay_s, 0.0
        self.octets, self.packets, self.lost = 0, 0, 0
        self._dice = dice
        self._under_way: set[asyncio.Future[None]] = set()
        self._queue: asyncio.Queue[tuple[bytes, _Sink]] = asyncio.Queue(QUEUE_PACKETS)

    async def put(self, packet: bytes, sink: _Sink) -> None:
        await self._queue.put((packet, sink))

    async def run(self, open_: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        while True:
            packet, sink = await self._queue.get()
            await open_.wait()
            times = self._times()
            free_at = max(free_at, loop.time()) + times * len(packet) / self.rate
            await asyncio.sleep(free_at - loop.time())
            self.octets += len(packet)
            self.packets, self.lost = self.packets + times, self.lost + times - 1
            # a round trip until the repetition is asked for, and twice as long each time that it is lost too
            waits_s = 2 * self.delay_s * (2 ** (times - 1) - 1)
            sink.last_at = max(sink.last_at + ORDER_S, loop.time() + self.delay_s + waits_s)
            loop.call_at(sink.last_at, self._deliver, packet, sink)

    def _times(self) -> int:
        """How often a packet must be sent until it comes through."""
        times = 1
        while self._dice() < self.loss:
            times += 1
        return times

    def _deliver(self, packet: bytes, sink: _Sink) -> None:
        task = asyncio.ensure_future(sink.deliver(packet))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class ThinLink:
    """Forwards 127.0.0.1:port to `upstream` in a thread of its own. `up`: False refuses and cuts every connection."""

    def __init__(
        self, port: int, upstream: int, *, rate: float, delay_s: float, dice: Callable[[], float] | None = None
    ) -> None:
        self.port, self.upstream = port, upstream
        self.up = True
        dice = dice or Random(0).random
        self._ways = [_Direction(rate, delay_s, dice), _Direction(rate, delay_s, dice)]
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

    @property
    def packets(self) -> tuple[int, int]:
        """How many packets were sent, and how many of them were lost."""
        return sum(way.packets for way in self._ways), sum(way.lost for way in self._ways)

    def shape(self, *, rate: float, delay_s: float, loss: float) -> None:
        """The link is another one from the next packet on."""
        for way in self._ways:
            way.rate, way.delay_s, way.loss = rate, delay_s, loss

    def carry(self, carries: bool) -> None:
        """False: nothing passes any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._open.set if carries else self._open.clear)

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
        self._stop, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()
        tasks = [asyncio.create_task(way.run(self._open)) for way in self._ways]
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes())
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

    def _receive_bytes(self) -> int:
        return max(RECEIVE_BYTES, int(self._ways[0].rate * RECEIVE_S))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            near, _ = await self._loop.sock_accept(listener)
            if not self.up:
                near.close()
                continue
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes())
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
            await asyncio.sleep(2 * self._ways[0].delay_s)  # what is still on the way
        finally:
            for sock in (near, far):
                sock.close()

    async def _pump(self, way: _Direction, source: socket.socket, sink: socket.socket) -> None:
        in_order = asyncio.Lock()  # a sink that takes only half of a packet must not get the next one between

        async def deliver(packet: bytes) -> None:
            with suppress(OSError):
                async with in_order:
                    await self._loop.sock_sendall(sink, packet)

            if not packet:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)

        order = _Sink(deliver)
        with suppress(OSError):
            while packet := await self._loop.sock_recv(source, PACKET_BYTES):
                await way.put(packet, order)
        await way.put(b"", order)


def raw_goodput(link: ThinLink, sink: socket.socket, seconds: float) -> float:
    """Bytes a second that plain TCP brings through the link to `sink`, which listens where the link leads."""
    sock = socket.create_connection(("127.0.0.1", link.port))
    peer, _ = sink.accept()
    with sock, peer:
        return tcp_rate(sock, peer, seconds, 2)


def tcp_rate(sock: socket.socket, peer: socket.socket, seconds: float, warm_s: float) -> float:
    """Bytes a second of one plain TCP connection from `sock` to `peer`, with as little unsent as the node's has."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 4096)

    def send() -> None:
        with suppress(OSError):
            while True:
                sock.sendall(bytes(4096))

    threading.Thread(target=send, daemon=True).start()
    warm_until = time.perf_counter() + warm_s  # what the queues took at once is no rate
    while time.perf_counter() < warm_until:
        peer.recv(65536)
    began, octets = time.perf_counter(), 0
    while (now := time.perf_counter()) - began < seconds:
        octets += len(peer.recv(65536))
    return octets / (now - began)
