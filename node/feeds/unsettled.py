"""Which messages were stored under which name while the broker may still send them again.

A reading without a time or number of its own has the same bytes as the next one, so its bytes do not tell a repeat. Nor does the packet identifier
alone: a broker may use it again at once. MQTT 5.0 does tell: only after a lost connection is anything sent again (4.4), marked as
a duplicate (3.3.1.1) and in its first order (4.6); and the newest stored message is never acknowledged (mqtt_slots). So what comes again
begins with a run of what is stored here, up to the newest; what follows it, or comes without the mark, is new, whatever its identifier.

The last name of each identifier is kept in the same transaction as its record. Whether the record is really there is then asked of the outbox
itself: a name alone never drops a message. There are 65,535 identifiers, and all may be unacknowledged: after a lost connection mosquitto sends
all it has, whatever the receive maximum.
"""

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

SESSION_BYTES: Final = 4
# session; number of the name, digest of topic and payload, boot; up to which place identifiers were free again, and the place itself
ENTRY: Final = struct.Struct(">4sQ8s4sQQ")
OLD_ENTRY: Final = struct.Struct(">4sQ8s4s")  # without the last two
RELEASED: Final = struct.Struct(">4sQ")
# Places are in the order in which the broker sent. One that found no room, and comes again when the process that knew it is gone, stands between
# two that are stored: as many as there are identifiers can.
STEP: Final = 1 << 16


class Named(NamedTuple):
    """The name to store a message under, the fact to keep with it, and whether it may be a repeat that cannot be told."""

    text: str
    fact: tuple[str, bytes] | None = None
    is_doubtful: bool = False
    place: int = 0


class Entry(NamedTuple):
    """What is kept of the message that had an identifier last."""

    session: bytes
    number: int
    digest: bytes
    boot: bytes
    freed: int
    place: int


class Unsettled:
    """The last name of each packet identifier of a session. `session` tells this session's entries from older ones."""

    def __init__(self, feed: str, *, boot: str) -> None:
        self.prefix, self._boot = f"mqtt/{feed}/", bytes.fromhex(boot[:8])
        self._session = bytes(SESSION_BYTES)
        self._entries: dict[int, bytes] = {}  # packed: all 65,535 of them are 7 MB
        self._number = 0
        self._last = 0  # the place of the newest
        self._freed = 0  # up to this place the broker had our acknowledgements: it used identifiers again
        self._released = 0  # up to this place all may be acknowledged
        self._at = self._end = 0  # of what comes again: the place that it has come to, and that of the newest there was
        self._has_begun = False
        self._doubts: dict[
            int, int
        ] = {}  # by identifier, the number of one that is doubtful: it may find no room, and come again

    @property
    def session_fact(self) -> str:
        """Under which name the session is kept."""
        return f"{self.prefix}session"

    def load(self, facts: Mapping[str, bytes]) -> None:
        """Take what earlier processes left under `prefix`; bytes that are nobody's are nothing."""
        self._session = facts.get(self.session_fact, self._session)
        for name, kept in facts.items():
            mid = name.removeprefix(self.prefix)
            if mid.isdecimal() and (entry := _read(kept)) is not None:
                self._number = max(self._number, entry.number)
                if entry.session == self._session:
                    self._entries[int(mid)] = ENTRY.pack(*entry)
                    self._last, self._freed = max(self._last, entry.place), max(self._freed, entry.freed)
        noted = facts.get(f"{self.prefix}released", b"")
        if len(noted) == RELEASED.size and RELEASED.unpack(noted)[0] == self._session:
            self._released = RELEASED.unpack(noted)[1]

    def begin(self, session: bytes) -> None:
        """Go on in a new session: its packet identifiers begin anew. The caller keeps the session before it stores anything."""
        self._session = session
        self._entries.clear()
        self._last = self._freed = self._released = self._at = self._end = 0

    def resume(self) -> None:
        """Go on in the same session over a new connection: what is not acknowledged comes again now."""
        self._at, self._end, self._has_begun = self._freed, self._last, False

    def release(self, place: int) -> tuple[str, bytes]:
        """Note that all up to a place may be acknowledged, with place 0 all that came; the caller keeps the fact before it is."""
        self._released = max(self._released, place or self._last)
        return f"{self.prefix}released", RELEASED.pack(self._session, self._released)

    def name(self, mid: int, digest: bytes, *, is_dup: bool) -> Named:
        """Name a message; with QoS 0 (`mid` 0), which never repeats, there is no fact."""
        if not mid:  # whatever mark it bears, it is none of those that come again, and says nothing of them
            self._number += 1
            return Named(f"{digest.hex()} {self._boot.hex()}-{self._number}")
        held = Entry(*ENTRY.unpack(self._entries[mid])) if mid in self._entries else None
        is_under_way, is_released = is_dup and self._at < self._end, self._released >= self._end
        known = held
        if held is None or not is_under_way or held.digest != digest or not self._at < held.place <= self._end:
            known = None
        if known is not None:
            if not self._has_begun:
                self._freed = max(self._freed, known.place - 1)  # what was before it does not come again
            self._at = known.place
        elif held is not None:
            self._freed = max(self._freed, held.place)  # the identifier means another message now
        # known, but all may have been acknowledged; or unknown, before the newest stored one: it found no room, and one behind it did
        is_doubtful = is_under_way and is_released == (known is not None)
        if is_under_way and is_released and known is None:  # a new one: no old one comes behind it
            self._at, self._freed = self._end, max(self._freed, self._end)
        if known is None or is_doubtful:
            self._number += 1
            number, boot = self._number, self._boot
        else:
            number, boot = known.number, known.boot
        text = f"{digest.hex()} {boot.hex()}-{number}"
        place = self._place(known, is_again=is_under_way and not is_released)
        self._has_begun = self._has_begun or is_dup
        self._entries[mid] = entry = ENTRY.pack(self._session, number, digest, boot, self._freed, place)
        if is_doubtful:
            self._doubts[mid] = number
        return Named(text, (f"{self.prefix}{mid}", entry), self._doubts.get(mid) == number, place)

    def _place(self, known: Entry | None, *, is_again: bool) -> int:
        """Where it stands among what the broker sent."""
        if known is not None:
            return known.place
        if is_again:  # never stored, and sent before the newest that is
            self._at += 1
            return self._at
        self._last = (self._last // STEP + 1) * STEP
        return self._last


def _read(kept: bytes) -> Entry | None:
    """An entry, also of an earlier version; None where the bytes are nobody's."""
    if len(kept) == ENTRY.size:
        return Entry(*ENTRY.unpack(kept))
    if len(kept) == OLD_ENTRY.size:
        session, number, digest, boot = OLD_ENTRY.unpack(kept)
        return Entry(session, number, digest, boot, 0, number * STEP)
    return None
