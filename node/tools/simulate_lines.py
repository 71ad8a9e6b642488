"""Devices that just print, on a pseudo-terminal or over TCP: a urine reader, a small counter, a scale, a temperature logger. With faults on demand."""

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Final

import click

from node.tools.mllp_client import parse_address
from node.tools.pseudo_terminal import PseudoTerminal, ended_by_sigterm

NAMES: Final = ("مريم تجريبية", "سالم تجريبي", "Zoë Probe", "Test Patient")
FAULTS: Final = ("noise", "cut", "check", "jabber", "unplug")
BAUD: Final = 9600  # a real device is no faster, and a pause is only one at its pace
AWAY_S: Final = 1.0
SEEN_S: Final = 2.5  # a node looks for its port every two seconds
JABBER_BYTES: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One report as it goes on the line."""

    data: bytes
    fault: str = ""


def urine(number: int, dice: random.Random) -> bytes:
    """A strip reader's print of several lines; a pause ends it."""
    steps = ("neg", "+-", "1+", "2+", "3+")
    rows = [f"{name:<4} {dice.choice(steps)}" for name in ("LEU", "NIT", "PRO", "GLU", "KET", "BLD")]
    lines = [
        f"#{number:04}",
        f"ID: T{900000 + number}",
        f"Name: {dice.choice(NAMES)}",
        *rows,
        f"pH   {dice.choice((5.0, 6.5, 7.0))}",
        "",
    ]
    return "\r\n".join(lines).encode() + b"\r\n"


def counter(number: int, dice: random.Random) -> bytes:
    """A small cell counter: a block with an exclusive-or over text and end, in two digits."""
    text = f"T{number:05};WBC;{dice.uniform(3, 12):.1f};HGB;{dice.uniform(9, 17):.1f};PLT;{dice.randrange(120, 400)}".encode()
    return b"\x02" + text + b"\x03%02X\r\n" % reduce(xor, text + b"\x03", 0)


def scale(_number: int, dice: random.Random) -> bytes:
    """A scale: one line a weighing."""
    return f"ST,GS,+{dice.uniform(2, 110):06.2f}kg\r\n".encode()


def thermometer(number: int, dice: random.Random) -> bytes:
    """A vaccine fridge's logger: one line a reading."""
    return f"{number:06} T1 {dice.gauss(4.5, 0.6):+.1f} C DOOR {dice.randrange(2)}\r".encode()


DEVICES: Final[dict[str, Callable[[int, random.Random], bytes]]] = {
    "urine": urine, "counter": counter, "scale": scale, "thermometer": thermometer,
}  # fmt: skip


def reports(device: str, *, seed: int, faults: tuple[str, ...], share: float) -> Iterator[Printed]:
    """What the device prints, for ever; of so many reports this share has one of the faults."""
    dice, number = random.Random(seed), 0
    while True:
        number += 1
        data = DEVICES[device](number, dice)
        fault = dice.choice(faults) if faults and dice.random() < share else ""
        yield Printed(data=_spoilt(data, fault, dice), fault=fault)


def _spoilt(data: bytes, fault: str, dice: random.Random) -> bytes:
    at = dice.randrange(1, len(data) - 1)
    match fault:
        case "noise":
            return data[:at] + dice.randbytes(3) + data[at:]
        case "cut":
            return data[:at]
        case "check":
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        case "jabber":
            return b"\x55\x00\xff" * (JABBER_BYTES // 3)
    return data


class Pty:
    """The device's end of a pseudo-terminal; `link` is the node's end. Unplugging takes it away."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._ends: PseudoTerminal | None = None
        self.plug()

    def plug(self) -> None:
        """Both ends are there."""
        self._ends = PseudoTerminal(self._link)

    def pull(self) -> None:
        """Gone, and what was on the way with it."""
        if self._ends is not None:
            self._ends.close()
        self._ends = None

    def send(self, data: bytes) -> None:
        """At the pace of a real line, so that pauses are pauses."""
        if self._ends is not None:
            for at in range(0, len(data), 32):
                os.write(self._ends.ours, data[at : at + 32])
                time.sleep(len(data[at : at + 32]) * 10 / BAUD)

    def close(self) -> None:
        """As unplugging for ever."""
        self.pull()


class Call:
    """The device calls a feed that listens, or a device server in its place."""

    def __init__(self, address: str) -> None:
        self._address = parse_address(address)
        self.plug()

    def plug(self) -> None:
        """Connect."""
        self._socket = socket.create_connection(self._address, 10)

    def pull(self) -> None:
        """Break off."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """All of it."""
        self._socket.sendall(data)

    def close(self) -> None:
        """End."""
        self._socket.close()


def simulate(
    line: Pty | Call, device: str, *, count: int | None, every_s: float, seed: int, faults: tuple[str, ...], share: float, told: Callable[[Printed], None]
) -> int:  # fmt: skip
    """Print until told to stop; how many reports."""
    sent = 0
    with contextlib.suppress(KeyboardInterrupt):
        for report in reports(device, seed=seed, faults=faults, share=share):
            if count is not None and sent >= count:
                break
            if report.fault == "unplug":
                line.pull()
                time.sleep(AWAY_S)
                line.plug()
                time.sleep(SEEN_S)
            line.send(report.data)
            sent += 1
            told(report)
            time.sleep(every_s)
    return sent


@click.command("serial-lines")
@click.option("--to", "address", default="", help="host:port of a line feed that listens.")
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Make a pseudo-terminal of this name, for a feed with [feeds.serial].",
)
@click.option(
    "--device", type=click.Choice(["urine", "counter", "scale", "thermometer"]), default="urine", show_default=True
)
@click.option("--every", "every_s", type=float, default=2.0, show_default=True, help="Seconds between two reports.")
@click.option("--count", type=int, default=None, help="Stop after so many; without it, never.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fault", "faults", multiple=True, type=click.Choice(["noise", "cut", "check", "jabber", "unplug"]))
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Of the reports, how many have a fault.",
)
def lines_command(
    address: str, link: Path | None, device: str, every_s: float, count: int | None, seed: int, faults: tuple[str, ...], share: float
) -> None:  # fmt: skip
    """A device that just prints, with invented people."""
    if bool(address) == (link is not None):
        raise click.UsageError("give one of --to and --link")
    with ended_by_sigterm(), contextlib.closing(Pty(link) if link is not None else Call(address)) as line:
        sent = simulate(
            line, device, count=count, every_s=every_s, seed=seed, faults=faults, share=share,
            told=lambda report: click.echo(f"{len(report.data)} bytes{f', fault: {report.fault}' if report.fault else ''}"),
        )  # fmt: skip
    click.echo(f"{sent} reports")
