"""A JWS in Bundle.signature (FHIR R4, signatures): detached, over the canonical JSON of the Bundle without it. For the worker alone."""

import base64
import binascii
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from node.signature_chain import Chain

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
SIGNATURE = frozenset(("signature",))
ENVELOPE = frozenset(
    ("signature", "id", "meta")
)  # R4 bundle.html: signed without id and metadata; many signers leave them in

Row = list[str]


class _Registry(jws.JWSRegistry):
    """The library's bounds are those of tokens: a chain of certificates in the header is longer, and the content is a Bundle."""

    max_header_length = 64 * 1024
    max_payload_length = 32 * 1024 * 1024
    max_signature_length = 4096


class _Number(str):  # noqa: SLOT000  # lives for a moment
    """A number as it was written: 1.0 and 1.00 are two values in FHIR."""


def check_json(body: bytes, chain: Chain) -> list[Row]:
    """Judge the signature of a Bundle. Those of Provenance cover what lies elsewhere, and cannot be judged here. Raises ValueError, RecursionError."""
    value = json.loads(body, parse_float=_Number, parse_int=_Number, object_pairs_hook=_once)
    found = value.get("signature") if isinstance(value, dict) else None
    if not isinstance(found, dict) or value.get("resourceType") != "Bundle":
        return [["invalid", "JWS", "", "it covers what is not here"]] if b'"sigFormat"' in body else []
    try:
        signer, others, parts = _opened(found.get("data", ""))
        pem = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        key = ECKey.import_key(pem) if b"EC" in type(signer.public_key()).__name__.encode() else RSAKey.import_key(pem)
    except (ValueError, TypeError, KeyError, IndexError, binascii.Error, JoseError):
        return [["invalid", "JWS", "", "it cannot be read, or names no certificate"]]
    if not any(_is_good(value, without, parts, key) for without in (SIGNATURE, ENVELOPE)):
        return [["invalid", "JWS", "", "the signature does not fit the Bundle"]]
    return [["valid" if chain.is_known(signer, others) else "unknown signer", "JWS", "document", ""]]


def _opened(data: str) -> tuple[x509.Certificate, list[x509.Certificate], list[str]]:
    text = data if data.count(".") == 2 else base64.b64decode(data).decode("ascii")
    parts = text.split(".")
    header = json.loads(_unpadded(parts[0]))
    chain = [x509.load_der_x509_certificate(base64.b64decode(each)) for each in header["x5c"][:8]]
    return chain[0], chain[1:], [parts[0], parts[1], parts[2]]


def _is_good(value: dict[str, Any], without: frozenset[str], parts: list[str], key: Any) -> bool:
    payload = canonical({name: each for name, each in value.items() if name not in without}).encode()
    encoded = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    if parts[1] not in {"", encoded}:  # it carries another content than the Bundle that is used
        return False
    try:
        jws.deserialize_compact(f"{parts[0]}.{encoded}.{parts[2]}", key, registry=_Registry(algorithms=ALGORITHMS))
    except (JoseError, ValueError):
        return False
    return True


def canonical(value: Any) -> str:
    """FHIR R4 json.html#canonical: no space, members in order of their names."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return str(value) if isinstance(value, _Number) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: two readers would see two Bundles under one signature."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands twice")
    return found


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
