"""What a gateway says home by hand, and what the node makes of it: as of a session's word, each root against its own."""

from dataclasses import replace

import pytest

from sync.answer import HELD_MAX, PARTED, Answer, Further, Resume, next_step, open_answer, sign_answer
from sync.checkpoint import sign_text
from sync.errors import BadAnswer, BadSignature, SyncError
from sync.keys import FileSigner, Verifier
from sync.log import Frontier
from sync.names import Origin
from sync.opening import End, Opening, open_opening, sign_opening
from sync.receipt import open_receipt
from sync.sender_events import OwnLog
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, NOW_S, STREAM, ed25519, secret

VERIFIER = Verifier(COSIGNER.name, COSIGNER.public)
ONE, TWO, ALIEN = (
    Origin(NODE, STREAM, epoch, tag) for epoch, tag in ((1, "0badcafe"), (2, "deadbeef"), (2, "feedface"))
)
ROWS = [secret(f"leaf {n}") for n in range(12)]


def root_of(start, size):
    """Over rows of our run."""
    return Frontier().append(b"".join(ROWS[start : start + size])).root


def root_at(log, size):
    return root_of(log.start, size)


def end(origin, size, *, start=0, ours=True):
    return End(origin, size, root_of(start, size) if ours else secret("another root"))


def answer(newest, *, refused="", common=None, held=()):
    """What was refused because the two part differs there."""
    return Answer(
        node=NODE, stream=STREAM, ledger="a" * 32, time=NOW_S, refused=refused, newest=newest, common=common, held=tuple(held),
        differs=refused in PARTED,
    )  # fmt: skip


def step(said, *logs):
    return next_step(said, logs or (OwnLog(ONE, 10, 4),), root_at, root_of)


FULL = answer(end(ONE, 10), refused="fork", common=end(ONE, 4), held=[end(ALIEN, 3, start=4), end(TWO, 0)])


# --- the bytes


@pytest.mark.parametrize("said", [FULL, answer(None), answer(end(ONE, 3), refused="bad-seal")])
def test_answer_reads_back_as_it_was_signed(said):
    assert open_answer(sign_answer(said, COSIGNER), VERIFIER) == said


def changed(old, new):
    return sign_text(FULL.text().replace(old, new), COSIGNER)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wasl-answer/1", "wasl-answer/2"), ("refused fork", "refused Fork"), ("refused fork", "refused "), ("refused fork\n", ""), ("differs yes", "differs"), ("differs yes\n", ""), (f"\n{NOW_S}\n", "\n01\n"),
        (f"\n{NOW_S}\n", "\n-1\n"), ("newest ", "common "), ("/his\n", "/lab\n"), (f"\n{NODE}/his\n", "\nclinic-8/his\n"), ("common clinic", "common  clinic"),
        ("held ", "helm "), ("a" * 32, "a b"), ("a" * 32, "a" * 129), (" 10 ", " 010 "), ("his/1-0badcafe 10", "lab/1-0badcafe 10"),
    ],
)  # fmt: skip
def test_answer_of_another_form_or_stream_is_refused(old, new):
    assert old in FULL.text()
    with pytest.raises(BadAnswer):
        open_answer(changed(old, new), VERIFIER)


def test_answer_with_more_logs_than_a_node_looks_into_is_refused():
    most = replace(FULL, held=tuple(end(ALIEN, n) for n in range(HELD_MAX)))
    assert open_answer(sign_answer(most, COSIGNER), VERIFIER) == most
    with pytest.raises(BadAnswer):
        open_answer(sign_answer(replace(most, held=(*most.held, end(TWO, 1))), COSIGNER), VERIFIER)


def test_answer_of_a_strangers_key_or_with_a_changed_text_is_refused():
    with pytest.raises(BadSignature):
        open_answer(sign_answer(FULL, FileSigner(COSIGNER.name, ed25519("a stranger"))), VERIFIER)
    with pytest.raises(BadSignature):
        open_answer(sign_answer(FULL, COSIGNER).replace(b"refused fork", b"refused busy"), VERIFIER)


def test_answer_passes_for_no_receipt_and_no_opening_though_one_key_signs():
    note = sign_answer(FULL, COSIGNER)
    with pytest.raises(SyncError):
        open_receipt(note, VERIFIER)
    with pytest.raises(SyncError):
        open_opening(note, VERIFIER)
    opening = Opening(opened=TWO, theirs=None, own=end(ONE, 10), common=end(ONE, 6), carried=4)
    with pytest.raises(BadAnswer):
        open_answer(sign_opening(opening, COSIGNER), VERIFIER)


# --- what the node does


def test_gateway_that_holds_nothing_is_sent_everything():
    assert step(answer(None)) == Resume(0, 0)


