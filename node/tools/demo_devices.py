"""The demo's devices: for each a feed of the node, and the simulator that is its device."""

import getpass
import os
import shutil
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
    """One device. `lines`: its feed's table after name and kind; `address`: where it is, or sends to; `command`: after `wasl simulate`."""

    name: str
    kind: str
    lines: Callable[[Spot], str]
    address: Callable[[Spot], str]
    command: Callable[[Spot], tuple[str, ...]]
    is_asked: bool = False  # the node connects to it: it is there before the node
    broker: str = ""  # a program between device and node, which gets mosquitto's configuration

    def table(self, spot: Spot) -> str:
        """Its table of the node's configuration."""
        return f'\n[[feeds]]\nname = "{self.name}"\nkind = "{self.kind}"\n{self.lines(spot)}\n'


def _listens(spot: Spot) -> str:
    return f'listen = ["{spot.host_port}"]'


def _host_port(spot: Spot) -> str:
    return spot.host_port


# Debian keeps it where a user's PATH does not look
TERMINAL: Final = "tty"  # in a device's folder: the name of its pseudo-terminal
BROKER: Final = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
_BROKER_CONF: Final = """user {user}
per_listener_settings true
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
"""
_FRIDGES: Final = """tcp = "{address}"
[[feeds.devices]]
name = "fridge-1"
profile = "fridge-modbus"
unit = 1
every_s = 10
[[feeds.devices]]
name = "fridge-2"
profile = "fridge-modbus"
unit = 2
every_s = 10"""


def broker_configuration(spot: Spot) -> Path:
    """Write what mosquitto reads; its path. Anonymous, so on loopback alone."""
    path = spot.folder / "mosquitto.conf"
    path.write_text(
        _BROKER_CONF.format(user=getpass.getuser(), host=HOST, port=spot.port, folder=spot.folder), encoding="utf-8"
    )
    return path


def _broker_url(spot: Spot) -> str:
    return f"mqtt://{spot.host_port}"


def _pty(spot: Spot) -> str:
    return str(spot.folder / TERMINAL)


# those with a port of their own at a listener of the node come first
_ALWAYS: Final = (
    DemoDevice(
        name="analyzer", kind="astm", lines=lambda spot: f'{_listens(spot)}\norders = "query"\nprofile = "sysmex-xn"\nsample_component = 0', address=_host_port,
        command=lambda spot: ("astm", "--to", spot.host_port, "--each", "10"),
    ),
    DemoDevice(
        name="haematology", kind="astm", is_asked=True, lines=lambda spot: f'profile = "horiba-micros60"\n[feeds.serial]\nport = "{_pty(spot)}"', address=_pty,
        command=lambda spot: ("astm", "--link", _pty(spot), "--each", "20", "--seed", "2"),
    ),
    DemoDevice(
        name="monitors", kind="mllp", lines=lambda spot: f'{_listens(spot)}\ndevice_profile = "monitor-pcd01"', address=_host_port,
        command=lambda spot: ("pcd01", "--to", spot.host_port, "--each", "5"),
    ),
    DemoDevice(
        name="meters", kind="poct1a", lines=lambda spot: f'{_listens(spot)}\nprofile = "abbott-istat"', address=_host_port,
        command=lambda spot: ("poct1a", "--to", spot.host_port, "--each", "15", "--results", "2"),
    ),
    DemoDevice(
        name="urine", kind="line", lines=lambda spot: f'{_listens(spot)}\nprofile = "urine-strip-lines"', address=_host_port,
        command=lambda spot: ("serial-lines", "--to", spot.host_port, "--every", "15"),
    ),
    DemoDevice(
        name="fridges", kind="modbus", is_asked=True, lines=lambda spot: _FRIDGES.format(address=spot.host_port), address=_host_port,
        command=lambda spot: ("modbus", "--listen", spot.host_port, "--warm-after", "120"),
    ),
    DemoDevice(
        name="files", kind="folder", lines=lambda spot: f'path = "{spot.folder}"\nprofile = "qpcr-csv"', address=lambda spot: str(spot.folder),
        command=lambda spot: ("folder", "--to", str(spot.folder), "--each", "20"),
    ),
)  # fmt: skip
_WITH_BROKER: Final = (
    DemoDevice(
        name="vitals", kind="mqtt", is_asked=True, address=_broker_url, broker=BROKER,
        lines=lambda spot: f'broker = "{_broker_url(spot)}"\nclient_id = "wasl-demo"\nprofile = "vitals-mqtt"\n[[feeds.topics]]\nfilter = "#"',
        command=lambda spot: ("mqtt", "--to", _broker_url(spot), "--each", "5"),
    ),
)  # fmt: skip
DEVICES: Final = (*_ALWAYS, *(_WITH_BROKER if BROKER else ()))
