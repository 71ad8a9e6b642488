"""Cursors and parked messages in the outbox: they move and are kept together, follow into further epochs, hold bodies back, and survive a repair."""

from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from click.testing import CliRunner

import sync.outbox_destinations as store
from node.cli.destinations import parked_command
from node.destinations.desk import Desk
from node.destinations.errors import DAMAGED
from node.destinations.reading import Reading
from node.destinations.selection import Selection
from sync.errors import CursorLost, CursorMoved, NoRoom, ParkedFull
from sync.outbox_destinations import Cursor, read_cursor
from sync.outbox_destinations_view import DestinationView
from sync.outbox_parked import CHANGED, TRIMMED, Parked, count_parked, read_parked
from sync.outbox_salvage import salvage
from sync.record import BodyState
from sync.store import damage
from tests.outbox_rig import FAR, LEDGER, outbox, receipted, some
from tests.sim_realm import LOG_SIGNER, NODE, STREAM

NAME = "lis"


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 9))
        yield made


def run(made) -> int:
    return made.heads[STREAM].run


def begin(made, place: int = 0) -> Cursor:
    return made.destinations.open(NAME, run(made), place)


def gone(made, place: int, **more) -> Parked:
    return Parked(
        **{
            "name": NAME,
            "run": run(made),
            "place": place,
            "last": place,
            "part": 0,
            "reason": "DST-01",
            "at_us": 5,
            **more,
        }
    )


def rows(made, **more) -> list[Parked]:
    return read_parked(made._connection, NAME, **more)


def trim(made, **holders) -> int:
    return made.trim(STREAM, ledger=LEDGER, received_before_us=FAR, holders=holders)


def test_a_destination_begins_once(box):
    assert begin(box, 4).place == 4
    assert begin(box, 9).place == 4


def test_a_cursor_and_what_it_passed_are_there_after_a_restart_together(box, tmp_path):
    cursor = begin(box)
    moved = replace(cursor, place=3, part=1, number=7, given=(3, 0))
    box.destinations.move(moved, parked=[gone(box, 2, detail="AE 204")])
    box.close()
    with closing(outbox(tmp_path)) as again:
        assert read_cursor(again._connection, NAME, run(again)) == moved
        assert [(row.place, row.reason, row.detail) for row in rows(again)] == [(2, "DST-01", "AE 204")]


def test_where_no_more_may_be_parked_the_cursor_does_not_move_either(box, monkeypatch):
    monkeypatch.setattr(store, "PARKED_MAX", 2)
    cursor = begin(box)
    for place in range(2):
        cursor = replace(cursor, place=place + 1)
        box.destinations.move(cursor, parked=[gone(box, place)])
    with pytest.raises(ParkedFull):
        box.destinations.move(replace(cursor, place=3), parked=[gone(box, 2)])
    assert begin(box) == cursor
    assert [row.place for row in rows(box)] == [0, 1]  # the oldest stay


def test_a_person_s_order_is_not_undone_by_a_delivery_under_way(box):
    cursor = begin(box)
    set_back = box.destinations.set_back(replace(cursor, place=5))
    with pytest.raises(CursorMoved):
        box.destinations.move(replace(cursor, place=1))
    assert begin(box) == set_back
    with pytest.raises(CursorMoved):
        box.destinations.set_back(replace(cursor, place=2))


@pytest.mark.parametrize(
    "change",
    [
        "place = place + 1",
        "part = 3",
        "number = 9",
        "run = run",
        "turn = turn + 1",
        "given_place = 2, given_part = 0",
        "digest = x'00'",
    ],
)
def test_a_changed_row_is_never_believed(box, change):
    begin(box, 3)
    if change == "run = run":
        assert begin(box).place == 3
        return
    box._connection.execute(f"UPDATE destination SET {change}")
    with pytest.raises(CursorLost):
        begin(box)
    receipted(box, 9)
    assert trim(box, lis=0) == 0  # what it still needs is not known


def test_no_body_goes_that_a_destination_has_not_taken(box):
    begin(box, 4)
    receipted(box, 9)
    assert trim(box, lis=0) == 4
    assert trim(box, lis=0) == 0
    box.destinations.move(replace(begin(box), place=6))
    assert trim(box, lis=0) == 2


