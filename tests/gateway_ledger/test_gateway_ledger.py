"""The ledger by itself: one writer, group commits, a disk that fails when told to."""

import os
from dataclasses import replace
from functools import partial

import pytest

from gateway.errors import Busy, GatewayFull, LedgerLost, SwapLost
from gateway.ledger import ReleaseCall
from gateway.ledger_queue import GROUP_CALLS_MAX, WAITING_CALLS_MAX, WAITING_PER_NODE_MAX
from gateway.ledger_rows import Rows
from gateway.ledger_sqlite import FREE_BYTES_MIN
from sync.keys import Verifier
from sync.log import Frontier
from sync.receipt import open_receipt
from sync.receiver import Append, Receipt
from sync.store import SafeDatabase
from tests.gateway_rig import GATEWAY
from tests.ledger_rig import WAIT_S, Bench, full_at, spy
from tests.sim_disk import disk


def test_what_waited_shares_one_transaction_and_each_has_its_own_answer(realm, path, made):
    found = Bench(realm, path)
    found.ledger.start()
    nodes = [made(f"n{n}") for n in range(4)]
    for node in nodes:
        found.admit(node)
    found.ledger.stop()
    again = Bench(realm, path)
    waiting = [again.put(node, 0, 12) for node in nodes[:3]] + [again.put(nodes[3], 5, 12), again.put(nodes[0], 3, 12)]
    again.ledger.start()
    answers = [future.result(WAIT_S) for future in waiting]
    assert again.meter.groups == [(5, 36)]
    cosigner = Verifier(GATEWAY, again.signer.public)
    for node, answer in zip(nodes[:3], answers[:3], strict=True):
        assert open_receipt(answer.note, cosigner).checkpoint.origin == node.origin()
    assert (answers[3].status, answers[3].code) == (409, "rewind")
    assert answers[4] == answers[0], (
        "the second call saw the first one's records, and both are answered after the commit"
    )
    again.ledger.stop()


def test_nothing_is_answered_before_the_commit(realm, path, made):
    node = made()
    with disk("sim-ledger-order") as sim:
        found = Bench(realm, path, vfs=sim.name)
        found.ledger.start()
        found.admit(node)
        sim.arm(0)
        answered_at = []
        future = found.put(node, 0, 12)
        future.add_done_callback(lambda _: answered_at.append([what for what, _ in sim.calls]))
        future.result(WAIT_S)
        found.ledger.stop()
    assert answered_at[0][-1] == "sync", "the last thing before the answer is the sync of the WAL"


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_failed_write_or_sync_is_never_answered_and_kills_the_writer(realm, path, made, what):
    node = made()
    with disk(f"sim-ledger-{what}") as sim:
        found = Bench(realm, path, vfs=sim.name)
        found.ledger.start()
        found.admit(node)
        sim.arm(0)
        found.put(node, 0, 4).result(WAIT_S)
        kinds = [kind for kind, _ in sim.calls]
        sim.arm(1 + kinds.index(what))
        future = found.put(node, 4, 12)
        assert found.dead.wait(WAIT_S)
        assert isinstance(found.died[0], LedgerLost)
        assert not future.done()
        found.bury(sim)
    after = Bench(realm, path)
    after.ledger.start()
    assert after.put(node, 4, 12).result(WAIT_S) == after.put(node, 0, 12).result(WAIT_S)
    after.ledger.stop()


def test_a_nearly_full_disk_refuses_batches_before_the_commit_but_admits_starts(bench, made, view):
    node = made()
    bench.free = FREE_BYTES_MIN - 1
    bench.admit(node)
    assert isinstance(bench.put(node, 0, 12).exception(WAIT_S), GatewayFull)
    assert ("GWY-14", "", "") in bench.meter.alarms
    assert view().logs(node.name)[0].frontier.size == 0
    bench.free = FREE_BYTES_MIN
    assert isinstance(bench.put(node, 0, 12).result(WAIT_S), Receipt)


def test_a_disk_that_fills_before_the_commit_stores_nothing_and_the_writer_goes_on(realm, path, made, view):
    node = made(messages=0)
    node.add([os.urandom(12 * 1024 * 1024)])  # more than the page cache: written before COMMIT
    with disk("sim-ledger-full") as sim:
        found = Bench(realm, path, vfs=sim.name)
        found.ledger.start()
        found.admit(node)
        sim.arm(1, full=True)
        assert isinstance(found.put(node, 0, 1).exception(WAIT_S), GatewayFull)
        assert view().logs(node.name)[0].frontier.size == 0
        sim.arm(0)
        assert isinstance(found.put(node, 0, 1).result(WAIT_S), Receipt)
        found.ledger.stop()


