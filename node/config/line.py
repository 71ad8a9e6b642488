"""A line feed of the configuration: a device that just prints, on a serial port or over TCP."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from hl7.devices.line_framing import GIVEN_UP_MS, KIB, PAUSE_MS, REPORT_KB_MAX, byte_of, differing, framing_of
from hl7.devices.lines import CHECK_BYTES, ETX, Check, Covers, Ends, Framing, LineEnd
from node.config.addresses import Address
from node.config.feeds import Feed
from node.config.kinds import Listen, Name, whole
from node.config.serial import Serial


def _byte(value: object) -> object:
    return None if value is None else byte_of(value)


def _has_port(address: Address) -> Address:
    if not address.port:
        raise ValueError('must name a port, such as "192.0.2.7:4001"')
    return address


Byte = Annotated[int | None, BeforeValidator(_byte)]


class Lines(Feed):
    """Reports that a device prints. One of `listen`, `connect`, `serial`; a key that is not given is the profile's."""

    kind: Literal["line"]
    # Where the device, or its device server, listens and this node calls.
    connect: Annotated[Listen, AfterValidator(_has_port)] | None = None
    serial: Serial | None = None
    profile: Name | Literal[""] = ""
    # What ends a report: each line, a block between two bytes, its length, or a pause.
    ends: Ends = "lines"
    line_end: LineEnd = "any"
    # The byte that a block or a fixed length begins with; what stands before it is noise. Of a block STX where it is not given.
    start: Byte = None
    end: Byte = ETX
    length: Annotated[int, whole(0, 64 * KIB)] = 0
    # The pause that ends a report, or after which one without its end is given up.
    quiet_ms: Annotated[int, whole(0, 3_600_000)] = 0
    # Of a block it stands behind its end, of a line before it, and is of one byte or of two hexadecimal digits.
    check: Check = "none"
    covers: Covers = "text-and-end"
    # For a device that waits for a byte: after the commit, and after a report that was not whole or found no room.
    answer: Byte = None
    answer_bad: Byte = None
    report_kb_max: Annotated[int, whole(1, 16 * KIB)] = REPORT_KB_MAX
    # A terminal server has 16 or 32 ports.
    connections_max: Annotated[int, whole(1, 4096)] = 32

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sum((bool(self.listen), self.connect is not None, self.serial is not None)) != 1:
            raise ValueError('needs one of "listen", "connect" and a table [feeds.serial]')
        if self.tls is not None and not self.listen:
            raise ValueError('"tls" is for feeds that listen')
        if self.profile:
            return self  # what follows is judged with the profile's keys
        return self.fitting()

    def fitting(self) -> Self:
        """Refuse keys that contradict each other."""
        if self.ends == "fixed" and not CHECK_BYTES[self.check] < self.length <= self.report_kb_max * KIB:
            raise ValueError(
                '"ends" is "fixed": give "length", of what its check value does not fill, and not above report_kb_max'
            )
        if self.ends == "pause" and self.check != "none":
            raise ValueError('"check" needs an end that can be told: lines, block or fixed')
        if self.serial is not None and self.serial.flow == "xonxoff" and self.check.endswith("byte"):
            raise ValueError('flow = "xonxoff" takes the bytes 0x11 and 0x13 out, and a check value may be one of them')
        return self

    def with_profile(self, link: Mapping[str, Any]) -> "Lines":
        """The feed with a profile's framing where it has none of its own. Raises ValueError for a bad value."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        known = {key: value for key, value in link.items() if key in OF_PROFILE}
        return Lines.model_validate({**known, **own}).fitting()

    def framed_otherwise(self, link: Mapping[str, Any]) -> tuple[str, ...]:
        """The feed's own keys by which its reports are cut otherwise than by a profile's framing alone. Raises ValueError for a bad value."""
        keys = differing(self.with_profile(link).framing, framing_of(link))
        return tuple(key for key in keys if key in self.model_fields_set)

    @property
    def places(self) -> tuple[str, ...]:
        """Where its reports come in, as the page names it."""
        if self.serial is not None:
            return (self.serial.port,)
        return tuple(map(str, self.listen)) or (str(self.connect),)

    @property
    def framing(self) -> Framing:
        """How its reports are cut out of what comes."""
        quiet_ms = self.quiet_ms or (PAUSE_MS if self.ends == "pause" else GIVEN_UP_MS)
        return Framing(
            ends=self.ends, line_end=self.line_end, start=self.start, end=ETX if self.end is None else self.end, length=self.length,
            quiet_s=quiet_ms / 1000, check=self.check, covers=self.covers, report_bytes_max=self.report_kb_max * KIB,
        )  # fmt: skip


OF_PROFILE: Final = (
    "ends",
    "line_end",
    "start",
    "end",
    "length",
    "quiet_ms",
    "check",
    "covers",
    "answer",
    "answer_bad",
)
"""The keys of a profile's `link` that a feed may say as well."""
