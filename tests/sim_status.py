"""Status documents of an invented clinic, and the page served from them on a free port of 127.0.0.1."""

import copy
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import urllib3
import uvicorn

from node.catalogue import hint
from node.web.app import make_app
from node.web.verdict import Finding, decide

NOW = "2026-11-22T10:15:30.000Z"
GB = 10**9

Change = dict[str, Any]


def ago(**span: float) -> str:
    """An ISO time before NOW."""
    return (datetime.fromisoformat(NOW) - timedelta(**span)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def feed(name: str, kind: str, address: str, **other: Any) -> Change:
    """One healthy feed."""
    return {
        "name": name, "kind": kind, "stream": name, "address": address, "running": True, "connections": 1, "last_seen": ago(seconds=8),
        "accepted": 0, "warned": 0, "rejected": 0, "refused": 0, "last_error": None, **other,
    }  # fmt: skip


def stream(name: str, size: int, **other: Any) -> Change:
    """One stream that has sent all it has."""
    return {
        "stream": name, "lane": "routine", "epoch": 1, "tag": "7f3a90c2", "size": size, "receipted": size, "waiting": 0, "waiting_bytes": 0,
        "oldest_waiting_at": None, "halted": None, **other,
    }  # fmt: skip


FACTS: Change = {
    "node": "dhofar-clinic-07",
    "facility": "OM-0707",
    "site": {"en": "Wadi Test Health Centre", "ar": "مركز وادي الاختبار الصحي"},
    "version": "0.1.0",
    "now": NOW,
    "core": {"running": True, "since": ago(days=3, hours=4), "boot": "9b41c07e", "kernels": "cython", "pid": 812},
    "feeds": [
        feed("his", "mllp", "10.20.7.4:2575", connections=3, accepted=11_204, warned=12, rejected=3, last_error={"code": "HL7-04", "at": ago(hours=2)}),
        feed("lab", "astm", "10.20.7.4:4001", accepted=1_180, warned=1, last_seen=ago(minutes=4)),
        feed("vitals", "mqtt", "10.20.7.4:1883", connections=9, accepted=24, last_seen=ago(hours=3)),
    ],
    "streams": [stream("his", 11_219, tag="7f3a90c2"), stream("lab", 1_181, lane="critical", tag="51be02aa"), stream("vitals", 24, lane="bulk", tag="c0ffee11")],
    "link": {"state": "up", "gateway": "https://gateway.example.test:8443", "since": ago(hours=6), "last_error": None, "round_trip_ms": 38.4},
    "last_receipt": {"at": ago(seconds=9), "stream": "his", "epoch": 1, "size": 11_219},
    "totals": {"accepted": 12_424, "receipted": 12_424, "waiting": 0},
    "disk": {"free_bytes": 24 * GB, "quota_bytes": 20 * GB, "used_bytes": 2 * GB, "room_bytes": 18 * GB, "stage": "open"},
}  # fmt: skip


def facts(**changes: Any) -> Change:
    """FACTS with changes: dictionaries are merged, all else is replaced."""
    document = copy.deepcopy(FACTS)
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return document


def alarm(code: str, subject: str = "", **span: float) -> Finding:
    """One alarm of the core, an hour old."""
    return Finding(code=code, since=ago(**span or {"hours": 1}), params={"subject": subject})


def status(standing: Sequence[Finding] = (), **changes: Any) -> Change:
    """A whole status document, with the opinion that the node has of these facts, and of the core's alarms."""
    document = facts(**changes)
    return {**document, **decide(document, standing, hint).document()}


def waiting(**changes: Any) -> Change:
    """The link has been down for 12 minutes and 1,204 records wait; room for 9 days."""
    waits = stream(
        "his", 12_423, receipted=11_219, waiting=1_204, waiting_bytes=16_700_000, oldest_waiting_at=ago(minutes=12)
    )
    down = {"state": "down", "since": ago(minutes=12), "round_trip_ms": None,
            "last_error": {"code": "LNK-03", "at": ago(seconds=20), "detail": "connect timed out after 10 s"}}  # fmt: skip
    return status(**{
        "streams": [waits, *FACTS["streams"][1:]], "link": down, "totals": {"accepted": 13_628, "receipted": 12_424, "waiting": 1_204}, **changes,
    })  # fmt: skip


class Clock:
    """A monotonic clock that only a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.seconds


class Node:
    """What the page reads: a document that a test may replace, and sources that a test may break."""

    def __init__(self, document: Change) -> None:
        self.document, self.reads = document, 0
        self.error: Exception | None = None
        self.probe_error: Exception | None = None
        self.ready: tuple[bool, str] = (True, "")

    def status(self) -> Change:
        """The document, or the error."""
        self.reads += 1
        if self.error:
            raise self.error
        return self.document

    def probe(self) -> tuple[bool, str]:
        """As core would answer, or the error."""
        if self.probe_error:
            raise self.probe_error
        return self.ready

    def metrics(self) -> bytes:
        """One metric."""
        return b"wasl_records_total 12424\n"


@contextmanager
def served(node: Node, port: int = 0, **options: Any) -> Iterator[tuple[str, int]]:
    """The page of a node on 127.0.0.1: (address, port)."""
    listener = socket.create_server(("127.0.0.1", port))
    app = make_app(node.status, probe=node.probe, metrics=node.metrics, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def wait_until(is_so: Callable[[], bool], seconds_max: float = 20.0) -> None:
    """Return as soon as something is so; fail where it never is."""
    end = time.monotonic() + seconds_max
    while not is_so():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.02)


@contextmanager
def stream_of(url: str, query: str = "?lang=en", **headers: str) -> Iterator[Iterator[tuple[str | None, str]]]:
    """The messages of /events as (id, data); a comment comes as (None, its line)."""
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        answer = pool.request("GET", f"{url}/events{query}", preload_content=False, headers=headers)
        assert answer.status == 200, answer.status
        try:
            yield _messages(answer)
        finally:
            answer.close()


def _messages(answer: urllib3.BaseHTTPResponse) -> Iterator[tuple[str | None, str]]:
    buffer = b""
    for chunk in answer.stream(1024):
        buffer += chunk
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            lines = block.decode().split("\n")
            data = "\n".join(line[6:] for line in lines if line.startswith("data: "))
            ids = [line[4:] for line in lines if line.startswith("id: ")]
            yield (ids[0], data) if ids else (None, block.decode())
