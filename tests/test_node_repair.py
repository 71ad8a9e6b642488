"""`wasl repair` on a node's data folder: the node starts again, sends what is left, says what is not, and no interruption costs anything."""

import shutil

import apsw
import pytest
from click.testing import CliRunner

from node import repair as repair_module
from node.cli.main import main
from node.clock import SystemClock
from node.config.config import load
from node.repair import repair
from sync.control import Hole, decode, read_hole
from tests.node_rig import EAGER, Feed, Node, message, running
from tests.sim_gateway import sim_gateway

RAWS = [message(f"R-{n}", name="هدى تجريبية") for n in range(30)]
OF_SEQ = "(SELECT header.id FROM header JOIN log ON log.id = header.log WHERE stream = 'his' AND seq = ?)"


@pytest.fixture(scope="module")
def full(realm, tmp_path_factory):
    """The folder of a node that was stopped with messages that nobody has fetched."""
    node = Node(realm, tmp_path_factory.mktemp("full"), feeds=[Feed("his"), Feed("lab")])
    with running(node):
        node.send(*RAWS)
        node.send(message("R-LAB"), feed="lab")
        assert node.stop() == 0
    return node.data


@pytest.fixture
def node(realm, full, tmp_path):
    made = Node(realm, tmp_path, feeds=[Feed("his"), Feed("lab")])
    shutil.copytree(full, made.data, ignore=shutil.ignore_patterns("core.*", "ballast"))
    yield made
    made.kill()


def change(node, statement, *values):
    connection = apsw.Connection(str(node.store))
    connection.execute(statement, values)
    assert connection.changes() == 1
    connection.close()


def damage(node):
    """The newest body and an older header: a start refuses the one, the other would only be found later."""
    change(node, f"UPDATE body SET body = x'00' WHERE id = {OF_SEQ}", 29)
    change(node, f"UPDATE header SET header = x'a0' WHERE id = {OF_SEQ}", 7)


def run(node, *options):
    return CliRunner().invoke(main, ["repair", "--config", str(node.config()), *options])


def files(node):
    return {file.name: file.read_bytes() for file in node.data.iterdir() if file.is_file() and "lock" not in file.name}


def damaged_folders(node):
    return [folder for folder in node.data.iterdir() if folder.name.startswith("damaged-")]


LOSSES = [
    Hole(stream="his", epoch=1, first=7, last=7, lost="header", why="changed"),
    Hole(stream="his", epoch=1, first=29, last=29, lost="body", why="changed"),
]


def test_a_node_that_refused_to_start_starts_after_a_repair_sends_what_is_left_and_names_what_is_not(node, realm):
    damage(node)
    before = files(node)
    node.launch()
    assert node.ended() == 1
    told = run(node)
    assert told.exit_code == 0, told.output
    assert "7..7: header lost (changed)" in told.output
    assert "29..29: body lost (changed)" in told.output
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            assert node.send(message("R-NEW"))[0].code == "AA"
            node.wait_receipted(size=33)
            node.wait_receipted("lab", size=1)
            assert node.alarms() == set()
        bodies = [b"" if n in {7, 29} else raw for n, raw in enumerate(RAWS)]
        assert fake.bodies()[:30] == bodies
        assert fake.bodies()[32] == message("R-NEW")
        assert fake.bodies("lab") == [message("R-LAB")]
        holes = [decode(seen.header, seen.body) for seen in node.records(first=30)[:2]]
        assert [(kind, read_hole(members)) for kind, members in holes] == [("hole", hole) for hole in LOSSES]
        assert fake.bodies()[30:32] == [seen.body for seen in node.records(first=30)[:2]]
    (kept,) = damaged_folders(node)
    assert (kept / "outbox.db").read_bytes() == before["outbox.db"]
    assert not (node.data / "repair").exists()


def test_a_dry_run_says_the_same_and_changes_nothing(node):
    damage(node)
    before = files(node)
    told = run(node, "--dry-run")
    assert told.exit_code == 0
    assert "29..29: body lost (changed)" in told.output
    assert files(node) == before
    assert damaged_folders(node) == []


def test_a_repair_beside_a_running_core_is_refused(node):
    with running(node):
        told = run(node)
        assert (told.exit_code, "NOD-06" in told.output) == (1, True)
        assert node.send(message("R-BESIDE"))[0].code == "AA"


def test_a_stream_that_needs_a_new_epoch_is_left_as_it_is(node):
    change(node, f"DELETE FROM header WHERE id = {OF_SEQ}", 7)
    before = files(node)
    told = run(node)
    assert (told.exit_code, "SYN-14" in told.output) == (1, True)
    assert files(node) == before
    assert damaged_folders(node) == []


def test_what_a_crash_left_in_the_wal_is_repaired_too(realm, tmp_path):
    node = Node(realm, tmp_path, feeds=[Feed("his")])
    with running(node):
        node.send(*RAWS)
        node.kill()
    assert (node.data / "outbox.db-wal").stat().st_size
    assert run(node).exit_code == 0
    assert not (node.data / "outbox.db-wal").exists()
    assert node.bodies() == RAWS
    with running(node):
        assert node.send(RAWS[0], message("R-NEW"))[0].code == "AA"  # a repeat is still known
        assert node.bodies() == [*RAWS, message("R-NEW")]


class Interrupted(Exception):
    """The power went."""


STEPS = ("mkdir", "link", "sync_file", "unlink", "replace", "rename")


def test_a_repair_interrupted_at_any_step_is_finished_by_the_next_and_until_then_no_core_starts(
    node, monkeypatch, tmp_path
):
    damage(node)
    config = load(node.config())
    good = tmp_path / "good"
    shutil.copytree(node.data, good)
    at = 0
    while True:
        at += 1
        shutil.rmtree(node.data)
        shutil.copytree(good, node.data)
        steps = []
        with monkeypatch.context() as patch:
            count_steps(patch, steps, at)
            try:
                repair(config, SystemClock(), dry_run=False)
            except Interrupted:
                pass
        ended = len(steps) < at
        if not ended and ((node.data / "damaged-unfinished").exists() or not node.store.exists()):
            node.launch()
            assert node.ended() == 1
            assert node.log("core.cannot_start")[-1]["code"] == "NOD-32"
        if (not ended and not damaged_folders(node)) or (node.data / "damaged-unfinished").exists():
            found = repair(config, SystemClock(), dry_run=False)
            assert [hole for log in found for hole in log.holes] == LOSSES
        assert node.stream().size == 32
        assert [folder.name for folder in damaged_folders(node) if "unfinished" in folder.name] == []
        if ended:
            break
    assert at > 10


def count_steps(patch, steps, fails_at):
    """Let the step of this number not happen, of all that puts the new outbox in place."""

    def counted(real):
        def step(*args, **options):
            if repairing:
                steps.append(real.__name__)
                if len(steps) == fails_at:
                    raise Interrupted
            return real(*args, **options)

        return step

    repairing = []
    real_place = repair_module._put_in_place

    def put_in_place(*args):
        repairing.append(True)
        real_place(*args)

    patch.setattr(repair_module, "_put_in_place", put_in_place)
    patch.setattr(repair_module.os, "link", counted(repair_module.os.link))
    patch.setattr(repair_module, "sync_file", counted(repair_module.sync_file))
    for name in ("mkdir", "unlink", "replace", "rename"):
        patch.setattr(repair_module.Path, name, counted(getattr(repair_module.Path, name)))
