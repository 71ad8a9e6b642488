"""Bodies too large for the lane's quantum, on their way ahead of their batch in parts: between two parts the lane serves its other streams."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from node.errors import AnswerUnreadable
from node.uplink.gateway_client import Problem
from node.uplink.lane import Lane
from sync.header import decode
from sync.record import BodyState, Record
from sync.sender_events import Event, PartSent
from sync.upload import UPLOAD_BODY_MAX, Upload, pack

KEPT_MAX = 2  # packed bodies in memory at once, 16 MiB each; a third is packed anew when its turn comes
SPOILT_MAX = (
    3  # so often a whole upload arrived as other bytes: then it is not the line, and the record goes without its body
)


@dataclass(slots=True)
class _Going:
    """One upload under way: which record's, and how much of it the gateway holds (None: not yet asked)."""

    seq: int
    upload: Upload
    held: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.held is not None and self.held >= len(self.upload.packed)


class BodyUploads:
    """One lane's uploads, one to a stream."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._going: dict[str, _Going] = {}
        self._spoilt: dict[str, int] = {}
        self._is_taken = True  # by this gateway, as far as we know

    def is_wanted(self, records: list[Record], wire: int) -> bool:
        """Whether a batch of these records, so many bytes on the wire, is one body that should go ahead in parts."""
        only = records[0] if len(records) == 1 else None
        return (
            self._is_taken and only is not None and only.state is BodyState.PRESENT and wire > self._lane.quantum and len(only.body) <= UPLOAD_BODY_MAX
        )  # fmt: skip

    def begin(self, stream: str, record: Record) -> None:
        """Make this record's body ready to go."""
        while len(self._going) >= KEPT_MAX:
            self._going.pop(next(iter(self._going)))
        self._going[stream] = _Going(record.seq, pack(decode(record.header).commitment, record.body))

    def is_under_way(self, stream: str, first: int) -> bool:
        """Whether the record at this position has an upload that is not yet whole."""
        going = self._going.get(stream)
        return going is not None and going.seq == first and not going.is_whole

    def whole(self, stream: str, first: int) -> dict[int, bytes]:
        """What the batch of the record at this position names, by seq: the digest of its upload, if that is whole. It goes alone."""
        going = self._going.get(stream)
        return {first: going.upload.digest} if going is not None and going.seq == first and going.is_whole else {}

    def send_part(self, stream: str, refused: Callable[[str, Problem], Event]) -> Event:
        """The next part, as an event for the sender: PartSent, or what `refused` makes of a verdict. Raises LinkError."""
        going = self._going[stream]
        if going.held is None:
            going.held = self._ask(going.upload.id)
            if going.held is None:
                self._is_taken = False
                self.done(stream)
                return PartSent(stream)
        part = going.upload.packed[going.held : going.held + self._lane.quantum]
        if part:
            at = going.held
            found = self._lane.put(len(part), lambda: self._lane.client.upload(going.upload.id, at, part))
            if isinstance(found, Problem) and found.code != "rewind":
                return refused(stream, found)
            going.held = _size(found.members.get("size") if isinstance(found, Problem) else _answered(found))
        return PartSent(stream)

    def _ask(self, name: str) -> int | None:
        return self._lane.put(0, lambda: self._lane.client.upload_size(name))

    def spoilt(self, stream: str) -> bool:
        """The gateway holds other bytes and forgot them: start over. False where that happened too often."""
        going = self._going.get(stream)
        if going is None:
            return False
        going.held = None
        self._spoilt[stream] = self._spoilt.get(stream, 0) + 1
        return self._spoilt[stream] < SPOILT_MAX

    def done(self, stream: str) -> None:
        """Its batch is receipted, or it goes another way."""
        self._going.pop(stream, None)
        self._spoilt.pop(stream, None)


def _answered(data: bytes) -> object:
    try:
        return json.loads(data)["size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnswerUnreadable("an upload's answer without a size") from error


def _size(found: object) -> int:
    if type(found) is not int or found < 0:
        raise AnswerUnreadable("an upload's answer without a size")
    return found
