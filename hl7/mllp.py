"""MLLP: frames out of a byte stream, and back. The decoder eats bytes as they arrive and returns what they completed.

A frame is VT payload FS CR. Real senders forget the CR, write bytes between frames, or lose the end block; all of that
is taken and counted (HL7 2.9 appendix C; the cases are those of `native.mllp_scan`). What is kept is bounded: beyond
the payload limit only the length, the running hash and the first bytes of a frame stay in memory.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from hl7.errors import ClosedInsideFrame, FrameOversized, FrameWithoutEnd, Hl7Error
from native import BARE, CUT, FRAME, NOISE, mllp_scan

START: Final = b"\x0b"
END: Final = b"\x1c\r"

PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024  # results with embedded PDFs reach megabytes; peers such as HAPI stop here
HEAD_BYTES: Final = 4096  # holds any real MSH, so a broken frame can still be named and answered

_RESTART: Final = b"MSH"  # what follows the VT that starts a new message inside an unended one

Reason = Literal["oversized", "no-end", "closed"]
_ERRORS: Final[dict[Reason, type[Hl7Error]]] = {
    "oversized": FrameOversized,
    "no-end": FrameWithoutEnd,
    "closed": ClosedInsideFrame,
}


class Frame(NamedTuple):
    """One whole message: the sender's bytes between VT and FS, unchanged. One for every message, so a NamedTuple."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A frame that cannot be taken: how long it was, its SHA-256, and its first `HEAD_BYTES` bytes."""

    reason: Reason
    length: int
    sha256: bytes
    head: bytes

    @property
    def error(self) -> type[Hl7Error]:
        """Its entry in the catalogue."""
        return _ERRORS[self.reason]


Event = Frame | Broken


def encode(payload: bytes) -> bytes:
    """Frame a payload for the wire."""
    return b"".join((START, payload, END))


class _Remains:
    """What is kept of a payload that cannot be kept."""

    __slots__ = ("_head", "_length", "_sha256")

    def __init__(self) -> None:
        self._head = b""
        self._length = 0
        self._sha256 = hashlib.sha256()

    def take(self, part: bytes) -> None:
        """Add the payload's next bytes."""
        if len(self._head) < HEAD_BYTES:
            self._head += part[: HEAD_BYTES - len(self._head)]
        self._length += len(part)
        self._sha256.update(part)

    def broken(self, reason: Reason) -> Broken:
        """Report it."""
        return Broken(reason=reason, length=self._length, sha256=self._sha256.digest(), head=self._head)


class Decoder:
    """MLLP's receiving side: `receive` what arrived, and take the frames that it completed.

    Counters: `noise_bytes` outside frames, `bare_ends` frames whose CR was missing. Any chunking of the same bytes
    gives the same events. Costs are linear in the bytes received, however they drip in.
    """

    __slots__ = ("_buffer", "_opened", "_oversized", "_payload_bytes_max", "_searched", "bare_ends", "noise_bytes")

    def __init__(self, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self.noise_bytes = 0
        self.bare_ends = 0
        self._payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()  # the open frame's kept bytes; empty between frames
        self._opened = -1  # 0 while a frame is open, else -1: the buffer holds nothing before the frame
        self._searched = 0  # where the next scan starts: nothing before it is looked at again
        self._oversized: _Remains | None = None  # set once the open frame is over the limit

    @property
    def is_open(self) -> bool:
        """A frame is under way."""
        return self._opened >= 0

    @property
    def held(self) -> int:
        """Bytes of the open frame in memory."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Event]:
        """Take what arrived; return the frames it completed, in order."""
        window: bytes | bytearray = data  # the usual case, one whole frame a read: only the payload is copied
        if self._buffer:
            self._buffer += data
            window = self._buffer
        found, opened, searched = mllp_scan(window, self._opened, self._searched, _RESTART)
        if self._opened < 0 and opened < 0 and len(found) == 1 and searched == len(data):
            kind, start, end = found[0]
            if kind == FRAME and end - start <= self._payload_bytes_max:  # one whole frame and nothing else
                return [Frame(data[start:end])]
        events: list[Event] = []
        for kind, start, end in found:
            if kind == NOISE:
                self.noise_bytes += end - start
            else:
                self._end(kind, _slice(window, start, end), events)
        self._keep(window, opened, searched)
        return events

    def idle(self) -> list[Event]:
        """Nothing arrived for a while: a FS that ends the buffer ends the frame, its CR will not come."""
        events: list[Event] = []
        if self._opened >= 0 and self._buffer.endswith(b"\x1c"):
            self._end(BARE, bytes(self._buffer[:-1]), events)
            self._forget()
        return events

    def finish(self) -> list[Event]:
        """Report what a closed connection leaves behind; the decoder is as new, counters apart."""
        events = self.idle()
        if self._opened >= 0:
            self._end(None, bytes(self._buffer), events)
            self._forget()
        return events

    def _end(self, kind: int | None, part: bytes, events: list[Event]) -> None:
        """Turn the end of a frame into its event. `part`: its last bytes, all of them unless it is oversized."""
        self.bare_ends += kind == BARE
        oversized = self._oversized is not None or len(part) > self._payload_bytes_max
        if not oversized and kind in (FRAME, BARE):
            events.append(Frame(part))
            return
        if not oversized and not part:
            self.noise_bytes += 1  # a VT with nothing behind it is no frame
            return
        remains, self._oversized = self._oversized or _Remains(), None
        remains.take(part)
        events.append(remains.broken("oversized" if oversized else "no-end" if kind == CUT else "closed"))

    def _keep(self, window: bytes | bytearray, opened: int, searched: int) -> None:
        """Keep what the open frame still needs, and no more."""
        if opened >= 0 and (self._oversized or searched - opened > self._payload_bytes_max):
            # What follows `searched` may be the frame's end, so it does not count yet: chunking cannot matter.
            self._oversized = self._oversized or _Remains()
            self._oversized.take(_slice(window, opened, searched))
            opened = searched
        done = searched if opened < 0 else opened
        if window is self._buffer:
            del self._buffer[:done]
        elif done < len(window):
            self._buffer += memoryview(window)[done:]
        self._opened = min(opened, 0)
        self._searched = searched - done

    def _forget(self) -> None:
        """Return to between frames."""
        self._buffer = bytearray()
        self._opened, self._searched, self._oversized = -1, 0, None


def _slice(window: bytes | bytearray, start: int, end: int) -> bytes:
    """Copy once, also out of a bytearray."""
    if isinstance(window, bytes):
        return window[start:end]
    with memoryview(window) as view:
        return bytes(view[start:end])
