"""Which messages were stored under which name while the broker may still send them again.

A reading without a time or number of its own has the same bytes as the next one, so its bytes do not tell a repeat. What does is the packet
identifier: a broker sends an unacknowledged message again under the same one, marked as a duplicate. The last ones are kept in the same
transaction as the records. Whether the record is really there is then asked of the outbox itself: a name alone never drops a message.
"""

import struct
from collections import OrderedDict
from typing import Final

ENTRY: Final = struct.Struct(">H8s4sI")  # packet identifier, digest of topic and payload, boot, number since that boot


class Unsettled:
    """Names of the last `keep` messages, by packet identifier and digest: as many as a broker may send before the first is acknowledged."""

    def __init__(self, fact_name: str, *, keep: int, boot: str) -> None:
        self.fact_name = fact_name
        self._keep, self._boot = keep, bytes.fromhex(boot[:8])
        self._names: OrderedDict[tuple[int, bytes], tuple[bytes, int]] = OrderedDict()
        self._number = 0

    def load(self, fact: bytes | None) -> None:
        """Take what the last process left; bytes that are nobody's are nothing."""
        if fact and len(fact) % ENTRY.size == 0:
            for mid, digest, boot, number in ENTRY.iter_unpack(fact):
                self._names[mid, digest] = (boot, number)

    def forget(self) -> None:
        """The session is a new one: its packet identifiers begin anew."""
        self._names.clear()

    def name(self, mid: int, digest: bytes, *, is_repeat: bool) -> tuple[str, bytes | None]:
        """The name under which to store a message, and what is to be kept with it; with QoS 0, where nothing repeats, nothing."""
        key = mid, digest
        if not (is_repeat and key in self._names):
            self._number += 1
            self._names.pop(key, None)
            self._names[key] = (self._boot, self._number)
        boot, number = self._names[key]
        if not mid:
            del self._names[key]
            return f"{digest.hex()} {boot.hex()}-{number}", None
        while len(self._names) > self._keep:
            self._names.popitem(last=False)
        return f"{digest.hex()} {boot.hex()}-{number}", self._dump()

    def _dump(self) -> bytes:
        return b"".join(ENTRY.pack(*key, *told) for key, told in self._names.items())
