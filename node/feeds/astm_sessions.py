"""What is stored of each line's transfers, and whether their senders know it: by this a repetition is told from the same result again.

An instrument that heard our last ACK sends EOT at once; one that did not waits 15 s first (LIS01-A2 6.5.2), or is gone. So after a prompt
EOT the same bytes are another result (a control measured twice); after any other end they are the repetition that the standard asks for.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

HASHES_MAX = (
    1024  # messages of one line whose senders may not know that we have them: more than an analyzer keeps to send
)
HASH_BYTES = 16


def fingerprint(body: bytes) -> str:
    """What two equal messages have in common."""
    return hashlib.sha256(body).hexdigest()[: 2 * HASH_BYTES]


def _digest(unsettled: object, transfers: object) -> str:
    """Over a session as it is written: a position that is not the one written would hide bytes, or tell them twice."""
    return fingerprint(json.dumps([unsettled, transfers], separators=(",", ":")).encode())


@dataclass(slots=True)
class Transfer:
    """One transfer of a line: up to which of its bytes all is in the log, the messages it brought, and those it may repeat."""

    end: int = 0
    brought: list[str] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Session:
    """One line: the messages of transfers whose end is not known to their sender, and the transfers that are open."""

    name: str
    unsettled: list[str] = field(default_factory=list)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    _is_busy: bool = False
    _waiting: deque[Callable[[], None]] = field(default_factory=deque)

    @staticmethod
    def read(name: str, value: bytes) -> "Session":
        """The line as it was when the node ended: what was open then is of unknown end. What cannot be read is no session."""
        session = Session(name)
        try:
            unsettled, transfers, *digest = json.loads(value)
            if digest not in ([], [_digest(unsettled, transfers)]):  # none: of an earlier version
                return session
            session.unsettled = [str(each) for each in unsettled]
            session.transfers = {
                str(key): Transfer(int(end), [str(each) for each in brought])
                for key, (end, brought) in transfers.items()
            }
        except (ValueError, TypeError, AttributeError):
            return Session(name)
        return session

    def encode(self) -> bytes | None:
        """For the outbox; None where there is nothing to keep in mind."""
        if not self.unsettled and not any(transfer.end for transfer in self.transfers.values()):
            return None
        transfers = {key: (each.end, each.brought) for key, each in self.transfers.items() if each.end}
        digest = _digest(self.unsettled, transfers)
        return json.dumps([self.unsettled, transfers, digest], separators=(",", ":")).encode()

    def begin(self, transfer: str) -> Transfer:
        """A transfer begins."""
        self.transfers[transfer] = Transfer(expected=Counter(self.unsettled))
        return self.transfers[transfer]

    def close(self, transfer: str, *, is_heard: bool) -> None:
        """It is over. `is_heard`: its sender knows that we have all of it."""
        closed = self.transfers.pop(transfer, None)
        if closed is None:
            return
        if is_heard:
            self.unsettled = []
        else:
            new = Counter(closed.brought) - Counter(self.unsettled)
            self.unsettled = [*self.unsettled, *new.elements()][-HASHES_MAX:]

    # -- one commit at a time: what one transfer marks must not stand in the commit of another ---------------------------

    def enter(self, work: Callable[[], None]) -> None:
        """Run it when no other commit of this line is under way; it ends with `leave`."""
        if self._is_busy:
            self._waiting.append(work)
            return
        self._is_busy = True
        work()

    def leave(self) -> None:
        """The commit is settled."""
        self._is_busy = False
        if self._waiting:
            self.enter(self._waiting.popleft())
