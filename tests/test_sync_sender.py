"""The sender by itself: one event, and what it wants done."""

from dataclasses import replace

import pytest

from sync.flow import QUANTUM_BYTES_MAX
from sync.keys import FileSigner
from sync.sender import Sender
from sync.sender_events import (
    Grew,
    KeepFence,
    KeepReceipt,
    OwnLog,
    Put,
    Receipted,
    Refused,
    Tick,
    Wait,
)
from tests.sender_rig import alarms, opened, puts, receipt, sender
from tests.sim_realm import COSIGNER, ORIGIN, ed25519


def test_session_comes_before_any_put_and_its_fence_is_kept_first():
    made = sender(theirs=None)
    effects = made.handle(opened(10), 0.0)
    assert effects == [KeepFence("f", "ledger-1"), Put(ORIGIN, 10, 30, QUANTUM_BYTES_MAX, False)]


def test_one_call_at_a_time():
    made = sender()
    assert made.handle(Grew(ORIGIN, 40), 1.0) == []
    assert made.handle(Tick(), 1000.0) == []


def test_good_receipt_moves_the_cursor_to_what_it_confirms():
    made = sender()
    effects = made.handle(receipt(30), 0.0)
    assert isinstance(effects[0], KeepReceipt)
    assert (effects[0].size, made.flows["his"].theirs) == (30, 30)
    assert puts(effects)[0].first == 30


def moved(made: Sender) -> tuple[int | None, int]:
    return made.flows["his"].theirs, made.flows["his"].receipted


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(receipt(40, origin=replace(ORIGIN, stream="lab")), id="of another stream"),
        pytest.param(receipt(40, origin=replace(ORIGIN, node="clinic-18")), id="of another node"),
        pytest.param(receipt(40, origin=replace(ORIGIN, epoch=2)), id="of another epoch"),
        pytest.param(receipt(40, origin=replace(ORIGIN, tag="00000000")), id="of a copy's log"),
        pytest.param(receipt(40, root=bytes(32)), id="of other records"),
        pytest.param(receipt(40, signer=FileSigner(COSIGNER.name, ed25519("nobody"))), id="of another key"),
        pytest.param(receipt(40, signer=FileSigner("elsewhere", ed25519("cosign key"))), id="of another gateway"),
        pytest.param(receipt(40, root=bytes(31)), id="that is no checkpoint"),
        pytest.param(Receipted("his", b""), id="empty"),
        pytest.param(Receipted("his", b"<html>Welcome to the hotel</html>"), id="of a captive portal"),
        pytest.param(receipt(10), id="that confirms nothing of what was sent"),
        pytest.param(receipt(3), id="of long ago"),
    ],
)
def test_receipt_never_moves_the_cursor_if_it_is(event):
    made = sender()
    before = moved(made)
    effects = made.handle(event, 0.0)
    assert moved(made) == before
    assert alarms(effects) == ["SYN-26"]
    assert not any(isinstance(each, KeepReceipt) for each in effects)
    assert isinstance(effects[-1], Wait), "it is a failure of the path: it waits and asks again"


def test_receipt_beyond_our_own_size_never_moves_the_cursor():
    made = sender(size=20)
    before = moved(made)
    assert alarms(made.handle(receipt(30), 0.0)) == ["SYN-26"]
    assert moved(made) == before


def test_receipt_of_what_was_sent_is_good_though_the_log_grew_meanwhile():
    made = sender(size=10, theirs=10)
    made.flows["his"] = replace(made.flows["his"], logs=(OwnLog(ORIGIN, 10, 4),))
    assert puts(made.handle(Tick(), 0.0)) == [Put(ORIGIN, 9, 1, QUANTUM_BYTES_MAX, False)]
    made.handle(Grew(ORIGIN, 12), 0.0)
    effects = made.handle(receipt(10), 0.0)
    assert alarms(effects) == []
    assert puts(effects)[0].first == 10


@pytest.mark.parametrize("code", ["bad-batch", "too-large"])
def test_batch_that_is_refused_is_halved_down_to_a_bare_record_and_then_the_stream_stops(code):
    made = sender()
    asked: list[tuple[int, bool]] = []
    told: list[str] = []
    effects = made.handle(Tick(), 0.0)
    for _ in range(40):
        effects = made.handle(Refused("his", code), 0.0)
        told += alarms(effects)
        if not puts(effects):
            break
        asked.append((puts(effects)[0].records_max, puts(effects)[0].bare))
    assert asked == [(15, False), (7, False), (3, False), (1, False), (1, True)]
    assert told == ["SYN-29", "SYN-29"]
    assert made.flows["his"].halted == "SYN-29"
