"""The desk of a feed on which analyzers ask, with a cache that fails and time that stands: every query ends in a reply, and its work waits for that."""

import asyncio

import apsw
import pytest

from hl7.check import NO_RULES, check
from hl7.devices.law_errors import OrdersUnread
from hl7.message import Message
from node.clock import Trust
from node.config.feeds import Mllp
from node.config.replies import OrdersOut
from node.destinations.orders import OrdersSink
from node.destinations.plug import ER7, End, Outcome, Outgoing
from node.feeds.mllp_query import PendingQuery
from node.orders.law_desk import OPEN_MAX, LawDesk
from sync.header import Header
from sync.record import BodyState, Kind, Record, Verdict
from tests.test_hl7_law import qbp

NOW_US = 1_900_000_000_000_000


class Still:
    """A clock that stands."""

    now = NOW_US

    def now_us(self):
        return self.now

    def monotonic(self):
        return 0.0

    def trust(self):
        return Trust(0, 0)


class Cache:
    """Orders by sample; raises instead where it is told to."""

    known, is_behind = 0, False

    def __init__(self, error=None, **orders):
        self.error, self.orders = error, orders

    def find_rows(self, number):
        if self.error is not None:
            raise self.error
        return self.orders.get(number, [])

    def waiting(self, feed):
        del feed
        return self.find_rows("")

    def order(self, row):
        return self.find_rows(row) or None


class Turn:
    """The desk's condition, which never waits: what it would have waited for."""

    def __init__(self):
        self.was_free = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def notify_all(self):
        pass

    def wait_for(self, is_free, _):
        self.was_free.append(is_free())


def desk_of(cache):
    feed = Mllp(
        name="analyzer", stream="lab", kind="mllp", listen=("127.0.0.1:0",), orders="query", orders_to="127.0.0.1:9"
    )
    desk = LawDesk(cache, feed, Still())
    desk._turn = Turn()
    return desk


def answered(desk, raw, *, fails=None):
    """What the desk says to a query: the responses, and how often there was none."""
    told, lost = [], []

    def done(response):
        told.append(response)
        if fails is not None:
            raise fails

    async def ask():
        desk.came(raw)
        desk.begin(
            raw, check(raw, NO_RULES), is_test=False, ids=lambda: (b"R1", b"20300101"), done=done, lost=lambda: lost.append(1)
        )  # fmt: skip
        while desk._tasks:
            await asyncio.sleep(0)

    asyncio.run(ask())
    return told, len(lost)


@pytest.mark.parametrize(
    "error", [apsw.CorruptError("x"), apsw.ConnectionClosedError("x"), ValueError("a row"), TypeError("a row"), RuntimeError("stopped")]
)  # fmt: skip
@pytest.mark.parametrize("qpd", ["QPD|WOS^x|T1|S1", "QPD|WOS_ALL^x|T1"])
def test_whatever_the_lookup_raises_the_analyzer_is_told_that_the_orders_cannot_be_read(error, qpd):
    desk = desk_of(Cache(error))
    (response,), lost = answered(desk, qbp(qpd))
    said = Message(response).read(("MSA-1", "MSA-2", "QAK-1", "QAK-2", "ERR-3.1"))
    assert said == [b"AE", b"Q1", b"T1", b"AE", OrdersUnread.error_code.encode()]
    assert OrdersUnread.text.encode() in response
    assert (lost, desk._open, desk.document()["refused"]) == (0, {}, 1)


def test_a_reply_that_cannot_be_made_is_told_to_the_connection_and_its_work_waits_no_longer():
    desk = desk_of(Cache())
    told, lost = answered(desk, qbp(), fails=IndexError("ours"))
    assert (len(told), lost, desk._open) == (1, 1, {})


class Connection:
    """A connection's end of a query: what was settled, and whether it was closed."""

    def __init__(self):
        self.settled, self.is_closed = [], False

    def settle(self, pending):
        self.settled.append(pending.reply)

    def close(self):
        self.is_closed = True


def test_a_query_without_a_reply_holds_up_no_frame_behind_it_and_its_connection_is_closed():
    connection = Connection()
    PendingQuery(connection, qbp(), check(qbp(), NO_RULES), desk_of(Cache()))._lost()
    assert (connection.settled, connection.is_closed) == ([b""], True)


def follow(desk, raw, received_us=NOW_US):
    """What follows a query that is stored."""
    header = Header(
        kind=Kind.MESSAGE, facility="f", feed="analyzer", content_type=ER7, message_type="QBP^Q11^QBP_Q11", received_us=received_us, clock_state=0,
        clock_error_us=0, verdict=Verdict.ACCEPTED, body_bytes=len(raw), protection=0, commitment=bytes(32),
    )  # fmt: skip
    return desk.work_for(
        header, Record(seq=1, header=b"", leaf=bytes(32), state=BodyState.PRESENT, salt=b"", particulars=b"", body=raw)
    )


@pytest.mark.parametrize("other", [qbp().replace(b"TestAnalyzer", b"Second"), qbp().replace(b"BAR-1", b"BAR-2")])
def test_the_reply_to_another_query_under_the_same_control_id_lets_no_work_go_before_its_own(other):
    desk = desk_of(Cache())
    desk.came(qbp())
    desk.came(other)
    desk.replied(other)
    follow(desk, qbp())
    follow(desk, other)
    assert desk._turn.was_free == [False, True]


def test_a_query_that_came_twice_is_waited_for_until_both_are_answered_and_then_forgotten():
    desk = desk_of(Cache())
    desk.came(qbp())
    desk.came(qbp())
    for _ in range(3):  # one more than came: a query beyond the bound was not counted
        desk.replied(qbp())
        follow(desk, qbp())
    assert (desk._turn.was_free, len(desk._open)) == ([False, True, True], 0)


def test_queries_without_end_are_not_all_remembered():
    desk = desk_of(Cache())
    for number in range(OPEN_MAX + 10):
        desk.came(b"%d" % number)
    assert len(desk._open) == OPEN_MAX


UNREAD = [apsw.CorruptError("x"), apsw.ConnectionClosedError("x"), apsw.BusyError("x"), TypeError("a row")]


@pytest.mark.parametrize("error", UNREAD)
@pytest.mark.parametrize("qpd", ["QPD|WOS^x|T1|S1", "QPD|WOS_ALL^x|T1"])
def test_orders_that_cannot_be_read_are_never_told_as_no_work(error, qpd):
    with pytest.raises(OrdersUnread, match=type(error).__name__):
        follow(desk_of(Cache(error)), qbp(qpd))


def test_while_stored_orders_may_not_be_known_yet_no_analyzer_is_told_that_there_is_no_work():
    cache = Cache()
    cache.is_behind = True
    desk = desk_of(cache)
    (response,), _ = answered(desk, qbp())
    assert Message(response).get("QAK-2") == b"AE"
    with pytest.raises(OrdersUnread, match="behind"):
        follow(desk, qbp())
    cache.is_behind = False
    (response,), _ = answered(desk, qbp())
    assert (Message(response).get("QAK-2"), len(follow(desk, qbp()))) == (b"NF", 1)


def test_work_is_not_sent_while_it_cannot_be_known_whether_it_was_called_off():
    sink = OrdersSink(OrdersOut(name="a-orders", feed="a", streams=("lab",), kind="mllp", address="127.0.0.1:9"), desk_of(Cache(apsw.IOError())))  # fmt: skip
    outgoing = Outgoing("n", "lab", 1, 7, 0, 1, ER7, "OML^O33", "W1", qbp())
    assert sink.deliver(outgoing) == Outcome(End.LATER, OrdersUnread.code, "IOError")
