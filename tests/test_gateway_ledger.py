"""The ledger by itself: one writer, group commits, a disk that fails when told to."""

import os
import threading
from dataclasses import replace
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.errors import Busy, GatewayFull, LedgerLost, SwapLost
from gateway.ledger import EpochCall, PutCall, ReleaseCall
from gateway.ledger_keys import KeyRows
from gateway.ledger_queue import GROUP_CALLS_MAX, WAITING_CALLS_MAX, WAITING_PER_NODE_MAX
from gateway.ledger_rows import Rows
from gateway.ledger_sqlite import FREE_BYTES_MIN
from gateway.ledger_view import PAGE_BYTES_MAX, LedgerView
from node.tools.pki import issue_node
from sync.batch import decode, encode
from sync.certificates import der, read
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import FileSigner, Verifier
from sync.log import EMPTY_ROOT, TILE_LEAVES, Frontier, root_at
from sync.names import Origin
from sync.opening import End, Opening, sign_opening
from sync.receipt import open_receipt
from sync.receiver import Append, Receipt, Refuse, Taken
from sync.record import BodyState, Record
from sync.session import STREAMS_MAX, OwnStream
from sync.store import LogTable, SafeDatabase
from tests.gateway_rig import GATEWAY, Gateway, TinyNode, maker, message
from tests.ledger_rig import WAIT_S, Bench, full_at, spy
from tests.sim_disk import disk
from tests.sim_realm import without_body


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def bench(realm, path):
    found = Bench(realm, path)
    found.ledger.start()
    yield found
    if found.ledger.alive:
        found.ledger.stop()
    assert not found.died


@pytest.fixture
def made(realm, tmp_path):
    with maker(realm, Gateway(realm, tmp_path), tmp_path, "clinic-17") as make:
        yield make


@pytest.fixture
def view(path):
    views = []

    def open_view() -> LedgerView:
        views.append(LedgerView(path))
        return views[-1]

    yield open_view
    for each in views:
        each.close()


# --- group commit


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


# --- starts and fences


def test_an_older_boot_alarms_only_on_a_connection_younger_than_the_newer_ones_admission(bench, made):
    node = made()
    old = node.boot
    bench.admit(node)
    node.boot = os.urandom(16).hex()
    bench.clock.seconds = 200.0
    bench.admit(node, boots=[old])
    late = bench.session(node, boot=old, connected_at=150.0).result(WAIT_S)
    assert (late.code, bench.meter.alarms) == ("fenced", [])
    clone = bench.session(node, boot=old, connected_at=201.0).result(WAIT_S)
    assert (clone.code, bench.meter.alarms) == ("fenced", [("GWY-11", node.name, "")])


def test_announced_heads_are_verified_before_the_call_waits_for_the_writer(realm, path, made, view, monkeypatch):
    node, verified_by = made(), []
    monkeypatch.setattr(
        Verifier, "verify", spy(Verifier.verify, lambda: verified_by.append(threading.current_thread()))
    )
    found = Bench(realm, path)
    found.ledger.start()
    stranger = sign_checkpoint(
        Checkpoint(node.origin(), 9, bytes(32)), FileSigner(node.name, Ed25519PrivateKey.generate())
    )
    found.admit(node, heads=(node.batch(0, 12).checkpoint, stranger))
    found.ledger.stop()
    assert verified_by == [threading.current_thread()]  # the stranger's key id is not the node's
    assert [(log.announced, log.at_node) for log in view().logs(node.name)] == [(12, 12)]


def test_no_put_of_an_older_fence_commits_after_a_session_was_answered(bench, made):
    node = made()
    bench.admit(node)
    older = node.fence
    node.boot, before = os.urandom(16).hex(), node.boot
    bench.admit(node, boots=[before])
    newer, node.fence = node.fence, older
    assert bench.put(node, 0, 6).result(WAIT_S).code == "fenced"
    node.fence = newer
    assert isinstance(bench.put(node, 0, 6).result(WAIT_S), Receipt)


def test_a_node_declares_at_most_so_many_streams(bench, made, view):
    node = made()
    streams = [OwnStream(stream=f"s{n}", epoch=1, tag="0" * 8, lane="bulk") for n in range(STREAMS_MAX)]
    bench.admit(node)
    assert len(bench.admit(node, streams=streams).logs) == STREAMS_MAX
    assert bench.meter.alarms == [("GWY-15", node.name, "")]
    assert len(view().logs(node.name)) == STREAMS_MAX


