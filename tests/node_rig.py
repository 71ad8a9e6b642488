"""A small real rig: a node's core as a process over one data folder, its feeds, and a look into its outbox. The door to what stands beside it."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.control import ask
from node.errors import CoreSilent
from sync.header import decode, decode_particulars
from sync.outbox_view import OutboxView, StreamView
from tests.centre_rig import Centre, centre
from tests.gateway_rig import GATEWAY, Gateway, Realm
from tests.mllp_rig import END, START, Mllp, Reply, message
from tests.ports import free_port
from tests.seen_rig import Seen
from tests.waiting import WAIT_S_MAX, wait_until
from tests.warm_start import ROOT, Warm, calm, zygote

__all__ = [  # what stands beside it too: most tests need some of each
    "EAGER", "END", "GATEWAY", "NAME", "ROOT", "START", "WAIT_S_MAX", "Centre", "Feed", "Gateway", "Mllp", "Node", "Realm", "Reply", "Seen",
    "centre", "free_port", "message", "open_files", "running", "wait_until",
]  # fmt: skip

NAME = "clinic-7"
# Python that a process runs first: it comes again at once where it would wait up to a minute
# a test that sends message after message would wait a second for each; unmodified commands, and the simulator, have that second
SOON = "import sync.pace; sync.pace.LINGER_S = 0.05"
EAGER = "import sync.pace as pace; pace.WAIT_S_MIN = pace.WAIT_S_MAX = 0.05"


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
            self.process = zygote().start(["node", *argv], log=log, before=f"{SOON}\n{before}")

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


@contextmanager
def open_files(most: int) -> Iterator[None]:
    """Let this process, and what it starts cold, have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
