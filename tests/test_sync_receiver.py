"""The receiver: it appends exactly what follows, and refuses gaps, forks, copies and strangers without touching the log."""

from dataclasses import replace

import pytest

from sync.announced import Announced, read_heads
from sync.batch import Batch
from sync.checkpoint import Checkpoint, Note, NoteSignature, open_checkpoint, parse_note, sign_checkpoint
from sync.held import HeldLog, rewind_members
from sync.keys import FileSigner, Verifier
from sync.log import EMPTY_ROOT, Frontier
from sync.log_keys import LogKeys
from sync.names import Origin
from sync.opening import End, Opening, sign_opening
from sync.receipt import cosign, open_receipt
from sync.receiver import (
    Admit,
    Admitted,
    Announce,
    Append,
    EpochAsked,
    Fill,
    Opened,
    OpenLog,
    PutAsked,
    Raise,
    Receipt,
    Receiver,
    Refuse,
    SessionAsked,
    Taken,
)
from sync.record import BodyState
from sync.session import OwnStream, SessionRequest
from tests.sim_realm import (
    COSIGNER,
    LOG_SIGNER,
    NODE,
    NOW_S,
    ORIGIN,
    STREAM,
    TAG,
    MemoryLog,
    draft,
    ed25519,
    frontier_of,
    records,
    without_body,
)

MADE = records([draft(n) for n in range(12)])
OTHERS = records([draft(n, message_type="ADT^A08") for n in range(12)])
KNOWN = Admitted(boot="1" * 32, fence="fence-1", earlier=frozenset({"0" * 32}), held=False)
VERIFIER = Verifier(NODE, LOG_SIGNER.public)
COSIGNER_KEY = Verifier(COSIGNER.name, COSIGNER.public)
RECEIVER = Receiver(COSIGNER)


def held(size: int, made=MADE) -> HeldLog:
    note = cosign(note_of(size, made), time=NOW_S - 100, signer=COSIGNER) if size else b""
    return HeldLog(origin=ORIGIN, frontier=frontier_of(made[:size]), note=note)


def note_of(size: int, made=MADE, *, origin: Origin = ORIGIN, signer: FileSigner = LOG_SIGNER) -> bytes:
    return sign_checkpoint(Checkpoint(origin, size, frontier_of(made[:size]).root), signer)


def asked(begin: int, end: int, size: int, made=MADE, *, stored=MADE, note: bytes | None = None, **changes) -> PutAsked:
    """A PUT of records begin..end-1 to a ledger that holds `size` records of `stored`."""
    batch = Batch(
        node=NODE, stream=STREAM, epoch=1, tag=TAG, first=begin, lane="routine", checkpoint=note_of(end, made) if note is None else note,
        records=made[begin:end],
    )  # fmt: skip
    event = PutAsked(
        node=NODE, origin_stream=STREAM, epoch=1, first=begin, fence="fence-1", known=KNOWN, held=held(size, stored),
        leaves=MemoryLog([record.leaf for record in stored[:size]]), keys=LogKeys(in_force=VERIFIER), batch=batch,
    )  # fmt: skip
    in_batch = {
        key: changes.pop(key) for key in list(changes) if key in {"tag", "stream", "lane"} or key.startswith("batch_")
    }
    event = replace(event, **changes)
    named = {key.removeprefix("batch_"): value for key, value in in_batch.items()}
    return replace(event, batch=replace(event.batch, **named)) if named else event


def judged(event: PutAsked) -> list:
    return RECEIVER.handle(event, NOW_S)


def refused(effects: list, status: int, code: str, *raised: str) -> None:
    """Refused with this, alarmed with that, and nothing else was done."""
    *before, last = effects
    assert isinstance(last, Refuse)
    assert (last.status, last.code) == (status, code)
    assert [each.code for each in before] == list(raised)
    assert all(isinstance(each, Raise) for each in before)


# --- what follows is appended


def test_repeat_of_a_head_that_two_log_keys_signed_keeps_both_under_a_renewed_cosigning_key():
    old, other = FileSigner(COSIGNER.name, ed25519("old cosign key")), FileSigner(NODE, ed25519("new log key"))
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, frontier_of(MADE[:5]).root), LOG_SIGNER, other)
    event = asked(0, 5, 5)
    (receipt,) = judged(replace(event, held=replace(event.held, note=cosign(note, time=1, signer=old))))
    assert parse_note(receipt.note).signatures[:-1] == parse_note(note).signatures
    assert open_receipt(receipt.note, COSIGNER_KEY).time == NOW_S


