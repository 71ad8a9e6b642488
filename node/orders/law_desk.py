"""Where an analyzer's queries (IHE LAW, LAB-27) meet the local order cache: the reply on its connection, and the orders that a thread of their own carries."""

import asyncio
import base64
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import apsw
import structlog

from hl7.check import Verdict
from hl7.devices.astm_orders import Order
from hl7.devices.law import Query, is_query, no_work, read_query, respond, work
from hl7.devices.law_errors import OrdersUnread
from hl7.errors import NotEr7
from hl7.message import facts
from node.clock import Clock, hl7_time
from node.config.feeds import Mllp
from node.orders.cache import OrderCache
from sync.header import Header
from sync.record import Record

STALE_US: Final = (
    300_000_000  # an analyzer waits for 10 to 60 s and asks again; what it asked before this is not waited for any more
)
REPLY_S_MAX: Final = 2.0  # that orders wait for the reply to be written before them; it takes milliseconds
OPEN_MAX: Final = (
    1024  # queries whose reply is on its way: connections times frames of each would be more, and is no analyzer
)
ID_BYTES: Final = 10  # 16 letters of base 32 (see node/destinations/replies.py)
NOTHING: Final = 0  # the part that says that there is no work; rows of the cache begin with 1

log = structlog.get_logger()


class Work(NamedTuple):
    """One message to the analyzer: the order's row in the cache, MSH-10, bytes."""

    row: int
    control_id: str
    body: bytes


