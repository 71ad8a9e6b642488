"""SOAP envelopes and packages as values: what is read, what is refused, and that no bytes can do harm."""

import pytest

from hl7.mtom import PARTS_MAX, divide, medium
from hl7.soap import Refused, media, read_request
from hl7.soap_errors import (
    ActionNotAllowed,
    BadAddressing,
    BadPackage,
    EnvelopeUnreadable,
    HeaderNotUnderstood,
    NotAnEnvelope,
    NotThisMedium,
    PartMissing,
    SoapError,
    WrongBody,
)
from tests.soap_rig import (
    BINARY,
    BOUNDARY,
    CDA,
    INCLUDE,
    ITI_41,
    MTOM,
    OTHER,
    SOAP,
    SOAP11,
    SOAP12,
    SWA,
    TEXT,
    envelope,
    iti41,
    mtom,
    package,
)
from tests.xml_samples import LAUGHS

ACTIONS = frozenset((ITI_41, OTHER))


def read(raw, content_type=SOAP, action="", understood=()):
    return read_request(raw, media(content_type), action, actions=ACTIONS, understood=frozenset(understood))


def refusal(raw, content_type=SOAP, action=""):
    try:
        read(raw, content_type, action)
    except Refused as refused:
        return type(refused.error)
    except SoapError as error:
        return type(error)
    return None


# ---- envelopes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("version", "content_type"), [(SOAP11, TEXT), (SOAP12, SOAP)])
def test_an_envelope_of_either_version_is_read(version, content_type):
    found = read(envelope(version=version), content_type)
    assert (found.envelope.version, found.action, found.envelope.message_id) == (version, ITI_41, "urn:uuid:test-1")


@pytest.mark.parametrize(
    ("action", "soap_action", "content_type", "found"),
    [
        (OTHER, "", SOAP, OTHER),
        (OTHER, f'"{OTHER}"', TEXT, OTHER),
        (None, f'"{OTHER}"', TEXT, OTHER),
        (None, "", f'{SOAP}; action="{OTHER}"', OTHER),
        (None, '""', TEXT, ITI_41),  # the body says it
    ],
)
def test_the_action_is_that_of_addressing_or_of_the_request(action, soap_action, content_type, found):
    assert read(envelope(action=action), content_type, soap_action).action == found


@pytest.mark.parametrize(
    ("raw", "action", "error"),
    [
        (envelope("<x/>", action="urn:unknown"), "", ActionNotAllowed),
        (envelope("<x/>", action=None), "", ActionNotAllowed),
        (envelope("<x/>"), "", WrongBody),
        (envelope(), '"urn:unknown"', BadAddressing),
        (envelope(header="<a:MessageID>urn:uuid:2</a:MessageID>"), "", BadAddressing),
        (envelope(header="<a:ReplyTo><a:Address>http://192.0.2.9/</a:Address></a:ReplyTo>"), "", BadAddressing),
        (envelope(header='<b:To xmlns:b="http://schemas.xmlsoap.org/ws/2004/08/addressing"/>'), "", BadAddressing),
        (envelope(header='<w:Security xmlns:w="urn:w" s:mustUnderstand="true"/>'), "", HeaderNotUnderstood),
        (b"<a/>", "", NotAnEnvelope),
        (b'<Envelope xmlns="http://www.w3.org/2001/12/soap-envelope"/>', "", NotAnEnvelope),
        (envelope().replace(b"s:Body>", b"s:Bodyx>"), "", NotAnEnvelope),
        (envelope().replace(b"</s:Body>", b"</s:Body><s:Body/>"), "", NotAnEnvelope),
        (envelope()[:-9], "", EnvelopeUnreadable),
        (b"", "", EnvelopeUnreadable),
        (LAUGHS, "", EnvelopeUnreadable),
        (envelope().replace(b"?>", b'?><!DOCTYPE s:Envelope SYSTEM "file:///etc/passwd">'), "", EnvelopeUnreadable),
        (envelope(iti41("<a>" * 300 + "</a>" * 300)), "", EnvelopeUnreadable),
        (envelope(message_id="x" * 5000), "", EnvelopeUnreadable),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(raw, action, error):
    assert refusal(raw, SOAP, action) is error


def test_an_anonymous_reply_address_is_ours():
    raw = envelope(
        header="<a:ReplyTo><a:Address>http://www.w3.org/2005/08/addressing/anonymous</a:Address></a:ReplyTo>"
    )
    assert refusal(raw) is None


def test_a_header_for_another_role_or_of_an_understood_namespace_is_left_alone():
    assert refusal(envelope(header='<w:X xmlns:w="urn:w" s:mustUnderstand="1" s:role="urn:relay"/>')) is None
    assert refusal(envelope(header='<w:X xmlns:w="urn:w" s:mustUnderstand="0"/>')) is None
    assert read(envelope(header='<w:X xmlns:w="urn:w" s:mustUnderstand="1"/>'), understood=["urn:w"]).action == ITI_41


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/html",
        "application/json",
        "text/xml; charset=gb18030",
        'text/xml; a="',
        "text/xml; a=1; a=2",
        "text/xml; =",
    ],
)
def test_another_medium_is_refused(content_type):
    with pytest.raises(NotThisMedium):
        media(content_type)


