"""JWS in Bundle.signature and Provenance.signature: what each covers, what is no good, and what cannot be said from one message."""

import base64
import json
import math

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from hl7.signatures import in_json
from node.signatures.chain import Authorities
from node.signatures.check import Finding, is_good, reason, told
from node.signatures.fhir_signatures import canonical
from node.signatures.worker import check
from tests.signing_rig import NOW, jose, make, sign_bundle, signature

ROOT_CA = make("Test Authority", is_ca=True)
DOCTOR = make("Dr. Test", ROOT_CA)
RSA_DOCTOR = make("Dr. Rsa", ROOT_CA, rsa_key=True)
STRANGER = make("Stranger", make("Other Authority", is_ca=True))
FORM = "http://hl7.org/fhir/canonicalization/json"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "3"},
    "text": {"status": "generated", "div": "<div>أمل التجريبية</div>"},
    "name": [{"family": "التجريبية", "given": ["أمل"]}],
    "extension": [{"url": "urn:test:weight", "valueDecimal": 72.5}],
}
PLACE, OWN = "urn:uuid:00000000-0000-4000-8000-000000000001", "urn:uuid:00000000-0000-4000-8000-000000000009"


def of(resource, *without):
    return canonical({name: value for name, value in resource.items() if name not in without}).encode()


def provenance(data, *, target=PLACE, more=(), **said):
    targets = [{"reference": each} for each in (target, *more)]
    return {"resourceType": "Provenance", "target": targets, "recorded": "2030-01-01T08:00:00+03:00", "signature": [signature(data, **said)]}  # fmt: skip


def message(statement, resource=None, url=PLACE, *, own=OWN, **members):
    entries = [{"fullUrl": url, "resource": resource or PATIENT}, {"fullUrl": own, "resource": statement}]
    entries = [{name: value for name, value in each.items() if value} for each in entries]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries, **members}


