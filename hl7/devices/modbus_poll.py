"""Modbus: what is polled, and what a poll's record holds. A poll has no bytes of its own, so its body is ours (docs/wire.md)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

CONTENT_TYPE: Final = "application/vnd.wasl.modbus+json"
REGISTERS_MAX: Final = 125  # of one request: Modbus Application Protocol V1.1b3, 6.3
BITS_MAX: Final = 2000  # the same, 6.1
FUNCTIONS: Final = ("coils", "discrete", "holding", "input")
BITS: Final = frozenset({"coils", "discrete"})

Function = Literal["coils", "discrete", "holding", "input"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and how often. `meaning`: how its registers are to be read, where the configuration says so."""

    name: str
    unit: int
    function: Function
    address: int
    count: int
    every_s: float
    meaning: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One reply. Times are microseconds: UTC, and of a clock that only goes forward since an unknown point.

    `sequence` counts the request's turns since this start, `boot`, failed ones too. `late_us`: after its turn. `stepped_us`: how far the
    wall clock was moved since the poll before.
    """

    request: Request
    registers: tuple[int, ...]
    boot: str
    sequence: int
    wall_us: int
    monotonic_us: int
    took_us: int
    late_us: int
    stepped_us: int
    profile: str = ""

    @property
    def quality(self) -> str:
        """`good`; `late`, where it came after half of its interval; `stepped`, where the wall clock was moved just before."""
        if self.stepped_us:
            return "stepped"
        return "late" if self.late_us > self.request.every_s * 500_000 else "good"


def encode(poll: Poll) -> bytes:
    """Write a poll as the body of its record: one form for one poll."""
    asked = poll.request
    document: dict[str, Any] = {
        "v": 1, "point": asked.name, "unit": asked.unit, "function": asked.function, "address": asked.address, "registers": list(poll.registers),
        "boot": poll.boot, "sequence": poll.sequence, "wall_us": poll.wall_us, "monotonic_us": poll.monotonic_us, "took_us": poll.took_us,
        "late_us": poll.late_us, "quality": poll.quality,
    }  # fmt: skip
    if poll.stepped_us:
        document["stepped_us"] = poll.stepped_us
    if asked.meaning:
        document["as"] = dict(asked.meaning)
    if poll.profile:
        document["profile"] = poll.profile
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def blocks(function: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join (address, count) of values that touch into as few requests as may be: (address, count) of each.

    Nothing between is asked for: many devices refuse a request that holds one address they do not have.
    """
    most = BITS_MAX if function in BITS else REGISTERS_MAX
    first = end = -1
    for address, count in sorted(set(places)):
        if first >= 0 and address <= end and address + count - first <= most:
            end = max(end, address + count)
            continue
        if first >= 0:
            yield first, end - first
        first, end = address, address + count
    if first >= 0:
        yield first, end - first


def is_plausible(request: Request, registers: Sequence[int]) -> bool:
    """Tell whether a reply can be to this request: as many registers as were asked for, each of 16 bits, or bits."""
    highest = 1 if request.function in BITS else 0xFFFF
    return len(registers) == request.count and all(0 <= each <= highest for each in registers)