@pytest.mark.parametrize(("first", "end", "size"), [(0, 1, 0), (0, 12, 0), (5, 6, 5), (5, 12, 5), (11, 12, 11)])
def test_records_that_follow_are_appended_and_receipted(first, end, size):
    append, receipt = judged(asked(first, end, size))
    assert isinstance(append, Append)
    assert (append.origin, append.before, append.after) == (ORIGIN, frontier_of(MADE[:size]), frontier_of(MADE[:end]))
    assert list(append.records) == MADE[size:end]
    assert receipt == Receipt(append.note)
    found = open_receipt(receipt.note, COSIGNER_KEY)
    assert (found.checkpoint, found.time) == (Checkpoint(ORIGIN, end, frontier_of(MADE[:end]).root), NOW_S)
    assert open_checkpoint(receipt.note, VERIFIER) == found.checkpoint


@pytest.mark.parametrize(("first", "end", "size"), [(0, 12, 5), (3, 12, 5), (0, 6, 5)])
def test_of_a_batch_that_overlaps_only_the_rest_is_appended(first, end, size):
    append, receipt = judged(asked(first, end, size))
    assert list(append.records) == MADE[size:end]
    assert append.after == frontier_of(MADE[:end])
    assert receipt.note == append.note


@pytest.mark.parametrize(("first", "end", "size"), [(0, 5, 5), (4, 5, 5), (0, 3, 12), (2, 9, 12), (0, 12, 12)])
def test_batch_that_is_there_already_gets_the_receipt_of_the_head_and_changes_nothing(first, end, size):
    assert judged(asked(first, end, size)) == [Receipt(held(size).note)]


def test_repeat_after_the_cosigning_key_was_renewed_gets_a_receipt_of_the_new_key():
    old = FileSigner(COSIGNER.name, ed25519("old cosign key"))
    event = asked(0, 5, 5)
    event = replace(event, held=replace(event.held, note=cosign(note_of(5), time=1, signer=old)))
    (receipt,) = judged(event)
    assert open_receipt(receipt.note, COSIGNER_KEY).checkpoint == Checkpoint(ORIGIN, 5, frontier_of(MADE[:5]).root)
    assert open_checkpoint(receipt.note, VERIFIER).size == 5
    assert len(parse_note(receipt.note).signatures) == 2


@pytest.mark.parametrize("state", [each for each in BodyState if each is not BodyState.PRESENT])
def test_record_without_its_body_is_appended_and_receipted_like_any_other(state):
    made = [*MADE[:2], without_body(MADE[2], state)]
    event = asked(0, 3, 0)
    append, receipt = judged(replace(event, batch=replace(event.batch, records=made)))
    assert list(append.records) == made
    assert isinstance(receipt, Receipt)


def test_receipt_covers_what_was_there_before_too():
    _, receipt = judged(asked(7, 8, 7))
    assert open_receipt(receipt.note, COSIGNER_KEY).checkpoint.size == 8


# --- what was lost is found


@pytest.mark.parametrize(("first", "end", "size"), [(0, 12, 12), (2, 5, 12), (0, 12, 5), (3, 4, 5)])
def test_bytes_that_fit_a_stored_leaf_fill_the_hole_there_and_nowhere_else(first, end, size):
    effects = judged(asked(first, end, size, lacking=frozenset({3, 7, 40})))
    assert effects[0] == Fill(ORIGIN, tuple(MADE[seq] for seq in (3, 7) if first <= seq < min(end, size)))
    assert [type(each) for each in effects[1:]] == ([Append, Receipt] if end > size else [Receipt])


def test_a_record_that_comes_again_without_its_body_fills_nothing():
    event = asked(0, 5, 5, lacking=frozenset({3}))
    again = [*MADE[:3], without_body(MADE[3], BodyState.DAMAGED), MADE[4]]
    assert judged(replace(event, batch=replace(event.batch, records=again))) == [Receipt(held(5).note)]


def test_a_batch_that_is_refused_fills_nothing():
    lacking = frozenset(range(5))
    refused(judged(asked(0, 5, 5, OTHERS, stored=MADE, lacking=lacking)), 412, "fork", "GWY-12")
    refused(judged(asked(0, 5, 5, fence="fence-0", lacking=lacking)), 403, "fenced")
    mixed = [*MADE[:4], OTHERS[4]]
    refused(judged(asked(0, 5, 4, mixed, stored=MADE, note=note_of(5), lacking=lacking)), 412, "fork", "GWY-12")


