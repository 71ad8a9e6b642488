"""Two hosts and the line between them, two ways: network namespaces (root, real loss), or a forwarder of streams on loopback (nobody's leave needed).

Both have the same face: run something on the near or the far host, shape the line, cut it, mend it.
"""

import ctypes
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.bench.thin_link import ThinLink, tcp_rate
from tests.node_rig import free_port

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
# ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO of linux/ethtool.h
OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
NEAR_IP, FAR_IP = "10.200.1.1", "10.200.1.2"
BURST_BYTES = 1600  # one packet: more would pass at once and make the link look wider than it is
QUEUE_MS = 1000  # of the router before the thin link: as long as the streams' forwarder has
PREFIX = "waslh"


@dataclass(frozen=True)
class Shape:
    """A line: bits a second each way, seconds of a round trip, share of packets lost each way."""

    kbit_per_s: float = 64
    round_trip_s: float = 0.6
    loss: float = 0.05

    def __str__(self) -> str:
        return f"{self.kbit_per_s:g} kbit/s, {self.round_trip_s * 1000:g} ms, {self.loss * 100:g} % loss"


def run(*command: str) -> str:
    """What it prints. RuntimeError with its own words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@contextmanager
def within(namespace: str) -> Iterator[None]:
    """Be in a network namespace, with this thread and what it opens or starts: a socket stays where it was made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as here, Path(f"/run/netns/{namespace}").open() as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, here.fileno())


def _enter(libc: Any, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def plain_frames(interface: str) -> None:
    """No offloads: every frame is one packet with its checksum, as on a wire."""
    with socket.socket() as sock:
        for order in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("=II", order, 0))
            with suppress(OSError):  # what it does not have cannot be on
                fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP", interface.encode(), ctypes.addressof(value)))


class Namespaces:
    """near (10.200.1.1) - a router in the middle - far (10.200.1.2): veth pairs, tbf on the router's ways out, delay and loss in hosts_frames.py."""

    name = "namespaces"
    far_host = FAR_IP

    def __init__(self, shape: Shape, *, seed: int, congestion: str = "") -> None:
        self.shape, self.congestion = shape, congestion
        self._near, self._middle, self._far = (f"{PREFIX}-{os.getpid()}-{each}" for each in "amb")
        self._down = ""
        sweep()
        try:
            self._build()
            self._frames = self._start_frames(seed)
            self.reshape(shape)
        except BaseException:
            self._remove()
            raise

    def _build(self) -> None:
        for each in (self._near, self._middle, self._far):
            run("ip", "netns", "add", each)
            run("ip", "-n", each, "link", "set", "lo", "up")
        for end, outer, inner, address in ((self._near, "a0", "m0", NEAR_IP), (self._far, "b0", "m1", FAR_IP)):
            run("ip", "link", "add", outer, "netns", end, "type", "veth", "peer", "name", inner, "netns", self._middle)
            run("ip", "-n", end, "addr", "add", f"{address}/24", "dev", outer)
            for namespace, interface in ((end, outer), (self._middle, inner)):
                with within(namespace):
                    plain_frames(interface)
                    Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
                run("ip", "-n", namespace, "link", "set", interface, "up")
            if self.congestion:
                run("ip", "netns", "exec", end, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={self.congestion}")

    def _start_frames(self, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).parent / "hosts_frames.py"), "m0", "m1", str(seed)]
        with within(self._middle):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the frames' forwarder did not start")
        return process

    # -- the hosts --------------------------------------------------------------------------------------------------

    def near(self) -> AbstractContextManager[None]:
        """On the node's host."""
        return within(self._near)

    def far(self) -> AbstractContextManager[None]:
        """On the gateway's host."""
        return within(self._far)

    def way_to(self, port: int) -> tuple[str, int]:
        """Where the near host finds a port of the far one."""
        return FAR_IP, port

    # -- the line ---------------------------------------------------------------------------------------------------

    def reshape(self, shape: Shape) -> None:
        """The line is another one from now on."""
        self.shape = shape
        for interface in ("m0", "m1"):
            run(
                "tc", "-n", self._middle, "qdisc", "replace", "dev", interface, "root", "tbf", "rate",
                f"{shape.kbit_per_s:g}kbit", "burst", str(BURST_BYTES), "latency", f"{QUEUE_MS}ms",
            )  # fmt: skip
        self._tell(delay_s=shape.round_trip_s / 2, loss=shape.loss)

    def cut(self, dice: Random) -> str:
        """Cut it somehow; how."""
        how = dice.choice(("both", "both", "up", "down", "carrier"))
        if how == "carrier":
            self._down = dice.choice(("m0", "m1"))
            run("ip", "-n", self._middle, "link", "set", self._down, "down")
        else:
            self._tell(cut=how)
        return how

    def mend(self) -> None:
        """Let it carry again."""
        if self._down:
            run("ip", "-n", self._middle, "link", "set", self._down, "up")
            self._down = ""
        self._tell(cut="")

    def _tell(self, **what: object) -> None:
        assert self._frames.stdin is not None
        self._frames.stdin.write(json.dumps(what) + "\n")

    def octets_up(self) -> int:
        """Bytes of frames that left the router towards the far host."""
        return int(json.loads(run("tc", "-j", "-s", "-n", self._middle, "qdisc", "show", "dev", "m1"))[0]["bytes"])

    def close(self) -> str:
        """Take all of it away; what passed."""
        try:
            counts = self._frames.communicate(timeout=10)[0]
        finally:
            self._frames.kill()
            self._remove()
        return counts.strip()

    def _remove(self) -> None:
        for each in (self._near, self._middle, self._far):
            with suppress(RuntimeError):
                run("ip", "netns", "del", each)