def test_a_key_that_was_rolled_back_with_its_group_is_never_taken_for_the_next_nodes(realm, path, made, monkeypatch):
    first, second, full = made("n1"), made("n2"), made("full")
    found = Bench(realm, path)
    waiting = [found.session(first), found.put(first, 0, 12), found.session(full)]
    monkeypatch.setattr(Rows, "heads", spy(Rows.heads, partial(next, full_at(2))))  # a session reads them twice
    found.ledger.start()
    assert [type(future.exception(WAIT_S)) for future in waiting] == [GatewayFull] * 3
    monkeypatch.undo()
    found.admit(second)  # its certificate has the row that the first one's had
    assert isinstance(found.put(second, 0, 12).result(WAIT_S), Receipt)
    found.ledger.stop()


def test_a_disk_that_fills_within_the_commit_is_never_answered(realm, path, made):
    node = made()
    with disk("sim-ledger-full-commit") as sim:
        found = Bench(realm, path, vfs=sim.name)
        found.ledger.start()
        found.admit(node)
        sim.arm(1, full=True)
        future = found.put(node, 0, 12)
        assert found.dead.wait(WAIT_S)
        assert not future.done()
        found.bury(sim)


def test_a_call_that_fails_inside_fails_alone(bench, made, monkeypatch):
    good, bad = made("good"), made("bad")
    bench.admit(good)
    bench.admit(bad)
    heads = Rows.head

    def broken(self, node, stream):
        if node == "bad":
            raise ZeroDivisionError
        return heads(self, node, stream)

    monkeypatch.setattr(Rows, "head", broken)
    with pytest.raises(ZeroDivisionError):
        bench.put(bad, 0, 12).result(WAIT_S)
    assert isinstance(bench.put(good, 0, 12).result(WAIT_S), Receipt)
    assert ("GWY-16", "bad", "") in bench.meter.alarms


def test_a_head_that_somebody_moved_is_not_overwritten(bench, path, made):
    node = made()
    bench.admit(node)
    bench.put(node, 0, 6).result(WAIT_S)
    database = SafeDatabase(path)
    rows, connection = Rows(database.raw()), database.raw()
    log, held = rows.head(node.name, "his")
    records = tuple(node.records(6, 8))
    effect = Append(
        held.origin,
        held.frontier,
        held.frontier.append(b"".join(r.leaf for r in records)),
        b"note",
        records,
        Verifier(node.name, node.signer.public),
    )
    connection.execute("BEGIN IMMEDIATE")
    for moved in (
        replace(effect, before=Frontier(5, held.frontier.peaks)),
        replace(effect, before=Frontier(6, bytes(64))),
        replace(effect, origin=replace(effect.origin, tag="ffffffff")),
    ):
        with pytest.raises(SwapLost):
            rows.append(log, moved, fence=node.fence, held=False, receipt_at=1)
    with pytest.raises(SwapLost):
        rows.append(log, effect, fence="older", held=False, receipt_at=1)
    connection.execute("ROLLBACK")
    database.close()


def test_a_full_queue_says_busy_at_once_and_what_waits_is_done_at_the_stop(realm, path, made):
    nodes = [made(f"n{n}", messages=1) for n in range(WAITING_CALLS_MAX // WAITING_PER_NODE_MAX)]
    found = Bench(realm, path)
    waiting = [found.session(node) for node in nodes for _ in range(WAITING_PER_NODE_MAX)]
    with pytest.raises(Busy):
        found.session(made("late", messages=1))
    assert found.ledger.waiting == WAITING_CALLS_MAX
    found.ledger.start()
    fences = {future.result(WAIT_S).fence for future in waiting}
    found.ledger.stop()
    assert len(fences) == len(nodes)
    assert not found.died
    assert WAITING_CALLS_MAX > GROUP_CALLS_MAX


def test_one_node_cannot_take_all_places_before_the_writer_nor_hold_up_the_release_of_its_own_records(
    realm, path, made
):
    greedy, modest = made("greedy", messages=1), made("modest", messages=1)
    found = Bench(realm, path)
    waiting = [found.session(greedy) for _ in range(WAITING_PER_NODE_MAX)]
    with pytest.raises(Busy):
        found.session(greedy)
    waiting.append(found.session(modest))
    waiting.append(found.ledger.release(ReleaseCall(node="greedy", operator="amal", statement=b"", logs=(), at=1)))
    found.ledger.start()
    assert all(future.result(WAIT_S) for future in waiting)
    for _ in range(WAITING_PER_NODE_MAX + 1):  # each place was given back
        assert found.session(greedy).result(WAIT_S).fence
    found.ledger.stop()
    assert not found.died


def test_a_caller_that_went_away_does_not_disturb_the_others(realm, path, made):
    node = made()
    found = Bench(realm, path)
    gone, there = found.session(node), found.session(node)
    assert gone.cancel()
    found.ledger.start()
    assert there.result(WAIT_S).fence
    found.ledger.stop()
    assert not found.died
