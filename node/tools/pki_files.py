"""How keys and certificates reach the disk: whole or not at all, private ones readable by their owner only."""

import os
import secrets
from pathlib import Path

_OWNER_ONLY = 0o600
_EVERYBODY_READS = 0o644


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically and durably by a file with mode 0600."""
    _replace(path, content, _OWNER_ONLY)


def write_public(path: Path, content: bytes) -> None:
    """Replace `path` atomically and durably by a file with mode 0644."""
    _replace(path, content, _EVERYBODY_READS)


def _replace(path: Path, content: bytes, mode: int) -> None:
    # The mode is set at creation and again afterwards: never wider for a moment, and independent of the umask.
    written = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)  # without it a power cut may still forget the new name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
