"""The dictionaries that came with this package, for the uplink."""

from importlib import resources

import structlog

from sync.dictionary import EMPTY, Shelf, read_index
from sync.errors import BadDictionary

log = structlog.get_logger()


def shipped() -> Shelf:
    """What the package brings; none of it where it is damaged: batches are then longer, and nothing else."""
    folder = resources.files("sync") / "dictionaries"
    try:
        return Shelf(read_index(lambda name: (folder / name).read_bytes()))
    except (BadDictionary, OSError) as error:
        log.warning("dictionaries.unreadable", code=BadDictionary.code, detail=str(error))
        return EMPTY
