"""A bad line between two interfaces, in user space: delay, loss and cuts of whole Ethernet frames, for kernels without sch_netem.

What TCP sees is what it would see of a radio link: a segment that is not there. The rate is the kernel's (tbf on the way out). Needs CAP_NET_RAW,
and offloads off at both ends, or it would see frames of 64 KB without checksums.

Run: python hosts_frames.py IF_UP IF_DOWN SEED     a shape as one JSON line on standard input takes effect at once; at its end the counts are
printed and it stops: it never outlives who started it.
"""

import heapq
import json
import os
import random
import select
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

ETH_P_ALL, PACKET_OUTGOING = 3, 4  # linux/if_ether.h, linux/if_packet.h
FRAME_BYTES_MAX = 65535
AT_ONCE = 64  # frames read before what is due goes out
NICENESS = -10  # a machine that is busy elsewhere would add delays of its own


@dataclass
class Line:
    """Both ways of a line, pure: what becomes of a frame, and which are due. Way 0 is up, 1 is down."""

    dice: random.Random
    delay_s: float = 0.0
    loss: float = 0.0
    cut: str = ""  # "up", "down", "both": no frame of that way passes, and nobody is told
    passed: int = 0
    lost: int = 0
    _due: list[tuple[float, int, int, bytes]] = field(default_factory=list)

    def take(self, way: int, frame: bytes, now: float) -> None:
        """A frame came in."""
        if self.cut in {"both", ("up", "down")[way]} or self.dice.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        heapq.heappush(self._due, (now + self.delay_s, self.passed, way, frame))  # the count keeps equal times in order

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """Way and bytes of every frame that is through."""
        found = []
        while self._due and self._due[0][0] <= now:
            found.append(heapq.heappop(self._due)[2:])
        return found

    def wait_s(self, now: float) -> float | None:
        """Until the next is through; None where nothing is under way."""
        return max(0.0, self._due[0][0] - now) if self._due else None

    def shape(self, text: str) -> None:
        """Take what a line of JSON says, and leave the rest."""
        for name, value in json.loads(text).items():
            setattr(self, name, value)


def listen(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((interface, 0))
    sock.setblocking(False)
    return sock


def read(sock: socket.socket, way: int, line: Line) -> None:
    for _ in range(AT_ONCE):
        try:
            frame, address = sock.recvfrom(FRAME_BYTES_MAX)
        except OSError:  # nothing more, or the interface was taken down
            return
        if address[2] != PACKET_OUTGOING:
            line.take(way, frame, time.monotonic())


def main(up: str, down: str, seed: int) -> None:
    with suppress(OSError):
        os.nice(NICENESS)
    ends, line = [listen(up), listen(down)], Line(random.Random(seed))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([*ends, sys.stdin], [], [], line.wait_s(time.monotonic()))
        for way, end in enumerate(ends):
            if end in ready:
                read(end, way, line)
        for way, frame in line.due(time.monotonic()):
            with suppress(OSError):  # the queue of the way out is full, or it is down: a router drops
                ends[1 - way].send(frame)
        if sys.stdin in ready:
            if not (text := sys.stdin.readline()):
                break
            line.shape(text)
    print(json.dumps({"frames": line.passed, "lost": line.lost}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
