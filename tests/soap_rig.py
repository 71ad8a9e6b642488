"""SOAP by hand: envelopes, packages, and a node with a SOAP feed. The documents are synthetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from hl7.soap import ITI_41, SOAP11, SOAP12, WSA
from tests.fhir_rig import Answer, Http
from tests.gateway_rig import Realm
from tests.node_rig import Feed, Node, running
from tests.xml_samples import CDA

BOUNDARY = "MIME_boundary_test"
OTHER = "urn:test:Other"
BINARY = (
    bytes(range(256)) * 40 + b"\r\n--MIME_boundary\r\n\r\n--MIME_boundary_tes--\r\n"
)  # what looks like an end and is none
DOCUMENT = '<xdsb:Document xmlns:xdsb="urn:ihe:iti:xds-b:2007" id="{id}">{inner}</xdsb:Document>'
INCLUDE = '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:{id}"/>'


def iti41(inner: str = "") -> str:
    """A submission: what its metadata say is not looked at."""
    return (
        '<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">'
        '<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"><name>مريض تجريبي</name></lcm:SubmitObjectsRequest>'
        f"{inner}</xdsb:ProvideAndRegisterDocumentSetRequest>"
    )


def envelope(body: str | None = None, *, version: str = SOAP12, action: str | None = ITI_41, message_id: str | None = "urn:uuid:test-1", header: str = "") -> bytes:  # fmt: skip
    """An envelope; None leaves a header out."""
    body = iti41() if body is None else body
    wsa = "".join(
        f"<a:{name}{must}>{value}</a:{name}>"
        for name, value, must in (("Action", action, ' s:mustUnderstand="1"'), ("MessageID", message_id, ""))
        if value is not None
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<s:Envelope xmlns:s="{version}" xmlns:a="{WSA}">'
        f"<s:Header>{wsa}{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def package(
    root: bytes, *parts: tuple[str, str, bytes], kind: str = "application/xop+xml", boundary: str = BOUNDARY
) -> bytes:
    """A multipart/related body: the root part and others as (id, type, bytes)."""
    root_type = f'{kind}; charset=UTF-8; type="application/soap+xml"' if kind == "application/xop+xml" else kind
    rows = [("root@test", root_type, root), *parts]
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{name}>\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, media, data in rows
    )
    return body + f"--{boundary}--\r\n".encode()


def mtom(*documents: bytes, **options: str) -> bytes:
    """A submission with its documents beside the envelope."""
    inner = "".join(DOCUMENT.format(id=f"D{n}", inner=INCLUDE.format(id=f"doc{n}@test")) for n in range(len(documents)))
    parts = [(f"doc{n}@test", "text/xml", data) for n, data in enumerate(documents)]
    return package(envelope(iti41(inner), **options), *parts)


MTOM = f'multipart/related; type="application/xop+xml"; start="<root@test>"; start-info="application/soap+xml"; boundary="{BOUNDARY}"'
SWA = f'multipart/related; type="text/xml"; start="<root@test>"; boundary={BOUNDARY}'
TEXT, SOAP = "text/xml; charset=utf-8", "application/soap+xml; charset=utf-8"


@dataclass
class SoapFeed(Feed):
    """A SOAP feed of the configuration."""

    def text(self) -> str:
        return super().text().replace('kind = "mllp"', 'kind = "soap"')


@contextmanager
def soap_node(
    realm: Realm, folder: Path, *, lines: str = "", tls: str = "", before: str = "", **options
) -> Iterator[Node]:
    """A running node with one SOAP feed named `xds`."""
    feed = SoapFeed("xds", lines=lines, tls=tls)
    with running(Node(realm, folder, feeds=[feed], **options), before=before) as node:
        yield node


def connect(node: Node, **options) -> Http:
    return Http(node.feeds[0].address, **options)


def post(http: Http, body: bytes, content_type: str = MTOM, path: str = "/soap", **headers: str) -> Answer:
    """Send a body and read the answer."""
    http.send("POST", f"/{path}", body, content_type=content_type, **headers)
    return http.answer()


class Heard:
    """What an answer's envelope says, out of its package where it has one."""

    def __init__(self, answer: Answer) -> None:
        self.is_package = answer.headers["content-type"].startswith("multipart/related")
        body = answer.body
        if self.is_package:
            body = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        self.root = ET.fromstring(body)
        self.version = self.root.tag[1:].partition("}")[0]
        content = self.root.find(f"{{{self.version}}}Body")
        self.content = content[0] if len(content) else None

    def header(self, name: str) -> str | None:
        found = self.root.find(f"{{{self.version}}}Header/{{{WSA}}}{name}")
        return None if found is None else found.text

    @property
    def status(self) -> str:
        """Of a RegistryResponse."""
        return self.content.attrib["status"].rpartition(":")[2]

    @property
    def fault(self) -> str:
        """Our code in a fault's detail."""
        return "".join(each.text for each in self.content.iter() if each.tag.endswith("}code"))

    @property
    def sides(self) -> list[str]:
        """The fault's code and subcode."""
        names = {f"{{{SOAP12}}}Value", "faultcode"}
        return [each.text for each in self.content.iter() if each.tag in names]


__all__ = ["BINARY", "CDA", "ITI_41", "MTOM", "OTHER", "SOAP", "SOAP11", "SOAP12", "SWA", "TEXT", "WSA"]
