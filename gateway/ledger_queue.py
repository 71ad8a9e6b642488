"""The calls that wait for the ledger's writer: so many in all, and so many of one node that the others find a place."""

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Lock
from typing import Any

from gateway.errors import Busy
from gateway.ledger import EpochCall, PutCall, ReleaseCall, RootCall, SessionCall
from sync.announced import Announced
from sync.receiver import Raise

WAITING_CALLS_MAX = 256  # behind one writer: at a slow disk's 20 ms a commit, no call waits longer than a few seconds
WAITING_PER_NODE_MAX = 32  # lanes ask one thing at a time, and its batches have eight seats: twice that, and reconnects
GROUP_CALLS_MAX = 64  # calls in one transaction: the first of them waits for the last
GROUP_BYTES_MAX = 32 * 1024 * 1024  # body bytes in one transaction: bounds the WAL and the wait; one batch always fits

Call = SessionCall | PutCall | EpochCall | RootCall | ReleaseCall


@dataclass(slots=True)
class Waiting:
    """A call, and what is to be told once it is on stable storage. `heads`: those that a session brings, verified."""

    call: Call
    future: Future[Any]
    heads: tuple[Announced, ...] = ()
    answer: Any = None
    records: int = 0
    alarms: tuple[Raise, ...] = ()
    admits: bool = False


class CallQueue:
    """Any thread puts, the writer takes."""

    def __init__(self) -> None:
        self._queue: Queue[Waiting | None] = Queue(WAITING_CALLS_MAX)
        self._of_node: Counter[str] = Counter()
        self._lock = Lock()
        self._ended = False

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, call: Call, heads: tuple[Announced, ...] = ()) -> Future[Any]:
        """Wait for the writer. Raises Busy at once where too many calls wait already, of all nodes or of this one."""
        waiting = Waiting(call, Future(), heads)
        with self._lock:
            # a release is a person's, and must not wait until the node that it is about is quiet
            if self._of_node[call.node] >= WAITING_PER_NODE_MAX and not isinstance(call, ReleaseCall):
                raise Busy("too many calls of this node wait for the ledger")
            try:
                self._queue.put_nowait(waiting)
            except Full:
                raise Busy("too many calls wait for the ledger") from None
            self._of_node[call.node] += 1
        return waiting.future

    def end(self) -> None:
        """Nothing more will be put."""
        self._queue.put(None)

    def take(self) -> list[Waiting]:
        """Wait for a call and take what queued meanwhile; empty: the end."""
        group: list[Waiting] = []
        octets = 0
        while not self._ended and len(group) < GROUP_CALLS_MAX and octets < GROUP_BYTES_MAX:
            try:
                waiting = self._queue.get(block=not group)
            except Empty:
                break
            if waiting is None:
                self._ended = True
                break
            self._leave(waiting.call.node)
            if waiting.future.set_running_or_notify_cancel():
                group.append(waiting)
                octets += _octets(waiting.call)
        return group

    def _leave(self, node: str) -> None:
        with self._lock:
            self._of_node[node] -= 1
            if not self._of_node[node]:
                del self._of_node[node]


def _octets(call: Call) -> int:
    return sum(len(record.body) for record in call.batch.records) if isinstance(call, PutCall) else 0
