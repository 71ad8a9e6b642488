"""A disk that gives back something else than was written: what is found at the start, what later, and that one bad place stays one bad place."""

import random
import shutil

import apsw
import pytest

from sync.log import TILE_LEAVES
from tests.node_rig import EAGER, Feed, Node, message, running, wait_until
from tests.sim_gateway import sim_gateway

PAGE_BYTES = 4096
RECORDS = TILE_LEAVES + 300  # the first tile is read at the start by its root alone


@pytest.fixture(scope="module")
def full(realm, tmp_path_factory):
    """The folder of a node that was stopped after many messages, and their bodies."""
    node = Node(realm, tmp_path_factory.mktemp("full"), feeds=[Feed("his"), Feed("lab")])
    raws = [message(f"D-{n}", name="هدى", more="ZZZ|" + "x" * 900 + "\r") for n in range(RECORDS)]
    with running(node):
        node.send(*raws)
        node.send(message("D-LAB"), feed="lab")
        assert node.stop() == 0
    return node.data, raws


@pytest.fixture
def node(realm, full, tmp_path):
    """A copy of that node, to be damaged."""
    made = Node(realm, tmp_path, feeds=[Feed("his"), Feed("lab")])
    shutil.copytree(full[0], made.data, ignore=shutil.ignore_patterns("core.*"))
    yield made
    made.kill()


def change(node, statement, *values):
    connection = apsw.Connection(str(node.store))
    connection.execute(statement, values)
    assert connection.changes() == 1
    connection.close()


def overwrite_page(node, table, part):
    """Fill one page of a table with dice: the one at this part of its pages."""
    connection = apsw.Connection(str(node.store))
    pages = [row[0] for row in connection.execute("SELECT pageno FROM dbstat WHERE name = ? ORDER BY path", (table,))]
    connection.close()
    with node.store.open("r+b") as file:
        file.seek((pages[int(len(pages) * part)] - 1) * PAGE_BYTES)
        file.write(random.Random(7).randbytes(PAGE_BYTES))


OF_SEQ = "(SELECT header.id FROM header JOIN log ON log.id = header.log WHERE stream = 'his' AND seq = ?)"
AT_START = {
    "the head's size": ("UPDATE log SET size = size - 1 WHERE stream = 'his'", ()),
    "the head's peaks": ("UPDATE log SET peaks = zeroblob(length(peaks)) WHERE stream = 'his'", ()),
    "the checkpoint": ("UPDATE log SET checkpoint = CAST(replace(CAST(checkpoint AS TEXT), 'his', 'hit') AS BLOB) WHERE stream = 'his'", ()),
    "the tag": ("UPDATE log SET tag = 'deadbeef' WHERE stream = 'his'", ()),
    "the newest leaf": (f"UPDATE header SET leaf = zeroblob(32) WHERE id = {OF_SEQ}", (RECORDS - 1,)),
    "the newest header": (f"UPDATE header SET header = x'a0' WHERE id = {OF_SEQ}", (RECORDS - 1,)),
    "the newest body": (f"UPDATE body SET body = x'00' WHERE id = {OF_SEQ}", (RECORDS - 1,)),
    "the newest body gone": (f"DELETE FROM body WHERE id = {OF_SEQ}", (RECORDS - 1,)),
    "the newest record gone": (f"DELETE FROM header WHERE id = {OF_SEQ}", (RECORDS - 1,)),
    "an old leaf": (f"UPDATE header SET leaf = zeroblob(32) WHERE id = {OF_SEQ}", (TILE_LEAVES + 5,)),
    "an old record gone": (f"DELETE FROM header WHERE id = {OF_SEQ}", (TILE_LEAVES + 5,)),
    "a tile": ("UPDATE tile SET root = zeroblob(32) WHERE tile = ?", (0,)),
}  # fmt: skip


@pytest.mark.parametrize("what", AT_START)
def test_a_start_notices_what_no_longer_fits_the_head_and_takes_no_message(node, what):
    statement, values = AT_START[what]
    change(node, statement, *values)
    node.launch()
    assert node.ended() == 1
    (told,) = node.log("core.cannot_start")
    assert told["code"] == "SYN-06"


def test_a_file_that_is_no_outbox_is_refused_and_left_as_it_is(node):
    node.store.write_bytes(b"something else" * 4096)
    node.launch()
    assert node.ended() == 1
    assert node.log("core.cannot_start")[-1]["code"] == "SYN-06"
    assert node.store.read_bytes() == b"something else" * 4096


@pytest.mark.parametrize(
    "what", ["UPDATE body SET body = x'00' WHERE id =", "UPDATE header SET header = x'a0' WHERE id ="]
)
def test_an_old_record_that_no_longer_verifies_is_named_travels_as_damaged_and_stops_nothing(node, realm, full, what):
    change(node, f"{what} {OF_SEQ}", 17)
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: ("SYN-30", "his") in node.alarms())
            assert node.send(message("D-NEW"))[0].code == "AA"
            node.wait_receipted(size=RECORDS + 1)
            node.wait_receipted("lab", size=1)
            expected = [*full[1], message("D-NEW")]
            assert fake.bodies() == [b"" if n == 17 else raw for n, raw in enumerate(expected)]
            assert {row["seq"] for row in node.log("store.damaged")} == {17}


@pytest.mark.parametrize("table", ["body", "header"])
def test_one_page_that_cannot_be_read_stops_neither_start_nor_intake_nor_the_other_streams(node, realm, table):
    overwrite_page(node, table, 0.3)
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: ("SYN-30", "his") in node.alarms())
            assert node.send(message("D-NEW"))[0].code == "AA"
            assert node.send(message("D-LAB-2"), feed="lab")[0].code == "AA"
            node.wait_receipted("lab", size=2)
            assert fake.bodies("lab") == [message("D-LAB"), message("D-LAB-2")]
            assert node.process.poll() is None
            node.restart(before=EAGER)
            assert node.send(message("D-NEWER"))[0].code == "AA"


def test_a_log_key_that_is_not_the_one_that_signed_refuses_to_start(node, realm):
    keys = realm.folder / "new-keys"
    from node.tools.pki import issue_node

    issue_node(realm.folder / "ca", keys, node.name)
    node.keys = keys
    node.launch()
    assert node.ended() == 1
    assert node.log("core.cannot_start")[-1]["code"] == "SYN-15"
