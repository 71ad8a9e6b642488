"""How a broker is spoken to: paho's client as we need it, its TLS, its subscriptions, and what its refusals mean."""

import ssl
from pathlib import Path

from paho.mqtt import properties as paho_properties
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from hl7.devices.topics import widest
from node.config.mqtt import Mqtt
from node.feeds.telemetry_errors import BrokerError, BrokerRefused, BrokerTls, CredentialsUnreadable

PASSWORD_BYTES_MAX = 4096
# MQTT 5.0, 4.8.2 and 3.8.3.1: retained messages come with a new subscription only (1), not again after each lost connection; or never (2).
RETAINED = {"marked": SubscribeOptions.RETAIN_SEND_IF_NEW_SUB, "ignored": SubscribeOptions.RETAIN_DO_NOT_SEND}


def _text_of_property(buffer: bytes, octets_max: int) -> tuple[str, int]:
    """A text of a packet's properties, whatever signs are in it, and how many bytes it took. Raises MalformedPacket where they do not hold it."""
    size = 2 + int.from_bytes(buffer[:2], "big")
    if octets_max < 2 or size > octets_max:
        raise MalformedPacket("a text is longer than the properties")
    return bytes(buffer[2:size]).decode("utf-8", "replace"), size


# paho's own refuses U+FEFF, which MQTT 5.0 allows (1.5.4.3), and ends the connection: the broker sends the same message again, and nothing behind it
paho_properties.readUTF = _text_of_property


def make_client(feed: Mqtt) -> Client:
    """A client for one connection; the next has its own, so that nothing of an old one can be acknowledged. Raises BrokerError."""
    # paho's defaults are the callbacks of its first version and MQTT 3.1.1
    client = Client(CallbackAPIVersion.VERSION2, client_id=feed.client_id, protocol=MQTTv5, manual_ack=True)
    client.connect_timeout = float(feed.connect_s_max)
    if feed.user:
        client.username_pw_set(feed.user, _password(feed.password) if feed.password else None)
    if feed.is_secure:
        client.tls_set_context(_context(feed))
    return client


def connect(client: Client, feed: Mqtt) -> None:
    """Open the connection and send CONNECT. Raises BrokerError."""
    wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    wanted.SessionExpiryInterval = feed.session_s  # without it the session ends with the connection
    # The broker waits at so many: the disk's pace is the devices' pace. Two at least: the newest that is stored is held (mqtt_slots).
    wanted.ReceiveMaximum = max(2, feed.receive_max)
    wanted.MaximumPacketSize = feed.packet_bytes_max
    try:
        # clean_start False also the first time: mosquitto 2.0.11 forgets over its own restart a session that began with True
        client.connect(feed.host, feed.port, keepalive=feed.keepalive_s, clean_start=False, properties=wanted)
    except ssl.SSLError as error:
        raise BrokerTls(error.reason or type(error).__name__) from error
    except OSError as error:
        raise BrokerError(error.strerror or type(error).__name__) from error


def subscribe(client: Client, feed: Mqtt, before: tuple[str, ...]) -> None:
    """Ask for the topics and the heartbeat; take back what the session has from an earlier configuration."""
    # QoS 1: with 2 paho confirms before the message is ours, and a crash then loses it
    once = SubscribeOptions(qos=1, retainHandling=RETAINED[feed.retained])
    wanted = dict.fromkeys(widest(topic.filter for topic in feed.topics), once)
    if feed.heartbeat_s:
        wanted[feed.own_topic] = SubscribeOptions(qos=0, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
    client.subscribe(list(wanted.items()))
    if old := [each for each in before if each not in wanted]:
        client.unsubscribe(old)  # afterwards: what comes in between comes twice, not never


def refusal_of(reason: ReasonCode) -> BrokerRefused:
    """The error of a CONNACK that says no."""
    return BrokerRefused(str(reason))


def _password(file: Path) -> str:
    """Read anew for each connection: a password that was changed needs no restart."""
    try:
        with file.open("rb") as opened:
            password = opened.read(PASSWORD_BYTES_MAX).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsUnreadable(str(file)) from error
    if not password:
        raise CredentialsUnreadable(f"{file} is empty")
    return password


def _context(feed: Mqtt) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=feed.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if feed.certificate and feed.key:
            context.load_cert_chain(feed.certificate, feed.key)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsUnreadable(f"{feed.ca}, {feed.certificate}, {feed.key}: {type(error).__name__}") from error
    return context
