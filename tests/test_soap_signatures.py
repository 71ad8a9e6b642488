"""Signatures that sources bring: valid, invalid or of a stranger, and only what they cover counts. The attacks are those that were published."""

import asyncio
import base64
import json
import re
from datetime import timedelta

import pytest
from cryptography import x509
from lxml import etree
from signxml import DigestAlgorithm
from signxml.xades import XAdESSignaturePolicy

from node.clock import SystemClock
from node.errors import AuthoritiesBad
from node.signatures.chain import Authorities, read_authorities
from node.signatures.check import Checker, Finding, is_good, reason
from node.signatures.worker import Folder, check
from tests.signing_rig import C14N, NOW, SOAP12, authorities, make, revoke, sign, sign_body, sign_bundle, sign_xades
from tests.soap_rig import CDA, DOCUMENT, INCLUDE, MTOM, SOAP, SWA, iti41, package
from tests.xml_samples import HARMFUL

ROOT_CA = make("Test Authority", is_ca=True)
MIDDLE = make("Test Middle", ROOT_CA, is_ca=True)
DOCTOR = make("Dr. Test", ROOT_CA)
COLLEAGUE = make("Dr. Colleague", ROOT_CA)
RSA_DOCTOR = make("Dr. Rsa", ROOT_CA, rsa_key=True)
DEPARTMENT = make("Department Test", MIDDLE)
STRANGER = make("Stranger", make("Other Authority", is_ca=True))
EXPIRED = make("Dr. Late", ROOT_CA, until=NOW - timedelta(days=1))
FALSE_CA = make("Dr. Ca", DOCTOR)  # a signer who plays authority
BUNDLE = {
    "resourceType": "Bundle",
    "id": "b",
    "type": "document",
    "entry": [{"resource": {"resourceType": "Composition", "title": "تقرير"}}],
}
DS = "{http://www.w3.org/2000/09/xmldsig#}"
V3 = "{urn:hl7-org:v3}"


def found(raw, content_type="application/hl7-cda+xml", time=NOW, known=(ROOT_CA,), folder=None):
    time_us = None if time is None else int(time.timestamp() * 1_000_000)
    head = json.dumps([time_us, content_type]).encode()
    site = Authorities([each.certificate for each in known], {}) if folder is None else read_authorities(folder)
    return [Finding(*row) for row in check(head + b"\n" + raw, site)]


def ask(folder, *documents, content_type="application/hl7-cda+xml"):
    """What a worker of its own says of them."""

    async def checked():
        checker = Checker(folder, SystemClock())
        try:
            time_us = int(NOW.timestamp() * 1_000_000)
            return [await checker.check_of(time_us, each, content_type) for each in documents]
        finally:
            await checker.stop()

    rows = asyncio.run(checked())
    return rows[0] if len(documents) == 1 else rows


def result(raw, *arguments, **options):
    (one,) = found(raw, *arguments, **options)
    return one.result, one.covers


# ---- good ones ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("signer", [DOCTOR, RSA_DOCTOR])
def test_a_signature_over_the_document_is_valid(signer):
    assert result(sign(CDA, signer)) == ("valid", "document")


def test_xades_is_valid_and_told_by_its_name():
    (one,) = found(sign_xades(CDA, DOCTOR))
    assert (one.result, one.kind, one.covers) == ("valid", "XAdES", "document")


def test_a_signature_over_the_body_is_valid():
    assert result(sign_body(DOCTOR), SOAP) == ("valid", "body")


def test_a_certificate_between_that_came_along_leads_to_the_authority():
    assert result(sign(CDA, DEPARTMENT, MIDDLE))[0] == "valid"
    assert result(sign(CDA, DEPARTMENT))[0] == "unknown signer"


def test_a_signer_may_be_named_himself():
    assert result(sign(CDA, STRANGER), known=(STRANGER,))[0] == "valid"