# ---- packages -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("parts", [(CDA,), (CDA, BINARY), (b"",), (b"\r\n",), (b"--",), (f"--{BOUNDARY}x".encode(),)])
def test_parts_are_found_where_they_are(parts):
    raw = mtom(*parts)
    found = divide(raw, medium(MTOM))
    assert tuple(raw[part.start : part.end] for part in found.others) == parts
    assert [part.id for part in found.others] == [f"doc{n}@test" for n in range(len(parts))]
    assert read(raw, MTOM).is_mtom


def test_attachments_without_xop_are_taken():
    raw = package(envelope(version=SOAP11), ("a@test", "application/pdf", BINARY), kind="text/xml; charset=UTF-8")
    found = read(raw, SWA)
    assert (found.is_mtom, found.envelope.version) == (False, SOAP11)


def test_the_start_decides_which_part_is_the_root():
    raw = package(b"<a/>", ("real@test", SOAP, envelope()), kind="text/xml")
    assert read(raw, SWA.replace("root@test", "real@test")).action == ITI_41
    assert refusal(raw, SWA.replace("root@test", "none@test")) is BadPackage


@pytest.mark.parametrize(
    "content_type",
    [
        MTOM.replace(BOUNDARY, "another"),
        MTOM.replace(BOUNDARY, ""),
        MTOM.replace(BOUNDARY, "x" * 71),
        MTOM.replace(BOUNDARY, "a b "),
        MTOM.replace(BOUNDARY, BOUNDARY[:-1]),
        MTOM.partition("; boundary")[0],
    ],
)
def test_a_wrong_boundary_is_refused(content_type):
    assert refusal(mtom(CDA), content_type) is BadPackage


@pytest.mark.parametrize(
    "raw",
    [
        mtom(CDA)[:-6],  # no end
        mtom(CDA).replace(b"\r\n\r\n", b"\r\n", 1),
        mtom(CDA).replace(b"Content-ID: <doc0@test>", b"Content-ID: <root@test>"),
        mtom(CDA).replace(b"Content-ID", b"Content-Type", 1),
        mtom(CDA).replace(b"Transfer-Encoding: binary", b"Transfer-Encoding: base64", 1),
        mtom(CDA).replace(b"application/xop+xml", b"text/html", 1),
        mtom(*[b"x"] * PARTS_MAX),
        b"",
        f"--{BOUNDARY}--\r\n".encode(),
    ],
)
def test_a_torn_package_is_refused(raw):
    assert refusal(raw, MTOM) is BadPackage


def test_a_part_that_is_named_and_not_there_is_refused():
    assert refusal(mtom(CDA).replace(b"cid:doc0@test", b"cid:doc9@test"), MTOM) is PartMissing
    assert refusal(mtom(CDA).replace(b"cid:doc0@test", b"http://192.0.2.9/x"), MTOM) is PartMissing
    assert refusal(mtom(CDA).replace(b"cid:doc0@test", b"cid:doc0%40test"), MTOM) is None


def test_only_so_many_parts_may_be_named():
    inner = INCLUDE.format(id="doc0@test") * (PARTS_MAX + 1)
    assert refusal(package(envelope(iti41(inner))), MTOM) is EnvelopeUnreadable


@pytest.mark.parametrize("cut", range(0, 1400, 37))
def test_no_torn_request_raises_anything_else(cut):
    raw = mtom(b"x")
    for each in (raw[:cut], raw[cut:], raw[:cut] + b"\x00\xff" + raw[cut:], raw[:cut] + raw[cut + 7 :]):
        refusal(each, MTOM)  # a SoapError or nothing
