"""What must hold at every step, and what the world knows to judge it: every message, every head that was ever committed, every fence."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from gateway.ledger import ReleaseCall, SessionOpened
from sync.checkpoint import parse_checkpoint, parse_note
from sync.control import Hole, read_hole
from sync.log import Frontier, root_at
from sync.opening import read_opening
from sync.outbox import Stored
from sync.receiver import Receipt, Taken
from sync.sender_events import KeepFence, KeepReceipt
from sync.session import SessionRequest, read_request
from sync.store import OutboxTable, split_hashes
from tests.sim.bench import Past
from tests.sim.key_truth import Control, KeyTruth
from tests.sim.machine import broken
from tests.sim.mark import check_hole

RECEIPT_PAGES = 64  # beyond the quota, for receipts, boots, heads: a few are used
Message = tuple[str, int]  # feed and number

_STORED = (
    "SELECT size, checkpoint, trimmed, header.id, body.body FROM log"
    " LEFT JOIN segment ON segment.run = CASE log.run WHEN 0 THEN log.id ELSE log.run END"
    " AND first = (SELECT max(first) FROM segment AS other WHERE other.run = segment.run AND first <= start + ?1)"
    " LEFT JOIN header ON header.id = start + ?1 + shift AND header.log = segment.run AND seq = start + ?1"
    " LEFT JOIN body ON body.id = header.id WHERE stream = ?2 AND epoch = ?3"
)
_HEADS = (
    "SELECT log.id, stream, epoch, tag, size, peaks, node.fence, node.held FROM node LEFT JOIN log ON log.node = node.name WHERE name = ?"
    " ORDER BY stream, epoch"
)
_IS_HELD = "SELECT held FROM node WHERE name = ?"
_RECORDS = "SELECT seq, leaf, body FROM header LEFT JOIN body USING (id) WHERE log = ? AND seq >= ? ORDER BY seq"


def read_message(body: bytes) -> Message:
    """Which message these bytes are."""
    parts = body.split(b"|", 5)
    return parts[3].decode(), int(parts[4])


def unwatched(look: Callable[..., Any]) -> Callable[..., Any]:
    """The oracle's own questions are no points at which a machine dies."""

    @wraps(look)
    def looked(self: Any, machine: Any, *args: Any) -> Any:
        if not machine.watched:
            return look(self, machine, *args)
        connection = machine.disk.connection
        watched = connection.exec_trace
        connection.exec_trace = None
        try:
            return look(self, machine, *args)
        finally:
            connection.exec_trace = watched

    return looked


def _gist(note: bytes) -> tuple[str, Any]:
    """What a receipt says, and the gateway's signature. A node puts its own line beside it where the receipt came short: another of its keys may have signed there."""
    parsed = parse_note(note)
    return parsed.text, parsed.signatures[-1]


