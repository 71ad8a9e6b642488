"""The log: roots and proofs are those of RFC 9162, whatever the size, and cost a bounded number of reads."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from sync.log import EMPTY_ROOT, TILE_LEAVES, Frontier, inclusion_proof, range_frontier, root_at, root_from_proof
from tests.naive_merkle import NaiveTree
from tests.sim_realm import MemoryLog

LEAVES = [sha256(b"\0" + n.to_bytes(4)).digest() for n in range(2100)]
TREE = NaiveTree(LEAVES)
LOG = MemoryLog(LEAVES)
BORDERS = [*range(TILE_LEAVES - 1, TILE_LEAVES + 2), 2047, 2048, 2049]
SIZES = [*range(71), *BORDERS]


# --- against the RFC, word by word


@pytest.mark.parametrize("size", SIZES)
def test_root_is_that_of_the_rfc(size):
    assert root_at(LOG, size) == TREE.root(size)


@pytest.mark.parametrize("size", SIZES)
def test_frontier_that_grew_leaf_by_leaf_equals_the_one_read_from_the_store(size):
    grown = Frontier()
    for leaf in LEAVES[:size]:
        grown = grown.append(leaf)
    assert grown == range_frontier(LOG, 0, size)
    assert grown.root == TREE.root(size)


@pytest.mark.parametrize("size", range(1, 71))
def test_every_inclusion_proof_up_to_seventy_leaves_is_that_of_the_rfc_and_gives_the_root(size):
    for index in range(size):
        path = inclusion_proof(LOG, index, size)
        assert path == TREE.path(index, 0, size)
        assert root_from_proof(LEAVES[index], index, size, path) == TREE.root(size)


@pytest.mark.parametrize("size", BORDERS)
def test_inclusion_proofs_around_tile_borders_are_those_of_the_rfc(size):
    for index in sorted({0, 1, 511, 512, 1022, 1023, 1024, 1025, 1535, 1536, 2046, 2047, size - 1}):
        if index < size:
            path = inclusion_proof(LOG, index, size)
            assert path == TREE.path(index, 0, size)
            assert root_from_proof(LEAVES[index], index, size, path) == TREE.root(size)


def test_roots_are_those_of_other_peoples_library():
    tree = InmemoryTree(algorithm="sha256")
    for n in range(2050):
        tree.append_entry(n.to_bytes(4))
    for size in SIZES[1:]:
        assert root_at(LOG, size) == tree.get_root(size)


def test_empty_log_has_the_hash_of_nothing_as_root():
    assert root_at(MemoryLog(), 0) == EMPTY_ROOT == Frontier().root == sha256(b"").digest()


@given(st.lists(st.integers(0, 300), max_size=12))
def test_any_cutting_into_groups_gives_the_same_frontier(groups):
    grown, at = Frontier(), 0
    for group in groups:
        count = min(group, len(LEAVES) - at)
        grown = grown.append(b"".join(LEAVES[at : at + count]))
        at += count
    assert grown.root == TREE.root(at)


# --- reads


@pytest.mark.parametrize("size", [70, 1025, 2048, 2100])
def test_a_proof_reads_at_most_two_tiles_of_leaves(size):
    for index in (0, size // 2, size - 1):
        LOG.reads = 0
        inclusion_proof(LOG, index, size)
        assert LOG.reads <= 2 * TILE_LEAVES


@pytest.mark.parametrize("size", [1024, 2048])
def test_the_root_of_full_tiles_reads_no_leaf(size):
    LOG.reads = 0
    root_at(LOG, size)
    assert LOG.reads == 0


def test_missing_leaves_and_tiles_are_noticed():
    class Holed(MemoryLog):
        def tiles(self, first: int, count: int) -> bytes:
            return super().tiles(first, count)[32:]

    with pytest.raises(IndexError):
        root_at(MemoryLog(LEAVES[:5]), 6)
    with pytest.raises(IndexError):
        root_at(Holed(LEAVES), 2048)


# --- verifying


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (3, 3)])
def test_a_position_outside_the_log_has_no_proof(index, size):
    assert root_from_proof(LEAVES[0], index, size, []) is None
    with pytest.raises(IndexError):
        inclusion_proof(LOG, index, size)


@given(st.integers(1, 70), st.data())
def test_a_proof_gives_the_root_for_no_other_leaf_position_size_or_path(size, data):
    index = data.draw(st.integers(0, size - 1))
    path, root = inclusion_proof(LOG, index, size), TREE.root(size)
    assert root_from_proof(LEAVES[index + 1], index, size, path) != root
    assert root_from_proof(LEAVES[index], index, size, [*path, bytes(32)]) is None
    if path:
        assert root_from_proof(LEAVES[index], index, size, path[:-1]) is None
        step = data.draw(st.integers(0, len(path) - 1))
        changed = [bytes(32) if n == step else node for n, node in enumerate(path)]
        assert root_from_proof(LEAVES[index], index, size, changed) != root
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index)) if size > 1 else None
    if other is not None:
        assert root_from_proof(LEAVES[index], other, size, path) != root


def test_an_inner_node_does_not_pass_as_a_leaf():
    # RFC 9162 2.1.1: leaves are hashed under 0x00, nodes under 0x01
    node = TREE.range_root(0, 2)
    assert root_from_proof(sha256(b"\0" + LEAVES[0] + LEAVES[1]).digest(), 0, 2, [TREE.range_root(2, 4)]) != TREE.root(
        4
    )
    assert node != sha256(b"\0" + LEAVES[0] + LEAVES[1]).digest()


def test_a_log_of_two_to_the_sixty_leaves_is_verified_without_overflow():
    path, size = [bytes([n]) * 32 for n in range(60)], 2**60
    root = root_from_proof(LEAVES[0], size - 1, size, path)
    node = LEAVES[0]
    for step in path:
        node = sha256(b"\x01" + step + node).digest()
    assert root == node
