"""Signers of an invented hospital, and what they sign: CDA and SOAP by signxml, Bundles by a JWS."""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml import XMLSigner, methods
from signxml.xades import XAdESSigner

from hl7.soap import SOAP12
from node.signatures.fhir_signatures import canonical
from tests.soap_rig import envelope

NOW = datetime.now(UTC)
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
DIGEST_VALUE = "{http://www.w3.org/2000/09/xmldsig#}DigestValue"
C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"


@dataclass
class Signer:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any
    raw: bytes = b""  # a certificate that was tampered with, in place of the good one

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.raw or self.certificate.public_bytes(Encoding.DER)

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def thumbprint(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def begun(name: str, issuer: Signer | None, key: Any, *, since: datetime, until: datetime) -> x509.CertificateBuilder:
    """A certificate without extensions, not signed yet."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def make(name: str, issuer: Signer | None = None, *, is_ca: bool = False, until: datetime | None = None, rsa_key: bool = False, key: Any = None) -> Signer:  # fmt: skip
    key = key or (rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1()))
    built = (
        begun(name, issuer, key, since=NOW - timedelta(days=30), until=until or NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Signer(built.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def authority() -> tuple[Signer, Signer]:
    """An authority, and one below it."""
    top = make("Test Authority", is_ca=True)
    return top, make("Test Middle", top, is_ca=True)


def sealed(der: bytes, issuer: Signer) -> bytes:
    """A certificate that was tampered with, signed anew by an authority that looked away (ECDSA with SHA-256)."""
    tbs = der[4 : 8 + int.from_bytes(der[6:8])]  # two lengths of two bytes each: SEQUENCE { tbsCertificate, ...
    value = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    whole = tbs + algorithm + b"\x03" + bytes([len(value) + 1, 0]) + value
    return b"\x30\x82" + len(whole).to_bytes(2) + whole


def authorities(folder: Path, *signers: Signer) -> Path:
    """The folder that a node is configured with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(signers):
        (folder / f"{number}.pem").write_bytes(each.pem)
    return folder


def _signer(signer: Signer, kind: type = XMLSigner, **options: Any) -> Any:
    algorithm = "rsa-sha256" if isinstance(signer.key, rsa.RSAPrivateKey) else "ecdsa-sha256"
    return kind(method=methods.enveloped, **{"signature_algorithm": algorithm, "c14n_algorithm": C14N, **options})


def sign(
    raw: bytes, signer: Signer, *others: Signer, uri: str | None = None, kind: type = XMLSigner, **options: Any
) -> bytes:
    """A document with an enveloped signature as its last element; `uri` names what is signed, else all of it is."""
    chain = [signer.pem.decode(), *(each.pem.decode() for each in others)]
    made = _signer(signer, kind, **options).sign(
        etree.fromstring(raw), key=signer.key_pem, cert=chain, reference_uri=uri
    )
    return etree.tostring(made, xml_declaration=True, encoding="UTF-8")


def revoke(issuer: Signer, *signers: Signer, since: datetime | None = None, until: datetime | None = None, is_partial: bool = False, more: tuple[x509.ExtensionType, bool] | None = None) -> bytes:  # fmt: skip
    """An authority's list of revoked certificates, DER; `more`: an extension of each row, and whether it is critical."""
    built = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(days=20))
    )
    built = built.next_update(until or NOW + timedelta(days=7))
    for each in signers:
        row = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        row = row if more is None else row.add_extension(*more)
        built = built.add_revoked_certificate(row.revocation_date(since or NOW - timedelta(days=1)).build())
    if is_partial:
        built = built.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    return built.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Careless(XAdESSigner):
    """Writes properties that XAdES does not allow; `fault` says which."""

    def __init__(self, *, fault: str, **options: Any) -> None:
        super().__init__(**options)
        self._fault = fault

    def add_signing_time(self, properties: Any, **options: Any) -> None:
        super().add_signing_time(properties, **options)
        if self._fault == "date":
            properties[-1].text = "0001-01-01T00:00:00+03:00"

    def add_signing_certificate(self, properties: Any, **options: Any) -> None:
        super().add_signing_certificate(properties, **options)
        found = properties[-1]
        if self._fault == "no certificate":
            properties.remove(found)
        if self._fault == "another certificate":
            found.find(f".//{DIGEST_VALUE}").text = base64.b64encode(bytes(32)).decode()
        if self._fault == "sha1":
            found.find(".//{*}DigestMethod").set("Algorithm", "http://www.w3.org/2000/09/xmldsig#sha1")
            der = options["signing_settings"].cert_chain[0]
            found.find(f".//{DIGEST_VALUE}").text = base64.b64encode(hashlib.sha1(_der(der)).digest()).decode()

    def _add_reference_to_signed_info(self, root: Any, node: Any, **attributes: Any) -> None:
        is_own = "SignedProperties" in node.tag
        if is_own and self._fault == "another target":
            node.getparent().set("Target", "#other")
        if is_own and self._fault == "twice":
            node.getparent().append(etree.fromstring(etree.tostring(node).replace(b'Id="', b'Id="x')))
        if not (is_own and self._fault == "not signed"):
            super()._add_reference_to_signed_info(root, node, **attributes)


