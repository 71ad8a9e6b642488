"""The demo's devices: for each a feed of the node, and the simulator that is its device."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.tools.demo_ports import HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """What a device of the demo may use: one port of its range, and one folder."""

    port: int
    folder: Path

    @property
    def host_port(self) -> str:
        """The port on loopback."""
        return f"{HOST}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDevice:
    """One device. `lines`: its feed's table after name and kind; `address`: where a client of the feed sends; `command`: after `wasl simulate`."""

    name: str
    kind: str
    lines: Callable[[Spot], str]
    address: Callable[[Spot], str]
    command: Callable[[Spot], tuple[str, ...]]

    def table(self, spot: Spot) -> str:
        """Its table of the node's configuration."""
        return f'\n[[feeds]]\nname = "{self.name}"\nkind = "{self.kind}"\n{self.lines(spot)}\n'


def _listens(spot: Spot) -> str:
    return f'listen = ["{spot.host_port}"]'


def _host_port(spot: Spot) -> str:
    return spot.host_port


DEVICES: Final = (
    DemoDevice(
        name="monitors", kind="mllp", lines=_listens, address=_host_port,
        command=lambda spot: ("pcd01", "--to", spot.host_port, "--each", "5"),
    ),
    DemoDevice(
        name="meters", kind="poct1a", lines=_listens, address=_host_port,
        command=lambda spot: ("poct1a", "--to", spot.host_port, "--each", "15", "--results", "2"),
    ),
    DemoDevice(
        name="files", kind="folder", lines=lambda spot: f'path = "{spot.folder}"', address=lambda spot: str(spot.folder),
        command=lambda spot: ("folder", "--to", str(spot.folder), "--each", "20"),
    ),
)  # fmt: skip
