"""From a signer to an authority by the rules of RFC 5280, each of which a certificate here breaks."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from node.signatures.chain import RULES, Authorities, Chain
from tests.signing_rig import NOW, Signer, begun

ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
OTHER_USE = x509.KeyUsage(True, True, False, False, False, False, True, False, False)  # as the standard lists them
NOT_READ = "a certificate has a critical extension that is not read here"
NO_AUTHORITY = "a certificate on the way is not an authority's"
NOT_TAKEN = "a certificate is of a key or algorithm that is not taken"
FURTHER = "an authority stands further from the signer than one above it allows"


def certify(
    name, issuer=None, *, is_ca=True, length=None, more=(), key=None, hash_=None, days=(-30, 30), constrained=True
):
    """A certificate with what it takes to break a rule: `more` extensions as (value, is critical)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    since, until = (NOW + timedelta(days=each) for each in days)
    built = begun(name, issuer, key, since=since, until=until)
    if constrained:
        built = built.add_extension(x509.BasicConstraints(ca=is_ca, path_length=length), critical=True)
    for value, is_critical in more:
        built = built.add_extension(value, critical=is_critical)
    return Signer(built.sign(issuer.key if issuer else key, hash_ or hashes.SHA256()), key)


TOP = certify("Top")


def signer(issuer, **options):
    return certify("Dr. Test", issuer, is_ca=False, **options)


def judged(found, *others, known=(TOP,), time=NOW):
    chain = Chain(Authorities([each.certificate for each in known], {}), time)
    result = chain.judge(found.certificate, [each.certificate for each in others])
    return result.result, result.why


def below(top, *lengths):
    """Authorities one below the other, each with a path length."""
    found = [top]
    for number, length in enumerate(lengths):
        found.append(certify(f"Below {number}", found[-1], length=length))
    return found[1:]


def test_at_most_three_authorities_stand_between_signer_and_authority_in_whatever_order_they_came():
    three, four = below(TOP, None, None, None), below(TOP, None, None, None, None)
    assert judged(signer(three[-1]), *three) == ("valid", "")
    assert judged(signer(three[-1]), *reversed(three)) == ("valid", "")
    why = "more than 3 authorities stand between the signer and a known one"
    assert judged(signer(four[-1]), *four) == ("unknown signer", why)


def test_an_authority_has_no_more_authorities_below_it_than_its_path_length():
    assert judged(signer((one := below(TOP, 0))[-1]), *one) == ("valid", "")
    assert judged(signer((two := below(TOP, 1, None))[-1]), *two) == ("valid", "")
    assert judged(signer((two := below(TOP, 0, None))[-1]), *two) == ("unknown signer", FURTHER)
    alone = certify("Alone", length=0)
    assert judged(signer(alone), known=(alone,)) == ("valid", "")
    assert judged(signer((one := below(alone, None))[-1]), *one, known=(alone,)) == ("unknown signer", FURTHER)


@pytest.mark.parametrize("time", [NOW, None])
def test_a_critical_extension_that_nobody_reads_ends_the_path(time):
    assert judged(signer(TOP, more=[(ODD, False)]), time=time) == ("valid", "")
    assert judged(signer(TOP, more=[(ODD, True)]), time=time) == ("unknown signer", NOT_READ)
    middle = certify("Middle", TOP, more=[(ODD, True)])
    assert judged(signer(middle), middle, time=time) == ("unknown signer", NOT_READ)
    demanding = certify("Middle", TOP, more=[(x509.PolicyConstraints(0, None), True)])
    assert judged(signer(demanding), demanding, time=time) == ("unknown signer", NOT_READ)


def test_a_critical_extension_that_is_read_here_does_not():
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    middle = certify("Middle", TOP, more=[(policies, True)])
    assert judged(signer(middle, more=[(policies, True), (purpose, True), (OTHER_USE, True)]), middle) == ("valid", "")


def test_names_that_an_authority_may_not_sign_for_are_not_good():
    middle = certify("Middle", TOP, more=[(x509.NameConstraints([x509.DNSName("clinic.test")], None), True)])
    for name, result in (("a.clinic.test", "valid"), ("a.other.test", "unknown signer")):
        assert (
            judged(signer(middle, more=[(x509.SubjectAlternativeName([x509.DNSName(name)]), False)]), middle)[0]
            == result
        )


