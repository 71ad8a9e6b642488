"""The MQTT feed against a real mosquitto: what was acknowledged is stored, what was not comes again, and what is lost is told."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest

from node.devices.profiles import text_of
from sync.header import PROFILE, TOPIC
from sync.record import Kind
from tests.mqtt_rig import Device, MqttFeed, Rival, broker_at, is_joined, needs_mosquitto, told
from tests.node_rig import EAGER, Node, running, wait_until

pytestmark = needs_mosquitto

WARD = '[[feeds.topics]]\nfilter = "ward/#"\ncontent_type = "application/json"\n'


# mosquitto lets as many be under way as an MQTT 5 client says, and ours says two at least; others let one
ONE_AT_A_TIME = "import node.feeds.mqtt_broker as b\nb.max = lambda *_: 1\n"


@pytest.fixture
def broker(tmp_path):
    with broker_at(tmp_path / "broker") as running_broker:
        yield running_broker


@pytest.fixture
def rig(realm, tmp_path, broker):
    """A node with one MQTT feed; not yet started."""
    return Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker)])


def vitals(number: int) -> bytes:
    return json.dumps(
        {"seq": number, "patient": "ليلى التجريبية", "spo2": 97, "hr": 60 + number % 40}, ensure_ascii=False
    ).encode()


def joined(node: Node) -> Node:
    wait_until("a feed that is connected", lambda: is_joined(node, "ward"))
    return node


def full_while(flag: Path) -> str:
    """For the node: there is no room as long as this file is there."""
    return (
        "\nimport node.room as r, pathlib\nold = r.Room.before\nclass Full:\n    refuses = frozenset({'routine'})\n"
        f"r.Room.before = lambda self, *a: Full if pathlib.Path({str(flag)!r}).exists() else old(self, *a)\n"
    )


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


@pytest.mark.parametrize("said", ["\ufeffapplication/json", "text\ufeff"])
def test_a_byte_order_mark_in_what_a_device_says_of_its_message_does_not_hold_up_the_feed(rig, broker, said):
    with running(rig), Device(broker) as device:
        joined(rig)
        device.send("ward/3/bed/1", vitals(1), content_type=said)
        device.send("ward/3/bed/1", vitals(2))
        found = stored(rig, 2)
        assert told(rig, "ward")["broker"]["joined"] == 1
    assert [(seen.body, seen.header.content_type) for seen in found] == [
        (vitals(1), "application/json"),
        (vitals(2), "application/json"),
    ]


def test_a_topic_that_no_rule_names_is_refused_and_recorded_and_does_not_hold_up_the_others(realm, tmp_path, broker):
    # the session still has the subscription of an earlier configuration until it is taken back
    wide = MqttFeed("ward", broker, topics='[[feeds.topics]]\nfilter = "#"\n')
    with running(Node(realm, tmp_path / "node", feeds=[wide])) as node:
        joined(node)
        node.stop()
    with Device(broker) as device:
        device.send("kitchen/fridge", b"4.2")
        device.send("ward/1", vitals(1))
    with running(Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker)])) as node:
        found = stored(node, 2)
        joined(node)
        with Device(broker) as device:
            device.send("kitchen/fridge", b"4.3")  # no longer subscribed: nothing of it comes
            device.send("ward/1", vitals(2))
        assert [seen.body for seen in stored(node, 3)] == [b"4.2", vitals(1), vitals(2)]
    assert (found[0].refusal, found[0].header.verdict.word, found[1].refusal) == ("MQT-01", "rejected", "")


def test_rules_send_topics_to_streams_in_their_order(realm, tmp_path, broker):
    topics = '[[feeds.topics]]\nfilter = "ward/+/alarm"\nstream = "alarms"\n' + WARD
    with (
        running(Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker, topics=topics)])) as node,
        Device(broker) as device,
    ):
        joined(node)
        device.send("ward/1/alarm", b"asystole")
        device.send("ward/1/vitals", vitals(1))
        stored(node, 1)
        wait_until("the alarm", lambda: node.stream("alarms").size)
        assert (node.bodies("alarms"), node.bodies("ward")) == ([b"asystole"], [vitals(1)])


def test_a_retained_message_is_marked_as_old_state(rig, broker):
    with Device(broker) as device:
        device.send("ward/1/state", b'{"fridge": 4.1}', retain=True)
        with running(rig):
            joined(rig)
            stored(rig, 1)
            device.send("ward/1/state", b'{"fridge": 4.2}', retain=True)
            assert [seen.header.message_type for seen in stored(rig, 2)] == ["retained", ""]


def test_two_readings_of_equal_bytes_are_two_records_and_a_repeat_by_the_devices_own_number_is_one(
    realm, tmp_path, broker
):
    topics = '[[feeds.topics]]\nfilter = "ward/counted"\nidentity = ["seq"]\n' + WARD
    with (
        running(Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker, topics=topics)])) as node,
        Device(broker) as device,
    ):
        joined(node)
        for topic, payload in (("ward/plain", b"97"), ("ward/plain", b"97"), ("ward/counted", vitals(1)), ("ward/counted", vitals(1)), ("ward/counted", vitals(2))):  # fmt: skip
            device.send(topic, payload)
        assert [seen.body for seen in stored(node, 4)] == [b"97", b"97", vitals(1), vitals(2)]


def test_a_profile_says_content_type_and_identity_and_each_record_says_which_it_was(realm, tmp_path, broker):
    folder = tmp_path / "profiles"
    folder.mkdir()
    own = text_of("vitals-mqtt").replace('identity = "device seq ts"', 'identity = "seq"')
    (folder / "ours.toml").write_text(own)
    topics = '[[feeds.topics]]\nfilter = "ward/#"\n[[feeds.topics]]\nfilter = "lab/#"\nprofile = "ours"\ncontent_type = "text/plain"\nidentity = ["hr"]\n'
    feed = MqttFeed("ward", broker, lines='profile = "ours"', topics=f'{topics}[devices]\nprofiles = "{folder}"\n')
    with running(Node(realm, tmp_path / "node", feeds=[feed])) as node, Device(broker) as device:
        joined(node)
        for topic in ("ward/1", "ward/1", "lab/1"):
            device.send(topic, vitals(1))
        found = stored(node, 2)
        wait_until("a repeat", lambda: told(node, "ward")["repeated"])
    assert [seen.header.content_type for seen in found] == ["application/json", "text/plain"]
    assert [seen.particulars[PROFILE] for seen in found] == [["ours", hashlib.sha256(own.encode()).digest()[:8]]] * 2


@pytest.mark.parametrize("where", ["between receive and commit", "between commit and PUBACK"])
def test_a_kill_loses_nothing_and_doubles_nothing(rig, broker, where):
    """The first process dies by SIGKILL from within, at just that place, with several messages under way."""
    if where == "between receive and commit":
        kill = "import node.feeds.mqtt as m, os, signal\nm.MqttFeed._take = lambda self, arrival: os.kill(os.getpid(), signal.SIGKILL)"
    else:
        kill = (
            "import node.feeds.mqtt_link as l, os, signal\nbefore = l.MqttLink.settle\n"
            "def settle(self, connection, number, fate):\n    if number >= 3: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    before(self, connection, number, fate)\nl.MqttLink.settle = settle"
        )
    sent = [b"98", b"97", *map(vitals, range(6)), b"97"]
    with running(rig, before=kill), Device(broker) as device:
        joined(rig)
        for payload in sent:
            device.send("ward/1", payload)
        rig.ended()
        rig.start()
        joined(rig)
        assert [seen.body for seen in stored(rig, len(sent))] == sent
        assert told(rig, "ward")["broker"]["session"] == "resumed"
        if where == "between commit and PUBACK":
            wait_until("a repeat that was known", lambda: told(rig, "ward")["repeated"])


def test_a_message_that_finds_no_room_is_not_acknowledged_and_comes_again_when_there_is_room(rig, broker):
    flag = rig.folder / "full"
    with running(rig, before=EAGER + full_while(flag)), Device(broker) as device:
        joined(rig)
        device.send("ward/1", b"97")
        stored(rig, 1)
        flag.touch()
        for payload in (b"96", b"95", b"96"):
            device.send("ward/1", payload)
        wait_until("refusals", lambda: told(rig, "ward")["refused"] >= 6)  # sent again, over a new connection
        assert rig.stream("ward").size == 1
        flag.unlink()
        assert [seen.body for seen in stored(rig, 4)] == [b"97", b"96", b"95", b"96"]


def test_the_loss_of_messages_of_qos_0_is_a_gap_that_ends_when_they_are_stored_again(rig, broker):
    flag = rig.folder / "full"
    soon = "import node.feeds.mqtt as m\nm.LOOK_S, m.LOST_OVER_S = 0.1, 0.2\n"
    with running(rig, before=soon + full_while(flag)), Device(broker) as device:
        joined(rig)
        flag.touch()
        device.send("ward/1", b"96", qos=0)
        wait_until("the alarm", lambda: ("MQT-18", "ward") in rig.alarms())
        flag.unlink()
        device.send("ward/1", b"97", qos=0)
        wait_until("no alarm", lambda: ("MQT-18", "ward") not in rig.alarms())
        assert told(rig, "ward")["gap"]["until"]
    told_of = [json.loads(seen.body) for seen in rig.records("ward") if seen.header.kind is Kind.GAP]
    assert [(gap["subject"], gap["count"]) for gap in told_of] == [("qos-0", 1)]


def test_messages_of_qos_0_do_not_keep_a_held_one_of_qos_1_from_its_release(realm, tmp_path, broker):
    """The broker has one message of QoS 1 under way at a time, and one of QoS 0 goes by while that one is held."""
    # what comes with QoS 0 is answered before the held one is asked about: without this the order would be the machine's
    behind = (
        "import node.feeds.mqtt_slots as m\nold = m.Slots.wanted\n"
        "def wanted(self, now):\n    return old(self, now) if seen else None\n"
        "m.Slots.wanted = wanted\nseen = []\n"
        "import node.feeds.mqtt_link as l\nsettle = l.MqttLink.settle\n"
        "def settled(self, connection, number, fate):\n    seen.extend([0] * (number < 0))\n    settle(self, connection, number, fate)\n"
        "l.MqttLink.settle = settled\n"
    )
    node = Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker)])
    with running(node, before=ONE_AT_A_TIME + behind), Device(broker) as device:
        joined(node)
        for payload, qos in ((b"held", 1), (b"wave", 0), (b"next", 1), (b"last", 1)):
            device.send("ward/1", payload, qos)
        assert sorted(seen.body for seen in stored(node, 4)) == [b"held", b"last", b"next", b"wave"]


def test_a_held_message_is_released_while_messages_of_qos_0_always_wait_for_the_disk(realm, tmp_path, broker):
    waits = (
        "import node.feeds.mqtt_link as l\nl.MqttLink.waiting = property(lambda self: 1)\n"  # as under a steady flow
    )
    node = Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker)])
    with running(node, before=ONE_AT_A_TIME + waits), Device(broker) as device:
        joined(node)
        for number in range(3):
            device.send("ward/1", vitals(number))
        assert [seen.body for seen in stored(node, 3)] == [vitals(number) for number in range(3)]


def test_the_broker_waits_at_receive_max_messages_that_are_not_acknowledged(realm, tmp_path, broker):
    stuck = "import node.feeds.mqtt as m\nm.MqttFeed._settle = lambda self, arrival, fate: None"
    node = Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker, lines="receive_max = 5")])
    sent = [vitals(number) for number in range(12)]
    with running(node, before=stuck), Device(broker) as device:
        joined(node)
        for payload in sent:
            device.send("ward/1", payload)
        stored(node, 5)
        node.kill()
        assert node.bodies("ward") == sent[:5]
        node.start()
        assert [seen.body for seen in stored(node, 12)] == sent


def test_a_killed_broker_is_found_again_and_what_it_kept_comes(rig, broker):
    with running(rig, before=EAGER):
        joined(rig)
        with Device(broker) as device:
            device.send("ward/1", vitals(1))
            stored(rig, 1)
        rig.stop()
        with Device(broker) as device:
            device.send("ward/1", vitals(2))
        time.sleep(1.5)  # longer than mosquitto's autosave_interval: its promise ends there
        broker.kill()
        rig.start(before=EAGER)
        wait_until("the alarm", lambda: ("MQT-10", "ward") in rig.alarms())
        broker.start()
        assert [seen.body for seen in stored(rig, 2)] == [vitals(1), vitals(2)]
        assert told(rig, "ward")["broker"]["session"] == "resumed"
        assert ("MQT-10", "ward") not in rig.alarms()


# the note that a held message may be acknowledged takes from before the feed is told to stop until after that
NOTED_LATE = """
import pathlib, threading, time, node.feeds.mqtt as m
kept, stop, stopping = m._keep_fact, m.MqttFeed.stop, threading.Event()
async def stopped(self):
    stopping.set()
    await stop(self)
