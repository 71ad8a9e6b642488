"""Checkpoints: a log's size and root as a signed note (C2SP signed-note, tlog-checkpoint)."""

import binascii
import re
from dataclasses import dataclass

from sync.errors import BadSignature, NotAName, NotANote
from sync.keys import ED25519, KEY_ID_BYTES, SIGNATURE_BYTES, Signer, Verifier, key_id
from sync.log import HASH_BYTES, SIZE_MAX
from sync.names import Origin

NOTE_BYTES_MAX = 4096  # a checkpoint with four signatures is about 600 bytes
SIGNATURES_MAX = 8  # node, new node key at a rotation, cosigners
DASH = "\u2014 "
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: key name, key id, and what follows it."""

    name: str
    key_id: bytes
    blob: bytes

    def line(self) -> str:
        """The line as it stands in the note, with its newline."""
        return f"{DASH}{self.name} {_encode(self.key_id + self.blob)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and its signatures."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note's bytes."""
        return (self.text + "\n" + "".join([signature.line() for signature in self.signatures])).encode()

    def signature(self, name: str, wanted: bytes) -> NoteSignature:
        """The signature line with this name and key id. Raises BadSignature where there is none."""
        for signature in self.signatures:
            if signature.name == name and signature.key_id == wanted:
                return signature
        raise BadSignature(f"no signature of this key of {name}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """This log has `size` leaves and this root."""

    origin: Origin
    size: int
    root: bytes

    def text(self) -> str:
        """The signed text: origin, size, root, a line each."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"


def sign_text(text: str, *signers: Signer) -> bytes:
    """A text that ends in a newline as a note signed by these keys alone, in their order."""
    signed = text.encode()
    lines = [NoteSignature(each.name, key_id(each.name, ED25519, each.public), each.sign(signed)) for each in signers]
    return Note(text, tuple(lines)).encode()


def signed_text(note: Note, verifier: Verifier) -> str:
    """The text that this key signed, whoever else did. Raises BadSignature, NotANote."""
    signature = note.signature(verifier.name, key_id(verifier.name, ED25519, verifier.public))
    if len(signature.blob) != SIGNATURE_BYTES:
        raise NotANote("not an Ed25519 signature")
    verifier.verify(note.text.encode(), signature.blob)
    return note.text


def text_of_one(data: bytes, verifier: Verifier, *, most: int = NOTE_BYTES_MAX) -> str:
    """Read a note of at most so many bytes that this key, and nobody else, signed: its text. Raises BadSignature, NotANote."""
    note = parse_note(data, most=most)
    text = signed_text(note, verifier)
    if len(note.signatures) != 1:
        raise NotANote("it bears other signatures")
    return text


def parse_note(data: bytes, *, most: int = NOTE_BYTES_MAX) -> Note:
    """Read a signed note. Raises NotANote unless the bytes are exactly what encode() would give."""
    if len(data) > most:
        raise NotANote("note too long")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise NotANote("note is not UTF-8") from error
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NotANote("no blank line before the signatures")
    signatures = tuple([_parse_line(line) for line in lines[:-1].split("\n")])
    if len(signatures) > SIGNATURES_MAX:
        raise NotANote("too many signatures")
    return Note(text + "\n", signatures)


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(DASH).rpartition(" ")
    if not line.startswith(DASH) or not name or " " in name:
        raise NotANote("not a signature line")
    blob = _decode(encoded)
    if len(blob) <= KEY_ID_BYTES:
        raise NotANote("signature too short")
    # base64 has spare bits: without this, a changed bit could pass
    if _encode(blob) != encoded:
        raise NotANote("note is not in its canonical form")
    return NoteSignature(name, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text. Raises NotANote; extension lines are refused, we define none."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not SIZE.fullmatch(lines[1]) or int(lines[1]) > SIZE_MAX:
        raise NotANote("not a checkpoint")
    root = _decode(lines[2])
    try:
        checkpoint = Checkpoint(Origin.parse(lines[0]), int(lines[1]), root)
    except NotAName as error:
        raise NotANote("checkpoint origin") from error
    # origin and size were taken in the one form they have; base64 has spare bits
    if len(root) != HASH_BYTES or _encode(root) != lines[2]:
        raise NotANote("checkpoint is not in its canonical form")
    return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> bytes:
    """The checkpoint as a note signed by the log key; by the old and the new one where a change of the key is covered first."""
    return sign_text(checkpoint.text(), *signers)


def verify_note(note: Note, verifier: Verifier) -> Checkpoint:
    """The checkpoint that this key signed. Raises BadSignature, NotANote."""
    return parse_checkpoint(signed_text(note, verifier))


def open_checkpoint(data: bytes, verifier: Verifier) -> Checkpoint:
    """Read and verify a signed checkpoint. Raises NotANote, BadSignature."""
    return verify_note(parse_note(data), verifier)


def _encode(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _decode(encoded: str) -> bytes:
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise NotANote("not base64") from error
