"""A small real rig: a node's core as a process over one data folder, raw MLLP senders, and a look into its outbox."""

import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import urllib3

from node.control import ask
from node.errors import CoreSilent
from sync.header import CONTROL_ID, COUNT, FRAME_BYTES, FRAME_SHA256, PEER, REFUSAL, Header, decode, decode_particulars
from sync.outbox_view import OutboxView, StreamView
from sync.record import Record
from tests.gateway_rig import GATEWAY, Gateway, Realm
from tests.ports import free_port
from tests.warm_start import ROOT, Warm, calm, zygote

NAME = "clinic-7"
WAIT_S_MAX = 40.0  # for what must come; a busy machine is slow, and no test asserts how slow
# Python that a process runs first: it comes again at once where it would wait up to a minute
EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05"
START, END = b"\x0b", b"\x1c\r"
T = TypeVar("T")


def wait_until(what: str, found: Callable[[], T], *, s_max: float = WAIT_S_MAX) -> T:
    """The first true value; RuntimeError where it never comes."""
    deadline = time.monotonic() + s_max
    while not (value := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"never came: {what}")
        time.sleep(0.02)
    return value


# -- MLLP by hand ------------------------------------------------------------------------------------------------------
def message(control_id: str, *, sender: str = "HIS|TEST", kind: str = "ADT^A01", name: str = "مريض تجريبي", version: str = "2.5.1", pid: str = "900101001^^^TEST", more: str = "") -> bytes:  # fmt: skip
    """A message that looks synthetic."""
    return (
        f"MSH|^~\\&|{sender}|WASL|HUB|20300101080000||{kind}|{control_id}|P|{version}||||||UNICODE UTF-8\r"
        f"EVN||20300101080000\rPID|1||{pid}||{name}^Test\r{more}"
    ).encode()


class Mllp:
    """One raw connection to a feed: what is sent is what the test says, what comes back is read byte by byte from the wire."""

    def __init__(self, address: tuple[str, int], *, tls: Any = None, receive_bytes: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(WAIT_S_MAX)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address[0])
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def send(self, *payloads: bytes) -> None:
        """Frames, in one write."""
        self.write(b"".join(START + payload + END for payload in payloads))

    def reply(self) -> bytes:
        """The next reply's payload. ConnectionError where the node closes first."""
        while END not in self._read:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed without a reply")
            self._read += data
        frame, _, self._read = self._read.partition(END)
        assert frame.startswith(START), frame
        return frame[1:]

    def exchange(self, payload: bytes) -> "Reply":
        """Send one message and read its reply."""
        self.send(payload)
        return Reply(self.reply())

    def is_closed(self) -> bool:
        """Wait for the node to close; False where it sends something instead."""
        try:
            return not self._read and not self.socket.recv(1)
        except ConnectionError:
            return True


