"""Bodies that nodes send ahead in parts: one file each, durable before a part is answered, kept for a week within a quota of each node.

An upload's file is as long as what was answered for it, or longer where a crash came between; what a torn part left is found by the digest
that the batch names, and the node is told to start over.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gateway.errors import GatewayFull, UploadGap, UploadQuota
from sync.errors import BadUpload
from sync.upload import UPLOAD_BYTES_MAX, unpack

KEPT_S = 7 * 86400.0  # a link that is down for days is a clinic's life; what is older belongs to a node that gave it up
QUOTA_BYTES = 128 * 1024 * 1024  # of one node: five of the largest, some lanes' worth at once
UPLOADS_MAX = 256  # of one node: a lane sends one body at a time; the rest is what links dropped in a week. Inodes are no endless stock either
USED = ".used"  # its batch is committed: kept for a lost answer's sake, the first to go


class Uploads:
    """All nodes' uploads under one folder. `now` is POSIX seconds; `free_bytes`: of the disk, beyond what the ledger needs.

    One thread writes and sweeps; others read, use and forget meanwhile, so a file may be gone whenever it is looked at.
    """

    def __init__(
        self, folder: Path, now: Callable[[], float], *, quota_bytes: int = QUOTA_BYTES, free_bytes: Callable[[], int] = lambda: UPLOAD_BYTES_MAX
    ) -> None:  # fmt: skip
        self._folder, self._now, self._quota, self._free = folder, now, quota_bytes, free_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def size(self, node: str, name: str) -> int:
        """Bytes of it that are here durably; 0 for one that is not."""
        for path in self._places(node, name):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def write(self, node: str, name: str, offset: int, part: bytes) -> int:
        """Append a part; the size after it, on stable storage. The same part again changes nothing.

        Raises UploadGap where it does not continue what is here, UploadQuota where the node has too much here, or this one is too long,
        GatewayFull where the disk has no room.
        """
        held, end = self.size(node, name), offset + len(part)
        if offset != held:
            if end <= held and self._bytes(node, name)[offset:end] == part:
                return held
            raise UploadGap(held)
        self._make_room(node, name, len(part), end)
        if self._free() < len(part):
            raise GatewayFull("the disk of uploads is nearly full")
        path = self._folder / node / name
        with path.open("ab") as file:
            file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.utime(path, (self._now(), self._now()))  # its age is by the clock that was passed in
        if not offset:
            _sync_folder(path.parent)
        # on stable storage; a crash before: the node asks for the size, or is answered a gap
        return end

    def body(self, node: str, name: str, digest: bytes, body_bytes: int) -> bytes:
        """The whole body. Raises BadUpload, and forgets the upload, where it is not that."""
        try:
            return unpack(self._bytes(node, name), digest, body_bytes)
        except BadUpload:
            self.forget(node, name)
            raise

    def used(self, node: str, name: str) -> None:
        """Its batch is committed: it stays only for an answer that was lost."""
        path = self._folder / node / name
        with suppress(FileNotFoundError):
            path.rename(path.with_suffix(USED))

    def forget(self, node: str, name: str) -> None:
        """Delete it."""
        path = self._folder / node / name
        path.unlink(missing_ok=True)
        path.with_suffix(USED).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Delete what no part came to for too long; how many."""
        old = [path for path, found in _files(self._folder.glob("*/*")) if self._is_old(found)]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _bytes(self, node: str, name: str) -> bytes:
        for path in self._places(node, name):
            with suppress(FileNotFoundError):
                return path.read_bytes()
        return b""

    def _places(self, node: str, name: str) -> tuple[Path, Path]:
        """Where it is, or else where it goes once it is used: looked at in this order, a rename in between misses nothing."""
        path = self._folder / node / name
        return path, path.with_suffix(USED)

    def _is_old(self, found: os.stat_result) -> bool:
        return found.st_mtime < self._now() - KEPT_S

    def _make_room(self, node: str, name: str, more: int, end: int) -> None:
        """Delete what is old, then what is used, until so many bytes more, and one upload, fit what the node may have."""
        if end > UPLOAD_BYTES_MAX:
            raise UploadQuota("the upload is longer than a body may be")
        folder = self._folder / node
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _sync_folder(self._folder)
        files = _files(folder.iterdir())
        room, others = self._quota, []
        for path, found in sorted(files, key=lambda each: each[1].st_mtime):
            if path.stem != name and self._is_old(found):
                path.unlink(missing_ok=True)
                continue
            room -= found.st_size
            if path.stem != name:
                others.append((path, found.st_size))
        count = len(others)
        for path, octets in [each for each in others if each[0].suffix == USED]:
            if room >= more and count < UPLOADS_MAX:
                break
            room, count = room + octets, count - 1
            path.unlink(missing_ok=True)
        if room < more or count >= UPLOADS_MAX:
            raise UploadQuota("this node has as many uploads here as it may")


def _files(paths: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    """Those that are still there when they are looked at."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
