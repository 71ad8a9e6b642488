"""No name of a patient, in whatever writing, reaches a log: canaries go through every path there is, and every log line is searched."""

import base64
import json
import unicodedata
from urllib.parse import quote

import pytest

from node.clock import SystemClock
from node.config.config import load
from node.doctor import examine
from node.status import Status
from tests.node_rig import EAGER, END, START, Centre, Feed, Node, message, running, wait_until
from tests.sim_gateway import http, problem, sim_gateway
from tests.test_node_disk import DYING_DISK

ARABIC, LATIN = "قناري الشمري", "Zqxcanary"
MIB = 1024 * 1024


def canary(control_id, **options):
    return message(control_id, name=f"{ARABIC}^{LATIN}", **options)


def writings(text):
    """How a name could stand in a log: plain, as bytes shown by repr, JSON, URL, base64, hex, decoded wrongly, or composed otherwise."""
    raw = text.encode()
    yield from {
        text, text.upper(), text.lower(), unicodedata.normalize("NFD", text), unicodedata.normalize("NFKC", text),
        json.dumps(text)[1:-1], repr(raw)[2:-1], raw.hex(), quote(text), raw.decode("latin-1"), raw.decode("cp1256", "replace"),
        raw.decode("ascii", "backslashreplace"), raw.decode("ascii", "surrogateescape").encode("ascii", "backslashreplace").decode(),
    }  # fmt: skip
    for pad in range(3):  # base64 depends on what stands before
        yield base64.b64encode(b"x" * pad + raw).decode()[4:-4]


def assert_clean(log):
    assert len(log) > 200  # there is something to search
    for word in (ARABIC, ARABIC.split(maxsplit=1)[0], LATIN):
        for writing in writings(word):
            if len(writing) > 3:
                assert writing not in log, writing


@pytest.fixture
def node(realm, tmp_path):
    check = 'senders = ["HIS|TEST"]\nrequired = ["PID-3"]'
    feeds = [
        Feed("his", check=check, lines="frame_mb_max = 1\nrejected_per_hour_max = 20"),
        Feed("open"),
        Feed("closed", lines='allow = ["192.0.2.0/24"]'),
    ]
    made = Node(realm, tmp_path, feeds=feeds, more='[log]\nlevel = "debug"', link="connect_s_max = 1\nanswer_s_max = 1")
    yield made
    made.kill()


def speak(node):
    """Everything a source can do: good, refused, unparsable, undecodable, broken, oversized, cut, pipelined, repeated, not allowed."""
    odd = canary("L-3").replace("قناري".encode(), b"\xff" + "قناري".encode())
    node.send(
        canary("L-1"), canary("L-2", sender=f"{LATIN}|TEST"), odd, f"{ARABIC} {LATIN}".encode(), canary("L-4", pid="")
    )
    node.send(
        canary(f"{LATIN}"),
        canary(ARABIC),
        canary("L-5", kind=LATIN),
        canary("L-6", version=f"2.5{ARABIC}"),
        canary("L-1"),
    )
    node.send(canary("L-7").replace(b"UNICODE UTF-8", LATIN.encode()), b"MSH" + ARABIC.encode(), feed="open")
    with node.mllp() as mllp:
        mllp.write(LATIN.encode() + START + canary("L-8") + START + canary("L-9") + END)
        mllp.reply(), mllp.reply()
        mllp.send(canary("L-10", more="ZZZ|" + LATIN * MIB), canary("L-11"))
        mllp.reply(), mllp.reply()
        mllp.write(START + canary("L-12"))
    with node.mllp("closed") as mllp:
        assert mllp.is_closed()
    for n in range(30):
        node.send(canary(f"L-R-{n}", sender=f"LAB|{LATIN}"))


