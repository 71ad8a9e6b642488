"""The outbox on a disk that is full or fails: what it acknowledged is there, what it refused is not. Every failing call: test_power_faults.py."""

import resource
import shutil
from contextlib import closing
from itertools import takewhile

import apsw
import pytest

from sync.errors import CommitUnknown, LogBroken, NoRoom
from sync.outbox import Outbox
from tests.outbox_rig import FAR, KEY, LEDGER, bodies, outbox, receipted, some, stored
from tests.sim_disk import disk
from tests.sim_realm import STREAM, TAG, draft


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


# --- no room


def filled(made: Outbox, streams=(STREAM,)) -> int:
    """Append until there is no room, then smaller ones until there is none for these either. How many."""
    n = 0
    for body in (bytes(900), b""):
        while True:
            try:
                made.append([draft(n, body=body, stream=streams[n % len(streams)])])
            except NoRoom:
                break
            n += 1
    return n


def test_no_room_stores_nothing_of_the_group_and_breaks_nothing(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=400_000)) as made:
        count = filled(made)
        before = dict(made.heads)
        with pytest.raises(NoRoom):
            made.append([draft(n, body=bytes(900)) for n in range(20)])
        assert made.heads == before
        assert len(stored(made)) == count
        made.verify_heads()
    assert (tmp_path / "outbox.db").stat().st_size <= 400_000
    with closing(outbox(tmp_path, quota_bytes=400_000)) as made:
        assert len(stored(made)) == count


@pytest.mark.parametrize("streams", [1, 40])
def test_full_outbox_can_still_be_drained_and_then_takes_messages_again(tmp_path, streams):
    names = [f"s{n}" for n in range(streams)]
    with closing(outbox(tmp_path, streams=names, quota_bytes=1_200_000)) as made:
        count = filled(made, names)
        # the first receipt of each stream needs room of its own
        for name in names:
            receipted(made, made.heads[name].frontier.size, stream=name)
        made.admitted(boot=bytes(16), ledger=LEDGER, fence="f" * 32)
        freed = sum(made.trim(name, ledger=LEDGER, received_before_us=FAR) for name in names * 9)
        assert freed == count
        made.append([draft(n, body=bytes(900), stream=names[n % streams]) for n in range(50)])
        made.verify_heads()


def test_full_outbox_can_still_be_started_again_and_again(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=300_000)) as made:
        filled(made)
    for life in range(3):
        with closing(outbox(tmp_path, quota_bytes=300_000)) as made:
            for n in range(100):
                made.start_boot(b"%08d%08d" % (life, n), n)


def test_stream_that_found_no_room_is_not_in_memory_either(tmp_path):
    with closing(outbox(tmp_path, quota_bytes=300_000)) as made:
        filled(made)
        before = dict(made.heads)
        with pytest.raises(NoRoom):
            made.open_streams({f"s{n}": "bulk" for n in range(9000)}, TAG)
        assert made.heads == before


# --- a disk that fails


@pytest.fixture
def small_wal(monkeypatch):
    """The WAL goes back into the database every few groups, so that short lives meet that too."""
    monkeypatch.setattr("sync.transaction.WAL_PAGES_MAX", 20)


@pytest.mark.parametrize("once", [True, False], ids=["once", "for ever"])
@pytest.mark.usefixtures("small_wal")
def test_group_refused_for_want_of_room_at_any_write_is_not_there_after_a_crash(tmp_path, once):
    refusals = 0
    for at in range(1, 40):
        folder, crashed = tmp_path / str(at), tmp_path / f"{at}-crashed"
        folder.mkdir()
        with disk() as platter:
            made = outbox(folder, vfs=platter.name)
            platter.arm(at, once=once, full=True)
            answers = list(takewhile(lambda answer: answer != "unknown", (answer_to(made, n) for n in range(12))))
            refusals += answers.count("no room")
            shutil.copytree(folder, crashed)
            platter.arm()
            made.close()
        for left in (crashed, folder):
            with closing(outbox(left)) as again:
                again.verify_heads()
                expected = [body_of(n) for n, answer in enumerate(answers) if answer == "stored"]
                assert bodies(again)[: len(expected)] == expected
                assert set(bodies(again)[len(expected) :]) <= {body_of(len(answers))}, (
                    "only the one of which nobody was told anything"
                )
    assert refusals > 30


