"""The process that verifies signatures: whatever a document holds, it answers with a verdict and takes the next one."""

import asyncio
import base64
import json
import random
import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from hl7.signatures import MARKS_MAX, in_json
from node.alarms import Alarms
from node.clock import SYNCHRONISED, UNSURE, SystemClock
from node.record import _line, _verify
from node.signatures import fhir_signatures
from node.signatures import worker as signature_worker
from node.signatures.chain import Authorities, moment
from node.signatures.check import Checker, Finding, is_good, reason, told
from node.signatures.fhir_signatures import canonical
from node.signatures.worker import HEAD_BYTES_MAX, Folder, answer, check
from tests import fuzz_signatures
from tests.fuzz_signatures import Broken
from tests.signing_rig import (
    NOW,
    Signer,
    authorities,
    authority,
    jose,
    make,
    revoke,
    sealed,
    sign,
    sign_bundle,
    sign_xades,
    signature,
)
from tests.soap_rig import CDA

ROOT_CA, MIDDLE = authority()
DOCTOR = make("Dr. Test", ROOT_CA)
STRANGER = make("Stranger", make("Other Authority", is_ca=True))
BASIC = {"resourceType": "Basic", "id": "in"}
FHIR, CDA_XML = "application/fhir+json", "application/hl7-cda+xml"
DATE = "0001-01-01T00:00:00+03:00"  # in UTC the year before is meant, and there is none
DOUBLED = bytes.fromhex("0603551d13"), bytes.fromhex("0603551d0e")  # basicConstraints, subjectKeyIdentifier


def provenance(data, **said):
    return {
        "resourceType": "Provenance",
        "contained": [BASIC],
        "target": [{"reference": "#in"}],
        "signature": [signature(data, **said)],
    }


def dumped(value):
    return json.dumps(value).encode()


def doubled(signer, issuer):
    """Its certificate, of which one extension has become a second one of another's kind."""
    return Signer(signer.certificate, signer.key, sealed(signer.der.replace(*reversed(DOUBLED)), issuer))


def through(folder, *documents):
    """What a worker of its own says of documents, one after the other, and how often it had to be started again."""

    async def checked():
        checker = Checker(folder, SystemClock())
        try:
            time_us = int(NOW.timestamp() * 1_000_000)
            return [await checker.check_of(time_us, *each) for each in documents], checker.restarts
        finally:
            await checker.stop()

    return asyncio.run(checked())


def test_no_date_address_or_certificate_ends_the_worker(tmp_path):
    payload = canonical(BASIC).encode()
    listed = {"resourceType": "Bundle", "entry": [{"fullUrl": ["urn:uuid:x"], "resource": BASIC}, {"resource": {**provenance(jose(payload, DOCTOR)), "target": [{"reference": "urn:uuid:x"}]}}]}  # fmt: skip
    odd = doubled(MIDDLE, ROOT_CA)
    with pytest.raises(x509.DuplicateExtension):
        x509.load_der_x509_certificate(odd.der).extensions  # noqa: B018
    rows, restarts = through(
        authorities(tmp_path, ROOT_CA),
        (dumped(provenance(jose(payload, DOCTOR, sigT=DATE))), FHIR),
        (dumped(provenance(jose(payload, DOCTOR), when=DATE)), FHIR),
        (sign_xades(CDA, DOCTOR, fault="date"), CDA_XML),
        (dumped(listed), FHIR),
        (dumped(provenance(jose(payload, make("Dr. Middle", MIDDLE), odd))), FHIR),
        (dumped(provenance(jose(payload, DOCTOR))), f"{FHIR}; x={'y' * HEAD_BYTES_MAX}"),
        (sign_bundle({"resourceType": "Bundle"}, DOCTOR), FHIR),
    )
    assert [each.result for (each,) in rows] == [
        "valid",  # what nobody can read is no claim, and claims decide nothing
        "valid",
        "valid",
        "unknown",
        "unknown signer",
        "invalid",
        "valid",
    ]
    assert (rows[0][0].notes, rows[3][0].why, rows[5][0].why) == ("", "target not here", "the document cannot be read")
    assert restarts == 0


