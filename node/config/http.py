"""What all feeds over HTTP have in common in the configuration: who may send, and the limits of connections and bodies."""

import ipaddress
import re
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from node.config.addresses import Address
from node.config.feeds import MIB, Feed
from node.config.kinds import Listen, Name, Table, from_text, not_empty, whole


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("must be the SHA-256 of a token: 64 hexadecimal digits in lower case, never the token itself")
    return text


class Token(Table):
    """A client that shows a token: its name, and the SHA-256 of the token."""

    name: Name
    sha256: Annotated[str, from_text(str, _sha256)]


class Http(Feed):
    """A source that comes over HTTP."""

    listen: Annotated[tuple[Listen, ...], AfterValidator(not_empty)]
    # With any of these a request needs a bearer token; without, `allow` and client_ca decide alone.
    tokens: tuple[Token, ...] = ()
    # As an MLLP frame: a scanned report in an attachment.
    body_mb_max: Annotated[int, whole(1, 512)] = 16
    # Each app keeps a handful open; a browser six.
    connections_max: Annotated[int, whole(1, 65535)] = 256
    # Longer than the minute after which most clients and proxies give an idle connection up by themselves.
    idle_s_max: Annotated[int, whole(1, 3600)] = 75

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> Self:
        if self.needs_secrets and self.tls is None and not all(map(_is_loopback, self.listen)):
            raise ValueError("must have TLS where tokens cross a network: add [feeds.tls], or listen on 127.0.0.1")
        return self

    @property
    def needs_secrets(self) -> bool:
        """Whether tokens come with the requests."""
        return bool(self.tokens)

    @property
    def body_bytes_max(self) -> int:
        """Give the largest body, in bytes."""
        return self.body_mb_max * MIB


def _is_loopback(address: Address) -> bool:
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
