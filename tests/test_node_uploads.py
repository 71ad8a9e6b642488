"""A body larger than a thin link's quantum: it crosses in parts, over cuts and restarts, once and whole, and holds up no other stream."""

import base64
import itertools
from random import Random

import pytest

from tests.bench.thin_link import ThinLink
from tests.node_rig import EAGER, Feed, Node, centre, free_port, message, running, wait_until

STREAMS = '[[streams]]\nname = "images"\nlane = "bulk"\n[[streams]]\nname = "archive"\nlane = "bulk"'
RATE = 1_000_000.0  # a body of 1 MiB takes a second, a quantum is a third of it


@pytest.fixture
def gateway(realm, tmp_path):
    with centre(realm, tmp_path / "gateway") as found:
        yield found


@pytest.fixture
def link(gateway):
    made = ThinLink(free_port(), gateway.sync_port, rate=RATE, delay_s=0.005)
    yield made
    made.close()


@pytest.fixture
def node(realm, link, tmp_path):
    feeds = [Feed("images", lines="frame_mb_max = 24"), Feed("archive")]
    made = Node(realm, tmp_path, feeds=feeds, gateway=f"https://127.0.0.1:{link.port}", more=STREAMS)
    with running(made, before=EAGER):
        yield made


def image(octets: int) -> bytes:
    """A message that looks like a scanned document: base64 of what does not compress."""
    text = base64.b64encode(Random(7).randbytes(octets * 3 // 4))
    return message("IMG-1", kind="MDM^T02", more="OBX|1|ED|SCAN^Test||^IM^PDF^Base64^" + text.decode() + "\r")


def uploads_of(gateway) -> int:
    return sum(path.stat().st_size for path in (gateway.data / "uploads").glob("*/*"))


def body(gateway, stream="images") -> bytes:
    (row,) = gateway.records("clinic-7", stream)
    return base64.b64decode(row["body"])


def test_a_large_body_arrives_in_parts_as_it_was_and_other_streams_of_its_lane_go_between(node, gateway, link):
    for n in itertools.count(1):
        node.send(message(f"A-{n}"), feed="archive")
        node.wait_receipted("archive", size=n)
        if n == 3:
            break
    raw = image(1_500_000)
    assert node.send(raw, feed="images")[0].code == "AA"
    wait_until("the first parts", lambda: uploads_of(gateway) > 0)
    node.send(message("A-4"), feed="archive")
    node.wait_receipted("archive", size=4)
    assert node.stream("images").receipted == 0
    node.wait_receipted("images", size=1)
    assert body(gateway) == raw


def test_a_body_crosses_a_link_that_is_cut_again_and_again_and_no_part_is_sent_from_the_start(node, gateway, link):
    raw = image(300_000)
    node.send(raw, feed="images")
    seen = []
    while node.stream("images").receipted == 0:
        before = uploads_of(gateway)
        wait_until("progress or the end", lambda: uploads_of(gateway) > before or node.stream("images").receipted)  # noqa: B023  # called before the loop goes on
        seen.append(before)
        link.cut()
    assert seen == sorted(seen)
    assert len(seen) >= 3
    assert body(gateway) == raw
    # heads, sessions, handshakes and what each cut threw away: but never the whole again
    assert node.ask("status")["link"]["octets_sent"] < 100_000


@pytest.mark.parametrize("who", ["node", "gateway"])
def test_a_restart_of_either_side_goes_on_where_the_upload_stood(node, gateway, link, who):
    raw = image(2_000_000)
    node.send(raw, feed="images")
    wait_until("some parts", lambda: uploads_of(gateway) > 400_000)
    if who == "node":
        node.restart(before=EAGER)
    else:
        gateway.kill()
        gateway.start()
    held = uploads_of(gateway)
    assert held > 400_000
    node.wait_receipted("images", size=1)
    assert body(gateway) == raw


def test_a_part_that_was_spoilt_on_the_gateways_disk_is_found_and_all_is_sent_anew(node, gateway, link):
    raw = image(1_500_000)
    node.send(raw, feed="images")
    wait_until("some parts", lambda: uploads_of(gateway) > 100_000)
    (path,) = (gateway.data / "uploads").glob("*/*")
    with path.open("r+b") as file:
        file.seek(5_000)
        file.write(b"\x00\xff\x00\xff")
    node.wait_receipted("images", size=1)
    assert body(gateway) == raw
    assert "bad-upload" in gateway.log


def test_a_gateway_from_before_uploads_gets_the_body_in_one_piece(realm, tmp_path):
    from tests.sim_gateway import http, sim_gateway

    with sim_gateway(realm) as fake:
        fake.script = lambda request: http(404, b"nothing here") if "/uploads/" in request.path else None
        made = Node(realm, tmp_path, feeds=[Feed("images")], gateway=fake.url, more=STREAMS)
        with running(made, before=EAGER):
            raw = image(300_000)
            made.send(raw, feed="images")
            made.wait_receipted("images", size=1)
            assert fake.bodies("images") == [raw]