m.MqttFeed.stop = stopped
def slowly(outbox, name, value):
    if name.endswith('released'):
        pathlib.Path({begun!r}).touch()
        stopping.wait(40)
        time.sleep(0.5)  # a slow disk: the link would have ended meanwhile
    kept(outbox, name, value)
m._keep_fact = slowly
"""


def test_a_message_that_may_be_acknowledged_is_before_the_end_and_does_not_come_again(rig, broker, tmp_path):
    begun = tmp_path / "begun"
    with running(rig, before=f"{EAGER}\n{NOTED_LATE.format(begun=str(begun))}"), Device(broker) as device:
        joined(rig)
        device.send("ward/1", vitals(1))
        stored(rig, 1)
        wait_until("a note that is being written", begun.exists)
        rig.stop()
        rig.start(before=EAGER)
        joined(rig)
        device.send("ward/1", vitals(2))
        assert [(seen.body, seen.refusal) for seen in stored(rig, 2)] == [(vitals(1), ""), (vitals(2), "")]


def test_a_session_that_the_broker_has_lost_is_a_gap_record_and_no_sign_of_life(rig, broker):
    with running(rig):
        joined(rig)
        rig.stop()
        broker.kill()
        broker.forget()
        broker.start()
        rig.start()
        (gap,) = stored(rig, 1)
        wait_until("the alarm", lambda: ("MQT-14", "ward") in rig.alarms())
        status = told(rig, "ward")
    body = json.loads(gap.body)
    assert (gap.header.kind, gap.refusal, body["subject"], body["codes"]) == (
        Kind.GAP,
        "MQT-14",
        "session",
        {"MQT-14": 1},
    )
    assert body["first_us"] < body["last_us"] <= gap.header.received_us
    assert (status["broker"]["session"], status["gap"]["code"], status["last_seen_us"]) == ("lost", "MQT-14", 0)


def test_two_clients_of_one_id_end_in_an_alarm_and_not_in_a_fight(rig, broker):
    with running(rig, before=EAGER):
        joined(rig)
        rival = Rival(broker, "wasl-ward")
        try:
            wait_until("the alarm", lambda: ("MQT-15", "ward") in rig.alarms())
            thrown_out = len(rival.left)
            time.sleep(1)  # a client that fights is back within a tenth of that
            assert len(rival.left) == thrown_out
            assert not is_joined(rig, "ward")
        finally:
            rival.close()


def test_a_connection_is_not_said_to_be_subscribed_before_the_broker_granted_it(rig, broker):
    """What a device publishes in between is kept for nobody, so a technician must not be told to begin."""
    with running(rig, before="import node.feeds.mqtt_link as l\nl.subscribe = lambda *_: None\n"):
        wait_until("a connection", lambda: told(rig, "ward")["broker"]["connected"])
        assert not told(rig, "ward")["broker"]["subscribed"]
    with running(rig):
        joined(rig)


def test_a_topic_that_the_broker_does_not_grant_is_an_alarm(realm, tmp_path):
    """Its access list lets us read the topics, and not write the heartbeat's."""
    access = tmp_path / "access"
    access.write_text("topic read #\n")
    with (
        broker_at(tmp_path / "broker", access=f"allow_anonymous true\nacl_file {access}") as broker,
        running(Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker, lines="heartbeat_s = 1")])) as node,
    ):
        wait_until("the alarm", lambda: ("MQT-17", "ward") in node.alarms())


