"""How full is full: the stages by quota and partition, the lanes each refuses, the ballast, and a writer that refuses lane by lane."""

import errno
import itertools
import os
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from node.alarms import Alarms
from node.config.config import ConfigError, Outbox, load
from node.room import (
    BALLAST_BYTES,
    DRAIN_BYTES,
    JOURNAL_BYTES,
    SPARE_BYTES_MIN,
    Ballast,
    Room,
    Space,
    Stage,
    filled,
    hold_journal,
    measure,
    plenty_percent,
    resume_percent,
    stage_of,
)
from sync.errors import NoRoom
from sync.transaction import Pages
from tests.node_rig import Node, Realm
from tests.outbox_rig import STREAM, outbox, some
from tests.sim_realm import draft
from tests.test_node_writer import Rig
from tests.test_node_writer import draft as queued

MIB = 1024 * 1024
LIMITS = Outbox(quota_mb=100, free_mb_min=16)
AMPLE = 10_000 * MIB


def space(*, used=0.0, spare=0.0, growth=0.0, free=10_000.0):
    """In MiB."""
    return Space(used=int(used * MIB), spare=int(spare * MIB), growth=int(growth * MIB), free=int(free * MIB))


# -- stages ------------------------------------------------------------------------------------------------------------
BY_PERCENT = {0: "open", 69.9: "open", 70.1: "filling", 85.1: "trimming", 95.1: "no-bulk", 98.1: "critical-only", 99.9: "critical-only", 100: "full", 103: "full"}  # fmt: skip


@pytest.mark.parametrize("percent", BY_PERCENT)
def test_the_quota_has_its_stages(percent):
    assert stage_of(space(used=percent), LIMITS).word == BY_PERCENT[percent]


@pytest.mark.parametrize("percent", [each for each in BY_PERCENT if each < 100])
def test_a_partition_smaller_than_the_quota_has_the_same_stages(percent):
    left = 80 * (100 - percent) / 100
    assert stage_of(space(used=80 - left, free=left + 16), LIMITS).word == BY_PERCENT[percent]


def test_pages_that_were_freed_count_as_room():
    assert stage_of(space(used=60, free=16), LIMITS) is Stage.CRITICAL_ONLY
    assert stage_of(space(used=20, spare=41, free=16), LIMITS) is Stage.OPEN


def test_what_the_wal_has_yet_to_bring_into_the_database_is_no_room():
    assert stage_of(space(used=50, free=66), LIMITS) is Stage.OPEN
    assert stage_of(space(used=50, growth=49, free=66), LIMITS) is Stage.CRITICAL_ONLY


def test_critical_may_use_the_reserve_but_not_what_draining_needs():
    least = DRAIN_BYTES / MIB
    assert stage_of(space(used=50, free=least), LIMITS) is Stage.CRITICAL_ONLY
    assert stage_of(space(used=50, free=least - 0.1), LIMITS) is Stage.FULL
    assert stage_of(space(used=50, spare=least + SPARE_BYTES_MIN / MIB, free=0), LIMITS) is not Stage.FULL


def test_each_stage_refuses_what_the_one_before_did_and_critical_only_the_last():
    refused = [stage.refuses for stage in Stage]
    assert all(before <= after for before, after in itertools.pairwise(refused))
    assert [stage for stage in Stage if "critical" in stage.refuses] == [Stage.FULL]
    assert next(stage for stage in Stage if "bulk" in stage.refuses) is Stage.NO_BULK
    assert next(stage for stage in Stage if "routine" in stage.refuses) is Stage.CRITICAL_ONLY


def test_stages_that_descend_are_refused_with_file_and_line(tmp_path):
    node = Node(Realm.make(tmp_path), tmp_path, outbox="quota_mb = 16\nwarn_percent = 90")
    path = node.config()
    with pytest.raises(ConfigError) as refusal:
        load(path)
    (problem,) = refusal.value.problems
    assert problem.line == path.read_text(encoding="utf-8").splitlines().index("[outbox]") + 1
    assert "warn_percent" in problem.message


