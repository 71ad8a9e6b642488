"""The MQTT feed against a real mosquitto: what was acknowledged is stored, what was not comes again, and what is lost is told."""

import json
import time

import pytest

from sync.header import TOPIC
from sync.record import Kind
from tests.mqtt_rig import Broker, Device, MqttFeed, Rival, broker_at, is_joined, needs_mosquitto, told
from tests.node_rig import Node, running, wait_until

pytestmark = needs_mosquitto

WARD = '[[feeds.topics]]\nfilter = "ward/#"\ncontent_type = "application/json"\n'


@pytest.fixture
def broker(tmp_path):
    with broker_at(tmp_path / "broker") as running_broker:
        yield running_broker


@pytest.fixture
def rig(realm, tmp_path, broker):
    """A node with one MQTT feed; not yet started."""
    return Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker)])


def vitals(number: int) -> bytes:
    return json.dumps({"seq": number, "patient": "ليلى التجريبية", "spo2": 97, "hr": 60 + number % 40}, ensure_ascii=False).encode()


def joined(node: Node) -> Node:
    wait_until("a feed that is connected", lambda: is_joined(node, "ward"))
    return node


def stored(node: Node, count: int) -> list:
    wait_until(f"{count} records", lambda: node.stream("ward").size >= count)
    return node.records("ward")


def test_each_message_is_a_record_of_its_bytes_with_its_topic_and_content_type(rig, broker):
    with running(rig), Device(broker) as device:
        joined(rig)
        device.send("ward/3/bed/1", vitals(1))
        device.send("ward/3/bed/2", b"\x00\xff raw", content_type="application/cbor")
        device.send("ward/3/bed/3", b"<free text here>", content_type="X-Somebody/Says")
        found = stored(rig, 3)
    assert [seen.body for seen in found] == [vitals(1), b"\x00\xff raw", b"<free text here>"]
    assert [seen.particulars[TOPIC] for seen in found] == ["ward/3/bed/1", "ward/3/bed/2", "ward/3/bed/3"]
    assert [seen.header.content_type for seen in found] == ["application/json", "application/cbor", "application/json"]
