"""The log keys of a repaired outbox: where each log changed its key, by its own records and by what is left of the table that says so too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sync.errors import EpochNeeded, NotARecord, SyncError
from sync.key_change import MARK, change_in, header_of_change
from sync.key_ring import KeyRing, id_of, last_id
from sync.keys import ED25519, PUBLIC_BYTES, Signer, key_id
from sync.names import Origin
from sync.outbox_salvage_heads import Wanted, newest
from sync.store import UNREADABLE, LogTable

Pair = tuple[bytes, bytes]  # the public keys before and after


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedLog:
    """What is known of one log's keys. `first`, `last`: ids of those at its beginning and its end (empty: not known); `sent`: up to where it is receipted.

    `said`: its changes by position; `doubtful`: positions of which too little is left to say whether they are further ones, and whether their header
    calls them so.
    """

    origin: Origin
    size: int
    first: bytes
    last: bytes
    sent: int
    said: Mapping[int, Pair]
    doubtful: Mapping[int, bool]


def said_and_doubtful(
    table: LogTable, marked: Iterable[int], origin: Origin, rows: Iterable[Sequence[Any]]
) -> tuple[dict[int, Pair], dict[int, bool]]:
    """Of the records at the positions `marked` (they mention a change, or are bare leaves), and the table's rows of this log, what a KeyedLog wants.

    A record speaks for itself. A row is believed only where its record cannot.
    """
    said: dict[int, Pair] = {}
    doubtful: dict[int, bool] = {}
    for seq in marked:
        for record in table.records(seq, 1):
            named = header_of_change(record) is not None
            if record.header and not named:
                continue
            with suppress(NotARecord):  # it never handed over: no gateway takes such a record
                change = change_in(record)
                if change is None:
                    doubtful[seq] = named
                elif (change.stream, change.epoch) == (origin.stream, origin.epoch):
                    said[seq] = change.before, change.after
    for seq, before, after in rows:
        if seq in doubtful and all(isinstance(key, bytes) and len(key) == PUBLIC_BYTES for key in (before, after)):
            said[seq] = before, after
    return said, doubtful


class KeyHistory:
    """The changes of all logs. `torn`: rows of the table may be missing."""

    def __init__(self, ring: KeyRing, logs: Iterable[KeyedLog], *, torn: bool) -> None:
        self._torn, self._node = torn, ring.name
        self._public = {self._id(each.public): each.public for each in (ring.now, *ring.earlier)}
        self._configured = list(self._public)
        self._before: dict[bytes, bytes] = {}  # of each key the one that it followed: a change comes to all streams
        for log in logs:
            for before, after in log.said.values():
                self._public |= {self._id(before): before, self._id(after): after}
                self._before[self._id(after)] = self._id(before)

    def of(self, log: KeyedLog) -> list[tuple[int, bytes, bytes]]:
        """Its changes in order, with those that its records and rows do not say but the keys on both sides of them do. Raises EpochNeeded."""
        found = dict(log.said)
        at, key = -1, log.first
        for seq, before, after in self._steps(log):
            if key != before:
                free = [place for place in log.doubtful if at < place < seq and place not in log.said]
                found |= self._between(log, key, before, free, seq)
            at, key = seq, after
        return [(seq, *found[seq]) for seq in sorted(found)]

    def _steps(self, log: KeyedLog) -> Iterator[tuple[int, bytes, bytes]]:
        for seq, (before, after) in sorted(log.said.items()):
            yield seq, self._id(before), self._id(after)
        if log.last:
            yield log.size, log.last, log.last

    def _between(self, log: KeyedLog, key: bytes, then: bytes, free: list[int], end: int) -> dict[int, Pair]:
        """The change from one key (empty: not known) to the one that is in force before `end`, at one of the free positions; none if there need be none."""
        if not key:
            # of a stream's first log nobody says under which key it began; nothing was carried into it, so what calls itself a change is one
            named = [place for place in free if log.doubtful[place]] if log.origin.epoch == 1 else []
            if not named and not (self._torn and then in self._before):
                return {}
            key, free = (self._before.get(then) or self._only_other(then) if named else b""), named or free
            if not free:
                return {}
        before, after = self._public.get(key), self._public.get(then)
        if len(free) == 1 and before and after:
            return {free[0]: (before, after)}
        if max(free, default=end) < log.sent:  # nothing of before it is sent again
            return {}
        raise EpochNeeded(f"{log.origin}: which of its records changed the log key cannot be told any more")

    def _only_other(self, key: bytes) -> bytes:
        others = [each for each in self._configured if each != key]
        return others[0] if len(others) == 1 else b""

    def _id(self, public: bytes) -> bytes:
        return key_id(self._node, ED25519, public)


def carry_keys(source: Any, fresh: Any, wanted: Mapping[int, Wanted], ring: KeyRing) -> dict[int, Signer]:
    """Write the changes of each log into the new outbox, within the caller's transaction, and give by its row the key in force at its end. Raises EpochNeeded.

    Its records, bodies and cursors are there already.
    """
    # a change of the key comes to all streams at once: what signs the newest log of one signs that of another
    last = newest(wanted.values()).values()
    shared = next((want.signer for want in last if want.signer), None)
    ends = {want.row: want.signer or (shared if want in last else None) for want in wanted.values()}
    changes = _carry_changes(
        source, fresh, wanted.values(), {row: id_of(key) if key else b"" for row, key in ends.items()}, ring
    )
    found: dict[int, Signer] = {}
    for row, want in wanted.items():
        after = min(
            (each for each in wanted.values() if each.follows(want)), key=lambda each: each.origin.epoch, default=None
        )
        hints = [
            *(key_id(ring.name, ED25519, key) for _, _, key in changes[row][-1:]),
            *want.openers[-1:],
            *(after.openers[:1] if after else ()),
            _receipt_key(fresh, row, ring),
        ]
        found[row] = ends[row] or next(iter(ring.held(hints)), shared or ring.now)
    return found


def _receipt_key(fresh: Any, row: int, ring: KeyRing) -> bytes:
    """The id of the node's key on the newest receipt of a log; empty where there is none."""
    for (note,) in fresh.execute(
        "SELECT receipt FROM cursor WHERE log = ? ORDER BY size DESC LIMIT 1", (row,)
    ).fetchall():
        with suppress(SyncError):
            return last_id(note, ring.name)
    return b""


