"""The uplink: drives the pure sender. It reads the outbox, calls the gateway, and has receipts stored by the writer."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path

import structlog

from node.alarms import Alarms
from node.clock import Clock
from node.errors import LinkError
from node.keystore import Keystore
from node.uplink.body_uploads import BodyUploads
from node.uplink.conversation import Conversation, refused
from node.uplink.gateway_client import Problem
from node.uplink.highwater import HighWater
from node.uplink.lane import Lane
from node.uplink.link_state import LinkState
from node.uplink.own_logs import OwnLogs
from node.writer import Writer
from sync import pace
from sync.batch import Batch, encode
from sync.checkpoint import Checkpoint
from sync.dictionary import EMPTY, Shelf
from sync.errors import KeyAbsent, LogBroken, NoRoom
from sync.flow import patient
from sync.key_ring import KeyRing
from sync.lanes import CRITICAL
from sync.log import Frontier
from sync.names import Origin
from sync.opening import End
from sync.outbox import Outbox
from sync.outbox_view import OutboxView
from sync.proven import proven
from sync.receipt import lengthen
from sync.record import BodyState, Record
from sync.sender import Sender
from sync.sender_events import (
    Alarm,
    AskRoot,
    AskSession,
    Effect,
    EpochOpened,
    Event,
    Grew,
    KeepFence,
    KeepReceipt,
    OpenEpoch,
    PartOrdered,
    PartSent,
    PathFailed,
    Phase,
    PostEpoch,
    Put,
    Receipted,
    Refused,
    Retry,
    Started,
    Tick,
    Wait,
)  # fmt: skip
from sync.store import damage

WAIT_S_MAX = 60.0  # even with nothing to do the loop turns, so that a lost wake-up costs a minute at most
LOG_EVERY = 10  # of equal failures in a row one in ten is logged: a link may be down for weeks
# the gateway held something else, or a person ordered a further epoch: alarms until the centre releases what came after
PARTED = ("SYN-20", "SYN-21", "SYN-22", "SYN-33", "NOD-36")
HEADER_OCTETS = 256  # counted for each record beside its body, so that empty ones fill a quantum too

log = structlog.get_logger()


class Uplink(threading.Thread):
    """One lane's thread to one gateway. `boot` is this start's id, already stored."""

    def __init__(
        self, *, node: str, gateway: str, store: Path, lane: Lane, keystore: Keystore, writer: Writer, clock: Clock,
        alarms: Alarms, boot: bytes, dice: Callable[[], float], highwater: HighWater, shelf: Shelf = EMPTY,
    ) -> None:  # fmt: skip
        super().__init__(name=f"uplink-{lane.name}", daemon=True)
        self._node, self._gateway, self._store = node, gateway, store
        self._keystore, self._writer = keystore, writer
        self._calls = Conversation(lane, keystore, gateway, clock)
        self._clock, self._alarms, self._boot, self._dice = clock, alarms, boot, dice
        self._shelf, self._highwater = shelf, highwater
        self._uploads = BodyUploads(lane)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._sizes: dict[Origin, int] = {}
        self._stopping = False
        self._ordered: set[str] = set()  # streams of which a person wants a further epoch
        self._asked = False  # somebody says that the path is worth trying now
        self._open = False
        self._patience: Callable[[float], dict[str, float]] = lambda _: {}
        # while it waits: streams whose records wait for more of them, and until when
        self._patient: dict[str, float] = {}
        self._hungry = False  # a session is open and all is sent: the next record is wanted at once
        self._fence = ""
        self._ledger = ""
        self._streams: set[str] = set()
        self.lane = lane
        self._tiles: dict[Origin, dict[int, bytes]] = {}  # of each log the leaves of the tile that was proven last
        self.link = LinkState(since_us=clock.now_us())

    # -- called from other threads ----------------------------------------------------------------------------------

    def grown(self, origin: Origin, size: int) -> None:
        """A log has this size now, durably."""
        with self._lock:
            self._sizes[origin] = size
        if self._hungry and origin.stream not in self._patient:
            self.lane.wants()
            self._wake.set()

    def retry(self) -> None:
        """Try now, however long the wait after the last failure would still be."""
        self._asked = True
        self._wake.set()

    def part(self, stream: str) -> None:
        """Open a further epoch of a stream: an order."""
        with self._lock:
            self._ordered.add(stream)
        self.retry()

    def stop(self) -> None:
        """End after the call under way."""
        self._stopping = True
        self._wake.set()

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Send until stopped. Whatever is not a failure of the path ends the process: the supervisor starts it again."""
        view = OutboxView(self._store, self._node)
        logs = OwnLogs(view, self.lane.streams, self._alarms)
        sender = Sender(
            root_at=logs.root_at, root_of=logs.root_of, key_at=logs.key_at, dice=self._dice, opened_by_us=KeyRing.of(self._keystore.signer).opened,
            linger_s=0.0 if self.lane.name == CRITICAL else pace.LINGER_S,
        )  # fmt: skip
        started = Started(tuple(logs.read()), ledger=(view.fact("ledger") or b"").decode())
        self._streams = logs.names()
        self._patience = lambda now: patient(sender.flows.values(), now)
        effects = sender.handle(started, self._clock.monotonic())
        while not self._stopping:
            events = [event for effect in effects if (event := self._perform(effect, logs)) is not None]
            events += self._growth()
            if sender.phase is Phase.FENCED and self.lane.is_behind(self._fence):
                # another lane of this start was admitted anew: the gateway was set back, and had only forgotten us
                events.append(self._call(lambda: self._session(logs)))
            effects = [
                effect for event in events or [Tick()] for effect in sender.handle(event, self._clock.monotonic())
            ]
            # a wait asked for before the last event is no longer wanted; a fenced sender asks for nothing at all
            effects = [*(effect for effect in effects[:-1] if not isinstance(effect, Wait)), *effects[-1:]]
            effects = effects or [Wait(WAIT_S_MAX)]
            self._open = sender.phase is Phase.OPEN
            if sender.phase is Phase.FENCED:
                self._set_state("fenced")
        self.lane.client.close()
        view.close()

    def _growth(self) -> list[Event]:
        with self._lock:
            sizes, self._sizes = self._sizes, {}
            ordered, self._ordered = self._ordered, set()
        events: list[Event] = [Grew(origin, size) for origin, size in sizes.items()]
        events += [PartOrdered(stream) for stream in sorted(ordered)]
        if self._asked:
            self._asked = False
            events.append(Retry())
        return events

    def _perform(self, effect: Effect, logs: OwnLogs) -> Event | None:
        match effect:
            case AskSession():
                return self._call(lambda: self._session(logs))
            case Put():
                return self._call(lambda: self._put(effect, logs))
            case AskRoot() | PostEpoch():
                return self._call(lambda: self._calls.ask(effect, self._fence))
            case OpenEpoch():
                return self._open_epoch(effect, logs)
            case KeepReceipt():
                self._keep_receipt(effect)
            case KeepFence():
                self._keep_fence(effect)
            case Alarm(code, stream):
                self._alarm(code, stream)
            case Wait(seconds):
                self._wait(seconds)
        return None

    def _alarm(self, code: str, stream: str) -> None:
        if code == "NOD-36":  # the order is carried out: if the stream stands still after it, that is told anew
            self._alarms.all_cleared(("SYN-31", "SYN-32"), stream)
        self._alarms.raised(code, stream)
        if code == "SYN-28":
            self._set_state("revoked")

    def _keep_receipt(self, kept: KeepReceipt) -> None:
        ledger, stream, boot, fence = self._ledger, kept.origin.stream, self._boot, self._fence

        def keep(outbox: Outbox) -> None:
            if outbox.ledger() != ledger:  # found no room when it admitted us; trimming would go by another's receipts
                outbox.admitted(boot=boot, ledger=ledger, fence=fence)
            outbox.keep_receipt(ledger=ledger, origin=kept.origin, size=kept.size, receipt=kept.note, at=kept.at)

        self._have_written(keep)
        self._highwater.receipted(kept.origin, kept.size, self._fence)
        self._highwater.save()
        self._set_state("up")
        self._alarms.all_cleared(("SYN-26", "SYN-25", "SYN-24", "SYN-32", "SYN-15"), stream)

    def _keep_fence(self, kept: KeepFence) -> None:
        self._fence, self._ledger = kept.fence, kept.ledger
        boot = self._boot
        self._have_written(lambda outbox: outbox.admitted(boot=boot, ledger=kept.ledger, fence=kept.fence))
        # every lane hears of one session: what is held still must not be cleared, to be raised by the next of them
        self._alarms.all_cleared(("SYN-27", "SYN-28") if kept.held else ("SYN-27", "SYN-28", "SYN-23"))
        if not kept.held:  # a person has looked at it
            for stream in self._streams:
                self._alarms.all_cleared((*PARTED, "NOD-31"), stream)

    def _have_written(self, work: Callable[[Outbox], None]) -> None:
        """Have the writer store it and wait. Where it cannot (full, or stopping) the gateway will say it again."""
        with suppress(NoRoom):
            self._writer.order(work).result()

    def _wait(self, seconds: float) -> None:
        now = self._clock.monotonic()
        self._patient = self._patience(now)  # before it is hungry: then each commit of another thread asks
        self._hungry = self._open
        with self._lock:
            grown = any(origin.stream not in self._patient for origin in self._sizes)
        if not (self._hungry and grown):
            self.lane.rests()
            self._wake.wait(min(seconds, WAIT_S_MAX, max(0.0, min(self._patient.values(), default=inf) - now)))
        self._wake.clear()
        self._hungry = False

    def _call(self, call: Callable[[], Event]) -> Event:
        """One call with its time and its failure noted."""
        try:
            event = call()
        except LinkError as error:
            self._failed(error)
            return PathFailed(error.code)
        took_ms = self.lane.took_s * 1000
        self.link = replace(self.link, calls=self.link.calls + 1, round_trip_ms=round(took_ms, 1), failures=0)
        if self.link.state == "down":
            self._set_state("unproven")
        if (lost := self.lane.mark_lost()) is not None:
            (self._alarms.raised if lost else self._alarms.cleared)("LNK-10", self.lane.name)
        return event

    def _failed(self, error: LinkError) -> None:
        link = self.link
        if link.failures % LOG_EVERY == 0:
            log.warning("link.failed", code=error.code, detail=str(error), failures=link.failures + 1)
        self.link = replace(
            link,
            calls=link.calls + 1,
            failures=link.failures + 1,
            last_error=(error.code, self._clock.now_us(), str(error)),
        )
        self._set_state("down")

    def _set_state(self, state: str) -> None:
        if self.link.state != state:
            self.link = replace(self.link, state=state, since_us=self._clock.now_us())
            log.info("link", state=state)

    def _session(self, logs: OwnLogs) -> Event:
        return self.lane.session(lambda: self._calls.session(logs.view, self._boot))

    # -- epochs -----------------------------------------------------------------------------------------------------

    def _open_epoch(self, order: OpenEpoch, logs: OwnLogs) -> Event:
        """Have the epoch stored; where there is no room for it, or no epoch of that number can follow, a later session comes to it again."""
        found, tag = order.theirs, self._boot.hex()[:8]
        theirs = End(Origin(self._node, order.stream, found.epoch, found.tag), found.size, found.root)
        try:
            self._writer.order(
                lambda outbox: outbox.open_epoch(
                    order.stream, epoch=order.epoch, tag=tag, place=order.place, own=order.own, theirs=theirs
                )
            ).result()
        except (NoRoom, LogBroken) as error:
            return PathFailed(error.code)
        log.warning("epoch.opened", stream=order.stream, epoch=order.epoch)
        return EpochOpened(order.stream, tuple(own for own in logs.read() if own.origin.stream == order.stream))

    # -- batches ----------------------------------------------------------------------------------------------------

    def _put(self, put: Put, logs: OwnLogs) -> Event:
        origin = put.origin
        if self.lane.is_behind(self._fence):
            return self._session(logs)
        if not put.bare and self._uploads.is_under_way(origin.stream, put.first):
            return self._send_part(origin.stream)
        try:
            records, frontier, note, body = self._fitting(put, logs)
        except KeyAbsent as error:
            log.warning("log_key.absent", stream=origin.stream, detail=str(error))
            return Refused(origin.stream, "key-absent")
        except Exception as error:  # noqa: BLE001  # pages that cannot be read, in whatever way
            # halved like a batch that the gateway could not take: all before the damage goes, then this stream alone stands still
            logs.unreadable(origin.stream, error)
            return Refused(origin.stream, "bad-batch")
        if self._uploads.is_wanted(records, len(body)):
            self._uploads.begin(origin.stream, records[0])
            return self._send_part(origin.stream)
        fence = self._fence
        self.lane.note_needs(records)
        found = self.lane.put(
            len(body),
            lambda: self.lane.client.put(
                stream=origin.stream, epoch=origin.epoch, first=put.first, fence=fence, body=body
            ),
            above=self.lane.is_needed(origin, put.first, put.first + len(records)),
        )
        self.link = replace(
            self.link, octets_sent=self.link.octets_sent + len(body), records_sent=self.link.records_sent + len(records)
        )
        if isinstance(found, Problem):
            if found.code == "fenced" and self.lane.is_behind(fence):
                # another lane opened a session while this call was under way: we are late, not superseded
                return self._session(logs)
            if found.code == "bad-upload":
                again = self._uploads.spoilt(origin.stream)
                return PartSent(origin.stream) if again else Refused(origin.stream, "bad-batch")
            return refused(origin.stream, found)
        self._uploads.done(origin.stream)
        logs.keep(origin, frontier)
        return Receipted(origin.stream, lengthen(found, note))

    def _send_part(self, stream: str) -> Event:
        return self._uploads.send_part(stream, refused)

    def _fitting(self, put: Put, logs: OwnLogs) -> tuple[list[Record], Frontier, bytes, bytes]:
        """The batch of a call, cut again while its bytes are more than the lane's quantum: the bodies that are left may be the large ones."""
        while True:
            made = self._batch(put, logs)
            count, octets = len(made[0]), sum(len(record.body) + HEADER_OCTETS for record in made[0])
            most = self.lane.records_max(count, octets, len(made[3]))
            if most >= count:
                return made
            put = replace(put, records_max=most)

    def _batch(self, put: Put, logs: OwnLogs) -> tuple[list[Record], Frontier, bytes, bytes]:
        """The records of a call, the frontier after them, a checkpoint of just that size, and the bytes of all."""
        origin = put.origin
        uploaded = {} if put.bare else self._uploads.whole(origin.stream, put.first)
        before = logs.frontier(origin, put.first)
        taken = self._records(replace(put, records_max=1) if uploaded else put, logs)
        records = proven(
            logs.table(origin), before, taken, logs.head(origin), lambda record: self._checked(record, origin.stream),
            self._tiles.setdefault(origin, {}),
        )  # fmt: skip
        frontier = before.append(b"".join(record.leaf for record in records))
        checkpoint = Checkpoint(origin, frontier.size, frontier.root)
        note = KeyRing.of(self._keystore.signer).sign_batch(checkpoint, put.first, logs.keys(origin))
        body = encode(
            Batch(
                node=self._node, stream=origin.stream, epoch=origin.epoch, tag=origin.tag, first=put.first, lane=logs.lane(origin),
                checkpoint=note, records=records,
            ),
            EMPTY if put.plain else self._shelf,
            uploaded=uploaded,
            context=None if uploaded else logs.context(put, records),
        )  # fmt: skip
        return records, frontier, note, body

    def _records(self, put: Put, logs: OwnLogs) -> list[tuple[Record, Record]]:
        """The next records as they are stored and as they are sent: what no longer verifies travels as damaged, and alarms."""
        taken: list[tuple[Record, Record]] = []
        octets, octets_max = 0, self.lane.octets_max(put.octets_max)
        for record in logs.table(put.origin).records(put.first, put.records_max):
            octets += len(record.body) + HEADER_OCTETS
            if taken and octets > octets_max:
                break
            sent = self._checked(record, put.origin.stream)
            if put.bare and sent.state is BodyState.PRESENT:
                sent = sent.without_body(BodyState.DAMAGED)
            taken.append((record, sent))
        if not taken:
            raise LogBroken("the outbox has no record to send")
        return taken

    def _checked(self, record: Record, stream: str) -> Record:
        found = damage(record)
        if found is None:
            return record
        self._alarms.raised("SYN-30", stream)
        return record.without_body(found)
