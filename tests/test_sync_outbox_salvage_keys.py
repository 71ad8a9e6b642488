"""Repair and log keys: each position keeps the key it had, told by records, rows or the keys around it; where nothing tells it, nothing is made up."""

from contextlib import closing

import apsw
import pytest

from sync.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from sync.errors import EpochNeeded, KeyAbsent, KeyFollowed
from sync.key_ring import KeyRing
from sync.keys import Verifier
from sync.log import root_at
from sync.outbox_salvage import salvage
from sync.receipt import cosign
from tests.outbox_rig import LEDGER, some
from tests.sim_realm import COSIGNER, NODE
from tests.test_sync_outbox_keys import (
    BOTH,
    IDS,
    NEW,
    OLD,
    THIRD,
    changed,
    filled,
    opened,
    said,
    signed_by,
    view_of,
)

P = 5  # where "his" changes its key, and 12 where "orders" does


@pytest.fixture
def handed_over(tmp_path):
    """A folder with an outbox of the old key that was handed over to the new one, and took more messages since."""
    filled(tmp_path)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
        for stream in ("his", "orders", "lab"):
            made.append(some(70, 3, stream=stream))
            made.append(some(80, 1, stream=stream))
    return tmp_path


def run(folder, *statements, ring=BOTH):
    """Do this to the outbox, repair it, and give the folder of the new one."""
    with closing(apsw.Connection(str(folder / "outbox.db"))) as raw:
        for statement in statements:
            raw.execute(statement)
            assert raw.changes() > 0, statement
    (folder / "fresh").mkdir()
    salvage(folder / "outbox.db", folder / "fresh/outbox.db", signer=ring)
    return folder / "fresh"


def goes_on(folder, ring=BOTH, positions=None) -> None:
    """It starts, has nothing to hand over, and signs each range as before: `positions` are those of the changes that can be read."""
    with closing(opened(folder, ring)) as made:
        assert made.change_key(said) == []
        assert changed(made) == (positions or {"his": [P], "lab": [], "orders": [12]})
        made.append(some(90, 1))
    for stream, at in (("his", P), ("orders", 12)):
        keys = view_of(folder, stream).keys
        assert [seq for seq, _, _ in keys.changes] == [at]
        assert [keys.for_batch(*span) for span in ((0, at), (0, at + 1), (at, at + 3), (at + 1, at + 3))] == [
            IDS[:1], IDS, IDS, IDS[1:]
        ]  # fmt: skip
    assert view_of(folder, "lab").keys.for_batch(0, 4) == IDS[1:]


NOTE = "UPDATE log SET checkpoint = CAST(replace(CAST(checkpoint AS TEXT), '{0}', '{0}x') AS BLOB) WHERE stream = '{0}'"
HEADER = "UPDATE header SET header = x'a0' WHERE seq = 5 AND log IN (SELECT id FROM log WHERE stream = 'his')"
BODY = "UPDATE body SET body = x'00' WHERE id = (SELECT id FROM header WHERE seq = 5 AND log IN (SELECT id FROM log WHERE stream = 'his'))"
ROW = "DELETE FROM key_change WHERE seq = 5"


@pytest.mark.parametrize(
    "statements",
    [
        (), ("DELETE FROM key_change",), (ROW,), ("UPDATE key_change SET seq = seq + 1",), ("UPDATE key_change SET after = before",),
        ("UPDATE key_change SET log = 77 WHERE seq = 5",), ("INSERT INTO key_change VALUES (1, 2, x'00', zeroblob(32))",),
        (NOTE.format("his"),), (NOTE.format("lab"),), (NOTE.format("his"), ROW), ("DELETE FROM key_change", NOTE.format("orders")),
    ],
)  # fmt: skip
def test_changes_are_told_by_the_records_whatever_became_of_their_rows_and_notes(handed_over, statements):
    goes_on(run(handed_over, *statements))


