"""A power cut at any moment: outbox and ledger, in every state that a disk could be left in."""

import random
import re
from contextlib import closing
from dataclasses import replace
from unittest.mock import patch

import pytest

from sync.outbox import Outbox
from sync.outbox_destinations import Destinations
from sync.outbox_frames import Frames
from tests import power_ledger, power_outbox, sim_power
from tests.power_lives import lay, watched
from tests.power_states import Platter, name_of, state, states
from tests.sim_disk import Op, disk
from tests.sim_power import Campaign, Lost
from tests.sim_realm import LOG_SIGNER, draft

STATES = 15_000  # half a minute of one core; `make sim` looks at a million
MET = (
    "acknowledged", "repeated", "refused", "group", "one", "large", "of several streams", "receipt", "trimmed", "boot", "admitted", "probe", "stream",
    "restart", "killed", "pin", "frames", "frames beside records", "of frames", "frames settled", "receipted", "rewind", "fork", "fenced", "started", "verified", "tiles", "checkpoints", "cut back", "deleted",
)  # fmt: skip
WHOLE = {"a": b"A" * 1024}


# -- outbox and ledger -------------------------------------------------------------------------------------------------
def test_power_cut_at_any_moment_leaves_all_that_was_answered_and_nothing_that_was_not(in_memory, capsys):
    seed = random.SystemRandom().randrange(2**32)
    campaign = Campaign(in_memory, seed, STATES)
    campaign.run()
    with capsys.disabled():
        print(f"\n{campaign.counts['states']} power cuts (seed {seed})")
    assert campaign.counts["states"] >= STATES


def test_lives_meet_all_that_an_outbox_and_a_ledger_can_meet(in_memory):
    # a fixed seed: whether a life of another seed is refused something is a matter of its dice
    campaign = Campaign(in_memory, 9, 300, lives_min=12, states_each=25)
    campaign.run()
    assert [what for what in MET if not campaign.counts[what]] == []


def in_two_transactions(self, groups, facts, beside):
    for group in groups:
        insert(self, [group], facts, beside)
        self._next_row += len(group.bodies)
    self._next_row -= sum(len(group.bodies) for group in groups)


def one_too_far(self, cursor, **more):
    move(self, replace(cursor, place=cursor.place + 1), **more)


def one_by_one(self, *, kept=(), dropped=(), facts=()):
    for frame in kept:
        write_frames(self, kept=[frame])
    write_frames(self, dropped=dropped, facts=facts)


def fact_later(self, groups, facts, beside):
    insert(self, groups, (), beside)
    with self.transaction():
        for name, value in facts:
            self.set_fact(name, value)


insert, move, write_frames = Outbox._insert, Destinations.move, Frames.write
FAULTS = {
    "frames of one acknowledgement in two transactions": ("sync.outbox_frames.Frames.write", one_by_one),
    "a record before the fact that settles its frames": ("sync.outbox.Outbox._insert", fact_later),
    "a position one too far": ("sync.outbox_destinations.Destinations.move", one_too_far),
    "synchronous NORMAL": ("sync.store.FULL", 1),
    "a group in two transactions": ("sync.outbox.Outbox._insert", in_two_transactions),
}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("outbox", "synchronous NORMAL"),
        ("ledger", "synchronous NORMAL"),
        ("outbox", "a group in two transactions"),
        ("outbox", "a position one too far"),
        ("outbox", "frames of one acknowledgement in two transactions"),
        ("outbox", "a record before the fact that settles its frames"),
    ],
)
def test_campaign_notices(in_memory, kind, fault):
    with patch(*FAULTS[fault]), pytest.raises(Lost, match=f"--replay {kind}:1-"):
        Campaign(in_memory, 1, 4000, kinds=(kind,)).run()