# --- what does not follow


@pytest.mark.parametrize(("first", "end", "size"), [(1, 2, 0), (6, 12, 5), (11, 12, 10)])
def test_gap_is_refused_and_answered_with_where_the_log_ends(first, end, size):
    effects = judged(asked(first, end, size))
    refused(effects, 409, "rewind")
    assert effects[0].held == held(size)
    assert rewind_members(effects[0].held) == {
        "epoch": 1,
        "tag": TAG,
        "size": size,
        "root": frontier_of(MADE[:size]).root.hex(),
    }


@pytest.mark.parametrize("changes", [{"tag": "00000000"}, {"epoch": 2, "batch_epoch": 2}])
def test_batch_of_another_life_of_the_log_is_refused_with_the_one_that_is_held(changes):
    note = note_of(6, origin=Origin(NODE, STREAM, changes.get("epoch", 1), changes.get("tag", TAG)))
    refused(judged(asked(5, 6, 5, note=note, **changes)), 409, "rewind")


def test_log_that_was_never_declared_is_refused():
    effects = judged(asked(0, 1, 0, held=None))
    refused(effects, 409, "rewind")
    assert rewind_members(effects[0].held) == {"epoch": 0, "tag": "", "size": 0, "root": EMPTY_ROOT.hex()}


@pytest.mark.parametrize(("first", "end", "size"), [(0, 5, 5), (0, 12, 5), (4, 6, 5), (0, 3, 5), (2, 4, 5)])
def test_fork_is_refused_and_alarmed_wherever_the_records_differ(first, end, size):
    refused(judged(asked(first, end, size, OTHERS, stored=MADE)), 412, "fork", "GWY-12")


def test_fork_before_the_batch_is_noticed_by_the_root():
    # records 0..4 differ, 5..7 are equal: only the checkpoint's root says so
    mixed = [*OTHERS[:5], *MADE[5:]]
    refused(judged(asked(5, 8, 5, mixed, stored=MADE)), 412, "fork", "GWY-12")
    refused(judged(asked(5, 8, 12, mixed, stored=MADE)), 412, "fork", "GWY-12")


@pytest.mark.parametrize("place", range(5))
def test_one_changed_record_within_a_batch_is_a_fork_against_its_checkpoint(place):
    event = asked(5, 10, 5)
    made = list(event.batch.records)
    made[place] = replace(OTHERS[5 + place])
    refused(judged(replace(event, batch=replace(event.batch, records=made))), 412, "fork", "GWY-12")


@pytest.mark.parametrize(("first", "end", "size"), [(0, 5, 5), (1, 4, 9), (3, 8, 5)])
def test_changed_record_that_is_held_already_is_a_fork_though_the_checkpoint_is_the_right_one(first, end, size):
    event = asked(first, end, size)
    made = list(event.batch.records)
    made[1] = OTHERS[first + 1]
    refused(judged(replace(event, batch=replace(event.batch, records=made))), 412, "fork", "GWY-12")


def test_records_in_another_order_are_a_fork_against_their_checkpoint():
    event = asked(5, 8, 5)
    refused(
        judged(replace(event, batch=replace(event.batch, records=event.batch.records[::-1]))), 412, "fork", "GWY-12"
    )


# --- the envelope


@pytest.mark.parametrize(
    "changes", [{"fence": "fence-0"}, {"fence": ""}, {"known": None}, {"known": replace(KNOWN, fence="fence-2")}]
)
def test_call_without_the_latest_fence_is_refused_before_anything_else(changes):
    refused(judged(asked(5, 6, 5, note=b"rubbish", **changes)), 403, "fenced")


