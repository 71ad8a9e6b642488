"""Long frames that are still coming share one allowance: beyond it the oldest goes on alone, and the others wait their turn."""

import asyncio
from random import Random

import pytest

from hl7.mllp import encode
from node.alarms import Alarms
from node.clock import SystemClock
from node.config.feeds import Mllp
from node.feeds.mllp import CONTENT_TYPE, MllpFeed
from node.feeds.mllp_connection import FRAME_BYTES_FREE, Connection
from node.feeds.open_frames import TURN_S_MAX, OpenFrames
from node.intake import Intake, make_door
from node.quality.counts import Inspection

MIB = 1024 * 1024
LIMIT = 8 * MIB


class Transport:
    """Counts nothing, remembers whether it is read."""

    def __init__(self):
        self.is_reading, self.is_open = True, True

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high):
        pass

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def abort(self):
        self.is_open = False


class Writer:
    """Takes every draft."""

    def __init__(self):
        self.bodies = []

    def submit(self, draft, done):
        self.bodies.append(draft.body)
        return True


class Site:
    """A feed with connections that the test feeds by hand."""

    def __init__(self, loop):
        self.clock, self.writer, self.seconds = SystemClock(), Writer(), 0.0
        self.frames = OpenFrames(LIMIT, monotonic=lambda: self.seconds)
        alarms = Alarms(self.clock.now_us)
        door = make_door(facility="F", feed="his", stream="his", content_type=CONTENT_TYPE, rejected_per_hour_max=1000)
        feed = Mllp.model_validate({"name": "his", "kind": "mllp", "stream": "his", "listen": ["127.0.0.1:0"]})
        intake = Intake(clock=self.clock, writer=self.writer, alarms=alarms)
        self.feed = MllpFeed(
            feed, door, intake, clock=self.clock, alarms=alarms, prefix="x-", frames=self.frames,
            quality=Inspection(self.clock, None).of_feed(),
        )  # fmt: skip
        self._loop = loop

    def connect(self):
        connection, transport = Connection(self.feed, self._loop), Transport()
        connection.connection_made(transport)
        return connection, transport


@pytest.fixture
def site():
    with asyncio.Runner() as runner:
        yield Site(runner.get_loop())


def body(n: int, size: int = 5 * MIB) -> bytes:
    return b"MSH|^~\\&|LAB|TEST|||2026||ORU^R01|BIG%d|T|2.5\r" % n + b"." * size


def test_a_short_open_frame_is_not_counted(site):
    connection, _ = site.connect()
    connection.data_received(b"\x0b" + b"M" * (FRAME_BYTES_FREE - 1))
    assert site.frames.holders == {}


def test_beyond_the_limit_the_oldest_goes_on_and_the_others_wait_until_it_has_ended(site):
    (one, read_one), (two, read_two), (three, read_three) = (site.connect() for _ in range(3))
    for n, each in enumerate((one, two, three)):
        each.data_received(b"\x0b" + body(n)[:-10])
    assert [read_one.is_reading, read_two.is_reading, read_three.is_reading] == [True, False, False]
    one.data_received(b"." * 10 + b"\x1c\r")
    assert [len(each) for each in site.writer.bodies] == [len(body(0))]
    assert [read_two.is_reading, read_three.is_reading] == [True, False], "only one more fits"
    two.data_received(b"." * 10 + b"\x1c\r")
    assert read_three.is_reading
    three.data_received(b"." * 10 + b"\x1c\r")
    assert site.writer.bodies == [body(0), body(1), body(2)]
    assert site.frames.holders == {}


def test_a_connection_that_is_lost_gives_its_room_to_those_that_wait(site):
    (one, _), (two, read_two) = site.connect(), site.connect()
    one.data_received(b"\x0b" + body(1))
    two.data_received(b"\x0b" + body(2))
    assert not read_two.is_reading
    one.connection_lost(None)
    assert read_two.is_reading


def test_a_sender_of_one_long_frame_after_another_does_not_keep_its_turn(site):
    (one, read_one), (two, read_two) = site.connect(), site.connect()
    one.data_received(b"\x0b" + body(1)[:-10])
    two.data_received(b"\x0b" + body(2))
    one.data_received(b"." * 10 + b"\x1c\r\x0b" + body(3))  # the end of the first and most of the next in one read
    assert (read_one.is_reading, read_two.is_reading) == (False, True)


def test_a_frame_that_drips_while_others_wait_is_given_up(site):
    (one, read_one), (two, read_two) = site.connect(), site.connect()
    one.data_received(b"\x0b" + body(1))
    two.data_received(b"\x0b" + body(2))
    now = site.clock.monotonic()
    site.seconds = TURN_S_MAX - 1
    two.look_at_silence(now, site.feed.feed)
    assert read_one.is_open
    site.seconds = TURN_S_MAX + 1
    two.look_at_silence(now, site.feed.feed)
    assert (read_one.is_open, read_two.is_open) == (False, True)
    one.connection_lost(None)
    assert read_two.is_reading


def test_whoever_waits_by_asking_again_ends_a_turn_that_is_over():
    """As an ASTM line does: it refuses a frame, and its instrument repeats it."""

    class Line:
        is_given_up = False

        def go_on(self):
            pass

        def give_up_turn(self):
            self.is_given_up = True

    seconds = [0.0]
    frames, one, two = OpenFrames(100, monotonic=lambda: seconds[0]), Line(), Line()
    assert frames.hold(one, 80)
    assert not frames.hold(two, 80)
    seconds[0] = TURN_S_MAX + 1
    assert not frames.hold(two, 80)
    assert (one.is_given_up, two.is_given_up) == (True, False)
    frames.release(one)
    assert frames.hold(two, 80)


def test_one_that_waits_for_room_is_not_taken_for_silent_but_the_one_that_has_it_is(site):
    (one, read_one), (two, read_two) = site.connect(), site.connect()
    one.data_received(b"\x0b" + body(1))
    two.data_received(b"\x0b" + body(2))
    for each in (one, two):
        each.look_at_silence(site.clock.monotonic() + 3600, site.feed.feed)
    assert (read_one.is_open, read_two.is_open) == (False, True)


def test_small_messages_pass_while_long_ones_wait(site):
    (one, _), (two, _), (small, _) = site.connect(), site.connect(), site.connect()
    one.data_received(b"\x0b" + body(1))
    two.data_received(b"\x0b" + body(2))
    small.data_received(encode(body(3, 100)))
    assert site.writer.bodies == [body(3, 100)]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_all_frames_arrive_and_memory_stays_within_the_limit(site, seed):
    dice, sent = Random(seed), []
    open_ones = {}
    for n in range(12):
        connection, transport = site.connect()
        frame = body(n, dice.randrange(MIB, 4 * MIB))
        sent.append(frame)
        open_ones[n] = [connection, transport, encode(frame)]
    largest = 0
    while open_ones:
        ready = [n for n, (_, transport, _) in open_ones.items() if transport.is_reading]
        assert ready, "somebody may always go on"
        n = dice.choice(ready)
        connection, _, rest = open_ones[n]
        step = dice.randrange(1, 256 * 1024)
        connection.data_received(rest[:step])
        open_ones[n][2] = rest[step:]
        if not rest[step:]:
            del open_ones[n]
        largest = max(largest, sum(site.frames.holders.values()))
    assert sorted(site.writer.bodies) == sorted(sent)
    assert largest <= LIMIT + 4 * MIB + 12 * 256 * 1024
