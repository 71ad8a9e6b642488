"""Repair: whatever was damaged, what verifies is kept byte for byte, what is gone is named, and what cannot be proved is not made up."""

import random
import shutil
from contextlib import closing

import apsw
import pytest

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.control import Hole
from sync.errors import EpochNeeded
from sync.log import TILE_LEAVES, root_at
from sync.outbox_salvage import salvage
from sync.receipt import cosign
from sync.record import BodyState
from sync.repair import Loss, holes, readings, settle
from sync.store import OutboxTable
from tests.outbox_rig import FAR, LEDGER, outbox, stored
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, MemoryLog, draft, frontier_of, records, without_body

RECORDS, TRIMMED = TILE_LEAVES + 130, 60
STREAMS = ("his", "lab")
PAGE_BYTES = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a good outbox, and its records by stream."""
    folder = tmp_path_factory.mktemp("whole")
    with closing(outbox(folder, streams=STREAMS)) as made:
        for first in range(0, RECORDS, 100):
            made.append([draft(n, body=b"MSH|%d|" % n + b"x" * 300) for n in range(first, min(first + 100, RECORDS))])
        made.append([draft(n, stream="lab") for n in range(5)])
        made.start_boot(b"b" * 16, 1)
        made.admitted(boot=b"b" * 16, ledger=LEDGER, fence="f" * 32)
        head = made.heads["his"]
        root = root_at(OutboxTable(made._connection, head.log), TRIMMED)
        note = cosign(sign_checkpoint(Checkpoint(head.origin, TRIMMED, root), LOG_SIGNER), time=1, signer=COSIGNER)
        made.keep_receipt(ledger=LEDGER, origin=made.heads["his"].origin, size=TRIMMED, receipt=note, at=1)
        assert made.trim("his", ledger=LEDGER, received_before_us=FAR) == TRIMMED
        found = {stream: stored(made, stream) for stream in STREAMS}
    return folder / "outbox.db", found


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copy(whole[0], tmp_path / "damaged.db")


def change(path, statement, *values):
    connection = apsw.Connection(str(path))
    connection.execute(statement, values)
    assert connection.changes() == 1
    connection.close()


def repaired(path, tmp_path):
    """The salvaged logs, and the records of the new outbox by stream, once it has verified as a start does."""
    (tmp_path / "new").mkdir()
    logs = salvage(path, tmp_path / "new" / "outbox.db", signer=LOG_SIGNER)
    with closing(outbox(tmp_path / "new", streams=STREAMS)) as made:
        found = {stream: stored(made, stream) for stream in STREAMS}
        facts = (made.ledger(), made.heads["his"].trimmed, {name: head.lane for name, head in made.heads.items()})
        receipts = list(made._connection.execute("SELECT ledger, size, octets FROM cursor"))
        made.append([draft(0)])
        made.verify_heads()
    return {log.origin.stream: log for log in logs}, found, facts, receipts


OF_SEQ = "(SELECT header.id FROM header JOIN log ON log.id = header.log WHERE stream = 'his' AND seq = ?)"
LOSSLESS = {
    "nothing": None,
    "the head's size": ("UPDATE log SET size = size - 1 WHERE stream = 'his'",),
    "the head's peaks": ("UPDATE log SET peaks = zeroblob(length(peaks)) WHERE stream = 'his'",),
    "the head's trimmed": ("UPDATE log SET trimmed = 700 WHERE stream = 'his'",),
    "the checkpoint": ("UPDATE log SET checkpoint = CAST(replace(CAST(checkpoint AS TEXT), 'his', 'hit') AS BLOB) WHERE stream = 'his'",),
    "the tag": ("UPDATE log SET tag = 'deadbeef' WHERE stream = 'his'",),
    "the stream": ("UPDATE log SET stream = 'hit' WHERE stream = 'his'",),
    "the newest leaf": (f"UPDATE header SET leaf = zeroblob(32) WHERE id = {OF_SEQ}", RECORDS - 1),
    "an old leaf": (f"UPDATE header SET leaf = zeroblob(32) WHERE id = {OF_SEQ}", 900),
    "a leaf's length": (f"UPDATE header SET leaf = x'00' WHERE id = {OF_SEQ}", 900),
    "a tile": ("UPDATE tile SET root = zeroblob(32) WHERE tile = ?", 0),
    "a tile gone": ("DELETE FROM tile WHERE tile = ?", 0),
    "a header's place": ("UPDATE header SET seq = 77777 WHERE log = 1 AND seq = ?", 900),
    "a header's log": ("UPDATE header SET log = 77 WHERE log = 1 AND seq = ?", 900),
    "a header's id": ("UPDATE header SET id = 1300 WHERE log = 1 AND seq = ?", 900),
    "a body's id": (f"UPDATE body SET id = 1300 WHERE id = {OF_SEQ}", 900),
    "a header's state": ("UPDATE header SET state = 9 WHERE log = 1 AND seq = ?", 900),
}  # fmt: skip


@pytest.mark.parametrize("what", LOSSLESS)
def test_nothing_is_lost_where_the_rest_says_what_it_was(whole, damaged, tmp_path, what):
    if LOSSLESS[what]:
        change(damaged, *LOSSLESS[what])
    logs, found, facts, receipts = repaired(damaged, tmp_path)
    assert found == whole[1]
    assert [log.holes for log in logs.values()] == [(), ()]
    assert (logs["his"].size, logs["his"].bodies) == (RECORDS, RECORDS - TRIMMED)
    assert facts == (LEDGER, TRIMMED, dict.fromkeys(STREAMS, "routine"))
    assert [(ledger, size) for ledger, size, _ in receipts] == [(LEDGER, TRIMMED)]


LOSING = {
    "a body": (f"UPDATE body SET body = x'00' WHERE id = {OF_SEQ}", BodyState.DAMAGED, "changed"),
    "a salt": (f"UPDATE body SET salt = zeroblob(16) WHERE id = {OF_SEQ}", BodyState.DAMAGED, "changed"),
    "particulars": (f"UPDATE body SET particulars = x'a0' WHERE id = {OF_SEQ}", BodyState.DAMAGED, "changed"),
    "a body gone": (f"DELETE FROM body WHERE id = {OF_SEQ}", BodyState.DAMAGED, "unreadable"),
    "a header": (f"UPDATE header SET header = x'a0' WHERE id = {OF_SEQ}", BodyState.LEAF_ONLY, "changed"),
    "a header gone": (f"UPDATE header SET header = NULL WHERE id = {OF_SEQ}", BodyState.LEAF_ONLY, "changed"),
}


@pytest.mark.parametrize("seq", [TRIMMED, 900, RECORDS - 1])
@pytest.mark.parametrize("what", LOSING)
def test_what_is_gone_is_named_and_all_else_is_kept(whole, damaged, tmp_path, what, seq):
    statement, state, why = LOSING[what]
    change(damaged, statement, seq)
    logs, found, _, _ = repaired(damaged, tmp_path)
    expected = list(whole[1]["his"])
    expected[seq] = without_body(expected[seq], state)
    assert found == {**whole[1], "his": expected}
    lost = "body" if state is BodyState.DAMAGED else "header"
    assert logs["his"].holes == (Hole(stream="his", epoch=1, first=seq, last=seq, lost=lost, why=why),)


def test_what_an_earlier_repair_has_named_is_not_named_again(whole, damaged, tmp_path):
    change(damaged, LOSING["a body"][0], 900)
    change(damaged, LOSING["a header"][0], 901)
    logs = salvage(damaged, tmp_path / "once.db", signer=LOG_SIGNER)
    again = salvage(tmp_path / "once.db", tmp_path / "twice.db", signer=LOG_SIGNER)
    assert sum(len(log.holes) for log in logs) == 2
    assert [log.holes for log in again] == [(), ()]


@pytest.mark.parametrize("table", ["body", "header", "segment", "tile"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_page_of_dice_costs_what_was_on_it_and_is_never_made_up(whole, damaged, tmp_path, table, part):
    connection = apsw.Connection(str(damaged))
    pages = [row[0] for row in connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY path", (table,))]
    connection.close()
    with damaged.open("r+b") as file:
        file.seek((pages[int(len(pages) * part)] - 1) * PAGE_BYTES)
        file.write(random.Random(7).randbytes(PAGE_BYTES))
    try:
        logs, found, _, _ = repaired(damaged, tmp_path)
    except EpochNeeded:
        assert table == "header"  # the leaves of a whole page are nowhere else
        return
    assert table != "header" or part == 0.0  # its root page only leads to the others
    lost = {seq for hole in logs["his"].holes for seq in range(hole.first, hole.last + 1)}
    for seq, record in enumerate(whole[1]["his"]):
        assert found["his"][seq] == (without_body(record, BodyState.DAMAGED) if seq in lost else record)
    assert bool(lost) == (table == "body")
    assert len(lost) < RECORDS


@pytest.mark.parametrize("seq", [0, 900, RECORDS - 1])
def test_a_log_of_which_a_leaf_is_gone_needs_a_new_epoch(damaged, tmp_path, seq):
    change(damaged, f"DELETE FROM header WHERE id = {OF_SEQ}", seq)
    with pytest.raises(EpochNeeded, match=f"his/1-0badcafe: of record {seq}"):
        salvage(damaged, tmp_path / "new.db", signer=LOG_SIGNER)


def test_leaves_that_were_exchanged_do_not_pass_for_the_signed_ones(damaged, tmp_path):
    forged = records([draft(1, message_type="ADT^A08")])[0]
    connection = apsw.Connection(str(damaged))
    connection.execute(
        "UPDATE header SET header = ?, leaf = ? WHERE log = 1 AND seq = 900", (forged.header, forged.leaf)
    )
    connection.close()
    with pytest.raises(EpochNeeded, match="root"):
        salvage(damaged, tmp_path / "new.db", signer=LOG_SIGNER)


def test_a_file_that_is_no_outbox_is_not_made_one(tmp_path):
    (tmp_path / "damaged.db").write_bytes(b"something else" * 4096)
    with pytest.raises(EpochNeeded):
        salvage(tmp_path / "damaged.db", tmp_path / "new.db", signer=LOG_SIGNER)


# -- the pure part -----------------------------------------------------------------------------------------------------
MADE = records([draft(n) for n in range(9)])


def settled(doubtful, made=MADE):
    after = frontier_of(MADE)
    return settle(MemoryLog([record.leaf for record in made]), len(made), doubtful, {}, lambda found: found == after)


def test_the_root_says_which_of_two_readings_was_signed():
    lost, good = readings(b"\xa0", MADE[3].leaf)
    right = readings(MADE[5].header, MADE[5].leaf)
    assert settled({3: [lost, good]}) == {3: good}
    assert (good.header, good.leaf) == (b"", MADE[3].leaf)
    assert settled({3: [lost, good], 5: list(right)}) == {3: good, 5: right[0]}
    assert readings(MADE[5].header, bytes(32))[0] == right[0]
    with pytest.raises(EpochNeeded):
        settled({3: [lost]})


def test_more_doubt_than_can_be_tried_is_refused_and_not_tried_for_ever():
    ways = [readings(b"\xa0", MADE[3].leaf)[0]] * 60
    with pytest.raises(EpochNeeded, match="too much"):
        settled({3: ways, 4: ways, 5: ways})


def test_neighbours_that_lost_the_same_make_one_hole():
    losses = [Loss(5, "body", "changed"), Loss(3, "body", "changed"), Loss(4, "body", "changed"), Loss(6, "header", "changed"), Loss(8, "body", "changed")]  # fmt: skip
    found = [(hole.first, hole.last, hole.lost) for hole in holes(ORIGIN, losses)]
    assert found == [(3, 5, "body"), (6, 6, "header"), (8, 8, "body")]
    assert list(holes(ORIGIN, [])) == []
