"""What feeds of devices rest on: a note of when a line was last heard, and waiting for descriptors of whatever number."""

import asyncio
import fcntl
import os
import resource
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from node.alarms import Alarms
from node.config.addresses import Address
from node.config.line import Lines
from node.config.modbus import Modbus
from node.errors import EXIT_THREAD
from node.feeds import mqtt_link
from node.feeds.astm_tcp import Caller
from node.feeds.line_away import UNREAD_US, Away
from node.feeds.line_session import Session
from node.lines.trace import LineTrace
from sync.errors import NoRoom
from sync.outbox import Stored
from tests.gap_rig import Doorway

HOUR_US = 3_600_000_000
NOW_US = 1_900_000_000_000_000
COLD = Modbus.model_validate({"name": "cold", "kind": "modbus", "tcp": "127.0.0.1:502", "points": [{"name": "a", "unit": 1, "function": "holding", "address": 0, "count": 1}]})  # fmt: skip


def away(folder, *, since=lambda: 0):
    around = SimpleNamespace(clock=SimpleNamespace(now_us=lambda: NOW_US), folder=folder, boot="b" * 32)
    doorway = Doorway()
    return Away("printer", None, doorway, around, heard_since_us=since), doorway


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
    assert heard_at(tmp_path) == (NOW_US - UNREAD_US if end == "stored" else before_us)


def test_a_note_never_passes_the_beginning_of_what_is_in_memory_alone(tmp_path):
    note(tmp_path, NOW_US - HOUR_US)
    since_us = [NOW_US - HOUR_US // 2]

    async def live():
        made, doorway = away(tmp_path, since=lambda: since_us[0])
        made.returned()
        assert heard_at(tmp_path) == NOW_US - HOUR_US // 2 - UNREAD_US
        since_us[0] = 0
        made._beat()
        assert heard_at(tmp_path) == NOW_US - UNREAD_US
        assert doorway.told == []
        made.stop(is_open=True)

    asyncio.run(live())


class Store:
    """Takes reports; the test answers."""

    def __init__(self):
        self.answers, self.bodies, self.stored = [], [], lambda: None

    def store(self, _door, *, answer, body, **_more):
        self.answers.append(answer)
        self.bodies.append(body)
        self.stored()


def session_of(now, store, **keys):
    """A session of a line feed under a clock that the test moves."""
    clock = SimpleNamespace(now_us=lambda: int(now[0] * 1e6), monotonic=lambda: now[0])
    table = Lines.model_validate({"name": "printer", "kind": "line", "connect": "127.0.0.1:4001", **keys})
    feed: Any = SimpleNamespace(
        feed=table, clock=clock, intake=store, door=None, trace=LineTrace(clock.now_us), alarms=Alarms(clock.now_us), heard=lambda _: None,
        ended=lambda _: None, noise_bytes=0, blank_bytes=0, source=(),
    )  # fmt: skip
    return Session(feed, "port", write=lambda _: None, hold=None)


def test_a_report_is_in_memory_alone_from_its_first_byte_until_it_is_stored():
    async def live():
        now, store = [1.0], Store()
        session = session_of(now, store)

        def hear(at, data):
            now[0] = at
            session.received(data, at, 0)
            return session.since_us // 1_000_000

        assert session.since_us == 0
        assert hear(2.0, b"fir") == 2
        assert hear(3.0, b"st\rsec") == 2  # being stored; the second began at 3
        assert hear(4.0, b"ond\r\r") == 2
        store.answers.pop(0)(Stored("printer", 1, 0))
        assert session.since_us // 1_000_000 == 3
        store.answers.pop(0)(NoRoom("full"))
        assert session.since_us // 1_000_000 == 3, "it waits for room"
        await asyncio.sleep(0)  # it is handed in again
        session.close()
        return session

    session = asyncio.run(live())
    assert session.waiting + len(session._under_way) == 1


def test_a_loop_that_was_busy_is_no_pause_of_the_device():
    store, now = Store(), [1.0]

    async def live():
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        session = session_of(now, store, ends="pause", quiet_ms=10)
        session.received(b"one ", 1.0, 0)
        loop.call_soon_threadsafe(session.received, b"report", 1.005, 0)  # read in time by the port's thread
        time.sleep(0.05)  # noqa: ASYNC251  # and the loop does something else for longer than the pause
        now[0] = 1.05
        store.stored = ended.set
        await ended.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())
    assert store.bodies == [b"one report"]


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


def test_a_call_of_an_instrument_that_fails_otherwise_than_by_the_network_ends_the_process():
    died = []
    feed: Any = SimpleNamespace(door=SimpleNamespace(feed="xn"), around=SimpleNamespace(die=died.append))

    async def live():
        async def refuse(*_):
            raise RuntimeError("planted")

        asyncio.get_running_loop().create_connection = refuse
        caller = Caller(feed, Address("127.0.0.1", 1))
        await caller.start()
        await asyncio.wait([caller._task], timeout=10)
        await asyncio.sleep(0)

    asyncio.run(live())
    assert died == [EXIT_THREAD]
