"""One schedule, from the first start to the last receipt: builds the machines, lets the faults come, heals, and asks for convergence."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from gateway.ledger_keys import LOG
from native import frontier_append
from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.log import HASH_BYTES, Frontier, root_at
from sync.names import Origin
from sync.opening import read_opening
from sync.outbox_bodies import receipted
from sync.outbox_heads import write_head
from sync.receipt import cosign
from tests import sim_realm
from tests.sim.agenda import Agenda, Broken
from tests.sim.bench import Past
from tests.sim.box import Box
from tests.sim.centre import Centre
from tests.sim.disk import FileDisk, MemoryDisk, unmount_all
from tests.sim.faults import Faults
from tests.sim.key_changes import KeyChanges
from tests.sim.keys import identity
from tests.sim.link import Link
from tests.sim.parts import WIDTH, Parts
from tests.sim.schedule import FAULTS_S, Op, Schedule
from tests.sim.source import Source
from tests.sim.truth import Truth
from tests.sim.ways import LINES

EFFECTS_MIN = 300
MESSAGES_MAX = 40  # of one feed: bounds a run
CONVERGE_S = (
    900.0  # virtual, after the last fault: a dozen of the longest waits (60 s of back-off, 60 s of a full centre)
)
HALTS = {"SYN-24", "SYN-28", "SYN-29", "SYN-30", "SYN-31"}  # none of these may come of what a schedule does
PARTED = ("SYN-20", "SYN-21", "SYN-22", "SYN-33", "NOD-31", "NOD-36")
LANES = ("critical", "routine", "bulk")


@dataclass(slots=True)
class Outcome:
    """How a schedule went. `why` is empty where every invariant held."""

    seed: int
    why: str
    effects: int
    faults: int
    counts: dict[str, int]
    virtual_s: float
    trace: list[str]


class World:
    """The machines of one schedule. `drop` leaves out these operations by number."""

    def __init__(self, schedule: Schedule, drop: Collection[int] = ()) -> None:
        self.schedule = schedule
        self.ops = [op for n, op in enumerate(schedule.ops) if n not in drop]
        self.dice = Random(f"world {schedule.seed}")
        self.agenda = Agenda()
        self.counts: dict[str, int] = defaultdict(int)
        self.node, self.gateway = sim_realm.NODE, sim_realm.GATEWAY
        self.feeds: dict[str, Source] = {}
        self.boxes: list[Box] = []
        self.trace: list[str] = []
        self.renewed = {"log": 0, "cosign": 0}
        self.streams = {f"s{n}": LANES[n % 3] for n in range(schedule.streams)}
        self.changes = KeyChanges(self)
        self.truth = Truth(self)
        self.link = Link(
            self.agenda, self.dice, self.counts, ways=len(LINES[schedule.ways]), width=WIDTH if schedule.parts else 0.0
        )
        self.copied = False  # a disk of the node was rolled back or copied
        self.centre_rolled_back = False
        self.centre = Centre(
            self.agenda, self.new_disk("/sim/centre"), self.counts, cosign=self.identity("cosign"), dice=self.dice,
            anchor=sim_realm.AUTHORITY.certificate, judges_by_clock=schedule.keys,
        )  # fmt: skip
        self.centre.truth, self.link.centre = self.truth, self.centre
        self.link.thief, self.link.jumps = self.changes.resigned, self.changes.jumps
        self.centre.parts = Parts(self.centre, taken=schedule.parts)
        self.box(self.new_disk("/sim/node"))
        Past.frontier = self._past()
        self.faults = Faults(self)

    def new_disk(self, path: str) -> Any:
        return FileDisk(path) if self.schedule.files else MemoryDisk(path)

    def log_identity(self, number: int, since: int = 0) -> Any:
        """The node's log key of this number; renewals of its certificate keep the key."""
        key, n = f"log key {number}" if number else "log key", self.renewed["log"]
        return identity(f"urn:wasl:node:{self.node}:log", key, n, real=self.schedule.real_keys, since=since)

    def identity(self, role: str) -> Any:
        """Cosigning identity: renewals bring a new key."""
        n = self.renewed[role]
        return identity(f"urn:wasl:gateway:{self.gateway}:cosign", f"cosign key {n}", n, real=self.schedule.real_keys)

    def box(self, disk: Any) -> Box:
        """Another machine with the node's name, its disk, and sources of its own."""
        schedule, number = self.schedule, len(self.boxes)
        made = Box(
            self.agenda, disk, self.counts, node=self.node, gateway=self.gateway, lanes=self.streams, log=self.changes.made[0],
            anchor=sim_realm.AUTHORITY.certificate, dice=self.dice, quota_bytes=schedule.quota_bytes,
            answer_s_max=schedule.answer_s_max, retention_s=schedule.retention_s, paths=LINES[schedule.ways], mark=schedule.mark,
            keys=schedule.keys,
        )  # fmt: skip
        made.truth, made.link = self.truth, self.link
        for stream in self.streams:
            for n in range(schedule.feeds):
                name = f"b{number}-{stream}-{n}"
                dice = Random(f"source {schedule.seed} {name}")
                self.feeds[name] = source = Source(
                    self, made, name=name, stream=stream, dice=dice, every_s=schedule.every_s * len(self.streams), octets=schedule.octets,
                    wrap=schedule.wrap, large=schedule.parts,
                )  # fmt: skip
                made.sources.append(source)
        self.boxes.append(made)
        return made

    def sated(self, source: Source) -> bool:
        """Whether a source has sent its share: enough before the faults are over, and some after. An idle node would never call again."""
        enough = self.counts["effects"] >= EFFECTS_MIN
        if self.agenda.now < FAULTS_S:
            return source.next >= MESSAGES_MAX and enough
        if source.goal < 0:
            source.goal = source.next + self.schedule.after
        return source.next >= source.goal and enough

    # -- a log's past ----------------------------------------------------------------------------------------------

    def _past(self) -> Frontier:
        size = self.schedule.past
        return Frontier(size, self.dice.randbytes(HASH_BYTES * size.bit_count()))

    def _begin_late(self) -> None:
        """Write the logs' past into both disks: heads of a huge size, receipted."""
        past, box, centre = Past.frontier, self.boxes[0], self.centre
        assert len(frontier_append(past.size, past.peaks, b"")) == len(past.peaks)
        for stream, head in list(box.outbox.heads.items()):
            note = sign_checkpoint(Checkpoint(head.origin, past.size, past.root), box.log.signer)
            late = replace(head, frontier=past, trimmed=past.size, group_first=past.size, checkpoint=note)
            receipt = cosign(note, time=sim_realm.NOW_S, signer=centre.cosign.signer)
            with box.outbox.transaction():
                write_head(box.disk.connection, late)
                box.outbox.set_fact("ledger", centre.ledger.id.encode())
            box.outbox.heads[stream] = late
            box.outbox.keep_receipt(
                ledger=centre.ledger.id, origin=head.origin, size=past.size, receipt=receipt, at=sim_realm.NOW_S
            )
            certificate = centre.rows.keys.keep_certificate(self.node, LOG, box.log.der, 0)
            centre.connection.execute(
                "INSERT INTO log (node, stream, epoch, tag, lane, fence, size, peaks, octets, note, receipt_at, certificate)"
                " VALUES (?, ?, 1, ?, ?, '', ?, ?, 0, ?, 0, ?)",
                (self.node, stream, head.origin.tag, head.lane, past.size, past.peaks, receipt, certificate),
            )
            origin = str(Origin(self.node, stream, 1, head.origin.tag))
            self.truth.heads.add((origin, past.size, past.root))

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Everything. Gives what broke, never raises for it."""
        why = ""
        try:
            self._run()
        except Broken as error:
            why = str(error)
        except Exception as error:  # whatever the product raises where nothing may
            why = f"{type(error).__name__}: {error}"
            self.error = error
        finally:
            self._end()
        return Outcome(
            self.schedule.seed, why, self.counts["effects"], len(self.ops), dict(self.counts), self.agenda.now, self.trace
        )  # fmt: skip

    def _end(self) -> None:
        for box in self.boxes:
            box.retired = True
            box.fall()
        self.centre.fall()
        self.centre.parts.discard()
        unmount_all()

    def _run(self) -> None:
        self.centre.start()
        box = self.boxes[0]
        box.start()
        if self.schedule.past:
            # the first start made the logs; they get their past before the second one looks
            self._begin_late()
            box.fall()
        for op in self.ops:
            self.agenda.after(op.at, self._apply, op)
        self.agenda.run(FAULTS_S, lambda: False)
        self.say("the faults are over")
        self.faults.heal()
        end = self.agenda.now + CONVERGE_S
        while not self.agenda.run(end, self.converged):
            if self.agenda.now >= end:
                raise Broken(f"no convergence: {self.unconverged()}")
        self.final()

    def say(self, text: str) -> None:
        self.trace.append(f"{self.agenda.now:9.3f}  {text}")

    def _apply(self, op: Op) -> None:
        self.say(str(op))
        self.counts[f"op {op.kind}"] += 1
        self.faults.apply(op)

    # -- the end ---------------------------------------------------------------------------------------------------

    def converged(self) -> bool:
        return self.counts["effects"] >= EFFECTS_MIN and not self.unconverged()

    def unconverged(self) -> str:
        """What is not yet as it must become; empty: all is drained."""
        if not self.centre.up:
            return "the centre is down"
        for box in self.boxes:
            if not box.retired:
                found = self._undrained(box)
                if found:
                    return found
        return ""

    def _undrained(self, box: Box) -> str:
        if not box.up:
            return "a box is down"
        standing = {(alarm["code"], alarm["subject"]) for alarm in box.alarms.standing()}
        if ("SYN-27", "") in standing:
            return "a box is fenced"
        for code, subject in standing:
            if code in HALTS:
                still = f"{subject or 'the node'} stands still: {code}"
                if code == "SYN-31" and self.truth.keys.stolen:
                    return still  # a thief's doing: a person gives an order, and then it must go on
                raise Broken(still)
        for source in box.sources:
            if source.busy or not self.sated(source):
                return f"{source.name} has not sent all: {source.next}"
        held = self._gateway_sizes()
        for head in box.outbox.heads.values():
            size, origin = head.frontier.size, str(head.origin)
            if held.get(origin) != size:
                return f"{origin}: the node has {size}, the gateway {held.get(origin)}"
            found, _ = receipted(box.disk.connection, box.outbox.ledger(), head)
            if found != size:
                return f"{origin}: receipted {found} of {size}"
        return ""

    def _gateway_sizes(self) -> dict[str, int]:
        rows = self.centre.connection.execute("SELECT stream, epoch, tag, size FROM log WHERE node = ?", (self.node,))
        return {f"{self.node}/{stream}/{epoch}-{tag}": size for stream, epoch, tag, size in rows}

    def final(self) -> None:
        """After convergence: nothing acknowledged is missing, and no fork went unnoticed."""
        truth = self.truth
        truth.forget()
        truth.scan(self.centre)
        retired = {source.name for box in self.boxes if box.retired for source in box.sources}
        for feed, n in truth.acknowledged_ids:
            if n >= truth.next.get(feed, 0) and (feed, n) not in truth.lost and feed not in retired:
                raise Broken(f"{feed} {n} was acknowledged and is not at the gateway")
        rows = self.centre.connection.execute(
            "SELECT stream, epoch, tag, opening FROM log WHERE node = ? AND epoch > 1", (self.node,)
        ).fetchall()
        for stream, epoch, tag, opening in rows:
            self._check_epoch(stream, f"{self.node}/{stream}/{epoch}-{tag}", opening)

    def _check_epoch(self, stream: str, origin: str, opening: bytes) -> None:
        """A further epoch: opened by a signed statement that is true, with an alarm on both sides."""
        if not opening:
            return  # the first that a new ledger was told of: it knows of no other
        self.truth.keys.verify(opening)
        said = read_opening(opening)
        if str(said.opened) != origin:
            raise Broken(f"{origin} was opened by a statement of {said.opened}")
        theirs, common = said.theirs, self.centre.rows.find(said.common.origin)
        if (
            theirs is not None
            and theirs.size
            and (str(theirs.origin), theirs.size, theirs.root) not in self.truth.heads
        ):
            raise Broken(f"{origin}: the statement names {theirs.origin} at {theirs.size}, which no gateway held")
        if (
            common is not None
            and said.common.size <= common[0]
            and root_at(common[1], said.common.size) != said.common.root
        ):
            raise Broken(f"{origin}: what the statement calls common is not")
        if not any((code, stream) in box.ever for box in self.boxes for code in PARTED):
            raise Broken(f"{origin} was opened, and no node alarmed")
        if ("GWY-17", stream) not in self.truth.alarms:
            raise Broken(f"{origin} was opened without an alarm at the centre")