@pytest.mark.parametrize(
    "changes",
    [
        {"node": "clinic-18"}, {"batch_node": "clinic-18"}, {"stream": "lab"}, {"origin_stream": "lab"}, {"epoch": 2}, {"first": 4}, {"batch_first": 4},
        {"batch_node": "Not A Name"}, {"stream": "a/b"}, {"tag": "XXXXXXXX"}, {"batch_epoch": 0, "epoch": 0},
    ],
    ids=str,
)  # fmt: skip
def test_batch_that_says_something_else_than_its_address_is_refused(changes):
    refused(judged(asked(5, 6, 5, **changes)), 422, "bad-batch")


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"rubbish", id="rubbish"),
        pytest.param(note_of(7), id="of another size"),
        pytest.param(note_of(5), id="of the size before"),
        pytest.param(note_of(6, origin=replace(ORIGIN, stream="lab")), id="of another stream"),
        pytest.param(note_of(6, origin=replace(ORIGIN, tag="00000000")), id="of another tag"),
        pytest.param(note_of(6, signer=COSIGNER), id="of the gateway itself"),
        pytest.param(
            cosign(note_of(6), time=1, signer=FileSigner("evil", ed25519("evil"))), id="with a stranger's line"
        ),
        pytest.param(cosign(note_of(6), time=1, signer=COSIGNER), id="cosigned already"),
    ],
)
def test_checkpoint_is_refused_if_it_is(note):
    refused(judged(asked(5, 6, 5, note=note)), 422, "bad-batch")


def test_checkpoint_of_another_key_of_the_node_is_refused_and_alarmed():
    note = note_of(6, signer=FileSigner(NODE, ed25519("stolen name")))
    refused(judged(asked(5, 6, 5, note=note)), 422, "bad-key", "GWY-22")


def test_two_lines_of_the_node_itself_are_refused():
    parsed = parse_note(note_of(6))
    twice = Note(parsed.text, (*parsed.signatures, NoteSignature(NODE, b"abcd", bytes(64)))).encode()
    refused(judged(asked(5, 6, 5, note=twice)), 422, "bad-key", "GWY-22")


def test_content_is_never_judged():
    bodies = [b"", b"\x00\xff rubbish", "نص بلا معنى".encode(), b"MSH|" * 1000]
    made = records([draft(n, body=body, verdict=2, particulars=b"") for n, body in enumerate(bodies)])
    append, _ = judged(asked(0, 4, 0, made, stored=[]))
    assert list(append.records) == made


# --- sessions


def request(boot: str = "2" * 32, *, boots=("1" * 32,), fence="fence-1", streams=(("his", 1, TAG),)) -> SessionRequest:
    own = tuple(OwnStream(stream=name, epoch=epoch, tag=tag, lane="bulk") for name, epoch, tag in streams)
    return SessionRequest(boot=boot, boots=boots, fence=fence, log_certificate="", streams=own)


def session(
    found: SessionRequest, *, known: Admitted | None = KNOWN, logs=(), stale: bool = False, announced=()
) -> list:
    event = SessionAsked(
        node=NODE, request=found, known=known, logs=logs, fresh="fresh", stale=stale, announced=announced,
        heads=read_heads(found.heads, (VERIFIER,), NODE),
    )  # fmt: skip
    return RECEIVER.handle(event, NOW_S)


def test_first_start_ever_is_admitted_and_its_logs_are_opened():
    effects = session(request(boots=(), fence=""), known=None)
    assert effects == [Admit("2" * 32, "fresh", hold=False), OpenLog(ORIGIN, "bulk"), Opened("fresh", held=False)]


@pytest.mark.parametrize(
    "found",
    [request(), request(fence=""), request(boots=()), request(fence="fence-0"), request(boots=("1" * 32, "2" * 32))],
)
def test_start_that_continues_the_last_one_by_fence_or_by_boot_gets_a_fresh_fence(found):
    *_, opened = effects = session(found)
    assert opened == Opened("fresh", held=False)
    assert [each for each in effects if isinstance(each, Raise)] == []


def test_same_start_gets_the_same_fence_again_and_is_not_admitted_anew():
    effects = session(request(boot="1" * 32, boots=(), fence=""), logs=(held(5),))
    assert effects == [Opened("fence-1", held=False)]


@pytest.mark.parametrize("known", [KNOWN, replace(KNOWN, held=True)])
def test_start_that_knows_neither_fence_nor_boot_is_admitted_alarmed_and_held(known):
    effects = session(request(fence="fence-0", boots=("0" * 32,)), known=known, logs=(held(5),))
    assert effects == [
        Raise("GWY-10"),
        Admit("2" * 32, "fresh", hold=True, superseded=("0" * 32,)),
        Opened("fresh", held=True),
    ]


def test_node_that_is_held_stays_held_until_a_person_releases_it():
    known = replace(KNOWN, held=True)
    assert session(request(), known=known)[-1] == Opened("fresh", held=True)
    assert session(request(boot="1" * 32), known=known)[-1] == Opened("fence-1", held=True)


