"""Receipts at the outbox: a cursor of each ledger that only moves forward."""

from contextlib import closing

import apsw
import pytest

from sync.errors import NoRoom
from sync.outbox import Outbox
from sync.outbox_bodies import receipted as receipted_of
from tests.outbox_rig import FAR, LEDGER, note_of, outbox, receipted, some
from tests.sim_realm import STREAM, draft


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


def view(made: Outbox, ledger: str = LEDGER):
    return made._connection.execute(
        "SELECT size, octets, receipt, at FROM cursor WHERE ledger = ?", (ledger,)
    ).fetchone()


def test_cursor_moves_forward_only(box):
    box.append(some(0, 9))
    sizes = [len(d.body) for d in some(0, 9)]
    for size, kept in ((4, 4), (2, 4), (0, 4), (7, 7), (9, 9), (8, 9)):
        receipted(box, size, at=size)
        assert view(box) == (kept, sum(sizes[:kept]), note_of(box, kept), kept)


def test_receipt_of_all_that_there_is_asks_nothing_of_the_disk_that_was_just_written(box):
    box.append(some(0, 9))
    receipted(box, 3)
    ran: list[str] = []
    box._connection.exec_trace = lambda _cursor, sql, _values: ran.append(sql) is None
    receipted(box, 9, at=7)
    box._connection.exec_trace = None
    assert [sql.split()[0] for sql in ran] == ["INSERT"]
    assert view(box) == (9, sum(len(d.body) for d in some(0, 9)), note_of(box, 9), 7)


def test_receipt_of_a_log_that_an_epoch_has_cut_is_kept_though_it_is_of_less_than_one_before(box):
    box.append(some(0, 9))
    receipted(box, 9)
    older, note = box.heads[STREAM].origin, note_of(box, 4)
    box.open_epoch(STREAM, epoch=2, tag="00000002", place=4, theirs=None)
    assert view(box) is None  # it went with the cut
    box.keep_receipt(ledger=LEDGER, origin=older, size=4, receipt=note, at=1)
    assert view(box)[0] == 4


def test_ledger_that_a_failed_transaction_named_is_not_the_one_in_force(box):
    box.admitted(boot=bytes(16), ledger="one", fence="f")
    assert box.ledger() == "one"
    with pytest.raises(NoRoom), box.transaction():
        box.set_fact("ledger", b"two")
        raise NoRoom("full")
    assert box.ledger() == "one"
    box.admitted(boot=bytes(16), ledger="two", fence="f")
    assert box.ledger() == "two"


def test_bit_that_flips_in_the_cursor_deletes_no_body(box):
    box.append(some(0, 9))
    receipted(box, 3)
    for bit in range(62):
        box._connection.execute("UPDATE cursor SET size = ?", (3 ^ 1 << bit,))
        assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 0
    # and the next receipt sets it right
    receipted(box, 4)
    assert view(box)[0] == 4
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 4


def test_cursor_of_one_ledger_says_nothing_of_another(box):
    box.append(some(0, 9))
    receipted(box, 9, ledger="one")
    assert box.trim(STREAM, ledger="two", received_before_us=FAR) == 0
    receipted(box, 2, ledger="two")
    assert (view(box, "one")[0], view(box, "two")[0]) == (9, 2)
    assert box.trim(STREAM, ledger="two", received_before_us=FAR) == 2


def test_receipt_over_a_body_page_that_cannot_be_read_is_kept(tmp_path):
    sent = [draft(n, body=b"b" * 3000) for n in range(40)]
    with closing(outbox(tmp_path)) as made:
        made.append(sent)
        made.append([draft(99)])  # a start verifies the last group, and would not begin on a broken one
    found = apsw.Connection(str(tmp_path / "outbox.db"))
    (page,) = found.execute(
        "SELECT pageno FROM dbstat WHERE name = 'body' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 20"
    ).fetchone()
    found.close()
    with (tmp_path / "outbox.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    with closing(outbox(tmp_path)) as made:
        receipted(made, 40)
        assert receipted_of(made._connection, LEDGER, made.heads[STREAM]) == (40, 40 * 3000)
