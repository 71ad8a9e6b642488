"""How far a change of the log key has come, from what the outbox and the configuration say. It works when the core is down."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from node.catalogue import hint
from node.config.config import Config
from sync.certificates import read, verifier_of
from sync.errors import SyncError
from sync.key_ring import id_of
from sync.outbox_view import StreamView


class Change(IntEnum):
    """Whether there is one, and how far it is."""

    NONE = 0
    UNDER_WAY = 1
    DONE = 2

    @property
    def word(self) -> str:
        """As the status document says it."""
        return ("none", "under-way", "done")[self]


def state_of_change(config: Config, streams: Sequence[StreamView]) -> dict[str, Any]:
    """The state, and the streams in which an earlier key still has to sign, or the gateway to receipt, something."""
    present = _configured(config) or next((log.keys.last for log in reversed(streams)), b"")
    waits = sorted({log.origin.stream for log in streams if not log.passed and _needed(log) - {present}})
    finished = Change.DONE if config.keys.previous and streams else Change.NONE
    state = Change.UNDER_WAY if waits else finished
    return {"state": state.word, "waits": waits}


def key_line(told: dict[str, Any]) -> str:
    """The same as a sentence; empty where there is no change."""
    if told["state"] == Change.DONE.word:
        return f"log key: {hint('NOD-33')}"
    return f"log key: the change waits for its receipt in {', '.join(told['waits'])}." if told["waits"] else ""


def _needed(log: StreamView) -> set[bytes]:
    """The keys that sign what is not receipted, and the one at the end."""
    return {*log.keys.for_batch(log.receipted, log.size), log.keys.last}


def _configured(config: Config) -> bytes:
    """The id of the configured log key, from its certificate alone: the page may not read the key."""
    try:
        return id_of(verifier_of(read(config.keys.log_certificate.read_bytes()), config.node.name))
    except (OSError, SyncError):
        return b""  # the page's user may read less than the core