def dumped(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def found(value, time=NOW, known=(ROOT_CA,)):
    raw = value if isinstance(value, bytes) else dumped(value)
    head = json.dumps([None if time is None else int(time.timestamp() * 1e6), "application/fhir+json"]).encode()
    return [Finding(*row) for row in check(head + b"\n" + raw, Authorities([each.certificate for each in known], {}))]


def one(value, **options):
    (only,) = found(value, **options)
    return only


# ---- good ones ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_attached", [False, True])
@pytest.mark.parametrize("signer", [DOCTOR, RSA_DOCTOR])
def test_a_provenance_that_signs_a_resource_of_the_same_bundle_is_valid(signer, is_attached):
    row = one(message(provenance(jose(of(PATIENT), signer, is_attached=is_attached))))
    assert (row.result, row.covers, row.why) == ("valid", "target Patient", "")


def test_what_a_jws_carries_is_compared_as_a_value_not_by_its_spaces():
    spaced = json.dumps(PATIENT, ensure_ascii=False, indent=2).encode()
    assert one(message(provenance(jose(spaced, DOCTOR, is_attached=True)))).result == "valid"


def test_a_contained_target_is_found():
    contained = {"resourceType": "Patient", "id": "in", "name": [{"text": "مريض تجريبي"}]}
    statement = {**provenance(jose(of(contained), DOCTOR), target="#in"), "contained": [contained]}
    assert one(statement).result == "valid"


@pytest.mark.parametrize(
    ("target", "url", "own"),
    [
        ("Patient/p1", "http://his.test/fhir/Patient/p1", "http://his.test/fhir/Provenance/9"),
        ("http://his.test/fhir/Patient/p1", "http://his.test/fhir/Patient/p1", "urn:uuid:x"),
        ("Patient/p1", "", ""),
        ("Patient/p1/_history/3", "", ""),
    ],
)
def test_a_target_is_found_as_bundles_resolve_references(target, url, own):
    statement = provenance(jose(of(PATIENT), DOCTOR), target=target)
    assert one(message(statement, url=url, own=own)).result == "valid"


@pytest.mark.parametrize(
    ("form", "without", "covers"),
    [
        (FORM, (), "target Patient"),
        (f"{FORM}#data", ("text",), "target Patient without text"),
        (f"{FORM}#static", ("text", "meta"), "target Patient without text and meta"),
    ],
)
def test_the_form_that_is_said_is_what_is_signed_and_the_result_tells_what_it_leaves_out(form, without, covers):
    row = one(message(provenance(jose(of(PATIENT, *without), DOCTOR), form=form)))
    assert (row.result, row.covers) == ("valid", covers)


def test_less_is_not_signed_where_no_form_says_so():
    assert one(message(provenance(jose(of(PATIENT, "text", "meta"), DOCTOR)))).result == "invalid"


def test_a_key_may_be_named_by_the_thumbprint_of_a_configured_certificate():
    digest = DOCTOR.thumbprint
    urlsafe = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    for header in ({"kid": digest.hex()}, {"kid": urlsafe}, {"x5t#S256": urlsafe}):
        value = message(provenance(jose(of(PATIENT), DOCTOR, x5c=None, **header)))
        assert one(value, known=(ROOT_CA, DOCTOR)).result == "valid"
        assert (one(value).result, one(value).why) == ("unknown signer", "it names a key that is not configured")


def test_a_bundle_and_its_provenances_are_judged_each_in_its_place():
    inner = message(provenance(jose(of(PATIENT), STRANGER)))
    rows = found(sign_bundle(inner, DOCTOR))
    assert [(each.result, each.covers) for each in rows] == [
        ("unknown signer", "target Patient"),
        ("valid", "document"),
    ]
    assert not is_good(rows)
    raw = sign_bundle(inner, DOCTOR)
    assert [each[2] for each in told(in_json(raw), rows)] == ["unknown signer", "valid"]


def test_a_payload_may_be_signed_as_it_stands():
    assert one(message(provenance(jose(of(PATIENT), DOCTOR, b64=False, crit=["b64"])))).result == "valid"


def test_a_stranger_is_told_as_such():
    assert one(message(provenance(jose(of(PATIENT), STRANGER)))).result == "unknown signer"


@pytest.mark.parametrize(
    ("form", "without", "notes"),
    [
        ("", (), ""),
        ("", ("id", "meta"), "its id and meta not covered"),
        (f"{FORM}#document", ("id", "meta"), "its id and meta not covered"),
        (f"{FORM}#static", ("text", "meta"), "its meta not covered"),
    ],
)
def test_what_a_bundles_signature_leaves_out_is_told(form, without, notes):
    bundle = message({"resourceType": "Basic"}, id="b", meta={"versionId": "1"})
    signed = {**bundle, "signature": signature(jose(of(bundle, *without), DOCTOR), form=form)}
    assert (one(signed).covers, one(signed).notes) == ("document", notes)


# ---- what cannot be said --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_attached", [False, True])
@pytest.mark.parametrize("target", ["Patient/elsewhere", "urn:uuid:none", "#none", "Patient/p1/_history/4"])
def test_a_target_that_is_not_in_the_message_is_unknown_and_never_valid(target, is_attached):
    row = one(message(provenance(jose(of(PATIENT), DOCTOR, is_attached=is_attached), target=target), url="", own=""))
    assert (row.result, row.covers, row.why) == ("unknown", "", "target not here")


def test_a_target_that_is_there_twice_is_unknown():
    value = message(provenance(jose(of(PATIENT), DOCTOR)))
    value["entry"].insert(0, {"fullUrl": PLACE, "resource": {**PATIENT, "gender": "male"}})
    assert one(value).why == "target not here"


def test_several_targets_are_unknown():
    assert one(message(provenance(jose(of(PATIENT), DOCTOR), more=("Patient/p2",)))).result == "unknown"


def test_a_form_that_is_not_known_is_unknown():
    assert one(message(provenance(jose(of(PATIENT), DOCTOR), form=f"{FORM}#narrative"))).result == "unknown"


def test_a_signature_elsewhere_covers_nothing_that_is_known():
    assert one({"resourceType": "Consent", "extension": [{"valueSignature": signature(jose(b"x", DOCTOR))}]}).result == "unknown"  # fmt: skip


def test_a_provenance_about_what_is_elsewhere_does_not_spoil_a_signed_bundle_and_does_not_replace_its_signature():
    away = message(provenance(jose(of(PATIENT), DOCTOR), target="Patient/elsewhere"))
    assert is_good(found(sign_bundle(away, DOCTOR)))
    assert reason(found(away)) == "unknown: target not here"
    here = message(provenance(jose(of(PATIENT), DOCTOR)))
    assert reason(found(here)) == "does not cover the whole"


# ---- bad ones -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_attached", [False, True])
def test_a_good_jws_over_something_else_is_invalid(is_attached):
    row = one(message(provenance(jose(of({**PATIENT, "id": "p2"}), DOCTOR, is_attached=is_attached))))
    assert row.result == "invalid"


@pytest.mark.parametrize("value", [72.50001, 72, "72.5"])
def test_a_number_is_signed_as_it_was_written(value):
    changed = {**PATIENT, "extension": [{"url": "urn:test:weight", "valueDecimal": value}]}
    assert one(message(provenance(jose(of(PATIENT), DOCTOR)), changed)).result == "invalid"
    raw = dumped(message(provenance(jose(of(PATIENT), DOCTOR))))
    assert one(raw.replace(b"72.5}", b"72.50}")).result == "invalid"


SIGNED = {
    "detached": dumped(message(provenance(jose(of(PATIENT), DOCTOR)))),
    "attached": dumped(message(provenance(jose(of(PATIENT), DOCTOR, is_attached=True)))),
    "bundle": sign_bundle(message({"resourceType": "Basic"}), DOCTOR),
}


@settings(max_examples=100)
@given(data=st.data(), kind=st.sampled_from(sorted(SIGNED)))
def test_no_changed_character_of_what_is_signed_leaves_the_signature_valid(data, kind):
    text = SIGNED[kind].decode()
    begin = text.index('"resource":{"resourceType":"Patient"' if kind != "bundle" else '"entry"') + 11
    end = text.index("}]}}", begin) if kind != "bundle" else text.index(', "signature"')
    at = data.draw(st.integers(begin, end - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=0x6FF).filter(lambda each: each != text[at]))
    if text[at] == " " and kind == "bundle":  # between members, where a space means nothing
        return
    assert one((text[:at] + other + text[at + 1 :]).encode()).result != "valid"


@settings(max_examples=100)
@given(data=st.data())
def test_no_changed_character_of_a_jws_leaves_it_valid(data):
    jws = base64.b64decode(jose(of(PATIENT), DOCTOR, is_attached=True)).decode()
    header_end = jws.index(".")
    at = data.draw(
        st.integers(0, len(jws) - 3).filter(lambda at: at != header_end)
    )  # the last character's low bits mean nothing
    other = data.draw(st.sampled_from("ABCabc012-_.="))
    if other != jws[at]:
        changed = (jws[:at] + other + jws[at + 1 :]).encode()
        assert one(message(provenance(base64.b64encode(changed).decode()))).result != "valid"


def without_signature(data):
    first, carried, _ = base64.b64decode(data).decode().split(".")
    return base64.b64encode(f"{first}.{carried}.".encode()).decode()


def test_a_jws_without_a_signature_or_of_an_hmac_is_invalid():
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()  # noqa: E731
    x5c = [base64.b64encode(DOCTOR.der).decode()]
    for algorithm in ("none", "HS256", "RS1", "ES256K", None, 7):
        token = f"{part({'alg': algorithm, 'x5c': x5c})}..{part('x')}".encode()
        row = one(message(provenance(base64.b64encode(token).decode())))
        assert (row.result, row.why) == ("invalid", "an algorithm that is not taken")
    assert one(message(provenance(without_signature(jose(of(PATIENT), DOCTOR))))).result == "invalid"


def test_an_hmac_with_the_public_key_as_its_secret_is_invalid():
    import hashlib
    import hmac

    part = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")  # noqa: E731
    header = part(json.dumps({"alg": "HS256", "x5c": [base64.b64encode(DOCTOR.der).decode()]}).encode())
    for secret in (DOCTOR.pem, DOCTOR.der, DOCTOR.public_pem):
        value = part(hmac.digest(secret, header + b"." + part(of(PATIENT)), hashlib.sha256))
        token = base64.b64encode(header + b".." + value).decode()
        assert one(message(provenance(token))).result == "invalid"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"crit": ["exp"], "exp": 1}, "a header that must be understood and is not"),
        ({"crit": []}, "a header that must be understood and is not"),
        ({"crit": ["b64"]}, "a header that must be understood and is not"),
        ({"crit": "b64", "b64": True}, "a header that must be understood and is not"),
        ({"crit": [["b64"]], "b64": True}, "a header that must be understood and is not"),
        ({"x5c": None}, "it cannot be read, or names no certificate"),
        ({"x5c": [], "kid": "x"}, "it cannot be read, or names no certificate"),
        ({"x5t#S256": "AAAA"}, "it cannot be read, or names no certificate"),
        ({"b64": False}, "a payload that is written in a way that is not read here"),
    ],
)
def test_a_header_that_says_what_is_not_read_here_is_invalid(header, why):
    row = one(message(provenance(jose(of(PATIENT), DOCTOR, **header))))
    assert (row.result, row.why) == ("invalid", why)


