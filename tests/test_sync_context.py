"""Contexts: the records that both sides hold make the next batch short; where the two sides differ it is sent again, and nothing wrong is ever read."""

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import cbor2
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from node.tools.hospital import Hospital
from node.uplink.dictionaries import shipped
from sync import batch
from sync.batch import RAW_BYTES_MAX, Batch
from sync.context import CONTEXT_BYTES_MAX, CONTEXT_BYTES_MIN, CONTEXT_RECORDS_MAX, before, recall, share
from sync.dictionary import CONTEXT_MARK, CONTEXT_NAMED_BYTES, NAME_MARK, Context
from sync.errors import BadBatch, UnknownDictionary
from sync.record import BodyState, Record
from tests.outbox_rig import FAR, LEDGER, outbox, receipted, some
from tests.sim_realm import NODE, ORIGIN, STREAM, TAG, MemoryRecords, checkpoint_note, draft, records, without_body

SHELF = shipped()


def clinic(count: int) -> list[Record]:
    """Messages of a simulated clinic that no dictionary was trained on."""
    hospital, now = Hospital(1), datetime(2026, 1, 1, tzinfo=UTC)
    made = [hospital.next_message(now=now + n * timedelta(seconds=31)) for n in range(count)]
    return records([draft(n, body=each.raw, message_type=each.kind.value) for n, each in enumerate(made)])


HELD = clinic(90)


def batch_of(first: int, end: int, held: list[Record] = HELD) -> Batch:
    return Batch(
        node=NODE, stream=STREAM, epoch=1, tag=TAG, first=first, lane="routine", checkpoint=checkpoint_note(held[:end]), records=held[first:end]
    )  # fmt: skip


def context_at(
    first: int, held: list[Record] = HELD, *, since: int = 0, octets_max: int = CONTEXT_BYTES_MAX
) -> Context:
    found = before(MemoryRecords(held), ORIGIN, first, since=since, octets_max=octets_max)
    assert found is not None
    return found


def recaller(first: int, held: list[Record] = HELD):
    return lambda count: recall(MemoryRecords(held), ORIGIN, first, count)


# --- the bytes


@pytest.mark.parametrize(("count", "part"), [(1, 0.75), (8, 0.8), (16, 0.85)])
def test_batch_after_its_context_is_the_same_batch_in_fewer_bytes_than_with_a_dictionary(count, part):
    sent = batch_of(70, 70 + count)
    plain, short = batch.encode(sent, SHELF), batch.encode(sent, SHELF, context=context_at(70))
    assert plain.startswith(NAME_MARK)
    assert short.startswith(CONTEXT_MARK)
    assert batch.decode(short, SHELF, recall=recaller(70)) == batch.decode(plain, SHELF) == sent
    assert len(short) < len(plain) * part


def test_context_is_the_texts_of_the_records_and_a_batch_of_the_last_without_lane_root_signature_and_salts():
    found = context_at(5, HELD)
    texts = b"".join(cbor2.dumps(each.particulars) + cbor2.dumps(each.body) for each in HELD[:4])
    assert found.content.startswith(texts)
    sent = cbor2.loads(zstd.decompress(batch.encode(batch_of(4, 5))))
    last = cbor2.loads(found.content.removeprefix(texts))
    assert last == sent | {7: "", 10: f"{ORIGIN}\n4\n— {NODE} ".encode(), 12: b""}
    assert found.count == 5
    assert found.name == CONTEXT_MARK + b"\0\5" + sha256(found.content).digest()[:8]


def test_two_stores_of_the_same_records_make_the_same_context(tmp_path):
    box = outbox(tmp_path)
    box.append([draft(n, body=each.body) for n, each in enumerate(HELD)])
    table = box.heads[STREAM].table(box._connection)
    mine = before(table, ORIGIN, 90, since=0, octets_max=CONTEXT_BYTES_MIN)
    assert mine is not None
    assert 20 < mine.count < 90
    assert recall(MemoryRecords(list(table.records(0, 90))), ORIGIN, 90, mine.count) == mine.content
    assert recall(table, ORIGIN, 90, mine.count) == mine.content
    box.close()


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd command here")
def test_the_zstd_command_reads_a_batch_after_its_context(tmp_path):
    (tmp_path / "batch.zst").write_bytes(batch.encode(batch_of(70, 71), context=context_at(70)))
    (tmp_path / "context").write_bytes(context_at(70).content)
    command = ["zstd", "-dc", "-D", str(tmp_path / "context"), str(tmp_path / "batch.zst")]
    done = subprocess.run(
        command, capture_output=True, check=True
    )  # it skips the name, as it does all skippable frames
    assert cbor2.loads(done.stdout)[2] == NODE


