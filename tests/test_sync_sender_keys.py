"""The sender where the gateway holds a log under another key than ours, and where a person orders a further epoch."""

from dataclasses import replace

import pytest

from sync.agreement import Told
from sync.sender import FORKS_MAX, Sender
from sync.sender_events import (
    AskRoot,
    AskSession,
    EpochOpened,
    OpenEpoch,
    OwnLog,
    PartOrdered,
    PathFailed,
    PostEpoch,
    Refused,
    RootTold,
    SessionOpened,
    Started,
)
from tests.sim_realm import ORIGIN, TAG, frontier_of
from tests.test_sync_sender import HELD, KEY, alarms, opened, puts, sender, their

OTHER_KEY = bytes.fromhex("deadbeef")


def told(key: bytes, size: int = 10) -> SessionOpened:
    return opened(size, streams=(replace(their(size), key=key),))


def agree(made: Sender, effects: list, upto: int) -> list:
    """Answer every question as a gateway that holds the first `upto` of our records."""
    while questions := [each for each in effects if isinstance(each, AskRoot)]:
        size = questions[0].question.size
        root = frontier_of(HELD[:size]).root if size <= upto else b""
        effects = made.handle(RootTold("his", Told(TAG, upto, root)), 0.0)
    return effects


@pytest.mark.parametrize("key", [b"", KEY], ids=["is not told", "is ours"])
def test_log_whose_key_is_in_force_there_is_sent_on(key):
    made = sender(theirs=None)
    effects = made.handle(told(key), 0.0)
    assert (alarms(effects), puts(effects)[0].first) == ([], 10)


def test_key_that_we_cannot_tell_parts_no_log():
    made = Sender(root_at=lambda _, n: frontier_of(HELD[:n]).root, root_of=lambda *_: b"", key_at=lambda *_: b"", dice=lambda: 0.0)  # fmt: skip
    made.handle(Started((OwnLog(ORIGIN, 40, 10),), "ledger-1"), 0.0)
    assert alarms(made.handle(told(OTHER_KEY), 0.0)) == []


def test_log_that_the_gateway_holds_under_another_key_goes_on_under_a_further_epoch():
    made = sender(theirs=None)
    effects = made.handle(told(OTHER_KEY), 0.0)
    assert alarms(effects) == ["SYN-33"]
    (order,) = agree(made, effects, 10)
    assert isinstance(order, OpenEpoch)
    assert (order.epoch, order.place, order.own, order.theirs.key) == (2, 10, 10, OTHER_KEY)


def test_gateway_that_says_so_of_every_epoch_has_a_person_decide():
    made, logs = sender(theirs=None), [OwnLog(ORIGIN, 40, 10)]
    for epoch in range(2, 2 + FORKS_MAX):
        last = logs[-1].origin
        (order,) = agree(made, made.handle(opened(10, streams=(replace(their(10), epoch=last.epoch, tag=last.tag, key=OTHER_KEY),)), 0.0), 10)  # fmt: skip
        assert order.epoch == epoch
        # nothing is carried over: of what there is no receipt comes
        logs = [
            OwnLog(ORIGIN, 10, 10),
            OwnLog(replace(ORIGIN, epoch=epoch, tag="11111111"), 30, start=10, opening=b"s"),
        ]
        made.handle(EpochOpened("his", tuple(logs)), 0.0)
        made.handle(PathFailed("LNK-01"), 0.0)
        logs = [OwnLog(ORIGIN, 10, 10), replace(logs[-1], size=40, start=0)]
        made.flows["his"] = replace(made.flows["his"], logs=tuple(logs))
    last = logs[-1].origin
    effects = made.handle(opened(10, streams=(replace(their(10), epoch=last.epoch, tag=last.tag, key=OTHER_KEY),)), 0.0)
    assert alarms(effects) == ["SYN-31"]
    assert puts(effects) == []


@pytest.mark.parametrize("key", [b"", KEY])
def test_order_of_a_person_opens_a_further_epoch_whatever_the_gateway_agrees_to(key):
    made = sender()
    made.handle(Refused("his", "bad-opening"), 0.0)
    assert made.flows["his"].halted == "SYN-31"
    assert made.handle(PartOrdered("his"), 1.0) == [AskSession()]
    effects = made.handle(told(key), 1.0)
    assert alarms(effects) == ["NOD-36"]
    # a link that fails meanwhile does not make it forget the order
    made.handle(PathFailed("LNK-01"), 2.0)
    effects = made.handle(told(key), 1000.0)
    assert alarms(effects) == ["NOD-36"]
    assert [type(each) for each in agree(made, effects, 10)] == [OpenEpoch]
    second = OwnLog(replace(ORIGIN, epoch=2, tag="11111111"), 30, start=10, opening=b"statement")
    after = made.handle(EpochOpened("his", (OwnLog(ORIGIN, 10, 10), second)), 1000.0)
    assert after == [PostEpoch(second.origin, b"statement")]
    assert made.flows["his"].ordered is False


def test_order_that_a_fenced_start_is_given_waits_for_its_next_session():
    made = sender()
    made.handle(Refused("his", "fenced"), 0.0)
    assert made.handle(PartOrdered("his"), 1.0) == []
    assert made.flows["his"].ordered
