"""Bedside monitors that publish vital signs over MQTT, with invented patients, and with the faults that gateways of monitors have."""

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import click
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from node.tools.hospital_names import ARAB

FAULTS: Final = ("repeat", "silent", "garbage", "skip", "stuck-clock", "qos0", "retained")
FAULTY_PART: Final = 0.2  # of the messages, where faults are asked for
CONNECT_S: Final = 10.0
SILENT_TURNS: Final = 20  # a monitor whose cable is out says nothing for so many turns
PUBACK_S: Final = 30.0


@dataclass(slots=True)
class Monitor:
    """One bedside monitor: what it measures wanders about where it began."""

    bed: int
    dice: random.Random
    seq: int = 0
    silent: int = 0
    patient: dict[str, str] = field(default_factory=dict)
    vitals: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first, family = self.dice.choice(ARAB.women), self.dice.choice(ARAB.families)
        self.patient = {"id": f"TEST-{9000 + self.bed}", "name": f"{first[0]} {family[0]}"}
        self.vitals = {"hr": 78, "spo2": 97, "rr": 16, "sys": 124, "dia": 78, "map": 93, "temp": 36.8}

    @property
    def topic(self) -> str:
        """Where it publishes."""
        return f"ward/3/bed/{self.bed}/vitals"

    def reading(self, *, ts_ms: int) -> bytes:
        """Its next payload (docs/devices-mqtt.md)."""
        self.seq += 1
        for name, step in (("hr", 2), ("spo2", 1), ("rr", 1), ("sys", 2), ("dia", 2), ("map", 2), ("temp", 0.1)):
            self.vitals[name] = round(self.vitals[name] + self.dice.choice((-step, 0, 0, step)), 1)
        self.vitals["spo2"] = min(100, self.vitals["spo2"])
        document = {
            "device": f"mon-{self.bed}",
            "seq": self.seq,
            "ts": ts_ms,
            "patient": self.patient,
            "vitals": self.vitals,
        }
        return json.dumps(document, ensure_ascii=False).encode()


def publish(client: Client, monitor: Monitor, *, fault: str, wait: bool) -> str:
    """One turn of one monitor; what it did."""
    if monitor.silent or fault == "silent":
        monitor.silent = (monitor.silent or SILENT_TURNS) - 1
        return "silent"
    if fault == "skip":
        monitor.seq += 7
    payload = monitor.reading(ts_ms=0 if fault == "stuck-clock" else time.time_ns() // 1_000_000)
    if fault == "garbage":
        payload = payload[: len(payload) // 2]
    kind = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    kind.ContentType = "application/json"
    for _ in range(2 if fault == "repeat" else 1):
        sent = client.publish(
            monitor.topic, payload, 0 if fault == "qos0" else 1, retain=fault == "retained", properties=kind
        )
        if wait:
            sent.wait_for_publish(PUBACK_S)
    return fault or "sent"


def connected(address: str, *, user: str, password: str, ca: str, client_id: str) -> Client:
    """A publisher whose network loop runs."""
    url = urlsplit(address)
    if url.scheme not in {"mqtt", "mqtts"} or not url.hostname:
        raise click.UsageError('--to must be "mqtt://host:port" or "mqtts://host:port"')
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
    if user:
        client.username_pw_set(user, password or None)
    if url.scheme == "mqtts":
        client.tls_set(ca or None)
    client.connect(url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883))
    client.loop_start()
    deadline = time.monotonic() + CONNECT_S
    while not client.is_connected():
        if time.monotonic() > deadline:
            raise click.ClickException(f"{address}: connected, but the broker does not let us in")
        time.sleep(0.05)
    return client


@click.command("mqtt")
@click.option("--to", "address", required=True, help="mqtt://host:port of the broker.")
@click.option("--beds", type=click.IntRange(1, 1000), default=4, show_default=True)
@click.option(
    "--each", "each_s", type=float, default=1.0, show_default=True, help="Seconds between two readings of a bed."
)
@click.option("--count", type=int, default=None, help="Readings of each bed; without it, for ever.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(FAULTS),
    multiple=True,
    help="May be given several times; one reading in five has one of them.",
)
@click.option("--user", default="")
@click.option("--password", default="", help="Of a simulator; a feed reads its own from a file.")
@click.option("--ca", default="", help="The authority's certificate, for mqtts.")
@click.option(
    "--client-id",
    default="wasl-simulator",
    show_default=True,
    help="A feed's own id here shows what two clients of one id do.",
)
def mqtt_command(
    address: str, beds: int, each_s: float, count: int | None, seed: int, faults: tuple[str, ...], **access: Any
) -> None:
    """Bedside monitors that publish vital signs."""
    dice, did = random.Random(seed), dict.fromkeys(("sent", *FAULTS), 0)
    monitors = [Monitor(bed, random.Random(f"{seed}-{bed}")) for bed in range(1, beds + 1)]
    client = connected(address, **access)
    turn, start = 0, time.monotonic()
    try:
        while count is None or turn < count:
            for at, monitor in enumerate(monitors):
                fault = dice.choice(faults) if faults and dice.random() < FAULTY_PART else ""
                did[publish(client, monitor, fault=fault, wait=at == beds - 1)] += 1
            turn += 1
            time.sleep(max(0.0, start + turn * each_s - time.monotonic()))
    finally:
        client.disconnect()
        client.loop_stop()
        click.echo(", ".join(f"{name} {number}" for name, number in did.items() if number))
