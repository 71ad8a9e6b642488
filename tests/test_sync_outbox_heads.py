"""What stands between a start and the first acknowledgement: a head, or a last group, that is not as it was written is noticed."""

from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import LogBroken, SyncError
from sync.log import TILE_LEAVES
from sync.outbox import Outbox
from sync.receipt import cosign
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, STREAM, TAG, draft

LAST = (5, 6, 7)  # positions of the last group


def started(folder: Path) -> Outbox:
    """Open and verify, as the node does before it listens."""
    made = Outbox(folder / "outbox.db", signer=LOG_SIGNER, random=Random(1).randbytes)
    try:
        made.verify_heads()
    except BaseException:
        made.close()
        raise
    return made


def receipted(made: Outbox, size: int) -> None:
    note = cosign(sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), LOG_SIGNER), time=1, signer=COSIGNER)
    made.keep_receipt(ledger="one", origin=made.heads[STREAM].origin, size=size, receipt=note, at=1)


def filled(folder: Path) -> None:
    """Two logs, the first of 8 records of which the last group has 3."""
    with closing(started(folder)) as made:
        made.open_streams({STREAM: "routine", "lab": "bulk"}, TAG)
        made.append([draft(n) for n in range(5)])
        made.append([draft(n, stream="lab") for n in range(2)])
        made.append([draft(n, body=b"MSH|%d" % n) for n in LAST])
        receipted(made, 3)
        made.trim(STREAM, ledger="one", received_before_us=2**60)


@pytest.fixture
def folder(tmp_path):
    filled(tmp_path)
    started(tmp_path).close()
    return tmp_path


@pytest.fixture
def raw(folder):
    with closing(apsw.Connection(str(folder / "outbox.db"))) as connection:
        yield connection


def is_noticed(folder: Path) -> None:
    with pytest.raises(LogBroken):
        started(folder)


HEAD = ("stream", "epoch", "tag", "lane", "size", "peaks", "octets", "trimmed", "group_first", "checkpoint", "digest")


def other_values(value: int | str | bytes) -> list[int | str | bytes]:
    """The value with each of its bytes changed, one at a time; a number with each of its bits."""
    if isinstance(value, int):
        return [value ^ 1 << bit for bit in range(63)]
    data = value.encode() if isinstance(value, str) else value
    changed = [data[:at] + bytes([data[at] ^ 1 << at % 7]) + data[at + 1 :] for at in range(len(data))]
    return [each.decode() for each in changed] if isinstance(value, str) else list(changed)


@pytest.mark.parametrize("column", HEAD)
def test_each_changed_byte_of_a_head_row_is_noticed(folder, raw, column):
    value = raw.execute(f"SELECT {column} FROM log WHERE stream = ?", (STREAM,)).get
    for changed in other_values(value):
        raw.execute(f"UPDATE log SET {column} = ? WHERE id = 1", (changed,))
        is_noticed(folder)
    raw.execute(f"UPDATE log SET {column} = ? WHERE id = 1", (value,))
    started(folder).close()


def test_text_of_a_head_row_that_is_no_text_any_more_is_noticed(folder, raw):
    raw.execute("UPDATE log SET tag = CAST(x'ff30626164636166' AS TEXT) WHERE id = 1")
    is_noticed(folder)


@pytest.mark.parametrize(
    ("table", "column"),
    [("header", "header"), ("header", "leaf"), ("body", "salt"), ("body", "particulars"), ("body", "body")],
)
def test_each_changed_byte_of_the_last_group_is_noticed(folder, raw, table, column):
    with closing(started(folder)) as made:
        for seq in LAST:
            (row, value), *_ = raw.execute(
                f"SELECT id, {column} FROM header LEFT JOIN body USING (id) WHERE log = 1 AND seq = ?", (seq,)
            )
            for changed in [*other_values(value), b"", value + b"\0"]:
                raw.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (changed, row))
                with pytest.raises(LogBroken):
                    made.verify_heads()
            raw.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row))
        made.verify_heads()


