"""Who gets in: certificates, the validity list, and heads without end."""

import os
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.cosigner import load_cosigner
from gateway.errors import BadSetup
from gateway.identity import HEAD_BYTES_MAX, Peer, ValidityList, caller
from gateway.problems import Problem
from node.tools.pki import issue_gateway, issue_node
from sync.certificates import der, read
from tests.gateway_rig import GATEWAY, Gateway, Realm, TinyNode, https_pool, message, running


@pytest.fixture(scope="module")
def gateway(realm, tmp_path_factory):
    with running(realm, tmp_path_factory.mktemp("gateway")) as found:
        yield found


def call(realm, gateway, leaf) -> urllib3.BaseHTTPResponse:
    pool = https_pool(realm, gateway.sync_port, leaf)
    try:
        return pool.request("POST", "/v1/session", body=b"{")
    finally:
        pool.close()


def refused_at_tls(realm, gateway, leaf) -> bool:
    try:
        call(realm, gateway, leaf)
    except (urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError):
        return True
    return False


# --- the handshake


def test_a_put_without_client_certificate_never_reaches_the_api(realm, gateway):
    before = gateway.log
    assert refused_at_tls(realm, gateway, None)
    assert gateway.log == before


@pytest.mark.parametrize("days", [-3, 3 * 365])
def test_a_put_with_an_expired_certificate_or_one_of_tomorrow_never_reaches_the_api(realm, gateway, tmp_path, days):
    issue_node(realm.folder / "ca", tmp_path, "late", now=datetime.now(UTC) - timedelta(days=days))
    before = gateway.log
    assert refused_at_tls(realm, gateway, tmp_path / "link")
    assert gateway.log == before


def test_a_put_with_a_certificate_of_another_authority_never_reaches_the_api(realm, gateway, tmp_path):
    foreign = Realm.make(tmp_path).node("clinic-17")
    before = gateway.log
    assert refused_at_tls(realm, gateway, foreign / "link")
    assert gateway.log == before


def test_tls_1_2_is_refused(realm, gateway):
    leaf = realm.node("old-tls") / "link"
    context = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(leaf.with_suffix(".pem"), leaf.with_suffix(".key"))
    with socket.create_connection(("127.0.0.1", gateway.sync_port), timeout=10) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_good_certificate_reaches_the_api(realm, gateway):
    assert call(realm, gateway, realm.node("good") / "link").status == 422


def test_a_log_certificate_is_no_identity_on_the_link(realm, gateway):
    answer = call(realm, gateway, realm.node("good") / "log")
    assert (answer.status, answer.json()["code"]) == (403, "not-a-node")


