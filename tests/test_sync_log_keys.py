"""Whose signature counts where: each position has its key, a change needs both, and nothing else signs a log."""

from dataclasses import replace

import pytest

from sync.checkpoint import Checkpoint, parse_note, sign_checkpoint
from sync.control import Moment, decode, encode
from sync.errors import BadBatch, BadSignature, KeyAbsent, NotANote, NotARecord, WrongKey
from sync.header import decode as decode_header
from sync.key_change import KeyChange, change_in, header_of_change, read_key_change
from sync.key_ring import KeyRing, OwnKeys, id_of, last_id
from sync.keys import FileSigner, Verifier
from sync.log_keys import Change, LogKeys, check_batch, check_opening
from sync.opening import End, Opening, sign_opening
from sync.record import BodyState
from tests.sim_realm import (
    AUTHORITY,
    NODE,
    ORIGIN,
    STREAM,
    certificate,
    der,
    draft,
    ed25519,
    frontier_of,
    records,
    without_body,
)

ONE, TWO, THREE = (FileSigner(NODE, ed25519(f"log key {n}")) for n in range(3))
V1, V2, V3 = (Verifier(NODE, each.public) for each in (ONE, TWO, THREE))
CERTIFICATES = {
    signer.public: der(
        certificate(AUTHORITY, f"urn:wasl:node:{NODE}:log", key=ed25519(f"log key {n}"), what=f"log {n}")
    )
    for n, signer in enumerate((ONE, TWO, THREE))
}
VOUCHED = {CERTIFICATES[each.public]: each for each in (V2, V3)}
AT = Moment(received_us=1, clock_state=1, clock_error_us=5)


def change(before=ONE, after=TWO, **changes) -> KeyChange:
    made = KeyChange(
        stream=STREAM, epoch=1, before=before.public, after=after.public, certificate=CERTIFICATES[after.public]
    )
    return replace(made, **changes)


def log(*said: KeyChange | None) -> list:
    """Records of which those that are said change the key."""
    return records([draft(n) if each is None else each.draft(facility="rawdah", at=AT) for n, each in enumerate(said)])


P = 3
MADE = log(None, None, None, change(), None, None)
BEFORE = LogKeys(in_force=V1, certified=(V2, V1), vouched=VOUCHED)
AFTER = LogKeys(in_force=V2, certified=(V2, V1), changes=(Change(P, V1, V2),), retired=frozenset({V1.public}))


def judged(first: int, end: int, *signers, size: int | None = None, keys=BEFORE, made=MADE, epoch: int = 1):
    note = parse_note(sign_checkpoint(Checkpoint(ORIGIN, end, frontier_of(made[:end]).root), *signers))
    held = first if size is None else size
    return check_batch(note, made[first:end], first=first, size=held, epoch=epoch, keys=keys)


# --- by position


@pytest.mark.parametrize(
    ("first", "end", "keys", "signers"),
    [
        (0, 1, BEFORE, (ONE,)), (0, 3, BEFORE, (ONE,)), (0, 4, BEFORE, (ONE, TWO)), (3, 4, BEFORE, (ONE, TWO)), (1, 6, BEFORE, (ONE, TWO)),
        (4, 5, AFTER, (TWO,)), (4, 6, AFTER, (TWO,)),
    ],
)  # fmt: skip
def test_only_the_keys_in_force_at_its_positions_sign_a_batch(first, end, keys, signers):
    covers = first <= P < end
    found = judged(first, end, *signers, keys=keys)
    assert found.key.public == signers[-1].public
    assert [each.seq for each in found.changes] == ([P] if covers else [])
    others = [(ONE,), (TWO,), (ONE, TWO), (TWO, ONE), (THREE,), (ONE, TWO, THREE), (ONE, THREE), (ONE, ONE)]
    for wrong in others:
        if wrong != signers:
            with pytest.raises((WrongKey, NotANote)):
                judged(first, end, *wrong, keys=keys)


