"""How a database is opened so that COMMIT means on disk, and what a log in it gives back."""

from contextlib import closing

import apsw
import pytest

from gateway.ledger_sqlite import SCHEMA as LEDGER
from sync import store
from sync.errors import UnsafeStore
from sync.log import TILE_LEAVES, Frontier, tile_root
from sync.outbox import SCHEMA
from sync.record import BodyState
from sync.store import LogTable, OutboxTable, SafeDatabase, check_library, create, damage, split_hashes
from tests.outbox_rig import outbox
from tests.sim_realm import STREAM, draft, frontier_of, records, without_body

MADE = records([draft(n, body=b"x" * n) for n in range(20)])


@pytest.fixture
def database(tmp_path):
    """With the ledger's tables, where an index says where a record lies."""
    made = create(tmp_path / "a.db", LEDGER)
    yield made
    made.close()


# --- the library and the connection


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0", "3.9.9", "3.51.0"])
def test_library_with_the_wal_reset_bug_is_refused(version):
    with pytest.raises(UnsafeStore):
        check_library(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.100.0", "4.0.0", apsw.sqlite_lib_version()])
def test_library_without_it_is_taken(version):
    check_library(version)


def test_database_is_not_opened_by_a_library_with_the_bug(tmp_path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(UnsafeStore):
        SafeDatabase(tmp_path / "a.db")
    assert list(tmp_path.iterdir()) == []


def test_every_connection_syncs_at_commit_and_is_in_wal_mode(database):
    raw = database.raw()
    assert (raw.pragma("synchronous"), raw.pragma("journal_mode"), raw.pragma("mmap_size")) == (2, "wal", 0)


@pytest.mark.parametrize(
    ("pragma", "value"), [("synchronous", 1), ("synchronous", 0), ("journal_mode", "delete"), ("journal_mode", "off")]
)
def test_connection_that_turns_out_otherwise_is_refused(tmp_path, monkeypatch, pragma, value):
    connect = store.APSWDatabase._connect

    def sloppy(self):
        connection = connect(self)
        connection.pragma(pragma, value)
        return connection

    monkeypatch.setattr(store.APSWDatabase, "_connect", sloppy)
    with pytest.raises(UnsafeStore, match=str(value)):
        SafeDatabase(tmp_path / "a.db").raw()


def test_a_statement_is_not_planned_anew_for_each_value(database):
    raw, planned = database.raw(), []
    statement = "SELECT leaf FROM header WHERE log = ? AND seq >= ? ORDER BY seq"
    raw.authorizer = lambda *what: planned.append(what) or apsw.SQLITE_OK  # asked whenever a statement is planned
    raw.execute(statement, (1, 0)).fetchall()
    before = len(planned)
    raw.execute(statement, (2, 0)).fetchall()
    assert before
    assert len(planned) == before


def test_reader_can_write_nothing(database, tmp_path):
    reader = SafeDatabase(tmp_path / "a.db", readonly=True)
    with pytest.raises(apsw.ReadOnlyError):
        reader.raw().execute("DELETE FROM log")
    reader.close()


def test_reader_that_comes_before_the_file_makes_none(tmp_path):
    reader = SafeDatabase(tmp_path / "a.db", readonly=True)
    with pytest.raises(apsw.CantOpenError):
        reader.raw()
    assert list(tmp_path.iterdir()) == []


def test_new_database_keeps_freed_pages_for_itself_and_is_brought_forward_once(tmp_path):
    for _ in range(3):
        made = create(tmp_path / "a.db", SCHEMA)
        assert made.raw().pragma("auto_vacuum") == 0  # decision 0015
        assert {row[0] for row in made.raw().execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} > {
            "log",
            "header",
            "body",
            "tile",
            "cursor",
        }
        made.close()


def test_file_and_folder_are_synced_before_anything_is_stored(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(store, "sync_file", synced.append)
    create(tmp_path / "a.db", SCHEMA).close()
    assert synced == [tmp_path / "a.db", tmp_path]


def test_database_that_was_made_by_a_start_that_died_is_synced_by_the_next(tmp_path, monkeypatch):
    synced = []
    create(tmp_path / "a.db", SCHEMA).close()
    monkeypatch.setattr(store, "sync_file", synced.append)
    create(tmp_path / "a.db", SCHEMA).close()
    assert synced == [tmp_path / "a.db", tmp_path]


# --- a log in it


def table(database, made=MADE, log: int = 1) -> LogTable:
    found = LogTable(database.raw(), log)
    found.append(100 * log, Frontier(), made)
    return found


def test_records_come_back_as_they_were_put(database):
    assert list(table(database).records(0, 100)) == MADE


def test_a_range_of_records_is_that_range(database):
    found = table(database)
    assert list(found.records(5, 3)) == MADE[5:8]
    assert list(found.records(18, 100)) == MADE[18:]
    assert list(found.records(20, 1)) == list(found.records(0, 0)) == list(found.records(3, -1)) == []
    assert found.headers(5, 3) == [(record.seq, record.header) for record in MADE[5:8]]


def test_two_logs_in_one_database_do_not_mix(database):
    others = records([draft(n, message_type="ORU^R01") for n in range(7)])
    one, two = table(database), table(database, others, log=2)
    assert list(one.records(0, 100)) == MADE
    assert list(two.records(0, 100)) == others
    assert one.leaves(0, 100) + two.leaves(0, 100) == b"".join(record.leaf for record in [*MADE, *others])


@pytest.mark.parametrize("state", BodyState)
def test_record_of_every_state_comes_back_in_it(database, state):
    made = [MADE[0] if state is BodyState.PRESENT else without_body(MADE[0], state)]
    assert list(table(database, made).records(0, 1)) == made


def test_body_that_was_trimmed_leaves_a_trimmed_record(database):
    found = table(database)
    database.raw().execute("DELETE FROM body WHERE id = 103")
    assert list(found.records(3, 1)) == [without_body(MADE[3])]


def test_body_that_was_lost_leaves_a_damaged_record_in_an_outbox(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append([draft(n) for n in range(20)])
        raw, log = made._connection, made.heads[STREAM].log
        raw.execute("UPDATE log SET trimmed = 4")
        raw.execute("DELETE FROM body WHERE id IN (SELECT id FROM header WHERE seq IN (3, 4))")
        trimmed, lost = OutboxTable(raw, log).records(3, 2)
        assert (trimmed.state, damage(trimmed)) == (BodyState.TRIMMED, None)
        assert (lost.body, damage(lost)) == (b"", BodyState.DAMAGED)
        raw.execute("UPDATE header SET state = 3 WHERE seq = 4")
        (named,) = OutboxTable(raw, log).records(4, 1)
        assert (named.state, damage(named)) == (BodyState.DAMAGED, None)


def test_bodies_are_read_only_as_far_as_they_are_asked_for(database):
    class Counting:
        bodies = 0

        def execute(self, statement, bindings=()):
            self.bodies += "FROM body" in statement
            return database.raw().execute(statement, bindings)

    table(database)
    connection = Counting()
    walk = LogTable(connection, 1).records(0, 20)
    assert [next(walk), next(walk)] == MADE[:2]
    assert connection.bodies == 2


def test_position_is_taken_only_once(database):
    found = table(database)
    with pytest.raises(apsw.ConstraintError):
        found.append(500, frontier_of(MADE[:19]), MADE[19:])


def test_root_of_each_tile_is_stored_when_it_becomes_full(database):
    made = records([draft(0, body=b"")] * (2 * TILE_LEAVES + 3))
    found = LogTable(database.raw(), 1)
    for first, end in ((0, 1000), (1000, 1024), (1024, 2049), (2049, 2051)):
        found.append(1 + first, frontier_of(made[:first]), made[first:end])
        assert found.frontier(end) == frontier_of(made[:end])
    leaves = [record.leaf for record in made]
    assert split_hashes(found.tiles(0, 9)) == [
        tile_root(b"".join(leaves[:1024])),
        tile_root(b"".join(leaves[1024:2048])),
    ]


def test_frontier_of_more_than_is_stored_is_refused(database):
    found = table(database)
    assert found.frontier(0) == Frontier()
    with pytest.raises(IndexError):
        found.frontier(21)


# --- damage


def test_whole_record_shows_no_damage():
    assert [damage(record) for record in MADE] == [None] * len(MADE)


@pytest.mark.parametrize("part", ["salt", "particulars", "body"])
def test_changed_or_shortened_body_salt_or_particulars_is_damage_of_the_body(part):
    for record in MADE[1:3]:
        whole = getattr(record, part)
        for changed in (bytes([whole[0] ^ 1]) + whole[1:], whole[1:], whole + b"\0", b""):
            assert damage(type(record)(**{**_fields(record), part: changed})) is BodyState.DAMAGED


@pytest.mark.parametrize("part", ["header", "leaf"])
def test_changed_header_or_leaf_is_loss_of_the_header(part):
    record = MADE[3]
    for at in range(len(getattr(record, part))):
        changed = bytearray(getattr(record, part))
        changed[at] ^= 0x80
        assert damage(type(record)(**{**_fields(record), part: bytes(changed)})) is BodyState.LEAF_ONLY


def test_record_without_body_or_header_by_right_shows_no_damage():
    for state in (BodyState.TRIMMED, BodyState.ERASED, BodyState.LEAF_ONLY):
        assert damage(without_body(MADE[1], state)) is None


def _fields(record) -> dict:
    return {name: getattr(record, name) for name in ("seq", "header", "leaf", "state", "salt", "particulars", "body")}