def _carry_changes(
    source: Any, fresh: Any, logs: Iterable[Wanted], ends: Mapping[int, bytes], ring: KeyRing
) -> dict[int, list[tuple[int, bytes, bytes]]]:
    """`ends`: for each log the id of the key at its end, or empty."""
    rows: dict[object, list[tuple[Any, ...]]] = {}
    torn = False
    try:
        for log, *row in source.execute("SELECT log, seq, before, after FROM key_change"):
            rows.setdefault(log, []).append(tuple(row))
    except UNREADABLE:
        torn = True
    keyed = {want.row: _keyed(fresh, want, rows.get(want.row, []), ends[want.row]) for want in logs}
    history = KeyHistory(ring, keyed.values(), torn=torn)
    found = {row: history.of(log) for row, log in keyed.items()}
    for row, changes in found.items():
        fresh.executemany(
            "INSERT INTO key_change (log, seq, before, after) VALUES (?, ?, ?, ?)",
            [(row, *change) for change in changes],
        )
    return found


def _keyed(fresh: Any, want: Wanted, rows: Sequence[Sequence[Any]], last: bytes) -> KeyedLog:
    window = (want.run, want.start, want.start + want.size)
    marked = [
        place - want.start
        for (place,) in fresh.execute(
            "SELECT seq FROM header WHERE log = ? AND seq >= ? AND seq < ? AND (header IS NULL OR instr(header, ?)) ORDER BY seq",
            (*window, MARK),
        ).fetchall()
    ]
    said, doubtful = said_and_doubtful(want.table(fresh), marked, want.origin, rows)
    (sent,) = fresh.execute("SELECT coalesce(max(size), 0) FROM cursor WHERE log = ?", (want.row,)).fetchone()
    return KeyedLog(
        origin=want.origin, size=want.size, first=next(reversed(want.openers), b""), last=b"" if want.absent else last, said=said, doubtful=doubtful,
        sent=want.size if want.absent else sent,  # it was carried as it is
    )  # fmt: skip
