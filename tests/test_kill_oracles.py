"""The oracles of the kill loop of devices, without a node: what is right they let pass, and each of these faults they find."""

from collections import deque
from types import SimpleNamespace

import pytest

from tests.kill_rig import Down, LoopError, Row, Taken
from tests.kill_sources.astm import Astm, Transfer
from tests.kill_sources.http import Fhir
from tests.kill_sources.lines import EARLIER_US, UNNOTED_MAX, UNNOTED_US, Account, Gap, Loss, Print, Told, block
from tests.kill_sources.modbus import Modbus
from tests.kill_sources.mqtt import AHEAD_MAX, Mqtt, Publisher
from tests.kill_sources.poct1a import CONTROL_IDS, Poct
from tests.sim_kill_devices import DeviceLoop

S = 1_000_000
NOBODY = SimpleNamespace(asked={1: 5}, mute=set())


def row(
    body: bytes, kind: str = "message", verdict: str = "accepted", control_id: str = "", received_us: int = 0
) -> Row:
    return Row(0, kind, verdict, control_id, body, received_us)


# -- ASTM ----------------------------------------------------------------------------------------------------------------
TEXTS = [b"H|\\^&|0-0|", b"P|1|", b"R|1|", b"L|1|"]
MESSAGE = b"".join(TEXTS)
SECOND = [b"H|\\^&|0-1|", b"L|1|"]


def astm(*transfers: Transfer) -> Astm:
    source = Astm("seed")
    for each in transfers:
        each.is_over = True
    source.peers[0].ledger.transfers.extend(transfers)
    return source


def cut(taken: int, sent: int = 0, texts: list[bytes] = TEXTS) -> Transfer:
    return Transfer(b"".join(texts), texts, sent=max(sent, taken), taken=taken)


def whole(texts: list[bytes] = TEXTS) -> Transfer:
    return cut(len(texts), texts=texts)


def reckon(source: Astm, *bodies: tuple[bytes, bool]) -> None:
    for body, is_whole in bodies:
        kind = ("message", "accepted") if is_whole else ("incomplete", "accepted-with-warning")
        source.take(row(body, *kind, control_id="0-0"))
    source.compare(is_end=True)


def left(frames: int, texts: list[bytes] = TEXTS) -> tuple[bytes, bool]:
    return b"".join(texts[:frames]), False


@pytest.mark.parametrize(
    ("transfers", "records"),
    [
        ([cut(2, 3), whole()], [left(2), (MESSAGE, True)]),
        (
            [cut(2, 3), whole()],
            [left(3), (MESSAGE, True)],
        ),  # the frame that was under way is there, its ACK was not read
        ([cut(0, 1), whole()], [(MESSAGE, True)]),
        ([cut(0, 1), whole()], [left(1), (MESSAGE, True)]),
        ([cut(0, 1), cut(1, 2), whole()], [left(1), (MESSAGE, True)]),  # only the second was owed
        ([cut(0, 1), cut(1, 2), whole()], [left(1), left(2), (MESSAGE, True)]),
        ([cut(3, 4), whole()], [(MESSAGE, True)]),  # it was there before its repetition
        ([cut(3, 4), whole()], [left(3), (MESSAGE, True)]),
        ([cut(3, 4), cut(2), whole()], [(MESSAGE, True), left(2)]),
        ([whole(), cut(1, 2, SECOND), whole(SECOND)], [(MESSAGE, True), (b"".join(SECOND), True)]),
    ],
)
def test_of_transfers_that_were_cut_off_what_was_acknowledged_may_be_there_with_the_frame_under_way_or_without(
    transfers, records
):
    reckon(astm(*transfers), *records)


FOUND_IN_ASTM = {
    "a frame that was acknowledged is not kept": ([cut(2, 3)], [left(1)]),
    "nothing of it is kept": ([cut(1, 2), whole()], [(MESSAGE, True)]),
    "a frame is kept that was never sent": ([cut(1, 2)], [left(3)]),
    "a byte is another": ([cut(2)], [(TEXTS[0] + b"P|2|", False)]),
    "it is kept twice": ([cut(2), whole()], [left(2), left(2), (MESSAGE, True)]),
    "it stands behind what came later": ([cut(2), whole()], [(MESSAGE, True), left(2)]),
    "a record of nothing": ([cut(2)], [left(2), (b"", False)]),
    "a cut transfer is called whole": ([cut(3), whole()], [(TEXTS[0] + TEXTS[1] + TEXTS[2], True), (MESSAGE, True)]),
    "a whole transfer is called cut off": ([whole()], [(MESSAGE, False)]),
    "a message is there twice": ([cut(3, 4), whole()], [(MESSAGE, True), (MESSAGE, True)]),
    "a message is not there": ([whole(), whole(SECOND)], [(b"".join(SECOND), True)]),
    "the same message is known of another": ([whole(), whole(SECOND)], [(MESSAGE, True)]),
}


