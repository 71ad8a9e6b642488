"""Modbus devices for tests: pymodbus' own servers over TCP and over a pseudo-terminal, whose faults a test sets; a feed of a node's configuration."""

import asyncio
import logging
import os
import select
import threading
import tty
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.node_rig import free_port

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)  # a client that is killed is no news


@dataclass
class Devices:
    """What units 1 … 9 hold, and how they misbehave. `mute`: units that do not answer; `asked`: how often each was."""

    registers: list[int] = field(default_factory=lambda: [42, -185 & 0xFFFF, 850])
    mute: set[int] = field(default_factory=set)
    declining: set[int] = field(default_factory=set)
    asked: dict[int, int] = field(default_factory=dict)
    slow_s: dict[int, float] = field(default_factory=dict)

    def simulated(self, unit: int) -> SimDevice:
        async def action(
            _function: int, start: int, _address: int, _count: int, current: list[int], _set: Any
        ) -> ExcCodes | None:
            self.asked[unit] = self.asked.get(unit, 0) + 1
            if unit in self.mute:
                await asyncio.sleep(3600)
            if wait := self.slow_s.get(unit):
                await asyncio.sleep(wait)
            if unit in self.declining:
                return ExcCodes.DEVICE_BUSY
            current[:] = (self.registers * 40)[start : start + len(current)]
            return None

        data = [SimData(0, values=(self.registers * 40)[:100], datatype=DataType.REGISTERS)]
        return SimDevice(unit, simdata=data, action=action)

    def all(self) -> list[SimDevice]:
        return [self.simulated(unit) for unit in range(1, 10)]


class Serving(threading.Thread):
    """A server of pymodbus in a loop of its own."""

    def __init__(self, make: Any) -> None:
        super().__init__(daemon=True)
        self._make, self.server = make, None
        self._ready = threading.Event()
        self.start()
        self._ready.wait(10)

    def run(self) -> None:
        async def serve() -> None:
            self.server, self.loop = self._make(), asyncio.get_running_loop()
            await self.server.serve_forever(background=True)
            self._ready.set()
            self._over = asyncio.Event()
            await self._over.wait()
            await self.server.shutdown()

        asyncio.run(serve())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self.join(10)


@contextmanager
def over_tcp(devices: Devices, port: int):
    serving = Serving(lambda: ModbusTcpServer(devices.all(), address=("127.0.0.1", port)))
    try:
        yield serving
    finally:
        serving.close()


class Cable:
    """Two pseudo-terminals joined by a thread; `cut` lets nothing through, `noise` is put before the next bytes to the node."""

    def __init__(self) -> None:
        self._masters, self.ends = [], []
        self._slaves = []
        for _ in range(2):
            master, slave = os.openpty()
            tty.setraw(slave)
            self._masters.append(master)
            self._slaves.append(slave)
            self.ends.append(os.ttyname(slave))
        self.noise = b""
        self._open = True
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        device, node = self._masters
        while self._open:
            for ready in select.select(self._masters, [], [], 0.1)[0]:
                with suppress(OSError):
                    data = os.read(ready, 4096)
                    if ready == device and self.noise:
                        data, self.noise = self.noise + data, b""
                    os.write(node if ready == device else device, data)

    def close(self) -> None:
        self._open = False
        self._thread.join()
        for each in self._masters + self._slaves:
            os.close(each)


@contextmanager
def over_cable(devices: Devices):
    """Devices on a serial line; the cable, whose second end is the node's."""
    cable = Cable()
    serving = Serving(
        lambda: ModbusSerialServer(devices.all(), framer=FramerType.RTU, port=cable.ends[0], baudrate=9600)
    )
    try:
        yield cable
    finally:
        serving.close()
        cable.close()


@dataclass
class ModbusFeed:
    """A feed of the configuration. `listen` is what the node's rig counts: one address."""

    name: str
    points: dict[str, int] = field(default_factory=lambda: {"fridge-1": 1})
    port: int = field(default_factory=free_port)
    path: str = ""
    lines: str = "answer_ms_max = 200"
    point: str = (
        'function = "holding"\naddress = 0\ncount = 3\ntype = "int16"\nscale = -1\nunit_text = "Cel"\nevery_s = 1'
    )
    listen: tuple[str, ...] = ("127.0.0.1",)

    def text(self) -> str:
        line = f'serial = {{ port = "{self.path}" }}' if self.path else f'tcp = "127.0.0.1:{self.port}"'
        points = "".join(
            f'[[feeds.points]]\nname = "{name}"\nunit = {unit}\n{self.point}\n' for name, unit in self.points.items()
        )
        return f'[[feeds]]\nname = "{self.name}"\nkind = "modbus"\n{line}\n{self.lines}\n{points}'