@pytest.mark.parametrize(("first", "end"), [(0, 2), (0, 4), (2, 6), (0, 6), (3, 4), (5, 6)])
def test_a_range_that_is_held_already_is_signed_as_it_was_the_first_time(first, end):
    signers = (ONE,) if end <= P else (TWO,) if first > P else (ONE, TWO)
    found = judged(first, end, *signers, size=6, keys=AFTER)
    assert found.changes == ()
    with pytest.raises(WrongKey):
        judged(first, end, THREE, size=6, keys=AFTER)


def test_overlap_that_begins_before_the_change_and_brings_more_bears_both_signatures():
    assert judged(2, 6, ONE, TWO, size=5, keys=AFTER).key.public == TWO.public
    for wrong in ((ONE,), (TWO,)):
        with pytest.raises(WrongKey):
            judged(2, 6, *wrong, size=5, keys=AFTER)


def test_two_changes_in_one_batch_bear_three_signatures():
    made = log(None, change(), None, change(TWO, THREE), None)
    found = judged(0, 5, ONE, TWO, THREE, made=made)
    assert [(each.seq, each.before.public, each.after.public) for each in found.changes] == [
        (1, ONE.public, TWO.public),
        (3, TWO.public, THREE.public),
    ]
    for wrong in ((ONE, THREE), (ONE, TWO), (ONE, THREE, TWO)):
        with pytest.raises(WrongKey):
            judged(0, 5, *wrong, made=made)


# --- what a change needs


@pytest.mark.parametrize(
    "said",
    [
        change(certificate=CERTIFICATES[THREE.public]), change(after=THREE), change(certificate=b"no certificate"),
        change(after=THREE, certificate=CERTIFICATES[TWO.public]), change(after=TWO, certificate=CERTIFICATES[ONE.public]), change(before=THREE),
    ],
    ids=["another key's certificate", "a certificate that is not good now", "none", "a key that its certificate does not name", "the old key's certificate", "another key before"],
)  # fmt: skip
def test_change_without_a_good_certificate_of_its_key_is_refused(said):
    for second in (TWO, THREE):
        with pytest.raises(WrongKey):
            judged(0, 2, ONE, second, made=log(None, said), keys=replace(BEFORE, vouched={CERTIFICATES[V2.public]: V2}))


def test_change_under_a_certificate_that_was_taken_back_counts_once_its_key_has_a_good_one():
    made, nothing = log(None, change(TWO, THREE)), replace(BEFORE, in_force=V2, vouched={})
    with pytest.raises(WrongKey):
        judged(0, 2, TWO, THREE, made=made, keys=nothing)
    assert judged(0, 2, TWO, THREE, made=made, keys=replace(nothing, certified=(V2, V3))).key is V3


def test_change_whose_second_signature_is_not_over_this_checkpoint_is_refused():
    text = sign_checkpoint(Checkpoint(ORIGIN, 4, frontier_of(MADE[:4]).root), ONE, TWO)
    other = parse_note(sign_checkpoint(Checkpoint(ORIGIN, 4, bytes(32)), ONE, TWO))
    note = parse_note(text)
    for at in (0, 1):
        lines = list(note.signatures)
        lines[at] = other.signatures[at]
        with pytest.raises(BadSignature):
            check_batch(replace(note, signatures=tuple(lines)), MADE[:4], first=0, size=0, epoch=1, keys=BEFORE)


def test_change_that_was_carried_from_an_older_epoch_changes_nothing():
    carried = LogKeys(in_force=V2, certified=(V2,), vouched=VOUCHED)
    found = judged(0, 6, TWO, keys=carried, epoch=2)
    assert (found.changes, found.key) == ((), V2)
    with pytest.raises(WrongKey):
        judged(0, 6, ONE, TWO, keys=carried, epoch=2)


