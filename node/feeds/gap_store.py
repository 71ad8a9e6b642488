"""Gap records on their way to the outbox: one that finds no room is kept and told later, merged with its stretch where it has one."""

from collections.abc import Callable
from typing import Any

from hl7.devices.gaps import CONTENT_TYPE, Gap, Stretch, encode
from node.clock import iso
from node.errors import QueueFull
from node.intake import Counted, Door, Intake
from node.writer import Outcome
from sync.outbox import Stored

UNTOLD_MAX = 64  # gaps without a stretch that wait for room: a lost session each


class GapStore:
    """One feed's gap records. Used from the event loop only."""

    def __init__(self, door: Door, intake: Intake, *, peer: str) -> None:
        self._door, self._intake, self._peer = door, intake, peer
        self._untold: list[tuple[Gap, tuple[str, bytes] | None]] = []
        self._last: Gap | None = None
        self._under_way = 0
        self.recorded = 0

    @property
    def is_settled(self) -> bool:
        """Whether every gap that was told is recorded."""
        return not (self._under_way or self._untold)

    def tell(
        self,
        gap: Gap,
        stretch: Stretch | None = None,
        fact: tuple[str, bytes] | None = None,
        stored: Callable[[], None] = lambda: None,
    ) -> None:
        """Have a gap recorded. `fact`: what is kept with it (sync.record.Draft). `stored` is called once it is."""

        def answer(outcome: Outcome | QueueFull | Counted) -> None:
            self._under_way -= 1
            if isinstance(outcome, Stored):
                self.recorded += 1
                stored()
            elif stretch is not None:
                stretch.give_back(gap)
            elif len(self._untold) < UNTOLD_MAX:
                self._untold.append((gap, fact))

        self._last = gap
        self._under_way += 1
        self._intake.store_gap(
            self._door,
            body=encode(gap),
            content_type=CONTENT_TYPE,
            code=gap.code,
            peer=self._peer,
            answer=answer,
            fact=fact,
        )

    def again(self) -> None:
        """Try those that found no room."""
        untold, self._untold = self._untold, []
        for gap, fact in untold:
            self.tell(gap, fact=fact)

    def document(self, *stretches: Stretch) -> dict[str, Any] | None:
        """The stretch that lasts longest now, or the last gap that is over; None where there never was one."""
        lasting = min((each for each in stretches if each.count), key=lambda each: each.since_us, default=None)
        if lasting is not None:
            return {
                "code": lasting.code,
                "subject": lasting.subject,
                "since": iso(lasting.since_us),
                "until": None,
                "count": lasting.count,
            }
        if self._last is None:
            return None
        last = self._last
        return {
            "code": last.code,
            "subject": last.subject,
            "since": iso(last.first_us),
            "until": iso(last.last_us),
            "count": last.count,
        }
