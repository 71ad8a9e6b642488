"""The outbox's writing side: a group of drafts becomes records under a signed checkpoint in one transaction.

One thread owns an Outbox. What it holds in memory (heads, recent arrivals) changes only after COMMIT returned.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.errors import KeyAbsent, LogBroken
from sync.group import Group, insert, pack, prepare
from sync.header import seal
from sync.key_ring import KeyRing
from sync.keys import Signer
from sync.log import EMPTY_ROOT, TILE_LEAVES, Frontier
from sync.names import Origin, check_name
from sync.opening import End
from sync.outbox_after import with_after
from sync.outbox_arrivals import arrivals, is_same, keep_arrivals, place_of_same, remembered
from sync.outbox_bodies import delete_bodies, held_by, past_retention
from sync.outbox_cursors import Cursors
from sync.outbox_destinations import Destinations
from sync.outbox_epochs import open_epoch
from sync.outbox_frames import Frames
from sync.outbox_heads import Head, insert_head, read_heads, verify_head, write_head
from sync.outbox_keys import check_followed, keep_change, old_keys, to_hand_over
from sync.recent import RECENT_MAX, Recent
from sync.record import SALT_BYTES, Draft
from sync.session import BOOTS_MAX
from sync.store import BROKEN, all_bytes, bytes_of, create
from sync.transaction import Beside, Pages, Transactions, pages_of, reading

SCHEMA = Path(__file__).parent / "outbox_schema"
REMEMBER_ROWS = 256  # read together at the start: what one damaged page can take from the memory of arrivals
TRIM_ROWS_MAX = 256  # bodies deleted in one transaction: intake waits for it
NOBODY: Mapping[str, int] = {}
DRAWN_BYTES = 16 * 1024  # random bytes fetched together: the salts of a thousand records


class Stored(NamedTuple):
    """Where a draft stands. `repeated`: it had already arrived, this is the first one's position and nothing was stored."""

    stream: str
    epoch: int
    seq: int
    repeated: bool = False