@pytest.mark.parametrize("lost", [HEADER, BODY])
def test_change_that_cannot_be_read_any_more_is_told_by_its_row(handed_over, lost):
    goes_on(run(handed_over, lost), positions={"his": [], "lab": [], "orders": [12]})


def test_change_without_body_and_row_is_told_by_its_name_and_the_keys_around_it(handed_over):
    goes_on(run(handed_over, BODY, ROW), positions={"his": [], "lab": [], "orders": [12]})


def test_neither_a_bare_leaf_nor_a_message_is_taken_for_a_change(handed_over):
    lost = HEADER.replace("seq = 5", "seq IN (2, 7)")
    lab = HEADER.replace("seq = 5", "seq = 1").replace("his", "lab")  # which began under the new key
    fresh = run(
        handed_over, lost, lab, "INSERT INTO key_change SELECT log, 1, before, after FROM key_change WHERE seq = 5"
    )
    goes_on(fresh)


def test_outbox_whose_table_of_changes_is_gone_is_repaired_where_the_records_say_all(handed_over):
    with closing(apsw.Connection(str(handed_over / "outbox.db"))) as raw:
        raw.execute("DROP TABLE key_change")
    goes_on(run(handed_over))


def test_outbox_of_which_nothing_says_where_the_key_changed_is_not_repaired_at_a_guess(handed_over):
    with closing(apsw.Connection(str(handed_over / "outbox.db"))) as raw:
        raw.execute("DROP TABLE key_change")
    with pytest.raises(EpochNeeded, match="log key"):
        run(handed_over, HEADER)


def receipt_of(made, stream, size):
    head = made.heads[stream]
    note = sign_checkpoint(Checkpoint(head.origin, size, root_at(head.table(made._connection), size)), NEW)
    made.keep_receipt(ledger=LEDGER, origin=head.origin, size=size, receipt=cosign(note, time=1, signer=COSIGNER), at=1)


def test_it_is_repaired_where_all_that_is_not_sure_was_receipted(handed_over):
    with closing(opened(handed_over)) as made:
        receipt_of(made, "his", P + 1)
    with closing(apsw.Connection(str(handed_over / "outbox.db"))) as raw:
        raw.execute("DROP TABLE key_change")
    fresh = run(handed_over, HEADER)
    with closing(opened(fresh, NEW)) as made:
        made.append(some(90, 1))
    assert view_of(fresh).keys.for_batch(P + 1, P + 3) == IDS[1:]


# --- who signs the head


def epochs(folder) -> None:
    """Two epochs of "his", the first under the old key, the second handed over to the new one."""
    filled(folder, sizes=(5, 0, 0))
    with closing(opened(folder, OLD)) as made:
        made.open_epoch("his", epoch=2, tag="deadbeef", place=3, theirs=None)
    with closing(opened(folder)) as made:
        made.change_key(said)
        made.append(some(50, 2))


EPOCH = "UPDATE log SET checkpoint = zeroblob(10) WHERE stream = 'his' AND epoch = {}"


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("table", [True, False])
def test_log_whose_note_is_lost_stays_under_the_key_of_its_own_last_change(tmp_path, epoch, table):
    epochs(tmp_path)
    fresh = run(tmp_path, EPOCH.format(epoch), *(() if table else ("DELETE FROM key_change",)))
    with closing(opened(fresh)) as made:
        assert [signed_by(head.checkpoint) for head in made.logs("his")] == [IDS[:1], IDS[1:]]
        assert made.change_key(said) == []
        assert changed(made)["his"] == [2]
    assert view_of(fresh, epoch=2).keys.for_batch(0, 5) == IDS


