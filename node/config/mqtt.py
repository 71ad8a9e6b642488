"""An MQTT feed of the configuration: its broker, who we are there, which topics we take, and its limits."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from hl7.devices.profile import Profile
from hl7.devices.topics import check_filter, covers, overlap
from node.config.addresses import check_host
from node.config.feeds import MIB
from node.config.kinds import FilePath, Name, Table, Text, from_text, not_empty, whole
from node.config.outgoing import Outgoing
from node.config.toml_lines import Place

PORTS = {"mqtt": 1883, "mqtts": 8883}  # IANA
OCTETS = "application/octet-stream"
# What a publisher may call its payload itself (MQTT 5 property "content type"): it stands in the header for ever, so nobody's free text.
CONTENT_TYPES = (
    "application/json", "application/senml+json", "application/fhir+json", "application/hl7-v2+er7", "application/cbor", "application/xml",
    "application/vnd.sparkplug.b+protobuf", OCTETS, "text/plain",
)  # fmt: skip


def _broker(text: str) -> str:
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  # reading it is the check
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.scheme not in PORTS or not url.hostname:
        raise ValueError('must begin with "mqtts://" or "mqtt://" and a host')
    check_host(url.hostname)
    if url.username is not None or url.path.strip("/") or url.query or url.fragment:
        raise ValueError("must hold a host and a port alone; user and password have keys of their own")
    return text.rstrip("/")


def _client_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):  # it is a level of the heartbeat's topic, and a file's name
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-', and this feed's alone at the broker")
    return text


def _member(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or "" in text.split("."):
        raise ValueError('must name a member of the JSON payload such as "seq" or "header.time"')
    return text


CONTENT_TYPE_OF: Final = {
    "json": "application/json", "senml": "application/senml+json", "sparkplug": "application/vnd.sparkplug.b+protobuf", "hl7": "application/hl7-v2+er7",
    "poct1a": "application/xml",
}  # fmt: skip
"""What a profile's language is called, where neither rule nor profile nor publisher says it."""


class Topic(Table):
    """Which topics, and what becomes of them. The first rule whose filter means a topic decides.

    `identity`: the members of a JSON payload by which the device itself tells two readings apart.
    """

    filter: Annotated[str, from_text(str, check_filter)]
    stream: Name | Literal[""] = ""
    content_type: Literal[
        "application/json", "application/senml+json", "application/fhir+json", "application/hl7-v2+er7", "application/cbor",
        "application/xml", "application/vnd.sparkplug.b+protobuf", "application/octet-stream", "text/plain",
    ] = "application/octet-stream"  # fmt: skip
    identity: Annotated[tuple[Annotated[str, from_text(str, _member)], ...], Field(max_length=4)] = ()
    # The device profile of what comes under it; without it the feed's own.
    profile: Name | Literal[""] = ""

    def with_profile(self, profile: Profile) -> "Topic":
        """The rule with a profile's content type and identity where it has none of its own. Raises ValueError for a bad value."""
        said: dict[str, Any] = {"content_type": CONTENT_TYPE_OF.get(profile.language, "text/plain")}
        said |= {key: value for key, value in profile.link.items() if key == "content_type"}
        if "identity" in profile.link:
            said["identity"] = str(profile.link["identity"]).split()
        return Topic.model_validate(said | {name: getattr(self, name) for name in self.model_fields_set})


def _apart(topics: tuple[Topic, ...]) -> tuple[Topic, ...]:
    for one, other in itertools.combinations([topic.filter for topic in topics], 2):
        if overlap(one, other) and not (covers(one, other) or covers(other, one)):
            raise ValueError(
                f'must not half overlap: the broker would send what both "{one}" and "{other}" mean twice. Write them apart, or one that covers the other'
            )
    return topics


class Mqtt(Outgoing):
    """Telemetry over an MQTT 5 broker."""

    kind: Literal["mqtt"]
    broker: Annotated[str, from_text(str, _broker)]
    # No default: two clients with one id take each other over, and each takes the other's messages.
    client_id: Annotated[str, from_text(str, _client_id)]
    topics: Annotated[tuple[Topic, ...], AfterValidator(not_empty), AfterValidator(_apart), Field(max_length=256)]
    user: Text | Literal[""] = ""
    password: FilePath | None = None
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    profile: Name | Literal[""] = ""
    # How many messages may be under way, sent to us and not yet acknowledged: what one commit takes with it.
    receive_max: Annotated[int, whole(1, 1000)] = 50
    # The broker leaves out what is larger, and tells nobody: a waveform of ten seconds has 100 kB.
    packet_kb_max: Annotated[int, whole(1, 16384)] = 1024
    # A week: so long may the node be away before the broker forgets what it holds for it.
    session_s: Annotated[int, whole(60, 2**32 - 2)] = 7 * 86400
    # 0 = none. Through the broker and back: a connection that stands proves nothing.
    heartbeat_s: Annotated[int, whole(0, 3600)] = 30
    heartbeat_topic: Annotated[str, from_text(str, lambda text: text and _plain_topic(text))] = ""
    # Half a minute: a dead connection is found within 45 s, and a radio link sleeps in between.
    keepalive_s: Annotated[int, whole(5, 3600)] = 30
    connect_s_max: Annotated[int, whole(1, 300)] = 10
    # Old state that the broker keeps for new subscribers: recorded and marked as such, or left out.
    retained: Literal["marked", "ignored"] = "marked"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.is_secure != (self.ca is not None):
            raise ValueError("must have `ca` with mqtts://, and none of the TLS keys with mqtt://")
        if (self.certificate is None) != (self.key is None) or (self.certificate and not self.is_secure):
            raise ValueError("must have `certificate` and `key` together, and both only with mqtts://")
        if self.password is not None and not self.user:
            raise ValueError("must name the `user` whose password it is")
        return self

    def profile_of(self, topic: Topic) -> str:
        """Give the name of the profile of what comes under a rule, if any."""
        return topic.profile or self.profile

    @property
    def is_secure(self) -> bool:
        """Whether the broker is spoken to over TLS."""
        return self.broker.startswith("mqtts://")

    @property
    def host(self) -> str:
        """Give the broker's host."""
        return urlsplit(self.broker).hostname or ""

    @property
    def port(self) -> int:
        """Give the broker's port."""
        url = urlsplit(self.broker)
        return url.port or PORTS[url.scheme]

    @property
    def own_topic(self) -> str:
        """Give the topic of the heartbeat."""
        return self.heartbeat_topic or f"wasl/{self.client_id}/heartbeat"

    @property
    def packet_bytes_max(self) -> int:
        """Give the largest packet, in bytes."""
        return self.packet_kb_max * (MIB // 1024)

    @property
    def places(self) -> tuple[str, ...]:
        """Where its messages come from."""
        return (self.broker,)

    @property
    def further_streams(self) -> tuple[str, ...]:
        """Where rules send messages besides the main stream."""
        return tuple(topic.stream for topic in self.topics if topic.stream)

    def files(self) -> Iterator[tuple[Place, Path]]:
        """Give each file that it names."""
        for key in ("password", "ca", "certificate", "key"):
            if file := getattr(self, key):
                yield (key,), file


def _plain_topic(text: str) -> str:
    if set(text) & {"+", "#"}:
        raise ValueError("must be one topic, without + and #")
    return check_filter(text)
