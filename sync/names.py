"""Names of nodes, streams and logs, and the origin line that a checkpoint states."""

import re
from dataclasses import dataclass

from sync.errors import NotAName

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
TAG = re.compile(r"[0-9a-f]{8}")
# How far an epoch may lie beyond the newest that is known. A false number near the last one of all would leave none after it; so what lies farther is
# believed only on the word of a statement that a key of the node's own has signed, and at the gateway costs that key as many openings as it takes steps.
EPOCHS_AHEAD_MAX = 1024
EPOCH_MAX = 2**31 - 1  # each needs a restored node; fits every integer column and language
EPOCH_OPENED_MAX = (
    EPOCH_MAX - EPOCHS_AHEAD_MAX
)  # beyond it the node opens none: so many could still be taken from somebody else
EPOCH = re.compile(r"[1-9][0-9]{0,9}")


def check_name(name: str) -> str:
    """Give the name back, or raise NotAName."""
    if not NAME.fullmatch(name):
        raise NotAName(f"{name[:80]!r} is not a name")
    return name


@dataclass(frozen=True, slots=True)
class Origin:
    """Which log a checkpoint speaks of: `<node>/<stream>/<epoch>-<tag>`. The tag is 8 hex digits of the boot that opened the epoch."""

    node: str
    stream: str
    epoch: int
    tag: str

    def __str__(self) -> str:
        """The origin line."""
        return f"{self.node}/{self.stream}/{self.epoch}-{self.tag}"

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Read an origin line. Raises NotAName unless it is exactly the form that str() gives."""
        parts = text.split("/")
        if len(parts) != 3:
            raise NotAName("not an origin")
        epoch, _, tag = parts[2].partition("-")
        if not EPOCH.fullmatch(epoch) or int(epoch) > EPOCH_MAX or not TAG.fullmatch(tag):
            raise NotAName("not an epoch and tag")
        return cls(check_name(parts[0]), check_name(parts[1]), int(epoch), tag)
