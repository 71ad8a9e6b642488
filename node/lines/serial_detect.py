"""Finds a line's settings by listening at each rate while the device sends. Never writes a byte."""

import os
import select
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from hl7.devices.line_doctor import Heard
from hl7.devices.line_guess import RATES, SAMPLE_BYTES_MAX, Guess, Parity, Trial, best, judge
from node.config.serial import Line
from node.lines.marked_bytes import Unmarker
from node.lines.serial_errors import CannotSet
from node.lines.serial_port import READ_BYTES_MAX, Device, Open, open_device

ENOUGH_BYTES: Final = 256  # of which a line that is text, or has wrong bytes, is told

Told = Callable[[Trial], None]


def detect(
    port: str, *, seconds: float, told: Told, now: Callable[[], float], opener: Open = open_device
) -> Guess | None:
    """Listen for `seconds` at each candidate until one is sure. Raises OSError (PortTaken) where the port cannot be opened."""
    trials: list[Trial] = []
    for baud, bits, parity in _candidates(port):
        line = Line(port=port, baud=baud, bits=bits, parity=parity)
        try:
            heard, sample = listen(line, seconds=seconds, now=now, opener=opener)
        except CannotSet:
            continue
        except OSError:
            if not trials:
                raise
            break  # unplugged meanwhile: what was heard still speaks
        trials.append(Trial(baud=baud, bits=bits, parity=parity, heard=heard, sample=sample))
        told(trials[-1])
        if judge(trials[-1]).sureness == "sure":
            break
    return best(trials)


def _candidates(port: str) -> Iterator[tuple[int, int, Parity]]:
    """8N1 at each rate, which hears 7E1 and 7O1 too; then 8 bits with parity. A device server has its own settings: one look."""
    if port.startswith("socket://"):
        yield 9600, 8, "none"
        return
    parities: tuple[Parity, ...] = ("none", "even", "odd")
    for parity in parities:
        for baud in RATES:
            yield baud, 8, parity


def listen(line: Line, *, seconds: float, now: Callable[[], float], opener: Open = open_device) -> tuple[Heard, bytes]:
    """What comes in this time at these settings; less where that is enough."""
    device, heard, sample, look_at = opener(line), Heard(), bytearray(), ENOUGH_BYTES
    try:
        until = now() + seconds
        for data, marks in chunks(device, until, now):
            heard.take(data, marks)
            sample += data[: SAMPLE_BYTES_MAX - len(sample)]
            if heard.total < look_at:
                continue
            if _is_told(line, heard, bytes(sample)):
                break
            look_at += ENOUGH_BYTES
    finally:
        device.close()
    return replace(heard), bytes(sample)


def _is_told(line: Line, heard: Heard, sample: bytes) -> bool:
    """Whether more bytes would tell no more. Those of a device whose letters are no ASCII may: a check value that fits."""
    parity: Parity = line.parity if line.parity in {"even", "odd"} else "none"
    trial = Trial(baud=line.baud, bits=line.bits, parity=parity, heard=heard, sample=sample)
    return len(sample) >= SAMPLE_BYTES_MAX or judge(trial).sureness in {"sure", "no"}


def chunks(device: Device, until: float, now: Callable[[], float]) -> Iterator[tuple[bytes, int]]:
    """Bytes as they come until then, or until the line is gone; each time with how many were wrong."""
    poll, unmark = select.poll(), Unmarker()
    poll.register(device.fileno(), select.POLLIN)
    while (left := until - now()) > 0:
        if not poll.poll(1000 * left):
            return
        data = os.read(device.fileno(), READ_BYTES_MAX)
        if not data:
            return
        yield unmark.receive(data) if device.is_marking else (data, 0)
