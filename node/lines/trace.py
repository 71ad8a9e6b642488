"""The last bytes of a feed's line, both ways, for the line monitor. A ring in memory: never on disk, never in a log.

What leaves this process has its values hidden, unless the configuration permits that they are shown.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any, Literal

from hl7.devices.line_view import Eye, Seen, hexadecimal, text
from hl7.devices.lines import Framing
from hl7.devices.report_eye import ReportEye, Watcher

ENTRIES_MAX = 256  # with their bytes 16 kB a feed: minutes of a device that prints, seconds of one that streams
ENTRY_BYTES_MAX = 64
SHOWN_MAX = 80  # rows that a page holds
SHOWN_BYTES_MAX = SHOWN_MAX * ENTRY_BYTES_MAX  # in all of them: the page is sent again each second
ROW_BYTES_MAX = 512  # a print of a few results; a longer report is of several rows
PAUSE_US_MAX = (
    2_000_000  # inside of a row: who looks for a device that stops amid its report should see it by the rows' times
)
TAKEN_MAX = 32  # connections whose bytes leave as captures, the newest: files of that number a person can look through
JOINED_US_MAX = 50_000  # at 9600 baud 48 bytes: what came within it was one push of the device
Way = Literal["in", "out"]


@dataclass(slots=True)
class Entry:
    """Bytes of one way at one time; or, without bytes, what happened to the line. Several connections may have one peer."""

    at_us: int
    way: Way | Literal[""]
    peer: str
    connection: int = 0
    data: bytearray = field(default_factory=bytearray)
    note: str = ""


@dataclass(slots=True)
class Row:
    """What the page shows as one: a report where it can be, with the frames that end in it."""

    entry: Entry
    frames: list[Seen] = field(default_factory=list)
    last_us: int = 0


class LineTrace:
    """The ring of one feed. Used on the event loop alone. `is_opaque`: its bytes are numbers themselves, as of Modbus.

    `framing`: of a feed that has its own; without it frames are those of ASTM. `charset`: of what the device writes, where it is known.
    """

    def __init__(
        self, now_us: Callable[[], int], *, is_opaque: bool = False, framing: Framing | None = None, charset: str = ""
    ) -> None:
        self._now_us, self._is_opaque = now_us, is_opaque
        self._framing, self._charset = framing, charset
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        self._has_forgotten = False
        self._connections = 0

    def opened(self, peer: str) -> int:
        """A connection is open; its number, by which its bytes are told from those of others."""
        self._connections += 1
        self.noted("opened", peer, self._connections)
        return self._connections

    def came(self, data: bytes, peer: str = "", connection: int = 0) -> None:
        """The device sent this."""
        self._put("in", data, peer, connection)

    def went(self, data: bytes, peer: str = "", connection: int = 0) -> None:
        """We sent this."""
        self._put("out", data, peer, connection)

    def noted(self, note: Literal["opened", "away", "taken", "stalled"], peer: str = "", connection: int = 0) -> None:
        """Something happened to the line."""
        self._keep(Entry(self._now_us(), "", peer, connection, note=note))

    def document(self, *, is_shown: bool) -> list[dict[str, Any]]:
        """The last rows, oldest first."""
        rows = self._rows()[-SHOWN_MAX:]
        sizes = accumulate(len(row.entry.data) for row in reversed(rows))
        count = max(1, sum(1 for _ in takewhile(lambda size: size <= SHOWN_BYTES_MAX, sizes)))
        return [
            {
                "at_us": entry.at_us, "way": entry.way, "peer": entry.peer, "note": entry.note, "length": len(entry.data),
                "hex": hexadecimal(entry.data, is_shown=is_shown, is_opaque=self._is_opaque),
                "text": text(entry.data, is_shown=is_shown, is_opaque=self._is_opaque, charset=self._charset),
                "frames": [list(frame) for frame in row.frames],
            }
            for row in rows[-count:] for entry in [row.entry]
        ]  # fmt: skip

    def told(self, wish: str, *, may_show: bool) -> dict[str, Any]:
        """What leaves this process: the rows, or for the wish "received" what was sent on each connection. Values only where `may_show`."""
        is_shown = may_show and wish == "shown"
        told = {"may_show": may_show, "is_shown": is_shown}
        if wish == "received":
            return {**told, "received": self._received() if may_show else None}
        return {**told, "rows": self.document(is_shown=is_shown)}

    def _received(self) -> list[dict[str, Any]]:
        """What devices sent, in base64: of each connection by itself, since a report goes on in its own alone. The newest, oldest first."""
        sent: dict[int, tuple[Entry, bytearray, bool]] = {}
        begun = {entry.connection for entry in self._entries if entry.note == "opened"}
        for entry in self._entries:
            if entry.way == "in":
                is_whole = entry.connection in begun or not self._has_forgotten
                sent.setdefault(entry.connection, (entry, bytearray(), is_whole))[1].extend(entry.data)
        return [
            {"peer": first.peer, "at_us": first.at_us, "is_whole": is_whole, "data": b64encode(data).decode()}
            for first, data, is_whole in list(sent.values())[-TAKEN_MAX:]
        ]

    def _rows(self) -> list[Row]:
        """They are made when somebody asks, not while the bytes come: sixteen lines bring 180 kB/s that nobody looks at.
        A frame whose beginning has left the ring is then none.
        """
        eyes: dict[tuple[str, str, int], tuple[Watcher, list[Row]]] = {}
        rows: list[Row] = []
        begun = set[tuple[str, int]]()  # whose first bytes are in the ring
        for entry in self._entries:
            if entry.way:
                key = entry.way, entry.peer, entry.connection
                if key not in eyes:
                    eyes[key] = self._eye(entry.way, is_late=self._has_forgotten and key[1:] not in begun), []
                eye, mine = eyes[key]
                _lay(entry, eye, rows, mine)
                continue
            if entry.note != "stalled":
                begun.add((entry.peer, entry.connection))
                for way in ("in", "out"):
                    if (gone := eyes.pop((way, entry.peer, entry.connection), None)) is not None:
                        gone[1][-1].frames += gone[0].cut()
            rows.append(Row(entry))
        for eye, mine in eyes.values():
            mine[-1].frames += eye.tick(self._now_us() / 1e6)
        return rows

    def _eye(self, way: str, *, is_late: bool) -> Watcher:
        if self._framing is None or way == "out":
            return Eye()
        return ReportEye(self._framing, is_late=is_late)

    def _put(self, way: Way, data: bytes, peer: str, connection: int) -> None:
        """In rows. More than the ring holds leaves only its end in it, and is not looked at before."""
        now_us = self._now_us()
        data = data[-ENTRIES_MAX * ENTRY_BYTES_MAX :]
        at = 0
        while at < len(data):
            entry = self._entries[-1] if self._entries else None
            is_joined = (
                entry is not None and (entry.way, entry.peer, entry.connection) == (way, peer, connection)
                and now_us - entry.at_us <= JOINED_US_MAX
            )  # fmt: skip
            if entry is None or not is_joined or len(entry.data) >= ENTRY_BYTES_MAX:
                entry = Entry(now_us, way, peer, connection)
                self._keep(entry)
            piece = data[at : at + ENTRY_BYTES_MAX - len(entry.data)]
            entry.data += piece
            at += len(piece)

    def _keep(self, entry: Entry) -> None:
        self._has_forgotten = self._has_forgotten or len(self._entries) == ENTRIES_MAX
        self._entries.append(entry)


def _lay(entry: Entry, eye: Watcher, rows: list[Row], mine: list[Row]) -> None:
    """Put an entry's bytes into rows: on in the last one while its report goes on, a new one behind each report's end."""
    is_amid, data = eye.is_amid, bytes(entry.data)
    ends = eye.see(data, entry.at_us / 1e6)
    for at, seen in ends:
        if not at and mine:  # a pause had ended it
            mine[-1].frames.append(seen)
            is_amid = False
    cuts = {_behind(data, at) for at, _ in ends if at} | {len(data)}
    if mine and not is_amid:
        cuts |= {_behind(data, 0)} - {0}
    start = 0
    for cut in sorted(cuts):
        piece = data[start:cut]
        row = rows[-1] if rows and mine and rows[-1] is mine[-1] else None
        is_over = not piece.strip(b"\r\n")  # the line end behind a check value
        if row is None or not (is_amid or is_over) or not _fits(row, piece, entry.at_us):
            row = Row(Entry(entry.at_us, entry.way, entry.peer, entry.connection))
            rows.append(row)
            mine.append(row)
        row.entry.data += piece
        row.last_us = entry.at_us
        row.frames += [seen for at, seen in ends if at and start < _behind(data, at) <= cut]
        start, is_amid = cut, False


def _behind(data: bytes, at: int) -> int:
    """The end of a report, with the line ends that stand behind it."""
    return len(data) - len(data[at:].lstrip(b"\r\n"))


def _fits(row: Row, piece: bytes, at_us: int) -> bool:
    return len(row.entry.data) + len(piece) <= ROW_BYTES_MAX and at_us - row.last_us <= PAUSE_US_MAX