@pytest.mark.parametrize("state", [BodyState.TRIMMED, BodyState.DAMAGED])
def test_change_whose_body_is_gone_is_told_by_its_header_and_its_second_signature(state):
    made = [*MADE[:P], without_body(MADE[P], state), *MADE[P + 1 :]]
    assert judged(2, 5, ONE, TWO, made=made).changes == (Change(P, V1, V2),)
    with pytest.raises(WrongKey):
        judged(2, 5, ONE, THREE, made=made)
    with pytest.raises(WrongKey):
        judged(2, 5, TWO, made=made)


@pytest.mark.parametrize("state", [BodyState.TRIMMED, BodyState.DAMAGED])
def test_an_earlier_key_takes_no_log_over_by_leaving_out_the_later_ones_signature(state):
    """A ledger that was put back holds nothing of the log: who signs first is believed, but not beside a change that says whose turn it is."""
    made, begun = bare(MADE, P, state=state), replace(BEFORE, in_force=None)
    assert judged(0, 6, ONE, TWO, made=made, keys=begun).key == V2
    for signers in ((ONE,), (TWO,)):
        with pytest.raises(WrongKey):
            judged(0, 6, *signers, made=made, keys=begun)
    # in a later epoch it may have been carried there, and says nothing of this log
    assert judged(0, 6, ONE, made=made, keys=begun, epoch=2).key == V1


def bare(made, *places, state=BodyState.LEAF_ONLY):
    return [without_body(each, state) if n in places else each for n, each in enumerate(made)]


def test_change_of_which_the_leaf_alone_is_left_is_told_by_its_second_signature():
    made = bare(MADE, P)
    assert judged(2, 5, ONE, TWO, made=made).changes == (Change(P, V1, V2),)
    assert judged(P, P + 1, ONE, TWO, made=made).changes == (Change(P, V1, V2),)
    for wrong in ((TWO,), (ONE, THREE), (TWO, ONE), (ONE, TWO, THREE), (ONE, ONE)):
        with pytest.raises(WrongKey):
            judged(2, 5, *wrong, made=made)
    for keys in (replace(BEFORE, certified=(V1,)), replace(BEFORE, retired=frozenset({V2.public}))):
        with pytest.raises(WrongKey):
            judged(2, 5, ONE, TWO, made=made, keys=keys)


def test_leaf_alone_changes_nothing_where_there_is_no_second_signature():
    found = judged(0, 3, ONE, made=bare(MADE, 0, 1))
    assert (found.changes, found.key) == ((), V1)


def test_of_several_bare_leaves_none_is_guessed_to_be_the_change_and_smaller_batches_tell_it():
    made = bare(MADE, 1, P, 4)
    with pytest.raises(BadBatch):
        judged(0, 6, ONE, TWO, made=made)
    ring, own = KeyRing(TWO, (ONE,)), OwnKeys(id_of(TWO), ((P, id_of(ONE), id_of(TWO)),))
    keys, at, most, refusals = BEFORE, 0, 6, 0
    while at < 6:
        end = min(at + most, 6)
        note = parse_note(ring.sign_batch(Checkpoint(ORIGIN, end, frontier_of(MADE[:end]).root), at, own))
        try:
            found = check_batch(note, made[at:end], first=at, size=at, epoch=1, keys=keys)
        except BadBatch:
            most, refusals = most // 2, refusals + 1  # as the sender does
            continue
        keys, at, most = replace(keys, in_force=found.key, changes=(*keys.changes, *found.changes)), end, 6
    assert keys.changes == (Change(P, V1, V2),)
    assert refusals > 0


def test_bare_leaf_beside_a_change_that_can_be_read_is_no_change():
    made = bare(MADE, 1, 5)
    assert judged(0, 6, ONE, TWO, made=made).changes == (Change(P, V1, V2),)
    with pytest.raises(WrongKey):
        judged(0, 5, ONE, THREE, TWO, made=made)


