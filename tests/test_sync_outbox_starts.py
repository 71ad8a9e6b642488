"""Starts of an outbox, its probe, transactions of callers, and the libraries and keys that it refuses."""

from contextlib import closing
from random import Random

import apsw
import pytest

from sync.errors import KeyAbsent, SyncError
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.session import BOOTS_MAX
from tests.outbox_rig import LEDGER, outbox, some
from tests.sim_disk import disk
from tests.sim_realm import NODE, ed25519


@pytest.fixture
def box(tmp_path):
    with closing(outbox(tmp_path)) as made:
        yield made


def boots(made: Outbox) -> list[bytes]:
    return [row[0] for row in made._connection.execute("SELECT id FROM boot ORDER BY rowid")]


def test_starts_are_listed_until_one_of_them_is_admitted(box):
    for n in range(4):
        box.start_boot(bytes([n]) * 16, n)
    assert boots(box) == [bytes([n]) * 16 for n in range(4)]
    box.admitted(boot=b"\3" * 16, ledger=LEDGER, fence="f")
    assert boots(box) == [b"\3" * 16]
    assert box.ledger() == LEDGER
    assert box._connection.execute("SELECT value FROM fact WHERE name = 'fence'").get == b"f"


def test_box_that_restarts_in_a_loop_never_lists_more_starts_than_a_session_may_name(box):
    box.start_boot(b"admitted", 0)
    box.admitted(boot=b"admitted", ledger=LEDGER, fence="f")
    with box.transaction():
        box._connection.executemany("INSERT INTO boot VALUES (?, ?)", [(b"%016d" % n, n) for n in range(BOOTS_MAX)])
    for n in range(5):
        box.start_boot(b"newest%d" % n, n)
    listed = boots(box)
    assert len(listed) < BOOTS_MAX
    assert listed[0] == b"admitted", "the gateway may know this one only"
    assert listed[-5:] == [b"newest%d" % n for n in range(5)]


def test_probe_writes_syncs_and_signs_and_touches_no_stream(tmp_path):
    with disk() as platter, closing(outbox(tmp_path, vfs=platter.name)) as made:
        made.append(some(0, 2))
        before = dict(made.heads)
        platter.arm()
        made.probe()
        assert ("sync", "wal") in platter.calls
        assert made.heads == before
        made.verify_heads()


def test_probe_fails_where_the_key_cannot_sign(tmp_path):
    class Token(FileSigner):
        def sign(self, data: bytes) -> bytes:
            if data == b"probe":
                raise SyncError("the token was pulled out")
            return super().sign(data)

    with closing(outbox(tmp_path, signer=Token(NODE, ed25519("log key")))) as made, pytest.raises(SyncError):
        made.probe()


def test_transaction_of_the_caller_is_kept_whole_or_not_at_all(box):
    with pytest.raises(KeyError), box.transaction():
        box.set_fact("a", b"1")
        raise KeyError
    with box.transaction():
        box.set_fact("b", b"2")
    assert [row[0] for row in box._connection.execute("SELECT name FROM fact")] == ["b"]


def test_outbox_of_another_key_is_refused(tmp_path):
    with closing(outbox(tmp_path)) as made:
        made.append(some(0, 1))
    other = Outbox(tmp_path / "outbox.db", signer=FileSigner(NODE, ed25519("another")), random=Random(1).randbytes)
    with closing(other), pytest.raises(KeyAbsent):
        other.verify_heads()
    with pytest.raises(KeyAbsent):
        other.append(some(1, 2))


def test_library_that_would_not_keep_what_is_acknowledged_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(SyncError):
        outbox(tmp_path)


def test_connection_of_the_outbox_syncs_at_every_commit(box):
    assert box._connection.pragma("synchronous") == 2
