"""Segments say where each record of an outbox lies, however streams take turns, and an outbox of before them is brought forward."""

from contextlib import closing
from random import Random

import apsw
import pytest

from sync.errors import LogBroken
from sync.outbox_salvage import salvage
from sync.outbox_segments import AT_PLACES, IN_ORDER, ROWS
from sync.record import BodyState
from sync.transaction import PAGE_BYTES
from tests.outbox_rig import FAR, outbox, receipted, some, stored
from tests.sim_realm import LOG_SIGNER, draft

STREAMS = ("his", "lab", "adt")
INDEX = "CREATE UNIQUE INDEX header_position ON header (log, seq)"
STEP_BACK = f"DROP TABLE segment; {INDEX}; DELETE FROM schema_migration WHERE name LIKE '0007%'"

INDEX_8 = "CREATE INDEX parked_by_name ON parked (name, run, place)"
STEP_BACK_8 = f"DROP TABLE parked_digest; {INDEX_8}; DELETE FROM schema_migration WHERE name LIKE '0008%'"


def fill(made, turns: int, seed: int) -> None:
    """Groups of some streams in turn, some of two streams at once."""
    dice = Random(seed)
    for turn in range(turns):
        names = dice.sample(STREAMS, dice.choice([1, 1, 1, 2]))
        made.append([draft(turn * 100 + n, stream=dice.choice(names)) for n in range(dice.randrange(1, 9))])


def places(made) -> list[tuple[int, int, int]]:
    """Run, place and row of each record as its row says it."""
    return list(made._connection.execute("SELECT log, seq, id FROM header ORDER BY log, seq"))


def read(made, run: int, first: int, end: int) -> list[tuple[int, int]]:
    statement = f"SELECT seq, header.id FROM {ROWS} WHERE {AT_PLACES} ORDER BY {IN_ORDER}"
    return list(made._connection.execute(statement, (run, first, end)))


def segments(made) -> list[tuple[int, int, int]]:
    return list(made._connection.execute("SELECT run, first, shift FROM segment ORDER BY run, first"))


@pytest.mark.parametrize("seed", range(3))
def test_every_range_of_every_stream_is_read_as_the_rows_say(in_memory, seed):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 25, seed)
        for head in made.heads.values():
            true = [(place, row) for run, place, row in places(made) if run == head.run]
            assert len(true) == head.frontier.size
            for first in range(-1, head.frontier.size + 1):
                for end in range(first - 1, head.frontier.size + 2):
                    assert read(made, head.run, first, end) == [each for each in true if first <= each[0] < end]


def test_a_stream_that_is_alone_has_one_segment_and_one_that_was_interrupted_two(in_memory):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        for n in range(4):
            made.append(some(n, 5))
        assert len(segments(made)) == 1
        made.append(some(0, 2, stream="lab"))
        made.append(some(20, 5))
        made.append(some(25, 5))
        his, lab = made.heads["his"].run, made.heads["lab"].run
        assert sorted(segments(made)) == sorted([(his, 0, 1), (his, 20, 3), (lab, 0, 21)])


def test_a_group_that_is_inserted_row_by_row_has_its_segment_too(in_memory, monkeypatch):
    monkeypatch.setattr("sync.outbox.pack", lambda *_: None)
    monkeypatch.setattr("sync.group.pack", lambda *_: None)
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 10, 1)
        for head in made.heads.values():
            assert [record.seq for record in stored(made, head.origin.stream)] == list(range(head.frontier.size))


@pytest.mark.parametrize("trimmed", [0, 7])
def test_an_outbox_of_before_segments_is_brought_forward_and_goes_on(in_memory, trimmed):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        made.append(some(0, 12))
        fill(made, 15, 4)
        if trimmed:
            receipted(made, trimmed)
            made.trim("his", ledger="ledger-1", received_before_us=FAR)
        before, known = {name: stored(made, name) for name in STREAMS}, segments(made)
    with closing(apsw.Connection(str(in_memory / "outbox.db"))) as raw:
        raw.execute(STEP_BACK)
    with closing(outbox(in_memory, streams=STREAMS)) as made:  # verifies the heads too
        assert segments(made) == known
        assert {name: stored(made, name) for name in STREAMS} == before
        assert [record.state is BodyState.TRIMMED for record in stored(made)][: trimmed + 1] == [True] * trimmed + [
            False
        ]
        assert not list(made._connection.execute("SELECT * FROM sqlite_schema WHERE name = 'header_position'"))
        fill(made, 5, 5)
        made.verify_heads()
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        assert {name: stored(made, name)[: len(before[name])] for name in STREAMS} == before


