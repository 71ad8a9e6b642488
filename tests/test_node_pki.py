"""The PKI tool: chains verify, keys are private, and TLS takes the right certificate and no other."""

import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socketpair
from threading import Thread

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.tools import pki, pki_files
from node.tools.pki import issue_log_key, issue_node
from node.tools.pki_commands import pki_group
from sync.certificates import node_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA with one node and one gateway, made today: TLS reads the real clock."""
    root = tmp_path_factory.mktemp("pki")
    pki.make_authority(root / "ca", "Test CA")
    pki.issue_node(root / "ca", root / "node", "clinic-17")
    pki.issue_gateway(root / "ca", root / "gateway", "centre", ["localhost", "127.0.0.1", "::1"])
    return root


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> x509.SubjectAlternativeName:
    return certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def uris(path: Path) -> list[str]:
    return names(path).get_values_for_type(x509.UniformResourceIdentifier)


# --- chains and contents


def test_ca_may_sign_leaves_and_lists_and_nothing_below(realm):
    ca = certificate(realm / "ca/ca.pem")
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    assert ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_link_certificate_verifies_as_client_and_names_the_node(realm):
    store = Store([certificate(realm / "ca/ca.pem")])
    verified = PolicyBuilder().store(store).build_client_verifier().verify(certificate(realm / "node/link.pem"), [])
    assert verified.subjects == [x509.UniformResourceIdentifier("urn:wasl:node:clinic-17")]
    assert len(verified.chain) == 2


def test_server_certificate_verifies_for_each_of_its_hosts_and_no_other(realm):
    import ipaddress

    builder = PolicyBuilder().store(Store([certificate(realm / "ca/ca.pem")]))
    server = certificate(realm / "gateway/server.pem")
    for host in (
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ):
        builder.build_server_verifier(host).verify(server, [])
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("elsewhere.example")).verify(server, [])
    assert uris(realm / "gateway/server.pem") == ["urn:wasl:gateway:centre"]


def test_each_leaf_has_its_own_purpose_only(realm):
    expected = {
        "node/link": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "node/log": None,
        "gateway/server": [ExtendedKeyUsageOID.SERVER_AUTH],
        "gateway/cosign": None,
        "gateway/seal": None,
    }
    for name, purpose in expected.items():
        extensions = certificate(realm / f"{name}.pem").extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature is (name != "gateway/seal")
        assert usage.key_agreement is (name == "gateway/seal")
        assert not usage.key_cert_sign
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        if purpose is None:
            with pytest.raises(x509.ExtensionNotFound):
                extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        else:
            assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == purpose


def test_every_leaf_is_signed_by_the_ca_and_points_to_its_key(realm):
    ca = certificate(realm / "ca/ca.pem")
    ca_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    serials = set()
    for name in ("node/link", "node/log", "gateway/server", "gateway/cosign", "gateway/seal"):
        leaf = certificate(realm / f"{name}.pem")
        leaf.verify_directly_issued_by(ca)
        extensions = leaf.extensions
        assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == ca_id
        own_id = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert own_id == x509.SubjectKeyIdentifier.from_public_key(leaf.public_key())
        serials.add(leaf.serial_number)
    assert len(serials) == 5


def test_keys_are_of_the_promised_kind_and_match_their_certificates(realm):
    kinds = {
        "ca/ca": ec.EllipticCurvePrivateKey,
        "node/link": ec.EllipticCurvePrivateKey,
        "node/log": ed25519.Ed25519PrivateKey,
        "gateway/server": ec.EllipticCurvePrivateKey,
        "gateway/cosign": ed25519.Ed25519PrivateKey,
        "gateway/seal": x25519.X25519PrivateKey,
    }
    for name, kind in kinds.items():
        pem = (realm / f"{name}.key").read_bytes()
        assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")  # PKCS #8
        key = serialization.load_pem_private_key(pem, password=None)
        assert isinstance(key, kind)
        assert key.public_key() == certificate(realm / f"{name}.pem").public_key()
        if isinstance(key, ec.EllipticCurvePrivateKey):
            assert isinstance(key.curve, ec.SECP256R1)


def test_log_and_cosign_certificates_verify_up_to_the_ca(realm):
    verifier = PolicyBuilder().store(Store([certificate(realm / "ca/ca.pem")])).build_client_verifier()
    for name in ("node/log", "gateway/cosign"):
        assert len(verifier.verify(certificate(realm / f"{name}.pem"), []).chain) == 2


def test_log_and_cosign_certificates_name_their_purpose(realm):
    assert uris(realm / "node/log.pem") == ["urn:wasl:node:clinic-17:log"]
    assert uris(realm / "gateway/cosign.pem") == ["urn:wasl:gateway:centre:cosign"]
    assert uris(realm / "gateway/seal.pem") == ["urn:wasl:gateway:centre:seal"]


def test_further_seal_key_is_another_one_and_never_replaces_the_first(realm, tmp_path):
    said = CliRunner().invoke(pki_group, ["seal", "centre", "--ca", str(realm / "ca"), "--out", str(tmp_path / "new")])
    assert (said.exit_code, "seal.key stays there" in said.output) == (0, True)
    new, old = certificate(tmp_path / "new/seal.pem"), certificate(realm / "gateway/seal.pem")
    new.verify_directly_issued_by(certificate(realm / "ca/ca.pem"))
    assert uris(tmp_path / "new/seal.pem") == uris(realm / "gateway/seal.pem")
    assert new.public_key() != old.public_key()
    with pytest.raises(FileExistsError):
        pki.issue_seal(realm / "ca", tmp_path / "new", "centre")


def test_certificates_are_valid_from_the_day_before_and_for_their_named_years(tmp_path):
    pki.make_authority(tmp_path, "CA", now=NOW)
    pki.issue_node(tmp_path, tmp_path, "n", now=NOW)
    ca, link = certificate(tmp_path / "ca.pem"), certificate(tmp_path / "link.pem")
    assert ca.not_valid_before_utc == link.not_valid_before_utc == NOW - timedelta(days=1)
    assert ca.not_valid_after_utc == NOW + timedelta(days=20 * 365)
    assert link.not_valid_after_utc == NOW + timedelta(days=2 * 365)


def test_a_leaf_never_outlives_its_ca(tmp_path):
    pki.make_authority(tmp_path, "CA", now=NOW)
    pki.issue_node(tmp_path, tmp_path, "n", now=NOW + timedelta(days=19 * 365))
    assert certificate(tmp_path / "log.pem").not_valid_after_utc == certificate(tmp_path / "ca.pem").not_valid_after_utc


# --- files


def test_private_keys_are_readable_by_their_owner_only(realm):
    keys = [*realm.glob("*/*.key")]
    assert len(keys) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_nothing_but_the_named_files_is_left(realm):
    found = sorted(str(path.relative_to(realm)) for path in realm.rglob("*") if path.is_file())
    assert found == sorted(
        ["ca/ca.pem", "ca/ca.key", "ca/crl.der"]
        + [f"node/{stem}.{end}" for stem in ("link", "log") for end in ("pem", "key")]
        + [f"gateway/{stem}.{end}" for stem in ("server", "cosign", "seal") for end in ("pem", "key")]
    )


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "x.key"
    pki_files.write_private(target, b"old")
    with pytest.raises(TypeError):
        pki_files.write_private(target, "text is not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.key"]


def test_existing_keys_are_never_replaced(realm):
    before = {path: path.read_bytes() for path in realm.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError):
        pki.make_authority(realm / "ca", "Again")
    with pytest.raises(FileExistsError):
        pki.issue_node(realm / "ca", realm / "node", "clinic-17")
    with pytest.raises(FileExistsError):
        pki.issue_gateway(realm / "ca", realm / "gateway", "centre", ["localhost"])
    assert before == {path: path.read_bytes() for path in realm.rglob("*") if path.is_file()}


def test_further_log_key_is_another_one_for_the_same_node_and_never_in_place_of_the_first(realm, tmp_path):
    issue_node(realm / "ca", tmp_path / "node", "clinic-9")
    with pytest.raises(FileExistsError):
        issue_log_key(realm / "ca", tmp_path / "node", "clinic-9")
    issue_log_key(realm / "ca", tmp_path / "next", "clinic-9")
    first, second = (
        x509.load_pem_x509_certificate((tmp_path / each / "log.pem").read_bytes()) for each in ("node", "next")
    )
    assert node_of(first, "log") == node_of(second, "log") == "clinic-9"
    assert first.public_key() != second.public_key()
    key = serialization.load_pem_private_key((tmp_path / "next/log.key").read_bytes(), None)
    assert key.public_key() == second.public_key()
    assert {file.name for file in (tmp_path / "next").iterdir()} == {"log.key", "log.pem"}


def test_an_issue_cut_off_before_its_end_can_be_repeated(realm, tmp_path):
    pki.issue_node(realm / "ca", tmp_path, "clinic-18")
    (tmp_path / "log.pem").unlink()  # the last file written: as after a power cut
    pki.issue_node(realm / "ca", tmp_path, "clinic-18")
    key = serialization.load_pem_private_key((tmp_path / "link.key").read_bytes(), password=None)
    assert key.public_key() == certificate(tmp_path / "link.pem").public_key()


@pytest.mark.parametrize("name", ["", "Clinic", "a b", "a+b", "a/b", "-a", "a.", "عيادة", "a" * 57, "a\n"])
def test_a_name_that_no_urn_or_note_could_carry_is_refused(realm, tmp_path, name):
    with pytest.raises(ValueError, match="a name has"):
        pki.issue_node(realm / "ca", tmp_path / "n", name)
    with pytest.raises(ValueError, match="a name has"):
        pki.issue_gateway(realm / "ca", tmp_path / "g", name, ["localhost"])
    assert not list(tmp_path.iterdir())


def test_the_longest_name_fits_its_certificates(realm, tmp_path):
    pki.issue_gateway(realm / "ca", tmp_path, "g" * 56, ["localhost"])
    assert (tmp_path / "cosign.pem").exists()


def test_a_gateway_without_host_is_refused(realm, tmp_path):
    with pytest.raises(ValueError, match="at least one host"):
        pki.issue_gateway(realm / "ca", tmp_path / "g", "g", [])


def test_a_ca_whose_key_is_another_ones_is_refused(realm, tmp_path):
    pki.make_authority(tmp_path, "Other")
    (tmp_path / "ca.pem").write_bytes((realm / "ca/ca.pem").read_bytes())
    with pytest.raises(ValueError, match="not the key"):
        pki.issue_node(tmp_path, tmp_path / "n", "n")


# --- validity list


def validity_list(folder: Path) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((folder / "crl.der").read_bytes())


def test_revoked_certificates_stay_on_the_list_and_others_never_come(tmp_path):
    pki.make_authority(tmp_path, "CA", now=NOW)
    for name in ("a", "b", "c"):
        pki.issue_node(tmp_path, tmp_path / name, name, now=NOW)
    assert len(validity_list(tmp_path)) == 0
    for name in ("a", "b", "a"):
        pki.revoke(tmp_path, (tmp_path / name / "link.pem").read_bytes(), now=NOW)
    current = validity_list(tmp_path)
    serial = {name: certificate(tmp_path / name / "link.pem").serial_number for name in ("a", "b", "c")}
    assert {entry.serial_number for entry in current} == {serial["a"], serial["b"]}
    assert current.is_signature_valid(certificate(tmp_path / "ca.pem").public_key())
    assert current.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert current.next_update_utc == NOW + timedelta(days=20 * 365)
    assert current.last_update_utc == NOW - timedelta(days=1)


def test_a_certificate_of_another_ca_is_not_revoked_here(realm, tmp_path):
    pki.make_authority(tmp_path, "Test CA")  # same name, other key
    before = (tmp_path / "crl.der").read_bytes()
    with pytest.raises(ValueError, match="not issued by this CA"):
        pki.revoke(tmp_path, (realm / "node/link.pem").read_bytes())
    with pytest.raises(ValueError, match="PEM"):
        pki.revoke(tmp_path, b"no certificate")
    assert (tmp_path / "crl.der").read_bytes() == before


# --- TLS


def server_context(realm: Path, *, with_list: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(realm / "gateway/server.pem", realm / "gateway/server.key")
    context.load_verify_locations(realm / "ca/ca.pem")
    if with_list is not None:
        pem = validity_list(with_list).public_bytes(serialization.Encoding.PEM)
        (with_list / "crl.pem").write_bytes(pem)
        context.load_verify_locations(with_list / "crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def client_context(ca: Path, leaf: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if leaf is not None:
        context.load_cert_chain(leaf.with_suffix(".pem"), leaf.with_suffix(".key"))
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> dict[str, object]:
    """One handshake and one byte each way; return the client certificate that the server saw. Raises what failed first.

    In TLS 1.3 a client is done before the server has judged its certificate: only the exchange tells.
    """
    at_server, at_client = socketpair()
    outcome: list[dict[str, object] | BaseException] = []

    def serve() -> None:
        try:
            with server.wrap_socket(at_server, server_side=True) as tls:
                tls.sendall(tls.recv(1))
                outcome.append(tls.getpeercert() or {})
        except OSError as error:
            outcome.append(error)
        finally:
            at_server.close()

    at_client.settimeout(20)
    at_server.settimeout(20)
    thread = Thread(target=serve)
    thread.start()
    refused: OSError | None = None
    try:
        with client.wrap_socket(at_client, server_hostname=host) as tls:
            tls.sendall(b"x")
            assert tls.version() == "TLSv1.3"
            assert tls.recv(1) == b"x"
    except OSError as error:
        refused = error
    finally:
        at_client.close()
        thread.join()
    if refused is not None and not isinstance(refused, ssl.SSLCertVerificationError):
        assert isinstance(outcome[0], OSError), "only the server refused"
        raise outcome[0]
    if refused is not None:
        raise refused
    seen = outcome[0]
    assert isinstance(seen, dict)
    return seen


def test_node_and_gateway_shake_hands_and_the_gateway_sees_the_nodes_name(realm):
    for host in ("localhost", "127.0.0.1", "::1"):
        seen = shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", realm / "node/link"), host)
        assert seen["subjectAltName"] == (("URI", "urn:wasl:node:clinic-17"),)


def test_a_client_without_certificate_is_refused(realm):
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", None))


def test_a_node_of_another_ca_is_refused(realm, tmp_path):
    pki.make_authority(tmp_path, "Test CA")
    pki.issue_node(tmp_path, tmp_path, "clinic-17")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", tmp_path / "link"))


def test_a_gateway_of_another_ca_is_refused(realm, tmp_path):
    pki.make_authority(tmp_path, "Test CA")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(realm), client_context(tmp_path / "ca.pem", realm / "node/link"))


def test_a_gateway_under_another_host_name_is_refused(realm):
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", realm / "node/link"), "elsewhere")


def test_a_gateways_server_certificate_is_no_client_certificate(realm):
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", realm / "gateway/server"))


@pytest.mark.parametrize("days", [-3, 3 * 365])
def test_a_certificate_of_another_time_is_refused(realm, tmp_path, days):
    # Issued three days ahead it is not yet valid; issued three years ago it is over.
    pki.issue_node(realm / "ca", tmp_path, "clinic-19", now=datetime.now(UTC) - timedelta(days=days))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not yet valid|expired"):
        shake_hands(server_context(realm), client_context(realm / "ca/ca.pem", tmp_path / "link"))


def test_a_revoked_node_is_refused_where_the_list_is_loaded_and_others_pass(tmp_path):
    ca = tmp_path / "ca"
    pki.make_authority(ca, "CA")
    pki.issue_gateway(ca, tmp_path / "gateway", "centre", ["localhost"])
    for name in ("good", "bad"):
        pki.issue_node(ca, tmp_path / name, name)
    pki.revoke(ca, (tmp_path / "bad/link.pem").read_bytes())
    server = server_context(tmp_path, with_list=ca)
    shake_hands(server, client_context(ca / "ca.pem", tmp_path / "good/link"))
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake_hands(server, client_context(ca / "ca.pem", tmp_path / "bad/link"))


# --- commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(pki_group, arguments)
        return result.exit_code, result.output

    return invoke


def test_commands_make_a_whole_realm(run, tmp_path):
    assert run("init", "pki", "--name", "Ministry CA")[0] == 0
    assert run("node", "clinic-1")[0] == 0
    assert run("gateway", "centre", "--host", "localhost", "--host", "10.0.0.1", "--out", "gw")[0] == 0
    code, output = run("revoke", "clinic-1/link.pem")
    assert (code, "Revoked" in output) == (0, True)
    assert len(validity_list(tmp_path / "pki")) == 1
    assert (tmp_path / "gw/server.pem").exists()


def test_a_refusal_is_one_line_and_not_a_traceback(run):
    run("init", "pki")
    for arguments in (
        ("init", "pki"),
        ("node", "Bad Name"),
        ("node", "n", "--ca", "nowhere"),
        ("revoke", "missing.pem"),
        ("gateway", "centre"),
    ):
        code, output = run(*arguments)
        assert code in {1, 64}, output
        assert "Error:" in output
        assert "Traceback" not in output
