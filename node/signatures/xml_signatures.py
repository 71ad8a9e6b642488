"""The XML signatures of a document (XMLDSig, XAdES), each: valid, invalid or of an unknown signer, and what it covers. For the worker alone.

A signature counts for what it covers: the document, or the body that is used. The wrapping attacks (McIntosh and Austel, 2005) leave a good
signature over a moved copy; so every reference has to name one element that is there once, and which one it is decides what is covered.
"""

import base64
from typing import Any

from cryptography import x509
from lxml import etree  # type: ignore[import-untyped]  # it brings no types
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from hl7.soap import SOAP11, SOAP12
from node.signatures.chain import ODD, Chain, is_strong
from node.signatures.rows import Row, judge_most
from node.signatures.xades import PROPERTIES, QUALIFYING, BadProperties, Properties, read_properties

DSIG = "http://www.w3.org/2000/09/xmldsig#"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
ENVELOPED = f"{DSIG}enveloped-signature"
C14N = (
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
    "http://www.w3.org/2006/12/xml-c14n11",
)
TRANSFORMS = frozenset(
    (ENVELOPED, *C14N, *(f"{each}WithComments" for each in C14N), *(f"{each}#WithComments" for each in C14N))
)
# not of SHA-1 and not of 224 bits; no DSA, whose keys' lengths nobody looks at; no HMAC, whose key would be the public one
METHODS = frozenset(
    each
    for each in SignatureMethod
    if not each.name.startswith(("DSA", "HMAC")) and "SHA1" not in each.name and "224" not in each.name
)
DIGESTS = frozenset(each for each in DigestAlgorithm if each.name != "SHA1" and "224" not in each.name)
IDS = frozenset(("Id", "ID", "id"))
REFERENCES_MAX = 16  # each takes a copy of the document
OWN = PROPERTIES | {f"{{{DSIG}}}KeyInfo"}


class _Bad(Exception):
    """Why a signature is no good."""


def check_xml(root: Any, chain: Chain, *, is_alone: bool = True) -> list[Row]:
    """Judge the signatures of a document, in the order in which they stand. `is_alone`: no attachment came with it. Never raises but MemoryError."""
    own = root.find(f"{{{DSIG}}}Signature")
    return judge_most(
        list(root.iter(f"{{{DSIG}}}Signature")), own, lambda each: _row(root, each, chain, is_alone=is_alone)
    )


def _row(root: Any, signature: Any, chain: Chain, *, is_alone: bool) -> Row:
    kind, properties = "XMLDSig", Properties(None, ())
    if any("/01903/" in str(each.tag) for each in signature.iter()):
        kind = "XAdES"
    try:
        covers, *notes = _covered(root, signature)
        covers += "" if is_alone else " without what is attached"
        signer, others = _signer(root, signature)
        if not is_strong(signer):
            raise _Bad("a key that is not taken")
        _verify(root, signature, signer)
        if kind == "XAdES":
            properties = read_properties(signature, signer)
    except (_Bad, BadProperties) as bad:
        return ["invalid", kind, "", str(bad), ""]
    except (SignXMLException, etree.LxmlError) as error:
        return ["invalid", kind, "", type(error).__name__, ""]
    except Exception as error:  # noqa: BLE001  # as the library leaves them, for bytes that mean harm
        return ["invalid", kind, "", type(error).__name__, ""]
    judged = chain.judge(signer, others, properties.claimed)
    return [judged.result, kind, covers, judged.why, "; ".join((*judged.notes, *properties.notes, *notes))]


# ---- what it covers -----------------------------------------------------------------------------------------------------------------
def _covered(root: Any, signature: Any) -> tuple[str, ...]:
    """What the references cover: "document", "body" (of an envelope), or the name of another element; and what is in it and is not covered."""
    references = signature.findall(f"{{{DSIG}}}SignedInfo/{{{DSIG}}}Reference")
    if not 1 <= len(references) <= REFERENCES_MAX:
        raise _Bad("no reference, or too many")
    found = [_target(root, each) for each in references]
    if any(_carries(each, found) for each in signature.iterfind(f"{{{DSIG}}}Object")):
        raise _Bad("it carries what it does not sign")
    # what a signature says of itself is no content; alone it is told as what it is
    names = [_name(root, each) for each in found if each.tag not in OWN] or [_name(root, found[0])]
    covers = next((name for name in ("document", "body") if name in names), names[0])
    # they split a text in two for some readers, and whoever adds one breaks no digest
    has_comments = any(
        next(each.iter(etree.Comment), None) is not None and not _keeps_comments(reference)
        for reference, each in zip(references, found, strict=True)
    )
    return covers, *(["comments in it are not covered"] if has_comments else [])