def test_short_context_gives_way_to_a_dictionary_and_is_better_than_none():
    short = context_at(2, octets_max=CONTEXT_BYTES_MIN)
    assert batch.encode(batch_of(2, 34), SHELF, context=short).startswith(NAME_MARK)
    assert batch.encode(batch_of(2, 34), context=short).startswith(CONTEXT_MARK)


def test_batch_that_is_its_own_dictionary_takes_no_context():
    long = records([draft(90, body=b"x" * (RAW_BYTES_MAX + 1))], 90)
    assert not batch.encode(batch_of(90, 91, [*HELD, *long]), context=context_at(90)).startswith(CONTEXT_MARK)


# --- where the two sides differ


def test_reader_that_holds_no_records_asks_for_the_batch_without_them():
    data = batch.encode(batch_of(70, 71), context=context_at(70))
    with pytest.raises(UnknownDictionary):
        batch.decode(data, SHELF)


@pytest.mark.parametrize("state", [BodyState.TRIMMED, BodyState.ERASED, BodyState.DAMAGED, BodyState.LEAF_ONLY])
@pytest.mark.parametrize("at", [65, 69])
def test_context_of_which_one_body_is_not_here_is_unknown(state, at):
    data = batch.encode(batch_of(70, 71), context=context_at(70))
    lacking = [*HELD[:at], without_body(HELD[at], state), *HELD[at + 1 :]]
    with pytest.raises(UnknownDictionary):
        batch.decode(data, recall=recaller(70, lacking))


@pytest.mark.parametrize(
    "change",
    [{"body": b"MSH|other"}, {"particulars": b"\xa0"}, {"header": HELD[3].header}, {"header": b"no header"}],
    ids=["body", "particulars", "header", "damaged"],
)
def test_context_of_other_bytes_is_unknown(change):
    data = batch.encode(batch_of(70, 71), context=context_at(70))
    other = [*HELD[:69], replace(HELD[69], **change), *HELD[70:]]
    with pytest.raises(UnknownDictionary):
        batch.decode(data, recall=recaller(70, other))


def test_context_of_another_log_is_unknown():
    data = batch.encode(batch_of(70, 71), context=context_at(70))
    with pytest.raises(UnknownDictionary):
        batch.decode(data, recall=lambda count: recall(MemoryRecords(HELD), replace(ORIGIN, tag="11111111"), 70, count))


def test_salt_is_no_part_of_a_context():
    other = [replace(each, salt=bytes(16)) for each in HELD]
    assert context_at(70, other) == context_at(70)


