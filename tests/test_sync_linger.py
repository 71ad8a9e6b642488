"""A stream that has just called waits a moment for more to go with its few records; nothing else waits for that."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.flow import RECORDS_WORTH, patient
from sync.keys import Verifier
from sync.names import Origin
from sync.pace import LINGER_S
from sync.receipt import cosign
from sync.sender import Sender
from sync.sender_events import (
    Effect,
    Grew,
    OwnLog,
    PathFailed,
    Put,
    Receipted,
    Refused,
    SessionOpened,
    Started,
    Tick,
    Wait,
)
from sync.session import SessionAnswer, TheirStream
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, TAG, draft, frontier_of, records

HELD = records([draft(n) for n in range(2 * RECORDS_WORTH + 20)])
LAB = replace(ORIGIN, stream="lab")


def opened(**sizes: int) -> SessionOpened:
    streams = tuple(
        TheirStream(stream=name, epoch=1, tag=TAG, size=size, root=frontier_of(HELD[:size]).root)
        for name, size in sizes.items()
    )
    answer = SessionAnswer(fence="f", ledger="ledger-1", cosign_certificate="x", held=False, streams=streams)
    return SessionOpened(answer, Verifier(COSIGNER.name, COSIGNER.public))


def receipt(size: int, origin: Origin = ORIGIN) -> Receipted:
    note = sign_checkpoint(Checkpoint(origin, size, frontier_of(HELD[:size]).root), LOG_SIGNER)
    return Receipted(origin.stream, cosign(note, time=1, signer=COSIGNER))


def puts(effects: list[Effect]) -> list[tuple[str, int, int]]:
    return [(each.origin.stream, each.first, each.records_max) for each in effects if isinstance(each, Put)]


def waits(effects: list[Effect]) -> list[float]:
    return [each.seconds for each in effects if isinstance(each, Wait)]


def sender(linger_s: float = LINGER_S) -> Sender:
    """One of two streams; `his` has sent its twenty by a call at 0, `lab` has nothing."""
    made = Sender(
        root_at=lambda _, upto: frontier_of(HELD[:upto]).root, root_of=lambda _, start, size: frontier_of(HELD[start : start + size]).root,
        key_at=lambda *_: b"", dice=lambda: 0.0, linger_s=linger_s,
    )  # fmt: skip
    made.handle(Started((OwnLog(ORIGIN, 20, 10), OwnLog(LAB, 0)), "ledger-1"), 0.0)
    assert puts(made.handle(opened(his=10, lab=0), 0.0)) == [("his", 10, 10)]
    made.handle(receipt(20), 0.1)
    return made


def test_a_few_records_wait_until_so_long_after_the_last_call_and_go_in_one():
    made = sender()
    assert waits(made.handle(Grew(ORIGIN, 21), 0.2)) == [pytest.approx(LINGER_S - 0.2)]
    assert not puts(made.handle(Grew(ORIGIN, 25), LINGER_S - 0.01))
    assert puts(made.handle(Tick(), LINGER_S)) == [("his", 20, 5)]


def test_the_first_record_after_a_pause_goes_at_once():
    assert puts(sender().handle(Grew(ORIGIN, 21), LINGER_S)) == [("his", 20, 1)]


def test_many_records_wait_for_no_more():
    assert puts(sender().handle(Grew(ORIGIN, 20 + RECORDS_WORTH), 0.2)) == [("his", 20, RECORDS_WORTH)]
    assert not puts(sender().handle(Grew(ORIGIN, 19 + RECORDS_WORTH), 0.2))


def test_a_stream_that_waits_holds_up_no_other():
    made = sender()
    made.handle(Grew(ORIGIN, 21), 0.2)
    assert puts(made.handle(Grew(LAB, 1), 0.3)) == [("lab", 0, 1)]


def test_a_lane_that_never_waits_sends_each_record_at_once():
    assert puts(sender(linger_s=0.0).handle(Grew(ORIGIN, 21), 0.1)) == [("his", 20, 1)]


def test_a_receipt_that_was_lost_is_asked_for_at_once():
    made = sender()
    made.handle(Grew(ORIGIN, 21), LINGER_S)
    *_, wait = made.handle(PathFailed("x"), LINGER_S + 0.1)  # the gateway has it; its answer was lost
    assert isinstance(wait, Wait)
    made.handle(Tick(), LINGER_S + 0.1 + wait.seconds)
    made.flows["his"] = replace(made.flows["his"], next_at=1e9)  # however shortly ago it called
    assert puts(made.handle(opened(his=21, lab=0), 2 * LINGER_S)) == [("his", 20, 1)]


def test_what_a_busy_gateway_asked_for_is_longer_than_waiting_for_more():
    made = sender()
    assert puts(made.handle(Grew(ORIGIN, 21), LINGER_S))
    assert waits(made.handle(Refused("his", "busy", wait_s=7.0), LINGER_S + 0.1)) == [pytest.approx(7.0)]
    made.handle(Grew(ORIGIN, 21 + RECORDS_WORTH), LINGER_S + 0.2)
    assert not puts(made.handle(Tick(), LINGER_S + 7.0))
    assert puts(made.handle(Tick(), LINGER_S + 7.2))


def test_what_one_call_could_not_hold_goes_on_at_once():
    made = sender()
    assert puts(made.handle(Grew(ORIGIN, 24), LINGER_S)) == [("his", 20, 4)]
    assert puts(made.handle(receipt(21), LINGER_S + 0.1)) == [("his", 21, 3)]  # a quantum was full with one
    made.handle(Grew(ORIGIN, 25), LINGER_S + 0.2)  # that one came after the call began
    assert not puts(made.handle(receipt(24), LINGER_S + 0.3))
    assert puts(made.handle(Tick(), 2 * LINGER_S + 0.1)) == [("his", 24, 1)]


def test_half_a_batch_that_was_refused_waits_for_nothing():
    made = sender()
    made.handle(Grew(ORIGIN, 24), LINGER_S)
    assert puts(made.handle(Refused("his", "bad-batch"), LINGER_S + 0.1)) == [("his", 20, 2)]


def test_streams_that_called_just_now_are_told_with_the_end_of_their_patience():
    made = sender()
    assert patient(made.flows.values(), 0.5) == {"his": LINGER_S}
    assert patient(made.flows.values(), LINGER_S) == {}


@given(grown=st.lists(st.tuples(st.floats(0.001, 0.6), st.integers(1, 12)), min_size=1, max_size=12))
def test_no_record_waits_longer_than_it_may_and_all_go_in_order(grown):
    made, now, size, sent = sender(), 0.1, 20, 20
    for after, more in grown:
        now, size = now + after, size + more
        effects = made.handle(Grew(ORIGIN, size), now)
        while effects:
            for name, first, count in puts(effects):
                assert (name, first) == ("his", sent)
                sent += count
            waited = waits(effects)
            assert all(seconds <= LINGER_S for seconds in waited) or sent == size
            effects = made.handle(receipt(sent), now) if puts(effects) else []
    assert puts(made.handle(Tick(), now + LINGER_S)) == ([("his", sent, size - sent)] if sent < size else [])
