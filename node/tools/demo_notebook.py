"""The hospital's notebook: what it holds an AA for, held against what the centre hands out, message by message.

Each message has the next number of its run, and one is sent at a time; so in a stream numbers only rise. A number that
arrives proves every earlier one of its stream that has not arrived to be lost, and one that does not rise to be doubled.
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from threading import Lock

WAITING_MAX = 4_000_000  # messages not confirmed, four bytes each: nine days at five a second; then the hospital pauses
COMPACT_AT = 4096  # confirmed ones at the head of a list are cut off in pieces of this size


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in the notebook: how many messages were acknowledged, and the number of the last."""

    sent: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Of the `sent` up to a mark, so many are `confirmed`, so many still `waiting` on their way. `lost`, `doubled`: must be 0."""

    sent: int
    confirmed: int
    waiting: int
    lost: int
    doubled: int


@dataclass(slots=True)
class _Stream:
    """One stream: acknowledged numbers that have not arrived (from `head` on), the last that did, and those that came first."""

    waiting: "array[int]" = field(default_factory=lambda: array("I"))
    head: int = 0
    last_seen: int = 0
    early: set[int] = field(default_factory=set)  # one message is on its way at a time, so this holds a few at most

    def count(self, last: int) -> int:
        return bisect_right(self.waiting, last, lo=self.head) - self.head

    def take(self) -> int:
        number = self.waiting[self.head]
        self.head += 1
        if self.head >= COMPACT_AT:
            del self.waiting[: self.head]
            self.head = 0
        return number


class Notebook:
    """One run's notebook. `prefix`: what stands before the number in each control id. Any thread may write and read."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = Lock()
        self._streams: dict[str, _Stream] = {}
        self._sent = self._last = self._lost = self._doubled = 0

    @property
    def is_full(self) -> bool:
        """Whether so many wait that the hospital has to pause."""
        with self._lock:
            return sum(len(stream.waiting) - stream.head for stream in self._streams.values()) >= WAITING_MAX

    def acknowledged(self, stream: str, control_id: str) -> None:
        """Write down an AA; numbers come in rising order."""
        number = self._number(control_id)
        if number is None:
            raise ValueError(f"{control_id!r} is not of this run")
        with self._lock:
            book = self._streams.setdefault(stream, _Stream())
            self._sent, self._last = self._sent + 1, number
            if number in book.early:
                book.early.remove(number)
            else:
                book.waiting.append(number)

    def arrived(self, stream: str, control_id: str) -> None:
        """Tick off what the centre hands out; other people's messages are passed over."""
        number = self._number(control_id)
        if number is None:
            return
        with self._lock:
            book = self._streams.setdefault(stream, _Stream())
            if number <= book.last_seen:
                self._doubled += 1
                return
            book.last_seen = number
            while book.head < len(book.waiting) and book.waiting[book.head] < number:
                book.take()
                self._lost += 1
            if book.head < len(book.waiting) and book.waiting[book.head] == number:
                book.take()
            else:  # the centre has it before the hospital has read its reply
                book.early.add(number)

    def mark(self) -> Mark:
        """This moment."""
        with self._lock:
            return Mark(self._sent, self._last)

    def tally(self, mark: Mark) -> Tally:
        """What has become of everything up to the mark."""
        with self._lock:
            waiting = sum(stream.count(mark.last) for stream in self._streams.values())
            confirmed = max(0, mark.sent - waiting - self._lost)
            return Tally(
                sent=mark.sent, confirmed=confirmed, waiting=waiting, lost=self._lost, doubled=self._doubled
            )  # fmt: skip

    def _number(self, control_id: str) -> int | None:
        number = control_id.removeprefix(self._prefix)
        return int(number) if len(number) < len(control_id) and number.isdecimal() else None