def test_a_node_that_names_other_streams_each_time_fills_neither_alarms_nor_log(bench, made, view):
    node = made()
    bench.admit(node)
    for epoch in (2, 3):
        streams = [OwnStream(stream=f"e{epoch}-s{n}", epoch=1, tag="0" * 8, lane="bulk") for n in range(STREAMS_MAX)]
        bench.admit(node, streams=streams)
        for n in range(3):
            common = End(Origin(node.name, f"none-{epoch}-{n}", 1, "0" * 8), 0, EMPTY_ROOT)
            opened = Origin(node.name, f"none-{epoch}-{n}", epoch, "0" * 8)
            opening = Opening(opened=opened, theirs=None, own=common, common=common, carried=0)
            statement = sign_opening(opening, FileSigner(node.name, Ed25519PrivateKey.generate()))
            call = EpochCall(node=node.name, stream=opened.stream, fence=node.fence, statement=statement)
            assert bench.ledger.epoch(call).result(WAIT_S).code == "bad-key"
    found = {(code, stream): count for code, _, stream, _, count in view().alarms(100)}
    assert found == {("GWY-15", ""): 2, ("GWY-22", ""): 6}


def test_a_stream_has_at_most_so_many_epochs_and_the_one_too_many_is_no_log(bench, made, view, monkeypatch):
    monkeypatch.setattr("gateway.ledger_rows.EPOCHS_MAX", 2)
    node = made()
    bench.admit(node)
    answers = []
    for epoch in (2, 3):
        statement = node.outbox.open_epoch("his", epoch=epoch, tag=node.boot[:8], place=0, theirs=None)[-1].opening
        call = EpochCall(node=node.name, stream="his", fence=node.fence, statement=statement)
        answers.append(bench.ledger.epoch(call).result(WAIT_S))
    assert isinstance(answers[0], Taken)
    assert (answers[1].status, answers[1].code) == (422, "bad-opening")
    assert [log.origin.epoch for log in view().logs(node.name)] == [1, 2]


def test_records_committed_while_held_are_marked_by_position_in_one_range(bench, made, path):
    node = made()
    bench.admit(node)
    bench.put(node, 0, 3).result(WAIT_S)
    node.boot = os.urandom(16).hex()
    assert bench.admit(node, fence="0" * 32).held
    bench.put(node, 3, 5).result(WAIT_S)
    bench.put(node, 5, 12).result(WAIT_S)
    database = SafeDatabase(path, readonly=True)
    assert list(database.raw().execute("SELECT first, end FROM hold")) == [(3, 12)]
    database.close()


def test_the_ledger_keeps_its_id_and_its_boots_over_a_restart(realm, path, made):
    node = made()
    first = Bench(realm, path)
    first.ledger.start()
    fence = first.admit(node).fence
    first.ledger.stop()
    second = Bench(realm, path)
    second.ledger.start()
    assert second.ledger.id == first.ledger.id
    assert second.admit(node).fence == fence
    node.boot, old = os.urandom(16).hex(), node.boot
    second.admit(node)
    assert second.session(node, boot=old, connected_at=0.0).result(WAIT_S).code == "fenced"
    second.ledger.stop()


def test_a_certificate_of_another_log_key_does_not_change_the_key(bench, made, realm, tmp_path, view):
    node = made()
    bench.admit(node)
    bench.put(node, 0, 4).result(WAIT_S)
    issue_node(realm.folder / "ca", tmp_path / "other", node.name)
    older, fresh = node.signer, der(read((tmp_path / "other/log.pem").read_bytes()))
    node.signer = FileSigner(node.name, load_pem_private_key((tmp_path / "other/log.key").read_bytes(), None))
    for certificate in (None, fresh):
        bench.admit(node, log_certificate=certificate)
        refused = bench.put(node, 4, 8).result(WAIT_S)
        assert isinstance(refused, Refuse)
        assert refused.code == "bad-key"
    node.signer = older  # whose certificate the last session did not bring
    assert bench.put(node, 4, 8).result(WAIT_S).code == "bad-key"
    bench.admit(node)
    assert isinstance(bench.put(node, 4, 8).result(WAIT_S), Receipt)


