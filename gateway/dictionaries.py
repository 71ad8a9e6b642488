"""Every dictionary that a batch may name, in a folder beside the ledger: those of this release are added, none is ever removed.

A node of an older release goes on using its own; and a release that no longer brings one must not make its batches unreadable.
"""

import os
from importlib import resources
from pathlib import Path

import structlog

from sync.dictionary import DICTIONARIES_MAX, DICTIONARY_BYTES_MAX, SUFFIX, Dictionary, Shelf, make, read_index
from sync.errors import BadDictionary

log = structlog.get_logger()


def keep_dictionaries(folder: Path) -> Shelf:
    """Add this release's dictionaries to the folder, durably, and load all in it that are what their name says."""
    folder.mkdir(exist_ok=True, mode=0o700)
    source = resources.files("sync") / "dictionaries"
    shipped = read_index(lambda name: (source / name).read_bytes())
    for each in shipped:
        _keep(folder, each)
    found = [_load(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    kept = {each.sha256: each for each in found if each is not None}
    if len(kept) > DICTIONARIES_MAX:
        log.error("dictionaries.too_many", found=len(kept), taken=DICTIONARIES_MAX)
        kept = dict(list(kept.items())[:DICTIONARIES_MAX])
    return Shelf([*kept.values(), *shipped])


def _keep(folder: Path, dictionary: Dictionary) -> None:
    path = folder / f"{dictionary.sha256.hex()}{SUFFIX}"
    content = dictionary.zstd.dict_content
    if path.exists() and path.read_bytes() == content:
        return
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> Dictionary | None:
    try:
        with path.open("rb") as file:
            found = make(file.read(DICTIONARY_BYTES_MAX + 1))
        if found.sha256.hex() != path.stem:
            raise BadDictionary("it is not what its name says")
    except (BadDictionary, OSError) as error:
        # a node that names it is told that it is unknown, and sends without
        log.error("dictionaries.unreadable", code=BadDictionary.code, file=path.name, detail=str(error))  # noqa: TRY400  # the text says it
        return None
    return found
