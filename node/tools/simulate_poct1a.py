"""A point-of-care device that connects to its data manager: says hello, tells what waits in it, sends it, deletes what is acknowledged."""

import random
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import click

from node.tools.mllp_client import parse_address

FAULTS: Final = ("cut", "no-ack", "repeat", "doctype")
ANSWER_S_MAX: Final = 30.0
ANALYTES: Final = (
    ("2339-0", "Glu", "mmol/L", 3.1, 22.0),
    ("718-7", "Hb", "g/L", 70.0, 180.0),
    ("1988-5", "CRP", "mg/L", 0.5, 160.0),
)
PEOPLE: Final = ("سلمى تجريبية", "خالد تجريبي", "Test Patient")
_ACK: Final = re.compile(rb'<ACK\.type_cd V="(A[AER])"\s*/>.*?<ACK\.ack_control_id V="([^"]*)"', re.DOTALL)
_END: Final = re.compile(rb"</([A-Z]{3}\.[A-Z0-9_.]+)>")


@dataclass
class Device:
    """One device; `results` wait in it until they are acknowledged."""

    serial: str
    dice: random.Random
    results: list[bytes] = field(default_factory=list)
    control_id: int = 10_000
    sent: int = 0
    _read: bytes = b""

    def measure(self, count: int) -> None:
        """Have so many more results."""
        for _ in range(count):
            self.sent += 1
            self.results.append(self._observation(self.sent))

    def document(self, kind: str, body: str = "") -> tuple[str, bytes]:
        """A document and its control id."""
        self.control_id += 1
        header = f'<HDR><HDR.control_id V="{self.control_id}"/><HDR.version_id V="POCT1"/><HDR.creation_dttm V="{_now()}"/></HDR>'
        return str(self.control_id), f'<?xml version="1.0" encoding="UTF-8"?><{kind}>{header}{body}</{kind}>'.encode()

    def _observation(self, number: int) -> bytes:
        loinc, name, unit, low, high = self.dice.choice(ANALYTES)
        if number % 10 == 0:
            service = '<SVC.role_cd V="LQC"/><SVC.observation_dttm V="{at}"/>'
            subject = '<CTC><CTC.name V="Level 2"/><CTC.lot_number V="TEST-LOT"/>'
        else:
            service = '<SVC.role_cd V="OBS"/><SVC.observation_dttm V="{at}"/>'
            subject = f'<PT><PT.patient_id V="TEST-{number:06d}"/><PT.name V="{self.dice.choice(PEOPLE)}"/>'
        value = f"{self.dice.uniform(low, high):.1f}"
        observation = f'<OBS><OBS.observation_id V="{loinc}" SN="LN" DN="{name}"/><OBS.value V="{value}" U="{unit}"/><OBS.method_cd V="M"/></OBS>'
        closing = "</CTC>" if number % 10 == 0 else "</PT>"
        return f"<SVC>{service.format(at=_now())}{subject}{observation}{closing}</SVC>".encode()

    def talk(self, peer: socket.socket, fault: str = "") -> int:
        """One conversation in basic mode; how many results were acknowledged. OSError where it breaks."""
        peer.settimeout(ANSWER_S_MAX)
        self._say(
            peer,
            "HEL.R01",
            f'<DEV><DEV.device_id V="{self.serial}"/><DEV.vendor_id V="WASL"/><DEV.model_id V="SIM-1"/></DEV>',
        )
        counts = f'<DST.new_observations_qty V="{len(self.results)}"/><DST.new_events_qty V="0"/>'
        self._say(peer, "DST.R01", f'<DST><DST.status_dttm V="{_now()}"/>{counts}<DST.condition_cd V="R"/></DST>')
        if self.results:
            self._until(peer, b"REQ.R01")
        done = 0
        while self.results:
            kind = "OBS.R02" if b"<CTC>" in self.results[0] else "OBS.R01"
            self._say(peer, kind, self.results[0].decode(), fault=fault if self.dice.random() < 0.3 else "")
            self.results.pop(0)  # acknowledged: a real device deletes it here
            done += 1
        if done:
            peer.sendall(self.document("EOT.R01", '<EOT><EOT.topic_cd V="OBS"/></EOT>')[1])
        self._until(peer, b"END.R01")
        return done

    def _say(self, peer: socket.socket, kind: str, body: str, *, fault: str = "") -> None:
        control_id, document = self.document(kind, body)
        if fault == "cut":
            peer.sendall(document[: len(document) // 2])
            raise ConnectionAbortedError("cut off inside a document, as asked")
        if fault == "doctype":
            peer.sendall(b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + document)
        else:
            peer.sendall(document)
        if fault == "no-ack":
            raise ConnectionAbortedError("left before the acknowledgement, as asked")
        if fault == "repeat":
            peer.sendall(document)
        for _ in range(2 if fault == "repeat" else 1):
            code, theirs = self._acknowledgement(peer)
            if code != "AA" or theirs != control_id:
                raise ConnectionAbortedError(f"{code} for {control_id}")

    def _acknowledgement(self, peer: socket.socket) -> tuple[str, str]:
        found = _ACK.search(self._until(peer, b"ACK.R01"))
        if found is None:
            raise ConnectionAbortedError("an acknowledgement without its parts")
        return found[1].decode(), found[2].decode()

    def _until(self, peer: socket.socket, kind: bytes) -> bytes:
        """Read on to a document of this type."""
        for document in self._documents(peer):
            if document.endswith(b"</" + kind + b">"):
                return document
        raise ConnectionAbortedError("closed")

    def _documents(self, peer: socket.socket) -> Iterator[bytes]:
        while True:
            while (end := _END.search(self._read)) is not None:
                document, self._read = self._read[: end.end()], self._read[end.end() :]
                yield document
            data = peer.recv(65536)
            if not data:
                return
            self._read += data

    def connect(self, host: str, port: int, fault: str = "") -> int:
        """Connect and talk; how many results were acknowledged. OSError where it breaks."""
        self._read = b""
        with socket.create_connection((host, port), ANSWER_S_MAX) as peer:
            return self.talk(peer, fault)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@click.command("poct1a")
@click.option("--to", "address", required=True, help="host:port of a POCT1-A feed.")
@click.option(
    "--each", "each_s", type=float, default=10.0, show_default=True, help="Seconds between two conversations."
)
@click.option("--results", type=int, default=3, show_default=True, help="Measured between two conversations.")
@click.option("--count", type=int, default=None, help="Stop after so many conversations; without it, never.")
@click.option("--serial", default="SIM-0001", show_default=True, help="By what the device names itself.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="May be given several times.")
def poct1a_command(
    address: str, each_s: float, results: int, count: int | None, serial: str, seed: int, faults: tuple[str, ...]
) -> None:  # fmt: skip
    """A point-of-care device: glucose, haemoglobin, CRP, and a control now and then."""
    host, port = parse_address(address)
    device, number = Device(serial, random.Random(seed)), 0
    while count is None or number < count:
        device.measure(results)
        fault = device.dice.choice(faults) if faults else ""
        try:
            click.echo(f"acknowledged {device.connect(host, port, fault)}, waiting {len(device.results)}")
        except OSError as error:
            click.echo(f"broken ({error}), waiting {len(device.results)}")
        number += 1
        if count is None or number < count:
            time.sleep(each_s)
