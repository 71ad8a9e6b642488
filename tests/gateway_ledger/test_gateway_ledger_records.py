"""What a ledger holds: leaves, pages, and holes that are filled by the bytes that match."""

import pytest

from gateway.errors import SwapLost
from gateway.ledger import PutCall
from gateway.ledger_rows import Rows
from gateway.ledger_view import PAGE_BYTES_MAX
from sync.batch import decode, encode
from sync.keys import Verifier
from sync.log import TILE_LEAVES, root_at
from sync.receipt import open_receipt
from sync.receiver import Receipt
from sync.record import BodyState, Record
from sync.store import LogTable, SafeDatabase
from tests.gateway_rig import GATEWAY, TinyNode, message
from tests.ledger_rig import WAIT_S
from tests.sim_realm import without_body


# ---- what is stored --------------------------------------------------------------------------------------------------
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


# ---- holes -----------------------------------------------------------------------------------------------------------
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