@pytest.mark.parametrize("without", [(), ("id", "meta")])
def test_a_jws_over_the_bundle_is_valid(without):
    assert result(sign_bundle(BUNDLE, DOCTOR, without=without), "application/fhir+json") == ("valid", "document")


# ---- strangers ------------------------------------------------------------------------------------------------------------
def test_a_stranger_is_told_as_such():
    assert result(sign(CDA, STRANGER))[0] == "unknown signer"
    assert result(sign_bundle(BUNDLE, STRANGER), "application/fhir+json")[0] == "unknown signer"


def test_a_signer_is_no_authority():
    assert result(sign(CDA, FALSE_CA, DOCTOR))[0] == "unknown signer"


def test_a_certificate_has_to_be_valid_when_the_message_came():
    assert result(sign(CDA, EXPIRED))[0] == "unknown signer"
    assert result(sign(CDA, EXPIRED), time=NOW - timedelta(days=2))[0] == "valid"
    assert result(sign(CDA, EXPIRED), time=None)[0] == "valid"  # no clock decides where none is kept


# ---- bad ones -------------------------------------------------------------------------------------------------------------
def test_a_changed_document_is_invalid():
    assert result(sign(CDA, DOCTOR).replace("مريض".encode(), "مريضة".encode()))[0] == "invalid"
    assert result(sign_bundle(BUNDLE, DOCTOR).replace("تقرير".encode(), b"x"), "application/fhir+json")[0] == "invalid"


def test_a_changed_certificate_is_invalid():
    raw, other = sign(CDA, DOCTOR), sign(CDA, make("Dr. Other", ROOT_CA))

    def certificate(each):
        return etree.fromstring(each).find(f".//{DS}X509Certificate").text.encode()

    assert result(raw.replace(certificate(raw), certificate(other)))[0] == "invalid"


def test_a_good_signature_over_a_part_is_not_one_over_the_document():
    raw = CDA.replace(b"<title>", b'<title ID="t">')
    (one,) = found(sign(raw, DOCTOR, uri="#t"))
    assert (one.result, one.covers) == ("valid", "element title")
    assert not is_good([one])


def test_an_element_named_document_is_not_the_document():
    raw = CDA.replace(b"<component>", b'<document xmlns="" ID="t">x</document><component>')
    (one,) = found(sign(raw, DOCTOR, uri="#t"))
    assert one.result == "valid"
    assert not is_good([one])


def test_a_wrapped_document_is_not_good():
    inner = etree.fromstring(sign(CDA.replace(b"<ClinicalDocument ", b'<ClinicalDocument ID="d" '), DOCTOR, uri="#d"))
    forged = etree.fromstring(CDA.replace("مريض".encode(), "منتحل".encode()))
    forged.append(inner)
    assert not is_good(found(etree.tostring(forged)))
    whole = etree.fromstring(sign(CDA, DOCTOR))  # the same with a reference to all
    forged = etree.fromstring(CDA)
    forged.append(whole)
    assert found(etree.tostring(forged))[0].result == "invalid"


def test_a_signature_that_moved_with_its_document_into_an_object_is_not_good():
    original = etree.fromstring(
        sign(CDA.replace(b"<ClinicalDocument ", b'<ClinicalDocument ID="d" '), DOCTOR, uri="#d")
    )
    signature = original.find(f"{DS}Signature")
    forged = etree.fromstring(CDA.replace(b"TEST-DOC-1", b"TEST-DOC-2"))
    forged.append(signature)
    etree.SubElement(signature, f"{DS}Object").append(original)
    assert not is_good(found(etree.tostring(forged)))


@pytest.mark.parametrize("place", ["Header", "Envelope"])
def test_a_body_that_was_moved_aside_is_not_the_body(place):
    root = etree.fromstring(sign_body(DOCTOR))
    body = root.find(f"{{{SOAP12}}}Body")
    forged = etree.fromstring(etree.tostring(body))
    del forged.attrib["Id"]
    forged[0][0].set("changed", "yes")
    root.replace(body, forged)
    wrapper = etree.SubElement(root.find(f"{{{SOAP12}}}Header") if place == "Header" else root, "{urn:evil}Wrapper")
    wrapper.append(body)
    rows = found(etree.tostring(root), SOAP)
    assert not is_good(rows)
    assert reason(rows) == "does not cover the whole"