def test_a_key_of_a_kind_that_nobody_knows_is_invalid():
    # of the type of an elliptic curve's key to one of no type: a byte of its identifier is another
    oid = bytes.fromhex("06072a8648ce3d0201")
    assert oid in DOCTOR.der
    x5c = [base64.b64encode(DOCTOR.der.replace(oid, oid[:-1] + b"\x07")).decode()]
    row = one(message(provenance(jose(of(PATIENT), DOCTOR, x5c=x5c))))
    assert (row.result, row.why) == ("invalid", "a key that is not taken")


def by_hand(algorithm, key, hashed):
    """A JWS over PATIENT by a key that the library would not take for this algorithm."""
    signer, curve = make("Dr. Curve", ROOT_CA, key=key), key.curve
    part = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")  # noqa: E731
    header = part(json.dumps({"alg": algorithm, "x5c": [base64.b64encode(signer.der).decode()]}).encode())
    value = utils.decode_dss_signature(key.sign(header + b"." + part(of(PATIENT)), ec.ECDSA(hashed)))
    raw = b"".join(each.to_bytes((curve.key_size + 7) // 8) for each in value)
    return base64.b64encode(header + b".." + part(raw)).decode()


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1(), ec.BrainpoolP256R1(), ec.BrainpoolP512R1()])  # fmt: skip
def test_each_algorithm_has_its_own_curve_and_no_other(curve):
    key = ec.generate_private_key(curve)
    for algorithm, hashed in (("ES256", hashes.SHA256()), ("ES384", hashes.SHA384()), ("ES512", hashes.SHA512())):
        row = one(message(provenance(by_hand(algorithm, key, hashed))))
        is_own = (algorithm, curve.name) in {("ES256", "secp256r1"), ("ES384", "secp384r1"), ("ES512", "secp521r1")}
        assert (row.result, row.why) == (("valid", "") if is_own else ("invalid", "a key that is not taken"))


