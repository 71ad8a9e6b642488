"""The last bytes of a feed's line, both ways, for the line monitor. A ring in memory: never on disk, never in a log.

What leaves this process has its values hidden, unless the configuration permits that they are shown.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hl7.devices.line_view import Eye, Seen, hexadecimal, text

ENTRIES_MAX = 256  # with their bytes 16 kB a feed: minutes of a device that prints, seconds of one that streams
ENTRY_BYTES_MAX = 64  # a row of the page
SHOWN_MAX = 80  # rows that a page holds
JOINED_US_MAX = 50_000  # at 9600 baud 48 bytes: what came within it was one push of the device
Way = Literal["in", "out"]


@dataclass(slots=True)
class Entry:
    """Bytes of one way at one time; or, without bytes, what happened to the line."""

    at_us: int
    way: Way | Literal[""]
    peer: str
    data: bytearray = field(default_factory=bytearray)
    note: str = ""


class LineTrace:
    """The ring of one feed. Used on the event loop alone. `is_opaque`: its bytes are numbers themselves, as of Modbus."""

    def __init__(self, now_us: Callable[[], int], *, is_opaque: bool = False) -> None:
        self._now_us, self._is_opaque = now_us, is_opaque
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)

    def came(self, data: bytes, peer: str = "") -> None:
        """The device sent this."""
        self._put("in", data, peer)

    def went(self, data: bytes, peer: str = "") -> None:
        """We sent this."""
        self._put("out", data, peer)

    def noted(self, note: Literal["opened", "away", "taken", "stalled"], peer: str = "") -> None:
        """Something happened to the line."""
        self._entries.append(Entry(self._now_us(), "", peer, note=note))

    def document(self, *, is_shown: bool) -> list[dict[str, Any]]:
        """The last rows, oldest first."""
        rows = self._told_apart()[-SHOWN_MAX:]
        return [
            {
                "at_us": entry.at_us, "way": entry.way, "peer": entry.peer, "note": entry.note, "length": len(entry.data),
                "hex": hexadecimal(entry.data, is_shown=is_shown, is_opaque=self._is_opaque),
                "text": text(entry.data, is_shown=is_shown, is_opaque=self._is_opaque),
                "frames": [list(frame) for frame in frames],
            }
            for entry, frames in rows
        ]  # fmt: skip

    def _told_apart(self) -> list[tuple[Entry, list[Seen]]]:
        """Each entry with the frames that end in it. They are told apart when somebody asks, not while the bytes come: sixteen lines
        bring 180 kB/s that nobody looks at. A frame whose beginning has left the ring is then none.
        """
        eyes: dict[tuple[Way, str], Eye] = {}
        found = []
        for entry in self._entries:
            if not entry.way:
                if entry.note != "stalled":
                    eyes.pop(("in", entry.peer), None)
                    eyes.pop(("out", entry.peer), None)
                found.append((entry, list[Seen]()))
                continue
            found.append((entry, eyes.setdefault((entry.way, entry.peer), Eye()).receive(bytes(entry.data))))
        return found

    def _put(self, way: Way, data: bytes, peer: str) -> None:
        """In rows. More than the ring holds leaves only its end in it, and is not looked at before."""
        now_us = self._now_us()
        data = data[-ENTRIES_MAX * ENTRY_BYTES_MAX :]
        at = 0
        while at < len(data):
            entry = self._entries[-1] if self._entries else None
            is_joined = (
                entry is not None and entry.way == way and entry.peer == peer and now_us - entry.at_us <= JOINED_US_MAX
            )
            if entry is None or not is_joined or len(entry.data) >= ENTRY_BYTES_MAX:
                entry = Entry(now_us, way, peer)
                self._entries.append(entry)
            piece = data[at : at + ENTRY_BYTES_MAX - len(entry.data)]
            entry.data += piece
            at += len(piece)
