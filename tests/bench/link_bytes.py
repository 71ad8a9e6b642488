"""Bytes on the link per message, all in: TLS, HTTP, sessions, checkpoints, receipts, counted on the sockets in both directions by a TCP proxy.

Ours: a real node and gateway, the whole queue drained at once; and the same records as PUTs of exactly so many, made by the uplink's own client,
encoder and choice of context over a real gateway. The peer: the same messages as FHIR
Bundles with a detached JWS each (tests/bench/fhir_peer.py), one HTTPS POST a message on one kept-alive connection, answered 201 without a body.
"""

import contextlib
import http.client
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.uplink.dictionaries import shipped
from node.uplink.gateway_client import GatewayClient
from sync.batch import encode
from sync.context import before, share
from sync.header import CONTROL_ID, PEER, common_start, encode_particulars
from sync.record import Draft, Kind
from sync.session import read_answer
from tests.bench.fhir_peer import bundle, signature
from tests.gateway_rig import GATEWAY, Realm, TinyNode, running

PART_BYTES = 65536


class CountingProxy:
    """Forwards to a port of this machine and counts what passes, each way."""

    def __init__(self, target: int) -> None:
        self.target, self.up, self.down = target, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:  # the other side is down, as a benchmark may want it
                    near.close()
                    continue
                for one, other, way in ((near, far, "up"), (far, near, "down")):
                    threading.Thread(target=self._carry, args=(one, other, way), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while part := one.recv(PART_BYTES):
                other.sendall(part)
                setattr(self, way, getattr(self, way) + len(part))
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()

    @property
    def total(self) -> int:
        return self.up + self.down


def drafts(messages: list[bytes]) -> list[Draft]:
    """As an MLLP feed would make them; the times are some seconds apart."""
    start = common_start(kind=Kind.MESSAGE, facility="BENCH", feed="his", content_type="application/hl7-v2+er7")
    made = []
    for number, raw in enumerate(messages):
        head = [*raw.partition(b"\r")[0].decode("utf-8", "replace").split("|"), *[""] * 12]
        particulars = encode_particulars([(CONTROL_ID, head[9][:64]), (PEER, "192.0.2.7")])
        made.append(Draft("his", start, head[8][:64], 1_767_225_600_000_000 + number * 1_713_227, 1, 500, 0, particulars, raw, b""))  # fmt: skip
    return made


def in_batches(folder: Path, messages: list[bytes], count: int) -> float:
    """Bytes a message where each PUT carries so many records."""
    realm = Realm.make(folder / "realm")
    with running(realm, folder / "gateway") as gateway:
        proxy = CountingProxy(gateway.sync_port)
        node = TinyNode(realm, gateway, "bench", folder / "outbox.db")
        client = _client(realm, node, proxy.port)
        try:
            for first in range(0, len(messages), 256):
                node.outbox.append(drafts(messages[first : first + 256]))
            answer = client.session(node.request().encode())
            assert isinstance(answer, bytes), answer
            told = read_answer(answer)
            _send_all(node, client, told.fence, told.context, count)
        finally:
            client.close()
            node.close()
            proxy.close()
    return proxy.total / len(messages)


def _client(realm: Realm, node: TinyNode, port: int) -> GatewayClient:
    context = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(node.keys / "link.pem", node.keys / "link.key")
    return GatewayClient(f"https://127.0.0.1:{port}", GATEWAY, context, connect_s_max=5, answer_s_max=30)


def _send_all(node: TinyNode, client: GatewayClient, fence: str, most: int, count: int) -> None:
    """Everything, so many records a call. As the uplink does: a gateway that takes no context, or lacks one, would fail here."""
    shelf, held, origin = shipped(), node.table("his"), node.origin()
    for first in range(0, node.size(), count):
        sent = node.batch(first, min(first + count, node.size()))
        context = None
        if most and first:
            octets = share(sum(len(record.body) for record in sent.records), most)
            context = before(held, origin, first, since=0, octets_max=octets)
        body = encode(sent, shelf, context=context)
        answer = client.put(stream="his", epoch=1, first=first, fence=fence, body=body)
        assert isinstance(answer, bytes), answer


class _Created(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response_only(201)
        self.send_header("Location", "/Bundle/1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _fhir_server(realm: Realm) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(realm.folder / "ca/ca.pem")
    context.load_cert_chain(realm.folder / "gateway/server.pem", realm.folder / "gateway/server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Created)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def as_fhir(folder: Path, messages: list[bytes]) -> float:
    """Bytes a message for the peer."""
    realm = Realm.make(folder / "realm")
    keys, key = realm.node("bench"), Ed25519PrivateKey.generate()
    context = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    context.load_cert_chain(keys / "link.pem", keys / "link.key")
    with _fhir_server(realm) as port:
        proxy = CountingProxy(port)
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context)
        for raw in messages:
            body = bundle(raw)
            headers = {"Content-Type": "application/fhir+json", "X-JWS-Signature": signature(body, key)}
            connection.request("POST", "/fhir", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201
        connection.close()
        proxy.close()
    return proxy.total / len(messages)