def test_plain_http_on_the_nodes_listener_gets_nothing(gateway):
    with socket.create_connection(("127.0.0.1", gateway.sync_port), timeout=10) as plain:
        plain.sendall(b"POST /v1/session HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert b"HTTP/1.1" not in answer


# --- bounds


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-Long: ", b"GET /"])
def test_a_head_without_end_is_cut_off(gateway, head):
    with socket.create_connection(("127.0.0.1", gateway.api_port), timeout=10) as plain:
        plain.sendall(head)
        received = b""
        try:
            for _ in range(64):
                plain.sendall(b"a" * HEAD_BYTES_MAX)
            received = plain.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert received.startswith(b"HTTP/1.1 400") or not received
    assert gateway.get("/healthz", token="").status == 200


def test_two_thousand_idle_connections_leave_the_gateway_serving(realm, gateway, tmp_path):
    idle = []
    try:
        for port in (gateway.sync_port, gateway.api_port):
            idle += [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(1000)]
        assert call(realm, gateway, realm.node("good") / "link").status == 422
        assert gateway.get("/healthz", token="").status == 200
    finally:
        for each in idle:
            each.close()


# --- the validity list


def test_a_revoked_node_gets_403_from_the_moment_the_list_changes(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "revoked", tmp_path / "outbox.sqlite")
    try:
        node.add([message(n) for n in range(4)])
        assert node.session().status == 200
        assert node.put(0, 2).status == 200
        realm.revoke(node.keys / "link.pem")
        for answer in (node.put(2, 4), node.session()):
            assert (answer.status, answer.json()["code"]) == (403, "revoked")
        assert len(gateway.records("revoked", "his")) == 2
    finally:
        node.close()


def test_a_revoked_log_certificate_opens_no_session(realm, gateway, tmp_path):
    node = TinyNode(realm, gateway, "lost-log-key", tmp_path / "outbox.sqlite")
    try:
        realm.revoke(node.keys / "log.pem")
        answer = node.session()
        assert (answer.status, answer.json()["code"]) == (403, "revoked")
    finally:
        node.close()


@pytest.fixture
def validity(tmp_path):
    """A list of its own, with the alarms it raised."""
    realm = Realm.make(tmp_path / "realm")
    anchor, alarms = read((realm.folder / "ca/ca.pem").read_bytes()), []
    return realm, anchor, ValidityList(realm.folder / "ca/crl.der", anchor, alarms.append), alarms


def touch(path, data: bytes) -> None:
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_list_that_cannot_be_read_leaves_the_last_good_one_in_force_and_alarms_once(validity):
    realm, _, found, alarms = validity
    link = realm.node("n") / "link.pem"
    realm.revoke(link)
    assert found.revokes(read(link.read_bytes()))
    for data in (b"", b"no list", bytes(100)):
        touch(realm.folder / "ca/crl.der", data)
        assert found.revokes(read(link.read_bytes()))
        assert found.revokes(read(link.read_bytes()))
    (realm.folder / "ca/crl.der").unlink()
    assert found.revokes(read(link.read_bytes()))
    assert alarms == ["GWY-13"] * 4


def test_a_list_of_another_authority_never_replaces_ours(validity, tmp_path):
    realm, _, found, alarms = validity
    before = found.data
    touch(realm.folder / "ca/crl.der", (Realm.make(tmp_path / "foreign").folder / "ca/crl.der").read_bytes())
    found.revokes(read((realm.node("n") / "link.pem").read_bytes()))
    assert (found.data, alarms) == (before, ["GWY-13"])


def test_a_stale_list_is_told_but_refuses_nobody(validity):
    realm, anchor, found, _ = validity
    key = load_pem_private_key((realm.folder / "ca/ca.key").read_bytes(), None)
    old = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(anchor.subject)
        .last_update(datetime(2025, 1, 1, tzinfo=UTC))
        .next_update(datetime(2025, 2, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    now = datetime.now(UTC).timestamp()
    assert not found.is_stale(now)
    touch(realm.folder / "ca/crl.der", old.public_bytes(Encoding.DER))
    assert found.is_stale(now)
    assert not found.revokes(read((realm.node("n") / "link.pem").read_bytes()))


def test_a_missing_list_at_the_start_is_refused(validity):
    realm, anchor, _, alarms = validity
    with pytest.raises(BadSetup):
        ValidityList(realm.folder / "none.der", anchor, alarms.append)


def test_a_connection_does_not_outlive_its_certificate(validity):
    realm, _, found, _ = validity
    certificate = read((realm.node("n") / "link.pem").read_bytes())

    class State:
        peer = Peer(der(certificate), 5.0)

    now = datetime.now(UTC).timestamp()
    assert caller(State, found, now) == ("n", 5.0)
    with pytest.raises(Problem) as refused:
        caller(State, found, certificate.not_valid_after_utc.timestamp() + 1)
    assert (refused.value.status, refused.value.code) == (403, "expired")


# --- our own keys


def test_a_cosigning_key_that_is_not_the_certificates_or_the_names_refuses_to_start(tmp_path):
    realm = Realm.make(tmp_path / "realm")
    issue_gateway(realm.folder / "ca", tmp_path / "other", "other", ["localhost"])
    anchor = read((realm.folder / "ca/ca.pem").read_bytes())
    keys, other = realm.folder / "gateway", tmp_path / "other"
    foreign = read((Realm.make(tmp_path / "foreign").folder / "ca/ca.pem").read_bytes())

    def load(name=GATEWAY, key=keys / "cosign.key", certificate=keys / "cosign.pem", anchor=anchor):
        return load_cosigner(name, key, certificate, anchor, lambda: int(datetime.now(UTC).timestamp()))

    assert load().signer.name == GATEWAY
    for wrong in (
        {"name": "other"}, {"key": other / "cosign.key"}, {"key": keys / "server.key"}, {"certificate": keys / "server.pem"},
        {"certificate": other / "cosign.pem", "key": other / "cosign.key"}, {"anchor": foreign}, {"key": tmp_path / "none"},
    ):  # fmt: skip
        with pytest.raises(BadSetup):
            load(**wrong)


def test_a_gateway_with_another_ones_server_certificate_exits_78_before_it_listens(tmp_path):
    realm = Realm.make(tmp_path / "realm")
    issue_gateway(realm.folder / "ca", tmp_path / "other", "other", ["127.0.0.1"])
    for file in ("server.pem", "server.key"):
        (realm.folder / "gateway" / file).write_bytes((tmp_path / "other" / file).read_bytes())
    gateway = Gateway(realm, tmp_path / "data")
    with pytest.raises(RuntimeError, match="ended with 78"):
        gateway.start()
    assert "Traceback" not in gateway.log
    assert "this gateway is centre" in gateway.log
