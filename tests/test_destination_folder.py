"""A destination that is a folder: whole files under safe names in their order, a bounded number of them, and nothing that a kill leaves half written."""

import os
import random
import threading
import time

import pytest

from node.config.destinations import FolderOut
from node.destinations import folder as room
from node.destinations.folder import FolderSink, name_of
from node.destinations.plug import ER7, FHIR_JSON, End, Outgoing
from tests.destination_rig import EAGER, destination, serve
from tests.node_rig import Node, Realm, message, running, wait_until


def sink(path, **keys) -> FolderSink:
    return FolderSink(
        FolderOut.model_validate({"name": "out", "kind": "folder", "path": path, "streams": ("his",), **keys})
    )


def outgoing(n: int, control_id: str | None = None, **more) -> Outgoing:
    said = f"A-{n}" if control_id is None else control_id
    return Outgoing("clinic-7", "his", n, 0, 1, n, ER7, "ADT^A01", said, message(f"A-{n}"))._replace(**more)


def table(path, more: str = "") -> str:
    return f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{path}"\nstreams = ["his"]\n{more}\n'


def taken(path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted(path.iterdir())}


def test_a_file_is_the_message_s_bytes_and_names_sort_in_the_stream_s_order(tmp_path):
    client = sink(tmp_path)
    for n in (2, 10, 9):
        assert client.deliver(outgoing(n)).end is End.TAKEN
    assert list(taken(tmp_path).values()) == [message("A-2"), message("A-9"), message("A-10")]


@pytest.mark.parametrize(
    "said", ["../../etc/passwd", "a/b", "..", "", "x" * 500, "A\x00B", "مريض", "CON", "-rf", ".hidden", "a b;c|d"]
)
def test_a_control_id_never_leaves_the_folder_nor_hides_the_file(tmp_path, said):
    assert sink(tmp_path).deliver(outgoing(1, said)).end is End.TAKEN
    (name,) = taken(tmp_path)
    assert name.startswith("his-000000000001-0000-")
    assert name.isascii()
    assert len(name) < 128


def test_other_forms_have_their_own_suffix():
    assert name_of(outgoing(1, content_type=FHIR_JSON)).endswith(".json")
    assert name_of(outgoing(1, content_type="text/odd")).endswith(".bin")


def test_the_same_message_again_is_the_same_file(tmp_path):
    client = sink(tmp_path)
    assert [client.deliver(outgoing(1)).end for _ in range(3)] == [End.TAKEN] * 3
    assert len(taken(tmp_path)) == 1


def test_a_full_folder_takes_no_more_until_somebody_takes_files_away(tmp_path):
    client = sink(tmp_path, files_max=3)
    ends = [client.deliver(outgoing(n)).end for n in range(5)]
    assert ends == [End.TAKEN] * 3 + [End.BROKEN] * 2
    next(tmp_path.iterdir()).unlink()
    assert client.deliver(outgoing(3)).end is End.TAKEN
    outcome = client.deliver(outgoing(4))
    assert (outcome.end, outcome.code) == (End.BROKEN, "DST-16")


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    assert sink(tmp_path / "mount").deliver(outgoing(1)).code == "DST-16"
    assert not (tmp_path / "mount").exists()


def test_what_a_killed_node_left_unfinished_is_removed_and_others_files_are_not(tmp_path):
    (tmp_path / ".wasl-out.his-1").write_bytes(b"half")
    (tmp_path / ".wasl-out-2.his-1").write_bytes(b"another destination's")
    (tmp_path / "theirs").write_bytes(b"x")
    sink(tmp_path).deliver(outgoing(1))
    assert sorted(taken(tmp_path)) == [".wasl-out-2.his-1", "his-000000000001-0000-A-1.hl7", "theirs"]


def test_a_file_has_its_whole_name_only_after_its_bytes_are_on_the_disk(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        room.os, "fsync", lambda _: seen.append(("fsync", sorted(each.name for each in tmp_path.iterdir())))
    )
    monkeypatch.setattr(
        room, "sync_file", lambda path: seen.append(("folder", sorted(each.name for each in path.iterdir())))
    )
    sink(tmp_path).deliver(outgoing(1))
    name = "his-000000000001-0000-A-1.hl7"
    assert seen == [("fsync", [f".wasl-out.{name}"]), ("folder", [name])]


def test_a_disk_that_fails_is_no_verdict_on_the_message(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(room.os, "fsync", fail)
    assert sink(tmp_path).deliver(outgoing(1)).end is End.BROKEN


def test_a_node_killed_at_any_moment_hands_over_every_message_once_as_a_whole_file(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    out, got, done = tmp_path / "out", {}, threading.Event()
    out.mkdir()

    def take() -> None:  # a system that takes files away as soon as it sees them
        while not done.is_set() or any(not each.name.startswith(".") for each in os.scandir(out)):
            for each in sorted(out.iterdir()):
                if not each.name.startswith("."):
                    got.setdefault(each.name, []).append(each.read_bytes())
                    each.unlink()
            time.sleep(0.001)

    taker = threading.Thread(target=take)
    taker.start()
    node = serve(Node(Realm.make(tmp_path / "realm"), tmp_path / "n"), table(out))
    sent = []
    try:
        node.start(before=EAGER)
        for at in range(5):
            raws = [message(f"A-{at}-{n}") for n in range(15)]
            sent += raws
            node.send(*raws)
            time.sleep(dice.random() * 0.05)
            node.restart(before=EAGER)
        wait_until("all", lambda: len(got) >= len(sent))
    finally:
        node.kill()
        done.set()
        taker.join()
    assert [got[name][0] for name in sorted(got)] == sent
    assert all(set(bodies) == {bodies[0]} for bodies in got.values())


def test_what_is_no_hl7_is_written_all_the_same(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with running(serve(Node(Realm.make(tmp_path / "realm"), tmp_path / "n"), table(out)), before=EAGER) as node:
        node.send(b"HELLO", message("A-1"))
        wait_until("both", lambda: len([name for name in taken(out) if name[0] != "."]) == 2)
        assert list(taken(out).values()) == [b"HELLO", message("A-1")]
        wait_until("up", lambda: destination(node, "out")["state"] == "up")