def test_a_body_of_two_is_not_the_body():
    root = etree.fromstring(sign_body(DOCTOR))
    body = root.find(f"{{{SOAP12}}}Body")
    forged = etree.fromstring(etree.tostring(body))
    del forged.attrib["Id"]
    body.addprevious(forged)
    (one,) = found(etree.tostring(root), SOAP)
    assert (one.result, one.covers) == ("valid", "element Body")
    assert not is_good([one])


def test_what_is_attached_is_not_covered_and_what_is_put_back_is():
    beside = package(sign_body(DOCTOR), ("doc0@test", "text/xml", b"<forged/>"), kind="application/soap+xml")
    (one,) = found(beside, SWA)
    assert (one.result, one.covers) == ("valid", "body without what is attached")
    assert reason([one]) == "does not cover the whole"
    assert result(package(sign_body(DOCTOR), kind="application/soap+xml"), SWA) == ("valid", "body")
    put_back = iti41(DOCUMENT.format(id="D0", inner=base64.b64encode(CDA).decode()))
    signed = sign_body(DOCTOR, body=put_back).replace(base64.b64encode(CDA), INCLUDE.format(id="doc0@test").encode())
    document = ("doc0@test", "text/xml", CDA)
    assert result(package(signed, document), MTOM) == ("valid", "body")
    assert found(package(signed, ("doc0@test", "text/xml", CDA + b" ")), MTOM)[0].result == "invalid"
    assert not is_good(found(package(signed, document, ("more@test", "text/xml", b"<forged/>")), MTOM))


def test_a_signature_that_carries_what_it_does_not_sign_is_invalid():
    for holder in (b"<Object><recordTarget/></Object>", b"<Object>x</Object>", b"<Object><a><b/></a></Object>"):
        root = etree.fromstring(sign(CDA, DOCTOR))
        root.find(f"{DS}Signature").append(
            etree.fromstring(holder.replace(b"<Object>", b'<Object xmlns="%b">' % DS[1:-1].encode()))
        )
        (one,) = found(etree.tostring(root))
        assert (one.result, one.why) == ("invalid", "it carries what it does not sign")


def test_an_id_that_stands_twice_is_invalid():
    root = etree.fromstring(sign_body(DOCTOR))
    copy = etree.fromstring(etree.tostring(root.find(f"{{{SOAP12}}}Body")))
    etree.SubElement(root.find(f"{{{SOAP12}}}Header"), "{urn:evil}W").append(copy)
    (one,) = found(etree.tostring(root), SOAP)
    assert (one.result, one.why) == ("invalid", "a reference to what is not there once")


@pytest.mark.parametrize("name", ["http://www.w3.org/TR/1999/REC-xslt-19991116", "http://www.w3.org/TR/1999/REC-xpath-19991116", "http://www.w3.org/2000/09/xmldsig#base64"])  # fmt: skip
def test_a_transform_that_hides_is_invalid(name):
    raw = sign(CDA, DOCTOR).replace(b"http://www.w3.org/2000/09/xmldsig#enveloped-signature", name.encode())
    assert found(raw)[0].why == "a transform that could hide what is signed"


@pytest.mark.parametrize("uri", [b"file:///etc/passwd", b"http://127.0.0.1:9/", b"#xpointer(/)", b"#", b"cid:a"])
def test_a_reference_to_something_outside_is_invalid(uri):
    assert found(sign(CDA, DOCTOR).replace(b'URI=""', b'URI="%b"' % uri))[0].result == "invalid"


