"""`make bench`: every figure as a ratio against a peer or a limit measured in the same run. Prints a table and writes docs/performance.md.

Run: python tests/bench/run.py [--quick]
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from node.control import ask
from node.errors import CoreSilent
from node.tools.hospital import Hospital
from node.tools.mllp_client import MllpClient
from node.tools.pki import issue_gateway, issue_node, make_authority

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))  # `tests` is no package of the installation
from sync.outbox_view import OutboxView  # noqa: E402  # the path is set above
from tests.bench.link_bytes import CountingProxy, as_fhir, in_batches  # noqa: E402  # as above

PEERS = ROOT / "peers/py/bin/python"
CORPUS = ROOT.parent / "shared/corpus"
CONNECTIONS = 64
MEMORY_MESSAGES = 100_000
BATCHES = (1, 8, 32)  # records a PUT: a quiet clinic's, and the smallest that the wanted figure speaks of
BATCH_WANTED = 32
SAMPLE = 90  # messages for hl7apy, spread over all: at some 15 a second the whole corpus would take minutes

NODE = """
[node]
name = "bench"
facility = "BENCH"
site = {{ en = "Bench", ar = "قياس" }}
data_dir = "data"
[keys]
link_key = "pki/link.key"
link_certificate = "pki/link.pem"
log_key = "pki/log.key"
log_certificate = "pki/log.pem"
ca = "ca/ca.pem"
{gateway}
[web]
listen = "127.0.0.1:0"
[[feeds]]
name = "his"
kind = "mllp"
listen = ["127.0.0.1:{port}"]
"""
GATEWAY = """
[gateway]
name = "central"
data_dir = "ledger"
[sync]
listen = "127.0.0.1:{sync}"
certificate = "gw/server.pem"
key = "gw/server.key"
ca = "ca/ca.pem"
crl = "ca/crl.der"
[cosign]
key = "gw/cosign.key"
certificate = "gw/cosign.pem"
[api]
listen = "127.0.0.1:{api}"
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def run_json(*command: object) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if str(command[0]) == str(PEERS):
        environment.pop("PYTHONPATH")  # the peer's package is also called hl7
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, cwd=HERE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def wait_for_port(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port}")


