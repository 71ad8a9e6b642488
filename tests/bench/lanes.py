"""Lanes on a thin link: how long a critical record waits behind a backlog, against one FIFO, and how much of the link a drain uses.

Node and gateway are processes; the link is tests/bench/thin_link.py. Prints one JSON line. Run: python lanes.py SCRATCH [--quick]
"""

import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from run import GATEWAY, free_port, process
from thin_link import ThinLink, raw_goodput

from node.control import ask
from node.tools.hospital import Hospital
from node.tools.pki import issue_gateway, issue_node, make_authority
from sync.outbox_view import OutboxView

RATE = 8000.0  # 64 kbit/s
DELAY_S = 0.01  # each way
BACKLOG = 10_000
WINDOW = 64  # messages in flight while filling
NODE = """
[node]
name = "bench"
facility = "BENCH"
site = {{ en = "Bench", ar = "قياس" }}
data_dir = "data"
[keys]
link_key = "../pki/link.key"
link_certificate = "../pki/link.pem"
log_key = "../pki/log.key"
log_certificate = "../pki/log.pem"
ca = "../ca/ca.pem"
[gateway]
url = "https://127.0.0.1:{link}"
name = "central"
[web]
listen = "127.0.0.1:0"
[[streams]]
name = "archive"
lane = "bulk"
[[streams]]
name = "alarm"
lane = "critical"
[[feeds]]
name = "archive"
kind = "mllp"
listen = ["127.0.0.1:{archive}"]
[[feeds]]
name = "alarm"
kind = "mllp"
listen = ["127.0.0.1:{alarm}"]
"""


def message(number: int) -> bytes:
    return (
        f"MSH|^~\\&|MON-SIM|DEMO|HUB|MOH|20260101080000||ORU^R40|CRIT-{number}|P|2.6||||||UNICODE UTF-8\r"
        f"PID|1||900000000017||TESTOVA^AMAL\rOBX|1|NM|8867-4^Heart rate^LN||18{number % 10}|/min|50-120|HH|||F\r"
    ).encode()


def send(port: int, payloads: list[bytes]) -> None:
    """All of them in order, WINDOW at a time, each acknowledged."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for at in range(0, len(payloads), WINDOW):
            part = payloads[at : at + WINDOW]
            sock.sendall(b"".join(b"\x0b" + each + b"\x1c\r" for each in part))
            replies = b""
            while replies.count(b"\x1c\r") < len(part):
                replies += sock.recv(65536)
            if replies.count(b"MSA|AA") != len(part):
                raise SystemExit(f"not accepted: {replies[:300]!r}")


class Bench:
    """One node and one gateway with the link between them."""

    def __init__(self, folder: Path, backlog: list[bytes]) -> None:
        self.folder, self.backlog = folder, backlog
        folder.mkdir(exist_ok=True)
        self.archive, self.alarm, self.sync = free_port(), free_port(), free_port()
        self.link = ThinLink(free_port(), self.sync, rate=RATE, delay_s=DELAY_S)
        self.numbers = iter(range(1_000_000))

    @contextmanager
    def running(self) -> Iterator["Bench"]:
        """Both run, the backlog is in the outbox, and the link has just come up."""
        made = self.folder
        if not (made / "ca").exists():
            make_authority(made / "ca", "Bench")
            issue_node(made / "ca", made / "pki", "bench")
            issue_gateway(made / "ca", made / "gw", "central", ["127.0.0.1"])
        home = made / f"node-{self.archive}"
        home.mkdir()
        (made / "gateway.toml").write_text(
            GATEWAY.format(sync=self.sync, api=free_port()).replace('"ledger"', f'"ledger-{self.sync}"')
        )
        (home / "node.toml").write_text(
            NODE.format(link=self.link.port, archive=self.archive, alarm=self.alarm), encoding="utf-8"
        )
        self.link.up = False
        with (
            process(sys.executable, "-m", "gateway", "--config", made / "gateway.toml", port=self.sync),
            process(sys.executable, "-m", "node.cli", "node", "--config", home / "node.toml", port=self.archive),
        ):
            send(self.archive, self.backlog)
            self.data = home / "data"
            self.view = OutboxView(self.data / "outbox.db", "bench")
            self.link.up = True
            ask(self.data, "retry")
            try:
                yield self
            finally:
                self.view.close()
                self.link.close()

    def receipted(self, stream: str) -> tuple[int, int]:
        found = next(each for each in self.view.streams() if each.origin.stream == stream)
        return found.receipted, found.size

    def latency(self, feed: str, s_max: float) -> float | None:
        """From one record's acknowledgement to its receipt; None where it does not come in time."""
        port = self.alarm if feed == "alarm" else self.archive
        send(port, [message(next(self.numbers))])
        began = time.perf_counter()
        wanted = self.receipted(feed)[1]
        while self.receipted(feed)[0] < wanted:
            if time.perf_counter() - began > s_max:
                return None
            time.sleep(0.01)
        return time.perf_counter() - began


def drained(bench: Bench, seconds: float) -> dict[str, float]:
    """Payload bytes a second over whole calls."""
    edges: list[tuple[float, int]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        sent = int(ask(bench.data, "status")["link"]["lanes"]["bulk"]["octets_sent"])
        if not edges or sent != edges[-1][1]:
            edges.append((time.perf_counter(), sent))
        time.sleep(0.01)
    (first, before), (last, after) = edges[1], edges[-1]
    return {"payload_per_s": (after - before) / (last - first), "calls": len(edges) - 2}


def main(scratch: Path, *, quick: bool) -> dict[str, Any]:
    hospital, count = Hospital(1), 2_000 if quick else BACKLOG
    backlog = [hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw for _ in range(count)]
    found: dict[str, Any] = {"backlog": count, "rate_bytes_per_s": RATE, "round_trip_s": 2 * DELAY_S}
    with socket.create_server(("127.0.0.1", 0)) as sink:
        link = ThinLink(free_port(), sink.getsockname()[1], rate=RATE, delay_s=DELAY_S)
        found["raw_per_s"] = raw_goodput(link, sink, 5 if quick else 10)
        link.close()
    with Bench(scratch / "lanes", backlog).running() as bench:
        bench.latency("alarm", 60)  # the connection's handshake is not the record's wait
        time.sleep(3)
        found["drain"] = drained(bench, 8 if quick else 20)
        found["efficiency"] = found["drain"]["payload_per_s"] / found["raw_per_s"]
        waits = []
        for number in range(4 if quick else 12):
            waits.append(bench.latency("alarm", 60) or 60.0)
            time.sleep(0.37 + 0.11 * (number % 5))  # at another place of the bulk call each time
        found["critical_s"] = sorted(round(wait, 3) for wait in waits)
        found["bulk_waiting"] = bench.receipted("archive")[1] - bench.receipted("archive")[0]
    with Bench(scratch / "lanes", backlog).running() as bench:
        time.sleep(3)
        before, began = bench.receipted("archive")[0], time.perf_counter()
        s_max = 8 if quick else 20
        found["fifo_s"] = bench.latency("archive", s_max)
        done, size = bench.receipted("archive")
        rate = (done - before) / (time.perf_counter() - began)
        found["fifo_at_least_s"] = s_max
        found["fifo_projected_s"] = round((size - before) / rate, 1)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), quick="--quick" in sys.argv)))
