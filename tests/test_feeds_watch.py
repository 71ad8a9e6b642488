"""What feeds of devices rest on: a note of when a line was last heard, and waiting for descriptors of whatever number."""

import asyncio
import fcntl
import os
import resource
import socket
from types import SimpleNamespace

import pytest

from hl7.devices.modbus_poll import Request
from node.config_modbus import Modbus
from node.feeds import mqtt_link
from node.feeds.line_away import ALIVE_S, Away
from node.feeds.modbus_client import Client, LineAway
from sync.errors import NoRoom
from sync.outbox import Stored

HOUR_US = 3_600_000_000
NOW_US = 1_900_000_000_000_000


class Doorway:
    """Takes gaps; the test answers."""

    def __init__(self):
        self.told = []

    def store_gap(self, _door, *, answer, **more):
        self.told.append((more, answer))


def away(folder, *, holds=lambda: False):
    around = SimpleNamespace(clock=SimpleNamespace(now_us=lambda: NOW_US), folder=folder, boot="b" * 32)
    doorway = Doorway()
    return Away("printer", None, doorway, around, holds=holds), doorway


def heard_at(folder):
    return (folder / "line-printer.alive").stat().st_mtime_ns // 1000


def note(folder, at_us):
    file = folder / "line-printer.alive"
    file.touch()
    os.utime(file, ns=(at_us * 1000, at_us * 1000))


@pytest.mark.parametrize("end", ["stored", "no room", "no answer"])
def test_time_without_a_node_stays_noted_until_its_gap_is_recorded(tmp_path, end):
    before_us = NOW_US - 10 * HOUR_US
    note(tmp_path, before_us)

    async def live():
        made, doorway = away(tmp_path)
        made.start()
        made.returned()
        assert heard_at(tmp_path) == before_us, "a kill here would lose ten hours"
        made.settle()
        made._beat()
        assert heard_at(tmp_path) == before_us, "told, and not yet on disk"
        ((_, answer),) = doorway.told
        if end != "no answer":
            answer(Stored("printer", 1, 0) if end == "stored" else NoRoom("full"))
        made._beat()
        made.stop(is_open=True)

    asyncio.run(live())
    assert heard_at(tmp_path) == (NOW_US if end == "stored" else before_us)


def test_reports_that_wait_in_memory_keep_the_note_where_it_was(tmp_path):
    note(tmp_path, NOW_US - HOUR_US)
    waiting = [True]

    async def live():
        made, doorway = away(tmp_path, holds=lambda: waiting[0])
        made.returned()
        assert heard_at(tmp_path) == NOW_US - HOUR_US
        waiting[0] = False
        made._beat()
        assert heard_at(tmp_path) == NOW_US
        assert doorway.told == []
        made.stop(is_open=True)

    asyncio.run(live())
    assert ALIVE_S > 0


@pytest.fixture
def high():
    """A pair of sockets whose numbers select() does not know."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    near, far = socket.socketpair()
    made = socket.socket(fileno=fcntl.fcntl(near, fcntl.F_DUPFD, 2000))
    near.close()
    yield made, far
    made.close()
    far.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_broker_is_heard_on_a_descriptor_of_any_number(high):
    near, far = high
    assert near.fileno() >= 1024
    assert mqtt_link._ready([near], [near], 0.0) == []
    far.send(b"x")
    assert mqtt_link._ready([near], [], 1.0) == [near]
    far.close()
    assert mqtt_link._ready([near], [near], 1.0) == [near], "its end is something to read"


def test_a_topic_that_is_no_text_is_one_that_no_filter_means():
    class Message:
        _topic = b"ward/\xff"

        @property
        def topic(self):
            return self._topic.decode()

    assert mqtt_link._topic_of(Message()) == "ward/\\xff"


@pytest.mark.parametrize("at", ["connect", "_execute"])
def test_a_modbus_line_whose_library_cannot_wait_for_it_is_away_and_ends_no_thread(monkeypatch, at):
    feed = Modbus.model_validate({"name": "cold", "kind": "modbus", "tcp": "127.0.0.1:502", "points": [{"name": "a", "unit": 1, "function": "holding", "address": 0, "count": 1}]})  # fmt: skip
    client = Client(feed, None)

    def refuse(*_):
        raise ValueError("filedescriptor out of range in select()")

    monkeypatch.setattr(client._client if at == "connect" else client, at, refuse)
    if at == "_execute":
        monkeypatch.setattr(client._client, "connect", lambda: True)
    with pytest.raises(LineAway):
        client.ask(Request(name="a", unit=1, function="holding", address=0, count=1, every_s=1.0))