def sweep() -> None:
    """Take away what a run left that was killed."""
    for found in re.findall(rf"^({PREFIX}-(\d+)-\w)\b", run("ip", "netns", "list"), re.MULTILINE):
        if not Path(f"/proc/{found[1]}").exists():
            with suppress(RuntimeError):
                run("ip", "netns", "del", found[0])


def why_not() -> str:
    """Why this kernel or this user cannot have the namespaces; empty where they can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        Namespaces(Shape(), seed=0).close()
    except (RuntimeError, OSError) as error:
        return str(error)
    return ""


class Loopback:
    """One host for both, and tests/bench/thin_link.py between: TCP streams, so a lost packet is a wait of its stream for the repetition."""

    name = "loopback"
    far_host = "127.0.0.1"

    def __init__(self, shape: Shape, *, seed: int, congestion: str = "") -> None:
        if congestion:
            raise RuntimeError("loopback has the machine's congestion control")
        self.shape = shape
        self._link = ThinLink(free_port(), 0, rate=1.0, delay_s=0.0, dice=Random(seed).random)
        self.reshape(shape)

    def near(self) -> AbstractContextManager[None]:
        """On the node's host."""
        return nullcontext()

    far = near

    def way_to(self, port: int) -> tuple[str, int]:
        """Where the near host finds a port of the far one. One at a time: the link leads to the last."""
        self._link.upstream = port
        return "127.0.0.1", self._link.port

    def reshape(self, shape: Shape) -> None:
        """The line is another one from now on."""
        self.shape = shape
        self._link.shape(rate=shape.kbit_per_s * 125, delay_s=shape.round_trip_s / 2, loss=shape.loss)

    def cut(self, dice: Random) -> str:
        """Cut it somehow; how."""
        how = dice.choice(("reset", "refused", "silent"))
        if how == "silent":
            self._link.carry(False)
        elif how == "reset":
            self._link.cut()
        elif how == "refused":
            self._link.up = False
            self._link.cut()
        return how

    def mend(self) -> None:
        """Let it carry again."""
        self._link.up = True
        self._link.carry(True)

    def octets_up(self) -> int:
        """Bytes that left the link towards the far host."""
        return self._link.octets_up

    def close(self) -> str:
        """Take it away; what passed."""
        packets, lost = self._link.packets
        self._link.close()
        return json.dumps({"packets": packets, "lost": lost})


def raw_goodput(hosts: Namespaces | Loopback, seconds: float, warm_s: float) -> float:
    """Bytes a second of one plain TCP connection from the near host to the far one."""
    with hosts.far():
        sink = socket.create_server((hosts.far_host, 0))
    with hosts.near():
        sock = socket.create_connection(hosts.way_to(sink.getsockname()[1]), 60)
    peer, _ = sink.accept()
    rate = tcp_rate(sock, peer, seconds, warm_s)
    # a reset: what is still in the queues must not stand before what comes next
    sock.shutdown(socket.SHUT_RDWR)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for each in (sock, peer, sink):
        each.close()
    return rate
