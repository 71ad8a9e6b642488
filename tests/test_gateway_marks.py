"""The mark of a connection as the gateway sees it and tells it."""

import socket

import pytest

from gateway.marks import mark_of, read_mark, save_marks


class Transport:
    """The one question that is asked of a transport."""

    def __init__(self, sock):
        self.sock = sock

    def get_extra_info(self, name):
        return self.sock if name == "socket" else None


@pytest.mark.parametrize(
    ("family", "host", "level", "option"),
    [(socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, socket.IP_TOS), (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, socket.IPV6_TCLASS)],
    ids=["ipv4", "ipv6"],
)  # fmt: skip
@pytest.mark.parametrize("dscp", [0, 1, 26, 63])
def test_the_mark_told_is_the_one_the_peer_sent_its_first_packet_with(family, host, level, option, dscp):
    with socket.create_server((host, 0), family=family) as listener, socket.socket(family) as peer:
        save_marks(listener)
        peer.setsockopt(level, option, dscp << 2)
        peer.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert mark_of(Transport(accepted)) == dscp


def test_without_the_kernels_memory_no_mark_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert mark_of(Transport(accepted)) is None
    assert mark_of(Transport(None)) is None


@pytest.mark.parametrize("packet", [b"", b"\x45\x68", b"\x68" + bytes(20), b"\x00" * 60])
def test_what_is_no_ip_header_has_no_mark(packet):
    assert read_mark(packet) is None
