"""A node's log keys: the one that signs now, and earlier ones for what stands before a change of the key and is not yet receipted."""

from collections.abc import Iterable
from dataclasses import dataclass

from sync.checkpoint import Checkpoint, parse_note, sign_checkpoint
from sync.errors import KeyAbsent, NotANote, SyncError
from sync.keys import ED25519, Signer, Verifier, key_id
from sync.names import Origin
from sync.opening import parse_opening


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Satisfies Signer with the key that signs now. `earlier_certificates` (PEM) are those of `earlier`, one for each."""

    now: Signer
    earlier: tuple[Signer, ...] = ()
    earlier_certificates: tuple[str, ...] = ()

    @classmethod
    def of(cls, signer: Signer) -> "KeyRing":
        """The ring that this signer is, or one of it alone."""
        return signer if isinstance(signer, KeyRing) else cls(signer)

    @property
    def name(self) -> str:
        """As in Signer."""
        return self.now.name

    @property
    def public(self) -> bytes:
        """As in Signer."""
        return self.now.public

    def sign(self, data: bytes) -> bytes:
        """As in Signer."""
        return self.now.sign(data)

    def signer(self, wanted: bytes) -> Signer:
        """The key of this id. Raises KeyAbsent."""
        for each in (self.now, *self.earlier):
            if id_of(each) == wanted:
                return each
        raise KeyAbsent(f"log key {wanted.hex()} is not configured")

    def signers(self, wanted: Iterable[bytes]) -> list[Signer]:
        """The keys of these ids. Raises KeyAbsent."""
        return [self.signer(each) for each in wanted]

    def held(self, wanted: Iterable[bytes]) -> list[Signer]:
        """The keys of these ids that are here."""
        mine = {id_of(each): each for each in (self.now, *self.earlier)}
        return [mine[each] for each in wanted if each in mine]

    def verifier(self, note: bytes) -> Verifier:
        """What verifies a note of our own: the key that is in force after it. Raises KeyAbsent, NotANote."""
        found = self.signer(last_id(note, self.name))
        return Verifier(found.name, found.public)

    def opened(self, statement: bytes) -> Origin | None:
        """The log that this statement opens, if the key that shall sign it is one of these; None for anything else."""
        try:
            note, key = parse_note(statement), self.verifier(statement)
            key.verify(note.text.encode(), note.signatures[-1].blob)
            return parse_opening(note).opened if note.signatures[-1].key_id == id_of(key) else None
        except (SyncError, ValueError):
            return None

    def sign_batch(self, checkpoint: Checkpoint, first: int, keys: "OwnKeys") -> bytes:
        """The checkpoint of a batch that begins at `first`, by all the keys that have to sign it. Raises KeyAbsent."""
        return sign_checkpoint(checkpoint, *self.signers(keys.for_batch(first, checkpoint.size) or [id_of(self.now)]))


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """Which keys, by their ids, sign one log of ours: `last` at its end (empty: not known), `changes` as (seq, before, after), oldest first."""

    last: bytes = b""
    changes: tuple[tuple[int, bytes, bytes], ...] = ()

    def for_batch(self, first: int, end: int) -> list[bytes]:
        """The ids of the keys that sign records first..end-1: the one in force before them, and each that a record among them hands over to."""
        within = [after for seq, _, after in self.changes if first <= seq < end]
        before = self.at(first)
        return [before, *within] if before else within

    def at(self, size: int) -> bytes:
        """The id of the key in force at this size."""
        return next((before for seq, before, _ in self.changes if seq >= size), self.last)


def id_of(key: Signer | Verifier) -> bytes:
    """A log key's id."""
    return key_id(key.name, ED25519, key.public)


def last_id(note: bytes, node: str) -> bytes:
    """The id of the key in force after this checkpoint of the node: the last of its own that signed it. Raises NotANote."""
    found = [line.key_id for line in parse_note(note).signatures if line.name == node]
    if not found:
        raise NotANote("the node did not sign it")
    return found[-1]
