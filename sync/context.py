"""Records that both sides hold, as the context of the batch that follows them (docs/wire.md, section 6.3). Each side makes it of its own store."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Protocol

from sync.batch import Batch, content
from sync.dictionary import Context
from sync.errors import NotARecord, UnknownDictionary
from sync.names import Origin
from sync.record import BodyState, Record

# Particulars and bodies of a context. Twice as much gained 2 % of a batch of 32, half as much lost 3 %; and it is read and indexed for each batch
CONTEXT_BYTES_MAX = 128 * 1024
CONTEXT_BYTES_MIN = (
    32 * 1024
)  # for a batch of one message: four times as much gained 4 % of it, for four times the reading
CONTEXT_SHARE = 16  # so many times the batch's own bytes, between these two
CONTEXT_RECORDS_MAX = 512  # as many as a batch may have: bounds what tiny records cost beside their bytes
LOOKED_AT = 64  # rows asked for in one query when its beginning is looked for


class Held(Protocol):
    """A log's records as they are stored."""

    def octets(self, first: int, count: int) -> list[tuple[int, int]]:
        """Position, and bytes of particulars and body, of those of the records first..first+count-1 that have a body, in order."""

    def records(self, first: int, count: int) -> Iterator[Record]:
        """The records first..first+count-1."""


def share(batch_bytes: int, most: int) -> int:
    """How many bytes of context are worth reading for a batch of so many; `most`: what the gateway takes."""
    return min(most, CONTEXT_BYTES_MAX, max(CONTEXT_BYTES_MIN, CONTEXT_SHARE * batch_bytes))


def before(held: Held, origin: Origin, end: int, *, since: int, octets_max: int) -> Context | None:
    """The context of the batch at `end`: the last records, none of them before `since`, that have their bodies, in so many bytes."""
    first = _first(held, max(since, end - CONTEXT_RECORDS_MAX), end, octets_max)
    records = list(held.records(first, end - first))
    # what was trimmed meanwhile has no body any more; no record before such a one can be of use, as they are told by their number
    whole = list(takewhile(lambda record: record.state is BodyState.PRESENT, reversed(records)))[::-1]
    return Context(len(whole), _content(origin, whole)) if whole else None


def recall(held: Held, origin: Origin, end: int, count: int) -> bytes:
    """The context of exactly `count` records before `end`. Raises UnknownDictionary where one has no body here, or they are more than is taken."""
    first = end - count
    if not 0 < count <= CONTEXT_RECORDS_MAX or first < 0:
        raise UnknownDictionary(f"{count} records before {end} are no context")
    octets = held.octets(first, count)
    if len(octets) != count or sum(size for _, size in octets) > CONTEXT_BYTES_MAX:
        raise UnknownDictionary(f"of the {count} records before {end} not all are here, or they are too long")
    records = list(held.records(first, count))
    if len(records) != count or any(record.state is not BodyState.PRESENT for record in records):
        raise UnknownDictionary(f"of the {count} records before {end} one lacks its body")
    try:
        return _content(origin, records)
    except NotARecord as error:
        raise UnknownDictionary(f"of the {count} records before {end} one is damaged here") from error


def _first(held: Held, least: int, end: int, octets_max: int) -> int:
    """Where the longest run of records with bodies begins that ends at `end` and has at most so many bytes."""
    at = end
    while at > least:
        low = max(least, at - LOOKED_AT)
        for seq, size in reversed(held.octets(low, at - low)):
            octets_max -= size
            if seq != at - 1 or octets_max < 0:
                return at
            at = seq
        if at != low:
            return at
    return at


def _content(origin: Origin, records: Sequence[Record]) -> bytes:
    """As a batch of these records, without what is new in each: lane, root, signature and salts."""
    first = records[0].seq
    return content(
        Batch(
            node=origin.node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=first, lane="",
            checkpoint=f"{origin}\n{first}\n\N{EM DASH} {origin.node} ".encode(), records=records,
        )
    )  # fmt: skip
