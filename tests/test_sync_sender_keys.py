"""The sender where the gateway holds a log under another key than ours, and where a person orders a further epoch."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync.agreement import Told
from sync.flow import FORKS_MAX, OPENED_MAX
from sync.key_ring import KeyRing
from sync.keys import FileSigner
from sync.names import EPOCH_OPENED_MAX
from sync.opening import End, Opening, sign_opening
from sync.sender import Sender
from sync.sender_events import (
    AskRoot,
    AskSession,
    EpochOpened,
    EpochTaken,
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
from tests.sender_rig import HELD, KEY, alarms, opened, puts, sender, their
from tests.sim_realm import LOG_SIGNER, ORIGIN, TAG, frontier_of

OTHER_KEY = bytes.fromhex("deadbeef")


def told(key: bytes, size: int = 10) -> SessionOpened:
    return opened(size, streams=(replace(their(size), key=key),))


def agree(made: Sender, effects: list, upto: int, opening: bytes = b"") -> list:
    """Answer every question as a gateway that holds the first `upto` of our records."""
    while questions := [each for each in effects if isinstance(each, AskRoot)]:
        size = questions[0].question.size
        root = frontier_of(HELD[:size]).root if size <= upto else b""
        effects = made.handle(RootTold("his", Told(TAG, upto, root, opening)), 0.0)
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


def parted(made: Sender, effects: list, *, epoch: int) -> OwnLog:
    """The epoch that it orders is opened, and its statement asked to be sent; the new log."""
    (order,) = agree(made, effects, 10)
    assert (type(order), order.epoch) == (OpenEpoch, epoch)
    log = OwnLog(replace(ORIGIN, epoch=epoch, tag="11111111"), 30, start=10, opening=b"statement")
    assert made.handle(EpochOpened("his", (OwnLog(ORIGIN, 10, 10), log)), 0.0) == [PostEpoch(log.origin, b"statement")]
    return log


@pytest.mark.parametrize("receipted", [10, 3])
def test_statement_that_was_lost_after_another_key_was_seen_is_sent_again_and_no_other_epoch_opened(receipted):
    made = sender(theirs=None)
    log = parted(made, made.handle(told(OTHER_KEY), 0.0), epoch=2)
    for _ in range(2 * FORKS_MAX):  # a line that is cut just then, again and again
        made.handle(PathFailed("LNK-01"), 0.0)
        old = made.flows["his"].logs[0]
        made.flows["his"] = replace(made.flows["his"], logs=(replace(old, receipted=receipted), log))
        assert [each for each in made.handle(told(OTHER_KEY), 1000.0) if isinstance(each, PostEpoch)] == [PostEpoch(log.origin, b"statement")]  # fmt: skip
    assert made.flows["his"].halted == ""


@pytest.mark.parametrize(("size", "root", "code"), [(40, b"x" * 32, "SYN-20"), (41, b"x" * 32, "SYN-21")])
def test_gateway_that_denies_every_epoch_opens_no_more_than_so_many(size, root, code):
    made, count = sender(theirs=None), 0
    theirs = replace(their(10), size=size, root=root)
    effects = made.handle(opened(size, streams=(theirs,)), 0.0)
    while alarms(effects) == [code]:
        count += 1
        log = parted(made, effects, epoch=theirs.epoch + 1)
        log = replace(log, size=40, start=0)
        made.flows["his"] = replace(made.flows["his"], logs=(OwnLog(ORIGIN, 10, 10), log))
        theirs = replace(theirs, epoch=log.origin.epoch, tag=log.origin.tag)
        effects = made.handle(EpochTaken("his", theirs), 0.0)
    assert (count, alarms(effects)) == (OPENED_MAX, ["SYN-31"])


@pytest.mark.parametrize("epoch", [1025, 2**31 - 1])
def test_epoch_number_that_cannot_be_true_stops_the_stream_and_opens_none(epoch):
    made = sender(theirs=None)
    effects = made.handle(opened(10, streams=(replace(their(10), epoch=epoch, tag="77777777"),)), 0.0)
    effects = agree(made, effects, 10)
    assert (alarms(effects), made.flows["his"].halted) == (["SYN-31"], "SYN-31")
    assert [each for each in effects if isinstance(each, OpenEpoch)] == []


def statement(epoch: int, signer, *, tag="77777777") -> bytes:
    opened, common = replace(ORIGIN, epoch=epoch, tag=tag), End(ORIGIN, 10, frontier_of(HELD[:10]).root)
    return sign_opening(Opening(opened=opened, theirs=None, own=common, common=common, carried=0), signer)


EARLIER, STRANGER = (FileSigner(ORIGIN.node, Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2))
FAR = 5000


@pytest.mark.parametrize(
    ("shown", "epoch", "opens"),
    [
        (statement(FAR, EARLIER), FAR, FAR + 1),
        (statement(FAR, LOG_SIGNER), FAR, FAR + 1),
        (statement(EPOCH_OPENED_MAX, EARLIER), EPOCH_OPENED_MAX, None),
        (statement(FAR, STRANGER), FAR, None),
        (statement(FAR - 1, EARLIER), FAR, None),
        (statement(FAR, EARLIER, tag="66666666"), FAR, None),
        (statement(FAR, EARLIER).replace(b"carried 0", b"carried 1"), FAR, None),
        (b"nothing of the kind", FAR, None),
        (b"", FAR, None),
    ],
    ids=["earlier key", "present key", "near the last", "stranger", "another number", "another log", "altered", "junk", "none"],
)  # fmt: skip
def test_number_far_ahead_is_believed_on_the_word_of_a_key_of_ours_alone(shown, epoch, opens):
    ring = KeyRing(LOG_SIGNER, (EARLIER,))
    made = Sender(
        root_at=lambda _, upto: frontier_of(HELD[:upto]).root, root_of=lambda _, start, size: frontier_of(HELD[start : start + size]).root,
        key_at=lambda *_: KEY, dice=lambda: 0.0, opened_by_us=ring.opened,
    )  # fmt: skip
    made.handle(Started((OwnLog(ORIGIN, 40, 10),), "ledger-1"), 0.0)
    effects = made.handle(opened(10, streams=(replace(their(10), epoch=epoch, tag="77777777"),)), 0.0)
    effects = agree(made, effects, 10, shown)
    assert [each.epoch for each in effects if isinstance(each, OpenEpoch)] == ([opens] if opens else [])
    assert made.flows["his"].halted == ("" if opens else "SYN-31")


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


def test_order_for_a_stream_whose_key_was_refused_does_not_wait_for_its_next_try():
    made = sender()
    assert alarms(made.handle(Refused("his", "bad-key"), 0.0)) == ["SYN-32"]
    assert made.handle(PartOrdered("his"), 1.0) == [AskSession()]
    effects = made.handle(told(KEY), 1.0)
    assert alarms(effects) == ["NOD-36"]
    assert [type(each) for each in effects if isinstance(each, AskRoot)] == [AskRoot]


def test_order_that_a_fenced_start_is_given_waits_for_its_next_session():
    made = sender()
    made.handle(Refused("his", "fenced"), 0.0)
    assert made.handle(PartOrdered("his"), 1.0) == []
    assert made.flows["his"].ordered
