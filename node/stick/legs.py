"""The logs that go onto a stick, and their batches. As over the link, nothing is signed that was not proven to be what was signed before."""

from collections.abc import Iterator
from dataclasses import dataclass

from node.keystore import Keystore
from sync.answer import Resume
from sync.batch import RECORDS_MAX, Batch, encode
from sync.checkpoint import Checkpoint, parse_checkpoint, parse_note
from sync.errors import LogBroken, SyncError
from sync.flow import QUANTUM_BYTES_MAX
from sync.log import Frontier
from sync.outbox_view import OutboxView, StreamView
from sync.proven import leads_to, proven
from sync.record import Record
from sync.store import UNREADABLE, LogTable, damage


@dataclass(frozen=True, slots=True)
class Leg:
    """One log that goes onto the stick, from `first` on."""

    view: StreamView
    first: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch's bytes, its checkpoint, how many records it holds, and the positions of those whose header or body no longer verifies."""

    checkpoint: Checkpoint
    count: int
    damaged: tuple[int, ...]
    data: bytes


def legs_of(view: OutboxView, steps: dict[str, Resume]) -> list[Leg]:
    """The logs that are to go, those of a stream oldest first: after the receipts, or from where the gateway last said that it is."""
    streams: dict[str, list[StreamView]] = {}
    for each in view.streams():
        streams.setdefault(each.origin.stream, []).append(each)
    legs: list[Leg] = []
    for name, logs in streams.items():
        step = steps.get(name)
        if step is None:
            legs += [Leg(each, each.receipted) for each in logs if not each.passed]
        else:
            legs += [Leg(logs[step.at], step.size), *(Leg(each, 0) for each in logs[step.at + 1 :])]
    # an epoch in which nothing is left was gone on from at once: its statement, of what was then common, may have become untrue
    return [leg for leg in legs if leg.view.size or leg.view is streams[leg.view.origin.stream][-1]]


def batches(view: OutboxView, keystore: Keystore, stream: StreamView, at: int, *, known: bytes) -> Iterator[Packed]:
    """The log's batches from `at` on, without dictionary: a stick may go to a gateway that is older.

    `known`: the log's root at `at`, where the stick says it. Raises LogBroken, KeyAbsent at the first record that cannot go; all before it has gone.
    """
    kept: dict[int, bytes] = {}
    records_max = RECORDS_MAX
    table, frontier = _begin(view, stream, at, known)
    while at < stream.size:
        try:
            taken = _next_records(table.records(at, min(records_max, stream.size - at)))
            records = proven(table, frontier, taken, view.head(stream.log), _checked, kept)
        except (LogBroken, IndexError, *UNREADABLE) as error:
            if records_max == 1:
                raise LogBroken(f"from record {at} on nothing proves that it is what was signed") from error
            records_max //= 2  # as over the link: all that is proven goes, then this stream alone stands still
            continue
        frontier = frontier.append(b"".join(record.leaf for record in records))
        yield _pack(keystore, stream, at, frontier, taken, records)
        at += len(records)


def _begin(view: OutboxView, stream: StreamView, at: int, known: bytes) -> tuple[LogTable, Frontier]:
    """The log and its frontier there, which must have a root that is known, or lead to the log's head. Raises LogBroken."""
    try:
        table = view.table(stream.log)
        frontier = table.frontier(at)
        # known: a log that is damaged further on does not lead to its head, and what is before that goes all the same
        is_good = at == 0 or frontier.root in {known, _receipted_root(stream, at)}
        if is_good or leads_to(table, frontier, view.head(stream.log)):
            return table, frontier
    except (IndexError, *UNREADABLE) as error:
        raise LogBroken(f"what stands before record {at} cannot be read") from error
    raise LogBroken(f"nothing proves that what stands before record {at} is what was signed")


def _receipted_root(stream: StreamView, at: int) -> bytes:
    """The root that the gateway has receipted there; empty where it has not, or that cannot be read."""
    if stream.receipted != at:
        return b""
    try:
        return parse_checkpoint(parse_note(stream.receipt).text).root
    except (SyncError, ValueError):
        return b""


def _pack(
    keystore: Keystore, stream: StreamView, first: int, after: Frontier, taken: list[tuple[Record, Record]], records: list[Record]
) -> Packed:  # fmt: skip
    origin, checkpoint = stream.origin, Checkpoint(stream.origin, after.size, after.root)
    note = keystore.signer.sign_batch(checkpoint, first, stream.keys)
    batch = Batch(
        node=origin.node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=first, lane=stream.lane, checkpoint=note,
        records=records,
    )  # fmt: skip
    # what a repair has named travels so too, and is no news
    damaged = tuple(
        sent.seq for (stored, _), sent in zip(taken, records, strict=True) if sent.state is not stored.state
    )
    return Packed(checkpoint, len(records), damaged, encode(batch))


def _next_records(records: Iterator[Record]) -> list[tuple[Record, Record]]:
    """About a quantum of them, as they are stored and as they are sent: what does not verify goes without what is damaged, as over the link."""
    taken: list[tuple[Record, Record]] = []
    octets = 0
    for record in records:
        octets += len(record.body)
        if taken and octets > QUANTUM_BYTES_MAX:
            break
        taken.append((record, _checked(record)))
    if not taken:
        raise LogBroken("the outbox has no record to export")
    return taken


def _checked(record: Record) -> Record:
    found = damage(record)
    return record if found is None else record.without_body(found)