def test_where_room_is_short_and_for_a_destination_that_is_not_configured_nothing_is_held(box):
    begin(box, 4)
    receipted(box, 9)
    assert trim(box, other=0) == 9


def test_the_slowest_of_several_destinations_holds(box):
    begin(box, 7)
    box.destinations.open("archive", run(box), 2)
    receipted(box, 9)
    assert trim(box, lis=0, archive=0) == 2


def test_a_parked_message_keeps_its_body_for_its_time_and_longer_where_it_is_to_be_sent_again(box):
    cursor = begin(box)
    box.destinations.move(replace(cursor, place=9), parked=[gone(box, 3, at_us=100)])
    receipted(box, 9)
    assert trim(box, lis=100) == 3
    assert trim(box, lis=100) == 0
    box.destinations.ask_replay(NAME, None)
    assert trim(box, lis=101) == 0
    box.destinations.refused_again(rows(box)[0].id, name=NAME)
    assert trim(box, lis=101) == 6


@pytest.mark.parametrize(
    "change",
    [
        "place = 5, last = 5", "last = 6", "part = 1", "part = NULL", "run = run + 1", "reason = 'DST-02'", "detail = 'AR'", "at_us = 6", "tries = 2",
        "replay = 1", "done = 1", "name = 'mis'", "id = 77",
    ],
)  # fmt: skip
def test_a_parked_row_that_was_changed_is_told_and_never_sent_and_holds_all_bodies_until_a_person_forgets_it(
    box, tmp_path, change
):
    box.destinations.move(replace(begin(box), place=9), parked=[gone(box, 3), gone(box, 8)])
    box._connection.execute(f"UPDATE parked SET {change} WHERE place = 3")
    found = rows(box)
    told = [row.id for row in found if row.is_changed]
    assert told == [1]
    assert [row.place for row in found if not row.is_changed and row.id == 2] == [8]
    box.destinations.ask_replay(NAME, None)
    assert 1 not in {row.id for row in rows(box, replay=True)}
    receipted(box, 9)
    assert trim(box, lis=0) == 0  # which message it was nobody can say
    (tmp_path / "new").mkdir()
    salvage(tmp_path / "outbox.db", tmp_path / "new" / "outbox.db", signer=LOG_SIGNER)
    with closing(DestinationView(tmp_path / "new" / "outbox.db")) as view:
        assert [row.id for row in view.parked(NAME) if row.is_changed] == told
    assert box.destinations.dismiss(NAME, told) == 1
    box.destinations.dismiss(NAME, [77])
    assert [(row.id, row.is_changed) for row in rows(box)] == [(2, False)]
    assert trim(box, lis=0) == 8


@pytest.mark.parametrize("table", ["parked", "parked_digest"])
def test_of_a_row_of_a_damaged_file_its_values_of_another_kind_are_not_believed_either(box, table):
    box.destinations.move(replace(begin(box), place=9), parked=[gone(box, 3, detail="AE 204")])
    number = rows(box)[0].id
    changed = {"parked": "reason = CAST(x'ff41' AS TEXT)", "parked_digest": "digest = x''"}[table]
    box._connection.execute(f"UPDATE {table} SET {changed}")
    assert [(row.id, row.is_changed) for row in rows(box)] == [(number, True)]
    assert box.destinations.ask_replay(NAME, [number]) == 0


@pytest.mark.parametrize("change", ["at_us = 1 << 62", "last = 1 << 62, place = -5", "run = 1 << 40", "id = 99"])
def test_what_the_disk_makes_of_an_entry_can_be_listed_and_the_line_does_not_say_that_a_body_is_gone(
    box, tmp_path, monkeypatch, change
):
    box.destinations.move(replace(begin(box), place=9), parked=[gone(box, 3), gone(box, 4, reason=TRIMMED)])
    box._connection.execute(f"UPDATE parked SET {change} WHERE id = 1")
    site: Any = SimpleNamespace(name=NAME, streams=(STREAM,))
    desk = Desk([site], node="clinic-17", store=tmp_path / "outbox.db", order=lambda work: work(box), now_us=lambda: 0)
    monkeypatch.setattr("node.cli.destinations._order", lambda *_: desk.parked(NAME))
    said = CliRunner().invoke(parked_command, [NAME], catch_exceptions=False).output.splitlines()
    assert ["its body is gone" in line for line in said if line.startswith("1: ")] == [False]
    assert [line for line in said if line.startswith(f"{CHANGED}: ")]
    assert ["its body is gone" in line for line in said if line.startswith("2: ")] == [True]


