"""Data quality, counted by feed and sender: after the message is taken, in the loop's spare time, and never all at once.

A message is looked at after the fact; where more come than can be looked at, the others are counted as passed over.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hl7.civil_number import CivilNumber
from hl7.errors import NotEr7
from hl7.message import Facts
from hl7.quality import look
from node.clock import Clock

WAITING_MAX = 64  # messages kept for a look: at most 16 MiB
BODY_BYTES_MAX = 256 * 1024  # what is longer is a scan, and takes longer to look through than a round has
ROUND_S, ROUND_MESSAGES_MAX = 0.1, 16  # 160 a second at 0.1 ms each: under two hundredths of a core
SENDERS_MAX = 64  # of a feed; a site has tens, and MSH-3 may hold anything
SHOWN_SENDERS, SHOWN_FINDINGS = 8, 6  # the worst, on the page
NAME_CHARACTERS_MAX = 64
OTHERS = "…"


@dataclass(slots=True)
class Tally:
    """One sender's: messages looked at, and how many of them had each finding (place, what)."""

    looked: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)


class Quality:
    """The counts of all feeds since the start. Used from the event loop only."""

    def __init__(self, clock: Clock, civil: CivilNumber | None) -> None:
        self._clock = clock
        self._civil = civil
        self._waiting: deque[tuple[str, Facts, bytes]] = deque()
        self._passed_over: Counter[str] = Counter()
        self._tallies: dict[str, dict[str, Tally]] = {}

    def offer(self, feed: str, facts: Facts | None, raw: bytes) -> None:
        """A message was taken: look at it when there is time."""
        if facts is None:
            return
        if len(self._waiting) >= WAITING_MAX or len(raw) > BODY_BYTES_MAX:
            self._passed_over[feed] += 1
            return
        self._waiting.append((feed, facts, raw))

    async def run(self) -> None:
        """Look, round after round, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            self.round()

    def round(self) -> None:
        """Look at what waits, a bounded part of it."""
        tomorrow = (
            (datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC) + timedelta(days=2)).strftime("%Y%m%d").encode()
        )
        for _ in range(min(len(self._waiting), ROUND_MESSAGES_MAX)):
            feed, facts, raw = self._waiting.popleft()
            try:
                found = look(raw, tomorrow=tomorrow, civil=self._civil)
            except NotEr7:
                continue
            tally = self._tally(feed, _name(facts))
            tally.looked += 1
            tally.findings.update((each.place, each.what) for each in found)

    def _tally(self, feed: str, sender: str) -> Tally:
        tallies = self._tallies.setdefault(feed, {})
        if sender not in tallies and len(tallies) >= SENDERS_MAX:
            sender = OTHERS
        return tallies.setdefault(sender, Tally())

    def document(self, feed: str) -> dict[str, Any]:
        """One feed's counts, the senders with the most findings first."""
        tallies = self._tallies.get(feed, {})
        worst = sorted(tallies.items(), key=lambda item: (-sum(item[1].findings.values()), item[0]))
        return {
            "looked": sum(tally.looked for tally in tallies.values()), "passed_over": self._passed_over[feed],
            "senders": [
                {
                    "sender": sender, "looked": tally.looked,
                    "findings": [
                        {"place": place, "what": what, "count": count} for (place, what), count in tally.findings.most_common(SHOWN_FINDINGS)
                    ],
                }
                for sender, tally in worst[:SHOWN_SENDERS] if tally.findings
            ],
        }  # fmt: skip


def _name(facts: Facts) -> str:
    route = facts.route
    name = b"|".join((route.sending_application, route.sending_facility)).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in name[:NAME_CHARACTERS_MAX])