@pytest.mark.parametrize("broken", [{"is_ca": False}, {"constrained": False}, {"more": [(OTHER_USE, True)]}])
def test_what_is_not_an_authority_certifies_nobody(broken):
    middle = certify("Middle", TOP, **broken)
    assert judged(signer(middle), middle) == ("unknown signer", NO_AUTHORITY)
    top = certify("Top", **broken)
    assert judged(signer(top), known=(top,)) == ("unknown signer", NO_AUTHORITY)


@pytest.mark.parametrize(
    "weak",
    [
        {"key": rsa.generate_private_key(65537, 1024)},
        {"key": rsa.generate_private_key(65537, 2048), "hash_": hashes.SHA224()},
        {"key": ec.generate_private_key(ec.SECP256K1())},
    ],
)
def test_an_authority_of_a_weak_key_or_algorithm_leads_nowhere(weak):
    top = certify("Top", **weak)
    assert judged(signer(top, hash_=weak.get("hash_")), known=(top,)) == ("unknown signer", NOT_TAKEN)


@pytest.mark.parametrize(("digest", "result"), [(hashes.SHA256(), "valid"), (hashes.SHA1(), "unknown signer")])
def test_a_certificate_signed_with_sha1_leads_nowhere(digest, result):
    top = certify("Top", key=rsa.generate_private_key(65537, 2048))
    tbs = signer(top).certificate.tbs_certificate_bytes  # by hand, as the library signs no certificate with it any more
    with_sha256, with_it = (
        bytes.fromhex("06092a864886f70d0101") + bytes([each]) for each in (11, 11 if result == "valid" else 5)
    )
    tbs = tbs.replace(with_sha256, with_it)
    algorithm = b"\x30\x0d" + with_it + b"\x05\x00"
    whole = tbs + algorithm + b"\x03\x82\x01\x01\x00" + top.key.sign(tbs, padding.PKCS1v15(), digest)
    found = x509.load_der_x509_certificate(b"\x30\x82" + len(whole).to_bytes(2) + whole)
    assert judged(Signer(found, None), known=(top,))[0] == result


def test_a_signer_whom_the_site_names_himself_needs_no_authority():
    alone = certify("Dr. Alone", is_ca=False, more=[(ODD, True)], key=ec.generate_private_key(ec.BrainpoolP256R1()))
    assert judged(alone, known=(alone,)) == ("valid", "")
    late = certify("Dr. Late", is_ca=False, days=(-30, -1))
    assert judged(late, known=(late,)) == ("unknown signer", "a certificate was not valid when it came")


def test_dates_are_asked_of_every_certificate_where_there_is_a_clock_and_of_none_where_there_is_not():
    late = "a certificate was not valid when it came"
    past, to_come = certify("Past", TOP, days=(-30, -1)), certify("To come", TOP, days=(1, 30))
    for middle in (past, to_come):
        assert judged(signer(middle), middle) == ("unknown signer", late)
        assert judged(signer(middle), middle, time=None) == ("valid", "")
    assert judged(signer(past, days=(1, 30)), past, time=None)[0] == "unknown signer"  # there was never a day for both


def test_a_stranger_is_told_without_a_reason():
    assert judged(signer(certify("Other"))) == ("unknown signer", "")
    assert judged(signer(certify("Top"))) == ("unknown signer", "")  # of the same name
    assert judged(signer(certify("Other")), time=None) == ("unknown signer", "")


def test_certificates_that_all_certify_each_other_are_soon_given_up():
    key = ec.generate_private_key(ec.SECP256R1())
    first = certify("Ring", key=key)
    ring = [certify("Ring", first, key=key) for _ in range(7)]
    assert judged(signer(first), *ring) == ("unknown signer", RULES)


def test_no_reason_tells_a_name():
    middle = certify("مريض", TOP, more=[(ODD, True)])
    for found, others in ((signer(middle), [middle]), (signer(TOP, more=[(ODD, True)]), [])):
        assert judged(found, *others)[1] == NOT_READ
