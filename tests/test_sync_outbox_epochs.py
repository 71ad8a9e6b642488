"""A further epoch in the outbox: no row moves, no record is lost or told twice, and every window verifies by itself."""

from contextlib import closing
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.agreement import Told, Window, find_common
from sync.errors import BadOpening, LogBroken
from sync.log import TILE_LEAVES, Frontier
from sync.names import EPOCH_OPENED_MAX, Origin
from sync.opening import End, open_opening, read_opening
from sync.outbox import Outbox
from sync.outbox_salvage import salvage
from sync.outbox_view import OutboxView
from tests.outbox_rig import LEDGER, VERIFIER, bodies, outbox, receipted, some
from tests.sim_realm import LOG_SIGNER, NODE, STREAM, draft

TAG_2 = "22222222"


def opened(made: Outbox, place: int, epoch: int = 2, theirs: End | None = None):
    return made.open_epoch(STREAM, epoch=epoch, tag=TAG_2, place=place, theirs=theirs)


def seen(made: Outbox) -> list[bytes]:
    found: list[bytes] = []
    for head in made.logs(STREAM):
        found += [record.body for record in head.table(made._connection).records(0, head.frontier.size)]
    return found


@pytest.mark.parametrize("place", [0, 1, 7, 10])
def test_records_from_the_place_on_are_the_first_of_the_new_epoch_and_none_moves(tmp_path, place):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        before, rows = seen(made), list(made._connection.execute("SELECT * FROM header"))
        opened(made, place)
        assert list(made._connection.execute("SELECT * FROM header")) == rows
        assert seen(made) == before
        assert [head.frontier.size for head in made.logs(STREAM)] == [place, 10 - place]
        assert made.append([draft(99)])[0][1:3] == (2, 10 - place)
    with closing(outbox(tmp_path)) as again:
        assert len(seen(again)) == 11
        assert bodies(again) == seen(again)[place:]


def test_each_window_is_a_tree_of_its_own_over_tile_borders(tmp_path):
    with closing(outbox(tmp_path)) as made:
        for first in range(0, 2600, 200):
            made.append(some(first, 200))
        opened(made, TILE_LEAVES + 3)
        for head in made.logs(STREAM):
            table = head.table(made._connection)
            assert table.frontier(head.frontier.size) == head.frontier
            assert head.frontier == Frontier().append(table.leaves(0, head.frontier.size))
        made.append(some(3000, 900))
        made.verify_heads()


def test_statement_names_both_ends_the_common_size_and_the_hole_under_the_log_keys_signature(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        newest = made.heads[STREAM]
        theirs = End(newest.origin, 17, b"r" * 32)
        statement = opened(made, 6, theirs=theirs)[-1].opening
        found = open_opening(statement, VERIFIER)
        assert (found.opened, found.theirs, found.carried) == (Origin(NODE, STREAM, 2, TAG_2), theirs, 4)
        assert (found.own.size, found.own.root) == (10, newest.frontier.root)
        assert (found.common.size, found.hole) == (6, (6, 17))


def test_every_changed_byte_of_a_statement_is_noticed(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 3))
        statement = opened(made, 1)[-1].opening
    for at in range(len(statement)):
        changed = statement[:at] + bytes([statement[at] ^ 1]) + statement[at + 1 :]
        with pytest.raises(Exception, match=r".") as error:
            open_opening(changed, VERIFIER)
        assert type(error.value).__name__ in {"BadOpening", "BadSignature"}


@pytest.mark.parametrize("text", [b"", b"x\n\n\xe2\x80\x94 a b\n", b"wasl-opening/1\n\n\xe2\x80\x94 n AAAAAAA=\n"])
def test_what_is_no_statement_is_refused(text):
    with pytest.raises(BadOpening):
        read_opening(text)


def test_epoch_that_is_not_later_or_begins_nowhere_is_refused_and_changes_nothing(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 5))
        before = made.logs(STREAM)
        for epoch, place in ((1, 2), (2, 6), (2, -1)):
            with pytest.raises(LogBroken):
                opened(made, place, epoch)
        assert made.logs(STREAM) == before


