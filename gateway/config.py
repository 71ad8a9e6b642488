"""The gateway's configuration: TOML -> frozen values. An unknown key is refused; each problem is told as `file: key: message`.

Secrets never stand in the file, only the paths of theirs and the hashes of tokens. A relative path starts at the folder
of the file.
"""

import hashlib
import hmac
import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

CONFIG_BYTES_MAX = 1024 * 1024  # a token a consumer, some hundred bytes each: more is the wrong file
PORT_MAX = 65535  # 16 bits on the wire


class Address(NamedTuple):
    """Where to listen: an IP address or host name, and a port; port 0 takes any free one, for tests."""

    host: str
    port: int


class ConfigError(Exception):
    """The site's: the configuration is refused whole, with everything that is wrong in it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """Write one problem a line."""
        return "\n".join(self.problems)


def parse_listen(text: str) -> Address:
    """Read "10.0.0.5:8443" or "[::1]:8443"; ValueError says what is wrong."""
    found = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]{1,253})):(?P<port>[0-9]{1,5})", text)
    if not found or int(found["port"]) > PORT_MAX:
        raise ValueError('must be "host:port" or "[IPv6 address]:port"')
    return Address(str(ipaddress.IPv6Address(found["v6"])) if found["v6"] else found["host"], int(found["port"]))


def _address(value: object) -> object:
    return parse_listen(value) if isinstance(value, str) else value


def _path(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path in quotes")
    return Path((info.context or {}).get("folder", "."), value)


def _unique(tokens: "tuple[Token, ...]") -> "tuple[Token, ...]":
    for of in ("name", "sha256"):
        if len({getattr(token, of) for token in tokens}) < len(tokens):
            raise ValueError(f"must differ in {of}")
    return tokens


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]  # it stands in certificates and URLs
FilePath = Annotated[Path, BeforeValidator(_path)]
Listen = Annotated[Address, BeforeValidator(_address)]


class Table(BaseModel):
    """A table of the file: frozen, and no key that is not listed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Gateway(Table):
    """Which gateway this is, and the folder of everything it keeps."""

    name: Name
    data_dir: FilePath


class Sync(Table):
    """Where nodes come in: mutual TLS. `ca` certified the nodes; `crl` is its validity list."""

    listen: Listen
    certificate: FilePath
    key: FilePath
    ca: FilePath
    crl: FilePath | None = None


class Cosign(Table):
    """The receipt key and its own certificate."""

    key: FilePath
    certificate: FilePath


class Stick(Table):
    """Queues carried by hand: the private keys to which nodes may have sealed them, the present one and those of before."""

    # A key stays here for as long as a stick that is sealed to it may be on its way; 16 are a renewal every month for a year.
    keys: Annotated[tuple[FilePath, ...], Field(max_length=16)] = ()


class Api(Table):
    """Where consumers and the page of arriving records come in: TLS with a certificate, else plain HTTP.

    `open_page` shows the page without a token: stream names and counts, never content. For demos and closed networks.
    """

    listen: Listen
    certificate: FilePath | None = None
    key: FilePath | None = None
    open_page: StrictBool = False

    @model_validator(mode="after")
    def _has_both(self) -> "Api":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class Token(Table):
    """A consumer: the SHA-256 of its bearer token, in hex; `release` = it may list and release held records."""

    name: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    release: StrictBool = False

    def admits(self, bearer: str) -> bool:
        """Compare in constant time: how long it takes must not tell how much of a guess was right."""
        return hmac.compare_digest(hashlib.sha256(bearer.encode()).hexdigest(), self.sha256)


class Config(Table):
    """The whole file."""

    gateway: Gateway
    sync: Sync
    cosign: Cosign
    api: Api
    stick: Stick = Stick()
    tokens: Annotated[tuple[Token, ...], AfterValidator(_unique)] = ()


def load(path: Path) -> Config:
    """Read and judge the file; ConfigError holds every problem of it. The files it names are not opened."""
    try:
        return Config.model_validate(_read_toml(path), context={"folder": path.absolute().parent})
    except ValidationError as refusal:
        errors = refusal.errors(include_url=False)
        raise ConfigError([f"{path}: {_key(error['loc'])}: {error['msg']}" for error in errors]) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        if len(raw) > CONFIG_BYTES_MAX:
            raise ConfigError([f"{path}: is larger than {CONFIG_BYTES_MAX} bytes"])
        return tomllib.loads(raw.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([f"{path}: {error}"]) from error


def _key(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
