"""The end of the feeds: all at once, within one bound, whatever a broker or a line does."""

import asyncio
import socket
from contextlib import contextmanager
from types import SimpleNamespace

from structlog.testing import capture_logs

from node.feeds import plug
from tests.mqtt_rig import MqttFeed
from tests.node_rig import Node, running, wait_until


class Plug:
    """A feed whose stop is what the test says."""

    def __init__(self, name, stop):
        self.feed, self.door, self.stop = SimpleNamespace(name=name), None, stop


def stop_all(*plugs):
    asyncio.run(asyncio.wait_for(plug.stop_all(plugs), 20))


def test_feeds_stop_at_once_and_not_one_after_another():
    begun = asyncio.Event(), asyncio.Event()

    def stop(own, other):
        async def each():
            begun[own].set()
            await begun[other].wait()

        return each

    stop_all(Plug("first", stop(0, 1)), Plug("second", stop(1, 0)))  # in turn, the first would wait for ever


def test_a_feed_that_does_not_end_or_fails_keeps_none_of_the_others_from_ending(monkeypatch):
    monkeypatch.setattr(plug, "STOP_S_MAX", 0.05)
    ended = []

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hanging")

    async def fail():
        raise ValueError("planted")

    async def end():
        ended.append("third")

    stop_all(Plug("hanging", hang), Plug("failing", fail), Plug("third", end))
    assert ended == ["third", "hanging"]


def test_a_feed_whose_stop_is_cancelled_keeps_the_rest_of_the_stop_from_nothing():
    ended = []

    async def cancelled():
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    async def fail():
        raise ValueError("planted")

    async def stop():
        with capture_logs() as lines:
            await plug.stop_all([Plug("cancelled", cancelled), Plug("failing", fail)])
        ended.extend(sorted((line["event"], line["feed"], line["error"]) for line in lines))

    asyncio.run(stop())
    assert ended == [
        ("feed.stopped_badly", "cancelled", "CancelledError"),
        ("feed.stopped_badly", "failing", "ValueError"),
    ]


@contextmanager
def mute_broker():
    """Takes no connection: its queue is full, and a connection to it waits as long as it may."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield SimpleNamespace(port=listener.getsockname()[1])
        for each in waiting:
            each.close()


# each thread says by a file that it goes into its connection
CONNECTING = """
import pathlib, node.feeds.mqtt as m, node.feeds.mqtt_link as link
m.STOP_S_MAX, connect = 0.2, link.connect
def connecting(client, feed):
    (pathlib.Path({folder!r}) / feed.name).touch()
    connect(client, feed)
link.connect = connecting
"""


def test_a_node_whose_brokers_answer_nothing_stops(realm, tmp_path):
    """Each thread hangs in its connection for five minutes; the rig waits for 40 s."""
    with mute_broker() as broker:
        feeds = [MqttFeed(name, broker, lines="connect_s_max = 300") for name in ("ward", "cold")]
        with running(
            Node(realm, tmp_path / "node", feeds=feeds), before=CONNECTING.format(folder=str(tmp_path))
        ) as node:
            wait_until("both in their connection", lambda: all((tmp_path / feed.name).exists() for feed in feeds))
            assert node.stop() == 0
