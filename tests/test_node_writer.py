"""The writer: one thread, groups without a timer, and not one outcome unless the group is on disk."""

import asyncio
import os
import threading

import pytest

from node.errors import EXIT_STORE
from node.writer import Writer
from sync.errors import CommitUnknown, LogBroken, NoRoom
from sync.header import common_start
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.outbox_arrivals import repeat_key
from sync.outbox_frames import Frame
from sync.outbox_view import OutboxView
from sync.record import Draft, Kind
from tests.node_rig import wait_until
from tests.sim_disk import disk
from tests.sim_realm import ed25519

COMMON = common_start(kind=Kind.MESSAGE, facility="BH-TEST-1", feed="his", content_type="application/hl7-v2+er7")


def draft(number, *, stream="his", body=b""):
    return Draft(
        stream, COMMON, "ORU^R01", 1_900_000_000_000_000 + number, 0, 0, 0, b"\xa0", body or b"MSH|%d" % number, repeat_key("his", f"W{number}")
    )  # fmt: skip


class Rig:
    """A writer over an outbox in a folder, and everything it told."""

    def __init__(self, folder, *, vfs=None, quota_bytes=0, queue=1000, streams=("his",)):
        self.path, self.streams = folder / "outbox.db", streams
        self.delivered, self.grown, self.died, self.refused = [], [], [], frozenset()
        self._vfs, self._quota = vfs, quota_bytes
        self.writer = Writer(
            self.open, queue_records_max=queue, deliver=self._deliver, refused=lambda _outbox, _bodies: self.refused,
            grown=lambda origin, size: self.grown.append((origin.stream, size)), die=self.died.append,
        )  # fmt: skip

    def open(self):
        signer = FileSigner("clinic-7", ed25519("log"))
        outbox = Outbox(self.path, signer=signer, random=os.urandom, quota_bytes=self._quota, vfs=self._vfs)
        outbox.open_streams(dict.fromkeys(self.streams, "routine"), "0badcafe")
        outbox.verify_heads()
        return outbox

    def _deliver(self, result):
        for done, outcome in result:
            done(outcome)

    def submit(self, made):
        return self.writer.submit(made, lambda outcome: self.delivered.append((made.body, outcome)))

    def start(self):
        self.writer.start()
        self.writer.opened.result(20)
        return self

    def settle(self):
        """Wait until all that was submitted is answered: orders run before the group of their turn, so one more turn."""
        for _ in range(2):
            self.writer.order(lambda outbox: outbox.probe()).result(20)

    def finish(self):
        self.writer.stop()
        self.writer.join(20)
        assert not self.writer.is_alive()

    def bodies(self, stream="his"):
        view = OutboxView(self.path, "clinic-7")
        try:
            found = next(each for each in view.streams() if each.origin.stream == stream)
            return [record.body for record in view.table(found.log).records(0, found.size)]
        finally:
            view.close()


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path).start()
    yield made
    if made.writer.is_alive():
        made.finish()


def test_what_queued_during_one_sync_becomes_one_group(tmp_path):
    with disk("gate") as slow:
        open_gate, at_gate, step = threading.Event(), threading.Event(), slow.step
        open_gate.set()

        def gated(what, file):
            if what == "sync" and file.endswith("-wal"):
                at_gate.set()
                assert open_gate.wait(20)
            step(what, file)

        slow.step = gated
        rig = Rig(tmp_path, vfs="gate").start()
        groups = rig.writer.groups
        open_gate.clear()
        at_gate.clear()
        rig.submit(draft(0))
        assert at_gate.wait(20)  # the first group is under way
        for n in range(1, 100):
            rig.submit(draft(n))
        assert rig.delivered == []
        open_gate.set()
        rig.finish()
        assert (rig.writer.groups - groups, rig.writer.records) == (2, 100)
        assert [outcome.seq for _, outcome in rig.delivered] == list(range(100))
        assert rig.grown == [("his", 1), ("his", 100)]


