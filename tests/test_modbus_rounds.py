"""A Modbus feed by itself: what it makes of its notes, of gaps under way, and of rounds and libraries that fail."""

import asyncio
import concurrent.futures
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from hl7.devices.modbus_poll import Request
from node.alarms import Alarms
from node.config.modbus import Modbus
from node.errors import EXIT_THREAD
from node.feeds.modbus import ModbusFeed
from node.feeds.modbus_client import Client, LineAway
from node.feeds.modbus_line import Polled
from sync.outbox import Stored
from tests.gap_rig import Doorway

NOW_US = 1_900_000_000_000_000
COLD = Modbus.model_validate({"name": "cold", "kind": "modbus", "tcp": "127.0.0.1:502", "points": [{"name": "a", "unit": 1, "function": "holding", "address": 0, "count": 1}]})  # fmt: skip


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
