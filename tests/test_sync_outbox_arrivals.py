"""What is left to know a repeat by: a flipped bit in it costs that memory, and never a start, a trimming or an answer."""

from contextlib import closing
from random import Random

import apsw
import pytest

from sync.errors import LogBroken
from sync.outbox import Outbox
from sync.outbox_arrivals import repeat_key
from tests.outbox_rig import FAR, LEDGER, outbox, receipted
from tests.sim_realm import LOG_SIGNER, STREAM, draft

COUNT, HIT = 6, 2
BEFORE_SALT = 7  # bytes of a row before its salt: its length, its id, and of which kind each value is


def key(n: int) -> bytes:
    return repeat_key("his", f"C{n:05}")  # as the particulars of draft(n) say


def message(n: int):
    return draft(n, repeat_key=key(n))


def file_of(folder, *, trimmed: bool) -> tuple[bytes, int]:
    """An outbox's file, and where in it the salt of one of its messages lies."""
    with closing(outbox(folder)) as made:
        made.append([message(n) for n in range(COUNT)])
        made.append([draft(100)])  # a group of its own: the start looks closely at the last one
        receipted(made, COUNT)
        if trimmed:
            assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == COUNT
    table = "arrival" if trimmed else "body"
    with closing(apsw.Connection(str(folder / "outbox.db"))) as raw:
        raw.pragma("journal_mode", "delete")
        raw.execute("VACUUM")
        salt = raw.execute(f"SELECT salt FROM {table} WHERE id = ?", (HIT + 1,)).get
    data = (folder / "outbox.db").read_bytes()
    assert data.count(salt) == 1
    return data, data.index(salt)


@pytest.mark.parametrize("back", range(1, BEFORE_SALT + 1))
@pytest.mark.parametrize("trimmed", [False, True])
def test_flipped_bit_in_the_kinds_of_a_rows_values_ends_neither_start_nor_trimming_nor_repeat(in_memory, trimmed, back):
    data, at = file_of(in_memory, trimmed=trimmed)
    for bit in range(8):
        broken = bytearray(data)
        broken[at - back] ^= 1 << bit
        for each in in_memory.iterdir():
            each.unlink()
        (in_memory / "outbox.db").write_bytes(broken)
        for _ in range(2):  # and so at the next start
            with closing(outbox(in_memory)) as made:
                repeats = made.append([message(HIT), message(HIT + 1)])
                assert len(repeats) == 2
                made.trim(STREAM, ledger=LEDGER, received_before_us=FAR)
                made.append([message(HIT)])


@pytest.mark.parametrize(
    ("column", "value"), [("salt", "zeroblob(17)"), ("salt", "x''"), ("salt", "zeroblob(15)"), ("particulars", "x'ff'")]
)
def test_arrival_of_another_form_proves_no_repeat(tmp_path, column, value):
    with closing(outbox(tmp_path)) as made:
        made.append([message(0)])
        receipted(made, 1)
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 1
        made._connection.execute(f"UPDATE arrival SET {column} = {value}")
        (again,) = made.append([message(0)])
        assert (again.seq, again.repeated) == (1, False)


def test_body_whose_salt_has_another_length_leaves_no_arrival_and_its_neighbours_leave_theirs(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append([message(n) for n in range(COUNT)])
        receipted(made, COUNT)
        made._connection.execute("UPDATE body SET salt = zeroblob(17) WHERE id = ?", (HIT + 1,))
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == COUNT
        assert [each.repeated for each in made.append([message(n) for n in range(COUNT)])] == [
            n != HIT for n in range(COUNT)
        ]


def test_text_that_is_none_costs_the_start_only_the_memory_of_the_arrivals_near_it(in_memory):
    data, at = file_of(in_memory, trimmed=False)
    length = len(message(HIT).particulars)
    kinds = data.rindex(bytes([16 * 2 + 12, length * 2 + 12]), at - BEFORE_SALT, at)
    broken = bytearray(data)
    broken[kinds + 1] ^= 1  # the particulars are a text now
    (in_memory / "outbox.db").write_bytes(broken)
    with closing(apsw.Connection(str(in_memory / "outbox.db"))) as raw:
        assert raw.execute("SELECT typeof(particulars) FROM body WHERE id = ?", (HIT + 1,)).get == "text"
    with closing(outbox(in_memory)) as made:
        (stored,) = made.append([message(COUNT)])
        assert stored.seq == COUNT + 1


def test_stream_of_a_head_row_that_a_flipped_bit_made_a_blob_is_not_what_a_repeat_is_answered_with(in_memory):
    with closing(outbox(in_memory)) as made:
        (first,) = made.append([message(0)])
    with closing(apsw.Connection(str(in_memory / "outbox.db"))) as raw:
        raw.pragma("journal_mode", "delete")
    data = (in_memory / "outbox.db").read_bytes()
    # the kinds of id, stream (a text of 3 bytes), epoch, tag, lane
    at = data.rindex(bytes([0, 2 * 3 + 13, 9, 2 * 8 + 13, 2 * len("routine") + 13])) + 1
    (in_memory / "outbox.db").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with closing(outbox(in_memory)) as made:
        assert made.append([message(0)]) == [first._replace(repeated=True)]


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE header SET seq = {HIT + 1} WHERE seq = {HIT}",
        f"UPDATE header SET log = 7 WHERE seq = {HIT}",
        "UPDATE segment SET shift = shift + 1",
    ],
)
def test_row_and_segment_that_disagree_on_a_position_prove_no_repeat(in_memory, change):
    with closing(outbox(in_memory)) as made:
        made.append([message(n) for n in range(COUNT)])
        made.append([draft(100)])
        made._connection.execute(change)
        (again,) = made.append([message(HIT)])
        assert (again.seq, again.repeated) == (COUNT + 1, False)


def test_body_that_went_to_another_record_proves_no_repeat(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append([message(n) for n in range(COUNT)])
        made.append([draft(100)])
        made._connection.execute("DELETE FROM body WHERE id = ?", (HIT + 2,))
        made._connection.execute("UPDATE body SET id = id + 1 WHERE id = ?", (HIT + 1,))
    with closing(outbox(tmp_path)) as made:
        (again,) = made.append([message(HIT)])
        assert (again.seq, again.repeated) == (COUNT + 1, False)


def test_repeat_of_a_message_whose_body_was_damaged_is_stored_again(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append([message(0)])
        made._connection.execute("UPDATE body SET body = x'00'")
        (again,) = made.append([message(0)])
        assert (again.seq, again.repeated) == (1, False)


@pytest.mark.parametrize(("table", "column"), [("cursor", "receipt"), ("header", "header")])
def test_trimming_that_finds_its_table_changed_says_that_the_log_is_broken(tmp_path, table, column):
    with closing(outbox(tmp_path)) as made:
        made.append([message(n) for n in range(COUNT)])
        receipted(made, COUNT)
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as raw:
        raw.pragma("writable_schema", "ON")
        raw.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?",
            (f"{column} BLOB", f"{column}x BLOB", table),
        )
    with closing(Outbox(tmp_path / "outbox.db", signer=LOG_SIGNER, random=Random(1).randbytes)) as made:
        with pytest.raises(LogBroken):
            made.trim(STREAM, ledger=LEDGER, received_before_us=FAR)
        assert made._connection.execute("SELECT count(*) FROM body").get == COUNT
