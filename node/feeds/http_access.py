"""Who may send to a feed over HTTP: bearer tokens of the configuration, and SMART backend services, whose clients sign for a short-lived one."""

import hashlib
import hmac
import json
import re
import secrets
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from hl7.fhir_errors import BadAssertion, NoAccess
from hl7.fhir_types import TYPES
from node.clock import SYNCHRONISED, Clock
from node.config.fhir import Fhir
from node.config.http import Http
from node.errors import ClientKeysBad

ALGORITHMS = [
    "RS384",
    "ES384",
]  # SMART App Launch 2.2, client-confidential-asymmetric: both SHALL be taken, and none weaker is
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_S_MAX = 300  # the same page: at most five minutes
SKEW_S = 30  # between two clocks that are both kept
TOKEN_S = 300  # the same page: an access token SHOULD live for no more than five minutes
TOKENS_MAX = 4096  # a client asks every five minutes for one; the oldest goes
USED_MAX = 16_384  # assertions that came lately: of a hundred clients at one a second for five minutes, half
FORM_BYTES_MAX = 16 * 1024  # an RS384 assertion has 1 kB
SCOPE = re.compile(r"system/(\*|[A-Z][A-Za-z]+)\.(write|\*|c?r?u?d?s?)")
SUPPORTED_SCOPES = ("system/*.cu", "system/*.write")


class Grant(NamedTuple):
    """Who it is, and which types it may send (none = any)."""

    name: str
    types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Issued:
    grant: Grant
    until: float


class Access:
    """The tokens of one feed over HTTP. Used from the event loop only; RuntimeError is none of its."""

    def __init__(self, feed: Http, *, audience: str, clock: Clock) -> None:
        self._clock, self._audience = clock, audience
        self._tokens = {bytes.fromhex(token.sha256): Grant(token.name) for token in feed.tokens}
        clients = feed.clients if isinstance(feed, Fhir) else ()
        self._clients = {client.id: _keys(feed.name, client.jwks) for client in clients}
        self._issued: dict[bytes, _Issued] = {}
        self._used: dict[tuple[str, str], float] = {}

    @property
    def is_open(self) -> bool:
        """Whether a request needs no token."""
        return not self._tokens and not self._clients

    @property
    def has_clients(self) -> bool:
        """Whether clients may sign for a token here."""
        return bool(self._clients)

    def grant(self, authorization: str) -> Grant:
        """Who shows this header. Raises NoAccess."""
        if self.is_open:
            return Grant("")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NoAccess
        # the digest is what is compared: how long that takes tells nothing of the token
        digest = hashlib.sha256(token.strip().encode()).digest()
        for known, found in self._tokens.items():
            if hmac.compare_digest(known, digest):
                return found
        issued = self._issued.get(digest)
        if issued is None or issued.until < self._clock.monotonic():
            raise NoAccess(detail="The token is not known, or has expired")
        return issued.grant

    # -- SMART backend services -----------------------------------------------------------------------------------------

    def issue(self, form: bytes) -> dict[str, Any]:
        """Answer a token request (RFC 6749 5.1). Raises BadAssertion."""
        fields = _form(form)
        if fields.get("grant_type") != "client_credentials":
            raise BadAssertion("grant_type", "grant_type must be client_credentials")
        if fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise BadAssertion("client_assertion_type", f"client_assertion_type must be {ASSERTION_TYPE}")
        scopes, types = _granted(fields.get("scope", ""))
        client = self._verified(fields.get("client_assertion", ""))
        token = secrets.token_urlsafe(32)
        now = self._clock.monotonic()
        self._issued = {key: each for key, each in self._issued.items() if each.until >= now}
        if len(self._issued) >= TOKENS_MAX:
            del self._issued[next(iter(self._issued))]
        self._issued[hashlib.sha256(token.encode()).digest()] = _Issued(Grant(client, types), now + TOKEN_S)
        return {"access_token": token, "token_type": "bearer", "expires_in": TOKEN_S, "scope": scopes}

    def _verified(self, assertion: str) -> str:
        """The client that signed this. Raises BadAssertion."""
        client = _issuer(assertion)
        keys = self._clients.get(client)
        if keys is None:
            raise BadAssertion("iss", "The client is not known here")
        try:
            claims = jwt.decode(assertion, keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError) as error:
            raise BadAssertion("client_assertion", "The signature does not verify with the client's keys") from error
        if claims.get("sub") != client:
            raise BadAssertion("sub", "iss and sub must both be the client's id")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise BadAssertion("aud", f"aud must be {self._audience}")
        self._check_time(claims)
        self._check_first(client, claims.get("jti"))
        return client

    def _check_time(self, claims: dict[str, Any]) -> None:
        """Where our clock is kept, the assertion must be of now. Where it is not, no clock's outage stops intake: its key alone counts."""
        expires, begins = claims.get("exp"), claims.get("nbf", claims.get("iat"))
        if not isinstance(expires, int | float):
            raise BadAssertion("exp", "exp is missing")
        if self._clock.trust().state != SYNCHRONISED:
            return
        now_s = self._clock.now_us() / 1_000_000
        if expires < now_s - SKEW_S:
            raise BadAssertion("exp", "The assertion has expired")
        if expires > now_s + ASSERTION_S_MAX + SKEW_S:
            raise BadAssertion("exp", f"The assertion may live for {ASSERTION_S_MAX} seconds at most")
        if isinstance(begins, int | float) and begins > now_s + SKEW_S:
            raise BadAssertion("nbf", "The assertion is of the future")

    def _check_first(self, client: str, name: object) -> None:
        """An assertion is good once (RFC 7523 3, jti)."""
        if not isinstance(name, str) or not 1 <= len(name) <= 256:
            raise BadAssertion("jti", "jti is missing")
        now = self._clock.monotonic()
        if len(self._used) >= USED_MAX:
            self._used = {key: until for key, until in self._used.items() if until >= now}
        if len(self._used) >= USED_MAX:
            raise BadAssertion("jti", "Too many assertions lately; come again later")
        if self._used.get((client, name), now) > now:
            raise BadAssertion("jti", "This assertion came before")
        self._used[client, name] = now + ASSERTION_S_MAX + 2 * SKEW_S