def test_bare_leaf_before_a_change_that_speaks_of_the_key_between_is_that_keys_own():
    made = bare(log(None, change(), None, change(TWO, THREE), None), 1)
    assert judged(0, 5, ONE, TWO, THREE, made=made).changes == (Change(1, V1, V2), Change(3, V2, V3))
    for wrong in ((ONE, THREE), (ONE, TWO)):
        with pytest.raises(WrongKey):
            judged(0, 5, *wrong, made=made)


def test_named_change_without_its_body_is_it_rather_than_a_bare_leaf_in_a_streams_first_log():
    made = bare(bare(MADE, 1, 4), P, state=BodyState.TRIMMED)
    assert judged(0, 6, ONE, TWO, made=made).changes == (Change(P, V1, V2),)
    # a later one may have been carried here, and be history
    with pytest.raises(BadBatch):
        judged(0, 6, ONE, TWO, made=made, epoch=2)


@pytest.mark.parametrize("state", [BodyState.TRIMMED, BodyState.DAMAGED, BodyState.LEAF_ONLY])
def test_change_that_was_carried_without_its_body_is_not_taken_for_the_new_one_after_it(state):
    keys = LogKeys(in_force=V2, certified=(V3, V2), vouched=VOUCHED)
    made = bare(log(None, change(), None, change(TWO, THREE, epoch=2), None), 1, state=state)
    assert judged(0, 5, TWO, THREE, made=made, keys=keys, epoch=2).changes == (Change(3, V2, V3),)
    assert judged(0, 3, TWO, made=made, keys=keys, epoch=2).changes == ()
    both = bare(made, 3, state=state)
    with pytest.raises(BadBatch):
        judged(0, 5, TWO, THREE, made=both, keys=keys, epoch=2)
    assert judged(2, 5, TWO, THREE, made=both, keys=keys, epoch=2).changes == (Change(3, V2, V3),)


def test_key_that_was_followed_never_comes_back():
    back = log(None, None, None, change(), change(TWO, ONE))
    keys = replace(AFTER, vouched={CERTIFICATES[ONE.public]: V1})
    with pytest.raises(WrongKey, match="another one has followed"):
        judged(4, 5, TWO, ONE, made=back, keys=keys)
    with pytest.raises(WrongKey, match="another one has followed"):
        judged(0, 5, ONE, TWO, ONE, made=back, keys=replace(BEFORE, vouched={**VOUCHED, CERTIFICATES[ONE.public]: V1}))


def test_key_without_a_good_certificate_signs_no_more():
    with pytest.raises(WrongKey):
        judged(0, 1, ONE, keys=replace(BEFORE, lapsed=True))


def test_log_without_a_key_is_begun_by_a_certified_one_only():
    fresh = replace(BEFORE, in_force=None, certified=(V2,))
    assert judged(0, 2, TWO, keys=fresh).key is V2
    with pytest.raises(WrongKey):
        judged(0, 2, ONE, keys=fresh)


# --- openings


def opening(*signers):
    end = End(ORIGIN, 2, frontier_of(MADE[:2]).root)
    said = Opening(opened=replace(ORIGIN, epoch=2), theirs=end, own=end, common=end, carried=0)
    return parse_note(sign_opening(said, *signers))


def test_statement_by_the_key_in_force_goes_on_with_it_and_with_a_second_signature_under_the_other():
    assert check_opening(opening(ONE), BEFORE).key is V1
    found = check_opening(opening(ONE, TWO), BEFORE)
    assert (found.key.public, found.continues) == (TWO.public, True)


def test_statement_of_a_certified_key_without_the_old_ones_word_is_told_apart():
    found = check_opening(opening(TWO), BEFORE)
    assert (found.key.public, found.continues) == (TWO.public, False)
    lapsed = check_opening(opening(TWO), replace(BEFORE, lapsed=True, certified=(V2,)))
    assert lapsed.continues is False