@pytest.mark.parametrize("what", FOUND_IN_ASTM)
def test_of_astm_it_is_found_that(what):
    transfers, records = FOUND_IN_ASTM[what]
    with pytest.raises(LoopError):
        reckon(astm(*(Transfer(each.message, each.texts, each.sent, each.taken) for each in transfers)), *records)


def test_transfers_that_are_accounted_for_are_forgotten():
    source = astm()
    for n in range(1000):
        texts = [b"H|\\^&|0-%d|" % n, *TEXTS[1:]]
        source.peers[0].ledger.transfers += [cut(2, texts=texts), whole(texts)]
        for each in source.peers[0].ledger.transfers:
            each.is_over = True
        source.take(row(*left(2, texts)[:1], "incomplete", "accepted-with-warning", "0-0"))
        source.take(row(b"".join(texts), control_id="0-0"))
        source.compare(is_end=False)
    assert len(source.peers[0].ledger.transfers) < 5


# -- a printer -----------------------------------------------------------------------------------------------------------
KILL = Down(100 * S, 100 * S + 1, 101 * S)
GAP = Gap(99 * S, 102 * S, 103 * S)
LOSS = Loss([Print(b"lost", 100 * S, 101 * S)], 98 * S, 104 * S)


def settle(account: Account, *gaps: Gap, is_end: bool = True) -> Account:
    for gap in gaps:
        account.take(gap)
    account.settle(oldest_us=10**15, is_end=is_end)
    return account


def account(*losses: Loss, downs: tuple[Down, ...] = (KILL,)) -> Account:
    made = Account(losses=list(losses))
    made.downs.extend(downs)
    return made


def test_what_was_printed_without_a_node_and_is_told_is_accounted_for():
    assert settle(account(LOSS), GAP).lost == 1


LATER = Down(200 * S, 200 * S + 1, 201 * S)
FOUND_IN_PRINTS = {
    "a gap never ends": ([LOSS], (KILL,), [Gap(99 * S, 900 * S, 103 * S)]),
    "a gap began long before": ([LOSS], (KILL,), [Gap(100 * S - EARLIER_US - 1, 102 * S, 103 * S)]),
    "a gap begins when the node was down already": ([], (KILL,), [Gap(100 * S + 2, 102 * S, 103 * S)]),
    "a gap ends before a node came back": ([], (KILL,), [Gap(99 * S, 100 * S + 5, 103 * S)]),
    "a gap tells of no kill": ([], (), [GAP]),
    "two gaps tell of one kill": ([], (KILL,), [GAP, Gap(99 * S, 103 * S, 104 * S)]),
    "a gap tells again of what is told": ([], (KILL, LATER), [GAP, Gap(99 * S, 202 * S, 203 * S)]),
    "a gap ends when no node ran": ([], (KILL, LATER), [Gap(99 * S, 200 * S + 500, 203 * S)]),
    "a report is lost and no gap tells of it": ([LOSS], (KILL,), []),
    "a report is lost behind the gap": ([Loss([Print(b"lost", 103 * S, 104 * S)], 99 * S, 105 * S)], (KILL,), [GAP]),
    "a report is lost without a kill, in the second before one": (
        [Loss([Print(b"lost", 99 * S, 99 * S + 9)], 98 * S, 99 * S + 99)],
        (KILL,),
        [GAP],
    ),
}


@pytest.mark.parametrize("what", FOUND_IN_PRINTS)
def test_of_a_printer_it_is_found_that(what):
    losses, downs, gaps = FOUND_IN_PRINTS[what]
    with pytest.raises(LoopError):
        settle(account(*losses, downs=downs), *gaps)


