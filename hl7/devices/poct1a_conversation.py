"""A data manager's side of one POCT1-A conversation, as a machine: a document in, what is said and kept out. No sockets, no clock.

CLSI POCT1-A2: HEL, DST, then the topics that the data manager asks for (observations, device events), each ended by EOT; then END, or
continuous mode, in which the device sends by itself. Every document is acknowledged but ACK, EOT and ESC.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from hl7.devices.poct1a import Message, acknowledge, direct, finish, request

_UNANSWERED: Final = frozenset(("ACK.R01", "ESC.R01"))
_TALK: Final = frozenset(
    ("ACK.R01", "END.R01", "EOT.R01", "ESC.R01", "KPA.R01")
)  # says nothing that a record would keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How this device wants it. `continuous`: it stays and sends by itself. `asks_events`: its log of events is fetched, too."""

    continuous: bool = False
    asks_events: bool = True
    acknowledges_end_of_topic: bool = False


class Turn(NamedTuple):
    """What a document calls for: whether it becomes a record, and whether the conversation is over after the replies."""

    is_record: bool
    is_over: bool = False


class Conversation:
    """One connection's. `hear` says what to do, `replies` what to send once that is done."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._said = 0
        self._open: list[str] = []  # topics still to be asked for
        self._has_status = False
        self._is_continuous = False
        self.device = ""

    def hear(self, message: Message) -> Turn:
        """Take a document."""
        self.device = message.device or self.device
        return Turn(is_record=message.type not in _TALK, is_over=message.type == "END.R01")

    def replies(self, message: Message, *, is_taken: bool, now: str) -> list[bytes]:
        """What is sent after it: its acknowledgement, and what comes next of our side. `is_taken`: its record is durable, or it needs none."""
        said: list[bytes] = []
        if message.control_id and self._is_answered(message.type):
            said.append(acknowledge(message.control_id, is_taken=is_taken, control_id=self._next_id(), now=now))
        if is_taken:
            said += self._go_on(message, now)
        return said

    def _is_answered(self, kind: str) -> bool:
        return kind not in _UNANSWERED and (kind != "EOT.R01" or self._manners.acknowledges_end_of_topic)

    def _go_on(self, message: Message, now: str) -> list[bytes]:
        if message.type == "DST.R01" and not self._is_continuous:
            self._has_status = True
            self._open = [
                topic
                for topic, count, is_wanted in (
                    ("ROBS", "DST.new_observations_qty", True),
                    ("RDEV", "DST.new_events_qty", self._manners.asks_events),
                )
                if is_wanted and _may_be_some(message.values.get(count))
            ]
        elif message.type not in {"EOT.R01", "ESC.R01"} or not self._has_status or self._is_continuous:
            return []
        return [self._ask(now)]

    def _ask(self, now: str) -> bytes:
        """The next topic; after the last one the end, or continuous mode."""
        if self._open:
            return request(self._open.pop(0), control_id=self._next_id(), now=now)
        if self._manners.continuous:
            self._is_continuous = True
            return direct("START_CONTINUOUS", control_id=self._next_id(), now=now)
        return finish(control_id=self._next_id(), now=now)

    def _next_id(self) -> int:
        self._said += 1
        return self._said


def _may_be_some(count: str | None) -> bool:
    """Whether there is something to fetch: a device that does not say is asked."""
    return count is None or count.strip("0 ") != "" or not count.strip()
