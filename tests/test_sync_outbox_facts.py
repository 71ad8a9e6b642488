"""What a group stores besides its records: where a source stands, and what a record that left its feed's main stream came after."""

from contextlib import closing

import apsw
import pytest

from sync.errors import NoRoom
from sync.header import decode
from sync.outbox_arrivals import repeat_key
from tests.outbox_rig import outbox, some, stored
from tests.sim_realm import draft

STREAMS = ("his", "critical")


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path, streams=STREAMS)) as made:
        yield made


def test_a_fact_is_there_with_its_record_and_the_last_of_a_group_stands(box, tmp_path):
    box.append(
        [draft(0)._replace(fact=("sequence:his", b"1")), draft(1)._replace(fact=("sequence:his", b"2")), draft(2)]
    )
    assert box.fact("sequence:his") == b"2"
    box.close()
    with closing(outbox(tmp_path, streams=STREAMS)) as again:
        assert again.fact("sequence:his") == b"2"
        assert again.fact("sequence:lab") is None
        assert len(stored(again)) == 3


def test_facts_that_a_flipped_bit_has_made_something_else_are_none_of_a_sources(tmp_path):
    with closing(outbox(tmp_path, streams=STREAMS)) as made:
        made.append([draft(n)._replace(fact=(f"mqtt/ward/{n}", b"%d" % n)) for n in range(3)])
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as file:  # a flip asks no schema
        file.execute("PRAGMA writable_schema = ON")
        file.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'fact'")
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as file:
        file.execute("UPDATE fact SET value = CAST(value AS TEXT) WHERE name = 'mqtt/ward/1'")
        file.execute("UPDATE fact SET name = CAST(name AS BLOB) WHERE name = 'mqtt/ward/2'")
    with closing(outbox(tmp_path, streams=STREAMS)) as made:
        assert made.facts("mqtt/ward/*") == {"mqtt/ward/0": b"0"}
        assert made.frames.facts("mqtt/ward/") == {"mqtt/ward/0": b"0"}


def test_a_repeat_stores_its_fact_though_it_is_no_record(box):
    key = repeat_key("his", "C1")
    first = draft(0)._replace(repeat_key=key)
    box.append([first])
    (found,) = box.append([first._replace(fact=("sequence:his", b"7"))])
    assert found.repeated
    assert box.fact("sequence:his") == b"7"
    assert len(stored(box)) == 1


def test_where_a_group_is_refused_its_facts_are_not_there(tmp_path):
    with closing(outbox(tmp_path, streams=STREAMS, quota_bytes=512 * 1024)) as made:
        made.append([draft(0)._replace(fact=("sequence:his", b"1"))])
        with pytest.raises(NoRoom):
            made.append([draft(1)._replace(body=b"x" * 1024 * 1024, fact=("sequence:his", b"2"))])
        assert made.fact("sequence:his") == b"1"
        assert len(stored(made)) == 1


def test_a_rerouted_record_says_what_stood_last_in_the_main_stream_before_it(box):
    box.append(some(0, 2))
    aside = {"stream": "critical"}
    box.append(
        [draft(2, **aside)._replace(follows="his"), draft(3), draft(4, **aside)._replace(follows="his"), draft(5)]
    )
    box.append([draft(6, **aside)._replace(follows="his")])
    assert [decode(record.header).after for record in stored(box, "critical")] == [
        ("his", 1, 1),
        ("his", 1, 2),
        ("his", 1, 3),
    ]
    assert all(decode(record.header).after is None for record in stored(box))


def test_before_the_first_record_of_the_main_stream_there_is_nothing_to_come_after(box):
    box.append([draft(0, stream="critical")._replace(follows="his"), draft(1, stream="his")._replace(follows="his")])
    assert decode(stored(box, "critical")[0].header).after is None
    assert decode(stored(box)[0].header).after is None


def test_a_repeat_in_the_main_stream_is_no_position_to_come_after(box):
    key = repeat_key("his", "C1")
    first = draft(0)._replace(repeat_key=key)
    box.append([first])
    box.append([first, draft(1, stream="critical")._replace(follows="his")])
    assert decode(stored(box, "critical")[0].header).after == ("his", 1, 0)
