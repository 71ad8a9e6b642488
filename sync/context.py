"""Records that both sides hold, as the context of the batch that follows them (docs/wire.md, section 6.3). Each side makes it of its own store."""

from collections.abc import Sequence
from typing import Protocol

import cbor2

from sync.batch import Batch, content
from sync.dictionary import Context
from sync.errors import NotARecord, UnknownDictionary
from sync.names import Origin
from sync.record import BodyState, Record

# Particulars and bodies of a context. Half as much cost 3 % of a batch of 32, twice as much gained 2 %; and it is read and indexed for each batch
CONTEXT_BYTES_MAX = 128 * 1024
CONTEXT_BYTES_MIN = (
    32 * 1024
)  # for a batch of one message: four times as much gained 4 % of it, for four times the reading
CONTEXT_SHARE = 16  # so many times the batch's own bytes, between these two
CONTEXT_RECORDS_MAX = 512  # as many as a batch may have: bounds what tiny records cost beside their bytes
LOOKED_AT = 64  # rows asked for in one query when its beginning is looked for

Kept = tuple[int, bytes, bytes, bytes]  # position, header, particulars, body


class Held(Protocol):
    """A log's records as they are stored; those without a body are left out."""

    def octets(self, first: int, count: int) -> list[tuple[int, int]]:
        """Position, and bytes of particulars and body, of the records first..first+count-1, in order. No body is read."""

    def kept(self, first: int, count: int) -> list[Kept]:
        """The records first..first+count-1, in order."""


def share(batch_bytes: int, most: int) -> int:
    """How many bytes of context are worth reading for a batch of so many; `most`: what the gateway takes."""
    return min(most, CONTEXT_BYTES_MAX, max(CONTEXT_BYTES_MIN, CONTEXT_SHARE * batch_bytes))


def before(held: Held, origin: Origin, end: int, *, since: int, octets_max: int) -> Context | None:
    """The context of the batch at `end`: the last records, none of them before `since`, that have their bodies, in so many bytes.

    Raises NotARecord where the last one's header is damaged.
    """
    first = _first(held, max(since, end - CONTEXT_RECORDS_MAX), end, octets_max)
    rows = held.kept(first, end - first) if first < end else []
    # one that was trimmed meanwhile is not there, and then none before it is of use: they are told by their number
    while rows and rows[0][0] != end - len(rows):
        del rows[0]
    return Context(len(rows), _content(origin, rows)) if rows else None


def recall(held: Held, origin: Origin, end: int, count: int) -> bytes:
    """The context of exactly `count` records before `end`. Raises UnknownDictionary where one has no body here, or they are more than is taken."""
    first = end - count
    if not 0 < count <= CONTEXT_RECORDS_MAX or first < 0:
        raise UnknownDictionary(f"{count} records before {end} are no context")
    if sum(size for _, size in held.octets(first, count)) > CONTEXT_BYTES_MAX:
        raise UnknownDictionary(f"the {count} records before {end} are too long")
    rows = held.kept(first, count)
    if len(rows) != count:
        raise UnknownDictionary(f"of the {count} records before {end} not all have their bodies here")
    try:
        return _content(origin, rows)
    except NotARecord as error:
        raise UnknownDictionary(f"the record before {end} is damaged here") from error


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


def _content(origin: Origin, rows: Sequence[Kept]) -> bytes:
    """The texts of the records, then a batch of the last one: its form is what the next batch begins with."""
    texts = [cbor2.dumps(part) for _, _, *parts in rows[:-1] for part in parts]
    seq, header, particulars, body = rows[-1]
    last = Record(
        seq=seq, header=header, leaf=b"", state=BodyState.PRESENT, salt=b"", particulars=particulars, body=body
    )  # fmt: skip
    return b"".join(texts) + content(
        Batch(
            node=origin.node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=seq, lane="",
            checkpoint=f"{origin}\n{seq}\n\N{EM DASH} {origin.node} ".encode(), records=[last],
        )
    )  # fmt: skip