class Truth:
    """The oracle of one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.acknowledged_ids: set[Message] = set()
        self.heads: set[tuple[str, int, bytes]] = set()  # (origin, size, root) that a gateway ever held durably
        self.by_leaf: dict[bytes, Message | Control | Hole] = {}  # leaves whose bodies a gateway has had
        self.lost: set[Message] = set()  # on a disk that was rolled back
        self.twice: set[Message] = set()  # waited for their answer when a disk was rolled back
        self.fences: dict[str, tuple[Any, int]] = {}  # fence -> the start that got it
        self.starts: dict[Any, str] = {}  # and the other way round
        # receipts that a gateway gave, and how often its disk had been rolled back then
        self.notes: dict[tuple[str, Any], int] = {}
        self.given: dict[str, int] = {}  # the same for fences
        self.kept: dict[tuple[str, str], int] = {}  # (ledger, origin) -> largest receipt that any box kept
        self.rolled_back = 0  # how often the gateway's disk was
        self.alarms: set[tuple[str, str]] = set()  # of the centre
        self.keys = KeyTruth(world)
        self.forget()

    def forget(self) -> None:
        """The gateway's disk was rolled back or replaced: look at it anew."""
        self.rolled_back += 1
        self.known: dict[int, Frontier] = {}
        self.next: dict[str, int] = {}
        self.seen: set[Message] = set()
        self.holes: set[Hole] = set()
        self.hole_leaves: set[bytes] = set()
        self.boots: list[str] = []
        self.held = False
        self.releases = False  # the transaction under way releases the node before it admits a start
        self.scanned: Any = None
        self.last_admitted: Any = ()  # fence and whether it is held, as they are on disk
        self.anew = True  # what is found now came earlier
        self.keys.forget()

    # -- the node's side -------------------------------------------------------------------------------------------

    def started(self, box: Any) -> None:
        """A start is up; nothing to check yet."""

    @unwatched
    def sends(self, box: Any, method: str, path: str) -> None:
        """A request leaves: never while a transaction is open."""
        if not box.disk.connection.get_autocommit():
            broken("a call was made inside a transaction")

    @unwatched
    def acknowledged(self, box: Any, source: Any, n: int, outcome: Stored) -> None:
        """I1: what a reply says is durable, whole, and under a signed checkpoint."""
        connection = box.disk.connection
        if not connection.get_autocommit():
            broken("acknowledged inside a transaction")
        found = connection.execute(_STORED, (outcome.seq, outcome.stream, outcome.epoch)).get
        if found is None:
            broken(f"acknowledged in a log that is not there: {outcome}")
        size, checkpoint, trimmed, row, body = found
        # whether it is a checkpoint at all is looked at where it is verified; here, once a reply, what it says
        log, signed, _ = checkpoint.split(b"\n", 2)
        if not (outcome.seq < size == int(signed)):
            broken(f"acknowledged {outcome.seq}, the checkpoint covers {signed.decode()} of {size}")
        if not log.startswith(f"{box.node}/{outcome.stream}/{outcome.epoch}-".encode()):
            broken(f"acknowledged {outcome}, the checkpoint is of {log.decode()}")
        if outcome.stream != source.stream or row is None or (body is None and outcome.seq >= trimmed):
            broken(f"acknowledged {outcome}, but the body is not there")
        if body is not None and body != source.body(n):
            broken(f"acknowledged {source.name} {n} with other bytes at {outcome.seq}")
        self.acknowledged_ids.add((source.name, n))

    @unwatched
    def performs(self, box: Any, uplink: Any, effect: KeepReceipt | KeepFence) -> None:
        """The sender asks for something durable: a receipt must be true, a fence must be this start's own."""
        if isinstance(effect, KeepReceipt):
            self.world.counts["effects"] += 1  # its sync
            said = parse_checkpoint(parse_note(effect.note).text)
            gist = _gist(effect.note)
            if (str(effect.origin), effect.size, said.root) not in self.heads or gist not in self.notes:
                broken(f"kept a receipt of {effect.size} that no gateway gave")
            cursor = (uplink._ledger, str(effect.origin))
            before, given, kept = box.kept.get(cursor, (0, 0, 0))
            # both of one life of the gateway, and no other since: after a backup was put back it may be right to begin below an answer of before
            if effect.size < before and given == self.notes[gist] and kept == self.rolled_back:
                broken(f"kept a receipt of {effect.size} after one of {before}")
            box.kept[cursor] = (effect.size, self.notes[gist], self.rolled_back)
            self.kept[cursor] = max(self.kept.get(cursor, 0), effect.size)
            if own_root(box, uplink.logs._streams[effect.origin], effect.size) != said.root:
                broken(f"kept a receipt of another root at {effect.size}")
        elif isinstance(effect, KeepFence):
            start = (box, box.life)
            if self.fences.setdefault(effect.fence, start) != start:
                broken("two starts have one fence")
            if self.starts.setdefault((start, self.given[effect.fence]), effect.fence) != effect.fence:
                broken("one start has two fences")

    def _kept(self, box: Any, head: Any) -> int:
        """Up to which size the ledger in force has confirmed a log: by its receipt, or by one of an epoch whose statement calls that part common."""
        ledger, sizes = box.outbox.ledger(), dict[str, int]()
        for log in reversed(box.outbox.logs(head.origin.stream)):
            name = str(log.origin)
            sizes[name] = max(sizes.get(name, 0), self.kept.get((ledger, name), 0))
            if log.opening and sizes[name]:
                common = read_opening(log.opening).common
                sizes[str(common.origin)] = max(sizes.get(str(common.origin), 0), common.size)
        return sizes.get(str(head.origin), 0)

    @unwatched
    def trimmed(self, box: Any, stream: str) -> None:
        """I6: a body goes only when a gateway has it."""
        for head in box.outbox.logs(stream):
            seen = box.trim_seen.get(head.log, 0)
            if head.trimmed > seen:
                box.trim_seen[head.log] = head.trimmed
                if head.trimmed > (kept := self._kept(box, head)):
                    broken(f"{head.origin}: trimmed to {head.trimmed}, receipted is {kept}")
                for leaf in split_hashes(head.table(box.disk.connection).leaves(seen, head.trimmed - seen)):
                    if leaf not in self.by_leaf:
                        broken(f"{head.origin}: trimmed to {head.trimmed}, and no gateway ever had the body")
        if box.quota_bytes:
            pages = box.disk.connection.pragma("page_count")
            if pages * 4096 > box.quota_bytes + RECEIPT_PAGES * 4096:
                broken(f"the outbox has {pages} pages")
        if box.writer.queued() > box.writer._queue_max:
            broken("the queue before the writer has no bound")

    # -- the gateway's side ----------------------------------------------------------------------------------------

    @unwatched
    def fence_of(self, centre: Any) -> str:
        """The fence last admitted, as it is on disk."""
        if self._place(centre) != self.scanned:  # else nothing was written since, and it was read with the heads
            self._see(
                list(centre.connection.execute("SELECT fence, held FROM node WHERE name = ?", (self.world.node,)))
            )
        if self.last_admitted:
            self.held = bool(self.last_admitted[1])
        return self.last_admitted[0] if self.last_admitted else ""

    @staticmethod
    def _place(centre: Any) -> Any:
        """What is other whenever something was written, or may have been."""
        return centre.connection, centre.connection.total_changes()

    def _see(self, rows: list[Any]) -> None:
        self.last_admitted = rows[0][-2:] if rows else ()

    @unwatched
    def committed(self, centre: Any, group: Any, before: str) -> None:
        """A transaction of the ledger is over. Where its disk was full nothing of it was taken, whatever had been judged by then."""
        group = [waiting for waiting in group if waiting.future.exception() is None]
        fence, opened = before, False
        for waiting in group:
            if isinstance(waiting.answer, SessionOpened):
                fence = waiting.answer.fence
            elif isinstance(waiting.answer, Receipt | Taken) and waiting.call.fence != fence:
                broken("a batch or statement of an older fence was taken")
            if isinstance(waiting.answer, Taken) and waiting.alarms:
                opened = True
        if opened and not any(isinstance(waiting.call, ReleaseCall) for waiting in group):
            is_held = self.held or bool(centre.connection.execute(_IS_HELD, (self.world.node,)).get)
            if not is_held:
                broken("a further epoch is open, and its node is not held")
        self.world.counts["effects"] += 1  # its sync
        self.scan(centre)
        if self.world.schedule.keys:
            self.keys.committed(centre, group)

    @unwatched
    def receipted(self, centre: Any, note: bytes) -> None:
        """I7: what a receipt says is durable in the ledger when it leaves."""
        if not centre.connection.get_autocommit():
            broken("receipted inside a transaction")
        self.scan(centre)
        self.notes[_gist(note)] = self.rolled_back
        said = parse_checkpoint(parse_note(note).text)
        if (str(said.origin), said.size, said.root) not in self.heads:
            # of two batches in one transaction the first is receipted too
            size, table = centre.rows.find(said.origin) or (0, None)
            if said.size > size or root_at(table, said.size) != said.root:
                broken(f"receipted {said.size}, which the ledger does not hold")
            self.heads.add((str(said.origin), said.size, said.root))

    @unwatched
    def admitted(self, centre: Any, asked: Any, found: SessionOpened) -> None:
        """I10: starts are admitted in one direction, and one that does not continue the last is held."""
        if not centre.connection.get_autocommit():
            broken("admitted inside a transaction")
        request: SessionRequest = read_request(asked.body)
        rows = list(centre.connection.execute("SELECT boot, fence, held FROM node WHERE name = ?", (asked.node,)))
        if not rows or (found.fence == rows[0][1]) != (request.boot == rows[0][0]):
            broken("admitted with another fence than the ledger keeps")
        self.given[found.fence] = self.rolled_back
        if not self.boots or self.boots[-1] != request.boot:
            if request.boot in self.boots:
                broken("an older start was admitted again")
            self._check_held(request, found)
            self.boots.append(request.boot)
            self.last_fence = found.fence

    def _check_held(self, request: SessionRequest, found: SessionOpened) -> None:
        if self.boots:
            continues = request.fence == self.last_fence or self.boots[-1] in request.boots
            if ((self.held and not self.releases) or not continues) and not found.held:
                broken("a start that does not continue the last one is not held")
            if not continues and ("GWY-10", "") not in self.alarms:
                broken("a copy was admitted without an alarm at the centre")
            if not continues and not (self.world.copied or self.world.centre_rolled_back):
                broken("an ordinary start was taken for a copy")
        self.held = (self.held and not self.releases) or found.held

    def node_alarm(self, code: str) -> None:
        """A box says that something is wrong: not without a cause."""
        world = self.world
        self.keys.alarm(code)
        is_known = code == "SYN-22" and world.counts["jumps"]  # what a thief opened is of no epoch that we have
        # an epoch of the key before was refused: its own statement, or what a thief had made of it
        is_known |= code == "SYN-20" and (bool(world.changes.fresh) or self.keys.spurned)
        is_known |= code == "NOD-36" and bool(world.counts["epochs ordered"])
        if code in {"SYN-20", "SYN-21", "SYN-22", "NOD-31", "NOD-36"} and not (world.copied or is_known):
            broken(f"a false alarm at the node: {code}")
        is_held_for_a_thief = code == "SYN-23" and self.keys.stolen
        if code in {"SYN-23", "SYN-27"} and not (world.copied or world.centre_rolled_back or is_held_for_a_thief):
            broken(f"a false alarm at the node: {code}")

    def centre_alarm(self, code: str, stream: str) -> None:
        """The centre was told."""
        if code in {"GWY-11", "GWY-12", "GWY-17"} and not (
            self.world.copied or (code == "GWY-17" and (self.keys.stolen or self.world.counts["jumps"]))
        ):
            broken(f"a false alarm at the centre: {code}")
        self.keys.alarm(code)
        self.alarms.add((code, stream))
        if code == "GWY-16":
            broken("a call failed inside the ledger")

    @unwatched
    def scan(self, centre: Any) -> None:
        """I3, I4: what is new in the ledger continues what was there, in the source's order, byte for byte."""
        place = self._place(centre)
        if place == self.scanned:
            return
        self.scanned = place
        rows = list(centre.connection.execute(_HEADS, (self.world.node,)))
        self._see(rows)
        for row, stream, epoch, tag, size, peaks, _, _ in rows:
            if row is None:
                continue  # a node without a log
            known = self.known.get(row)
            if known is None:
                known = self.known[row] = Past.frontier if size >= Past.frontier.size else Frontier()
            if (size, peaks) == (known.size, known.peaks):
                continue
            origin = f"{self.world.node}/{stream}/{epoch}-{tag}"
            self._scan_log(centre, row, origin, known, Frontier(size, peaks))
        self.anew = False

    def _scan_log(self, centre: Any, row: int, origin: str, known: Frontier, head: Frontier) -> None:
        found = list(centre.connection.execute(_RECORDS, (row, known.size)))
        if [seq for seq, _, _ in found] != list(range(known.size, head.size)):
            broken(f"{origin} has a gap or too much between {known.size} and {head.size}")
        after = known.append(b"".join([leaf for _, leaf, _ in found]))
        if after != head:
            broken(f"{origin}: the head at {head.size} is not that of its records")
        for seq, leaf, body in found:
            self._take(origin, seq, leaf, body)
        if self.held and found and not self.anew:
            self._check_hold(centre, row, known.size, head.size)
        self.known[row] = head
        self.heads.add((origin, head.size, head.root))

    def _take(self, origin: str, seq: int, leaf: bytes, body: bytes | None) -> None:
        """One record: the next of its feed."""
        if body is None:
            if leaf not in self.by_leaf:
                broken(f"{origin} {seq} came without its body, and no gateway ever had it")
            message = self.by_leaf[leaf]
        else:
            message = self.by_leaf[leaf] = self._read(body)
        if isinstance(message, Hole):
            check_hole(self.world, origin, message, is_again=leaf in self.hole_leaves or message in self.holes)
            self.hole_leaves.add(leaf)
            self.holes.add(message)
            return
        if isinstance(message, Control):
            self.keys.take(origin, seq, leaf, message)
            return
        feed, n = message
        source = self.world.feeds.get(feed)
        if source is None or f"/{source.stream}/" not in origin or (body is not None and source.body(n) != body):
            broken(f"{origin} {seq} is no message of {feed}")
        expected = self.next.get(feed, 0)
        late = message in self.lost and message not in self.seen  # an older backup has brought it back
        self.seen.add(message)
        if n < expected and not late and message not in self.twice:
            broken(f"{origin} {seq}: {feed} {n} a second time or too late, {expected} was next")
        gap = [each for each in range(expected, n) if (feed, each) not in self.lost]
        if gap:
            broken(f"{origin} {seq}: {feed} {gap[0]} is missing before {n}")
        self.next[feed] = max(expected, n + 1)

    def _read(self, body: bytes) -> "Message | Control | Hole":
        """What a record says."""
        if not body.startswith(b"{"):
            return read_message(body)
        said = json.loads(body)
        return read_hole(said) if "lost" in said else self.keys.read(body)

    def _check_hold(self, centre: Any, log: int, first: int, end: int) -> None:
        if not centre.connection.execute(_IS_HELD, (self.world.node,)).get:
            return  # released in this very transaction
        ranges = list(centre.connection.execute("SELECT first, end FROM hold WHERE log = ?", (log,)))
        if not any(low <= first and end <= high for low, high in ranges):
            broken(f"records {first} to {end} came while the node was held, and are not")


def own_root(box: Any, log: Any, size: int) -> bytes:
    """The node's own root of a log, from its stored leaves; what one life has read it need not read again."""
    beginning = Frontier() if log.start else Past.frontier
    known = box.read.get(log.origin, beginning)
    if known.size > size:
        known = beginning
    table = OutboxTable(box.disk.connection, log.log, log.run, log.start)
    box.read[log.origin] = known = known.append(table.leaves(known.size, size - known.size))
    return known.root
