"""Index and twelve routing fields, ours, over a file of messages (length-prefixed). Run: python er7_ours.py FILE SECONDS"""

import json
import sys
import time
from pathlib import Path

from hl7.errors import NotEr7
from hl7.message import Message

FIELDS = (
    "MSH-3", "MSH-4", "MSH-5", "MSH-6", "MSH-9.1", "MSH-9.2", "MSH-10", "MSH-11", "MSH-12", "PID-3.1", "PV1-2", "OBR-4.1",
)  # fmt: skip


def load(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def read(raw: bytes) -> object:
    try:
        return Message(raw).read(FIELDS)
    except NotEr7:
        return None


def timed(messages: list[bytes], read: object, seconds: float) -> str:
    passes, began = 0, time.process_time()
    while time.process_time() - began < seconds or not passes:
        for raw in messages:
            read(raw)  # type: ignore[operator]
        passes += 1
    return json.dumps({"per_s": passes * len(messages) / (time.process_time() - began), "messages": len(messages)})


if __name__ == "__main__":
    print(timed(load(Path(sys.argv[1])), read, float(sys.argv[2])))