def test_a_certificate_of_a_version_that_does_not_exist_cannot_be_read():
    version = bytes.fromhex("a003020102")
    x5c = [base64.b64encode(DOCTOR.der.replace(version, version[:-1] + b"\x07")).decode()]
    row = only(dumped(provenance(jose(canonical(BASIC).encode(), DOCTOR, x5c=x5c))))
    assert (row.result, row.why) == ("invalid", "it cannot be read, or names no certificate")


def only(raw, content_type=FHIR):
    (row,) = check(json.dumps([None, content_type]).encode() + b"\n" + raw, Authorities([ROOT_CA.certificate], {}))
    return Finding(*row)


def test_one_signature_over_what_has_no_bytes_is_invalid_and_those_beside_it_are_judged():
    good = provenance(jose(canonical(BASIC).encode(), DOCTOR))
    bad = {**good, "contained": [{**BASIC, "language": "\ud800"}]}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": each} for each in (bad, good)]}
    rows = check(b'[null, ""]\n' + dumped(bundle), Authorities([ROOT_CA.certificate], {}))
    assert [row[0] for row in rows] == ["invalid", "valid"]


@pytest.mark.parametrize("kind", ["\ud800", "\x1b[2J", "مريض", "Patient, born 1970", 7, None])
def test_a_type_that_is_none_is_not_told_on(kind):
    target = {**BASIC, "resourceType": kind}
    raw = dumped({**provenance(jose(dumped(target), DOCTOR, is_attached=True)), "contained": [target]})
    assert only(raw).covers == "target of no known type"


def test_what_nobody_thought_of_is_a_verdict_too(monkeypatch):
    def broken(*_arguments):
        raise KeyError("مريض")

    monkeypatch.setattr(signature_worker, "check_json", broken)
    row = only(b"{}")
    assert (row.result, row.why) == ("invalid", "it cannot be judged: KeyError")


@pytest.mark.parametrize(
    "text", [DATE, "9999-12-31T23:59:59-03:00", "2026-02-30T00:00:00Z", "2026-11-23T00:00:00+99:99", "2026-11-23", ""]
)
def test_a_time_that_does_not_exist_or_has_no_zone_is_none(text):
    assert moment(text) is None
    assert moment("0001-01-01T03:00:00+03:00") == datetime(1, 1, 1, tzinfo=UTC)


def test_no_mutated_document_ends_the_worker_or_is_good_over_other_content():
    assert fuzz_signatures.run(seed=11, first=0, inputs=1500) > 0


@pytest.mark.parametrize("fault", ["date", "content"])
def test_the_campaign_finds_what_is_planted(monkeypatch, fault):
    if fault == "date":  # an exception that nothing catches
        monkeypatch.setattr(
            "node.signatures.fhir_signatures.moment", lambda _text: datetime.fromisoformat(DATE).astimezone(UTC)
        )
    else:  # signatures that hold for everything
        monkeypatch.setattr("node.signatures.fhir_signatures.Jws.fits", lambda *_: True)
        monkeypatch.setattr(
            "node.signatures.fhir_signatures._carried", lambda _payload: canonical(fuzz_signatures.PATIENT)
        )
    with pytest.raises(Broken):
        fuzz_signatures.run(seed=11, first=0, inputs=1500)


