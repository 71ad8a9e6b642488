"""Receipts: the gateway's timestamped cosignature on a checkpoint it has durably committed (C2SP tlog-cosignature v1)."""

import struct
from dataclasses import dataclass

from sync.checkpoint import Checkpoint, Note, NoteSignature, parse_checkpoint, parse_note
from sync.errors import NotANote
from sync.keys import COSIGNATURE_V1, SIGNATURE_BYTES, Signer, Verifier, key_id

TIME_BYTES = 8
TIME_MAX = 2**63 - 1  # seconds; the specification's bound
SHORT_QUERY = "short"  # of a PUT: its sender wants no bytes back that it has just sent
_LINE = "\N{EM DASH} ".encode()  # so begins a signature line, and no note


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a verified receipt says: this checkpoint was held durably at `time` (POSIX seconds, UTC)."""

    checkpoint: Checkpoint
    time: int


def cosign(note: bytes, *, time: int, signer: Signer) -> bytes:
    """The note with the cosignature of `signer` at `time` (POSIX seconds) added."""
    parsed = parse_note(note)
    return Note(parsed.text, (*parsed.signatures, _cosignature(parsed.text, time, signer))).encode()


def cosign_text(text: str, *, time: int, signer: Signer) -> bytes:
    """A checkpoint's text with the cosignature of `signer` at `time` alone: nobody sent it under a signature of theirs."""
    return Note(text, (_cosignature(text, time, signer),)).encode()


def shorten(receipt: bytes, checkpoint: bytes) -> bytes:
    """The receipt without the checkpoint that was sent, where it begins with it: the lines that were added. Else the whole receipt."""
    added = receipt.removeprefix(checkpoint)
    return added if added.startswith(_LINE) else receipt


def lengthen(answer: bytes, checkpoint: bytes) -> bytes:
    """The whole receipt of an answer that may have been shortened. Nothing of it is believed before it verifies."""
    return checkpoint + answer if answer.startswith(_LINE) else answer


def open_receipt(data: bytes, verifier: Verifier) -> Receipt:
    """Read a cosigned checkpoint and verify the cosignature only. Raises NotANote, BadSignature."""
    return verify_receipt(parse_note(data), verifier)


def verify_receipt(note: Note, verifier: Verifier) -> Receipt:
    """The receipt that this key cosigned. Raises NotANote, BadSignature."""
    signature = note.signature(verifier.name, key_id(verifier.name, COSIGNATURE_V1, verifier.public))
    if len(signature.blob) != TIME_BYTES + SIGNATURE_BYTES:
        raise NotANote("not a cosignature/v1")
    (time,) = struct.unpack(">Q", signature.blob[:TIME_BYTES])
    if time > TIME_MAX:
        raise NotANote("cosignature time out of range")
    verifier.verify(_message(note.text, time), signature.blob[TIME_BYTES:])
    return Receipt(parse_checkpoint(note.text), time)


def _cosignature(text: str, time: int, signer: Signer) -> NoteSignature:
    signature = signer.sign(_message(text, time))
    return NoteSignature(
        signer.name, key_id(signer.name, COSIGNATURE_V1, signer.public), struct.pack(">Q", time) + signature
    )


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
