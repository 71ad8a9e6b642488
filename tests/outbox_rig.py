"""An outbox under test: opened as the node opens it, read as the sender reads it."""

from pathlib import Path
from random import Random

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import Verifier
from sync.outbox import Outbox
from sync.outbox_arrivals import repeat_key
from sync.receipt import cosign
from sync.record import Record
from tests.sim_realm import COSIGNER, LOG_SIGNER, NODE, STREAM, TAG, draft

LEDGER = "ledger-1"
KEY = repeat_key("his", "C1")
FAR = 2**60  # a time after all others, in microseconds
VERIFIER = Verifier(NODE, LOG_SIGNER.public)


def outbox(folder: Path, *, streams=(STREAM,), seed: int = 1, **options) -> Outbox:
    """An outbox in this folder, opened as the node opens it."""
    made = Outbox(folder / "outbox.db", **{"signer": LOG_SIGNER, "random": Random(seed).randbytes, **options})
    made.verify_heads()
    made.open_streams(dict.fromkeys(streams, "routine"), TAG)
    return made


def stored(made: Outbox, stream: str = STREAM) -> list[Record]:
    head = made.heads[stream]
    return list(head.table(made._connection).records(0, 4000))


def bodies(made: Outbox, stream: str = STREAM) -> list[bytes]:
    return [record.body for record in stored(made, stream)]


def some(first: int, count: int, **changes) -> list:
    return [draft(first + n, **changes) for n in range(count)]


def note_of(made: Outbox, size: int, stream: str = STREAM) -> bytes:
    """A receipt of this size. The outbox keeps what the sender has verified."""
    return cosign(
        sign_checkpoint(Checkpoint(made.heads[stream].origin, size, bytes(32)), LOG_SIGNER), time=1, signer=COSIGNER
    )


def receipted(made: Outbox, size: int, *, stream: str = STREAM, ledger: str = LEDGER, at: int = 1) -> None:
    made.keep_receipt(
        ledger=ledger, origin=made.heads[stream].origin, size=size, receipt=note_of(made, size, stream), at=at
    )
