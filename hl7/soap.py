"""SOAP 1.1 and 1.2: the few facts of an envelope that decide about a request. The body stays closed, but for what names its parts."""

from typing import Final, NamedTuple

from hl7 import mtom
from hl7.mtom import Medium, Package, Part
from hl7.soap_errors import (
    ActionNotAllowed,
    BadAddressing,
    BadPackage,
    EnvelopeUnreadable,
    HeaderNotUnderstood,
    NotAnEnvelope,
    NotThisMedium,
    SoapError,
    WrongBody,
)
from hl7.xml_reader import XmlTrouble, read

SOAP11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"
WSA: Final = "http://www.w3.org/2005/08/addressing"
WSA_2004: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ADDRESSING: Final = (WSA, WSA_2004)
ANONYMOUS: Final = frozenset((f"{WSA}/anonymous", f"{WSA_2004}/role/anonymous"))
ITI_41: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
ITI_41_BODY: Final = "urn:ihe:iti:xds-b:2007 ProvideAndRegisterDocumentSetRequest"
INCLUDE: Final = "http://www.w3.org/2004/08/xop/include Include"
INCLUDES_MAX: Final = mtom.PARTS_MAX
MEDIA: Final = {"text/xml": SOAP11, "application/soap+xml": SOAP12, mtom.PACKAGE: ""}
CHARSETS: Final = frozenset(("utf-8", "utf-16", "us-ascii", "iso-8859-1"))  # what expat reads by itself
_OURS: Final = frozenset(
    ("", f"{SOAP12}/role/next", f"{SOAP12}/role/ultimateReceiver", "http://schemas.xmlsoap.org/soap/actor/next")
)


class Envelope(NamedTuple):
    """Namespace of the version, WS-Addressing's facts and namespace, the body's first element, and the parts that it names."""

    version: str = SOAP12
    addressing: str = ""
    action: str = ""
    message_id: str = ""
    body: str = ""
    includes: tuple[str, ...] = ()


class Request(NamedTuple):
    """A request that was read: its envelope, its action, and how it is packed."""

    envelope: Envelope
    action: str
    package: Package
    is_mtom: bool


def media(content_type: str) -> Medium:
    """Read a request's Content-Type. Raises NotThisMedium."""
    found = mtom.medium(content_type)
    if found.name not in MEDIA or found.parameters.get("charset", "utf-8").lower() not in CHARSETS:
        raise NotThisMedium
    return found


def version_of(of: Medium) -> str:
    """The version that a Content-Type promises: for a fault before the envelope is read."""
    said = f"{of.name} {of.parameters.get('type', '')} {of.parameters.get('start-info', '')}"
    return SOAP12 if "soap+xml" in said else SOAP11


def read_request(
    raw: bytes, of: Medium, soap_action: str, *, actions: frozenset[str], understood: frozenset[str]
) -> Request:
    """Read a body and judge it. `soap_action`: the header of SOAP 1.1. Raises SoapError; what it carries of a request is in `Refused`."""
    package = mtom.divide(raw, of) if of.name == mtom.PACKAGE else Package(Part(of, "", 0, len(raw)))
    root = package.root
    if root.medium.name not in {*MEDIA, mtom.XOP} - {mtom.PACKAGE}:
        raise BadPackage("the root part is no SOAP message")
    envelope = read_envelope(raw[root.start : root.end], root.medium.parameters.get("charset"), understood)
    try:
        return _judged(envelope, package, of, soap_action, actions)
    except SoapError as error:
        raise Refused(envelope, error) from error


class Refused(Exception):
    """A request whose envelope was read, and is refused all the same: the fault speaks its version and names its message."""

    def __init__(self, envelope: Envelope, error: SoapError) -> None:
        super().__init__(str(error))
        self.envelope = envelope
        self.error = error


def _judged(envelope: Envelope, package: Package, of: Medium, soap_action: str, actions: frozenset[str]) -> Request:
    action = _action(envelope, of, package.root.medium, soap_action)
    if action not in actions:
        raise ActionNotAllowed
    if action == ITI_41 and envelope.body != ITI_41_BODY:
        raise WrongBody
    is_mtom = package.root.medium.name == mtom.XOP
    for href in envelope.includes if is_mtom else ():
        package.part(href)
    return Request(envelope, action, package, is_mtom)