@pytest.mark.parametrize("payload", ["!!!", "AA=A", "é"])
def test_a_payload_that_is_no_base64_spoils_its_own_signature_alone(payload):
    first, _, last = base64.b64decode(jose(of(PATIENT), DOCTOR)).decode().split(".")
    bad, good = provenance(f"{first}.{payload}.{last}"), provenance(jose(of(PATIENT), DOCTOR))
    value = message(bad)
    value["entry"].append({"fullUrl": "urn:uuid:other", "resource": good})
    assert [each.result for each in found(value)] == ["invalid", "valid"]


def test_another_signers_certificate_in_the_header_is_invalid():
    x5c = [base64.b64encode(make("Dr. Other", ROOT_CA).der).decode()]
    assert one(message(provenance(jose(of(PATIENT), DOCTOR, x5c=x5c)))).result == "invalid"


@pytest.mark.parametrize("data", [None, 7, "", "....", "a.b.c", "e30..AA", [], {}])
def test_what_is_no_jws_is_invalid(data):
    assert one(message(provenance(data))).result == "invalid"


@settings(max_examples=100)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["resourceType", "entry", "resource", "target", "reference", "contained", "signature", "sigFormat", "data", "fullUrl", "id", "targetFormat"]), each | st.sampled_from(["Bundle", "Provenance", "application/jose"]), max_size=5), max_leaves=30))  # fmt: skip
def test_no_shape_of_json_does_harm_to_the_worker(value):
    assert not is_good(found(value))


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_in_another_coding_than_utf8_is_invalid(coding):
    raw = SIGNED["bundle"].decode().encode(coding)
    assert not is_good(found(raw))
    assert one(b"\xef\xbb\xbf" + SIGNED["bundle"]).result == "valid"


@pytest.mark.parametrize("constant", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_invalid(constant):
    row = one(sign_bundle(message({"resourceType": "Basic", "x": constant}), DOCTOR))
    assert (row.result, row.why) == ("invalid", "the document cannot be read")


def test_the_base64_of_a_signature_may_be_broken_into_lines():
    data = jose(of(PATIENT), DOCTOR)
    broken = "\r\n".join(data[at : at + 76] for at in range(0, len(data), 76))
    assert one(message(provenance(f" {broken}\n\t"))).result == "valid"
    assert one(message(provenance(f"{data[:8]}*{data[8:]}"))).result == "invalid"


# ---- times ----------------------------------------------------------------------------------------------------------------
def test_the_time_that_a_signer_claims_is_told_and_whether_its_certificate_was_valid_then():
    signed = jose(of(PATIENT), DOCTOR, sigT=NOW.isoformat(timespec="seconds"))
    assert one(message(provenance(signed))).notes == f"by its own account signed {NOW:%Y-%m-%dT%H:%M:%SZ}"
    old = one(message(provenance(jose(of(PATIENT), DOCTOR), when="2001-01-01T00:00:00Z")))
    assert old.result == "valid"
    assert old.notes == "by its own account signed 2001-01-01T00:00:00Z, when its certificate was not valid"
    assert one(message(provenance(jose(of(PATIENT), DOCTOR), when="yesterday"))).notes == ""