def test_no_name_reaches_the_log_of_a_node_with_a_gateway_or_of_the_gateway(node, realm, tmp_path):
    centre = Centre(realm, tmp_path / "centre")
    node.gateway = centre
    try:
        centre.start()
        with running(node, before=EAGER):
            speak(node)
            node.wait_receipted()
            node.wait_receipted("open")
            centre.records(node.name, "his")
            told = json.dumps(node.ask("status"), ensure_ascii=False) + node.ask("metrics")
            config = load(node.config())
            told += json.dumps(Status(config, SystemClock()).document(), ensure_ascii=False)
            told += "".join(f"{each.check} {each.seen}" for each in examine(config, SystemClock()))
            centre.kill()
            node.send(canary("L-LATE"))
            node.restart(before=EAGER)
            assert node.stop() == 0
        assert_clean(node.text())
        assert_clean(told)
        assert_clean(centre.log)
    finally:
        centre.kill()


def test_no_name_reaches_the_log_of_a_node_whose_gateway_lies(node, realm):
    with sim_gateway(realm) as fake:
        node.gateway = fake.url
        name = f"{ARABIC} {LATIN}".encode()
        answers = [
            http(500, name), problem(422, "bad-batch"), problem(412, "fork"), http(200, name), lambda sock: sock.sendall(name), problem(409, "rewind"),
        ]  # fmt: skip

        def script(request):
            return None if request.is_session else answers[len(fake.calls) % len(answers)]

        fake.script = script
        with running(node, before=EAGER):
            speak(node)
            wait_until("many answers", lambda: len(fake.calls) > 30 or node.alarms())
            assert node.process.poll() is None
        assert_clean("".join(line for line in node.text().splitlines(keepends=True)))


@pytest.mark.parametrize("what", ["write", "sync"])
def test_no_name_reaches_the_log_of_a_node_that_dies_of_its_disk(node, tmp_path, what):
    trigger = tmp_path / "now"
    with running(node, before=DYING_DISK.format(trigger=str(trigger), what=what)):
        node.send(canary("L-1"))
        trigger.touch()
        with node.mllp() as mllp:
            mllp.send(canary("L-2"), canary("L-3"))
            assert mllp.is_closed()
        assert node.ended() == 74
    assert_clean(node.text())


DYING_THREAD = """
import sync.outbox
def append(self, drafts):
    raise RuntimeError("a fault of ours")
sync.outbox.Outbox.append = append
"""


def test_no_name_reaches_the_log_of_a_node_that_dies_of_a_fault_of_its_own(node):
    with running(node, before=DYING_THREAD):
        with node.mllp() as mllp:
            mllp.send(canary("L-1"))
            assert mllp.is_closed()
        assert node.ended() == 70
    assert node.log("thread.died")
    assert_clean(node.text())


def test_no_name_reaches_the_log_of_a_node_that_finds_damaged_records(node):
    import apsw

    with running(node):
        node.send(canary("L-1"), canary("L-2"), canary("L-3"))
        assert node.stop() == 0
    connection = apsw.Connection(str(node.store))
    connection.execute("UPDATE body SET body = CAST(body || x'00' AS BLOB) WHERE id = (SELECT min(id) FROM header)")
    connection.close()
    with running(node):
        wait_until("the alarm", lambda: ("SYN-30", "his") in node.alarms())
    assert_clean(node.text())


def test_every_log_line_of_a_node_is_one_json_object_with_event_level_and_time(node):
    with running(node):
        speak(node)
        assert node.stop() == 0
    for line in node.text().splitlines():
        row = json.loads(line)
        assert {"event", "level", "timestamp"} <= set(row), row
    coded = [row for row in node.log() if row["level"] in {"warning", "error", "critical"}]
    assert coded
    assert [row for row in coded if "code" not in row] == []


def test_the_search_for_names_bites():
    for writing in (
        ARABIC,
        json.dumps({"name": ARABIC}),
        repr(ARABIC.encode()),
        canary("L").hex(),
        quote(ARABIC),
        base64.b64encode(canary("LL")).decode(),
        LATIN,
    ):
        with pytest.raises(AssertionError):
            assert_clean("x" * 200 + writing)
