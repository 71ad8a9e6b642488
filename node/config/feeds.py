"""The feeds of the configuration: what a source may be told to be, and the limits of each."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hl7.routing import PLACES_MAX
from node.config.addresses import Network
from node.config.destinations import ClientTls, with_port
from node.config.kinds import (
    NAME,
    Allowed,
    Charset,
    CharsetOrNone,
    FilePath,
    Hl7Path,
    Listen,
    LocalEscape,
    MessageType,
    Name,
    ProcessingId,
    Sender,
    Table,
    Text,
    Version,
    not_empty,
    whole,
)
from node.config.toml_lines import Place
from sync.control import FEED as OURS

MIB = 1024 * 1024
LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


class Tls(Table):
    """TLS of a listener; with client_ca a source must show a certificate of that CA."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class Signatures(Table):
    """Whose signatures are known: a folder of certificates (PEM), of authorities or of signers themselves."""

    authorities: FilePath


class Check(Table):
    """The site's rules; an empty list allows any. What breaks one is refused, and the refusal recorded.

    `charset`: the text's character set whatever MSH-18 says; `charset_default`: where MSH-18 is empty. Names are those of Python's codecs.
    """

    senders: tuple[Sender, ...] = ()
    types: tuple[MessageType, ...] = ()
    versions: tuple[Version, ...] = ()
    processing_ids: tuple[ProcessingId, ...] = ()
    required: tuple[Hl7Path, ...] = ()
    charset: CharsetOrNone = ""
    charset_default: Charset = "utf-8"


class RouteRule(Table):
    """Where such messages go: to a stream, or, without one, nowhere: then they are refused, and the refusal recorded.

    `when`: places such as "OBX-8" and the values of which one stands there. All that a rule names must hold; the first rule that does decides.
    """

    types: tuple[MessageType, ...] = ()
    senders: tuple[Sender, ...] = ()
    when: Annotated[
        dict[Hl7Path, Annotated[tuple[str, ...], AfterValidator(not_empty)]], Field(max_length=PLACES_MAX)
    ] = Field(default_factory=dict)
    stream: Name | Literal[""] = ""


def _not_our_own(name: str) -> str:
    if name == OURS:
        raise ValueError(f'must not be "{OURS}": it is under this name that the node writes records of its own')
    return name