class Reply:
    """MSA-1, MSA-2, and ERR-3 and ERR-4 of a 2.5 reply."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        rows = {row[:3]: row.split(payload[3:4]) for row in payload.split(b"\r")}
        msa, err = rows[b"MSA"], rows.get(b"ERR", [])
        self.code, self.control_id = msa[1].decode(), msa[2] if len(msa) > 2 else b""
        self.error = err[3].split(b"^")[0].decode() if len(err) > 3 else ""
        self.severity = err[4].decode() if len(err) > 4 else ""

    def __repr__(self) -> str:
        return f"Reply({self.payload!r})"


# -- the outbox --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Seen:
    """One record as it lies in the outbox."""

    record: Record
    header: Header
    particulars: dict[int, Any]

    @property
    def body(self) -> bytes:
        return self.record.body

    @property
    def control_id(self) -> str:
        return self.particulars[CONTROL_ID]

    @property
    def peer(self) -> str:
        return self.particulars[PEER]

    @property
    def refusal(self) -> str:
        return self.particulars.get(REFUSAL, ("",))[0]

    @property
    def frame(self) -> tuple[int, bytes]:
        """Length and hash of a frame that was not kept whole."""
        return self.particulars[FRAME_BYTES], self.particulars[FRAME_SHA256]

    @property
    def count(self) -> int:
        return self.particulars[COUNT]


@dataclass
class Feed:
    """A feed of the configuration; `lines` are further keys of it, `check` and `tls` its tables, `more` stands behind all of it."""

    name: str
    listen: tuple[str, ...] = ("127.0.0.1",)
    stream: str = ""
    lines: str = ""
    check: str = ""
    tls: str = ""
    more: str = ""
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> tuple[str, int]:
        return self.listen[0].strip("[]"), self.port

    def text(self) -> str:
        listen = ", ".join(f'"{host}:{self.port}"' for host in self.listen)
        tables = "".join(
            f"[feeds.{name}]\n{text}\n" for name, text in (("check", self.check), ("tls", self.tls)) if text
        )
        stream = f'stream = "{self.stream}"\n' if self.stream else ""
        return f'[[feeds]]\nname = "{self.name}"\nkind = "mllp"\nlisten = [{listen}]\n{stream}{self.lines}\n{tables}{self.more}'


@dataclass
class Node:
    """A node's core over one data folder; it may be killed and started again on the same ports.

    `gateway` is a URL, or a Gateway of the rig; None leaves the link off. `outbox` and `more` are further lines of the configuration.
    """

    realm: Realm
    folder: Path
    feeds: list[Feed] = field(default_factory=lambda: [Feed("his")])
    gateway: Gateway | str | None = None
    gateway_name: str = GATEWAY
    link: str = "connect_s_max = 5\nanswer_s_max = 10"
    outbox: str = "free_mb_min = 16"
    more: str = ""
    name: str = NAME
    keys: Path | None = None
    process: Warm | subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Path:
        return self.data / "outbox.db"

    def config(self) -> Path:
        """Write the configuration; its path."""
        self.data.mkdir(parents=True, exist_ok=True)
        keys, path = self.keys or self.realm.node(self.name), self.folder / "node.toml"
        url = f"https://127.0.0.1:{self.gateway.sync_port}" if isinstance(self.gateway, Gateway) else self.gateway
        link = f'[gateway]\nurl = "{url}"\nname = "{self.gateway_name}"\n{self.link}\n' if url else ""
        path.write_text(
            f'[node]\nname = "{self.name}"\nfacility = "BH-TEST-0007"\nsite = {{ en = "Test Clinic", ar = "عيادة تجريبية" }}\n'
            f'data_dir = "{self.data}"\n[keys]\nlink_key = "{keys}/link.key"\nlink_certificate = "{keys}/link.pem"\n'
            f'log_key = "{keys}/log.key"\nlog_certificate = "{keys}/log.pem"\nca = "{self.realm.folder}/ca/ca.pem"\n'
            f"{link}[outbox]\n{self.outbox}\n{self.more}\n" + "".join(feed.text() for feed in self.feeds),
            encoding="utf-8",
        )
        return path

    # -- the process ---------------------------------------------------------------------------------------------

    def launch(self, *, before: str = "", cold: bool = False, wrapper: tuple[str, ...] = ()) -> None:
        """Start, and wait for nothing. `before`: Python run first, to break something; `cold`: the unmodified command, under `wrapper`."""
        argv = ["node", "--config", str(self.config())]
        log = self.folder / "log.jsonl"
        if cold or wrapper:
            with log.open("ab") as out:
                command = [*wrapper, sys.executable, "-m", "node.cli", *argv]
                self.process = subprocess.Popen(command, cwd=ROOT, env=calm(), stdout=out, stderr=out)
        else:
            self.process = zygote().start(["node", *argv], log=log, before=before)

    def start(self, **options: Any) -> "Node":
        """Start and wait until every feed listens. RuntimeError with the log where it ends instead."""
        self.launch(**options)
        wait_until("a node that listens", self.is_listening)
        return self

    def is_listening(self) -> bool:
        """Whether every feed of it listens. RuntimeError where it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(
                f"the node ended with {self.process and self.process.returncode}:\n{self.text()[-4000:]}"
            )
        try:
            feeds = ask(self.data, "status")["feeds"]
        except CoreSilent:
            return False
        return all(len(feeds[feed.name]["addresses"]) == len(feed.listen) for feed in self.feeds)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S_MAX)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(WAIT_S_MAX)

    def ended(self) -> int:
        """Wait for it to end by itself; the exit code."""
        assert self.process is not None
        return self.process.wait(WAIT_S_MAX)

    def restart(self, **options: Any) -> "Node":
        """SIGKILL and start."""
        self.kill()
        return self.start(**options)

    def rss_bytes(self) -> int:
        """Resident memory of the process that nobody else maps: what the zygote shares is not counted."""
        assert self.process is not None
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.MULTILINE))

    # -- what it says --------------------------------------------------------------------------------------------

    def text(self) -> str:
        """All it wrote to stderr, every start."""
        log = self.folder / "log.jsonl"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """Its log lines, or those of one event."""
        rows = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [row for row in rows if event in {"", row["event"]}]

    def ask(self, order: str) -> Any:
        """An order of the control socket."""
        return ask(self.data, order)

    def alarms(self) -> set[tuple[str, str]]:
        """Standing alarms: code and subject."""
        return {(alarm["code"], alarm["subject"]) for alarm in self.ask("status")["alarms"]}

    def link_state(self) -> Any:
        """State, and code of the last error."""
        link = self.ask("status")["link"]
        return link["state"], (link["last_error"] or [""])[0]

    # -- the outbox ----------------------------------------------------------------------------------------------

    @contextmanager
    def view(self) -> Iterator[OutboxView]:
        """The outbox, to look into; the process may run."""
        view = OutboxView(self.store, self.name)
        try:
            yield view
        finally:
            view.close()

    def stream(self, name: str = "his") -> StreamView:
        """Size and cursor of a stream's newest log."""
        with self.view() as view:
            return [stream for stream in view.streams() if stream.origin.stream == name][-1]

    def records(self, stream: str = "his", first: int = 0) -> list[Seen]:
        """The records of a stream from `first` of its oldest log on, over all epochs."""
        with self.view() as view:
            return [
                Seen(record, decode(record.header), decode_particulars(record.particulars))
                for found in [each for each in view.streams() if each.origin.stream == stream]
                for at in range(first if found.start == 0 else 0, found.size, 1000)
                for record in view.table(found.log).records(at, min(1000, found.size - at))
            ]

    def bodies(self, stream: str = "his", first: int = 0) -> list[bytes]:
        """The bodies of a stream from `first` on."""
        return [seen.body for seen in self.records(stream, first)]

    # -- its sources ---------------------------------------------------------------------------------------------

    def feed(self, name: str) -> Feed:
        """The feed of this name."""
        return next(feed for feed in self.feeds if feed.name == name)

    def mllp(self, name: str = "his", **options: Any) -> Mllp:
        """A connection to a feed."""
        return Mllp(self.feed(name).address, **options)

    def send(self, *payloads: bytes, feed: str = "his") -> list[Reply]:
        """Messages, one at a time over one connection; their replies."""
        with self.mllp(feed) as mllp:
            return [mllp.exchange(payload) for payload in payloads]

    def wait_receipted(self, stream: str = "his", size: int = 0) -> None:
        """Wait until everything, and at least `size` records, is receipted."""
        wait_until(
            f"{stream} receipted", lambda: (found := self.stream(stream)).receipted == found.size and found.size >= size
        )