def test_a_jws_over_another_bundle_or_with_a_member_twice_is_invalid():
    signed = json.loads(sign_bundle(BUNDLE, DOCTOR))
    assert result(json.dumps({**signed, "type": "collection"}).encode(), "application/fhir+json")[0] == "invalid"
    twice = sign_bundle(BUNDLE, DOCTOR).replace(b'"id": "b"', b'"id": "x", "id": "b"')
    assert result(twice, "application/fhir+json")[0] == "invalid"


# ---- what XAdES says of itself ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no certificate", "its properties do not name its certificate"),
        ("another certificate", "its properties do not name its certificate"),
        ("sha1", "its properties do not name its certificate"),
        ("another target", "its properties are another signature's"),
        ("not signed", "its properties are not signed"),
        ("twice", "its properties are not there once"),
    ],
)
def test_a_xades_signature_whose_properties_do_not_bind_it_is_invalid(fault, why):
    (one,) = found(sign_xades(CDA, DOCTOR, fault=fault))
    assert (one.result, one.kind, one.why) == ("invalid", "XAdES", why)


def test_the_time_of_xades_is_told_and_policy_and_time_stamp_are_told_as_not_checked():
    (plain,) = found(sign_xades(CDA, DOCTOR))
    assert re.fullmatch(r"by its own account signed \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", plain.notes)
    policy = XAdESSignaturePolicy("urn:oid:1.2.3", "Test", DigestAlgorithm.SHA256, base64.b64encode(bytes(32)).decode())
    raw = sign_xades(CDA, DOCTOR, signature_policy=policy)
    # what is added after signing stands outside of what is signed, as XAdES-T has it
    stamp = b"<xades:UnsignedProperties><xades:UnsignedSignatureProperties><xades:SignatureTimeStamp/></xades:UnsignedSignatureProperties></xades:UnsignedProperties>"
    (full,) = found(raw.replace(b"</xades:QualifyingProperties>", stamp + b"</xades:QualifyingProperties>"))
    assert (full.result, full.covers) == ("valid", "document")
    assert full.notes.endswith("; its policy is not checked; its time-stamp is not checked")


def test_what_is_noted_of_a_signature_arrives_through_the_worker(tmp_path):
    (one,) = ask(authorities(tmp_path, ROOT_CA), sign_xades(CDA, DOCTOR))
    assert one.result == "valid"
    assert re.fullmatch(r"by its own account signed [-0-9]+T[:0-9]+Z", one.notes)


def test_comments_that_are_not_covered_are_told():
    raw = sign(CDA, DOCTOR)
    assert found(raw)[0].notes == ""
    split = raw.replace("مريض".encode(), "مر<!-- -->يض".encode(), 1)
    (one,) = found(split)
    assert split != raw
    assert (one.result, one.notes) == ("valid", "comments in it are not covered")
    kept = sign(CDA.replace(b"<title>", b"<!-- a --><title>"), DOCTOR, c14n_algorithm=f"{C14N}WithComments")
    assert (found(kept)[0].result, found(kept)[0].notes) == ("valid", "")
    assert found(kept.replace(b"<!-- a -->", b"<!-- b -->"))[0].result == "invalid"


def test_a_signature_over_nothing_but_its_own_properties_is_not_good():
    root = etree.fromstring(sign_xades(CDA, DOCTOR))
    (reference,) = root.iterfind(f".//{DS}Reference[@URI='']")
    reference.getparent().remove(reference)
    assert not is_good(found(etree.tostring(root)))


# ---- revoked signers ------------------------------------------------------------------------------------------------------
def with_lists(folder, *lists):
    authorities(folder, ROOT_CA)
    for number, each in enumerate(lists):
        (folder / f"{number}.crl").write_bytes(each)
    return folder