def _action(envelope: Envelope, of: Medium, root: Medium, soap_action: str) -> str:
    """The action: of WS-Addressing, of SOAPAction or the `action` parameter, or, for the one body that we know, of the body."""
    said = soap_action.strip().strip('"') or of.parameters.get("action", "") or root.parameters.get("action", "")
    if envelope.action and said and said != envelope.action:
        raise BadAddressing("Action and SOAPAction differ")
    return envelope.action or said or (ITI_41 if envelope.body == ITI_41_BODY else "")


# ---- the envelope -----------------------------------------------------------------------------------------------------------------
def read_envelope(raw: bytes, charset: str | None, understood: frozenset[str]) -> Envelope:
    """Read an envelope to its end. Raises SoapError."""
    if charset is not None and charset.lower() not in CHARSETS:
        raise EnvelopeUnreadable("its character set is not read here")
    follower = _Follower(understood)
    try:
        read(raw, follower, encoding=charset)
    except XmlTrouble as trouble:
        raise EnvelopeUnreadable(str(trouble)) from None
    return follower.envelope()


class _Follower:
    """Follows an envelope; what it finds in `found` are WS-Addressing's texts by name."""

    def __init__(self, understood: frozenset[str]) -> None:
        self._understood = understood
        self._version = ""
        self._found: dict[str, str] = {}
        self._addressing = ""
        self._body = ""
        self._bodies = 0
        self._includes: list[str] = []
        self._unknown = ""

    def start(self, path: list[str], attributes: dict[str, str]) -> bool:
        name, depth = path[-1], len(path)
        if depth == 1:
            self._version, _, local = name.rpartition(" ")
            if self._version not in {SOAP11, SOAP12} or local != "Envelope":
                raise NotAnEnvelope
        elif depth == 2:
            self._bodies += name == f"{self._version} Body"
        elif path[1] == f"{self._version} Header":
            return self._header(path, attributes)
        elif depth == 3 and not self._body:
            self._body = name
        if name == INCLUDE:
            self._includes.append(attributes.get("href", ""))
            if len(self._includes) > INCLUDES_MAX:
                raise EnvelopeUnreadable(f"more than {INCLUDES_MAX} parts are named")
        return False

    def _header(self, path: list[str], attributes: dict[str, str]) -> bool:
        namespace, _, local = path[2].rpartition(" ")
        if len(path) == 3:
            must = attributes.get(f"{self._version} mustUnderstand", "") in {"1", "true"}
            role = attributes.get(f"{self._version} role", "") or attributes.get(f"{self._version} actor", "")
            if must and role in _OURS and namespace not in ADDRESSING and namespace not in self._understood:
                self._unknown = self._unknown or local
        if namespace not in ADDRESSING:
            return False
        if self._addressing and self._addressing != namespace:
            raise BadAddressing("headers of two versions of WS-Addressing")
        self._addressing = namespace
        if local in {"Action", "MessageID"}:
            return len(path) == 3
        return local in {"ReplyTo", "FaultTo"} and len(path) == 4 and path[3] == f"{namespace} Address"

    def text(self, path: list[str], text: str) -> None:
        """One of WS-Addressing's values."""
        name = path[2].rpartition(" ")[2]
        if name in self._found:
            raise BadAddressing(f"{name} stands twice")
        self._found[name] = text.strip()

    def envelope(self) -> Envelope:
        """What was found. Raises SoapError."""
        if self._bodies != 1:
            raise NotAnEnvelope("an envelope has one Body")
        found = self._found
        envelope = Envelope(
            self._version, self._addressing, found.get("Action", ""), found.get("MessageID", ""), self._body, tuple(self._includes)
        )  # fmt: skip
        if self._unknown:
            raise Refused(envelope, HeaderNotUnderstood(self._unknown))
        if any(found.get(name, "") not in {"", *ANONYMOUS} for name in ("ReplyTo", "FaultTo")):
            raise Refused(envelope, BadAddressing("answers go back on the same connection: anonymous addresses only"))
        return envelope
