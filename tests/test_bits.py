"""A slice of the bit-rot campaign, in a process of its own. `make sim` flips a hundred thousand."""

import json
import random
import subprocess
import sys

import pytest

from tests.warm_start import ROOT

FLIPS = 200


def campaign(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tests/sim_bits.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_of_two_hundred_flipped_bits_none_delivers_an_altered_record_stops_the_process_or_goes_unnoticed(capsys):
    seed = random.SystemRandom().randrange(2**32)
    done = campaign("--flips", str(FLIPS), "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    with capsys.disabled():
        print(f"\n{done.stdout.strip()}")


BROKEN = {
    "nobody is told": ("node.alarms", "Alarms.raised", "lambda *_: None"),
    "leaves are signed as they are read": ("sync.proven", "is_proven", "lambda *_: True"),
    "an export signs leaves as they are read": (
        "node.stick.legs",
        "proven",
        "lambda _log, _before, taken, *_: [r for _, r in taken]",
    ),
    "what is left of an arrival is taken as it is": ("sync.outbox_arrivals", "BROKEN", "()"),
    "what is left of an arrival is kept as it is": (
        "sync.outbox",
        "remembered",
        "lambda raw, head, *_: list(raw.execute('SELECT id, salt, particulars FROM body WHERE id IN (SELECT id FROM header WHERE log = ?)', (head.run,)))",
    ),
    "a repeat is told by its id alone": (
        "sync.outbox",
        "place_of_same",
        "lambda raw, *_: raw.execute('SELECT stream, epoch, 0 FROM log').fetchone()",
    ),
    "one body more than is receipted is trimmed": (
        "sync.outbox",
        "past_retention",
        "lambda raw, head, end, before: end + bool(head.trimmed)",
    ),
}


# one aimed flip in two hundred shows these, of all flips one in two thousand
AIMED = {"what is left of an arrival is taken as it is", "what is left of an arrival is kept as it is"}


@pytest.mark.parametrize("what", BROKEN)
def test_the_campaign_finds_it_when(what):
    module, target, broken = BROKEN[what]
    aimed = ", '--aimed', '1'" if what in AIMED else ""
    code = (
        "import sys, runpy; sys.path.insert(0, '.'); import sync.log; sync.log.TILE_LEAVES = 8\n"
        f"import {module} as module; module.{target} = {broken}\n"
        f"sys.argv = ['sim_bits.py', '--flips', '3000'{aimed}]; runpy.run_path('tests/sim_bits.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "VIOLATION" in done.stdout) == (1, True), done.stdout + done.stderr


BROKEN_FRAMES = {
    "a frame that was changed is believed": (
        "sync.outbox_frames._frame",
        "lambda *row: Frame(*(each.decode(errors='replace') if n in {0, 2, 3} else each for n, each in enumerate(row[:6])))",
    ),
    "a row that is gone is not missed": ("sync.outbox_frames.Frames.check", "lambda *_: None"),
    "frames are found by their feed alone": (
        "sync.outbox_frames._SELECT",
        "_SELECT.replace('OR substr', 'AND substr')",
    ),
    "a hole between frames is not seen": (
        "tests.bits_frames.leftover",
        "lambda frames, end: (b''.join(frame.text for frame in frames)[end:], True)",
    ),
    "what one transfer has lost is told of the others": (
        "tests.bits_frames.leftover",
        "lambda frames, end: (leftover(frames, end)[0], not leftover(frames, end)[1])",
    ),
    "what stands beside frames is believed": ("node.feeds.astm_sessions._digest", "lambda *_: ''"),
}
FRAMES_CODE = """
import json, sys, tempfile
from pathlib import Path
from unittest.mock import patch
sys.path.insert(0, '.')
from tests.sim_bits import Campaign, Violation
from node.feeds.astm_leftovers import leftover
from sync.outbox_frames import Frame, _SELECT
for what, (place, broken) in json.loads(sys.argv[1]).items():
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder, patch(place, eval(broken)):
        try:
            Campaign(Path(folder), 1).run_frames(4000)
        except Violation:
            print(what)
"""


def test_the_campaign_among_frames_finds_each_planted_fault(in_memory):
    command = [sys.executable, "-c", FRAMES_CODE, json.dumps(BROKEN_FRAMES), str(in_memory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == list(BROKEN_FRAMES), done.stderr