@pytest.mark.parametrize(("stale", "raised"), [(False, []), (True, ["GWY-11"])])
def test_older_start_is_fenced_and_alarmed_if_it_called_anew(stale, raised):
    refused(session(request(boot="0" * 32), stale=stale), 403, "fenced", *raised)


def test_starts_that_a_newer_one_named_are_remembered_with_it():
    # else a call of theirs that was under way would look like a copy
    admit = session(request(boots=("1" * 32, "8" * 32, "9" * 32, "2" * 32)))[0]
    assert admit == Admit("2" * 32, "fresh", hold=False, superseded=("1" * 32, "8" * 32, "9" * 32))


def test_log_that_is_there_is_not_opened_again_whatever_tag_is_asked_for():
    effects = session(request(streams=(("his", 1, "11111111"), ("lab", 1, TAG))), logs=(held(5),))
    assert [each for each in effects if isinstance(each, OpenLog)] == [OpenLog(Origin(NODE, "lab", 1, TAG), "bulk")]


def test_stream_that_a_new_ledger_has_never_seen_begins_with_the_oldest_log_of_the_node():
    effects = session(request(streams=(("his", 2, TAG),)))
    assert [each for each in effects if isinstance(each, OpenLog)] == [OpenLog(Origin(NODE, "his", 2, TAG), "bulk")]


def test_refused_start_opens_no_log():
    assert [each for each in session(request(boot="0" * 32)) if isinstance(each, OpenLog)] == []


def test_empty_log_takes_its_first_record():
    assert held(0).frontier == Frontier()
    append, _ = judged(asked(0, 1, 0))
    assert append.before == Frontier()


# --- announced heads


def announced(size: int, made=MADE, **changes) -> Announced:
    (found,) = read_heads([note_of(size, made, **changes)], [VERIFIER], NODE)
    return found


def test_session_keeps_the_heads_it_brings_and_a_start_without_any_changes_nothing():
    told = session(replace(request(), heads=(note_of(7), b"not a note")))
    assert [effect for effect in told if isinstance(effect, Announce)] == [Announce(announced(7))]
    assert not any(isinstance(effect, Announce | Raise) for effect in session(request(), announced=(announced(7),)))


def test_later_start_that_announces_less_than_was_announced_is_told_to_the_centre_and_admitted():
    effects = session(replace(request(), heads=(note_of(4),)), announced=(announced(7),))
    assert [effect for effect in effects if isinstance(effect, Raise | Announce)] == [
        Raise("GWY-19", STREAM),
        Announce(announced(4)),
    ]
    assert isinstance(effects[-1], Opened)


def test_late_word_of_the_same_start_neither_alarms_nor_replaces_a_newer_one():
    late = replace(request(KNOWN.boot), heads=(note_of(4),))
    assert not any(isinstance(effect, Announce | Raise) for effect in session(late, announced=(announced(7),)))


def test_start_that_is_refused_announces_nothing():
    refused(session(replace(request("0" * 32), heads=(note_of(7),))), 403, "fenced")


@pytest.mark.parametrize(("made", "raised"), [(MADE, []), (OTHERS, [Raise("GWY-19", STREAM)])])
def test_batch_that_is_not_what_was_announced_is_told_to_the_centre_and_receipted_all_the_same(made, raised):
    effects = judged(asked(5, 9, 5, announced=announced(7, made)))
    assert [effect for effect in effects if isinstance(effect, Raise)] == raised
    assert [type(effect) for effect in effects[-2:]] == [Append, Receipt]


def test_announcement_of_another_epoch_says_nothing_of_this_batch():
    other = announced(7, OTHERS, origin=replace(ORIGIN, epoch=2))
    assert not any(isinstance(effect, Raise) for effect in judged(asked(5, 9, 5, announced=other)))


# --- further epochs by hand: as over the link, but for what a session would have told the node


TREE = MemoryLog([record.leaf for record in MADE])
NEXT = Origin(NODE, STREAM, 2, "11111111")


def end_at(size: int, made=MADE) -> End:
    return End(ORIGIN, size, frontier_of(made[:size]).root)


