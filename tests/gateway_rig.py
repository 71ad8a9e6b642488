"""A small real rig: a PKI, a gateway process on free loopback ports, and a tiny sending node made of an outbox and HTTPS."""

import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import urllib3
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from node.tools.pki import issue_gateway, issue_node, make_authority, revoke
from sync.batch import CONTENT_TYPE, Batch, encode
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.header import CONTROL_ID, common_start, encode_pairs
from sync.keys import FileSigner
from sync.log import root_at
from sync.names import Origin
from sync.outbox import Outbox
from sync.record import Draft, Kind, Record
from sync.session import OwnStream, SessionRequest
from sync.store import LogTable, SafeDatabase
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
GATEWAY = "centre"
TOKEN, PLAIN_TOKEN = "token-with-release-right", "token-without"  # as every secret here: for tests
READY_S_MAX = 90.0  # on a busy machine a start takes half a minute, and no test asserts how slow


@dataclass
class Realm:
    """A folder with a CA, one gateway's certificates, and nodes' as they are asked for."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Realm":
        make_authority(folder / "ca", "Test Authority")
        issue_gateway(folder / "ca", folder / "gateway", GATEWAY, ["localhost", "127.0.0.1"])
        return cls(folder)

    def node(self, name: str, *, now: Any = None) -> Path:
        """The folder of this node's keys and certificates."""
        folder = self.folder / "nodes" / name
        if not (folder / "log.pem").exists():
            issue_node(self.folder / "ca", folder, name, now=now)
        return folder

    def revoke(self, certificate: Path) -> None:
        revoke(self.folder / "ca", certificate.read_bytes())


@dataclass
class Gateway:
    """A gateway process over one data folder; it may be killed and started again on the same ports."""

    realm: Realm
    data: Path
    open_page: bool = True
    crl: bool = True
    sync_port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def log(self) -> str:
        return (self.data / "log.jsonl").read_text() if (self.data / "log.jsonl").exists() else ""

    def config(self) -> Path:
        self.data.mkdir(parents=True, exist_ok=True)
        keys, path = self.realm.folder / "gateway", self.data / "gateway.toml"
        tokens = "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(value.encode()).hexdigest()}"\nrelease = {right}\n'
            for name, value, right in (("demo", TOKEN, "true"), ("reader", PLAIN_TOKEN, "false"))
        )
        crl = f'crl = "{self.realm.folder}/ca/crl.der"\n' if self.crl else ""
        path.write_text(
            f'[gateway]\nname = "{GATEWAY}"\ndata_dir = "{self.data}"\n'
            f'[sync]\nlisten = "127.0.0.1:{self.sync_port}"\ncertificate = "{keys}/server.pem"\nkey = "{keys}/server.key"\n'
            f'ca = "{self.realm.folder}/ca/ca.pem"\n{crl}'
            f'[cosign]\nkey = "{keys}/cosign.key"\ncertificate = "{keys}/cosign.pem"\n'
            f'[api]\nlisten = "127.0.0.1:{self.api_port}"\nopen_page = {str(self.open_page).lower()}\n{tokens}'
        )
        return path

    def start(self, *, before: str = "") -> None:
        """Start and wait until it is healthy; `before` is Python that runs in the process first, to break something."""
        path = self.config()
        code = f"{before}\nfrom gateway.__main__ import main\nmain()"
        with (self.data / "log.jsonl").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *(["-c", code] if before else ["-m", "gateway"]), "--config", str(path)],
                cwd=ROOT, stdout=out, stderr=out,
            )  # fmt: skip
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{self.log}")
            try:
                if self.get("/healthz", token="").status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.02)
        raise RuntimeError(f"the gateway is not up:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def get(self, path: str, *, token: str = TOKEN) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with urllib3.PoolManager(retries=False, timeout=30) as pool:
            return pool.request("GET", self.api + path, headers=headers)

    def records(self, node: str, stream: str, query: str = "", *, token: str = TOKEN) -> list[dict[str, Any]]:
        answer = self.get(f"/v1/nodes/{node}/streams/{stream}/records{query}", token=token)
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines()]


@contextmanager
def running(realm: Realm, data: Path, **options: Any) -> Iterator[Gateway]:
    """A gateway for the time of the block."""
    gateway = Gateway(realm, data, **options)
    gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()


