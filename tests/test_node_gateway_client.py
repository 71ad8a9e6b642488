"""The way to the gateway: names, TCP, TLS and who is at the other end. Nobody but the configured gateway gets a byte of a request."""

import contextlib
import shutil
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from node.tools.pki import issue_gateway, issue_node, make_authority
from node.uplink.gateway_client import _CheckedConnection
from tests.gateway_rig import GATEWAY
from tests.node_rig import NAME, Centre, Feed, Node, free_port, message, running, wait_until
from tests.sim_gateway import hang, other_pem, sim_gateway

EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05"  # as short as a test wants to wait between tries
LINK = "connect_s_max = 1\nanswer_s_max = 1"
NUMBERS = iter(range(1_000_000))


@pytest.fixture
def fresh(realm, tmp_path):
    """A node for one test, not yet started."""
    made = Node(realm, tmp_path, feeds=[Feed("his"), Feed("lab")], link=LINK)
    yield made
    made.kill()


def send_one(node, feed="his", more=""):
    raw = message(f"WAY-{next(NUMBERS)}", more=more)
    assert node.send(raw, feed=feed)[0].code == "AA"
    return raw


# -- TLS and the way ---------------------------------------------------------------------------------------------------
def assert_keeps(node, code):
    """Messages are taken, and the link names what is wrong."""
    raw = send_one(node)
    wait_until(f"{code} in the state", lambda: node.link_state() == ("down", code))
    assert node.bodies() == [raw]
    assert node.stream().receipted == 0


def assert_refused(realm, tmp_path, code):
    """A gateway that runs refuses the node with the keys of the folder `keys`."""
    centre = Centre(realm, tmp_path / "centre")
    node = Node(realm, tmp_path / "node", gateway=centre, keys=tmp_path / "keys", link=LINK)
    try:
        centre.start()
        with running(node, before=EAGER):
            assert_keeps(node, code)
    finally:
        centre.kill()


@pytest.mark.parametrize(
    ("name", "hosts", "code"),
    [("centre", ["other.example"], "LNK-03"), ("somebody", ["127.0.0.1"], "LNK-04")],
    ids=["another-host", "another-gateway-of-our-authority"],
)
def test_a_server_that_is_not_the_configured_gateway_gets_not_one_byte_of_a_request(
    fresh, realm, tmp_path, name, hosts, code
):
    issue_gateway(realm.folder / "ca", tmp_path / "leaf", name, hosts)
    with sim_gateway(realm, tmp_path / "leaf") as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            assert_keeps(fresh, code)
        assert (fake.bytes_in, fake.calls) == (0, [])


def test_a_server_of_another_authority_gets_not_one_byte_of_a_request(fresh, realm):
    other_pem(realm)
    with sim_gateway(realm, realm.folder / "strangers/gateway") as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            assert_keeps(fresh, "LNK-03")
        assert (fake.bytes_in, fake.handshakes) == (0, 0)


def test_a_server_whose_certificate_names_no_gateway_gets_not_one_byte_of_a_request(fresh, realm, tmp_path):
    # a node's link certificate, of our authority, on a server: refused for its purpose or its name
    issue_node(realm.folder / "ca", tmp_path / "leaf", "impostor")
    for end in ("pem", "key"):
        (tmp_path / f"leaf/link.{end}").rename(tmp_path / f"leaf/server.{end}")
    with sim_gateway(realm, tmp_path / "leaf") as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            assert_keeps(fresh, "LNK-03")
        assert fake.bytes_in == 0


def test_a_server_with_an_expired_certificate_gets_not_one_byte_of_a_request(fresh, realm, tmp_path):
    past = datetime.now(UTC) - timedelta(days=3 * 365)
    issue_gateway(realm.folder / "ca", tmp_path / "leaf", GATEWAY, ["127.0.0.1"], now=past)
    with sim_gateway(realm, tmp_path / "leaf") as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            assert_keeps(fresh, "LNK-03")
        assert fake.bytes_in == 0