def test_a_key_is_written_to_a_log_once_and_not_with_every_batch_that_it_signs(bench, made, monkeypatch):
    node, written, real = made(), [], KeyRows.sign_from

    def spied(self, *given):
        written.append(given)
        return real(self, *given)

    monkeypatch.setattr(KeyRows, "sign_from", spied)
    bench.admit(node)
    for first in (0, 4, 8):
        assert isinstance(bench.put(node, first, first + 4).result(WAIT_S), Receipt)
    assert len(written) == 1


# --- what is stored


def test_leaves_tiles_and_root_of_the_ledger_are_the_nodes(bench, made, view, path):
    node = made(messages=0)
    size = 2 * TILE_LEAVES + 100
    node.add([message(n) for n in range(size)])
    bench.admit(node)
    for first in range(0, size, 300):
        bench.put(node, first, min(size, first + 300)).result(WAIT_S)
    (log,) = view().logs(node.name)
    database = SafeDatabase(path, readonly=True)
    table = LogTable(database.raw(), log.log)
    assert (log.frontier.size, log.frontier.root) == (size, node.root(size))
    assert table.tiles(0, 9) == node.table("his").tiles(0, 9)
    assert root_at(table, 1500) == node.root(1500)
    assert list(table.records(0, size)) == node.records(0, size)
    database.close()


def test_a_page_is_bounded_in_bytes_and_still_holds_one_large_record(bench, made, view):
    node = made(messages=0)
    node.add([bytes(PAGE_BYTES_MAX // 2), bytes(PAGE_BYTES_MAX // 2), b"x", bytes(3 * PAGE_BYTES_MAX), b"y"])
    bench.admit(node)
    bench.put(node, 0, 5).result(WAIT_S)
    (log,) = view().logs(node.name)
    ends, at = [], 0
    while at < 5:
        at = view().page(log.log, at, 5).next
        ends.append(at)
    assert ends == [2, 3, 4, 5]


# -- holes -------------------------------------------------------------------------------------------------------------


def without(node: TinyNode, first: int, end: int, states: dict[int, BodyState]) -> list[Record]:
    """The node's records, some of them in another state."""
    return [
        without_body(record, states[record.seq]) if record.seq in states else record
        for record in node.records(first, end)
    ]


def put_records(bench, node, first, end, records):
    batch = decode(encode(node.batch(first, end, records=records)))
    call = PutCall(node=node.name, stream="his", epoch=1, first=first, fence=node.fence, batch=batch)
    return bench.ledger.put(call).result(WAIT_S)


def octets(view, node) -> int:
    (found,) = view._database.raw().execute("SELECT octets FROM log WHERE node = ?", (node.name,))
    return found[0]


def test_a_hole_is_filled_by_matching_bytes_that_come_later_and_what_was_trimmed_or_erased_stays_so(bench, made, view):
    node = made()
    bench.admit(node)
    states = {2: BodyState.DAMAGED, 3: BodyState.TRIMMED, 4: BodyState.ERASED, 5: BodyState.LEAF_ONLY}
    first = put_records(bench, node, 0, 8, without(node, 0, 8, states))
    again = put_records(bench, node, 0, 10, node.records(0, 10))
    assert isinstance(first, Receipt)
    assert open_receipt(again.note, Verifier(GATEWAY, bench.signer.public)).checkpoint.size == 10
    whole = node.records(0, 10)
    found = list(LogTable(view()._database.raw(), 1).records(0, 10))
    assert found == [without_body(record, states[n]) if n in {3, 4} else record for n, record in enumerate(whole)]
    assert octets(view(), node) == sum(len(record.body) for record in found)


def test_a_hole_is_filled_in_one_transaction_or_not_at_all(bench, made, view, monkeypatch):
    node = made()
    bench.admit(node)
    put_records(bench, node, 0, 4, without(node, 0, 4, {1: BodyState.DAMAGED}))

    def lose(*_args, **_options):
        raise SwapLost("on purpose")

    monkeypatch.setattr(Rows, "append", lose)
    with pytest.raises(SwapLost):
        put_records(bench, node, 0, 8, node.records(0, 8))
    monkeypatch.undo()
    (state,) = [record.state for record in LogTable(view()._database.raw(), 1).records(1, 1)]
    assert state is BodyState.DAMAGED
    put_records(bench, node, 0, 8, node.records(0, 8))
    assert list(LogTable(view()._database.raw(), 1).records(0, 8)) == node.records(0, 8)
