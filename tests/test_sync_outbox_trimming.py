"""Trimming at the outbox: only bodies that are receipted and old enough go, and never what proves them."""

from contextlib import closing

import apsw
import pytest

from sync.outbox import TRIM_ROWS_MAX
from sync.record import BodyState
from tests.outbox_rig import FAR, LEDGER, bodies, outbox, receipted, some, stored
from tests.sim_realm import NOW_S, STREAM, draft


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 5, 9])
def test_trimming_never_passes_the_receipt(box, size):
    box.append(some(0, 9))
    if size:
        receipted(box, size)
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == size
    states = [record.state for record in stored(box)]
    assert states == [BodyState.TRIMMED] * size + [BodyState.PRESENT] * (9 - size)
    box.verify_heads()


def test_trimming_never_takes_what_is_younger_than_its_retention(box):
    box.append(some(0, 9))
    receipted(box, 9)
    at = NOW_S * 1_000_000 + 4000
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=at) == 4
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=at) == 0
    assert bodies(box)[4:] == [d.body for d in some(4, 5)]


def test_trimming_keeps_header_leaf_and_root(box):
    box.append(some(0, 9))
    before = stored(box)
    receipted(box, 9)
    box.trim(STREAM, ledger=LEDGER, received_before_us=FAR)
    assert [(record.header, record.leaf) for record in stored(box)] == [
        (record.header, record.leaf) for record in before
    ]
    assert box._connection.execute("SELECT count(*) FROM body").get == 0


def test_trimming_takes_a_bounded_number_at_once_and_goes_on_after_a_restart(tmp_path):
    count = TRIM_ROWS_MAX + 44
    with closing(outbox(tmp_path)) as made:
        made.append([draft(n, body=b"") for n in range(count)])
        receipted(made, count)
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == TRIM_ROWS_MAX
    with closing(outbox(tmp_path)) as made:
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 44


def test_receipt_to_which_a_flipped_bit_gave_another_type_has_nothing_trimmed(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 3))
        receipted(made, 2)
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as file:  # a flip asks no schema
        file.execute("PRAGMA writable_schema = ON")
        file.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'cursor'")
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as file:
        file.execute("UPDATE cursor SET receipt = CAST(receipt AS TEXT)")
        assert [row[0] for row in file.execute("SELECT typeof(receipt) FROM cursor")] == ["text"]
    with closing(outbox(tmp_path)) as made:
        assert made.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 0


def test_damaged_header_does_not_stop_trimming(box):
    box.append(some(0, 9))
    receipted(box, 9)
    box._connection.execute("UPDATE header SET header = x'ff' WHERE seq = 2")
    assert box.trim(STREAM, ledger=LEDGER, received_before_us=FAR) == 9