def test_a_server_below_tls_1_3_gets_not_one_byte_of_a_request(fresh, realm):
    with sim_gateway(realm, version=ssl.TLSVersion.TLSv1_2) as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            assert_keeps(fresh, "LNK-03")
        assert fake.bytes_in == 0


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["closes", "speaks-plain-http"])
def test_a_server_without_tls_is_a_failure_of_the_path(fresh, greeting):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(4096)
                        peer.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        fresh.gateway = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with running(fresh, before=EAGER):
            assert_keeps(fresh, "LNK-03")


def test_a_gateway_that_is_not_there_is_a_failure_of_the_path(fresh):
    fresh.gateway = f"https://127.0.0.1:{free_port()}"
    with running(fresh, before=EAGER):
        assert_keeps(fresh, "LNK-01")


def test_a_gateway_name_that_does_not_resolve_is_a_failure_of_the_path(fresh):
    fresh.gateway = "https://gateway.invalid:8443"
    with running(fresh, before=EAGER + "\nimport socket; look = socket.getaddrinfo\n" + NO_DNS):
        assert_keeps(fresh, "LNK-02")


NO_DNS = """
def lookup(host, *rest, **options):
    if host == "gateway.invalid":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return look(host, *rest, **options)
socket.getaddrinfo = lookup
"""


def test_a_node_with_an_expired_certificate_is_refused_by_the_gateway_and_keeps_everything(realm, tmp_path):
    past = datetime.now(UTC) - timedelta(days=3 * 365)
    issue_node(realm.folder / "ca", tmp_path / "keys", NAME, now=past)
    assert_refused(realm, tmp_path, "LNK-03")


def test_a_log_certificate_that_the_gateway_refuses_is_told_as_that_and_not_as_an_ill_gateway(realm, tmp_path):
    make_authority(tmp_path / "foreign", "Another test authority")
    issue_node(tmp_path / "foreign", tmp_path / "theirs", NAME)
    issue_node(realm.folder / "ca", tmp_path / "keys", NAME)
    for name in ("log.key", "log.pem"):
        shutil.copy(tmp_path / "theirs" / name, tmp_path / "keys" / name)
    assert_refused(realm, tmp_path, "LNK-07")


def test_a_gateway_on_ipv6_is_reached_like_any_other(fresh, realm, tmp_path):
    issue_gateway(realm.folder / "ca", tmp_path / "leaf", GATEWAY, ["::1"])
    with sim_gateway(realm, tmp_path / "leaf", host="::1") as fake:
        fresh.gateway = fake.url
        with running(fresh, before=EAGER):
            raw = send_one(fresh)
            fresh.wait_receipted(size=1)
            assert fake.bodies() == [raw]


def test_a_node_stops_cleanly_while_its_call_hangs(fresh, realm):
    with sim_gateway(realm) as fake:
        fresh.gateway, fresh.link = fake.url, "connect_s_max = 5\nanswer_s_max = 600"
        fake.script = lambda request: None if request.is_session else hang
        with running(fresh, before=EAGER):
            raw = send_one(fresh)
            wait_until("the call", lambda: any(not call.is_session for call in fake.calls))
            assert fresh.stop() == 0
        assert fresh.bodies() == [raw]


class Recorder:
    """A socket that keeps each write."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def settimeout(self, _seconds: float | None) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.written.append(bytes(data))


@pytest.mark.parametrize(
    ("method", "body", "writes"), [("PUT", b"batch", 1), ("PUT", b"", 1), ("PUT", None, 1), ("POST", b"session", 2), ("HEAD", b"", 1)]
)  # fmt: skip
def test_a_batch_leaves_in_one_write_with_its_head_and_a_session_does_not(method, body, writes):
    connection = _CheckedConnection("gateway.example", 443)
    connection.sock = recorder = Recorder()
    for _ in range(2):
        connection.request(method, "/v1/x", body=body, headers={"Wasl-Fence": "f"})
        connection._HTTPConnection__state = "Idle"  # answered
        head, _, rest = b"".join(recorder.written).partition(b"\r\n\r\n")
        assert head.startswith(f"{method} /v1/x HTTP/1.1".encode())
        assert (rest, len(recorder.written)) == (body or b"", writes)
        recorder.written.clear()
