"""The destinations of the configuration: the site's own systems that a node serves, each with its protocol and its limits."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from node.config.addresses import Address
from node.config.kinds import Charset, FilePath, Listen, Name, Table, check_url, from_text, not_empty, whole
from node.config.problems import Problem, Source, by_kind
from node.config.toml_lines import Place
from node.zones import zone_of

MIB = 1024 * 1024


def _type(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9*?-]{1,64}(\^[A-Za-z0-9*?-]{1,64})?", text):
        raise ValueError('must be a type such as "ORU^R01", "ORU^*", "Bundle^transaction" or "Patient"')
    return text


def _server_name(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}", text):
        raise ValueError("must be the host name or address that stands in the certificate, or empty")
    return text


def _url(text: str) -> str:
    check_url(text, "http", "https")
    return text.rstrip("/")


def with_port(address: Address) -> Address:
    """Refuse an address to which nobody can connect."""
    if not address.port:
        raise ValueError("must name a port")
    return address


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must not name a stream twice")
    return names


def _zone(text: str) -> str:
    zone_of(text)
    return text


def _uri(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|]{1,240}", text):
        raise ValueError('must be a URI such as "urn:oid:2.16.1" or "http://his.example/mrn"')
    return text


Type = Annotated[str, from_text(str, _type)]
# URIs of assigning authorities and coding systems, by the name that messages give them: a site has tens.
Systems = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, from_text(str, _uri)]],
    Field(max_length=1000),
]


class ClientTls(Table):
    """TLS to a system of the site: whose certificates are good, and what we show of ourselves."""

    ca: FilePath
    certificate: FilePath | None = None
    key: FilePath | None = None
    # Empty = the host of the address or URL.
    server_name: Annotated[str, from_text(str, _server_name)] = ""


class Destination(Table):
    """One system of the site, of whatever kind. It takes the messages of these streams, each in its order."""

    name: Name
    streams: Annotated[tuple[Name, ...], AfterValidator(not_empty), AfterValidator(_each_once)]
    # Globs; an empty list takes every type.
    types: tuple[Type, ...] = ()
    # Where a new destination begins: with what comes from now on, or with the oldest record that is still here.
    begin: Annotated[Literal["end", "start"], Field(alias="from")] = "end"
    # A refused message is put aside, or the stream waits for a person: where the order of a patient's messages is everything.
    on_refusal: Literal["park", "stop"] = "park"
    # A restart of a laboratory system takes minutes; after ten somebody should know.
    alarm_minutes: Annotated[int, whole(0, 7 * 1440)] = 10
    # As long a parked message keeps its body beyond the usual retention, while the disk has room: a vendor's correction takes weeks.
    parked_days: Annotated[int, whole(0, 3650)] = 30
    # For an answer: engines give one within 5 s, some after the message was worked off.
    answer_s_max: Annotated[int, whole(1, 600)] = 30
    # A site's own network answers a SYN at once; its third repetition comes after 7 s.
    connect_s_max: Annotated[int, whole(1, 300)] = 10


class MllpOut(Destination):
    """HL7 v2 messages in MLLP frames, to a listener."""

    kind: Literal["mllp"]
    address: Annotated[Listen, AfterValidator(with_port)]
    tls: ClientTls | None = None
    # Whether a reply comes to every message, or under the condition of its MSH-15.
    acknowledgement: Literal["always", "as-asked"] = "always"
    # MSH-13 is written and MSA-4 read (HL7 2.9.1): only where both sides follow the protocol. One stream.
    sequence_numbers: bool = False
    # Peers that take one connection for each message close it themselves, or want us to.
    connection: Literal["kept", "each"] = "kept"
    # Some peers lose a message that follows the last reply at once.
    pause_ms: Annotated[int, whole(0, 60_000)] = 0
    # FHIR's orders and reports as OML^O21 and ORU^R01; else they are parked.
    convert: Literal["none", "v2"] = "none"
    # What such messages are written in.
    charset: Charset = "utf-8"
    systems: Systems = Field(default_factory=dict)


class FolderOut(Destination):
    """Each message a file, for a system that looks into a folder. The folder must be there: it may be a mount."""

    kind: Literal["folder"]
    path: FilePath
    # More lie there only if nobody takes them, and a folder of 10,000 is slow to list on any system.
    files_max: Annotated[int, whole(1, MIB)] = 10_000


class FhirOut(Destination):
    """FHIR resources and Bundles, to a server's base URL."""

    kind: Literal["fhir"]
    url: Annotated[str, from_text(str, _url)]
    tls: ClientTls | None = None
    # A file that holds a bearer token and nothing else; it is read again for each connection, so it may be renewed.
    bearer_token: FilePath | None = None
    # What becomes of HL7 v2: a transaction of FHIR R4, a message for $process-message, or nothing: it is parked.
    convert: Literal["transaction", "message", "none"] = "transaction"
    # Of times that name none, where MSH-7 names none either; without it they lose their time of day.
    zone: Annotated[str, from_text(str, _zone)] = ""
    systems: Systems = Field(default_factory=dict)


class OfNoKind(Destination):
    """A destination whose kind is none of ours: never valid, and every other mistake in it is told at the same time."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: Literal["mllp", "folder", "fhir"]


if TYPE_CHECKING:
    AnyDestination = MllpOut | FolderOut | FhirOut
else:
    AnyDestination = by_kind(OfNoKind, mllp=MllpOut, folder=FolderOut, fhir=FhirOut)


def contradictions(destinations: Sequence[AnyDestination], known: set[str], source: Source) -> Iterator[Problem]:
    """Streams that nobody writes, halves of a key pair, and two streams where one number is to count them. `known`: the node's streams."""
    for position, each in enumerate(destinations):
        place: Place = ("destinations", position)
        for at, stream in enumerate(each.streams):
            if stream not in known:
                message = f'"{stream}" is no stream of this node'
                yield source.problem((*place, "streams", at), message, allowed=tuple(sorted(known)))
        if each.kind == "mllp" and each.sequence_numbers and len(each.streams) > 1:
            yield source.problem((*place, "sequence_numbers"), "counts one stream, not several")
        if each.kind == "folder" or each.tls is None:
            continue
        if (each.tls.certificate is None) is not (each.tls.key is None):
            yield source.problem((*place, "tls"), "certificate and key belong together")
        if each.kind == "fhir" and not each.url.startswith("https://"):
            yield source.problem((*place, "tls"), 'is of no use to a URL that begins with "http://"')


def files_of(destinations: Sequence[AnyDestination]) -> Iterator[tuple[Place, Path]]:
    """Every file that they name, with where it is named."""
    for position, each in enumerate(destinations):
        if each.kind == "fhir" and each.bearer_token is not None:
            yield ("destinations", position, "bearer_token"), each.bearer_token
        if each.kind == "folder" or each.tls is None:
            continue
        for key in ("ca", "certificate", "key"):
            if file := getattr(each.tls, key):
                yield ("destinations", position, "tls", key), file
