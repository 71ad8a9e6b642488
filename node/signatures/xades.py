"""What a XAdES signature (ETSI EN 319 132-1) says of itself: bound to it and to its certificate, or it is no good. For the worker alone.

Policies, time-stamps and counter-signatures are recognised and told as not checked: time-stamps need authorities of their own, policies their text.
"""

import base64
import binascii
from datetime import datetime
from hashlib import sha256, sha384, sha512
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.signatures.chain import moment

DSIG = "http://www.w3.org/2000/09/xmldsig#"
VERSIONS = (
    "http://uri.etsi.org/01903/v1.1.1#",
    "http://uri.etsi.org/01903/v1.2.2#",
    "http://uri.etsi.org/01903/v1.3.2#",
)
PROPERTIES = frozenset(f"{{{each}}}SignedProperties" for each in VERSIONS)
QUALIFYING = frozenset(f"{{{each}}}QualifyingProperties" for each in VERSIONS)
# no SHA-1: who can make two certificates of one digest can take the one for the other
DIGESTS = {
    "http://www.w3.org/2001/04/xmlenc#sha256": sha256,
    "http://www.w3.org/2001/04/xmldsig-more#sha384": sha384,
    "http://www.w3.org/2001/04/xmlenc#sha512": sha512,
}
NOT_CHECKED = {
    "SignaturePolicyIdentifier": "its policy is not checked",
    "SignatureTimeStamp": "its time-stamp is not checked",
    "CounterSignature": "its counter-signature is judged by itself",
}


class BadProperties(Exception):
    """Why a XAdES signature is no good."""


class Properties(NamedTuple):
    """When it was made, by its own account; what it has that is not checked."""

    claimed: datetime | None
    notes: tuple[str, ...]


def read_properties(signature: Any, signer: x509.Certificate) -> Properties:
    """Its properties, of a signature whose digests fit. Raises BadProperties."""
    found = [each for each in signature.iterfind(f"{{{DSIG}}}Object/*/*") if each.tag in PROPERTIES]
    if len(found) != 1:
        raise BadProperties("its properties are not there once")
    (properties,) = found
    version = properties.tag.partition("}")[0] + "}"
    holder = properties.getparent()
    if holder.tag != f"{version}QualifyingProperties" or holder.get("Target", "") != f"#{signature.get('Id')}":
        raise BadProperties("its properties are another signature's")
    wanted = f"#{properties.get('Id')}"
    references = signature.findall(f"{{{DSIG}}}SignedInfo/{{{DSIG}}}Reference")
    if not properties.get("Id") or wanted not in [each.get("URI") for each in references]:
        raise BadProperties("its properties are not signed")
    own = f"{version}SignedSignatureProperties"
    if not _names(properties, f"{own}/{version}SigningCertificate", signer):
        raise BadProperties("its properties do not name its certificate")
    names = {str(each.tag).rpartition("}")[2] for each in holder.iter()}
    claimed = moment(properties.findtext(f"{own}/{version}SigningTime"))
    return Properties(claimed, tuple(text for name, text in NOT_CHECKED.items() if name in names))


def _names(properties: Any, path: str, signer: x509.Certificate) -> bool:
    """Whether the first certificate that is named, by each of the two elements that there are for it, is the signer's (5.2.2)."""
    version = properties.tag.partition("}")[0] + "}"
    lists = [*properties.findall(path), *properties.findall(f"{path}V2")]
    return bool(lists) and all(_is_digest(each.find(f"{version}Cert/{version}CertDigest"), signer) for each in lists)


def _is_digest(found: Any, signer: x509.Certificate) -> bool:
    method = None if found is None else found.find(f"{{{DSIG}}}DigestMethod")
    algorithm = DIGESTS.get("" if method is None else method.get("Algorithm", ""))
    if algorithm is None:
        return False
    try:
        value = base64.b64decode(found.findtext(f"{{{DSIG}}}DigestValue") or "")
    except binascii.Error:
        return False
    return value == algorithm(signer.public_bytes(Encoding.DER)).digest()
