"""An MLLP load: many connections, one message in flight on each. Prints one JSON line. Run: python load.py HOST PORT CONNECTIONS SECONDS [MESSAGES]"""

import asyncio
import json
import sys
import time

import uvloop

HEAD = b"MSH|^~\\&|LAB-SIM|DEMO|EHR|MOH|20261122101500||ORU^R01^ORU_R01|%s|P|2.5.1|||||||UNICODE UTF-8\r"
BODY = (
    b"PID|1||900000000017||TESTOVA^AMAL^^^^^L^A||19800101|F\rOBR|1|P1|F1|58410-2^CBC^LN|||20261122100000\r"
    + b"".join(b"OBX|%d|NM|718-7^Hemoglobin^LN||13.%d|g/dL|12-16|N|||F\r" % (n, n) for n in range(1, 10))
)


def message(control_id: bytes) -> bytes:
    """A framed ORU of about 700 bytes."""
    text = HEAD % control_id + BODY
    return b"\x0b" + text + b"NTE|1||" + b"." * (691 - len(text)) + b"\r\x1c\r"


class Sender(asyncio.Protocol):
    """Sends the next message when the reply to the last has come."""

    def __init__(self, load: "Load", number: int) -> None:
        self.load, self.number, self.sent = load, number, 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        self.sent += 1
        self.began = time.perf_counter()
        self.transport.write(message(b"%d-%d-%d" % (self.load.run, self.number, self.sent)))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith(b"\x1c\r"):
            if b"MSA|AA|" not in self.buffer:
                raise SystemExit(f"not accepted: {self.buffer!r}")
            self.buffer = b""
            self.load.waits.append(time.perf_counter() - self.began)
            if self.load.running():
                self.next()


class Load:
    def __init__(self, messages: int) -> None:
        self.run, self.messages, self.stopped = time.time_ns(), messages, False
        self.waits: list[float] = []

    def running(self) -> bool:
        return not self.stopped and (not self.messages or len(self.waits) < self.messages)

    async def go(self, host: str, port: int, connections: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for number in range(connections):
            await loop.create_connection(lambda number=number: Sender(self, number), host, port)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds and self.running():
            await asyncio.sleep(0.02)
        took, count = time.perf_counter() - began, len(self.waits)
        self.stopped = True
        await asyncio.sleep(0.2)
        waits = sorted(self.waits)
        print(
            json.dumps(
                {
                    "messages": count,
                    "per_s": count / took,
                    "p50_ms": waits[len(waits) // 2] * 1000,
                    "p99_ms": waits[len(waits) * 99 // 100] * 1000,
                    "bytes": len(message(b"%d-1-1" % self.run)) - 3,
                }
            )
        )


if __name__ == "__main__":
    uvloop.run(
        Load(int(sys.argv[5]) if len(sys.argv) > 5 else 0).go(
            sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
        )
    )
