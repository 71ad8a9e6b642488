"""What was read from a log is proven against its tiles or its head, whichever part of it was asked for."""

from dataclasses import replace

import pytest

from sync.log import TILE_LEAVES, Frontier, tile_root
from sync.proven import MENDED_MAX, is_proven, mended
from sync.record import BodyState
from tests.sim_realm import MemoryLog, draft, frontier_of, records, secret, without_body

LEAVES = [secret(f"leaf {n}") for n in range(2 * TILE_LEAVES + 300)]
RANGES = [(0, 5), (0, TILE_LEAVES), (1000, 1100), (TILE_LEAVES, 1030), (2 * TILE_LEAVES - 1, 2 * TILE_LEAVES + 1), (2100, 2200), (2300, len(LEAVES)), (0, len(LEAVES))]  # fmt: skip


def frontier(end):
    return Frontier().append(b"".join(LEAVES[:end]))


@pytest.mark.parametrize(("first", "end"), RANGES)
def test_any_run_of_a_good_log_is_proven_and_none_with_another_leaf(first, end):
    log, head, run = MemoryLog(LEAVES), frontier(len(LEAVES)), LEAVES[first:end]
    assert is_proven(log, frontier(first), run, head)
    for at in {0, len(run) // 2, len(run) - 1}:
        changed = [*run[:at], secret("another"), *run[at + 1 :]]
        # as it is read: the same in the log itself
        damaged = MemoryLog([*LEAVES[:first], *changed, *LEAVES[end:]])
        damaged.tiles = log.tiles
        assert not is_proven(damaged, frontier(first), changed, head)


@pytest.mark.parametrize(("first", "end"), RANGES)
def test_a_tile_whose_stored_root_was_changed_costs_nothing_where_the_head_still_proves_the_leaves(first, end):
    log = MemoryLog(LEAVES)
    tile, good = first // TILE_LEAVES, log.tiles
    log.tiles = lambda at, count: bytes(32) if (at, count) == (tile, 1) else good(at, count)
    assert is_proven(log, frontier(first), LEAVES[first:end], frontier(len(LEAVES)))


def test_a_tile_that_was_proven_is_not_read_again_and_still_proves_no_other_leaf():
    log, head, kept = MemoryLog(LEAVES), frontier(len(LEAVES)), {}
    assert is_proven(log, frontier(100), LEAVES[100:200], head, kept)
    read = log.reads
    assert is_proven(log, frontier(200), LEAVES[200:300], head, kept)
    assert log.reads == read
    log.hashes[305] = secret("another")
    assert not is_proven(log, frontier(300), log.hashes[300:310], head, kept)
    assert is_proven(log, frontier(1000), LEAVES[1000:1100], head, kept)
    assert list(kept) == [1]


def test_damage_further_on_does_not_hold_up_a_tile_that_is_whole():
    log = MemoryLog([*LEAVES[:2000], secret("another"), *LEAVES[2001:]])
    roots = b"".join(tile_root(b"".join(LEAVES[at : at + TILE_LEAVES])) for at in (0, TILE_LEAVES))
    log.tiles = lambda at, count: roots[32 * at : 32 * (at + count)]
    head = frontier(len(LEAVES))
    assert is_proven(log, frontier(100), LEAVES[100:200], head)
    assert not is_proven(log, frontier(1990), [*LEAVES[1990:2000], secret("another")], head)


def test_a_record_whose_leaf_changed_is_read_by_its_header_and_one_whose_header_changed_by_its_leaf():
    made = records([draft(n) for n in range(4)])
    stored = [made[0], replace(made[1], leaf=bytes(32)), replace(made[2], header=b"\xa0"), made[3]]
    sent = [stored[0], *(without_body(record, BodyState.LEAF_ONLY) for record in stored[1:3]), stored[3]]
    ways = list(mended(sent, stored))
    assert len(ways) == 4
    after = frontier_of(made)
    proven = [way for way in ways if is_proven(MemoryLog(), Frontier(), [record.leaf for record in way], after)]
    assert proven == [[made[0], made[1], without_body(made[2], BodyState.LEAF_ONLY), made[3]]]


def test_more_doubt_than_can_be_tried_is_not_tried():
    made = records([draft(n) for n in range(MENDED_MAX + 1)])
    assert list(mended([without_body(record, BodyState.LEAF_ONLY) for record in made], made)) == []