def epoch(event_held=None, *, statement=None, common=None, carried=True, same=None, fence="", size=5):
    """A statement judged; the gateway holds `size` records of the first epoch."""
    common = common or end_at(4)
    made = statement or sign_opening(
        Opening(opened=NEXT, theirs=None, own=common, common=common, carried=0), LOG_SIGNER
    )
    asked = EpochAsked(
        node=NODE, stream=STREAM, fence=fence, known=KNOWN, held=event_held, stored=b"", statement=made, keys=LogKeys(in_force=VERIFIER),
        find=lambda origin: (size, TREE) if origin == ORIGIN else None, carried=carried, same=same,
    )  # fmt: skip
    return RECEIVER.handle(asked, NOW_S)


def test_carried_statement_opens_its_epoch_without_a_fence_and_one_of_the_link_does_not():
    effects = epoch(held(5))
    assert [type(each) for each in effects] == [Raise, OpenLog, Taken]
    assert epoch(held(5), carried=False)[-1].code == "fenced"
    nobody = replace(KNOWN, fence="")
    asked = EpochAsked(
        node=NODE, stream=STREAM, fence="", known=nobody, held=held(5), stored=b"", statement=b"", keys=LogKeys(in_force=VERIFIER), find=lambda _: None
    )  # fmt: skip
    assert RECEIVER.handle(asked, NOW_S)[-1].code == "fenced"


def common_of(taken) -> Checkpoint:
    return open_receipt(taken.receipt, COSIGNER_KEY).checkpoint


def test_statement_is_answered_with_the_receipt_of_what_it_calls_common_each_time_it_comes():
    *_, taken = epoch(held(5))
    assert common_of(taken) == Checkpoint(ORIGIN, 4, frontier_of(MADE[:4]).root)
    made = sign_opening(Opening(opened=NEXT, theirs=None, own=end_at(4), common=end_at(4), carried=0), LOG_SIGNER)
    again = EpochAsked(
        node=NODE, stream=STREAM, fence="fence-1", known=KNOWN, held=HeldLog(origin=NEXT, frontier=Frontier(), note=b""), stored=made,
        statement=made, keys=LogKeys(in_force=VERIFIER), find=lambda origin: (5, TREE) if origin == ORIGIN else None,
    )  # fmt: skip
    (answer,) = RECEIVER.handle(again, NOW_S)
    assert common_of(answer) == common_of(taken)
    (forgot,) = RECEIVER.handle(replace(again, find=lambda _: None), NOW_S)
    (shorter,) = RECEIVER.handle(replace(again, find=lambda _: (3, TREE)), NOW_S)
    assert forgot.receipt == shorter.receipt == b""  # what is not held is receipted to nobody


def test_nothing_in_common_has_no_receipt():
    assert epoch(held(5), common=end_at(0))[-1].receipt == b""


def test_carried_statement_of_an_epoch_that_is_no_longer_the_newest_is_taken_again_and_opens_nothing():
    newest = HeldLog(origin=replace(NEXT, epoch=3), frontier=Frontier(), note=b"")
    same = HeldLog(origin=NEXT, frontier=frontier_of(MADE[:2]), note=b"")
    assert epoch(newest, same=same) == [Taken(same)]
    assert epoch(newest)[-1].code == "rewind"
    assert epoch(newest, same=replace(same, origin=replace(NEXT, tag="22222222")))[-1].code == "rewind"


def test_carried_statement_of_more_than_is_held_asks_for_it_and_one_of_the_link_is_a_fork():
    assert [each.code for each in epoch(held(5), common=end_at(8))] == ["rewind"]
    assert [each.code for each in epoch(held(5), common=end_at(8), carried=False, fence="fence-1")] == [
        "GWY-12",
        "fork",
    ]


def test_carried_statement_whose_common_part_is_another_is_a_fork():
    assert [each.code for each in epoch(held(5), common=end_at(4, OTHERS))] == ["GWY-12", "fork"]


def test_carried_statement_for_a_stream_of_which_nothing_is_held_opens_it_only_where_nothing_came_before():
    assert epoch(None)[-1].code == "rewind"
    opened = epoch(None, common=end_at(0))[1]
    assert opened == OpenLog(NEXT, "routine", opened.opening, opened.key)
    assert opened.key.public == VERIFIER.public
    assert epoch(None, common=end_at(0), carried=False, fence="fence-1")[-1].code == "rewind"


def test_carried_statement_of_a_strangers_key_is_refused():
    made = Opening(opened=NEXT, theirs=None, own=end_at(4), common=end_at(4), carried=0)
    assert epoch(held(5), statement=sign_opening(made, FileSigner(NODE, ed25519("a stranger"))))[-1].code == "bad-key"  # fmt: skip