class Outbox:
    """The store of one node, opened for writing. Raises UnsafeStore, LogBroken."""

    def __init__(
        self, path: Path, *, signer: Signer, random: Callable[[int], bytes], quota_bytes: int = 0, recent_max: int = RECENT_MAX, vfs: str | None = None
    ) -> None:  # fmt: skip
        self._ring, self._signer = (ring := KeyRing.of(signer)), ring.now
        self._random, self._drawn = random, b""
        self._recent, self._recent_max = Recent(recent_max), recent_max
        self._ledger: str | None = None  # as it was last read; asked with every receipt
        try:
            self._database = create(path, SCHEMA, vfs=vfs)
            self._connection: apsw.Connection = self._database.raw()
            prepare(self._connection)
            self._transactions = Transactions(self._connection, quota_bytes)
            self._cursors = Cursors(self._connection, self._transactions)
            self.destinations = Destinations(self._connection, self.transaction)
            self.frames = Frames(self._connection, self.transaction)
            self.heads: dict[str, Head] = {}
            self.older: dict[str, list[Head]] = {}
            for head in read_heads(self._connection, signer.name):
                self._take(head)
            self._next_row = 1 + self._largest_row()
            self._remember(recent_max)
            self._handing_over = bool(old_keys(self._ring, self.heads))
        except BROKEN as error:
            raise LogBroken(f"the outbox cannot be read: {error}") from error

    def close(self) -> None:
        """Close the connection; what is committed stays."""
        self._database.close()

    def _take(self, head: Head) -> None:
        """Take a log as its stream's newest; the one before it is of an older epoch."""
        if (before := self.heads.get(head.origin.stream)) is not None:
            self.older.setdefault(head.origin.stream, []).append(before)
        self.heads[head.origin.stream] = head

    def logs(self, stream: str) -> list[Head]:
        """All logs of a stream, oldest first."""
        return [*self.older.get(stream, []), self.heads[stream]]

    # -- opening --------------------------------------------------------------------------------------------------

    def open_streams(self, lanes: Mapping[str, str], tag: str) -> None:
        """Make sure that each stream has a log: epoch 1, under this boot's tag, where it is new. The lane follows the configuration."""
        heads = dict(self.heads)
        with self.transaction():
            for stream, lane in lanes.items():
                head = heads.get(stream)
                if head is None:
                    origin = Origin(self._signer.name, check_name(stream), 1, tag)
                    note = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), self._signer)
                    heads[stream] = insert_head(self._connection, origin=origin, lane=lane, checkpoint=note)
                elif head.lane != lane:
                    heads[stream] = replace(head, lane=lane)
                    write_head(self._connection, heads[stream])
        self.heads = heads

    def verify_heads(self) -> None:
        """Check every head: its frontier against leaves and tiles, its checkpoint, its last commit group. Raises LogBroken, KeyAbsent, KeyFollowed.

        This is all that stands between a start and the first acknowledgement, whatever the queue's length.
        """
        try:
            for head in self.heads.values():
                verify_head(self._connection, head, self._ring)
            self._check_ring()
        except BROKEN as error:
            raise LogBroken(f"the outbox cannot be read: {error}") from error

    def change_key(self, draft: Callable[[Origin, Signer, Signer], Draft]) -> list[Origin]:
        """Hand every stream that an earlier key signs over to the configured one, all or none, by a record of `draft` that both keys sign.

        A crash before COMMIT leaves the old key in force, one after it the new. Gives the logs. Raises KeyAbsent, KeyFollowed, NoRoom, CommitUnknown.
        """
        with reading():
            self._check_ring()
        now = self._signer
        changing, empty = to_hand_over(self._ring, self.heads)
        groups = [(old, self._seal(head, [draft(head.origin, old, now)], old, now)) for head, old in changing]
        if groups or empty:
            with self.transaction():  # it may touch the reserve, as what drains the queue waits for it
                for row, (old, group) in enumerate(groups, self._next_row):
                    self._insert_group(row, group)
                    keep_change(self._connection, group.head.log, group.head.group_first, old, now)
                for head in empty:
                    write_head(self._connection, head)
            self.heads.update({head.origin.stream: head for head in (*empty, *(group.head for _, group in groups))})
            self._next_row += len(groups)
        self._handing_over = False
        return [group.head.origin for _, group in groups]

    def _check_ring(self) -> None:
        check_followed(self._connection, self._ring, {stream: self.logs(stream) for stream in self.heads})

    # -- the group commit -----------------------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft], beside: Beside | None = None) -> list[Stored]:
        """Store a group: number, commit to bytes, append leaves, sign, insert, COMMIT. Durable when this returns.

        `beside`: what else is written within its transaction, and is undone with it.
        Raises NoRoom (nothing of the group is stored), CommitUnknown (the process must end), LogBroken for an unknown stream.
        """
        if self._handing_over:
            raise KeyAbsent("a stream is not handed over to the configured log key yet")
        repeats = self._find_repeats(drafts)
        stored: list[Stored | None] = [None] * len(drafts)
        kept: list[bytes] = []
        groups: list[Group] = []
        # all that needs no lock on the database comes first: hashing lets intake go on, and BEGIN would wait for it
        by_stream = self._fresh(drafts, repeats)
        drafts = with_after(drafts, by_stream, self.heads)
        for stream, places in by_stream.items():
            head, fresh = self.heads[stream], [drafts[place] for place in places]
            groups.append(self._seal(head, fresh))
            kept += [draft.repeat_key for draft in fresh]
            for seq, place in enumerate(places, head.frontier.size):
                stored[place] = Stored(stream, head.origin.epoch, seq)
        self._insert(groups, [draft.fact for draft in drafts if draft.fact], beside)
        # only now is it true
        for group in groups:
            self.heads[group.head.origin.stream] = group.head
        end = self._next_row + len(kept)
        self._recent.keep_all(kept, range(self._next_row, end))
        self._next_row = end
        for place, first in repeats.items():
            found = stored[first] if isinstance(first, int) else first
            stored[place] = found._replace(repeated=True) if found else None
        return cast("list[Stored]", stored)  # each place is fresh or repeats one that is

    def _seal(self, head: Head, drafts: Sequence[Draft], *signers: Signer) -> Group:
        """Give the records that drafts become, and the head that their stream will have; signed by the configured key, or by these."""
        salts = self._draw(SALT_BYTES * len(drafts))
        before, first = head.frontier, head.frontier.size
        headers, leaves, peaks, root = seal(first, before.peaks, drafts, salts)
        bodies = [draft.body for draft in drafts]
        particulars = [draft.particulars for draft in drafts]
        after = Frontier(first + len(drafts), peaks)
        octets = head.octets + sum(map(len, bodies))
        note = sign_checkpoint(Checkpoint(head.origin, after.size, root), *(signers or (self._signer,)))
        head = replace(head, frontier=after, octets=octets, group_first=first, checkpoint=note)
        return Group(head, headers, leaves, salts, particulars, bodies)

    def _draw(self, size: int) -> bytes:
        """Take random bytes, of which many are fetched together: each fetching gives up Python's lock and waits for it."""
        if len(self._drawn) < size:
            self._drawn = self._random(max(size, DRAWN_BYTES))
        taken, self._drawn = self._drawn[:size], self._drawn[size:]
        return taken

    def _insert(self, groups: Sequence[Group], facts: Sequence[tuple[str, bytes]], beside: Beside | None) -> None:
        row = self._next_row
        if (
            not facts
            and beside is None
            and len(groups) == 1
            and self._tiles(groups[0]) == 0
            and (values := pack(row, groups[0])) is not None
        ):  # nearly always
            self._transactions.alone(*values)
            return
        with self.transaction(grows=True):
            for group in groups:
                self._insert_group(row, group)
                row += len(group.bodies)
            for fact in facts:
                self.set_fact(*fact)
            if beside is not None:
                beside()

    def _insert_group(self, row: int, group: Group) -> None:
        insert(self._connection, row, group)
        group.head.table(self._connection).fill_tiles(self.heads[group.head.origin.stream].frontier, group.leaves)

    @staticmethod
    def _tiles(group: Group) -> int:
        """How many tiles it makes full."""
        return group.head.frontier.size // TILE_LEAVES - group.head.group_first // TILE_LEAVES

    def _find_repeats(self, drafts: Sequence[Draft]) -> dict[int, Stored | int]:
        """Places of drafts that arrived before: the record that holds the first one, or its place in this group."""
        keys = [draft.repeat_key for draft in drafts if draft.repeat_key]
        if len(set(keys)) == len(keys) and not self._recent.holds(keys):
            return {}
        found: dict[int, Stored | int] = {}
        here: dict[bytes, int] = {}
        for place, draft in enumerate(drafts):
            key = draft.repeat_key
            if not key:
                continue
            twin, row = here.get(key), self._recent.get(key)
            if twin is not None and is_same(drafts[twin], draft):
                found[place] = twin
            elif row is not None and (first := self._same_as(row, draft)) is not None:
                found[place] = first
            else:
                here[key] = place
        return found

    def _fresh(self, drafts: Sequence[Draft], repeats: Mapping[int, object]) -> dict[str, list[int]]:
        """Places of the other drafts, by stream. Raises LogBroken for an unknown one."""
        fresh: dict[str, list[int]] = {}
        streams = {draft.stream for draft in drafts}
        if len(streams) == 1 and streams <= self.heads.keys() and not repeats:  # nearly always
            return {streams.pop(): list(range(len(drafts)))}
        for place, draft in enumerate(drafts):
            if place in repeats:
                continue
            stream = draft.stream
            if stream not in fresh:
                if stream not in self.heads:
                    raise LogBroken(f"no log for stream {stream}")
                fresh[stream] = []
            fresh[stream].append(place)
        return fresh

    def _same_as(self, row: int, draft: Draft) -> Stored | None:
        with reading():
            place = place_of_same(
                self._connection, row, draft, [head for name in self.heads for head in self.logs(name)]
            )
        return Stored(*place, repeated=True) if place else None

    # -- the other writes -----------------------------------------------------------------------------------------

    def open_epoch(
        self, stream: str, *, epoch: int, tag: str, place: int, theirs: End | None, own: int | None = None, fact: tuple[str, bytes] | None = None
    ) -> list[Head]:  # fmt: skip
        """Let a stream go on under a further epoch from `place` of its run of rows on; all its heads, oldest first. Raises LogBroken.

        `own`: see `sync.agreement.Agreed`; None where all before `place` is agreed in logs that we have. `fact`: kept in the same transaction.
        """
        heads = self.logs(stream)
        self._cursors.forget()
        with self.transaction():
            heads = open_epoch(
                self._connection, heads, epoch=epoch, tag=tag, place=place, own=place if own is None else own, theirs=theirs, signer=self._ring,
            )  # fmt: skip
            if fact is not None:
                self.set_fact(*fact)
        self.older[stream], self.heads[stream] = heads[:-1], heads[-1]
        return heads

    def keep_receipt(self, *, ledger: str, origin: Origin, size: int, receipt: bytes, at: int) -> None:
        """Move a ledger's cursor of a log forward to `size`; never back. `at` is the receipt's time, seconds. Nothing for a log that is not here."""
        head = next((each for each in self.logs(origin.stream) if each.origin == origin), None)
        if head is not None:
            self._cursors.keep(ledger=ledger, head=head, size=size, receipt=receipt, at=at)

    def start_boot(self, boot: bytes, started_us: int) -> None:
        """Store this start's id, durably, before the first call to a gateway."""
        with self.transaction():
            # what a flipped bit made of an id names no start: without it the gateway holds the node at worst, with it no session could be asked for
            self._connection.execute("DELETE FROM boot WHERE typeof(id) <> 'blob'")
            self._connection.execute("INSERT INTO boot (id, started_us) VALUES (?, ?)", (boot, started_us))
            # a box that restarts in a loop must not outgrow the session: the last admitted start, the oldest row, stays
            self._connection.execute(
                "DELETE FROM boot WHERE rowid > (SELECT min(rowid) FROM boot) AND rowid NOT IN (SELECT rowid FROM boot ORDER BY rowid DESC LIMIT ?)",
                (BOOTS_MAX - 2,),
            )

    def admitted(self, *, boot: bytes, ledger: str, fence: str) -> None:
        """Keep the fence a gateway gave this boot; earlier starts need not be listed any more."""
        with self.transaction():
            self._connection.execute("DELETE FROM boot WHERE id <> ?", (boot,))
            self.set_fact("fence", fence.encode())
            self.set_fact("ledger", ledger.encode())

    def set_fact(self, name: str, value: bytes) -> None:
        """Keep one small value under a name, within the caller's transaction."""
        self._ledger = None  # read anew once that has ended, however it ends
        self._connection.execute("INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, value))

    def fact(self, name: str) -> bytes | None:
        """The value under a name; None where there is none. Raises LogBroken."""
        found: Any = self._connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).get
        return None if found is None else bytes_of(f"the fact {name}", found)

    def facts(self, pattern: str) -> dict[str, bytes]:
        """All values whose names match a pattern of GLOB; what a flipped bit has made something else is none of them."""
        return all_bytes(self._connection.execute("SELECT name, value FROM fact WHERE name GLOB ?", (pattern,)))

    def ledger(self) -> str:
        """The ledger that last admitted this node; empty before the first."""
        if self._ledger is None:
            self._ledger = (self.fact("ledger") or b"").decode()
        return self._ledger

    def probe(self) -> None:
        """Write, sync and sign something outside any stream. Raises what append would."""
        self._signer.sign(b"probe")
        with self.transaction():
            self.set_fact("probe", self._random(SALT_BYTES))

    def trim(self, stream: str, *, ledger: str, received_before_us: int, holders: Mapping[str, int] = NOBODY) -> int:
        """Delete bodies of receipted records received before that time, oldest first, at most TRIM_ROWS_MAX. How many.

        None that a destination of `holders` still needs (see Destinations.held_at).
        """
        heads = self.logs(stream)
        with reading():
            held = held_by(self._connection, ledger, heads)
            stop = self.destinations.held_at(heads[-1].run, holders) if holders else None
        for head, size in zip(heads, held, strict=True):
            with reading():
                end = min(size, head.frontier.size, head.trimmed + TRIM_ROWS_MAX)
                end = end if stop is None else min(end, stop - head.start)
                upto: int = past_retention(self._connection, head, end, received_before_us)
            if upto > head.trimmed:
                self._trim(head, upto)
                return upto - head.trimmed
        return 0

    def _trim(self, head: Head, upto: int) -> None:
        after = replace(head, trimmed=upto)
        since = self._next_row - self._recent_max
        rows = remembered(self._connection, head, upto, since)
        with self.transaction():
            delete_bodies(self._connection, head, upto)
            keep_arrivals(self._connection, rows, since)
            write_head(self._connection, after)
        stream = head.origin.stream
        if self.heads[stream] is head:
            self.heads[stream] = after
        else:
            self.older[stream] = [after if each is head else each for each in self.older[stream]]

    def pages(self) -> Pages:
        """How many pages the database has, and how many are free for new records."""
        with reading():
            return pages_of(self._connection)

    def transaction(self, *, grows: bool = False) -> AbstractContextManager[None]:
        """BEGIN IMMEDIATE … COMMIT. `grows`: it adds records, so it may not touch the reserve. Raises NoRoom, CommitUnknown."""
        return self._transactions.begin(grows=grows)

    def _largest_row(self) -> int:
        return int(cast("Any", self._connection.execute("SELECT coalesce(max(id), 0) FROM header").get))

    def _remember(self, limit: int) -> None:
        first = max(1, self._next_row - limit)
        for start in range(first, self._next_row, REMEMBER_ROWS):
            # what cannot be read costs the memory of its rows, not the start; the proofreader names it
            with suppress(*BROKEN, apsw.IOError):
                for key, row in arrivals(self._connection, start, start + REMEMBER_ROWS):
                    self._recent.keep(key, row)
