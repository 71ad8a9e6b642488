"""What the SOAP endpoint answers: the RegistryResponse of ITI-41, an empty body for other actions, a fault for every refusal."""

from typing import Final
from xml.sax.saxutils import escape, quoteattr

from hl7.soap import ITI_41, SOAP11, SOAP12, Envelope, Request

MEDIA: Final = {SOAP11: "text/xml; charset=utf-8", SOAP12: "application/soap+xml; charset=utf-8"}
SUCCESS: Final = (
    '<rs:RegistryResponse xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"'
    ' status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"/>'
)
SIDES_11: Final = {
    "Sender": "Client", "Receiver": "Server", "VersionMismatch": "VersionMismatch", "MustUnderstand": "MustUnderstand",
}  # fmt: skip
DETAIL: Final = "urn:wasl:error"


def taken(request: Request, *, own_id: str) -> tuple[str, bytes]:
    """The answer to a request whose record is durable: Content-Type and body. Packed as the request was (IHE ITI TF-2, appendix V.8)."""
    content = SUCCESS if request.action == ITI_41 else ""
    envelope = _envelope(request.envelope, f"{request.action}Response", own_id, content)
    version = request.envelope.version
    return _packed(version, envelope, own_id) if request.is_mtom else (MEDIA[version], envelope)


def fault(heard: Envelope, *, side: str, subcode: str, code: str, text: str, own_id: str) -> tuple[str, bytes]:
    """A fault in the sender's version: Content-Type and body. `code` is our catalogue's."""
    detail = f"<code xmlns={quoteattr(DETAIL)}>{code}</code>"
    wsa = heard.addressing
    if heard.version == SOAP11:
        name = f"wsa:{subcode}" if subcode and wsa else f"soap:{SIDES_11[side]}"
        content = f'<faultcode>{name}</faultcode><faultstring xml:lang="en">{escape(text)}</faultstring><detail>{detail}</detail>'
    else:
        inner = f"<soap:Subcode><soap:Value>wsa:{subcode}</soap:Value></soap:Subcode>" if subcode and wsa else ""
        content = (
            f"<soap:Code><soap:Value>soap:{side}</soap:Value>{inner}</soap:Code>"
            f'<soap:Reason><soap:Text xml:lang="en">{escape(text)}</soap:Text></soap:Reason><soap:Detail>{detail}</soap:Detail>'
        )
    action = f"{wsa}/fault" if subcode else f"{wsa}/soap/fault"
    return MEDIA[heard.version], _envelope(heard, action, own_id, f"<soap:Fault>{content}</soap:Fault>")


def _envelope(heard: Envelope, action: str, own_id: str, content: str) -> bytes:
    """An envelope in the version, and with the WS-Addressing, of the one that is answered."""
    wsa, header = heard.addressing, ""
    if wsa:
        relates = f"<wsa:RelatesTo>{escape(heard.message_id)}</wsa:RelatesTo>" if heard.message_id else ""
        header = (
            f'<soap:Header><wsa:Action soap:mustUnderstand="1">{escape(action)}</wsa:Action>'
            f"<wsa:MessageID>urn:uuid:{own_id}</wsa:MessageID>{relates}</soap:Header>"
        )
    names = f" xmlns:wsa={quoteattr(wsa)}" if wsa else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="{heard.version}"{names}>'
        f"{header}<soap:Body>{content}</soap:Body></soap:Envelope>"
    ).encode()


def _packed(version: str, envelope: bytes, own_id: str) -> tuple[str, bytes]:
    """An envelope as an MTOM package of one part."""
    boundary, root = f"wasl-{own_id}", f"root.{own_id}@wasl.invalid"
    kind = MEDIA[version].partition(";")[0]
    head = (
        f'--{boundary}\r\nContent-Type: application/xop+xml; charset=utf-8; type="{kind}"\r\n'
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{root}>\r\n\r\n"
    )
    media = (
        f'multipart/related; type="application/xop+xml"; start="<{root}>"; start-info="{kind}"; boundary="{boundary}"'
    )
    return media, head.encode() + envelope + f"\r\n--{boundary}--\r\n".encode()
