"""A slice of the campaign of flipped bits under a destination, and that it would notice. `make sim` flips fifty thousand."""

import shutil
import tempfile
from pathlib import Path
from random import SystemRandom

import pytest
import structlog

from sync.outbox_destinations import Cursor
from tests.sim_destinations import Campaign, Violation

FLIPS, AIMED_FLIPS = 60, 400


@pytest.fixture
def made():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield lambda seed: Campaign(folder, seed)
    shutil.rmtree(folder)
    structlog.reset_defaults()


def test_of_sixty_flipped_bits_none_delivers_something_altered_or_moves_a_position_past_what_nobody_names(made):
    seed = SystemRandom().randrange(2**32)
    try:
        made(seed).run(FLIPS)
    except Violation as violation:
        pytest.fail(f"seed {seed}: {violation}")


BROKEN = {
    "a row that was changed is believed": (
        "sync.outbox_destinations._cursor",
        lambda row: Cursor(**dict(zip(("name", "run", "place", "part", "number"), row, strict=False))),
    ),
    "a position that is gone begins anew": ("sync.outbox_destinations._began", lambda _name, _run: "never"),
    "a parked row that was changed is believed": ("sync.outbox_parked.Parked.is_changed", False),
    "what was read is not verified": ("node.destinations.reading.damage", lambda _record: None),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_campaign_finds_it_when(made, monkeypatch, what):
    place, broken = BROKEN[what]
    campaign = made(1)
    monkeypatch.setattr(place, broken)
    with pytest.raises(Violation):
        campaign.run(AIMED_FLIPS * 4 if "verified" in what else AIMED_FLIPS, aimed=0.0 if "verified" in what else 1.0)
