"""What is put in the product's place for a run, and taken away after it: disks, and for most runs keys."""

import concurrent.futures
import dataclasses
import logging
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import shake_256
from typing import Any

import structlog

import gateway.ledger_sqlite  # noqa: F401  # so that its names are there to be replaced
import node.uplink.uplink  # noqa: F401  # as above
import sync.outbox  # noqa: F401  # as above
from sync import batch, certificates, checkpoint, header, log, store
from sync.keys import Verifier
from sync.log import HASH_BYTES, Frontier
from sync.outbox_view import OutboxView
from sync.store import OutboxTable
from tests.sim import disk, keys, lean, parcel

PRODUCT = ("sync.", "node.", "gateway.")
ROOMS = (*PRODUCT, "tests.sim.")
SILENT = logging.CRITICAL  # nothing that runs here logs at this level


class Past:
    """What came before the first record of every log of the present world: logs that begin near 2^31, 2^32 or 2^63."""

    frontier = Frontier()


REAL = (log.range_frontier, OutboxView.run_root)  # in a tuple: what stands under a name of its own is replaced here too
REMEMBERED = 4096  # results of pure functions: a few schedules' worth


# the same bytes are read at many places of one run; what is a function of bytes alone is read once
QUICK: list[tuple[Any, Any]] = [
    (dataclasses.replace, lean.replace),
    (concurrent.futures.Future, lean.Future),
    (queue.Queue, lean.Queue),
    *(
        (each, lru_cache(REMEMBERED)(each))
        for each in (header.decode_fields, header.decode, checkpoint.parse_note, checkpoint.parse_checkpoint)
    ),
    (Verifier, keys.HashVerifier),
    *(
        (getattr(certificates, name), getattr(keys, name))
        for name in ("read", "der", "check_chain", "node_of", "gateway_of", "verifier_of")
    ),
]


UNPACKED: list[tuple[Any, Any]] = [(batch.encode, parcel.encode), (batch.decode, parcel.decode)]


def range_frontier(table: Any, first: int, end: int) -> Frontier:
    """As the product's, with the past taken from where it is known: nobody stores 2^63 leaves."""
    past = Past.frontier
    if not past.size or first or end < past.size:
        try:
            return REAL[0](table, first, end)
        except IndexError:
            if not past.size or first:
                raise
            # an earlier size of the past, which a search for what is common may ask for: any peaks, but always the same
            return Frontier(end, shake_256(end.to_bytes(8)).digest(HASH_BYTES * end.bit_count()))
    found = past.append(table.leaves(past.size, end - past.size))
    if found.size != end:
        raise IndexError("leaves are missing")
    return found


def run_root(view: OutboxView, run: int, start: int, size: int) -> bytes:
    """As the product's, with the past taken from where it is known."""
    if start or not Past.frontier.size:
        return REAL[1](view, run, start, size)
    return range_frontier(OutboxTable(view._database.raw(), run), 0, size).root


def replace_everywhere(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, str, Any]]:
    """Put each second wherever a module of ours has the first by name; gives what undoes it."""
    others, done = {id(original): (original, other) for original, other in pairs}, []
    for module, key, original in _places(frozenset(others), len(sys.modules)):
        if vars(module)[key] is original:
            setattr(module, key, others[id(original)][1])
            done.append((module, key, original))
    return done


@lru_cache(8)  # looking through all names of all modules takes as long as a twentieth of a run
def _places(originals: frozenset[int], _modules: int) -> list[tuple[Any, str, Any]]:
    return [
        (module, key, value)
        for name, module in sys.modules.items() if name.startswith(ROOMS)
        for key, value in vars(module).items() if id(value) in originals
    ]  # fmt: skip


@contextmanager
def bench(*, real_keys: bool, packed: bool = False) -> Iterator[None]:
    """The product on simulated disks; with `real_keys` its signatures and certificates are the real ones, and its batches are; `packed`: these alone."""
    pairs: list[tuple[Any, Any]] = [
        (store.create, disk.create),
        (store.SafeDatabase, disk.safe_database),
        (log.range_frontier, range_frontier),
    ]
    if not real_keys:
        pairs += QUICK if packed else [*QUICK, *UNPACKED]
    kept = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(SILENT), cache_logger_on_first_use=False)
    done = [(OutboxView, "run_root", OutboxView.run_root), *replace_everywhere(pairs)]
    if not real_keys:
        done += lean.lean_values(PRODUCT)
    OutboxView.run_root = run_root
    try:
        yield
    finally:
        for module, key, original in done:
            setattr(module, key, original)
        structlog.configure(**kept)
        disk.unmount_all()
        Past.frontier = Frontier()