class Feed(Table):
    """One configured source, of whatever kind. Its messages go to `stream`, which is its own name where none is given."""

    name: Annotated[Name, AfterValidator(_not_our_own)]
    stream: Name
    listen: tuple[Listen, ...] = ()
    allow: tuple[Allowed, ...] = LOOPBACK
    tls: Tls | None = None
    # A record each, then one summary: a sender that repeats a refused message for ever shall not fill the log.
    rejected_per_hour_max: Annotated[int, whole(0, MIB)] = 1000
    # Only of a feed in lane bulk: from trim_percent on it takes nothing until there is room. False for a source that drops what is not taken at once.
    can_wait: bool = True
    # What becomes of signatures in CDA, HL7 v3, SOAP and FHIR: carried as they are; verified after the commit and counted; or required: what has
    # no valid one of a known signer over the whole is refused.
    signatures: Literal["carried", "verified", "required"] = "carried"

    @model_validator(mode="before")
    @classmethod
    def _own_stream(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name")  # a wrong name is told once, not again as a wrong stream
        return {"stream": name if isinstance(name, str) and NAME.fullmatch(name) else "unnamed", **values}

    @property
    def places(self) -> tuple[str, ...]:
        """Where its messages come in, as the page names it."""
        return tuple(map(str, self.listen))

    @property
    def further_streams(self) -> tuple[str, ...]:
        """Where its production messages may go besides its main stream."""
        return ()

    def files(self) -> Iterator[tuple[Place, Path]]:
        """Give each file that it names, with its place below the feed's table."""
        for key in Tls.model_fields if self.tls else ():
            if file := getattr(self.tls, key):
                yield ("tls", key), file


class Mllp(Feed):
    """HL7 v2 messages in MLLP frames."""

    kind: Literal["mllp"]
    listen: Annotated[tuple[Listen, ...], AfterValidator(not_empty)]
    check: Check = Check()
    # Each is looked at before the message is stored: sixteen of them are more than a site can explain.
    routes: Annotated[tuple[RouteRule, ...], Field(max_length=16)] = ()
    # 0 = none. Of what is taken, one in so many is checked afterwards by hl7apy, for the counts: by the file `profile` (of hl7apy_profile_parser),
    # or by the standard's own structures. It costs a process of 60 MB, and 20 ms to seconds a message.
    profile_one_in: Annotated[int, whole(0, MIB)] = 0
    profile: FilePath | None = None
    # Another thing: the device profile by which results (ORU, OUL) are read, of a feed that is an analyzer's or a monitor's.
    device_profile: Name | Literal[""] = ""
    # What a \Z..\ of this sender stands for (HL7 2.9, 2.7.7), such as { Zq = "½" }. More than a site's fonts had is a mistake.
    local_escapes: Annotated[dict[LocalEscape, Text], Field(max_length=64)] = Field(default_factory=dict)
    # Where messages go whose MSH-11 says T or D; empty: to the feed's stream, where they are marked as tests all the same.
    test_stream: Name | Literal[""] = ""
    # All that comes here is a test, whatever MSH-11 says: for a vendor, before go-live. `wasl feed report` shows each verdict.
    trial_listen: tuple[Listen, ...] = ()
    # A scanned report in an OBX-5 is 1 to 10 MB in base64; above that a sender has lost its end block.
    frame_mb_max: Annotated[int, whole(1, 512)] = 16
    # Some engines open a connection per message and leave it: half of a process's usual 8,192 files.
    connections_max: Annotated[int, whole(1, 65535)] = 4096
    # 0 = never: HIS connections rest for nights, and many an engine takes a close for an error that needs a person.
    # A dead peer is found by TCP keep-alive, connections_max bounds the rest.
    idle_s_max: Annotated[int, whole(0, 7 * 86400)] = 0
    # For a source to read our reply: senders give up on us after 5 to 30 s, so one that needs 60 is gone.
    answer_s_max: Annotated[int, whole(1, 3600)] = 60
    # Which replies: as MSH-15 and MSH-16 ask where both are valued, or original or enhanced mode whatever they say.
    acknowledgement: Literal["as-asked", "original", "enhanced"] = "as-asked"
    # In enhanced mode, after the accept reply, also the application reply that MSH-16 asks for, on the same connection.
    application_reply: bool = False
    # Or over a connection of ours to the sender's own listener, later: each is kept, repeated and counted like a message to a destination,
    # under the name of the feed with "-replies".
    application_reply_to: Annotated[Listen, AfterValidator(with_port)] | None = None
    application_reply_tls: ClientTls | None = None
    # Whether an analyzer may ask here for its orders (IHE LAW, LAB-27): those of OML and ORM messages on this node's MLLP feeds. The reply to a
    # query is RSP^K11; its orders go, each a message, to the analyzer's own listener (LAB-28), kept, repeated and counted like those to a
    # destination, under the name of the feed with "-orders".
    orders: Literal["none", "query"] = "none"
    orders_to: Annotated[Listen, AfterValidator(with_port)] | None = None
    orders_tls: ClientTls | None = None
    # MSH-13 (HL7 2.9.1). Where the sender does not follow the protocol it holds constants and texts: never guessed from what comes.
    sequence_numbers: Literal["ignored", "followed", "required"] = "ignored"

    @property
    def further_streams(self) -> tuple[str, ...]:
        """Where its routing rules send messages."""
        return tuple(rule.stream for rule in self.routes if rule.stream)

    @property
    def frame_bytes_max(self) -> int:
        """Give the largest payload of a frame, in bytes."""
        return self.frame_mb_max * MIB
