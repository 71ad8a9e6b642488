"""Samples of a feed's messages checked by hl7apy against the standard's structure or a message profile: after the commit, in a process of its own.

Where more are chosen than can be checked, the others are counted as passed over; what gave no answer is counted too. Nothing waits for a check.
"""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hl7.message import Facts
from node.config.feeds import Feed, Mllp
from node.quality.counts import BODY_BYTES_MAX, OTHERS, SENDERS_MAX, SHOWN_FINDINGS, SHOWN_SENDERS, name_of_sender
from node.quality.profile import CHECK_S_MAX, NOT_CHECKED
from node.worker import Worker

WAITING_MAX = 8  # messages of all feeds that wait for their turn: at most 2 MiB
REST = 3  # as many times as long as a check took: the worker takes a quarter of one core at most
FINDINGS_MAX = 64  # of a sender; a profile has hundreds, and a page shows six


@dataclass(slots=True)
class Tally:
    """One sender's: messages checked, and how many of them had each finding."""

    checked: int = 0
    findings: Counter[str] = field(default_factory=Counter)

    def count(self, found: Iterable[str]) -> None:
        """A message was checked."""
        self.checked += 1
        for each in dict.fromkeys(found):
            is_known = each in self.findings or len(self.findings) < FINDINGS_MAX
            self.findings[each if is_known else OTHERS] += 1


class Sample:
    """The sample of one feed since the start. Used from the event loop only. `which`: its profile, as the worker counts them."""

    __slots__ = ("_one_in", "_room", "_taken", "_tallies", "not_checked", "passed_over", "which")

    def __init__(self, room: "Samples", one_in: int, which: int) -> None:
        self._room, self._one_in, self.which = room, one_in, which
        self._taken = 0
        self._tallies: dict[str, Tally] = {}
        self.passed_over, self.not_checked = 0, 0

    def offer(self, facts: Facts, raw: bytes) -> None:
        """A message is kept: one in so many is checked."""
        self._taken += 1
        if self._taken % self._one_in:
            return
        if len(raw) > BODY_BYTES_MAX or not self._room.put(self, facts, raw):
            self.passed_over += 1

    def count(self, facts: Facts, found: Sequence[Any] | None) -> None:
        """A message was checked, or gave no answer."""
        if found is None or any(str(each).startswith(NOT_CHECKED) for each in found):
            self.not_checked += 1
            return
        sender = name_of_sender(facts)
        if sender not in self._tallies and len(self._tallies) >= SENDERS_MAX:
            sender = OTHERS
        self._tallies.setdefault(sender, Tally()).count(map(str, found))

    def document(self) -> dict[str, Any]:
        """The counts, the senders with the most findings first."""
        worst = sorted(self._tallies.items(), key=lambda item: (-item[1].findings.total(), item[0]))
        return {
            "one_in": self._one_in, "checked": sum(tally.checked for tally in self._tallies.values()),
            "not_checked": self.not_checked, "passed_over": self.passed_over,
            "senders": [
                {
                    "sender": sender, "checked": tally.checked,
                    "findings": [{"what": what, "count": count} for what, count in tally.findings.most_common(SHOWN_FINDINGS)],
                }
                for sender, tally in worst[:SHOWN_SENDERS] if tally.findings
            ],
        }  # fmt: skip


class Samples:
    """What waits to be checked, of all feeds, and the one worker, started when it is first needed. Used from the event loop only."""

    def __init__(
        self, feeds: Sequence[Feed], monotonic: Callable[[], float], command: tuple[str, ...] = (sys.executable, "-m", "node.quality.profile_worker")
    ) -> None:  # fmt: skip
        chosen = [each for each in feeds if isinstance(each, Mllp) and each.profile_one_in]
        self._profiles = list(dict.fromkeys(each.profile for each in chosen if each.profile is not None))
        self._worker = Worker(
            (*command, *map(str, self._profiles)), name="profile.worker", code="NOD-52", octets_max=BODY_BYTES_MAX + 1, answer_s_max=CHECK_S_MAX
        )  # fmt: skip
        self._monotonic = monotonic
        self._waiting: deque[tuple[Sample, Facts, bytes]] = deque()
        self._come = asyncio.Event()

    def of_feed(self, feed: Mllp) -> Sample | None:
        """A feed's sample; None where it has none."""
        if not feed.profile_one_in:
            return None
        return Sample(self, feed.profile_one_in, 0 if feed.profile is None else 1 + self._profiles.index(feed.profile))

    def put(self, sample: Sample, facts: Facts, raw: bytes) -> bool:
        """Let a message wait for its turn; False where too many do."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append((sample, facts, raw))
        self._come.set()
        return True

    async def run(self) -> None:
        """Check one after the other, with a rest after each, until cancelled."""
        while True:
            await self._come.wait()
            if not self._waiting:
                self._come.clear()
                continue
            took_s = await self._check()
            await asyncio.sleep(REST * took_s)

    async def stop(self) -> None:
        """End the worker."""
        await self._worker.stop()

    async def _check(self) -> float:
        """Check the next; how long it took."""
        sample, facts, raw = self._waiting.popleft()
        began = self._monotonic()
        sample.count(facts, await self._worker.ask(bytes([sample.which]) + raw))
        return self._monotonic() - began
