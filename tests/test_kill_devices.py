"""Eight kills of a node with a feed of every kind, and of nodes that break a promise. `make sim` does a thousand."""

import random

import pytest

from tests.kill_rig import LoopError
from tests.mqtt_rig import needs_mosquitto
from tests.sim_kill_devices import DeviceLoop

KILLS = 8
KILLS_BROKEN = 5
LOOPS_MAX = 4  # which transfer a kill falls into is a matter of chance; one loop in some tens meets none
COME_S_MAX = 120.0  # of a slice: what has not come by then hangs


def loop(folder, kills, **options):
    seed = random.SystemRandom().randrange(2**32)
    return DeviceLoop(folder, kills, seed, report=lambda _: None, come_s_max=COME_S_MAX, **options)


@needs_mosquitto
def test_after_eight_kills_the_gateway_holds_all_that_any_device_was_told_once_and_in_its_order(tmp_path, capsys):
    summary = loop(tmp_path, KILLS).run()
    with capsys.disabled():
        print(f"\n{summary}")


BROKEN = {
    "the last frame of a transfer that was cut off is not kept": (
        "astm",
        "import node.feeds.astm_leftovers as at; whole = at.leftover; at.leftover = lambda frames, end: whole(frames[:-1], end)",
    ),
    "a gap tells of an hour more than the node was away": (
        "told",
        (
            "import node.feeds.line_away as at, dataclasses; tell = at.Away._gap\n"
            "at.Away._gap = lambda *given: (lambda gap: dataclasses.replace(gap, last_us=gap.last_us + 3_600_000_000))(tell(*given))"
        ),
    ),
    "every second report of a printer is dropped": (
        "told",
        (
            "import itertools, node.feeds.line_session as at; count, keep = itertools.count(1), at.Session._hand_in\n"
            "drop = lambda self: self._under_way.pop()\n"
            "at.Session._hand_in = lambda self, heard: drop(self) if self._feed.feed.name == 'told' and not next(count) % 2 else keep(self, heard)"
        ),
    ),
    "a document that is sent again is kept again": (
        "poct1a",
        (
            "import itertools, node.intake as at; count, know = itertools.count(), at.Intake._submit\n"
            "at.Intake._submit = lambda self, door, common, kind, verdict, parts, body, key, *more, **named:"
            " know(self, door, common, kind, verdict, parts, body, b'%d' % next(count) if door.feed == 'poct1a' else key, *more, **named)"
        ),
    ),
}


@needs_mosquitto
@pytest.mark.parametrize("what", BROKEN)
def test_the_loop_finds_it_when(what, tmp_path):
    source, before = BROKEN[what]
    for turn in range(LOOPS_MAX):
        try:
            loop(tmp_path / str(turn), KILLS_BROKEN, before=f"\n{before}").run()
        except LoopError as error:
            told = str(error)
            break
    else:
        pytest.fail("nothing was found")
    assert told.startswith(f"{source}: "), told
