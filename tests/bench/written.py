"""Bytes that reach the disk per 1 kB message, checkpoints of the WAL included, at a fixed group. Run: python written.py FOLDER GROUP MESSAGES"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync.header import CONTROL_ID, PEER, common_start, encode_particulars
from sync.keys import FileSigner
from sync.outbox import Outbox
from sync.outbox_arrivals import repeat_key
from sync.receipt import cosign
from sync.record import Draft, Kind


def written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


SIGNER = FileSigner("bench", Ed25519PrivateKey.generate())


def opened(path: Path, streams: Sequence[str] = ("his",)) -> Outbox:
    """An outbox with these streams."""
    outbox = Outbox(path, signer=SIGNER, random=os.urandom)
    outbox.open_streams(dict.fromkeys(streams, "routine"), "00000000")
    return outbox


def draft(number: int, stream: str = "his") -> Draft:
    """A message of 1,024 bytes."""
    common = common_start(kind=Kind.MESSAGE, facility="BENCH", feed=stream, content_type="application/hl7-v2+er7")
    particulars = encode_particulars([(CONTROL_ID, f"B{number}"), (PEER, "127.0.0.1")])
    body = b"%010d" % number + b"x" * 1014
    return Draft(
        stream,
        common,
        "ORU^R01",
        1_700_000_000_000_000 + number,
        1,
        500,
        0,
        particulars,
        body,
        repeat_key(stream, f"B{number}"),
    )


def main(folder: Path, group: int, messages: int) -> None:
    outbox = opened(folder / f"written-{group}.db")
    before = written()
    for first in range(0, messages, group):
        outbox.append([draft(first + n) for n in range(group)])
    outbox.close()  # closes the WAL into the database: counted too
    stored = written()
    outbox = opened(folder / f"written-{group}.db")
    note = cosign(outbox.heads["his"].checkpoint, time=1, signer=SIGNER)
    outbox.keep_receipt(ledger="bench", origin=outbox.heads["his"].origin, size=messages, receipt=note, at=1)
    while outbox.trim("his", ledger="bench", received_before_us=2**60):
        pass
    outbox.close()
    print(
        json.dumps({"bytes": (stored - before) / messages, "group": group, "trimming": (written() - stored) / messages})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
