"""A real mosquitto for each test, on a free port; a device that publishes; an MQTT feed of a node's configuration."""

import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.node_rig import Node, free_port, wait_until

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")

# docs/devices-mqtt.md says why each; `allow_anonymous` is for loopback
SETTINGS = """
per_listener_settings true
persistence true
autosave_on_changes true
autosave_interval 1
max_queued_messages 0
max_inflight_messages {inflight}
queue_qos0_messages true
persistence_location {folder}/
log_dest none
user root
listener {port} 127.0.0.1
{access}
"""


@dataclass
class Broker:
    """One mosquitto; it may be killed and started again on the same port."""

    folder: Path
    inflight: int = 50
    access: str = "allow_anonymous true"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "mosquitto.conf"
        config.write_text(
            SETTINGS.format(folder=self.folder, port=self.port, inflight=self.inflight, access=self.access)
        )
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stderr=subprocess.DEVNULL)
        wait_until("a broker that listens", self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Take away what it wrote: sessions and messages are gone."""
        for file in self.folder.glob("*.db"):
            file.unlink()


@contextmanager
def broker_at(folder: Path, **options: Any):
    """A broker for the time of the block."""
    broker = Broker(folder, **options).start()
    try:
        yield broker
    finally:
        broker.kill()


@dataclass
class MqttFeed:
    """A feed of the configuration. `listen` is what the node's rig counts: one address."""

    name: str
    broker: Broker
    lines: str = ""
    topics: str = '[[feeds.topics]]\nfilter = "ward/#"\ncontent_type = "application/json"\n'
    scheme: str = "mqtt"
    listen: tuple[str, ...] = ("127.0.0.1",)

    def text(self) -> str:
        return (
            f'[[feeds]]\nname = "{self.name}"\nkind = "mqtt"\nbroker = "{self.scheme}://127.0.0.1:{self.broker.port}"\n'
            f'client_id = "wasl-{self.name}"\n{self.lines}\n{self.topics}\n'
        )


class Device:
    """A publisher that waits for each PUBACK, as a careful gateway of monitors does."""

    def __init__(self, broker: Broker, client_id: str = "monitor-1", **options: Any) -> None:
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
        for name, value in options.items():
            getattr(self.client, name)(*value)
        self.client.connect("127.0.0.1", broker.port, 30)
        self.client.loop_start()
        wait_until("a device that is connected", self.client.is_connected)

    def send(
        self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False, content_type: str = ""
    ) -> None:
        properties = None
        if content_type:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ContentType = content_type
        self.client.publish(topic, payload, qos, retain=retain, properties=properties).wait_for_publish(20)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Rival:
    """Another client with the feed's own id, which connects again each time it was thrown out, as most do."""

    def __init__(self, broker: Broker, client_id: str) -> None:
        self.left: list[str] = []
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5)
        self.client.reconnect_delay_set(0.05, 0.05)
        self.client.on_disconnect = lambda _c, _d, _f, reason, _p: self.left.append(str(reason))
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", broker.port, 30, clean_start=False, properties=properties)
        self.client.loop_start()
        wait_until("a rival that is connected", self.client.is_connected)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def told(node: Node, feed: str) -> dict[str, Any]:
    """What the core says of a feed."""
    return node.ask("status")["feeds"][feed]


def is_joined(node: Node, feed: str) -> bool:
    """Whether what is published now is kept for the feed: a connection alone is no subscription yet."""
    return bool(told(node, feed)["broker"]["subscribed"])
