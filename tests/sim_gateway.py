"""A small real gateway for the uplink's tests: TLS, a ledger in a list, honest unless `script` says what to answer instead."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.tools.pki import issue_gateway, make_authority
from node.uplink.dictionaries import shipped
from sync.batch import Batch, decode
from sync.checkpoint import parse_checkpoint, parse_note
from sync.dictionary import Shelf
from sync.keys import FileSigner
from sync.log import Frontier
from sync.opening import read_opening
from sync.receipt import cosign
from sync.session import SessionAnswer, TheirStream, read_request
from tests.gateway_rig import GATEWAY, Realm

LEDGER = "ledger-for-tests"


@dataclass(frozen=True)
class Request:
    """One call, read whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def is_session(self) -> bool:
        return self.path == "/v1/session"


Answer = bytes | Callable[[ssl.SSLSocket], None]
Script = Callable[[Request], Answer | None]


def http(status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(status: int, code: Any, *, headers: dict[str, str] | None = None, **members: Any) -> bytes:
    """A verdict."""
    body = json.dumps({"code": code, **members}).encode()
    return http(status, body, "application/problem+json", **(headers or {}))


@dataclass
class SimGateway:
    """One listener. `script` is asked first for every call; None from it means the honest answer.

    `leaf` holds server.pem and server.key; `bytes_in` counts what came after handshakes; `records` is what was taken, by stream.
    """

    realm: Realm
    leaf: Path
    host: str = "127.0.0.1"
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    script: Script = lambda _request: None
    shelf: Shelf = field(default_factory=shipped)
    held: bool = False
    calls: list[Request] = field(default_factory=list)
    records: dict[str, list[bytes]] = field(default_factory=dict)
    logs: dict[str, TheirStream] = field(default_factory=dict)
    leaves: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    tags: dict[tuple[str, int], str] = field(default_factory=dict)
    bytes_in: int = 0
    handshakes: int = 0
    failed_handshakes: int = 0
    fence: str = "fence-1"
    dscp: int | None = None
    announced: list[tuple[bytes, ...]] = field(default_factory=list)  # the heads of each session

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, 0), family=family)
        self._lock = threading.RLock()
        key = load_pem_private_key((self.realm.folder / "gateway/cosign.key").read_bytes(), None)
        self.signer = FileSigner(GATEWAY, key)  # type: ignore[arg-type]
        self.cosign_pem = (self.realm.folder / "gateway/cosign.pem").read_text()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = self._context.maximum_version = self.version
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(self.realm.folder / "ca/ca.pem")
        self._context.load_cert_chain(self.leaf / "server.pem", self.leaf / "server.key")
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def bodies(self, stream: str = "his") -> list[bytes]:
        return self.records.get(stream, [])

    # -- honest answers ------------------------------------------------------------------------------------------

    def honest(self, request: Request) -> bytes:
        if request.method == "HEAD":
            return http(404)  # it takes no uploads
        with self._lock:
            if request.is_session:
                return self._open_session(request)
            stream = request.path.split("/")[3]
            if request.method == "GET":
                return self._tell(stream, request.path)
            return (
                self._open_epoch(stream, request.body)
                if request.method == "POST"
                else self._take(decode(request.body, self.shelf))
            )

    def _tell(self, stream: str, path: str) -> bytes:
        epoch, size = map(int, path.split("/")[4].split("?size="))
        log, leaves = self.logs[stream], self.leaves.get((stream, epoch), [])
        root = Frontier().append(b"".join(leaves[:size])).root.hex() if size <= len(leaves) else ""
        told = {"epoch": epoch, "tag": self.tags.get((stream, epoch), log.tag), "size": len(leaves), "root": root}
        return http(200, json.dumps(told).encode(), "application/json")

    def _open_epoch(self, stream: str, statement: bytes) -> bytes:
        opened = read_opening(statement).opened
        log = TheirStream(stream=stream, epoch=opened.epoch, tag=opened.tag, size=0, root=Frontier().root)
        self.logs[stream] = log
        taken = {"epoch": log.epoch, "tag": log.tag, "size": 0, "root": log.root.hex()}
        return http(200, json.dumps(taken).encode(), "application/json")

    def session_answer(self, request: Request, **changes: Any) -> SessionAnswer:
        """What an honest gateway says, with these fields changed."""
        streams = read_request(request.body).streams
        for s in streams:
            fresh = TheirStream(stream=s.stream, epoch=s.epoch, tag=s.tag, size=0, root=Frontier().root)
            self.logs.setdefault(s.stream, fresh)
        values: dict[str, Any] = {
            "fence": self.fence, "ledger": LEDGER, "cosign_certificate": self.cosign_pem, "held": self.held,
            "streams": tuple(self.logs[s.stream] for s in streams),
        }  # fmt: skip
        return SessionAnswer(**{**values, **changes})

    def _open_session(self, request: Request) -> bytes:
        self.announced.append(read_request(request.body).heads)
        return http(200, self.session_answer(request).encode(), "application/json")

    def _take(self, batch: Batch) -> bytes:
        log, held = self.logs[batch.stream], self.records.setdefault(batch.stream, [])
        if batch.first > log.size:
            return problem(409, "rewind", epoch=log.epoch, tag=log.tag, size=log.size, root=log.root.hex())
        checkpoint = parse_checkpoint(parse_note(batch.checkpoint).text)
        fresh = batch.records[log.size - batch.first :]
        held.extend(record.body for record in fresh)
        self.leaves.setdefault((batch.stream, batch.epoch), []).extend(record.leaf for record in fresh)
        self.tags[batch.stream, batch.epoch] = batch.tag
        self.logs[batch.stream] = TheirStream(
            stream=log.stream, epoch=log.epoch, tag=log.tag, size=checkpoint.size, root=checkpoint.root
        )
        return self.receipt(batch.checkpoint)

    def receipt(self, note: bytes, signer: FileSigner | None = None) -> bytes:
        """200 with this note cosigned."""
        told = {} if self.dscp is None else {"Wasl_DSCP": str(self.dscp)}
        return http(200, cosign(note, time=int(time.time()), signer=signer or self.signer), **told)

    # -- the wire ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(30)
        try:
            sock = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            self.failed_handshakes += 1
            plain.close()
            return
        self.handshakes += 1
        with suppress(OSError, ValueError), sock:
            while request := self._read(sock):
                self.calls.append(request)
                answer = self.script(request)
                if answer is None:
                    answer = self.honest(request)
                if callable(answer):
                    answer(sock)
                    return
                sock.sendall(answer)

    def _read(self, sock: ssl.SSLSocket) -> Request | None:
        data = bytearray()
        while b"\r\n\r\n" not in data:
            self._more(sock, data)
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        rest = bytearray(body)
        while len(rest) < int(headers.get("content-length", 0)):
            self._more(sock, rest)
        method, path, _ = first.split(" ")
        return Request(method, path, headers, bytes(rest))

    def _more(self, sock: ssl.SSLSocket, data: bytearray) -> None:
        part = sock.recv(65536)
        if not part:
            raise OSError("closed")
        self.bytes_in += len(part)
        data += part


@contextmanager
def sim_gateway(realm: Realm, leaf: Path | None = None, **options: Any) -> Iterator[SimGateway]:
    """A gateway for the time of the block, with the realm's own server certificate unless `leaf` names another."""
    made = SimGateway(realm, leaf or realm.folder / "gateway", **options)
    try:
        yield made
    finally:
        made.close()


def hang(sock: ssl.SSLSocket) -> None:
    with suppress(OSError):
        sock.recv(1)  # nothing comes: the node hangs up first


def other_pem(realm):
    """A cosigning certificate of an authority that the node does not know."""
    folder = realm.folder / "strangers"
    if not folder.exists():
        make_authority(folder / "ca", "Somebody Else")
        issue_gateway(folder / "ca", folder / "gateway", GATEWAY, ["127.0.0.1"])
    return (folder / "gateway/cosign.pem").read_text()
