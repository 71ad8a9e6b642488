"""A sender with forty records, and the events that a test gives it."""

from dataclasses import replace

from sync.checkpoint import Checkpoint, sign_checkpoint
from sync.keys import FileSigner, Verifier
from sync.receipt import cosign
from sync.sender import Sender
from sync.sender_events import (
    Alarm,
    AskSession,
    OwnLog,
    Put,
    Receipted,
    SessionOpened,
    Started,
)
from sync.session import SessionAnswer, TheirStream
from tests.sim_realm import COSIGNER, LOG_SIGNER, ORIGIN, TAG, draft, frontier_of, records

HELD = records([draft(n) for n in range(40)])
COSIGNER_KEY = Verifier(COSIGNER.name, COSIGNER.public)
KEY = bytes.fromhex("0badcafe")


def made_sender() -> Sender:
    return Sender(
        root_at=lambda _, upto: frontier_of(HELD[:upto]).root,
        root_of=lambda _, start, size: frontier_of(HELD[start : start + size]).root,
        key_at=lambda *_: KEY,
        dice=lambda: 0.0,
    )


def sender(size: int = 40, theirs: int | None = 10, **answer) -> Sender:
    """A sender with one log of `size`; with a session open if `theirs` is a size."""
    made = made_sender()
    assert made.handle(Started((OwnLog(ORIGIN, size, theirs or 0),), "ledger-1"), 0.0) == [AskSession()]
    if theirs is not None:
        made.handle(opened(theirs, **answer), 0.0)
    return made


def their(upto: int, **changes) -> TheirStream:
    found = TheirStream(stream="his", epoch=1, tag=TAG, size=upto, root=frontier_of(HELD[:upto]).root)
    return replace(found, **changes)


def opened(size: int, **changes) -> SessionOpened:
    answer = SessionAnswer(fence="f", ledger="ledger-1", cosign_certificate="x", held=False, streams=(their(size),))
    return SessionOpened(replace(answer, **changes), COSIGNER_KEY)


def receipt(size: int, *, origin=ORIGIN, root: bytes | None = None, signer: FileSigner = COSIGNER) -> Receipted:
    root = frontier_of(HELD[:size]).root if root is None else root
    note = sign_checkpoint(Checkpoint(origin, size, root), LOG_SIGNER)
    return Receipted("his", cosign(note, time=1, signer=signer))


def alarms(effects) -> list[str]:
    return [each.code for each in effects if isinstance(each, Alarm)]


def puts(effects) -> list[Put]:
    return [each for each in effects if isinstance(each, Put)]
