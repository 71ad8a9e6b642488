"""The SOAP feed of a running node: stored whole as it came, answered after the commit, every refusal a fault, whatever the network does."""

import base64
import hashlib
import json
import ssl
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from node.tools.pki import issue_gateway, issue_node
from sync.record import Kind, Verdict
from tests.fhir_rig import request, seen_request
from tests.node_rig import Node, Realm, running, wait_until
from tests.soap_rig import (
    BINARY,
    CDA,
    ITI_41,
    MTOM,
    OTHER,
    SOAP,
    SOAP11,
    SOAP12,
    SWA,
    TEXT,
    Heard,
    SoapFeed,
    connect,
    envelope,
    mtom,
    package,
    post,
    soap_node,
)
from tests.xml_samples import HARMFUL

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "peers/py/bin/python"
MIB = 1024 * 1024
FULL = "import sync.outbox as o; from sync.errors import NoRoom\ndef full(self, drafts): raise NoRoom('full')\no.Outbox.append = full"
QUEUE = "import node.writer as w; w.Writer.submit = lambda self, draft, done: False"


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm.make(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="module")
def node(realm, tmp_path_factory):
    lines = f'body_mb_max = 1\nactions = ["{ITI_41}", "{OTHER}"]'
    with soap_node(realm, tmp_path_factory.mktemp("node"), lines=lines) as running:
        yield running


@pytest.fixture
def http(node):
    with connect(node) as connection:
        yield connection


def newest(node):
    return node.records("xds")[-1]


# ---- taken ----------------------------------------------------------------------------------------------------------------
def test_a_submission_is_stored_whole_and_answered_with_success(node, http):
    raw = mtom(CDA, BINARY, message_id="urn:uuid:a-1")
    answer = post(http, raw)
    heard, seen = Heard(answer), newest(node)
    assert (answer.status, heard.status, heard.is_package, heard.version) == (200, "Success", True, SOAP12)
    assert (heard.header("RelatesTo"), heard.header("Action")) == ("urn:uuid:a-1", f"{ITI_41}Response")
    assert (seen.body, seen.header.content_type, seen.header.message_type) == (raw, "multipart/related", ITI_41)
    assert (seen.control_id, seen.header.verdict) == ("urn:uuid:a-1", Verdict.ACCEPTED)
    assert seen_request(seen) == ("POST", "", f"content-type: {MTOM}")
    assert answer.headers["wasl-record"] == f"xds/1/{len(node.records('xds')) - 1}"


@pytest.mark.parametrize(("version", "media"), [(SOAP11, TEXT), (SOAP12, SOAP)])
def test_either_version_is_answered_in_kind(node, http, version, media):
    raw = envelope(version=version, message_id=f"urn:uuid:b-{version[-4:]}")
    answer = post(http, raw, media, SOAPAction=f'"{ITI_41}"')
    heard = Heard(answer)
    assert (answer.status, heard.status, heard.version, heard.is_package) == (200, "Success", version, False)
    assert answer.headers["content-type"] == media
    assert newest(node).header.content_type == media.partition(";")[0]
    assert seen_request(newest(node))[2] == f'content-type: {media}\nsoapaction: "{ITI_41}"'


def test_attachments_without_xop_are_taken(node, http):
    raw = package(
        envelope(version=SOAP11, message_id="urn:uuid:c"), ("a@t", "application/pdf", BINARY), kind="text/xml"
    )
    answer = post(http, raw, SWA)
    assert (Heard(answer).status, Heard(answer).version, Heard(answer).is_package) == ("Success", SOAP11, False)
    assert newest(node).body == raw


def test_another_action_that_is_allowed_gets_an_empty_answer(http):
    heard = Heard(post(http, envelope("<x/>", action=OTHER, message_id="urn:uuid:d"), SOAP))
    assert (heard.content, heard.header("Action")) == (None, f"{OTHER}Response")


def test_without_addressing_there_is_none_in_the_answer(http):
    heard = Heard(post(http, envelope(action=None, message_id=None), SOAP))
    assert (heard.status, heard.header("Action"), heard.header("RelatesTo")) == ("Success", None, None)


def test_a_repeat_is_known_by_its_id_and_bytes(node, http):
    raw = mtom(CDA, message_id="urn:uuid:e")
    positions = [post(http, raw).headers["wasl-record"] for _ in range(2)]
    assert positions[0] == positions[1]
    other = post(http, mtom(BINARY, message_id="urn:uuid:e")).headers["wasl-record"]
    assert other != positions[0]
    plain = envelope(message_id=None)
    assert post(http, plain, SOAP).headers["wasl-record"] != post(http, plain, SOAP).headers["wasl-record"]