def _keys(feed: str, path: Any) -> KeySet:
    try:
        found = json.loads(path.read_bytes())
        return KeySet.import_key_set(found)
    except (OSError, JoseError, ValueError, TypeError, KeyError) as error:
        raise ClientKeysBad(f"feed {feed}: {path}: {type(error).__name__}") from error


def _form(data: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(data.decode("ascii"), max_num_fields=16))
    except ValueError:
        raise BadAssertion(detail="The form cannot be read") from None


def _issuer(assertion: str) -> str:
    """Who says to have signed it: looked at to find the keys, and believed only once these verify it."""
    parts = assertion.split(".")
    if len(parts) != 3:
        raise BadAssertion("client_assertion", "Not a signed JWT")
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, NotBase64, RecursionError):
        raise BadAssertion("client_assertion", "Not a signed JWT") from None
    client = claims.get("iss") if isinstance(claims, dict) else None
    return client if isinstance(client, str) else ""


def _granted(asked: str) -> tuple[str, frozenset[str]]:
    """What is granted of the scopes asked for, and the types they allow: only what lets a client both create and update."""
    granted, types = [], set()
    for scope in asked.split():
        found = SCOPE.fullmatch(scope)
        if found is None:
            continue
        kind, rights = found[1], found[2]
        if rights in {"write", "*"} or {"c", "u"} <= set(rights):
            granted.append(scope if rights == "write" else f"system/{kind}.cu")
            types.add(kind)
    if not granted or not types <= TYPES | {"*"}:
        raise BadAssertion("scope", f"scope must hold {' or '.join(SUPPORTED_SCOPES)}, or the same of a type")
    return " ".join(granted), frozenset() if "*" in types else frozenset(types)
