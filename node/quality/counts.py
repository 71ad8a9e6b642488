"""Data quality, counted by feed and sender: after the message is taken, in the loop's spare time, and never all at once.

A message is looked at after the fact; where more come than can be looked at, the others are counted as passed over.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from hl7.civil_number import CivilNumber
from hl7.escapes import NO_LOCAL
from hl7.message import Facts
from hl7.quality import Finding, look
from node.clock import Clock

WAITING_MAX = 64  # messages kept for a look: at most 16 MiB
BODY_BYTES_MAX = 256 * 1024  # what is longer is a scan, and takes longer to look through than a round has
ROUND_S, ROUND_MESSAGES_MAX = 0.1, 16  # 160 a second at 0.1 ms each: under two hundredths of a core
BUSY_MESSAGES_MAX = 2  # where more come than can be looked at, a sample does
SENDERS_MAX = 64  # of a feed; a site has tens, and MSH-3 may hold anything
SHOWN_SENDERS, SHOWN_FINDINGS = 8, 6  # the worst, on the page
NAME_CHARACTERS_MAX = 64
OTHERS = "…"

log = structlog.get_logger()


@dataclass(slots=True)
class Tally:
    """One sender's: messages looked at, and how many of them had each finding (place, what)."""

    looked: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)


class Quality:
    """The counts of one feed since the start. Used from the event loop only."""

    __slots__ = ("_room", "_tallies", "local", "passed_over")

    def __init__(self, room: "Inspection", local: Mapping[str, str]) -> None:
        self._room = room
        self.local = local
        self._tallies: dict[str, Tally] = {}
        self.passed_over = 0

    def offer(self, facts: Facts, raw: bytes) -> None:
        """A message was taken: look at it when there is time."""
        if len(self._room.waiting) >= WAITING_MAX or len(raw) > BODY_BYTES_MAX:
            self.passed_over += 1
        else:
            self._room.waiting.append((self, facts, raw))

    def count(self, facts: Facts, found: Iterable[Finding]) -> None:
        """A message was looked at."""
        sender = name_of_sender(facts)
        if sender not in self._tallies and len(self._tallies) >= SENDERS_MAX:
            sender = OTHERS
        tally = self._tallies.setdefault(sender, Tally())
        tally.looked += 1
        tally.findings.update((each.place, each.what) for each in found)

    def document(self) -> dict[str, Any]:
        """The counts, the senders with the most findings first."""
        worst = sorted(self._tallies.items(), key=lambda item: (-sum(item[1].findings.values()), item[0]))
        return {
            "looked": sum(tally.looked for tally in self._tallies.values()), "passed_over": self.passed_over,
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


class Inspection:
    """What waits for a look, of all feeds. Used from the event loop only."""

    def __init__(self, clock: Clock, civil: CivilNumber | None) -> None:
        self._clock = clock
        self._civil = civil
        self.waiting: deque[tuple[Quality, Facts, bytes]] = deque()

    def of_feed(self, local: Mapping[str, str] = NO_LOCAL) -> Quality:
        """One more feed's counts. `local`: its local escape sequences."""
        return Quality(self, local)

    async def run(self) -> None:
        """Look, round after round, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            self.round()

    def round(self) -> None:
        """Look at what waits, a bounded part of it: less where it is full, as the loop has no time to spare then."""
        later = datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC) + timedelta(days=2)
        tomorrow = later.strftime("%Y%m%d").encode()
        count = BUSY_MESSAGES_MAX if len(self.waiting) >= WAITING_MAX else ROUND_MESSAGES_MAX
        for _ in range(min(len(self.waiting), count)):
            quality, facts, raw = self.waiting.popleft()
            try:
                quality.count(facts, look(raw, tomorrow=tomorrow, civil=self._civil, local=quality.local))
            except Exception as error:  # noqa: BLE001  # it is taken and answered: what its content does to a count must not stop intake
                quality.passed_over += 1
                log.warning("quality.failed", error=type(error).__name__)


def name_of_sender(facts: Facts) -> str:
    """MSH-3 and MSH-4 as the page shows them, whatever stands there."""
    route = facts.route
    name = b"|".join((route.sending_application, route.sending_facility)).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in name[:NAME_CHARACTERS_MAX])