def again(times: int) -> Account:
    """After a gap, kills just after each was told, of which each tells of all the time since the first."""
    made, gap, first = account(), GAP, GAP.first
    made.take(gap)
    for _ in range(times):
        kill_us = gap.received + UNNOTED_US - 1
        made.downs.append(Down(kill_us, kill_us + 1, kill_us + 2))
        gap = Gap(first, kill_us + S, kill_us + 2 * S)
        made.take(gap)
    return made


def test_a_node_killed_just_after_it_told_a_gap_may_tell_of_it_again_but_not_for_ever():
    settle(again(UNNOTED_MAX))
    with pytest.raises(LoopError, match="a gap begins at"):
        again(UNNOTED_MAX + 1)


def test_gaps_and_kills_that_are_accounted_for_are_forgotten():
    made = Account()
    for n in range(1, 1000):
        start = n * 10 * S
        made.downs.append(Down(start, start + 1, start + S))
        made.losses.append(Loss([Print(b"lost", start, start + 2)], start - S, start + 3 * S))
        made.take(Gap(start - S, start + 2 * S, start + 3 * S))
        made.settle(oldest_us=start + 5 * S, is_end=False)
    assert made.lost == 999
    assert max(len(made.downs), len(made.gaps), len(made.losses)) < 3


@pytest.fixture
def told(tmp_path):
    source = Told("seed", tmp_path)
    yield source
    source.peers[0].unplug()


def test_a_report_that_is_cut_off_is_one_that_was_printed_in_its_order(told):
    (peer,) = told.peers
    prints = [block(n, 0, "Test").rstrip(b"\r\n") for n in range(3)]
    peer.printed.extend(Print(data, n * S, n * S + 1) for n, data in enumerate(prints))
    told.take(row(prints[0]))
    told.take(row(prints[1][:12], "incomplete", "rejected"))
    told.take(row(prints[2]))
    told.compare(is_end=True)
    with pytest.raises(LoopError, match="another time, or never"):
        told.take(row(prints[1][:12], "incomplete", "rejected"))


def test_a_gap_of_another_cause_excuses_nothing(told):
    told.was_down(KILL)
    body = b'{"codes": {"SER-02": 1}, "count": 1, "first_us": 99000000, "last_us": 102000000}'
    with pytest.raises(LoopError, match="nothing but kills"):
        told.take(row(body, "gap", received_us=103 * S))


def test_the_last_report_must_be_there_at_the_end(told):
    told.peers[0].printed.append(Print(b"x", S, 2 * S))
    told.compare(is_end=False)
    with pytest.raises(LoopError, match="the last node"):
        told.compare(is_end=True)


# -- the others ----------------------------------------------------------------------------------------------------------
def test_a_document_cut_off_is_there_once_and_as_far_as_it_was_sent():
    source, sent = Poct("seed"), b'<OBS.R01><HDR><HDR.control_id V="%d"/>' % (CONTROL_IDS + 7)
    source.peers[1].device.broken.append(sent)
    source.take(row(sent[:-1], "incomplete", "rejected"))
    with pytest.raises(LoopError, match="or is there twice"):
        source.take(row(sent[:-1], "incomplete", "rejected"))
    source.peers[1].device.broken.append(sent)
    with pytest.raises(LoopError, match="was sent in no document"):
        source.take(row(sent + b"more", "incomplete", "rejected"))


def test_a_run_without_a_fault_of_the_devices_proves_nothing_of_them():
    source = Poct("seed")
    source.there = 100
    with pytest.raises(LoopError, match="a fault never came"):
        source.check_floor(3)


@pytest.mark.parametrize("make", [Astm, Fhir, Poct, lambda _: Modbus(NOBODY)])
def test_a_run_in_which_a_source_did_nothing_is_no_proof(make):
    source = make("seed")
    source.compare(is_end=True)
    with pytest.raises(LoopError, match="prove nothing"):
        source.check_floor(1)


def test_a_source_that_waits_for_the_comparison_is_compared_before_its_acknowledgements_are_waited_for(tmp_path):
    source, loop = Mqtt.__new__(Mqtt), DeviceLoop(tmp_path, 1, 1)
    peer = Publisher.__new__(Publisher)
    peer._mine, peer.acknowledged = deque([Taken(b"")] * AHEAD_MAX), AHEAD_MAX
    source.peers = [peer]
    source.read = lambda *_: peer._mine.clear()
    loop._centre, loop._node = None, SimpleNamespace(name="clinic-7")
    assert source.is_behind
    assert loop.acknowledged(source) == AHEAD_MAX
    assert not source.is_behind