def test_a_mutation_is_made_again_from_its_number():
    first, again = (fuzz_signatures._shape({"a": [1, {"b": "x"}], "c": None}, random.Random(5)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("state", "result"), [(UNSURE, "valid"), (SYNCHRONISED, "unknown signer")])
def test_a_record_is_judged_by_the_clock_of_then_only_where_that_was_kept(tmp_path, state, result):
    header = SimpleNamespace(received_us=0, clock_state=state)  # a node that woke up in 1970
    config = SimpleNamespace(signatures=SimpleNamespace(authorities=authorities(tmp_path, ROOT_CA)))
    (row,) = asyncio.run(_verify(config, header, sign_bundle(BUNDLE, DOCTOR), FHIR, SystemClock()))
    assert row.result == result


# ---- a folder of authorities that became bad while the node ran -----------------------------------------------------------
def asked(tmp_path, *documents, break_it, mend=lambda: None):
    """Findings of a worker that starts with a folder that was good when the node started, standing alarms, and those once it is mended."""
    alarms = Alarms(lambda: 0)

    async def checked():
        checker = Checker(authorities(tmp_path, ROOT_CA), SystemClock(), alarms)
        break_it()
        try:
            rows = [(await checker.check_of(None, each, FHIR))[0] for each in documents]
            before = alarms.standing()
            mend()
            await checker.look_again()
            return rows, before, alarms.standing()
        finally:
            await checker.stop()

    return asyncio.run(checked())


BUNDLE = {"resourceType": "Bundle", "type": "document"}


@pytest.mark.parametrize("name", ["1.crl", "1.pem"])
def test_with_a_bad_folder_at_its_start_the_worker_says_unknown_and_the_alarm_stands_until_it_is_mended(tmp_path, name):
    bad = tmp_path / name
    good, named = (
        sign_bundle(BUNDLE, DOCTOR),
        dumped(provenance(jose(canonical(BASIC).encode(), DOCTOR, x5c=None, kid="ab"))),
    )
    changed = good.replace(b'"document"', b'"collection"')
    rows, before, after = asked(
        tmp_path, good, named, changed, break_it=lambda: bad.write_bytes(b"torn"), mend=bad.unlink
    )
    assert [(each.result, each.why) for each in rows] == [
        ("unknown", "the site's authorities cannot be read"),
        ("unknown", "the site's authorities cannot be read"),
        ("invalid", "the signature does not fit the Bundle"),  # for that nobody has to know the signer
    ]
    assert [(each["code"], each["subject"]) for each in before] == [("NOD-43", f"{bad}: ValueError")]
    assert after == []


def test_a_folder_that_is_gone_is_the_same_alarm(tmp_path):
    folder = tmp_path / "signers"
    rows, before, after = asked(folder, sign_bundle(BUNDLE, DOCTOR), break_it=lambda: shutil.rmtree(folder))
    assert rows[0].result == "unknown"
    assert (
        [each["subject"] for each in before] == [each["subject"] for each in after] == [f"{folder}: FileNotFoundError"]
    )


def test_a_list_that_is_torn_while_the_worker_runs_leaves_the_last_good_ones_and_the_alarm_stands(tmp_path):
    folder = Folder(authorities(tmp_path, ROOT_CA))
    raw = b'[null, ""]\n' + sign_bundle(BUNDLE, DOCTOR)
    assert [row[0] for row in answer(raw, folder)] == ["", "valid"]
    (tmp_path / "1.crl").write_bytes(revoke(ROOT_CA, DOCTOR)[:99])
    assert [row[0] for row in answer(raw, folder)] == [f"{tmp_path / '1.crl'}: ValueError", "valid"]
    (tmp_path / "1.crl").write_bytes(revoke(ROOT_CA, DOCTOR))
    assert [row[0] for row in answer(raw, folder)] == ["", "invalid"]


# ---- more signatures than are judged --------------------------------------------------------------------------------------
def crowded(many, *, last=STRANGER):
    """A Bundle that DOCTOR signed, with so many signed statements before its own signature; the last is another's."""
    payload = canonical(BASIC).encode()
    one, other = provenance(jose(payload, DOCTOR)), provenance(jose(payload, last))
    entries = [{"resource": each} for each in (*[one] * (many - 1), other)]
    return sign_bundle({"resourceType": "Bundle", "type": "collection", "entry": entries}, DOCTOR)


def rows_of(raw):
    return [Finding(*row) for row in check(b'[null, ""]\n' + raw, Authorities([ROOT_CA.certificate], {}))]


def test_the_signature_of_the_bundle_is_judged_behind_however_many_others():
    raw = crowded(MARKS_MAX + 5)
    rows = rows_of(raw)
    assert [(each.result, each.covers) for each in rows[MARKS_MAX:]] == [("valid", "document"), ("unknown", "")]
    assert rows[-1].why == "5 more were not judged: 16 are the most, and the root's own"
    assert is_good(rows)
    assert (
        reason(rows_of(raw.replace(b'"collection"', b'"document"'))) == "invalid: the signature does not fit the Bundle"
    )
    assert [each[2] for each in told(in_json(raw), rows)] == ["valid"] * MARKS_MAX


def test_nothing_is_said_to_be_left_where_nothing_was():
    rows = rows_of(crowded(MARKS_MAX - 1))
    assert [each.result for each in rows] == [*["valid"] * (MARKS_MAX - 2), "unknown signer", "valid"]
    assert [each.result for each in rows_of(crowded(MARKS_MAX))][-2:] == ["unknown signer", "valid"]


def test_the_signature_of_an_xml_document_is_judged_behind_however_many_others():
    inner = sign(CDA, STRANGER).partition(b"?>")[2]
    raw = sign(CDA.replace(b"<component>", b"<component>" + inner * (MARKS_MAX + 2), 1), DOCTOR)
    rows = rows_of(raw)
    assert [(each.result, each.covers) for each in rows[MARKS_MAX:]] == [("valid", "document"), ("unknown", "")]
    assert rows[-1].why == "2 more were not judged: 16 are the most, and the root's own"


def test_a_record_tells_how_many_were_left():
    assert _line(Finding("unknown", "", "", "2 more")) == "signature: unknown now (2 more)"
    assert _line(Finding("valid", "JWS", "document", "")) == "signature JWS over the document: valid now"


# ---- keys and algorithms that are no proof --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP192R1()), dsa.generate_private_key(2048)],
)
def test_a_short_key_or_dsa_signs_nothing(key):
    weak = make("Dr. Weak", ROOT_CA, key=key)
    method = {rsa.RSAPrivateKey: "rsa", ec.EllipticCurvePrivateKey: "ecdsa"}
    method = next((name for kind, name in method.items() if isinstance(key, kind)), "dsa")
    (row,) = rows_of(sign(CDA, weak, signature_algorithm=f"{method}-sha256"))
    assert (row.result, row.why) == ("invalid", "a key that is not taken")


