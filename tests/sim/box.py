"""A node: the production writer, outbox, lanes, uplinks and senders, started as node/app.py starts them, on one simulated disk."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from node.alarms import Alarms
from node.app import Core
from node.errors import AnswerUnreadable, NoAnswer
from node.key_change import hand_over
from node.restored import name_lost, part_from
from node.sockets import Way
from node.uplink.gateway_client import GatewayClient, Problem
from node.uplink.lane import Lane
from node.uplink.lanes import Lanes
from node.uplink.link_turns import LinkTurns, SessionDesk
from node.uplink.own_logs import OwnLogs
from node.uplink.path_switch import PathSwitch
from node.uplink.uplink import Uplink
from node.writer import Writer
from sync.certificates import check_chain, read
from sync.errors import CommitUnknown, KeyAbsent, NoRoom, SyncError
from sync.key_ring import KeyRing
from sync.outbox import Outbox
from sync.paths import Path as Route
from sync.record import Draft
from sync.sender_events import EpochOpened, KeepFence, KeepReceipt
from sync.session import read_answer
from tests.sim.agenda import Agenda, Died
from tests.sim.keys import Identity
from tests.sim.link import TRIP_S, UPLOADS
from tests.sim.machine import Machine, broken
from tests.sim.mark import BoxMark, MarkFile, NoMark, Older, must_have_parted
from tests.sim.parts import Told
from tests.sim.strand import Condition, Event, Lock, Strand, current
from tests.sim.ways import Ways

QUEUE_RECORDS_MAX = 64  # as a small node's configuration: a burst meets it
RESTART_S = 2.0  # a process that ended by itself is started again
TRIM_EVERY_S = 5.0
FAR_US = 2**62  # where room is short all that is receipted may go, as node/app.py lets it
FSYNC_S = 0.02  # of a slow card


class BoxWriter(Writer):
    """The production writer; its turns come from the agenda."""

    box: "Box"

    def submit(self, draft: Draft, done: Callable[[Any], None]) -> bool:
        taken = super().submit(draft, done)
        if taken:
            self.box.turn_soon()
        return taken

    def order(self, work: Callable[[Outbox], Any]) -> Future[Any]:
        future = super().order(work)
        self.box.turn()
        return future


class BoxUplink(Uplink):
    """The production uplink; a crash may come between any two effects."""

    box: "Box"
    logs: OwnLogs

    def _perform(self, effect: Any, logs: Any) -> Any:
        self.logs = logs
        self.box.effect()
        if isinstance(effect, KeepReceipt | KeepFence):
            self.box.truth.performs(self.box, self, effect)
        event = super()._perform(effect, logs)
        if isinstance(event, EpochOpened):
            self.box.note_trimmed()
        return event


class BoxAlarms(Alarms):
    """The production alarms, and which were ever raised."""

    def __init__(self, now_us: Callable[[], int], ever: set[tuple[str, str]]) -> None:
        super().__init__(now_us)
        self._ever = ever
        self.may: Callable[[str], None] = lambda _code: None

    def raised(self, code: str, subject: str = "") -> None:
        self._ever.add((code, subject))
        self.may(code)
        super().raised(code, subject)


class BoxClient(GatewayClient):
    """The production calls over a simulated link: one connection, kept until a call fails."""

    def __init__(self, box: "Box", at: int, lane: str) -> None:
        self._box, self._at, self._lane = box, at, lane  # without a lane: it looks at a way that is not in use
        self.connected_at: float | None = None
        self.way, self.seen_dscp = Way(), None
        self.fenced = False

    def close(self) -> None:
        self.connected_at = None

    def drop(self) -> None:
        self.connected_at = None

    def upload_size(self, name: str) -> int | None:
        answer = self._call("HEAD", f"{UPLOADS}{name}/0", None, {})
        if isinstance(answer, Problem):
            if answer.code == "not-found":
                return None  # a gateway that takes no uploads
            raise AnswerUnreadable(f"{answer.code} to the question for an upload")
        self._box.told.said(name, answer)
        return int(json.loads(answer)["size"])

    def upload(self, name: str, offset: int, part: bytes) -> bytes | Problem:
        self._box.told.sends(name, offset)
        answer = super().upload(name, offset, part)
        self._box.told.said(name, answer)
        return answer

    def pace(self, octets_per_s: float) -> None:
        """The modelled network has no queue that could overflow."""

    def round_trip_s(self) -> float:
        return 2 * TRIP_S

    def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes | Problem:
        box, strand = self._box, current()
        if self.fenced:
            broken("a fenced start calls again")
        if self.connected_at is None:
            self.connected_at = box.monotonic()
        box.truth.sends(box, method, path)
        began, ways = box.monotonic(), box.ways
        if self._lane:
            ways.call(self._at, self._lane)
        else:
            ways.probe(self._at, began)
        box.link.ask(box, strand, method, path, body or b"", headers, self.connected_at, self._at)
        answer = strand.pause(box.answer_s_max)
        is_answer = isinstance(answer, bytes | Problem)
        if self._lane:
            good = is_answer and (path != "/v1/session" or box.believes(answer))
            ways.ended(self._at, began, box.monotonic(), answered=good)
        else:
            ways.probed(self._at, box.monotonic(), good=is_answer)
        if isinstance(answer, bytes | Problem):
            self.fenced = path == "/v1/session" and isinstance(answer, Problem) and answer.code == "fenced"
            return answer
        self.connected_at = None
        if answer == "junk":
            raise AnswerUnreadable("status 200 from a stranger")
        raise NoAnswer("nothing came")


class Keystore:
    """What the uplink asks of the production keystore."""

    def __init__(self, log: Identity, earlier: tuple[Identity, ...], anchor: Any) -> None:
        self.signer = KeyRing(log.signer, tuple(key.signer for key in earlier), tuple(key.pem for key in earlier))
        self.log_certificate, self.anchor = log, anchor

    def log_certificate_pem(self) -> str:
        return self.log_certificate.pem


class Box(Machine):
    """One node on one disk. `lanes`: its streams; `log`: its key and certificate, `earlier` those before it; `keys`: they may change."""

    def __init__(
        self, agenda: Agenda, disk: Any, counts: dict[str, int], *, node: str, gateway: str, lanes: dict[str, str], log: Identity, anchor: Any,
        dice: Random, quota_bytes: int, answer_s_max: float, retention_s: float, paths: tuple[Route, ...], mark: bool, keys: bool,
    ) -> None:  # fmt: skip
        super().__init__(agenda, disk, counts)
        self.node, self.gateway, self.lanes, self.log, self.anchor, self.dice = node, gateway, lanes, log, anchor, dice
        self.quota_bytes, self.answer_s_max, self.retention_s = quota_bytes, answer_s_max, retention_s
        self.paths, self.mark, self.mark_file = paths, mark, MarkFile()
        self.keys = keys
        self.earlier: tuple[Identity, ...] = ()
        self.keystore: Any = None
        self.lacks_key = False  # it cannot start: its outbox is signed by a key that it has not
        self.next_fuse = -1  # of the next start
        self.must_part: dict[str, Older] = {}  # streams that the disk lacks something of, as the mark shows
        self.truth: Any = None
        self.link: Any = None
        self.sources: list[Any] = []
        self.path = Path(disk.path)
        self.ever: set[tuple[str, str]] = set()
        self.retired = False  # a person took it out of service
        self.turning = self.turn_asked = False
        self.refused_at = float("-inf")
        self.boot = b""
        self.read: dict[Any, Any] = {}  # frontiers that the oracle has read in this life
        self.kept: dict[Any, tuple[int, int, int]] = {}  # receipts kept in this life
        self.trim_seen: dict[int, int] = {}  # how far the oracle has looked at what was trimmed, by log
        self.strands: list[Strand] = []
        self.writer: Any = None
        self.lanes_up: Any = None
        self.outbox: Any = None

    def trust(self) -> Any:
        return SimpleNamespace(state=1, error_us=5000)

    # -- a process's life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """As node/app.py starts the core: store the boot, verify, take messages, then talk to the gateway."""
        if self.up or self.retired:
            return
        self.life += 1
        self.up = True
        self.counts["starts"] += 1
        self.guarded(self.life, self._start)

    def _start(self) -> None:
        self.boot, self.read, self.kept = self.new_boot(), {}, {}
        alarms = BoxAlarms(self.now_us, self.ever)
        alarms.may = self.truth.node_alarm
        self.alarms, self.highwater = alarms, BoxMark(self, self.mark_file) if self.mark else NoMark(self)
        self.ways, self.told = Ways(self.paths), Told()
        self.keystore, self.lacks_key = Keystore(self.log, self.earlier, self.anchor), False
        self.fuse, self.next_fuse = self.next_fuse, -1
        self.writer = writer = BoxWriter(
            self._open,
            queue_records_max=QUEUE_RECORDS_MAX,
            deliver=self._deliver,
            refused=lambda _outbox, _bodies: frozenset(),
            grown=self._grown,
        )
        writer.box, writer._wake = self, Condition()
        try:
            self.outbox = writer._open()
        except (NoRoom, CommitUnknown):
            self.fall()
            return
        except KeyAbsent:
            self.lacks_key = True
            alarms.raised("SYN-15")
            self.fall()
            return
        must_have_parted(self.outbox, self.must_part, self.ever)
        self.must_part = {}
        self.note_trimmed()
        turns, desk = LinkTurns(self.monotonic), SessionDesk(self.monotonic)
        switch = PathSwitch(list(self.paths), self.monotonic, on_change=turns.forget)
        turns._changed, desk._lock, switch._changed = Condition(), Lock(), Condition()
        uplinks = [self._uplink(lane, turns, desk, switch) for lane in dict.fromkeys(self.lanes.values())]
        self.lanes_up = Lanes(uplinks, turns, switch, self.lanes.__getitem__)
        self.truth.started(self)
        self.strands = [uplink._wake.strand for uplink in uplinks]
        if len(self.paths) > 1:  # as PathSwitch.start_probing
            self.strands.append(Strand(self, partial(switch._probe, self._clients(""))))
        self.after(TRIM_EVERY_S, self._trim)
        for source in self.sources:
            source.connected()
        for strand in self.strands:
            strand.go()

    def _uplink(self, name: str, turns: LinkTurns, desk: SessionDesk, switch: PathSwitch) -> BoxUplink:
        """One lane, as node/uplink/way_out.py makes it."""
        lane = Lane(name, self._clients(name), turns, desk, switch, self.monotonic)
        uplink = BoxUplink(
            node=self.node, gateway=self.gateway, store=self.path, lane=lane, keystore=self.keystore, writer=self.writer,
            clock=self, alarms=self.alarms, boot=self.boot, dice=self.dice.random, highwater=self.highwater,
        )  # fmt: skip
        uplink.box, uplink._wake = self, Event()
        uplink._wake.strand = Strand(self, uplink.run)
        return uplink

    def _clients(self, lane: str) -> dict[str, GatewayClient]:
        return {path.name: BoxClient(self, at, lane) for at, path in enumerate(self.paths)}

    def new_boot(self) -> bytes:
        return self.dice.randbytes(16)

    def _open(self) -> Outbox:
        outbox = Outbox(
            self.path,
            signer=self.keystore.signer,
            random=self.dice.randbytes,
            quota_bytes=self.quota_bytes,
            recent_max=1024,
        )
        self.watch()
        outbox.start_boot(self.boot, self.now_us())
        outbox.verify_heads()
        outbox.open_streams(self.lanes, self.boot.hex()[:8])
        core: Any = SimpleNamespace(_highwater=self.highwater)
        clock: Any = self
        if self.mark:
            part_from(outbox, self.highwater.read(), self.alarms, tag=self.boot.hex()[:8])
        if self.keys:
            self._hand_over(outbox)
            Core._note_accepted(core, outbox)
        name_lost(outbox, clock, facility="simulated")
        return outbox

    def _hand_over(self, outbox: Outbox) -> None:
        """As the core does; what it left is looked at before anything is built on it."""
        keys, before = self.truth.keys, dict(outbox.heads)
        keys.opened(outbox)
        clock: Any = self
        hand_over(outbox, self.keystore, clock, facility="simulated")
        keys.handed_over(self, outbox, before)

    def fall(self) -> None:
        if not self.up:
            return
        self.up, self.fuse, self.turning, self.turn_asked = False, -1, False, False
        self.life += 1
        strands, self.strands = self.strands, []
        for strand in strands:
            strand.die()
        self.disk.fall()
        for source in self.sources:
            source.lost()
        self.agenda.after(RESTART_S + self.dice.random() * 3, self.start)

    # -- the writer's thread ---------------------------------------------------------------------------------------

    def turn_soon(self) -> None:
        if not self.turn_asked:
            self.turn_asked = True
            self.after(FSYNC_S * (0.2 + self.dice.random()), self.turn)

    def turn(self) -> None:
        """One turn of the writer: the orders, then the group that queued meanwhile."""
        if self.turning:
            return
        self.turn_asked, self.turning = False, True
        try:
            if self.writer._queue or self.writer._orders:
                self.writer._next_turn(self.outbox)
        except CommitUnknown:
            raise Died from None
        finally:
            self.turning = False
        if self.writer._queue:
            self.turn_soon()

    def _deliver(self, result: Any) -> None:
        self.effect()  # the group's write
        self.effect()  # its sync
        for done, outcome in result:
            self.effect()
            if isinstance(outcome, NoRoom):
                self.refused_at = self.agenda.now
            done(outcome)

    def believes(self, answer: Any) -> bool:
        """Whether a session's answer can be one for this box: a clock that jumped leaves no certificate valid, and that is no answer."""
        if isinstance(answer, Problem):
            return True
        try:
            certificate = read(read_answer(answer).cosign_certificate.encode())
            check_chain(certificate, (), self.anchor, at=self.now_us() // 1_000_000)
        except SyncError:
            return False
        return True

    def note_trimmed(self) -> None:
        """What is trimmed already, under an older receipt, epoch or ledger, is not judged again."""
        self.trim_seen = {head.log: head.trimmed for stream in self.lanes for head in self.outbox.logs(stream)}

    def _grown(self, origin: Any, size: int) -> None:
        self.point()
        self.highwater.accepted(origin, size)
        self.lanes_up.grown(origin, size)

    def _trim(self) -> None:
        refused = self.agenda.now - self.refused_at < 60.0
        before_us = FAR_US if refused else self.now_us() - int(self.retention_s * 1e6)
        for stream in self.lanes:
            ledger = self.outbox.ledger()
            if ledger:
                try:
                    self.outbox.trim(stream, ledger=ledger, received_before_us=before_us)
                except NoRoom:
                    pass
                except CommitUnknown:
                    raise Died from None
                self.truth.trimmed(self, stream)
        self.highwater.save()
        self.after(TRIM_EVERY_S, self._trim)
