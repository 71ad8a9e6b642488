"""A queue carried by hand: the stick, the ledger and the receipts. No link is needed, none is disturbed, and nothing on a stick is believed."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.__main__ import main as gateway_main
from node.cli.main import main as node_main
from node.errors import StickFull, StickUnreadable
from node.stick import export as node_stick
from node.stick.export import check_left
from node.tools.pki import issue_gateway, issue_node, make_authority
from sync.batch import decode, encode
from sync.checkpoint import Checkpoint, parse_checkpoint, parse_note, sign_checkpoint
from sync.errors import BadStick
from sync.keys import FileSigner
from sync.receipt import cosign
from sync.stick import MANIFEST_NAME, RECEIPTS_NAME, ROOM_NAME, folder_name, read_receipts
from tests.gateway_rig import Gateway, Realm, message, running
from tests.node_rig import NAME, Node
from tests.node_rig import message as hl7
from tests.node_rig import running as node_running
from tests.sim_realm import NOW_S, ed25519
from tests.stick_rig import BODIES, Site


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def site(realm, tmp_path):
    made = Site(realm, tmp_path)
    made.node.add(BODIES)
    made.node.add([message(n) for n in range(5)], stream="lab")
    yield made
    made.close()


# --- there and back


def test_queue_is_carried_by_hand_with_the_link_down_and_its_receipts_come_home(site):
    written = site.export()
    assert (written.records, written.left) == (95, 0)
    assert written.batches >= 5
    (done,) = site.bring()
    assert (done.node, done.records, done.refused) == (NAME, 95, {})
    assert site.same("his")
    assert site.same("lab")
    assert {each.origin.stream: each.size for each in site.take().taken} == {"his": 90, "lab": 5}
    assert site.receipted() == {"his": 90, "lab": 5}


def test_second_import_of_a_stick_stores_nothing_and_gives_the_same_receipts(site):
    site.export()
    site.bring()
    first = (site.folder / RECEIPTS_NAME).read_bytes()
    site.bring()
    assert read_receipts((site.folder / RECEIPTS_NAME).read_bytes()).notes == read_receipts(first).notes
    assert site.same()


def test_what_came_meanwhile_goes_with_the_next_export_and_what_is_receipted_leaves_the_stick(site):
    site.export()
    site.node.add([message(200)])
    assert site.export().fresh == 1
    site.bring()
    site.take()
    site.node.add([message(201)])
    written = site.export()
    assert (written.records, written.batches) == (1, 1)
    assert len(list(site.folder.glob("*.wbt"))) == 1
    site.bring()
    assert site.same()


def test_names_on_the_stick_are_safe_on_any_fat(site):
    site.export()
    site.bring()
    assert all(re.fullmatch(r"[0-9a-z]{1,8}\.(wbt|bin|json)", path.name) for path in site.folder.iterdir())
    reserved = {"con", "prn", "aux", "nul"}
    assert not {folder_name(name) for name in reserved} & reserved


def test_same_records_by_link_and_by_hand_end_up_once_and_the_link_goes_on(site):
    site.export()
    with running(site.gateway.realm, site.gateway.data) as live:
        site.node.gateway = live
        site.node.pool = site.node.open_pool()
        assert site.node.session().status == 200
        assert site.node.put(0, 40).status == 200
        site.bring()  # beside the running gateway
        assert site.same()
        assert site.node.put(40, 60).status == 200  # a late batch over the link: known already
        site.node.add([message(300)])
        assert site.node.put(90, 91).status == 200
        assert site.same()
        # what the stick still holds is behind the link now
        assert site.bring()[0].refused == {}
        assert site.same()
        assert {row["seq"] for row in live.records(NAME, "his")} == set(range(91))


def test_first_session_after_a_carried_queue_is_no_copy_and_an_empty_fence_is_nobodys(site):
    site.export()
    site.bring()
    with running(site.gateway.realm, site.gateway.data) as live:
        site.node.gateway = live
        site.node.pool = site.node.open_pool()
        assert site.node.put(0, 5, fence="").status == 403
        answer = site.node.session().json()
        assert answer["held"] is False
        assert {each["stream"]: each["size"] for each in answer["streams"]} == {"his": 90, "lab": 5}


def test_a_running_core_takes_the_receipts_and_goes_on(realm, tmp_path):
    gateway = Gateway(realm, tmp_path / "gateway")
    node = Node(realm, tmp_path / "node", gateway=gateway)  # nobody listens there: the link is down
    stick = tmp_path / "stick"
    stick.mkdir()
    with node_running(node) as core:
        core.send(*[hl7(f"C{n}") for n in range(3)])
        wasl = ["export", "--config", str(node.folder / "node.toml")]
        assert CliRunner().invoke(node_main, [*wasl, str(stick)]).exit_code == 0
        done = CliRunner().invoke(gateway_main, ["import", "--config", str(gateway.config()), str(stick)])
        assert (done.exit_code, "3 records are in the ledger" in done.output) == (0, True)
        done = CliRunner().invoke(node_main, [*wasl, "--receipts", str(stick)])
        assert (done.exit_code, done.output) == (0, "receipt: his up to 3 records\n")
        assert core.stream().receipted == 3
        core.send(hl7("C3"))
        assert CliRunner().invoke(node_main, [*wasl, str(stick)]).output.count("1 batches are new\nNOT SEALED") == 1


# --- a stick that is pulled out, worn or full


def test_export_that_was_cut_off_goes_on_from_what_is_whole(site):
    site.export()
    site.forge(batches=site.manifest().batches[:2])  # pulled out before the last manifest
    (site.folder / site.manifest().batches[1].file).write_bytes(b"worn")
    written = site.export()
    assert written.left == 0
    assert written.fresh == written.batches - 1
    site.bring()
    assert site.same()
    assert site.same("lab")


def test_full_stick_says_so_what_is_on_it_is_whole_and_the_next_round_brings_the_rest(site):
    used = lambda folder: sum(path.stat().st_size for path in folder.iterdir())  # noqa: E731  # one expression, used twice
    written = site.export(free_bytes=lambda folder: 2_400_000 - used(folder))
    assert 0 < written.records < 95
    assert written.left == 95 - written.records
    with pytest.raises(StickFull, match=str(written.left)):
        check_left(written)
    assert (site.folder / ROOM_NAME).exists()  # the receipts have room all the same
    site.bring()
    assert not (site.folder / ROOM_NAME).exists()
    site.take()
    assert sum(site.receipted().values()) == written.records
    assert site.export().left == 0
    site.bring()
    assert site.same()
    assert site.same("lab")


def test_stick_that_is_full_before_it_says_so_keeps_whole_batches_only(site, monkeypatch):
    write, wanted = node_stick.write_file, iter(range(100))

    def refusing(path, parts):
        if path.suffix == ".wbt" and next(wanted) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, parts)

    monkeypatch.setattr(node_stick, "write_file", refusing)
    assert site.export().batches == 2
    assert site.bring()[0].refused == {}


def test_each_file_and_its_name_are_on_the_stick_before_the_next_is_begun(site, monkeypatch):
    """Of each folder: whether it was synced after the last change of a name in it."""
    synced, sync, replace_file, mkdir = {}, os.fsync, Path.replace, Path.mkdir

    def noted(descriptor):
        sync(descriptor)
        synced[Path(f"/proc/self/fd/{descriptor}").readlink()] = True

    def renaming(path, target):
        assert synced[path]
        assert all(synced.values())
        synced[path.parent] = False
        return replace_file(path, target)

    def making(path, **options):
        synced[path.parent] = False
        mkdir(path, **options)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", renaming)
    monkeypatch.setattr(Path, "mkdir", making)
    site.export()
    monkeypatch.undo()
    assert {site.stick, site.folder} <= synced.keys()
    assert all(synced.values())


def test_what_a_stick_that_was_pulled_out_has_of_a_file_is_taken_off(site):
    site.folder.mkdir()
    (site.folder / "00000007.new").write_bytes(b"MSH|plain")
    site.export()
    assert {path.suffix for path in site.folder.iterdir()} == {".wbt", ".json", ".bin"}


def test_stick_that_cannot_be_written_is_told_as_such(site):
    shutil.rmtree(site.stick)
    with pytest.raises(StickUnreadable):
        site.export()


def test_ledger_without_room_refuses_by_code_and_what_was_taken_before_has_its_receipt(site, monkeypatch):
    site.export()
    room = iter([2**60] * 2)
    monkeypatch.setattr("gateway.stick.shutil.disk_usage", lambda _: SimpleNamespace(free=next(room, 0)))
    (done,) = site.bring()
    assert done.refused == {"his": "full", "lab": "full"}
    assert site.take().taken[0].size == len(site.ledger("his")) > 0
    monkeypatch.undo()
    assert site.bring()[0].refused == {}
    assert site.same()


# --- a stick that lies


def bend(path: Path, at: int = 30) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_worn_batch_stops_its_stream_there_and_no_other(site):
    site.export()
    second = [each for each in site.manifest().batches if each.stream == "his"][1]
    bend(site.folder / second.file)
    (done,) = site.bring()
    assert done.refused == {"his": "damaged"}
    assert len(site.ledger("his")) == second.first
    assert site.same("lab")
    assert {each.origin.stream: each.size for each in site.take().taken} == {"his": second.first, "lab": 5}


def forged(site, change) -> dict[str, str]:
    """The stick with its first batch of `his` changed, and a manifest that agrees with it; what the import refuses."""
    site.export()
    manifest = site.manifest()
    at = next(n for n, each in enumerate(manifest.batches) if each.stream == "his")
    each = manifest.batches[at]
    data = encode(change(decode((site.folder / each.file).read_bytes())))
    (site.folder / each.file).write_bytes(data)
    rows = list(manifest.batches)
    rows[at] = replace(each, bytes=len(data), sha256=sha256(data).hexdigest())
    site.forge(batches=tuple(rows))
    return site.bring()[0].refused


def other_body(batch):
    changed = replace(batch.records[0], body=batch.records[0].body + b"X")
    return replace(batch, records=[changed, *batch.records[1:]])


def other_signer(batch):
    said = parse_checkpoint(parse_note(batch.checkpoint).text)
    return replace(batch, checkpoint=sign_checkpoint(said, FileSigner(NAME, ed25519("a stranger"))))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_body, "fork"), (other_signer, "bad-key"), (lambda b: replace(b, tag="00000000"), "bad-batch"), (lambda b: replace(b, node="clinic-8"), "bad-batch"),
        (lambda b: replace(b, records=b.records[1:]), "bad-batch"),
    ],
)  # fmt: skip
def test_forged_batch_is_refused_and_opens_no_log(site, change, code):
    assert forged(site, change) == {"his": code}
    assert site.ledger("his") == []
    assert site.same("lab")


def test_batches_in_another_order_than_the_logs_are_refused_not_reordered(site):
    site.export()
    his = [each for each in site.manifest().batches if each.stream == "his"]
    site.forge(batches=(his[1], his[0], *his[2:]))
    assert site.bring()[0].refused == {"his": "rewind"}
    assert site.ledger("his") == []


@pytest.mark.parametrize("who", ["another node", "another authority", "nobody"])
def test_stick_whose_certificate_is_not_the_nodes_is_refused_whole(site, realm, tmp_path, who):
    site.export()
    if who == "another authority":
        make_authority(tmp_path / "ca", "Somebody Else")
        issue_node(tmp_path / "ca", tmp_path / "keys", NAME)
        pem = (tmp_path / "keys/log.pem").read_text()
    else:
        pem = (realm.node("clinic-8") / "log.pem").read_text() if who == "another node" else "no certificate"
    site.forge(log_certificate=pem)
    with pytest.raises(BadStick):
        site.bring()
    done = CliRunner().invoke(gateway_main, ["import", "--config", str(site.gateway_file), str(site.stick)])
    assert (done.exit_code, "REFUSED" in done.output) == (1, True)
    assert site.ledger("his") == []


def test_stick_of_a_node_whose_log_certificate_was_revoked_is_refused_whole(tmp_path):
    made = Site(Realm.make(tmp_path / "own"), tmp_path)
    made.node.add([message(1)])
    made.export()
    made.gateway.realm.revoke(made.gateway.realm.node(NAME) / "log.pem")
    with pytest.raises(BadStick, match="validity list"):
        made.bring()
    made.close()


def test_stick_opens_no_later_epoch_without_its_statement(site):
    def second_epoch(batch):
        said = parse_checkpoint(parse_note(batch.checkpoint).text)
        origin = replace(said.origin, epoch=2)
        return replace(batch, epoch=2, checkpoint=sign_checkpoint(replace(said, origin=origin), site.keystore.signer))

    site.export()
    rows = [replace(each, epoch=2) if each.stream == "his" else each for each in site.manifest().batches]
    for at, each in enumerate(rows):
        if each.stream == "his":
            data = encode(second_epoch(decode((site.folder / each.file).read_bytes())))
            (site.folder / each.file).write_bytes(data)
            rows[at] = replace(each, bytes=len(data), sha256=sha256(data).hexdigest())
    site.forge(batches=tuple(rows))
    assert site.bring()[0].refused == {"his": "rewind"}
    assert site.ledger("his") == []


@pytest.mark.parametrize(
    "rows",
    [
        [{"file": "../../etc/passwd"}], [{"file": "00000000.exe"}], [{"count": 0}], [{"count": 513}], [{"first": -1}], [{"bytes": 2**40}], [{"tag": "x"}],
        [{"stream": "../x"}], [{"more": 1}], [{}, {}],
    ],
)  # fmt: skip
def test_manifest_that_names_what_no_export_would_is_refused(site, rows):
    site.export()
    path = site.folder / MANIFEST_NAME
    found = json.loads(path.read_bytes())
    found["batches"] = [{**found["batches"][0], **row} for row in rows]
    path.write_text(json.dumps(found))
    with pytest.raises(BadStick):
        site.bring()


def test_stick_without_an_export_is_told_as_such(site):
    with pytest.raises(BadStick, match="no export"):
        site.bring()


# --- receipts that lie


def answered(site, **changes) -> None:
    """An honest round, and then other receipts on the stick."""
    site.export()
    site.bring()
    path = site.folder / RECEIPTS_NAME
    path.write_bytes(replace(read_receipts(path.read_bytes()), **changes).encode())


def refused(site, match: str) -> None:
    with pytest.raises(BadStick, match=match):
        site.take()
    assert site.receipted() == {"his": 0, "lab": 0}


def test_receipts_of_another_node_are_refused(site, realm, tmp_path):
    other = Site(realm, tmp_path / "other")  # the same name, another life: another tag
    other.node.add(BODIES)
    other.export()
    other.bring()
    notes = read_receipts((other.folder / RECEIPTS_NAME).read_bytes()).notes
    other.close()
    answered(site, notes=notes)
    refused(site, "other records than ours")
    answered(site, node="clinic-8")
    refused(site, "are for clinic-8")


def test_receipt_for_other_records_than_ours_is_refused(site, realm, tmp_path):
    answered(site)
    notes = read_receipts((site.folder / RECEIPTS_NAME).read_bytes()).notes
    answered(site, notes=(notes[0].replace("\n90\n", "\n80\n"),))
    refused(site, "does not verify")
    answered(site, notes=(notes[0].replace("/his/", "/lab/"),))
    refused(site, "does not verify")
    other = Site(realm, tmp_path / "other")  # the same origin, and other records in it
    origin, root = site.node.origin(), bytes(32)
    cosigner = FileSigner("centre", load_pem_private_key((realm.folder / "gateway/cosign.key").read_bytes(), None))
    note = cosign(sign_checkpoint(Checkpoint(origin, 90, root), other.keystore.signer), time=NOW_S, signer=cosigner)
    other.close()
    answered(site, notes=(note.decode(),))
    refused(site, "speaks of other records")


def test_receipts_of_a_gateway_that_is_not_ours_are_refused(site, tmp_path):
    make_authority(tmp_path / "ca", "Somebody Else")
    issue_gateway(tmp_path / "ca", tmp_path / "gw", "centre", ["127.0.0.1"])
    answered(site, cosign_certificate=(tmp_path / "gw/cosign.pem").read_text())
    refused(site, "not good")
    issue_gateway(site.gateway.realm.folder / "ca", tmp_path / "gw2", "elsewhere", ["127.0.0.1"])
    answered(site, cosign_certificate=(tmp_path / "gw2/cosign.pem").read_text())
    refused(site, "are of elsewhere")


def test_receipts_of_another_ledger_are_not_counted_for_ours(site):
    site.node.outbox.admitted(boot=bytes(16), ledger="a" * 32, fence="f" * 32)
    answered(site)
    refused(site, "another ledger")