def answer_to(made: Outbox, n: int) -> str:
    """Append a group of two pages' worth; what became of it."""
    try:
        made.append([draft(n, body=body_of(n))])
    except NoRoom:
        return "no room"
    except CommitUnknown:
        return "unknown"
    return "stored"


def body_of(n: int) -> bytes:
    return b"%d" % n * 3000


def test_failed_commit_changes_nothing_in_memory(tmp_path):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append([draft(0, repeat_key=KEY)])
        before = dict(made.heads)
        platter.arm(1)
        with pytest.raises(CommitUnknown):
            made.append([draft(1, repeat_key=b"x")])
        assert made.heads == before
        assert made._recent.get(b"x") is None
        with pytest.raises(CommitUnknown):
            made.open_streams({"lab": "bulk"}, TAG)
        assert made.heads == before
        platter.arm()


@pytest.mark.parametrize(
    "work",
    [
        lambda made: made.append(some(5, 1)), lambda made: made.probe(), lambda made: made.start_boot(b"b", 1),
        lambda made: made.admitted(boot=b"b", ledger=LEDGER, fence="f"), lambda made: made.open_streams({"lab": "bulk"}, TAG),
        lambda made: receipted(made, 2),
        lambda made: made.trim(STREAM, ledger=LEDGER, received_before_us=FAR),
    ],
    ids=["append", "probe", "start_boot", "admitted", "open_streams", "keep_receipt", "trim"],
)  # fmt: skip
def test_failed_sync_is_never_taken_for_success_by(tmp_path, work):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append(some(0, 2))
        receipted(made, 1)
        platter.arm(1)
        with pytest.raises(CommitUnknown):
            work(made)
        platter.arm()


def columns(folder) -> list[tuple[str, str]]:
    """Every column of every table of an outbox."""
    with closing(apsw.Connection(str(folder / "outbox.db"))) as file:
        tables = [
            name
            for (name,) in file.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        return [(table, row[1]) for table in tables for row in file.execute(f"PRAGMA table_info({table})")]


def test_a_column_whose_name_has_a_flipped_bit_ends_no_work_without_a_code(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    with closing(outbox(whole)) as made:
        made.append(some(0, 3))
        receipted(made, 2)
    told = 0
    for table, column in columns(whole):
        folder = tmp_path / f"{table}-{column}"
        shutil.copytree(whole, folder)
        with closing(apsw.Connection(str(folder / "outbox.db"))) as file:
            file.pragma("writable_schema", 1)
            flipped = column[:-1] + chr(ord(column[-1]) ^ 2)
            file.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?", (column, flipped, table))
        try:
            with closing(outbox(folder)) as made:
                made.verify_heads()
                made.append(some(5, 1))
                receipted(made, 3)
                made.trim(STREAM, ledger=LEDGER, received_before_us=FAR)
        except (CommitUnknown, LogBroken):
            told += 1
    assert told > 10


def test_disk_that_refuses_only_the_database_file_is_noticed_though_the_wal_still_takes_everything(tmp_path):
    # SQLite keeps a failed checkpoint to itself; a limit on file sizes fails it as a disk would, without our VFS between
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged: list[bytes] = []
    with closing(outbox(tmp_path)) as made:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, limits[1]))
        try:
            with pytest.raises(CommitUnknown):
                for n in range(300):
                    group = [draft(0, body=bytes([n % 256]) * 7000) for _ in range(8)]
                    made.append(group)
                    acknowledged += [each.body for each in group]
            assert (tmp_path / "outbox.db-wal").stat().st_size < 5_000_000, "it was the checkpoint that failed"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with closing(outbox(tmp_path)) as made:
        assert bodies(made)[: len(acknowledged)] == acknowledged