@pytest.mark.parametrize("size", [0, 3, 4, 10])
def test_gateway_that_holds_ours_is_sent_what_follows_however_much_it_had_receipted(size):
    assert step(answer(end(ONE, size), refused="rewind" if size < 4 else "")) == Resume(0, size)


def test_older_log_that_is_held_whole_is_followed_by_the_next():
    logs = OwnLog(ONE, 4, 4), OwnLog(TWO, 6, 0, 4)
    assert step(answer(end(ONE, 4)), *logs) == Resume(0, 4)
    # more than we have of it is what a backup has made us forget, and the next one's statement says so
    assert step(answer(end(ONE, 9, ours=False)), *logs) == Resume(1, 0)
    assert step(answer(end(TWO, 2, start=4)), *logs) == Resume(1, 2)


def test_gateway_that_holds_other_records_or_more_makes_a_further_epoch_necessary():
    other, more = end(ONE, 8, ours=False), end(ONE, 11, ours=False)
    common = end(ONE, 6)
    assert step(answer(other, refused="fork", common=common)) == Further(2, 6, 6, other, "SYN-20")
    assert step(answer(more, refused="fork", common=common)) == Further(2, 6, 6, more, "SYN-21")


def test_what_ended_before_the_two_part_opens_no_epoch_the_next_export_brings_more():
    more = end(ONE, 11, ours=False)
    assert step(answer(more, common=end(ONE, 6))) is None
    assert step(replace(answer(more, refused="rewind", common=end(ONE, 6)), differs=False)) is None
    # all that we have, and it goes on: there is nothing to bring that could tell more
    assert step(answer(more, common=end(ONE, 10))) == Further(2, 10, 10, more, "SYN-21")


def test_log_that_we_do_not_know_makes_one_necessary_only_where_something_was_refused():
    newest = end(ALIEN, 3)
    assert step(answer(newest, common=end(ONE, 10))) is None
    assert step(answer(newest, refused="damaged", common=end(ONE, 4))) is None
    assert step(answer(newest, refused="rewind", common=end(ONE, 4))) == Further(3, 4, 4, newest, "SYN-22")
    # or where what was taken cannot be receipted to us, as it is followed by what we do not have
    taken = next_step(answer(newest, common=end(ONE, 10)), [OwnLog(ONE, 10, 4)], root_at, root_of, unfit=True)
    assert taken == Further(3, 10, 10, newest, "SYN-22")


def test_what_a_forgotten_epoch_holds_is_not_carried_again():
    said = answer(end(ALIEN, 3), refused="rewind", common=end(ONE, 4), held=[end(ALIEN, 3, start=4)])
    assert step(said) == Further(3, 7, 4, said.newest, "SYN-22")
    two = replace(said, held=(end(ALIEN, 3, start=4), end(TWO, 2, start=7)))
    assert step(two) == Further(3, 9, 4, said.newest, "SYN-22")


@pytest.mark.parametrize("held", [end(ALIEN, 3, start=5), end(ALIEN, 3, ours=False), end(ALIEN, 7, start=4)])
def test_what_is_said_to_be_held_counts_only_where_the_root_is_that_of_our_rows(held):
    said = answer(end(ALIEN, 3), refused="rewind", common=end(ONE, 4), held=[held])
    assert step(said) == Further(3, 4, 4, said.newest, "SYN-22")


@pytest.mark.parametrize("common", [None, end(ONE, 7, ours=False), end(ALIEN, 7), end(ONE, 11)])
def test_common_part_that_is_not_ours_is_not_believed_the_last_receipt_is(common):
    said = answer(end(ONE, 8, ours=False), refused="fork", common=common)
    assert step(said) == Further(2, 4, 4, said.newest, "SYN-20")


def opened(theirs):
    made = Opening(opened=TWO, theirs=theirs, own=end(ONE, 10), common=end(ONE, 6), carried=4)
    return OwnLog(TWO, 4, 0, 6, sign_opening(made, LOG_SIGNER))


def test_epoch_that_was_opened_for_an_answer_is_not_opened_again_for_the_same():
    other, cut = end(ONE, 8, ours=False), OwnLog(ONE, 6, 4)
    said = answer(other, refused="fork", common=end(ONE, 6))
    assert step(said, cut, opened(other)) == Resume(1, 0)
    alien = replace(said, newest=end(Origin(NODE, STREAM, 1, "feedface"), 8))
    assert step(alien, cut, opened(alien.newest)) is None


def test_epoch_that_was_opened_without_a_link_gives_way_where_the_two_part_before_it():
    other = end(ONE, 8, ours=False)
    said = answer(other, refused="fork", common=end(ONE, 5))
    assert step(said, OwnLog(ONE, 6, 4), opened(None)) == Further(3, 5, 5, other, "SYN-21")
