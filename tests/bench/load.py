"""An MLLP load: many connections, one message in flight on each. Prints one JSON line. Run: python load.py HOST PORT CONNECTIONS SECONDS [MESSAGES]

It shares the machine with what it measures, so it is a bare loop over epoll: what it spends, the other side has not.
"""

import json
import select
import socket
import sys
import time

HEAD = b"MSH|^~\\&|LAB-SIM|DEMO|EHR|MOH|20261122101500||ORU^R01^ORU_R01|%s|P|2.5.1|||||||UNICODE UTF-8\r"
BODY = (
    b"PID|1||900000000017||TESTOVA^AMAL^^^^^L^A||19800101|F\rOBR|1|P1|F1|58410-2^CBC^LN|||20261122100000\r"
    + b"".join(b"OBX|%d|NM|718-7^Hemoglobin^LN||13.%d|g/dL|12-16|N|||F\r" % (n, n) for n in range(1, 10))
)
REPLY_BYTES_MAX = 65536


def message(control_id: bytes) -> bytes:
    """A framed ORU of 700 bytes, if the control id has 32."""
    return START + control_id + END


TEXT = HEAD % bytes(32) + BODY
START, END = (b"\x0b" + TEXT + b"NTE|1||" + b"." * (691 - len(TEXT)) + b"\r\x1c\r").split(bytes(32))


class Sender:
    """One connection: what it sends next, when it sent the last, and what came of the reply."""

    __slots__ = ("began", "head", "number", "recv", "reply", "send", "socket")

    def __init__(self, run: int, number: int, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.recv, self.send = self.socket.recv, self.socket.sendall
        self.head = START + b"%d-%02d-" % (run, number)
        self.number, self.began, self.reply = 0, 0.0, b""

    def next(self, now: float) -> None:
        self.number += 1
        self.began = now
        self.send(self.head + b"%09d" % self.number + END)


def go(host: str, port: int, connections: int, seconds: float, messages: int) -> None:
    run, waits = time.time_ns(), list[float]()
    ready, clock = select.epoll(), time.perf_counter
    senders = {}
    for number in range(connections):
        sender = Sender(run, number, host, port)
        senders[sender.socket.fileno()] = sender
        ready.register(sender.socket, select.EPOLLIN)
    began = now = clock()
    for sender in senders.values():
        sender.next(now)
    under_way = connections
    while under_way:
        for descriptor, _ in ready.poll():
            sender = senders[descriptor]
            reply = sender.reply + sender.recv(REPLY_BYTES_MAX)
            if reply[-2:] != b"\x1c\r":
                sender.reply = reply
                continue
            if b"MSA|AA|" not in reply:
                raise SystemExit(f"not accepted: {reply!r}")
            sender.reply = b""
            now = clock()
            waits.append(now - sender.began)
            if now - began < seconds and (not messages or len(waits) + under_way <= messages):
                sender.next(now)
            else:
                under_way -= 1
    waits.sort()
    print(
        json.dumps(
            {
                "messages": len(waits),
                "per_s": len(waits) / (now - began),
                "p50_ms": waits[len(waits) // 2] * 1000,
                "p99_ms": waits[len(waits) * 99 // 100] * 1000,
                "bytes": len(message(bytes(32))) - 3,
            }
        )
    )


if __name__ == "__main__":
    go(
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
        int(sys.argv[5]) if len(sys.argv) > 5 else 0,
    )