def _keeps_comments(reference: Any) -> bool:
    transforms = reference.iterfind(f"{{{DSIG}}}Transforms/{{{DSIG}}}Transform")
    return any(each.get("Algorithm", "").endswith("WithComments") for each in transforms)


def _carries(holder: Any, signed: list[Any]) -> bool:
    """Whether a ds:Object has anything else than signed elements and a signature's own properties: "enveloped" takes it out of what is signed."""
    if holder in signed:
        return False
    return bool((holder.text or "").strip()) or any(
        each.tag not in QUALIFYING and each not in signed for each in holder.iterchildren(etree.Element)
    )


def _target(root: Any, reference: Any) -> Any:
    """The one element that a reference names."""
    for transform in reference.iterfind(f"{{{DSIG}}}Transforms/{{{DSIG}}}Transform"):
        if transform.get("Algorithm") not in TRANSFORMS:
            raise _Bad("a transform that could hide what is signed")
    uri = reference.get("URI")
    if uri == "":
        return root
    if not uri or uri[0] != "#" or "#" in uri[1:] or len(uri) == 1 or uri.startswith("#xpointer("):
        raise _Bad("a reference to something outside")
    found = [
        each
        for each in root.iter(etree.Element)
        for key, value in each.attrib.items()
        if _is_id(key) and value == uri[1:]
    ]
    if len(found) != 1:
        raise _Bad("a reference to what is not there once")
    return found[0]


def _is_id(key: str) -> bool:
    return etree.QName(key).localname in IDS


def _name(root: Any, element: Any) -> str:
    if element is root:
        return "document"
    for version in (SOAP11, SOAP12):
        if root.tag == f"{{{version}}}Envelope" and root.findall(f"{{{version}}}Body") == [element]:
            return "body"
    return f"element {etree.QName(element).localname}"[:64]


# ---- who signed it ------------------------------------------------------------------------------------------------------------------
def _signer(root: Any, signature: Any) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The certificate that the signature names, and others that came along."""
    texts = [
        each.text or ""
        for each in signature.iterfind(f"{{{DSIG}}}KeyInfo/{{{DSIG}}}X509Data/{{{DSIG}}}X509Certificate")
    ]
    if not texts:
        texts = [
            _token(root, each)
            for each in signature.iterfind(f"{{{DSIG}}}KeyInfo/{{{WSSE}}}SecurityTokenReference/{{{WSSE}}}Reference")
        ]
    try:
        found = [x509.load_der_x509_certificate(base64.b64decode(text)) for text in texts[:8]]
    except ODD:
        raise _Bad("a certificate that cannot be read") from None
    if not found:
        raise _Bad("it names no certificate")
    issuers = {each.issuer for each in found if each.issuer != each.subject}
    signer = next((each for each in found if each.subject not in issuers), found[0])
    return signer, [each for each in found if each != signer]


def _token(root: Any, reference: Any) -> str:
    """WS-Security: the certificate stands elsewhere in the header."""
    name = (reference.get("URI") or "")[1:]
    found = [
        each
        for each in root.iter(f"{{{WSSE}}}BinarySecurityToken")
        if name and any(_is_id(key) and value == name for key, value in each.attrib.items())
    ]
    if len(found) != 1:
        raise _Bad("the token is not there once")
    return found[0].text or ""


# ---- whether it is good -------------------------------------------------------------------------------------------------------------
def _verify(root: Any, signature: Any, signer: x509.Certificate) -> None:
    """Digests and signature value. The certificate's dates are the chain's business, so the library is given a time that suits it."""
    parent = signature.getparent()
    if parent is None:
        raise _Bad("it is the document, and encloses what it signs")
    if parent.find(f"{{{DSIG}}}Signature") is not signature:
        raise _Bad("another signature stands beside it")
    path = root.getroottree().getelementpath(parent)
    location = "./" if path == "." else f"./{path}/"
    config = SignatureConfiguration(
        location=location,
        expect_references=True,
        verification_time=signer.not_valid_before_utc,
        signature_methods=METHODS,
        digest_algorithms=DIGESTS,
    )
    XMLVerifier().verify(root, x509_cert=signer, expect_config=config)
