"""Which messages came lately: a sender that got no answer sends again, and the second arrival must find the first."""

from collections.abc import Sequence
from itertools import islice

RECENT_MAX = 16_384  # arrivals remembered to know a repeat: a day of a busy hospital, 4 MB of memory, 0.2 s at start
STRIDE = 256  # forgotten together


class Recent:
    """The last arrivals by feed and control id, with the row that holds each: bounded, oldest forgotten first."""

    __slots__ = ("_limit", "_rows")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> int | None:
        """The row that holds the last arrival under this key."""
        return self._rows.get(key)

    def holds(self, keys: Sequence[bytes]) -> bool:
        """Whether any of these is remembered; fast where none is, as nearly always."""
        return not self._rows.keys().isdisjoint(keys)

    def keep(self, key: bytes, row: int) -> None:
        """Remember an arrival."""
        self.keep_all([key], [row])

    def keep_all(self, keys: Sequence[bytes], rows: Sequence[int]) -> None:
        """Remember arrivals in their order; an empty key is nothing to remember."""
        held = self._rows
        if self.holds(keys):
            for key in keys:
                held.pop(key, None)  # to the end of the dictionary's order, which is the order of arrival
        held.update(zip(keys, rows, strict=True))
        held.pop(b"", None)
        if len(held) > self._limit + STRIDE:
            # many at once: finding the oldest entry passes over the places of those forgotten before it
            for old in list(islice(held, len(held) - self._limit)):
                del held[old]
