"""An ASTM line over a serial port."""

import asyncio
from typing import TYPE_CHECKING, Any

from hl7.devices.line_doctor import Heard
from node.config.serial import Line as Setting
from node.feeds.astm_line import Line
from node.feeds.port_alarms import PortAlarms
from node.lines.serial_port import SerialPort

if TYPE_CHECKING:
    from node.feeds.astm import AstmFeed


class PortLine:
    """The feed's port: a line while it is plugged in. Owner of a SerialPort."""

    def __init__(self, feed: "AstmFeed", setting: Setting) -> None:
        self._feed, self._setting = feed, setting
        self._port: SerialPort | None = None
        self._line: Line | None = None
        self._alarms, self._heard = PortAlarms(feed.alarms, feed.feed.name), Heard()

    async def start(self) -> None:
        """Open the port, now or when it is there."""
        self._port = SerialPort(
            self._feed.door.feed, self._setting, self, loop=asyncio.get_running_loop(), monotonic=self._feed.clock.monotonic
        )  # fmt: skip
        self._port.start()

    async def stop(self) -> None:
        """Close the port."""
        if self._port is not None:
            await self._port.stop()
        self._end()

    def addresses(self) -> list[str]:
        """The port, while it is open."""
        return [self._setting.port] if self._line is not None else []

    def facts(self) -> dict[str, Any]:
        """How the port fares."""
        port = self._port
        counts = {} if port is None else {name: getattr(port.counts, name) for name in port.counts.__dataclass_fields__}
        return {
            "port": {
                "name": self._setting.port,
                "setting": self._setting.shorthand,
                "open": self._line is not None,
                **counts,
            }
        }

    # -- the port's owner ---------------------------------------------------------------------------------------------

    def opened(self, at: float) -> None:
        """The port is there and ours."""
        del at
        self._end()
        self._alarms.opened()
        self._heard = Heard()
        if self._port is not None:
            self._line = Line(self._feed, self._setting.port, write=self._port.write)
            self._feed.add(self._line)

    def gone(self, at: float, error: OSError) -> None:
        """It cannot be opened, or was unplugged: what was under way is cut off."""
        del at
        self._alarms.gone(error)
        self._end()

    def received(self, data: bytes, at: float, marks: int) -> None:
        """Bytes came; a byte with a wrong parity fails its frame's sum."""
        del at
        self._heard.take(data, marks)
        self._alarms.heard(self._heard.condition)
        if self._line is not None:
            self._line.received(data)

    def stalled(self, at: float) -> None:
        """The device does not take our answer; its own timer ends the transfer."""
        del at
        self._alarms.stalled()

    def flowing(self, at: float) -> None:
        """It takes answers again."""
        del at
        self._alarms.flowing()

    def _end(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            line.close()