@pytest.mark.parametrize("sign_it", [lambda signer: sign(CDA, signer), lambda signer: sign_bundle(BUNDLE, signer)])
def test_a_revoked_signer_is_invalid_from_that_day_on(tmp_path, sign_it):
    folder = with_lists(tmp_path, revoke(ROOT_CA, DOCTOR))
    (late,) = found(sign_it(DOCTOR), folder=folder)
    assert (late.result, late.why) == ("invalid", "revoked")
    (before,) = found(sign_it(DOCTOR), folder=folder, time=NOW - timedelta(days=2))
    assert (before.result, before.notes[-13:].strip()) == ("valid", "after it came")
    assert found(sign_it(COLLEAGUE), folder=folder)[0].result == "valid"
    (no_clock,) = found(sign_it(DOCTOR), folder=folder, time=None)
    assert no_clock.result == "invalid"


@pytest.mark.parametrize(("days", "result"), [(6, "valid"), (4, "invalid")])
def test_who_was_revoked_for_a_stolen_key_is_so_from_the_day_on_which_it_was_stolen(tmp_path, days, result):
    stolen = x509.InvalidityDate((NOW - timedelta(days=5)).replace(tzinfo=None))
    folder = with_lists(tmp_path, revoke(ROOT_CA, DOCTOR, DOCTOR, more=(stolen, False)), revoke(ROOT_CA, DOCTOR))
    assert found(sign(CDA, DOCTOR), folder=folder, time=NOW - timedelta(days=days))[0].result == result


def test_a_certificate_that_is_revoked_twice_is_so_from_the_first_day_on(tmp_path):
    lists = [revoke(ROOT_CA, DOCTOR, since=NOW - timedelta(days=each)) for each in (3, 9, 6)]
    (one,) = found(sign(CDA, DOCTOR), folder=with_lists(tmp_path, *lists), time=NOW - timedelta(days=8))
    assert (one.result, one.why) == ("invalid", "revoked")


def test_a_revoked_authority_between_takes_its_signers_along(tmp_path):
    (one,) = found(sign(CDA, DEPARTMENT, MIDDLE), folder=with_lists(tmp_path, revoke(ROOT_CA, MIDDLE)))
    assert (one.result, one.why) == ("invalid", "revoked")


def test_a_list_that_is_out_of_date_is_told(tmp_path):
    (one,) = found(sign(CDA, DOCTOR), folder=with_lists(tmp_path, revoke(ROOT_CA, until=NOW - timedelta(days=3))))
    assert (one.result, one.notes) == ("valid", "the list of revoked certificates was out of date when it came")


@pytest.mark.parametrize("held", [b"no list", revoke(STRANGER, DOCTOR), revoke(make("Test Authority", is_ca=True), DOCTOR), revoke(ROOT_CA, DOCTOR, is_partial=True), revoke(ROOT_CA, DOCTOR, more=(x509.CertificateIssuer([x509.DNSName("other.test")]), True))])  # fmt: skip
def test_a_list_that_is_no_whole_one_of_a_known_authority_stops_the_start(tmp_path, held):
    with pytest.raises(AuthoritiesBad):
        Checker(with_lists(tmp_path, held), SystemClock())


def test_a_new_list_counts_without_a_restart_and_a_torn_one_changes_nothing(tmp_path):
    folder = Folder(with_lists(tmp_path))
    assert not folder.authorities().revocations
    (tmp_path / "0.crl").write_bytes(revoke(ROOT_CA, DOCTOR)[:99])
    assert not folder.authorities().revocations
    (tmp_path / "0.crl").write_bytes(revoke(ROOT_CA, DOCTOR))
    assert folder.authorities().revocations


@pytest.mark.parametrize("raw", [*HARMFUL, b"", b"<a", b"\xff", b"<a>" * 100_000, b"{", b"[" * 100_000, b"{}x"])
def test_no_document_does_harm_to_the_worker(raw):
    assert not is_good(found(raw))


@pytest.mark.parametrize("cut", range(0, 6000, 311))
def test_a_torn_signature_is_not_good(cut):
    raw = sign(CDA, DOCTOR)
    torn = raw[:cut] + raw[cut + 9 :]
    assert torn == raw or not is_good(found(torn))
