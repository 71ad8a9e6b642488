"""Packets of an answer: on a bad line each may be lost, and what is missing costs a second or more."""

import socket
import struct

import pytest

from tests.gateway_rig import TinyNode, maker, running

DATA_SEGMENTS_IN_AT = 152  # of struct tcp_info (linux/tcp.h): u32, segments with data


@pytest.fixture
def node(realm, tmp_path):
    with running(realm, tmp_path / "gateway") as gateway, maker(realm, gateway, tmp_path, "clinic-17") as make:
        yield make()


def segments(node: TinyNode) -> int:
    """How many packets with data the node's connection has received."""
    connection = node.pool._get_conn()
    info = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    node.pool._put_conn(connection)
    return struct.unpack_from("=I", info, DATA_SEGMENTS_IN_AT)[0]


def test_a_receipt_and_a_refusal_come_in_one_packet_each(node):
    node.session()
    before = segments(node)
    for first, end, status in ((0, 4, 200), (4, 8, 200), (9, 12, 409), (8, 12, 200)):
        assert node.put(first, end).status == status
        assert segments(node) == before + 1
        before += 1
