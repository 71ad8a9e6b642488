"""Cold chain and plant on a Modbus line: vaccine fridges, one of them going warm, and an oxygen plant, over TCP or a serial port (RTU)."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import click
from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from node.tools.mllp_client import parse_address

FAULTS: Final = ("silent", "declining", "slow", "probe-broken")
SLOW_S: Final = 2.0  # longer than a feed waits by default
FOR_EVER_S: Final = 86400.0
BROKEN: Final = 0x8000  # what many controllers say of a probe that is not there
SHARE: Final = 1 / 3  # of each cycle a fault lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What the devices hold at a time. `warm_after_s`: from when on the first fridge's door stands open; never, where it is negative."""

    fridges: int
    warm_after_s: float
    degrees_per_minute: float

    def registers(self, unit: int, age_s: float) -> list[int]:
        """A fridge: door (0 or 1), tenths of a degree, tenths of a per cent of its battery. The plant: kPa, tenths of a per cent O2, l/min, hours."""
        if unit > self.fridges:
            return [400 + int(age_s) % 7, 938 + int(age_s / 30) % 4, 220, 8123]
        is_open = unit == 1 and 0 <= self.warm_after_s <= age_s
        warmer = (age_s - self.warm_after_s) / 60 * self.degrees_per_minute if is_open else 0.0
        tenths = round(10 * (4.5 + 0.3 * ((int(age_s) // 20 + unit) % 3) + min(warmer, 20.0)))
        return [int(is_open), tenths & 0xFFFF, 850]


class Devices:
    """All devices of the line, and how they misbehave: each fault lasts a third of its cycle, on the last fridge."""

    def __init__(self, plant: Plant, faults: tuple[str, ...], cycle_s: float) -> None:
        self.plant, self._faults, self._cycle_s = plant, faults, cycle_s
        self._start = time.monotonic()

    def all(self) -> list[SimDevice]:
        """Each as pymodbus wants it; the plant stands behind the last fridge."""
        return [self._device(unit) for unit in range(1, self.plant.fridges + 2)]

    def _fault(self, unit: int, age_s: float) -> str:
        turn, into = divmod(age_s, self._cycle_s)
        is_now = self._faults and unit == self.plant.fridges and into > self._cycle_s * (1 - SHARE)
        return self._faults[int(turn) % len(self._faults)] if is_now else ""

    def _device(self, unit: int) -> SimDevice:
        async def action(
            _function: int, start: int, _address: int, _count: int, current: list[int], _set: Any
        ) -> ExcCodes | None:
            age_s = time.monotonic() - self._start
            fault = self._fault(unit, age_s)
            if fault in {"silent", "slow"}:
                await asyncio.sleep(FOR_EVER_S if fault == "silent" else SLOW_S)
            if fault == "declining":
                return ExcCodes.DEVICE_BUSY
            found = self.plant.registers(unit, age_s)
            if fault == "probe-broken":
                found[1] = BROKEN
            current[:] = found[start : start + len(current)]
            return None

        values = self.plant.registers(unit, 0.0)
        return SimDevice(unit, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)], action=action)


async def serve(devices: Devices, *, address: str, port: str, baud: int) -> None:
    """Answer until stopped."""
    server: ModbusSerialServer | ModbusTcpServer
    if port:
        server = ModbusSerialServer(devices.all(), framer=FramerType.RTU, port=port, baudrate=baud)
    else:
        server = ModbusTcpServer(devices.all(), address=parse_address(address))
    try:
        await server.serve_forever()
    except RuntimeError as error:  # pymodbus: the address is taken, or the port is not there
        raise OSError(f"{address or port}: {error}") from error


@click.command("modbus")
@click.option("--listen", "address", default="", help="host:port, for Modbus TCP.")
@click.option("--port", default="", help="A serial port or pseudo-terminal, for RTU.")
@click.option("--baud", type=int, default=9600, show_default=True)
@click.option(
    "--fridges",
    type=click.IntRange(1, 200),
    default=2,
    show_default=True,
    help="Units 1, 2 …; the oxygen plant is the next.",
)
@click.option(
    "--warm-after",
    "warm_after_s",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds until the first one's door is left open; -1: never.",
)
@click.option("--warming", "degrees_per_minute", type=float, default=1.0, show_default=True, help="Degrees a minute.")
@click.option(
    "--fault",
    "faults",
    type=click.Choice(FAULTS),
    multiple=True,
    help="Of the last fridge; may be given several times, each in its turn.",
)
@click.option(
    "--cycle",
    "cycle_s",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds of a turn; its last third has the fault.",
)
def modbus_command(
    address: str, port: str, baud: int, fridges: int, warm_after_s: float, degrees_per_minute: float, faults: tuple[str, ...], cycle_s: float
) -> None:  # fmt: skip
    """Vaccine fridges, one going warm, and an oxygen plant."""
    if bool(address) == bool(port):
        raise click.UsageError("give either --listen or --port")
    plant = Plant(fridges=fridges, warm_after_s=warm_after_s, degrees_per_minute=degrees_per_minute)
    click.echo(f"fridges: units 1 to {fridges}, holding 0 to 2; oxygen plant: unit {fridges + 1}, holding 0 to 3")
    asyncio.run(serve(Devices(plant, faults, cycle_s), address=address, port=port, baud=baud))
