"""Telemetry by way of a broker: what the broker has, the node must have at the end."""

import json
from typing import Any

from tests.kill_rig import Peer, Row, Source
from tests.mqtt_rig import Broker, Device, MqttFeed

AHEAD_MAX = 2000  # messages that a broker has and that were not compared yet
TOPICS = "".join(
    f'[[feeds.topics]]\nfilter = "ward/{name}"\ncontent_type = "application/json"\n{identity}'
    for name, identity in (("0", 'identity = ["seq"]\n'), ("1", ""))
)


class Publisher(Peer):
    """A device: each reading is sent once and waited for until the broker has it. One counts its readings; the other's are often equal in every byte."""

    def __init__(self, number: int, seed: str, broker: Broker) -> None:
        super().__init__(number, seed)
        self._device = Device(broker, f"monitor-{number}")

    def turn(self) -> None:
        if not self.is_behind:  # else it has been killed more than it ran
            super().turn()

    @property
    def is_behind(self) -> bool:
        return len(self._mine) >= AHEAD_MAX

    def make(self, number: int) -> bytes:
        value = self.dice.choice((97, 97, 98))
        return json.dumps({"name": "مريم", "spo2": value} if self.number else {"seq": number, "spo2": value}).encode()

    def hand_over(self, data: bytes) -> bool:
        self._device.send(f"ward/{self.number}", data)
        return True

    def close(self) -> None:
        self._device.close()


class Mqtt(Source):
    """The broker has what was sent at once and gives it to the node, so nothing shows what is under way; it always has something to give."""

    name = "mqtt"

    def __init__(self, seed: str, broker: Broker) -> None:
        feed: Any = MqttFeed(self.name, broker, lines="receive_max = 20", topics=TOPICS)
        super().__init__(feed, [Publisher(n, seed, broker) for n in range(2)])

    @property
    def is_behind(self) -> bool:
        return any(peer.is_behind for peer in self.peers)

    def whose(self, row: Row) -> int:
        return int(b'"seq"' not in row.body)
