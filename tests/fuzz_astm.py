"""Mutated ASTM sessions: no crash, bounded memory, and no message that was not sent whole.

python tests/fuzz_astm.py --inputs 10000000 [--seed N]
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hl7.devices.astm_errors import MessageTooLong
from hl7.devices.astm_events import Arrived, Begun, Closed, Kept, Received, Switches, Tick
from hl7.devices.astm_frames import encode
from hl7.devices.astm_link import Link
from hl7.devices.astm_messages import Assembly
from hl7.devices.astm_orders import asked_for
from hl7.devices.astm_records import purpose, read

TEXT_MAX, MESSAGE_MAX = 240, 1000  # small, so that the limits are met
TOKENS = (b"\x05", b"\x04", b"\x06", b"\x15", b"\x02", b"\x03", b"\x17", b"\r", b"\n", b"H|\\^&\r", b"H|@^\\|\r", b"L|1|N\r", b"Q|1|^S\\^T&F&\r", b"\x0211", b"\xff")  # fmt: skip
RECORDS = (
    b"H|\\^&|||SIM\r",
    b"P|1||T1\r",
    b"O|1|S1\r",
    b"R|1|^^^WBC|5\r",
    b"Q|1|^S1||ALL\r",
    b"L|1|N\r",
    b"C|1|" + b"x" * 300 + b"\r",
)


def session(dice: random.Random) -> bytes:
    """A session as instruments send it, and what a line makes of it."""
    parts, number = [b"\x05"], 1
    for _ in range(dice.randrange(8)):
        kind = dice.random()
        if kind < 0.75:
            parts.append(
                encode(
                    number, dice.choice(RECORDS), is_end=dice.random() < 0.9, line_end=b"\r\n" if kind < 0.7 else b"\r"
                )
            )
            number += dice.random() < 0.95
        else:
            parts.append(dice.choice(TOKENS))
    data = bytearray(b"".join((*parts, b"\x04")))
    for _ in range(dice.randrange(4)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(data)


def run(inputs: int, seed: int) -> tuple[int, int]:
    """So many sessions over few lines; how many frames and messages came of them. AssertionError names the seed."""
    dice, frames, messages, now = random.Random(seed), 0, 0, 0.0
    for at in range(inputs):
        if at % 50 == 0:
            link = Link(
                Switches(frame_text_bytes_max=TEXT_MAX, has_lf=dice.random() < 0.7, without_enq=dice.random() < 0.3),
                now,
            )
            assembly = Assembly(message_bytes_max=MESSAGE_MAX, needs_terminator=dice.random() < 0.5)
        data, now = session(dice), now + dice.choice((0.0, 0.5, 5.0, 40.0))
        cut = dice.randrange(len(data))
        events = [Received(data[:cut]), Received(data[cut:]), Tick(), *([Closed()] if dice.random() < 0.02 else [])]
        for event in events:
            effects = link.handle(event, now)
            while effects:
                effect = effects.pop(0)
                if isinstance(effect, Begun):
                    assembly = Assembly(message_bytes_max=MESSAGE_MAX, needs_terminator=dice.random() < 0.5)
                if not isinstance(effect, Arrived):
                    continue
                frames += 1
                is_stored = dice.random() < 0.9
                try:
                    _, parts = assembly.take(effect.text, is_end=effect.is_end)
                    (assembly.keep if is_stored else assembly.undo)()
                except MessageTooLong:
                    is_stored, parts = False, []
                for part in parts if is_stored else ():
                    messages += part.is_whole
                    asked_for(part.body)
                    assert purpose(read(part.body)), seed
                effects = link.handle(Kept(is_stored), now) + effects
        assert len(link._in) <= 2 * TEXT_MAX + len(data), seed
        assert assembly.finish(is_over=True) is None or len(assembly.finish(is_over=True).body) <= MESSAGE_MAX + 1, seed
    return frames, messages


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    began = time.monotonic()
    frames, messages = run(options.inputs, options.seed)
    print(
        f"{options.inputs} sessions, {frames} frames, {messages} messages in {time.monotonic() - began:.0f} s (seed {options.seed})"
    )


if __name__ == "__main__":
    main()