@given(st.integers(0, 69), st.integers(0, 7))
def test_frame_that_is_read_after_other_text_is_refused_or_gives_other_leaves(at, bit):
    """The name keeps the two from meeting; a name that was forged leads to nothing that the root would not tell."""
    sent = batch_of(70, 74)
    data = batch.encode(sent, context=context_at(70))
    text = bytearray(context_at(70).content)
    text[len(text) * at // 70] ^= 1 << bit
    forged = Context(context_at(70).count, bytes(text))
    try:
        found = batch.decode(forged.name + data[CONTEXT_NAMED_BYTES:], recall=lambda _: bytes(text))
    except BadBatch:
        return
    leaves = [each.leaf for each in found.records]
    assert found.records == sent.records or leaves != [each.leaf for each in sent.records]


@pytest.mark.parametrize("cut", [1, 8, 9, 17, 18, 19, 60])
def test_name_or_frame_that_is_cut_off_is_refused(cut):
    with pytest.raises(BadBatch):
        batch.decode(batch.encode(batch_of(70, 71), context=context_at(70))[:cut], recall=recaller(70))


def test_context_does_not_lift_the_limit_on_what_a_batch_may_become():
    found = context_at(70)
    prior = zstd.ZstdDict(found.content, is_raw=True).as_prefix
    bomb = zstd.compress(bytes(batch.RAW_BYTES_MAX + 1), zstd_dict=prior)
    assert len(bomb) < 10_000
    with pytest.raises(BadBatch, match="longer"):
        batch.decode(found.name + bomb, recall=recaller(70))


# --- what is taken


@pytest.mark.parametrize("count", [0, 71, CONTEXT_RECORDS_MAX + 1, 65535])
def test_context_of_no_records_of_too_many_or_from_before_the_first_is_unknown(count):
    with pytest.raises(UnknownDictionary):
        recall(MemoryRecords(HELD), ORIGIN, 70, count)


def test_context_that_is_too_long_is_unknown_before_a_body_is_read():
    held = MemoryRecords(records([draft(n, body=b"x" * CONTEXT_BYTES_MAX) for n in range(2)]))
    with pytest.raises(UnknownDictionary):
        recall(held, ORIGIN, 2, 1)
    assert held.read == 0


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_context_of_which_a_body_is_missing_is_unknown_before_its_hash_is_looked_at(kept):
    held = [*HELD[:kept], *map(without_body, HELD[kept:3])]
    with pytest.raises(UnknownDictionary):
        recall(MemoryRecords(held), ORIGIN, 3, 3)


def test_bodies_before_one_that_is_gone_are_not_read():
    held = MemoryRecords([*HELD[:40], without_body(HELD[40]), *HELD[41:]])
    assert before(held, ORIGIN, 70, since=0, octets_max=CONTEXT_BYTES_MAX) is not None
    assert held.read == 29


def test_context_stops_at_a_record_without_body_at_the_limit_of_bytes_and_where_it_is_told_to():
    held = [*HELD[:40], without_body(HELD[40]), *HELD[41:]]
    assert context_at(70, held).count == 29
    assert context_at(70, since=65).count == 5
    assert before(MemoryRecords(held), ORIGIN, 41, since=0, octets_max=CONTEXT_BYTES_MAX) is None
    assert before(MemoryRecords(HELD), ORIGIN, 70, since=70, octets_max=CONTEXT_BYTES_MAX) is None
    assert before(MemoryRecords(HELD), ORIGIN, 0, since=0, octets_max=CONTEXT_BYTES_MAX) is None
    last = len(HELD[69].body) + len(HELD[69].particulars)
    assert context_at(70, octets_max=last).count == 1
    assert before(MemoryRecords(HELD), ORIGIN, 70, since=0, octets_max=last - 1) is None


def test_longest_context_that_is_made_is_taken():
    tiny = records([draft(n, body=b"MSH|%d" % n) for n in range(CONTEXT_RECORDS_MAX + 9)])
    found = context_at(CONTEXT_RECORDS_MAX + 9, tiny)
    assert found.count == CONTEXT_RECORDS_MAX
    assert recall(MemoryRecords(tiny), ORIGIN, CONTEXT_RECORDS_MAX + 9, found.count) == found.content
    size = CONTEXT_BYTES_MAX - len(tiny[0].particulars)
    full = records([draft(0, body=b"x" * size)])
    assert recall(MemoryRecords(full), ORIGIN, 1, context_at(1, full).count)


def test_context_reads_no_more_bodies_than_it_uses():
    held = MemoryRecords(HELD)
    found = before(held, ORIGIN, 70, since=0, octets_max=4096)
    assert found is not None
    assert held.read == found.count < 10


def test_record_that_is_trimmed_while_it_is_read_ends_the_context():
    class Trimming(MemoryRecords):
        def kept(self, first, count):
            return [each for each in super().kept(first, count) if each[0] != 60]

    found = before(Trimming(HELD), ORIGIN, 70, since=0, octets_max=CONTEXT_BYTES_MAX)
    assert found == context_at(70, since=61)


def test_bodies_that_a_node_has_trimmed_are_no_context_and_their_successors_are(tmp_path):
    box = outbox(tmp_path)
    box.append(some(0, 30))
    receipted(box, 20)
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 20
    table = box.heads[STREAM].table(box._connection)
    assert before(table, ORIGIN, 20, since=0, octets_max=CONTEXT_BYTES_MAX) is None
    found = before(table, ORIGIN, 30, since=0, octets_max=CONTEXT_BYTES_MAX)
    assert found is not None
    assert found.count == 10
    box.close()


def test_small_batch_reads_little_and_no_batch_reads_more_than_the_gateway_takes():
    assert share(1000, CONTEXT_BYTES_MAX) == CONTEXT_BYTES_MIN
    assert share(32_000, CONTEXT_BYTES_MAX) == CONTEXT_BYTES_MAX
    assert share(32_000, 2**40) == CONTEXT_BYTES_MAX
    assert share(32_000, 1000) == 1000
