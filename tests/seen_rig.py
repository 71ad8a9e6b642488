"""A record as it lies in an outbox, for those who look into it."""

from dataclasses import dataclass
from typing import Any

from sync.header import CONTROL_ID, COUNT, FRAME_BYTES, FRAME_SHA256, PEER, REFUSAL, Header
from sync.record import Record


@dataclass(frozen=True)
class Seen:
    """One record as it lies in the outbox."""

    record: Record
    header: Header
    particulars: dict[int, Any]

    @property
    def body(self) -> bytes:
        return self.record.body

    @property
    def control_id(self) -> str:
        return self.particulars[CONTROL_ID]

    @property
    def peer(self) -> str:
        return self.particulars[PEER]

    @property
    def refusal(self) -> str:
        return self.particulars.get(REFUSAL, ("",))[0]

    @property
    def frame(self) -> tuple[int, bytes]:
        """Length and hash of a frame that was not kept whole."""
        return self.particulars[FRAME_BYTES], self.particulars[FRAME_SHA256]

    @property
    def count(self) -> int:
        return self.particulars[COUNT]
