"""A haematology analyzer that speaks ASTM, over TCP or a serial line: results, queries for orders, and what goes wrong on a real line."""

import contextlib
import os
import random
import select
import socket
import termios
import time
import tty
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from hl7.devices import astm_records
from hl7.devices.astm_events import (
    Arrived,
    Effect,
    Ended,
    Event,
    Kept,
    NotSent,
    Received,
    Send,
    Sent,
    Switches,
    Tick,
    Write,
)
from hl7.devices.astm_frames import ACK, STX
from hl7.devices.astm_link import Link
from hl7.devices.astm_records import write, write_header
from node.tools.hospital_names import ARAB
from node.tools.mllp_client import parse_address
from node.tools.pseudo_terminal import PseudoTerminal, ended_by_sigterm

FAULTS: Final = ("noise", "checksum", "lost-ack", "cut", "contention", "repeat")
WAIT_S_MAX: Final = 60.0  # for a transfer: four times the standard's patience with one answer
ANSWER_S_MAX: Final = 20.0  # analyzers wait 10 to 30 s for their orders
CELLS: Final = (
    ("WBC", 4.0, 11.0, "10*3/uL"), ("RBC", 3.8, 5.8, "10*6/uL"), ("HGB", 11.5, 16.5, "g/dL"), ("HCT", 35.0, 50.0, "%"),
    ("MCV", 78.0, 98.0, "fL"), ("PLT", 140.0, 420.0, "10*3/uL"),
)  # fmt: skip


