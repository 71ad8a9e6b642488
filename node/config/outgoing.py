"""Feeds that go to their source themselves, instead of listening: what they share, and what they cannot have."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from node.config.addresses import Address, Network, parse_listen
from node.config.feeds import LOOPBACK, Feed, Tls
from node.config.kinds import Listen


def _none_of(value: Any) -> Any:
    if value:
        raise ValueError("has no meaning here: this feed goes to its source itself, and nobody connects to it")
    return value


def _networks(value: Any) -> Any:
    if value != LOOPBACK:
        _none_of(value)
    return LOOPBACK


def parse_endpoint(text: str) -> Address:
    """Read "10.0.0.5:502"; ValueError where it names no port of a machine."""
    address = parse_listen(text)
    if not address.port or address.host in {"0.0.0.0", "::"}:  # noqa: S104  # compared with, not bound
        raise ValueError('must be "host:port" of the machine to connect to')
    return address


class Outgoing(Feed):
    """A source that the node goes to."""

    listen: Annotated[tuple[Listen, ...], BeforeValidator(_none_of)] = ()
    allow: Annotated[tuple[Network, ...], BeforeValidator(_networks)] = LOOPBACK
    tls: Annotated[Tls | None, BeforeValidator(_none_of)] = None
