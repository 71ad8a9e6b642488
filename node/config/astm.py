"""An ASTM feed of the configuration: an analyzer that calls, that is called, or that hangs on a serial line."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from hl7.devices.astm_events import Switches
from hl7.devices.astm_frames import TEXT_E1381, TEXT_LIS01, FrameEnd
from hl7.devices.astm_orders import NUMBERS_MAX
from node.config.feeds import MIB, Feed
from node.config.kinds import Listen, Name, Text, whole
from node.config.serial import Serial


def _has_port(address: Any) -> Any:
    if not address.port:
        raise ValueError('must name a port, such as "192.0.2.7:4000"')
    return address


class Astm(Feed):
    """E1381 or LIS01-A2 on the line, E1394 or LIS2-A2 in it. One of `listen`, `connect`, `serial`."""

    kind: Literal["astm"]
    # Where the instrument listens and this node calls.
    connect: Annotated[Listen, AfterValidator(_has_port)] | None = None
    serial: Serial | None = None
    # A device profile; what the feed itself says wins over it.
    profile: Name | Literal[""] = ""
    # Names in H-5; a message of another one is kept with a warning. Empty: any.
    senders: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    # What is taken: LIS01-A2's limit, as an older sender stays below it.
    frame_text_bytes_max: Annotated[int, whole(1, TEXT_LIS01)] = TEXT_LIS01
    # What is sent: E1381's limit, which a newer receiver takes too.
    send_text_bytes_max: Annotated[int, whole(1, TEXT_LIS01)] = TEXT_E1381
    # "cr": frames end without LF; "none": with their sum. With the standard's end such frames are taken too, each two seconds late.
    frame_end: FrameEnd = "crlf"
    # Plain records without ENQ, each line as it comes, up to L. Nothing is acknowledged then, so a full disk loses what comes.
    without_enq: bool = False
    # "optional": a message may end with EOT alone, without an L record; else that is a transfer cut off.
    terminator: Literal["required", "optional"] = "required"
    # Whether the instrument may ask for its orders, or is sent them as they come: those of OML and ORM messages on this node's MLLP feeds.
    orders: Literal["none", "query", "download"] = "none"
    # Which component of Q-3 is the sample's number, from 1. 0: as the standard has it (patient ^ specimen), or the one part that is known.
    sample_component: Annotated[int, whole(0, NUMBERS_MAX)] = 0
    # A day's results of a large analyzer in one message are below 2 MB; curves come in M records of some 100 kB.
    message_mb_max: Annotated[int, whole(1, 512)] = 16
    # One analyzer has one or two; a terminal server of a laboratory 16 or 32.
    connections_max: Annotated[int, whole(1, 4096)] = 64

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum((bool(self.listen), self.connect is not None, self.serial is not None)) != 1:
            raise ValueError('needs one of "listen", "connect" and a table [feeds.serial]')
        if self.tls is not None and not self.listen:
            raise ValueError('"tls" is for feeds that listen')
        return self

    @property
    def message_bytes_max(self) -> int:
        """Give the longest message, in bytes."""
        return self.message_mb_max * MIB

    @property
    def places(self) -> tuple[str, ...]:
        """Where its messages come in, as the page names it."""
        if self.serial is not None:
            return (self.serial.port,)
        return tuple(map(str, self.listen)) or (str(self.connect),)

    def with_profile(self, link: Mapping[str, Any]) -> "Astm":
        """The feed with a profile's switches where it has none of its own. Raises ValueError for a bad value."""
        own = {key: getattr(self, key) for key in self.model_fields_set}
        known = {key: value for key, value in link.items() if key in OF_PROFILE}
        return Astm.model_validate({**known, **own})

    @property
    def switches(self) -> Switches:
        """How its line differs from the standard."""
        return Switches(
            frame_text_bytes_max=self.frame_text_bytes_max, send_text_bytes_max=self.send_text_bytes_max, frame_end=self.frame_end,
            without_enq=self.without_enq,
        )  # fmt: skip


OF_PROFILE = (
    "frame_text_bytes_max",
    "send_text_bytes_max",
    "frame_end",
    "without_enq",
    "terminator",
    "orders",
    "sample_component",
)
"""The keys of a profile's `link` that a feed may say as well."""