def test_what_stood_parked_before_there_were_digests_has_one_from_the_migration_on(box, tmp_path):
    box.destinations.move(replace(begin(box), place=9), parked=[gone(box, 3), gone(box, 5)])
    before = rows(box)
    box.close()
    with closing(apsw.Connection(str(tmp_path / "outbox.db"))) as raw:
        raw.execute("DROP TABLE parked_digest; CREATE INDEX parked_by_name ON parked (name, run, place)")
        raw.execute("DELETE FROM schema_migration WHERE name LIKE '0008%'")
    with closing(outbox(tmp_path)) as again:
        assert rows(again) == before
        # as a release of before does, to which a box went back for a while
        again._connection.execute(
            "INSERT INTO parked (name, run, place, last, part, reason, detail, at_us, tries, replay, done)"
            " SELECT name, run, 7, 7, part, reason, detail, at_us, 1, 0, 0 FROM parked WHERE id = 1"
        )
        again._connection.execute("UPDATE parked SET place = 4 WHERE place = 5")
        assert [(row.place, row.is_changed) for row in rows(again)] == [(3, False), (4, True), (7, False)]
        assert again.destinations.ask_replay(NAME, None) == 2
        again._connection.execute("UPDATE parked SET place = 6 WHERE place = 7")
        assert [row.place for row in rows(again, replay=True)] == [3]  # with the order it got one


def test_trimming_hears_of_each_change_of_what_stands_parked(box):
    cursor = replace(begin(box), place=9)
    box.destinations.move(cursor, parked=[gone(box, 5)])
    receipted(box, 9)
    assert trim(box, lis=0) == 5
    box.destinations.move(cursor, settled=[rows(box)[0].id], parked=[gone(box, 7)])
    assert trim(box, lis=0) == 2
    box.destinations.replayed(rows(box)[0], place=8, done=0)
    assert trim(box, lis=0) == 2
    assert rows(box) == []


def test_records_without_bodies_in_a_row_are_one_row(box):
    cursor = begin(box)
    for place in (0, 1, 2, 5):
        cursor = replace(cursor, place=place + 1)
        box.destinations.move(cursor, parked=[gone(box, place, part=None, reason=TRIMMED)])
    assert [(row.place, row.last, row.records) for row in rows(box)] == [(0, 2, 3), (5, 5, 1)]
    assert count_parked(box._connection, NAME) == (4, 4)
    assert box.destinations.ask_replay(NAME, None) == 0  # there is nothing to send


def test_a_message_that_is_refused_again_keeps_its_first_reason(box):
    box.destinations.move(replace(begin(box), place=1), parked=[gone(box, 0)])
    assert box.destinations.ask_replay(NAME, [rows(box)[0].id]) == 1
    assert len(rows(box, replay=True)) == 1
    box.destinations.refused_again(rows(box)[0].id, name=NAME)
    (row,) = rows(box)
    assert (row.reason, row.at_us, row.tries, row.replay) == ("DST-01", 5, 2, False)


def test_orders_touch_no_other_destination_s_messages(box):
    box.destinations.move(replace(begin(box), place=1), parked=[gone(box, 0)])
    number = rows(box)[0].id
    assert box.destinations.ask_replay("other", [number]) == 0
    assert box.destinations.dismiss("other", [number]) == 0
    assert box.destinations.dismiss(NAME, [number]) == 1
    assert rows(box) == []


def test_a_full_outbox_parks_nothing_and_moves_nothing(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=400_000)) as made:
        n = 0
        while True:
            try:
                made.append(some(n, 1, body=bytes(200)))
            except NoRoom:
                break
            n += 1
        cursor = begin(made)
        parked = [gone(made, place, detail="x" * 64) for place in range(500)]
        with pytest.raises(NoRoom):
            made.destinations.move(replace(cursor, place=500), parked=parked)
        assert (begin(made), rows(made)) == (cursor, [])
        made.destinations.move(replace(cursor, place=1))  # what drains may touch the reserve