ROW = "(SELECT id FROM header WHERE log = 1 AND seq = 6)"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(f"DELETE FROM header WHERE id = {ROW}", id="a header is gone"),
        pytest.param(f"DELETE FROM body WHERE id = {ROW}", id="a body is gone"),
        pytest.param(f"UPDATE header SET header = NULL WHERE id = {ROW}", id="a header is empty"),
        pytest.param(f"UPDATE header SET state = 4 WHERE id = {ROW}", id="a header counts as lost"),
        pytest.param(f"UPDATE header SET log = 2 WHERE id = {ROW}", id="a record went into another log"),
        pytest.param("UPDATE header SET seq = 8 WHERE log = 1 AND seq = 7", id="a record went further up"),
        pytest.param("DELETE FROM header WHERE log = 1 AND seq = 7", id="the last record is gone"),
        pytest.param(
            "INSERT INTO header SELECT max(id) + 1, log, 8, 0, header, leaf FROM header WHERE log = 1",
            id="a record is beyond the head",
        ),
        pytest.param("DELETE FROM segment WHERE run = 1 AND first = 5", id="a segment is gone"),
        pytest.param("UPDATE segment SET first = 6 WHERE run = 1 AND first = 5", id="a segment begins later"),
        pytest.param("UPDATE segment SET shift = shift + 1 WHERE run = 1 AND first = 5", id="a segment lies elsewhere"),
        pytest.param("UPDATE segment SET run = 7 WHERE run = 1 AND first = 5", id="a segment went to another run"),
        pytest.param(f"UPDATE body SET id = 99 WHERE id = {ROW}", id="a body belongs to nobody"),
    ],
)
def test_it_is_noticed_that(folder, raw, statement):
    raw.execute(statement)
    is_noticed(folder)


def test_two_bodies_that_changed_places_are_noticed(folder, raw):
    one, two = (row[0] for row in raw.execute("SELECT id FROM header WHERE log = 1 AND seq IN (5, 6)"))
    for before, after in ((one, -1), (two, one), (-1, two)):
        raw.execute("UPDATE body SET id = ? WHERE id = ?", (after, before))
    is_noticed(folder)


def test_changed_leaf_before_the_last_group_is_noticed(folder, raw):
    raw.execute("UPDATE header SET leaf = zeroblob(32) WHERE log = 1 AND seq = 1")
    is_noticed(folder)


def test_damage_in_one_log_is_noticed_though_another_is_whole(folder, raw):
    raw.execute("UPDATE body SET body = x'00' WHERE id IN (SELECT id FROM header WHERE log = 2)")
    is_noticed(folder)


def test_body_trimmed_within_the_last_group_is_no_damage(folder):
    with closing(started(folder)) as made:
        receipted(made, 7)
        assert made.trim(STREAM, ledger="one", received_before_us=2**60) == 4
    started(folder).close()


def test_changed_tile_root_is_noticed_and_older_groups_do_not_delay_the_start(tmp_path):
    with closing(started(tmp_path)) as made:
        made.open_streams({STREAM: "routine"}, TAG)
        made.append([draft(n, body=b"") for n in range(TILE_LEAVES)])
        made.append([draft(0)])
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as connection:
        connection.execute("UPDATE body SET salt = zeroblob(16) WHERE id = 3")
        started(tmp_path).close()
        connection.execute("UPDATE tile SET root = zeroblob(32)")
        is_noticed(tmp_path)


def test_random_damage_of_the_file_is_noticed_or_touched_neither_head_nor_last_group(folder):
    file = folder / "outbox.db"
    with closing(started(folder)) as made:
        heads = dict(made.heads)
    whole, dice = file.read_bytes(), Random(7)
    noticed = 0
    for _ in range(250):
        broken = bytearray(whole)
        for _ in range(dice.choice([1, 1, 40])):
            broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        for each in folder.iterdir():
            each.unlink()
        file.write_bytes(broken)
        try:
            with closing(started(folder)) as made:
                assert made.heads == heads
        except SyncError:
            noticed += 1
    assert noticed > 20