def test_a_heartbeat_that_does_not_come_back_ends_the_connection(realm, tmp_path, broker):
    """The subscription is taken away behind the node's back: connected, and deaf."""
    deaf = (
        "import node.feeds.mqtt_link as l, sync.pace as p\np.WAIT_S_MIN = p.WAIT_S_MAX = 0.05\nl.HEARTBEATS_MISSED_MAX = 1\nl.TURN_S = 0.1\n"
        "old = l.MqttLink._on_subscribe\n"
        "l.MqttLink._on_subscribe = lambda self, reasons: old(self, reasons)\n"
        "sub = l.subscribe\nl.subscribe = lambda client, feed, before: (sub(client, feed, before), client.unsubscribe(feed.own_topic))\n"
    )
    node = Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", broker, lines="heartbeat_s = 1")])
    with running(node, before=deaf):
        wait_until("the alarm", lambda: ("MQT-16", "ward") in node.alarms())
        wait_until("another connection", lambda: told(node, "ward")["broker"]["joined"] >= 2)
    with running(node):
        joined(node)
        wait_until("no alarm", lambda: ("MQT-16", "ward") not in node.alarms())


def test_a_thread_that_dies_ends_the_process(rig, broker):
    broken = (
        "import node.feeds.mqtt_link as l\ndef boom(*a): raise ValueError('planted')\nl.MqttLink._on_message = boom"
    )
    rig.feeds[0].lines = "heartbeat_s = 0"
    with running(rig, before=broken), Device(broker) as device:
        joined(rig)
        device.send("ward/1", vitals(1))
        assert rig.ended() == 70
        rig.start()
        assert [seen.body for seen in stored(rig, 1)] == [vitals(1)]


