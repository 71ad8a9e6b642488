"""The outbox's reading side: true at every moment of the writer's life, and unable to change anything."""

import threading
from contextlib import closing
from random import Random

import apsw
import pytest

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import LogBroken, NotARecord
from sync.names import Origin
from sync.outbox import Outbox
from sync.outbox_view import OutboxView
from sync.receipt import cosign
from sync.record import BodyState
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, NOW_S, ORIGIN, STREAM, TAG, draft


@pytest.fixture
def box(tmp_path):
    with closing(Outbox(tmp_path / "outbox.db", signer=LOG_SIGNER, random=Random(1).randbytes)) as made:
        made.open_streams({STREAM: "routine", "lab": "bulk"}, TAG)
        yield made


@pytest.fixture
def view(box, tmp_path):
    with closing(OutboxView(tmp_path / "outbox.db", NODE)) as made:
        yield made


def receipt(size: int) -> bytes:
    return cosign(sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), LOG_SIGNER), time=7, signer=COSIGNER)


def test_absent_outbox_is_an_error_of_sqlite_and_no_empty_file(tmp_path):
    with closing(OutboxView(tmp_path / "outbox.db", NODE)) as made, pytest.raises(apsw.CantOpenError):
        made.streams()
    assert list(tmp_path.iterdir()) == []


def test_view_sees_what_is_committed_and_nothing_before(box, view):
    assert [(s.origin, s.lane, s.size) for s in view.streams()] == [
        (ORIGIN, "routine", 0),
        (Origin(NODE, "lab", 1, TAG), "bulk", 0),
    ]
    with box.transaction():
        box.set_fact("a", b"1")
        assert view.fact("a") is None
    assert view.fact("a") == b"1"
    box.append([draft(0), draft(1)])
    his = view.streams()[0]
    assert (his.size, his.octets) == (2, len(draft(0).body) + len(draft(1).body))


def test_waiting_is_the_difference_of_two_positions_of_the_ledger_that_admitted_last(box, view):
    box.append([draft(n) for n in range(5)])
    box.keep_receipt(ledger="one", origin=box.heads[STREAM].origin, size=3, receipt=receipt(3), at=7)
    assert view.streams()[0].receipted == 0, "nobody has admitted this node yet"
    box.start_boot(b"b", 1)
    box.admitted(boot=b"b", ledger="one", fence="f")
    his, lab = view.streams()
    assert (his.receipted, his.receipted_octets, his.receipt, his.receipt_at) == (
        3,
        sum(len(draft(n).body) for n in range(3)),
        receipt(3),
        7,
    )
    assert (lab.receipted, lab.receipted_octets, lab.receipt, lab.receipt_at) == (0, 0, b"", 0)
    box.admitted(boot=b"b", ledger="two", fence="f")
    assert view.streams()[0].receipted == 0


def test_view_can_change_nothing(view):
    with pytest.raises(apsw.ReadOnlyError):
        view._all("DELETE FROM log", ())
    with pytest.raises(apsw.ReadOnlyError):
        view._all("CREATE TABLE x (y)", ())


def test_boots_are_listed_oldest_first(box, view):
    for n in range(3):
        box.start_boot(bytes([n]), 100 + n)
    assert view.boots() == [b"\0", b"\1", b"\2"]


def test_time_of_a_record_is_known_until_its_header_is_lost(box, view):
    box.append([draft(0), draft(1)])
    log = view.streams()[0].log
    assert view.received_at_us(log, 1) == NOW_S * 1_000_000 + 1000
    assert view.received_at_us(log, 2) is None
    box._connection.execute("UPDATE header SET header = NULL, state = 4 WHERE seq = 1")
    assert view.received_at_us(log, 1) is None
    box._connection.execute("UPDATE header SET header = x'ff', state = 0 WHERE seq = 1")
    with pytest.raises(NotARecord):
        view.received_at_us(log, 1)