def test_statement_that_the_old_key_signs_after_a_change_is_refused():
    for signers in ((ONE,), (TWO, ONE)):
        with pytest.raises(WrongKey):
            check_opening(opening(*signers), replace(AFTER, kept=(V1, V2)))
    assert check_opening(opening(ONE, TWO), replace(AFTER, certified=(V2,), kept=(V1, V2))).key is V2


def test_statement_of_a_key_that_is_not_certified_is_refused():
    for signers in ((THREE,), (ONE, THREE), (THREE, TWO)):
        with pytest.raises(WrongKey):
            check_opening(opening(*signers), BEFORE)


# --- the record


def test_change_reads_back_as_it_was_said():
    (record,) = log(change())
    assert change_in(record) == change()
    kind, members = decode(decode_header(record.header), record.body)
    assert kind == "key-change"
    assert read_key_change({**members, "later": 7}) == change()


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "Not A Name"}, {"stream": 1}, {"epoch": 0}, {"epoch": "1"}, {"before": ""}, {"before": "zz" * 32}, {"after": "00" * 31}, {"after": None},
        {"certificate": "?"}, {"certificate": "AAAA"}, {"fingerprint": "00" * 32}, {"before": TWO.public.hex()}, {"after": TWO.public.hex().upper()},
    ],
    ids=str,
)  # fmt: skip
def test_change_in_any_other_form_is_refused(wrong):
    members = {**change().members(), **wrong}
    with pytest.raises(NotARecord):
        read_key_change(members)


def test_message_that_calls_itself_a_change_of_the_key_is_none():
    (record,) = records([draft(0, message_type="key-change", body=encode(change().members()))])
    assert header_of_change(record) is None
    assert judged(0, 1, ONE, made=[record]).changes == ()


# --- the node's ring


def test_ring_signs_each_batch_by_the_keys_that_have_to():
    keys = OwnKeys(id_of(THREE), ((3, id_of(ONE), id_of(TWO)), (8, id_of(TWO), id_of(THREE))))
    ring = KeyRing(THREE, (ONE, TWO))
    for first, end, wanted in [
        (0, 3, [ONE]), (0, 4, [ONE, TWO]), (3, 4, [ONE, TWO]), (4, 8, [TWO]), (4, 9, [TWO, THREE]), (0, 12, [ONE, TWO, THREE]), (9, 12, [THREE]),
    ]:  # fmt: skip
        note = parse_note(ring.sign_batch(Checkpoint(ORIGIN, end, bytes(32)), first, keys))
        assert [line.key_id for line in note.signatures] == [id_of(each) for each in wanted]
    with pytest.raises(KeyAbsent):
        KeyRing(THREE, (TWO,)).sign_batch(Checkpoint(ORIGIN, 2, bytes(32)), 0, keys)


def test_what_the_ring_signs_is_what_the_judge_wants_wherever_batches_are_cut():
    ring, own = KeyRing(TWO, (ONE,)), OwnKeys(id_of(TWO), ((P, id_of(ONE), id_of(TWO)),))
    for cut in range(1, 6):
        keys = BEFORE
        for first, end in ((0, cut), (cut, 6)):
            note = ring.sign_batch(Checkpoint(ORIGIN, end, frontier_of(MADE[:end]).root), first, own)
            found = check_batch(parse_note(note), MADE[first:end], first=first, size=first, epoch=1, keys=keys)
            keys = replace(keys, in_force=found.key, changes=(*keys.changes, *found.changes))
        assert [each.seq for each in keys.changes] == [P]


def test_key_in_force_after_a_note_is_the_nodes_last():
    note = sign_checkpoint(Checkpoint(ORIGIN, 4, bytes(32)), ONE, TWO)
    assert last_id(note, NODE) == id_of(TWO)
    with pytest.raises(NotANote):
        last_id(note, "clinic-18")
