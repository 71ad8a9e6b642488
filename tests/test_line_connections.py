"""The TCP connections of a line feed, one by one: who may connect, who is gone already, and what becomes of them when the feed stops."""

import asyncio
import socket
import struct
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from node.alarms import Alarms
from node.config.line import Lines
from node.feeds.line import LineFeed

NOW_US = 1_900_000_000_000_000


def test_a_feed_that_has_stopped_takes_nothing_more_and_no_rest_of_a_report_for_one(tmp_path):
    taken = []
    intake: Any = SimpleNamespace(
        store=lambda _, *, body, **_more: taken.append(("whole", body)),
        store_broken=lambda _, *, head, **_more: taken.append(("cut off", head)),
    )
    clock = SimpleNamespace(now_us=lambda: NOW_US, monotonic=time.monotonic)
    around: Any = SimpleNamespace(
        clock=clock, alarms=Alarms(clock.now_us), boot="b" * 32, folder=tmp_path, profiles=None
    )
    door: Any = SimpleNamespace(counts=SimpleNamespace(last_error=None))

    async def live():
        table = Lines.model_validate({"name": "printer", "kind": "line", "listen": ["127.0.0.1:0"]})
        feed = LineFeed(table, door, intake, around)
        await feed.start()
        host, _, port = feed.addresses()[0].rpartition(":")
        with socket.create_connection((host, int(port))) as device:
            device.settimeout(5)
            device.sendall(b"K 5.1\rGLU 1")
            while len(taken) < 1:
                await asyncio.sleep(0.01)
            await feed.stop()
            device.sendall(b"5.6\r")
            with suppress(ConnectionError):  # it hears that nobody listens, one way or the other
                assert await asyncio.to_thread(device.recv, 1) == b""

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())
    assert taken == [("whole", b"K 5.1\r"), ("cut off", b"GLU 1")]


def test_a_connection_that_is_gone_before_it_is_looked_at_is_no_error(tmp_path):
    trouble: list[Any] = []
    clock = SimpleNamespace(now_us=lambda: NOW_US, monotonic=time.monotonic)
    around: Any = SimpleNamespace(
        clock=clock, alarms=Alarms(clock.now_us), boot="b" * 32, folder=tmp_path, profiles=None
    )

    async def live():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        table = Lines.model_validate({"name": "printer", "kind": "line", "listen": ["127.0.0.1:0"]})
        feed: Any = LineFeed(table, None, None, around)  # type: ignore[arg-type]  # nothing is stored
        await feed.start()
        host, _, port = feed.addresses()[0].rpartition(":")
        for _ in range(3):
            device = socket.create_connection((host, int(port)))
            device.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            device.close()  # a reset: whoever accepts it then cannot ask who it was
        await asyncio.sleep(0.05)
        await feed.stop()
        assert not feed.connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())
    assert trouble == []


@pytest.mark.parametrize(("keys", "code"), [({"allow": ["10.9.0.0/16"]}, "NOD-12"), ({"connections_max": 1}, "NOD-13")])
def test_a_connection_that_may_not_be_is_told_and_no_alarm_that_nothing_ends(tmp_path, keys, code):
    clock = SimpleNamespace(now_us=lambda: NOW_US, monotonic=time.monotonic)
    alarms, counts = Alarms(clock.now_us), SimpleNamespace(last_error=None)
    around: Any = SimpleNamespace(clock=clock, alarms=alarms, boot="b" * 32, folder=tmp_path, profiles=None)

    async def live():
        table = Lines.model_validate({"name": "printer", "kind": "line", "listen": ["127.0.0.1:0"], **keys})
        feed: Any = LineFeed(table, SimpleNamespace(counts=counts), None, around)  # type: ignore[arg-type]  # nothing is stored
        await feed.start()
        host, _, port = feed.addresses()[0].rpartition(":")
        with (
            socket.create_connection((host, int(port))),
            socket.create_connection((host, int(port))) as second,
        ):
            second.settimeout(5)
            assert await asyncio.to_thread(second.recv, 1) == b""
            await feed.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())
    assert (counts.last_error, alarms.standing()) == ((code, NOW_US), [])
