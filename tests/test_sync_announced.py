"""Announced heads: what a node signs of records that it still holds is kept, compared with what comes, and never a reason to refuse."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.announced import Announced, read_heads
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import FileSigner, Verifier
from sync.log import EMPTY_ROOT
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, ORIGIN, draft, ed25519, frontier_of, records

MADE = records([draft(n) for n in range(12)])
OTHERS = records([draft(n, message_type="ADT^A08") for n in range(12)])
VERIFIER = Verifier(NODE, LOG_SIGNER.public)


def head(size: int, made=MADE, *, origin=ORIGIN, signer: FileSigner = LOG_SIGNER) -> bytes:
    root = frontier_of(made[:size]).root if size else EMPTY_ROOT
    return sign_checkpoint(Checkpoint(origin, size, root), signer)


def announced(size: int, made=MADE, **changes) -> Announced:
    (found,) = read_heads([head(size, made, **changes)], [VERIFIER], NODE)
    return found


def test_head_that_the_log_key_signed_says_its_log_its_size_and_its_root():
    found = announced(7)
    assert (found.origin, found.size, found.root, found.note) == (ORIGIN, 7, frontier_of(MADE[:7]).root, head(7))


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not a note", id="no note"),
        pytest.param(head(7, signer=COSIGNER), id="a stranger's"),
        pytest.param(head(7).replace(b"\n7\n", b"\n8\n"), id="another size than was signed"),
        pytest.param(head(7, origin=replace(ORIGIN, node="clinic-18")), id="of another node"),
    ],
)
def test_head_that_this_key_did_not_sign_for_this_node_says_nothing(note):
    assert read_heads([note, head(3)], [VERIFIER], NODE) == (announced(3),)


def test_head_at_a_change_of_the_key_is_read_by_either_key_and_an_earlier_keys_head_by_that_key():
    new = FileSigner(NODE, ed25519("new log key"))
    found = Verifier(NODE, new.public)
    both = sign_checkpoint(Checkpoint(ORIGIN, 5, frontier_of(MADE[:5]).root), LOG_SIGNER, new)
    for verifiers in ([VERIFIER], [found], [found, VERIFIER]):
        (read,) = read_heads([both], verifiers, NODE)
        assert (read.size, read.note) == (5, both)
    assert read_heads([head(3), head(4, signer=new)], [found, VERIFIER], NODE) == (announced(3), read_heads([head(4, signer=new)], [found], NODE)[0])  # fmt: skip
    assert read_heads([both, head(3)], [], NODE) == ()


@pytest.mark.parametrize(
    ("before", "later", "same_start", "denied"),
    [
        pytest.param(announced(5), announced(9), False, False, id="it grew"),
        pytest.param(announced(5), announced(5), False, False, id="the same again"),
        pytest.param(announced(5), announced(4), False, True, id="a later start has less"),
        pytest.param(announced(5), announced(4), True, False, id="a start's own words out of order"),
        pytest.param(announced(5), announced(5, OTHERS), False, True, id="another root at that size"),
        pytest.param(announced(5), announced(5, OTHERS), True, True, id="another root, the same start"),
        pytest.param(announced(5), announced(4, origin=replace(ORIGIN, epoch=2)), False, False, id="a further epoch"),
    ],
)
def test_node_denies_what_it_had_signed_where_its_log_shrank_or_has_another_root(before, later, same_start, denied):
    assert before.is_denied_by(later, same_start=same_start) is denied


@given(st.integers(0, 11), st.integers(1, 12), st.integers(1, 12))
def test_leaves_break_an_announcement_exactly_where_they_pass_it_with_another_root(size, length, told):
    kept = MADE[:size]
    same, other = (kept + made[size : size + length] for made in (MADE, OTHERS))
    before = frontier_of(kept)
    for made in (same, other):
        leaves = [record.leaf for record in made[size:]]
        passed = size < told <= len(made)
        assert announced(told).is_broken_by(before, leaves) is (passed and made is other)
