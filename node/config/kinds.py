"""What one value of the configuration may be: names, paths, addresses, HL7 patterns. Each says no in a technician's words."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from hl7.charsets import can_be_framed
from hl7.message import Path as Hl7Place
from node.config.addresses import Address, Network, check_host, parse_listen, parse_network

TEXT_CHARACTERS_MAX = 64  # what stands in every header for ever, and fits a table cell of the page
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # a DNS label: names stand in certificates, paths and URLs


class Table(BaseModel):
    """A table of the file: frozen, and no key that is not listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def from_text(kind: Any, read: Callable[[str], object]) -> BeforeValidator:
    """Take a text that `read` turns into a `kind` or refuses with ValueError; a `kind` passes as it is."""

    def value_of(value: object) -> object:
        if isinstance(value, kind) and kind is not str:
            return value
        if not isinstance(value, str):
            raise ValueError("must be a text in quotes")  # noqa: TRY004  # pydantic collects ValueErrors
        return read(value)

    return BeforeValidator(value_of)


def whole(low: int, high: int) -> BeforeValidator:
    """Take a whole number from `low` to `high`, both included."""

    def value_of(value: object) -> object:
        if type(value) is not int or not low <= value <= high:  # `true` and 1.0 are no counts
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return BeforeValidator(value_of)


def _local_escape(text: str) -> str:
    if not re.fullmatch(r"Z[A-Za-z0-9._-]{0,15}", text):
        raise ValueError('must be a local escape sequence without its escape characters, such as "Zq" or "Z01"')
    return text


def not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list without an entry."""
    if not values:
        raise ValueError("must not be empty")
    return values


def _resolve(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise ValueError("must be a path in quotes, never what the file holds")
    return Path((info.context or {}).get("folder", "."), value)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("must be a name: lower-case letters, digits and '-', not '-' first, at most 63")
    return text


def _text(text: str) -> str:
    if not 1 <= len(text) <= TEXT_CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"must be 1 to {TEXT_CHARACTERS_MAX} printable characters")
    return text


def check_url(text: str, *schemes: str, plain_path: bool = False) -> None:
    """A URL of one of these schemes, with a host and without user, query or fragment. Raises ValueError in a technician's words."""
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # reading it is the check
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.scheme not in schemes or not url.hostname:
        said = " or ".join(f'"{each}://"' for each in schemes)
        raise ValueError(f"must begin with {said} and a host")
    check_host(url.hostname)
    is_plain = not plain_path or re.fullmatch(r"(/[A-Za-z0-9._-]+)*/?", url.path)
    if url.username is not None or url.query or url.fragment or not is_plain:
        raise ValueError(f"must hold {'a plain path and ' if plain_path else ''}no user, query or fragment")


def _gateway_url(text: str) -> str:
    check_url(text, "https")
    return text.rstrip("/")


def _sender(text: str) -> str:
    if text.count("|") != 1:
        raise ValueError('must be "APPLICATION|FACILITY", where * stands for any characters')
    return text


def _message_type(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9*?]{1,16}(\^[A-Z0-9*?]{1,16})?", text):
        raise ValueError('must be a type such as "ADT^A01" or "ORU^*"')
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"2(\.\d{1,2}){1,3}", text):
        raise ValueError('must be a version such as "2.5.1"')
    return text


def _processing_id(text: str) -> str:
    if not re.fullmatch(r"[A-Z]", text):
        raise ValueError('must be one letter (HL7 table 0103: "P", "T" or "D")')
    return text


def _charset(text: str) -> str:
    if not can_be_framed(text):
        raise ValueError(
            "must be a character set that MLLP can carry, such as cp1256, iso8859_6 or utf-8; never UTF-16 or UTF-32"
        )
    return text


def _hl7_path(text: str) -> str:
    try:
        Hl7Place.parse(text)
    except ValueError:
        raise ValueError('must be a place such as "PID-3", "PID-3[1].4.1" or "OBX[2]-5"') from None
    return text


_CLASSES = {
    "BE": 0, "LE": 1, "EF": 46, "VA": 44, **{f"CS{n}": 8 * n for n in range(8)},
    **{f"AF{group}{drop}": 8 * group + 2 * drop for group in range(1, 5) for drop in range(1, 4)},
}  # fmt: skip


def _dscp(value: object) -> object:
    if type(value) is int and 0 <= value <= 63:
        return value
    if isinstance(value, str) and value.upper() in _CLASSES:
        return _CLASSES[value.upper()]
    raise ValueError('must be a class such as "AF31", "CS1" or "LE", or a number from 0 to 63')


def _interface(text: str) -> str:
    # IFNAMSIZ of linux/if.h: 16 bytes with the closing zero
    if text and not re.fullmatch(r"[A-Za-z0-9_.:-]{1,15}", text):
        raise ValueError('must be the name of an interface such as "eth1", or empty')
    return text


def _source(text: str) -> str:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError('must be an address of this machine such as "192.0.2.7", or empty') from None
    return text


Name = Annotated[str, from_text(str, _name)]
LocalEscape = Annotated[str, from_text(str, _local_escape)]
Text = Annotated[str, from_text(str, _text)]
FilePath = Annotated[Path, BeforeValidator(_resolve)]
Listen = Annotated[Address, from_text(Address, parse_listen)]
Allowed = Annotated[Network, from_text(Network, parse_network)]
GatewayUrl = Annotated[str, from_text(str, _gateway_url)]
Sender = Annotated[str, from_text(str, _sender)]
MessageType = Annotated[str, from_text(str, _message_type)]
Version = Annotated[str, from_text(str, _version)]
ProcessingId = Annotated[str, from_text(str, _processing_id)]
Hl7Path = Annotated[str, from_text(str, _hl7_path)]
Charset = Annotated[str, from_text(str, _charset)]
CharsetOrNone = Annotated[str, from_text(str, lambda text: text and _charset(text))]
DscpClass = Annotated[int, BeforeValidator(_dscp)]
Interface = Annotated[str, from_text(str, _interface)]
SourceAddress = Annotated[str, from_text(str, _source)]
