"""The order desk and the sessions of an ASTM feed where things go wrong: a cache that fails, lines that are mute or gone, commits that overlap."""

import asyncio
from types import SimpleNamespace

import pytest

from hl7.devices.astm_orders import Order
from node.feeds.astm_leftovers import _alone
from node.feeds.astm_line import Line
from node.feeds.astm_sessions import HASHES_MAX, Session
from node.orders import astm_desk
from node.orders.astm_desk import Desk

ORDER = Order(keys=("S1",), tests=("GLU",))


class Cache:
    """Orders in memory; the first calls fail as told."""

    known = 1

    def __init__(self, *, fails=0):
        self.fails, self.gone = fails, []

    def waiting(self, _feed):
        if self.fails:
            self.fails -= 1
            raise OSError("the disk is full")
        return [] if self.gone else [(1, ORDER)]

    def given(self, _feed, rows):
        self.gone += rows


class Wire:
    """A line that notes what it is given."""

    def __init__(self):
        self.sent = []

    def send(self, token, _records):
        self.sent.append(token)


def desk(cache):
    feed = SimpleNamespace(orders="download", name="xn")
    return Desk(cache, feed, SimpleNamespace(now_us=lambda: 1_900_000_000_000_000), None)


async def until(found):
    for _ in range(2000):
        if found():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("never came")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(astm_desk, "AGAIN_S", 0.01)


def test_a_cache_that_fails_once_does_not_stop_the_download_for_good():
    async def live():
        made, wire = desk(Cache(fails=2)), Wire()
        made.opened(wire)
        await until(lambda: wire.sent)

    asyncio.run(live())


def test_a_line_that_takes_nothing_does_not_keep_orders_from_the_other():
    async def live():
        cache, mute, other = Cache(), Wire(), Wire()
        made = desk(cache)
        made.opened(mute)
        made.opened(other)
        await until(lambda: mute.sent)
        made.not_sent(mute, mute.sent[0], "busy")
        await until(lambda: other.sent)
        made.sent(other, other.sent[0])
        await until(lambda: cache.gone == [1])

    asyncio.run(live())


def test_an_order_that_comes_while_the_cache_is_read_is_handed_out_and_does_not_wait_for_the_next():
    class Slow(Cache):
        """The order comes when what waits was just read, and was nothing."""

        def waiting(self, feed):
            if not self.fails:
                return super().waiting(feed)
            self.fails -= 1
            loop.call_soon_threadsafe(made.came)
            return []

    async def live():
        nonlocal made, loop
        loop, wire = asyncio.get_running_loop(), Wire()
        made = desk(Slow(fails=1))
        made.opened(wire)
        await until(lambda: wire.sent)

    made = loop = None
    asyncio.run(live())


def test_a_line_that_is_closed_says_at_once_that_it_sends_nothing():
    told = []
    line = Line.__new__(Line)
    line._is_closed = True
    line.feed = SimpleNamespace(not_sent=lambda _line, token, why: told.append((token, why)))
    line.send(7, (b"H",))
    assert told == [(7, "lost")]


def test_what_is_left_over_is_recorded_only_while_no_other_commit_of_its_line_is_under_way():
    async def live():
        session, order = Session("astm:xn:peer"), []
        session.enter(lambda: order.append("a line's commit begins"))

        async def leftover():
            async with _alone(session):
                order.append("left over")

        task = asyncio.create_task(leftover())
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["a line's commit begins"]
        session.leave()
        await task
        session.enter(lambda: order.append("next"))
        assert order[1:] == ["left over", "next"]

    asyncio.run(live())


def test_a_stop_while_it_waits_leaves_the_line_free():
    async def live():
        session, order = Session("astm:xn:peer"), []
        session.enter(lambda: None)

        async def leftover():
            async with _alone(session):
                raise AssertionError("it was stopped")

        task = asyncio.create_task(leftover())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        session.leave()
        session.enter(lambda: order.append("next"))
        assert order == ["next"]

    asyncio.run(live())


def test_what_a_transfer_brought_is_remembered_up_to_a_bound_while_it_is_open():
    session, told = Session("astm:xn:peer"), []
    line = Line.__new__(Line)
    line.session, line.peer, line._transfer = session, "peer", session.begin("t")
    line.feed = SimpleNamespace(take=lambda body, **more: told.append((body, more["answer"])))
    for number in range(3 * HASHES_MAX):
        line._store(SimpleNamespace(body=b"%d" % number, end=number + 1), lambda _: None, is_cut=False)
    assert len(told) == 3 * HASHES_MAX
    assert len(line._transfer.brought) == HASHES_MAX
