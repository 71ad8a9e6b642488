"""The files of a folder feed on the disk: what is there, reading one whole, moving it aside. Every call may block; run in a thread.

Names come from whoever drops the files: each is opened and moved below a folder that is open already, and no link is followed.
"""

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

TAKEN, REFUSED = "taken", "refused"
UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".crdownload", "~")  # of sftp clients and editors
LISTED_MAX = 10_000  # files taken up in one look: more come at the next, and memory stays bounded
SEEN_MAX = 100_000  # names passed on the way: a second of a slow card
HEAD_BYTES = 4096  # of a file that is too long to be kept: enough to see what it is
PIECE_BYTES = 1024 * 1024
NAME_BYTES_MAX = 255  # of one name, on all usual file systems


class Mark(NamedTuple):
    """By what a file is known to be the same and unchanged."""

    size: int
    modified_ns: int
    number: int

    def __str__(self) -> str:
        """Write it as it stands in a record's particulars."""
        return f"{self.modified_ns}-{self.number}-{self.size}"


class Found(NamedTuple):
    """A file that lies there."""

    name: str
    mark: Mark


class Whole(NamedTuple):
    """A file's bytes, as `mark` had it; of one that is too long its first bytes, and the hash of all."""

    mark: Mark
    data: bytes
    sha256: bytes = b""


def look(folder: Path, patterns: Sequence[str]) -> tuple[list[Found], int]:
    """Regular files whose name fits a pattern, the oldest first, and how many other things were passed over. Raises OSError."""
    found: list[Found] = []
    passed = 0
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if len(found) >= LISTED_MAX or number >= SEEN_MAX:
                break
            name = entry.name
            if name in {TAKEN, REFUSED} or name.startswith(".") or name.endswith(UNFINISHED):
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or not any(fnmatch.fnmatchcase(name, each) for each in patterns):
                    passed += 1
                else:
                    found.append(Found(name, _mark(status)))
    return sorted(found, key=lambda each: (each.mark.modified_ns, each.name)), passed


def make_places(folder: Path) -> None:
    """Make the two folders that files are moved into, and see that moving will work. Raises OSError."""
    for name in (TAKEN, REFUSED):
        (folder / name).mkdir(mode=0o750, exist_ok=True)
        if not os.access(folder / name, os.W_OK | os.X_OK):
            raise PermissionError(f"{name} cannot be written")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError("files cannot be moved out")


def read(folder: Path, name: str, octets_max: int) -> Whole | None:
    """All of a file, or of one that is too long its head and hash; None where it is gone, or was written meanwhile. Raises OSError."""
    try:
        with _opened(folder) as place:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            return None
        mark = _mark(before)
        is_long = before.st_size > octets_max
        data = file.read(HEAD_BYTES if is_long else octets_max + 1)
        whole = Whole(mark, data, _hash(file, before.st_size) if is_long else b"")
        return whole if _mark(os.fstat(handle)) == mark and (is_long or len(data) == mark.size) else None


def mark_of(folder: Path, name: str) -> Mark | None:
    """How a file is now; None where it is gone or is a file no more. Raises OSError."""
    try:
        status = (folder / name).lstat()
    except FileNotFoundError:
        return None
    return _mark(status) if stat.S_ISREG(status.st_mode) else None


def move(folder: Path, name: str, to: str, stamp: str) -> str:
    """Move a file into `taken` or `refused`, under its own name behind `stamp`; the new name. Nothing there is overwritten. Raises OSError."""
    with _opened(folder) as source, _opened(folder / to) as goal:
        for count in range(LISTED_MAX):
            new = _cut(f"{stamp}{f'-{count}' if count else ''}-{name}")
            if not _is_there(new, goal):  # a rename would overwrite; only we put files there, and sticks know no links
                os.rename(name, new, src_dir_fd=source, dst_dir_fd=goal)
                return new
    raise FileExistsError(f"{to} is full of files of this name")


def clear(folder: Path, *, before_ns: int, files_max: int) -> int:
    """Delete what was moved into `taken` before this time, and the oldest beyond so many; how many. Raises OSError."""
    place, gone = folder / TAKEN, 0
    with os.scandir(place) as entries:
        # the change time is when it was moved here; its own time is its writer's
        there = sorted((entry.stat(follow_symlinks=False).st_ctime_ns, entry.name) for entry in entries)
    for number, (moved_ns, name) in enumerate(there):
        if moved_ns >= before_ns and len(there) - number <= files_max:
            break
        with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            (place / name).unlink()
            gone += 1
    return gone


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _is_there(name: str, place: int) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _mark(status: os.stat_result) -> Mark:
    return Mark(status.st_size, status.st_mtime_ns, status.st_ino)


def _hash(file: BinaryIO, length: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0 and (piece := file.read(min(PIECE_BYTES, length))):
        digest.update(piece)
        length -= len(piece)
    return digest.digest()


def _cut(name: str) -> str:
    while len(os.fsencode(name)) > NAME_BYTES_MAX:
        name = name[:-1]
    return name
