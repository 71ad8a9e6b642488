"""A FHIR feed of the configuration: who may send, how strictly it is read, and its limits."""

import ipaddress
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from hl7.fhir import Strictness
from hl7.fhir_types import TYPES
from node.addresses import Address
from node.config_feeds import MIB, Feed
from node.config_kinds import FilePath, Listen, Name, Table, Text, from_text, not_empty, whole

BASE_PATH = "/fhir"


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("must be the SHA-256 of a token: 64 hexadecimal digits in lower case, never the token itself")
    return text


def _resource_type(text: str) -> str:
    if text not in TYPES:
        raise ValueError('must be a resource type of FHIR R4 such as "Observation"')
    return text


def _base_url(text: str) -> str:
    if not text:
        return ""
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # reading it is the check
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError('must begin with "https://" or "http://" and a host')
    if url.username is not None or url.query or url.fragment or not re.fullmatch(r"(/[A-Za-z0-9._-]+)*/?", url.path):
        raise ValueError("must hold a plain path and no user, query or fragment")
    return text.rstrip("/")


class Token(Table):
    """A client that shows a token: its name, and the SHA-256 of the token."""

    name: Name
    sha256: Annotated[str, from_text(str, _sha256)]


class Client(Table):
    """A client of SMART backend services: its id, and the file with its public keys (a JWK set)."""

    id: Text
    jwks: FilePath


class Fhir(Feed):
    """FHIR R4 resources and Bundles over HTTP."""

    kind: Literal["fhir"]
    listen: Annotated[tuple[Listen, ...], AfterValidator(not_empty)]
    # As clients know this endpoint: it stands in Location, in `metadata`, and is the audience of assertions. Empty = the first of `listen`.
    url: Annotated[str, from_text(str, _base_url)] = ""
    # lenient: keeps whatever comes. normal: it is a resource of R4 at its right address. strict: and FHIR's models find no fault.
    strictness: Literal["lenient", "normal", "strict"] = "normal"
    types: tuple[Annotated[str, from_text(str, _resource_type)], ...] = ()
    # With any of these a request needs a bearer token; without, `allow` and client_ca decide alone.
    tokens: tuple[Token, ...] = ()
    clients: tuple[Client, ...] = ()
    # As an MLLP frame: a scanned report in an attachment.
    body_mb_max: Annotated[int, whole(1, 512)] = 16
    # Each app keeps a handful open; a browser six.
    connections_max: Annotated[int, whole(1, 65535)] = 256
    # Longer than the minute after which most clients and proxies give an idle connection up by themselves.
    idle_s_max: Annotated[int, whole(1, 3600)] = 75
    # 0 = none. Of what is taken, one in so many is validated afterwards, for the counts in `wasl status`: it costs a process of 50 MB.
    validate_one_in: Annotated[int, whole(0, MIB)] = 0

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> Self:
        if (self.tokens or self.clients) and self.tls is None and not all(map(_is_loopback, self.listen)):
            raise ValueError("must have TLS where tokens cross a network: add [feeds.tls], or listen on 127.0.0.1")
        return self

    @property
    def body_bytes_max(self) -> int:
        """Give the largest body, in bytes."""
        return self.body_mb_max * MIB

    @property
    def how_strict(self) -> Strictness:
        """Give the strictness as the room of languages has it."""
        return Strictness[self.strictness.upper()]

    @property
    def base_path(self) -> str:
        """Give the path under which all addresses lie."""
        return urlsplit(self.url).path if self.url else BASE_PATH


def _is_loopback(address: Address) -> bool:
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