def test_a_number_near_the_last_one_is_refused_so_that_another_epoch_can_always_follow(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        for epoch in (2**31, 2**31 - 1, EPOCH_OPENED_MAX + 1):
            with pytest.raises(LogBroken):
                opened(made, 4, epoch=epoch)
        opened(made, 4, epoch=EPOCH_OPENED_MAX)
    with closing(outbox(tmp_path)) as again:
        again.verify_heads()
        assert again.heads[STREAM].origin.epoch == EPOCH_OPENED_MAX


@pytest.mark.parametrize(
    "lost", ["UPDATE body SET body = x'00' WHERE id = 8", "UPDATE header SET header = NULL WHERE id = 8"]
)
def test_what_a_repair_has_named_as_lost_and_a_further_epoch_carries_stops_no_start(tmp_path, lost):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        made._connection.execute(lost)
    (tmp_path / "new").mkdir()
    (log,) = salvage(tmp_path / "outbox.db", tmp_path / "new" / "outbox.db", signer=LOG_SIGNER)
    assert [(hole.first, hole.last) for hole in log.holes] == [(7, 7)]
    with closing(outbox(tmp_path / "new")) as made:
        opened(made, 6)
    with closing(outbox(tmp_path / "new")) as again:  # verifies the heads
        assert again.append([draft(99)])[0][1:3] == (2, 4)
        again.verify_heads()
        again._connection.execute(
            "UPDATE body SET body = x'00' WHERE id = (SELECT max(id) FROM body)"
        )  # its last group is looked at as ever
        with pytest.raises(LogBroken):
            again.verify_heads()


def test_receipts_trimming_and_repeats_go_on_in_every_window(tmp_path):
    with closing(outbox(tmp_path)) as made:
        drafts = [draft(n, repeat_key=b"k%d" % n) for n in range(10)]
        made.append(drafts)
        opened(made, 6)
        receipted(made, 4)
        assert made.append([drafts[8]])[0] == (STREAM, 2, 2, True)
        assert made.append([drafts[3]])[0] == (STREAM, 1, 3, True)
        trimmed = [made.trim(STREAM, ledger=LEDGER, received_before_us=2**60) for _ in range(3)]
        assert trimmed == [6, 4, 0]
        assert states(made) == ["trimmed"] * 10


def states(made: Outbox) -> list[str]:
    return [
        record.state.word
        for head in made.logs(STREAM)
        for record in head.table(made._connection).records(0, head.frontier.size)
    ]


def test_what_a_statement_calls_common_is_trimmed_only_once_the_epoch_it_opened_is_receipted_by_that_ledger(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        receipted(made, 2)
        opened(made, 6)

        def trim(ledger: str = LEDGER) -> int:
            return made.trim(STREAM, ledger=ledger, received_before_us=2**60)

        assert (trim(), trim()) == (2, 0)  # the statement alone says what this node believes
        receipted(made, 1, ledger="another")
        assert trim() == 0
        receipted(made, 1)
        assert [trim() for _ in range(3)] == [4, 1, 0]
        assert states(made) == ["trimmed"] * 7 + ["present"] * 3


@pytest.mark.parametrize(("place", "trimmed"), [(8, [6, 2, 1, 0]), (6, [6, 1, 0])])
def test_a_statement_covers_the_log_it_names_and_those_whose_statements_that_one_needed(tmp_path, place, trimmed):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        opened(made, 6)
        opened(made, place, 3)
        made.open_epoch(STREAM, epoch=4, tag=TAG_2, place=place, own=place, theirs=None)
        receipted(made, 1)
        assert [made.trim(STREAM, ledger=LEDGER, received_before_us=2**60) for _ in trimmed] == trimmed


def test_view_shows_what_waits_of_all_windows(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 10))
        opened(made, 6, theirs=End(made.heads[STREAM].origin, 8, b"r" * 32))
        view = OutboxView(tmp_path / "outbox.db", NODE)
        assert [(each.origin.epoch, each.size, each.waiting) for each in view.streams()] == [(1, 6, 0), (2, 4, 4)]
        opened(made, 10, 3)  # without a link: nobody knows what the gateway holds
        assert [(each.origin.epoch, each.size, each.waiting) for each in view.streams()] == [
            (1, 6, 0),
            (2, 4, 4),
            (3, 0, 0),
        ]
        assert (
            view.run_root(made.heads[STREAM].run, 3, 5)
            == Frontier().append(made.logs(STREAM)[0].table(made._connection).leaves(3, 5)).root
        )
        view.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=6), st.integers(0, 2**32))
def test_any_sequence_of_growth_and_epochs_keeps_every_record_in_its_place(tmp_path_factory, steps, seed):
    folder, dice = tmp_path_factory.mktemp("epochs"), Random(seed)
    with closing(outbox(folder)) as made:
        count = 0
        for epoch, (more, back) in enumerate(steps, 2):
            if more:
                made.append(some(count, more))
                count += more
            opened(made, max(0, count - back), epoch)
        expected = [draft(n).body for n in range(count)]
        assert seen(made) == expected
        made.verify_heads()
        place = dice.randrange(count + 1)
        windows = [Window(head.origin.epoch, head.origin.tag, head.start, head.end) for head in made.logs(STREAM)]
        search = find_common(lambda _start, _size: b"", windows, end=count, theirs=1)
        with pytest.raises(StopIteration):
            next(search)
            while True:
                search.send(Told("", 0, b""))
        opened(made, place, 100)
        assert seen(made) == expected
        assert bodies(made) == expected[place:]
    with closing(outbox(folder)) as again:
        assert seen(again) == expected
    assert LOG_SIGNER.name == NODE
