"""Reads the whole outbox again, slowly, in the background: a record that no longer verifies is named before it is needed."""

import threading
from pathlib import Path

import structlog

from node.alarms import Alarms
from sync.log import TILE_LEAVES, tile_root
from sync.outbox_view import OutboxView
from sync.store import split_hashes

CHUNK_RECORDS = 128  # half a megabyte of bodies: nobody waits for the disk behind it
PAUSE_S = 0.05  # between chunks: at most a few per cent of one core
AGAIN_S = 86_400.0  # once a day: bit rot is slow

log = structlog.get_logger()


class Proofreader(threading.Thread):
    """One pass after the start, then one a day. What it finds becomes an alarm of the stream."""

    def __init__(self, *, store: Path, node: str, alarms: Alarms) -> None:
        super().__init__(name="proofreader", daemon=True)
        self._store, self._node, self._alarms = store, node, alarms
        self._stop = threading.Event()
        self.read = 0

    def stop(self) -> None:
        """End at the next chunk."""
        self._stop.set()

    def run(self) -> None:
        """Read until stopped."""
        view = OutboxView(self._store, self._node)
        while not self._stop.is_set():
            self.read_once(view)
            self._stop.wait(AGAIN_S)
        view.close()

    def read_once(self, view: OutboxView) -> None:
        """Read every log from its first record to its last."""
        for stream in view.streams():
            self._read_log(view, stream.log, stream.origin.stream, stream.size)

    def _read_log(self, view: OutboxView, log_id: int, stream: str, size: int) -> None:
        for first in range(0, size, CHUNK_RECORDS):
            try:
                found = self._read_chunk(view, log_id, first, size)
            except Exception as error:  # noqa: BLE001  # a page that cannot be read, in whatever way: intake must not die of it
                found = [(first, type(error).__name__)]
            for seq, what in found:
                log.error("store.damaged", code="SYN-30", stream=stream, seq=seq, what=what)
                self._alarms.raised("SYN-30", stream)
            self.read += CHUNK_RECORDS
            if self._stop.wait(PAUSE_S):
                return

    def _read_chunk(self, view: OutboxView, log_id: int, first: int, size: int) -> list[tuple[int, str]]:
        """What of a chunk's records, and of the tile that begins with them, no longer verifies."""
        found = [(record.seq, what) for record, what in view.damaged(log_id, first, min(CHUNK_RECORDS, size - first))]
        if first % TILE_LEAVES == 0 and first + TILE_LEAVES <= size:
            table = view.table(log_id)
            kept = split_hashes(table.tiles(first // TILE_LEAVES, 1))
            if kept != [tile_root(table.leaves(first, TILE_LEAVES))]:
                found.append((first, "tile"))
        return found