class TinyNode:
    """A node reduced to its outbox and its link: what it sends is asked for call by call."""

    def __init__(
        self, realm: Realm, gateway: Gateway, name: str, outbox: Path, *, streams: tuple[str, ...] = ("his",), keys: Path | None = None
    ) -> None:  # fmt: skip
        self.realm, self.gateway, self.name, self.streams = realm, gateway, name, streams
        self.keys = keys or realm.node(name)
        key = load_pem_private_key((self.keys / "log.key").read_bytes(), None)
        self.signer = FileSigner(name, key)  # type: ignore[arg-type]
        self.path = outbox
        self.outbox = Outbox(outbox, signer=self.signer, random=os.urandom)
        self.reader = SafeDatabase(outbox, readonly=True)
        self.boot, self.fence = os.urandom(16).hex(), ""
        self.outbox.open_streams(dict.fromkeys(streams, "routine"), self.boot[:8])
        self.pool = self.open_pool()

    def open_pool(self) -> urllib3.HTTPSConnectionPool:
        return https_pool(self.realm, self.gateway.sync_port, self.keys / "link")

    def close(self) -> None:
        self.pool.close()
        self.reader.close()
        self.outbox.close()

    # -- filling --------------------------------------------------------------------------------------------------

    def add(self, bodies: list[bytes], *, stream: str = "his", verdict: int = 0) -> None:
        """Store one message per body, in one group."""
        self.outbox.append(
            [draft(stream, body, n, verdict=verdict) for n, body in enumerate(bodies, self.size(stream))]
        )

    def size(self, stream: str = "his") -> int:
        return self.outbox.heads[stream].frontier.size

    def origin(self, stream: str = "his") -> Origin:
        return self.outbox.heads[stream].origin

    def root(self, size: int, stream: str = "his") -> bytes:
        return root_at(self.table(stream), size)

    def table(self, stream: str) -> LogTable:
        return LogTable(self.reader.raw(), self.outbox.heads[stream].log)

    def records(self, first: int, end: int, stream: str = "his") -> list[Record]:
        return list(self.table(stream).records(first, end - first))

    def batch(
        self,
        first: int,
        end: int,
        stream: str = "his",
        *,
        records: list[Record] | None = None,
        root: bytes | None = None,
    ) -> Batch:
        """A batch of these positions under an honest checkpoint, unless records or root are given."""
        origin = self.origin(stream)
        checkpoint = sign_checkpoint(Checkpoint(origin, end, root or self.root(end, stream)), self.signer)
        return Batch(
            node=self.name, stream=stream, epoch=origin.epoch, tag=origin.tag, first=first, lane="routine", checkpoint=checkpoint,
            records=self.records(first, end, stream) if records is None else records,
        )  # fmt: skip

    # -- calling --------------------------------------------------------------------------------------------------

    def session(self, *, boots: tuple[str, ...] = (), fence: str | None = None, boot: str | None = None, log_certificate: str | None = None, heads: tuple[bytes, ...] = ()) -> urllib3.BaseHTTPResponse:  # fmt: skip
        request = replace(
            self.request(boots=boots, fence=fence, boot=boot, log_certificate=log_certificate), heads=heads
        )
        answer = self.pool.request(
            "POST", "/v1/session", body=request.encode(), headers={"Content-Type": "application/json"}
        )
        if answer.status == 200:
            self.fence = answer.json()["fence"]
        return answer

    def request(self, *, boots: tuple[str, ...] = (), fence: str | None = None, boot: str | None = None, log_certificate: str | None = None) -> SessionRequest:  # fmt: skip
        """What a session is asked for with."""
        return SessionRequest(
            boot=boot or self.boot, boots=boots, fence=self.fence if fence is None else fence,
            log_certificate=log_certificate or (self.keys / "log.pem").read_text(),
            streams=tuple(OwnStream(stream=name, epoch=1, tag=self.origin(name).tag, lane="routine") for name in self.streams),
        )  # fmt: skip

    def put(
        self, first: int, end: int, stream: str = "his", *, fence: str | None = None, data: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        data = encode(self.batch(first, end, stream)) if data is None else data
        return self.put_to(f"/v1/streams/{stream}/1/{first}", data, fence=fence)

    def put_to(self, path: str, data: bytes, *, fence: str | None = None) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": CONTENT_TYPE, "Wasl-Fence": self.fence if fence is None else fence}
        return self.pool.request("PUT", path, body=data, headers=headers)


@contextmanager
def maker(realm: Realm, gateway: Gateway, folder: Path, name: str) -> Iterator[Callable[..., TinyNode]]:
    """Makes nodes with some messages, which are closed after the block. `name`: of those that are not given one; `gateway`: likewise."""
    nodes: list[TinyNode] = []

    def make(called: str = "", *, messages: int = 12, at: Gateway | None = None, **options: Any) -> TinyNode:
        called = called or name
        node = TinyNode(realm, at or gateway, called, folder / f"{called}-{len(nodes)}.sqlite", **options)
        nodes.append(node)
        node.add([message(n) for n in range(messages)])
        return node

    try:
        yield make
    finally:
        for node in nodes:
            node.close()


def code(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json()["code"]


def https_pool(realm: Realm, port: int, leaf: Path | None) -> urllib3.HTTPSConnectionPool:
    """Connections to the gateway under a client certificate, or none."""
    context = ssl.create_default_context(cafile=realm.folder / "ca/ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if leaf is not None:
        context.load_cert_chain(leaf.with_suffix(".pem"), leaf.with_suffix(".key"))
    return urllib3.HTTPSConnectionPool("127.0.0.1", port, ssl_context=context, retries=False, timeout=30, maxsize=4)


def draft(stream: str, body: bytes, number: int, *, verdict: int = 0) -> Draft:
    """A message of a feed, with a control id of its own."""
    return Draft(
        stream=stream, common=common_start(kind=Kind.MESSAGE, facility="clinic-17", feed=stream, content_type="application/hl7-v2+er7"),
        message_type="ORU^R01", received_us=1_800_000_000_000_000 + number, clock_state=0, clock_error_us=500, verdict=verdict,
        particulars=encode_pairs({CONTROL_ID: f"MSG{number:06}"}), body=body,
    )  # fmt: skip


def message(number: int, name: str = "مريض تجريبي") -> bytes:
    """A message that looks synthetic."""
    return f"MSH|^~\\&|LAB|TEST|EHR|TEST|20270115||ORU^R01|MSG{number:06}|P|2.5\rPID|1||T{number}||{name}\r".encode()
