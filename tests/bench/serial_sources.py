"""Sixteen devices on pseudo-terminals, each at the pace of 115200 baud: half of them ASTM analyzers that wait for every ACK, half printers that wait for nothing.

    python tests/bench/serial_sources.py FOLDER ASTM PRINTERS SECONDS

Makes FOLDER/port-N, says `ready`, begins at a line on standard input, ends by itself. What was sent lies in FOLDER/sent-N: the messages of an analyzer,
each behind its length, or the bytes of a printer. The last line is JSON: bytes on each line, and how late a write ever was because the terminal was full.
"""

import json
import os
import random
import sys
import time
import tty
from functools import reduce
from operator import xor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from hl7.devices.astm_events import Effect, NotSent, Received, Send, Sent, Switches, Tick, Write
from hl7.devices.astm_link import Link

BYTES_PER_S = 11_520  # 115200 baud, 8N1: ten bits a byte
TICK_S = 0.005  # 58 bytes: what a USB adapter hands over at once (FTDI: 62 bytes of payload a packet)
READY_BYTES = 4096  # more than a tick's worth, even of one that comes a quarter of a second late
ROOM_S_MAX = 30.0  # for what is under way at the end
NAMES = ("مريم تجريبية", "سالم تجريبي", "Test Patient")
TESTS = (
    "WBC",
    "RBC",
    "HGB",
    "HCT",
    "MCV",
    "MCH",
    "MCHC",
    "PLT",
    "RDW",
    "MPV",
    "NEUT",
    "LYMPH",
    "MONO",
    "EOS",
    "BASO",
    "RET",
    "IPF",
    "NRBC",
    "IG",
    "PDW",
)


class Port:
    """The device's end of one line."""

    def __init__(self, folder: Path, number: int) -> None:
        self.dice, self.number = random.Random(number), number
        self.master, slave = os.openpty()
        tty.setraw(slave)  # stays open: what is written before the node opens its end waits
        os.set_blocking(self.master, False)
        link = folder / f"port-{number}"
        link.symlink_to(os.ttyname(slave))
        self.sent = (folder / f"sent-{number}").open("wb")
        self.out = bytearray()
        self.bytes = self.held_back_max = 0
        self._budget = 0.0

    def pace(self, passed_s: float) -> None:
        """Put on the line what its rate allows; unused time is lost, as on a wire."""
        if not self.out:
            self._budget = 0.0
            return
        self._budget = min(self._budget + passed_s * BYTES_PER_S, passed_s * BYTES_PER_S + 1)
        many = int(self._budget)
        self._budget -= many
        if not many:
            return
        try:
            written = os.write(self.master, self.out[:many])
        except BlockingIOError:
            written = 0
        self.held_back_max = max(self.held_back_max, min(many, len(self.out)) - written)
        self.bytes += written
        del self.out[:written]

    def is_done(self) -> bool:
        return not self.out


class Printer(Port):
    """Blocks with a check, or plain lines: the next one follows at once."""

    def work(self, _now: float, *, goes_on: bool) -> None:
        while goes_on and len(self.out) < READY_BYTES:
            data = self.report()
            self.out += data
            self.sent.write(data)

    def report(self) -> bytes:
        stamp = f"T{self.dice.randrange(100_000):05}"
        if self.number % 2:
            return (
                f"{stamp};{self.dice.choice(NAMES)};T1={self.dice.gauss(4.5, 1):+.2f} C;DOOR 0;BATT {self.dice.randrange(99):02}%".ljust(
                    76
                ).encode()
                + b"\r\n"
            )
        rows = "\r\n".join(f"{name:<6} {self.dice.uniform(1, 99):6.1f}" for name in TESTS)
        text = f"ID: {stamp}\r\nName: {self.dice.choice(NAMES)}\r\n{rows}".encode()
        return b"\x02" + text + b"\x03%02X" % reduce(xor, text + b"\x03", 0)


class Analyzer(Port):
    """One message after the other, each frame answered before the next."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder, number)
        self._link: Link | None = None
        self._message = b""
        self._count = 0
        self._is_under_way = False
        self.refused = 0

    def work(self, now: float, *, goes_on: bool) -> None:
        self._link = self._link or Link(Switches(is_instrument=True), now)
        try:
            heard = os.read(self.master, 4096)
        except BlockingIOError:
            heard = b""
        effects: list[Effect] = self._link.handle(Received(heard), now) if heard else []
        if (due := self._link.deadline) is not None and now >= due and not self.out:
            effects += self._link.handle(Tick(), now)
        self._do(effects)
        if goes_on and not self._is_under_way:
            records = self._records()
            self._message, self._is_under_way = b"".join(records), True
            self._do(self._link.handle(Send(1, records), now))

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Write):
                self.out += effect.data
            elif isinstance(effect, Sent):
                self.sent.write(len(self._message).to_bytes(4, "big") + self._message)
                self._is_under_way = False
            elif isinstance(effect, NotSent):
                self.refused += 1
                self._is_under_way = False

    def _records(self) -> tuple[bytes, ...]:
        self._count += 1
        name = self.dice.choice(NAMES).replace(" ", "^")
        rows = (
            f"R|{place}|^^^^{test}^1|{self.dice.uniform(1, 99):.2f}|10*3/uL|1.00 to 99.00|N||F||admin||20261123081530\r"
            for place, test in enumerate(TESTS, 1)
        )
        head = f"H|\\^&|||SIM-XN^00-01^TEST{self.number}|||||||P|LIS2-A2|20261123081500\r"
        person = f"P|1||TEST-{self.number:02}{self._count:05}||{name}||19800101|F\r"
        order = f"O|1|S{self.number:02}-{self._count:06}||^^^CBC|R\r"
        return tuple(each.encode() for each in (head, person, order, *rows, "L|1|N\r"))

    def is_done(self) -> bool:
        return not self.out and not self._is_under_way


def main() -> None:
    folder, astm, printers, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    ports: list[Analyzer | Printer] = [Analyzer(folder, number) for number in range(astm)]
    ports += [Printer(folder, astm + number) for number in range(printers)]
    print("ready", flush=True)
    sys.stdin.readline()
    began = last = time.monotonic()
    late_s_max = 0.0
    while True:
        now = time.monotonic()
        goes_on = now - began < seconds
        late_s_max = max(late_s_max, now - last)
        for port in ports:
            port.work(now, goes_on=goes_on)
            port.pace(min(now - last, 0.25))
        last = now
        if (not goes_on and all(port.is_done() for port in ports)) or now - began > seconds + ROOM_S_MAX:
            break
        time.sleep(max(0.0, TICK_S - (time.monotonic() - now)))
    for port in ports:
        port.sent.close()
    print(
        json.dumps(
            {
                "bytes": [port.bytes for port in ports], "seconds": round(last - began, 1), "held_back_bytes_max": max(port.held_back_max for port in ports),
                "late_s_max": round(late_s_max, 3), "transfers_refused": sum(port.refused for port in ports if isinstance(port, Analyzer)),
                "is_done": all(port.is_done() for port in ports),
            }
        ),
        flush=True,
    )  # fmt: skip
    sys.stdin.readline()  # the terminals stay until the node has read them


if __name__ == "__main__":
    main()
