"""The tools of tests/sim_hosts.py: a line that loses and delays as it is told, streams that stay whole, and a reckoning that finds what is wrong."""

import base64
import contextlib
import json
import os
import random
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench.thin_link import ThinLink
from tests.hosts_frames import Line
from tests.hosts_net import Namespaces, Shape, why_not
from tests.hosts_sources import LANES, ReckoningError, Source, reckon
from tests.node_rig import free_port

UP, DOWN = 0, 1


def line(**shape: Any) -> Line:
    made = Line(random.Random(1))
    made.shape(json.dumps(shape))
    return made


# -- frames ------------------------------------------------------------------------------------------------------------
def test_frames_come_out_after_the_delay_each_once_and_in_order():
    made = line(delay_s=0.3)
    for number in range(200):
        made.take(number % 2, b"%d" % number, 10.0)  # at the same time: only the order of arrival tells them apart
    assert made.due(10.29) == []
    assert made.wait_s(10.1) == pytest.approx(0.2)
    assert made.due(10.31) == [(number % 2, b"%d" % number) for number in range(200)]
    assert made.due(99.0) == []
    assert made.wait_s(99.0) is None


@pytest.mark.parametrize(("cut", "passing"), [("up", {DOWN}), ("down", {UP}), ("both", set()), ("", {UP, DOWN})])
def test_a_cut_way_carries_nothing_and_the_other_all(cut, passing):
    made = line(cut=cut)
    for _ in range(50):
        made.take(UP, b"up", 0.0)
        made.take(DOWN, b"down", 0.0)
    found = made.due(0.0)
    assert {way for way, _ in found} == passing
    assert (len(found), made.lost) == (50 * len(passing), 50 * (2 - len(passing)))


def test_what_was_under_way_when_the_line_was_cut_still_arrives():
    made = line(delay_s=0.3)
    made.take(UP, b"before", 0.0)
    made.shape('{"cut": "both"}')
    made.take(UP, b"after", 0.1)
    assert made.due(1.0) == [(UP, b"before")]


def test_the_share_of_frames_that_is_lost_is_the_one_asked_for():
    made = line(loss=0.05)
    for _ in range(20_000):
        made.take(UP, b"", 0.0)
    assert 800 < made.lost < 1200
    assert made.passed + made.lost == 20_000


# -- streams -----------------------------------------------------------------------------------------------------------
def test_two_streams_over_a_link_that_loses_packets_arrive_whole_and_in_order():
    sent = [random.Random(n).randbytes(60_000) for n in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as sink:
        link = ThinLink(free_port(), sink.getsockname()[1], rate=4e6, delay_s=0.002, dice=random.Random(3).random)
        link.shape(rate=4e6, delay_s=0.002, loss=0.3)
        found: dict[bytes, bytes] = {}
        try:
            for each in sent:
                source = socket.create_connection(("127.0.0.1", link.port))
                peer, _ = sink.accept()
                # both streams share the queue: the second begins while the first is under way
                threads = [
                    threading.Thread(target=_send, args=(source, each)),
                    threading.Thread(target=_read, args=(peer, found)),
                ]
                for thread in threads:
                    thread.start()
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join(60)
            assert sorted(found.values()) == sorted(sent)
            assert link.packets[1] > 10
        finally:
            link.close()


def _send(source: socket.socket, data: bytes) -> None:
    with source:
        source.sendall(data)
        source.shutdown(socket.SHUT_WR)
        source.recv(1)


def _read(peer: socket.socket, found: dict[bytes, bytes]) -> None:
    with peer:
        read = b""
        while part := peer.recv(65536):
            read += part
        found[read[:16]] = read


# -- the reckoning -----------------------------------------------------------------------------------------------------
@dataclass
class Shelf:
    """A gateway's consumer API, as far as the reckoning asks it."""

    bodies: list[bytes]
    first: int = 0

    def get(self, path: str) -> Any:
        at = int(path.partition("from=")[2].partition("&")[0])
        rows = [
            {"epoch": 1, "seq": self.first + seq, "verdict": "accepted", "body": base64.b64encode(body).decode()}
            for seq, body in enumerate(self.bodies)
        ]
        self.data = b"\n".join(json.dumps(row).encode() for row in rows[at : at + 2])
        return self


def source(acknowledged: list[bytes]) -> Source:
    return Source(LANES[0], ("", 0), contextlib.nullcontext, random.Random(1), acknowledged=acknowledged)


SENT = [b"one", b"two", b"three", b"four", b"five"]


def test_the_reckoning_counts_what_is_at_the_gateway_as_it_was_acknowledged():
    assert reckon(Shelf(SENT), "clinic-7", source(SENT)) == 5


@pytest.mark.parametrize(
    "there",
    [SENT[:4], [*SENT, b"five"], [*SENT[:2], b"threE", *SENT[3:]], [b"two", b"one", *SENT[2:]], [*SENT[:1], *SENT], []],
    ids=["missing", "twice", "changed", "out of order", "twice within", "nothing"],
)
def test_the_reckoning_refuses_anything_else(there):
    with pytest.raises(ReckoningError):
        reckon(Shelf(there), "clinic-7", source(SENT))


def test_the_reckoning_refuses_a_gap_in_the_numbers():
    with pytest.raises(ReckoningError):
        reckon(Shelf(SENT, first=1), "clinic-7", source(SENT))


# -- the ways ----------------------------------------------------------------------------------------------------------
def test_a_user_who_may_not_have_namespaces_is_told_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_not() == "needs root"


@pytest.mark.skipif("CI" in os.environ, reason="network namespaces are not for CI: a runner shares its kernel")
def test_two_hosts_in_namespaces_reach_each_other_until_the_line_is_cut_and_are_gone_afterwards():
    if word := why_not():
        pytest.skip(f"no namespaces here: {word}")
    hosts = Namespaces(Shape(kbit_per_s=10_000, round_trip_s=0.002, loss=0.0), seed=1)
    names = (hosts._near, hosts._far)
    try:
        with hosts.far():
            sink = socket.create_server((hosts.far_host, 0))
        port = sink.getsockname()[1]
        with hosts.near():
            socket.create_connection(hosts.way_to(port), 20).close()
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):  # this host is neither of the two
            socket.create_connection(("127.0.0.1", port), 20)
        hosts._tell(cut="both")
        with hosts.near(), pytest.raises(TimeoutError):
            socket.create_connection(hosts.way_to(port), 0.5)
        hosts.mend()
        with hosts.near():
            socket.create_connection(hosts.way_to(port), 20).close()
        sink.close()
    finally:
        hosts.close()
    assert not [name for name in names if Path("/run/netns", name).exists()]