# -- ballast -----------------------------------------------------------------------------------------------------------
def test_the_ballast_takes_real_room_and_gives_it_back_once(tmp_path):
    ballast = Ballast(tmp_path)
    ballast.lay()
    file = tmp_path / "ballast"
    assert file.stat().st_blocks * 512 >= BALLAST_BYTES
    assert Ballast(tmp_path).there
    assert ballast.drop()
    assert not file.exists()
    assert not ballast.drop()


def test_a_ballast_that_a_crash_left_short_is_laid_again(tmp_path):
    (tmp_path / "ballast").write_bytes(b"\0" * 100)
    ballast = Ballast(tmp_path)
    assert not ballast.there
    ballast.lay()
    assert Ballast(tmp_path).there


def test_the_wal_is_held_in_its_full_length_and_what_a_crash_leaves_of_it_is_read_as_before(tmp_path):
    with closing(outbox(tmp_path)) as box:
        box.append(some(0, 3))
        assert hold_journal(tmp_path / "outbox.db", JOURNAL_BYTES)
        wal = tmp_path / "outbox.db-wal"
        assert wal.stat().st_blocks * 512 >= JOURNAL_BYTES
        held = wal.stat().st_size
        box.append(some(3, 2))
        assert wal.stat().st_size == held
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(tmp_path / name, crashed / name)
    with closing(outbox(crashed)) as box:
        box.verify_heads()
        assert box.heads[STREAM].frontier.size == 5


def test_a_wal_that_is_not_there_is_not_made(tmp_path):
    assert hold_journal(tmp_path / "outbox.db", JOURNAL_BYTES)
    assert not list(tmp_path.iterdir())


