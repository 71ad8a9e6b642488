"""The gateway as a process: killed, failing or stopped at any moment, it has answered nothing that is not stored."""

import signal

import pytest
import urllib3

from tests.gateway_rig import Gateway, maker


@pytest.fixture
def made(realm, tmp_path):
    """A maker of nodes with some messages."""
    with maker(realm, Gateway(realm, tmp_path), tmp_path, "clinic-17") as make:
        yield make


def test_killed_between_commit_and_answer_a_resend_gives_the_same_head(realm, tmp_path, made):
    gateway = Gateway(realm, tmp_path / "crash")
    killer = (
        "import os, signal, gateway.ledger_sqlite as store\n"
        "tell = store.SqliteLedger._tell\n"
        "def dying(self, group, seconds):\n"
        "    if any(waiting.records for waiting in group): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    tell(self, group, seconds)\n"
        "store.SqliteLedger._tell = dying\n"
    )
    gateway.start(before=killer)
    node = made(at=gateway)
    try:
        fence = node.session().json()["fence"]
        with pytest.raises(urllib3.exceptions.HTTPError):
            node.put(0, 12)
        assert gateway.process.wait(30) == -signal.SIGKILL
        gateway.start()
        again = node.session()
        assert (again.json()["fence"], again.json()["streams"][0]["size"]) == (fence, 12)
        assert again.json()["streams"][0]["root"] == node.root(12).hex()
        first, second = node.put(0, 12), node.put(0, 12)
        assert (first.status, first.data) == (200, second.data)
        assert [record["seq"] for record in gateway.records(node.name, "his")] == list(range(12))
    finally:
        gateway.kill()


def test_a_failed_commit_is_never_answered_and_ends_the_process(realm, tmp_path, made):
    gateway = Gateway(realm, tmp_path / "disk")
    breaker = (
        "import apsw, gateway.ledger_sqlite as store\n"
        "tell = store.SqliteLedger._commit\n"
        "class Broken:\n"
        "    def __init__(self, inner): self.inner = inner\n"
        "    def __getattr__(self, name): return getattr(self.inner, name)\n"
        "    def execute(self, statement, *rest):\n"
        "        if statement == 'COMMIT': raise apsw.IOError('disk I/O error')\n"
        "        return self.inner.execute(statement, *rest)\n"
        "def failing(self, connection, rows, group): return tell(self, Broken(connection), rows, group)\n"
        "store.SqliteLedger._commit = failing\n"
    )
    gateway.start(before=breaker)
    node = made(at=gateway)
    with pytest.raises(urllib3.exceptions.HTTPError):
        node.session()
    assert gateway.process.wait(30) == 70
    assert "LedgerLost" in gateway.log
    gateway.start()
    assert node.session().status == 200
    assert gateway.stop() == 0


JUDGED_WHERE = """
import sys, threading
from gateway.log_certificates import LogCertificates
real = LogCertificates.vouched
def vouched(self, batch):
    print("judged on", threading.current_thread().name, file=sys.stderr, flush=True)
    return real(self, batch)
LogCertificates.vouched = vouched
"""


def test_certificates_in_a_batch_are_judged_beside_the_loop_that_serves_the_others(realm, tmp_path, made):
    gateway = Gateway(realm, tmp_path / "centre")
    gateway.start(before=JUDGED_WHERE)
    try:
        node = made(at=gateway)
        node.session()
        assert node.put(0, 3).status == 200
        assert "judged on decode" in gateway.log
        assert "judged on MainThread" not in gateway.log
    finally:
        gateway.kill()


def test_sigterm_answers_what_is_under_way_and_exits_0(realm, tmp_path, made):
    gateway = Gateway(realm, tmp_path / "term")
    gateway.start()
    node = made(at=gateway)
    node.session()
    assert node.put(0, 12).status == 200
    assert gateway.stop() == 0
    assert '"event": "stopped"' in gateway.log
