"""Files that are dropped: taken when they are complete, stored byte for byte, moved, never twice."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from hl7.devices.files import facts_of
from node.feeds import folder_files
from node.tools import simulate_folder
from sync.header import FRAME_BYTES, FRAME_SHA256, decode_particulars
from sync.record import Kind, Verdict
from tests.folder_rig import CSV, FolderOf, Plug, control_id, file_name, refusal
from tests.node_rig import Node, message, running, wait_until


@pytest.fixture
def plug(tmp_path):
    return Plug(tmp_path)


# -- when it is taken --------------------------------------------------------------------------------------------------
def test_a_file_is_taken_byte_for_byte_once_it_rests(plug):
    plug.drop("results.csv")
    plug.look()
    assert plug.bodies == []
    plug.look(s=2.9)
    assert plug.bodies == []
    plug.look(s=0.2)
    assert plug.bodies == [CSV]
    assert plug.there() == []
    (new,) = plug.there("taken")
    assert new.endswith("-results.csv")
    assert (plug.path / "taken" / new).read_bytes() == CSV


def test_a_file_that_grows_is_waited_for(plug):
    path = plug.drop("slow.csv", b"a")
    for _ in range(5):
        plug.look(s=2.5)
        with path.open("ab") as file:
            file.write(b"b")
    assert plug.bodies == []
    plug.look(s=2.5)
    plug.look(s=3)
    assert plug.bodies == [b"abbbbb"]


def test_files_are_taken_in_the_order_of_their_times(plug):
    for name, at in (("b", 30), ("c", 10), ("a", 20)):
        os.utime(plug.drop(f"{name}.txt", name.encode()), (at, at))
    plug.take()
    assert plug.bodies == [b"c", b"a", b"b"]


@pytest.mark.parametrize("name", [".hidden.csv", "x.csv.part", "x.csv.filepart", "x.tmp", "x.csv~", "x.csv.crdownload"])
def test_what_a_program_has_not_named_finally_is_left_alone(plug, name):
    plug.drop(name)
    plug.take()
    assert plug.bodies == []
    assert plug.there() == [name]


def test_only_names_that_fit_are_taken_and_the_others_are_counted(tmp_path):
    plug = Plug(tmp_path, names=["*.csv", "result-*"])
    for name in ("a.csv", "result-1.dat", "b.CSV", "note.txt"):
        plug.drop(name, name.encode())
    plug.take()
    assert sorted(plug.bodies) == [b"a.csv", b"result-1.dat"]
    assert plug.feed.facts() == {"waiting": 0, "passed_over": 2}


def test_no_link_is_followed_and_nothing_but_a_file_is_opened(plug, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret.csv"
    secret.write_bytes(b"not yours")
    (plug.path / "link.csv").symlink_to(secret)
    os.mkfifo(plug.path / "pipe.csv")
    (plug.path / "folder.csv").mkdir()
    plug.take()
    assert plug.bodies == []
    assert secret.read_bytes() == b"not yours"
    assert plug.feed.facts()["passed_over"] == 3


def test_a_link_put_in_a_files_place_between_look_and_opening_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"not yours")
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "x.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        folder_files.read(tmp_path / "drop", "x.csv", 1000)


# -- never twice, never lost -------------------------------------------------------------------------------------------
def test_a_crash_between_commit_and_move_makes_no_second_record(plug, monkeypatch):
    plug.drop("results.csv")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("node.feeds.folder.move", killed)
        plug.take()
    assert plug.bodies == [CSV]
    again = Plug(plug.path)  # the next start knows nothing but what is on the disk
    again.writer = plug.writer
    again.feed._intake._writer = plug.writer
    again.take()
    assert plug.bodies == [CSV]
    assert again.there() == []


def test_the_same_bytes_dropped_again_under_the_same_name_are_a_further_record(plug):
    for _ in range(2):
        plug.drop("empty-day.csv")
        plug.take()
    assert plug.bodies == [CSV, CSV]
    assert len(plug.there("taken")) == 2


def test_without_room_the_file_stays_and_is_taken_later(plug):
    plug.drop("results.csv")
    plug.writer.is_full = True
    plug.take()
    assert plug.there() == ["results.csv"]
    assert plug.door.counts.refused
    plug.writer.is_full = False
    plug.look(s=5)
    assert plug.bodies == [CSV]


def test_where_nothing_can_be_moved_nothing_is_taken_and_somebody_is_told(plug, monkeypatch):
    plug.drop("results.csv")

    def refuse(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("node.feeds.folder.make_places", refuse)
        plug.take()
        assert plug.bodies == []
        assert plug.standing() == {"FOL-02"}
    plug.take()
    assert plug.bodies == [CSV]
    assert plug.standing() == set()


def test_a_file_that_does_not_move_is_stored_once_and_holds_up_the_later_ones(plug, monkeypatch):
    plug.drop("a.csv", b"a")
    real = folder_files.move

    def refuse(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("node.feeds.folder.move", refuse)
        plug.take()
        plug.drop("b.csv", b"b")
        plug.look(3, s=5)
        assert plug.bodies == [b"a"]
        patch.setattr("node.feeds.folder.move", real)
        plug.look(2, s=5)
    assert plug.bodies == [b"a", b"b"]
    assert plug.there() == []


def test_a_refused_file_that_did_not_move_lies_in_refused_once_it_does(tmp_path, monkeypatch):
    plug = Plug(tmp_path, file_mb_max=1)
    plug.drop("scan.pdf", bytes(1024 * 1024 + 1))

    def refuse(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("node.feeds.folder.move", refuse)
        plug.take()
    plug.look(s=5)
    assert (plug.there("taken"), len(plug.there("refused"))) == ([], 1)
    assert len(plug.bodies) == 1


def test_a_file_whose_writer_goes_on_is_taken_again_whole(plug):
    path = plug.drop("slow.csv", b"first")
    with path.open("ab") as writer:
        plug.take()
        assert plug.bodies == [b"first"]
        writer.write(b" and last")
        writer.flush()
        plug.look(s=1)
        plug.look(s=5)
    assert plug.bodies == [b"first", b"first and last"]
    assert refusal(plug.writer.drafts[1]) == "FOL-05"
    assert plug.writer.drafts[1].verdict == Verdict.ACCEPTED_WITH_WARNING
    plug.look(5, s=100)
    assert len(plug.bodies) == 2


def test_a_folder_that_is_not_there_is_told_and_looked_for_again(tmp_path):
    plug = Plug(tmp_path / "stick")
    with pytest.raises(FileNotFoundError):
        plug.look()
    (tmp_path / "stick").mkdir()
    plug.drop("a.csv")
    plug.take()
    assert plug.bodies == [CSV]


def test_a_name_that_is_taken_already_overwrites_nothing(plug):
    (plug.path / "taken").mkdir()
    (plug.path / "refused").mkdir()
    stamps = set()
    for data in (b"one", b"two", b"three"):
        (plug.path / "x.csv").write_bytes(data)
        stamps.add(folder_files.move(plug.path, "x.csv", "taken", "S"))
    assert stamps == {"S-x.csv", "S-1-x.csv", "S-2-x.csv"}
    assert (plug.path / "taken" / "S-x.csv").read_bytes() == b"one"


@pytest.mark.parametrize(
    "name", ["نتائج المختبر.csv", "x" * 255, os.fsdecode(b"caf\xe9.csv"), "a\nb.csv", "|;$(reboot).csv"]
)
def test_any_name_that_a_file_can_have_is_taken(plug, name):
    plug.drop(name)
    plug.take()
    assert plug.bodies == [CSV]
    assert file_name(plug.writer.drafts[0]) == name.encode("utf-8", "surrogateescape").decode(
        "utf-8", "backslashreplace"
    )
    assert plug.there() == []


# -- what is refused ---------------------------------------------------------------------------------------------------
def test_a_file_that_is_too_long_is_recorded_by_length_and_hash_and_put_aside(tmp_path):
    plug = Plug(tmp_path, file_mb_max=1)
    data = random.Random(7).randbytes(1024 * 1024 + 1)
    plug.drop("scan.pdf", data)
    plug.take()
    (draft,) = plug.writer.drafts
    particulars = decode_particulars(draft.particulars)
    assert (particulars[FRAME_BYTES], particulars[FRAME_SHA256]) == (len(data), hashlib.sha256(data).digest())
    assert refusal(draft) == "FOL-03"
    assert file_name(draft) == "scan.pdf"
    assert draft.verdict == Verdict.REJECTED
    assert data.startswith(draft.body)
    assert len(plug.there("refused")) == 1


def test_an_empty_file_is_waited_for_an_hour_and_then_refused(plug):
    plug.drop("log.csv", b"")
    plug.look()
    plug.look(s=3500)
    assert plug.writer.drafts == []
    assert plug.feed.facts()["waiting"] == 1
    plug.look(s=200)
    assert [refusal(draft) for draft in plug.writer.drafts] == ["FOL-04"]
    assert len(plug.there("refused")) == 1


def test_refusals_beyond_the_quota_are_counted_and_their_files_put_aside_all_the_same(tmp_path):
    plug = Plug(tmp_path, file_mb_max=1, rejected_per_hour_max=2)
    for number in range(5):
        plug.drop(f"{number}.bin", bytes(1024 * 1024 + 1))
    plug.take()
    assert len(plug.writer.drafts) == 2
    assert plug.door.uncounted == 3
    assert len(plug.there("refused")) == 5


def test_what_was_taken_is_kept_for_days_and_then_deleted(tmp_path):
    plug = Plug(tmp_path, keep_days=1)
    plug.drop("a.csv")
    plug.take()
    taken = tmp_path / "taken"
    (name,) = plug.there("taken")
    moved_ns = (taken / name).stat().st_ctime_ns
    assert folder_files.clear(tmp_path, before_ns=moved_ns, files_max=10) == 0
    assert folder_files.clear(tmp_path, before_ns=moved_ns + 1, files_max=10) == 1
    assert plug.there("taken") == []


def test_of_what_was_taken_the_oldest_go_beyond_the_number(plug):
    for number in range(5):
        plug.drop(f"{number}.csv", b"%d" % number)
        plug.take()
    assert folder_files.clear(plug.path, before_ns=0, files_max=2) == 3
    assert [name[-5:] for name in plug.there("taken")] == ["3.csv", "4.csv"]


# -- what it is --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", CSV, "text/csv"),
        ("A.PDF", b"%PDF-1.7", "application/pdf"),
        ("noending", b"\x00\x01", "application/octet-stream"),
        ("a.unknown", b"x", "application/octet-stream"),
        ("a.xml", b"<x/>", "application/xml"),
        ("result.txt", message("C1"), "application/hl7-v2+er7"),
        ("result.dat", b"\xef\xbb\xbf" + message("C1"), "application/hl7-v2+er7"),
        ("result.hl7", message("C1").decode().encode("utf-16"), "application/hl7-v2+er7"),
        ("batch.hl7", b"FHS|^~\\&|LAB\r" + message("C1") + message("C2") + b"FTS|1\r", "application/hl7-v2+er7"),
    ],
)
def test_a_file_is_known_by_its_ending_and_hl7_by_its_first_segment(name, data, expected):
    assert facts_of(name, data).content_type == expected


def test_a_sites_own_types_come_before_ours():
    assert facts_of("a.dat", b"x", types={"dat": "text/csv"}).content_type == "text/csv"


def test_a_message_in_a_file_keeps_its_type_and_control_id_and_a_test_is_one(plug):
    plug.drop("m.hl7", message("MSG-77", kind="ORU^R01"))
    plug.drop("t.hl7", message("MSG-78").replace(b"|P|2.5", b"|T|2.5"))
    plug.take()
    first, second = plug.writer.drafts
    assert (control_id(first), first.message_type, first.verdict) == ("MSG-77", "ORU^R01", Verdict.ACCEPTED)
    assert first.common == plug.door.common(Kind.MESSAGE, "application/hl7-v2+er7")
    assert second.common == plug.door.common(Kind.TEST, "application/hl7-v2+er7")


def test_a_wide_file_is_stored_as_it_is_and_read_for_its_facts(plug):
    data = message("MSG-79").decode().encode("utf-16-le")
    plug.drop("w.hl7", data)
    plug.take()
    assert plug.bodies == [data]
    assert control_id(plug.writer.drafts[0]) == "MSG-79"


def test_the_sites_rules_refuse_a_message_in_a_file_and_the_file_is_put_aside(tmp_path):
    plug = Plug(tmp_path, check={"types": ["ORU^*"]})
    plug.drop("a.hl7", message("M1", kind="ADT^A01"))
    plug.drop("b.hl7", message("M2", kind="ORU^R01"))
    plug.take()
    assert sorted(draft.verdict for draft in plug.writer.drafts) == [Verdict.ACCEPTED, Verdict.REJECTED]
    assert [name[-5:] for name in plug.there("refused")] == ["a.hl7"]


def test_no_bytes_make_it_raise():
    dice = random.Random(1)
    seeds = [message("X"), CSV, b"FHS|^~\\&\rBHS|^~\\&\r", message("X").decode().encode("utf-16"), b"\x00" * 9]
    for _ in range(3000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        facts_of(dice.choice(("a.hl7", "b.csv", "c")), bytes(data[: dice.randrange(len(data) + 1)]))


# -- its simulator ----------------------------------------------------------------------------------------------------
def test_of_every_fault_the_simulator_knows_nothing_half_is_all_that_is_kept(plug, monkeypatch):
    monkeypatch.setattr("node.tools.simulate_folder.time.sleep", lambda _: plug.look(2, s=4))
    dice = random.Random(3)
    whole = {
        name: simulate_folder.drop(plug.path, number, dice, name)
        for number, name in enumerate(("", *simulate_folder.FAULTS))
    }
    plug.look(3, s=4)
    texts = [body for body in plug.bodies if body.startswith(b"Well,")]
    assert plug.there() == [whole["unfinished"].name]
    last = {file_name(draft): draft for draft in plug.writer.drafts}
    assert set(last) == {path.name for name, path in whole.items() if name != "unfinished"}
    for name in ("", "slow", "late"):
        assert last[whole[name].name].body.count(b"\n") == 9, name  # a head and eight wells
    assert refusal(last[whole["long"].name]) == "FOL-03"
    assert len(texts) >= 4


# -- a real node -------------------------------------------------------------------------------------------------------
def test_a_node_says_where_its_files_are_dropped_and_takes_them(realm, tmp_path):
    drop = tmp_path / "drop"
    drop.mkdir()
    with running(Node(realm, tmp_path / "node", feeds=[FolderOf("drop", listen=("x",), path=drop)])) as node:
        (drop / "a.csv").write_bytes(CSV)
        wait_until("a record", lambda: node.stream("drop").size == 1)
        (seen,) = node.records("drop")
        assert (seen.body, seen.header.content_type, seen.peer) == (CSV, "text/csv", "folder")
        feed = node.ask("status")["feeds"]["drop"]
        assert feed["addresses"] == [str(drop)]
        assert Path(feed["addresses"][0]).is_dir()