def test_outcomes_of_many_threads_come_once_each_and_keep_each_threads_order(rig):
    def send(at):
        for n in range(200):
            assert rig.submit(draft(1000 * at + n))

    threads = [threading.Thread(target=send, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.finish()
    assert len(rig.delivered) == 1200
    assert [body for body, _ in rig.delivered] == rig.bodies()
    for at in range(6):
        mine = [int(body[4:]) for body in rig.bodies() if int(body[4:]) // 1000 == at]
        assert mine == [1000 * at + n for n in range(200)]


def test_a_group_is_bounded_in_bytes(tmp_path):
    rig = Rig(tmp_path)
    for n in range(6):
        rig.submit(draft(n, body=b"%d" % n + bytes(3 * 1024 * 1024)))
    rig.start().finish()
    assert rig.writer.groups == 6
    assert len(rig.delivered) == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the VFS raises where nobody can catch
@pytest.mark.parametrize("kind", ["broken", "full"])
def test_no_outcome_is_delivered_when_a_write_or_sync_of_the_commit_fails_and_the_writer_dies_with_74(tmp_path, kind):
    """Every call that a commit makes fails once; what was delivered is there afterwards, what was not may be."""
    unhappy = 0
    with disk("failing") as failing:
        for at in range(1, 40):
            folder = tmp_path / str(at)
            folder.mkdir()
            rig = Rig(folder, vfs="failing").start()
            rig.submit(draft(0))
            rig.settle()
            failing.arm(at, full=kind == "full")
            rig.submit(draft(1))
            wait_until("an outcome", lambda rig=rig: len(rig.delivered) == 2 or rig.died)
            calls = len(failing.calls)
            failing.arm(0)
            rig.writer.stop()
            rig.writer.join(20)
            after = [outcome for body, outcome in rig.delivered if body == b"MSH|1"]
            unhappy += bool(rig.died) or isinstance(after[0], NoRoom)
            if rig.died:
                assert (rig.died, after) == ([EXIT_STORE], [])
            else:
                assert len(after) == 1
            again = Rig(folder, vfs="failing").start()  # the start verifies
            again.finish()
            stored = again.bodies()
            assert stored in ([b"MSH|0"], [b"MSH|0", b"MSH|1"])
            if after and not isinstance(after[0], NoRoom):
                assert stored[-1] == b"MSH|1"
            if calls < at:
                assert not rig.died
                assert unhappy == at - 1, "each of its calls failed once, and was heard"
                return
    raise AssertionError("a commit that makes so many calls is not the one meant here")


def test_no_room_on_the_disk_is_told_and_nothing_stored(rig):
    rig.submit(draft(0))
    rig.settle()
    rig.refused = frozenset({"bulk", "routine", "critical"})
    rig.submit(draft(1))
    rig.settle()
    rig.submit(draft(2))
    rig.finish()
    assert [type(outcome).__name__ for _, outcome in rig.delivered] == ["Stored", "NoRoom", "NoRoom"]
    assert rig.bodies() == [b"MSH|0"]


def test_a_full_outbox_is_told_nothing_stored_and_receipts_still_kept(tmp_path):
    rig = Rig(tmp_path, quota_bytes=2 * 1024 * 1024).start()
    for n in range(40):
        rig.submit(draft(n, body=b"%d" % n + bytes(256 * 1024)))
        rig.settle()
    stored = [body for body, outcome in rig.delivered if not isinstance(outcome, NoRoom)]
    assert 0 < len(stored) < 40
    head = rig.writer.order(lambda outbox: outbox.heads["his"]).result(20)
    rig.writer.order(
        lambda outbox: outbox.keep_receipt(
            ledger="one", origin=head.origin, size=len(stored), receipt=head.checkpoint, at=1
        )
    ).result(20)
    trimmed = rig.writer.order(lambda outbox: outbox.trim("his", ledger="one", received_before_us=2**60)).result(20)
    assert trimmed == len(stored)
    rig.submit(draft(99, body=b"again" + bytes(256 * 1024)))
    rig.finish()
    assert rig.delivered[-1][1].seq == len(stored)
    assert rig.died == []


def test_a_full_queue_takes_nothing_and_says_so(tmp_path):
    rig = Rig(tmp_path, queue=3)
    assert [rig.submit(draft(n)) for n in range(5)] == [True, True, True, False, False]
    assert rig.writer.queued() == 3
    rig.start().finish()
    assert [body for body, _ in rig.delivered] == [b"MSH|0", b"MSH|1", b"MSH|2"]


def test_an_order_whose_waiter_is_cancelled_is_carried_out_and_ends_nothing(rig):
    async def given_up():
        task = asyncio.ensure_future(asyncio.wrap_future(rig.writer.order(lambda outbox: done.append(outbox))))
        await asyncio.sleep(0)
        task.cancel()

    done, held = [], threading.Event()
    rig.writer.order(lambda _outbox: held.wait(20))  # so that the next one waits while it is cancelled
    asyncio.run(given_up())
    held.set()
    assert rig.writer.order(lambda outbox: outbox.heads["his"].frontier.size).result(20) == 0
    assert len(done) == 1
    assert rig.died == []


def test_an_order_gives_its_result_or_its_error_and_the_writer_goes_on(rig):
    assert rig.writer.order(lambda outbox: outbox.heads["his"].frontier.size).result(20) == 0

    def refuse(_outbox):
        raise LogBroken("no")

    assert isinstance(rig.writer.order(refuse).exception(20), LogBroken)
    rig.submit(draft(0))
    rig.finish()
    assert rig.bodies() == [b"MSH|0"]


def test_an_order_whose_commit_fails_ends_the_process_and_answers_nobody_after_it(rig):
    def fail(_outbox):
        raise CommitUnknown("the disk")

    future = rig.writer.order(fail)
    assert isinstance(future.exception(20), CommitUnknown)
    rig.writer.join(20)
    rig.submit(draft(0))
    assert (rig.died, rig.delivered) == ([EXIT_STORE], [])


def test_a_stop_stores_what_is_queued_and_takes_nothing_more(tmp_path):
    rig = Rig(tmp_path)
    for n in range(700):
        rig.submit(draft(n))
    rig.start().finish()
    assert len(rig.bodies()) == 700
    assert rig.submit(draft(700)) is False
    assert isinstance(rig.writer.order(lambda _outbox: None).exception(1), NoRoom)


def test_what_stops_the_opening_reaches_the_start(tmp_path):
    (tmp_path / "outbox.db").write_bytes(b"this is no database" * 1000)
    rig = Rig(tmp_path)
    rig.writer.start()
    assert isinstance(rig.writer.opened.exception(20), LogBroken)
    rig.writer.join(20)
    assert rig.died == []


def test_streams_of_one_group_are_each_told_their_size(tmp_path):
    rig = Rig(tmp_path, streams=("his", "lab"))
    for n in range(5):
        rig.submit(draft(n, stream="his" if n % 2 else "lab"))
    rig.start().finish()
    assert sorted(rig.grown) == [("his", 2), ("lab", 3)]


# -- orders that ride with a group -------------------------------------------------------------------------------------
FRAME = Frame("his/1", 0, "his", "", 7, b"H|")


class Ride:
    """An order for frames that is queued before the writer starts, beside a group; what it did by itself, and within the group's transaction."""

    def __init__(self, rig, *, error=None):
        self.alone, self.within, self.commits = 0, 0, []
        rig.writer.order(lambda outbox: outbox._connection.set_commit_hook(lambda: bool(self.commits.append(1))))
        self.future = rig.writer.order(self._alone, self._within)
        self._error = error

    def _alone(self, outbox):
        self.alone += 1
        outbox.frames.write(kept=[FRAME])
        return "alone"

    def _within(self, outbox):
        self.within += 1
        outbox.frames.put(kept=[FRAME, FRAME._replace(place=9)])
        if self._error:
            raise self._error
        return "within"


def frames(rig):
    again = Rig(rig.path.parent).start()
    found = again.writer.order(lambda outbox: outbox.frames.of_feed("his")).result(20)
    again.finish()
    return [frame.place for frame in found]


def test_an_order_that_may_ride_with_a_group_takes_no_commit_of_its_own(tmp_path):
    rig = Rig(tmp_path)
    ride = Ride(rig)
    assert rig.submit(draft(0))
    rig.start().finish()
    assert (ride.future.result(0), ride.alone, ride.within, len(ride.commits)) == ("within", 0, 1, 1)
    assert (rig.bodies(), frames(rig)) == ([b"MSH|0"], [0, 9])


def test_an_order_that_may_ride_is_done_by_itself_where_there_is_no_group(tmp_path):
    rig = Rig(tmp_path)
    ride = Ride(rig)
    rig.start().finish()
    assert (ride.future.result(0), ride.within) == ("alone", 0)
    assert frames(rig) == [0]


def test_without_room_for_both_nothing_of_the_ride_is_left_and_each_is_done_by_itself(tmp_path):
    rig = Rig(tmp_path)
    ride = Ride(rig, error=NoRoom("full"))
    assert rig.submit(draft(0))
    rig.start().finish()
    assert (ride.future.result(0), ride.alone, ride.within) == ("alone", 1, 1)
    assert (rig.bodies(), frames(rig)) == ([b"MSH|0"], [0])
    assert [outcome.seq for _, outcome in rig.delivered] == [0]


def test_a_group_of_a_lane_without_room_takes_no_order_along(tmp_path):
    rig = Rig(tmp_path)
    rig.refused = frozenset({"routine"})
    ride = Ride(rig)
    assert rig.submit(draft(0))
    rig.start().finish()
    assert (ride.future.result(0), ride.within) == ("alone", 0)
    assert isinstance(rig.delivered[0][1], NoRoom)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the VFS raises where nobody can catch
def test_neither_the_group_nor_what_rides_with_it_is_told_before_their_one_commit_is_sure(tmp_path):
    with disk("rides") as failing:
        for at in range(1, 40):
            folder = tmp_path / str(at)
            folder.mkdir()
            rig = Rig(folder, vfs="rides")
            rig.writer.order(lambda _outbox, at=at: failing.arm(at, full=False))
            ride = Ride(rig)
            assert rig.submit(draft(0))
            rig.start()
            wait_until("an end", lambda rig=rig: rig.delivered or rig.died)
            calls = len(failing.calls)
            failing.arm(0)
            rig.writer.stop()
            rig.writer.join(20)
            told = ride.future.done(), bool(rig.delivered)
            assert told == ((False, False) if rig.died else (True, True))
            again = Rig(folder).start()
            again.finish()
            assert (again.bodies(), frames(rig)) in (([b"MSH|0"], [0, 9]), ([], [])), "all of it or nothing"
            if calls < at:
                assert at > 2, "some call of the commit failed"
                return
    raise AssertionError("a commit that makes so many calls is not the one meant here")