@pytest.mark.parametrize(
    ("name", "result"), [("sha256", "valid"), ("sha3-256", "valid"), ("sha512", "valid"), ("sha224", "invalid")]
)
def test_a_digest_of_224_bits_is_none(name, result):
    assert rows_of(sign(CDA, DOCTOR, digest_algorithm=name))[0].result == result
    assert rows_of(sign(CDA, DOCTOR, signature_algorithm=f"ecdsa-{name}"))[0].result == result


# ---- large documents ------------------------------------------------------------------------------------------------------
def test_a_resource_is_written_once_however_many_sign_it(monkeypatch):
    written = []

    def counted(value, write=fhir_signatures.canonical):
        written.append(value)
        return write(value)

    monkeypatch.setattr(fhir_signatures, "canonical", counted)
    spent = []
    for many in (1, MARKS_MAX):
        signatures = [signature(jose(b"{}", DOCTOR))] * many
        rows = rows_of(dumped({"resourceType": "Bundle", "entry": [{"resource": BASIC}], "signature": signatures}))
        assert [each.result for each in rows] == ["invalid"] * many
        spent.append(sum(each == [{"resource": BASIC}] for each in written))
    assert spent == [1, 2]  # once in each of the two documents


def test_signatures_are_found_in_the_order_in_which_they_stand_however_deep():
    payload = canonical(BASIC).encode()
    good, other = provenance(jose(payload, DOCTOR)), provenance(jose(payload, STRANGER))
    deep = {"x": good}
    for _ in range(300):
        deep = {"y": [deep]}
    rows = rows_of(dumped({"resourceType": "Bundle", "entry": [{"resource": other}, deep, {"resource": other}]}))
    assert [each.result for each in rows] == ["unknown signer", "valid", "unknown signer"]
