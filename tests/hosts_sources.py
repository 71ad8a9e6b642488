"""What sends to the node in a run of two hosts, one source to a lane, and the reckoning at the end."""

import base64
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from node.tools.hospital import Hospital
from tests.node_rig import END, START, Centre

AGAIN_S = 0.05  # between two tries to connect: the node may be starting
REPLY_S_MAX = 30.0
# Of a document: two thirds are above a quantum at 64 kbit/s and go in parts, the others in one call.
SCAN_BYTES = (4_000, 40_000)


class ReckoningError(Exception):
    """A promise is broken."""


@dataclass(frozen=True)
class Lane:
    """A feed with its stream and lane, and how long its source waits between two messages."""

    feed: str
    lane: str
    pause_s: float


# At 64 kbit/s these offer about half of what the line carries when nothing is cut or lost.
LANES = (Lane("alarm", "critical", 2.0), Lane("his", "routine", 0.4), Lane("archive", "bulk", 9.0))


def alarms(dice: random.Random) -> Callable[[str], bytes]:
    """A monitor's alarms: small, and each different."""
    return lambda control_id: (
        f"MSH|^~\\&|MON-SIM|DEMO|HUB|MOH|20260101080000||ORU^R40|{control_id}|P|2.6||||||UNICODE UTF-8\r"
        f"PID|1||900000000017||TESTOVA^AMAL\rOBX|1|NM|8867-4^Heart rate^LN||{dice.randrange(20, 240)}|/min|50-120|HH|||F\r"
    ).encode()


def results(dice: random.Random) -> Callable[[str], bytes]:
    """The simulated hospital's traffic, under ids of ours."""
    hospital = Hospital(dice.randrange(999_999))

    def make(control_id: str) -> bytes:
        sent = hospital.next_message(now=datetime(2026, 1, 1, tzinfo=UTC))
        return sent.raw.replace(sent.control_id.encode(), control_id.encode(), 1)

    return make


def scans(dice: random.Random) -> Callable[[str], bytes]:
    """Documents that do not compress."""

    def make(control_id: str) -> bytes:
        text = base64.b64encode(dice.randbytes(dice.randrange(*SCAN_BYTES) * 3 // 4)).decode()
        return (
            f"MSH|^~\\&|SCAN-SIM|DEMO|HUB|MOH|20260101080000||MDM^T02|{control_id}|P|2.6||||||UNICODE UTF-8\r"
            f"PID|1||900000000017||TESTOVA^AMAL\rOBX|1|ED|SCAN^Test||{text}\r"
        ).encode()

    return make


MAKERS = {"alarm": alarms, "his": results, "archive": scans}


@dataclass(eq=False)
class Source(threading.Thread):
    """One system: sends, waits for the acknowledgement, repeats the same bytes over a new connection until it has come."""

    lane: Lane
    address: tuple[str, int]
    host: Callable[[], AbstractContextManager[None]]
    dice: random.Random
    acknowledged: list[bytes] = field(default_factory=list)
    repeats: int = 0
    finishing: bool = False
    fault: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._make = MAKERS[self.lane.feed](self.dice)
        self._socket: socket.socket | None = None

    def run(self) -> None:
        """Send until told to finish; what was sent is acknowledged by then."""
        while not self.finishing and not self.fault:
            raw = self._make(f"{self.lane.feed[:3].upper()}-{len(self.acknowledged):08}")
            while not self._is_taken(raw) and not self.fault:
                self.repeats += 1
                time.sleep(AGAIN_S)
            self.acknowledged.append(raw)
            time.sleep(self.lane.pause_s * self.dice.uniform(0.5, 1.5))
        if self._socket is not None:
            self._socket.close()

    def _is_taken(self, raw: bytes) -> bool:
        try:
            reply = self._exchange(raw)
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            return False
        if b"MSA|AA|" + raw.split(b"|", 10)[9] not in reply:
            self.fault = f"{self.lane.feed}: {reply!r}"
        return True

    def _exchange(self, raw: bytes) -> bytes:
        if self._socket is None:
            with self.host():
                self._socket = socket.create_connection(self.address, REPLY_S_MAX)
        self._socket.sendall(START + raw + END)
        reply = b""
        while END not in reply:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed without a reply")
            reply += data
        return reply


def reckon(centre: Centre, node: str, source: Source) -> int:
    """Compare what the gateway gives a consumer of this stream with what was acknowledged; how many. Raises ReckoningError."""
    position, lane = 0, source.lane
    while lines := centre.get(
        f"/v1/nodes/{node}/streams/{lane.feed}/records?from={position}&limit=1000"
    ).data.splitlines():
        for row in map(json.loads, lines):
            if (row["epoch"], row["seq"], row["verdict"]) != (1, position, "accepted"):
                raise ReckoningError(f"{lane.feed} {position}: found {row['epoch']}/{row['seq']}, {row['verdict']}")
            if position >= len(source.acknowledged):
                raise ReckoningError(f"{lane.feed}: more at the gateway than the {position} that were acknowledged")
            if base64.b64decode(row["body"]) != source.acknowledged[position]:
                raise ReckoningError(f"{lane.feed} {position}: other bytes than were acknowledged")
            position += 1
    if position != len(source.acknowledged):
        raise ReckoningError(f"{lane.feed}: {len(source.acknowledged)} acknowledged, {position} at the gateway")
    return position
