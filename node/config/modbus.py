"""A Modbus line of the configuration: how it is reached, and what is asked on it, of whom and how often."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hl7.devices.modbus_poll import BITS, BITS_MAX, REGISTERS_MAX, Request
from node.config.addresses import Address
from node.config.kinds import Name, Table, from_text, whole
from node.config.outgoing import Outgoing, parse_endpoint
from node.config.serial import Serial

REQUESTS_MAX = 250  # at 9600 baud a request and its reply take 30 ms at least: so many at once are 8 s of a line
ADDRESS_MAX = 65535  # Modbus Application Protocol V1.1b3, 4.4
EVERY_S_MAX = 86400

TYPES_OF_TWO = frozenset({"int32", "uint32", "float32"})


def _unit(text: str) -> str:
    if len(text) > 32 or not text.isprintable():
        raise ValueError("must be at most 32 printable characters")
    return text


class Polled(Table):
    """What each thing that is polled has: a name, whose it is on the line, how often."""

    name: Name
    # 1 to 247 on a serial line; 0 or 255 is what some TCP gateways want where nothing stands behind them.
    unit: Annotated[int, whole(0, 255)] = 1
    # A fridge warms up in minutes and an oxygen plant's alarms are its own: a minute is often, a second is for benches.
    every_s: Annotated[int, whole(1, EVERY_S_MAX)] = 60


class Point(Polled):
    """One request: registers or bits that stand together. `scale` is a power of ten: -1 for tenths.

    Nothing is calculated here: type, order, scale and unit are written beside the registers, for whoever reads them.
    """

    function: Literal["coils", "discrete", "holding", "input"]
    address: Annotated[int, whole(0, ADDRESS_MAX)]
    count: Annotated[int, whole(1, BITS_MAX)] = 1
    type: Literal["int16", "uint16", "int32", "uint32", "float32", "sfloat", "bit"] | None = None
    order: Literal["big", "little"] = "big"
    scale: Annotated[int, whole(-9, 9)] = 0
    unit_text: Annotated[str, from_text(str, _unit)] = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.function not in BITS and self.count > REGISTERS_MAX:
            raise ValueError(f"must ask for {REGISTERS_MAX} registers at most")
        if self.address + self.count > ADDRESS_MAX + 1:
            raise ValueError(f"must end at address {ADDRESS_MAX}")
        if self.type in TYPES_OF_TWO and self.count % 2:
            raise ValueError(f"must ask for an even `count`: a value of type {self.type} takes two registers")
        return self

    def request(self) -> Request:
        """What is asked for."""
        meaning: tuple[tuple[str, str | int], ...] = ()
        if self.type is not None:
            meaning = (("order", self.order), ("scale", self.scale), ("type", self.type), ("unit", self.unit_text))
        return Request(
            name=self.name, unit=self.unit, function=self.function, address=self.address, count=self.count, every_s=self.every_s, meaning=meaning
        )  # fmt: skip


class Device(Polled):
    """A device whose profile says what is asked of it."""

    profile: Name


class Modbus(Outgoing):
    """One line with one master, us: a TCP address, a serial port (RTU), or a device server's raw port (RTU through it)."""

    kind: Literal["modbus"]
    tcp: Annotated[Address | None, from_text(Address, parse_endpoint)] = None
    serial: Serial | None = None
    points: Annotated[tuple[Point, ...], Field(max_length=REQUESTS_MAX)] = ()
    devices: Annotated[tuple[Device, ...], Field(max_length=REQUESTS_MAX)] = ()
    # Devices answer within 100 ms, through a radio or a gateway within a second. On a serial line nobody else is asked meanwhile.
    answer_ms_max: Annotated[int, whole(20, 60000)] = 1000

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tcp is None) == (self.serial is None):
            raise ValueError("must have either `tcp` or `serial`")
        if not self.points and not self.devices:
            raise ValueError("must have [[feeds.points]] or [[feeds.devices]]: nothing would be asked")
        names = [each.name for each in (*self.points, *self.devices)]
        if len(set(names)) < len(names):
            raise ValueError("must not name a point or device twice")
        return self

    @property
    def line(self) -> str:
        """Give the line as a person knows it."""
        return str(self.tcp) if self.tcp else self.serial.port if self.serial else ""

    @property
    def places(self) -> tuple[str, ...]:
        """Where its values come from."""
        return (self.line,)