class Cable:
    """What carries the bytes: a TCP connection, a serial port, or a pseudo-terminal of our own, whose other end is found by `link`."""

    def __init__(self, address: str, *, link: Path | None = None) -> None:
        self._socket: socket.socket | None = None
        self._terminal: PseudoTerminal | None = None
        if link is not None:
            self._terminal = PseudoTerminal(link)
            self._descriptor = self._terminal.ours
        elif address.startswith("/"):
            self._descriptor = os.open(address, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(self._descriptor, termios.TCSANOW)
        else:
            self._socket = socket.create_connection(parse_address(address), WAIT_S_MAX)
            self._descriptor = self._socket.fileno()

    def write(self, data: bytes) -> None:
        """Send all of it."""
        if self._socket is not None:
            self._socket.sendall(data)
            return
        while data:
            select.select([], [self._descriptor], [], WAIT_S_MAX)
            data = data[os.write(self._descriptor, data) :]

    def read(self, wait_s: float) -> bytes:
        """What comes within this time; nothing where nothing does. Raises ConnectionResetError where the other end is gone."""
        if not select.select([self._descriptor], [], [], max(0.0, wait_s))[0]:
            return b""
        data = os.read(self._descriptor, 4096) if self._socket is None else self._socket.recv(4096)
        if not data:
            raise ConnectionResetError("the other end closed")
        return data

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        elif self._terminal is not None:
            self._terminal.close()
        else:
            os.close(self._descriptor)


class Analyzer:
    """One analyzer. `counts`: what became of its transfers."""

    def __init__(
        self,
        cable: Cable,
        dice: random.Random,
        *,
        name: str = "SIM-XN",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cable, self.dice, self._name, self._now = cable, dice, name, monotonic
        self._link = Link(Switches(is_instrument=True), monotonic())
        self._fault = ""
        self._frames = 0
        self._text = b""
        self._is_answered = False
        self.counts: Counter[str] = Counter()
        self.orders: list[bytes] = []

    def transfer(self, records: tuple[bytes, ...], fault: str = "") -> str:
        """Send these records; "sent", or why not. A cut hangs up in the middle."""
        outcome = ""
        theirs = (
            self._cable.read(ANSWER_S_MAX)
            if fault == "contention" and self.transfer(self._query("NONE")) == "sent"
            else b""
        )
        self._fault, self._frames = fault, 0
        effects = self._link.handle(Send(1, records), self._now())
        if theirs:  # the host's ENQ crossed ours: it yields, and we ask again after a second
            effects += self._link.handle(Received(theirs), self._now())
        deadline = self._now() + WAIT_S_MAX
        while not outcome and self._now() < deadline:
            outcome = self._do(effects)
            effects = [] if outcome else self._wait(deadline)
        self.counts[outcome or "unanswered"] += 1
        return outcome or "unanswered"

    def ask(self, sample: str, *, wait_s: float = ANSWER_S_MAX) -> list[bytes]:
        """Query the host for a sample's orders; the records of its answer, none where it is silent."""
        self._text, self._is_answered = b"", False
        self.transfer(self._query(sample))
        deadline = self._now() + wait_s
        while not self._is_answered and self._now() < deadline:
            self._do(self._wait(deadline))
        answer = [record.raw for record in astm_records.read(self._text)]
        self.counts["answered" if answer else "no answer"] += 1
        return answer

    def _wait(self, deadline: float) -> list[Effect]:
        due = self._link.deadline
        data = self._cable.read(min(deadline if due is None else due, deadline) - self._now())
        event: Event = Received(self._heard(data)) if data else Tick()
        return self._link.handle(event, self._now())

    def _heard(self, data: bytes) -> bytes:
        """Answers, of which a fault loses one."""
        if self._fault == "lost-ack" and ACK in data and self._frames == 2:
            self._fault = ""
            return data.replace(bytes((ACK,)), b"\x00", 1) + b"?"
        return data

    def _do(self, effects: list[Effect]) -> str:
        pending, outcome = list(effects), ""
        while pending:
            match pending.pop(0):
                case Write(data):
                    self._cable.write(self._spoiled(data))
                    if self._fault == "cut" and self._frames == 2:
                        return "cut"
                case Arrived(text, _):
                    self._text += text
                    pending = [*self._link.handle(Kept(True), self._now()), *pending]
                case Ended():
                    self._is_answered = bool(self._text)
                case Sent():
                    outcome = "sent"
                case NotSent(_, why):
                    outcome = why
        return outcome

    def _spoiled(self, data: bytes) -> bytes:
        """What a bad cable makes of a frame, once."""
        if data[0] != STX:
            return data
        self._frames += 1
        if self._fault == "checksum" and self._frames == 2:
            self._fault = ""
            return data[:-4] + b"00\r\n" if data[-4:-2] != b"00" else data[:-4] + b"01\r\n"
        if self._fault == "noise" and self._frames == 2:
            self._fault = ""
            at = self.dice.randrange(2, len(data) - 5)
            return data[:at] + bytes((data[at] ^ 0x20,)) + data[at + 1 :]
        return data

    # -- what it measures ---------------------------------------------------------------------------------------------

    def _query(self, sample: str) -> tuple[bytes, ...]:
        return (
            self._header(),
            write("Q", b"1", [b"", sample.encode()], b"", b"ALL", *[b""] * 7, b"O"),
            write("L", b"1", b"N"),
        )

    def _header(self) -> bytes:
        return write_header(
            b"", b"", [self._name.encode(), b"00-01", b"TEST"], *[b""] * 6, b"P", b"LIS2-A2", self._stamp()
        )

    def _stamp(self) -> bytes:
        return time.strftime("%Y%m%d%H%M%S").encode()

    def measure(self, number: int) -> tuple[bytes, ...]:
        """The records of one blood count of an invented person."""
        men = self.dice.random() < 0.5
        given, family = self.dice.choice(ARAB.men if men else ARAB.women), self.dice.choice(ARAB.families)
        person = [family[0].encode(), given[0].encode()]
        born = b"19%02d0101" % self.dice.randrange(40, 99)
        stamp = self._stamp()
        results = [
            write("R", b"%d" % place, [b"", b"", b"", name.encode()], b"%.1f" % self.dice.uniform(low, high), unit.encode(),
                  b"%.1f to %.1f" % (low, high), b"N", b"", b"F", b"", b"", b"", stamp)
            for place, (name, low, high, unit) in enumerate(CELLS, 1)
        ]  # fmt: skip
        sample = b"TEST-%06d" % number
        tests = [[b"", b"", b"", name.encode()] for name, *_ in CELLS]
        return (
            self._header(), write("P", b"1", b"", b"TEST-%05d" % (number % 90_000), b"", person, b"", born, b"M" if men else b"F"),
            write("O", b"1", sample, b"", tests, b"R", stamp), *results, write("L", b"1", b"N"),
        )  # fmt: skip


@click.command("astm")
@click.option("--to", "address", default="", help="host:port of an ASTM feed, or the path of a serial port or pty.")
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Make a pseudo-terminal of this name, for a feed with [feeds.serial].",
)
@click.option("--each", "each_s", type=float, default=10.0, show_default=True, help="Seconds between two results.")
@click.option("--count", type=int, default=None, help="Stop after so many; without it, never.")
@click.option(
    "--query", "samples", multiple=True, help="Ask for this sample's orders first. May be given several times."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="May be given several times.")
def astm_command(
    address: str, link: Path | None, each_s: float, count: int | None, samples: tuple[str, ...], seed: int, faults: tuple[str, ...]
) -> None:  # fmt: skip
    """A haematology analyzer: blood counts of invented people, and queries for orders."""
    if bool(address) == (link is not None):
        raise click.UsageError("give one of --to and --link")
    dice, number = random.Random(seed), 0
    while count is None or number < count:
        try:
            with ended_by_sigterm(), contextlib.closing(_connected(address, link)) as cable:
                analyzer = Analyzer(cable, dice)
                for sample in samples if number == 0 else ():
                    click.echo(f"asked for {sample}: {b' / '.join(analyzer.ask(sample)).decode() or 'no answer'}")
                while count is None or number < count:
                    number += 1
                    if _measured(analyzer, number, dice.choice(faults) if faults else "") == "cut":
                        break
                    if count is None or number < count:
                        time.sleep(each_s)
        except OSError as error:
            click.echo(f"line broken: {type(error).__name__}")
            time.sleep(1)


def _measured(analyzer: Analyzer, number: int, fault: str) -> str:
    """Send one measurement, and tell what became of it."""
    records = analyzer.measure(number)
    outcome = analyzer.transfer(records, fault)
    click.echo(f"TEST-{number:06d} {outcome}{f' ({fault})' if fault else ''}")
    if outcome != "cut" and fault == "repeat":
        click.echo(f"TEST-{number:06d} {analyzer.transfer(records)} (the same again)")
    return outcome


def _connected(address: str, link: Path | None) -> Cable:
    if address.startswith("/") and not Path(address).exists():
        raise click.UsageError(f"{address} is not there")
    return Cable(address, link=link)
