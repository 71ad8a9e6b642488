"""Certificates: whose key it is, who says so, and when that counted."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sync import certificates
from sync.errors import BadCertificate
from tests.sim_realm import (
    AUTHORITY,
    COSIGN_CERTIFICATE,
    FROM,
    GATEWAY,
    LOG_CERTIFICATE,
    LOG_SIGNER,
    NODE,
    NOW_S,
    UNTIL,
    VALIDITY,
    authority,
    certificate,
    der,
    ed25519,
    later,
    p256,
    pem,
    validity_list,
)

KEY = ed25519("log key")
LOG_URI = f"urn:wasl:node:{NODE}:log"
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


# --- reading


def test_pem_and_der_of_a_certificate_read_as_the_same():
    assert certificates.read(pem(LOG_CERTIFICATE)) == certificates.read(der(LOG_CERTIFICATE)) == LOG_CERTIFICATE


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-----BEGIN CERTIFICATE-----\n", bytes(20_000), pem(LOG_CERTIFICATE)[:200]]
)
def test_what_is_no_certificate_is_refused(data):
    with pytest.raises(BadCertificate):
        certificates.read(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_certificate(data):
    with pytest.raises(BadCertificate):
        certificates.read(data)


def test_where_only_der_is_allowed_pem_is_refused():
    assert certificates.read_der(der(LOG_CERTIFICATE)) == LOG_CERTIFICATE
    for data in (pem(LOG_CERTIFICATE), der(LOG_CERTIFICATE) + b"\0"):
        with pytest.raises(BadCertificate):
            certificates.read_der(data)


def test_unused_bits_of_the_signature_are_refused_where_only_der_is_allowed():
    # a signature that ends in a zero bit may claim that this bit is unused: the parser lets it pass, and nothing signs it
    data = bytearray(der(LOG_CERTIFICATE))
    at = len(data) - len(LOG_CERTIFICATE.signature) - 1
    assert data[at] == 0
    assert not data[-1] & 1, "this certificate does not show the case; change a name of the realm"
    data[at] = 1
    assert certificates.read(bytes(data)).signature == LOG_CERTIFICATE.signature
    with pytest.raises(BadCertificate):
        certificates.read_der(bytes(data))


def test_unused_bits_of_a_validity_lists_signature_are_refused():
    for n in range(64):
        data = bytearray(validity_list(AUTHORITY, {LOG_CERTIFICATE: later(n)}))
        signature = x509.load_der_x509_crl(bytes(data)).signature
        if not data[-1] & 1:
            data[len(data) - len(signature) - 1] = 1
            with pytest.raises(BadCertificate):
                certificates.read_validity(bytes(data), AUTHORITY.certificate)
            return
    pytest.fail("no signature ends in a zero bit")


def test_each_single_bit_change_of_a_log_certificate_is_refused():
    data = der(LOG_CERTIFICATE)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(BadCertificate):
            found = certificates.read_der(bytes(changed))
            certificates.check_chain(found, (), AUTHORITY.certificate, at=NOW_S)


# --- names


def test_each_role_reads_its_own_name():
    assert certificates.node_of(LOG_CERTIFICATE, "log") == NODE
    assert certificates.gateway_of(COSIGN_CERTIFICATE, "cosign") == GATEWAY


@pytest.mark.parametrize(
    "uris",
    [
        (), ("urn:wasl:node:clinic-17",), ("urn:wasl:node:clinic-17:cosign",), ("urn:wasl:node::log",), ("urn:wasl:node:Clinic:log",),
        ("urn:wasl:gateway:clinic-17:log",), ("urn:wasl:node:clinic-17:log", "urn:wasl:node:clinic-18:log"), ("urn:wasl:node:a/b:log",),
        ("urn:wasl:node:clinic-17:log:log",), ("urn:wasl:node:clinic-17:log", "urn:wasl:node:clinic-17"), ("https://clinic-17:log",),
    ],
)  # fmt: skip
def test_certificate_that_does_not_name_one_log_is_refused(uris):
    with pytest.raises(BadCertificate):
        certificates.node_of(certificate(AUTHORITY, *uris, key=KEY), "log")


def test_link_certificate_is_no_log_certificate_and_the_other_way_round():
    link = certificate(AUTHORITY, f"urn:wasl:node:{NODE}", key=p256("link"))
    assert certificates.node_of(link) == NODE
    for found, role in ((link, "log"), (LOG_CERTIFICATE, "")):
        with pytest.raises(BadCertificate):
            certificates.node_of(found, role)


def test_other_names_beside_ours_do_no_harm():
    found = certificate(AUTHORITY, LOG_URI, "https://example.test/", key=KEY)
    assert certificates.node_of(found, "log") == NODE


def test_only_ed25519_keys_sign_notes():
    assert certificates.verifier_of(LOG_CERTIFICATE, NODE).public == LOG_SIGNER.public
    with pytest.raises(BadCertificate):
        certificates.verifier_of(certificate(AUTHORITY, LOG_URI, key=p256("x")), NODE)


# --- chains


def check(leaf: x509.Certificate, *chain: x509.Certificate, anchor=AUTHORITY, at: int = NOW_S) -> None:
    certificates.check_chain(leaf, chain, anchor.certificate, at=at)


def test_certificate_of_the_authority_is_good_from_its_first_to_its_last_second():
    for at in (NOW_S, int(FROM.timestamp()), int(UNTIL.timestamp())):
        check(LOG_CERTIFICATE, at=at)


@pytest.mark.parametrize(
    "at", [int(FROM.timestamp()) - 1, int(UNTIL.timestamp()) + 1, 0, -1, 2**40, 2**62, 2**63 - 1, -(2**62)]
)
def test_certificate_outside_its_time_is_refused(at):
    with pytest.raises(BadCertificate):
        check(LOG_CERTIFICATE, at=at)


def test_certificate_of_another_authority_is_refused_also_of_one_with_the_same_name():
    other = authority("other")
    twin = authority("twin")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    forged = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .sign(twin.key, hashes.SHA256())
    )
    for found in (certificate(other, LOG_URI, key=KEY), forged):
        with pytest.raises(BadCertificate):
            check(found)


def test_chain_over_intermediates_is_followed_in_order_only():
    root = authority("deep root", path_length=2)
    one = authority("one", issuer=root, path_length=1)
    two = authority("two", issuer=one, path_length=0)
    leaf = certificate(two, LOG_URI, key=KEY)
    check(leaf, two.certificate, one.certificate, anchor=root)
    for chain in ([one, two], [two], [one], []):
        with pytest.raises(BadCertificate):
            check(leaf, *(each.certificate for each in chain), anchor=root)


def test_chain_longer_than_the_limit_is_refused():
    root = authority("long root", path_length=None)
    below = [root]
    for n in range(3):
        below.append(authority(f"long {n}", issuer=below[-1], path_length=None))
    check(certificate(below[2], LOG_URI, key=KEY), *(each.certificate for each in below[2:0:-1]), anchor=root)
    with pytest.raises(BadCertificate):
        check(certificate(below[3], LOG_URI, key=KEY), *(each.certificate for each in below[3:0:-1]), anchor=root)


def test_authority_below_one_that_may_only_issue_leaves_is_refused():
    below = authority("below", issuer=AUTHORITY)
    with pytest.raises(BadCertificate):
        check(certificate(below, LOG_URI, key=KEY), below.certificate)


def test_leaf_that_issues_is_refused():
    class Leaf:
        certificate = LOG_CERTIFICATE
        key = p256("leaf as authority")

    forged = certificate(Leaf, LOG_URI, key=KEY)
    with pytest.raises(BadCertificate):
        check(forged, LOG_CERTIFICATE)


def test_unknown_critical_extension_is_refused_and_an_uncritical_one_is_not():
    # RFC 5280 4.2: an intermediate's name constraints, say, must not be passed over
    check(certificate(AUTHORITY, LOG_URI, key=KEY, extensions=[(STRANGE, False)]))
    with pytest.raises(BadCertificate):
        check(certificate(AUTHORITY, LOG_URI, key=KEY, extensions=[(STRANGE, True)]))


def test_expired_intermediate_is_refused():
    root = authority("root of an old one", path_length=1)
    old = authority("old", issuer=root)
    leaf = certificate(old, LOG_URI, key=KEY, not_after=datetime(2050, 1, 1, tzinfo=UTC))
    check(leaf, old.certificate, anchor=root)
    with pytest.raises(BadCertificate):
        check(leaf, old.certificate, anchor=root, at=int(datetime(2047, 1, 1, tzinfo=UTC).timestamp()))


# --- validity lists


def test_validity_list_names_the_revoked_and_nobody_else():
    found = certificates.read_validity(validity_list(AUTHORITY, {LOG_CERTIFICATE: later(0)}), AUTHORITY.certificate)
    assert certificates.is_revoked(LOG_CERTIFICATE, found)
    assert not certificates.is_revoked(COSIGN_CERTIFICATE, found)
    assert not certificates.is_revoked(LOG_CERTIFICATE, certificates.read_validity(VALIDITY, AUTHORITY.certificate))


def test_validity_list_of_somebody_else_is_refused():
    with pytest.raises(BadCertificate):
        certificates.read_validity(validity_list(authority("other")), AUTHORITY.certificate)


@pytest.mark.parametrize("data", [b"", b"x", VALIDITY[:-1], VALIDITY + b"\0", der(LOG_CERTIFICATE)])
def test_what_is_no_validity_list_is_refused(data):
    with pytest.raises(BadCertificate):
        certificates.read_validity(data, AUTHORITY.certificate)


def test_partial_and_delta_lists_are_refused_for_what_they_leave_out_is_not_unrevoked():
    partial = x509.IssuingDistributionPoint(
        full_name=None, relative_name=None, only_contains_user_certs=False, only_contains_ca_certs=True, only_some_reasons=None,
        indirect_crl=False, only_contains_attribute_certs=False,
    )  # fmt: skip
    for extension in (partial, x509.DeltaCRLIndicator(1)):
        with pytest.raises(BadCertificate):
            certificates.read_validity(validity_list(AUTHORITY, critical=extension), AUTHORITY.certificate)


def test_each_single_bit_change_of_a_validity_list_is_refused():
    data = validity_list(AUTHORITY, {LOG_CERTIFICATE: later(0)})
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(BadCertificate):
            certificates.read_validity(bytes(changed), AUTHORITY.certificate)