# ---- refused --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "media", "status", "code", "sides"),
    [
        (envelope("<x/>", action="urn:x"), SOAP, 400, "SOP-05", ["soap:Sender", "wsa:ActionNotSupported"]),
        (envelope("<x/>", action="urn:x", version=SOAP11), TEXT, 500, "SOP-05", ["wsa:ActionNotSupported"]),
        (envelope("<x/>"), SOAP, 400, "SOP-08", ["soap:Sender"]),
        (envelope(header='<w:S xmlns:w="urn:w" s:mustUnderstand="1"/>'), SOAP, 500, "SOP-03", ["soap:MustUnderstand"]),
        (b"<a/>", TEXT, 500, "SOP-02", ["soap:VersionMismatch"]),
        (mtom(CDA)[:-9], MTOM, 400, "SOP-06", ["soap:Sender"]),
        (mtom(CDA), MTOM.replace("MIME_b", "b"), 400, "SOP-06", ["soap:Sender"]),
        (mtom(CDA).replace(b"cid:doc0", b"cid:doc7"), MTOM, 400, "SOP-07", ["soap:Sender"]),
        *((raw, SOAP, 400, "SOP-01", ["soap:Sender"]) for raw in HARMFUL),
    ],
)
def test_a_refusal_is_a_fault_and_a_record(node, http, raw, media, status, code, sides):
    answer = post(http, raw, media)
    heard, seen = Heard(answer), newest(node)
    assert (answer.status, heard.fault, heard.sides) == (status, code, sides)
    assert (seen.header.verdict, seen.refusal, seen.body) == (Verdict.REJECTED, code, raw)
    assert seen.header.message_type == ""


@pytest.mark.parametrize(
    ("method", "path", "media", "status", "code"),
    [
        ("GET", "/soap?xsd", None, 405, "SOP-11"),
        ("POST", "/other", SOAP, 404, "FHR-20"),
        ("POST", "/soap/x", SOAP, 404, "FHR-20"),
        ("POST", "/soap", "application/json", 415, "SOP-10"),
    ],
)
def test_what_is_no_soap_is_told_and_not_recorded(node, http, method, path, media, status, code):
    before = len(node.records("xds"))
    http.send(method, f"/{path}", b"x" if media else None, **({"content_type": media} if media else {}))
    answer = http.answer()
    assert (answer.status, Heard(answer).fault) == (status, code)
    assert len(node.records("xds")) == before


def test_what_is_no_http_gets_a_fault(node):
    with connect(node) as http:
        http.write(b"\x00\x01 nonsense\r\n\r\n")
        assert Heard(http.answer()).fault == "SOP-00"


# ---- bodies ---------------------------------------------------------------------------------------------------------------
def head_of(**headers: str) -> bytes:
    return request("POST", "//soap", None, content_type=MTOM, **headers)


def test_a_chunked_body_is_stored_as_its_bytes(node, http):
    raw = mtom(BINARY, message_id="urn:uuid:f")
    http.write(head_of(transfer_encoding="chunked"))
    for at in range(0, len(raw), 333):
        piece = raw[at : at + 333]
        http.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    http.write(b"0\r\n\r\n")
    assert Heard(http.answer()).status == "Success"
    assert newest(node).body == raw


def test_a_long_body_is_read_in_a_thread_and_taken(node, http):
    raw = mtom(CDA, b"\x00" * 900_000, message_id="urn:uuid:g")
    assert Heard(post(http, raw)).status == "Success"
    assert newest(node).body == raw


def test_a_body_beyond_the_limit_is_refused_unread_and_recorded(node, http):
    http.write(head_of(content_length=str(5 * MIB)))
    answer = http.answer()
    assert (answer.status, Heard(answer).fault) == (413, "FHR-13")
    seen = newest(node)
    assert (seen.header.kind, seen.refusal, seen.frame[0]) == (Kind.INCOMPLETE, "FHR-13", 5 * MIB)


def test_a_body_that_stops_coming_is_408(realm, tmp_path):
    with soap_node(realm, tmp_path, before="import node.feeds.http_body as b; b.PIECE_S_MAX = 0.2") as node:
        with connect(node) as http:
            http.write(head_of(content_length="1000") + b"--")
            answer = http.answer()
        assert (answer.status, Heard(answer).fault) == (408, "FHR-15")


