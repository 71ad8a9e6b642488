"""A blocking MLLP sender, as an interface engine has one: a message is done when its own reply came, and not before.

It sends the same bytes again, over a new connection, until a reply names the message's control id (MSA-2). So a reply
that was lost, or belongs to an earlier message, never lets a message pass as delivered.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from types import TracebackType
from typing import Self

from hl7.mllp import Broken, Decoder, Frame, encode
from hl7.mllp import Event as MllpEvent
from node.tools.hospital import ALL_KINDS, Hospital, Kind, Sent
from node.tools.hospital_town import RUN_MAX

CONNECT_WAIT_S = 5.0  # a host on the same site answers in milliseconds
REPLY_WAIT_S = 10.0  # HAPI's default; Mirth waits 5 s, so a receiver that serves both is far below
QUIET_S = 0.5  # nothing for so long: a reply that lacks its final CR is complete; and a stop is noticed
RETRY_PAUSE_S = 0.5  # long enough not to busy a receiver that is starting, short enough to see it return
READ_BYTES = 65_536  # any reply in one read
REPLY_BYTES_MAX = 1_048_576  # a reply is some hundred bytes; what is larger is not one


class NoReplyError(Exception):
    """The receiver's or the network's fault: no reply for this message within the attempts allowed."""


class StoppedError(Exception):
    """Nobody's fault: the caller's stop event was set before the reply came. The message may have been taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """MSA-1 and MSA-2 of an acknowledgement."""

    ack_code: str
    control_id: bytes


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[IPv6]:port` -> (host, port). ValueError: anything else."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536 or (":" in host and not bracketed):
        raise ValueError(f"{text!r} is not host:port")
    return (host[1:-1] if bracketed else host), int(port)


def control_id_of(raw: bytes) -> bytes:
    """MSH-10 as it stands; empty where there is no MSH to hold one."""
    if not raw.startswith(b"MSH") or len(raw) < 4:
        return b""
    fields = _segments(raw)[0].split(raw[3:4])
    return fields[9] if len(fields) > 9 else b""  # MSH-1 is the separator itself: MSH-10 is the tenth of the parts


def read_reply(payload: bytes) -> Reply | None:
    """Find MSA in a reply; None where it is no acknowledgement. Reads without hl7, whose work it is here to test."""
    if not payload.startswith(b"MSH") or len(payload) < 4:
        return None
    for segment in _segments(payload)[1:]:
        fields = segment.split(payload[3:4])
        if fields[0] == b"MSA" and len(fields) > 1:
            return Reply(
                ack_code=fields[1].decode("ascii", "replace"), control_id=fields[2] if len(fields) > 2 else b""
            )
    return None


def _segments(raw: bytes) -> list[bytes]:
    return raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")


class MllpClient:
    """One sending connection, opened when needed; one message in flight. Not for several threads.

    Counters: `frames_sent` on the wire, resends included; `strays`, replies that belonged to no waiting message.
    attempts_max None: keep trying, as a hospital does; `stop` ends it.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        reply_wait_s: float = REPLY_WAIT_S,
        retry_pause_s: float = RETRY_PAUSE_S,
        attempts_max: int | None = None,
        stop: Event | None = None,
    ) -> None:
        self.frames_sent = 0
        self.strays = 0
        self._address = address
        self._reply_wait_s = reply_wait_s
        self._retry_pause_s = retry_pause_s
        self._attempts_max = attempts_max
        self._stop = stop or Event()
        self._socket: socket.socket | None = None
        self._decoder = Decoder(REPLY_BYTES_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next send opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, raw: bytes) -> str:
        """Send one message until its reply came; return the reply's code (AA, AE, AR, CA …).

        NoReplyError: attempts_max attempts failed. StoppedError: the stop event was set meanwhile.
        """
        frame, control_id, attempts = encode(raw), control_id_of(raw), 0
        while True:
            attempts += 1
            try:
                return self._attempt(frame, control_id).ack_code
            except OSError as error:  # refused, reset, closed, timed out: a new connection, the same bytes
                self.close()
                if attempts == self._attempts_max:
                    raise NoReplyError(f"no reply after {attempts} attempts: {error}") from error
            if self._stop.wait(self._retry_pause_s):
                raise StoppedError

    def _attempt(self, frame: bytes, control_id: bytes) -> Reply:
        connection = self._connected()
        connection.settimeout(self._reply_wait_s)
        connection.sendall(frame)
        self.frames_sent += 1
        for event in self._arriving(connection):
            reply = read_reply(event.payload) if isinstance(event, Frame) else None
            if reply is not None and reply.control_id == control_id:
                return reply
            self.strays += 1  # a late reply to an earlier message must not confirm this one
        raise TimeoutError("no reply in time")

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=CONNECT_WAIT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._decoder = Decoder(REPLY_BYTES_MAX)
        return self._socket

    def _arriving(self, connection: socket.socket) -> Iterator[Frame | Broken]:
        """Yield what arrives until the reply is overdue. ConnectionError: the receiver closed."""
        overdue_s = time.monotonic() + self._reply_wait_s
        while (left_s := overdue_s - time.monotonic()) > 0:
            if self._stop.is_set():
                raise StoppedError
            connection.settimeout(min(left_s, QUIET_S))
            try:
                data = connection.recv(READ_BYTES)
            except TimeoutError:
                events: list[MllpEvent] = self._decoder.idle()
            else:
                if not data:
                    raise ConnectionError("closed before the reply")
                events = self._decoder.receive(data)
            yield from events


def simulate(
    address: str,
    *,
    rate_per_s: float,
    count: int | None = None,
    seed: int = 1,
    run: int | None = None,
    kinds: Collection[Kind] = ALL_KINDS,
    stop: Event | None = None,
    on_reply: Callable[[Sent, str], None] | None = None,
) -> Counter[str]:
    """Play a hospital that sends to `address` (host:port); return how often each reply code came.

    rate_per_s: the most per second; it falls behind when replies take longer, and does not catch up in a burst.
    count None: until `stop` is set. run None: from the clock, so that two runs with one seed share no control id.
    on_reply is called after each reply. ValueError: bad address, rate, seed or run.
    """
    if not rate_per_s > 0:
        raise ValueError("the rate must be above 0")
    stop = stop or Event()
    hospital = Hospital(seed, run=int(time.time()) % (RUN_MAX + 1) if run is None else run, kinds=kinds)
    codes: Counter[str] = Counter()
    due_s = time.monotonic()
    with MllpClient(parse_address(address), stop=stop) as client:
        while (count is None or codes.total() < count) and not stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s, time.monotonic()) + 1 / rate_per_s
            message = hospital.next_message(now=datetime.now(UTC))
            try:
                code = client.send(message.raw)
            except StoppedError:
                break
            codes[code] += 1
            if on_reply is not None:
                on_reply(message, code)
    return codes
