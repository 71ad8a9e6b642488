"""How far a node had come, said outside its database: what a restored disk is measured against before there is a link."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sync.log import SIZE_MAX
from sync.names import EPOCH_MAX, NAME, TAG, Origin

BYTES_MAX = 1024 * 1024  # a thousand streams are 100 kB


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest log of a stream, how many records it had, and how many of them the gateway had receipted."""

    epoch: int
    tag: str
    accepted: int
    receipted: int

    def is_ahead_of(self, origin: Origin, size: int) -> bool:
        """Whether the node had been further than a store that ends here."""
        if self.epoch != origin.epoch:
            return self.epoch > origin.epoch
        return self.tag != origin.tag or self.accepted > size

    def lost(self, origin: Origin, size: int) -> tuple[int, int]:
        """Positions (first, end) of the marked log that a store which ends here does not have; of another log than ours, all of it."""
        return (size if (self.epoch, self.tag) == (origin.epoch, origin.tag) else 0, self.accepted)


def encode_marks(marks: Mapping[str, Mark], fence: str) -> bytes:
    """The file's bytes. `fence`: the one last held."""
    streams = {
        name: {"epoch": mark.epoch, "tag": mark.tag, "accepted": mark.accepted, "receipted": mark.receipted} for name, mark in sorted(marks.items())
    }  # fmt: skip
    return json.dumps({"format": "wasl-highwater/1", "fence": fence, "streams": streams}, indent=1).encode() + b"\n"


def read_marks(data: bytes) -> dict[str, Mark]:
    """Read the file. ValueError: it is not what encode_marks gave."""
    if len(data) > BYTES_MAX:
        raise ValueError("too long")
    try:
        found = json.loads(data)
        if found["format"] != "wasl-highwater/1":
            raise ValueError("another format")
        return {_name(name): _mark(mark) for name, mark in found["streams"].items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a high-water mark") from error


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("not a stream")
    return name


def _mark(found: Mapping[str, object]) -> Mark:
    epoch, tag, accepted, receipted = (found[key] for key in ("epoch", "tag", "accepted", "receipted"))
    sizes = all(type(each) is int and 0 <= each <= SIZE_MAX for each in (accepted, receipted))
    if (
        type(epoch) is not int
        or not 1 <= epoch <= EPOCH_MAX
        or not isinstance(tag, str)
        or not TAG.fullmatch(tag)
        or not sizes
    ):
        raise ValueError("a mark is out of range")
    return Mark(epoch, tag, int(str(accepted)), int(str(receipted)))