@contextmanager
def running(node: Node, **options: Any) -> Iterator[Node]:
    """A node for the time of the block."""
    try:
        yield node.start(**options)
    finally:
        node.kill()


@dataclass
class Centre(Gateway):
    """A gateway of the rig that starts warm, and may be killed before it is up."""

    def __post_init__(self) -> None:
        self.sync_port, self.api_port = free_port(), free_port()

    def launch(self, *, before: str = "", cold: bool = False) -> None:
        """Start, and wait for nothing; `cold` and `before` as with a Node."""
        path, log = self.config(), self.data / "log.jsonl"
        if cold:
            with log.open("ab") as out:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "gateway", "--config", str(path)],
                    cwd=ROOT,
                    env=calm(),
                    stdout=out,
                    stderr=out,
                )
        else:
            self.process = zygote().start(["gateway", "--config", str(path)], log=log, before=before)  # type: ignore[assignment]

    def start(self, *, before: str = "") -> None:
        """Start and wait until it is healthy."""
        self.launch(before=before)
        wait_until("a gateway that is up", self.is_up)

    def is_up(self) -> bool:
        """Whether it is healthy. RuntimeError where it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended:\n{self.log[-4000:]}")
        try:
            return self.get("/healthz", token="").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False


@contextmanager
def centre(realm: Realm, data: Path) -> Iterator[Centre]:
    """A gateway for the time of the block."""
    gateway = Centre(realm, data)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()


@contextmanager
def open_files(most: int) -> Iterator[None]:
    """Let this process, and what it starts cold, have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
