"""Signatures that a source brings: recognised by a look over the bytes, never touched. Verified elsewhere, in a process of its own."""

import re
from typing import Final, NamedTuple

XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
XADES: Final = "http://uri.etsi.org/01903/"
MARKS_MAX: Final = 16  # told of one message: a document has one to three

_XML: Final = re.compile(rb"<(?:[A-Za-z_][A-Za-z0-9_.-]{0,63}:)?Signature[\s/>]")
_JWS: Final = re.compile(rb'"sigFormat"\s*:\s*"application/jose"')


class Mark(NamedTuple):
    """A signature: XMLDSig, XAdES or JWS; where it begins, as the byte's number from 0."""

    kind: str
    place: str


def in_xml(raw: bytes) -> tuple[Mark, ...]:
    """Find signatures in XML, or in a package of parts that holds XML, as long as it is of the ASCII family."""
    if raw.find(XMLDSIG.encode()) < 0:
        return ()
    kind = "XMLDSig" if raw.find(XADES.encode()) < 0 else "XAdES"
    return _marks(kind, _XML, raw)


def in_json(raw: bytes) -> tuple[Mark, ...]:
    """Find signatures of FHIR resources (Bundle.signature, Provenance.signature) that are a JWS."""
    return () if raw.find(b'"sigFormat"') < 0 else _marks("JWS", _JWS, raw)


def _marks(kind: str, pattern: re.Pattern[bytes], raw: bytes) -> tuple[Mark, ...]:
    found = []
    for match in pattern.finditer(raw):
        found.append(Mark(kind, str(match.start())))
        if len(found) == MARKS_MAX:
            break
    return tuple(found)
