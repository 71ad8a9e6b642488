"""Files of a stick and beside it: read within a bound, written whole or not at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from sync.errors import BadStick
from sync.store import sync_file


def read_file(path: Path, most: int) -> bytes:
    """The file's bytes. Raises OSError, BadStick where there are more than `most`."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadStick(f"{path.name} is too long")
    return data


def write_file(path: Path, parts: Iterable[bytes]) -> None:
    """Whole or not at all, and on the stick when this returns."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_file(path.parent)  # else a stick that is pulled out now may have the file, and not its name
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
