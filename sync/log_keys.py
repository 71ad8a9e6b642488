"""Whose signature counts on a log at which position: one key at a time, handed over by a record that both sign (docs/wire.md, section 4.7).

Pure: certificates were judged by the caller. A log's first key is the one that its first checkpoint, or its opening statement, bears.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sync.certificates import read, verifier_of
from sync.checkpoint import Checkpoint, Note, NoteSignature, parse_checkpoint
from sync.errors import BadBatch, BadCertificate, BadSignature, NotANote, NotARecord, WrongKey
from sync.key_change import KeyChange, change_in, header_of_change
from sync.keys import ED25519, SIGNATURE_BYTES, Verifier, key_id
from sync.record import BodyState, Record
from sync.session import EARLIER_KEYS_MAX

OPENERS_MAX = 1 + EARLIER_KEYS_MAX  # of a statement: keys that may be in force until then, and the one from then on


@dataclass(frozen=True, slots=True)
class Change:
    """Record `seq` of a log hands over from one key to another."""

    seq: int
    before: Verifier
    after: Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """What is known of one log's keys. `in_force`: at its end; None: it has none yet. `lapsed`: that key's certificate counts no more.

    `changes` of the log, oldest first. `certified`: keys that the node's last session brought under good certificates; of these one may
    begin a log that has no key yet, or follow another. `vouched`: those of this batch's own change records whose certificate is good now,
    by certificate. `kept`: all that were ever certified for this node. `retired`: public keys that another has followed in this stream.
    """

    in_force: Verifier | None
    lapsed: bool = False
    changes: tuple[Change, ...] = ()
    certified: tuple[Verifier, ...] = ()
    vouched: Mapping[bytes, Verifier] = field(default_factory=dict)
    kept: tuple[Verifier, ...] = ()
    retired: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that bears just the signatures it has to: the changes that are new with it, and the key in force after it."""

    checkpoint: Checkpoint
    changes: tuple[Change, ...]
    key: Verifier


@dataclass(frozen=True, slots=True)
class Opener:
    """The key of a log that a statement opens; `continues`: the key in force until then signed the statement as well."""

    key: Verifier
    continues: bool


def check_batch(note: Note, records: Sequence[Record], *, first: int, size: int, epoch: int, keys: LogKeys) -> Signed:
    """Verify the checkpoint of records first, first+1, …, of a log that is held up to `size`.

    Raises WrongKey where another key signed than has to, BadSignature and NotANote where a signature is none, BadBatch where only fewer records
    tell which of them changes the key.
    """
    # what is held already may be repeated: an old stick lacks the certificate of a key that came after it
    if keys.lapsed and first + len(records) > size:
        raise WrongKey("the key in force has no good certificate any more")
    signers = [_in_force_at(first, note, keys)]
    stored = {change.seq: change.after for change in keys.changes}
    for seq in range(first, min(size, first + len(records))):
        after = stored.get(seq)
        if after is not None and after.public != signers[-1].public:  # else the statement of this epoch has made it
            signers.append(after)
    chain = _Chain(note, epoch, keys, signers)
    for seq, record in enumerate(records[max(0, size - first) :], max(first, size)):
        chain.take(seq, record)
    chain.end()
    _check_lines(note, chain.signers)
    return Signed(parse_checkpoint(note.text), tuple(chain.changes), chain.signers[-1])


def check_opening(note: Note, keys: LogKeys) -> Opener:
    """Verify the signatures of a statement that opens a further epoch. Raises as check_batch.

    Its last signature is that of the new log's key, which must be certified. The key in force until then should have signed too; where it is
    gone, with a box that was replaced perhaps, a person decides: what comes under a further epoch is held.
    """
    if not 0 < len(note.signatures) <= OPENERS_MAX:
        raise NotANote("a statement bears one signature, or some at a change of the key")
    in_force = () if keys.in_force is None or keys.lapsed else (keys.in_force,)
    signers = [_find(line, (*in_force, *keys.certified, *keys.kept)) for line in note.signatures]
    _check_lines(note, signers)
    key = signers[-1]
    if key.public not in {each.public for each in (*in_force, *keys.certified)}:
        raise WrongKey("the key that shall sign the new log is not certified")
    _check_fresh(key, keys.retired)
    signed = {signer.public for signer in signers}
    return Opener(key, continues=keys.in_force is None or any(each.public in signed for each in in_force))


def _check_fresh(key: Verifier, retired: Collection[bytes]) -> None:
    """A key that was taken out of service never comes back: whoever has it now is not the node."""
    if key.public in retired:
        raise WrongKey("a key that another one has followed signs again")


def _in_force_at(first: int, note: Note, keys: LogKeys) -> Verifier:
    """The key that signs what ends at `first`; of a log that has none yet, the certified one that signed here."""
    for change in keys.changes:
        if change.seq >= first:
            return change.before
    return keys.in_force or _find(note.signatures[0], keys.certified)


