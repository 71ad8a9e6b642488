"""The node's data folder: what lies in it by name, and the lock that says whose it is."""

import fcntl
import os
from pathlib import Path

from node.errors import DataFolderTaken

STORE_NAME = "outbox.db"
LOCK_NAME = "core.lock"
MARK_NAME = "highwater.json"
UNFINISHED = "damaged-unfinished"  # a folder: a repair was about to put its outbox in place


def lock(folder: Path) -> int:
    """Hold the data folder for one core alone: two writers would each sign their own log."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DataFolderTaken(str(folder)) from error
    return descriptor