def test_log_whose_note_is_lost_stays_under_the_key_of_the_other_streams_or_of_its_statement_or_receipt(tmp_path):
    # a stream alone, whose statement brought the new key
    alone = tmp_path / "alone"
    alone.mkdir()
    filled(alone, sizes=(5, 0, 0))
    with closing(opened(alone)) as made:
        made.open_epoch("his", epoch=2, tag="deadbeef", place=5, theirs=None)
        made.change_key(said)
        made.append(some(50, 2))
    fresh = run(alone, EPOCH.format(2), "DELETE FROM log WHERE stream IN ('lab', 'orders')")
    assert signed_by(view_of(fresh, epoch=2).checkpoint) == IDS[1:]
    # one whose only sign is what the gateway has receipted
    said_so = tmp_path / "said"
    said_so.mkdir()
    filled(said_so, sizes=(5, 0, 0))
    with closing(opened(said_so, OLD)) as made:
        head = made.heads["his"]
        note = sign_checkpoint(Checkpoint(head.origin, 3, root_at(head.table(made._connection), 3)), OLD)
        note = cosign(note, time=1, signer=COSIGNER)
        made.keep_receipt(ledger=LEDGER, origin=head.origin, size=3, receipt=note, at=1)
    fresh = run(said_so, EPOCH.format(1), "DELETE FROM log WHERE stream IN ('lab', 'orders')")
    assert signed_by(view_of(fresh).checkpoint) == IDS[:1]


# --- a key that was taken out


def test_older_epoch_of_a_key_that_was_taken_out_is_carried_as_it_is(tmp_path):
    epochs(tmp_path)
    with closing(opened(tmp_path, NEW)) as made:
        before = made.logs("his")[0].checkpoint
    fresh = run(tmp_path, "UPDATE body SET body = x'00' WHERE id = 2", ring=NEW)
    with closing(opened(fresh, NEW)) as made:
        older, newest = made.logs("his")
        assert older.checkpoint == before
        assert open_checkpoint(older.checkpoint, Verifier(NODE, OLD.public)).size == 3
        assert signed_by(newest.checkpoint) == IDS[1:]
        made.append(some(60, 1))
    assert view_of(fresh, epoch=2).keys.for_batch(0, 5) == IDS
    again = fresh / "fresh"
    again.mkdir()
    salvage(fresh / "outbox.db", again / "outbox.db", signer=NEW)
    assert view_of(again).checkpoint == before


def test_receipt_of_an_older_epoch_is_kept_though_its_key_is_gone(tmp_path):
    filled(tmp_path, sizes=(5, 0, 0))
    with closing(opened(tmp_path, OLD)) as made:
        head = made.heads["his"]
        for size in (2, 3):
            note = sign_checkpoint(Checkpoint(head.origin, size, root_at(head.table(made._connection), size)), OLD)
            made.keep_receipt(
                ledger=str(size), origin=head.origin, size=size, receipt=cosign(note, time=1, signer=COSIGNER), at=1
            )
        made.open_epoch("his", epoch=2, tag="deadbeef", place=3, theirs=None)
    with closing(opened(tmp_path)) as made:
        made.change_key(said)
    fresh = run(
        tmp_path,
        "UPDATE cursor SET receipt = CAST(replace(CAST(receipt AS TEXT), '/his/', '/lab/') AS BLOB) WHERE size = 2",
        ring=NEW,
    )
    with closing(opened(fresh, NEW)) as made:
        assert made._connection.execute("SELECT size FROM cursor").fetchall() == [(3,)]


def test_newest_log_of_a_key_that_is_not_configured_is_refused(tmp_path):
    epochs(tmp_path)
    for n, ring in enumerate((OLD, THIRD, KeyRing(THIRD, (OLD,)))):
        (tmp_path / str(n)).mkdir()
        with pytest.raises(KeyAbsent, match="his/2-"):
            salvage(tmp_path / "outbox.db", tmp_path / str(n) / "outbox.db", signer=ring)


def test_repaired_outbox_still_knows_which_key_was_followed(handed_over):
    fresh = run(handed_over, "DELETE FROM key_change")
    with pytest.raises(KeyFollowed):
        opened(fresh, KeyRing(OLD, (NEW,)))
