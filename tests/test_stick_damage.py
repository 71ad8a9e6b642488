"""A disk that gives back something else than was written, and a stick: nothing that was not signed before is signed for it, and what is missing is named."""

from contextlib import closing

import apsw
import pytest
from click.testing import CliRunner

from node.cli.main import main as node_main
from node.stick.export import check_left
from node.stick.words import written_lines
from sync.errors import LogBroken
from sync.log import TILE_LEAVES
from sync.record import BodyState
from tests.gateway_rig import Realm, message
from tests.node_rig import message as hl7
from tests.node_rig import running as node_running
from tests.stick_rig import Site
from tests.test_node_damage import overwrite_page

OTHER_LEAF = "UPDATE header SET leaf = zeroblob(32) WHERE id ="
OTHER_HEADER = "UPDATE header SET header = x'a0' WHERE id ="
OTHER_BODY = "UPDATE body SET body = x'00' WHERE id ="
GONE = "DELETE FROM header WHERE id ="
BLOB_OF_32 = b"\x4c"  # in the head of a row: 12 + 2 * 32; the next higher is a text


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path / "site")
    made.node.add([message(n) for n in range(20)])
    made.node.add([message(n) for n in range(5)], stream="lab")
    yield made
    made.close()


def spoil(site, seq, *statements):
    """Change what is stored of a record of `his`."""
    of_seq = "(SELECT header.id FROM header JOIN log ON log.id = header.log WHERE stream = 'his' AND seq = ?)"
    with closing(apsw.Connection(str(site.rig.store))) as store:
        for statement in statements:
            store.execute(f"{statement} {of_seq}", (seq,))
            assert store.changes() == 1


def states(site):
    return [record.state.word for record in site.ledger()]


def test_a_record_whose_leaf_was_changed_is_carried_whole_under_the_leaf_that_was_signed(site):
    true = site.own()
    spoil(site, 3, OTHER_LEAF)
    written = site.export()
    assert (written.records, written.damaged, written.stopped) == (25, {}, {})
    assert site.bring()[0].refused == {}
    assert site.bodies() == true


@pytest.mark.parametrize(("what", "held"), [(OTHER_HEADER, BodyState.LEAF_ONLY), (OTHER_BODY, BodyState.DAMAGED)])
def test_what_travels_damaged_is_named_and_the_rest_is_carried_whole(site, what, held):
    true = site.own()
    spoil(site, 3, what)
    written = site.export()
    assert written.damaged == {site.node.origin(): [3]}
    assert next(line for line in written_lines(written) if "SYN-30" in line).startswith("DAMAGED [SYN-30]: his: 3:")
    check_left(written)
    assert site.bring()[0].refused == {}
    assert site.ledger()[3].state is held
    assert site.bodies() == [b"" if n == 3 else body for n, body in enumerate(true)]


@pytest.mark.parametrize("what", [(OTHER_LEAF, OTHER_HEADER), (GONE,)])
def test_a_leaf_that_nothing_proves_is_not_signed_the_tiles_before_it_and_other_streams_are_carried_and_it_is_told(
    site, what
):
    site.node.add([message(n) for n in range(20, TILE_LEAVES + 200)])
    true = site.own()
    spoil(site, TILE_LEAVES + 3, *what)
    done = CliRunner().invoke(node_main, ["export", "--config", str(site.rig.config()), str(site.stick)])
    assert done.exit_code == 1
    assert "NOT WHOLE [SYN-06]: his goes no further: from record 1024 on" in done.output
    assert site.bring()[0].refused == {}
    assert site.bodies() == true[:TILE_LEAVES]
    assert site.same("lab")
    # what came home is stored when the outbox is whole again; until then its answers say where the next export begins
    done = CliRunner().invoke(node_main, ["export", "--config", str(site.rig.config()), str(site.stick)])
    assert (done.exit_code, site.receipted()) == (1, {"his": 0, "lab": 0})
    assert "receipts NOT TAKEN [SYN-06]" in done.output
    assert "0 records in 0 batches are on the stick" in done.output


def test_a_later_epoch_waits_for_the_one_that_goes_no_further(site):
    site.open_epoch()
    site.add("later")
    spoil(site, 3, OTHER_LEAF, OTHER_HEADER)
    assert list(site.export().stopped) == ["his"]
    assert {each.stream for each in site.manifest().batches} == {"lab"}
    site.bring()
    assert site.bodies() == []


def test_what_is_whole_on_the_stick_stays_there_when_the_disk_loses_it(site):
    true = site.own()
    site.export()
    spoil(site, 3, OTHER_LEAF, OTHER_HEADER)
    site.node.add([message(99)])
    written = site.export()
    assert (list(written.stopped), written.records) == (["his"], 25)
    assert site.bring()[0].refused == {}
    assert site.bodies() == true


def test_where_the_log_before_an_export_is_not_what_was_signed_nothing_is_signed_after_it(site):
    site.node.add([message(n) for n in range(20, TILE_LEAVES + 200)])
    site.round()
    site.node.add([message(n) for n in range(2 * TILE_LEAVES)])
    with closing(apsw.Connection(str(site.rig.store))) as store:
        store.execute("UPDATE tile SET root = zeroblob(32) WHERE tile = 0")
    written = site.export()
    assert (written.records, list(written.stopped)) == (0, ["his"])


def other_type(site, seq):
    """Flip the bit that makes a leaf of `his` a text."""
    with closing(apsw.Connection(str(site.rig.store))) as store:
        statement = "SELECT header FROM header JOIN log ON log.id = header.log WHERE stream = 'his' AND seq = ?"
        header = store.execute(statement, (seq,)).get
    data = bytearray(site.rig.store.read_bytes())
    at = data.index(header)
    data[data.rindex(BLOB_OF_32, at - 12, at)] ^= 1
    site.rig.store.write_bytes(data)


@pytest.mark.parametrize("what", ["a page", "a type"])
def test_a_core_starts_and_takes_messages_though_a_sticks_answers_cannot_be_compared_with_what_is_left(site, what):
    site.node.add([message(n) for n in range(20, 400)])
    site.round()
    site.node.add([message(n) for n in range(400, TILE_LEAVES + 200)])
    site.node.close()
    if what == "a page":
        overwrite_page(site.rig, "header", 0.2)  # of `his` alone, and within what came home
    else:
        other_type(site, 100)
    with node_running(site.rig) as core:
        assert core.send(hl7("NEW"))[0].code == "AA"
        assert core.log("stick.answer_not_compared")
    with pytest.raises(LogBroken):
        site.take()
    site.reopen()
