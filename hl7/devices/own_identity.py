"""What a device itself says of a message, by which a second arrival of it is known: its sequence number, its time.

Two readings of one value have equal bytes, unless the device counts or dates them. Nothing is guessed: which members do that is
configuration, and a message without them is never taken for a repeat of another one.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

BYTES_MAX: Final = (
    64 * 1024
)  # of a message that is looked into: readings are below 10 kB; waveforms are larger, and count nothing
DEPTH_MAX: Final = 32  # of a JSON text: SenML and Sparkplug's JSON have 4; deeper is an attack on the reader
TEXT_CHARACTERS_MAX: Final = 64  # of one member: a time with nanoseconds and zone has 35
_HALF: Final = re.compile("[\ud800-\udfff]")  # of a pair: an escape can write it, a record cannot


def identity_of(payload: bytes, members: Sequence[str]) -> str:
    """What these members say, each as `name=value`; empty where one is absent or the payload is no JSON object.

    A member is named by its path: "header.seq". Numbers are taken as they are written.
    """
    if not members or len(payload) > BYTES_MAX or _depth(payload) > DEPTH_MAX:
        return ""
    try:
        document = json.loads(payload, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return ""
    found = [_member(document, path) for path in members]
    if None in found:
        return ""
    return " ".join(f"{path}={text}" for path, text in zip(members, found, strict=True))


def _member(document: Any, path: str) -> str | None:
    for step in path.split("."):
        if not isinstance(document, dict) or step not in document:
            return None
        document = document[step]
    is_text = isinstance(document, str) and 0 < len(document) <= TEXT_CHARACTERS_MAX and not _HALF.search(document)
    return document if is_text else None


def _depth(payload: bytes) -> int:
    """How many brackets are opened at most before one closes; those in texts count too, which only errs to the safe side."""
    deepest = depth = 0
    for byte in payload:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
