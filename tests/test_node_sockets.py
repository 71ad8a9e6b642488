"""Sockets towards the gateway: how fast they may send."""

import math
import socket
import ssl

import pytest

from node.sockets import PACING_MAX, SO_MAX_PACING_RATE, pace
from node.uplink.gateway_client import GatewayClient
from tests.gateway_rig import GATEWAY, Realm
from tests.sim_gateway import sim_gateway

NO_PACE = -1


def pace_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE)


@pytest.mark.parametrize(
    ("asked", "found"),
    [(16_000.7, 16_000), (math.inf, NO_PACE), (0.2, 1), (1e12, PACING_MAX)],
    ids=["bytes a second", "none", "never nothing at all", "as much as fits"],
)
def test_the_kernel_holds_a_socket_to_the_pace_that_was_asked_for(asked, found):
    with socket.socket() as sock:
        pace(sock, asked)
        assert pace_of(sock) == found


def test_a_closed_socket_has_no_pace_and_is_no_failure():
    sock = socket.socket()
    sock.close()
    pace(sock, 16_000.0)


def test_a_pace_holds_on_the_open_connection_and_on_the_one_after_it(tmp_path):
    realm = Realm.make(tmp_path)
    tls = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    tls.load_cert_chain(realm.node("clinic-7") / "link.pem", realm.node("clinic-7") / "link.key")
    with sim_gateway(realm) as fake:
        client = GatewayClient(fake.url, GATEWAY, tls, connect_s_max=5, answer_s_max=5)
        other = GatewayClient(fake.url, GATEWAY, tls, connect_s_max=5, answer_s_max=5)
        try:
            for each in (client, other):
                each.upload_size("0" * 64)
                assert pace_of(each._socket()) == NO_PACE
            client.pace(16_000.0)
            assert pace_of(client._socket()) == 16_000
            client.drop()
            client.upload_size("0" * 64)
            assert pace_of(client._socket()) == 16_000
            assert pace_of(other._socket()) == NO_PACE  # another lane's
            client.pace(math.inf)
            assert pace_of(client._socket()) == NO_PACE
        finally:
            client.close()
            other.close()
