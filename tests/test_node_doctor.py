"""The doctor: every rung is looked at, what is wrong has its catalogue code and a hint, and no finding stops the others."""

import json
import shutil

import apsw
import pytest
from click.testing import CliRunner

from node.catalogue import entries
from node.cli.main import main
from node.clock import SYNCHRONISED, UNSURE, Trust
from node.config.config import load
from node.doctor import examine
from node.tools.pki import issue_gateway, issue_node, make_authority
from tests.gateway_rig import GATEWAY
from tests.node_rig import EAGER, Node, free_port, message, running, wait_until
from tests.sim_gateway import http, problem, sim_gateway


class Clock:
    """A clock of known trust."""

    def __init__(self, state=SYNCHRONISED, now_us=1_800_000_000_000_000):
        self._trust, self._now_us = Trust(state, 1000), now_us

    def now_us(self):
        return self._now_us

    def monotonic(self):
        return 0.0

    def trust(self):
        return self._trust


@pytest.fixture
def node(realm, tmp_path):
    made = Node(realm, tmp_path, link="connect_s_max = 1\nanswer_s_max = 1")
    yield made
    made.kill()


def findings(node, clock=None):
    """By check; each bad one has a catalogued code and its hint."""
    import time

    found = examine(load(node.config()), clock or Clock(now_us=time.time_ns() // 1000))
    for each in found:
        assert each.good or not each.code or each.code in entries(), each
        assert not each.code or each.hint == entries()[each.code].hint
    return {each.check: each for each in found}


def bad(node, clock=None):
    return {check: each.code for check, each in findings(node, clock).items() if not each.good and check != "kernels"}


def test_a_healthy_node_has_no_finding(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        with running(node):
            node.send(message("D-1"))
            node.wait_receipted(size=1)
            fake.script = lambda _request: problem(422, "bad-batch")  # what a real gateway says to no session
            found = findings(node)
            assert {check: each.seen for check, each in found.items() if not each.good and check != "kernels"} == {}
            assert found["core"].seen == "committed and signed"
            assert found["stream his"].seen == "1 records, 1 receipted"
            assert {
                "link name",
                "link connection",
                "link identity",
                "certificate link",
                "certificate log",
                "certificate ca",
            } <= set(found)


def test_a_node_that_never_ran_is_told_so(node):
    assert bad(node) == {"outbox": "NOD-05", "core": "NOD-05"}


def test_a_dead_core_is_told_and_the_outbox_still_read(node):
    with running(node):
        node.send(message("D-1"))
    assert bad(node) == {"core": "NOD-05"}
    assert findings(node)["stream his"].seen == "1 records, 0 receipted"


def test_keys_of_another_node_are_told(node, realm, tmp_path):
    issue_node(realm.folder / "ca", tmp_path / "keys", "clinic-8")
    node.keys = tmp_path / "keys"
    assert bad(node)["keys"] == "NOD-02"


def test_a_missing_key_file_is_told(node, realm, tmp_path):
    shutil.copytree(realm.node(node.name), tmp_path / "keys")
    (tmp_path / "keys/log.key").unlink()
    node.keys = tmp_path / "keys"
    assert bad(node)["keys"] == "NOD-02"


def test_a_certificate_that_ends_soon_is_told_in_time(node):
    soon = Clock(now_us=1_795_000_000_000_000 + 2 * 365 * 86_400 * 1_000_000)
    assert {bad(node, soon).get(f"certificate {name}") for name in ("link", "log")} == {"SYN-04"}


def test_an_unsteered_clock_is_told(node):
    import time

    assert bad(node, Clock(UNSURE, time.time_ns() // 1000))["clock"] == "NOD-07"


def test_a_damaged_record_is_named_by_its_number(node):
    with running(node):
        node.send(message("D-1"), message("D-2"), message("D-3"))
        assert node.stop() == 0
    connection = apsw.Connection(str(node.store))
    connection.execute("UPDATE body SET body = x'00' WHERE id = (SELECT id FROM header WHERE seq = 1)")
    connection.close()
    found = findings(node)["stream his"]
    assert (found.good, found.code, found.seen) == (False, "SYN-30", "1 damaged")


@pytest.mark.parametrize(
    "content", [b"no database" * 1000, b"", b"SQLite format 3\0" + b"\xff" * 8192], ids=["text", "empty", "header-only"]
)
def test_an_outbox_that_cannot_be_read_is_told_and_stops_no_other_check(node, content):
    node.data.mkdir(parents=True, exist_ok=True)
    node.store.write_bytes(content)
    found = bad(node)
    assert found["outbox"] == "SYN-06"
    assert {"room", "core", "clock"} <= set(findings(node))


def test_a_disk_without_reserve_is_told(node):
    with running(node):
        pass
    node.outbox = "free_mb_min = 1048576"
    assert bad(node)["room"] == "NOD-10"


def test_a_gateway_that_is_not_there_is_told_by_its_rung(node):
    node.gateway = f"https://127.0.0.1:{free_port()}"
    assert bad(node)["link connection"] == "LNK-01"


def test_a_gateway_name_that_does_not_resolve_is_told_by_its_rung(node, monkeypatch):
    import socket

    def lookup(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    node.gateway = "https://gateway.invalid"
    assert bad(node)["link name"] == "LNK-02"


@pytest.mark.parametrize(
    ("authority", "name", "code"), [("ca", "somebody", "LNK-04"), ("other", GATEWAY, "LNK-03")], ids=["another-gateway", "another-authority"]
)  # fmt: skip
def test_a_server_that_is_not_our_gateway_is_told_and_gets_no_byte(node, realm, tmp_path, authority, name, code):
    folder = realm.folder / "ca"
    if authority == "other":
        folder = tmp_path / "other"
        make_authority(folder, "Somebody Else")
    issue_gateway(folder, tmp_path / "leaf", name, ["127.0.0.1"])
    with sim_gateway(realm, tmp_path / "leaf") as fake:
        node.gateway = fake.url
        assert bad(node)["link identity"] == code
        assert fake.bytes_in == 0


@pytest.mark.parametrize(
    ("answer", "code"),
    [(problem(403, "revoked"), "SYN-28"), (http(500), "LNK-06"), (problem(403, "not-a-node"), "LNK-07"), (lambda _sock: None, "LNK-05")],
    ids=["revoked", "500", "not-a-node", "closed"],
)  # fmt: skip
def test_a_gateway_that_does_not_take_us_is_told(node, realm, answer, code):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda _request: answer
        assert bad(node)["link identity"] == code


def test_the_command_tells_all_findings_and_its_exit_code_says_whether_all_are_good(node):
    told = CliRunner().invoke(main, ["doctor", "--config", str(node.config()), "--json"])
    rows = {row["check"]: row for row in json.loads(told.stdout)}
    assert told.exit_code == 2  # as `wasl status`: no message is taken in
    assert rows["core"]["code"] == "NOD-05"
    assert rows["core"]["hint"].startswith("The core is not running")
    told = CliRunner().invoke(main, ["doctor", "--config", str(node.config())])
    assert "BAD  core:" in told.stdout
    node.gateway = f"https://127.0.0.1:{free_port()}"
    with running(node):
        assert CliRunner().invoke(main, ["doctor", "--config", str(node.config())]).exit_code == 1


@pytest.mark.parametrize(
    ("answer", "code", "state"),
    [(problem(403, "revoked"), "SYN-28", "revoked"), (problem(403, "fenced"), "SYN-27", "fenced"), (problem(503, "busy"), "", "unproven")],
    ids=["revoked", "fenced", "busy"],
)  # fmt: skip
def test_what_the_core_knows_of_its_session_is_told_though_every_rung_of_the_link_is_good(
    node, realm, answer, code, state
):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        fake.script = lambda _request: answer
        with running(node, before=EAGER):
            wait_until("the session", lambda: fake.calls and node.link_state()[0] == state)
            fake.script = lambda _request: problem(
                422, "bad-batch"
            )  # a gateway that reads the question before the certificate
            found = findings(node)
            assert found["link identity"].good
            assert (found["link session"].good, found["link session"].code) == (not code, code)
            assert found["link session"].seen.startswith(f"{state} since 20")


def test_records_that_the_centre_holds_back_are_told_with_the_session(node, realm):
    with sim_gateway(realm, held=True) as fake:
        node.gateway = fake.url
        with running(node, before=EAGER):
            wait_until("the alarm", lambda: ("SYN-23", "") in node.alarms())
            fake.script = lambda _request: problem(422, "bad-batch")  # what a real gateway says to no session
            assert bad(node)["link session"] == "SYN-23"
        assert "link session" not in findings(node)  # without a core nobody knows


@pytest.mark.parametrize(
    ("passes", "good", "code", "seen"),
    [(1500, True, "", "1500 bytes pass"), (1472, False, "LNK-11", "1472"), (1400, False, "LNK-11", "1400"), (0, False, "LNK-05", "no packet")],
)  # fmt: skip
def test_a_line_that_swallows_large_packets_is_found_with_the_size_that_passes(
    node, monkeypatch, passes, good, code, seen
):
    from node import doctor
    from node.errors import NoAnswer

    class Line(doctor.GatewayClient):
        def session(self, body):
            assert len(body) > 1500
            if self.way.mss + 40 > passes:
                raise NoAnswer("swallowed")
            return b""

    monkeypatch.setattr(doctor, "GatewayClient", Line)
    node.gateway = "https://127.0.0.1:1"
    config = load(node.config())
    found = doctor._packets(config.gateway, doctor.load(config))
    assert (found.good, found.code) == (good, code)
    assert seen in found.seen
