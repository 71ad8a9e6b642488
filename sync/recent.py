"""Which messages came lately: a sender that got no answer sends again, and the second arrival must find the first."""

from collections import OrderedDict

RECENT_MAX = 16_384  # arrivals remembered to know a repeat: a day of a busy hospital, 4 MB of memory, 0.2 s at start


class Recent:
    """The last arrivals by feed and control id, with the row that holds each: bounded, oldest forgotten first."""

    __slots__ = ("_limit", "_rows")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> int | None:
        """The row that holds the last arrival under this key."""
        return self._rows.get(key)

    def keep(self, key: bytes, row: int) -> None:
        """Remember an arrival."""
        self._rows[key] = row
        self._rows.move_to_end(key)
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)
