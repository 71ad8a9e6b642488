"""A bad page of the table `segment`, which says where records lie: a start refuses or reads every record, and nothing that is stored is lost by it."""

from contextlib import closing
from random import Random

import apsw
import pytest

from sync.errors import LogBroken
from sync.outbox_salvage import salvage
from sync.record import BodyState
from sync.transaction import PAGE_BYTES
from tests.outbox_rig import outbox, stored
from tests.sim_destinations import pages_of, used
from tests.sim_realm import LOG_SIGNER, draft

STREAMS = ("his", "lab", "adt")
EMPTY_LEAF = bytes([10, 0, 0, 0, 0, 0x10, 0, 0])  # of an index: a page that SQLite reads well, without a row
TURNS = 15
FLIPS = 400


@pytest.fixture
def box(in_memory):
    """A closed outbox whose streams took turns: its bytes, its records by stream, and the page of its segments."""
    dice = Random(5)
    with closing(outbox(in_memory, streams=STREAMS)) as made:
        for turn in range(TURNS):
            made.append([draft(turn * 100 + n, stream=dice.choice(STREAMS)) for n in range(dice.randrange(1, 9))])
        records = {name: stored(made, name) for name in STREAMS}
    path = in_memory / "outbox.db"
    with closing(apsw.Connection(str(path))) as raw:
        assert raw.execute("SELECT count(*) FROM segment").get > TURNS
        (page,) = pages_of(raw, "segment")
    return path, path.read_bytes(), records, page


def laid(path, image: bytes):
    """The outbox with these bytes."""
    for file in path.parent.glob("outbox.db*"):
        file.unlink()
    path.write_bytes(image)


def start(path):
    """The records that a start reads, by stream; None where it refuses."""
    try:
        with closing(outbox(path.parent, streams=STREAMS)) as made:
            return {name: stored(made, name) for name in STREAMS}
    except LogBroken:
        return None


@pytest.mark.parametrize(
    "page", [bytes(PAGE_BYTES), b"\xff" * PAGE_BYTES, Random(7).randbytes(PAGE_BYTES), EMPTY_LEAF.ljust(PAGE_BYTES, b"\0")],
    ids=["zeros", "ones", "noise", "no rows"],
)  # fmt: skip
def test_a_start_with_a_bad_page_of_segments_refuses_or_reads_every_record_and_a_repair_brings_all_back(box, page):
    path, image, records, number = box
    at = (number - 1) * PAGE_BYTES
    laid(path, image[:at] + page + image[at + PAGE_BYTES :])
    if (found := start(path)) is not None:
        assert found == records
        return
    (path.parent / "new").mkdir()
    assert [log.holes for log in salvage(path, path.parent / "new" / "outbox.db", signer=LOG_SIGNER)] == [()] * 3
    assert start(path.parent / "new" / "outbox.db") == records


def test_no_flipped_bit_in_the_page_of_segments_gives_a_record_the_place_of_another(box):
    path, image, records, number = box
    dice, places = Random(11), used(image, number)
    refused = 0
    for _ in range(FLIPS):
        at, bit = dice.choice(places), dice.randrange(8)
        laid(path, image[:at] + bytes([image[at] ^ 1 << bit]) + image[at + 1 :])
        found = start(path)
        refused += found is None
        for name, true in records.items():
            for record in (found or {}).get(name, ()):
                assert record == true[record.seq] or record.state is BodyState.LEAF_ONLY, (at, bit)
    assert 0 < refused < FLIPS