@contextlib.contextmanager
def process(*command: object, port: int, peers: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": "" if peers else str(ROOT)}
    child = subprocess.Popen(list(map(str, command)), env=environment, cwd=HERE, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)


@contextlib.contextmanager
def node(folder: Path, gateway: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    if not (folder / "ca").exists():
        make_authority(folder / "ca", "Bench")
        issue_node(folder / "ca", folder / "pki", "bench")
    (folder / "node.toml").write_text(NODE.format(port=port, gateway=gateway))
    with process(sys.executable, "-m", "node.cli", "node", "--config", folder / "node.toml", port=port) as child:
        yield child, port


def load(port: int, seconds: float, messages: int = 0) -> dict[str, Any]:
    return run_json(sys.executable, HERE / "load.py", "127.0.0.1", port, CONNECTIONS, seconds, messages)


def rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


def mean_group(folder: Path) -> int:
    text = str(ask(folder / "data", "metrics"))
    found = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
    return max(1, round(found["wasl_commit_records_total"] / found["wasl_commits_total"]))


def intake(scratch: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Ours and the plain way in turn, then the bare loop with our group size."""
    ours, plain, bare, groups = [], [], [], []
    for turn in range(rounds):
        folder = scratch / f"intake{turn}"
        folder.mkdir()
        with node(folder) as (_, port):
            load(port, 1.0)
            ours.append(load(port, seconds))
            groups.append(mean_group(folder))
        plain_port = free_port()
        with process(
            PEERS, HERE / "plain_server.py", plain_port, scratch / f"plain{turn}.db", port=plain_port, peers=True
        ):
            plain.append(load(plain_port, seconds))
        bare.append(
            run_json(
                sys.executable,
                HERE / "bare.py",
                folder / "data/outbox.db",
                scratch / f"bare{turn}.db",
                groups[-1],
                seconds,
            )
        )
    return {"ours": ours, "plain": plain, "bare": bare, "group": statistics.median(groups)}


def messages_file(scratch: Path) -> tuple[Path, Path, str]:
    """The corpus's messages, or generated ones where it is absent, and a sample of them; with CR between segments, as on the wire."""
    index = CORPUS / "INDEX.tsv"
    if index.exists():
        rows = [line.split("\t") for line in index.read_text().splitlines()[1:]]
        found = [(CORPUS / row[0]).read_bytes() for row in rows if row[10] == "clean"]
        source = f"{len(found)} clean messages of the corpus"
    else:
        hospital = Hospital(1)
        found = [hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC)).raw for _ in range(500)]
        source = f"{len(found)} generated messages (no corpus here)"
    found = [raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r") for raw in found]
    path, sample = scratch / "messages.bin", scratch / "sample.bin"
    path.write_bytes(b"".join(len(raw).to_bytes(4, "big") + raw for raw in found))
    sample.write_bytes(b"".join(len(raw).to_bytes(4, "big") + raw for raw in found[:: max(1, len(found) // SAMPLE)]))
    return path, sample, source


def er7(scratch: Path, seconds: float) -> dict[str, Any]:
    path, sample, source = messages_file(scratch)
    return {
        "source": source,
        "ours": run_json(sys.executable, HERE / "er7_ours.py", path, seconds),
        "python-hl7": run_json(PEERS, HERE / "er7_peers.py", "python-hl7", path, seconds),
        "hl7lw": run_json(PEERS, HERE / "er7_peers.py", "hl7lw", path, seconds),
        "ours, sample": run_json(sys.executable, HERE / "er7_ours.py", sample, seconds),
        "hl7apy": run_json(PEERS, HERE / "er7_peers.py", "hl7apy", sample, seconds),
    }


def memory(scratch: Path, messages: int) -> list[tuple[int, float]]:
    """Resident memory as messages go by."""
    folder = scratch / "memory"
    folder.mkdir()
    seen = []
    with node(folder) as (child, port):
        seen.append((0, rss_mib(child.pid)))
        for part in range(5):
            load(port, 600, messages // 5)
            seen.append(((part + 1) * messages // 5, rss_mib(child.pid)))
    return seen


def wire(scratch: Path, hospital: int) -> dict[str, Any]:
    """Bytes on the link per message, all in, for other people's messages and for a simulated clinic's; and the peer's for the same."""
    found = {}
    corpus = [raw for raw in messages_of(messages_file(scratch)[0]) if raw]
    for name, messages in (("corpus", corpus), ("clinic", hospital_messages(hospital))):
        folders = {what: scratch / f"{name}-{what}" for what in ("drained", "fhir", *map(str, BATCHES))}
        for folder in folders.values():
            folder.mkdir()
        found[name] = {
            "messages": len(messages), "raw": sum(map(len, messages)) / len(messages), **drained(folders["drained"], messages),
            "fhir": as_fhir(folders["fhir"], messages), **{f"by {count}": in_batches(folders[str(count)], messages, count) for count in BATCHES},
        }  # fmt: skip
    return found


def messages_of(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def drained(folder: Path, messages: list[bytes]) -> dict[str, float]:
    """A node takes the messages with the link down; then the link comes up."""
    sync, api = free_port(), free_port()
    make_authority(folder / "ca", "Bench")
    issue_node(folder / "ca", folder / "pki", "bench")
    issue_gateway(folder / "ca", folder / "gw", "central", ["127.0.0.1"])
    (folder / "gateway.toml").write_text(GATEWAY.format(sync=sync, api=api))
    proxy = CountingProxy(sync)
    gateway = f'[gateway]\nurl = "https://127.0.0.1:{proxy.port}"\nname = "central"\n'
    with node(folder, gateway) as (_, port):
        with MllpClient(("127.0.0.1", port)) as client:
            for raw in messages:
                client.send(raw)
        proxy.up = proxy.down = 0
        with process(sys.executable, "-m", "gateway", "--config", folder / "gateway.toml", port=sync):
            ask(folder / "data", "retry")
            for _ in range(600):
                view = OutboxView(folder / "data/outbox.db", "bench")
                (stream,) = view.streams()
                view.close()
                if stream.receipted == stream.size:
                    break
                time.sleep(0.1)
            else:
                raise SystemExit("the queue did not drain")
            calls = ask(folder / "data", "status")["link"]["calls"]
    proxy.close()
    return {
        "drained": proxy.total / stream.size,
        "up": proxy.up / stream.size,
        "batch": stream.size / max(1, calls - 1),
        "stored": stream.size,
    }


def hospital_messages(count: int) -> list[bytes]:
    """A simulated clinic's, half a minute apart, of a seed that no dictionary was trained on."""
    hospital, now = Hospital(1), datetime(2026, 1, 1, tzinfo=UTC)
    return [hospital.next_message(now=now + number * timedelta(seconds=31.7)).raw for number in range(count)]


def median(rows: list[dict[str, Any]], key: str = "per_s") -> float:
    return statistics.median(row[key] for row in rows)


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    return statistics.median(a["per_s"] / b["per_s"] for a, b in zip(ours, theirs, strict=True))


def wire_rows(link: dict[str, Any]) -> list[tuple[str, str, str]]:
    """All in, both directions, against the messages' own bytes and against signed FHIR."""
    rows = []
    for name, one in link.items():
        ways = [("drained", one["batch"]), *((f"by {count}", float(count)) for count in BATCHES)]
        for way, count in ways:
            batch = f"{count:.0f} records a batch"
            raw, fhir = ("1/6", "1/10") if count >= BATCH_WANTED else ("none", "none")
            rows += [
                (f"{name}, {batch}: bytes on the link, raw {one['raw']:.0f} B a message", f"{one[way]:.0f} B, 1/{one['raw'] / one[way]:.1f}", raw),
                (f"{name}, {batch}: against signed FHIR one by one ({one['fhir']:.0f} B)", f"1/{one['fhir'] / one[way]:.1f}", fhir),
            ]  # fmt: skip
    return rows


def report(found: dict[str, Any]) -> str:
    one, two, seen, disk, link = found["intake"], found["er7"], found["memory"], found["written"], found["wire"]
    thin, devices = found["lanes"], found["devices"]
    parse = two["ours"]["per_s"]
    rows = [
        ("intake over 64 connections, against python-hl7 + peewee", f"{ratio(one['ours'], one['plain']):.1f} x", "30 x"),
        (
            f"intake, against a bare group-commit loop of the same rows (groups of {one['group']:.0f})",
            f"{ratio(one['ours'], one['bare']):.3f}", "0.25",
        ),
        ("index and 12 fields, against python-hl7's parse", f"{parse / two['python-hl7']['per_s']:.0f} x", "100 x"),
        ("index and 12 fields, against hl7apy's parse", f"{two['ours, sample']['per_s'] / two['hl7apy']['per_s']:,.0f} x", "3,000 x"),
        ("index and 12 fields, against hl7lw's parse", f"{parse / two['hl7lw']['per_s']:.1f} x", "5 x"),
        (f"resident memory after {seen[-1][0]:,} messages", f"{seen[-1][1]:.1f} MiB", "80 MiB"),
        ("growth over the last four fifths of them", f"{seen[-1][1] - seen[1][1]:+.1f} MiB", "flat"),
        ("written to disk per 1 kB message, groups of 8", f"{disk[8]['bytes'] / 1000:.2f} kB", "7 kB"),
        ("written to disk per 1 kB message, groups of 32", f"{disk[32]['bytes'] / 1000:.2f} kB", "4.2 kB"),
        ("written to disk per 1 kB message trimmed later", f"{disk[32]['trimming'] / 1000:.2f} kB", "3 kB"),
        *wire_rows(link),
        (
            (f"worst wait of a critical record behind {thin['backlog']:,} bulk ones at 64 kbit/s; in one FIFO over {thin['fifo_at_least_s']} s, "
            f"by its rate {thin['fifo_projected_s']:.0f} s"),
            f"{thin['critical_s'][-1]:.2f} s", "2 s",
        ),
        ("drain: compressed payload against raw TCP on that link (20 ms)", f"{thin['efficiency']:.3f}", "0.90"),
        (
            (f"16 serial ports at 115200 baud, 200 MQTT topics and 32 Modbus points at 1 Hz ({devices['line_bytes_per_s']:,} bytes/s on the lines, "
            f"{devices['records_per_s']:.0f} records/s; ports with a byte lost: {len(devices['ports_with_a_byte_lost'])}): share of one core"),
            f"{devices['share_of_one_core']:.2f}", f"{devices['wanted_below']}",
        ),
    ]  # fmt: skip
    lines = ["| figure | measured | wanted |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    absolute = (
        f"In that run: ours {median(one['ours']):,.0f} messages/s (p50 {median(one['ours'], 'p50_ms'):.1f} ms, p99 {median(one['ours'], 'p99_ms'):.1f} ms), "
        f"plain {median(one['plain']):,.0f}/s, bare loop {median(one['bare']):,.0f} rows/s; parse over {two['source']}: ours {parse:,.0f}/s, "
        f"hl7lw {two['hl7lw']['per_s']:,.0f}/s, python-hl7 {two['python-hl7']['per_s']:,.0f}/s, hl7apy {two['hl7apy']['per_s']:,.1f}/s "
        f"(what a peer refuses is left out of its time). Memory: {', '.join(f'{n:,}: {m:.1f}' for n, m in seen)} MiB."
    )
    return "\n".join(lines) + "\n\n" + absolute + "\n"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="shorter rounds; the ratios scatter more")
    arguments.add_argument("--only", default="", help="intake, er7, memory, written, wire, lanes or devices")
    chosen = arguments.parse_args()
    if not PEERS.exists():
        raise SystemExit("the peers' environment is missing: run .ci/setup test")
    seconds, rounds, most = (3.0, 1, 20_000) if chosen.quick else (8.0, 5, MEMORY_MESSAGES)
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT))
    try:
        parts = {
            "intake": lambda: intake(scratch, seconds, rounds),
            "er7": lambda: er7(scratch, seconds),
            "memory": lambda: memory(scratch, most),
            "written": lambda: {
                group: run_json(sys.executable, HERE / "written.py", scratch, group, 6400) for group in (8, 32)
            },
            "wire": lambda: wire(scratch, 2000),
            "lanes": lambda: run_json(
                sys.executable, HERE / "lanes.py", scratch, *(["--quick"] if chosen.quick else [])
            ),
            "devices": lambda: run_json(sys.executable, HERE / "devices.py", "--seconds", 20 if chosen.quick else 60),
        }
        if chosen.only:
            print(json.dumps(parts[chosen.only](), indent=1))
            return
        found = {name: part() for name, part in parts.items()}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table = report(found)
    print(table)
    if not chosen.quick:
        write_page(table)


def write_page(table: str) -> None:
    machine = (
        f"{os.cpu_count()} cores {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    (ROOT / "docs/performance.md").write_text(
        "# Performance\n\nEvery figure is a ratio against a peer or a limit measured in the same run: absolute speeds below are of one noisy\n"
        "virtual machine and mean nothing by themselves. Written by `make bench`; what each row runs is in `tests/bench/`.\n\n"
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}.\n\n{table}"
    )


if __name__ == "__main__":
    try:
        main()
    except CoreSilent as error:
        raise SystemExit(f"the core fell silent: {error}") from error
