"""Which messages were stored under which name while the broker may still send them again.

A reading without a time or number of its own has the same bytes as the next one, so its bytes do not tell a repeat. What does is the packet
identifier: a broker sends an unacknowledged message again under the same one, marked as a duplicate. (The mark alone says nothing: mosquitto
2.0.11 marks all it has queued.) Each name is kept in the same transaction as its record, in a ring of facts. Whether the record is really
there is then asked of the outbox itself: a name alone never drops a message.
"""

import struct
from collections.abc import Callable
from typing import Final

# Acknowledgements that a kill kept from the broker, and what it sends beyond the receive maximum: mosquitto 2.0.11 does after a connection
# was lost. Twice what may wait for the disk.
KEEP: Final = 2048
SESSION_BYTES: Final = 4
ENTRY: Final = struct.Struct(">4sQH8s4s")  # session, number, packet identifier, digest of topic and payload, boot

Key = tuple[int, bytes]


class Unsettled:
    """Names of the last KEEP messages of a session, by packet identifier and digest. `session` tells this session's entries from older ones."""

    def __init__(self, feed: str, *, boot: str) -> None:
        self._prefix, self._boot = f"mqtt/{feed}", bytes.fromhex(boot[:8])
        self._session = bytes(SESSION_BYTES)
        self._names: dict[Key, tuple[int, bytes]] = {}
        self._keys: dict[int, Key] = {}  # by slot
        self._number = 0

    @property
    def session_fact(self) -> str:
        """Under which name the session is kept."""
        return f"{self._prefix}/session"

    def load(self, fact: Callable[[str], bytes | None]) -> None:
        """Take what earlier processes left; bytes that are nobody's are nothing."""
        self._session = fact(self.session_fact) or self._session
        raw = [fact(f"{self._prefix}/{slot}") for slot in range(KEEP)]
        found = sorted(ENTRY.unpack(each) for each in raw if each and len(each) == ENTRY.size)
        self._number = max((number for _, number, *_ in found), default=0)
        for session, number, mid, digest, boot in found:
            if session == self._session:
                self._keep((mid, digest), number, boot)

    def begin(self, session: bytes) -> None:
        """Go on in a new session: its packet identifiers begin anew. The caller keeps the session before it stores anything."""
        self._session = session
        self._names.clear()
        self._keys.clear()

    def name(self, mid: int, digest: bytes, *, is_repeat: bool) -> tuple[str, tuple[str, bytes] | None]:
        """The name under which to store a message, and the fact to keep with it; with QoS 0, which never repeats, none."""
        key = mid, digest
        if not (is_repeat and key in self._names):
            self._number += 1
            if not mid:
                return self._text(digest, self._boot, self._number), None
            self._keep(key, self._number, self._boot)
        number, boot = self._names[key]
        entry = ENTRY.pack(self._session, number, mid, digest, boot)
        return self._text(digest, boot, number), (f"{self._prefix}/{number % KEEP}", entry)

    def _keep(self, key: Key, number: int, boot: bytes) -> None:
        old = self._keys.get(number % KEEP)
        if old is not None and self._names.get(old, (number, b""))[0] % KEEP == number % KEEP:
            self._names.pop(old, None)
        self._keys[number % KEEP] = key
        self._names[key] = (number, boot)

    @staticmethod
    def _text(digest: bytes, boot: bytes, number: int) -> str:
        return f"{digest.hex()} {boot.hex()}-{number}"