class _Chain:
    """The keys that have to sign a batch, one after the other, as its fresh records hand over; `changes`: those records."""

    def __init__(self, note: Note, epoch: int, keys: LogKeys, signers: list[Verifier]) -> None:
        self.signers, self.changes = signers, list[Change]()
        self._lines, self._epoch, self._keys = note.signatures, epoch, keys
        # positions of records that may be changes, for all that can be read of them; and whether their header says so
        self._doubtful: list[tuple[int, bool]] = []

    def take(self, seq: int, record: Record) -> None:
        """The next record."""
        if record.state is BodyState.LEAF_ONLY:
            self._doubtful.append((seq, False))
        if header_of_change(record) is None:
            return
        try:
            change = change_in(record)
        except NotARecord as error:
            raise WrongKey(f"key change: {error}") from error
        if change is None:  # its body was trimmed or damaged
            self._doubtful.append((seq, True))
        elif change.epoch == self._epoch:  # else it was carried here, and is history
            self._settle(change.before)
            if change.before != self.signers[-1].public:
                raise WrongKey("a key change speaks of another key before it")
            self._hand_over(seq, _follower(change, self._keys))

    def end(self) -> None:
        """There are no more."""
        self._settle(None)

    def _settle(self, before: bytes | None) -> None:
        """Give the signatures up to that of the key `before` (None: all others) to the records that may have changed the key: who else."""
        found = [self.signers[-1]]
        for line in self._lines[len(self.signers) :][: len(self._doubtful)]:
            if found[-1].public == before:
                break
            found.append(_find(line, self._keys.certified))
        for seq, after in zip(self._places(len(found) - 1), found[1:], strict=True):
            self._hand_over(seq, after)
        self._doubtful.clear()

    def _places(self, count: int) -> list[int]:
        """Which of the doubtful records are so many changes. A guess would be remembered, and ask for other signatures than the node gives."""
        every, named = [seq for seq, _ in self._doubtful], [seq for seq, is_named in self._doubtful if is_named]
        if self._epoch == 1 and count < len(named):
            # whoever has an earlier key would else take the log over, in a ledger that was put back, by leaving the later keys' lines out
            raise WrongKey("a change of the key bears not both signatures")
        if count in {0, len(every)}:
            return every[:count]
        if self._epoch == 1 and count == len(named):  # nothing is carried into a stream's first log
            return named
        raise BadBatch("which of its records changes the key cannot be told; fewer of them tell it")

    def _hand_over(self, seq: int, after: Verifier) -> None:
        _check_fresh(after, {*self._keys.retired, *(signer.public for signer in self.signers)})
        self.changes.append(Change(seq, self.signers[-1], after))
        self.signers.append(after)


def _follower(change: KeyChange, keys: LogKeys) -> Verifier:
    """The key that a change hands over to, if a good certificate says that it is the node's."""
    if _public(change) != change.after:
        raise WrongKey("a key change brings another key's certificate")
    # that certificate, or a later one of the same key that the session brought: a revoked one can be followed by a good one
    after = keys.vouched.get(change.certificate) or next(
        (key for key in keys.certified if key.public == change.after), None
    )
    if after is None:
        raise WrongKey("the certificate of a key change is not good")
    return after


def _public(change: KeyChange) -> bytes:
    try:
        return verifier_of(read(change.certificate), "").public
    except BadCertificate as error:
        raise WrongKey(f"key change: {error}") from error


def _find(line: NoteSignature, among: Sequence[Verifier]) -> Verifier:
    for each in among:
        if (line.name, line.key_id) == (each.name, _id(each)):
            return each
    raise WrongKey("it is signed by a key that is not certified for this log")


def _check_lines(note: Note, signers: Sequence[Verifier]) -> None:
    """Just these keys signed, in this order."""
    wanted = [(each.name, _id(each)) for each in signers]
    found = [(line.name, line.key_id) for line in note.signatures]
    if found[: len(wanted)] != wanted:
        if all(name != signers[0].name for name, _ in found):
            raise BadSignature(f"no signature of {signers[0].name}")
        raise WrongKey(
            "it is not signed by the key in force here" if len(wanted) == 1 else "a change of the key bears not both signatures"
        )  # fmt: skip
    if len(found) != len(wanted):
        # a stranger's line would be kept beside ours, and no evidence file of this log would verify any more
        surplus = {(name, by) for name, by in found[len(wanted) :]}
        if any(name == signers[0].name for name, _ in surplus):
            raise WrongKey("a further key signed without a change record")
        raise NotANote("it bears other signatures")
    for each, line in zip(signers, note.signatures, strict=True):
        if len(line.blob) != SIGNATURE_BYTES:
            raise NotANote("not an Ed25519 signature")
        each.verify(note.text.encode(), line.blob)


def _id(verifier: Verifier) -> bytes:
    return key_id(verifier.name, ED25519, verifier.public)
