"""What feeds of devices rest on: a note of when a line was last heard, and waiting for descriptors of whatever number."""

import asyncio
import concurrent.futures
import fcntl
import os
import resource
import socket
import struct
import time
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from hl7.devices.modbus_poll import Request
from node.alarms import Alarms
from node.config.addresses import Address
from node.config.astm import Astm
from node.config.line import Lines
from node.config.modbus import Modbus
from node.errors import EXIT_THREAD, CannotListen
from node.feeds import mqtt_link
from node.feeds.astm import AstmFeed
from node.feeds.astm_tcp import Caller
from node.feeds.line import LineFeed
from node.feeds.line_away import UNREAD_US, Away
from node.feeds.line_session import Session
from node.feeds.modbus import ModbusFeed
from node.feeds.modbus_client import Client, LineAway
from node.feeds.modbus_line import Polled
from node.feeds.telemetry_errors import ProfileBad
from node.lines.trace import LineTrace
from sync.errors import NoRoom
from sync.outbox import Stored

HOUR_US = 3_600_000_000
NOW_US = 1_900_000_000_000_000
COLD = Modbus.model_validate({"name": "cold", "kind": "modbus", "tcp": "127.0.0.1:502", "points": [{"name": "a", "unit": 1, "function": "holding", "address": 0, "count": 1}]})  # fmt: skip


class Doorway:
    """Takes gaps; the test answers."""

    def __init__(self):
        self.told = []

    def store_gap(self, _door, *, answer, **more):
        self.told.append((more, answer))


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
        feed: Any = LineFeed(table, None, None, around)  # type: ignore[arg-type]
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
        feed: Any = LineFeed(table, SimpleNamespace(counts=counts), None, around)  # type: ignore[arg-type]
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


def cold(facts):
    """A Modbus feed over a writer that runs orders at once, and a doorway for its gaps."""

    def order(work):
        future = concurrent.futures.Future()
        future.set_result(work(outbox))
        return future

    outbox = SimpleNamespace(fact=facts.get, facts=lambda _: {}, set_fact=facts.__setitem__, transaction=nullcontext)
    doorway: Any = Doorway()
    doorway.store_typed = lambda *_, **_more: None
    clock = SimpleNamespace(now_us=lambda: NOW_US, monotonic=time.monotonic)
    around: Any = SimpleNamespace(
        clock=clock, alarms=Alarms(clock.now_us), boot="b" * 32, die=None, writer=SimpleNamespace(order=order), profiles=None
    )  # fmt: skip
    door: Any = SimpleNamespace(counts=SimpleNamespace(last_error=None), message=b"")
    return ModbusFeed(COLD, door, doorway, around), doorway


@pytest.mark.parametrize("kept", [b"17\xb95", b"-1", b"", None, b"1800000000000000"])
def test_a_damaged_note_of_the_last_poll_keeps_no_modbus_feed_from_starting(kept):
    facts = {} if kept is None else {"modbus/cold": kept}

    async def live():
        feed, doorway = cold(facts)
        await feed.start()
        await feed.stop()
        return [more for more, _ in doorway.told if more["code"] == "MOD-06"]

    assert len(asyncio.run(live())) == (kept == b"1800000000000000")


def test_a_value_that_comes_while_the_gap_before_it_is_on_its_way_leaves_no_gap_open(monkeypatch):
    facts: dict[str, bytes] = {}
    monkeypatch.setattr("node.feeds.modbus.ModbusLine", lambda *_, **_more: SimpleNamespace(start=int, heard=int))

    async def live():
        feed, doorway = cold(facts)
        await feed.start()
        answered = Polled(0, 0, None, "MOD-01", NOW_US, 0, 0, 0, 0)
        feed._hear(answered)
        feed._hear(answered._replace(registers=(5,), sequence=1))
        ((more, answer),) = doorway.told
        facts.update([more["fact"]])  # the writer has run the orders of before, and commits
        answer(Stored("cold", 1, 0))
        feed._watch.cancel()

    asyncio.run(live())
    assert facts == {"modbus/cold/a": b""}, "the next start would tell that the point failed all the time since"


OWN = 'title = "t"\nsource = "s"\nkind = "{0}"\n[serial]\nbaud = 9601\n[device]\nmanufacturer = "m"\nmodel = "m"\nsubject = "device"\n'


@pytest.mark.parametrize("kind", ["astm", "modbus"])
def test_a_profile_whose_line_no_port_can_be_is_named_at_the_start(tmp_path, kind):
    more = '[[point]]\ncode = "a"\naddress = 0\n' if kind == "modbus" else ""
    (tmp_path / "own.toml").write_text(OWN.format(kind) + more)
    around: Any = SimpleNamespace(
        clock=SimpleNamespace(now_us=lambda: NOW_US),
        alarms=None,
        boot="b" * 32,
        die=None,
        profiles=tmp_path,
        frame_store=None,
        writer=None,
    )
    table = {"name": "x", "kind": kind, "serial": {"port": "/dev/ttyS0"}}

    async def start():
        if kind == "astm":
            AstmFeed(Astm.model_validate({**table, "profile": "own"}), None, None, around)  # type: ignore[arg-type]
        feed = ModbusFeed(
            Modbus.model_validate({**table, "devices": [{"name": "a", "unit": 1, "profile": "own"}]}), None, None, around  # type: ignore[arg-type]
        )  # fmt: skip
        await feed.start()

    with pytest.raises((CannotListen, ProfileBad), match="baud"):
        asyncio.run(start())


def test_a_round_of_a_modbus_feed_that_fails_ends_the_process_and_not_the_rounds_alone(monkeypatch):
    monkeypatch.setattr(
        "node.feeds.modbus.ModbusLine",
        lambda *_, **_more: SimpleNamespace(start=int, is_alive=lambda: True, turned_at=1e12),
    )
    monkeypatch.setattr("node.feeds.modbus.LOOK_S", 0.01)

    async def live():
        feed, _ = cold({})
        died = []
        feed._die = died.append
        feed._gaps.again = lambda: 1 // 0
        await feed.start()
        await asyncio.wait([feed._watch], timeout=10)
        await asyncio.sleep(0)
        return died

    assert asyncio.run(live()) == [EXIT_THREAD]


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


@pytest.mark.parametrize("at", ["connect", "_execute"])
def test_a_modbus_line_whose_library_cannot_wait_for_it_is_away_and_ends_no_thread(monkeypatch, at):
    client = Client(COLD, None)

    def refuse(*_):
        raise ValueError("filedescriptor out of range in select()")

    monkeypatch.setattr(client._client if at == "connect" else client, at, refuse)
    if at == "_execute":
        monkeypatch.setattr(client._client, "connect", lambda: True)
    with pytest.raises(LineAway):
        client.ask(Request(name="a", unit=1, function="holding", address=0, count=1, every_s=1.0))
