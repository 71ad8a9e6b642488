"""A log as the ledger holds it, and how an answer says where it ends."""

from dataclasses import dataclass

from sync.log import EMPTY_ROOT, Frontier
from sync.names import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLog:
    """One log as the ledger's head row has it; `note` is the cosigned checkpoint (empty at size 0), `key` the id of the key in force (or empty)."""

    origin: Origin
    frontier: Frontier
    note: bytes
    key: bytes = b""


def rewind_members(held: HeldLog | None) -> dict[str, object]:
    """What a 409 says beside its code: epoch, tag, size and root (hex) of the log."""
    if held is None:
        return {"epoch": 0, "tag": "", "size": 0, "root": EMPTY_ROOT.hex()}
    origin, frontier = held.origin, held.frontier
    key = {"key": held.key.hex()} if held.key else {}
    return {"epoch": origin.epoch, "tag": origin.tag, "size": frontier.size, "root": frontier.root.hex(), **key}