def test_over_tls_with_a_certificate_and_a_password_and_not_with_a_wrong_one(realm, tmp_path):
    keys, password = realm.node("clinic-7"), tmp_path / "password"
    server, users = realm.folder / "gateway", tmp_path / "users"
    users.write_text("wasl:s3cret-test\n")
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True)
    access = (
        f"cafile {realm.folder}/ca/ca.pem\ncertfile {server}/server.pem\nkeyfile {server}/server.key\nrequire_certificate true\n"
        f"allow_anonymous false\npassword_file {users}"
    )
    lines = (
        f'user = "wasl"\npassword = "{password}"\nca = "{realm.folder}/ca/ca.pem"\n'
        f'certificate = "{keys}/link.pem"\nkey = "{keys}/link.key"\n'
    )
    with broker_at(tmp_path / "tls", access=access) as secure:
        node = Node(realm, tmp_path / "node", feeds=[MqttFeed("ward", secure, lines=lines, scheme="mqtts")])
        with running(node, before=EAGER):
            wait_until("no password", lambda: ("MQT-13", "ward") in node.alarms())
            password.write_text("wrong\n")
            wait_until("a refusal", lambda: ("MQT-11", "ward") in node.alarms())
            password.write_text("s3cret-test\n")
            joined(node)
            assert told(node, "ward")["broker"]["tls"]
            assert not {code for code, _ in node.alarms()} & {"MQT-11", "MQT-13"}
            assert "s3cret-test" not in node.text()