def test_a_connection_that_closes_inside_a_body_leaves_a_record_of_what_came(node):
    with connect(node) as http:
        http.write(head_of(content_length="1000") + b"--MIME")
    seen = wait_until("the record", lambda: (found := newest(node)).refusal == "FHR-14" and found)
    assert (seen.header.kind, seen.body, seen.frame) == (
        Kind.INCOMPLETE,
        b"--MIME",
        (6, hashlib.sha256(b"--MIME").digest()),
    )


# ---- no room, crashes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("before", "status", "code"), [(FULL, 507, None), (QUEUE, 503, "NOD-01")])
def test_without_room_there_is_a_fault_and_a_time_to_come_again(realm, tmp_path, before, status, code):
    with soap_node(realm, tmp_path, before=before) as node, connect(node) as http:
        answer = post(http, mtom(CDA))
        heard = Heard(answer)
        assert (answer.status, heard.sides, "retry-after" in answer.headers) == (status, ["soap:Receiver"], True)
        assert code in {None, heard.fault}
        assert node.records("xds") == []


def test_each_answered_submission_outlives_a_kill(realm, tmp_path):
    with soap_node(realm, tmp_path) as node:
        sent = []
        for number in range(3):
            raw = mtom(CDA, BINARY, message_id=f"urn:uuid:kill-{number}")
            with connect(node) as http:
                assert Heard(post(http, raw)).status == "Success"
            sent.append(raw)
            node.restart()
            assert node.bodies("xds") == sent
        with connect(node) as http:  # and a repeat after the kill is known
            assert post(http, sent[0]).headers["wasl-record"] == "xds/1/0"
        assert node.bodies("xds") == sent


# ---- access ---------------------------------------------------------------------------------------------------------------
def test_a_bearer_token_is_asked_for_where_there_is_one(realm, tmp_path):
    token = f'[[feeds.tokens]]\nname = "src"\nsha256 = "{hashlib.sha256(b"secret").hexdigest()}"'
    with soap_node(realm, tmp_path, lines=token) as node, connect(node) as http:
        answer = post(http, mtom(CDA))
        assert (answer.status, Heard(answer).fault, node.records("xds")) == (401, "FHR-16", [])
        assert Heard(post(http, mtom(CDA), authorization="Bearer secret")).status == "Success"


def test_a_client_without_a_certificate_is_not_let_in(realm, tmp_path):
    issue_gateway(realm.folder / "ca", tmp_path / "feed", "feed", ["127.0.0.1"])
    issue_node(realm.folder / "ca", tmp_path / "source", "source")
    tls = f'certificate = "{tmp_path}/feed/server.pem"\nkey = "{tmp_path}/feed/server.key"\nclient_ca = "{realm.folder}/ca/ca.pem"'
    context = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    with soap_node(realm, tmp_path, tls=tls) as node:
        with pytest.raises((ConnectionError, ssl.SSLError)), connect(node, tls=context) as http:
            post(http, mtom(CDA))
        context.load_cert_chain(tmp_path / "source/link.pem", tmp_path / "source/link.key")
        with connect(node, tls=context) as http:
            assert Heard(post(http, mtom(CDA))).status == "Success"


# ---- other people's client ------------------------------------------------------------------------------------------------
OWN = """
import json, sys
from zeep import Client
(address,) = sys.argv[1:]
out = {}
for port in ("Soap12", "Soap11"):
    client = Client(address + "?wsdl", service_name="DocumentRepository_Service", port_name="DocumentRepository_Port_" + port)
    rim = client.get_element("{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}RegistryObjectList")
    document = {"id": "D1", "_value_1": "<ClinicalDocument>مريض تجريبي</ClinicalDocument>".encode()}
    answer = client.service["DocumentRepository_ProvideAndRegisterDocumentSet-b"](
        SubmitObjectsRequest={"RegistryObjectList": rim()}, Document=[document])
    out[port] = answer.status
print(json.dumps(out))
"""
ZEEP = """
import json, sys
from zeep import Client
from zeep.exceptions import Fault
wsdl, address = sys.argv[1:]
out = {}
for port in ("One", "Two"):
    client = Client(wsdl, service_name="Repository", port_name=port)
    service = client.create_service("{urn:test}" + port, address)
    out[port] = service.ProvideAndRegisterDocumentSet(_value_1=None).status
    try:
        service.NotAllowed(_value_1=None)
    except Fault as fault:
        out[port + "-fault"] = [fault.code, fault.message]
print(json.dumps(out))
"""
OPERATION = """<operation name="{name}"><{soap}:operation soapAction="{action}"/><input><{soap}:body use="literal"/></input><output><{soap}:body use="literal"/></output></operation>"""


