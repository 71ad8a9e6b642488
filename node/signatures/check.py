"""Signatures that sources bring, verified in a process of their own: after the commit, or before it where the feed demands a good one."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from hl7.signatures import MARKS_MAX, Mark
from node.alarms import Alarms
from node.clock import SYNCHRONISED, Clock
from node.errors import AuthoritiesBad
from node.signatures.chain import read_authorities
from node.worker import Worker

OCTETS_MAX = 16 * 1024 * 1024  # a longer document takes longer than the time there is: canonical copies of it are made
ANSWER_S_MAX = 5.0  # a signed document takes some milliseconds, a poisonous one for ever
TURNS_MAX = 4  # documents at the worker's door, which does not let more than eight wait
WAIT_S_MAX = 60.0  # for a turn and an answer: a hundred signed documents at once take a second or two, a poisonous one among them five
LATER_MAX = 8  # documents under way that are only counted; more are left out, and counted as not checked
RESULTS = frozenset(("valid", "invalid", "unknown signer", "unknown"))
WHOLE = frozenset(("document", "body"))
# a Provenance may be about what the centre holds already: that is no reason to doubt this message, and none to believe it
HARMLESS = frozenset(("valid", "unknown"))

log = structlog.get_logger()


class Finding(NamedTuple):
    """One signature: valid, invalid, unknown signer, or unknown where it covers what is not here; its kind; what it covers; why; what else is to be known."""

    result: str
    kind: str
    covers: str
    why: str
    notes: str = ""


class Checker:
    """Of one node. Used from the event loop only. `authorities`: a folder of certificates, and of lists of revoked ones. Raises AuthoritiesBad."""

    def __init__(self, authorities: Path, clock: Clock, alarms: Alarms | None = None) -> None:
        read_authorities(authorities)  # the worker reads them too, when it starts: what is wrong is told now
        command = (sys.executable, "-m", "node.signatures.worker", str(authorities))
        self._worker = Worker(
            command, name="signatures.worker", code="NOD-41", octets_max=OCTETS_MAX, answer_s_max=ANSWER_S_MAX
        )
        self._clock, self._alarms = clock, alarms
        self._fault = ""  # of the folder, as the worker told it last
        self._later: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(TURNS_MAX)
        self.is_stopping = False

    @property
    def restarts(self) -> int:
        """How often the worker gave no answer and was ended; the next document starts it again."""
        return self._worker.killed

    async def stop(self) -> None:
        """End what is under way."""
        self.is_stopping = True
        for task in self._later:
            task.cancel()
        await self._worker.stop()

    async def check(self, raw: bytes, content_type: str) -> list[Finding] | None:
        """What is found in a document that has just come; None where there is no answer in time."""
        # where our clock is not kept, no clock decides about a certificate (promise 7)
        is_kept = self._clock.trust().state == SYNCHRONISED
        return await self.check_of(self._clock.now_us() if is_kept else None, raw, content_type)

    async def check_of(self, time_us: int | None, raw: bytes, content_type: str) -> list[Finding] | None:
        """The same of a document of another time."""
        head = json.dumps([time_us, content_type]).encode()
        try:
            async with asyncio.timeout(WAIT_S_MAX), self._turns:
                found = await self._worker.ask(head + b"\n" + raw)
        except TimeoutError:
            return None
        if found is None:
            return None
        if found and len(found[0]) == 1:
            self._note(*found.pop(0))
        return [Finding(*map(str, each[:5])) for each in found]

    async def look_again(self) -> None:
        """While the folder is bad, look whether it still is: nobody should have to send a document for an alarm to end."""
        if self._fault:
            await self.check(b"", "")

    def _note(self, fault: str) -> None:
        if self._alarms is not None and fault != self._fault:
            self._alarms.cleared(AuthoritiesBad.code, self._fault)
            if fault:
                self._alarms.raised(AuthoritiesBad.code, fault)
        self._fault = fault

    def check_later(self, raw: bytes, content_type: str, counts: Counter[str], feed: str) -> None:
        """Verify what is stored already: for the counts and the log."""
        if len(self._later) >= LATER_MAX:
            counts["not checked"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._count(raw, content_type, counts, feed))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _count(self, raw: bytes, content_type: str, counts: Counter[str], feed: str) -> None:
        found = await self.check(raw, content_type)
        for each in found or ():
            counts[each.result] += 1
            if each.result not in HARMLESS:
                log.warning("signatures.found", code="NOD-42", feed=feed, result=each.result, kind=each.kind)
        if found is None:
            counts["not checked"] += 1


def is_good(found: Sequence[Finding] | None) -> bool:
    """Whether this is enough for a feed that demands a signature: one is valid and covers what is used, and none is invalid or a stranger's."""
    return (
        bool(found)
        and all(each.result in HARMLESS for each in found or ())
        and any(each.result == "valid" and each.covers in WHOLE for each in found or ())
    )


def told(marks: Sequence[Mark], found: Sequence[Finding] | None) -> list[tuple[str, str, str]]:
    """What the particulars say: kind, place and, where it is known, result of each. The worker finds them in the order in which they stand."""
    # of more than are told there are further rows: the root's own, and how many were left
    if found is not None and (len(found) == len(marks) or len(found) > len(marks) == MARKS_MAX):
        return [(mark.kind, mark.place, each.result) for mark, each in zip(marks, found, strict=False)]
    return [(mark.kind, mark.place, "") for mark in marks]


def reason(found: Sequence[Finding] | None) -> str:
    """Why a message is refused, for its particulars and its sender."""
    if found is None:
        return "not verified in time"
    if not found:
        return "unsigned"
    worst = min(
        (each for each in found if each.result != "valid"), key=lambda each: each.result in HARMLESS, default=None
    )
    return "does not cover the whole" if worst is None else f"{worst.result}{': ' if worst.why else ''}{worst.why}"