class LawDesk:
    """One feed's orders. What comes of a query is asked of the cache when it is sent, so nothing of it is stored but that it was given."""

    def __init__(self, cache: OrderCache, feed: Mllp, clock: Clock) -> None:
        self._cache, self._feed, self._clock = cache, feed, clock
        self._open: Counter[bytes] = Counter()  # queries that are not answered yet, by their bytes
        self._turn = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.answered = self.unknown = self.refused = self.handed_out = 0

    def document(self) -> dict[str, int]:
        """For the status."""
        return {
            "known": self._cache.known, "answered": self.answered, "unknown": self.unknown, "refused": self.refused,
            "handed_out": self.handed_out,
        }  # fmt: skip

    # -- the reply: on the event loop -----------------------------------------------------------------------------

    def came(self, raw: bytes) -> None:
        """A query came, and is about to be stored: its orders wait for its reply."""
        with self._turn:
            if len(self._open) < OPEN_MAX:
                self._open[_mark(raw)] += 1

    def replied(self, raw: bytes) -> None:
        """Its reply is written, or never will be."""
        with self._turn:
            self._open[_mark(raw)] -= 1
            self._open = +self._open  # without those that none waits for
            self._turn.notify_all()

    def begin(
        self, raw: bytes, verdict: Verdict, *, is_test: bool, ids: Callable[[], tuple[bytes, bytes]], done: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:  # fmt: skip
        """Make the reply to a query that is stored. `ids`: its MSH-10 and MSH-7. `done` gets its bytes, `lost` is told that there is none.

        One of the two is called, whatever happens, on the event loop.
        """

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or (error := task.exception()) is not None:
                log.error(
                    "law.not_answered", feed=self._feed.name, error="" if task.cancelled() else type(error).__name__
                )
                lost()
            self.replied(raw)

        task = asyncio.get_running_loop().create_task(self._answer(raw, verdict, is_test, ids, done))
        self._tasks.add(task)
        task.add_done_callback(ended)

    async def _answer(
        self, raw: bytes, verdict: Verdict, is_test: bool, ids: Callable[[], tuple[bytes, bytes]], done: Callable[[bytes], None]
    ) -> None:  # fmt: skip
        query, is_known = self._query(raw), False
        if query.problem is None and not is_test:  # a vendor's trial is told of no patient
            try:
                is_known = bool(await asyncio.to_thread(self._orders, query))
            except (OrdersUnread, RuntimeError):  # the latter: no thread is lent any more, as the node stops
                query = Query(problem=OrdersUnread)
        if query.problem is not None:
            self.refused += 1
            log.info("law.query_refused", code=query.problem.code, feed=self._feed.name)
        self.answered += is_known
        self.unknown += query.problem is None and not is_known
        control_id, now = ids()
        done(respond(raw, verdict.facts or facts(raw), query, is_known=is_known, control_id=control_id, now=now))

    def _query(self, raw: bytes) -> Query:
        check = self._feed.check
        return read_query(raw, charset=check.charset, charset_default=check.charset_default)

    def _orders(self, query: Query) -> list[tuple[int, Order]]:
        """What the cache has for a query. Raises OrdersUnread where that cannot be known: no analyzer is told for it that there is no work."""
        if self._cache.is_behind:
            raise OrdersUnread("behind")
        try:
            return self._cache.find_rows(query.sample) if query.sample else self._cache.waiting(self._feed.name)
        except Exception as error:  # whatever is wrong with file or row, an analyzer waits
            log.warning("law.orders_unread", feed=self._feed.name, error=type(error).__name__)
            raise OrdersUnread(type(error).__name__) from error

    # -- the orders: on the thread that carries them ---------------------------------------------------------------

    def work_for(self, header: Header, record: Record) -> list[Work]:
        """What follows a query that is stored: its orders by their rows, or that there is none. Waits a little for its reply to be written.

        Raises OrdersUnread: the query is kept then, and asked again of the cache.
        """
        query = self._asked(record)
        if query is None or header.received_us < self._clock.now_us() - STALE_US:
            return []
        with self._turn:
            self._turn.wait_for(lambda: _mark(record.body) not in self._open, REPLY_S_MAX)
        return self._all(header, record, query)

    def work_again(self, header: Header, record: Record, row: int | None) -> list[Work]:
        """What a person wants sent again of a query of any age: the order with this row, if it still is what it was; with None all that it asks for now.

        Raises OrdersUnread.
        """
        query = self._asked(record)
        if query is None:
            return []
        if row is None or row == NOTHING:
            return self._all(header, record, query)
        return _written(header, record, query, self._order(row))

    def _asked(self, record: Record) -> Query | None:
        """A query that can be answered; None for any other message."""
        try:
            is_one = is_query(facts(record.body).route)
        except NotEr7:
            return None
        query = self._query(record.body)
        return query if is_one and query.problem is None else None

    def _all(self, header: Header, record: Record, query: Query) -> list[Work]:
        made = _written(header, record, query, sorted(self._orders(query), key=lambda each: each[0]))
        if made or not query.sample:
            return made
        found, now = facts(record.body), hl7_time(header.received_us).encode()
        return [_made(record, NOTHING, partial(no_work, query.sample, found, now=now))]

    def _order(self, row: int) -> list[tuple[int, Order]]:
        """The order that has a row, or nothing. Raises OrdersUnread."""
        if self._cache.is_behind:
            raise OrdersUnread("behind")
        try:
            order = self._cache.order(row)
        except apsw.Error as error:
            raise OrdersUnread(type(error).__name__) from error
        return [] if order is None else [(row, order)]

    def is_current(self, row: int) -> bool:
        """Whether an order still is what it was when the message of it was made: not changed, not cancelled. Raises OrdersUnread."""
        return row == NOTHING or bool(self._order(row))

    def given(self, row: int) -> None:
        """The analyzer has said that it has it. A crash before this is stored sends the same message again, with the same MSH-10."""
        self.handed_out += row != NOTHING
        self.told(row)

    def told(self, row: int) -> None:
        """The analyzer has it, or has refused it: whoever asks for all is told of it no more, or what it cannot do would be all it is ever told of."""
        if row == NOTHING:
            return
        try:
            self._cache.given(self._feed.name, (row,))
        except apsw.Error as error:  # a full disk: whoever asks for all is then told of it once more
            log.warning("law.not_noted", feed=self._feed.name, error=type(error).__name__)


def _mark(raw: bytes) -> bytes:
    """By what a query is known from its arrival to its reply: two analyzers may use the same MSH-10, and one may use it again."""
    return hashlib.sha256(raw).digest()


def _written(header: Header, record: Record, query: Query, orders: Iterable[tuple[int, Order]]) -> list[Work]:
    found, now = facts(record.body), hl7_time(header.received_us).encode()
    return [_made(record, row, partial(work, order, found, now=now, number=query.sample)) for row, order in orders]


def _made(record: Record, row: int, write: Callable[..., bytes]) -> Work:
    """The message, with an id made of the query's record and all that it says: a repeat has the same one, anything else another."""
    digest = hashlib.sha256(record.leaf + row.to_bytes(8, "big") + write(control_id=b"")).digest()
    control_id = base64.b32encode(digest[:ID_BYTES]).decode()
    return Work(row, control_id, write(control_id=control_id.encode()))