def wsdl() -> str:
    # with wsaw:Action zeep writes WS-Addressing by itself
    rows = (("ProvideAndRegisterDocumentSet", ITI_41), ("NotAllowed", "urn:test:NotAllowed"))
    bindings = "".join(
        f'<binding name="{port}" type="t:Port"><{soap}:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>'
        + "".join(OPERATION.format(name=name, soap=soap, action=action) for name, action in rows)
        + "</binding>"
        for port, soap in (("One", "soap11"), ("Two", "soap12"))
    )
    operations = "".join(
        f'<operation name="{name}"><input message="t:In" wsaw:Action="{action}"/><output message="t:Out"/></operation>'
        for name, action in rows
    )
    ports = "".join(f'<port name="{port}" binding="t:{port}"><{soap}:address location="http://x"/></port>' for port, soap in (("One", "soap11"), ("Two", "soap12")))  # fmt: skip
    return f"""<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:t="urn:test" targetNamespace="urn:test" xmlns:d="urn:ihe:iti:xds-b:2007"
 xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" xmlns:soap11="http://schemas.xmlsoap.org/wsdl/soap/"
 xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/" xmlns:wsaw="http://www.w3.org/2006/05/addressing/wsdl"><types>
<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:ihe:iti:xds-b:2007"><element name="ProvideAndRegisterDocumentSetRequest">
<complexType><sequence><any minOccurs="0"/></sequence></complexType></element></schema>
<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"><element name="RegistryResponse">
<complexType><sequence><any minOccurs="0"/></sequence><attribute name="status" type="anyURI"/></complexType></element></schema></types>
<message name="In"><part name="body" element="d:ProvideAndRegisterDocumentSetRequest"/></message>
<message name="Out"><part name="body" element="rs:RegistryResponse"/></message>
<portType name="Port">{operations}</portType>{bindings}<service name="Repository">{ports}</service></definitions>"""


def test_zeep_sends_in_both_versions_and_reads_our_faults(node, tmp_path):
    (tmp_path / "x.wsdl").write_text(wsdl())
    feed = node.feeds[0]
    command = [PEERS, "-W", "ignore", "-c", ZEEP, str(tmp_path / "x.wsdl"), f"http://127.0.0.1:{feed.port}/soap"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {found[port].rpartition(":")[2] for port in ("One", "Two")} == {"Success"}
    assert found["One-fault"][0] == "wsa:ActionNotSupported"
    assert found["Two-fault"][0] == "soap:Sender"
    assert newest(node).refusal == "SOP-05"


def test_zeep_makes_its_client_from_our_own_description_and_its_document_is_stored(node):
    address = f"http://127.0.0.1:{node.feeds[0].port}/soap"
    done = subprocess.run([PEERS, "-W", "ignore", "-c", OWN, address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {each.rpartition(":")[2] for each in json.loads(done.stdout).values()} == {"Success"}
    for seen, version in zip(node.records("xds")[-2:], (SOAP12, SOAP11), strict=True):
        assert (seen.header.verdict, seen.header.message_type) == (Verdict.ACCEPTED, ITI_41)
        held = ET.fromstring(seen.body).find(f"{{{version}}}Body").find(".//{urn:ihe:iti:xds-b:2007}Document")
        assert base64.b64decode(held.text) == "<ClinicalDocument>مريض تجريبي</ClinicalDocument>".encode()


def test_the_description_names_the_address_by_which_it_was_asked_for_and_no_other_text(node):
    with connect(node) as http:
        for host, shown in (
            ("his-gate.test:8080", "his-gate.test:8080"),
            ('x"/><evil', f"127.0.0.1:{node.feeds[0].port}"),
        ):
            http.write(f"GET /soap?wsdl HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = http.answer()
            assert answer.status == 200
            assert {each.get("location") for each in ET.fromstring(answer.body).iterfind(".//{*}address")} == {f"http://{shown}/soap"}  # fmt: skip
        http.write(b"GET /soap HTTP/1.1\r\nHost: x\r\n\r\n")
        assert http.answer().status == 405


# ---- configuration --------------------------------------------------------------------------------------------------------
def test_a_node_may_have_feeds_of_all_kinds_at_once(realm, tmp_path):
    feeds = [SoapFeed("xds"), SoapFeed("other", lines='path = "/xds/repository"')]
    with running(Node(realm, tmp_path, feeds=feeds)) as node:
        status = node.ask("status")["feeds"]
        assert status["xds"]["addresses"] == [f"http://127.0.0.1:{feeds[0].port}/soap"]
        assert status["other"]["addresses"] == [f"http://127.0.0.1:{feeds[1].port}/xds/repository"]
        assert status["xds"]["actions"] == [ITI_41]
