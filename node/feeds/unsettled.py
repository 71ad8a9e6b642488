"""Which messages were stored under which name while the broker may still send them again.

A reading without a time or number of its own has the same bytes as the next one, so its bytes do not tell a repeat. What does is the packet
identifier: a broker sends an unacknowledged message again under the same one, marked as a duplicate. (The mark alone
says only that it was sent before, not that we stored it.) The last name of each identifier is kept in the same transaction as its record. Whether the record is
really there is then asked of the outbox itself: a name alone never drops a message.

There are 65,535 identifiers, and all may be unacknowledged: after a lost connection mosquitto sends all it has, whatever the receive maximum,
and a kill resets the connection, with which thousands of acknowledgements go that the broker had not read yet.
"""

import struct
from collections.abc import Mapping
from typing import Final

SESSION_BYTES: Final = 4
ENTRY: Final = struct.Struct(">4sQ8s4s")  # session, number, digest of topic and payload, boot


class Unsettled:
    """The last name of each packet identifier of a session. `session` tells this session's entries from older ones."""

    def __init__(self, feed: str, *, boot: str) -> None:
        self.prefix, self._boot = f"mqtt/{feed}/", bytes.fromhex(boot[:8])
        self._session = bytes(SESSION_BYTES)
        self._entries: dict[int, bytes] = {}  # packed: all 65,535 of them are 6 MB
        self._number = 0

    @property
    def session_fact(self) -> str:
        """Under which name the session is kept."""
        return f"{self.prefix}session"

    def load(self, facts: Mapping[str, bytes]) -> None:
        """Take what earlier processes left under `prefix`; bytes that are nobody's are nothing."""
        self._session = facts.get(self.session_fact, self._session)
        for name, entry in facts.items():
            mid = name.removeprefix(self.prefix)
            if mid.isdecimal() and len(entry) == ENTRY.size:
                session, number, _, _ = ENTRY.unpack(entry)
                self._number = max(self._number, number)
                if session == self._session:
                    self._entries[int(mid)] = entry

    def begin(self, session: bytes) -> None:
        """Go on in a new session: its packet identifiers begin anew. The caller keeps the session before it stores anything."""
        self._session = session
        self._entries.clear()

    def name(self, mid: int, digest: bytes, *, is_repeat: bool) -> tuple[str, tuple[str, bytes] | None]:
        """The name under which to store a message, and the fact to keep with it; with QoS 0, which never repeats, none."""
        entry = self._entries.get(mid, b"") if is_repeat else b""
        if not entry or ENTRY.unpack(entry)[2] != digest:
            self._number += 1
            entry = ENTRY.pack(self._session, self._number, digest, self._boot)
        _, number, _, boot = ENTRY.unpack(entry)
        text = f"{digest.hex()} {boot.hex()}-{number}"
        if not mid:
            return text, None
        self._entries[mid] = entry
        return text, (f"{self.prefix}{mid}", entry)
