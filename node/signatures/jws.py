"""A JWS (RFC 7515), compact, its payload inside or detached (appendix F): opened, and verified with the key of a certificate. For the worker alone."""

import base64
import json
import warnings
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from node.signatures.chain import ODD, Chain, has_thumbprint, is_strong

# of certificates alone: "none" signs nothing, and an HMAC's key would be the public one
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}  # of all others: RSA
CERTIFICATES_MAX = 8  # that came along
KNOWN_CRITICAL = frozenset(("b64",))
BLANKS = dict.fromkeys(map(ord, " \t\r\n"))

_REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)


class BadJws(Exception):
    """Why it is no good."""


class StrangeKey(Exception):
    """It names its key by a thumbprint that no configured certificate has, so nothing can be said of it."""


class Jws(NamedTuple):
    """One that was read: whose it is, and what it says of itself."""

    header: dict[str, Any]
    parts: list[str]
    signer: x509.Certificate
    others: list[x509.Certificate]

    @property
    def payload(self) -> bytes | None:
        """What it carries; None where that lies elsewhere."""
        return _decoded(self.parts[1]) if self.parts[1] else None

    def fits(self, payload: bytes | None = None) -> bool:
        """Whether the signer signed just this, or what the JWS carries."""
        if payload is None:
            payload = self.parts[1].encode()
        elif self.header.get("b64", True):  # RFC 7797: else the payload stands as it is
            payload = base64.urlsafe_b64encode(payload).rstrip(b"=")
        key = self.signer.public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        try:
            algorithm = _REGISTRY.get_alg(self.header["alg"])
            held = ECKey.import_key(pem) if isinstance(key, ec.EllipticCurvePublicKey) else RSAKey.import_key(pem)
            algorithm.check_key(held)
            return algorithm.verify(self.parts[0].encode() + b"." + payload, _decoded(self.parts[2]), held)
        except (JoseError, ValueError, TypeError):
            return False


def opened(data: Any, chain: Chain) -> Jws:
    """Read a JWS as Signature.data has it, and find its certificate. Raises BadJws, StrangeKey."""
    try:
        # R4's base64Binary may be broken into lines; it holds the compact form, which some write as it is
        text = data if data.count(".") == 2 else base64.b64decode(data.translate(BLANKS), validate=True).decode("ascii")
        parts = text.split(".")
        header = json.loads(_decoded(parts[0]), object_pairs_hook=_once)
        signer, *others = _certificates(header, chain)
    except (*ODD, KeyError, IndexError, AttributeError, RecursionError):
        raise BadJws("it cannot be read, or names no certificate") from None
    if len(parts) != 3 or header.get("alg") not in ALGORITHMS:
        raise BadJws("an algorithm that is not taken")
    critical, b64 = header.get("crit", []), header.get("b64", True)
    # RFC 7515, 4.1.11: a list of names that the header has, and never an empty one
    if (
        not isinstance(critical, list)
        or not all(each in KNOWN_CRITICAL and each in header for each in map(str, critical))
        or header.get("crit") == []
    ):
        raise BadJws("a header that must be understood and is not")
    if b64 is not True and (b64 is not False or "b64" not in critical or parts[1]):
        raise BadJws("a payload that is written in a way that is not read here")
    if not _is_taken(signer, header["alg"]):
        raise BadJws("a key that is not taken")
    return Jws(header, parts, signer, others)


def _is_taken(signer: x509.Certificate, algorithm: str) -> bool:
    """Whether the signer's key is of the kind that the algorithm is for, and strong (RFC 7518, 3.1)."""
    try:
        key = signer.public_key()
        curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None
        return is_strong(signer) and CURVES.get(algorithm) == curve
    except ODD:
        return False


def _certificates(header: dict[str, Any], chain: Chain) -> list[x509.Certificate]:
    """The signer's, and those that came along: what x5c holds, else the configured one that is named. Addresses (x5u, jku) are not followed."""
    name = header.get("x5t#S256")
    if "x5c" not in header:
        name = name or header["kid"]
        found = chain.named(name)
        if found is None:
            raise StrangeKey
        return [found]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd certificates: what is wrong with them is judged, not told to a log
        held = [x509.load_der_x509_certificate(base64.b64decode(each)) for each in header["x5c"][:CERTIFICATES_MAX]]
    if name is not None and not has_thumbprint(held[0], name):
        raise ValueError("two certificates are named")
    return held


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands twice")
    return found


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