def _der(certificate: Any) -> bytes:
    held = (
        certificate
        if isinstance(certificate, x509.Certificate)
        else x509.load_pem_x509_certificate(certificate.encode())
    )
    return held.public_bytes(Encoding.DER)


def sign_xades(raw: bytes, signer: Signer, *, fault: str = "", **options: Any) -> bytes:
    if fault:
        return sign(raw, signer, kind=Careless, c14n_algorithm="http://www.w3.org/2006/12/xml-c14n11", fault=fault)
    # its signer names no transform for what it signs of itself, so the whole has to be in the form that is then meant
    return sign(raw, signer, kind=XAdESSigner, c14n_algorithm="http://www.w3.org/2006/12/xml-c14n11", **options)


def sign_body(signer: Signer, **options: Any) -> bytes:
    """An envelope whose body is signed, the signature in the header as WS-Security has it."""
    root = etree.fromstring(envelope(**options))
    body, header = root.find(f"{{{SOAP12}}}Body"), root.find(f"{{{SOAP12}}}Header")
    body.set("Id", "the-body")
    made = _signer(signer).sign(root, key=signer.key_pem, cert=[signer.pem.decode()], reference_uri="#the-body")
    found = made.find(".//{http://www.w3.org/2000/09/xmldsig#}Signature")
    found.getparent().remove(found)
    etree.SubElement(made.find(header.tag), "{urn:test}Security").append(found)
    return etree.tostring(made, xml_declaration=True, encoding="UTF-8")


def jose(payload: bytes, signer: Signer, *others: Signer, is_attached: bool = False, **header: Any) -> str:
    """A JWS, as Signature.data has it; `header` replaces or, where None, removes what it says."""
    x5c = [base64.b64encode(each.der).decode() for each in (signer, *others)]
    is_rsa = isinstance(signer.key, rsa.RSAPrivateKey)
    said = {"alg": "PS256" if is_rsa else "ES256", "x5c": x5c, **header}
    said = {name: value for name, value in said.items() if value is not None}
    algorithm = jws.JWSRegistry(algorithms=[said["alg"]]).get_alg(said["alg"])
    first = _encoded(json.dumps(said).encode())
    carried = payload if said.get("b64") is False else _encoded(payload)  # RFC 7797
    value = _encoded(algorithm.sign(first + b"." + carried, _jwk(signer.key_pem, RSAKey if is_rsa else ECKey)))
    return base64.b64encode(first + b"." + (carried if is_attached else b"") + b"." + value).decode()


@cache
def _jwk(pem: bytes, kind: type[RSAKey | ECKey]) -> RSAKey | ECKey:
    return kind.import_key(pem)


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signature(data: str, *, form: str = "", when: str = "") -> dict[str, Any]:
    """FHIR's Signature."""
    made = {"sigFormat": "application/jose", "data": data}
    if form:
        made["targetFormat"] = f"application/fhir+json;canonicalization={form}"
    return {**made, "when": when} if when else made


def sign_bundle(bundle: dict[str, Any], signer: Signer, *, without: tuple[str, ...] = ()) -> bytes:
    """A Bundle with a JWS in its signature."""
    payload = canonical({name: value for name, value in bundle.items() if name not in without})
    return json.dumps({**bundle, "signature": signature(jose(payload.encode(), signer))}, ensure_ascii=False).encode()
