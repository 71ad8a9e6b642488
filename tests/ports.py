"""Ports for processes under test: free now, and asked for by nobody else until they are bound, or bound again after a restart."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

# below the kernel's ephemeral ones: an outgoing connection never takes a listener's port between two starts
PORTS = range(16_000, 28_000)
DEMO_PORTS = range(28_000, 32_000)  # for demos, which take whole ranges
WORKERS_MAX = 4  # test runs side by side, each with its own share of every range
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS_MAX


def share(of: range) -> range:
    """This worker's part of a range."""
    size = len(of) // WORKERS_MAX
    return of[WORKER * size : (WORKER + 1) * size]


def _from_anywhere(ports: range) -> Iterator[int]:
    """All of them, round and round, from a place of this process's own: none is given twice while it may still wait for its listener."""
    begin = random.SystemRandom().randrange(len(ports))
    return itertools.cycle((*ports[begin:], *ports[:begin]))


_ports = _from_anywhere(share(PORTS))


def free_port() -> int:
    """A port that is free on IPv4 and IPv6, and stays so unless somebody asks for just this one."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as four, socket.socket(socket.AF_INET6) as six:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            four.bind(("127.0.0.1", port))
            six.bind(("::1", port))
            return port
    raise AssertionError("the ports go round and round")
