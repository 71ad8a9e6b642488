"""The one thread that writes the outbox: whatever queued during the last fsync becomes the next group. There is no timer."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import structlog

from node.errors import EXIT_STORE
from sync.errors import CommitUnknown, NoRoom, SyncError
from sync.names import Origin
from sync.outbox import Outbox, Stored
from sync.record import Draft

GROUP_RECORDS_MAX = 256  # beyond this a group gains nothing and its first message waits
GROUP_BYTES_MAX = 4 * 1024 * 1024  # bounds the WAL one group can write, and so the wait on a slow card
QUEUE_BYTES_MAX = (
    32 * 1024 * 1024
)  # waiting for the disk, over all connections; a single larger message still goes alone
ORDERS_MAX = 1024  # receipts, probes, trims: they come a few a second
NOT_CRITICAL = frozenset({"bulk", "routine"})

Outcome = Stored | NoRoom
Done = Callable[[Outcome], None]
Result = list[tuple[Done, Outcome]]
T = TypeVar("T")

log = structlog.get_logger()


class Order(NamedTuple):
    """Work between two groups. `ride` does it within a group's transaction; what it returns says so to whoever waits, once that is committed."""

    run: Callable[[Outbox], None]
    ride: Callable[[Outbox], Callable[[], None]] | None