@pytest.mark.parametrize("kind", ["outbox", "ledger"])
def test_campaign_notices_a_disk_that_only_says_it_synced_and_the_state_can_be_looked_at_again(in_memory, kind):
    with pytest.raises(Lost) as found:
        Campaign(in_memory, 1, 4000, kinds=(kind,), lies=True).run()
    named = re.search(r"--replay (\S+)", str(found.value))[1]
    (in_memory / "again").mkdir()
    with pytest.raises(Lost):
        sim_power.replay(named, in_memory / "again", lies=True)
    (in_memory / "honest").mkdir()
    sim_power.replay(named.rpartition(":")[0] + ":", in_memory / "honest")


@pytest.mark.parametrize(("room", "name"), [(power_outbox, "outbox.db"), (power_ledger, "ledger.sqlite")])
def test_power_cut_at_any_moment_of_the_first_start_leaves_something_that_starts(in_memory, room, name):
    live, left = in_memory / "live", in_memory / "left"
    live.mkdir()
    with disk("first") as recorder, watched(recorder):
        recorder.tape = tape = []
        room.first_start(live, vfs=recorder.name)
        recorder.tape = None
    count = 0
    for count, found in enumerate(states(tape, {}, seed="first", count=1), 1):
        lay(found.files, left)
        room.first_start(left)
        if name == "outbox.db" and count % 4 == 0:
            with closing(Outbox(left / name, signer=LOG_SIGNER, random=random.randbytes)) as made:
                made.verify_heads()
                made.append([draft(1)])
    assert count > 150


# -- what a disk may leave ---------------------------------------------------------------------------------------------
def left(*ops, files=WHOLE):
    """The contents of `a` that a cut after the last of these may leave, and None where there is no such file."""
    platter, dice = Platter(files), random.Random(1)
    for op in ops:
        platter.play(op)
    return {bytes(found["a"]) if "a" in found else None for found in map(platter.files, platter.choices(dice, 200))}


def test_what_was_not_synced_may_be_there_in_any_part_and_what_was_is():
    x, y = Op("write", "a", 0, b"X"), Op("write", "a", 1, b"Y")
    rest = b"A" * 1022
    assert left(x, y) == {b"AA" + rest, b"XA" + rest, b"AY" + rest, b"XY" + rest}
    assert left(x, Op("sync", "a"), y) == {b"XA" + rest, b"XY" + rest}


def test_a_sync_of_one_file_says_nothing_of_another():
    found = left(Op("write", "a", 0, b"X"), Op("sync", "b"), files={**WHOLE, "b": b""})
    assert len(found) == 2


def test_a_write_over_sectors_is_torn_between_them_and_never_within_one():
    found = left(Op("write", "a", 100, b"X" * 900))
    torn = {(b"A" * 100 + one * 412, two * 488 + b"A" * 24) for one in (b"A", b"X") for two in (b"A", b"X")}
    assert found == {one + two for one, two in torn}


def test_a_truncation_that_was_not_synced_may_come_back():
    assert left(Op("truncate", "a", 1)) == {b"A", b"A" * 1024}


def test_a_name_is_there_for_good_only_when_its_folder_was_synced():
    made = (Op("create", "a"), Op("write", "a", 0, b"X"), Op("sync", "a"))
    assert left(*made, files={}) == {None, b"X"}
    assert left(*made, Op("folder", "live"), files={}) == {b"X"}
    assert left(Op("delete", "a")) == {None, b"A" * 1024}
    # a deleted file that came back is the old one, whatever was written under its name since
    assert left(Op("delete", "a"), *made) == {None, b"A" * 1024, b"X"}


def test_a_state_is_found_again_by_its_name():
    tape = [Op("write", "a", 0, b"X" * 700), Op("write", "a", 300, b"Y" * 700), Op("mark", "", 0, "told")]
    for found in states(tape, WHOLE, seed="1", count=9):
        again = state(tape, WHOLE, found.cut, found.choice)
        assert {name: bytes(data) for name, data in again.files.items()} == {
            name: bytes(data) for name, data in found.files.items()
        }
    assert name_of((255, 0, 1)) == "ff.0.1"
