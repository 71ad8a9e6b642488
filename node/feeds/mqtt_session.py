"""What a feed knows of its session at the broker, in a small file: that there was one, until when it surely lived, what it subscribed to.

The broker says at each connection whether it still has the session. Only who remembers that there was one can see that it is gone.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_BYTES_MAX = 512 * 1024  # 256 filters of 1,024 characters, written as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as it was last known. `alive_us`: UTC microseconds of the last moment at which it surely was there."""

    broker: str
    client_id: str
    filters: tuple[str, ...]
    alive_us: int


def read(path: Path) -> Session | None:
    """The session of the file; None where there never was one, or the file is nobody's: then a lost one goes unseen once."""
    try:
        with path.open("rb") as file:
            document: Any = json.loads(file.read(FILE_BYTES_MAX))
        return Session(
            broker=str(document["broker"]), client_id=str(document["client_id"]), filters=tuple(map(str, document["filters"])),
            alive_us=int(document["alive_us"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write(path: Path, session: Session) -> None:
    """Replace the file, durably. OSError where that fails."""
    document = {
        "alive_us": session.alive_us, "broker": session.broker, "client_id": session.client_id, "filters": list(session.filters)
    }  # fmt: skip
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        os.write(descriptor, json.dumps(document, ensure_ascii=False).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(path)