def test_damage_is_named_where_it_is_and_nowhere_else(box, view):
    box.append([draft(n) for n in range(8)])
    for statement in (
        "UPDATE body SET body = x'00' WHERE id = 2", "UPDATE header SET header = x'a0' WHERE id = 4", "DELETE FROM body WHERE id = 6",
        "UPDATE header SET state = 77 WHERE id = 7",
    ):  # fmt: skip
        box._connection.execute(statement)
    log = view.streams()[0].log
    found = [(record.seq, what) for record, what in view.damaged(log, 0, 100)]
    assert found == [(1, "damaged"), (3, "leaf-only"), (5, "damaged")]
    # of one whose state alone was changed, the body speaks for itself
    assert next(view.table(log).records(6, 1)).state is BodyState.PRESENT
    assert [record.seq for record, _ in view.damaged(log, 2, 2)] == [3]


def test_body_that_was_trimmed_is_no_damage(box, view):
    box.append([draft(n) for n in range(4)])
    box.keep_receipt(ledger="one", origin=box.heads[STREAM].origin, size=2, receipt=receipt(2), at=1)
    box.trim(STREAM, ledger="one", received_before_us=2**60)
    log = view.streams()[0].log
    assert list(view.damaged(log, 0, 4)) == []
    assert [record.state for record in view.table(log).records(1, 2)] == [BodyState.TRIMMED, BodyState.PRESENT]


@pytest.mark.parametrize(
    "changed",
    [
        "log SET size = x'03', start = x'03'", "log SET checkpoint = CAST(checkpoint AS TEXT)", "log SET opening = ''",
        "log SET tag = CAST(tag AS BLOB)", "log SET stream = CAST(stream AS BLOB)", "fact SET value = CAST(value AS TEXT) WHERE name = 'ledger'",
    ],
)  # fmt: skip
def test_value_to_which_a_flipped_bit_gave_another_type_is_named_as_damage(box, tmp_path, changed):
    box.append([draft(n) for n in range(3)])
    box.admitted(boot=b"b", ledger="one", fence="f")
    file = tmp_path / "outbox.db"
    # a flip asks no schema: what STRICT would refuse is written without it
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name IN ('log', 'fact')")
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute(f"UPDATE {changed}")
        assert connection.changes()
    with closing(OutboxView(file, NODE)) as view, pytest.raises(LogBroken):
        view.streams()


def test_start_whose_id_a_flipped_bit_made_a_text_is_forgotten_by_the_next_one(box, tmp_path):
    box.start_boot(b"one", 1)
    file = tmp_path / "outbox.db"
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'boot'")
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("UPDATE boot SET id = CAST(id AS TEXT)")
        assert connection.changes()
    with closing(OutboxView(file, NODE)) as view:
        with pytest.raises(LogBroken):
            view.boots()
        box.start_boot(b"two", 2)
        assert view.boots() == [b"two"]


def test_freed_pages_count_as_room(box, view):
    box.append([draft(n, body=bytes(3000)) for n in range(200)])
    box.keep_receipt(ledger="one", origin=box.heads[STREAM].origin, size=200, receipt=receipt(200), at=1)
    before = view.pages()
    assert (before.total - before.free) * before.size > 600_000
    box.trim(STREAM, ledger="one", received_before_us=2**60)
    after = view.pages()
    assert after.free - before.free > 500_000 // after.size
    assert after.total <= before.total


def test_reader_beside_a_writer_always_sees_a_whole_group(box, tmp_path):
    """Heads and records are of one moment: no head without its records, no group half there."""
    done, faults = threading.Event(), []

    def read() -> None:
        with closing(OutboxView(tmp_path / "outbox.db", NODE)) as made:
            while not done.is_set():
                his = made.streams()[0]
                found = list(made.table(his.log).records(0, 4000))
                if his.size % 7 or len(found) % 7 or len(found) < his.size:
                    faults.append((his.size, len(found)))
                if any(made.damaged(his.log, max(0, his.size - 7), 7)):
                    faults.append("damage")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(60):
            box.append([draft(7 * n + k) for k in range(7)])
    finally:
        done.set()
        reader.join()
    assert faults == []