class Writer(threading.Thread):
    """Owns an Outbox. `deliver` gets each group's outcomes at once and must not block; `refused` says for which lanes there is no
    room, before bodies of these lengths are stored.

    `relieve` gives up the last reserve for what drains the queue, and says whether there was one.
    `grown` is called with (log, size) after each commit. `die` ends the process: no acknowledgement may follow it.
    """

    def __init__(
        self,
        open_outbox: Callable[[], Outbox],
        *,
        queue_records_max: int,
        deliver: Callable[[Result], None],
        refused: Callable[[Outbox, list[int]], frozenset[str]],
        grown: Callable[[Origin, int], None],
        relieve: Callable[[], bool] = lambda: False,
        die: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._open = open_outbox
        self._queue_max = queue_records_max
        self._deliver = deliver
        self._refused = refused
        self._relieve = relieve
        self._grown = grown
        self._die = die
        self._wake = threading.Condition(threading.Lock())
        self._queue: deque[tuple[Draft, Done]] = deque()
        self._octets_in, self._octets_out = 0, 0
        self._sleeping = False
        self._orders: list[Order] = []
        self._stopping = False
        self.opened: Future[None] = Future()
        self.groups = 0
        self.records = 0

    # -- called from other threads ----------------------------------------------------------------------------------

    def submit(self, draft: Draft, done: Done) -> bool:
        """Queue a draft; False where the queue is full and nothing was taken. `done` is called through `deliver`."""
        waiting = self._octets_in - self._octets_out  # one counter to a thread, so neither needs a lock
        if (
            len(self._queue) >= self._queue_max
            or (waiting and waiting + len(draft.body) > QUEUE_BYTES_MAX)
            or self._stopping
        ):
            return False
        self._octets_in += len(draft.body)
        self._queue.append((draft, done))
        # a deque's append needs no lock; the writer says that it sleeps before it looks a last time
        if self._sleeping:
            with self._wake:
                self._wake.notify()
        return True

    def order(self, work: Callable[[Outbox], T], within: Callable[[Outbox], T] | None = None) -> Future[T]:
        """Run something on the outbox between two groups. The future holds its result or its SyncError.

        `within` does the same in the transaction of a group that is stored anyway, which spares a commit; where there is no room for both, `work`
        is done by itself.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from now on it cannot be cancelled: tasks that wait are, at the end, and the thread would die of it

        def run(outbox: Outbox) -> None:
            try:
                future.set_result(self._done(work, outbox))
            except CommitUnknown as error:
                future.set_exception(error)
                raise
            except SyncError as error:
                future.set_exception(error)

        with self._wake:
            if len(self._orders) >= ORDERS_MAX or self._stopping:
                future.set_exception(NoRoom("the writer has too many orders"))
                return future
            self._orders.append(Order(run, _ride(future, within) if within else None))
            self._wake.notify()
        return future

    def refuses(self, outbox: Outbox, stream: str, octets: int) -> bool:
        """Within an order: whether a body of this length would be refused in this stream for want of room."""
        head = outbox.heads.get(stream)
        return head is not None and head.lane in self._refused(outbox, [octets])

    def queued(self) -> int:
        """How many drafts wait for the disk."""
        return len(self._queue)

    def stop(self) -> None:
        """Take nothing more, store what is queued, end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Open, verify, then write group after group until stopped."""
        try:
            outbox = self._open()
        except Exception as error:  # noqa: BLE001  # whatever stops the opening must reach the start that waits for it
            self.opened.set_exception(error)
            return
        self.opened.set_result(None)
        try:
            while self._next_turn(outbox):
                pass
            outbox.close()
        except CommitUnknown as error:
            # whether the group is on disk is unknown: no reply may leave. The start verifies (ATC 2020: never retry an fsync)
            log.critical("store.failed", code=error.code, detail=str(error))
            self._die(EXIT_STORE)

    def _next_turn(self, outbox: Outbox) -> bool:
        with self._wake:
            self._sleeping = True
            while not (self._queue or self._orders or self._stopping):
                self._wake.wait()
            self._sleeping = False
            orders, self._orders = self._orders, []
        group = self._take_group()
        riders = [order for order in orders if group and order.ride]
        for order in orders:
            if order not in riders:
                order.run(outbox)
        if group:
            self._commit(outbox, group, riders)
        return bool(group or orders or not self._stopping)

    def _take_group(self) -> list[tuple[Draft, Done]]:
        queue, octets = self._queue, 0
        count = min(len(queue), GROUP_RECORDS_MAX)
        group = [queue.popleft() for _ in range(count)]
        for place, (draft, _) in enumerate(group):
            octets += len(draft.body)
            if octets > GROUP_BYTES_MAX and place:
                octets -= len(draft.body)
                queue.extendleft(reversed(group[place:]))
                del group[place:]
                break
        self._octets_out += octets
        return group

    def _done(self, work: Callable[[Outbox], T], outbox: Outbox) -> T:
        """Do it; where there is no room even for what drains the queue, once more without the reserve."""
        try:
            return work(outbox)
        except NoRoom:
            if not self._relieve():
                raise
            return work(outbox)

    def _commit(self, outbox: Outbox, group: list[tuple[Draft, Done]], riders: list[Order]) -> None:
        lanes = self._refused(outbox, [len(draft.body) for draft, _ in group])
        stored = self._append_all(outbox, group, riders) if riders and not lanes else None
        if stored is None:
            for order in riders:
                order.run(outbox)
            if lanes:
                group = self._without(outbox, group, lanes, NoRoom("the disk is nearly full"))
            stored, group = self._append(outbox, group)
        if not group:
            return
        # a crash here: stored, not answered; the source repeats, and the repeat is known
        self.groups += 1
        self.records += len(group)
        self._deliver([(done, outcome) for (_, done), outcome in zip(group, stored, strict=True)])
        for stream in dict.fromkeys(outcome.stream for outcome in stored):  # in their order, whatever strings hash to
            head = outbox.heads[stream]
            self._grown(head.origin, head.frontier.size)

    def _append_all(self, outbox: Outbox, group: list[tuple[Draft, Done]], riders: list[Order]) -> list[Stored] | None:
        """Store a group and what rides with it in one transaction. Where each draft stands; None where nothing of all that was stored."""
        settled: list[Callable[[], None]] = []
        try:
            stored = outbox.append(
                [draft for draft, _ in group],
                lambda: settled.extend(order.ride(outbox) for order in riders if order.ride),
            )
        except NoRoom:
            return None
        for settle in settled:
            settle()
        return stored

    def _append(
        self, outbox: Outbox, group: list[tuple[Draft, Done]]
    ) -> tuple[list[Stored], list[tuple[Draft, Done]]]:  # fmt: skip
        """Store what there is room for and refuse the rest. Where each stored draft stands, and those drafts."""
        while group:
            try:
                return outbox.append([draft for draft, _ in group]), group
            except NoRoom as error:
                # a group that does not fit may hold critical records that do
                rest = self._without(outbox, group, NOT_CRITICAL, error)
                if len(rest) == len(group):
                    self._refuse(group, error)
                    return [], []
                group = rest
        return [], []

    def _without(
        self, outbox: Outbox, group: list[tuple[Draft, Done]], lanes: frozenset[str], error: NoRoom
    ) -> list[tuple[Draft, Done]]:  # fmt: skip
        """Refuse the drafts of these lanes; the others."""
        streams = {stream for stream, head in outbox.heads.items() if head.lane in lanes}
        refused = [entry for entry in group if entry[0].stream in streams]
        if refused:
            self._refuse(refused, error)
        return [entry for entry in group if entry[0].stream not in streams]

    def _refuse(self, group: list[tuple[Draft, Done]], error: NoRoom) -> None:
        self._deliver([(done, error) for _, done in group])


def _ride(future: Future[T], within: Callable[[Outbox], T]) -> Callable[[Outbox], Callable[[], None]]:
    def ride(outbox: Outbox) -> Callable[[], None]:
        found = within(outbox)
        return lambda: future.set_result(found)

    return ride
