"""Starts and fences at the ledger, streams and epochs at their bounds, and the keys that sign them."""

import os
import threading

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.ledger import EpochCall
from gateway.ledger_keys import KeyRows
from node.tools.pki import issue_node
from sync.certificates import der, read
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import FileSigner, Verifier
from sync.log import EMPTY_ROOT
from sync.names import Origin
from sync.opening import End, Opening, sign_opening
from sync.receiver import Receipt, Refuse, Taken
from sync.session import STREAMS_MAX, OwnStream
from sync.store import SafeDatabase
from tests.ledger_rig import WAIT_S, Bench, spy


def test_an_older_boot_alarms_only_on_a_connection_younger_than_the_newer_ones_admission(bench, made):
    node = made()
    old = node.boot
    bench.admit(node)
    node.boot = os.urandom(16).hex()
    bench.clock.seconds = 200.0
    bench.admit(node, boots=[old])
    late = bench.session(node, boot=old, connected_at=150.0).result(WAIT_S)
    assert (late.code, bench.meter.alarms) == ("fenced", [])
    clone = bench.session(node, boot=old, connected_at=201.0).result(WAIT_S)
    assert (clone.code, bench.meter.alarms) == ("fenced", [("GWY-11", node.name, "")])


def test_announced_heads_are_verified_before_the_call_waits_for_the_writer(realm, path, made, view, monkeypatch):
    node, verified_by = made(), []
    monkeypatch.setattr(
        Verifier, "verify", spy(Verifier.verify, lambda: verified_by.append(threading.current_thread()))
    )
    found = Bench(realm, path)
    found.ledger.start()
    stranger = sign_checkpoint(
        Checkpoint(node.origin(), 9, bytes(32)), FileSigner(node.name, Ed25519PrivateKey.generate())
    )
    found.admit(node, heads=(node.batch(0, 12).checkpoint, stranger))
    found.ledger.stop()
    assert verified_by == [threading.current_thread()]  # the stranger's key id is not the node's
    assert [(log.announced, log.at_node) for log in view().logs(node.name)] == [(12, 12)]


def test_no_put_of_an_older_fence_commits_after_a_session_was_answered(bench, made):
    node = made()
    bench.admit(node)
    older = node.fence
    node.boot, before = os.urandom(16).hex(), node.boot
    bench.admit(node, boots=[before])
    newer, node.fence = node.fence, older
    assert bench.put(node, 0, 6).result(WAIT_S).code == "fenced"
    node.fence = newer
    assert isinstance(bench.put(node, 0, 6).result(WAIT_S), Receipt)


def test_a_node_declares_at_most_so_many_streams(bench, made, view):
    node = made()
    streams = [OwnStream(stream=f"s{n}", epoch=1, tag="0" * 8, lane="bulk") for n in range(STREAMS_MAX)]
    bench.admit(node)
    assert len(bench.admit(node, streams=streams).logs) == STREAMS_MAX
    assert bench.meter.alarms == [("GWY-15", node.name, "")]
    assert len(view().logs(node.name)) == STREAMS_MAX


def test_a_node_that_names_other_streams_each_time_fills_neither_alarms_nor_log(bench, made, view):
    node = made()
    bench.admit(node)
    for epoch in (2, 3):
        streams = [OwnStream(stream=f"e{epoch}-s{n}", epoch=1, tag="0" * 8, lane="bulk") for n in range(STREAMS_MAX)]
        bench.admit(node, streams=streams)
        for n in range(3):
            common = End(Origin(node.name, f"none-{epoch}-{n}", 1, "0" * 8), 0, EMPTY_ROOT)
            opened = Origin(node.name, f"none-{epoch}-{n}", epoch, "0" * 8)
            opening = Opening(opened=opened, theirs=None, own=common, common=common, carried=0)
            statement = sign_opening(opening, FileSigner(node.name, Ed25519PrivateKey.generate()))
            call = EpochCall(node=node.name, stream=opened.stream, fence=node.fence, statement=statement)
            assert bench.ledger.epoch(call).result(WAIT_S).code == "bad-key"
    found = {(code, stream): count for code, _, stream, _, count in view().alarms(100)}
    assert found == {("GWY-15", ""): 2, ("GWY-22", ""): 6}


def test_a_stream_has_at_most_so_many_epochs_and_the_one_too_many_is_no_log(bench, made, view, monkeypatch):
    monkeypatch.setattr("gateway.ledger_keys.KEY_EPOCHS_MAX", 1)
    node = made()
    bench.admit(node)
    answers = []
    for epoch in (2, 3):
        statement = node.outbox.open_epoch("his", epoch=epoch, tag=node.boot[:8], place=0, theirs=None)[-1].opening
        call = EpochCall(node=node.name, stream="his", fence=node.fence, statement=statement)
        answers.append(bench.ledger.epoch(call).result(WAIT_S))
    assert isinstance(answers[0], Taken)
    assert (answers[1].status, answers[1].code) == (422, "bad-opening")
    assert [log.origin.epoch for log in view().logs(node.name)] == [1, 2]


def test_records_committed_while_held_are_marked_by_position_in_one_range(bench, made, path):
    node = made()
    bench.admit(node)
    bench.put(node, 0, 3).result(WAIT_S)
    node.boot = os.urandom(16).hex()
    assert bench.admit(node, fence="0" * 32).held
    bench.put(node, 3, 5).result(WAIT_S)
    bench.put(node, 5, 12).result(WAIT_S)
    database = SafeDatabase(path, readonly=True)
    assert list(database.raw().execute("SELECT first, end FROM hold")) == [(3, 12)]
    database.close()


def test_the_ledger_keeps_its_id_and_its_boots_over_a_restart(realm, path, made):
    node = made()
    first = Bench(realm, path)
    first.ledger.start()
    fence = first.admit(node).fence
    first.ledger.stop()
    second = Bench(realm, path)
    second.ledger.start()
    assert second.ledger.id == first.ledger.id
    assert second.admit(node).fence == fence
    node.boot, old = os.urandom(16).hex(), node.boot
    second.admit(node)
    assert second.session(node, boot=old, connected_at=0.0).result(WAIT_S).code == "fenced"
    second.ledger.stop()


def test_a_certificate_of_another_log_key_does_not_change_the_key(bench, made, realm, tmp_path, view):
    node = made()
    bench.admit(node)
    bench.put(node, 0, 4).result(WAIT_S)
    issue_node(realm.folder / "ca", tmp_path / "other", node.name)
    older, fresh = node.signer, der(read((tmp_path / "other/log.pem").read_bytes()))
    node.signer = FileSigner(node.name, load_pem_private_key((tmp_path / "other/log.key").read_bytes(), None))
    for certificate in (None, fresh):
        bench.admit(node, log_certificate=certificate)
        refused = bench.put(node, 4, 8).result(WAIT_S)
        assert isinstance(refused, Refuse)
        assert refused.code == "bad-key"
    node.signer = older  # whose certificate the last session did not bring
    assert bench.put(node, 4, 8).result(WAIT_S).code == "bad-key"
    bench.admit(node)
    assert isinstance(bench.put(node, 4, 8).result(WAIT_S), Receipt)


def test_a_key_is_written_to_a_log_once_and_not_with_every_batch_that_it_signs(bench, made, monkeypatch):
    node, written, real = made(), [], KeyRows.sign_from

    def spied(self, *given):
        written.append(given)
        return real(self, *given)

    monkeypatch.setattr(KeyRows, "sign_from", spied)
    bench.admit(node)
    for first in (0, 4, 8):
        assert isinstance(bench.put(node, first, first + 4).result(WAIT_S), Receipt)
    assert len(written) == 1
