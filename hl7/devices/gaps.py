"""Gaps: times in which a source should have given values and gave none. A gap is told, and no value is ever invented for it.

A device that is dead for a week fails half a million polls. So a stretch of failures is told when it begins, then ever more rarely, and
when it ends; each record says of how many failures, of which polls, from when to when.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONTENT_TYPE: Final = "application/vnd.wasl.gap+json"
TELL_S_MIN: Final = 60.0  # after the first record of a stretch; then doubling
TELL_S_MAX: Final = 3600.0  # a dead device costs 24 records a day and some
RANGES_MAX: Final = (
    64  # of polls in one record: a line that flickers makes many short ranges, and a record stays below 2 kB
)

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Failures of one source that no record told before. `part`: first, continued or ended; `once` where it is no stretch.

    `codes`: how often each cause. `sequences`: which polls, both ends included; empty where nothing is counted.
    """

    subject: str
    part: str
    first_us: int
    last_us: int
    count: int
    codes: Mapping[str, int]
    sequences: Ranges = ()
    boot: str = ""

    @property
    def code(self) -> str:
        """The cause of most of them."""
        return max(self.codes, key=lambda code: self.codes[code])


def encode(gap: Gap) -> bytes:
    """Write a gap as the body of its record (docs/wire.md): one form for one gap."""
    document = {
        "boot": gap.boot, "codes": dict(gap.codes), "count": gap.count, "first_us": gap.first_us, "last_us": gap.last_us, "part": gap.part,
        "sequences": [list(each) for each in gap.sequences], "subject": gap.subject, "v": 1,
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(slots=True, kw_only=True)
class Stretch:
    """The failures of one source since its last good value, and which of them are still to be told.

    Each `failed` and `ended` gives the gap that is to be recorded now, or none. What could not be recorded is given back.
    """

    subject: str
    boot: str = ""
    since_us: int = 0  # of the first failure after the last good value; 0: there is none
    count: int = 0
    code: str = ""
    last_us: int = 0
    _told: int = 0
    _tell_at: float = 0.0
    _codes: Counter[str] = field(default_factory=Counter)
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _first_us: int = 0

    def failed(self, code: str, *, at_us: int, now: float, sequences: tuple[int, int] | None = None) -> Gap | None:
        """Note failures of one cause; `now` only goes forward, `sequences`: of which polls, both ends included, or one that is not counted."""
        if not self.count:
            self.since_us, self._told = at_us, 0
        failures = 1 if sequences is None else sequences[1] - sequences[0] + 1
        self.count += failures
        self.code, self.last_us = code, max(self.last_us, at_us) if self._codes else at_us
        self._first_us = self._first_us if self._codes else at_us
        self._codes[code] += failures
        if sequences is not None:
            _add(self._ranges, *sequences)
        return self.due(now)

    def due(self, now: float) -> Gap | None:
        """What is to be told now, if the time has come."""
        if not self._codes or (self._told and now < self._tell_at and len(self._ranges) < RANGES_MAX):
            return None
        gap = self._take("continued" if self._told else "first" if self.count else "ended")
        self._tell_at = now + min(TELL_S_MAX, TELL_S_MIN * 2.0 ** min(self._told, 16))
        self._told += 1
        return gap

    def ended(self) -> Gap | None:
        """Note a good value. What was not told yet is told now."""
        if not self.count and not self._codes:
            return None
        self.count, self.since_us, self.code, self._told = 0, 0, "", 0
        return self._take("ended") if self._codes else None

    def give_back(self, gap: Gap) -> None:
        """Keep a gap that could not be recorded: it is told with the next."""
        self._first_us = min(gap.first_us, self._first_us) if self._codes else gap.first_us
        self.last_us = max(gap.last_us, self.last_us)
        self._codes.update(gap.codes)
        for first, last in gap.sequences:
            _add(self._ranges, first, last)
        self._told = 0

    def _take(self, part: str) -> Gap:
        gap = Gap(
            subject=self.subject, part=part, first_us=self._first_us, last_us=self.last_us, count=self._codes.total(), codes=dict(sorted(self._codes.items())),
            sequences=tuple(self._ranges), boot=self.boot,
        )  # fmt: skip
        self._codes.clear()
        self._ranges.clear()
        return gap


def _add(ranges: list[tuple[int, int]], first: int, last: int) -> None:
    """Add a range; the ranges stay sorted, and those that touch are one."""
    ranges.append((first, last))
    ranges.sort()
    joined: list[tuple[int, int]] = []
    for low, high in ranges:
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    ranges[:] = joined