@pytest.mark.parametrize(
    ("back", "missing", "made_by_it"),
    [
        (STEP_BACK, "header_position", "segment"),
        (STEP_BACK_8, "parked_by_name", "parked_digest"),
    ],
)
def test_a_step_forward_that_fails_at_its_end_has_changed_nothing_and_is_made_at_the_next_start(
    in_memory, back, missing, made_by_it
):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 5, 6)
        before = {name: stored(made, name) for name in STREAMS}
    path = in_memory / "outbox.db"
    with closing(apsw.Connection(str(path))) as raw:
        raw.execute(back)
        (index,) = raw.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (missing,)).fetchone()
        raw.execute(f"DROP INDEX {missing}")
    with pytest.raises(LogBroken):
        outbox(in_memory, streams=STREAMS)
    with closing(apsw.Connection(str(path))) as raw:
        assert not raw.execute("SELECT * FROM sqlite_schema WHERE name = ?", (made_by_it,)).fetchall()
        raw.execute(index)
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        assert {name: stored(made, name) for name in STREAMS} == before


def test_an_outbox_of_before_segments_whose_index_is_broken_is_refused_and_repaired_without_loss(in_memory):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 15, 6)
        before = {name: stored(made, name) for name in STREAMS}
    path = in_memory / "outbox.db"
    with closing(apsw.Connection(str(path))) as raw:
        raw.execute(STEP_BACK)
        (page,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'header_position'").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(Random(7).randbytes(PAGE_BYTES))
    with pytest.raises(LogBroken):
        outbox(in_memory, streams=STREAMS)
    (in_memory / "new").mkdir()
    assert [log.holes for log in salvage(path, in_memory / "new" / "outbox.db", signer=LOG_SIGNER)] == [()] * len(
        STREAMS
    )
    with closing(outbox(in_memory / "new", streams=STREAMS)) as made:
        assert {name: stored(made, name) for name in STREAMS} == before


def stored_without_segments(made, groups) -> None:
    """As a release of before segments stores groups, which knows nothing of the table."""
    known = segments(made)
    for group in groups:
        made.append(group)
    made._connection.execute("DELETE FROM segment")
    made._connection.executemany("INSERT INTO segment VALUES (?, ?, ?)", known)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_release_of_before_segments_stored_in_between_is_refused_and_repaired_without_loss(in_memory, seed):
    dice = Random(seed)
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 1 + seed, seed)
        more = [some(5000 + 10 * n, dice.randrange(1, 5), stream=name) for n, name in enumerate((*STREAMS, STREAMS[0]))]
        stored_without_segments(made, more)
        rows = places(made)
        runs = {name: head.run for name, head in made.heads.items()}
    with pytest.raises(LogBroken):  # as where the disk has lost a segment: nothing tells one from the other
        outbox(in_memory, streams=STREAMS)
    (in_memory / "new").mkdir()
    salvage(in_memory / "outbox.db", in_memory / "new" / "outbox.db", signer=LOG_SIGNER)
    with closing(outbox(in_memory / "new", streams=STREAMS)) as made:
        assert {name: len(stored(made, name)) for name in STREAMS} == {
            name: sum(run == row[0] for row in rows) for name, run in runs.items()
        }
        fill(made, 2, 9)
        made.verify_heads()


def test_a_row_that_a_flipped_bit_gave_the_place_of_another_is_not_read_for_it(in_memory):
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        fill(made, 10, 2)
        run = made.heads["his"].run
        whole = read(made, run, 0, 1000)
        made._connection.execute("UPDATE header SET seq = 3 WHERE log = ? AND seq = 2", (run,))
        assert read(made, run, 0, 1000) == [each for each in whole if each[0] != 2]
