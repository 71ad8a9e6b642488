"""The doorstep of all feeds that listen: who may come, and how many, is decided before a handshake, and each is counted once."""

import asyncio
import socket
from contextlib import ExitStack
from ipaddress import ip_network
from types import SimpleNamespace

import pytest
import uvloop

from node.config.addresses import Address
from node.feeds.doorstep import Doorstep

MOST = 8


class Peer(asyncio.Protocol):
    """A connection of a feed."""

    def __init__(self, connections):
        self.connections = connections

    def connection_made(self, transport):
        self.connections.add(self)

    def connection_lost(self, exc):
        self.connections.discard(self)


class Site:
    """A feed of several doorsteps, and those who come."""

    def __init__(self, stack, count=1):
        self.connections, self.refused, self._stack = set(), [], stack
        feed, coming = (
            SimpleNamespace(name="x", allow=(ip_network("127.0.0.0/8"),), tls=None, connections_max=MOST),
            set(),
        )
        self.doorsteps = [
            Doorstep(
                feed, lambda: Peer(self.connections), listen=(Address("127.0.0.1", 0),), connections=self.connections, coming=coming,
                refused=lambda code, _: self.refused.append(code),
            ) for _ in range(count)
        ]  # fmt: skip
        for each in self.doorsteps:
            each.open()
            stack.callback(each.close)

    def come(self, at=0):
        (where,) = self.doorsteps[at].addresses()
        self._stack.enter_context(socket.create_connection((where.host, where.port)))

    async def seen(self, count):
        """Let the loop turn until so many were let in or refused."""
        async with asyncio.timeout(20):
            while len(self.connections) + len(self.refused) < count:
                await asyncio.sleep(0)


def run(story, count=1):
    async def arrive():
        with ExitStack() as stack:
            site = Site(stack, count)
            await story(site)
            return site.refused

    return uvloop.run(arrive())


def test_as_many_as_may_come_come_at_once_and_the_next_is_refused():
    """As a site that reconnects after a power cut: all stand in the kernel's queue before the loop looks."""

    async def story(site):
        for _ in range(MOST):
            site.come()
        await site.seen(MOST)
        assert site.refused == []
        site.come()
        await site.seen(MOST + 1)

    assert run(story) == ["NOD-13"]


def test_one_that_is_open_and_that_its_task_has_not_seen_yet_is_counted_once():
    async def story(site):
        for at in range(MOST):  # each comes in the turn in which the one before it was made
            site.come()
            await site.seen(at + 1)

    assert run(story) == []


@pytest.mark.parametrize("count", [1, 2])
def test_what_comes_over_another_doorstep_of_the_feed_counts_too(count):
    async def story(site):
        for at in range(MOST + 1):
            site.come(at % count)
        await site.seen(MOST + 1)

    assert run(story, count) == ["NOD-13"]