def test_a_wal_that_finds_no_room_is_as_long_as_before_also_where_the_disk_keeps_part_of_what_it_was_asked_for(
    tmp_path, monkeypatch
):
    def as_ext4(descriptor, _offset, _length):
        os.ftruncate(descriptor, JOURNAL_BYTES // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(outbox(tmp_path)) as box:
        box.append(some(0, 3))
        wal = tmp_path / "outbox.db-wal"
        before = wal.stat().st_size
        assert not hold_journal(tmp_path / "outbox.db", JOURNAL_BYTES - before - 1)
        assert wal.stat().st_size == before
        monkeypatch.setattr("os.posix_fallocate", as_ext4)
        assert not hold_journal(tmp_path / "outbox.db", JOURNAL_BYTES)
        assert wal.stat().st_size == before
        monkeypatch.undo()
        box.append(some(3, 2))
        box.verify_heads()


class Looker:
    """A Room over a real outbox, on a disk of which the test says how much is free."""

    def __init__(self, folder: Path, monkeypatch, patient=(), **limits) -> None:
        self.free, self.now = AMPLE, 0.0
        monkeypatch.setattr("node.room.free_bytes", lambda _folder: self.free)
        self.alarms = Alarms(lambda: 0)
        self.ballast = Ballast(folder)
        self.room = Room(
            store=folder / "outbox.db", limits=Outbox(**limits), ballast=self.ballast, alarms=self.alarms, monotonic=lambda: self.now,
            patient=patient,
        )  # fmt: skip

    def look(self, box):
        stage = self.room.look(box)
        self.room.keep_ballast(box)
        return stage

    def standing(self):
        return {alarm["code"] for alarm in self.alarms.standing()}


def test_a_look_raises_and_clears_the_alarms_and_lays_the_ballast_again_when_there_is_room(tmp_path, monkeypatch):
    looker = Looker(tmp_path, monkeypatch, quota_mb=16, free_mb_min=16)
    with closing(outbox(tmp_path)) as box:
        assert looker.look(box) is Stage.OPEN
        assert looker.ballast.there
        looker.free = 16 * MIB
        assert looker.look(box) is Stage.CRITICAL_ONLY
        assert looker.standing() == {"NOD-10", "NOD-30"}
        looker.free = 0
        assert looker.look(box) is Stage.FULL
        assert looker.room.relieve()
        assert not looker.room.relieve()
        looker.look(box)
        assert not looker.ballast.there
        looker.free = AMPLE
        assert looker.look(box) is Stage.OPEN
        assert looker.ballast.there
        assert looker.standing() == set()


def test_the_wal_is_held_only_where_draining_has_room_beside_it_and_each_change_is_said_once(tmp_path, monkeypatch):
    looker = Looker(tmp_path, monkeypatch, quota_mb=16, free_mb_min=16)
    with closing(outbox(tmp_path)) as box, capture_logs() as said:
        wal = tmp_path / "outbox.db-wal"
        before = wal.stat().st_size
        for looker.free in (0, DRAIN_BYTES - before - 1, 0):
            looker.look(box)
        assert wal.stat().st_size == before
        for looker.free in (AMPLE, 0, AMPLE):
            looker.look(box)
        assert wal.stat().st_size == JOURNAL_BYTES
        assert [row["event"] for row in said if "journal" in row["event"]] == ["journal.no_room", "journal.held"]


def test_bodies_go_before_their_time_from_the_trimming_stage_on_and_until_well_below_the_warning(tmp_path, monkeypatch):
    looker, told = Looker(tmp_path, monkeypatch, quota_mb=100, free_mb_min=16), []
    with closing(outbox(tmp_path)) as box:
        for used in (64, 71, 84, 86, 84, 71, 66, 64, 66, 84):
            monkeypatch.setattr("node.room.measure", lambda *_, used=used: space(used=used))
            looker.look(box)
            told.append(looker.room.short)
    assert told == [False, False, False, True, True, True, True, False, False, False]


PERMITTED = {"quota_mb": 100, "free_mb_min": 16, "refuse_bulk_percent": 100, "refuse_routine_percent": 100}
QUIET: Any = SimpleNamespace(raised=lambda _code: None, cleared=lambda _code: None)


class Full:
    """A Room over an outbox that fills and is trimmed as the test says. The limits are those of a configuration."""

    def __init__(self, folder: Path, monkeypatch, limits) -> None:
        self.space, self.outbox = space(), SimpleNamespace(pages=lambda: Pages(0, 0, 0))
        monkeypatch.setattr("node.room.measure", lambda *_: self.space)
        self.limits, self.ballast = limits, Ballast(folder)
        self.room = Room(
            store=folder / "outbox.db", limits=limits, ballast=self.ballast, alarms=QUIET, monotonic=lambda: 0.0, patient=("scans",)
        )  # fmt: skip

    def at(self, used: float) -> Room:
        self.space = space(used=used)
        self.room.look(self.outbox)
        return self.room


def permitted(warn, trim):
    return Outbox.model_construct(**PERMITTED, warn_percent=warn, trim_percent=trim)


def test_with_all_limits_that_are_permitted_a_pause_ends_where_trimming_does_at_the_latest_and_both_end():
    for warn, trim in itertools.combinations_with_replacement(range(1, 101), 2):
        limits = permitted(warn, trim)
        assert 0 < plenty_percent(limits) <= resume_percent(limits) < trim, f"{warn}, {trim}"
        assert plenty_percent(limits) < warn, f"{warn}, {trim}: the next message would raise the warning again"


@pytest.mark.parametrize(
    ("warn", "trim"), [(70, 85), (81, 85), (85, 85), (94, 95), (100, 100), (6, 6), (5, 90), (1, 1)]
)
def test_where_nothing_is_trimmed_any_more_no_feed_is_paused(tmp_path, monkeypatch, warn, trim):
    full, low, high = Full(tmp_path, monkeypatch, permitted(warn, trim)), 0.0, trim + 0.01
    while high - low > 0.02:  # where trimming ends, from above
        assert full.at(trim + 0.01).paused
        middle = (low + high) / 2
        low, high = (low, middle) if full.at(middle).short else (middle, high)
    assert 0 < low < warn, "trimmed for ever, or the next message would raise the warning again"
    assert not full.at(low).paused
    assert not full.at(trim - 0.01).paused


def test_a_pause_that_the_writer_saw_begin_is_not_left_to_itself_where_the_next_look_is_below_it(tmp_path, monkeypatch):
    full = Full(tmp_path, monkeypatch, LIMITS)
    assert full.at(85.1).paused
    room = full.at(84.9)  # a receipt, or an old body that went
    assert (room.paused, room.short) == (True, True)


@pytest.mark.parametrize("patient", [(), ("scans",)])
def test_a_pause_begins_where_bodies_are_trimmed_and_ends_a_little_below_and_only_where_a_feed_can_wait(
    tmp_path, monkeypatch, patient
):
    looker, told = Looker(tmp_path, monkeypatch, patient=patient, quota_mb=100, free_mb_min=16), []
    with closing(outbox(tmp_path)) as box:
        for used in (84, 86, 99, 84, 81, 79, 84, 86):
            monkeypatch.setattr("node.room.measure", lambda *_, used=used: space(used=used))
            looker.look(box)
            told.append(looker.room.paused)
            assert ("NOD-34" in looker.standing()) == looker.room.paused
    assert told == [patient != () and paused for paused in (False, True, True, True, True, False, False, True)]


def test_the_disk_is_asked_once_a_second_and_after_each_256th_of_what_it_holds(tmp_path, monkeypatch):
    looker, asked = Looker(tmp_path, monkeypatch, quota_mb=16, free_mb_min=16), []
    real = measure
    monkeypatch.setattr("node.room.measure", lambda *args: asked.append(1) or real(*args))
    with closing(outbox(tmp_path)) as box:
        for _ in range(5):
            looker.room.before(box, [100])
        assert len(asked) == 1
        looker.now += 1
        looker.room.before(box, [100])
        assert len(asked) == 2
        for _ in range(5):
            looker.room.before(box, [16 * 1024] * 4)
        assert len(asked) == 7


def test_the_space_is_measured_of_the_file_and_its_pages(tmp_path):
    with closing(outbox(tmp_path)) as box:
        box.append([draft(n, body=bytes(MIB)) for n in range(2)])
        found = measure(tmp_path / "outbox.db", box.pages())
        assert 2 * MIB < found.used < 3 * MIB
        # what is still in the WAL alone
        assert found.used + found.spare - found.growth == (tmp_path / "outbox.db").stat().st_size
        assert 0 < filled(found, LIMITS) < 0.1
    assert measure(tmp_path / "none.db", Pages(0, 0, 0)).used == 0


# -- the writer --------------------------------------------------------------------------------------------------------
LANES = {"adt": "bulk", "his": "routine", "lab": "critical"}


class Lanes(Rig):
    """A writer of one stream in each lane."""

    def open(self):
        made = super().open()
        made.open_streams(LANES, "0badcafe")
        return made

    def outcomes(self):
        return [type(outcome).__name__ for _, outcome in self.delivered]


@pytest.mark.parametrize("stage", Stage)
def test_of_one_group_only_the_lanes_of_the_stage_are_refused(tmp_path, stage):
    rig = Lanes(tmp_path, streams=tuple(LANES))
    rig.refused = stage.refuses
    for n, stream in enumerate(["adt", "his", "lab"] * 2):
        rig.submit(queued(n, stream=stream))
    rig.start().finish()
    told = {body: type(outcome).__name__ for body, outcome in rig.delivered}
    assert len(rig.delivered) == 6
    for n, stream in enumerate(["adt", "his", "lab"] * 2):
        assert (told[b"MSH|%d" % n] == "NoRoom") == (LANES[stream] in stage.refuses)
        assert (b"MSH|%d" % n in rig.bodies(stream)) == (LANES[stream] not in stage.refuses)


def test_a_group_that_does_not_fit_still_stores_its_critical_records(tmp_path):
    rig = Lanes(tmp_path, streams=tuple(LANES), quota_bytes=MIB)
    rig.submit(queued(1, stream="adt", body=bytes(2 * MIB)))
    rig.submit(queued(2, stream="lab"))
    rig.submit(queued(3, stream="his"))
    rig.start().finish()
    told = {body[:5]: type(outcome).__name__ for body, outcome in rig.delivered}
    assert told == {bytes(5): "NoRoom", b"MSH|2": "Stored", b"MSH|3": "NoRoom"}


def test_an_order_that_finds_no_room_is_done_once_the_ballast_is_gone(tmp_path):
    dropped, rig = [], Rig(tmp_path)
    rig.writer._relieve = lambda: not dropped and not dropped.append(1)
    rig.start()

    def order(_outbox):
        if not dropped:
            raise NoRoom("no room")
        return "done"

    assert rig.writer.order(order).result(20) == "done"

    def never(_outbox):
        raise NoRoom("still none")

    assert isinstance(rig.writer.order(never).exception(20), NoRoom)
    rig.finish()
