"""A FHIR feed of the configuration: who may send, how strictly it is read, and its limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from hl7.fhir import Strictness
from hl7.fhir_types import TYPES
from node.config.feeds import MIB
from node.config.http import Http
from node.config.kinds import FilePath, Table, Text, check_url, from_text, whole
from node.config.toml_lines import Place

BASE_PATH = "/fhir"


def _resource_type(text: str) -> str:
    if text not in TYPES:
        raise ValueError('must be a resource type of FHIR R4 such as "Observation"')
    return text


def _base_url(text: str) -> str:
    if not text:
        return ""
    check_url(text, "https", "http", plain_path=True)
    return text.rstrip("/")


class Client(Table):
    """A client of SMART backend services: its id, and the file with its public keys (a JWK set)."""

    id: Text
    jwks: FilePath


class Fhir(Http):
    """FHIR R4 resources and Bundles over HTTP."""

    kind: Literal["fhir"]
    # As clients know this endpoint: it stands in Location, in `metadata`, and is the audience of assertions. Empty = the first of `listen`.
    url: Annotated[str, from_text(str, _base_url)] = ""
    # lenient: keeps whatever comes. normal: it is a resource of R4 at its right address. strict: and FHIR's models find no fault.
    strictness: Literal["lenient", "normal", "strict"] = "normal"
    types: tuple[Annotated[str, from_text(str, _resource_type)], ...] = ()
    # As `tokens`: with any of these a request needs one.
    clients: tuple[Client, ...] = ()
    # 0 = none. Of what is taken, one in so many is validated afterwards, for the counts in `wasl status`: it costs a process of 50 MB.
    validate_one_in: Annotated[int, whole(0, MIB)] = 0

    def files(self) -> Iterator[tuple[Place, Path]]:
        """Give each file that it names: clients' keys too."""
        yield from super().files()
        for position, client in enumerate(self.clients):
            yield ("clients", position, "jwks"), client.jwks

    @property
    def needs_secrets(self) -> bool:
        """Whether tokens come with the requests."""
        return bool(self.tokens or self.clients)

    @property
    def how_strict(self) -> Strictness:
        """Give the strictness as the room of languages has it."""
        return Strictness[self.strictness.upper()]

    @property
    def base_path(self) -> str:
        """Give the path under which all addresses lie."""
        return urlsplit(self.url).path if self.url else BASE_PATH