def test_a_cursor_follows_into_a_further_epoch_without_repeating_what_was_carried(box):
    head = box.heads[STREAM]
    cursor = replace(begin(box), place=7)
    box.destinations.move(cursor)
    receipted(box, 4)
    box.open_epoch(STREAM, epoch=2, tag="0000beef", place=4, theirs=None)
    box.append(some(9, 2))
    assert box.heads[STREAM].run == head.run
    path = box._connection.filename
    from pathlib import Path

    with closing(DestinationView(Path(path))) as view:
        found = view.run(STREAM)
        assert view.cursor(NAME, found.id) == cursor
        assert (found.end, found.windows) == (11, ((1, 0), (2, 4)))
        assert [found.position(place) for place in (3, 4, 7, 10)] == [(1, 3), (2, 0), (2, 3), (2, 6)]
        assert (found.place(2, 3), found.place(1, 3), found.place(3, 0)) == (7, 3, None)
        assert [place for place, _ in view.headers(found.id, 7, 100)] == [7, 8, 9, 10]


def test_a_record_that_was_trimmed_in_a_further_epoch_is_not_told_as_damaged(box, tmp_path):
    box.open_epoch(STREAM, epoch=2, tag="0000beef", place=4, theirs=None)
    receipted(box, 2)
    assert [trim(box) for _ in range(3)] == [4, 2, 0]
    box._connection.execute("DELETE FROM body WHERE id = 8")  # and one that nobody trimmed is gone
    with closing(DestinationView(tmp_path / "outbox.db")) as view:
        states = [view.record(run(box), place).state for place in range(9)]
        assert damage(view.record(run(box), 7)) is BodyState.DAMAGED
    assert states == [BodyState.TRIMMED] * 6 + [BodyState.PRESENT] * 3


def test_a_record_of_which_a_flipped_bit_makes_what_no_destination_wants_is_named_and_not_passed_over(box, tmp_path):
    with closing(DestinationView(tmp_path / "outbox.db")) as view:
        reading, found = Reading(view, NODE, STREAM, Selection(())), view.run(STREAM)
        ((place, header),) = view.headers(found.id, 3, 1)
        assert reading.at(found, place, 0, header)[1] == ""
        altered = header.replace(b"\x02\x00", b"\x02\x02", 1)  # its kind: no message any more
        box._connection.execute("UPDATE header SET header = ? WHERE header = ?", (altered, header))
        ((_, read),) = view.headers(found.id, 3, 1)
        assert read == altered
        assert Reading(view, NODE, STREAM, Selection(())).at(found, place, 0, read) == (None, DAMAGED)


def test_a_further_epoch_takes_no_body_away(box, tmp_path):
    receipted(box, 9)
    with closing(DestinationView(tmp_path / "outbox.db")) as view:
        box.open_epoch(STREAM, epoch=2, tag="0000beef", place=9, theirs=None)
        assert view.run(STREAM).trimmed == 0  # all nine are still here
        box.append(some(9, 2))
        assert [trim(box), view.run(STREAM).trimmed] == [9, 9]
        receipted(box, 2)
        assert [trim(box), view.run(STREAM).trimmed] == [2, 11]


def test_what_is_carried_from_before_two_epochs_is_trimmed_like_any_other(box, tmp_path):
    box.open_epoch(STREAM, epoch=2, tag="0000beef", place=9, theirs=None)
    box.append(some(9, 1))
    box.open_epoch(STREAM, epoch=3, tag="0000cafe", place=4, theirs=None, own=4)  # of the first log four are common
    assert [head.trimmed for head in box.logs(STREAM)] == [0, 0, 0]
    receipted(box, 6)
    while trim(box):
        pass
    assert list(box._connection.execute("SELECT id FROM body")) == []


def test_a_repair_carries_positions_and_parked_messages(box, tmp_path):
    cursor = replace(begin(box), place=5)
    box.destinations.move(cursor, parked=[gone(box, 4)])
    before = rows(box)
    box.close()
    salvage(tmp_path / "outbox.db", tmp_path / "fresh.db", signer=LOG_SIGNER)
    (tmp_path / "fresh.db").rename(tmp_path / "again.db")
    with closing(DestinationView(tmp_path / "again.db")) as view:
        assert view.cursor(NAME, cursor.run) == cursor
        assert view.parked(NAME) == before
