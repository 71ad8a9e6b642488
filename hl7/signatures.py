"""Signatures that a source brings: recognised by a look over the bytes, never touched. Verified elsewhere, in a process of its own."""

import re
from itertools import islice
from typing import Final, NamedTuple

XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
XADES: Final = "http://uri.etsi.org/01903/"
MARKS_MAX: Final = 16  # told of one message: a document has one to three

LOOKS_MAX: Final = 4096  # at places where the word stands: a document full of it must not hold up the loop

_NAME: Final = b"Signature"
_BEFORE: Final = re.compile(rb"<(?:[A-Za-z_][A-Za-z0-9_.-]{0,63}:)?\Z")
_BEFORE_BYTES: Final = 66  # a sign, a prefix, a colon
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
    found: list[Mark] = []
    at = -1
    for _ in range(LOOKS_MAX):
        at = raw.find(_NAME, at + 1)
        if at < 0 or len(found) == MARKS_MAX:
            break
        before = _BEFORE.search(raw, max(0, at - _BEFORE_BYTES), at)
        if before is not None and raw[at + len(_NAME) : at + len(_NAME) + 1] in b" \t\r\n/>":
            found.append(Mark(kind, str(before.start())))
    return tuple(found)


def in_json(raw: bytes) -> tuple[Mark, ...]:
    """Find signatures of FHIR resources (Bundle.signature, Provenance.signature) that are a JWS."""
    found = [] if raw.find(b'"sigFormat"') < 0 else islice(_JWS.finditer(raw), MARKS_MAX)
    return tuple(Mark("JWS", str(match.start())) for match in found)
